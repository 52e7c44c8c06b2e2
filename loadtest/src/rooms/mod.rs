//! `presence`, `connect`, `idle`, `storm`: rooms whose members come and go.
//!
//! Threads share no room, so each has its own publisher and checks alone; this file starts them,
//! measures what the server uses meanwhile, and makes one report of all. Each step ends by itself:
//! joins by `join_timeout`, the window by its length, waiting by `drain_timeout`.

mod chance;
mod crowd;
mod member;
mod report;
mod room;
mod runner;
mod script;
mod tally;

use std::time::Duration;

use crate::cost::{Cost, Memory, Sample};
use crate::error::RunError;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::Run;
use crate::scenario::{NS_PER_SECOND, Pace, Setup, Window};

pub(crate) use chance::power_law;
use runner::Runner;
use script::{Connect, Idle, Presence, Script, Storm};
use tally::Tally;

/// Items that all models together may hold: 16 bytes each.
const MODEL_ITEMS_MAX: u64 = 100_000_000;

/// Everything a run is told, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    /// Members of each.
    pub(crate) rooms: Vec<u32>,
    /// New values a second, over all rooms.
    pub(crate) updates: f64,
    pub(crate) kind: Kind,
}

/// Which scenario, and what only it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Presence {
        /// Members a second, over all rooms.
        leaves: f64,
        away: Duration,
    },
    Connect {
        pace: Pace,
    },
    Idle,
    Storm {
        every: Duration,
        after: Duration,
    },
}

/// What a run measured.
struct Outcome {
    tally: Tally,
    cost: Cost,
    memory: Memory,
    rss_after: Option<u64>,
    /// From the first connect to the last `sync` before the window.
    gathered_ns: u64,
    machine: Vec<String>,
}

impl Plan {
    pub(crate) fn members_in_all(&self) -> usize {
        self.rooms.iter().map(|members| *members as usize).sum()
    }

    /// How many rooms thread `thread` has.
    fn rooms_of(&self, thread: usize) -> usize {
        (self.rooms.len() + self.setup.threads - 1 - thread) / self.setup.threads
    }

    fn group_of(&self, thread: usize, room: usize) -> u32 {
        (room * self.setup.threads + thread) as u32
    }

    /// The place of `group` among the rooms of its thread.
    fn room_of(&self, group: u32) -> usize {
        group as usize / self.setup.threads
    }

    /// Connections of one thread between connect and `sync`.
    fn at_once(&self) -> usize {
        self.setup.handshakes.div_ceil(self.setup.threads)
    }

    fn script(&self, thread: usize) -> Box<dyn Script + Send> {
        let threads = self.setup.threads as f64;
        let updates = self.updates / threads;
        let members = (0..self.rooms_of(thread))
            .map(|room| self.rooms[self.group_of(thread, room) as usize] as usize)
            .sum();
        match self.kind {
            Kind::Presence { leaves, away } => {
                let seed = thread as u64;
                Box::new(Presence::new(updates, leaves / threads, away, seed))
            }
            Kind::Connect { pace } => {
                let pace = match pace {
                    Pace::InFlight(most) => Pace::InFlight(most.div_ceil(threads as u64)),
                    Pace::Rate(rate) => Pace::Rate(rate / threads),
                };
                Box::new(Connect::new(pace, updates, members))
            }
            Kind::Idle => Box::new(Idle),
            Kind::Storm { every, after } => {
                Box::new(Storm::new(every, after, self.at_once(), updates))
            }
        }
    }
}

/// Runs the scenario from connecting to judging.
pub(crate) fn run(plan: &Plan) -> Result<Report, RunError> {
    let setup = &plan.setup;
    let squares = plan.rooms.iter().map(|members| u64::from(*members).pow(2));
    let items: u64 = squares.sum();
    if items > MODEL_ITEMS_MAX {
        let members = plan.members_in_all() as u64;
        return Err(RunError::TooLarge(items / members, members));
    }
    let connections = plan.members_in_all() + setup.publishers * (setup.threads - 1);
    let run = Run::prepare(setup, connections)?;
    let mut runners = (0..setup.threads)
        .map(|index| Runner::new(plan, &run.shared, run.clock, index))
        .collect::<Result<Vec<Runner<'_>>, RunError>>()?;

    let before = run.meter.rss_bytes();
    let began_ns = run.clock.now_ns();
    run.join_on_threads(plan.members_in_all(), &mut runners, Runner::gather)?;
    let gathered_ns = run.clock.now_ns() - began_ns;
    let joined = run.meter.rss_bytes();

    let window = run.window(setup);
    let progress = Progress::window(setup);
    let mut watch = Watch::new(&run, window);
    run.on_threads(
        &mut runners,
        || {
            watch.look();
            progress.show_for(&run.shared, watch.next_look());
        },
        |runner| runner.run(window),
    )?;
    drop(progress);
    let (cost, rss_after) = watch.finish();
    let mut tally = Tally::new(setup.seconds);
    for runner in runners {
        tally.merge(runner.finish());
    }
    Ok(Outcome {
        tally,
        cost,
        memory: Memory { before, joined },
        rss_after,
        gathered_ns,
        machine: run.notes().into_iter().chain(cost.notes()).collect(),
    }
    .report(plan))
}

