//! What SDK workers have registered, asked and been asked: functions, triggers, calls, the answers about
//! joins and upgrades, and the conversation with an engine whose worker we are. Messages in; messages,
//! commands and what is to become of sockets out.
//!
//! No socket, poll, clock, thread or log line: what is unsent is lent to whoever has the sockets
//! ([`Members`]), what is to become of them leaves as [`Effect`], what the log is to hear as [`Line`], and
//! the time is handed in with each turn. The shell is `engine`: it says when which of these is called.

mod admission;
mod asked;
mod attached_to;
mod awaits;
mod caller;
mod calls;
mod effects;
mod ended;
mod ending;
mod functions;
mod guard;
mod hear;
mod holdings;
mod hooks;
mod joins;
mod leaves;
mod lines;
mod link;
mod members;
mod messages;
mod naming;
mod notes;
mod operators;
mod outgoing;
mod own;
mod parked;
mod profile;
mod reattach;
mod registry;
mod renamed;
mod rules;
mod settings;
mod steps;
mod target;
mod triggers;
mod turn;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::id::SlotId;
use crate::mesh::{EnginePorts, ToEngine};
use crate::protocol::answer::Outgoing;
use crate::protocol::custom;
use crate::shard::CustomCall;
use crate::time::Now;

pub use admission::Authenticator;
pub use attached_to::KnownAs;
pub use effects::{Effect, Effects};
pub use lines::{Level, Line};
pub use members::{Member, Members};
pub use rules::{OfListener, Rules};
pub use turn::Turn;

use awaits::Awaits;
use calls::Calls;
use ending::Endings;
use joins::Joins;
use leaves::Leaves;
use link::Attached;
use own::listings::Listings;
use own::logs::Logs;
use own::present::Present;
use reattach::Replaced;
use registry::Functions;
use rules::OfListeners;
use triggers::Triggers;
use triggers::firing::Firing;

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
///
/// The fields behind the first are rooms, each with a state of its own: a room works with the [`Turn`], and
/// with those other rooms that it is handed. A method of the broker itself crosses rooms.
pub struct Broker {
    /// What every room uses.
    pub turn: Turn,
    /// What holds on each listener.
    of_listeners: OfListeners,
    /// Who serves which function.
    functions: Functions,
    /// What events, joins and leaves call, and who serves trigger types.
    triggers: Triggers,
    /// Calls under way.
    calls: Calls,
    /// Who is asked about subscribers' sockets.
    auth: Authenticator,
    /// Joins whose functions are asked.
    joins: Joins,
    /// Leaves that are owed to functions.
    leaves: Leaves,
    /// What is known of the engine whose worker we are, and what waits for it. None: we are the engine.
    attached: Option<Box<Attached>>,
    /// The SDK workers that are there, for listings.
    present: Present,
    /// Lists that are made in turns.
    listings: Listings,
    /// Logs on their way to triggers.
    logs: Logs,
    /// Members whose place another one of the same worker takes.
    replaced: Replaced,
    /// Workers that are gone, and of which something is left.
    endings: Endings,
    /// When the broker was made, in ms since 1970.
    started_ms: u64,
}

impl Broker {
    /// Before a worker takes its first socket it knows which joins it may not decide itself.
    pub fn new(parts: Parts) -> Broker {
        let settings = parts.settings;
        let triggers = Triggers::new(&settings.limits);
        let attached = parts.known_as.as_ref().map(|_| Box::new(Attached::new()));
        let mut joins = Joins::default();
        joins.set(settings.join_required, settings.refuses_failed_joins);
        let mut broker = Broker {
            turn: Turn::new(
                parts.ports,
                settings.limits,
                settings.call_timeout,
                parts.known_as,
                parts.now,
            ),
            of_listeners: OfListeners(parts.of_listeners.into()),
            functions: Functions::default(),
            triggers,
            calls: Calls::default(),
            auth: settings.auth,
            joins,
            leaves: Leaves::default(),
            attached,
            present: Present::default(),
            listings: Listings::default(),
            logs: Logs::default(),
            replaced: Replaced::default(),
            endings: Endings::default(),
            started_ms: parts.now.wall_ms,
        };
        broker.turn.hooks.change();
        broker.tell_all_hooks();
        broker.turn.flush();
        broker
    }

    /// A turn begins: goes on with what the ones before have left. `shows_debug`: somebody hears of who
    /// comes and goes.
    pub fn begin_turn(&mut self, now: Now, shows_debug: bool) {
        self.turn.now = now;
        self.turn.lines.shows_debug = shows_debug;
        self.turn.steps.begin_turn();
        self.go_on();
    }

