//! Attached mode: whose the functions of streams are in the engine. They are ours, or those of another
//! server, beside which we stand by until it ends.
//!
//! Engines tell it in several ways: newer ones refuse what somebody else has, and name who serves a
//! function; older ones let the newest take all, and only the list of workers shows it. The trigger
//! types follow the functions, so that no gate is asked by a server that nobody calls.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::broker::calls::{Answered, Awaits};
use crate::broker::lines::Level;
use crate::broker::registry::OURS;
use crate::id::SlotId;
use crate::log::Shown;
use crate::protocol::answer::Outgoing;
use crate::protocol::attached::{
    self, LIST_FUNCTIONS, LIST_TRIGGER_TYPES, LIST_WORKERS, ListedFunction, Rejection,
    TRIGGER_TYPES, is_functions_changed,
};
use crate::protocol::input::StreamFunction;

/// How often a server that stands by looks whether the other one has ended, and how soon functions are
/// registered once more that the engine does not list.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a second that is asked at most because workers come and go: the list may be long.
const LOOKS_A_SECOND: u32 = 10;
/// The types are registered by then, though the engine has not told which functions there are.
const TYPES_WAIT: Duration = Duration::from_secs(5);

/// What is known of it on this link.
pub(in crate::broker) struct Standing {
    state: State,
    /// Another server had the functions, and they are not known to be ours since.
    is_by: bool,
    /// The question about functions, which is never asked twice at a time.
    question: Question,
    has_asked: bool,
    /// What it is answered comes behind the triggers of our types.
    knows_triggers: bool,
    /// Our trigger types are registered.
    has_types: bool,
    /// They are by then.
    types_at: Option<Instant>,
    /// The engine's list has shown our functions on this link.
    has_shown: bool,
    /// The owner of what the engine did not let us register.
    rejected: Option<Box<str>>,
    /// When the functions were registered once more.
    anew_at: Option<Instant>,
    look_at: Option<Instant>,
    /// How often it was asked because something has changed, in the second that began then.
    changes: Option<(Instant, u32)>,
    /// Said in the log, and not to be said again.
    said_missing: Vec<&'static str>,
    said_owner: Option<Box<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// They are registered, and the engine has not told whose they are.
    Registered,
    Ours,
    Others,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
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
    pub(in crate::broker) fn new() -> Standing {
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
    pub(in crate::broker) fn is_by(&self) -> bool {
        self.is_by
    }

    pub(in crate::broker) fn next_at(&self) -> Option<Instant> {
        [self.types_at, self.look_at].into_iter().flatten().min()
    }
}

impl Broker {
    /// The link is up, and our functions are registered: asks whose they are.
    pub(in crate::broker) fn begin_standing(&mut self, id: SlotId) {
        let now = self.now.monotonic;
        if let Some(attached) = &mut self.attached {
            attached.standing.begin_anew(now);
        }
        self.look_at_functions(id);
    }

    /// Asks which functions there are: once more after the answer, if that is under way.
    pub(in crate::broker) fn look_at_functions(&mut self, id: SlotId) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let standing = &mut attached.standing;
        if let Question::UnderWay { knows_triggers } | Question::Again { knows_triggers } =
            standing.question
        {
            standing.question = Question::Again { knows_triggers };
            return;
        }
        standing.question = Question::UnderWay {
            knows_triggers: standing.has_types,
        };
        // Servers beside us are seen by functions that are internal.
        let input = match std::mem::replace(&mut standing.has_asked, true) {
            true => r#"{"include_internal":true}"#,
            false => "{}",
        };
        self.read_back(id, LIST_FUNCTIONS, input, Awaits::Functions);
    }

