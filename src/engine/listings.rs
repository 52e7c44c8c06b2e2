//! What there is, as the engine's own functions list it: functions, triggers, trigger types; and how
//! the server is.

use serde_json::value::RawValue;

use crate::id::{SlotId, Text};
use crate::protocol::answer::ResultBody;
use crate::protocol::call::ErrorBody;
use crate::protocol::listing::{self, TriggerRow, TriggerTypeRow, inputs};
use crate::protocol::trigger::payload::FUNCTIONS_CHANGED;

use super::Engine;
use super::calls::Caller;
use super::own::Done;
use super::registry::INTERNAL_PREFIX;
use super::trigger::{Called, ServedType};
use super::workers::OUR_VERSION;

/// What rows may add to a list, each, before the next turn.
const LISTED_BYTES_A_ROW: usize = 1024;

/// A list of functions that is made in turns.
pub(super) struct Listing {
    out: Vec<u8>,
    is_first: bool,
    include_internal: bool,
    /// The last one that was looked at.
    after: Option<(Box<str>, Box<str>)>,
    whom: Whom,
}

/// Who is told.
enum Whom {
    Caller(Caller),
    Followers(Vec<Called>),
}

impl Listing {
    /// For triggers of changes in the set of functions.
    pub(super) fn for_followers(called: Vec<Called>) -> Listing {
        Listing {
            out: FUNCTIONS_CHANGED.into(),
            is_first: true,
            include_internal: true,
            after: None,
            whom: Whom::Followers(called),
        }
    }

    /// The socket that asks for it.
    pub(super) fn by(&self) -> Option<SlotId> {
        match &self.whom {
            Whom::Caller(caller) => Some(caller.peer),
            Whom::Followers(_) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }
}

impl Engine {
    /// `engine::functions::list`. `id`: the worker that asks, and hears of what it may call. False: the
    /// input cannot be read.
    pub(super) fn list_functions(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        data: &str,
    ) -> bool {
        let checked = self.check_passed_on(data);
        let include_internal = checked
            .map_err(|why| ErrorBody::new("invocation_error", why))
            .and_then(|()| inputs::functions_list(data));
        match (include_internal, caller) {
            (Err(error), caller) => {
                self.fail(id, caller, inputs::LIST_FUNCTIONS, &error);
                false
            }
            (Ok(_), None) => true,
            (Ok(include_internal), Some(caller)) => {
                self.begin_listing(Listing {
                    out: br#"{"functions":["#.to_vec(),
                    is_first: true,
                    include_internal,
                    after: None,
                    whom: Whom::Caller(caller),
                });
                true
            }
        }
    }

    /// Goes on with a list by so many rows. Whether it is whole, and how many were looked at.
    pub(super) fn list_some(&self, listing: &mut Listing, most: usize) -> (bool, usize) {
        let peer = match &listing.whom {
            Whom::Caller(caller) => self.peers.get(caller.peer),
            Whom::Followers(_) => None,
        };
        let (out, is_first) = (&mut listing.out, &mut listing.is_first);
        let include_internal = listing.include_internal;
        let bytes_max = out.len() + most * LISTED_BYTES_A_ROW;
        let mut looked_at = 0;
        let after = self
            .functions
            .list_some(listing.after.as_ref(), |function| {
                let (id, metadata) = (function.id, function.metadata);
                let namespace = function.namespace;
                looked_at += 1;
                let is_shown = (include_internal || !id.starts_with(INTERNAL_PREFIX))
                    && peer
                        .is_none_or(|peer| peer.access.may_call(namespace, id, metadata).is_ok());
                if is_shown {
                    if !std::mem::take(is_first) {
                        out.push(b',');
                    }
                    function.write(out);
                }
                looked_at < most && out.len() < bytes_max
            });
        listing.after = after;
        (listing.after.is_none(), looked_at)
    }

