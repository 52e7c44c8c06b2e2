//! What a worker makes of its subscribers: connections, joins, leaves, its shard of the groups, and the
//! fan-out to its sockets. Messages, commands and bytes in; messages and writes out.
//!
//! No socket, poll, clock, thread or log line: sockets are lent as [`Socket`], the time is handed in
//! with each turn, and what the log is to hear leaves as [`Note`]. The shell is `worker`: it says when
//! which of these is called, and for how long.

mod admission;
mod ages;
mod clients;
mod closed;
mod closing;
mod connections;
mod endings;
mod half_open;
mod inquiries;
mod joins;
mod leaves;
mod life;
mod measures;
mod notes;
mod persons;
mod placement;
mod settings;
mod turns;

use core::net::{IpAddr, SocketAddr}; // an address is data
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::fanout::{self, Fanout};
use crate::id::{GroupKey, ItemId, LocalGroupId, SlotId};
use crate::life::Schedule;
use crate::mesh::{ToEngine, ToOwner, ToStore, ToWorker, WorkerPorts};
use crate::metrics::{Closed, WorkerMetrics};
use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::shard::hooks::Hooks;
use crate::shard::{
    Answer, Ask, Command, Delivered, Effects, Learned, Request, Shard, UNITS_A_TURN, Verdict,
};
use crate::time::{ClockReading, Now};

pub use admission::Auth;
use ages::Ages;
use closed::ClosedSockets;
use closing::Drain;
pub use closing::drain_for;
use connections::{Connection, Connections};
pub use connections::{Look, Socket, State};
use endings::Endings;
use half_open::HalfOpen;
use inquiries::Looking;
pub use joins::FRESH;
use leaves::Debts;
use measures::Measures;
use notes::Notes;
pub use notes::{Asked, Limit, Named, Note, What};
use persons::Persons;
use placement::Departures;

/// What a command costs beside the bytes that it moves.
pub const COMMAND_COST: usize = 1024;

/// What subscribers are made with.
pub struct Parts {
    /// The worker's mailboxes.
    pub ports: WorkerPorts,
    /// Its groups, with what the store has kept of them.
    pub shard: Shard,
    /// Who is asked about each subscriber; `None`: nobody.
    pub auth: Option<Auth>,
    /// Web pages from which subscribers may connect; empty: all.
    pub allowed_origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    pub proxies: Proxies,
    /// The limits that hold here.
    pub limits: Limits,
    /// A group's owner takes sockets that follow it first while it has fewer followers of it; 0: nobody is
    /// placed.
    pub place_below: usize,
    /// What may wait.
    pub bounds: Bounds,
    /// Makes names that nobody guesses, for the subscriptions of paths.
    pub name: Box<dyn FnMut() -> Box<str> + Send>,
    /// Both clocks.
    pub now: Now,
}

/// How much may wait on a worker before it takes no more. A test may set less.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages of one socket, joins that wait for functions or their `sync` included. At that number
    /// the socket is not read until one is done.
    pub messages: usize,
    /// Bytes that a socket that reads slowly may have queued for itself before it is left unread, and its
    /// joins unanswered: one answer more is always sent, whatever its size.
    pub queue_bytes: usize,
    /// A socket that asks for a leave while more than this is owed is left unread: leaves that end a
    /// subscription are as many as there were joins, but of unknown ids it could ask without end.
    pub owed_bytes: usize,
    /// Commands that may wait in the shard for the store; above, it takes no more until answers come.
    pub commands: usize,
    /// What the shard spends in one turn on what may go on in the next.
    pub shard_units: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            messages: 64,
            queue_bytes: 256 * 1024,
            owed_bytes: 8 * 1024 * 1024,
            commands: 64 * 1024,
            shard_units: UNITS_A_TURN,
        }
    }
}

/// A subscriber, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whom {
    /// Its socket.
    pub id: SlotId,
    /// Its address; `None` when it is gone.
    pub peer: Option<SocketAddr>,
}

