//! Sockets of subscribers: who is let in, refused and closed, what they join, and what they get.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::metrics::{Closed, WorkerMetrics};

use super::families::{Families, by_reason, one};
use super::{Count, Scrape};

impl Scrape {
    /// Who is let in, refused and closed, and who is slow.
    pub(super) fn sockets(&self, out: &mut Families<'_>) -> fmt::Result {
        let shared = &self.shared;
        let counts = shared
            .connections
            .iter()
            .enumerate()
            .map(|(worker, count)| {
                let count = count.load(Ordering::Relaxed) as u64;
                (vec![("worker", worker.to_string())], count)
            });
        let counts: Vec<_> = counts.collect();
        out.gauge(
            "connections",
            "Sockets on the stream port, in whatever phase",
            &counts,
        )?;
        let ports = [
            ("stream", shared.connections_len()),
            ("worker", shared.sdk_sockets.load(Ordering::Relaxed)),
        ];
        let ports = ports.map(|(port, len)| (vec![("port", port.to_owned())], len as u64));
        out.gauge("sockets", "Sockets by port", &ports)?;
        let per = |of: fn(&WorkerMetrics) -> u64| self.by_worker(of);
        out.gauge(
            "subscriptions",
            "Subscriptions that stand",
            &per(|w| w.subscriptions.get()),
        )?;
        out.gauge(
            "blocked_sockets",
            "Sockets that take no bytes now",
            &per(|w| w.blocked.get()),
        )?;
        out.gauge(
            "far_behind_sockets",
            "Sockets that are brought up to date by item, for they take less than comes",
            &per(|w| w.far_behind.get()),
        )?;
        out.gauge(
            "paced_subscriptions",
            "Subscriptions that are written to no more often than their pace",
            &per(|w| w.paced.get()),
        )?;
        out.gauge(
            "behind_bytes",
            "Events that somebody still lacks",
            &per(|w| w.behind_bytes.get()),
        )?;
        out.counter(
            "connections_opened",
            "Subscribers that were let in",
            &per(|w| w.opened.get()),
        )?;
        let closed = Closed::ALL.map(|reason| {
            let count = self.sum(|w| w.closed.of(reason as usize).get());
            (reason.name(), count)
        });
        let closed = by_reason(closed);
        out.counter(
            "connections_closed",
            "Subscribers that have ended, by why",
            &closed,
        )?;
        let refused: [(&str, Count); 5] = [
            ("limit", |w| w.connections_refused.get()),
            ("origin", |w| w.origins_refused.get()),
            ("unauthorized", |w| w.auth_unauthorized.get()),
            ("auth_unavailable", |w| {
                w.auth_unavailable.get() + w.auth_unasked.get() + w.auth_overdue.get()
            }),
            ("handshakes", |w| w.handshakes_ended.get()),
        ];
        let refused = by_reason(refused.map(|(reason, of)| (reason, self.sum(of))));
        out.counter(
            "upgrades_refused",
            "Upgrades on the stream port that were refused",
            &refused,
        )?;
        out.counter(
            "slow_readers",
            "Readers closed because they took nothing of a sync while too much waited for all",
            &per(|w| w.closed.of(Closed::Behind as usize).get()),
        )?;
        out.counter(
            "stalled_readers",
            "Readers that have taken nothing for too long",
            &per(|w| w.closed.of(Closed::Stalled as usize).get()),
        )?;
        out.counter(
            "custom_events_dropped",
            "Custom events that sockets too far behind have lost",
            &per(|w| w.custom_events_dropped.get()),
        )
    }

    /// What they join, and what they get.
    pub(super) fn deliveries(&self, out: &mut Families<'_>) -> fmt::Result {
        let shared = &self.shared;
        let per = |of: fn(&WorkerMetrics) -> u64| self.by_worker(of);
        out.counter("joins", "Joins that were let in", &per(|w| w.joins.get()))?;
        out.counter(
            "joins_home",
            "Joins of groups that the worker itself owns, whose events cross no threads",
            &per(|w| w.joins_home.get()),
        )?;
        out.counter(
            "sockets_handed_over",
            "Subscribers handed to another worker for their first group",
            &per(|w| w.handed_over.get()),
        )?;
        out.counter(
            "events_sent",
            "Messages with an event to the sockets of another worker",
            &per(|w| w.events_sent.get()),
        )?;
        let outcomes: [(&str, Count); 2] = [
            ("limit", |w| w.joins_refused.get()),
            ("function", |w| w.joins_unauthorized.get()),
        ];
        let outcomes = by_reason(outcomes.map(|(reason, of)| (reason, self.sum(of))));
        out.counter("joins_refused", "Joins answered unauthorized", &outcomes)?;
        out.counter(
            "messages_ignored",
            "Messages of subscribers that mean nothing",
            &per(|w| w.messages_ignored.get()),
        )?;
        out.counter(
            "deliveries",
            "Frames of events that sockets have got",
            &per(|w| w.deliveries.get()),
        )?;
        out.counter(
            "sent_bytes",
            "Bytes that sockets have taken",
            &per(|w| w.bytes_out.get()),
        )?;
        out.counter("writes", "Writes to sockets", &per(|w| w.writes.get()))?;
        out.counter(
            "writes_cut",
            "Writes of which a socket did not take everything",
            &per(|w| w.writes_cut.get()),
        )?;
        let owed = one(shared.owed_len() as u64);
        out.gauge(
            "owed_leaves",
            "Leaves that functions have still to be told of",
            &owed,
        )?;
        out.histogram(
            "delivery_seconds",
            "From when an event is accepted to the last write of it on a worker",
            self.figures.times[0],
        )?;
        out.histogram(
            "join_seconds",
            "From a join to its sync",
            self.figures.times[6],
        )
    }
}
