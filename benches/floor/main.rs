//! What is the least that a delivery can cost here: a bare loop that writes a ready-made frame to N
//! sockets, and nothing else? And would it cost less with one system call for many sockets (io_uring)?
//!
//! The writer runs on the first core and the reader, a process of its own, on the last: two
//! processes, so that 10,000 connections fit under a limit of 20,000 open files each. A bounded
//! number of frames is under way, as with sets in flight; the reader says how many bytes it has.
//! CPU is the scheduler's run time of the writing process, which on loopback holds the receiver's
//! TCP input as well. It knows nothing of this server, and the server's code is not in it.
//!
//! ```text
//! floor [--frame-bytes N] [--rounds N] [--turn N] [--write-only] [--reader-spins] [1x1000 …]
//! ```
//! The ways to write take turns within a round, over the same sockets. `--turn`: sends at most in one
//! submission, as many as a worker makes in a turn. `--reader-spins`: no write wakes the reader, as where
//! readers are on other hosts.
//! To measure a server in turn with it: `--write-only --rounds 1` and one load, then that load with `loadtest`.

#![allow(clippy::print_stdout, reason = "its output")]

mod reader;
mod uring;
mod writer;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use uring::Ring;
use writer::{Round, Way, Writer};

/// What one event of `loadtest fanout` has on the wire where nothing else is said.
const FRAME_BYTES: usize = 287;
const ROUNDS: usize = 5;
const TURN: usize = 64;
const ROUND_TIME: Duration = Duration::from_millis(700);
/// As the first argument: this process is the reader.
const READER: &str = "read-for-the-floor";

/// One shape of load: every frame goes to the sockets of one group, and the groups take turns.
struct Load {
    groups: usize,
    subscribers: usize,
    in_flight: u64,
}

const LOADS: [Load; 5] = [
    Load::of(1, 1_000, 1),
    Load::of(1, 1_000, 4),
    Load::of(1, 5_000, 1),
    Load::of(100, 10, 128),
    Load::of(1_000, 10, 16),
];

impl Load {
    const fn of(groups: usize, subscribers: usize, in_flight: u64) -> Self {
        Self {
            groups,
            subscribers,
            in_flight,
        }
    }

    fn name(&self) -> String {
        format!("{}x{}", self.groups, self.subscribers)
    }

    /// Of one frame to one group.
    fn bytes(&self, frame_bytes: usize) -> u64 {
        (self.subscribers * frame_bytes) as u64
    }
}

/// What is asked for.
struct Asked {
    frame_bytes: usize,
    rounds: usize,
    turn: usize,
    write_only: bool,
    reader_spins: bool,
    /// All, if there is none.
    loads: Vec<String>,
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut asked = Self {
            frame_bytes: FRAME_BYTES,
            rounds: ROUNDS,
            turn: TURN,
            write_only: false,
            reader_spins: false,
            loads: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().unwrap_or_default();
                value.parse().map_err(io::Error::other)
            };
            match &*argument {
                "--bench" => {}
                "--frame-bytes" => asked.frame_bytes = number()?,
                "--rounds" => asked.rounds = number()?.max(1),
                "--turn" => asked.turn = number()?.clamp(1, 4_096),
                "--write-only" => asked.write_only = true,
                "--reader-spins" => asked.reader_spins = true,
                load => asked.loads.push(load.to_owned()),
            }
        }
        Ok(asked)
    }

    fn wants(&self, load: &Load) -> bool {
        self.loads.is_empty() || self.loads.contains(&load.name())
    }
}

/// A way to write, and its rounds.
struct Tried {
    name: &'static str,
    way: Way,
    rounds: Vec<Round>,
}

impl Tried {
    fn new(name: &'static str, way: Way) -> Self {
        Self {
            name,
            way,
            rounds: Vec::new(),
        }
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    raise_open_files();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if arguments.get(1).is_some_and(|first| first == READER) {
        pin(cores.last());
        return reader::read(&arguments[2], &arguments[3], arguments[4] == "true");
    }
    pin(cores.first());
    let asked = Asked::parse(arguments.into_iter().skip(1))?;
    let frame: &'static [u8] = vec![b'x'; asked.frame_bytes].leak();
    println!(
        "bare write loop, frames of {} bytes, {} rounds of {ROUND_TIME:?} each way, up to {} sends a submission",
        asked.frame_bytes, asked.rounds, asked.turn
    );
    for load in LOADS.iter().filter(|load| asked.wants(load)) {
        let mut writer =
            Writer::connect(load.groups * load.subscribers, frame, asked.reader_spins)?;
        let mut tried = ways(&asked, frame, &writer);
        for Tried { way, .. } in &mut tried {
            writer.write_for(load, ROUND_TIME / 2, way)?; // warm-up
        }
        for _ in 0..asked.rounds {
            for Tried { way, rounds, .. } in &mut tried {
                rounds.push(writer.write_for(load, ROUND_TIME, way)?);
            }
            tried.rotate_left(1); // nobody always follows the same
        }
        tell(load, &mut tried);
    }
    Ok(())
}

/// Writing, and what else this kernel allows.
fn ways(asked: &Asked, frame: &'static [u8], writer: &Writer) -> Vec<Tried> {
    let mut ways = vec![Tried::new("write", Way::Write)];
    if asked.write_only {
        return ways;
    }
    let sockets: Vec<RawFd> = writer.sockets.iter().map(AsRawFd::as_raw_fd).collect();
    for (name, registered) in [
        ("io_uring", None),
        ("io_uring, registered", Some(&*sockets)),
    ] {
        match Ring::new(frame, asked.turn, registered) {
            Ok(ring) => ways.push(Tried::new(name, Way::Uring(Box::new(ring)))),
            Err(error) => println!("{name}: this kernel refuses it ({error})"),
        }
    }
    ways
}

fn tell(load: &Load, tried: &mut [Tried]) {
    tried.sort_by_key(|tried| tried.name.len()); // `write` first
    println!("{}, {} in flight", load.name(), load.in_flight);
    println!(
        "  {:<22}{:>28}{:>24}{:>24}{:>16}",
        "",
        "deliveries/s (range)",
        "CPU us/delivery (range)",
        "times `write`'s (range)",
        "deliveries/call"
    );
    let write: Vec<f64> = cpu(&tried[0].rounds).collect();
    for Tried { name, rounds, .. } in tried {
        let rate = spread(rounds.iter().map(|round| round.deliveries_per_second));
        let each = spread(cpu(rounds));
        let times = spread(cpu(rounds).zip(&write).map(|(cpu, write)| cpu / write));
        let calls = spread(rounds.iter().map(|round| round.deliveries_per_call));
        println!(
            "  {name:<22}{:>28}{:>24}{:>24}{:>16.1}",
            format!("{:.0} ({:.0}-{:.0})", rate[1], rate[0], rate[2]),
            format!("{:.2} ({:.2}-{:.2})", each[1], each[0], each[2]),
            format!("{:.3} ({:.2}-{:.2})", times[1], times[0], times[2]),
            calls[1],
        );
    }
}

fn cpu(rounds: &[Round]) -> impl Iterator<Item = f64> {
    rounds.iter().map(|round| round.cpu_us_per_delivery)
}

/// Least, median, most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    [
        sorted[0],
        sorted[sorted.len() / 2],
        sorted[sorted.len() - 1],
    ]
}

fn pin(core: Option<&core_affinity::CoreId>) {
    if let Some(core) = core {
        core_affinity::set_for_current(*core);
    }
}

fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}
