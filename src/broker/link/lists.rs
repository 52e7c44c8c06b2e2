//! Attached mode: what a running engine lists of its functions, workers and trigger types: when it is
//! asked, and what is made of its answers. What follows from them for us stands in `standing`.

use std::time::Duration;

use super::Attached;
use super::standing::{Question, State, read_back};
use crate::broker::Broker;
use crate::broker::awaits::{Answered, Awaits};
use crate::broker::calls::Calls;
use crate::broker::lines::Level;
use crate::broker::registry::Functions;
use crate::broker::triggers::Triggers;
use crate::broker::turn::Turn;
use crate::id::SlotId;
use crate::protocol::attached::{
    self, LIST_FUNCTIONS, LIST_WORKERS, ListedFunction, TRIGGER_TYPES, is_functions_changed,
};
use crate::protocol::input::StreamFunction;

/// How often a second that is asked at most because workers come and go: the list may be long.
const LOOKS_A_SECOND: u32 = 10;

impl Broker {
    /// The engine has answered a question about itself, or could not.
    pub(in crate::broker) fn engine_heard(&mut self, awaits: &Awaits, answered: Answered<'_>) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let (turn, calls) = (&mut self.turn, &mut self.calls);
        let (functions, triggers) = (&mut self.functions, &self.triggers);
        match awaits {
            Awaits::Functions => {
                attached.functions_listed(turn, calls, functions, triggers, answered);
            }
            Awaits::Workers => attached.workers_listed(turn, calls, triggers, answered),
            Awaits::TriggerTypes => attached.trigger_types_listed(turn, calls, answered),
            _ => attached.configuration_told(turn, &mut self.auth, answered),
        }
        self.settle_if_due();
    }
}

impl Attached {
    /// Asks which functions there are: once more after the answer, if that is under way.
    pub(super) fn look_at_functions(&mut self, turn: &mut Turn, calls: &mut Calls, id: SlotId) {
        let standing = &mut self.standing;
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
        read_back(turn, calls, id, LIST_FUNCTIONS, input, Awaits::Functions);
    }

    /// Functions or workers have changed: asks at once, or soon if it has just asked.
    pub(super) fn functions_have_changed(
        &mut self,
        turn: &mut Turn,
        calls: &mut Calls,
        id: SlotId,
    ) {
        let now = turn.now.monotonic;
        let standing = &mut self.standing;
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
        self.look_at_functions(turn, calls, id);
    }

    /// The engine has told which functions there are, or could not.
    fn functions_listed(
        &mut self,
        turn: &mut Turn,
        calls: &mut Calls,
        functions: &mut Functions,
        triggers: &Triggers,
        answered: Answered<'_>,
    ) {
        if matches!(answered, Answered::Gone(_)) {
            return; // the link is lost: the next one asks again
        }
        let standing = &mut self.standing;
        let question = std::mem::replace(&mut standing.question, Question::None);
        if let Question::UnderWay { knows_triggers } | Question::Again { knows_triggers } = question
        {
            standing.knows_triggers |= knows_triggers;
        }
        let Some(id) = turn.link() else {
            return;
        };
        let namespace = turn.own_namespace();
        let listed = match answered {
            Answered::Result(list) => {
                attached::read_functions(list.unwrap_or("null"), namespace.as_deref())
                    .map_err(|error| error.to_string())
            }
            _ => {
                let error = answered.error(LIST_FUNCTIONS);
                Err(error.map_or_else(String::new, |error| error.message))
            }
        };
        match listed {
            Ok(listed) => {
                let ids = listed.iter().map(|function| &*function.id);
                if functions.set_custom(ids) {
                    turn.hooks.change();
                }
                self.judge(turn, calls, triggers, id, &listed);
            }
            Err(why) => {
                let said = &mut self.standing.said_missing;
                if !said.contains(&LIST_FUNCTIONS) {
                    said.push(LIST_FUNCTIONS);
                    turn.lines.say(Level::Warn, format!(
                        "the engine does not tell which functions there are ({why}): custom stores are those \
                         known before"
                    ));
                }
                self.go_on_standing(turn, calls, id);
            }
        }
        if matches!(question, Question::Again { .. }) {
            self.look_at_functions(turn, calls, id);
        }
    }

