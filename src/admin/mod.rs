//! Thread kind 4: the admin port. Health, metrics, and what operators ask for, as JSON, for the page and
//! for `iii-stream top`.
//!
//! It reads the other threads' counters, asks workers what they hold through [`crate::mesh::inquiries`],
//! which they answer in slices of their turns, and has the engine thread make calls of operators through
//! [`crate::mesh::operators`]. No thread waits for this one. May change nothing but by such a call.
//!
//! # What is answered
//!
//! One request a connection, `GET` or `HEAD` but for what is said to be `POST`. Times in `_ms` and `_us` are what they say; ages of
//! sockets are right to some hundredths. An error is `{"error": TEXT}` with its status.
//!
//! ```text
//! /health    {"healthy": BOOL, "silent": null | THREAD, "silent_ms": null | N}     200 or 503
//! /ready     {"ready": BOOL, "reason": null | "draining" | "store is down" | "store refuses writes"}   200 or 503
//! /metrics   text 0.0.4 of Prometheus
//!
//! /admin/overview
//!   {version, speaks, host, pid, now_ms, uptime_ms, file, stream, stream_tls: BOOL, workers: [ADDRESS], engine: null | URL, admin,
//!    page: BOOL, cores: TEXT, store: {kind, described, up, lag_ms}, limits: {connections, sockets, behind_bytes},
//!    ready, not_ready_because, healthy,
//!    threads: [{name, core: null | N, cpu: 0..1, turns, turned_ms_ago, groups, subscriptions, connections}],
//!    figures: {SERIES: N},          as they were a second ago at most; the names stand in `figures::SERIES`
//!    rates: {SERIES: N},            a second, of the last five, of what is counted
//!    times: {TIME: {count, p50_ms, p99_ms}}}   of the last ten seconds: delivery call store fsync redis turn join
//!
//! /admin/history?seconds=600&series=a,b
//!   {at_ms: [N], series: {NAME: [N]}}     one value a second, the oldest first: a level as it was, a count by how
//!   much it rose; `TIME_p50_us`, `TIME_p99_us` (null: nothing came); `cpu:THREAD` as a share of a core
//!
//! /admin/groups?sort=events|pace|subscribers|bytes&limit=50 (200)
//!   {sort, total, groups: [{stream, group, owner, subscribers, items, bytes, events, events_per_second, waiting, ahead_ms}]}
//!
//! /admin/streams?contains=TEXT&after=STREAM&limit=50 (200)
//!   {next: null | STREAM (for `after`), streams: [{stream, groups}]}, by name
//!
//! /admin/groups?sort=name&stream=STREAM&contains=TEXT&after=GROUP&limit=50 (200)
//!   {sort, stream, next: null | GROUP (for `after`), groups: as above}, by name
//!
//! POST /admin/set, /admin/delete: the body is the input of `stream::set`, `stream::delete`
//!   {result: as the function's}; 400: {error, code}, as an SDK worker is told them
//!
//! /admin/sockets?sort=behind|oldest|bytes|subscriptions&limit=50 (200)
//!   {sort, total, sockets: [{worker, id, peer, age_ms, subscriptions, groups: [[STREAM, GROUP]] (3), behind_bytes,
//!    behind_events, own_bytes, blocked_ms: null | N, closing, why: TEXT, tcp: null | {rtt_us, unacked, retransmits,
//!    congestion_window, last_ack_ms, last_sent_ms, acked_bytes, unsent_bytes, window_limited_us}}]}
//!
//! /admin/closed?reason=REASON&limit=50 (4096)
//!   {reason, counts: {REASON: N}, closed: [{at_ms, peer, reason, code: null | N, age_ms, behind_bytes, behind_events,
//!    blocked_ms, subscriptions, worker}]}, the latest first
//!   REASON: client gone behind stalled silent too_large protocol ending other
//!
//! /admin/group/STREAM/GROUP?from=0&limit=100 (1000)&as=json|text, or /admin/group?stream=STREAM&group=GROUP&…
//!   {stream, group, owner, subscribers, subscribers_by_worker: [N], items_len, bytes, events, events_per_second,
//!    waiting, ahead_ms, next: null | N (for `from`), items: [{id, bytes, value: JSON | text: TEXT | begins: TEXT}]}
//!   Names are escaped as in a URL. 404: nothing is in it, and nobody follows it.
//! ```

mod asked;
mod beats;
mod exposition;
mod figures;
mod guard;
mod history;
mod http;
mod machine;
mod overview;
mod page;
mod peers;
mod routes;
mod shown;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Events, Poll};
use serde_json::json;

