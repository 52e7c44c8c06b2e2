//! Counters, each written by one thread and summed only when somebody reads them.
//!
//! Uses nothing of ours. A counter costs its thread one plain addition.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

/// What one worker counts.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// Messages from subscribers that were ignored, as the protocol asks.
    pub messages_ignored: Counter,
    /// Joins answered `unauthorized` because of a limit.
    pub joins_refused: Counter,
    /// Joins answered `unauthorized` because a function said so.
    pub joins_unauthorized: Counter,
    /// Upgrades answered with 503 because of `limits.connections`.
    pub connections_refused: Counter,
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
    /// Sockets closed with 1013 because they were too far behind.
    pub slow_readers_closed: Counter,
    /// The furthest that a group's time has run ahead of the clock, in ms.
    pub time_ahead_ms: Counter,
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
}
