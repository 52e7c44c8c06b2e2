//! How long things take that begin in one turn and end in another, and what the turn has counted: noted
//! here, and given to the worker's counters once a turn.
//!
//! May not read a clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::fanout::{Budget, Tally};
use crate::metrics::WorkerMetrics;
use crate::shard::Request;

use super::Subscribers;
use super::connections::Socket;

/// What is under way and is measured.
pub(super) struct Measures {
    /// Times of the fan-out are counted from here.
    began: Instant,
    /// The last request of each turn that the store has not answered, and when it was made.
    asked: VecDeque<(u64, Instant)>,
    /// What sockets have got in this turn.
    tally: Tally,
}

impl Measures {
    pub(super) fn new(began: Instant) -> Measures {
        Measures {
            began,
            asked: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// A time as the fan-out counts it.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        // From 1 on: 0 says that there is none.
        at.saturating_duration_since(self.began).as_micros() as u64 + 1
    }

    /// When that time is.
    pub(super) fn at(&self, micros: u64) -> Instant {
        self.began + Duration::from_micros(micros.saturating_sub(1))
    }

    /// The store is asked, on its own thread.
    pub(super) fn asked(&mut self, requests: &[Request], now: Instant) {
        if let Some(last) = requests.last() {
            self.asked.push_back((last.number, now));
        }
    }

    /// The store has answered the request of that number.
    pub(super) fn answered(&mut self, number: u64, now: Instant, metrics: &WorkerMetrics) {
        while let Some((last, at)) = self.asked.front()
            && *last <= number
        {
            metrics.store.note(now.saturating_duration_since(*at));
            self.asked.pop_front();
        }
    }

    /// A sweep has spent these.
    pub(super) fn note_sweep(&mut self, budgets: &[Budget]) {
        for budget in budgets {
            self.tally = self.tally.plus(budget.tally);
        }
    }
}

impl<S: Socket> Subscribers<S> {
    /// The turn ends, at that time: gives what it has counted to the worker's counters.
    pub fn count(&mut self, now: Instant) {
        let end_us = self.measures.micros(now);
        let metrics = &self.ports.shared.workers[self.ports.id.index()];
        for swept in self.fanout.take_swept() {
            let took = Duration::from_micros(end_us.saturating_sub(swept.due_us));
            metrics.delivery.note_many(took, swept.events);
        }
        let tally = std::mem::take(&mut self.measures.tally);
        if tally.writes > 0 {
            metrics.writes.add(tally.writes);
            metrics.writes_cut.add(tally.cut);
            metrics.bytes_out.add(tally.bytes);
            metrics.deliveries.add(tally.deliveries);
        }
        let events = std::mem::take(&mut self.effects.events);
        if events > 0 {
            metrics.events.add(events);
        }
        let totals = self.shard.totals();
        metrics.items.set_len(totals.items);
        metrics.item_bytes.set_len(totals.bytes);
        metrics.groups.set_len(self.shard.groups_len());
        metrics.waiting_commands.set_len(self.shard.waiting_len());
        metrics.followed_groups.set_len(self.fanout.groups_len());
        metrics
            .subscriptions
            .set_len(self.fanout.subscriptions_len());
        metrics.behind_bytes.set_len(self.fanout.held_bytes());
        metrics.blocked.set_len(self.blocked.len());
        metrics.far_behind.set_len(self.fanout.far_behind_len());
        metrics.paced.set_len(self.fanout.paced_len());
    }
}
