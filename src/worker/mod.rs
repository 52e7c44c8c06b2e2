//! Thread kind 1, one a core: its sockets, one shard of the groups, and the fan-out to its sockets.
//!
//! [`Worker::run`] is the order of work in one turn. A worker sleeps in `poll` and nowhere else: it
//! sends with `try_send`, and never joins or locks. May not know the engine or the store but through
//! the messages of `mesh`.

mod auth;
mod clients;
mod connections;
mod drain;
mod endings;
mod half_open;
mod joins;
mod leaves;
mod notes;
mod sockets;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::config::Limits;
use crate::fanout::{Bounds, Budget, Fanout};
use crate::id::{GroupKey, LocalGroupId, SlotId, WorkerId};
use crate::log::{Notes, counted};
use crate::mesh::{Shared, ToEngine, ToOwner, ToStore, ToWorker, WorkerPorts};
use crate::metrics::WorkerMetrics;
use crate::net::{self, Listener, Ready, listener_token};
use crate::protocol::origin::OriginRule;
use crate::shard::hooks::Hooks;
use crate::shard::{Answer, Ask, Command, Delivered, Effects, Learned, Shard, Store, Verdict};
use crate::time::{Deadlines, Now, TurnClock, sleep_until};

pub use auth::Auth;
use connections::Connections;
use drain::Drain;
pub use drain::drain_for;
use endings::Endings;
use half_open::HalfOpen;
use leaves::Debts;

/// What one turn does at most before it looks at everything else again: commands, by the bytes that
/// they move and so much for each; bytes read; small writes.
const COMMAND_COST_A_TURN: usize = 512 * 1024;
const COMMAND_COST: usize = 1024;
const READ_BYTES_A_TURN: usize = 2 * READ_BUFFER_BYTES;
const WRITES_A_TURN: usize = 64;
/// Commands that may wait in this shard for the store; above, it takes no more until answers come.
const WAITING_MAX: usize = 64 * 1024;
/// The one buffer for reads of all sockets.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What a worker is made with.
pub struct Parts {
    /// The poll whose waker the mesh has.
    pub poll: Poll,
    /// Its own listener on the stream port.
    pub listener: std::net::TcpListener,
    /// Its mailboxes.
    pub ports: WorkerPorts,
    /// A store that answers in the same turn; `None` where the store has a thread.
    pub store_here: Option<Box<dyn Store>>,
    /// Its groups, with what the store has kept of them.
    pub shard: Shard,
    /// Who is asked about each subscriber; `None`: nobody.
    pub auth: Option<Auth>,
    /// Web pages from which subscribers may connect; empty: all.
    pub allowed_origins: Vec<OriginRule>,
    /// The limits that hold here.
    pub limits: Limits,
    /// How long closes are spread at the end of the process.
    pub drain: Duration,
    /// Told when all sockets are gone after the drain has begun.
    pub drained: crossbeam_channel::Sender<WorkerId>,
    /// The engine runs on this core as well, and only while this worker pauses.
    pub shares_core: bool,
}

/// One worker.
pub struct Worker {
    poll: Poll,
    listener: Listener,
    ports: WorkerPorts,
    shard: Shard,
    hooks: Arc<Hooks>,
    fanout: Fanout,
    store_here: Option<Box<dyn Store>>,
    connections: Connections,
    auth: Option<Auth>,
    allowed_origins: Vec<OriginRule>,
    limits: Limits,
    now: Now,
    /// The clock of a store that other hosts use as well, and when that was told.
    store_clock: Option<(u64, Instant)>,
    buffer: Vec<u8>,
    /// Sockets with something to read, each once.
    readable: VecDeque<SlotId>,
    /// Sockets with something queued to be written.
    to_write: VecDeque<SlotId>,
    /// Commands of own sockets to the own shard.
    own_commands: VecDeque<Command>,
    effects: Effects,
    /// Sockets without a whole head, in the order of their time limits.
    handshakes: Deadlines<SlotId>,
    /// Sockets that are not let in yet.
    half_open: HalfOpen,
    /// Closing sockets, in the order in which they are given up.
    closing: Deadlines<SlotId>,
    debts: Debts,
    endings: Endings,
    drain: Drain,
    shares_core: bool,
    /// Replies went to the engine in this turn.
    has_replied: bool,
    /// A group's time ran more than a second ahead of the clock, and that was said.
    said_ahead: bool,
    /// What is refused, for the log.
    notes: Notes,
}

