//! What our server says to an engine whose worker it is, and what it reads of that engine's own
//! messages beyond those that [`super::call`] knows.
//!
//! May not know when anything is said: that is the engine thread's.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::configuration::ON_CONFIG_CHANGE;
use super::input::StreamFunction;
use super::json::{raw, text};
use super::trigger::TriggerType;

/// The trigger types that an attached server serves: the engine has the others.
pub const TRIGGER_TYPES: [TriggerType; 3] =
    [TriggerType::Stream, TriggerType::Join, TriggerType::Leave];

/// The engine's function that workers describe themselves with.
const REGISTER_WORKER: &str = "engine::workers::register";
/// The engine's function that tells which functions there are.
pub const LIST_FUNCTIONS: &str = "engine::functions::list";
/// The engine's function that tells which workers there are.
pub const LIST_WORKERS: &str = "engine::workers::list";
/// The engine's function that tells which trigger types there are.
pub const LIST_TRIGGER_TYPES: &str = "engine::trigger-types::list";
/// Fire when the set of functions has changed, some seconds later, and when a worker has come, told
/// something of itself, or gone: at once.
const FOLLOWED: [&str; 2] = ["engine::functions-available", "engine::workers-available"];
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

/// Whether that is the function of an attached server that hears of changes: of this one or another.
pub fn is_functions_changed(function_id: &str) -> bool {
    function_id.starts_with(FUNCTIONS_CHANGED)
}

/// All that is said before anything is asked, message by message: but for the trigger types, which are
/// registered when the functions are known to be ours. `functions`: our eight, as listings give them;
/// `changed`: the function that hears of changes, and the ids of its triggers.
pub fn registrations(
    functions: &str,
    changed: (&str, [&Uuid; 2]),
    process: &Process<'_>,
) -> Vec<String> {
    let mut messages = function_registrations(functions);
    let function_id = quoted(changed.0);
    messages.push(format!(
        r#"{{"type":"registerfunction","id":{function_id},"metadata":{{"internal":true}}}}"#
    ));
    for (id, trigger_type) in changed.1.iter().zip(FOLLOWED) {
        messages.push(format!(
            r#"{{"type":"registertrigger","id":"{id}","trigger_type":"{trigger_type}","function_id":{function_id},"config":{{}}}}"#
        ));
    }
    messages.push(configuration_registration());
    messages.push(self_description(process));
    messages
}

/// The registrations of our three trigger types.
pub fn type_registrations() -> Vec<String> {
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
    messages
}

/// The registrations of our eight functions.
pub fn function_registrations(functions: &str) -> Vec<String> {
    let mut messages = Vec::new();
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
    messages
}

/// The registration of the function that hears of our configuration.
pub fn configuration_registration() -> String {
    format!(
        r#"{{"type":"registerfunction","id":"{ON_CONFIG_CHANGE}","metadata":{{"internal":true}}}}"#
    )
}

