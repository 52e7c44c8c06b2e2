//! What a custom store has answered to an operation that writes, and how its failures are told.
//!
//! Reads pass their answers on unread and are no affair of this file.

use serde_json::value::RawValue;

use crate::id::Text;
use crate::protocol::answer::UpdateError;
use crate::protocol::call::ErrorBody;
use crate::protocol::input::{StreamFunction, failed, limit_exceeded};
use crate::protocol::json::value::{self, ValueError};
use crate::protocol::json::{phrase, raw};

/// What an operation has made of an item, as its custom function tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What was there. None: nothing, or `null`.
    pub old: Option<Text>,
    /// What is there now; `null` after a `delete`.
    pub new: Text,
    /// The operations of an `update` that failed.
    pub errors: Vec<UpdateError>,
}

/// Reads the answer to `set`, `delete` or `update`: a result, a JSON text if there was one, or an
/// error. A value in it may have `json_depth` levels.
///
/// Err: what the caller is to be told.
pub fn written(
    operation: StreamFunction,
    answer: Result<Option<&str>, &ErrorBody>,
    json_depth: usize,
) -> Result<Written, ErrorBody> {
    let result = answer.map_err(|error| {
        let error = in_debug_form(error);
        failed(operation, &format!("Failed to invoke function: {error}"))
    })?;
    let Some(json) = result.filter(|json| json.trim_ascii() != "null") else {
        return Err(failed(operation, "Function returned no result"));
    };
    let written = read(operation, json).map_err(|phrase| {
        let message = format!("Failed to convert result to value: {phrase}");
        ErrorBody::new("JSON_ERROR", message)
    })?;
    for text in [Some(&written.new), written.old.as_ref()]
        .into_iter()
        .flatten()
    {
        if let Some(depth) = value::depth_beyond(text, json_depth) {
            let cause = limit_exceeded("limits.json_depth", depth, json_depth);
            return Err(failed(operation, &cause));
        }
    }
    Ok(written)
}

/// An error in Rust's debug form, as callers of the reference see it.
fn in_debug_form(error: &ErrorBody) -> String {
    let ErrorBody {
        code,
        message,
        stacktrace,
    } = error;
    format!("ErrorBody {{ code: {code:?}, message: {message:?}, stacktrace: {stacktrace:?} }}")
}

/// Err, here and below: the phrase that says what is wrong.
fn read(operation: StreamFunction, json: &str) -> Result<Written, String> {
    match value::check(json, usize::MAX) {
        Ok(()) | Err(ValueError::TooDeep { .. }) => {}
        Err(fault) => return Err(fault.to_string()),
    }
    let name = match operation {
        StreamFunction::Delete => "DeleteResult",
        StreamFunction::Update => "UpdateResult",
        _ => "SetResult",
    };
    let [errors, new, old] = phrase::members(json, name, ["errors", "new_value", "old_value"])?;
    let errors = match errors {
        Some(errors) if operation == StreamFunction::Update => read_errors(errors)?,
        _ => Vec::new(),
    };
    let new = match operation {
        StreamFunction::Delete => "null",
        _ => new.ok_or_else(|| phrase::missing("new_value"))?.get(),
    };
    Ok(Written {
        old: old
            .map(RawValue::get)
            .filter(|&json| json != "null")
            .map(Text::from),
        new: new.into(),
        errors,
    })
}

fn read_errors(json: &RawValue) -> Result<Vec<UpdateError>, String> {
    let mut errors = Vec::new();
    let mut fault = None;
    raw::elements(json.get(), |element| {
        match read_error(element.get()) {
            Ok(error) => errors.push(error),
            Err(phrase) => fault = Some(phrase),
        }
        fault.is_none()
    })
    .map_err(|_| phrase::invalid_type(json.get(), "a sequence"))?;
    fault.map_or(Ok(errors), Err)
}

