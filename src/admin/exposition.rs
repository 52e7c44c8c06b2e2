//! `GET /metrics`: the counters as Prometheus reads them, text 0.0.4.
//!
//! Every family is there from the start, and labels never name a stream, a group, an item or a client: the
//! number of series depends on the number of workers alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use crate::mesh::Shared;
use crate::metrics::{CallOutcome, Closed, FUNCTIONS, WorkerMetrics};
use crate::protocol::function::StreamFunction;

use super::About;
use super::families::{Families, Label, one};
use super::figures::{Figures, SERIES};

/// What the answer's content type is.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// What one worker has counted.
type Count = fn(&WorkerMetrics) -> u64;

/// The process as one scrape sees it.
struct Scrape {
    shared: Arc<Shared>,
    began: Instant,
    figures: Figures,
    now_ms: u64,
    /// For each port under TLS its name, and until when its certificate counts, in seconds since 1970.
    certificates: Vec<(&'static str, u64)>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Scrape")
    }
}

/// The text of all families.
pub(super) fn text(shared: &Arc<Shared>, about: &About, figures: Figures, now_ms: u64) -> String {
    let certificates = about.certificates.iter();
    let certificates = certificates.map(|(port, offered)| (*port, offered.not_after_s()));
    let mut registry = Registry::with_prefix("iii_stream");
    registry.register_collector(Box::new(Scrape {
        shared: Arc::clone(shared),
        began: about.began,
        figures,
        now_ms,
        certificates: certificates.collect(),
    }));
    let mut out = String::with_capacity(64 * 1024);
    // A String takes everything.
    let _ = prometheus_text::encode(&mut out, &registry);
    out
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families(encoder);
        self.process(&mut families)?;
        self.tls(&mut families)?;
        self.subscribers(&mut families)?;
        self.groups(&mut families)?;
        self.calls(&mut families)?;
        self.store(&mut families)?;
        self.threads(&mut families)
    }
}

impl Scrape {
    fn value(&self, name: &str) -> u64 {
        let mut series = SERIES.iter().zip(self.figures.values);
        series
            .find(|((found, _), _)| *found == name)
            .map_or(0, |(_, value)| value)
    }

    fn by_worker(&self, of: impl Fn(&WorkerMetrics) -> u64) -> Vec<(Vec<Label>, u64)> {
        let workers = self.shared.workers.iter().enumerate();
        workers
            .map(|(worker, metrics)| (vec![("worker", worker.to_string())], of(metrics)))
            .collect()
    }

    fn process(&self, out: &mut Families<'_>) -> fmt::Result {
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
    fn tls(&self, out: &mut Families<'_>) -> fmt::Result {
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
        let workers = self.shared.workers.iter();
        let refused = self.certificates.iter().map(|(port, _)| {
            let count = match *port {
                "worker" => self.shared.engine.tls_refused.get(),
                _ => workers.clone().map(|worker| worker.tls_refused.get()).sum(),
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

    fn subscribers(&self, out: &mut Families<'_>) -> fmt::Result {
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
            let workers = shared.workers.iter();
            let count = workers
                .map(|worker| worker.closed.of(reason as usize).get())
                .sum();
            (vec![("reason", reason.name().to_owned())], count)
        });
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
        let refused = refused.map(|(reason, of)| {
            let count = shared.workers.iter().map(of).sum();
            (vec![("reason", reason.to_owned())], count)
        });
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
        )?;
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
        let outcomes = outcomes.map(|(reason, of)| {
            let count = shared.workers.iter().map(of).sum();
            (vec![("reason", reason.to_owned())], count)
        });
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

    fn groups(&self, out: &mut Families<'_>) -> fmt::Result {
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
        let reasons = reasons.map(|(reason, of)| {
            let count = self.shared.workers.iter().map(of).sum();
            (vec![("reason", reason.to_owned())], count)
        });
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

    fn calls(&self, out: &mut Families<'_>) -> fmt::Result {
        let engine = &self.shared.engine;
        let name_of = |function: usize| {
            let known = StreamFunction::ALL.get(function);
            known.map_or("other", |function| function.id()).to_owned()
        };
        let calls = (0..FUNCTIONS).flat_map(|function| {
            CallOutcome::ALL.map(|outcome| {
                let labels = vec![
                    ("function", name_of(function)),
                    ("outcome", outcome.name().to_owned()),
                ];
                (labels, engine.calls_of(function, outcome))
            })
        });
        let calls: Vec<_> = calls.collect();
        out.counter(
            "calls",
            "Calls that have ended, and those for which nobody waits",
            &calls,
        )?;
        out.gauge(
            "calls_in_flight",
            "Calls under way",
            &one(engine.calls_in_flight.get()),
        )?;
        out.counter(
            "calls_refused",
            "Calls refused because of a limit",
            &one(engine.calls_refused.get()),
        )?;
        out.counter(
            "calls_parked",
            "Calls that waited for room at their owner",
            &one(engine.calls_parked.get()),
        )?;
        out.counter(
            "commands_refused",
            "Calls refused by the owner: too much waits for functions, or there is no memory",
            &one(self.value("commands_refused")),
        )?;
        out.counter(
            "triggers_fired",
            "Trigger calls that were made",
            &one(engine.trigger_calls.get()),
        )?;
        out.counter(
            "triggers_dropped",
            "Trigger calls that were dropped",
            &one(engine.trigger_calls_dropped.get()),
        )?;
        out.counter(
            "worker_messages_dropped",
            "Messages of SDK workers that could not be read",
            &one(engine.messages_dropped.get()),
        )?;
        out.counter(
            "worker_telemetry_frames",
            "Frames of telemetry, which are not looked at",
            &one(engine.telemetry_frames.get()),
        )?;
        let refused = [
            ("503", engine.connections_refused.get()),
            ("403", engine.origins_refused.get()),
        ];
        let refused = refused.map(|(code, count)| (vec![("code", code.to_owned())], count));
        out.counter(
            "worker_upgrades_refused",
            "Upgrades on the worker port that were refused",
            &refused,
        )?;
        let closed = [
            ("silent", engine.silent_closed.get()),
            ("stalled", engine.stalled_closed.get()),
        ];
        let closed = closed.map(|(reason, count)| (vec![("reason", reason.to_owned())], count));
        out.counter(
            "worker_sockets_closed",
            "SDK workers that said nothing, or took nothing, for too long",
            &closed,
        )?;
        out.histogram(
            "call_seconds",
            "How long calls took for which somebody waits",
            self.figures.times[1],
        )
    }

    fn store(&self, out: &mut Families<'_>) -> fmt::Result {
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

    fn threads(&self, out: &mut Families<'_>) -> fmt::Result {
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