impl Worker {
    /// Makes the worker of these parts; [`Worker::run`] is its life.
    pub fn new(parts: Parts) -> io::Result<Worker> {
        let (token, registry) = (listener_token(0), parts.poll.registry());
        let listener = Listener::watch(parts.listener, token, registry, "subscribers")?;
        let half_open = HalfOpen::new(&parts.limits, parts.ports.shared.connections.len());
        Ok(Worker {
            shard: parts.shard,
            hooks: Arc::default(),
            fanout: Fanout::new(Bounds {
                reader: parts.limits.behind_bytes,
                worker: parts.limits.behind_bytes_worker,
            }),
            poll: parts.poll,
            listener,
            ports: parts.ports,
            store_here: parts.store_here,
            connections: Connections::default(),
            auth: parts.auth,
            allowed_origins: parts.allowed_origins,
            limits: parts.limits,
            now: Now::read(),
            store_clock: None,
            buffer: vec![0; READ_BUFFER_BYTES],
            readable: VecDeque::new(),
            to_write: VecDeque::new(),
            own_commands: VecDeque::new(),
            effects: Effects::default(),
            handshakes: Deadlines::default(),
            half_open,
            closing: Deadlines::default(),
            debts: Debts::default(),
            endings: Endings::default(),
            drain: Drain::new(parts.drain, parts.drained),
            shares_core: parts.shares_core,
            has_replied: false,
            said_ahead: false,
            notes: Notes::default(),
        })
    }

