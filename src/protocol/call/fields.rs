//! One JSON object's known fields, by name, before it is known which of them count.
//!
//! Knows every name and no message.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Dropped;
use crate::protocol::json::{raw, text};

/// Every field that some type of message, or an object in one, knows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Kind,
    InvocationId,
    FunctionId,
    Data,
    Traceparent,
    Baggage,
    Action,
    Result,
    Error,
    Id,
    Description,
    RequestFormat,
    ResponseFormat,
    Metadata,
    Invocation,
    TriggerType,
    Config,
    TriggerRequestFormat,
    CallRequestFormat,
    Name,
    ParentServiceId,
    Queue,
    Url,
    Namespace,
}

impl Field {
    /// In the order of the variants.
    const NAMES: [&str; 24] = [
        "type",
        "invocation_id",
        "function_id",
        "data",
        "traceparent",
        "baggage",
        "action",
        "result",
        "error",
        "id",
        "description",
        "request_format",
        "response_format",
        "metadata",
        "invocation",
        "trigger_type",
        "config",
        "trigger_request_format",
        "call_request_format",
        "name",
        "parent_service_id",
        "queue",
        "url",
        "namespace",
    ];

    fn name(self) -> &'static str {
        Field::NAMES[self as usize]
    }
}

const _: () =
    assert!(Field::NAMES.len() == Field::Namespace as usize + 1 && Field::NAMES.len() <= 32);

/// The known fields of one object, before its type is known.
pub(super) struct Fields<'a> {
    values: [Option<&'a RawValue>; Field::NAMES.len()],
    /// One bit a field: it came more than once.
    twice: u32,
}

impl<'a> Fields<'a> {
    pub(super) fn read(object: &'a str) -> Result<Fields<'a>, Dropped> {
        let mut fields = Fields {
            values: [None; Field::NAMES.len()],
            twice: 0,
        };
        raw::members(object, |key, value| {
            // A key with half a surrogate pair is no name that we know.
            let Ok(key) = text::read_string(key) else {
                return;
            };
            let Some(at) = Field::NAMES.iter().position(|&name| name == key) else {
                return;
            };
            if fields.values[at].replace(value).is_some() {
                fields.twice |= 1 << at;
            }
        })
        .map_err(Dropped::NotAnObject)?;
        Ok(fields)
    }

    /// These fields are known to the message's type, so none of them may come twice.
    pub(super) fn known(&self, fields: &[Field]) -> Result<&Fields<'a>, Dropped> {
        let twice = |field: &&Field| (self.twice >> **field as u32) & 1 == 1;
        match fields.iter().find(twice) {
            Some(field) => Err(Dropped::Twice(field.name())),
            None => Ok(self),
        }
    }

    /// None: not there, or `null`.
    pub(super) fn value(&self, field: Field) -> Option<&'a RawValue> {
        self.values[field as usize].filter(|value| value.get() != "null")
    }

    pub(super) fn optional_string(&self, field: Field) -> Result<Option<Cow<'a, str>>, Dropped> {
        let Some(json) = self.value(field) else {
            return Ok(None);
        };
        let wrong = Dropped::Wrong {
            field: field.name(),
            expected: "a string",
        };
        string(json).ok_or(wrong).map(Some)
    }

    pub(super) fn string(&self, field: Field) -> Result<Cow<'a, str>, Dropped> {
        self.optional_string(field)?
            .ok_or(Dropped::Missing(field.name()))
    }
}

/// A readable string's content.
pub(super) fn string(json: &RawValue) -> Option<Cow<'_, str>> {
    let is_string = json.get().starts_with('"');
    is_string.then(|| text::read_string(json.get()).ok())?
}