/// The subscribers of one worker.
pub struct Subscribers<S> {
    ports: WorkerPorts,
    shard: Shard,
    hooks: Arc<Hooks>,
    fanout: Fanout,
    connections: Connections<S>,
    auth: Option<Auth>,
    allowed_origins: Vec<OriginRule>,
    proxies: Proxies,
    /// Where those are that have come through a proxy.
    proxied: HashMap<SlotId, SocketAddr>,
    limits: Limits,
    place_below: usize,
    /// Who goes to another worker in this turn.
    departures: Departures,
    bounds: Bounds,
    name: Box<dyn FnMut() -> Box<str> + Send>,
    now: Now,
    persons: Persons,
    /// When the shard began, by the clock that never steps.
    shard_began: Instant,
    /// The clock of a store that other hosts use as well.
    store_clock: Option<ClockReading>,
    /// Whose turn it is to be read, and who has had its time.
    schedule: Schedule,
    /// Sockets with something queued to be written.
    to_write: VecDeque<SlotId>,
    /// Commands of own sockets to the own shard.
    own_commands: VecDeque<Command>,
    /// What the store has said and the shard has not heard yet.
    learned: VecDeque<Learned>,
    effects: Effects,
    /// Sockets that are not let in yet.
    half_open: HalfOpen,
    /// As what those are counted whose addresses are bounded.
    addresses: HashMap<SlotId, IpAddr>,
    debts: Debts,
    endings: Endings,
    drain: Drain,
    /// Replies went to the engine thread in this turn.
    has_replied: bool,
    /// A group's time ran more than a second ahead of the clock, and that was said.
    said_ahead: bool,
    notes: Notes,
    /// What is asked from outside and not answered yet.
    looking: Option<Box<Looking>>,
    closed: ClosedSockets,
    /// Why the server closes a socket, while it does.
    closing_for: Option<(Closed, u16)>,
    ages: Ages,
    /// Sockets that take no byte, and since when.
    blocked: HashMap<SlotId, Instant>,
    measures: Measures,
}

/// When the shard began, which is now unless it was there before, as where values were read.
fn began(shard: &mut Shard, now: Now) -> Instant {
    if shard.began_at() == 0 {
        shard.begin_at(now.wall_ms);
    }
    let uptime = Duration::from_millis(now.wall_ms.saturating_sub(shard.began_at()));
    now.monotonic.checked_sub(uptime).unwrap_or(now.monotonic)
}

impl<S: Socket> Subscribers<S> {
    /// What every connection costs, its socket included.
    pub const CONNECTION_BYTES: usize = size_of::<Connection<S>>();

    /// Nobody is there yet.
    pub fn new(mut parts: Parts) -> Subscribers<S> {
        let now = parts.now;
        let schedule = Schedule::new(&parts.limits, parts.now.monotonic);
        let shard_began = began(&mut parts.shard, now);
        parts.shard.set_units_a_turn(parts.bounds.shard_units);
        let rules = Arc::clone(parts.shard.stream_rules());
        parts.shard.set_members_max(parts.limits.members_per_group);
        let half_open = HalfOpen::new(&parts.limits, parts.ports.shared.connections.len());
        Subscribers {
            ports: parts.ports,
            shard: parts.shard,
            hooks: Arc::default(),
            fanout: Fanout::new(fanout::Bounds {
                reader: parts.limits.behind_bytes,
                worker: parts.limits.behind_bytes_worker,
                custom_events: parts.limits.custom_events_behind,
            }),
            connections: Connections::default(),
            auth: parts.auth,
            allowed_origins: parts.allowed_origins,
            proxies: parts.proxies,
            proxied: HashMap::new(),
            limits: parts.limits,
            place_below: parts.place_below,
            departures: Departures::default(),
            bounds: parts.bounds,
            name: parts.name,
            now: parts.now,
            persons: Persons::new(rules),
            shard_began,
            store_clock: None,
            schedule,
            to_write: VecDeque::new(),
            own_commands: VecDeque::new(),
            learned: VecDeque::new(),
            effects: Effects::default(),
            half_open,
            addresses: HashMap::new(),
            debts: Debts::default(),
            endings: Endings::default(),
            drain: Drain::Serving,
            has_replied: false,
            said_ahead: false,
            notes: Notes::default(),
            looking: None,
            closed: ClosedSockets::default(),
            closing_for: None,
            ages: Ages::new(),
            blocked: HashMap::new(),
            measures: Measures::new(now.monotonic),
        }
    }

    /// The next message of the open mailbox, once what the store has said before is heard. A fan-out
    /// that lags needs nobody to get on, so that wait ends by itself.
    pub fn next_message(&self) -> Option<ToWorker> {
        if self.fanout.is_lagging() || !self.learned.is_empty() {
            return None;
        }
        self.ports.open.take()
    }

