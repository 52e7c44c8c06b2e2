//! The 400 recorded updates of the reference, replayed in process: input text to stored text.
//!
//! What each call answered in the recording must come out of `call`, `input`, `update` and
//! `answer` here, with a map in place of a shard.
use std::collections::BTreeMap;

use iii_stream::id::Text;
use iii_stream::protocol::answer::{self, Outcome, ResultBody};
use iii_stream::protocol::call::{self, EngineMessage};
use iii_stream::protocol::input::{self, InputLimits, StreamFunction, StreamInput};
use iii_stream::shard::update;
use serde_json::Value;

const LIMITS: InputLimits = InputLimits {
    name_bytes: 1024,
    json_depth: 125,
    value_bytes: 16 << 20,
    update_ops: 1000,
};

const INVOCATION_ID: &str = "00000001-0000-4000-8000-000000000000";

#[derive(serde::Deserialize)]
struct Case<'a> {
    name: String,
    #[serde(borrow)]
    steps: Vec<Step<'a>>,
    expected: Vec<Value>,
}

#[derive(serde::Deserialize)]
struct Step<'a> {
    function_id: Option<String>,
    /// As text: the inputs are what is tested.
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

type Items = BTreeMap<[String; 3], Text>;

#[test]
fn recorded_updates_give_the_recorded_answers() {
    let text = include_str!("../conformance/updates.json");
    let cases: Vec<Case<'_>> = serde_json::from_str(text).unwrap();
    assert_eq!(cases.len(), 400);
    for case in cases {
        let mut items = Items::new();
        for (step, expected) in case.steps.iter().zip(&case.expected) {
            let (Some(function_id), Some(data)) = (&step.function_id, step.data) else {
                assert_eq!(expected, "open", "{}", case.name);
                continue;
            };
            let answer = answer_to(&mut items, function_id, data.get());
            assert!(
                same(expected, &answer),
                "{}\n  call {}\n  want {expected}\n  have {answer}",
                case.name,
                data.get(),
            );
        }
    }
}

/// The whole way of a call; the answer as the recording compares it.
fn answer_to(items: &mut Items, function_id: &str, data: &str) -> Value {
    let message = format!(
        r#"{{"type":"invokefunction","invocation_id":"{INVOCATION_ID}","function_id":"{function_id}","data":{data}}}"#
    );
    let EngineMessage::Invoke(invoke) = call::parse(&message).unwrap() else {
        panic!("not a call: {message}");
    };
    let function = StreamFunction::from_id(&invoke.function_id).unwrap();
    let outcome = match input::parse(function, invoke.data, &LIMITS) {
        Ok(input) => apply(items, input),
        Err(error) => Outcome::Failed(error),
    };
    let mut out = Vec::new();
    let body = ResultBody::Outcome(&outcome);
    answer::invocation_result(&mut out, &invoke.id.unwrap(), function_id, body, None, None);
    let mut answer: Value = serde_json::from_slice(&out).unwrap();
    let id = answer.as_object_mut().unwrap().remove("invocation_id");
    assert_eq!(id.unwrap(), INVOCATION_ID);
    answer
}

fn apply(items: &mut Items, input: StreamInput<'_>) -> Outcome {
    match input {
        StreamInput::Set {
            stream,
            group,
            item,
            data,
            ..
        } => {
            let key = [stream, group, item].map(String::from);
            let new = Text::from(data);
            let old = items.insert(key, new.clone());
            Outcome::Set { new, old }
        }
        StreamInput::Get {
            stream,
            group,
            item,
        } => Outcome::Got(items.get(&[stream, group, item].map(String::from)).cloned()),
        StreamInput::Update {
            stream,
            group,
            item,
            ops,
            ..
        } => {
            let key = [stream, group, item].map(String::from);
            let updated = update::apply(items.get(&key).map(|old| &**old), &ops);
            let new = Text::from(updated.value);
            let old = items.insert(key, new.clone());
            Outcome::Updated {
                new,
                old,
                errors: updated.errors,
            }
        }
        other => panic!("not in the recording: {other:?}"),
    }
}

/// Equal as the recording compares: numbers by their value, all else exactly.
fn same(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
