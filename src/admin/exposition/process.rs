//! The process itself: whether it is ready, what it holds, its certificates, and its threads.

use std::fmt;
use std::sync::atomic::Ordering;

use super::Scrape;
use super::families::{Families, Label, one};

impl Scrape {
    pub(super) fn process(&self, out: &mut Families<'_>) -> fmt::Result {
        let uptime = self.figures.at.saturating_duration_since(self.began);
        out.gauge("uptime_seconds", "Since the start", &one(uptime.as_secs()))?;
        let not_ready = self.shared.not_ready(self.now_ms);
        out.gauge(
            "ready",
            "Whether somebody new may be sent here",
            &one(u64::from(not_ready.is_none())),
        )?;
        let draining = self.shared.draining.load(Ordering::Acquire);
        out.gauge(
            "draining",
            "Whether the process is about to end",
            &one(u64::from(draining)),
        )?;
        out.gauge("open_files", "Open files", &one(self.value("open_files")))?;
        out.gauge(
            "open_files_max",
            "Sockets that may be open, with those of files kept for the store taken off",
            &one(self.shared.room.all as u64),
        )?;
        out.gauge(
            "resident_memory_bytes",
            "Memory in use",
            &one(self.value("resident_bytes")),
        )
    }

    /// Nothing where no port is under TLS.
    pub(super) fn tls(&self, out: &mut Families<'_>) -> fmt::Result {
        if self.certificates.is_empty() {
            return Ok(());
        }
        let of_port = |port: &str| vec![("port", port.to_owned())];
        let ends = self.certificates.iter();
        let ends: Vec<_> = ends.map(|(port, end)| (of_port(port), *end)).collect();
        out.gauge(
            "certificate_not_after_seconds",
            "When the certificate of a port counts no more, in seconds since 1970",
            &ends,
        )?;
        let refused = self.certificates.iter().map(|(port, _)| {
            let count = match *port {
                "worker" => self.shared.engine.tls_refused.get(),
                _ => self.sum(|w| w.tls_refused.get()),
            };
            (of_port(port), count)
        });
        let refused: Vec<_> = refused.collect();
        out.counter(
            "tls_refused",
            "Sockets whose handshake of TLS has failed",
            &refused,
        )
    }

    pub(super) fn threads(&self, out: &mut Families<'_>) -> fmt::Result {
        let shared = &self.shared;
        let named = |name: &str, value: u64| (vec![("worker", name.to_owned())], value);
        let mut turns = self.by_worker(|w| w.loop_turns.len());
        turns.push(named("engine", shared.engine.loop_turns.len()));
        turns.push(named("store", shared.store.loop_turns.len()));
        out.counter("turns", "Turns of the loops of threads", &turns)?;
        let mut longest: Vec<(Vec<Label>, f64)> = Vec::new();
        for (worker, metrics) in shared.workers.iter().enumerate() {
            longest.push((
                vec![("worker", worker.to_string())],
                metrics.loop_turns.longest().as_secs_f64(),
            ));
        }
        for (name, turns) in [
            ("engine", &shared.engine.loop_turns),
            ("store", &shared.store.loop_turns),
        ] {
            longest.push((
                vec![("worker", name.to_owned())],
                turns.longest().as_secs_f64(),
            ));
        }
        out.gauge_f64(
            "turn_longest_seconds",
            "The longest turn since the start",
            &longest,
        )?;
        out.histogram(
            "turn_seconds",
            "How long turns took, of all threads",
            self.figures.times[5],
        )?;
        let mut depth = self.by_worker(|w| w.open_mailbox.get() + w.command_mailbox.get());
        depth.push(named("engine", shared.engine.mailbox.get()));
        depth.push(named("store", shared.store.mailbox.get()));
        out.gauge(
            "mailbox_depth",
            "Messages in the mailboxes when a turn began",
            &depth,
        )?;
        let known = ["engine", "store", "admin", "sync"];
        let cpu = self.figures.threads.iter().filter_map(|thread| {
            let worker = thread.name.strip_prefix("worker-");
            let name = worker.or_else(|| known.contains(&&*thread.name).then_some(&thread.name))?;
            Some((
                vec![("worker", name.to_owned())],
                thread.cpu_ns as f64 / 1e9,
            ))
        });
        let cpu: Vec<_> = cpu.collect();
        out.counter_f64("cpu_seconds", "Time on a core, by thread", &cpu)
    }
}
