//! Attached mode: whose the functions of streams are in the engine. They are ours, or those of another
//! server, beside which we stand by until it ends.
//!
//! Engines tell it in several ways: newer ones refuse what somebody else has, and name who serves a
//! function; older ones let the newest take all, and only the list of workers shows it. The trigger
//! types follow the functions, so that no gate is asked by a server that nobody calls.

use std::time::{Duration, Instant};

use super::Attached;
use crate::broker::Broker;
use crate::broker::awaits::Awaits;
use crate::broker::calls::Calls;
use crate::broker::lines::Level;
use crate::broker::registry::OURS;
use crate::broker::triggers::Triggers;
use crate::broker::turn::Turn;
use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer::Outgoing;
use crate::protocol::attached::{self, LIST_TRIGGER_TYPES, Rejection};
use crate::protocol::input::StreamFunction;

/// How often a server that stands by looks whether the other one has ended, and how soon functions are
/// registered once more that the engine does not list.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The types are registered by then, though the engine has not told which functions there are.
const TYPES_WAIT: Duration = Duration::from_secs(5);

/// What is known of it on this link.
pub(super) struct Standing {
    pub(super) state: State,
    /// Another server had the functions, and they are not known to be ours since.
    pub(super) is_by: bool,
    /// The question about functions, which is never asked twice at a time.
    pub(super) question: Question,
    pub(super) has_asked: bool,
    /// What it is answered comes behind the triggers of our types.
    pub(super) knows_triggers: bool,
    /// Our trigger types are registered.
    pub(super) has_types: bool,
    /// They are by then.
    pub(super) types_at: Option<Instant>,
    /// The engine's list has shown our functions on this link.
    pub(super) has_shown: bool,
    /// The owner of what the engine did not let us register.
    pub(super) rejected: Option<Box<str>>,
    /// When the functions were registered once more.
    pub(super) anew_at: Option<Instant>,
    pub(super) look_at: Option<Instant>,
    /// How often it was asked because something has changed, in the second that began then.
    pub(super) changes: Option<(Instant, u32)>,
    /// Said in the log, and not to be said again.
    pub(super) said_missing: Vec<&'static str>,
    pub(super) said_owner: Option<Box<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// They are registered, and the engine has not told whose they are.
    Registered,
    Ours,
    Others,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    None,
    /// The triggers of our types stand before its answer.
    UnderWay {
        knows_triggers: bool,
    },
    /// It is to be asked once more.
    Again {
        knows_triggers: bool,
    },
}

impl Standing {
    pub(super) fn new() -> Standing {
        Standing {
            state: State::Registered,
            is_by: false,
            question: Question::None,
            has_asked: false,
            knows_triggers: false,
            has_types: false,
            types_at: None,
            has_shown: false,
            rejected: None,
            anew_at: None,
            look_at: None,
            changes: None,
            said_missing: Vec::new(),
            said_owner: None,
        }
    }

    /// A new link is up. Whether we stand by holds until the engine tells otherwise.
    fn begin_anew(&mut self, now: Instant) {
        *self = Standing {
            is_by: self.is_by,
            types_at: Some(now + TYPES_WAIT),
            said_missing: std::mem::take(&mut self.said_missing),
            said_owner: self.said_owner.take(),
            ..Standing::new()
        };
    }

    /// Whether another server has the functions.
    pub(super) fn is_by(&self) -> bool {
        self.is_by
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        [self.types_at, self.look_at].into_iter().flatten().min()
    }
}

impl Broker {
    /// Goes on with what is due by the clock.
    pub fn tend_standing(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.tend_standing(&mut self.turn, &mut self.calls);
            self.settle_if_due();
        }
    }
}

impl Attached {
    /// The link is up, and our functions are registered: asks whose they are.
    pub(super) fn begin_standing(&mut self, turn: &mut Turn, calls: &mut Calls, id: SlotId) {
        self.standing.begin_anew(turn.now.monotonic);
        self.look_at_functions(turn, calls, id);
    }

    /// The engine does not let us register something: somebody else has it.
    pub(super) fn registration_rejected(
        &mut self,
        turn: &mut Turn,
        calls: &mut Calls,
        triggers: &Triggers,
        id: SlotId,
        rejection: &Rejection,
    ) {
        turn.lines.say(
            Level::Debug,
            format!("the engine rejects a registration: {rejection}"),
        );
        match &rejection.function_id {
            Some(function_id) if StreamFunction::from_id(function_id).is_none() => {}
            Some(_) => {
                let owner = rejection.owner.as_deref().unwrap_or("another worker");
                self.standing.rejected = Some(owner.into());
                self.link.is_rejected();
                // Of the owner's name nothing is known yet: the list may tell it.
                self.look_at_functions(turn, calls, id);
            }
            // The engine ends the connection.
            None => {
                self.link.refused_because(format!(
                    "it refuses us: {rejection}. A server of another name (III_WORKER_NAME) would be let in; \
                     this one stands by until that one ends"
                ));
                self.stand_by_silently(turn, triggers);
            }
        }
    }

