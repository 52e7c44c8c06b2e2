//! How many sets does a server take from SDK sockets that pipeline them, and how long does each wait?
//!
//! Started by hand, not by `cargo bench`: the server runs on its own. The client writes frames that were
//! made before, and of the answers it reads the frame headers. With one worker the answers of a socket
//! come in the order of its sets, and the waits are exact.
//!
//! ```text
//! sets ADDRESS SOCKETS WINDOW ITEMS SECONDS
//! ```
//! Each socket keeps WINDOW sets of 100 bytes under way, over ITEMS items of a group of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement for the terminal"
)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const VALUE: &str = r#"{"id":"user-000000000001","name":"somebody","status":"online","x":1234,"y":5678,"seen":1795474467867}"#;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let [address, counts @ ..] = &args[..] else {
        return println!("usage: sets ADDRESS SOCKETS WINDOW ITEMS SECONDS");
    };
    let counts: Vec<usize> = counts.iter().map(|count| count.parse().unwrap()).collect();
    let [sockets, window, items, seconds] = counts[..] else {
        panic!("four numbers behind the address");
    };
    let measured = Duration::from_secs(seconds as u64);
    let results: Vec<(usize, Vec<Duration>)> = std::thread::scope(|scope| {
        let run = |socket| scope.spawn(move || pipeline(address, socket, window, items, measured));
        let threads: Vec<_> = (0..sockets).map(run).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let sets: usize = results.iter().map(|(sets, _)| sets).sum();
    let mut waits: Vec<Duration> = results.into_iter().flat_map(|(_, waits)| waits).collect();
    waits.sort_unstable();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    println!(
        "{:.0} sets/s; waits p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        sets as f64 / measured.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

/// How many sets were answered in the time, and how long one in each read of answers had waited.
fn pipeline(
    address: &str,
    socket: usize,
    window: usize,
    items: usize,
    measured: Duration,
) -> (usize, Vec<Duration>) {
    let frames: Vec<Vec<u8>> = (0..items).map(|item| set(socket, item)).collect();
    let mut next = (0..items).cycle();
    let mut client = Client::open(address);
    let mut sent_at = VecDeque::new();
    let mut send = |client: &mut Client, sets: usize, sent_at: &mut VecDeque<Instant>| {
        let bytes: Vec<u8> = next
            .by_ref()
            .take(sets)
            .flat_map(|item| frames[item].iter().copied())
            .collect();
        sent_at.extend(std::iter::repeat_n(Instant::now(), sets));
        client.stream.write_all(&bytes).unwrap();
    };
    send(&mut client, window, &mut sent_at);
    // Every item is there before anything is measured.
    let mut left = items + window;
    while left > 0 {
        let answers = client.read();
        sent_at.drain(..answers);
        left = left.saturating_sub(answers);
        send(&mut client, answers, &mut sent_at);
    }
    let (mut sets, mut waits) = (0, Vec::new());
    let began = Instant::now();
    while began.elapsed() < measured {
        let answers = client.read();
        let Some(oldest) = sent_at.drain(..answers).next() else {
            continue;
        };
        waits.push(oldest.elapsed());
        sets += answers;
        send(&mut client, answers, &mut sent_at);
    }
    (sets, waits)
}

fn set(socket: usize, item: usize) -> Vec<u8> {
    let text = format!(
        r#"{{"type":"invokefunction","invocation_id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","function_id":"stream::set","data":{{"stream_name":"sets","group_id":"g{socket}","item_id":"i{item}","data":{VALUE}}}}}"#
    );
    masked(0x81, text.as_bytes())
}

/// A client's frame; its mask is zero, so that the payload stands as it is.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 126];
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// An SDK socket.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the frame under way that have still to come; its header may be cut as well.
    rest: usize,
    header: Vec<u8>,
}

impl Client {
    /// Its greeting has been read.
    fn open(address: &str) -> Client {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut client = Client {
            stream,
            buffer: vec![0; 256 * 1024],
            rest: 0,
            header: Vec::new(),
        };
        client.read();
        client
    }

    /// Reads once: how many frames have ended.
    fn read(&mut self) -> usize {
        let len = self.stream.read(&mut self.buffer).unwrap();
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
