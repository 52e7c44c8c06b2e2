//! What SDK workers say, and what a call of each of our functions brings, beside serde_json.
//!
//! What nobody reads has to be JSON by its grammar alone: there a number may be beyond a double's range.

use std::fmt;

use iii_stream::protocol::call::{self, EngineMessage};
use iii_stream::protocol::input::{self, InputLimits, StreamFunction, StreamInput};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

const LIMITS: InputLimits = InputLimits {
    name_bytes: 64,
    json_depth: 20,
    value_bytes: 4096,
    update_ops: 20,
};

const FUNCTIONS: [&str; 8] = [
    "stream::set",
    "stream::get",
    "stream::delete",
    "stream::list",
    "stream::list_groups",
    "stream::list_all",
    "stream::send",
    "stream::update",
];

/// A message, as it came; also as the data of a call of each function.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match call::parse(text) {
        Ok(EngineMessage::Ping | EngineMessage::Ignored | EngineMessage::RegisterService) => {}
        Ok(message) => compare_message(&message, &Parts::of(text)),
        Err(dropped) => assert!(!dropped.to_string().is_empty()),
    }
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return; // what stands in a message is JSON by its grammar
    }
    for id in FUNCTIONS {
        let function = StreamFunction::from_id(id).expect("a function");
        match input::parse(function, text, &LIMITS) {
            Ok(StreamInput::ListAll) if text.trim() == "null" => {} // it may be asked with nothing
            Ok(read) => compare(&read, &Parts::of(text)),
            Err(error) => assert!(!error.message.is_empty()),
        }
    }
}

fn compare_message(read: &EngineMessage<'_>, parts: &Parts<'_>) {
    let kind = |kind: &str| assert_eq!(parts.string("type"), kind);
    let name = |key: &str, read: &str| assert_eq!(parts.string(key), read);
    let text = |key: &str, read: Option<&str>| {
        let there = parts.given(key).map(string);
        assert_eq!(there.as_deref(), read, "{key}");
    };
    let json = |key: &str, read: Option<&RawValue>| {
        let there = parts.given(key).map(RawValue::get);
        assert_eq!(there, read.map(RawValue::get), "{key}");
    };
    match read {
        EngineMessage::RegisterFunction {
            id,
            description,
            request_format,
            response_format,
            metadata,
            has_invocation,
        } => {
            kind("registerfunction");
            name("id", id);
            text("description", description.as_deref());
            json("request_format", *request_format);
            json("response_format", *response_format);
            json("metadata", *metadata);
            assert_eq!(parts.given("invocation").is_some(), *has_invocation);
        }
        EngineMessage::UnregisterFunction { id } => {
            kind("unregisterfunction");
            name("id", id);
        }
        EngineMessage::RegisterTrigger(trigger) => {
            kind("registertrigger");
            name("id", &trigger.id);
            name("trigger_type", &trigger.trigger_type);
            name("function_id", &trigger.function_id);
            json("config", trigger.config);
            json("metadata", trigger.metadata);
            text("namespace", trigger.namespace.as_deref());
        }
        EngineMessage::UnregisterTrigger { id, trigger_type } => {
            kind("unregistertrigger");
            name("id", id);
            text("trigger_type", trigger_type.as_deref());
        }
        EngineMessage::RegisterTriggerType {
            id,
            description,
            trigger_request_format,
            call_request_format,
        } => {
            kind("registertriggertype");
            name("id", id);
            name("description", description);
            json("trigger_request_format", *trigger_request_format);
            json("call_request_format", *call_request_format);
        }
        EngineMessage::Invoke(invoke) => {
            kind("invokefunction");
            let has_id = parts.given("invocation_id").is_some();
            assert_eq!(has_id, invoke.id.is_some());
            name("function_id", &invoke.function_id);
            text("namespace", invoke.namespace.as_deref());
            let data = parts.find("data").map_or("null", RawValue::get);
            assert_eq!(data, invoke.data);
            json("metadata", invoke.metadata);
            text("traceparent", invoke.trace.traceparent.as_deref());
            text("baggage", invoke.trace.baggage.as_deref());
        }
        EngineMessage::InvocationResult(result) => {
            kind("invocationresult");
            assert!(parts.given("invocation_id").is_some());
            let there = parts.given("result").map(RawValue::get);
            assert!(result.result.is_none() || result.result == there);
            assert_eq!(parts.given("error").is_some(), result.error.is_some());
        }
        EngineMessage::Ping | EngineMessage::Ignored | EngineMessage::RegisterService => {}
    }
}

