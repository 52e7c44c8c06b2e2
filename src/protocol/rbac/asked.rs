//! What the functions are sent and answer that a listener has asked: about each call that comes
//! through it, and about each registration.
//!
//! May not know who asks, nor what becomes of the answer.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::call::{Action, EngineMessage, Invoke};
use crate::protocol::json::{phrase, text};

/// What is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// A function.
    Function,
    /// A trigger.
    Trigger,
    /// A trigger type.
    TriggerType,
}

impl Registration {
    /// None: the message registers nothing that is served.
    pub fn of(message: &EngineMessage<'_>) -> Option<Registration> {
        match message {
            EngineMessage::RegisterFunction { has_invocation, .. } => {
                (!has_invocation).then_some(Registration::Function)
            }
            EngineMessage::RegisterTrigger(_) => Some(Registration::Trigger),
            EngineMessage::RegisterTriggerType { .. } => Some(Registration::TriggerType),
            _ => None,
        }
    }
}

/// The input of a middleware function, which is called in place of another one. `context`: a JSON text.
pub fn call_input(invoke: &Invoke<'_>, context: &str) -> String {
    let mut input = Input::default();
    input.string("function_id", &invoke.function_id);
    if let Some(namespace) = &invoke.namespace {
        input.string("namespace", namespace);
    }
    input.json("payload", invoke.data);
    match &invoke.action {
        Action::None => {}
        Action::Void => input.json("action", r#"{"type":"void"}"#),
        Action::Enqueue { queue } => {
            let mut action = br#"{"type":"enqueue","queue":"#.to_vec();
            text::write_string(&mut action, queue);
            action.push(b'}');
            input.json("action", &String::from_utf8_lossy(&action));
        }
    }
    input.end(context)
}

/// The input of the function that is asked about a registration; empty for what is none.
pub fn registration_input(message: &EngineMessage<'_>, context: &str) -> String {
    let mut input = Input::default();
    match message {
        EngineMessage::RegisterFunction {
            id,
            description,
            metadata,
            ..
        } => {
            input.string("function_id", id);
            if let Some(description) = description {
                input.string("description", description);
            }
            input.optional("metadata", *metadata);
        }
        EngineMessage::RegisterTrigger(asked) => {
            input.string("trigger_id", &asked.id);
            input.string("trigger_type", &asked.trigger_type);
            input.string("function_id", &asked.function_id);
            input.json("config", asked.config.map_or("null", RawValue::get));
            input.optional("metadata", asked.metadata);
        }
        EngineMessage::RegisterTriggerType {
            id, description, ..
        } => {
            input.string("trigger_type_id", id);
            input.string("description", description);
        }
        _ => {}
    }
    input.end(context)
}

/// Puts what the answer names in place of what was sent; `null` names nothing.
///
/// Err: the answer is none to such a question, and why.
pub fn replace<'a>(message: &mut EngineMessage<'a>, answer: Option<&'a str>) -> Result<(), String> {
    let answer = answer.unwrap_or("null");
    match message {
        EngineMessage::RegisterFunction {
            id,
            description,
            metadata,
            ..
        } => {
            let keys = ["function_id", "description", "metadata"];
            let [new_id, new_description, new_metadata] =
                phrase::members(answer, "OnFunctionRegistrationResult", keys)?;
            replace_string(id, new_id)?;
            *description = phrase::optional_string(new_description)?.or(description.take());
            *metadata = named(new_metadata).or(*metadata);
        }
        EngineMessage::RegisterTrigger(asked) => {
            let keys = ["trigger_id", "trigger_type", "function_id", "config"];
            let [id, trigger_type, function_id, config] =
                phrase::members(answer, "OnTriggerRegistrationResult", keys)?;
            replace_string(&mut asked.id, id)?;
            replace_string(&mut asked.trigger_type, trigger_type)?;
            replace_string(&mut asked.function_id, function_id)?;
            asked.config = named(config).or(asked.config);
        }
        EngineMessage::RegisterTriggerType {
            id, description, ..
        } => {
            let keys = ["trigger_type_id", "description"];
            let [new_id, new_description] =
                phrase::members(answer, "OnTriggerTypeRegistrationResult", keys)?;
            replace_string(id, new_id)?;
            replace_string(description, new_description)?;
        }
        _ => {}
    }
    Ok(())
}

fn replace_string<'a>(
    string: &mut Cow<'a, str>,
    named: Option<&'a RawValue>,
) -> Result<(), String> {
    if let Some(named) = phrase::optional_string(named)? {
        *string = named;
    }
    Ok(())
}

fn named(json: Option<&RawValue>) -> Option<&RawValue> {
    json.filter(|json| json.get() != "null")
}

/// An object that is being written.
#[derive(Default)]
struct Input(Vec<u8>);

