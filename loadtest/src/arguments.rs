//! The command line: what each scenario can be told, and the checks of it.
//!
//! Every flag has a default, so a scenario's name alone is a whole command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::fanout;
use crate::message::VALUE_BYTES_MIN;
use crate::report::Report;
use crate::rooms::{self, Kind};
use crate::scenario::{Order, Pace, RunError, Setup, new_run};
use crate::target::Target;

/// One source address has about 28,000 ports; some are taken by others.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
const SOURCES_MAX: usize = 200;
const CONNECTIONS_MAX: usize = 4_000_000;
const IN_FLIGHT: u64 = 8;

/// Drives a stream server and checks what subscribers hear.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

#[derive(Subcommand)]
pub(crate) enum Scenario {
    /// Publish to groups of subscribers; check each delivery; measure throughput, CPU and latency.
    Fanout(Fanout),
    /// Rooms whose members join, keep their own item up to date, leave and come back.
    Presence(Presence),
    /// Connections as fast as allowed: connections a second, handshake latency.
    Connect(Connect),
    /// Members that only stay: memory and CPU a connection.
    Idle(Idle),
    /// All connections drop at once and come back in the same moment.
    Storm(Storm),
}

/// What every scenario can be told.
#[derive(Args)]
pub(crate) struct Common {
    /// The worker port, where the publisher connects.
    #[arg(long, value_name = "URL", value_parser = Target::parse, default_value = "ws://127.0.0.1:49134")]
    engine: Target,
    /// The stream port, where subscribers connect.
    #[arg(long, value_name = "URL", value_parser = Target::parse, default_value = "ws://127.0.0.1:3112")]
    stream: Target,
    /// The measured window.
    #[arg(long, value_name = "S", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Seconds of load before the window: checked, not measured.
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse_seconds)]
    warmup: Duration,
    /// The server's process: its CPU time, context switches and memory are measured.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Write the report here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw plots into this folder, as SVG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// A second server, engine and stream port: both get the same load in turn, A B A B.
    #[arg(long, value_names = ["ENGINE", "STREAM"], num_args = 2, value_parser = Target::parse)]
    against: Option<Vec<Target>>,
    /// The second server's process.
    #[arg(long, value_name = "PID", requires = "against", value_parser = clap::value_parser!(u32).range(1..))]
    against_pid: Option<u32>,
    /// How often each of the two has its turn.
    #[arg(long, value_name = "N", default_value = "5", requires = "against", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// What the two are called in table and plots.
    #[arg(long, value_names = ["FIRST", "SECOND"], num_args = 2, requires = "against")]
    names: Option<Vec<String>>,
    /// Bytes of each published value; the event around it adds 129, so 283 in all.
    #[arg(long, value_name = "BYTES", default_value = "154", value_parser = parse_value_bytes)]
    value_bytes: usize,
    /// SDK sockets; the calls of one group keep to one of them.
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
    /// How long after the window outstanding deliveries and answers are awaited, in seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse_seconds)]
    drain_timeout: Duration,
    /// The stream to publish to.
    #[arg(long, value_name = "NAME", default_value = "load", value_parser = parse_stream_name)]
    stream_name: String,
    /// Which order of events is a fault when it is not kept: that of the calls as sent, or that in
    /// which the server applied them (for an engine that may swap calls).
    #[arg(long, value_name = "ORDER", default_value = "sent")]
    order: Order,
    /// Do not compare clients with `stream::list` and `stream::get` at the end.
    #[arg(long)]
    no_audit: bool,
    /// Accept targets that are not on this machine.
    #[arg(long)]
    allow_remote: bool,
}

/// Closed loop or fixed rate: one of them.
#[derive(Args)]
#[group(multiple = false)]
struct PaceFlags {
    /// Closed loop: so many under way at a time [default: 8].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    in_flight: Option<u64>,
    /// Fixed rate: so many a second, at times fixed beforehand.
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,
}

impl PaceFlags {
    fn pace(&self) -> Pace {
        match (self.in_flight, self.rate) {
            (_, Some(rate)) => Pace::Rate(rate),
            (in_flight, None) => Pace::InFlight(in_flight.unwrap_or(IN_FLIGHT)),
        }
    }
}