/// Looks at the processes when the window opens and when it closes.
struct Watch<'a> {
    run: &'a Run,
    window: Window,
    start: Option<(u64, Sample)>,
    end: Option<(u64, Sample)>,
    rss_after: Option<u64>,
}

impl<'a> Watch<'a> {
    fn new(run: &'a Run, window: Window) -> Self {
        Self {
            run,
            window,
            start: None,
            end: None,
            rss_after: None,
        }
    }

    fn look(&mut self) {
        let now_ns = self.run.clock.now_ns();
        if self.start.is_none() && now_ns >= self.window.start_ns {
            self.start = Some((now_ns, self.run.meter.sample()));
        }
        if self.end.is_none() && now_ns >= self.window.end_ns {
            self.end = Some((now_ns, self.run.meter.sample()));
            self.rss_after = self.run.meter.rss_bytes();
        }
    }

    /// How long nothing has to be looked at.
    fn next_look(&self) -> Duration {
        let now_ns = self.run.clock.now_ns();
        let next_ns = match (&self.start, &self.end) {
            (None, _) => self.window.start_ns,
            (_, None) => self.window.end_ns,
            _ => now_ns + NS_PER_SECOND,
        };
        Duration::from_nanos(next_ns.saturating_sub(now_ns))
    }

    fn finish(self) -> (Cost, Option<u64>) {
        let cost = match (&self.start, &self.end) {
            (Some((start_ns, start)), Some((end_ns, end))) => {
                let seconds = (end_ns - start_ns) as f64 / NS_PER_SECOND as f64;
                Cost::between(start, end, seconds)
            }
            _ => Cost::default(),
        };
        (cost, self.rss_after)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use std::thread;

    use super::*;
    use crate::scenario::tests::short;
    use crate::test_server::{Planted, serve};

    /// Cases at a time: more would wait for each other's cores.
    const AT_A_TIME: usize = 4;
    const PRESENCE: Kind = Kind::Presence {
        leaves: 20.0,
        away: Duration::from_millis(50),
    };
    const CONNECT: Kind = Kind::Connect {
        pace: Pace::InFlight(3),
    };
    const STORM: Kind = Kind::Storm {
        every: Duration::from_millis(300),
        after: Duration::from_millis(20),
    };

    fn run_against(planted: Planted, kind: Kind, threads: usize) -> Report {
        let ports = serve(planted);
        let ports = (ports.engine, ports.stream);
        let plan = Plan {
            setup: short(ports, threads),
            rooms: power_law(12, 3, 1.0),
            updates: 40.0,
            kind,
        };
        run(&plan).unwrap()
    }

    #[test]
    fn good_server_passes_in_every_scenario_and_on_several_threads() {
        let by_rate = Kind::Connect {
            pace: Pace::Rate(50.0),
        };
        for kind in [PRESENCE, CONNECT, by_rate, Kind::Idle, STORM] {
            thread::scope(|scope| {
                for threads in [1, 2] {
                    scope.spawn(move || {
                        let report = run_against(Planted::Nothing, kind, threads);
                        assert!(report.is_clean(), "{kind:?} {threads}: {report}");
                    });
                }
            });
        }
    }

    #[test]
    fn planted_faults_are_found_while_members_come_and_go() {
        let faults = [
            (Planted::Drops(30), PRESENCE, "never came"),
            (Planted::Repeats(30), PRESENCE, "came again"),
            (Planted::Alters(30), PRESENCE, "was not published so"),
            (Planted::GoesBack(30), PRESENCE, "has an earlier time"),
            (Planted::SpeaksBeforeSync, STORM, "came before the sync"),
            (Planted::AltersSync, STORM, "the sync holds item 0 as never"),
            (Planted::CutsSyncShort, STORM, "its sync"),
            (Planted::CutsSyncShort, CONNECT, "its sync"),
            (Planted::ListsAnOldValue, STORM, "stream::list has sequence"),
            (Planted::Drops(1), Kind::Idle, "sequence 0 never came"),
        ];
        for some in faults.chunks(AT_A_TIME) {
            thread::scope(|scope| {
                for (planted, kind, words) in some {
                    scope.spawn(move || {
                        let report = run_against(*planted, *kind, 1);
                        assert!(!report.is_clean(), "{planted:?} {kind:?}");
                        let told = report.to_string();
                        assert!(told.contains(words), "{planted:?} {kind:?}: {told}");
                    });
                }
            });
        }
    }
}