    /// Whose the functions are, by the engine's list of them.
    fn judge(
        &mut self,
        turn: &mut Turn,
        calls: &mut Calls,
        triggers: &Triggers,
        id: SlotId,
        listed: &[ListedFunction],
    ) {
        let of_streams =
            |function: &&ListedFunction| StreamFunction::from_id(&function.id).is_some();
        let shown: Vec<&ListedFunction> = listed.iter().filter(of_streams).collect();
        let owners = || {
            shown
                .iter()
                .filter_map(|shown| shown.worker_name.as_deref())
        };
        let is_ours = |owner: &&str| {
            let attached_to = turn.attached_to.as_ref();
            attached_to.is_some_and(|it| *owner == it.known_as.name)
        };
        let owner = owners().find(|owner| !is_ours(owner)).map(Box::from);
        let is_named = owners().next().is_some();
        let has_rival = listed.iter().any(|function| {
            is_functions_changed(&function.id) && function.id != self.functions_changed
        });
        let standing = &mut self.standing;
        let is_whole = shown.len() >= StreamFunction::ALL.len();
        let was_shown = standing.has_shown;
        standing.has_shown |= is_whole;
        let owner: Option<Box<str>> = owner.or_else(|| {
            let rejected = standing.rejected.clone();
            rejected.filter(|_| !shown.is_empty() || standing.state != State::Others)
        });
        if let Some(owner) = owner {
            return self.stand_by(turn, triggers, &owner);
        }
        if has_rival && !is_named && !shown.is_empty() {
            return read_back(turn, calls, id, LIST_WORKERS, "{}", Awaits::Workers);
        }
        match standing.state {
            State::Others => self.register_anew(turn, calls, triggers, id),
            State::Ours | State::Registered if !is_whole && was_shown => {
                self.register_anew(turn, calls, triggers, id);
            }
            State::Ours | State::Registered => {
                if !is_whole {
                    let is_missing = |function: &&StreamFunction| {
                        !shown.iter().any(|shown| shown.id == function.id())
                    };
                    let missing = StreamFunction::ALL.iter().filter(is_missing);
                    let missing: Vec<&str> = missing.map(|function| function.id()).collect();
                    self.say_missing(turn, "functions", &missing);
                }
                self.go_on_standing(turn, calls, id);
            }
        }
    }

    /// The engine has told which workers there are: the newest one with functions of streams has them.
    fn workers_listed(
        &mut self,
        turn: &mut Turn,
        calls: &mut Calls,
        triggers: &Triggers,
        answered: Answered<'_>,
    ) {
        let Some(id) = turn.link() else {
            return;
        };
        let our_id = turn.members.get(id).map(|peer| peer.worker_id);
        let our_id = our_id.unwrap_or_default().to_string();
        let listed = match answered {
            Answered::Result(Some(list)) => attached::read_workers(list).unwrap_or_default(),
            _ => Vec::new(),
        };
        let Some(ours) = listed.iter().find(|worker| worker.id == our_id) else {
            return self.go_on_standing(turn, calls, id); // it does not tell
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
                self.stand_by(turn, triggers, name);
            }
            None if self.standing.state == State::Others => {
                self.register_anew(turn, calls, triggers, id);
            }
            None => self.go_on_standing(turn, calls, id),
        }
    }

    /// The engine has told which trigger types there are, or could not.
    fn trigger_types_listed(&mut self, turn: &mut Turn, calls: &mut Calls, answered: Answered<'_>) {
        let Some(id) = turn.link() else {
            return;
        };
        let listed = match answered {
            Answered::Result(Some(list)) => attached::read_trigger_types(list).ok(),
            Answered::Failed(error) => {
                turn.lines.say(Level::Warn, format!(
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
            self.say_missing(turn, "trigger types", &missing);
        }
        if self.standing.has_types {
            self.standing.knows_triggers = true;
            self.go_on_standing(turn, calls, id);
        }
    }

    /// One line, once, for all that the engine has refused without a word.
    fn say_missing(&mut self, turn: &mut Turn, what: &'static str, missing: &[&str]) {
        let said = &mut self.standing.said_missing;
        if !said.contains(&what) {
            said.push(what);
            let line = format!(
                "the engine at {} does not list our {what} {}: the rules of its listener refuse or hide \
                 them (rbac: allow_function_registration, function_registration_prefix, \
                 allow_trigger_type_registration). Where they are refused, no program reaches them, and no \
                 join function is asked",
                turn.engine_at(),
                missing.join(", ")
            );
            turn.lines.say(Level::Error, line);
        }
    }
}