#[derive(Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pace: PaceFlags,
    /// How many groups.
    #[arg(long, value_name = "G", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    groups: u32,
    /// Subscribers of each group.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Publish with `action: void`: a set ends with its deliveries, no answer is awaited.
    #[arg(long)]
    void: bool,
}

#[derive(Args)]
pub(crate) struct Presence {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Members of all rooms.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: u32,
    /// How many rooms.
    #[arg(long, value_name = "G", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// Sizes by a power law: the room of rank r has a share of 1 / r^X; 0: all alike.
    #[arg(long, value_name = "X", default_value = "1", value_parser = parse_exponent)]
    exponent: f64,
    /// New values a second over all members, at times fixed beforehand.
    #[arg(long, value_name = "R", default_value = "500", value_parser = parse_rate)]
    updates: f64,
    /// Members a second that leave, at times fixed beforehand.
    #[arg(long, value_name = "R", default_value = "20", value_parser = parse_rate)]
    leaves: f64,
    /// How long a member is away, in seconds.
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = parse_seconds)]
    away: Duration,
}

#[derive(Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pace: PaceFlags,
    /// Connections that stay open; the oldest goes when its place is needed.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    members: u32,
    /// Groups that they join in turn.
    #[arg(long, value_name = "G", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// New values a second over all groups, so that each sync can be checked.
    #[arg(long, value_name = "R", default_value = "100", value_parser = parse_rate)]
    updates: f64,
}

#[derive(Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    members: u32,
    /// Groups that they join in turn.
    #[arg(long, value_name = "G", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
}

#[derive(Args)]
pub(crate) struct Storm {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "5000", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    members: u32,
    /// Groups that they join in turn.
    #[arg(long, value_name = "G", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// New values a second over all groups, so that each sync can be checked.
    #[arg(long, value_name = "R", default_value = "100", value_parser = parse_rate)]
    updates: f64,
    /// From one drop of all to the next, in seconds, if all are back by then.
    #[arg(long, value_name = "S", default_value = "4", value_parser = parse_seconds)]
    every: Duration,
    /// How long they wait before they come back, in seconds; deployed clients wait 2.
    #[arg(long, value_name = "S", default_value = "0", value_parser = parse_seconds)]
    after: Duration,
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    let exponent: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.0..=4.0).contains(&exponent) {
        Ok(exponent)
    } else {
        Err("must be 0 to 4".to_owned())
    }
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

/// The second server, and how the two take turns.
#[derive(Clone, Debug)]
pub(crate) struct Against {
    engine: Target,
    stream: Target,
    pid: Option<u32>,
    pub(crate) rounds: u32,
    pub(crate) names: [String; 2],
}

/// What becomes of the report.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) json: Option<PathBuf>,
    pub(crate) plots: Option<PathBuf>,
}

impl Common {
    pub(crate) fn output(&self) -> Output {
        Output {
            json: self.json.clone(),
            plots: self.plots.clone(),
        }
    }

    pub(crate) fn against(&self) -> Option<Against> {
        let [engine, stream] = self.against.as_deref()? else {
            return None; // clap takes two
        };
        let names = match self.names.as_deref() {
            Some([first, second]) => [first.clone(), second.clone()],
            _ => [self.stream.host.clone(), stream.host.clone()],
        };
        Some(Against {
            engine: engine.clone(),
            stream: stream.clone(),
            pid: self.against_pid,
            rounds: self.rounds,
            names,
        })
    }

