//! How many sets does a server take from SDK sockets that pipeline them, and how long does each wait?
//!
//! Started by hand, not by `cargo bench`: the server runs on its own. The client writes frames that were
//! made before, and of the answers it reads the frame headers. With one worker the answers of a socket
//! come in the order of its sets, and the waits are exact.
//!
//! ```text
//! sets ADDRESS SOCKETS WINDOW ITEMS SECONDS [DIRECTORY ROUNDS]
//! ```
//! Each socket keeps WINDOW sets of 100 bytes under way, over ITEMS items of a group of its own.
//!
//! With a DIRECTORY on the server's disk it measures in turn, ROUNDS times, how long that disk takes to
//! append and sync what WINDOW sets are in the log, and what the server makes of it: a disk's time
//! changes by two within seconds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement for the terminal"
)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

const VALUE: &str = r#"{"id":"user-000000000001","name":"somebody","status":"online","x":1234,"y":5678,"seen":1795474467867}"#;

/// What one set of this bench takes in the server's log.
const RECORD_BYTES: usize = 160;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let [address, sockets, window, items, seconds, beside @ ..] = &args[..] else {
        return println!("usage: sets ADDRESS SOCKETS WINDOW ITEMS SECONDS [DIRECTORY ROUNDS]");
    };
    let count = |count: &String| -> usize { count.parse().unwrap() };
    let load = Load {
        address,
        sockets: count(sockets),
        window: count(window),
        items: count(items),
        measured: Duration::from_secs(count(seconds) as u64),
    };
    match beside {
        [directory, rounds] => load.beside(Path::new(directory), count(rounds)),
        _ => println!("{}", load.run().said()),
    }
}

/// What is asked of the server.
struct Load<'a> {
    address: &'a str,
    sockets: usize,
    window: usize,
    items: usize,
    measured: Duration,
}

/// What came of it.
struct Outcome {
    sets_per_second: f64,
    /// In rising order.
    waits: Vec<Duration>,
}

impl Load<'_> {
    fn run(&self) -> Outcome {
        let results: Vec<(usize, Vec<Duration>)> = std::thread::scope(|scope| {
            let run = |socket| scope.spawn(move || self.pipeline(socket));
            let threads: Vec<_> = (0..self.sockets).map(run).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap();
            threads.into_iter().map(join).collect()
        });
        let sets: usize = results.iter().map(|(sets, _)| sets).sum();
        let mut waits: Vec<Duration> = results.into_iter().flat_map(|(_, waits)| waits).collect();
        waits.sort_unstable();
        Outcome {
            sets_per_second: sets as f64 / self.measured.as_secs_f64(),
            waits,
        }
    }

    /// The bare disk and the server in turn, so often.
    fn beside(&self, directory: &Path, rounds: usize) {
        let (mut times, mut p99s) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let syncs = syncs(directory, self.window * RECORD_BYTES, self.measured);
            let (mean, p99) = (mean(&syncs), part_of(&syncs, 0.99));
            let outcome = self.run();
            println!(
                "sync mean {mean:.2?}, p50 {:.2?}, p99 {p99:.2?}; {}",
                part_of(&syncs, 0.5),
                outcome.said()
            );
            times.push(outcome.sets_per_second * mean.as_secs_f64());
            p99s.push(part_of(&outcome.waits, 0.99).as_secs_f64() / mean.as_secs_f64());
        }
        let (times, p99s) = (median(times), median(p99s));
        println!("medians: {times:.0} sets in the time of a sync; p99 of a set {p99s:.1} syncs");
    }
}

impl Outcome {
    fn said(&self) -> String {
        let at = |part| part_of(&self.waits, part);
        format!(
            "{:.0} sets/s; waits p50 {:.2?}, p99 {:.2?}, max {:.2?}",
            self.sets_per_second,
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

/// How long each append of so many bytes took until it was on the disk, in rising order.
fn syncs(directory: &Path, bytes: usize, measured: Duration) -> Vec<Duration> {
    let path = directory.join(format!("sets-{}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    let bytes = vec![b'x'; bytes];
    let mut syncs = Vec::new();
    let began = Instant::now();
    while began.elapsed() < measured {
        let before = Instant::now();
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        syncs.push(before.elapsed());
    }
    std::fs::remove_file(path).unwrap();
    syncs.sort_unstable();
    syncs
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len() as u32
}

/// The value below which that part of the times is.
fn part_of(times: &[Duration], part: f64) -> Duration {
    times[((times.len() - 1) as f64 * part) as usize]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Load<'_> {
    /// How many sets were answered in the time, and how long one in each read of answers had waited.
    fn pipeline(&self, socket: usize) -> (usize, Vec<Duration>) {
        let (window, items) = (self.window, self.items);
        let frames: Vec<Vec<u8>> = (0..items).map(|item| set(socket, item)).collect();
        let mut next = (0..items).cycle();
        let mut client = Client::open(self.address);
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
        while began.elapsed() < self.measured {
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
