//! The scenarios: what a run consists of, in the order in which it happens.
//!
//! `fanout`: connect a publisher, note the server's memory, connect and join all subscribers, note
//! it again, publish through warm-up and window, wait for what is outstanding, judge. Each step
//! ends by itself: joins by `join_timeout`, sending by the window, waiting by `drain_timeout`.
//! The client threads (`driver`) do the work; this file only starts them. May not touch a socket.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::client::{ClientError, Clock};
use crate::driver::{CpuUsed, Driver, First};
use crate::proc::{self, Process};
use crate::publisher::Published;
use crate::report::Progress;
use crate::subscribers::Received;
use crate::target::Target;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// Descriptors besides the sockets: standard streams, polls, wakers, the timer, `/proc`.
const OTHER_FILES: u64 = 32;

/// Everything a run of `fanout` is told, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) engine: Target,
    pub(crate) stream: Target,
    pub(crate) groups: u32,
    /// Of each group.
    pub(crate) subscribers: u32,
    pub(crate) pace: Pace,
    pub(crate) warmup: Duration,
    pub(crate) seconds: u32,
    pub(crate) value_bytes: usize,
    pub(crate) void: bool,
    pub(crate) publishers: usize,
    pub(crate) threads: usize,
    pub(crate) sources: u8,
    pub(crate) handshakes: usize,
    pub(crate) join_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) stream_name: String,
    pub(crate) pid: Option<u32>,
    /// Marks what this run publishes.
    pub(crate) run: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Closed loop: this many sets under way over all groups.
    InFlight(u64),
    /// Sets a second over all groups, at fixed times.
    Rate(f64),
}

impl Plan {
    pub(crate) fn subscribers_in_all(&self) -> usize {
        self.groups as usize * self.subscribers as usize
    }

    /// Thread `thread`'s share: the same number of each group.
    pub(crate) fn subscribers_of(&self, thread: usize) -> usize {
        let of_each = (self.subscribers as usize + self.threads - 1 - thread) / self.threads;
        self.groups as usize * of_each
    }
}

/// The measured part of a run, on the run's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    /// When sending begins: the warm-up, which is checked but not measured.
    pub(crate) begin_ns: u64,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

impl Window {
    pub(crate) fn holds(&self, at_ns: u64) -> bool {
        self.start_ns <= at_ns && at_ns < self.end_ns
    }

    pub(crate) fn second_of(&self, at_ns: u64) -> Option<usize> {
        self.holds(at_ns)
            .then(|| ((at_ns - self.start_ns) / NS_PER_SECOND) as usize)
    }
}

/// What the client threads tell each other and the progress line.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) joined: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    /// Sets handed to the publisher's sockets: nothing beyond may be heard.
    pub(crate) sets: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot look at process {0}: no such process, or not allowed")]
    NoProcess(u32),
    #[error(
        "{needed} open files are needed, but the limit of this process is {limit} (ulimit -Hn)"
    )]
    OpenFiles { needed: u64, limit: u64 },
    #[error("cannot connect to {port} {host}: {cause}{}", advice.map(|a| format!(" ({a})")).unwrap_or_default())]
    Connect {
        port: &'static str,
        host: String,
        cause: ClientError,
        advice: Option<&'static str>,
    },
    #[error("{port} {host} did not finish the WebSocket upgrade within {seconds} s")]
    PublisherTimeout {
        port: &'static str,
        host: String,
        seconds: u64,
    },
    #[error(
        "no join was answered for {seconds} s: {joined} of {wanted} subscribers have their sync"
    )]
    JoinTimeout {
        seconds: u64,
        joined: usize,
        wanted: usize,
    },
    #[error("the publisher's connection ended: {0}")]
    PublisherLost(#[source] ClientError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a client thread died")]
    ThreadDied,
}

/// What a run measured; `report` turns it into figures.
pub(crate) struct Outcome {
    pub(crate) received: Received,
    pub(crate) published: Published,
    pub(crate) cpu: CpuUsed,
    pub(crate) rss_before: Option<u64>,
    pub(crate) rss_joined: Option<u64>,
}

