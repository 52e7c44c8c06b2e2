//! What SDK workers send: one JSON text to one [`EngineMessage`].
//!
//! A message is read in one pass, with strings and values borrowed from its text. Values are
//! taken by their grammar alone: what a value may hold is for its reader to say, so that a call
//! with a bad one can still be answered. May not know what any function does.

mod fields;

use std::borrow::Cow;

use serde_json::value::RawValue;
use uuid::Uuid;

use self::fields::{Field, Fields, string};
use super::json::{raw, text};

/// A message from an SDK worker. JSON values stand as their texts; `null` is as good as absent.
#[derive(Debug)]
pub enum EngineMessage<'a> {
    /// The worker serves a function from now on.
    RegisterFunction {
        /// The function's id; any string.
        id: Cow<'a, str>,
        /// For people.
        description: Option<Cow<'a, str>>,
        /// Schema of its input.
        request_format: Option<&'a RawValue>,
        /// Schema of its result.
        response_format: Option<&'a RawValue>,
        /// Kept for listings.
        metadata: Option<&'a RawValue>,
        /// It is to be called over HTTP, which is not served.
        has_invocation: bool,
    },
    /// The worker serves the function no longer.
    UnregisterFunction {
        /// The function's id.
        id: Cow<'a, str>,
    },
    /// A function is to be called when something happens.
    RegisterTrigger(TriggerRegistration<'a>),
    /// The trigger is over.
    UnregisterTrigger {
        /// The trigger's id.
        id: Cow<'a, str>,
        /// Its type; not to be compared.
        trigger_type: Option<Cow<'a, str>>,
    },
    /// The worker serves a trigger type from now on.
    RegisterTriggerType {
        /// The type's id.
        id: Cow<'a, str>,
        /// For people.
        description: Cow<'a, str>,
        /// Schema of a trigger's `config`.
        trigger_request_format: Option<&'a RawValue>,
        /// Schema of what triggered functions get.
        call_request_format: Option<&'a RawValue>,
    },
    /// A call of a function.
    Invoke(Invoke<'a>),
    /// The answer to a call that the worker was sent.
    InvocationResult(InvocationResult<'a>),
    /// Has no effect, but is no unknown type either.
    RegisterService,
    /// Wants a pong.
    Ping,
    /// Wants nothing: pongs, messages that only servers send, unknown types, empty ones.
    Ignored,
}

/// A trigger that is to be registered.
#[derive(Debug)]
pub struct TriggerRegistration<'a> {
    /// The trigger's id.
    pub id: Cow<'a, str>,
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

/// A call of a function.
#[derive(Debug)]
pub struct Invoke<'a> {
    /// The caller's name for the call. None: it waits for no answer.
    pub id: Option<Uuid>,
    /// What is called.
    pub function_id: Cow<'a, str>,
    /// Where it is looked up.
    pub namespace: Option<Cow<'a, str>>,
    /// The input, a JSON text; `null` when there was none.
    pub data: &'a str,
    /// What goes with the call beside its input.
    pub metadata: Option<&'a RawValue>,
    /// Passed on unread.
    pub trace: Trace<'a>,
    /// How it is to be called.
    pub action: Action<'a>,
}

/// Longer ones are no traces: they are passed over, for they are kept while a call is under way.
/// W3C Baggage asks for as many bytes at least to be passed on.
pub const TRACE_FIELD_BYTES_MAX: usize = 8192;

/// The caller's trace, passed to the callee and back.
#[derive(Debug, Default)]
pub struct Trace<'a> {
    /// As in W3C Trace Context, unchecked.
    pub traceparent: Option<Cow<'a, str>>,
    /// As in W3C Baggage, unchecked.
    pub baggage: Option<Cow<'a, str>>,
}

/// How a function is to be called.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// At once, with an answer if the call has an id.
    None,
    /// At once, without an answer.
    Void,
    /// Through a named queue.
    Enqueue {
        /// The queue's name.
        queue: Cow<'a, str>,
    },
}

/// The answer to a call. `error` wins where both are given.
#[derive(Debug)]
pub struct InvocationResult<'a> {
    /// Which call.
    pub id: Uuid,
    /// A JSON text. None: nothing, or `null`.
    pub result: Option<&'a str>,
    /// Why there is no result.
    pub error: Option<ErrorBody>,
}