use crate::config::Admin as Settings;
use crate::id::SlotId;
use crate::mesh::inquiries::Asker;
use crate::mesh::{Shared, Wake};
use crate::net::tls::Offered;
use crate::net::{self, ACCEPTS_A_TURN, Listener, Ready, listener_token};
use crate::time::{Now, sleep_until};

pub use peers::PEERS_MAX;

use asked::Asked;
use beats::Beats;
use figures::Figures;
use guard::{Guard, Refused};
use history::History;
use http::{Answer, Request};
use machine::Machine;
use peers::Peers;
use routes::{Route, Unasked};

/// How often the figures are read.
const TICK: Duration = Duration::from_secs(1);

/// What is known of the server from its start on.
pub struct About {
    /// Where subscribers connect.
    pub stream: String,
    /// Where SDK workers connect.
    pub workers: Vec<String>,
    /// The engine that it is attached to.
    pub engine: Option<String>,
    /// Where this port is.
    pub admin: String,
    /// The name of the machine.
    pub host: String,
    /// The config file, as it was named.
    pub file: Option<String>,
    /// The threads and the cores that they are pinned to.
    pub threads: Vec<ThreadAbout>,
    /// The same in words.
    pub cores: String,
    /// `in_memory`, `file_based` or `redis`.
    pub store_kind: &'static str,
    /// The store in words.
    pub store: String,
    /// It has a thread.
    pub has_store_thread: bool,
    /// `limits.connections`, as far as there are files for them.
    pub connections_max: usize,
    /// `limits.behind_bytes`.
    pub behind_bytes_max: usize,
    /// For each port under TLS its name, and what it shows.
    pub certificates: Vec<(&'static str, Arc<Offered>)>,
    /// The page is served.
    pub has_page: bool,
    /// When the server was started.
    pub began: Instant,
}

/// A thread of the server.
pub struct ThreadAbout {
    /// As the operating system has it.
    pub name: String,
    /// The core that it is pinned to.
    pub core: Option<usize>,
}

/// What the admin thread is made with.
pub struct Parts {
    /// Where it listens.
    pub listener: TcpListener,
    /// Its poll, and what wakes it.
    pub poll: Poll,
    /// See `poll`.
    pub wake: Arc<Wake>,
    /// What all threads may look at.
    pub shared: Arc<Shared>,
    /// What the settings say of it.
    pub settings: Settings,
    /// Another token, from here on.
    pub tokens: Receiver<Option<String>>,
    /// The server that it tells about.
    pub about: About,
}

/// The admin thread.
pub struct Admin {
    poll: Poll,
    wake: Arc<Wake>,
    listener: Listener,
    shared: Arc<Shared>,
    guard: Guard,
    tokens: Receiver<Option<String>>,
    about: About,
    peers: Peers,
    asked: Asked,
    beats: Beats,
    history: History,
    machine: Machine,
    tick_at: Instant,
}

impl Admin {
    /// Makes the thread of these parts; [`Admin::run`] is its life.
    pub fn new(parts: Parts) -> io::Result<Admin> {
        let registry = parts.poll.registry();
        let token = listener_token(0);
        let listener = Listener::watch(
            parts.listener,
            token,
            registry,
            "the admin port",
            Arc::clone(&parts.shared.said_no_room),
        )?;
        let workers = parts.shared.workers.len();
        let now = Instant::now();
        Ok(Admin {
            listener,
            guard: Guard {
                token: parts.settings.token,
                names: vec![parts.settings.endpoint.host, parts.about.host.clone()],
            },
            tokens: parts.tokens,
            peers: Peers::default(),
            asked: Asked::new(Asker::new(workers, Arc::clone(&parts.wake))),
            beats: Beats::new(workers, parts.about.has_store_thread, now),
            history: History::default(),
            machine: Machine::default(),
            tick_at: now,
            poll: parts.poll,
            wake: parts.wake,
            shared: parts.shared,
            about: parts.about,
        })
    }