/// Runs `fanout` from connecting to judging.
pub(crate) fn fanout(plan: &Plan) -> Result<Outcome, RunError> {
    let needed = (plan.subscribers_in_all() + plan.publishers) as u64 + OTHER_FILES;
    let limit = proc::raise_open_files();
    if needed > limit {
        return Err(RunError::OpenFiles { needed, limit });
    }
    let server = plan.pid.map(Process::new);
    if let (Some(pid), Some(server)) = (plan.pid, &server)
        && server.cpu_time().is_none()
    {
        return Err(RunError::NoProcess(pid));
    }
    let clock = Clock::start();
    let shared = Shared::default();
    let cores = core_affinity::get_core_ids().unwrap_or_default(); // before any thread is pinned

    let (reports, reported) = mpsc::channel();
    let mut drivers = Vec::new();
    for index in 0..plan.threads {
        drivers.push(Driver::new(plan, &shared, clock, index, reports.clone())?);
    }
    let waker = drivers[0].waker()?;
    let mut first = First::connect(plan, &mut drivers[0], reported, server)?;

    let rss = |first: &First| first.server().and_then(Process::rss_bytes);
    let rss_before = rss(&first);
    let pin = |index: usize| {
        // From the last core on: servers that pin begin at the first.
        if let Some(core) = cores.iter().rev().cycle().nth(index) {
            core_affinity::set_for_current(*core);
        }
    };
    let progress = Progress::joins(plan.subscribers_in_all() as u64);
    on_threads(&mut drivers, &mut first, &shared, progress, |driver, _| {
        pin(driver.index());
        driver.join_all()
    })?;
    let rss_joined = rss(&first);

    let window = window_from(clock.now_ns(), plan);
    let progress = Progress::publishing(plan);
    on_threads(
        &mut drivers,
        &mut first,
        &shared,
        progress,
        |driver, first| {
            pin(driver.index());
            match first {
                Some(first) => driver.lead(window, first),
                None => driver.follow(window, &waker),
            }
        },
    )?;

    let (published, cpu) = first.finish();
    let mut received = Received::new(plan.seconds);
    for driver in drivers {
        received.merge(driver.finish(published.sets));
    }
    Ok(Outcome {
        received,
        published,
        cpu,
        rss_before,
        rss_joined,
    })
}

fn window_from(now_ns: u64, plan: &Plan) -> Window {
    let start_ns = now_ns + plan.warmup.as_nanos() as u64;
    Window {
        begin_ns: now_ns,
        start_ns,
        end_ns: start_ns + u64::from(plan.seconds) * NS_PER_SECOND,
    }
}

/// Runs one step on every driver, each on a thread of its own, and shows how it goes. The first
/// driver is given `first`.
fn on_threads<'a>(
    drivers: &mut [Driver<'a>],
    first: &mut First,
    shared: &Shared,
    progress: Progress,
    step: impl Fn(&mut Driver<'a>, Option<&mut First>) -> Result<(), RunError> + Sync,
) -> Result<(), RunError> {
    let mut first = Some(first);
    thread::scope(|scope| {
        let step = &step;
        let start = |driver| {
            let first = first.take();
            scope.spawn(move || step(driver, first))
        };
        let handles: Vec<_> = drivers.iter_mut().map(start).collect();
        while !handles.iter().all(|handle| handle.is_finished()) {
            progress.show(shared);
        }
        let results: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
        results
            .into_iter()
            .try_for_each(|result| result.unwrap_or(Err(RunError::ThreadDied)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_has_whole_seconds_and_an_open_end() {
        let window = Window {
            begin_ns: 0,
            start_ns: NS_PER_SECOND,
            end_ns: 3 * NS_PER_SECOND,
        };
        assert_eq!(window.second_of(NS_PER_SECOND - 1), None);
        assert_eq!(window.second_of(NS_PER_SECOND), Some(0));
        assert_eq!(window.second_of(3 * NS_PER_SECOND - 1), Some(1));
        assert_eq!(window.second_of(3 * NS_PER_SECOND), None);
    }
}
