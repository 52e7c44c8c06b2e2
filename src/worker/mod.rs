//! Thread kind 1, one a core: the shell around [`Subscribers`], with the poll, the buffer and every
//! system call.
//!
//! [`Worker::run`] is the order of work in one turn. A worker sleeps in `poll` and nowhere else: it
//! sends with `try_send`, and never joins or locks. May not know the engine or the store but through
//! the messages of `mesh`, nor what its subscribers say.

mod notes;
mod sockets;
mod writes;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use uuid::Uuid;

use crate::config::Limits;
use crate::fanout::Budget;
use crate::id::WorkerId;
use crate::life::Sockets as _;
use crate::mesh::{AuthFunction, Shared, ToOwner, ToWorker, WorkerPorts};
use crate::net::tls::{MaybeTls, Offer, Offered};
use crate::net::{self, Handshakes, Listener, Ready, listener_token, ring};
use crate::notes::Notes;
use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::shard::{Shard, Store};
use crate::subscribers::{self, Bounds, COMMAND_COST, Subscribers};
use crate::time::{Now, TurnClock, sleep_until, thread_time};

use notes::Words;
use writes::Writes;

pub use subscribers::drain_for;

/// What one turn does at most before it looks at everything else again: commands, by the bytes that
/// they move and so much for each.
const COMMAND_COST_A_TURN: usize = 512 * 1024;
/// Messages of the open mailbox, and words of the store.
const OPEN_A_TURN: usize = 1024;
/// Bytes read from sockets.
const READ_BYTES_A_TURN: usize = 2 * READ_BUFFER_BYTES;
/// What may be spent on sockets whose subscriptions end.
const ENDING_UNITS_A_TURN: usize = 1024;
/// The one buffer for reads of all sockets.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What a worker is made with.
pub struct Parts {
    /// The poll whose waker the mesh has.
    pub poll: Poll,
    /// Its own listener on the stream port.
    pub listener: std::net::TcpListener,
    /// What that shows under TLS. None: it is plain.
    pub tls: Option<Arc<Offered>>,
    /// Its mailboxes.
    pub ports: WorkerPorts,
    /// A store that answers in the same turn; `None` where the store has a thread.
    pub store_here: Option<Box<dyn Store>>,
    /// Its groups, with what the store has kept of them.
    pub shard: Shard,
    /// Who is asked about each subscriber; `None`: nobody.
    pub auth: Option<AuthFunction>,
    /// Web pages from which subscribers may connect; empty: all.
    pub allowed_origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    pub proxies: Proxies,
    /// The limits that hold here.
    pub limits: Limits,
    /// See [`subscribers::Parts::place_below`].
    pub place_below: usize,
    /// How long closes are spread at the end of the process.
    pub drain: Duration,
    /// Told when all sockets are gone after the drain has begun.
    pub drained: crossbeam_channel::Sender<WorkerId>,
    /// The engine thread runs on this core as well, and only while this worker pauses.
    pub shares_core: bool,
    /// It pauses before its fan-out, so that the engine writes the answers first. Where more workers
    /// share a core, all of them would come between, and each would bring the others less at a time.
    pub answers_first: bool,
    /// Many sends go in one system call.
    pub has_ring: bool,
}

/// One worker.
pub struct Worker {
    id: WorkerId,
    poll: Poll,
    listener: Listener,
    /// What is shown to who connects. None: the port is plain.
    offer: Option<Offer>,
    shared: Arc<Shared>,
    subscribers: Subscribers<MaybeTls>,
    store_here: Option<Box<dyn Store>>,
    buffer: Vec<u8>,
    /// The turn's one look at the monotonic clock.
    now: Instant,
    writes: Writes,
    /// Where a socket lives is decided by what it follows first.
    places: bool,
    drain: Duration,
    drained: crossbeam_channel::Sender<WorkerId>,
    shares_core: bool,
    answers_first: bool,
    has_ring: bool,
    handshakes: Handshakes,
    /// What the words of log lines are made of.
    words: Words,
    /// What is refused, for the log.
    notes: Notes,
}

