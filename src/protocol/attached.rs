//! What our server says to an engine whose worker it is, and what it reads of that engine's own
//! messages beyond those that [`super::call`] knows.
//!
//! May not know when anything is said: that is the engine thread's.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::input::StreamFunction;
use super::trigger::TriggerType;
use super::{raw, text};

/// The trigger types that an attached server serves: the engine has the others.
pub const TRIGGER_TYPES: [TriggerType; 3] =
    [TriggerType::Stream, TriggerType::Join, TriggerType::Leave];

/// The engine's function that workers describe themselves with.
const REGISTER_WORKER: &str = "engine::workers::register";
/// The engine's function that tells which functions there are.
pub const LIST_FUNCTIONS: &str = "engine::functions::list";
/// Fires when they change.
const FUNCTIONS_AVAILABLE: &str = "engine::functions-available";
/// How the functions begin that are called when they change.
const FUNCTIONS_CHANGED: &str = "iii-stream::functions-changed::";

/// Trigger types with their formats, as listings give them.
const TYPE_ENTRIES: &str = include_str!("listing/trigger_types.json");

/// How our process describes itself.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// What it is called there.
    pub name: &'a str,
    /// Where it is listed there. None: the engine's own default.
    pub namespace: Option<&'a str>,
    /// Its id.
    pub pid: u32,
    /// Kernel and processor.
    pub os: &'a str,
    /// Ours.
    pub version: &'a str,
}

/// The function that is called when the set of functions has changed.
pub fn functions_changed_id(id: &Uuid) -> String {
    format!("{FUNCTIONS_CHANGED}{id}")
}

/// All that is said before anything is asked, message by message. `functions`: our eight, as
/// listings give them; `changed`: the function that hears of changes, and the id of its trigger.
pub fn registrations(
    functions: &str,
    changed: (&str, &Uuid),
    process: &Process<'_>,
) -> Vec<String> {
    let mut messages = Vec::new();
    for trigger_type in TRIGGER_TYPES {
        let fields = [
            "description",
            "trigger_request_format",
            "call_request_format",
        ];
        let entry = entry_of(TYPE_ENTRIES, "id", trigger_type.id());
        messages.push(registration(
            "registertriggertype",
            trigger_type.id(),
            entry,
            fields,
        ));
    }
    for function in StreamFunction::ALL {
        let fields = ["description", "request_format", "response_format"];
        let entry = entry_of(functions, "function_id", function.id());
        messages.push(registration(
            "registerfunction",
            function.id(),
            entry,
            fields,
        ));
    }
    let (function_id, trigger_id) = (quoted(changed.0), changed.1);
    messages.push(format!(
        r#"{{"type":"registerfunction","id":{function_id}}}"#
    ));
    messages.push(format!(
        r#"{{"type":"registertrigger","id":"{trigger_id}","trigger_type":"{FUNCTIONS_AVAILABLE}","function_id":{function_id},"config":{{}}}}"#
    ));
    messages.push(self_description(process));
    messages
}

