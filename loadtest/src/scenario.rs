//! What every scenario is told and shares: targets, times, the window.
//!
//! `fanout` and `rooms` hold the scenarios themselves. May not touch a socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::error::RunError;
use crate::limits::Needs;
use crate::proc::Process;
use crate::target::Target;

pub(crate) const NS_PER_SECOND: u64 = 1_000_000_000;

/// What a run of any scenario is told, checked.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) engine: Target,
    pub(crate) stream: Target,
    pub(crate) warmup: Duration,
    pub(crate) seconds: u32,
    pub(crate) value_bytes: usize,
    pub(crate) publishers: usize,
    pub(crate) threads: usize,
    pub(crate) sources: u8,
    pub(crate) handshakes: usize,
    pub(crate) join_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) stream_name: String,
    pub(crate) order: Order,
    /// A delivery that takes longer is a fault.
    pub(crate) late: Duration,
    /// Whether the groups are listed at the end and compared.
    pub(crate) audits: bool,
    pub(crate) pid: Option<u32>,
    /// Where the server's own counters are.
    pub(crate) admin: Option<SocketAddr>,
    /// Marks what this run publishes.
    pub(crate) run: u32,
}

/// Which order of a group's events is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// That in which one socket sent the calls: an embedded endpoint keeps it.
    Sent,
    /// That in which the server applied them, seen by times that never fall: all that can be asked
    /// where an engine in between may swap calls.
    Applied,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Closed loop: this many under way.
    InFlight(u64),
    /// So many a second, at fixed times.
    Rate(f64),
}

impl Setup {
    pub(crate) fn needs(&self, connections: usize) -> Needs {
        Needs {
            connections: connections + self.publishers,
            sources: self.sources,
            handshakes: self.handshakes,
            threads: self.threads,
            is_local: self.stream.is_loopback(),
        }
    }

    /// Whether `--pid` can be looked at.
    pub(crate) fn check_process(&self) -> Result<(), RunError> {
        match self.pid {
            Some(pid) if Process::new(pid).usage().is_none() => Err(RunError::NoProcess(pid)),
            _ => Ok(()),
        }
    }

    /// For the report.
    pub(crate) fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("seconds", json!(self.seconds)),
            ("warmup_seconds", json!(self.warmup.as_secs_f64())),
            ("value_bytes", json!(self.value_bytes)),
            ("publishers", json!(self.publishers)),
            ("threads", json!(self.threads)),
            ("sources", json!(self.sources)),
            ("engine", json!(self.engine.host)),
            ("stream", json!(self.stream.host)),
        ]
    }
}

/// Differs from that of runs before, whose values a server may still hold.
pub(crate) fn new_run() -> u32 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (since.as_micros() as u32) ^ std::process::id().rotate_left(16)
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
    /// Warm-up and window from `now_ns` on.
    pub(crate) fn from(now_ns: u64, setup: &Setup) -> Self {
        let start_ns = now_ns + setup.warmup.as_nanos() as u64;
        Self {
            begin_ns: now_ns,
            start_ns,
            end_ns: start_ns + u64::from(setup.seconds) * NS_PER_SECOND,
        }
    }

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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::stamp::VALUE_BYTES_MIN;

    /// A run of one second, against a server with these ports for SDK workers and subscribers.
    pub(crate) fn short((engine, stream): (SocketAddr, SocketAddr), threads: usize) -> Setup {
        Setup {
            engine: Target::at(engine),
            stream: Target::at(stream),
            warmup: Duration::from_millis(100),
            seconds: 1,
            value_bytes: VALUE_BYTES_MIN + 10,
            publishers: 1,
            threads,
            sources: 2,
            handshakes: 5,
            join_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_millis(1_500),
            stream_name: "load".to_owned(),
            order: Order::Sent,
            late: Duration::from_secs(10),
            audits: true,
            pid: None,
            admin: None,
            run: new_run(),
        }
    }

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
