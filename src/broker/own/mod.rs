//! The server's own functions beside the eight of streams: which there are, and how a call of one is
//! answered. What each does stands in `workers`, `listings`, `logs` and `publish`.

mod by_call;
pub(in crate::broker) mod listings;
pub(in crate::broker) mod logs;
mod part;
pub(in crate::broker) mod present;
mod publish;
mod sources;
mod worker_rows;
mod workers;

use crate::id::SlotId;
use crate::protocol::answer::ResultBody;
use crate::protocol::call::ErrorBody;
use crate::protocol::listing::{bindings, inputs};
use crate::protocol::logs::Severity;

use crate::broker::Broker;
use crate::broker::awaits::function_not_found;
use crate::broker::caller::Caller;
use crate::broker::triggers::firing::Firing;

use by_call::registered_trigger;
use listings::check_health;
use logs::log;
use publish::publish;

/// One of the server's own functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnFunction {
    RegisterWorker,
    ListWorkers,
    ListFunctions,
    ListTriggers,
    ListTriggerTypes,
    RegisterTrigger,
    UnregisterTrigger,
    ListRegisteredTriggers,
    RegisteredTriggerInfo,
    CheckHealth,
    Log(Severity),
    Publish,
}

impl OwnFunction {
    /// Whether its answer is all that it does, and may be long.
    fn is_list(self) -> bool {
        use OwnFunction::{
            ListFunctions, ListRegisteredTriggers, ListTriggerTypes, ListTriggers, ListWorkers,
        };
        matches!(
            self,
            ListWorkers | ListFunctions | ListTriggers | ListTriggerTypes | ListRegisteredTriggers
        )
    }

    fn from_id(id: &str) -> Option<OwnFunction> {
        Some(match id {
            inputs::REGISTER_WORKER => OwnFunction::RegisterWorker,
            inputs::LIST_WORKERS => OwnFunction::ListWorkers,
            inputs::LIST_FUNCTIONS => OwnFunction::ListFunctions,
            inputs::LIST_TRIGGERS => OwnFunction::ListTriggers,
            inputs::LIST_TRIGGER_TYPES => OwnFunction::ListTriggerTypes,
            bindings::REGISTER_TRIGGER => OwnFunction::RegisterTrigger,
            bindings::UNREGISTER_TRIGGER => OwnFunction::UnregisterTrigger,
            bindings::LIST_REGISTERED => OwnFunction::ListRegisteredTriggers,
            bindings::REGISTERED_INFO => OwnFunction::RegisteredTriggerInfo,
            inputs::CHECK_HEALTH => OwnFunction::CheckHealth,
            inputs::PUBLISH => OwnFunction::Publish,
            _ => OwnFunction::Log(Severity::from_function_id(id)?),
        })
    }
}

/// What a call has come to.
pub(in crate::broker) struct Done {
    /// A JSON text, for the caller. None: there is no result.
    result: Option<String>,
    /// What is told to triggers once the caller has been answered.
    then: Option<Firing>,
}

impl Done {
    fn with_result(result: String) -> Done {
        Done {
            result: Some(result),
            then: None,
        }
    }

    /// Without a result.
    fn telling(firing: Firing) -> Done {
        Done {
            result: None,
            then: Some(firing),
        }
    }

    pub(in crate::broker) fn then(mut self, firing: Firing) -> Done {
        self.then = Some(firing);
        self
    }
}

