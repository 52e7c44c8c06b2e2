//! Thread kind 3: calls come in from SDK workers, commands go to the owners, replies go back.
//!
//! [`Engine::run`] is the order of work in one turn. May not know a worker or the store but through
//! the messages of `mesh`.

mod admission;
mod ask;
mod asked;
mod attached;
mod audience;
mod available;
mod bindings;
mod callee;
mod calls;
mod early;
mod embedded;
mod ended;
mod ending;
mod firing;
mod followers;
mod guard;
mod holdings;
mod hooks;
mod link;
mod listeners;
mod listings;
mod logs;
mod messages;
mod notes;
mod outgoing;
mod own;
mod parked;
mod part;
mod peers;
mod presence;
mod profile;
mod publish;
mod reattach;
mod registry;
mod renamed;
mod serve;
mod steps;
mod target;
mod trigger;
mod triggers;
mod work;
mod worker_rows;
mod workers;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::collections::{Named, PersistentSet};
use crate::config::Limits;
use crate::id::{SlotId, WorkerId};
use crate::log::Notes;
use crate::mesh::{EnginePorts, ToEngine, engine_thread};
use crate::metrics::EngineMetrics;
use crate::net::{self, Ready};
use crate::protocol::answer::Outgoing;
use crate::protocol::custom;
use crate::protocol::origin::OriginRule;
use crate::shard::CustomCall;
use crate::time::{Deadlines, Now, TurnClock, sleep_until};

pub use link::{Attach, AttachError};
pub use listeners::{Listener, Rules};

use attached::Attached;
use calls::{Awaits, Calls};
use ended::Ended;
use firing::Firing;
use hooks::HooksState;
use listeners::Listeners;
use parked::Parked;
use peers::{Liveness, Peers};
use presence::{Deciding, Taken};
use registry::Functions;
use triggers::Triggers;
use work::Work;
use worker_rows::Present;

const READ_BUFFER_BYTES: usize = 64 * 1024;
/// What one turn reads at most before replies are written again.
const READ_BYTES_A_TURN: usize = 4 * READ_BUFFER_BYTES;

/// Who decides whether a subscriber's socket may open.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The function that is asked, if one is.
    pub function_id: Option<String>,
    /// How long its answer is awaited.
    pub timeout: Duration,
    /// A function that is missing, fails or refuses lets everybody in.
    pub lets_in: bool,
}

/// What the engine thread is made with.
pub struct Parts {
    /// The poll whose waker the mesh has.
    pub poll: Poll,
    /// Where SDK workers connect: nowhere if there is an engine to attach to.
    pub listeners: Vec<Listener>,
    /// That engine.
    pub attach: Option<Attach>,
    /// Web pages of elsewhere that may connect where there are no rules.
    pub origins: Vec<OriginRule>,
    /// Its mailbox, and its ways to the workers.
    pub ports: EnginePorts,
    /// The limits that hold here.
    pub limits: Limits,
    /// How long a call may wait for an SDK worker, or for room at its owner.
    pub call_timeout: Duration,
    /// Who is asked about subscribers' sockets, if anybody is.
    pub auth: Auth,
    /// Streams that nobody joins unless a function was asked and answered.
    pub join_required: Vec<String>,
    /// Whether a join is refused whose function fails or is not there.
    pub refuses_failed_joins: bool,
    /// How long calls under way have at the end of the process.
    pub drain: Duration,
}