    /// The checks that need more than one flag. `connections` are open at a time; `churn` more come
    /// and go, and each holds its port for a minute.
    fn setup(&self, connections: usize, churn: bool) -> Result<Setup, String> {
        if connections > CONNECTIONS_MAX {
            return Err(format!(
                "{connections} subscribers are more than {CONNECTIONS_MAX}"
            ));
        }
        let against = self.against.as_deref().unwrap_or_default();
        let targets = [&self.engine, &self.stream].into_iter().chain(against);
        let is_local = targets.clone().all(Target::is_loopback);
        if !is_local && !self.allow_remote {
            return Err(
                "only loopback targets are loaded, unless --allow-remote is given".to_owned(),
            );
        }
        let can_rotate = is_local && targets.clone().all(|target| target.address.is_ipv4());

        let needed = connections
            .div_ceil(CONNECTIONS_PER_SOURCE)
            .clamp(1, SOURCES_MAX);
        let needed = if churn { SOURCES_MAX } else { needed } as u8;
        let sources = self.sources.unwrap_or(if can_rotate { needed } else { 1 });
        if sources > 1 && !can_rotate {
            return Err(
                "--sources are 127.0.0.x: they reach only a loopback IPv4 target".to_owned(),
            );
        }
        Ok(Setup {
            engine: self.engine.clone(),
            stream: self.stream.clone(),
            warmup: self.warmup,
            seconds: self.seconds,
            value_bytes: self.value_bytes,
            publishers: self.publishers as usize,
            threads: self.threads as usize,
            sources,
            handshakes: self.handshakes as usize,
            join_timeout: self.join_timeout,
            drain_timeout: self.drain_timeout,
            stream_name: self.stream_name.clone(),
            order: self.order,
            audits: !self.no_audit,
            pid: self.pid,
            run: new_run(),
        })
    }
}

impl Fanout {
    fn plan(self) -> Result<fanout::Plan, String> {
        if self.common.threads > self.subscribers {
            return Err(
                "each thread needs a subscriber of each group: --threads is above --subscribers"
                    .to_owned(),
            );
        }
        if self.common.publishers > self.groups {
            return Err("a group keeps to one socket: --publishers is above --groups".to_owned());
        }
        let subscribers_in_all = self.groups as usize * self.subscribers as usize;
        Ok(fanout::Plan {
            setup: self.common.setup(subscribers_in_all, false)?,
            groups: self.groups,
            subscribers: self.subscribers,
            pace: self.pace.pace(),
            void: self.void,
        })
    }
}

/// Sizes of rooms of one size, or nearly.
fn even(members: u32, rooms: u32) -> Vec<u32> {
    rooms::power_law(members, rooms, 0.0)
}

/// What the room scenarios have in common.
fn rooms_plan(
    common: Common,
    rooms: Vec<u32>,
    updates: f64,
    kind: Kind,
) -> Result<rooms::Plan, String> {
    let members = rooms.iter().map(|members| *members as usize).sum();
    if common.threads as usize > rooms.len() {
        return Err("threads share no room: --threads is above --rooms".to_owned());
    }
    let churn = !matches!(kind, Kind::Idle);
    Ok(rooms::Plan {
        setup: common.setup(members, churn)?,
        rooms,
        updates,
        kind,
    })
}

/// A room has at least one member.
fn check_rooms(members: u32, rooms: u32) -> Result<(), String> {
    if rooms > members {
        return Err("each room has a member: --rooms is above --members".to_owned());
    }
    Ok(())
}

impl Presence {
    fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let sizes = rooms::power_law(self.members, self.rooms, self.exponent);
        let kind = Kind::Presence {
            leaves: self.leaves,
            away: self.away,
        };
        rooms_plan(self.common, sizes, self.updates, kind)
    }
}

impl Connect {
    fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let pace = self.pace.pace();
        if matches!(pace, Pace::InFlight(most) if most > u64::from(self.members)) {
            return Err("--in-flight is above --members".to_owned());
        }
        let sizes = even(self.members, self.rooms);
        rooms_plan(self.common, sizes, self.updates, Kind::Connect { pace })
    }
}

impl Idle {
    fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let sizes = even(self.members, self.rooms);
        rooms_plan(self.common, sizes, 0.0, Kind::Idle)
    }
}

impl Storm {
    fn plan(self) -> Result<rooms::Plan, String> {
        check_rooms(self.members, self.rooms)?;
        let sizes = even(self.members, self.rooms);
        let kind = Kind::Storm {
            every: self.every,
            after: self.after,
        };
        rooms_plan(self.common, sizes, self.updates, kind)
    }
}

/// A run of any scenario.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Fanout(fanout::Plan),
    Rooms(rooms::Plan),
}

