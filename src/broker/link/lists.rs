//! Attached mode: what a running engine lists of its functions, workers and trigger types: when it is
//! asked, and what is made of its answers. What follows from them for us stands in `standing`.

use std::time::Duration;

use super::standing::{Question, State};
use crate::broker::Broker;
use crate::broker::calls::{Answered, Awaits};
use crate::broker::lines::Level;
use crate::id::SlotId;
use crate::protocol::answer::Outgoing;
use crate::protocol::attached::{
    self, LIST_FUNCTIONS, LIST_WORKERS, ListedFunction, TRIGGER_TYPES, is_functions_changed,
};
use crate::protocol::input::StreamFunction;

/// How often a second that is asked at most because workers come and go: the list may be long.
const LOOKS_A_SECOND: u32 = 10;

impl Broker {
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

    pub(super) fn read_back(
        &mut self,
        id: SlotId,
        list: &'static str,
        input: &str,
        awaits: Awaits,
    ) {
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
                    self.lines.say(Level::Warn, format!(
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

    /// The engine has told which trigger types there are, or could not.
    pub(in crate::broker) fn trigger_types_listed(&mut self, answered: Answered<'_>) {
        let Some(id) = self.attached.as_ref().and_then(|it| it.link.up()) else {
            return;
        };
        let listed = match answered {
            Answered::Result(Some(list)) => attached::read_trigger_types(list).ok(),
            Answered::Failed(error) => {
                self.lines.say(Level::Warn, format!(
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
            self.lines.say(Level::Error, format!(
                "the engine at {} does not list our {what} {}: the rules of its listener refuse or hide \
                 them (rbac: allow_function_registration, function_registration_prefix, \
                 allow_trigger_type_registration). Where they are refused, no program reaches them, and no \
                 join function is asked",
                attached.link.shown(),
                missing.join(", ")
            ));
        }
    }
}
