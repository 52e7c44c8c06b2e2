//! What the benches with sockets share: a server of their own, and a client that is not the bottleneck:
//! it writes frames that were made before, and of what comes it reads the frame headers.
//!
//! Knows frames, not messages.

#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "each bench uses a part of it"
)]

#[path = "../../tests/support/frame.rs"]
pub(crate) mod wire;

use std::io::{Read, Write};
use std::net::TcpStream;

use iii_stream::config::{Config, Endpoint, Threads};
use iii_stream::server::{Options, Server};

pub(crate) use wire::text as frame;

/// A server in this process, one worker, values in memory.
pub(crate) fn server() -> Server {
    let mut config = Config {
        stream: Endpoint::new("127.0.0.1", 0),
        worker_listeners: vec![Endpoint::new("127.0.0.1", 0).into()],
        threads: Threads::Count(1),
        drain_ms: 100,
        ..Config::default()
    };
    config.limits.joins_per_s = 0;
    Server::start(&config, Options::default()).expect("a server")
}

/// What a bench was told, without what `cargo bench` adds.
pub(crate) fn arguments() -> Vec<String> {
    let all = std::env::args().skip(1);
    all.filter(|argument| argument != "--bench").collect()
}

/// A socket that is upgraded, without a byte behind the head of the answer.
pub(crate) fn upgrade(address: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_nodelay(true).ok()?;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    head.starts_with(b"HTTP/1.1 101").then_some(stream)
}

/// A client's end of a WebSocket.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the frame under way that have still to come; its header may be cut as well.
    rest: usize,
    header: Vec<u8>,
}

impl Client {
    /// As an SDK worker, whose greeting has been read.
    pub(crate) fn open(address: &str) -> Self {
        let mut client = Self {
            stream: upgrade(address).expect("an upgrade"),
            buffer: vec![0; 256 * 1024],
            rest: 0,
            header: Vec::new(),
        };
        client.skip_greeting();
        client
    }

    /// Other servers may greet or not: the answer to a ping comes behind the greeting.
    fn skip_greeting(&mut self) {
        const PONG: u8 = 0x8a;
        self.stream
            .write_all(&wire::frame(0x89, b""))
            .expect("a live socket");
        let mut header = [0; 2];
        loop {
            self.stream
                .read_exact(&mut header)
                .expect("a greeting or a pong");
            if header[0] == PONG {
                return;
            }
            let mut len = usize::from(header[1]);
            if len == 126 {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long).expect("a greeting");
                len = u16::from_be_bytes(long).into();
            }
            let mut payload = vec![0; len];
            self.stream
                .read_exact(&mut payload)
                .expect("a short greeting");
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(&frame(text)).expect("a live socket");
    }

    pub(crate) fn wait_for(&mut self, frames: usize) {
        let mut came = 0;
        while came < frames {
            came += self.read();
        }
    }

    /// Reads once: how many frames have ended.
    pub(crate) fn read(&mut self) -> usize {
        let len = self.stream.read(&mut self.buffer).expect("a live socket");
        assert!(len > 0, "the server has ended the connection");
        let (mut at, mut frames) = (0, 0);
        while at < len {
            if self.rest > 0 {
                let step = self.rest.min(len - at);
                (self.rest, at) = (self.rest - step, at + step);
                frames += usize::from(self.rest == 0);
                continue;
            }
            self.header.push(self.buffer[at]);
            at += 1;
            if let Some(payload) = payload_len(&self.header) {
                self.rest = payload;
                self.header.clear();
                frames += usize::from(payload == 0);
            }
        }
        frames
    }
}

/// The length that the header tells, when it is whole.
fn payload_len(header: &[u8]) -> Option<usize> {
    match (header.get(1)?, header.len()) {
        (126, 4) => Some(usize::from(u16::from_be_bytes([header[2], header[3]]))),
        (127, 10) => Some(u64::from_be_bytes(header[2..10].try_into().unwrap()) as usize),
        (short @ 0..126, 2) => Some(usize::from(*short)),
        _ => None,
    }
}
