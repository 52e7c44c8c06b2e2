//! What there is, as `engine::…::list` tells it: functions, triggers, trigger types, SDK workers; and how
//! the server is. A list is made in turns, and its caller's socket is left unread until it is there.

use std::collections::VecDeque;

use serde_json::value::RawValue;

use crate::id::{SlotId, Text};
use crate::protocol::answer::ResultBody;
use crate::protocol::call::ErrorBody;
use crate::protocol::listing::bindings::{self, LIST_REGISTERED};
use crate::protocol::listing::{self, TriggerRow, TriggerTypeRow, inputs};
use crate::protocol::trigger::payload::FUNCTIONS_CHANGED;

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::Calls;
use crate::broker::own::Done;
use crate::broker::own::part::Part;
use crate::broker::own::sources::Sources;
use crate::broker::own::worker_rows::WorkerRows;
use crate::broker::own::workers::OUR_VERSION;
use crate::broker::registry::{Functions, INTERNAL_PREFIX};
use crate::broker::triggers::Triggers;
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::firing::Firing;
use crate::broker::triggers::trigger::{ServedType, Trigger};
use crate::broker::turn::Turn;

/// Lists that are made in turns.
#[derive(Default)]
pub(in crate::broker) struct Listings(VecDeque<Listing>);

/// A list that is made in turns.
struct Listing {
    out: Vec<u8>,
    is_first: bool,
    rows: Rows,
    whom: Whom,
}

/// What is listed, and the last one that was looked at.
enum Rows {
    Functions {
        include_internal: bool,
        after: Option<(Box<str>, Box<str>)>,
    },
    Triggers {
        wanted: Wanted,
        after: Option<Box<str>>,
    },
    TriggerTypes {
        include_internal: bool,
        after: Option<Box<str>>,
    },
    Workers(WorkerRows),
    /// Functions, once some trigger is found that hears of them: from that registration on.
    IfHeard {
        from: u64,
    },
    /// Nobody hears of it.
    Nothing,
}

/// Which triggers are listed: those that fit all that is given.
struct Wanted {
    include_internal: bool,
    function_id: Option<Box<str>>,
    trigger_type: Option<Box<str>>,
}

impl Wanted {
    /// A function that is named is shown, internal or not.
    fn shows(&self, row: &TriggerRow<'_>) -> bool {
        let fits = |wanted: &Option<Box<str>>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let is_open = self.include_internal || self.function_id.is_some() || !row.is_internal();
        is_open
            && fits(&self.function_id, row.function_id)
            && fits(&self.trigger_type, row.trigger_type)
    }
}

/// Who is told.
enum Whom {
    /// The caller, by the function that it has called.
    Caller(Caller, &'static str),
    Followers,
}

impl Listings {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins a list. The socket that asks for it is left unread until it is there.
    fn begin(&mut self, turn: &mut Turn, listing: Listing) {
        turn.hold_for_work(listing.by());
        self.0.push_back(listing);
    }

    /// Begins the list of functions for triggers of changes in their set.
    fn begin_for_followers(&mut self, turn: &mut Turn) {
        let listing = Listing {
            out: FUNCTIONS_CHANGED.into(),
            is_first: true,
            rows: Rows::IfHeard { from: 0 },
            whom: Whom::Followers,
        };
        self.begin(turn, listing);
    }

    /// Begins the list that is asked for by that function. Err: the input cannot be read.
    pub(super) fn begin_list(
        &mut self,
        turn: &mut Turn,
        caller: Caller,
        function_id: &str,
        data: &str,
    ) -> Result<(), ErrorBody> {
        let listing = match function_id {
            inputs::LIST_FUNCTIONS => {
                let include_internal = inputs::functions_list(data)?;
                let after = None;
                let rows = Rows::Functions {
                    include_internal,
                    after,
                };
                Listing::for_caller(caller, inputs::LIST_FUNCTIONS, r#"{"functions":["#, rows)
            }
            inputs::LIST_TRIGGERS => {
                let wanted = Wanted {
                    include_internal: inputs::triggers_list(data)?,
                    function_id: None,
                    trigger_type: None,
                };
                let after = None;
                let rows = Rows::Triggers { wanted, after };
                let begin = listing::TRIGGERS_BEGIN;
                Listing::for_caller(caller, inputs::LIST_TRIGGERS, begin, rows)
            }
            LIST_REGISTERED => {
                let asked = bindings::registered_list(data)?;
                let wanted = Wanted {
                    include_internal: asked.include_internal,
                    function_id: asked.function_id.map(Box::from),
                    trigger_type: asked.trigger_type.map(Box::from),
                };
                let after = None;
                let rows = Rows::Triggers { wanted, after };
                let begin = listing::REGISTERED_TRIGGERS_BEGIN;
                Listing::for_caller(caller, LIST_REGISTERED, begin, rows)
            }
            inputs::LIST_TRIGGER_TYPES => {
                let include_internal = inputs::trigger_types_list(data)?;
                let after = None;
                let rows = Rows::TriggerTypes {
                    include_internal,
                    after,
                };
                let begin = listing::TRIGGER_TYPES_BEGIN;
                Listing::for_caller(caller, inputs::LIST_TRIGGER_TYPES, begin, rows)
            }
            _ => {
                let wanted = inputs::workers_list(data)?;
                let rows = WorkerRows::new(wanted.as_deref(), caller.peer);
                let begin = listing::workers_begin(turn.now.wall_ms);
                Listing::for_caller(caller, inputs::LIST_WORKERS, &begin, Rows::Workers(rows))
            }
        };
        self.begin(turn, listing);
        Ok(())
    }
}

impl Listing {
    fn for_caller(caller: Caller, list: &'static str, begin: &str, rows: Rows) -> Listing {
        Listing {
            out: begin.into(),
            is_first: true,
            rows,
            whom: Whom::Caller(caller, list),
        }
    }