/// The first message of a link: that it takes the place of an older one.
pub fn reattach(older: &Greeting) -> Option<String> {
    let (id, token) = (&older.worker_id, quoted(older.reattach_token.as_deref()?));
    Some(format!(
        r#"{{"type":"reattach","previous_worker_id":"{id}","reattach_token":{token}}}"#
    ))
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

/// A function in the engine's answer to [`LIST_FUNCTIONS`].
#[derive(Debug, PartialEq, Eq)]
pub struct ListedFunction {
    /// Its id.
    pub id: String,
    /// The worker that serves it, which newer engines tell.
    pub worker_name: Option<String>,
}

/// The functions in the engine's answer to [`LIST_FUNCTIONS`] that stand in our own namespace (`ours`;
/// none: `default`), or in none. Err: it is no such answer.
pub fn read_functions(
    result: &str,
    ours: Option<&str>,
) -> Result<Vec<ListedFunction>, serde_json::Error> {
    let mut listed = Vec::new();
    read_rows(result, "functions", |entry| {
        let keys = ["function_id", "namespace", "worker_name"];
        if let Some([Some(id), namespace, worker_name]) = strings_at(entry.get(), keys)
            && namespace.is_none_or(|name| name == ours.unwrap_or("default"))
        {
            listed.push(ListedFunction { id, worker_name });
        }
    })?;
    Ok(listed)
}

/// A worker in the engine's answer to [`LIST_WORKERS`].
#[derive(Debug, PartialEq, Eq)]
pub struct ListedWorker {
    /// Its id.
    pub id: String,
    /// What it calls itself.
    pub name: Option<String>,
    /// Since when, in ms since 1970.
    pub connected_at_ms: u64,
    /// Functions of streams are among its own.
    pub has_streams: bool,
}

/// The workers in the engine's answer to [`LIST_WORKERS`] that have a connection: not the engine's own
/// parts. Err: it is no such answer.
pub fn read_workers(result: &str) -> Result<Vec<ListedWorker>, serde_json::Error> {
    let mut listed = Vec::new();
    read_rows(result, "workers", |entry| {
        let Some([Some(id), name, runtime]) = strings_at(entry.get(), ["id", "name", "runtime"])
        else {
            return;
        };
        let Ok([functions, connected]) = raw::pick(entry.get(), ["functions", "connected_at_ms"])
        else {
            return;
        };
        let mut has_streams = false;
        let looked = raw::elements(functions.map_or("[]", RawValue::get), |function| {
            let id = string_of(function);
            has_streams |= id.is_some_and(|id| StreamFunction::from_id(&id).is_some());
            true
        });
        if looked.is_ok() && runtime.as_deref() != Some("engine") {
            listed.push(ListedWorker {
                id,
                name,
                connected_at_ms: connected
                    .and_then(|at| at.get().parse().ok())
                    .unwrap_or_default(),
                has_streams,
            });
        }
    })?;
    Ok(listed)
}

/// The ids in the engine's answer to [`LIST_TRIGGER_TYPES`]. Err: it is no such answer.
pub fn read_trigger_types(result: &str) -> Result<Vec<String>, serde_json::Error> {
    let mut ids = Vec::new();
    read_rows(result, "trigger_types", |entry| {
        ids.extend(string_at(entry, "id"));
    })?;
    Ok(ids)
}

fn read_rows(
    result: &str,
    key: &str,
    mut read: impl FnMut(&RawValue),
) -> Result<(), serde_json::Error> {
    let [rows] = raw::pick(result, [key])?;
    raw::elements(rows.map_or("[]", RawValue::get), |entry| {
        read(entry);
        true
    })?;
    Ok(())
}

/// What the engine says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The id that it calls us by.
    pub worker_id: Uuid,
    /// With which a later link takes the place of this one; older engines give none.
    pub reattach_token: Option<String>,
}

/// The engine's greeting, if the message is one.
pub fn greeting(message: &str) -> Option<Greeting> {
    let [kind, id, reattach_token] = strings_at(message, ["type", "worker_id", "reattach_token"])?;
    (kind? == "workerregistered").then_some(())?;
    Some(Greeting {
        worker_id: Uuid::parse_str(&id?).ok()?,
        reattach_token,
    })
}

/// What a worker says first that takes the place of an older socket of its own: what that one was
/// called, and the token that it was given.
pub fn reattachment(message: &str) -> Option<(Uuid, String)> {
    let keys = ["type", "previous_worker_id", "reattach_token"];
    let [kind, id, token] = strings_at(message, keys)?;
    (kind? == "reattach").then_some(())?;
    Some((Uuid::parse_str(&id?).ok()?, token?))
}

/// What the engine does not let us register, since somebody else has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For programs.
    pub code: String,
    /// A function; none: our own name.
    pub function_id: Option<String>,
    /// That name, or none.
    pub worker_name: Option<String>,
    /// Where both stand.
    pub namespace: Option<String>,
    /// The worker that has it.
    pub owner: Option<String>,
}

