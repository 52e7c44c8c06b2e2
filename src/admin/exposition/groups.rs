//! What shards hold: groups, items, and the times that they have given out.

use std::fmt;

use crate::metrics::WorkerMetrics;

use super::families::{Families, by_reason};
use super::{Count, Scrape};

impl Scrape {
    pub(super) fn groups(&self, out: &mut Families<'_>) -> fmt::Result {
        let per = |of: fn(&WorkerMetrics) -> u64| self.by_worker(of);
        out.gauge("groups", "Groups by their owner", &per(|w| w.groups.get()))?;
        out.gauge(
            "followed_groups",
            "Groups that sockets of a worker follow",
            &per(|w| w.followed_groups.get()),
        )?;
        out.gauge(
            "items",
            "Items by the owner of their group",
            &per(|w| w.items.get()),
        )?;
        let reasons: [(&str, Count); 2] = [
            ("id", |w| w.members_without_id.get()),
            ("limit", |w| w.members_refused.get()),
        ];
        let reasons = by_reason(reasons.map(|(reason, of)| (reason, self.sum(of))));
        out.counter(
            "members_refused",
            "Subscriptions that make nobody a member of their group",
            &reasons,
        )?;
        out.counter(
            "items_expired",
            "Items deleted since nobody has written them for so long",
            &per(|w| w.items_expired.get()),
        )?;
        out.gauge(
            "item_bytes",
            "Names and values of items",
            &per(|w| w.item_bytes.get()),
        )?;
        out.counter(
            "events",
            "Events of groups, followed by somebody or not",
            &per(|w| w.events.get()),
        )?;
        let ahead = per(|w| w.time_ahead_ms.get());
        let ahead: Vec<_> = ahead
            .into_iter()
            .map(|(labels, ms)| (labels, ms as f64 / 1000.0))
            .collect();
        out.gauge_f64(
            "time_ahead_seconds",
            "The furthest that a group has run ahead of the clock",
            &ahead,
        )
    }
}
