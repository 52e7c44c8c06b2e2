//! The command line: its scenarios, and the run that each becomes.
//!
//! Every flag has a default, so a scenario's name alone is a whole command.

mod common;
mod fanout;
mod others;
mod rooms;

use clap::{Parser, Subcommand};

use crate::error::RunError;
use crate::report::Report;
use crate::scenario::{Setup, new_run};

use common::Common;
pub(crate) use common::{Against, Output};
use fanout::Fanout;
pub(crate) use others::{Ceiling, Plot};
use rooms::{Connect, Idle, Presence, Storm};

/// Drives a stream server and checks what subscribers hear.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Load(Box<Scenario>),
    /// What this program itself can take: messages a second that one of its threads reads and checks.
    Ceiling(Ceiling),
    /// Draw how figures grow from JSON files: sweeps as lines, or runs of several servers as points.
    Plot(Plot),
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

/// A run of any scenario.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Fanout(crate::plan::Plan),
    Rooms(crate::rooms::Plan),
    Members(crate::members::Plan),
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
            Self::Presence(presence) if presence.members_by_server => {
                presence.members_plan().map(Plan::Members)
            }
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
            Self::Members(plan) => &mut plan.setup,
        }
    }

    pub(crate) fn run(&self) -> Result<Report, RunError> {
        match self {
            Self::Fanout(plan) => crate::fanout::run(plan),
            Self::Rooms(plan) => crate::rooms::run(plan),
            Self::Members(plan) => crate::members::run(plan),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::scenario::Pace;

    fn plan(flags: &str) -> Result<Plan, String> {
        let all = format!("loadtest {flags}");
        let words = all.split_ascii_whitespace();
        let arguments = Arguments::try_parse_from(words).map_err(|e| e.to_string())?;
        scenario(arguments).plan()
    }

    fn scenario(arguments: Arguments) -> Scenario {
        match arguments.command {
            Command::Load(scenario) => *scenario,
            _ => unreachable!("a scenario is asked for"),
        }
    }

    fn fanout_plan(flags: &str) -> Result<crate::plan::Plan, String> {
        match plan(&format!("fanout {flags}"))? {
            Plan::Fanout(plan) => Ok(plan),
            Plan::Rooms(_) | Plan::Members(_) => Err("another scenario".to_owned()),
        }
    }

    #[test]
    fn the_second_server_gets_the_same_load() {
        let words = "loadtest presence --pid 1 --against ws://127.0.0.1:1 ws://127.0.0.1:2 --against-pid 2 --names a b";
        let scenario = scenario(Arguments::try_parse_from(words.split(' ')).unwrap());
        let against = scenario.common().against().unwrap().unwrap();
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
            "presence --members-by-server --client-threads 2",
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
        assert_eq!(plan.setup.sources, 23);
        assert_eq!(
            (plan.subscribers_of(0), plan.subscribers_of(1)),
            (23_000, 22_000)
        );
        let many = fanout_plan("--groups 100000 --subscribers 10 --connections 1005").unwrap();
        assert_eq!(
            (many.connections_in_all(), many.subscribers_in_all()),
            (1_000, 1_000_000)
        );
        let few = fanout_plan("--groups 10 --subscribers 10 --connections 1000").unwrap();
        assert_eq!(few.connections_in_all(), 100);
        let default = fanout_plan("").unwrap();
        assert!(matches!(default.pace, Pace::InFlight(8)));
    }

    #[test]
    fn a_sweep_is_a_plan_for_each_size() {
        let plans = |flags: &str| {
            let all = format!("loadtest fanout {flags}");
            let words = all.split_ascii_whitespace();
            let arguments = Arguments::try_parse_from(words).map_err(|e| e.to_string())?;
            let Scenario::Fanout(fanout) = scenario(arguments) else {
                return Err("another scenario".to_owned());
            };
            fanout.plans(fanout.sweep.as_ref().unwrap())
        };
        let groups = plans("--sweep groups=1,100000 --subscribers 1 --connections 1000").unwrap();
        assert_eq!((groups[1].0, groups[1].1.groups), (100_000, 100_000));
        assert_eq!(groups[1].1.connections_in_all(), 1_000);
        let bytes = plans("--sweep bytes=64,262144").unwrap();
        assert_eq!(bytes[1].1.setup.value_bytes, 256 * 1024);
        for wrong in [
            "--sweep bytes=63",
            "--sweep groups=0",
            "--sweep subscribers=1,2 --threads 2",
            "--sweep groups=1 --against ws://127.0.0.1:1 ws://127.0.0.1:2",
        ] {
            assert!(plans(wrong).is_err(), "{wrong}");
        }
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
            "--in-flight 1 --connections 9",
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