impl Broker {
    /// A call of one of the server's own functions. `id`: the socket that it came from; none for a
    /// trigger's. False: it cannot read its input.
    pub(in crate::broker) fn invoke_own(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function_id: &str,
        data: &str,
    ) -> bool {
        let function = OwnFunction::from_id(function_id);
        if function == Some(OwnFunction::RegisterTrigger) {
            return self.register_by_call(id, caller, data); // others may be asked about it first
        }
        let turn = &mut self.turn;
        let is_list = function.is_some_and(OwnFunction::is_list);
        if is_list && caller.is_none() {
            return true; // nobody would read it
        }
        let checked = turn.check_passed_on(data);
        let checked = checked.map_err(|why| ErrorBody::new("invocation_error", why));
        let done = match (caller.as_ref().filter(|_| is_list).cloned(), checked) {
            (_, Err(error)) => Err(error),
            (Some(caller), Ok(())) => {
                let begun = self.listings.begin_list(turn, caller, function_id, data);
                match begun {
                    Ok(()) => return true,
                    Err(error) => Err(error),
                }
            }
            (None, Ok(())) => self.do_own(id, function_id, data),
        };
        let turn = &mut self.turn;
        match done {
            Ok(done) => {
                let body = done
                    .result
                    .as_deref()
                    .map_or(ResultBody::Nothing, ResultBody::Json);
                self.calls.answer(turn, caller, function_id, body);
                if let Some(firing) = done.then {
                    self.triggers.fire_all(turn, firing.by(id));
                }
                true
            }
            Err(error) => {
                self.calls.fail(turn, id, caller, function_id, &error);
                false
            }
        }
    }

    fn do_own(
        &mut self,
        id: Option<SlotId>,
        function_id: &str,
        data: &str,
    ) -> Result<Done, ErrorBody> {
        match OwnFunction::from_id(function_id) {
            Some(OwnFunction::RegisterWorker) => self.register_worker(id, data),
            Some(OwnFunction::UnregisterTrigger) => self.unregister_by_call(id, data),
            Some(OwnFunction::RegisteredTriggerInfo) => registered_trigger(&self.triggers, data),
            Some(OwnFunction::CheckHealth) => check_health(&self.turn, data),
            Some(OwnFunction::Log(severity)) => log(self.turn.now.wall, severity, data),
            Some(OwnFunction::Publish) => publish(id, data),
            // These take their own ways.
            Some(
                OwnFunction::ListWorkers
                | OwnFunction::ListFunctions
                | OwnFunction::ListTriggers
                | OwnFunction::ListTriggerTypes
                | OwnFunction::ListRegisteredTriggers
                | OwnFunction::RegisterTrigger,
            )
            | None => Err(function_not_found(function_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::registry::is_own;
    use crate::protocol::input::StreamFunction;

    #[test]
    fn every_field_of_an_input_is_described() {
        /// How many fields there are in that schema, all levels.
        fn described(schema: &serde_json::Value, id: &str) -> usize {
            let below: usize = match schema {
                serde_json::Value::Object(members) => {
                    members.values().map(|value| described(value, id)).sum()
                }
                serde_json::Value::Array(all) => all.iter().map(|one| described(one, id)).sum(),
                _ => 0,
            };
            let fields = schema.get("properties").and_then(|it| it.as_object());
            for (field, its_schema) in fields.into_iter().flatten() {
                assert!(its_schema["description"].is_string(), "{id}: {field}");
            }
            below + fields.map_or(0, serde_json::Map::len)
        }
        let listed: serde_json::Value =
            serde_json::from_str(include_str!("functions.json")).unwrap();
        let mut fields = 0;
        for entry in listed.as_array().unwrap() {
            let id = entry["function_id"].as_str().unwrap();
            if id != inputs::PUBLISH {
                fields += described(&entry["request_format"], id);
            }
        }
        assert!(fields > 30, "{fields}");
    }

    #[test]
    fn what_is_listed_as_ours_is_what_we_answer() {
        let listed: serde_json::Value =
            serde_json::from_str(include_str!("functions.json")).unwrap();
        let listed = listed.as_array().unwrap();
        for entry in listed {
            let id = entry["function_id"].as_str().unwrap();
            let is_answered =
                StreamFunction::from_id(id).is_some() || OwnFunction::from_id(id).is_some();
            assert!(is_own(id) && is_answered, "{id}");
        }
        assert_eq!(listed.len(), 8 + 16);
        for id in [
            "engine::channels::create",
            "engine::baggage::get",
            "engine::traces::list",
            "engine::log::INFO",
            "state::get",
            "",
        ] {
            assert!(!is_own(id), "{id}");
        }
    }
}