/// The engine thread.
pub struct Engine {
    poll: Poll,
    listeners: Listeners,
    /// Web pages of elsewhere that may connect where there are no rules.
    origins: Vec<OriginRule>,
    ports: EnginePorts,
    limits: Limits,
    call_timeout: Duration,
    drain: Duration,
    now: Now,
    buffer: Vec<u8>,
    peers: Peers,
    functions: Functions,
    triggers: Triggers,
    hooks: HooksState,
    calls: Calls,
    /// What goes on from turn to turn.
    work: Work,
    /// Calls that have ended where they were made.
    ended: VecDeque<Ended>,
    /// The SDK workers that are there, for listings.
    present: Present,
    auth: Auth,
    /// Streams that nobody joins unless a function was asked and answered.
    join_required: PersistentSet,
    refuses_failed_joins: bool,
    /// The engine whose worker we are. None: we are the engine.
    attached: Option<Box<Attached>>,
    /// Joins whose functions are asked.
    deciding: Named<Deciding>,
    /// Workers that owe leaves and wait to be told how many are taken.
    owing: VecDeque<WorkerId>,
    /// Leaves that were taken, and that functions have still to hear of.
    taken_leaves: VecDeque<Taken>,
    /// How many each worker was told.
    leaves_granted: Vec<(WorkerId, usize)>,
    /// Sockets with something to read, each once.
    readable: VecDeque<SlotId>,
    /// Sockets with commands that found their owner full.
    parked: Vec<SlotId>,
    /// The same of sockets that have ended since, and of triggers: what was sent is done all the same,
    /// as far as `limits.call_queue_bytes` has room.
    orphans: Parked,
    handshakes: Deadlines<SlotId>,
    closing: Deadlines<SlotId>,
    /// Sockets whose place another one of the same worker takes.
    replaced: Deadlines<SlotId>,
    /// When a change in the set of functions is told.
    functions_due: Option<Instant>,
    /// When this thread was made, in ms since 1970.
    started_ms: u64,
    /// When the last socket is closed, whatever is under way; set when the process begins to end.
    drain_until: Option<Instant>,
    /// When the end of the process goes on.
    drain_at: Instant,
    notes: Notes,
}

impl Engine {
    /// Makes the engine of these parts; [`Engine::run`] is its life.
    pub fn new(parts: Parts) -> io::Result<Engine> {
        let listeners = Listeners::watch(parts.listeners, parts.poll.registry())?;
        let workers = parts.ports.to_commands.len();
        let now = Now::read();
        let attached = parts
            .attach
            .map(|to| Box::new(Attached::new(to, now.monotonic)));
        let mut join_required = PersistentSet::default();
        for stream in parts.join_required {
            join_required.insert(stream.into());
        }
        let triggers = Triggers::new(&parts.limits);
        let mut engine = Engine {
            poll: parts.poll,
            listeners,
            origins: parts.origins,
            ports: parts.ports,
            limits: parts.limits,
            call_timeout: parts.call_timeout,
            drain: parts.drain,
            now,
            buffer: vec![0; READ_BUFFER_BYTES],
            peers: Peers::default(),
            functions: Functions::default(),
            triggers,
            hooks: HooksState::new(workers),
            auth: parts.auth,
            join_required,
            refuses_failed_joins: parts.refuses_failed_joins,
            attached,
            deciding: Named::default(),
            owing: VecDeque::new(),
            taken_leaves: VecDeque::new(),
            leaves_granted: Vec::new(),
            calls: Calls::default(),
            work: Work::default(),
            ended: VecDeque::new(),
            present: Present::default(),
            readable: VecDeque::new(),
            parked: Vec::new(),
            orphans: Parked::default(),
            handshakes: Deadlines::default(),
            closing: Deadlines::default(),
            replaced: Deadlines::default(),
            functions_due: None,
            started_ms: now.wall_ms,
            drain_until: None,
            drain_at: Instant::now(),
            notes: Notes::default(),
        };
        // Before a worker takes its first socket it knows which joins it may not decide itself.
        engine.hooks.change();
        engine.tell_all_hooks();
        engine.flush();
        Ok(engine)
    }