impl Worker {
    /// Makes the worker of these parts; [`Worker::run`] is its life.
    pub fn new(parts: Parts) -> io::Result<Worker> {
        let (token, registry) = (listener_token(0), parts.poll.registry());
        let said = Arc::clone(&parts.ports.shared.said_no_room);
        let listener = Listener::watch(parts.listener, token, registry, "subscribers", said)?;
        let now = Now::read();
        Ok(Worker {
            id: parts.ports.id,
            shared: Arc::clone(&parts.ports.shared),
            words: Words::new(&parts.limits, &parts.allowed_origins),
            subscribers: Subscribers::new(subscribers::Parts {
                ports: parts.ports,
                shard: parts.shard,
                auth: parts.auth,
                allowed_origins: parts.allowed_origins,
                proxies: parts.proxies,
                limits: parts.limits,
                place_below: parts.place_below,
                bounds: Bounds::default(),
                name: Box::new(|| Uuid::new_v4().to_string().into()),
                now,
            }),
            poll: parts.poll,
            listener,
            offer: parts.tls.map(Offer::new),
            store_here: parts.store_here,
            buffer: vec![0; READ_BUFFER_BYTES],
            now: now.monotonic,
            writes: Writes::default(),
            places: parts.place_below > 0,
            drain: parts.drain,
            drained: parts.drained,
            shares_core: parts.shares_core,
            answers_first: parts.answers_first,
            has_ring: parts.has_ring,
            handshakes: Handshakes::default(),
            notes: Notes::default(),
        })
    }