/// Wrong members are told in the order of their keys; then missing ones, the index first.
fn read_error(json: &str) -> Result<UpdateError, String> {
    const KEYS: [&str; 4] = ["code", "doc_url", "message", "op_index"];
    let [code, doc_url, message, op_index] = phrase::members(json, "UpdateOpError", KEYS)?;
    let string = |json: Option<&RawValue>| {
        json.map(|json| phrase::read_string(json.get()).map(String::from))
            .transpose()
    };
    let code = string(code)?;
    phrase::optional_string(doc_url)?;
    let message = string(message)?;
    let op_index = op_index
        .map(|json| phrase::read_unsigned(json, u64::MAX, "usize"))
        .transpose()?;
    Ok(UpdateError {
        op_index: op_index.ok_or_else(|| phrase::missing("op_index"))? as usize,
        code: code.ok_or_else(|| phrase::missing("code"))?,
        message: message.ok_or_else(|| phrase::missing("message"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use StreamFunction::{Delete, Set, Update};

    const DEPTH: usize = 3;

    fn read(operation: StreamFunction, result: &str) -> Written {
        written(operation, Ok(Some(result)), DEPTH).unwrap()
    }

    fn refusal(operation: StreamFunction, result: Option<&str>) -> (String, String) {
        let error = written(operation, Ok(result), DEPTH).unwrap_err();
        assert_eq!(error.stacktrace, None);
        (error.code.into_owned(), error.message)
    }

    fn pair(code: &str, message: &str) -> (String, String) {
        (code.to_owned(), message.to_owned())
    }

    #[test]
    fn results_tell_old_and_new_with_their_texts() {
        let both = read(
            Set,
            r#"{"new_value": {"b":1.0,"a":1} ,"old_value":[2],"x":5}"#,
        );
        assert_eq!(&*both.new, r#"{"b":1.0,"a":1}"#);
        assert_eq!(both.old.as_deref(), Some("[2]"));
        assert_eq!(both.errors, []);
        for result in [
            r#"{"new_value":null}"#,
            r#"{"new_value":null,"old_value":null}"#,
            r#"{"old_value":1,"new_value":5,"old_value":null,"new_value":null,"errors":5}"#,
        ] {
            let written = read(Set, result);
            assert_eq!((&*written.new, written.old), ("null", None), "{result}");
        }
    }

    #[test]
    fn delete_needs_nothing_and_update_may_tell_errors() {
        assert_eq!(read(Delete, "{}").old, None);
        assert_eq!(read(Delete, r#"{"old_value":null}"#).old, None);
        let deleted = read(Delete, r#"{"old_value":{"a":1}}"#);
        assert_eq!(deleted.old.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(&*deleted.new, "null");
        let updated = read(
            Update,
            r#"{"new_value":1,"errors":[{"op_index":2,"code":"c","message":"m","doc_url":null,"x":1}]}"#,
        );
        let error = UpdateError {
            op_index: 2,
            code: "c".to_owned(),
            message: "m".to_owned(),
        };
        assert_eq!(updated.errors, [error]);
        assert_eq!(read(Update, r#"{"new_value":1,"errors":[]}"#).errors, []);
    }

    #[test]
    fn errors_of_the_function_are_told_in_debug_form() {
        let mut error = ErrorBody::new("x", "boom");
        let set = written(Set, Err(&error), DEPTH).unwrap_err();
        assert_eq!(
            pair(&set.code, &set.message),
            pair(
                "STREAM_SET_ERROR",
                r#"Failed to set value: Failed to invoke function: ErrorBody { code: "x", message: "boom", stacktrace: None }"#
            )
        );
        error.message = "a \"b\" \\ \n".to_owned();
        error.stacktrace = Some("st".to_owned());
        let delete = written(Delete, Err(&error), DEPTH).unwrap_err();
        assert_eq!(
            pair(&delete.code, &delete.message),
            pair(
                "STREAM_DELETE_ERROR",
                r#"Failed to delete value: Failed to invoke function: ErrorBody { code: "x", message: "a \"b\" \\ \n", stacktrace: Some("st") }"#
            )
        );
        let update = written(Update, Err(&error), DEPTH).unwrap_err();
        assert_eq!(update.code, "STREAM_UPDATE_ERROR");
        assert!(
            update
                .message
                .starts_with("Failed to update value: Failed to invoke")
        );
    }

    #[test]
    fn no_result_is_an_error_of_the_operation() {
        for result in [None, Some("null"), Some(" null ")] {
            assert_eq!(
                refusal(Set, result),
                pair(
                    "STREAM_SET_ERROR",
                    "Failed to set value: Function returned no result"
                )
            );
        }
        assert_eq!(
            refusal(Delete, None),
            pair(
                "STREAM_DELETE_ERROR",
                "Failed to delete value: Function returned no result"
            )
        );
        assert_eq!(
            refusal(Update, None),
            pair(
                "STREAM_UPDATE_ERROR",
                "Failed to update value: Function returned no result"
            )
        );
    }

    #[test]
    fn results_of_the_wrong_shape_are_told_so() {
        let error = |member: &str| format!(r#"{{"new_value":1,"errors":[{member}]}}"#);
        let rows = [
            (Set, "{}".to_owned(), "missing field `new_value`"),
            (
                Update,
                r#"{"old_value":1}"#.to_owned(),
                "missing field `new_value`",
            ),
            (
                Set,
                "5".to_owned(),
                "invalid type: integer `5`, expected struct SetResult",
            ),
            (
                Set,
                "[1,2]".to_owned(),
                "invalid type: sequence, expected struct SetResult",
            ),
            (
                Delete,
                r#""x""#.to_owned(),
                r#"invalid type: string "x", expected struct DeleteResult"#,
            ),
            (
                Update,
                "true".to_owned(),
                "invalid type: boolean `true`, expected struct UpdateResult",
            ),
            (
                Update,
                r#"{"errors":null}"#.to_owned(),
                "invalid type: null, expected a sequence",
            ),
            (
                Update,
                error("5"),
                "invalid type: integer `5`, expected struct UpdateOpError",
            ),
            (Update, error("{}"), "missing field `op_index`"),
            (Update, error(r#"{"op_index":0}"#), "missing field `code`"),
            (
                Update,
                error(r#"{"op_index":0,"code":"c"}"#),
                "missing field `message`",
            ),
            (
                Update,
                error(r#"{"code":5,"op_index":-1}"#),
                "invalid type: integer `5`, expected a string",
            ),
            (
                Update,
                error(r#"{"op_index":-1}"#),
                "invalid value: integer `-1`, expected usize",
            ),
            (
                Set,
                r#"{"new_value":1e999}"#.to_owned(),
                "number out of range",
            ),
            (
                Set,
                r#"{"new_value":"\ud800"}"#.to_owned(),
                "lone surrogate in a \\u escape",
            ),
        ];
        for (operation, result, phrase) in rows {
            let message = format!("Failed to convert result to value: {phrase}");
            assert_eq!(
                refusal(operation, Some(&result)),
                pair("JSON_ERROR", &message),
                "{result}"
            );
        }
    }

    #[test]
    fn values_deeper_than_the_limit_are_refused() {
        assert_eq!(&*read(Set, r#"{"new_value":[[[1]]]}"#).new, "[[[1]]]");
        assert_eq!(
            refusal(Set, Some(r#"{"new_value":[[[[1]]]]}"#)),
            pair(
                "STREAM_SET_ERROR",
                "Failed to set value: limits.json_depth exceeded: 4 > 3"
            )
        );
    }
}