fn compare(read: &StreamInput<'_>, parts: &Parts<'_>) {
    let names = |stream: &str, group: &str| {
        assert_eq!(parts.string_at("stream_name", 0), stream);
        assert_eq!(parts.string_at("group_id", 1), group);
    };
    let value = |data: &str, at: usize| {
        assert_eq!(parts.at("data", at).map(RawValue::get), Some(data));
        serde_json::from_str::<Value>(data).expect("what is kept has a value");
    };
    match read {
        StreamInput::Set {
            stream,
            group,
            item,
            data,
            ..
        } => {
            names(stream, group);
            assert_eq!(parts.string_at("item_id", 2), **item);
            value(data, 3);
        }
        StreamInput::Get {
            stream,
            group,
            item,
        }
        | StreamInput::Delete {
            stream,
            group,
            item,
        }
        | StreamInput::Update {
            stream,
            group,
            item,
            ..
        } => {
            names(stream, group);
            assert_eq!(parts.string_at("item_id", 2), **item);
        }
        StreamInput::List { stream, group } => names(stream, group),
        StreamInput::ListGroups { stream } => {
            assert_eq!(parts.string_at("stream_name", 0), **stream);
        }
        StreamInput::Send {
            stream,
            group,
            id,
            kind,
            data,
        } => {
            names(stream, group);
            let item = parts.at("id", 2).filter(|item| item.get() != "null");
            assert_eq!(item.map(string), id.as_deref().map(str::to_owned));
            assert_eq!(parts.string_at("type", 3), **kind);
            value(data, 4);
        }
        StreamInput::ListAll => {}
    }
}

/// The members of an object, or the elements of an array, as they came.
struct Parts<'a> {
    is_array: bool,
    /// With the key, where it is a string that can be read.
    parts: Vec<(Option<String>, &'a RawValue)>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Parts<'a> {
        serde_json::from_str(text).expect("what is read is an object or an array")
    }

    /// The last one of that name.
    fn find(&self, name: &str) -> Option<&'a RawValue> {
        let mut parts = self.parts.iter().rev();
        let found = parts.find(|(key, _)| key.as_deref() == Some(name));
        found.map(|(_, value)| *value)
    }

    /// The same, unless it is `null`.
    fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.find(name).filter(|value| value.get() != "null")
    }

    /// The same, or what stands there in an array.
    fn at(&self, name: &str, at: usize) -> Option<&'a RawValue> {
        match self.is_array {
            true => self.parts.get(at).map(|(_, value)| *value),
            false => self.find(name),
        }
    }

    fn string(&self, name: &str) -> String {
        string(self.find(name).expect("it is there"))
    }

    fn string_at(&self, name: &str, at: usize) -> String {
        string(self.at(name, at).expect("it is there"))
    }
}

fn string(value: &RawValue) -> String {
    serde_json::from_str(value.get()).expect("a string")
}

impl<'de: 'a, 'a> Deserialize<'de> for Parts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsParts)
    }
}

struct AsParts;

impl<'de> Visitor<'de> for AsParts {
    type Value = Parts<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts<'de>, A::Error> {
        let mut parts = Vec::new();
        while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            parts.push((serde_json::from_str(key.get()).ok(), value));
        }
        let is_array = false;
        Ok(Parts { is_array, parts })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Parts<'de>, A::Error> {
        let mut parts = Vec::new();
        while let Some(value) = elements.next_element::<&'de RawValue>()? {
            parts.push((None, value));
        }
        let is_array = true;
        Ok(Parts { is_array, parts })
    }
}