    /// A list is whole.
    pub(super) fn listed(&mut self, listing: Listing) {
        let mut out = listing.out;
        out.extend_from_slice(b"]}");
        let text = String::from_utf8(out).unwrap_or_default();
        match listing.whom {
            Whom::Caller(caller) => {
                let body = ResultBody::Json(&text);
                self.answer(Some(caller), inputs::LIST_FUNCTIONS, body);
            }
            Whom::Followers(called) => self.fire_all(called, Text::from(text), None),
        }
    }

    /// `engine::triggers::list`.
    pub(super) fn list_triggers(&self, data: &str) -> Result<Done, ErrorBody> {
        let include_internal = inputs::triggers_list(data)?;
        let rows = self.triggers.iter().map(|trigger| TriggerRow {
            id: &trigger.id,
            trigger_type: &trigger.trigger_type,
            function_id: &trigger.target.function_id,
            config: trigger.config.as_deref().map(RawValue::get),
            metadata: trigger.target.metadata.as_deref(),
        });
        let list = listing::triggers(rows.collect(), include_internal);
        Ok(Done::with_result(list))
    }

    /// `engine::trigger-types::list`.
    pub(super) fn list_trigger_types(&self, data: &str) -> Result<Done, ErrorBody> {
        let include_internal = inputs::trigger_types_list(data)?;
        let built_in = listing::built_in_trigger_types();
        let rows = rows_of_types(self.triggers.served_types(), built_in);
        let list = listing::trigger_types(rows, include_internal);
        Ok(Done::with_result(list))
    }

    /// `engine::health::check`.
    pub(super) fn check_health(&self, data: &str) -> Result<Done, ErrorBody> {
        inputs::health_check(data)?;
        let workers = &self.ports.shared.workers;
        let is_degraded = workers.iter().any(|worker| worker.store_refuses.is_set());
        let health = listing::health(is_degraded, self.now.wall_ms, OUR_VERSION);
        Ok(Done::with_result(health))
    }
}

/// The types that workers serve, in place of ours of the same id. Formats of ours stand for those
/// that a worker did not give.
fn rows_of_types<'a>(
    served: impl Iterator<Item = (&'a str, &'a ServedType)>,
    mut built_in: Vec<TriggerTypeRow<'a>>,
) -> Vec<TriggerTypeRow<'a>> {
    let mut rows = Vec::new();
    for (id, served) in served {
        let ours = built_in.iter().position(|row| row.id == id);
        let ours = ours.map(|at| built_in.swap_remove(at));
        let (ours_request, ours_call) = ours.map_or((None, None), |row| {
            (row.trigger_request_format, row.call_request_format)
        });
        let request = served.trigger_request_format.as_deref().map(RawValue::get);
        let call = served.call_request_format.as_deref().map(RawValue::get);
        rows.push(TriggerTypeRow {
            id,
            description: &served.description,
            trigger_request_format: request.or(ours_request),
            call_request_format: call.or(ours_call),
        });
    }
    rows.extend(built_in);
    rows
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_a_worker_serves_stands_in_place_of_ours_with_our_formats() {
        let served = ServedType {
            owner: SlotId {
                slot: 1,
                generation: 1,
            },
            description: "theirs".into(),
            trigger_request_format: Some(RawValue::from_string("true".into()).unwrap()),
            call_request_format: None,
        };
        let built_in = listing::built_in_trigger_types();
        let ours = built_in.iter().find(|row| row.id == "stream").cloned();
        let len = built_in.len();
        let served = [("stream", &served), ("mine", &served)];
        let rows = rows_of_types(served.into_iter(), built_in);
        assert_eq!(rows.len(), len + 1);
        let stream: Vec<_> = rows.iter().filter(|row| row.id == "stream").collect();
        assert_eq!(stream.len(), 1);
        assert_eq!(stream[0].description, "theirs");
        assert_eq!(stream[0].trigger_request_format, Some("true"));
        assert_eq!(
            stream[0].call_request_format,
            ours.unwrap().call_request_format
        );
        let mine = rows.iter().find(|row| row.id == "mine").unwrap();
        assert_eq!(mine.call_request_format, None);
    }
}
