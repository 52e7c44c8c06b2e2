//! The parts of a request: objects, arrays, strings and integers, each told by its name when it is of
//! another type.
//!
//! Knows nothing of what the parts mean.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::LogsError;
use crate::protocol::json::number::Number;
use crate::protocol::json::{raw, text};

/// The members of an object. `null` is as good as absent.
pub(super) fn object<'a, const N: usize>(
    name: &'static str,
    json: &'a str,
    keys: [&str; N],
) -> Result<[Option<&'a RawValue>; N], LogsError> {
    let picked = raw::pick(json, keys).map_err(|_| LogsError::Wrong {
        key: name,
        expected: "an object",
    })?;
    Ok(picked.map(|json| json.filter(|json| json.get() != "null")))
}

/// The elements of an array, if there is one, until one of them does not fit.
pub(super) fn each<'a>(
    name: &'static str,
    json: Option<&'a RawValue>,
    mut each: impl FnMut(&'a str) -> Result<(), LogsError>,
) -> Result<(), LogsError> {
    let Some(json) = json else {
        return Ok(());
    };
    let mut outcome = Ok(());
    raw::elements(json.get(), |element| {
        outcome = each(element.get());
        outcome.is_ok()
    })
    .map_err(|_| LogsError::Wrong {
        key: name,
        expected: "an array",
    })?;
    outcome
}

pub(super) fn optional_string<'a>(
    name: &'static str,
    json: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, LogsError> {
    let wrong = LogsError::Wrong {
        key: name,
        expected: "a string",
    };
    match json {
        None => Ok(None),
        Some(json) if !json.get().starts_with('"') => Err(wrong),
        Some(json) => text::read_string(json.get())
            .map(Some)
            .map_err(|text::LoneSurrogate| wrong),
    }
}

/// An integer, as a number or as a string of digits. 0 if there is none.
pub(super) fn unsigned(name: &'static str, json: Option<&RawValue>) -> Result<u64, LogsError> {
    let Some(json) = json else {
        return Ok(0);
    };
    match digits(json).and_then(|digits| Number::read(&digits)) {
        Some(Number::Integer(integer)) => u64::try_from(integer).map_err(|_| not_an_integer(name)),
        _ => Err(not_an_integer(name)),
    }
}

/// The text of a number, which may stand in a string. None: a string that cannot be read.
pub(super) fn digits(json: &RawValue) -> Option<Cow<'_, str>> {
    match json.get().starts_with('"') {
        true => text::read_string(json.get()).ok(),
        false => Some(json.get().into()),
    }
}

pub(super) fn not_an_integer(key: &'static str) -> LogsError {
    LogsError::Wrong {
        key,
        expected: "an integer that is not negative",
    }
}
