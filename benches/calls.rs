//! What calls cost, with a server of any kind on loopback and a client that is not the bottleneck: it
//! writes frames that were made before, and of the answers it reads the frame headers.
//!
//! Started by hand, not by `cargo bench`: the server, or what it is compared with, runs on its own.
//!
//! ```text
//! calls get ADDRESS                one SDK socket pipelines stream::get of a small value
//! calls set ADDRESS [TRIGGERS]     the same with stream::set, with triggers on other streams
//! calls circle ADDRESS             a trigger's function fires it again, 10,000 times a second:
//!                                  what an unrelated stream::get waits
//! calls connect ADDRESS            upgrades on the stream port, 64 at a time
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement for the terminal"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Calls that are under way at a time.
const WINDOW_LEN: usize = 512;
/// How long is measured, and before that warmed up.
const MEASURED: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
const CHAINED_A_SECOND: u32 = 10_000;
const CONNECTS_AT_A_TIME: usize = 64;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some(what), Some(address)) = (args.next(), args.next()) else {
        return println!("usage: calls get|set|circle|connect ADDRESS [TRIGGERS]");
    };
    let triggers: usize = args.next().map_or(0, |count| count.parse().unwrap());
    match &*what {
        "get" | "set" => pipeline(&address, &what, triggers),
        "circle" => circle(&address),
        "connect" => connect(&address),
        other => println!("{other}: no such measurement"),
    }
}

fn pipeline(address: &str, what: &str, triggers: usize) {
    let mut client = Client::open(address);
    for n in 0..triggers {
        client.send(&format!(
            r#"{{"type":"registertrigger","id":"t{n}","trigger_type":"stream","function_id":"f","config":{{"stream_name":"other-{n}"}}}}"#
        ));
    }
    client.send(&call("stream::set", ITEM_WITH_DATA));
    client.wait_for(1);
    let data = if what == "get" { ITEM } else { ITEM_WITH_DATA };
    let one = frame(&call(&format!("stream::{what}"), data));
    let many = one.repeat(WINDOW_LEN);
    client.stream.write_all(&many).unwrap();
    let mut began = Instant::now() + WARM_UP;
    let (mut counted, until) = (0, began + MEASURED);
    loop {
        let answers = client.read();
        client
            .stream
            .write_all(&many[..answers * one.len()])
            .unwrap();
        let now = Instant::now();
        if now >= until {
            let rate = counted as f64 / (now - began).as_secs_f64();
            return println!("{what}: {rate:.0} calls/s, {triggers} triggers on other streams");
        }
        if counted == 0 && now >= began {
            began = now;
        }
        counted += if now >= began { answers } else { 0 };
    }
}