    /// Functions or workers have changed: asks at once, or soon if it has just asked.
    pub(in crate::broker) fn functions_have_changed(&mut self, id: SlotId) {
        let now = self.now.monotonic;
        let Some(attached) = &mut self.attached else {
            return;
        };
        let standing = &mut attached.standing;
        let second = Duration::from_secs(1);
        let (began, count) = standing
            .changes
            .filter(|(began, _)| now.saturating_duration_since(*began) < second)
            .unwrap_or((now, 0));
        if count >= LOOKS_A_SECOND {
            let next = began + second;
            let look_at = standing.look_at.get_or_insert(next);
            *look_at = next.min(*look_at);
            return;
        }
        standing.changes = Some((began, count + 1));
        self.look_at_functions(id);
    }

    fn read_back(&mut self, id: SlotId, list: &'static str, input: &str, awaits: Awaits) {
        let call = Outgoing::own(list, input);
        self.send_call(id, &call, awaits, list);
    }

    /// The engine has told which functions there are, or could not.
    pub(in crate::broker) fn functions_listed(&mut self, answered: Answered<'_>) {
        if matches!(answered, Answered::Gone(_)) {
            return; // the link is lost: the next one asks again
        }
        let Some(attached) = &mut self.attached else {
            return;
        };
        let standing = &mut attached.standing;
        let question = std::mem::replace(&mut standing.question, Question::None);
        if let Question::UnderWay { knows_triggers } | Question::Again { knows_triggers } = question
        {
            standing.knows_triggers |= knows_triggers;
        }
        let Some(id) = attached.link.up() else {
            return;
        };
        let (_, namespace) = attached.link.known_as();
        let listed = match answered {
            Answered::Result(list) => attached::read_functions(list.unwrap_or("null"), namespace)
                .map_err(|error| error.to_string()),
            _ => {
                let error = answered.error(LIST_FUNCTIONS);
                Err(error.map_or_else(String::new, |error| error.message))
            }
        };
        match listed {
            Ok(listed) => {
                let ids = listed.iter().map(|function| &*function.id);
                if self.functions.set_custom(ids) {
                    self.hooks.change();
                }
                self.judge(id, &listed);
            }
            Err(why) => {
                let said = &mut attached.standing.said_missing;
                if !said.contains(&LIST_FUNCTIONS) {
                    said.push(LIST_FUNCTIONS);
                    self.notes.say(Level::Warn, format!(
                        "the engine does not tell which functions there are ({why}): custom stores are those \
                         known before"
                    ));
                }
                self.go_on_standing(id);
            }
        }
        if matches!(question, Question::Again { .. }) {
            self.look_at_functions(id);
        }
    }