/// Why a call failed, as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody {
    /// For programs.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// Where it went wrong, from SDK workers only.
    pub stacktrace: Option<String>,
}

impl ErrorBody {
    /// An error of our own: without a stacktrace.
    pub fn new(code: &'static str, message: impl Into<String>) -> ErrorBody {
        ErrorBody {
            code: Cow::Borrowed(code),
            message: message.into(),
            stacktrace: None,
        }
    }

    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        let stacktrace = self.stacktrace.as_ref().map_or(0, String::len);
        self.code.len() + self.message.len() + stacktrace
    }

    /// The error of an SDK worker. Its shape is theirs to keep; what is missing is filled in.
    fn read(json: &RawValue) -> ErrorBody {
        let (mut code, mut message, mut stacktrace) = (None, None, None);
        let is_object = raw::members(json.get(), |key, value| {
            let field = match text::read_string(key).as_deref() {
                Ok("code") => &mut code,
                Ok("message") => &mut message,
                Ok("stacktrace") => &mut stacktrace,
                _ => return,
            };
            *field = string(value);
        });
        let whole = match is_object {
            Ok(()) => None,
            Err(_) => string(json),
        };
        ErrorBody {
            code: code.map_or(Cow::Borrowed("invocation_failed"), |code| {
                Cow::Owned(code.into_owned())
            }),
            message: message
                .or(whole)
                .map_or(json.get().to_owned(), Cow::into_owned),
            stacktrace: stacktrace.map(Cow::into_owned),
        }
    }
}

/// Why a message was dropped: nobody is answered, the log gets a line.
#[derive(Debug, thiserror::Error)]
pub enum Dropped {
    /// Not one JSON object.
    #[error("message is not one JSON object: {0}")]
    NotAnObject(#[source] serde_json::Error),
    /// A field that the type needs is not there.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field of the type has the wrong kind of value.
    #[error("field `{field}` is not {expected}")]
    Wrong {
        /// Its name.
        field: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// A field of the type is there more than once.
    #[error("field `{0}` is given twice")]
    Twice(&'static str),
}

/// Reads one message.
pub fn parse(text: &str) -> Result<EngineMessage<'_>, Dropped> {
    if text.trim_ascii().is_empty() {
        return Ok(EngineMessage::Ignored);
    }
    let fields = Fields::read(text)?;
    let kind = fields.known(&[Field::Kind])?.string(Field::Kind)?;
    match &*kind {
        "invokefunction" => invoke(&fields),
        "invocationresult" => invocation_result(&fields),
        "registerfunction" => register_function(&fields),
        "unregisterfunction" => {
            let id = fields.known(&[Field::Id])?.string(Field::Id)?;
            Ok(EngineMessage::UnregisterFunction { id })
        }
        "registertrigger" => register_trigger(&fields),
        "unregistertrigger" => {
            let fields = fields.known(&[Field::Id, Field::TriggerType])?;
            Ok(EngineMessage::UnregisterTrigger {
                id: fields.string(Field::Id)?,
                trigger_type: fields.optional_string(Field::TriggerType)?,
            })
        }
        "registertriggertype" => register_trigger_type(&fields),
        "registerservice" => {
            let optional = [Field::Name, Field::Description, Field::ParentServiceId];
            fields.known(&[Field::Id])?.string(Field::Id)?;
            fields.known(&optional)?;
            optional
                .iter()
                .try_for_each(|&field| fields.optional_string(field).map(drop))?;
            Ok(EngineMessage::RegisterService)
        }
        "ping" => Ok(EngineMessage::Ping),
        _ => Ok(EngineMessage::Ignored),
    }
}

fn invoke<'a>(fields: &Fields<'a>) -> Result<EngineMessage<'a>, Dropped> {
    let fields = fields.known(&[
        Field::InvocationId,
        Field::FunctionId,
        Field::Namespace,
        Field::Data,
        Field::Metadata,
        Field::Traceparent,
        Field::Baggage,
        Field::Action,
    ])?;
    Ok(EngineMessage::Invoke(Invoke {
        id: match fields.optional_string(Field::InvocationId)? {
            None => None,
            Some(id) => Some(uuid(&id)?),
        },
        function_id: fields.string(Field::FunctionId)?,
        namespace: fields.optional_string(Field::Namespace)?,
        data: fields.value(Field::Data).map_or("null", RawValue::get),
        metadata: fields.value(Field::Metadata),
        trace: Trace {
            traceparent: trace_field(fields, Field::Traceparent)?,
            baggage: trace_field(fields, Field::Baggage)?,
        },
        action: action(fields.value(Field::Action))?,
    }))
}

