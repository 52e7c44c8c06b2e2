//! What the worker port says: JSON texts, appended to a buffer. Keys stand in the order of the
//! reference; values are passed on as the texts they are.
//!
//! Also what becomes of a stream call, as a shard tells it. No frames and no sockets here.

use std::sync::Arc;

use uuid::Uuid;

use super::call::ErrorBody;
use super::groups::Names;
use super::json::{raw, text};
use crate::id::Text;

/// Several values as JSON texts, each with a comma before it: `,1,2,3`. Never empty.
pub type Chunk = Arc<str>;

/// Where an update's errors are explained.
const UPDATE_DOC_URL: &str = "https://iii.dev/docs/workers/iii-state#error-codes";

/// The key under which a function of an SDK worker is told who calls it.
const CALLER_KEY: &str = "_caller_worker_id";

/// What became of a stream call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// `set`: the value is stored.
    Set {
        /// It.
        new: Text,
        /// What it replaced.
        old: Option<Text>,
    },
    /// `get`: the value, if there is one.
    Got(Option<Text>),
    /// `delete`: the item is gone.
    Deleted {
        /// Its value, if it was there.
        old: Option<Text>,
    },
    /// `list`: a group's values.
    List(Vec<Chunk>),
    /// `list_groups`, `list_all`: what one worker knows of it.
    Groups(Names),
    /// The same of all workers: one JSON text, in pieces.
    Listed(Vec<Chunk>),
    /// `send`: the event is on its way.
    Sent,
    /// `update`: the value is stored.
    Updated {
        /// It.
        new: Text,
        /// What it replaced.
        old: Option<Text>,
        /// The operations that failed, in their order.
        errors: Vec<UpdateError>,
    },
    /// Nothing was done.
    Failed(ErrorBody),
}

impl Outcome {
    /// Bytes it holds on the heap, shared ones included.
    pub fn held_bytes(&self) -> usize {
        let len = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Outcome::Set { new, old } => new.len() + len(old),
            Outcome::Updated { new, old, errors } => {
                let errors = errors
                    .iter()
                    .map(|error| size_of::<UpdateError>() + error.code.len() + error.message.len());
                new.len() + len(old) + errors.sum::<usize>()
            }
            Outcome::Got(value) => len(value),
            Outcome::Deleted { old } => len(old),
            Outcome::List(chunks) | Outcome::Listed(chunks) => {
                let chunks = chunks.iter().map(|chunk| size_of::<Chunk>() + chunk.len());
                chunks.sum()
            }
            Outcome::Groups(groups) => groups.held_bytes(),
            Outcome::Sent => 0,
            Outcome::Failed(error) => error.held_bytes(),
        }
    }
}