    /// The worker's life. It ends when the process does.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while !self.ports.shared.stopping.load(Ordering::Acquire) {
            self.wait_for_events(&mut events)?; // the thread sleeps here and nowhere else
            let turn = TurnClock::begin();
            self.now = Now::read(); // the turn's one look at the clocks
            self.endings.begin_turn();
            self.go_on_ending(); // sockets with too many subscriptions for the last turn
            self.read_open_mailbox(); // first, and whatever else has to wait
            self.read_command_mailbox(); // while what follows from commands finds room
            self.apply_own_commands();
            self.accept();
            self.read_sockets(); // bytes → messages → commands, ours or a neighbour's
            self.perform_effects(); // store, replies, frames: in this order
            self.flush(); // replies are on their way before the fan-out begins
            self.give_way(); // and get there
            self.sweep(); // who lacks something gets it, one write a socket
            self.end_overdue();
            self.go_on_draining();
            self.follow_up(); // sockets that are dead or too slow, groups that nobody follows
            self.settle_debts(); // leaves, as many as the engine has room for
            self.flush();
            self.notes.tell_due(self.now.monotonic);
            self.metrics().loop_turns.note(turn.elapsed());
        }
        self.notes.tell_all();
        Ok(())
    }

    /// Lets the engine write the answers of this turn, where it has only this core for that.
    fn give_way(&self) {
        if self.shares_core && self.has_replied && self.fanout.is_due() {
            std::thread::yield_now();
        }
    }

    fn wait_for_events(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.sleep_at_most();
        if self.shares_core && timeout == Some(Duration::ZERO) {
            std::thread::yield_now(); // there is work, but the engine's turn may be due
        }
        if !net::wait(&mut self.poll, events, timeout)? {
            return Ok(());
        }
        for event in events.iter() {
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
                        self.has_bytes(id, ends);
                    }
                    if takes_bytes {
                        self.takes_bytes(id);
                    }
                }
            }
        }
        self.ports.shared.wakes[self.ports.id.index()].lower();
        Ok(())
    }

    /// `Some(0)` while there is work; else until the next time limit, or for good.
    fn sleep_at_most(&self) -> Option<Duration> {
        let has_commands = !self.own_commands.is_empty() || !self.ports.commands.is_empty();
        let has_sockets = !self.readable.is_empty() || self.listener.is_due();
        let has_work = self.fanout.is_due()
            || !self.to_write.is_empty()
            || !self.endings.is_empty()
            || !self.ports.open.is_empty()
            || (has_commands && self.may_take_commands())
            || (has_sockets && self.may_read_sockets());
        if has_work {
            return Some(Duration::ZERO);
        }
        sleep_until([
            self.handshakes.next_at(),
            self.closing.next_at(),
            self.listener.rests_until(),
            self.drain.next_at(),
            self.notes.next_at(),
        ])
    }

    /// Whether what follows from a command finds room: with the neighbours, in the fan-out, and
    /// behind what the store has not accepted.
    fn may_take_commands(&self) -> bool {
        let ports = &self.ports;
        let to_store = ports.to_store.as_ref();
        !ports.to_open.iter().any(|outbox| outbox.has_backlog())
            && !ports.to_engine.has_backlog()
            && !to_store.is_some_and(|outbox| outbox.has_backlog())
            && !self.fanout.is_lagging()
            && self.shard.waiting_len() < WAITING_MAX
    }

    /// Whether commands find room with their owners as well.
    fn may_read_sockets(&self) -> bool {
        let to_commands = &self.ports.to_commands;
        self.may_take_commands()
            && self.own_commands.is_empty()
            && !to_commands.iter().any(|outbox| outbox.has_backlog())
    }

    fn read_open_mailbox(&mut self) {
        // What was there at the start: a neighbour that never stops must not hold the turn.
        let len = self.ports.open.len();
        for _ in 0..len {
            // A fan-out that lags needs nobody to get on, so this wait ends by itself.
            if self.fanout.is_lagging() {
                break;
            }
            let Some(message) = self.ports.open.take() else {
                break;
            };
            match message {
                ToWorker::Delivery(delivery) => self.deliver(delivery.local, delivery.what),
                ToWorker::Learned(learned) => {
                    for learned in learned {
                        if let Learned::Answer(Answer { verdict, .. }) = &learned {
                            let is_refusal = matches!(verdict, Verdict::Refused(_));
                            self.metrics().store_refuses.set(is_refusal);
                        }
                        let now = self.shard_now();
                        self.shard.learn(learned, now, &mut self.effects);
                    }
                }
                ToWorker::Slice(cursor, limits) => {
                    let slice = self.shard.slice(cursor, limits);
                    if let Some(outbox) = &mut self.ports.to_store {
                        outbox.send(ToStore::Slice(self.ports.id, slice));
                    }
                }
                ToWorker::Clock(ms, at) => self.store_clock = Some((ms, at)),
                ToWorker::Joined(request, is_admitted) => self.joined(*request, is_admitted),
                ToWorker::TakeLeaves(len) => self.debts.grant(len),
                ToWorker::Told(told) => {
                    let now = self.shard_now();
                    self.shard.told(told, now, &mut self.effects);
                }
                ToWorker::Authenticated(id, verdict) => self.authenticated(id, verdict),
            }
        }
        if len > 0 {
            let shared = &self.ports.shared;
            self.ports.open.tell_waiters(|thread| shared.wake(thread));
        }
    }

    fn read_command_mailbox(&mut self) {
        let mut cost = 0;
        let mut taken = 0;
        while cost < COMMAND_COST_A_TURN
            && self.may_take_commands()
            && let Some(message) = self.ports.commands.take()
        {
            taken += 1;
            match message {
                ToOwner::Command(command) => cost += self.apply(command),
                ToOwner::Socket(stream) => {
                    self.take_socket(stream);
                    cost += COMMAND_COST;
                }
                ToOwner::Hooks(hooks) => self.set_hooks(hooks),
            }
        }
        if taken > 0 {
            let shared = &self.ports.shared;
            self.ports
                .commands
                .tell_waiters(|thread| shared.wake(thread));
        }
    }

    fn apply_own_commands(&mut self) {
        let mut cost = 0;
        while cost < COMMAND_COST_A_TURN
            && self.may_take_commands()
            && let Some(command) = self.own_commands.pop_front()
        {
            cost += self.apply(command);
        }
    }

    /// From here on these streams are hooked onto: for the commands behind it, and for own sockets.
    fn set_hooks(&mut self, hooks: Arc<Hooks>) {
        self.shard.set_hooks(Arc::clone(&hooks));
        self.hooks = hooks;
    }

    /// Gives what it cost: the bytes that it moved, and a little for itself.
    fn apply(&mut self, command: Command) -> usize {
        let asked_bytes = command.held_bytes();
        let replies = self.effects.replies.len();
        let now = self.shard_now();
        self.shard.apply(command, now, &mut self.effects);
        let new = self.effects.replies[replies..].iter();
        let answered_bytes: usize = new.map(|reply| reply.outcome.held_bytes()).sum();
        COMMAND_COST + asked_bytes + answered_bytes
    }

    /// The time that the shard goes by, in ms since 1970: that of the store, where hosts share it.
    fn shard_now(&self) -> u64 {
        self.store_clock.map_or(self.now.wall_ms, |(ms, at)| {
            let since = self.now.monotonic.saturating_duration_since(at);
            ms.saturating_add(since.as_millis() as u64)
        })
    }

    /// Carries out what the shard asks for, whole, before the next wait.
    fn perform_effects(&mut self) {
        while !self.effects.requests.is_empty() {
            let requests = std::mem::take(&mut self.effects.requests);
            if let Some(store) = &mut self.store_here {
                let mut learned = Vec::with_capacity(requests.len());
                store.serve(requests, &mut learned);
                for learned in learned {
                    self.shard
                        .learn(learned, self.now.wall_ms, &mut self.effects);
                }
            } else if let Some(outbox) = &mut self.ports.to_store {
                outbox.send(ToStore::Requests(requests));
            }
        }
        self.has_replied = !self.effects.replies.is_empty();
        for reply in self.effects.replies.drain(..) {
            self.ports.to_engine.send(ToEngine::Reply(reply));
        }
        for fired in self.effects.fired.drain(..) {
            self.ports.to_engine.send(ToEngine::Fired(fired));
        }
        for call in self.effects.custom.drain(..) {
            self.ports.to_engine.send(ToEngine::Custom(call));
        }
        let deliveries = std::mem::take(&mut self.effects.deliveries);
        for delivery in deliveries {
            if delivery.to == self.ports.id {
                self.deliver(delivery.local, delivery.what);
            } else if let Some(outbox) = self.ports.to_open.get_mut(delivery.to.index()) {
                outbox.send(ToWorker::Delivery(delivery));
            }
        }
        let refused = self.shard.take_refused();
        if refused > 0 {
            self.metrics().commands_refused.add(refused);
            self.notes.warn(
                self.now.monotonic,
                "waiting for custom functions",
                "",
                format_args!(
                    "{} answered `server is overloaded`: too much waits for custom functions of their groups",
                    counted(refused as usize, "call")
                ),
            );
        }
        let ahead_ms = self.shard.take_ahead_ms();
        if ahead_ms > 0 {
            self.note_time_ahead(ahead_ms);
        }
    }

    fn deliver(&mut self, local: LocalGroupId, what: Delivered) {
        match what {
            Delivered::Event(frame) => self.fanout.append(local, frame),
            Delivered::Afresh(snapshot) => self.begin_afresh(local, &snapshot),
            Delivered::Entered {
                connection,
                token,
                sync,
            } => self.entered(local, connection, token, sync),
        }
    }

    fn sweep(&mut self) {
        let mut budget = Budget::of_writes(WRITES_A_TURN);
        while !budget.is_spent()
            && let Some(id) = self.to_write.pop_front()
        {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.is_to_write = false;
            }
            self.fanout.drain(id, &mut self.connections, &mut budget);
            self.finish_if_closing(id);
            self.go_on_with_parked(id);
            self.queue(id); // it may have been left unread for what it had not taken
        }
        let mut budget = Budget::of_writes(WRITES_A_TURN);
        self.fanout.sweep(&mut self.connections, &mut budget);
    }

    /// Ends the sockets that the fan-out has found dead or too slow, and tells owners of groups that
    /// nobody here follows any more.
    fn follow_up(&mut self) {
        loop {
            let outcome = self.fanout.take_outcome();
            if outcome.is_empty() {
                return;
            }
            for id in outcome.gone {
                self.end(id);
            }
            for id in outcome.unfinished {
                self.write(id);
            }
            for id in outcome.slow {
                self.metrics().slow_readers_closed.increment();
                let most = self.limits.behind_bytes;
                let what = format_args!(
                    "is closed with 1013: it takes too little, limits.behind_bytes ({most})"
                );
                self.note_limit(id, "limits.behind_bytes", what);
                self.close(id, 1013, "limits.behind_bytes");
            }
            for (key, local) in outcome.left {
                let worker = self.ports.id;
                self.command(key, Ask::Leave { worker, local });
            }
        }
    }

    /// Sends a command to the owner of its group.
    fn command(&mut self, key: GroupKey, ask: Ask) {
        let owner = self.ports.shared.owners.owner_of(&key);
        let command = Command::Group { key, ask };
        if owner == self.ports.id {
            self.own_commands.push_back(command);
        } else if let Some(outbox) = self.ports.to_commands.get_mut(owner.index()) {
            outbox.send(ToOwner::Command(command));
        }
    }

    /// Sends what waits, and wakes whoever got something.
    fn flush(&mut self) {
        self.ports.to_engine.flush();
        if let Some(outbox) = &mut self.ports.to_store {
            outbox.flush();
        }
        for outbox in &mut self.ports.to_open {
            outbox.flush();
        }
        for outbox in &mut self.ports.to_commands {
            outbox.flush();
        }
    }

    fn note_time_ahead(&mut self, ahead_ms: u64) {
        self.metrics().time_ahead_ms.raise_to(ahead_ms);
        if ahead_ms >= 1000 && !self.said_ahead {
            self.said_ahead = true;
            tracing::warn!(
                "timestamps run {ahead_ms} ms ahead of the clock: it has stepped back, or one group changes more than \
                 1,000 times a second; subscribers see them rise all the same"
            );
        }
    }

    fn metrics(&self) -> &WorkerMetrics {
        &self.ports.shared.workers[self.ports.id.index()]
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.ports.shared)
    }
}
