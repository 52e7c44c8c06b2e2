//! What does a call take, there and back, over a real socket: a bare echo by the engine's loop
//! (`ping`), a `stream::get` that goes to its owner and back, and that `get` while others do their
//! worst? Prints quantiles: for these the median alone says little.

#![allow(clippy::print_stdout, reason = "its output")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use iii_stream::config::{Config, Endpoint, Threads};
use iii_stream::server::{Options, Server};

const CALLS: usize = 20_000;
const ID: &str = "00000000-0000-4000-8000-000000000001";

fn main() {
    let config = Config {
        stream: Endpoint::new("127.0.0.1", 0),
        worker_listeners: vec![Endpoint::new("127.0.0.1", 0).into()],
        threads: Threads::Count(1),
        drain_ms: 100,
        ..Config::default()
    };
    let server = Server::start(&config, Options::default()).expect("a server");
    let worker_port = server.worker_address().expect("a port for SDK workers");
    let mut caller = Client::connect(worker_port);
    caller.receive(); // workerregistered
    let set = call("stream::set", r#""item_id":"u1","data":{"n":1}"#);
    caller.round_trip(&set);
    let get = call("stream::get", r#""item_id":"u1""#);
    let ping = r#"{"type":"ping"}"#.to_owned();

    let echo = measure("echo of a ping", &mut caller, &ping);
    let alone = measure("get, alone", &mut caller, &get);
    println!("get / echo, medians: {:.2}", alone / echo);

    let ended = Arc::new(AtomicBool::new(false));
    let hostile = [
        hostile(server.stream_address(), Arc::clone(&ended), large_messages),
        hostile(worker_port, Arc::clone(&ended), pipelined_sets),
    ];
    measure(
        "get, beside a flood of 1 MiB messages and a pipeline of sets",
        &mut caller,
        &get,
    );
    ended.store(true, Ordering::Relaxed);
    for thread in hostile {
        let _ = thread.join();
    }
    server.drain();
}

fn call(function: &str, data: &str) -> String {
    format!(
        r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"{function}","data":{{"stream_name":"s","group_id":"g",{data}}}}}"#
    )
}

fn measure(name: &str, client: &mut Client, message: &str) -> f64 {
    let frame = frame(message.as_bytes());
    let mut times: Vec<Duration> = (0..CALLS)
        .map(|_| {
            let begin = Instant::now();
            client
                .stream
                .write_all(&frame)
                .expect("the server is there");
            client.receive();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let micros = |share: f64| times[((CALLS - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "{name}: p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs",
        micros(0.5),
        micros(0.99),
        micros(0.999)
    );
    micros(0.5)
}

/// A client that writes frames and reads whole ones, and knows no more of the protocol.
struct Client {
    stream: TcpStream,
    kept: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a live socket");
        let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        stream
            .write_all(head.as_bytes())
            .expect("the server is there");
        let mut kept = Vec::new();
        let mut byte = [0];
        while !kept.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            kept.push(byte[0]);
        }
        Client {
            stream,
            kept: Vec::new(),
        }
    }

    fn round_trip(&mut self, message: &str) {
        self.stream
            .write_all(&frame(message.as_bytes()))
            .expect("the server is there");
        self.receive();
    }

    /// Waits for one whole frame and drops it.
    fn receive(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            if let Some(len) = frame_len(&self.kept)
                && self.kept.len() >= len
            {
                self.kept.drain(..len);
                return;
            }
            let read = self.stream.read(&mut buffer).expect("a live socket");
            assert!(read > 0, "the server ended it");
            self.kept.extend_from_slice(&buffer[..read]);
        }
    }
}

/// Length of the frame at the beginning of `bytes`, header and all.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    match *bytes.get(1)? {
        126 => Some(4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        len => Some(2 + usize::from(len)),
    }
}

/// One masked text frame; the mask is zero, which leaves the payload as it is.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn hostile(
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    make: fn() -> Vec<u8>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut client = Client::connect(address);
        let bytes = make();
        let timeout = Some(Duration::from_millis(100));
        client
            .stream
            .set_write_timeout(timeout)
            .expect("a live socket");
        let mut sent = 0;
        // Ends with the measurement. A write that timed out has sent nothing.
        while !ended.load(Ordering::Relaxed) {
            sent = (sent + client.stream.write(&bytes[sent..]).unwrap_or(0)) % bytes.len();
        }
    })
}

fn large_messages() -> Vec<u8> {
    frame(&vec![b' '; (1 << 20) - 64])
}

/// Void sets, so that nothing comes back that would have to be read.
fn pipelined_sets() -> Vec<u8> {
    let data = format!(r#""item_id":"u2","data":"{}""#, "x".repeat(100));
    let set = call("stream::set", &data).replace(&format!("\"{ID}\""), "null");
    frame(set.as_bytes()).repeat(500)
}
