//! What SDK workers have registered, asked and been asked: functions, triggers, calls, the answers about
//! joins and upgrades, and the conversation with an engine whose worker we are. Messages in; messages,
//! commands and what is to become of sockets out.
//!
//! No socket, poll, clock, thread or log line: what is unsent is lent to whoever has the sockets
//! ([`Members`]), what is to become of them leaves as [`Effect`], what the log is to hear as [`Line`], and
//! the time is handed in with each turn. The shell is `engine`: it says when which of these is called.

mod admission;
mod asked;
mod caller;
mod calls;
mod effects;
mod ending;
mod functions;
mod guard;
mod hear;
mod holdings;
mod lines;
mod link;
mod members;
mod messages;
mod notes;
mod operators;
mod outgoing;
mod own;
mod profile;
mod reattach;
mod registry;
mod renamed;
mod rules;
mod settings;
mod steps;
mod target;
mod triggers;
mod work;

use core::net::IpAddr; // an address is data
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collections::{Named, PersistentSet};
use crate::config::Limits;
use crate::id::{SlotId, WorkerId};
use crate::mesh::{EnginePorts, ToEngine, ToWorker};
use crate::metrics::EngineMetrics;
use crate::protocol::answer::Outgoing;
use crate::protocol::custom;
use crate::shard::CustomCall;
use crate::time::{Deadlines, Now};

pub use effects::{Effect, Effects};
pub use lines::{Level, Line};
pub use link::KnownAs;
pub use members::{Member, Members};
pub use rules::{OfListener, Rules};

use calls::ended::Ended;
use calls::parked::Parked;
use calls::{Awaits, Calls};
use lines::Lines;
use link::attached::Attached;
use own::worker_rows::Present;
use registry::Functions;
use rules::OfListeners;
use triggers::Triggers;
use triggers::firing::Firing;
use triggers::hooks::HooksState;
use triggers::presence::{Deciding, Taken};
use work::Work;

/// Who decides whether a subscriber's socket may open.
#[derive(Debug, Clone)]
pub struct Authenticator {
    /// The function that is asked, if one is.
    pub function_id: Option<String>,
    /// How long its answer is awaited.
    pub timeout: Duration,
    /// A function that is missing, fails or refuses lets everybody in.
    pub admits_failures: bool,
}

/// What the settings say of it.
pub struct Settings {
    /// The limits that hold here.
    pub limits: Limits,
    /// How long a call may wait for an SDK worker, or for room at its owner.
    pub call_timeout: Duration,
    /// Who is asked about subscribers' sockets, if anybody is.
    pub auth: Authenticator,
    /// Streams that nobody joins unless a function was asked and answered.
    pub join_required: Vec<String>,
    /// Whether a join is refused whose function fails or is not there.
    pub refuses_failed_joins: bool,
}

/// What a broker is made with.
pub struct Parts {
    /// Its mailbox, and its ways to the workers.
    pub ports: EnginePorts,
    /// What the settings say of it.
    pub settings: Settings,
    /// What holds on each listener for SDK workers, by its number.
    pub of_listeners: Vec<OfListener>,
    /// By what the engine knows us whose worker we are. None: we are the engine.
    pub known_as: Option<KnownAs>,
    /// Both clocks.
    pub now: Now,
}

/// What SDK workers have registered, asked and been asked.
pub struct Broker {
    /// Its mailbox, and its ways to the workers.
    pub ports: EnginePorts,
    /// The limits that hold here.
    pub limits: Limits,
    call_timeout: Duration,
    /// Both clocks, as they were when the turn began.
    pub now: Now,
    /// Who is at the other end of each socket.
    pub members: Members,
    /// What holds on each listener.
    of_listeners: OfListeners,
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
    auth: Authenticator,
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
    /// Members with commands that found their owner full.
    parked: Vec<SlotId>,
    /// The same of members that have ended since, and of triggers: what was sent is done all the same,
    /// as far as `limits.call_queue_bytes` has room.
    orphans: Parked,
    /// Members whose place another one of the same worker takes.
    replaced: Deadlines<SlotId>,
    /// When a change in the set of functions is told, if one has still to be.
    functions_due: Option<Instant>,
    /// When the broker was made, in ms since 1970.
    started_ms: u64,
    /// The process ends.
    pub is_draining: bool,
    /// What is to become of sockets.
    pub effects: Effects,
    /// What the log is to hear.
    lines: Lines,
}