/// Why one operation of an update failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateError {
    /// Which one, from 0.
    pub op_index: usize,
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What an `invocationresult` says.
#[derive(Debug, Clone, Copy)]
pub enum ResultBody<'a> {
    /// The function returned nothing.
    Nothing,
    /// The function returned this JSON text.
    Json(&'a str),
    /// A stream function's result or error.
    Outcome(&'a Outcome),
    /// The call failed.
    Error(&'a ErrorBody),
}

/// The greeting: the worker's own id, and with which a later socket of its takes this one's place.
pub fn worker_registered(out: &mut Vec<u8>, worker_id: &Uuid, reattach_token: &str) {
    push(out, r#"{"type":"workerregistered","worker_id":""#);
    write_uuid(out, worker_id);
    push(out, r#"","reattach_token":"#);
    text::write_string(out, reattach_token);
    out.push(b'}');
}

/// What an answer is written to: texts that are shared with others may stay so.
pub trait Sink {
    /// What is its own.
    fn own(&mut self) -> &mut Vec<u8>;

    /// Appends a text that others have as well.
    fn push_text(&mut self, text: &Text);
}

impl Sink for Vec<u8> {
    fn own(&mut self) -> &mut Vec<u8> {
        self
    }

    fn push_text(&mut self, text: &Text) {
        self.extend_from_slice(text.as_bytes());
    }
}

/// The answer to a call.
pub fn invocation_result(
    out: &mut impl Sink,
    id: &Uuid,
    function_id: &str,
    body: ResultBody<'_>,
    traceparent: Option<&str>,
    baggage: Option<&str>,
) {
    let own = out.own();
    push(own, r#"{"type":"invocationresult","invocation_id":""#);
    write_uuid(own, id);
    push(own, r#"","function_id":"#);
    text::write_string(own, function_id);
    match body {
        ResultBody::Nothing | ResultBody::Outcome(Outcome::Got(None)) => {}
        ResultBody::Error(error) | ResultBody::Outcome(Outcome::Failed(error)) => {
            write_error_field(own, error);
        }
        ResultBody::Json(json) => {
            push(own, r#","result":"#);
            push(own, json);
        }
        ResultBody::Outcome(outcome) => {
            push(own, r#","result":"#);
            write_outcome(out, outcome);
        }
    }
    let own = out.own();
    write_trace(own, traceparent, baggage);
    own.push(b'}');
}

/// A call on its way to whoever serves the function.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// What is called.
    pub function_id: &'a str,
    /// Where an engine looks it up. None: that is the engine's own affair, and no field.
    pub namespace: Option<&'a str>,
    /// One JSON text.
    pub data: &'a str,
    /// Another one, which the function gets beside it.
    pub metadata: Option<&'a str>,
    /// The SDK worker that calls; none for the server itself.
    pub caller: Option<Uuid>,
    /// Passed on unread.
    pub traceparent: Option<&'a str>,
    /// Passed on unread.
    pub baggage: Option<&'a str>,
}

impl<'a> Outgoing<'a> {
    /// A call of the server itself.
    pub fn own(function_id: &'a str, data: &'a str) -> Outgoing<'a> {
        Outgoing {
            function_id,
            namespace: None,
            data,
            metadata: None,
            caller: None,
            traceparent: None,
            baggage: None,
        }
    }
}

/// A call, to the worker that serves the function. If `data` is an object, `caller` is put in as its
/// first member, in place of any that the caller wrote of that name.
pub fn invoke_function(out: &mut Vec<u8>, id: &Uuid, call: &Outgoing<'_>) {
    push(out, r#"{"type":"invokefunction","invocation_id":""#);
    write_uuid(out, id);
    push(out, r#"","function_id":"#);
    text::write_string(out, call.function_id);
    push(out, r#","data":"#);
    match (&call.caller, call.data.trim_ascii().strip_prefix('{')) {
        (Some(caller), Some(members)) => write_with_caller(out, call.data, members, caller),
        _ => push(out, call.data),
    }
    if let Some(metadata) = call.metadata {
        push(out, r#","metadata":"#);
        push(out, metadata);
    }
    write_namespace(out, call.namespace);
    write_trace(out, call.traceparent, call.baggage);
    out.push(b'}');
}

/// How the registration of a trigger went; only failures are ever told.
pub fn trigger_registration_result(
    out: &mut Vec<u8>,
    id: &str,
    trigger_type: &str,
    function_id: &str,
    error: Option<&ErrorBody>,
) {
    push(out, r#"{"type":"triggerregistrationresult","id":"#);
    text::write_string(out, id);
    push(out, r#","trigger_type":"#);
    text::write_string(out, trigger_type);
    push(out, r#","function_id":"#);
    text::write_string(out, function_id);
    if let Some(error) = error {
        write_error_field(out, error);
    }
    out.push(b'}');
}

/// A trigger, to the worker that serves its type. `config` and `metadata` are JSON texts.
pub fn register_trigger(
    out: &mut Vec<u8>,
    id: &str,
    trigger_type: &str,
    function_id: &str,
    config: Option<&str>,
    metadata: Option<&str>,
    namespace: Option<&str>,
) {
    push(out, r#"{"type":"registertrigger","id":"#);
    text::write_string(out, id);
    push(out, r#","trigger_type":"#);
    text::write_string(out, trigger_type);
    push(out, r#","function_id":"#);
    text::write_string(out, function_id);
    push(out, r#","config":"#);
    push(out, config.unwrap_or("null"));
    if let Some(metadata) = metadata {
        push(out, r#","metadata":"#);
        push(out, metadata);
    }
    write_namespace(out, namespace);
    out.push(b'}');
}

/// The last message to a worker whose registration is refused.
pub fn registration_rejected(
    out: &mut Vec<u8>,
    error: &ErrorBody,
    namespace: &str,
    worker_name: &str,
) {
    push(out, r#"{"type":"registrationrejected""#);
    for (key, value) in [
        ("code", &*error.code),
        ("message", &*error.message),
        ("namespace", namespace),
        ("worker_name", worker_name),
    ] {
        push(out, &format!(r#","{key}":"#));
        text::write_string(out, value);
    }
    out.push(b'}');
}

/// The end of a trigger, to the worker that serves its type.
pub fn unregister_trigger(out: &mut Vec<u8>, id: &str, trigger_type: &str) {
    push(out, r#"{"type":"unregistertrigger","id":"#);
    text::write_string(out, id);
    push(out, r#","trigger_type":"#);
    text::write_string(out, trigger_type);
    out.push(b'}');
}

/// The answer to a `ping` message.
pub fn pong(out: &mut Vec<u8>) {
    push(out, r#"{"type":"pong"}"#);
}

fn push(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(s.as_bytes());
}

fn write_uuid(out: &mut Vec<u8>, uuid: &Uuid) {
    push(
        out,
        uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
    );
}

/// Never `null`, which engines refuse.
fn write_namespace(out: &mut Vec<u8>, namespace: Option<&str>) {
    if let Some(namespace) = namespace {
        push(out, r#","namespace":"#);
        text::write_string(out, namespace);
    }
}

fn write_trace(out: &mut Vec<u8>, traceparent: Option<&str>, baggage: Option<&str>) {
    if let Some(traceparent) = traceparent {
        push(out, r#","traceparent":"#);
        text::write_string(out, traceparent);
    }
    if let Some(baggage) = baggage {
        push(out, r#","baggage":"#);
        text::write_string(out, baggage);
    }
}

fn write_error_field(out: &mut Vec<u8>, error: &ErrorBody) {
    push(out, r#","error":{"code":"#);
    text::write_string(out, &error.code);
    push(out, r#","message":"#);
    text::write_string(out, &error.message);
    if let Some(stacktrace) = &error.stacktrace {
        push(out, r#","stacktrace":"#);
        text::write_string(out, stacktrace);
    }
    out.push(b'}');
}

/// `members` is what stands in the object `data` behind its `{`.
fn write_with_caller(out: &mut Vec<u8>, data: &str, members: &str, caller: &Uuid) {
    push(out, "{\"");
    push(out, CALLER_KEY);
    push(out, "\":\"");
    write_uuid(out, caller);
    out.push(b'"');
    // Without `\u` no key is `_caller_worker_id` in disguise: no other escape makes its letters.
    if !data.contains(CALLER_KEY) && !data.contains("\\u") {
        if !members.trim_ascii_start().starts_with('}') {
            out.push(b',');
        }
        push(out, members);
        return;
    }
    // What callers hand in is JSON by its grammar, so that all members are seen.
    let _ = raw::members(data, |key, value| {
        if text::read_string(key).is_ok_and(|key| key == CALLER_KEY) {
            return;
        }
        out.push(b',');
        push(out, key);
        out.push(b':');
        push(out, value.get());
    });
    out.push(b'}');
}

/// The result, for outcomes that have one.
fn write_outcome(out: &mut impl Sink, outcome: &Outcome) {
    match outcome {
        Outcome::Set { new, old } => {
            push(out.own(), r#"{"new_value":"#);
            out.push_text(new);
            write_old_value(out, old.as_ref());
        }
        Outcome::Deleted { old } => {
            push(out.own(), r#"{"old_value":"#);
            write_value(out, old.as_ref());
            out.own().push(b'}');
        }
        Outcome::Got(value) => write_value(out, value.as_ref()),
        Outcome::List(chunks) => {
            out.own().push(b'[');
            if let Some((first, others)) = chunks.split_first() {
                match first.strip_prefix(',') {
                    Some(rest) => push(out.own(), rest),
                    None => out.push_text(first),
                }
                others.iter().for_each(|chunk| out.push_text(chunk));
            }
            out.own().push(b']');
        }
        Outcome::Listed(chunks) => chunks.iter().for_each(|chunk| out.push_text(chunk)),
        Outcome::Updated { new, old, errors } => {
            out.own().push(b'{');
            if !errors.is_empty() {
                write_update_errors(out.own(), errors);
            }
            push(out.own(), r#""new_value":"#);
            out.push_text(new);
            write_old_value(out, old.as_ref());
        }
        // What one worker says goes to nobody by itself.
        Outcome::Sent | Outcome::Failed(_) | Outcome::Groups(_) => push(out.own(), "null"),
    }
}

fn write_value(out: &mut impl Sink, value: Option<&Text>) {
    match value {
        Some(value) => out.push_text(value),
        None => push(out.own(), "null"),
    }
}

fn write_old_value(out: &mut impl Sink, old: Option<&Text>) {
    push(out.own(), r#","old_value":"#);
    write_value(out, old);
    out.own().push(b'}');
}

fn write_update_errors(out: &mut Vec<u8>, errors: &[UpdateError]) {
    push(out, r#""errors":["#);
    for (i, error) in errors.iter().enumerate() {
        push(out, if i > 0 { r#",{"code":"# } else { r#"{"code":"# });
        text::write_string(out, &error.code);
        push(out, r#","doc_url":"#);
        text::write_string(out, UPDATE_DOC_URL);
        push(out, r#","message":"#);
        text::write_string(out, &error.message);
        push(out, r#","op_index":"#);
        push(out, &error.op_index.to_string());
        out.push(b'}');
    }
    push(out, "],");
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x3f2504e0_4f89_11d3_9a0c_0305e82c3301);
    const ID_TEXT: &str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// What stands in an answer behind the function's id.
    fn result(body: ResultBody<'_>) -> String {
        let text = written(|out| invocation_result(out, &ID, "f", body, None, None));
        let head =
            format!(r#"{{"type":"invocationresult","invocation_id":"{ID_TEXT}","function_id":"f""#);
        let rest = text
            .strip_prefix(&*head)
            .unwrap()
            .strip_suffix('}')
            .unwrap();
        rest.to_owned()
    }

    fn outcome(outcome: Outcome) -> String {
        result(ResultBody::Outcome(&outcome))
    }

    fn plain(data: &str) -> Outgoing<'_> {
        Outgoing::own("f", data)
    }

    /// The `data` of a call as its callee gets it.
    fn spliced(data: &str) -> String {
        let call = Outgoing {
            caller: Some(ID),
            ..plain(data)
        };
        let text = written(|out| invoke_function(out, &ID, &call));
        let head = format!(
            r#"{{"type":"invokefunction","invocation_id":"{ID_TEXT}","function_id":"f","data":"#
        );
        let rest = text
            .strip_prefix(&*head)
            .unwrap()
            .strip_suffix('}')
            .unwrap();
        rest.replace(ID_TEXT, "ID")
    }

    #[test]
    fn messages_have_the_keys_of_the_reference_in_its_order() {
        assert_eq!(
            written(|out| worker_registered(out, &ID, "t")),
            format!(
                r#"{{"type":"workerregistered","worker_id":"{ID_TEXT}","reattach_token":"t"}}"#
            )
        );
        assert_eq!(written(pong), r#"{"type":"pong"}"#);
        assert_eq!(
            written(|out| invocation_result(
                out,
                &ID,
                "f\"",
                ResultBody::Json("[1]"),
                Some("t"),
                Some("b")
            )),
            format!(
                r#"{{"type":"invocationresult","invocation_id":"{ID_TEXT}","function_id":"f\"","result":[1],"traceparent":"t","baggage":"b"}}"#
            )
        );
        let call = Outgoing {
            caller: Some(ID),
            traceparent: Some("t"),
            baggage: Some("b"),
            ..plain("[1]")
        };
        assert_eq!(
            written(|out| invoke_function(out, &ID, &call)),
            format!(
                r#"{{"type":"invokefunction","invocation_id":"{ID_TEXT}","function_id":"f","data":[1],"traceparent":"t","baggage":"b"}}"#
            )
        );
        let error = ErrorBody::new("trigger_type_not_found", "Trigger type not found");
        assert_eq!(
            written(|out| trigger_registration_result(out, "t4", "tt", "f", Some(&error))),
            r#"{"type":"triggerregistrationresult","id":"t4","trigger_type":"tt","function_id":"f","error":{"code":"trigger_type_not_found","message":"Trigger type not found"}}"#
        );
        assert_eq!(
            written(|out| register_trigger(
                out,
                "r1",
                "tt",
                "fx",
                Some("{}"),
                Some("[1]"),
                Some("n")
            )),
            r#"{"type":"registertrigger","id":"r1","trigger_type":"tt","function_id":"fx","config":{},"metadata":[1],"namespace":"n"}"#
        );
        assert_eq!(
            written(|out| register_trigger(out, "r1", "tt", "fx", None, None, None)),
            r#"{"type":"registertrigger","id":"r1","trigger_type":"tt","function_id":"fx","config":null}"#
        );
        assert_eq!(
            written(|out| unregister_trigger(out, "r1", "tt")),
            r#"{"type":"unregistertrigger","id":"r1","trigger_type":"tt"}"#
        );
    }

    #[test]
    fn results_have_the_shapes_of_the_functions() {
        let value = |json: &str| Some(Text::from(json));
        let rows = [
            (
                Outcome::Set {
                    new: "1".into(),
                    old: None,
                },
                r#","result":{"new_value":1,"old_value":null}"#,
            ),
            (
                Outcome::Set {
                    new: "1".into(),
                    old: value("[2]"),
                },
                r#","result":{"new_value":1,"old_value":[2]}"#,
            ),
            (Outcome::Got(None), ""),
            (Outcome::Got(value("null")), r#","result":null"#),
            (Outcome::Got(value("{}")), r#","result":{}"#),
            (
                Outcome::Deleted { old: None },
                r#","result":{"old_value":null}"#,
            ),
            (
                Outcome::Deleted { old: value("1") },
                r#","result":{"old_value":1}"#,
            ),
            (Outcome::List(vec![]), r#","result":[]"#),
            (
                Outcome::List(vec![",1,2".into(), ",3".into()]),
                r#","result":[1,2,3]"#,
            ),
            (
                Outcome::Listed(vec!["[\"a\"".into(), ",\"b\"]".into()]),
                r#","result":["a","b"]"#,
            ),
            (Outcome::Sent, r#","result":null"#),
            (
                Outcome::Updated {
                    new: "{}".into(),
                    old: None,
                    errors: vec![],
                },
                r#","result":{"new_value":{},"old_value":null}"#,
            ),
            (
                Outcome::Updated {
                    new: "1".into(),
                    old: value("1"),
                    errors: vec![
                        UpdateError {
                            op_index: 0,
                            code: "a.b".into(),
                            message: "\"".into(),
                        },
                        UpdateError {
                            op_index: 2,
                            code: "c".into(),
                            message: "m".into(),
                        },
                    ],
                },
                r#","result":{"errors":[{"code":"a.b","doc_url":"https://iii.dev/docs/workers/iii-state#error-codes","message":"\"","op_index":0},{"code":"c","doc_url":"https://iii.dev/docs/workers/iii-state#error-codes","message":"m","op_index":2}],"new_value":1,"old_value":1}"#,
            ),
            (
                Outcome::Failed(ErrorBody::new("c", "m")),
                r#","error":{"code":"c","message":"m"}"#,
            ),
        ];
        for (what, text) in rows {
            assert_eq!(outcome(what), text);
        }
    }

    #[test]
    fn a_result_may_be_nothing_or_an_error_with_its_stacktrace() {
        assert_eq!(result(ResultBody::Nothing), "");
        let mut error = ErrorBody::new("c", "m");
        error.stacktrace = Some("st".into());
        assert_eq!(
            result(ResultBody::Error(&error)),
            r#","error":{"code":"c","message":"m","stacktrace":"st"}"#
        );
    }

    #[test]
    fn the_caller_is_put_into_objects_and_into_nothing_else() {
        let rows = [
            ("{}", r#"{"_caller_worker_id":"ID"}"#),
            ("{ }", r#"{"_caller_worker_id":"ID" }"#),
            (r#"{"a":1}"#, r#"{"_caller_worker_id":"ID","a":1}"#),
            (
                r#"{ "a" : [ 1 ] }"#,
                r#"{"_caller_worker_id":"ID", "a" : [ 1 ] }"#,
            ),
            (
                r#"{"_caller_worker_id":{"x":1}}"#,
                r#"{"_caller_worker_id":"ID"}"#,
            ),
            (
                r#"{"a":1e9,"_caller_worker_id":2,"b":"_caller_worker_id"}"#,
                r#"{"_caller_worker_id":"ID","a":1e9,"b":"_caller_worker_id"}"#,
            ),
            (
                r#"{"\u005fcaller_worker_id":1,"b":{"_caller_worker_id":2}}"#,
                r#"{"_caller_worker_id":"ID","b":{"_caller_worker_id":2}}"#,
            ),
            (
                r#"{"\ud83d":1}"#,
                r#"{"_caller_worker_id":"ID","\ud83d":1}"#,
            ),
            ("[{}]", "[{}]"),
            ("null", "null"),
            (r#""{""#, r#""{""#),
        ];
        for (data, wanted) in rows {
            assert_eq!(spliced(data), wanted, "{data}");
        }
    }

    #[test]
    fn calls_that_the_server_makes_name_no_caller() {
        let text = written(|out| invoke_function(out, &ID, &plain("{}")));
        assert!(text.ends_with(r#","data":{}}"#), "{text}");
    }

    #[test]
    fn metadata_and_namespace_stand_beside_the_input_or_are_no_fields() {
        let call = Outgoing {
            namespace: Some("orders"),
            metadata: Some(r#"{"a" : 1}"#),
            ..plain("1")
        };
        let text = written(|out| invoke_function(out, &ID, &call));
        let end = r#""data":1,"metadata":{"a" : 1},"namespace":"orders"}"#;
        assert!(text.ends_with(end), "{text}");
    }
}
