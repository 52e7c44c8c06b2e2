//! What Redis answers, as values of ours.

use redis::{RedisError, Value};

use crate::id::{ItemId, Text};

use super::message::stored;

/// What one of the scripts for changes says.
pub(super) enum Changed {
    Done {
        /// By Redis's clock, in ms since 1970.
        time: u64,
        old: Option<Vec<u8>>,
        /// The group has no items any more, but a time.
        is_empty: bool,
    },
    /// Nothing was there to remove.
    Nothing,
    /// The key belongs to these names.
    Owned(Vec<u8>),
    /// The stored text looks as if it were no JSON; nothing was changed.
    Odd(Vec<u8>),
    /// It was changed meanwhile: what is there now.
    Other(Option<Vec<u8>>),
}

pub(super) fn changed(value: Value) -> Result<Changed, String> {
    let Value::Array(parts) = value else {
        return Err(unexpected());
    };
    let mut parts = parts.into_iter();
    let word = parts.next().and_then(bytes).ok_or_else(unexpected)?;
    let mut next = || parts.next().and_then(bytes);
    Ok(match &*word {
        b"nothing" => Changed::Nothing,
        b"owned" => Changed::Owned(next().unwrap_or_default()),
        b"odd" => Changed::Odd(next().unwrap_or_default()),
        b"other" => Changed::Other(next()),
        b"done" => {
            let time = parts.next().and_then(number).ok_or_else(unexpected)?;
            let old = parts.next().and_then(bytes);
            let state = parts.next().and_then(bytes).unwrap_or_default();
            let is_empty = matches!(&*state, b"gone" | b"none");
            Changed::Done {
                time,
                old,
                is_empty,
            }
        }
        _ => return Err(unexpected()),
    })
}

/// A group's items and the time of the cut, and how many stored texts nobody could read.
pub(super) struct Cut {
    pub(super) items: Vec<(ItemId, Text)>,
    pub(super) time: u64,
    pub(super) unreadable: usize,
}

/// The answers of the transaction: of HGETALL (or HGET of `item`), TIME, HGET of the group's last
/// time, PUBLISH.
pub(super) fn cut(value: Value, item: Option<&ItemId>) -> Result<Cut, String> {
    let Value::Array(parts) = value else {
        return Err(error_of(&value).unwrap_or_else(unexpected));
    };
    let mut parts = parts.into_iter();
    let items = parts.next().ok_or_else(unexpected)?;
    if let Some(error) = error_of(&items) {
        return Err(error);
    }
    let now = parts.next().and_then(time).ok_or_else(unexpected)?;
    let last = parts.next().and_then(number).unwrap_or(0);
    let mut unreadable = 0;
    let mut found = Vec::new();
    let pairs = match (items, item) {
        (Value::Nil, Some(_)) => Vec::new(),
        (value, Some(item)) => vec![(ItemId::clone(item), value)],
        (items, None) => pairs(items)
            .into_iter()
            .filter_map(|(name, value)| {
                let name = String::from_utf8(bytes(name)?).ok()?;
                Some((name.into(), value))
            })
            .collect(),
    };
    for (name, value) in pairs {
        match bytes(value).map(|bytes| stored(&bytes)) {
            Some(Ok(text)) => found.push((name, text)),
            _ => unreadable += 1,
        }
    }
    Ok(Cut {
        items: found,
        time: now.max(last),
        unreadable,
    })
}

/// A flat list, or a map, of names and values.
pub(super) fn pairs(value: Value) -> Vec<(Value, Value)> {
    match value {
        Value::Map(pairs) => pairs,
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            let mut pairs = Vec::with_capacity(flat.len() / 2);
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                pairs.push((name, value));
            }
            pairs
        }
        _ => Vec::new(),
    }
}

/// Of TIME, in ms since 1970.
pub(super) fn time(value: Value) -> Option<u64> {
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter().filter_map(number);
    Some(parts.next()? * 1000 + parts.next()? / 1000)
}

pub(super) fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        other => std::str::from_utf8(&bytes(other)?).ok()?.parse().ok(),
    }
}

pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Okay => Some(b"OK".to_vec()),
        _ => None,
    }
}

/// In the words of the reference.
pub(super) fn error_of(value: &Value) -> Option<String> {
    match value {
        Value::ServerError(error) => Some(RedisError::from(error.clone()).to_string()),
        _ => None,
    }
}

/// The code of an error: `NOSCRIPT`, `READONLY`.
pub(super) fn code_of(value: &Value) -> Option<&str> {
    match value {
        Value::ServerError(error) => Some(error.code()),
        _ => None,
    }
}

pub(super) fn unexpected() -> String {
    "Redis answered something else".to_owned()
}