    /// Another server has the functions. Our types are left alone, and joins refused, until it ends.
    pub(super) fn stand_by(&mut self, turn: &mut Turn, triggers: &Triggers, owner: &str) {
        self.stand_by_silently(turn, triggers);
        let standing = &mut self.standing;
        standing.look_at = Some(turn.now.monotonic + LOOK_EVERY);
        if standing.said_owner.as_deref() != Some(owner) {
            standing.said_owner = Some(owner.into());
            let line = format!(
                "the functions of streams belong to {} in the engine at {}: this server stands by, refuses \
                 joins, and takes over when that one ends",
                Shown(owner),
                turn.engine_at()
            );
            turn.lines.say(Level::Warn, line);
        }
    }

    fn stand_by_silently(&mut self, turn: &mut Turn, triggers: &Triggers) {
        self.standing.types_at = None;
        self.standing.is_by = true;
        if std::mem::replace(&mut self.standing.state, State::Others) != State::Others {
            self.unsettle(turn, triggers, false);
            self.shorten_waits_of_joins(turn.now.monotonic);
        }
    }

    /// Nobody has the functions, though they were registered: they are registered once more, and
    /// everything is learned anew.
    pub(super) fn register_anew(
        &mut self,
        turn: &mut Turn,
        calls: &mut Calls,
        triggers: &Triggers,
        id: SlotId,
    ) {
        let now = turn.now.monotonic;
        let standing = &mut self.standing;
        let is_soon = |at: Instant| now.saturating_duration_since(at) < LOOK_EVERY;
        if let Some(at) = standing.anew_at.filter(|at| is_soon(*at)) {
            standing.look_at = Some(at + LOOK_EVERY);
            return;
        }
        standing.anew_at = Some(now);
        standing.state = State::Registered;
        standing.rejected = None;
        standing.has_types = false;
        standing.knows_triggers = false;
        standing.types_at = Some(now + TYPES_WAIT);
        standing.look_at = None;
        let line = format!(
            "nobody has the functions of streams in the engine at {}: registers them",
            turn.engine_at()
        );
        turn.lines.say(Level::Info, line);
        self.unsettle(turn, triggers, false);
        self.begin_forgetting(triggers, id);
        let functions = attached::function_registrations(OURS);
        for message in functions
            .into_iter()
            .chain([attached::configuration_registration()])
        {
            turn.members.send_text(id, &message);
        }
        self.look_at_functions(turn, calls, id);
    }

    /// As far as is known the functions are ours: the types are too, and then everything is known.
    pub(super) fn go_on_standing(&mut self, turn: &mut Turn, calls: &mut Calls, id: SlotId) {
        let now = turn.now.monotonic;
        let standing = &mut self.standing;
        if standing.state == State::Others {
            standing.look_at = Some(now + LOOK_EVERY);
            return;
        }
        if standing.has_types {
            if standing.knows_triggers {
                standing.state = State::Ours;
                standing.is_by = false;
                standing.said_owner = None;
                self.settles_soon = true;
            }
            return;
        }
        standing.has_types = true;
        standing.types_at = None;
        for message in attached::type_registrations() {
            turn.members.send_text(id, &message);
        }
        // What the engine says of its triggers comes before the answers to these.
        let awaits = Awaits::TriggerTypes;
        read_back(turn, calls, id, LIST_TRIGGER_TYPES, "{}", awaits);
        self.look_at_functions(turn, calls, id);
    }

    fn tend_standing(&mut self, turn: &mut Turn, calls: &mut Calls) {
        let now = turn.now.monotonic;
        let Some(id) = turn.link() else {
            return;
        };
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut self.standing.types_at) {
            self.go_on_standing(turn, calls, id);
        }
        if is_due(&mut self.standing.look_at) {
            self.look_at_functions(turn, calls, id);
        }
    }
}

/// Asks the engine for one of its lists.
pub(super) fn read_back(
    turn: &mut Turn,
    calls: &mut Calls,
    id: SlotId,
    list: &'static str,
    input: &str,
    awaits: Awaits,
) {
    let call = Outgoing::own(list, input);
    calls.send_call(turn, id, &call, awaits, list);
}
