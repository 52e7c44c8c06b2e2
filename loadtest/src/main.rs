//! Drives any server of this protocol and tells the truth about it.
//!
//! The command line and the exit code: 0 all checks held, 1 one failed, 2 wrong flags, 3 the run
//! could not be done. One scenario so far:
//!
//! `loadtest fanout` publishes with `stream::set` to G groups of N subscribers and counts what each
//! of them hears. How to read its figures:
//!
//! - A delivery is one event at one subscriber. Rates and CPU are of the window (`--seconds`), which
//!   follows `--warmup`; both are checked, and what was published is awaited before it is judged.
//! - Latency runs from the intended send time to the return of the `read` that brought the message.
//!   Deliveries of one read share that time, and time spent reading other sockets is in it: look at
//!   the client's CPU beside it. With `--rate` the intended times are fixed beforehand, so a stall
//!   counts for every set it delays; with `--in-flight` the intended time is the actual one.
//! - A set is in flight until its answer and all its deliveries have come.
//! - Server CPU is the scheduler's run time of all threads of `--pid`. On loopback it includes the
//!   receiver's TCP input, which runs in the sender's system call, for all servers alike.

mod check;
mod client;
mod driver;
mod message;
mod pace;
mod proc;
mod publisher;
mod report;
mod scenario;
mod subscribers;
mod target;
mod wire;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand};

use message::VALUE_BYTES_MIN;
use report::Report;
use scenario::{Pace, Plan};
use target::Target;

/// One source address has about 28,000 ports; some are taken by others.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
const SOURCES_MAX: usize = 200;
const SUBSCRIBERS_MAX: usize = 4_000_000;
const CHECK_FAILED: u8 = 1;
const NOT_DONE: u8 = 3;

/// Drives a stream server and checks what subscribers hear.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Publish to groups of subscribers; check each delivery; measure throughput, CPU and latency.
    Fanout(Fanout),
}

#[derive(Args)]
#[command(group = ArgGroup::new("pace").required(true).args(["in_flight", "rate"]))]
struct Fanout {
    /// The worker port, where the publisher connects.
    #[arg(long, value_name = "URL", value_parser = Target::parse, default_value = "ws://127.0.0.1:49134")]
    engine: Target,
    /// The stream port, where subscribers connect.
    #[arg(long, value_name = "URL", value_parser = Target::parse, default_value = "ws://127.0.0.1:3112")]
    stream: Target,
    /// How many groups.
    #[arg(long, value_name = "G", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    groups: u32,
    /// Subscribers of each group.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Closed loop: sets in flight over all groups.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    in_flight: Option<u64>,
    /// Fixed rate: sets a second over all groups, at times fixed beforehand.
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,
    /// The measured window.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Seconds of load before the window: checked, not measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds)]
    warmup: Duration,
    /// The server's process: its CPU time and memory are measured.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Write the report here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Bytes of each published value; the event around it adds 129, so 283 in all.
    #[arg(long, value_name = "BYTES", default_value = "154", value_parser = parse_value_bytes)]
    value_bytes: usize,
    /// Publish with `action: void`: a set ends with its deliveries, no answer is awaited.
    #[arg(long)]
    void: bool,
    /// SDK sockets; the sets of one group keep to one of them.
    #[arg(long, value_name = "P", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    publishers: u32,
    /// Client threads, each pinned to a core of this process's mask, the last one first.
    #[arg(long, value_name = "T", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Source addresses 127.0.0.1, .2, …, each good for some 28,000 ports [default: as needed].
    #[arg(long, value_name = "A", value_parser = clap::value_parser!(u8).range(1..=SOURCES_MAX as i64))]
    sources: Option<u8>,
    /// Connections that may be between connect and sync at a time.
    #[arg(long, value_name = "H", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    handshakes: u32,
    /// Give up when no join was answered for so many seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    join_timeout: Duration,
    /// How long after the window outstanding deliveries are awaited, in seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    drain_timeout: Duration,
    /// The stream to publish to.
    #[arg(long, value_name = "NAME", default_value = "load", value_parser = parse_stream_name)]
    stream_name: String,
    /// Accept targets that are not on this machine.
    #[arg(long)]
    allow_remote: bool,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.01..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("must be 0.01 to 1000000".to_owned())
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.0..=3_600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be 0 to 3600".to_owned())
    }
}

fn parse_value_bytes(text: &str) -> Result<usize, String> {
    let allowed = VALUE_BYTES_MIN..=512 * 1024;
    let bytes = text.parse().map_err(|_| "not a number")?;
    if allowed.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("must be {} to {}", allowed.start(), allowed.end()))
    }
}

/// Written into JSON texts as it is.
fn parse_stream_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("letters, digits and -_.: only".to_owned())
    }
}