fn trace_field<'a>(fields: &Fields<'a>, field: Field) -> Result<Option<Cow<'a, str>>, Dropped> {
    let text = fields.optional_string(field)?;
    Ok(text.filter(|text| text.len() <= TRACE_FIELD_BYTES_MAX))
}

fn action(json: Option<&RawValue>) -> Result<Action<'_>, Dropped> {
    const WRONG: Dropped = Dropped::Wrong {
        field: "action",
        expected: "`void`, or `enqueue` with a queue",
    };
    let Some(json) = json else {
        return Ok(Action::None);
    };
    let fields = Fields::read(json.get()).map_err(|_| WRONG)?;
    match &*fields
        .known(&[Field::Kind])?
        .string(Field::Kind)
        .map_err(|_| WRONG)?
    {
        "void" => Ok(Action::Void),
        "enqueue" => {
            let queue = fields
                .known(&[Field::Queue])?
                .string(Field::Queue)
                .map_err(|_| WRONG)?;
            Ok(Action::Enqueue { queue })
        }
        _ => Err(WRONG),
    }
}

fn invocation_result<'a>(fields: &Fields<'a>) -> Result<EngineMessage<'a>, Dropped> {
    let fields = fields.known(&[
        Field::InvocationId,
        Field::FunctionId,
        Field::Result,
        Field::Error,
        Field::Traceparent,
        Field::Baggage,
    ])?;
    fields.string(Field::FunctionId)?;
    fields.optional_string(Field::Traceparent)?;
    fields.optional_string(Field::Baggage)?;
    Ok(EngineMessage::InvocationResult(InvocationResult {
        id: uuid(&fields.string(Field::InvocationId)?)?,
        result: fields.value(Field::Result).map(RawValue::get),
        error: fields.value(Field::Error).map(ErrorBody::read),
    }))
}

fn register_function<'a>(fields: &Fields<'a>) -> Result<EngineMessage<'a>, Dropped> {
    let fields = fields.known(&[
        Field::Id,
        Field::Description,
        Field::RequestFormat,
        Field::ResponseFormat,
        Field::Metadata,
        Field::Invocation,
    ])?;
    Ok(EngineMessage::RegisterFunction {
        id: fields.string(Field::Id)?,
        description: fields.optional_string(Field::Description)?,
        request_format: fields.value(Field::RequestFormat),
        response_format: fields.value(Field::ResponseFormat),
        metadata: fields.value(Field::Metadata),
        has_invocation: match fields.value(Field::Invocation) {
            None => false,
            Some(invocation) => http_invocation(invocation)?,
        },
    })
}

/// True: `invocation` describes a function behind HTTP, which has a url at least.
fn http_invocation(json: &RawValue) -> Result<bool, Dropped> {
    let described = Fields::read(json.get()).and_then(|fields| {
        fields.known(&[Field::Url])?.string(Field::Url)?;
        Ok(true)
    });
    described.map_err(|_| Dropped::Wrong {
        field: "invocation",
        expected: "an object with a url",
    })
}

fn register_trigger<'a>(fields: &Fields<'a>) -> Result<EngineMessage<'a>, Dropped> {
    let fields = fields.known(&[
        Field::Id,
        Field::TriggerType,
        Field::FunctionId,
        Field::Config,
        Field::Metadata,
        Field::Namespace,
    ])?;
    Ok(EngineMessage::RegisterTrigger(TriggerRegistration {
        id: fields.string(Field::Id)?,
        trigger_type: fields.string(Field::TriggerType)?,
        function_id: fields.string(Field::FunctionId)?,
        config: fields.value(Field::Config),
        metadata: fields.value(Field::Metadata),
        namespace: fields.optional_string(Field::Namespace)?,
    }))
}

fn register_trigger_type<'a>(fields: &Fields<'a>) -> Result<EngineMessage<'a>, Dropped> {
    let fields = fields.known(&[
        Field::Id,
        Field::Description,
        Field::TriggerRequestFormat,
        Field::CallRequestFormat,
    ])?;
    Ok(EngineMessage::RegisterTriggerType {
        id: fields.string(Field::Id)?,
        description: fields.string(Field::Description)?,
        trigger_request_format: fields.value(Field::TriggerRequestFormat),
        call_request_format: fields.value(Field::CallRequestFormat),
    })
}

