//! What SDK workers say, and what a call of each of our functions brings, beside serde_json.

use iii_stream::protocol::call::{self, EngineMessage};
use iii_stream::protocol::input::{self, InputLimits, StreamFunction, StreamInput};
use serde_json::Value;

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
        Ok(EngineMessage::Invoke(invoke)) => {
            let tree: Value = serde_json::from_str(text).expect("what is read is JSON");
            assert_eq!(tree["type"], "invokefunction");
            assert_eq!(tree["function_id"], *invoke.function_id);
            let data: Value = serde_json::from_str(invoke.data).expect("so are its parts");
            assert_eq!(tree["data"], data);
        }
        Ok(_) => {}
        Err(dropped) => assert!(!dropped.to_string().is_empty()),
    }
    if serde_json::from_str::<&serde_json::value::RawValue>(text).is_err() {
        return; // what stands in a message is JSON by its grammar
    }
    for id in FUNCTIONS {
        let function = StreamFunction::from_id(id).expect("a function");
        match input::parse(function, text, &LIMITS) {
            Ok(read) => compare(&read, text),
            Err(error) => assert!(!error.message.is_empty()),
        }
    }
}

fn compare(read: &StreamInput<'_>, text: &str) {
    let tree: Value = serde_json::from_str(text).expect("what is read is JSON");
    let name = |key: &str, at: usize| match &tree {
        Value::Array(elements) => elements[at].clone(),
        other => other[key].clone(),
    };
    match read {
        StreamInput::Set {
            stream,
            group,
            item,
            data,
        } => {
            assert_eq!(name("stream_name", 0), **stream);
            assert_eq!(name("group_id", 1), **group);
            assert_eq!(name("item_id", 2), **item);
            let data: Value = serde_json::from_str(data).expect("a value");
            assert_eq!(name("data", 3), data);
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
            assert_eq!(name("stream_name", 0), **stream);
            assert_eq!(name("group_id", 1), **group);
            assert_eq!(name("item_id", 2), **item);
        }
        StreamInput::List { stream, group } => {
            assert_eq!(name("stream_name", 0), **stream);
            assert_eq!(name("group_id", 1), **group);
        }
        StreamInput::ListGroups { stream } => assert_eq!(name("stream_name", 0), **stream),
        StreamInput::Send { .. } | StreamInput::ListAll => {}
    }
}