impl Fanout {
    /// The checks that need more than one flag.
    fn plan(self) -> Result<Plan, String> {
        let subscribers_in_all = self.groups as usize * self.subscribers as usize;
        if subscribers_in_all > SUBSCRIBERS_MAX {
            return Err(format!(
                "{subscribers_in_all} subscribers are more than {SUBSCRIBERS_MAX}"
            ));
        }
        let is_local = self.engine.is_loopback() && self.stream.is_loopback();
        if !is_local && !self.allow_remote {
            return Err(
                "only loopback targets are loaded, unless --allow-remote is given".to_owned(),
            );
        }
        if self.threads > self.subscribers {
            return Err(
                "each thread needs a subscriber of each group: --threads is above --subscribers"
                    .to_owned(),
            );
        }
        if self.publishers > self.groups {
            return Err("a group keeps to one socket: --publishers is above --groups".to_owned());
        }
        let can_rotate = self.stream.is_loopback() && self.stream.address.is_ipv4();
        let needed = subscribers_in_all
            .div_ceil(CONNECTIONS_PER_SOURCE)
            .min(SOURCES_MAX) as u8;
        let sources = self.sources.unwrap_or(if can_rotate { needed } else { 1 });
        if sources > 1 && !can_rotate {
            return Err(
                "--sources are 127.0.0.x: they reach only a loopback IPv4 target".to_owned(),
            );
        }
        let pace = match (self.in_flight, self.rate) {
            (Some(sets), None) => Pace::InFlight(sets),
            (None, Some(rate)) => Pace::Rate(rate),
            _ => return Err("give either --in-flight or --rate".to_owned()), // clap says so first
        };
        Ok(Plan {
            engine: self.engine,
            stream: self.stream,
            groups: self.groups,
            subscribers: self.subscribers,
            pace,
            warmup: self.warmup,
            seconds: self.seconds,
            value_bytes: self.value_bytes,
            void: self.void,
            publishers: self.publishers as usize,
            threads: self.threads as usize,
            sources,
            handshakes: self.handshakes as usize,
            join_timeout: self.join_timeout,
            drain_timeout: self.drain_timeout,
            stream_name: self.stream_name,
            pid: self.pid,
            run: new_run(),
        })
    }
}

/// Differs from that of runs before, whose values a server may still hold.
fn new_run() -> u32 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (since.as_micros() as u32) ^ std::process::id().rotate_left(16)
}

fn main() -> ExitCode {
    let Scenario::Fanout(fanout) = Arguments::parse().scenario;
    let json = fanout.json.clone();
    let plan = match fanout.plan() {
        Ok(plan) => plan,
        Err(why) => Arguments::command()
            .error(ErrorKind::ValueValidation, why)
            .exit(),
    };
    match run(&plan, json) {
        Ok(report) => {
            #[allow(clippy::print_stdout, reason = "the report is this program's output")]
            {
                print!("{report}");
            }
            if report.is_clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(CHECK_FAILED)
            }
        }
        Err(why) => {
            eprintln!("loadtest: {why}");
            ExitCode::from(NOT_DONE)
        }
    }
}

fn run(plan: &Plan, json: Option<PathBuf>) -> Result<Report, String> {
    let outcome = scenario::fanout(plan).map_err(|e| e.to_string())?;
    let report = Report::new(plan, outcome);
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
        fs::write(&file, text + "\n")
            .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    Ok(report)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    fn plan(flags: &str) -> Result<Plan, String> {
        let all = format!("loadtest fanout {flags}");
        let arguments = Arguments::try_parse_from(all.split(' ')).map_err(|e| e.to_string())?;
        let Scenario::Fanout(fanout) = arguments.scenario;
        fanout.plan()
    }

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_become_a_plan() {
        let plan =
            plan("--groups 1000 --subscribers 45 --in-flight 16 --seconds 5 --threads 2").unwrap();
        assert_eq!(plan.sources, 3);
        assert_eq!(
            (plan.subscribers_of(0), plan.subscribers_of(1)),
            (23_000, 22_000)
        );
    }

    #[test]
    fn wrong_flags_are_refused() {
        let base = "--groups 10 --subscribers 10 --seconds 5";
        let wrong = [
            "",
            "--in-flight 1 --rate 5",
            "--in-flight 0",
            "--rate 0",
            "--rate nan",
            "--in-flight 1 --threads 11",
            "--in-flight 1 --publishers 11",
            "--in-flight 1 --stream ws://192.0.2.1:80",
            "--in-flight 1 --pid 0",
            "--in-flight 1 --value-bytes 10",
            "--in-flight 1 --stream-name a\"b",
        ];
        for flags in wrong {
            assert!(
                plan(format!("{base} {flags}").trim_end()).is_err(),
                "{flags}"
            );
        }
        assert!(
            plan(&format!(
                "{base} --in-flight 1 --stream ws://192.0.2.1:80 --allow-remote"
            ))
            .is_ok()
        );
    }
}
