//! The store: whether it takes writes, how far it is behind, and how long it takes.

use std::fmt;

use super::Scrape;
use super::families::{Families, one};

impl Scrape {
    pub(super) fn store(&self, out: &mut Families<'_>) -> fmt::Result {
        let store = &self.shared.store;
        out.gauge(
            "store_up",
            "Whether the store is reached and takes writes",
            &one(u64::from(!store.is_down.is_set())),
        )?;
        let refuses = self.by_worker(|w| u64::from(w.store_refuses.is_set()));
        out.gauge(
            "store_refusing",
            "Whether the store has refused the latest write of a shard",
            &refuses,
        )?;
        out.counter(
            "store_refusals",
            "Requests that the store has refused",
            &self.by_worker(|w| w.store_refusals.get()),
        )?;
        let lag = [(Vec::new(), store.lag_ms.get() as f64 / 1000.0)];
        out.gauge_f64(
            "store_lag_seconds",
            "How long the oldest write waits for the disk, or the oldest command for Redis",
            &lag,
        )?;
        out.gauge(
            "store_waiting_commands",
            "Commands that wait for the store",
            &self.by_worker(|w| w.waiting_commands.get()),
        )?;
        out.counter(
            "store_written_bytes",
            "Bytes appended to files",
            &one(store.bytes_written.get()),
        )?;
        out.histogram(
            "store_seconds",
            "How long the store took to answer a turn's requests",
            self.figures.times[2],
        )?;
        out.histogram(
            "fsync_seconds",
            "How long the disk took to sync",
            self.figures.times[3],
        )?;
        out.histogram(
            "redis_seconds",
            "How long Redis took to answer a command",
            self.figures.times[4],
        )
    }
}