    /// Takes what the workers have told.
    pub fn read_mailbox(&mut self) {
        // Looked at first: the reply to a call is there once its event is, and goes before it.
        let fired = self.turn.ports.fired.len();
        let len = self.turn.ports.mailbox.len();
        let metrics = self.turn.metrics();
        metrics.mailbox.set_len(len + fired);
        metrics.calls_in_flight.set_len(self.calls.len());
        for _ in 0..len {
            let Some(message) = self.turn.ports.mailbox.take() else {
                break;
            };
            self.take(message);
            self.go_on();
        }
        self.call_for_operators();
        if len > 0 {
            let ports = &self.turn.ports;
            let shared = &ports.shared;
            ports.mailbox.tell_waiters(|thread| shared.wake(thread));
        }
        self.read_fired(fired);
    }

    /// Takes so many events that triggers follow, while what waits for its turn leaves room.
    fn read_fired(&mut self, len: usize) {
        let mut taken = 0;
        while taken < len
            && self.triggers.has_room_for_firings(&self.turn.limits)
            && let Some(fired) = self.turn.ports.fired.take()
        {
            taken += 1;
            self.triggers
                .fire_all(&mut self.turn, Firing::of_event(fired));
            self.go_on();
        }
        if taken > 0 {
            let shared = &self.turn.ports.shared;
            let fired = &self.turn.ports.fired;
            fired.tell_waiters(|thread| shared.wake(thread));
        }
    }

    fn take(&mut self, message: ToEngine) {
        match message {
            ToEngine::Reply(reply) => self.calls.reply(&mut self.turn, reply),
            ToEngine::Custom(call) => self.ask_custom(&call),
            ToEngine::Join(request) => self.decide_join(request),
            ToEngine::Auth(request) => self.authenticate(request),
            ToEngine::Owes(worker) => self.leaves.add_debtor(worker),
            ToEngine::Leaves {
                worker,
                leaves,
                more,
            } => self.leaves.settle(worker, leaves, more),
            ToEngine::Settings(settings) => self.take_settings(settings),
        }
    }

    /// The rules of that listener, if it has any.
    pub fn rules_of(&self, listener: usize) -> Option<&Arc<Rules>> {
        self.of_listeners.rules_of(listener)
    }

    /// The socket of that member is no more.
    pub fn remove(&mut self, id: SlotId) {
        self.forget(id);
        self.turn.members.remove(id);
    }

    /// One message of a member. What it brings about is done at once, as far as this turn may.
    pub fn hear_message(&mut self, id: SlotId, text: &str) {
        match self.turn.members.is_link(id) {
            true => self.on_engine_message(id, text),
            false => self.on_message(id, text),
        }
        self.go_on();
    }

    /// Tries again what found its owner full.
    pub fn deliver_parked(&mut self) {
        self.make_hooks();
        self.calls.deliver_parked(&mut self.turn);
    }

    /// Whether something of that member is under way, or waits to be sent.
    pub fn is_busy(&self, id: SlotId) -> bool {
        let member = self.turn.members.get(id);
        member.is_some_and(|member| member.is_waited_for()) || self.calls.concern(id)
    }

    /// Whether nothing is left that members have brought: for tests, once all have gone.
    pub fn holds_nothing(&self) -> bool {
        self.triggers.is_empty()
            && self.functions.is_empty()
            && self.calls.is_empty()
            && self.joins.is_empty()
            && !self.has_work()
            && self.present.is_empty()
            && self.turn.members.is_empty()
    }

    /// Whether commands wait that no member waits for.
    pub fn has_orphans(&self) -> bool {
        self.calls.has_orphans()
    }

    /// Ends what has had its time.
    pub fn end_overdue(&mut self) {
        self.replaced.end_due(&mut self.turn);
        self.end_overdue_calls();
        self.end_overdue_waits();
    }

    /// Whether there is something to be done at once.
    pub fn is_due(&self) -> bool {
        let (turn, ports) = (&self.turn, &self.turn.ports);
        turn.members.has_dirty()
            || self.has_work()
            || !turn.effects.is_empty()
            || !ports.mailbox.is_empty()
            || !ports.shared.operators.is_empty()
            || !ports.fired.is_empty()
            || self.may_take_leaves()
    }

    /// When there is something to be done by the clock.
    pub fn next_at(&mut self) -> Option<Instant> {
        let attached = self.attached.as_ref();
        let times = [
            self.replaced.next_at(),
            self.calls.next_deadline(),
            self.calls.next_parked(&self.turn),
            self.functions.next_told(),
            attached.and_then(|attached| attached.next_at(&self.turn)),
            self.turn.lines.next_at(),
        ];
        times.into_iter().flatten().min()
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
        let namespace = self.turn.own_namespace();
        let asked = Outgoing {
            namespace: namespace.as_deref(),
            ..Outgoing::own(&function_id, &call.input)
        };
        self.ask(&asked, awaits);
    }
}
