//! What the functions are asked by which triggers are registered, ended and looked at: the `data` of a
//! call to checked values, or to the error that its caller is told.
//!
//! Unknown members are passed over. May not know what the functions do.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::call::ErrorBody;
use crate::protocol::function::refused;
use crate::protocol::json::phrase;

/// Registers a trigger that does not end with the connection of its caller.
pub const REGISTER_TRIGGER: &str = "engine::register_trigger";
/// Ends a trigger.
pub const UNREGISTER_TRIGGER: &str = "engine::unregister_trigger";
/// Which triggers there are, of a function or a type.
pub const LIST_REGISTERED: &str = "engine::registered-triggers::list";
/// One of them.
pub const REGISTERED_INFO: &str = "engine::registered-triggers::info";

/// A trigger that is to be registered.
#[derive(Debug)]
pub struct Binding<'a> {
    /// The trigger's id. None: one is made.
    pub id: Option<Cow<'a, str>>,
    /// Kind of happening.
    pub trigger_type: Cow<'a, str>,
    /// What is to be called.
    pub function_id: Cow<'a, str>,
    /// Which happenings of the kind.
    pub config: Option<&'a RawValue>,
    /// For listings, and for each call of the function.
    pub metadata: Option<&'a RawValue>,
    /// Where the function is looked up, and its condition.
    pub namespace: Option<Cow<'a, str>>,
}

/// `RegisterTriggerInput`. The type may stand under `type` and the id under `trigger_id`, as SDKs and
/// functions that are asked about registrations call them.
pub fn register_trigger(data: &str) -> Result<Binding<'_>, ErrorBody> {
    read_binding(data).map_err(|phrase| refused(REGISTER_TRIGGER, &phrase))
}

fn read_binding(data: &str) -> Result<Binding<'_>, String> {
    const KEYS: [&str; 8] = [
        "config",
        "function_id",
        "id",
        "metadata",
        "namespace",
        "trigger_id",
        "trigger_type",
        "type",
    ];
    let [
        config,
        function_id,
        id,
        metadata,
        namespace,
        trigger_id,
        trigger_type,
        kind,
    ] = phrase::members(data, "RegisterTriggerInput", KEYS)?;
    let function_id = phrase::optional_string(function_id)?;
    let function_id = function_id.ok_or_else(|| phrase::missing("function_id"))?;
    let id = phrase::optional_string(id)?.or(phrase::optional_string(trigger_id)?);
    let namespace = phrase::optional_string(namespace)?;
    let trigger_type = phrase::optional_string(trigger_type)?.or(phrase::optional_string(kind)?);
    let is_something = |json: &&RawValue| json.get() != "null";
    Ok(Binding {
        id,
        trigger_type: trigger_type.ok_or_else(|| phrase::missing("trigger_type"))?,
        function_id,
        config: config.filter(is_something),
        metadata: metadata.filter(is_something),
        namespace,
    })
}

/// `UnregisterTriggerInput`: the trigger's id.
pub fn unregister_trigger(data: &str) -> Result<Cow<'_, str>, ErrorBody> {
    read_id(data, "UnregisterTriggerInput").map_err(|phrase| refused(UNREGISTER_TRIGGER, &phrase))
}

/// `RegisteredTriggerInfoInput`: the trigger's id.
pub fn registered_info(data: &str) -> Result<Cow<'_, str>, ErrorBody> {
    read_id(data, "RegisteredTriggerInfoInput").map_err(|phrase| refused(REGISTERED_INFO, &phrase))
}

fn read_id<'a>(data: &'a str, name: &str) -> Result<Cow<'a, str>, String> {
    let [id, trigger_id] = phrase::members(data, name, ["id", "trigger_id"])?;
    let id = phrase::optional_string(id)?.or(phrase::optional_string(trigger_id)?);
    id.ok_or_else(|| phrase::missing("id"))
}

/// Which triggers are asked for: those that fit all that is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RegisteredFilter<'a> {
    /// Those of this function.
    pub function_id: Option<Cow<'a, str>>,
    /// Those of this type.
    pub trigger_type: Option<Cow<'a, str>>,
    /// Those of functions that are internal as well; a function that is named is listed in any case.
    pub include_internal: bool,
}

/// `RegisteredTriggersListInput`.
pub fn registered_list(data: &str) -> Result<RegisteredFilter<'_>, ErrorBody> {
    read_filter(data).map_err(|phrase| refused(LIST_REGISTERED, &phrase))
}

fn read_filter(data: &str) -> Result<RegisteredFilter<'_>, String> {
    const KEYS: [&str; 3] = ["function_id", "include_internal", "trigger_type"];
    let [function_id, include_internal, trigger_type] =
        phrase::members(data, "RegisteredTriggersListInput", KEYS)?;
    Ok(RegisteredFilter {
        function_id: phrase::optional_string(function_id)?,
        include_internal: include_internal
            .filter(|json| json.get() != "null")
            .map_or(Ok(false), phrase::read_boolean)?,
        trigger_type: phrase::optional_string(trigger_type)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_named_as_in_a_message_or_as_sdks_name_it() {
        let binding = register_trigger(
            r#"{"type":"log","function_id":"f","config":{"a":1},"metadata":null,"x":5}"#,
        )
        .unwrap();
        assert_eq!((binding.id, &*binding.trigger_type), (None, "log"));
        assert_eq!(binding.config.map(RawValue::get), Some(r#"{"a":1}"#));
        assert!(binding.metadata.is_none() && binding.namespace.is_none());
        let binding = register_trigger(
            r#"{"trigger_id":"t","trigger_type":"log","function_id":"f","namespace":"n"}"#,
        )
        .unwrap();
        assert_eq!(binding.id.as_deref(), Some("t"));
        assert_eq!(binding.namespace.as_deref(), Some("n"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_told() {
        let head = "Failed to deserialize input for engine::register_trigger: ";
        for (data, phrase) in [
            ("{}", "missing field `function_id`"),
            (r#"{"function_id":"f"}"#, "missing field `trigger_type`"),
            (
                r#"{"function_id":5}"#,
                "invalid type: integer `5`, expected a string",
            ),
            (
                "[]",
                "invalid type: sequence, expected struct RegisterTriggerInput",
            ),
        ] {
            let error = register_trigger(data).unwrap_err();
            assert_eq!(error.code, "deserialization_error");
            assert_eq!(error.message, format!("{head}{phrase}"));
        }
        for read in [unregister_trigger, registered_info] {
            assert_eq!(read(r#"{"trigger_id":"t"}"#).unwrap(), "t");
            assert_eq!(read(r#"{"id":"t"}"#).unwrap(), "t");
            assert!(
                read("{}")
                    .unwrap_err()
                    .message
                    .ends_with("missing field `id`")
            );
        }
    }

    #[test]
    fn triggers_are_asked_for_by_function_and_type() {
        assert_eq!(registered_list("{}").unwrap(), RegisteredFilter::default());
        let filter = registered_list(
            r#"{"function_id":"f","trigger_type":null,"include_internal":true,"x":1}"#,
        )
        .unwrap();
        assert_eq!(filter.function_id.as_deref(), Some("f"));
        assert!(filter.include_internal && filter.trigger_type.is_none());
        let error = registered_list(r#"{"include_internal":1}"#).unwrap_err();
        assert!(error.message.ends_with("integer `1`, expected a boolean"));
    }
}