fn circle(address: &str) {
    const CHAINS: usize = 64;
    println!("alone:       {}", latency(address));
    let stopping = Arc::new(AtomicBool::new(false));
    let called = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::spawn({
        let (address, stopping, called) = (address.to_owned(), stopping.clone(), called.clone());
        move || {
            let mut client = Client::open(&address);
            client.send(r#"{"type":"registerfunction","id":"circle"}"#);
            client.send(r#"{"type":"registertrigger","id":"c","trigger_type":"stream","function_id":"circle","config":{"stream_name":"circle"}}"#);
            let set = frame(
                r#"{"type":"invokefunction","function_id":"stream::set","action":{"type":"void"},"data":{"stream_name":"circle","group_id":"g","item_id":"i","data":1}}"#,
            );
            client.stream.write_all(&set.repeat(CHAINS)).unwrap();
            let began = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                for _ in 0..client.read() {
                    let n = called.fetch_add(1, Ordering::Relaxed) as u32 + 1;
                    let due = began + Duration::from_secs(1) * n / CHAINED_A_SECOND;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    client.stream.write_all(&set).unwrap();
                }
            }
        }
    });
    std::thread::sleep(WARM_UP);
    let (before, began) = (called.load(Ordering::Relaxed), Instant::now());
    let measured = latency(address);
    let rate = (called.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    println!("with chains: {measured}; {rate:.0} chained calls/s");
    stopping.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

/// Of one `stream::get` after another, one each ms.
fn latency(address: &str) -> String {
    let mut client = Client::open(address);
    let get = frame(&call("stream::get", ITEM));
    let (until, mut waited) = (Instant::now() + MEASURED, Vec::new());
    while Instant::now() < until {
        let began = Instant::now();
        client.stream.write_all(&get).unwrap();
        client.wait_for(1);
        waited.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(1).saturating_sub(began.elapsed()));
    }
    waited.sort();
    let at = |part: f64| waited[(waited.len() as f64 * part) as usize];
    let (p50, p99, max) = (at(0.5), at(0.99), waited[waited.len() - 1]);
    format!(
        "{} gets, p50 {p50:.0?}, p99 {p99:.0?}, max {max:.0?}",
        waited.len()
    )
}

fn connect(address: &str) {
    let opened = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let until = Instant::now() + MEASURED;
    let threads: Vec<_> = (0..CONNECTS_AT_A_TIME)
        .map(|_| {
            let (address, opened, refused) = (address.to_owned(), opened.clone(), refused.clone());
            std::thread::spawn(move || {
                while Instant::now() < until {
                    match upgrade(&address) {
                        Some(_) => opened.fetch_add(1, Ordering::Relaxed),
                        None => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let rate = opened.load(Ordering::Relaxed) as f64 / MEASURED.as_secs_f64();
    println!(
        "{rate:.0} connects/s, {} refused",
        refused.load(Ordering::Relaxed)
    );
}

const ITEM: &str = r#""stream_name":"s","group_id":"g","item_id":"i""#;
const ITEM_WITH_DATA: &str =
    r#""stream_name":"s","group_id":"g","item_id":"i","data":{"x":1,"name":"someone"}"#;

fn call(function_id: &str, data: &str) -> String {
    format!(
        r#"{{"type":"invokefunction","invocation_id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","function_id":"{function_id}","data":{{{data}}}}}"#
    )
}

/// A socket that is upgraded, without a byte behind the head of the answer.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the frame under way that have still to come; its header may be cut as well.
    rest: usize,
    header: Vec<u8>,
}

impl Client {
    /// As an SDK worker, whose id has been read.
    fn open(address: &str) -> Client {
        let stream = upgrade(address).expect("an upgrade");
        let mut client = Client {
            stream,
            buffer: vec![0; 256 * 1024],
            rest: 0,
            header: Vec::new(),
        };
        // A server may greet or not: a ping is answered behind the greeting.
        client.stream.write_all(&masked(0x89, b"")).unwrap();
        let timeout = Some(Duration::from_millis(200));
        client.stream.set_read_timeout(timeout).unwrap();
        while client
            .stream
            .read(&mut client.buffer)
            .is_ok_and(|len| len > 0)
        {}
        client.stream.set_read_timeout(None).unwrap();
        client
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(&frame(text)).unwrap();
    }

    fn wait_for(&mut self, frames: usize) {
        let mut came = 0;
        while came < frames {
            came += self.read();
        }
    }

    /// Reads once: how many frames have begun to come.
    fn read(&mut self) -> usize {
        let len = self.stream.read(&mut self.buffer).unwrap();
        assert!(len > 0, "the server has ended the connection");
        let (mut at, mut frames) = (0, 0);
        while at < len {
            if self.rest > 0 {
                let step = self.rest.min(len - at);
                (self.rest, at) = (self.rest - step, at + step);
                continue;
            }
            self.header.push(self.buffer[at]);
            at += 1;
            if let Some(payload) = payload_len(&self.header) {
                self.rest = payload;
                self.header.clear();
                frames += 1;
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

fn upgrade(address: &str) -> Option<TcpStream> {
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

fn frame(text: &str) -> Vec<u8> {
    masked(0x81, text.as_bytes())
}

/// A client's frame; its mask is zero, so that the payload stands as it is.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