    /// What the store has said and is heard next.
    pub fn next_learned(&self) -> Option<&Learned> {
        self.learned.front()
    }

    /// Hears so much at most of what the store has said, and gives how much that was.
    pub fn learn(&mut self, most: usize) -> usize {
        let now = self.shard_now();
        let len = self.learned.len().min(most);
        for learned in self.learned.drain(..len) {
            if let Learned::Answer(Answer {
                verdict, number, ..
            }) = &learned
            {
                let metrics = &self.ports.shared.workers[self.ports.id.index()];
                let is_refusal = matches!(verdict, Verdict::Refused(_));
                metrics.store_refuses.set(is_refusal);
                if is_refusal {
                    metrics.store_refusals.increment();
                    metrics.store_refused_ms.set(self.now.wall_ms);
                }
                self.measures.answered(*number, self.now.monotonic, metrics);
            }
            self.shard.learn(learned, now, &mut self.effects);
        }
        len
    }

    /// Takes a message of the open mailbox.
    pub fn take(&mut self, message: ToWorker) {
        match message {
            ToWorker::Delivery(delivery, due) => self.deliver(delivery.local, delivery.what, due),
            ToWorker::Learned(learned) => self.learned.extend(learned),
            ToWorker::Slice(cursor, limits) => {
                let slice = self.shard.slice(cursor, limits);
                if let Some(outbox) = &mut self.ports.to_store {
                    outbox.send(ToStore::Slice(self.ports.id, slice));
                }
            }
            ToWorker::Clock(reading) => self.store_clock = Some(reading),
            ToWorker::JoinDecided(request, is_admitted) => self.join_decided(*request, is_admitted),
            ToWorker::TakeLeaves(len) => self.debts.grant(len),
            ToWorker::Told(told) => {
                let now = self.shard_now();
                self.shard.told(told, now, &mut self.effects);
            }
            ToWorker::Authenticated(id, verdict) => self.authenticated(id, verdict),
            ToWorker::AuthFunction(function) => self.auth = function.map(Auth::from),
            ToWorker::Settings(settings) => self.take_settings(&settings),
        }
    }

    /// The next message of the command mailbox, while what follows from it finds room.
    pub fn next_command(&self) -> Option<ToOwner> {
        if !self.may_take_commands() {
            return None;
        }
        self.ports.commands.take()
    }

    /// The next command of an own socket to the own shard, likewise.
    pub fn next_own_command(&mut self) -> Option<Command> {
        if !self.may_take_commands() {
            return None;
        }
        self.own_commands.pop_front()
    }

    /// Takes a command. Gives what it cost: the bytes that it moved, and a little for itself.
    pub fn take_command(&mut self, command: Command) -> usize {
        let asked_bytes = command.held_bytes();
        let replies = self.effects.replies.len();
        let now = self.shard_now();
        self.shard.apply(command, now, &mut self.effects);
        let new = self.effects.replies[replies..].iter();
        let answered_bytes: usize = new.map(|reply| reply.outcome.held_bytes()).sum();
        COMMAND_COST + asked_bytes + answered_bytes
    }

    /// From here on these streams are hooked onto: for the commands behind it, and for own sockets.
    pub fn set_hooks(&mut self, hooks: Arc<Hooks>) {
        self.shard.set_hooks(Arc::clone(&hooks));
        self.hooks = hooks;
    }

    /// Messages were taken: whoever waited for that room is woken.
    pub fn tell_senders(&self) {
        let shared = &self.ports.shared;
        self.ports.open.tell_waiters(|thread| shared.wake(thread));
        let commands = &self.ports.commands;
        commands.tell_waiters(|thread| shared.wake(thread));
    }

    /// What the shard asks of a store that answers in the same turn; `None`: nothing more.
    pub fn take_requests(&mut self) -> Option<Vec<Request>> {
        let requests = std::mem::take(&mut self.effects.requests);
        (!requests.is_empty()).then_some(requests)
    }

