//! A server that people come to and go from for minutes: what it holds does not grow. Joins, leaves, cuts,
//! readers that read nothing, SDK workers that come and go, triggers, an auth function, all at once.
//!
//! Ignored, for it takes its time: `tests/soak SECONDS`.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::support::process::{Directory, PROGRAM, Process, command, config};
use crate::support::raw;
use crate::support::{SdkWorker, Subscriber, clients};

const STREAM: &str = "soak";
const GROUPS: u32 = 20;
const ITEMS: u32 = 30;
/// What the first part of the time is for: buffers and tables that come to their sizes.
const WARM_UP: f64 = 0.25;

#[derive(Debug, Clone, Copy)]
struct Sample {
    rss_kib: u64,
    files: u64,
    threads: u64,
}

fn sample(pid: u32) -> Sample {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        let number = line.split_ascii_whitespace().nth(1).unwrap();
        number.parse().unwrap()
    };
    Sample {
        rss_kib: number("VmRSS:"),
        files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64,
        threads: number("Threads:"),
    }
}

/// What everybody knows who comes and goes.
struct Room {
    stream: SocketAddr,
    worker: SocketAddr,
    is_over: AtomicBool,
    rounds: AtomicU64,
}

impl Room {
    /// Comes and goes until it is over; each round is another one's.
    fn run(&self, seed: u64, mut round: impl FnMut(&mut SmallRng)) {
        let mut rng = SmallRng::seed_from_u64(seed);
        while !self.is_over.load(Ordering::Relaxed) {
            round(&mut rng);
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn subscriber(&self, rng: &mut SmallRng) {
        let mut subscriber = Subscriber::to(self.stream);
        for n in 0..rng.random_range(1..6) {
            let (id, group) = (n.to_string(), group(rng));
            let item = rng.random_bool(0.5).then(|| item(rng));
            subscriber.start_join(&id, (STREAM, &group), item.as_deref());
            // Events of what it has joined before come between.
            while subscriber.next().kind != "sync" {}
            if rng.random_bool(0.3) {
                subscriber.leave(&id);
            }
        }
        match rng.random_bool(0.5) {
            true => subscriber.close(),
            false => subscriber.reset(),
        }
    }

    /// It joins and reads nothing while the others go on.
    fn slow_reader(&self, rng: &mut SmallRng) {
        let stream = raw::connect_narrow(self.stream);
        let mut slow = Subscriber::upgraded(raw::upgrade(stream, "/"));
        for n in 0..GROUPS {
            slow.start_join(&n.to_string(), (STREAM, &format!("g{n}")), None);
        }
        let until = Instant::now() + Duration::from_millis(rng.random_range(100..1500));
        while Instant::now() < until && !self.is_over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20)); // what it does: nothing
        }
        slow.reset();
    }

    fn program(&self, rng: &mut SmallRng) {
        let mut sdk = SdkWorker::to(self.worker);
        let name = format!("f{}", rng.random_range(0..5));
        sdk.register(&name);
        sdk.trigger("t", "stream", &name, json!({"stream_name": STREAM}));
        for _ in 0..rng.random_range(10..60) {
            let (group, item) = (group(rng), item(rng));
            let to = (STREAM, &*group);
            match rng.random_range(0..6) {
                0 => drop(sdk.list(to)),
                1 => sdk.delete(to, &item),
                2 => {
                    let ops = json!([{"type": "increment", "path": "n", "by": 1}]);
                    let mut input = clients::item_input(to, &item);
                    input["ops"] = ops;
                    sdk.call("stream::update", input);
                }
                _ => {
                    let text = "x".repeat(rng.random_range(10..500));
                    sdk.set(to, &item, json!({"text": text, "n": 1}));
                }
            }
        }
        if rng.random_bool(0.5) {
            sdk.send(&json!({"type": "unregistertrigger", "id": "t", "trigger_type": "stream"}));
            sdk.settle();
        }
    }
}

fn group(rng: &mut SmallRng) -> String {
    format!("g{}", rng.random_range(0..GROUPS))
}

fn item(rng: &mut SmallRng) -> String {
    format!("u{}", rng.random_range(0..ITEMS))
}

/// Lets everybody in, and hears of joins, until it is over and one more has come.
fn doorkeeper(mut sdk: SdkWorker, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let call = sdk.next_call();
        sdk.answer(&call, json!({"result": {"context": {"user": "u"}}}));
    }
}

#[test]
#[ignore = "it takes its time: tests/soak"]
fn what_a_server_holds_does_not_grow_while_everybody_comes_and_goes() {
    let seconds = std::env::var("SOAK_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|text| text.parse().ok()).unwrap_or(40);
    let keys = "auth_function: enters, adapter: {name: kv, config: {store_method: in_memory}}";
    let directory = Directory::new("soak").with_file(&config(keys, "threads: 2"));
    let server = Process::start(command(PROGRAM, &directory.0, &[]));
    let pid = server.pid().as_raw_nonzero().get() as u32;
    let mut door = server.sdk();
    door.register("enters");
    door.trigger("j", "stream:join", "enters", json!({}));
    door.settle();
    let room = Room {
        stream: server.stream,
        worker: server.worker,
        is_over: AtomicBool::new(false),
        rounds: AtomicU64::new(0),
    };
    let mut samples = Vec::new();
    let is_closed = AtomicBool::new(false);
    std::thread::scope(|outer| {
        outer.spawn(|| doorkeeper(door, &is_closed));
        std::thread::scope(|scope| {
            let room = &room;
            for seed in 0..2 {
                scope.spawn(move || room.run(seed, |rng| room.subscriber(rng)));
                scope.spawn(move || room.run(10 + seed, |rng| room.slow_reader(rng)));
                scope.spawn(move || room.run(20 + seed, |rng| room.program(rng)));
            }
            let began = Instant::now();
            let all = Duration::from_secs(seconds);
            while began.elapsed() < all {
                if began.elapsed() >= all.mul_f64(WARM_UP) {
                    samples.push(sample(pid));
                }
                std::thread::sleep(Duration::from_millis(100)); // between two looks
            }
            room.is_over.store(true, Ordering::Relaxed);
        });
        is_closed.store(true, Ordering::Relaxed);
        // It may be let in or not.
        let mut last = raw::connect(server.stream);
        let request = raw::upgrade_request("/", "");
        let _ = std::io::Write::write_all(&mut last, request.as_bytes());
        raw::read_head(&mut last);
    });
    let third = samples.len() / 3;
    let median = |of: fn(&Sample) -> u64, part: &[Sample]| {
        let mut all: Vec<u64> = part.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    let rounds = room.rounds.load(Ordering::Relaxed);
    type Of = fn(&Sample) -> u64;
    let of: [(&str, Of); 3] = [
        ("memory, KiB", |sample| sample.rss_kib),
        ("open files", |sample| sample.files),
        ("threads", |sample| sample.threads),
    ];
    for (what, of) in of {
        let (before, after) = (median(of, first), median(of, last));
        eprintln!("{what}: {before} in the first third, {after} in the last; {rounds} rounds");
        // A few files are those who happen to be there; the rings of closed sockets and of each second's counters fill
        // up to their length.
        let slack = match what {
            "open files" => 4,
            "memory, KiB" => 1024,
            _ => 0,
        };
        assert!(
            after <= before + before / 50 + slack,
            "{what} grows: {before}, then {after}"
        );
    }
    server.stop();
}
