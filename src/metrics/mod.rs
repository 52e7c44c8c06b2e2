//! Counters, each written by one thread and summed only when somebody reads them.
//!
//! Uses nothing of ours. A counter costs its thread one plain addition; what comes often in a turn is
//! summed by who does it, and added once.

mod histogram;

pub use histogram::{BOUNDS_US, BUCKETS, Distribution, Histogram};

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

/// A number that one thread sets: how much there is now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// It is so much now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The same of a length.
    pub fn set_len(&self, len: usize) {
        self.set(len as u64);
    }

    /// What it is now.
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
    histogram: Histogram,
    /// All of them.
    len: Counter,
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
        self.histogram.note(took);
        self.len.increment();
    }

    /// How many there were.
    pub fn len(&self) -> u64 {
        self.len.get()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long they took, in the buckets of all histograms.
    pub fn read(&self) -> Distribution {
        self.histogram.read()
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
            histogram: Histogram::default(),
            len: Counter::default(),
        }
    }
}

/// Why the server, or its peer, has ended a subscriber's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The client has said that it goes.
    Client,
    /// It went without a word: its process has ended, or its network.
    Gone,
    /// It was further behind than it may be.
    Behind,
    /// It has taken nothing for too long.
    Stalled,
    /// It did not answer pings.
    Silent,
    /// Its message was too large.
    TooLarge,
    /// What it sent was no WebSocket, or no text.
    Protocol,
    /// The server ends.
    Ending,
    /// Something else.
    Other,
}

impl Closed {
    /// All of them, in the order of their numbers.
    pub const ALL: [Closed; 9] = [
        Closed::Client,
        Closed::Gone,
        Closed::Behind,
        Closed::Stalled,
        Closed::Silent,
        Closed::TooLarge,
        Closed::Protocol,
        Closed::Ending,
        Closed::Other,
    ];

    /// As labels and queries name it.
    pub fn name(self) -> &'static str {
        match self {
            Closed::Client => "client",
            Closed::Gone => "gone",
            Closed::Behind => "behind",
            Closed::Stalled => "stalled",
            Closed::Silent => "silent",
            Closed::TooLarge => "too_large",
            Closed::Protocol => "protocol",
            Closed::Ending => "ending",
            Closed::Other => "other",
        }
    }
}

/// A counter for each of several kinds.
#[derive(Debug)]
pub struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Counters(array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Counters<N> {
    /// The one of that kind.
    pub fn of(&self, kind: usize) -> &Counter {
        &self.0[kind.min(N - 1)]
    }

    /// All of them, by kind.
    pub fn iter(&self) -> impl Iterator<Item = &Counter> {
        self.0.iter()
    }
}

/// What one worker counts. No other thread's counters stand in its lines of the cache.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Events of the groups that it owns, whether anybody follows them or not.
    pub events: Counter,
    /// Frames of events that its sockets have taken whole.
    pub deliveries: Counter,
    /// Bytes that its sockets have taken.
    pub bytes_out: Counter,
    /// Writes to its sockets.
    pub writes: Counter,
    /// Those of which a socket did not take everything.
    pub writes_cut: Counter,
    /// Sockets that were let in.
    pub opened: Counter,
    /// Those of them that have ended, by [`Closed`].
    pub closed: Counters<{ Closed::ALL.len() }>,
    /// Joins that were let in.
    pub joins: Counter,
    /// Those of them of groups that this worker owns.
    pub joins_home: Counter,
    /// Sockets that it has handed to another worker for their first group.
    pub handed_over: Counter,
    /// Messages with an event for the sockets of another worker.
    pub events_sent: Counter,
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
    /// Sockets whose handshake of TLS has failed.
    pub tls_refused: Counter,
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
    /// Custom events that readers too far behind have lost: `limits.custom_events_behind`.
    pub custom_events_dropped: Counter,
    /// Sockets closed with 1013 because they took nothing of what they held up.
    pub slow_readers_closed: Counter,
    /// Subscriptions without membership: nobody says who the person is.
    pub members_without_id: Counter,
    /// The same, for the group has `limits.members_per_group` already.
    pub members_refused: Counter,
    /// Items deleted since nobody has written them for so long.
    pub items_expired: Counter,
    /// The furthest that a group's time has run ahead of the clock, in ms.
    pub time_ahead_ms: Counter,
    /// How long its turns took.
    pub loop_turns: LoopTurns,
    /// How long it took from when the owner let an event go until the last socket here was written to
    /// that takes bytes at all.
    pub delivery: Histogram,
    /// How long joins took, from when they came until their `sync` was queued.
    pub join: Histogram,
    /// How long the store took to answer what its shard asked.
    pub store: Histogram,
    /// Requests that the store has refused.
    pub store_refusals: Counter,
    /// The store has refused its latest write.
    pub store_refuses: Flag,
    /// When it last did, in ms since 1970.
    pub store_refused_ms: Gauge,
    /// Subscriptions of its sockets.
    pub subscriptions: Gauge,
    /// Groups that it owns.
    pub groups: Gauge,
    /// Groups that its sockets follow.
    pub followed_groups: Gauge,
    /// Items of the groups that it owns.
    pub items: Gauge,
    /// What these hold: names and values.
    pub item_bytes: Gauge,
    /// Events that somebody here still lacks.
    pub behind_bytes: Gauge,
    /// Sockets that take no bytes now.
    pub blocked: Gauge,
    /// Sockets that are further behind than they may be, and are brought up to date by item.
    pub far_behind: Gauge,
    /// Subscriptions with a pace.
    pub paced: Gauge,
    /// Messages in its open mailbox when its turn began.
    pub open_mailbox: Gauge,
    /// The same of its command mailbox.
    pub command_mailbox: Gauge,
    /// Commands that wait for the store.
    pub waiting_commands: Gauge,
}