/// Any of the four forms in which UUIDs are written.
fn uuid(id: &str) -> Result<Uuid, Dropped> {
    Uuid::try_parse(id).map_err(|_| Dropped::Wrong {
        field: "invocation_id",
        expected: "a UUID",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";

    fn invoke(text: &str) -> Invoke<'_> {
        match parse(text) {
            Ok(EngineMessage::Invoke(invoke)) => invoke,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn result_error(error: &str) -> ErrorBody {
        let text = format!(
            r#"{{"type":"invocationresult","invocation_id":"{ID}","function_id":"f","error":{error}}}"#
        );
        match parse(&text) {
            Ok(EngineMessage::InvocationResult(result)) => result.error.unwrap(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_call_is_read_with_its_parts_borrowed() {
        let text = format!(
            r#" {{"data": {{"a" : 1}} ,"function_id":"f","x":1,"traceparent":"t","x":2,
                 "baggage":"b","invocation_id":"{ID}","type":"invokefunction"}} "#
        );
        let call = invoke(&text);
        assert_eq!(call.id.unwrap().to_string(), ID);
        assert!(matches!(call.function_id, Cow::Borrowed("f")));
        assert_eq!(call.data, r#"{"a" : 1}"#);
        assert!(call.namespace.is_none() && call.metadata.is_none());
        assert_eq!(call.trace.traceparent.as_deref(), Some("t"));
        assert_eq!(call.trace.baggage.as_deref(), Some("b"));
        assert_eq!(call.action, Action::None);
    }

    #[test]
    fn a_call_and_a_trigger_may_name_a_namespace_and_bear_metadata() {
        let call = invoke(
            r#"{"type":"invokefunction","function_id":"f","namespace":"orders","metadata":{"a":[1]}}"#,
        );
        assert_eq!(call.namespace.as_deref(), Some("orders"));
        assert_eq!(call.metadata.map(RawValue::get), Some(r#"{"a":[1]}"#));
        let text = r#"{"type":"registertrigger","id":"t","trigger_type":"x","function_id":"f",
            "metadata":1,"namespace":"orders"}"#;
        let Ok(EngineMessage::RegisterTrigger(asked)) = parse(text) else {
            panic!("{text}");
        };
        assert_eq!(asked.namespace.as_deref(), Some("orders"));
        assert_eq!(asked.metadata.map(RawValue::get), Some("1"));
    }

    #[test]
    fn what_is_absent_or_null_is_none_and_data_is_null() {
        for rest in [
            "",
            r#","invocation_id":null,"data":null,"action":null,"traceparent":null"#,
        ] {
            let text = format!(r#"{{"type":"invokefunction","function_id":"\u0066"{rest}}}"#);
            let call = invoke(&text);
            assert_eq!(
                (call.id, &*call.function_id, call.data),
                (None, "f", "null")
            );
            assert_eq!((call.trace.traceparent, call.action), (None, Action::None));
        }
    }

    #[test]
    fn uuids_are_taken_in_all_their_forms() {
        let simple = ID.replace('-', "");
        let forms = [
            ID.to_owned(),
            ID.to_uppercase(),
            simple.clone(),
            format!("{{{ID}}}"),
            format!("urn:uuid:{ID}"),
        ];
        for form in forms {
            let text = format!(
                r#"{{"type":"invokefunction","function_id":"f","invocation_id":"{form}"}}"#
            );
            assert_eq!(invoke(&text).id.unwrap().to_string(), ID, "{form}");
        }
        for form in ["", "x", &simple[1..], "3f2504e0"] {
            let text = format!(
                r#"{{"type":"invokefunction","function_id":"f","invocation_id":"{form}"}}"#
            );
            assert!(parse(&text).is_err(), "{form}");
        }
    }

    #[test]
    fn actions_are_told_apart() {
        let action = |json: &str| {
            let text = format!(r#"{{"type":"invokefunction","function_id":"f","action":{json}}}"#);
            match parse(&text) {
                Ok(EngineMessage::Invoke(call)) => Some(match call.action {
                    Action::None => "none".to_owned(),
                    Action::Void => "void".to_owned(),
                    Action::Enqueue { queue } => format!("enqueue {queue}"),
                }),
                _ => None,
            }
        };
        assert_eq!(action("null").as_deref(), Some("none"));
        assert_eq!(action(r#"{"type":"void","x":1}"#).as_deref(), Some("void"));
        let enqueue = r#"{"queue":"q","type":"enqueue"}"#;
        assert_eq!(action(enqueue).as_deref(), Some("enqueue q"));
        for json in [
            "5",
            r#""void""#,
            r#"["void"]"#,
            "{}",
            r#"{"type":"other"}"#,
            r#"{"type":5}"#,
            r#"{"type":"enqueue"}"#,
            r#"{"type":"enqueue","queue":null}"#,
            r#"{"type":"enqueue","queue":5}"#,
            r#"{"type":"void","type":"void"}"#,
            r#"{"type":"enqueue","queue":"a","queue":"b"}"#,
        ] {
            assert_eq!(action(json), None, "{json}");
        }
    }

    #[test]
    fn a_call_with_a_bad_value_can_still_be_answered() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for data in ["1e999", r#""\ud83d""#, r#"{"\ud83d":1}"#, &deep] {
            let text = format!(
                r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"f","data":{data}}}"#
            );
            assert_eq!(invoke(&text).data, data);
        }
    }

    #[test]
    fn a_known_field_twice_drops_and_an_unknown_one_does_not() {
        for (twice, is_dropped) in [
            (r#""type":"ping","type":"ping""#, true),
            (r#""type":"ping","id":1,"id":2"#, false),
            (r#""type":"unregisterfunction","id":"a","id":"a""#, true),
            (
                r#""type":"unregisterfunction","id":"a","\u0069d":"a""#,
                true,
            ),
            (
                r#""id":"a","type":"unregisterfunction","data":1,"data":2"#,
                false,
            ),
            (
                r#""type":"invokefunction","function_id":"f","data":1,"data":null"#,
                true,
            ),
        ] {
            assert_eq!(
                parse(&format!("{{{twice}}}")).is_err(),
                is_dropped,
                "{twice}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        let id = format!(r#""invocation_id":"{ID}""#);
        for text in [
            "[\"ping\"]",
            "5",
            "{",
            r#"{"type":"ping"} x"#,
            r#"{"type":"ping",}"#,
            "{}",
            r#"{"type":null}"#,
            r#"{"type":5}"#,
            r#"{"type":"\ud83d"}"#,
            r#"{"type":"invokefunction","data":1}"#,
            r#"{"type":"invokefunction","function_id":5}"#,
            r#"{"type":"invokefunction","function_id":"\ud83d"}"#,
            r#"{"type":"invokefunction","function_id":"f","invocation_id":5}"#,
            r#"{"type":"invokefunction","function_id":"f","traceparent":5}"#,
            r#"{"type":"invokefunction","function_id":"f","namespace":5}"#,
            r#"{"type":"invokefunction","function_id":"f","baggage":{}}"#,
            r#"{"type":"invocationresult","function_id":"f"}"#,
            &format!(r#"{{"type":"invocationresult",{id}}}"#),
            &format!(r#"{{"type":"invocationresult",{id},"function_id":"f","traceparent":5}}"#),
            r#"{"type":"registerfunction"}"#,
            r#"{"type":"registerfunction","id":null}"#,
            r#"{"type":"registerfunction","id":"f","description":5}"#,
            r#"{"type":"registerfunction","id":"f","invocation":"x"}"#,
            r#"{"type":"registerfunction","id":"f","invocation":{"url":5}}"#,
            r#"{"type":"registertrigger","id":"t","function_id":"f","config":{}}"#,
            r#"{"type":"registertrigger","id":"t","trigger_type":"x","config":{}}"#,
            r#"{"type":"registertriggertype","id":"t"}"#,
            r#"{"type":"unregistertrigger"}"#,
            r#"{"type":"unregistertrigger","id":"t","trigger_type":5}"#,
            r#"{"type":"registerservice"}"#,
            r#"{"type":"registerservice","id":"s","name":5}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_for_us_is_ignored() {
        for text in [
            "",
            " \n",
            r#"{"type":"pong"}"#,
            r#"{"type":"Ping"}"#,
            r#"{"type":"workerregistered","worker_id":"x"}"#,
            r#"{"type":"triggerregistrationresult"}"#,
            r#"{"type":"unregistertriggertype","id":"t"}"#,
            r#"{"type":"reattach"}"#,
        ] {
            assert!(matches!(parse(text), Ok(EngineMessage::Ignored)), "{text}");
        }
        assert!(matches!(
            parse(r#"{"type":"ping"}"#),
            Ok(EngineMessage::Ping)
        ));
    }

    #[test]
    fn registrations_are_read_whole() {
        let text = r#"{"type":"registerfunction","id":"f","description":"d","request_format":{},
            "response_format":null,"metadata":[1],"invocation":{"url":"http://x"}}"#;
        let Ok(EngineMessage::RegisterFunction {
            id,
            description,
            request_format,
            response_format,
            metadata,
            has_invocation,
        }) = parse(text)
        else {
            panic!("{text}");
        };
        assert_eq!(
            (&*id, description.as_deref(), has_invocation),
            ("f", Some("d"), true)
        );
        assert_eq!(request_format.map(RawValue::get), Some("{}"));
        assert!(response_format.is_none());
        assert_eq!(metadata.map(RawValue::get), Some("[1]"));

        let text = r#"{"type":"registertrigger","id":"t","trigger_type":"x","function_id":"f"}"#;
        assert!(matches!(
            parse(text),
            Ok(EngineMessage::RegisterTrigger(TriggerRegistration {
                config: None,
                metadata: None,
                ..
            }))
        ));
        let text =
            r#"{"type":"registertriggertype","id":"t","description":"","call_request_format":1}"#;
        assert!(matches!(
            parse(text),
            Ok(EngineMessage::RegisterTriggerType {
                trigger_request_format: None,
                call_request_format: Some(_),
                ..
            })
        ));
        let text = r#"{"type":"unregistertrigger","id":"t","trigger_type":null}"#;
        assert!(matches!(
            parse(text),
            Ok(EngineMessage::UnregisterTrigger {
                trigger_type: None,
                ..
            })
        ));
        let text = r#"{"type":"registerservice","id":"s","parent_service_id":null}"#;
        assert!(matches!(parse(text), Ok(EngineMessage::RegisterService)));
    }

    #[test]
    fn a_result_is_there_or_not() {
        for (fields, wanted) in [
            ("", None),
            (r#","result":null"#, None),
            (r#","result":null,"error":null"#, None),
            (r#","result":[ 1e999 ]"#, Some("[ 1e999 ]")),
        ] {
            let text = format!(
                r#"{{"type":"invocationresult","invocation_id":"{ID}","function_id":"f"{fields}}}"#
            );
            let Ok(EngineMessage::InvocationResult(result)) = parse(&text) else {
                panic!("{text}");
            };
            assert_eq!((result.result, result.error), (wanted, None), "{text}");
        }
    }

    #[test]
    fn errors_of_another_shape_are_filled_in() {
        let rows = [
            (r#"{"code":"c","message":"m","x":1}"#, ("c", "m", None)),
            (
                r#"{"code":"c","message":"m","stacktrace":"s"}"#,
                ("c", "m", Some("s")),
            ),
            (
                r#"{"code":"c","message":"m","stacktrace":null}"#,
                ("c", "m", None),
            ),
            (
                r#"{"code":"c","message":"m","stacktrace":5}"#,
                ("c", "m", None),
            ),
            (r#"{"message":"m"}"#, ("invocation_failed", "m", None)),
            (r#"{"code":"c"}"#, ("c", r#"{"code":"c"}"#, None)),
            (
                r#"{"code":5,"message":[1]}"#,
                ("invocation_failed", r#"{"code":5,"message":[1]}"#, None),
            ),
            ("{}", ("invocation_failed", "{}", None)),
            ("5", ("invocation_failed", "5", None)),
            (r#""bo\"om""#, ("invocation_failed", "bo\"om", None)),
            (r#""\ud83d""#, ("invocation_failed", r#""\ud83d""#, None)),
        ];
        for (json, (code, message, stacktrace)) in rows {
            let error = result_error(json);
            assert_eq!((&*error.code, &*error.message), (code, message), "{json}");
            assert_eq!(error.stacktrace.as_deref(), stacktrace, "{json}");
        }
    }
}