impl Broker {
    /// Before a worker takes its first socket it knows which joins it may not decide itself.
    pub fn new(parts: Parts) -> Broker {
        let settings = parts.settings;
        let workers = parts.ports.to_commands.len();
        let triggers = Triggers::new(&settings.limits);
        let known_as = parts.known_as;
        let mut broker = Broker {
            ports: parts.ports,
            limits: settings.limits,
            call_timeout: settings.call_timeout,
            now: parts.now,
            members: Members::default(),
            of_listeners: OfListeners(parts.of_listeners.into()),
            functions: Functions::default(),
            triggers,
            hooks: HooksState::new(workers),
            calls: Calls::default(),
            work: Work::default(),
            ended: VecDeque::new(),
            present: Present::default(),
            auth: settings.auth,
            join_required: settings::names(settings.join_required),
            refuses_failed_joins: settings.refuses_failed_joins,
            attached: known_as.map(|known_as| Box::new(Attached::new(known_as))),
            deciding: Named::default(),
            owing: VecDeque::new(),
            taken_leaves: VecDeque::new(),
            leaves_granted: Vec::new(),
            parked: Vec::new(),
            orphans: Parked::default(),
            replaced: Deadlines::default(),
            functions_due: None,
            started_ms: parts.now.wall_ms,
            is_draining: false,
            effects: Effects::default(),
            lines: Lines::default(),
        };
        broker.hooks.change();
        broker.tell_all_hooks();
        broker.flush();
        broker
    }

    /// A turn begins: goes on with what the ones before have left. `shows_debug`: somebody hears of who
    /// comes and goes.
    pub fn begin_turn(&mut self, now: Now, shows_debug: bool) {
        self.now = now;
        self.lines.shows_debug = shows_debug;
        self.begin_work();
    }

    /// Takes what the workers have told.
    pub fn read_mailbox(&mut self) {
        // Looked at first: the reply to a call is there once its event is, and goes before it.
        let fired = self.ports.fired.len();
        let len = self.ports.mailbox.len();
        self.metrics().mailbox.set_len(len + fired);
        self.metrics().calls_in_flight.set_len(self.calls.len());
        for _ in 0..len {
            let Some(message) = self.ports.mailbox.take() else {
                break;
            };
            self.take(message);
            self.go_on();
        }
        self.call_for_operators();
        if len > 0 {
            let shared = &self.ports.shared;
            self.ports
                .mailbox
                .tell_waiters(|thread| shared.wake(thread));
        }
        self.read_fired(fired);
    }

    /// Takes so many events that triggers follow, while what waits for its turn leaves room.
    fn read_fired(&mut self, len: usize) {
        let mut taken = 0;
        while taken < len
            && self.has_room_for_firings()
            && let Some(fired) = self.ports.fired.take()
        {
            taken += 1;
            self.fire_all(Firing::of_event(fired));
            self.go_on();
        }
        if taken > 0 {
            let shared = &self.ports.shared;
            let fired = &self.ports.fired;
            fired.tell_waiters(|thread| shared.wake(thread));
        }
    }

    fn take(&mut self, message: ToEngine) {
        match message {
            ToEngine::Reply(reply) => self.reply(reply),
            ToEngine::Custom(call) => self.ask_custom(&call),
            ToEngine::Join(request) => self.decide_join(request),
            ToEngine::Auth(request) => self.authenticate(request),
            ToEngine::Owes(worker) => self.owing.push_back(worker),
            ToEngine::Leaves {
                worker,
                leaves,
                more,
            } => self.settle_leaves(worker, leaves, more),
            ToEngine::Settings(settings) => self.take_settings(settings),
        }
    }

    /// Somebody has connected to that listener. The id is that of its socket.
    pub fn enter(&mut self, listener: usize, ip: Option<IpAddr>) -> SlotId {
        let now = self.now.monotonic;
        self.members.enter(listener, ip, now)
    }