impl Input {
    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        text::write_string(&mut self.0, key);
        self.0.push(b':');
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        text::write_string(&mut self.0, value);
    }

    fn json(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn optional(&mut self, key: &str, value: Option<&RawValue>) {
        if let Some(value) = value {
            self.json(key, value.get());
        }
    }

    fn end(mut self, context: &str) -> String {
        self.json("context", context);
        self.0.push(b'}');
        String::from_utf8(self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::call::parse;

    const FUNCTION: &str =
        r#"{"type":"registerfunction","id":"f","description":"d","metadata":{"a" : 1}}"#;
    const TRIGGER: &str =
        r#"{"type":"registertrigger","id":"t","trigger_type":"log","function_id":"f"}"#;
    const TRIGGER_TYPE: &str = r#"{"type":"registertriggertype","id":"k","description":"\"d"}"#;

    fn input_of(text: &str) -> String {
        registration_input(&parse(text).unwrap(), r#"{"u":1}"#)
    }

    #[test]
    fn each_function_is_sent_what_was_sent_and_the_context() {
        let call =
            r#"{"type":"invokefunction","function_id":"a::b","data":{"x" : 1},"action":ACTION}"#;
        for (action, written) in [
            ("null", ""),
            (r#"{"type":"void"}"#, r#","action":{"type":"void"}"#),
            (
                r#"{"queue":"q","type":"enqueue"}"#,
                r#","action":{"type":"enqueue","queue":"q"}"#,
            ),
        ] {
            let call = call.replace("ACTION", action);
            let Ok(EngineMessage::Invoke(invoke)) = parse(&call) else {
                panic!("{call}");
            };
            assert_eq!(
                call_input(&invoke, "{}"),
                format!(
                    r#"{{"function_id":"a::b","payload":{{"x" : 1}}{written},"context":{{}}}}"#
                )
            );
        }
        assert_eq!(
            input_of(FUNCTION),
            r#"{"function_id":"f","description":"d","metadata":{"a" : 1},"context":{"u":1}}"#
        );
        assert_eq!(
            input_of(TRIGGER),
            r#"{"trigger_id":"t","trigger_type":"log","function_id":"f","config":null,"context":{"u":1}}"#
        );
        assert_eq!(
            input_of(TRIGGER_TYPE),
            r#"{"trigger_type_id":"k","description":"\"d","context":{"u":1}}"#
        );
        let plain = r#"{"type":"registerfunction","id":"f"}"#;
        assert_eq!(input_of(plain), r#"{"function_id":"f","context":{"u":1}}"#);
    }

    fn replaced(text: &str, answer: &str) -> Result<String, String> {
        let mut message = parse(text).unwrap();
        replace(&mut message, Some(answer))?;
        Ok(registration_input(&message, "{}"))
    }

    #[test]
    fn what_the_answer_names_takes_the_place_of_what_was_sent() {
        let all = r#"{"function_id":"g","description":"e","metadata":[2],"other":1}"#;
        assert_eq!(
            replaced(FUNCTION, all).unwrap(),
            r#"{"function_id":"g","description":"e","metadata":[2],"context":{}}"#
        );
        let all = r#"{"trigger_id":"u","trigger_type":"x","function_id":"g","config":{"c":1}}"#;
        assert_eq!(
            replaced(TRIGGER, all).unwrap(),
            r#"{"trigger_id":"u","trigger_type":"x","function_id":"g","config":{"c":1},"context":{}}"#
        );
        let all = r#"{"trigger_type_id":"l","description":"e"}"#;
        assert_eq!(
            replaced(TRIGGER_TYPE, all).unwrap(),
            r#"{"trigger_type_id":"l","description":"e","context":{}}"#
        );
        for text in [FUNCTION, TRIGGER, TRIGGER_TYPE] {
            let as_sent = registration_input(&parse(text).unwrap(), "{}");
            let nulls = r#"{"function_id":null,"description":null,"metadata":null,"config":null,"trigger_id":null}"#;
            for answer in ["{}", nulls] {
                assert_eq!(replaced(text, answer).unwrap(), as_sent, "{answer}");
            }
        }
    }

    #[test]
    fn what_is_no_object_or_names_no_text_is_no_answer() {
        for text in [FUNCTION, TRIGGER, TRIGGER_TYPE] {
            for answer in ["null", "5", "\"f\"", "[]", "true"] {
                assert!(replaced(text, answer).is_err(), "{answer}");
            }
            assert!(replace(&mut parse(text).unwrap(), None).is_err());
        }
        assert!(replaced(FUNCTION, r#"{"function_id":5}"#).is_err());
        assert!(replaced(FUNCTION, r#"{"description":{}}"#).is_err());
        assert!(replaced(TRIGGER, r#"{"trigger_id":[]}"#).is_err());
        assert!(replaced(TRIGGER_TYPE, r#"{"trigger_type_id":true}"#).is_err());
    }
}