/// How a call of a function has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// With a result.
    Done,
    /// With an error.
    Failed,
    /// Nobody waits for it.
    Void,
}

impl CallOutcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [CallOutcome; 3] = [CallOutcome::Done, CallOutcome::Failed, CallOutcome::Void];

    /// As a label names it.
    pub fn name(self) -> &'static str {
        match self {
            CallOutcome::Done => "ok",
            CallOutcome::Failed => "error",
            CallOutcome::Void => "void",
        }
    }
}

/// The eight functions of streams, and one for all others.
pub const FUNCTIONS: usize = 9;

/// What the engine thread counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EngineMetrics {
    /// Messages from SDK workers that could not be read.
    pub messages_dropped: Counter,
    /// Frames of telemetry, accepted and not looked at.
    pub telemetry_frames: Counter,
    /// Upgrades answered with 503 because of `limits.worker_connections`.
    pub connections_refused: Counter,
    /// Sockets whose handshake of TLS has failed.
    pub tls_refused: Counter,
    /// Upgrades answered with 403: pages of elsewhere.
    pub origins_refused: Counter,
    /// Sockets that were ended because nothing came from them, nor after a ping.
    pub silent_closed: Counter,
    /// Sockets closed with 1013 because they took nothing for `stall_timeout_ms`.
    pub stalled_closed: Counter,
    /// Calls refused because of a limit.
    pub calls_refused: Counter,
    /// Trigger calls that were made.
    pub trigger_calls: Counter,
    /// Trigger calls dropped because too much waits for their worker.
    pub trigger_calls_dropped: Counter,
    /// Calls that found their owner's mailbox full and waited.
    pub calls_parked: Counter,
    /// Calls that have ended, by function and [`CallOutcome`].
    pub calls: Counters<{ FUNCTIONS * CallOutcome::ALL.len() }>,
    /// How long calls took for which somebody waits.
    pub call: Histogram,
    /// How long its turns took.
    pub loop_turns: LoopTurns,
    /// Calls under way.
    pub calls_in_flight: Gauge,
    /// Messages in its mailbox when its turn began.
    pub mailbox: Gauge,
}

impl EngineMetrics {
    /// A call of that function has ended so; the number is the function's among the eight, or more.
    pub fn count_call(&self, function: usize, outcome: CallOutcome) {
        let function = function.min(FUNCTIONS - 1);
        let kind = function * CallOutcome::ALL.len() + outcome as usize;
        self.calls.of(kind).increment();
    }

    /// How many calls of that function have ended so.
    pub fn calls_of(&self, function: usize, outcome: CallOutcome) -> u64 {
        let kind = function * CallOutcome::ALL.len() + outcome as usize;
        self.calls.of(kind).get()
    }
}

/// What the store thread counts, where there is one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct StoreMetrics {
    /// How long its turns took, what they wait for from a disk included.
    pub loop_turns: LoopTurns,
    /// How long the disk took to sync.
    pub fsync: Histogram,
    /// How long Redis took to answer.
    pub redis: Histogram,
    /// Bytes appended to files.
    pub bytes_written: Counter,
    /// It cannot be reached, or does not take writes.
    pub is_down: Flag,
    /// How long the oldest of what it was asked has waited, in ms.
    pub lag_ms: Gauge,
    /// Messages in its mailbox when its turn began.
    pub mailbox: Gauge,
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