    /// The socket that asks for it.
    fn by(&self) -> Option<SlotId> {
        match &self.whom {
            Whom::Caller(caller, _) => Some(caller.peer),
            Whom::Followers => None,
        }
    }

    /// Goes on by so many rows. Whether it is whole, and how many were looked at.
    fn go_on(&mut self, sources: &Sources<'_>, most: usize) -> (bool, usize) {
        let mut part = Part::new(&mut self.out, &mut self.is_first, most);
        let is_whole = match &mut self.rows {
            Rows::Functions {
                include_internal,
                after,
            } => {
                let by = match &self.whom {
                    Whom::Caller(caller, _) => Some(caller.peer),
                    Whom::Followers => None,
                };
                *after = sources.functions(&mut part, after.as_ref(), *include_internal, by);
                after.is_none()
            }
            Rows::Triggers { wanted, after } => {
                *after = sources.triggers.list_some(after.as_deref(), |trigger| {
                    let row = row_of(trigger);
                    part.look_at(wanted.shows(&row), |out| row.write(out))
                });
                after.is_none()
            }
            Rows::TriggerTypes {
                include_internal,
                after,
            } => {
                *after = sources.types(&mut part, after.take(), *include_internal);
                after.is_none()
            }
            Rows::Workers(rows) => rows.go_on(sources, &mut part),
            Rows::IfHeard { .. } | Rows::Nothing => true,
        };
        (is_whole, part.looked_at)
    }

    /// Looks at the next trigger that may hear of it, from that registration on: if one does, functions are
    /// listed. Whether there is none.
    fn look_for_hearer(
        &mut self,
        turn: &mut Turn,
        functions: &Functions,
        triggers: &Triggers,
        from: u64,
    ) -> bool {
        let next = triggers.next_of(&Audience::FunctionsAvailable, from, u64::MAX);
        self.rows = match next {
            None => Rows::Nothing,
            Some(next) => match next.called {
                Some((_, called)) if called.listens(turn, functions) => Rows::Functions {
                    include_internal: true,
                    after: None,
                },
                _ => Rows::IfHeard {
                    from: next.order + 1,
                },
            },
        };
        matches!(self.rows, Rows::Nothing)
    }

    /// It is whole: whoever is to be told is.
    fn tell(self, turn: &mut Turn, calls: &Calls, triggers: &mut Triggers) {
        if matches!(self.rows, Rows::Nothing) {
            return;
        }
        let mut out = self.out;
        out.extend_from_slice(listing::END.as_bytes());
        let text = String::from_utf8(out).unwrap_or_default();
        match self.whom {
            Whom::Caller(caller, list) => {
                calls.answer(turn, Some(caller), list, ResultBody::Json(&text));
            }
            Whom::Followers => {
                let audience = Audience::FunctionsAvailable;
                let firing = Firing::of_server(audience, Text::from(text));
                triggers.fire_all(turn, firing);
            }
        }
    }
}

impl Broker {
    /// `engine::functions-available`: tells of a new set of functions soon after it changed, once for all
    /// changes of that time.
    pub fn tell_functions(&mut self) {
        let turn = &mut self.turn;
        if self.functions.take_due(turn.now.monotonic) && !turn.is_draining {
            self.listings.begin_for_followers(turn);
        }
    }

    /// Goes on with the lists that were there before, as far as this turn may.
    pub(in crate::broker) fn go_on_with_listings(&mut self) {
        for _ in 0..self.listings.0.len() {
            if self.turn.steps.are_left()
                && let Some(listing) = self.listings.0.pop_front()
            {
                self.go_on_listing(listing);
            }
        }
    }

