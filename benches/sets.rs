//! How many sets does a server take from SDK sockets that pipeline them, and how long does each wait?
//!
//! Without arguments a few shapes, briefly, against a server in this process, which shares its cores. For
//! figures the server runs on its own. With one worker the answers of a socket come in the order of its
//! sets, and the waits are exact.
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

mod support;

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use support::{Client, frame};

const VALUE: &str = r#"{"id":"user-000000000001","name":"somebody","status":"online","x":1234,"y":5678,"seen":1795474467867}"#;
/// Sockets, window, items, seconds: without arguments.
const SHAPES: [[usize; 4]; 3] = [[1, 1, 10, 2], [1, 512, 1_000, 2], [4, 256, 1_000, 2]];

fn main() {
    let arguments = support::arguments();
    let [address, counts @ ..] = &arguments[..] else {
        return all_briefly();
    };
    let counts: Vec<usize> = counts.iter().map(|count| count.parse().unwrap()).collect();
    match counts.try_into() {
        Ok(shape) => measure(address, shape),
        Err(_) => println!("usage: sets [ADDRESS SOCKETS WINDOW ITEMS SECONDS]"),
    }
}

fn all_briefly() {
    for shape in SHAPES {
        let server = support::server();
        measure(&server.worker_address().unwrap().to_string(), shape);
        server.drain();
    }
}

fn measure(address: &str, shape: [usize; 4]) {
    let [sockets, window, items, seconds] = shape;
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
        "{sockets} sockets, {window} under way: {:.0} sets/s; waits p50 {:.2?}, p99 {:.2?}, max {:.2?}",
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
    frame(&text)
}
