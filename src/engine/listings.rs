//! What there is, as the engine's own functions list it: functions, triggers, trigger types; and how
//! the server is.

use serde_json::value::RawValue;

use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::listing::{self, TriggerRow, TriggerTypeRow, inputs};

use super::Engine;
use super::own::Done;
use super::trigger::ServedType;
use super::workers::OUR_VERSION;

impl Engine {
    /// `engine::functions::list`. `id`: the worker that asks, and hears of what it may call.
    pub(super) fn list_functions(&self, id: Option<SlotId>, data: &str) -> Result<Done, ErrorBody> {
        let include_internal = inputs::functions_list(data)?;
        let peer = id.and_then(|id| self.peers.get(id));
        let functions = self
            .functions
            .list(include_internal, |function_id, metadata| {
                peer.is_none_or(|peer| peer.access.may_call(function_id, metadata).is_ok())
            });
        Ok(Done::with_result(format!(r#"{{"functions":{functions}}}"#)))
    }

    /// `engine::triggers::list`.
    pub(super) fn list_triggers(&self, data: &str) -> Result<Done, ErrorBody> {
        let include_internal = inputs::triggers_list(data)?;
        let rows = self.triggers.iter().map(|trigger| TriggerRow {
            id: &trigger.id,
            trigger_type: &trigger.trigger_type,
            function_id: &trigger.function_id,
            config: trigger.config.as_deref().map(RawValue::get),
            metadata: trigger.metadata.as_deref().map(RawValue::get),
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