    /// Whose the functions are, by the engine's list of them.
    fn judge(&mut self, id: SlotId, listed: &[ListedFunction]) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let (name, _) = attached.link.known_as();
        let of_streams =
            |function: &&ListedFunction| StreamFunction::from_id(&function.id).is_some();
        let shown: Vec<&ListedFunction> = listed.iter().filter(of_streams).collect();
        let owners = || {
            shown
                .iter()
                .filter_map(|shown| shown.worker_name.as_deref())
        };
        let owner = owners().find(|owner| *owner != name).map(Box::from);
        let is_named = owners().next().is_some();
        let has_rival = listed.iter().any(|function| {
            is_functions_changed(&function.id) && function.id != attached.functions_changed
        });
        let standing = &mut attached.standing;
        let is_whole = shown.len() >= StreamFunction::ALL.len();
        let was_shown = standing.has_shown;
        standing.has_shown |= is_whole;
        let owner: Option<Box<str>> = owner.or_else(|| {
            let rejected = standing.rejected.clone();
            rejected.filter(|_| !shown.is_empty() || standing.state != State::Others)
        });
        if let Some(owner) = owner {
            return self.stand_by(&owner);
        }
        if has_rival && !is_named && !shown.is_empty() {
            return self.read_back(id, LIST_WORKERS, "{}", Awaits::Workers);
        }
        match standing.state {
            State::Others => self.register_anew(id),
            State::Ours | State::Registered if !is_whole && was_shown => self.register_anew(id),
            State::Ours | State::Registered => {
                if !is_whole {
                    let is_missing = |function: &&StreamFunction| {
                        !shown.iter().any(|shown| shown.id == function.id())
                    };
                    let missing = StreamFunction::ALL.iter().filter(is_missing);
                    let missing: Vec<&str> = missing.map(|function| function.id()).collect();
                    self.say_missing("functions", &missing);
                }
                self.go_on_standing(id);
            }
        }
    }

    /// The engine has told which workers there are: the newest one with functions of streams has them.
    pub(in crate::broker) fn workers_listed(&mut self, answered: Answered<'_>) {
        let Some(id) = self.attached.as_ref().and_then(|it| it.link.up()) else {
            return;
        };
        let our_id = self.members.get(id).map(|peer| peer.worker_id);
        let our_id = our_id.unwrap_or_default().to_string();
        let listed = match answered {
            Answered::Result(Some(list)) => attached::read_workers(list).unwrap_or_default(),
            _ => Vec::new(),
        };
        let Some(ours) = listed.iter().find(|worker| worker.id == our_id) else {
            return self.go_on_standing(id); // it does not tell
        };
        let newest = listed
            .iter()
            .filter(|worker| worker.has_streams && worker.id != our_id)
            .max_by_key(|worker| worker.connected_at_ms);
        let owner = newest
            .filter(|newest| !ours.has_streams || newest.connected_at_ms > ours.connected_at_ms);
        match owner {
            Some(owner) => {
                let name = owner.name.as_ref().unwrap_or(&owner.id);
                self.stand_by(name);
            }
            None if self
                .attached
                .as_ref()
                .is_some_and(|it| it.standing.state == State::Others) =>
            {
                self.register_anew(id);
            }
            None => self.go_on_standing(id),
        }
    }

    /// The engine does not let us register something: somebody else has it.
    pub(in crate::broker) fn registration_rejected(&mut self, id: SlotId, rejection: &Rejection) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        self.notes.say(
            Level::Debug,
            format!("the engine rejects a registration: {rejection}"),
        );
        match &rejection.function_id {
            Some(function_id) if StreamFunction::from_id(function_id).is_none() => {}
            Some(_) => {
                let owner = rejection.owner.as_deref().unwrap_or("another worker");
                attached.standing.rejected = Some(owner.into());
                attached.link.is_rejected();
                // Of the owner's name nothing is known yet: the list may tell it.
                self.look_at_functions(id);
            }
            // The engine ends the connection.
            None => {
                attached.link.refused_because(format!(
                    "it refuses us: {rejection}. A server of another name (III_WORKER_NAME) would be let in; \
                     this one stands by until that one ends"
                ));
                self.stand_by_silently();
            }
        }
    }

    /// Another server has the functions. Our types are left alone, and joins refused, until it ends.
    fn stand_by(&mut self, owner: &str) {
        self.stand_by_silently();
        let now = self.now.monotonic;
        let Some(attached) = &mut self.attached else {
            return;
        };
        let standing = &mut attached.standing;
        standing.look_at = Some(now + LOOK_EVERY);
        if standing.said_owner.as_deref() != Some(owner) {
            standing.said_owner = Some(owner.into());
            self.notes.say(Level::Warn, format!(
                "the functions of streams belong to {} in the engine at {}: this server stands by, refuses \
                 joins, and takes over when that one ends",
                Shown(owner),
                attached.link.shown()
            ));
        }
    }

    fn stand_by_silently(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        attached.standing.types_at = None;
        attached.standing.is_by = true;
        if std::mem::replace(&mut attached.standing.state, State::Others) != State::Others {
            self.unsettle(false);
            self.shorten_waits_of_joins();
        }
    }

    /// Nobody has the functions, though they were registered: they are registered once more, and
    /// everything is learned anew.
    fn register_anew(&mut self, id: SlotId) {
        let now = self.now.monotonic;
        let Some(attached) = &mut self.attached else {
            return;
        };
        let standing = &mut attached.standing;
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
        self.notes.say(
            Level::Info,
            format!(
                "nobody has the functions of streams in the engine at {}: registers them",
                attached.link.shown()
            ),
        );
        self.unsettle(false);
        self.begin_forgetting(id);
        let functions = attached::function_registrations(OURS);
        for message in functions
            .into_iter()
            .chain([attached::configuration_registration()])
        {
            self.send_text(id, &message);
        }
        self.look_at_functions(id);
    }

    /// As far as is known the functions are ours: the types are too, and then everything is known.
    fn go_on_standing(&mut self, id: SlotId) {
        let now = self.now.monotonic;
        let Some(attached) = &mut self.attached else {
            return;
        };
        let standing = &mut attached.standing;
        if standing.state == State::Others {
            standing.look_at = Some(now + LOOK_EVERY);
            return;
        }
        if standing.has_types {
            if standing.knows_triggers {
                standing.state = State::Ours;
                standing.is_by = false;
                standing.said_owner = None;
                self.settle();
            }
            return;
        }
        standing.has_types = true;
        standing.types_at = None;
        for message in attached::type_registrations() {
            self.send_text(id, &message);
        }
        // What the engine says of its triggers comes before the answers to these.
        self.read_back(id, LIST_TRIGGER_TYPES, "{}", Awaits::TriggerTypes);
        self.look_at_functions(id);
    }

    /// The engine has told which trigger types there are, or could not.
    pub(in crate::broker) fn trigger_types_listed(&mut self, answered: Answered<'_>) {
        let Some(id) = self.attached.as_ref().and_then(|it| it.link.up()) else {
            return;
        };
        let listed = match answered {
            Answered::Result(Some(list)) => attached::read_trigger_types(list).ok(),
            Answered::Failed(error) => {
                self.notes.say(Level::Warn, format!(
                    "the engine does not tell which trigger types there are ({}): whether its rules refuse \
                     ours is not known",
                    error.message
                ));
                None
            }
            _ => None,
        };
        let ids = TRIGGER_TYPES.map(|trigger_type| trigger_type.id());
        let is_missing = |id: &&str| {
            let listed = listed.as_ref();
            listed.is_some_and(|listed| !listed.iter().any(|listed| listed == id))
        };
        let missing: Vec<&str> = ids.into_iter().filter(is_missing).collect();
        if !missing.is_empty() {
            self.say_missing("trigger types", &missing);
        }
        if let Some(attached) = &mut self.attached
            && attached.standing.has_types
        {
            attached.standing.knows_triggers = true;
            self.go_on_standing(id);
        }
    }

    /// One line, once, for all that the engine has refused without a word.
    fn say_missing(&mut self, what: &'static str, missing: &[&str]) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if !attached.standing.said_missing.contains(&what) {
            attached.standing.said_missing.push(what);
            self.notes.say(Level::Error, format!(
                "the engine at {} does not list our {what} {}: the rules of its listener refuse or hide \
                 them (rbac: allow_function_registration, function_registration_prefix, \
                 allow_trigger_type_registration). Where they are refused, no program reaches them, and no \
                 join function is asked",
                attached.link.shown(),
                missing.join(", ")
            ));
        }
    }

    /// Goes on with what is due by the clock.
    pub fn tend_standing(&mut self) {
        let now = self.now.monotonic;
        let Some(attached) = &mut self.attached else {
            return;
        };
        let Some(id) = attached.link.up() else {
            return;
        };
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut attached.standing.types_at) {
            self.go_on_standing(id);
        }
        if let Some(attached) = &mut self.attached
            && is_due(&mut attached.standing.look_at)
        {
            self.look_at_functions(id);
        }
    }

    fn send_text(&mut self, id: SlotId, message: &str) {
        self.members
            .send(id, |out| out.extend_from_slice(message.as_bytes()));
    }
}
