//! Counters, each written by one thread and summed only when somebody reads them.
//!
//! Uses nothing of ours. A counter costs its thread one plain addition.

use std::array;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A number that one thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Only the owning thread may: two would lose counts.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`. Only the owning thread may.
    pub fn add(&self, count: u64) {
        self.0.store(self.get() + count, Ordering::Relaxed);
    }

    /// Raises it to `value` if that is more. Only the owning thread may.
    pub fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Says what it is now. Only the owning thread may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What was said last.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A claim that one thread makes and takes back.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Says whether it is so.
    pub fn set(&self, is_so: bool) {
        self.0.store(is_so, Ordering::Relaxed);
    }

    /// What was said last.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long the turns of one thread's loop took: a count for each power of two of microseconds.
#[derive(Debug)]
pub struct LoopTurns {
    /// The first one counts those below 1 µs, each further one those below twice as much.
    counts: [Counter; LoopTurns::STEPS],
    longest_ns: Counter,
}

impl LoopTurns {
    /// The last step holds everything from some 8 s on.
    const STEPS: usize = 24;

    /// A turn has ended. Only the owning thread may.
    pub fn note(&self, took: Duration) {
        let micros = took.as_micros().min(u128::from(u64::MAX)) as u64;
        let step = (u64::BITS - micros.leading_zeros()) as usize;
        self.counts[step.min(LoopTurns::STEPS - 1)].increment();
        self.longest_ns
            .raise_to(took.as_nanos().min(u128::from(u64::MAX)) as u64);
    }

    /// For each step the upper bound of its turns, and how many took less than that and no less than
    /// the one before.
    pub fn steps(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bound = |step| Duration::from_micros(1_u64 << step);
        let counts = self.counts.iter().enumerate();
        counts.map(move |(step, count)| (bound(step), count.get()))
    }

    /// The longest one.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.get())
    }
}

impl Default for LoopTurns {
    fn default() -> LoopTurns {
        LoopTurns {
            counts: array::from_fn(|_| Counter::default()),
            longest_ns: Counter::default(),
        }
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// Messages from subscribers that were ignored, as the protocol asks.
    pub messages_ignored: Counter,
    /// Joins answered `unauthorized` because of a limit.
    pub joins_refused: Counter,
    /// Joins answered `unauthorized` because a function said so.
    pub joins_unauthorized: Counter,
    /// Upgrades answered with 503 because of `limits.connections` or `limits.handshakes`.
    pub connections_refused: Counter,
    /// Sockets without a whole head that were ended because of `limits.handshakes` or its bytes.
    pub handshakes_ended: Counter,
    /// Upgrades answered with 403: the page's origin is not among those allowed.
    pub origins_refused: Counter,
    /// Upgrades answered with 401: the auth function was asked and does not admit.
    pub auth_unauthorized: Counter,
    /// Upgrades answered with 503: the engine could not ask the auth function, or got no answer.
    pub auth_unavailable: Counter,
    /// Upgrades answered with 503: the engine's mailbox was full.
    pub auth_unasked: Counter,
    /// Upgrades answered with 503: no answer came within `limits.handshake_ms`.
    pub auth_overdue: Counter,
    /// Calls of streams refused because too many wait for custom functions, void ones included.
    pub commands_refused: Counter,
    /// Calls refused because there is no memory for what they would add, void ones included.
    pub calls_out_of_memory: Counter,
    /// What its items and lists take, less what the items took at the start; wrapped around below
    /// nothing. Its changes count.
    pub weighed_bytes: Gauge,
    /// Sockets closed with 1013 because they were too far behind.
    pub slow_readers_closed: Counter,
    /// The furthest that a group's time has run ahead of the clock, in ms.
    pub time_ahead_ms: Counter,
    /// How long its turns took.
    pub loop_turns: LoopTurns,
    /// The store has refused its latest write.
    pub store_refuses: Flag,
}

/// What the engine thread counts.
#[derive(Debug, Default)]
pub struct EngineMetrics {
    /// Messages from SDK workers that could not be read.
    pub messages_dropped: Counter,
    /// Frames of telemetry, accepted and not looked at.
    pub telemetry_frames: Counter,
    /// Upgrades answered with 503 because of `limits.worker_connections`.
    pub connections_refused: Counter,
    /// Upgrades answered with 403: pages of elsewhere.
    pub origins_refused: Counter,
    /// Calls refused because of a limit.
    pub calls_refused: Counter,
    /// Trigger calls dropped because too much waits for their worker.
    pub trigger_calls_dropped: Counter,
    /// Calls that found their owner's mailbox full and waited.
    pub calls_parked: Counter,
    /// How long its turns took.
    pub loop_turns: LoopTurns,
}

/// What the store thread counts, where there is one.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// How long its turns took, what they wait for from a disk included.
    pub loop_turns: LoopTurns,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_counts_in_the_step_that_holds_it() {
        let turns = LoopTurns::default();
        for nanos in [0, 999, 1_000, 1_999, 2_000, 1_000_000, u64::MAX] {
            turns.note(Duration::from_nanos(nanos));
        }
        let steps: Vec<(u128, u64)> = turns
            .steps()
            .filter(|(_, count)| *count > 0)
            .map(|(below, count)| (below.as_micros(), count))
            .collect();
        assert_eq!(steps, [(1, 2), (2, 2), (4, 1), (1024, 1), (1 << 23, 1)]);
        assert_eq!(turns.longest(), Duration::from_nanos(u64::MAX));
    }
}