    /// Carries out what the shard asks for, whole, before the next wait.
    pub fn perform(&mut self) {
        if let Some(outbox) = &mut self.ports.to_store
            && !self.effects.requests.is_empty()
        {
            let requests = std::mem::take(&mut self.effects.requests);
            self.measures.asked(&requests, self.now.monotonic);
            outbox.send(ToStore::Requests(requests));
        }
        self.has_replied = !self.effects.replies.is_empty();
        for reply in self.effects.replies.drain(..) {
            self.ports.to_engine.send(ToEngine::Reply(reply));
        }
        // Behind the replies, also those that have found no room.
        for fired in self.effects.fired.drain(..) {
            match self.ports.to_engine.has_backlog() {
                true => self.ports.to_fired.keep(fired),
                false => self.ports.to_fired.send(fired),
            }
        }
        for call in self.effects.custom.drain(..) {
            self.ports.to_engine.send(ToEngine::Custom(call));
        }
        let deliveries = std::mem::take(&mut self.effects.deliveries);
        let mut events_sent = 0;
        for delivery in deliveries {
            if delivery.to == self.ports.id {
                self.deliver(delivery.local, delivery.what, self.now.monotonic);
            } else if let Some(outbox) = self.ports.to_open.get_mut(delivery.to.index()) {
                events_sent += u64::from(matches!(delivery.what, Delivered::Event(_)));
                outbox.send(ToWorker::Delivery(delivery, self.now.monotonic));
            }
        }
        self.metrics().events_sent.add(events_sent);
        let refused = self.shard.take_refused();
        if refused > 0 {
            self.metrics().commands_refused.add(refused);
            self.notes.push(Note::CallsRefused(refused));
        }
        let starved = self.shard.take_out_of_memory();
        self.metrics().calls_out_of_memory.add(starved);
        let expired = self.shard.take_expired();
        self.metrics().items_expired.add(expired);
        let refused = std::mem::take(&mut self.effects.members_refused);
        self.metrics().members_refused.add(refused);
        let ahead_ms = self.shard.take_ahead_ms();
        if ahead_ms > 0 {
            self.note_time_ahead(ahead_ms);
        }
    }

    /// `due`: when the owner let it go.
    fn deliver(&mut self, local: LocalGroupId, what: Delivered, due: Instant) {
        match what {
            Delivered::Event(frame) => {
                self.fanout.events_are_of(self.measures.micros(due));
                self.fanout.append(local, frame);
            }
            Delivered::Afresh(snapshot) => {
                let sync_of = move |item: Option<&ItemId>| snapshot.sync_of(item);
                self.fanout.begin_afresh(local, Arc::new(sync_of));
            }
            Delivered::Entered {
                token: FRESH, sync, ..
            } => self.fanout.refreshed(local, sync, &mut self.connections),
            Delivered::Entered {
                connection,
                token,
                sync,
            } => self.entered(local, connection, token, sync),
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
    pub fn flush(&mut self) {
        self.ports.to_engine.flush();
        if !self.ports.to_engine.has_backlog() {
            self.ports.to_fired.flush();
        }
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

    /// The time that the shard goes by, in ms since 1970: that of the store, where hosts share it.
    fn shard_now(&self) -> u64 {
        let now = self.now;
        self.store_clock
            .map_or(now.wall_ms, |clock| clock.ms_at(now.monotonic))
    }

    fn note_time_ahead(&mut self, ahead_ms: u64) {
        self.metrics().time_ahead_ms.raise_to(ahead_ms);
        if ahead_ms >= 1000 && !self.said_ahead {
            self.said_ahead = true;
            self.notes.push(Note::TimeAhead(ahead_ms));
        }
    }

    /// What this worker has of the mesh.
    pub fn ports(&self) -> &WorkerPorts {
        &self.ports
    }

    /// The same, for the shell, which hands sockets on.
    pub fn ports_mut(&mut self) -> &mut WorkerPorts {
        &mut self.ports
    }

    /// The limits that hold here.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The id of the function that is asked about upgrades now; empty: nobody is.
    pub fn auth_function(&self) -> &str {
        self.auth.as_ref().map_or("", |auth| &auth.function)
    }

    /// What the shard asks for and nobody has carried out.
    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// Its shard of the groups.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Who has heard what.
    pub fn fanout(&self) -> &Fanout {
        &self.fanout
    }

    /// Panics where what should hold does not: for tests, since it looks at everyone.
    pub fn check_invariants(&mut self) {
        self.shard.check_invariants();
        self.fanout.check_invariants(&mut self.connections);
    }

    fn metrics(&self) -> &WorkerMetrics {
        &self.ports.shared.workers[self.ports.id.index()]
    }
}