/// The rejection, if the message is one.
pub fn rejection(message: &str) -> Option<Rejection> {
    let keys = [
        "type",
        "code",
        "function_id",
        "worker_name",
        "namespace",
        "owner_worker_id",
    ];
    let [kind, code, function_id, worker_name, namespace, owner] = strings_at(message, keys)?;
    (kind? == "registrationrejected").then(|| Rejection {
        code: code.unwrap_or_default(),
        function_id,
        worker_name,
        namespace,
        owner,
    })
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        match (&self.function_id, &self.worker_name) {
            (Some(id), _) => write!(f, ": function {id}")?,
            (None, Some(name)) => write!(f, ": the name {name}")?,
            (None, None) => {}
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " of namespace {namespace}")?;
        }
        if let Some(owner) = &self.owner {
            write!(f, " belongs to worker {owner}")?;
        }
        Ok(())
    }
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
        let types = type_registrations();
        assert_eq!(types.len(), 3);
        let stream: serde_json::Value = serde_json::from_str(&types[0]).unwrap();
        assert_eq!(
            (&stream["id"], &stream["description"]),
            (&"stream".into(), &"Stream trigger".into())
        );
        assert!(stream["trigger_request_format"].is_object());
        assert!(types[1].starts_with(r#"{"type":"registertriggertype","id":"stream:join","description":"Stream join trigger","trigger_request_format":{"#));
        assert!(types[2].contains(r#""id":"stream:leave""#));
        let messages = registrations(functions, (&changed, [&id, &id]), &process);
        assert_eq!(messages.len(), 8 + 5);
        assert_eq!(
            messages[0],
            r#"{"type":"registerfunction","id":"stream::set","description":"Set","request_format":{"a":1}}"#
        );
        assert_eq!(
            messages[8..],
            [
                r#"{"type":"registerfunction","id":"iii-stream::functions-changed::00000000-0000-0000-0000-000000000000","metadata":{"internal":true}}"#,
                r#"{"type":"registertrigger","id":"00000000-0000-0000-0000-000000000000","trigger_type":"engine::functions-available","function_id":"iii-stream::functions-changed::00000000-0000-0000-0000-000000000000","config":{}}"#,
                r#"{"type":"registertrigger","id":"00000000-0000-0000-0000-000000000000","trigger_type":"engine::workers-available","function_id":"iii-stream::functions-changed::00000000-0000-0000-0000-000000000000","config":{}}"#,
                r#"{"type":"registerfunction","id":"iii-stream::on-config-change","metadata":{"internal":true}}"#,
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
    fn a_list_of_functions_names_who_serves_them_where_that_is_told() {
        let list = r#"{"functions":[{"function_id":"stream::get(a\"b)","description":null},{"other":1},5,
            {"function_id":"f","worker_name":"w","namespace":"default"},
            {"function_id":"g","worker_name":null,"namespace":"orders"}]}"#;
        let ids = |ours| -> Vec<String> {
            let listed = read_functions(list, ours).unwrap();
            listed.into_iter().map(|function| function.id).collect()
        };
        assert_eq!(ids(None), ["stream::get(a\"b)", "f"]);
        assert_eq!(ids(Some("orders")), ["stream::get(a\"b)", "g"]);
        let f = &read_functions(list, None).unwrap()[1];
        assert_eq!(f.worker_name.as_deref(), Some("w"));
        assert!(read_functions("[]", None).is_err());
        assert!(read_functions("{}", None).unwrap().is_empty());
        assert!(read_functions("[]", None).is_err());
        assert!(read_functions("{}", None).unwrap().is_empty());
    }

    #[test]
    fn a_list_of_workers_names_those_with_a_connection() {
        let list = r#"{"timestamp":1,"workers":[
            {"id":"a","name":"x:1","connected_at_ms":5,"functions":["f","stream::set"],"runtime":"rust"},
            {"id":"b","name":null,"functions":["f"]},{"id":"c","functions":5},7,
            {"id":"iii-stream","name":"iii-stream","functions":["stream::set"],"runtime":"engine"}]}"#;
        let listed = read_workers(list).unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed[0].has_streams && listed[0].connected_at_ms == 5);
        assert_eq!(listed[0].name.as_deref(), Some("x:1"));
        assert!(!listed[1].has_streams && listed[1].name.is_none());
        assert!(read_workers("5").is_err());
    }

    #[test]
    fn a_greeting_may_hold_what_a_later_link_says_first() {
        let id = Uuid::from_u128(5);
        let plain = format!(r#"{{"type":"workerregistered","worker_id":"{id}"}}"#);
        let greeted = greeting(&plain).unwrap();
        assert_eq!((greeted.worker_id, &greeted.reattach_token), (id, &None));
        assert_eq!(reattach(&greeted), None);
        assert_eq!(reattachment(&plain), None);
        assert_eq!(refused_because(&plain), None);
        let newer = plain.replace('}', r#","reattach_token":"t\"1"}"#);
        let said = reattach(&greeting(&newer).unwrap()).unwrap();
        assert_eq!(reattachment(&said), Some((id, "t\"1".to_owned())));
        assert_eq!(
            said,
            format!(r#"{{"type":"reattach","previous_worker_id":"{id}","reattach_token":"t\"1"}}"#)
        );
    }

    #[test]
    fn refusals_and_rejections_are_told_apart() {
        let refusal = r#"{"error":{"code":"AUTH_ERROR","message":"no"},"type":"error"}"#;
        assert_eq!(refused_because(refusal), Some("no".to_owned()));
        assert_eq!(greeting(refusal), None);
        assert_eq!(greeting(r#"{"type":5}"#), None);
        assert_eq!(rejection(refusal), None);
        let of_name = r#"{"type":"registrationrejected","code":"WORKER_NAMESPACE_CONFLICT","namespace":"default",
            "worker_name":"iii-stream:1","owner_worker_id":"w"}"#;
        assert_eq!(
            rejection(of_name).unwrap().to_string(),
            "WORKER_NAMESPACE_CONFLICT: the name iii-stream:1 of namespace default belongs to worker w"
        );
        let of_function =
            r#"{"type":"registrationrejected","code":"C","function_id":"stream::set"}"#;
        let of_function = rejection(of_function).unwrap();
        assert_eq!(of_function.to_string(), "C: function stream::set");
        assert_eq!(of_function.owner, None);
    }
}