    /// The engine's life. It ends when the process does and all its sockets are closed.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.is_done() {
            self.wait_for_events(&mut events)?; // the thread sleeps here and nowhere else
            let turn = TurnClock::begin();
            self.now = Now::read(); // the turn's one look at the clocks
            self.begin_turn(); // what was too long for one turn
            self.read_mailbox();
            self.deliver_parked(); // what found its owner full, before anything after it
            self.accept();
            self.tend_link();
            self.tend_standing();
            self.read_sockets(); // bytes → messages → commands
            self.take_leaves(); // what is owed to functions, as far as they have room
            self.tell_functions();
            self.tell_all_hooks();
            self.flush(); // one wake-up a worker
            self.end_overdue();
            self.go_on_draining();
            self.go_on(); // what all this has brought about
            self.release_answers(); // those to an engine that have been held long enough
            self.write_sockets(); // one write a socket
            self.tell_all_hooks(); // what has ended since may have been a hook or an answer
            self.flush();
            self.notes.tell_due(self.now.monotonic);
            self.ports.shared.engine.loop_turns.note(turn.elapsed());
        }
        self.notes.tell_all();
        Ok(())
    }

    fn wait_for_events(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.sleep_at_most();
        if !net::wait(&mut self.poll, events, timeout)? {
            return Ok(());
        }
        for event in events.iter() {
            match Ready::from(event) {
                Ready::Mailbox => {}
                Ready::Listener(number) => self.listeners.wake(number),
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
                        self.peers.unblock(id);
                    }
                }
            }
        }
        let workers = self.ports.to_commands.len();
        self.ports.shared.wakes[engine_thread(workers)].lower();
        Ok(())
    }

    fn sleep_at_most(&mut self) -> Option<Duration> {
        let has_work = !self.readable.is_empty()
            || self.peers.has_dirty()
            || self.has_work()
            || !self.ports.mailbox.is_empty()
            || self.may_take_leaves()
            || self.listeners.are_due();
        if has_work {
            return Some(Duration::ZERO);
        }
        let parked = self
            .parked
            .iter()
            .filter_map(|id| self.peers.get(*id)?.parked_until)
            .min();
        sleep_until([
            self.handshakes.next_at(),
            self.closing.next_at(),
            self.replaced.next_at(),
            self.listeners.rest_until(),
            self.calls.next_deadline(),
            parked,
            self.next_functions_told(),
            self.next_drain_step(),
            self.next_link_step(),
            self.notes.next_at(),
        ])
    }

    fn read_mailbox(&mut self) {
        let len = self.ports.mailbox.len();
        for _ in 0..len {
            if !self.has_room_for_firings() {
                break; // what waits for its turn goes first
            }
            let Some(message) = self.ports.mailbox.take() else {
                break;
            };
            match message {
                ToEngine::Reply(reply) => self.reply(reply),
                ToEngine::Fired(fired) => self.fire_all(Firing::of_event(fired)),
                ToEngine::Custom(call) => self.ask_custom(&call),
                ToEngine::Join(request) => self.decide_join(request),
                ToEngine::Auth(request) => self.authenticate(request),
                ToEngine::Owes(worker) => self.owing.push_back(worker),
                ToEngine::Leaves {
                    worker,
                    leaves,
                    more,
                } => self.settle_leaves(worker, leaves, more),
            }
            self.go_on();
        }
        if len > 0 {
            let shared = &self.ports.shared;
            self.ports
                .mailbox
                .tell_waiters(|thread| shared.wake(thread));
        }
    }

    fn ask_custom(&mut self, call: &CustomCall) {
        let function_id = custom::function_id(call.function, call.key.stream());
        let awaits = Awaits::Custom {
            shard: call.shard,
            slot: call.slot,
            number: call.number,
            of_join: call.of_join,
        };
        let namespace = self.own_namespace();
        let asked = Outgoing {
            namespace: namespace.as_deref(),
            ..Outgoing::own(&function_id, &call.input)
        };
        self.ask(&asked, awaits);
    }

    fn flush(&mut self) {
        for outbox in &mut self.ports.to_commands {
            outbox.flush();
        }
        for outbox in &mut self.ports.to_open {
            outbox.flush();
        }
    }

    fn write_sockets(&mut self) {
        let mut written = Vec::new();
        let before = self.unsent_max();
        self.peers
            .write_all(|id, liveness| written.push((id, liveness)));
        for (id, liveness) in written {
            match liveness {
                // It may have been held for what it had not taken.
                Liveness::Alive => self.queue(id),
                Liveness::Dead => self.end(id),
            }
        }
        if self.unsent_max() > before {
            for id in self.peers.ids() {
                self.queue(id); // it may have been held for what waits for all
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_drained =
            self.drain_until.is_some() && self.peers.is_empty() && self.orphans.is_empty();
        is_drained || self.ports.shared.stopping.load(Ordering::Acquire)
    }

    fn metrics(&self) -> &EngineMetrics {
        &self.ports.shared.engine
    }
}