    /// The worker's life. It ends when the process does.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        self.begin_ring();
        while !self.shared.stopping.load(Ordering::Acquire) {
            self.wait_for_events(&mut events)?; // the thread sleeps here and nowhere else
            let turn = TurnClock::begin();
            self.begin_turn(); // the turn's one look at the clocks
            self.note_events(&events); // what the poll has told of is of this time, not of the last turn's
            self.read_open_mailbox(); // first, and whatever else has to wait
            self.read_command_mailbox(); // while what follows from commands finds room
            self.apply_own_commands();
            self.accept();
            self.read_sockets(); // bytes → messages → commands, ours or a neighbour's
            self.hand_over(); // sockets whose first group another worker owns
            self.perform(); // store, replies, frames: in this order
            self.subscribers.flush(); // replies are on their way before the fan-out begins
            self.give_way(); // and get there
            self.sweep(); // who lacks something gets it, one write a socket
            self.subscribers.end_overdue();
            self.go_on_draining();
            self.subscribers.follow_up(); // sockets that are dead or too slow, groups that nobody follows
            self.subscribers.settle(); // leaves, as many as the engine has room for
            self.subscribers.answer_inquiries(); // who looks from outside, a slice
            self.subscribers.flush();
            self.say(); // what the log is to hear
            self.subscribers.count(Instant::now());
            self.metrics().loop_turns.note(turn.elapsed());
        }
        self.notes.all(|line| tracing::warn!("{line}"));
        Ok(())
    }

    /// From here on many writes go together. The ring is this thread's own, so the thread makes it.
    fn begin_ring(&self) {
        if self.has_ring
            && let Err(error) = ring::begin()
        {
            let worker = self.id.index();
            tracing::warn!("worker {worker} writes to each socket by itself: io_uring: {error}");
        }
    }

    fn begin_turn(&mut self) {
        let now = Now::read();
        self.now = now.monotonic;
        self.subscribers.begin_turn(now, ENDING_UNITS_A_TURN);
    }

    fn sweep(&mut self) {
        let begun = self.writes.is_full().then(thread_time);
        let spent = self.subscribers.sweep(self.writes.a_turn());
        self.submit_writes(); // what was swept is on its way when the turn is timed
        let is_full = spent.iter().any(Budget::is_spent);
        let took = begun.map(|begun| thread_time().saturating_sub(begun));
        self.writes.made(is_full, took);
    }

    fn submit_writes(&self) {
        self.metrics().writes_cut.add(ring::submit());
    }

    /// Lets the engine write the answers of this turn, where it has only this worker's core for that.
    fn give_way(&self) {
        let subscribers = &self.subscribers;
        if self.answers_first && subscribers.has_replied() && subscribers.is_sweep_due() {
            std::thread::yield_now();
        }
    }

    fn wait_for_events(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.sleep_at_most();
        self.submit_writes(); // pings, and what was closed
        if self.shares_core && timeout == Some(Duration::ZERO) {
            std::thread::yield_now(); // there is work, but the engine's turn may be due
        }
        if net::wait(&mut self.poll, events, timeout)? {
            self.shared.wakes[self.id.index()].lower();
        }
        Ok(())
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            match Ready::from(event) {
                Ready::Mailbox => {}
                Ready::Listener(_) => self.listener.wake(),
                Ready::Socket {
                    id,
                    has_bytes,
                    ends,
                    takes_bytes,
                } => {
                    if has_bytes {
                        self.subscribers.has_bytes(id, ends);
                    }
                    if takes_bytes {
                        self.takes_bytes(id);
                    }
                }
            }
        }
    }

    /// `Some(0)` while there is work; else until the next time limit, or for good.
    fn sleep_at_most(&self) -> Option<Duration> {
        let subscribers = &self.subscribers;
        let has_work =
            subscribers.has_work() || (self.listener.is_due() && subscribers.may_read_sockets());
        if has_work {
            return Some(Duration::ZERO);
        }
        sleep_until([
            subscribers.next_at(),
            self.listener.rests_until(),
            self.notes.next_at(),
        ])
    }

    fn read_open_mailbox(&mut self) {
        // What was there at the start: a neighbour that never stops must not hold the turn.
        let there = self.subscribers.ports().open.len();
        let commands = self.subscribers.ports().commands.len();
        let metrics = self.metrics();
        metrics.open_mailbox.set_len(there);
        metrics.command_mailbox.set_len(commands);
        let (mut taken, mut spent) = (0, 0);
        while spent < OPEN_A_TURN {
            spent += self.subscribers.learn(OPEN_A_TURN - spent);
            if taken == there {
                break;
            }
            let Some(message) = self.subscribers.next_message() else {
                break;
            };
            if let ToWorker::Settings(settings) = &message {
                self.words = Words::new(&settings.limits, &settings.allowed_origins);
            }
            self.subscribers.take(message);
            (taken, spent) = (taken + 1, spent + 1);
        }
        if taken > 0 {
            self.subscribers.tell_senders();
        }
    }

    fn read_command_mailbox(&mut self) {
        let mut cost = 0;
        let mut taken = 0;
        while cost < COMMAND_COST_A_TURN
            && let Some(message) = self.subscribers.next_command()
        {
            taken += 1;
            match message {
                ToOwner::Command(command) => cost += self.subscribers.take_command(command),
                ToOwner::Socket(stream, stays) => {
                    self.take_socket(stream, stays);
                    cost += COMMAND_COST;
                }
                ToOwner::Placed(handed) => {
                    self.take_placed(handed);
                    cost += COMMAND_COST;
                }
                ToOwner::Hooks(hooks) => self.subscribers.set_hooks(hooks),
            }
        }
        if taken > 0 {
            self.subscribers.tell_senders();
        }
    }

    fn apply_own_commands(&mut self) {
        let mut cost = 0;
        while cost < COMMAND_COST_A_TURN
            && let Some(command) = self.subscribers.next_own_command()
        {
            cost += self.subscribers.take_command(command);
        }
    }

    /// A store that needs no thread answers before anything else is carried out.
    fn perform(&mut self) {
        if let Some(store) = &mut self.store_here {
            while let Some(requests) = self.subscribers.take_requests() {
                let mut learned = Vec::with_capacity(requests.len());
                store.serve(requests, &mut learned);
                self.subscribers.take(ToWorker::Learned(learned));
                self.subscribers.learn(usize::MAX); // what it was asked was counted with the commands
            }
        }
        self.subscribers.perform();
    }

    fn go_on_draining(&mut self) {
        if self.subscribers.is_serving() {
            if !self.shared.draining.load(Ordering::Acquire) {
                return;
            }
            // All workers together, for they all come back to the same place.
            let sockets = self.shared.connections_len();
            self.accept_rest();
            // Sockets that were handed over meanwhile are among the commands.
            while let Some(message) = self.subscribers.ports().commands.take() {
                match message {
                    ToOwner::Command(command) => self.subscribers.postpone(command),
                    ToOwner::Socket(stream, stays) => self.take_socket(stream, stays),
                    ToOwner::Placed(handed) => self.take_placed(handed),
                    ToOwner::Hooks(hooks) => self.subscribers.set_hooks(hooks),
                }
            }
            self.subscribers.tell_senders();
            let spread = drain_for(self.drain, sockets);
            self.subscribers.begin_drain(spread);
        }
        if self.subscribers.go_on_draining() {
            // The server may have given up waiting.
            let _ = self.drained.try_send(self.id);
        }
    }

    fn metrics(&self) -> &crate::metrics::WorkerMetrics {
        &self.shared.workers[self.id.index()]
    }
}
