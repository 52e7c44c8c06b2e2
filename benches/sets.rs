//! How many sets does a server take from SDK sockets that pipeline them, and how long does each wait?
//!
//! Without arguments a few shapes, briefly, against a server in this process, which shares its cores. For
//! figures the server runs on its own. With one worker the answers of a socket come in the order of its
//! sets, and the waits are exact.
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

mod support;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{Client, frame};

const VALUE: &str = r#"{"id":"user-000000000001","name":"somebody","status":"online","x":1234,"y":5678,"seen":1795474467867}"#;

/// What one set of this bench takes in the server's log.
const RECORD_BYTES: usize = 160;

/// Sockets, window, items, seconds: without arguments.
const SHAPES: [[usize; 4]; 3] = [[1, 1, 10, 2], [1, 512, 1_000, 2], [4, 256, 1_000, 2]];

fn main() {
    let arguments = support::arguments();
    let [address, counts @ ..] = &arguments[..] else {
        return all_briefly();
    };
    let count = |count: &String| -> usize { count.parse().unwrap() };
    let [sockets, window, items, seconds, beside @ ..] = counts else {
        return println!("usage: sets [ADDRESS SOCKETS WINDOW ITEMS SECONDS [DIRECTORY ROUNDS]]");
    };
    let load = Load::new(address, [sockets, window, items, seconds].map(count));
    match beside {
        [directory, rounds] => load.beside(Path::new(directory), count(rounds)),
        _ => println!("{}", load.run().said()),
    }
}

fn all_briefly() {
    for shape in SHAPES {
        let server = support::server();
        let address = server.worker_address().unwrap().to_string();
        let outcome = Load::new(&address, shape).run();
        let [sockets, window, ..] = shape;
        println!("{sockets} sockets, {window} under way: {}", outcome.said());
        server.drain();
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

impl<'a> Load<'a> {
    fn new(address: &'a str, [sockets, window, items, seconds]: [usize; 4]) -> Self {
        Self {
            address,
            sockets,
            window,
            items,
            measured: Duration::from_secs(seconds as u64),
        }
    }

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
    frame(&text)
}
