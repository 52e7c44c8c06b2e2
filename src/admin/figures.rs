//! Every counter of the process at one moment: the series that rings, overview and `top` show.
//!
//! Reads atomics and asks nobody.

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::mesh::Shared;
use crate::metrics::{CallOutcome, Closed, Distribution, FUNCTIONS, WorkerMetrics};

use super::machine::{Machine, ThreadTime};

/// What a series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// How much there is.
    Level,
    /// How often it has been: it only rises.
    Count,
}

/// The series, in the order of [`Figures::values`].
pub(super) const SERIES: [(&str, Kind); 46] = [
    ("connections", Kind::Level),
    ("sdk_sockets", Kind::Level),
    ("subscriptions", Kind::Level),
    ("groups", Kind::Level),
    ("followed_groups", Kind::Level),
    ("items", Kind::Level),
    ("item_bytes", Kind::Level),
    ("behind_bytes", Kind::Level),
    ("blocked", Kind::Level),
    ("far_behind", Kind::Level),
    ("owed_leaves", Kind::Level),
    ("open_mailbox", Kind::Level),
    ("command_mailbox", Kind::Level),
    ("engine_mailbox", Kind::Level),
    ("store_mailbox", Kind::Level),
    ("waiting_commands", Kind::Level),
    ("calls_in_flight", Kind::Level),
    ("time_ahead_ms", Kind::Level),
    ("store_lag_ms", Kind::Level),
    ("open_files", Kind::Level),
    ("resident_bytes", Kind::Level),
    ("events", Kind::Count),
    ("deliveries", Kind::Count),
    ("bytes_out", Kind::Count),
    ("writes", Kind::Count),
    ("writes_cut", Kind::Count),
    ("opened", Kind::Count),
    ("closed", Kind::Count),
    ("slow", Kind::Count),
    ("stalled", Kind::Count),
    ("custom_events_dropped", Kind::Count),
    ("joins", Kind::Count),
    ("joins_refused", Kind::Count),
    ("connections_refused", Kind::Count),
    ("origins_refused", Kind::Count),
    ("auth_refused", Kind::Count),
    ("messages_ignored", Kind::Count),
    ("calls", Kind::Count),
    ("calls_failed", Kind::Count),
    ("calls_refused", Kind::Count),
    ("trigger_calls", Kind::Count),
    ("trigger_calls_dropped", Kind::Count),
    ("store_refusals", Kind::Count),
    ("store_bytes", Kind::Count),
    ("turns", Kind::Count),
    ("commands_refused", Kind::Count),
];

/// What is measured, in the order of [`Figures::times`].
pub(super) const TIMES: [&str; 7] = [
    "delivery", "call", "store", "fsync", "redis", "turn", "join",
];

/// All of it at one moment.
pub(super) struct Figures {
    pub(super) at: Instant,
    pub(super) values: [u64; SERIES.len()],
    pub(super) times: [Distribution; TIMES.len()],
    pub(super) threads: Vec<ThreadTime>,
}

impl Figures {
    pub(super) fn read(shared: &Shared, machine: &mut Machine, now: Instant) -> Figures {
        let sum = |of: fn(&WorkerMetrics) -> u64| -> u64 { shared.workers.iter().map(of).sum() };
        let (engine, store) = (&shared.engine, &shared.store);
        let calls_of = |outcome: CallOutcome| -> u64 {
            (0..FUNCTIONS)
                .map(|function| engine.calls_of(function, outcome))
                .sum()
        };
        let time_ahead = shared
            .workers
            .iter()
            .map(|worker| worker.time_ahead_ms.get())
            .max();
        let turns = sum(|worker| worker.loop_turns.len());
        let turns = turns + engine.loop_turns.len() + store.loop_turns.len();
        let failed = calls_of(CallOutcome::Failed);
        let values = [
            shared.connections_len() as u64,
            shared.sdk_sockets.load(Ordering::Relaxed) as u64,
            sum(|worker| worker.subscriptions.get()),
            sum(|worker| worker.groups.get()),
            sum(|worker| worker.followed_groups.get()),
            sum(|worker| worker.items.get()),
            sum(|worker| worker.item_bytes.get()),
            sum(|worker| worker.behind_bytes.get()),
            sum(|worker| worker.blocked.get()),
            sum(|worker| worker.far_behind.get()),
            shared.owed_len() as u64,
            sum(|worker| worker.open_mailbox.get()),
            sum(|worker| worker.command_mailbox.get()),
            engine.mailbox.get(),
            store.mailbox.get(),
            sum(|worker| worker.waiting_commands.get()),
            engine.calls_in_flight.get(),
            time_ahead.unwrap_or(0),
            store.lag_ms.get(),
            machine.open_files(now) as u64,
            machine.resident_bytes(),
            sum(|worker| worker.events.get()),
            sum(|worker| worker.deliveries.get()),
            sum(|worker| worker.bytes_out.get()),
            sum(|worker| worker.writes.get()),
            sum(|worker| worker.writes_cut.get()),
            sum(|worker| worker.opened.get()),
            sum(|worker| worker.closed.iter().map(|closed| closed.get()).sum()),
            sum(|worker| worker.closed.of(Closed::Behind as usize).get()),
            sum(|worker| worker.closed.of(Closed::Stalled as usize).get()),
            sum(|worker| worker.custom_events_dropped.get()),
            sum(|worker| worker.joins.get()),
            sum(|worker| worker.joins_refused.get() + worker.joins_unauthorized.get()),
            sum(|worker| worker.connections_refused.get()) + engine.connections_refused.get(),
            sum(|worker| worker.origins_refused.get()) + engine.origins_refused.get(),
            sum(auth_refused),
            sum(|worker| worker.messages_ignored.get()),
            calls_of(CallOutcome::Done) + calls_of(CallOutcome::Void) + failed,
            failed,
            engine.calls_refused.get(),
            engine.trigger_calls.get(),
            engine.trigger_calls_dropped.get(),
            sum(|worker| worker.store_refusals.get()),
            store.bytes_written.get(),
            turns,
            sum(|worker| worker.commands_refused.get() + worker.calls_out_of_memory.get()),
        ];
        let all = |of: fn(&WorkerMetrics) -> Distribution| {
            let workers = shared.workers.iter().map(of);
            workers.fold(Distribution::default(), |sum, more| sum.plus(&more))
        };
        let turns = all(|worker| worker.loop_turns.read());
        let turns = turns.plus(&engine.loop_turns.read());
        let times = [
            all(|worker| worker.delivery.read()),
            engine.call.read(),
            all(|worker| worker.store.read()),
            store.fsync.read(),
            store.redis.read(),
            turns.plus(&store.loop_turns.read()),
            all(|worker| worker.join.read()),
        ];
        Figures {
            at: now,
            values,
            times,
            threads: machine.threads(),
        }
    }
}

pub(super) fn auth_refused(worker: &WorkerMetrics) -> u64 {
    worker.auth_unauthorized.get()
        + worker.auth_unavailable.get()
        + worker.auth_unasked.get()
        + worker.auth_overdue.get()
}