    /// The rules of that listener, if it has any.
    pub fn rules_of(&self, listener: usize) -> Option<&Arc<Rules>> {
        self.of_listeners.rules_of(listener)
    }

    /// We connect to the engine whose worker we are: `request` asks for an upgrade.
    pub fn enter_link(&mut self, request: Vec<u8>) -> SlotId {
        let now = self.now.monotonic;
        self.members.enter_link(request, now)
    }

    /// The socket of that member is no more.
    pub fn remove(&mut self, id: SlotId) {
        self.forget(id);
        self.members.remove(id);
    }

    /// One message of a member. What it brings about is done at once, as far as this turn may.
    pub fn hear_message(&mut self, id: SlotId, text: &str) {
        match self.is_link(id) {
            true => self.on_engine_message(id, text),
            false => self.on_message(id, text),
        }
        self.go_on();
    }

    /// Whether nothing of that member is to be read for now.
    pub fn is_held(&self, id: SlotId) -> bool {
        let most = self.unsent_max();
        self.members
            .get(id)
            .is_none_or(|member| member.is_held(most))
    }

    /// Whether something of that member is under way, or waits to be sent.
    pub fn is_busy(&self, id: SlotId) -> bool {
        let member = self.members.get(id);
        member.is_some_and(|member| member.is_waited_for()) || self.calls.concern(id)
    }

    /// Whether nothing is left that members have brought: for tests, once all have gone.
    pub fn holds_nothing(&self) -> bool {
        self.triggers.is_empty()
            && self.functions.is_empty()
            && self.calls.is_empty()
            && self.deciding.iter().next().is_none()
            && !self.has_work()
            && self.present.is_empty()
            && self.members.is_empty()
    }

    /// Whether commands wait that no member waits for.
    pub fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Ends what has had its time.
    pub fn end_overdue(&mut self) {
        self.end_replaced();
        self.end_overdue_calls();
        self.end_overdue_waits();
    }

    /// Whether there is something to be done at once.
    pub fn is_due(&self) -> bool {
        self.members.has_dirty()
            || self.has_work()
            || !self.effects.is_empty()
            || !self.ports.mailbox.is_empty()
            || !self.ports.shared.operators.is_empty()
            || !self.ports.fired.is_empty()
            || self.may_take_leaves()
    }

    /// What the log is to hear now.
    pub fn take_lines(&mut self) -> Vec<Line> {
        self.lines.take_due(self.now.monotonic)
    }

    /// What it is to hear at the end: nothing is held back any longer.
    pub fn take_last_lines(&mut self) -> Vec<Line> {
        self.lines.take_all()
    }

    /// When there is something to be done by the clock.
    pub fn next_at(&mut self) -> Option<Instant> {
        let parked = self
            .parked
            .iter()
            .filter_map(|id| self.members.get(*id)?.parked_until)
            .min();
        let times = [
            self.replaced.next_at(),
            self.calls.next_deadline(),
            parked,
            self.next_functions_told(),
            self.next_link_step(),
            self.lines.next_at(),
        ];
        times.into_iter().flatten().min()
    }

    /// One wake-up a worker.
    pub fn flush(&mut self) {
        for outbox in &mut self.ports.to_commands {
            outbox.flush();
        }
        for outbox in &mut self.ports.to_open {
            outbox.flush();
        }
    }

    /// What is counted here.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.ports.shared.engine
    }

    /// A shard needs the answer of a stream's custom function.
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

    /// Sends a worker thread what it takes at all times.
    fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        if let Some(outbox) = self.ports.to_open.get_mut(worker.index()) {
            outbox.send(message);
        }
    }

    /// The member was held, and may be read again.
    fn free(&mut self, id: SlotId) {
        self.effects.free(id);
    }

    /// The connection of that member is to end with these last bytes. It is sent nothing else.
    fn close(&mut self, id: SlotId, last: Vec<u8>) {
        if let Some(member) = self.members.get_mut(id) {
            member.is_open = false;
        }
        self.effects.push(Effect::Close(id, last));
    }
}