impl Scenario {
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Fanout(fanout) => &fanout.common,
            Self::Presence(presence) => &presence.common,
            Self::Connect(connect) => &connect.common,
            Self::Idle(idle) => &idle.common,
            Self::Storm(storm) => &storm.common,
        }
    }

    /// The checks that need more than one flag.
    pub(crate) fn plan(self) -> Result<Plan, String> {
        match self {
            Self::Fanout(fanout) => fanout.plan().map(Plan::Fanout),
            Self::Presence(presence) => presence.plan().map(Plan::Rooms),
            Self::Connect(connect) => connect.plan().map(Plan::Rooms),
            Self::Idle(idle) => idle.plan().map(Plan::Rooms),
            Self::Storm(storm) => storm.plan().map(Plan::Rooms),
        }
    }
}

impl Plan {
    /// The same load for another run, which what is published is marked by.
    pub(crate) fn again(&self) -> Self {
        let mut plan = self.clone();
        plan.setup().run = new_run();
        plan
    }

    /// The same load on the second server.
    pub(crate) fn on(&self, against: &Against) -> Self {
        let mut plan = self.again();
        let setup = plan.setup();
        setup.engine = against.engine.clone();
        setup.stream = against.stream.clone();
        setup.pid = against.pid;
        plan
    }

    fn setup(&mut self) -> &mut Setup {
        match self {
            Self::Fanout(plan) => &mut plan.setup,
            Self::Rooms(plan) => &mut plan.setup,
        }
    }

    pub(crate) fn run(&self) -> Result<Report, RunError> {
        match self {
            Self::Fanout(plan) => fanout::run(plan),
            Self::Rooms(plan) => rooms::run(plan),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn plan(flags: &str) -> Result<Plan, String> {
        let all = format!("loadtest {flags}");
        let words = all.split_ascii_whitespace();
        let arguments = Arguments::try_parse_from(words).map_err(|e| e.to_string())?;
        arguments.scenario.plan()
    }

    fn fanout_plan(flags: &str) -> Result<fanout::Plan, String> {
        match plan(&format!("fanout {flags}"))? {
            Plan::Fanout(plan) => Ok(plan),
            Plan::Rooms(_) => Err("another scenario".to_owned()),
        }
    }

    #[test]
    fn the_second_server_gets_the_same_load() {
        let words = "loadtest presence --pid 1 --against ws://127.0.0.1:1 ws://127.0.0.1:2 --against-pid 2 --names a b";
        let scenario = Arguments::try_parse_from(words.split(' '))
            .unwrap()
            .scenario;
        let against = scenario.common().against().unwrap();
        assert_eq!(
            (against.rounds, &against.names),
            (5, &["a".to_owned(), "b".to_owned()])
        );
        let mut first = scenario.plan().unwrap();
        let mut second = first.on(&against);
        assert_eq!(second.setup().pid, Some(2));
        assert_eq!(second.setup().stream.address.port(), 2);
        assert_ne!(first.setup().run, second.setup().run);
        assert_eq!(first.setup().seconds, second.setup().seconds);
        let remote = "fanout --against ws://192.0.2.1:1 ws://127.0.0.1:2";
        assert!(plan(remote).is_err() && plan("fanout --rounds 3").is_err());
    }

    #[test]
    fn each_scenario_is_one_word() {
        for name in ["fanout", "presence", "connect", "idle", "storm"] {
            assert!(plan(name).is_ok(), "{name}");
        }
        for wrong in [
            "presence --members 5 --rooms 6",
            "connect --members 5 --rooms 5 --in-flight 6",
            "idle --members 5 --rooms 1 --threads 2",
            "storm --every x",
        ] {
            assert!(plan(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_become_a_plan() {
        let plan =
            fanout_plan("--groups 1000 --subscribers 45 --in-flight 16 --seconds 5 --threads 2")
                .unwrap();
        assert_eq!(plan.setup.sources, 3);
        assert_eq!(
            (plan.subscribers_of(0), plan.subscribers_of(1)),
            (23_000, 22_000)
        );
        let default = fanout_plan("").unwrap();
        assert!(matches!(default.pace, Pace::InFlight(IN_FLIGHT)));
    }

    #[test]
    fn wrong_flags_are_refused() {
        let base = "--groups 10 --subscribers 10 --seconds 5";
        let wrong = [
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
            assert!(fanout_plan(&format!("{base} {flags}")).is_err(), "{flags}");
        }
        assert!(
            fanout_plan(&format!(
                "{base} --in-flight 1 --stream ws://192.0.2.1:80 --allow-remote"
            ))
            .is_ok()
        );
    }
}