fn self_description(process: &Process<'_>) -> String {
    let (pid, os, version) = (process.pid, quoted(process.os), quoted(process.version));
    let name = quoted(process.name);
    // Engines refuse a namespace of null.
    let namespace = process
        .namespace
        .map(|namespace| format!(r#","namespace":{}"#, quoted(namespace)));
    let namespace = namespace.unwrap_or_default();
    format!(
        r#"{{"type":"invokefunction","invocation_id":null,"function_id":"{REGISTER_WORKER}","data":{{"runtime":"rust","version":{version},"name":{name}{namespace},"os":{os},"pid":{pid},"telemetry":{{"framework":"iii-stream"}}}},"action":{{"type":"void"}}}}"#
    )
}

/// One registration, with those fields of its entry that are not null.
fn registration(kind: &str, id: &str, entry: Option<&str>, fields: [&str; 3]) -> String {
    let mut message = format!(r#"{{"type":"{kind}","id":{}"#, quoted(id));
    let picked = entry.and_then(|entry| raw::pick(entry, fields).ok());
    for (field, value) in fields.into_iter().zip(picked.unwrap_or_default()) {
        if let Some(value) = value.map(RawValue::get).filter(|value| *value != "null") {
            message.push_str(&format!(r#","{field}":{value}"#));
        }
    }
    message.push('}');
    message
}

/// The entry of a list of objects whose `key` is `id`.
fn entry_of<'a>(entries: &'a str, key: &str, id: &str) -> Option<&'a str> {
    let mut found = None;
    let looked = raw::elements(entries, |entry| {
        let is_it = string_at(entry, key).is_some_and(|named| named == id);
        if is_it {
            found = Some(entry.get());
        }
        true
    });
    debug_assert!(looked.is_ok(), "our own lists are lists");
    found
}

/// The ids in the engine's answer to [`LIST_FUNCTIONS`]. Err: it is no such answer.
pub fn listed_functions(result: &str) -> Result<Vec<String>, serde_json::Error> {
    let [functions] = raw::pick(result, ["functions"])?;
    let functions = functions.map_or("[]", RawValue::get);
    let mut ids = Vec::new();
    raw::elements(functions, |entry| {
        ids.extend(string_at(entry, "function_id"));
        true
    })?;
    Ok(ids)
}

/// The id that the engine calls us by, if the message tells it.
pub fn greeted_as(message: &str) -> Option<Uuid> {
    let [kind, id] = strings_at(message, ["type", "worker_id"])?;
    (kind? == "workerregistered").then(|| Uuid::parse_str(&id?).ok())?
}

/// The engine's reason for refusing us, if the message tells one.
pub fn refused_because(message: &str) -> Option<String> {
    let [kind] = strings_at(message, ["type"])?;
    let [error] = raw::pick(message, ["error"]).ok()?;
    let [why] = strings_at(error?.get(), ["message"])?;
    (kind? == "error").then_some(why)?
}

fn strings_at<const N: usize>(object: &str, keys: [&str; N]) -> Option<[Option<String>; N]> {
    let values = raw::pick(object, keys).ok()?;
    Some(values.map(|value| string_of(value?)))
}

fn string_at(object: &RawValue, key: &str) -> Option<String> {
    let [value] = strings_at(object.get(), [key])?;
    value
}

fn string_of(value: &RawValue) -> Option<String> {
    let json = value.get();
    let is_string = json.starts_with('"');
    is_string.then(|| text::read_string(json).ok().map(|text| text.into_owned()))?
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    text::write_string(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_stand_in_the_order_that_engines_know() {
        let functions = r#"[{"description":"Set","function_id":"stream::set","metadata":null,"request_format":{"a":1},"response_format":null}]"#;
        let process = Process {
            name: "iii-stream:h:7",
            namespace: None,
            pid: 7,
            os: "linux x86_64 (unix)",
            version: "1.2.3",
        };
        let id = Uuid::nil();
        let changed = functions_changed_id(&id);
        let messages = registrations(functions, (&changed, &id), &process);
        assert_eq!(messages.len(), 3 + 8 + 3);
        let stream: serde_json::Value = serde_json::from_str(&messages[0]).unwrap();
        assert_eq!(
            (&stream["id"], &stream["description"]),
            (&"stream".into(), &"Stream trigger".into())
        );
        assert!(stream["trigger_request_format"].is_object());
        assert!(messages[1].starts_with(r#"{"type":"registertriggertype","id":"stream:join","description":"Stream join trigger","trigger_request_format":{"#));
        assert!(messages[2].contains(r#""id":"stream:leave""#));
        assert_eq!(
            messages[3],
            r#"{"type":"registerfunction","id":"stream::set","description":"Set","request_format":{"a":1}}"#
        );
        assert_eq!(
            messages[11..],
            [
                r#"{"type":"registerfunction","id":"iii-stream::functions-changed::00000000-0000-0000-0000-000000000000"}"#,
                r#"{"type":"registertrigger","id":"00000000-0000-0000-0000-000000000000","trigger_type":"engine::functions-available","function_id":"iii-stream::functions-changed::00000000-0000-0000-0000-000000000000","config":{}}"#,
                r#"{"type":"invokefunction","invocation_id":null,"function_id":"engine::workers::register","data":{"runtime":"rust","version":"1.2.3","name":"iii-stream:h:7","os":"linux x86_64 (unix)","pid":7,"telemetry":{"framework":"iii-stream"}},"action":{"type":"void"}}"#,
            ]
        );
    }

    #[test]
    fn a_namespace_is_named_or_left_out() {
        let process = |namespace| Process {
            name: "a \"b\"",
            namespace,
            pid: 7,
            os: "linux",
            version: "1",
        };
        let named = self_description(&process(Some("orders")));
        assert!(named.contains(r#""name":"a \"b\"","namespace":"orders","os""#));
        assert!(!self_description(&process(None)).contains("namespace"));
    }

    #[test]
    fn a_list_of_functions_gives_their_ids() {
        let list = r#"{"functions":[{"function_id":"stream::get(a\"b)","description":null},{"other":1},5]}"#;
        assert_eq!(listed_functions(list).unwrap(), ["stream::get(a\"b)"]);
        assert!(listed_functions("[]").is_err());
        assert!(listed_functions("{}").unwrap().is_empty());
    }

    #[test]
    fn a_greeting_and_a_refusal_are_told_apart() {
        let id = Uuid::from_u128(5);
        let greeting = format!(r#"{{"type":"workerregistered","worker_id":"{id}"}}"#);
        assert_eq!(greeted_as(&greeting), Some(id));
        assert_eq!(refused_because(&greeting), None);
        let refusal = r#"{"error":{"code":"AUTH_ERROR","message":"no"},"type":"error"}"#;
        assert_eq!(refused_because(refusal), Some("no".to_owned()));
        assert_eq!(greeted_as(refusal), None);
        assert_eq!(greeted_as(r#"{"type":5}"#), None);
    }
}