    fn go_on_listing(&mut self, mut listing: Listing) {
        let (turn, triggers) = (&mut self.turn, &mut self.triggers);
        let before = listing.out.len();
        let (is_done, looked_at) = match listing.rows {
            Rows::IfHeard { from } => {
                let functions = &self.functions;
                (listing.look_for_hearer(turn, functions, triggers, from), 1)
            }
            _ => {
                let sources = Sources {
                    turn,
                    functions: &self.functions,
                    triggers,
                    present: &self.present,
                    calls: &self.calls,
                    started_ms: self.started_ms,
                };
                listing.go_on(&sources, sources.turn.steps.left())
            }
        };
        turn.steps.take(looked_at.max(1));
        turn.steps.take_bytes(listing.out.len() - before);
        match is_done {
            true => {
                let by = listing.by();
                listing.tell(turn, &self.calls, triggers);
                turn.release_after_work(by);
            }
            false => self.listings.0.push_back(listing),
        }
    }
}

impl Sources<'_> {
    /// `by`: who asks, and hears of what it may call.
    fn functions(
        &self,
        part: &mut Part<'_>,
        after: Option<&(Box<str>, Box<str>)>,
        include_internal: bool,
        by: Option<SlotId>,
    ) -> Option<(Box<str>, Box<str>)> {
        let peer = by.and_then(|by| self.turn.members.get(by));
        self.functions.list_some(after, |function| {
            let (id, namespace, metadata) = (function.id, function.namespace, function.metadata);
            let is_shown = (include_internal || !id.starts_with(INTERNAL_PREFIX))
                && peer.is_none_or(|peer| peer.access.may_call(namespace, id, metadata).is_ok());
            part.look_at(is_shown, |out| function.write(out))
        })
    }

    /// Our own types and those that SDK workers serve, these in place of ours of the same id.
    fn types(
        &self,
        part: &mut Part<'_>,
        mut after: Option<Box<str>>,
        include_internal: bool,
    ) -> Option<Box<str>> {
        let built_in = listing::built_in_trigger_types();
        loop {
            let is_behind = |id: &str| after.as_deref().is_none_or(|after| id > after);
            let ours = built_in.iter().find(|row| is_behind(row.id));
            let served = self.triggers.next_type(after.as_deref());
            let row = match (ours, served) {
                (Some(ours), None) => ours.clone(),
                (Some(ours), Some((id, _))) if ours.id < id => ours.clone(),
                (ours, Some((id, served))) => {
                    served_row(id, served, ours.filter(|ours| ours.id == id))
                }
                (None, None) => return None,
            };
            let is_shown = include_internal || !row.is_internal();
            let goes_on = part.look_at(is_shown, |out| row.write(out));
            after = Some(row.id.into());
            if !goes_on {
                return after;
            }
        }
    }
}

/// `engine::health::check`.
pub(super) fn check_health(turn: &Turn, data: &str) -> Result<Done, ErrorBody> {
    inputs::health_check(data)?;
    let workers = &turn.ports.shared.workers;
    let is_degraded = workers.iter().any(|worker| worker.store_refuses.is_set());
    let health = listing::health(is_degraded, turn.now.wall_ms, OUR_VERSION);
    Ok(Done::with_result(health))
}

pub(super) fn row_of(trigger: &Trigger) -> TriggerRow<'_> {
    TriggerRow {
        id: &trigger.id,
        trigger_type: &trigger.trigger_type,
        function_id: &trigger.target.function_id,
        config: trigger.config.as_deref().map(RawValue::get),
        metadata: trigger.target.metadata.as_deref(),
    }
}

/// Formats of ours stand for those that a worker did not give.
fn served_row<'a>(
    id: &'a str,
    served: &'a ServedType,
    ours: Option<&TriggerTypeRow<'a>>,
) -> TriggerTypeRow<'a> {
    let request = served.trigger_request_format.as_deref().map(RawValue::get);
    let call = served.call_request_format.as_deref().map(RawValue::get);
    TriggerTypeRow {
        id,
        description: &served.description,
        trigger_request_format: request.or(ours.and_then(|row| row.trigger_request_format)),
        call_request_format: call.or(ours.and_then(|row| row.call_request_format)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_a_worker_serves_stands_with_our_formats() {
        let served = ServedType {
            owner: SlotId::first(1),
            description: "theirs".into(),
            trigger_request_format: Some(RawValue::from_string("true".into()).unwrap()),
            call_request_format: None,
        };
        let built_in = listing::built_in_trigger_types();
        let ours = built_in.iter().find(|row| row.id == "stream");
        let stream = served_row("stream", &served, ours);
        assert_eq!(stream.description, "theirs");
        assert_eq!(stream.trigger_request_format, Some("true"));
        assert_eq!(
            stream.call_request_format,
            ours.unwrap().call_request_format
        );
        assert_eq!(served_row("mine", &served, None).call_request_format, None);
    }
}