    /// Its life. It ends when the process does.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(128);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let ready = self.wait_for_events(&mut events)?; // the thread sleeps here and nowhere else
            let now = Instant::now();
            if let Ok(token) = self.tokens.try_recv() {
                self.guard.token = token;
            }
            self.tick_if_due(now);
            self.accept(now);
            let unfinished = self.peers.take_unfinished();
            for id in ready.into_iter().chain(unfinished) {
                self.peers.write(id, now);
                if let Some(asked) = self.peers.read(id) {
                    self.hear(id, asked, now);
                }
            }
            for (id, answer) in self.asked.take(&self.shared, now) {
                self.peers.answer(id, &answer, now);
            }
            for id in self.peers.end_overdue(now) {
                self.asked.forget(id);
            }
        }
        Ok(())
    }

    fn wait_for_events(&mut self, events: &mut Events) -> io::Result<Vec<SlotId>> {
        let times = [
            Some(self.tick_at),
            self.peers.next_at(),
            self.asked.next_at(),
            self.listener.rests_until(),
        ];
        let timeout = match self.listener.is_due() || self.peers.are_unfinished() {
            true => Some(Duration::ZERO),
            false => sleep_until(times),
        };
        let mut ready = Vec::new();
        if net::wait(&mut self.poll, events, timeout)? {
            for event in events.iter() {
                match Ready::from(event) {
                    Ready::Mailbox => {}
                    Ready::Listener(_) => self.listener.wake(),
                    Ready::Socket { id, .. } => ready.push(id),
                }
            }
            self.wake.lower();
        }
        Ok(ready)
    }

    /// Once a second: looks who has turned, keeps the figures, and has every thread turn until the next.
    fn tick_if_due(&mut self, now: Instant) {
        if now < self.tick_at {
            return;
        }
        self.tick_at = (self.tick_at + TICK).max(now);
        self.beats.look(&self.shared, now);
        let figures = Figures::read(&self.shared, &mut self.machine, now);
        self.history.push(figures, Now::read().wall_ms);
        for wake in &self.shared.wakes {
            wake.wake();
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(stream) = self.listener.accept(now) else {
                return;
            };
            self.peers.enter(stream, self.poll.registry(), now);
        }
    }

    fn hear(&mut self, id: SlotId, asked: Result<Request, Answer>, now: Instant) {
        let answer = match asked {
            Err(answer) => Some(answer),
            Ok(request) => self.serve(id, &request, now),
        };
        if let Some(answer) = answer {
            self.peers.answer(id, &answer, now);
        }
    }

    /// None: workers are asked, and the answer follows.
    fn serve(&mut self, id: SlotId, request: &Request, now: Instant) -> Option<Answer> {
        let route = routes::route(request, self.about.has_page);
        let is_open = route.as_ref().is_ok_and(Route::is_open);
        let reads = matches!(&*request.method, "GET" | "HEAD");
        if let Err(Refused(status, what)) = self.guard.check(request, is_open, !reads) {
            return Some(Answer::error(status, what));
        }
        let route = match route {
            Ok(route) => route,
            Err(Unasked::NoPath) => return Some(Answer::error(404, "no such path")),
            Err(Unasked::Query(what)) => return Some(Answer::error(400, &what)),
        };
        if let Route::Page(path) = &route
            && page::file(path).is_none()
        {
            return Some(Answer::error(404, "no such path"));
        }
        if !route.takes(&request.method) {
            return Some(Answer::wrong_method(route.methods()));
        }
        Some(match route {
            Route::Health => self.health(now),
            Route::Ready => self.ready(),
            Route::Metrics => self.metrics(now),
            Route::Overview => {
                let now = (now, Now::read().wall_ms);
                let (about, shared) = (&self.about, &self.shared);
                Answer::json(
                    200,
                    overview::json(about, shared, &self.history, &self.beats, now),
                )
            }
            Route::History(seconds, series) => {
                Answer::json(200, self.history.json(seconds, &series))
            }
            Route::Page(_) => page::answer(request, &self.about.stream)?,
            Route::Call(function) => {
                let shared = &self.shared;
                return self.asked.call(function, &request.body, id, shared, now);
            }
            route => return self.asked.ask(route, id, &self.shared, now),
        })
    }

    fn health(&self, now: Instant) -> Answer {
        let silent = self.beats.silent(now);
        let status = if silent.is_none() { 200 } else { 503 };
        let json = json!({
            "healthy": silent.is_none(),
            "silent": silent.map(|(thread, _)| thread),
            "silent_ms": silent.map(|(_, time)| time.as_millis() as u64),
        });
        Answer::json(status, json.to_string())
    }

    fn ready(&self) -> Answer {
        let reason = self.shared.not_ready(Now::read().wall_ms);
        let status = if reason.is_none() { 200 } else { 503 };
        let reason = reason.map(|reason| reason.name());
        let json = json!({"ready": reason.is_none(), "reason": reason});
        Answer::json(status, json.to_string())
    }

    fn metrics(&mut self, now: Instant) -> Answer {
        let figures = Figures::read(&self.shared, &mut self.machine, now);
        let now_ms = Now::read().wall_ms;
        let text = exposition::text(&self.shared, &self.about, figures, now_ms);
        Answer::of(exposition::CONTENT_TYPE, text.into_bytes())
    }
}
