//! What Redis answers, as values of ours.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use redis::{RedisError, Value};

use crate::id::{ItemId, Text};
use crate::shard::Content;

use super::error::Fault;
use super::message::stored;

/// Clients keep times as doubles, which count no further.
const TIME_MAX: u64 = 1 << 53;
/// A time so far ahead of Redis's clock is nobody's who means well. The scripts believe up to an hour,
/// and may go on from there.
const AHEAD_MS_MAX: u64 = 61 * 60 * 1000;

/// What a value costs beside its bytes.
const VALUE_UNITS: usize = 64;
/// How long a piece of a list's text is, or somewhat longer.
const CHUNK_BYTES: usize = 64 * 1024;

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
    /// The key belongs to the group of these names.
    Owned(Vec<u8>),
    /// The stored text is no JSON; nothing was changed.
    Odd(Vec<u8>),
    /// It was changed meanwhile: what is there now.
    Other(Option<Vec<u8>>),
}

pub(super) fn changed(value: Value) -> Result<Changed, Fault> {
    let Value::Array(parts) = value else {
        return Err(Fault::Unexpected);
    };
    let mut parts = parts.into_iter();
    let word = parts.next().and_then(bytes).ok_or(Fault::Unexpected)?;
    let mut next = || parts.next().and_then(bytes);
    Ok(match &*word {
        b"nothing" => Changed::Nothing,
        b"owned" => Changed::Owned(next().unwrap_or_default()),
        b"odd" => Changed::Odd(next().unwrap_or_default()),
        b"other" => Changed::Other(next()),
        b"done" => {
            let time = parts.next().and_then(number).ok_or(Fault::Unexpected)?;
            let time = time.min(TIME_MAX);
            let old = parts.next().and_then(bytes);
            let state = parts.next().and_then(bytes).unwrap_or_default();
            let is_empty = matches!(&*state, b"gone" | b"none");
            Changed::Done {
                time,
                old,
                is_empty,
            }
        }
        _ => return Err(Fault::Unexpected),
    })
}

/// A group's items and the time of the cut, and how many stored texts nobody could read.
pub(super) struct Cut {
    pub(super) items: Content,
    /// A number that is the same for the same items in the same order.
    pub(super) digest: u64,
    pub(super) time: u64,
    pub(super) unreadable: usize,
}

/// The answers of the transaction, read whole.
pub(super) fn cut(value: Value, item: Option<&ItemId>) -> Result<Cut, Fault> {
    let mut cutting = cutting(value, item)?;
    let mut units = usize::MAX;
    cutting.go_on(&mut units);
    Ok(cutting.end())
}

/// A cut that is read bit by bit.
pub(super) struct Cutting {
    pairs: Pairs,
    items: Content,
    digest: DefaultHasher,
    time: u64,
    unreadable: usize,
}

/// The answers of the transaction: of HGETALL (or HGET of `item`), TIME, HGET of the group's last
/// time, PUBLISH.
pub(super) fn cutting(value: Value, item: Option<&ItemId>) -> Result<Cutting, Fault> {
    let Value::Array(parts) = value else {
        return Err(fault_of(&value));
    };
    let mut parts = parts.into_iter();
    let items = parts.next().ok_or(Fault::Unexpected)?;
    if let Some(error) = error_of(&items) {
        return Err(Fault::Said(error));
    }
    let now = parts.next().and_then(time).ok_or(Fault::Unexpected)?;
    let last = parts.next().and_then(number);
    let last = last.and_then(|last| believed(last, now)).unwrap_or(0);
    let items = match (items, item) {
        (Value::Nil, Some(_)) => Value::Nil,
        (value, Some(item)) => {
            let name = Value::BulkString(item.as_bytes().to_vec());
            Value::Array(vec![name, value])
        }
        (items, None) => items,
    };
    Ok(Cutting::new(pairs(items), now.max(last)))
}

/// The pairs of a flat list or a map.
pub(super) fn pairs(value: Value) -> Pairs {
    match value {
        Value::Map(pairs) => Pairs::Map(pairs.into_iter()),
        Value::Array(flat) => Pairs::Flat(flat.into_iter()),
        _ => Pairs::Flat(Vec::new().into_iter()),
    }
}

/// A flat list, or a map, of names and values.
pub(super) enum Pairs {
    Map(std::vec::IntoIter<(Value, Value)>),
    Flat(std::vec::IntoIter<Value>),
}

impl Iterator for Pairs {
    type Item = (Value, Value);

    fn next(&mut self) -> Option<(Value, Value)> {
        match self {
            Pairs::Map(pairs) => pairs.next(),
            Pairs::Flat(flat) => Some((flat.next()?, flat.next()?)),
        }
    }
}

impl Cutting {
    fn new(pairs: Pairs, time: u64) -> Cutting {
        Cutting {
            pairs,
            items: Content::default(),
            digest: DefaultHasher::new(),
            time,
            unreadable: 0,
        }
    }

    /// Reads on while there are units; true when it is whole.
    pub(super) fn go_on(&mut self, units: &mut usize) -> bool {
        while *units > 0 {
            let Some((name, value)) = self.pairs.next() else {
                return true;
            };
            *units = units.saturating_sub(units_of(&name) + units_of(&value));
            let name = bytes(name).and_then(|name| String::from_utf8(name).ok());
            let Some(name) = name else {
                continue;
            };
            match bytes(value).map(|bytes| stored(&bytes)) {
                Some(Ok(text)) => {
                    (&name, &text).hash(&mut self.digest);
                    self.items.push(name.into(), text);
                }
                _ => self.unreadable += 1,
            }
        }
        false
    }

    pub(super) fn end(self) -> Cut {
        Cut {
            items: self.items,
            digest: self.digest.finish(),
            time: self.time,
            unreadable: self.unreadable,
        }
    }
}

/// The values of a group, read bit by bit into the text of a list.
pub(super) struct Values {
    rest: std::vec::IntoIter<Value>,
    text: String,
    texts: Vec<Text>,
    /// How many stored texts nobody could read.
    pub(super) unreadable: usize,
}

impl Values {
    pub(super) fn new(values: Vec<Value>) -> Values {
        Values {
            rest: values.into_iter(),
            text: String::new(),
            texts: Vec::new(),
            unreadable: 0,
        }
    }

    /// Reads on while there are units; true when it is whole.
    pub(super) fn go_on(&mut self, units: &mut usize) -> bool {
        while *units > 0 {
            let Some(value) = self.rest.next() else {
                return true;
            };
            *units = units.saturating_sub(units_of(&value));
            match bytes(value).map(|bytes| stored(&bytes)) {
                Some(Ok(text)) => self.push(&text),
                _ => self.unreadable += 1,
            }
        }
        false
    }

    fn push(&mut self, value: &str) {
        self.text.push(',');
        self.text.push_str(value);
        if self.text.len() >= CHUNK_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if !self.text.is_empty() {
            self.texts.push(std::mem::take(&mut self.text).into());
        }
    }

    /// The pieces of the list's text.
    pub(super) fn end(mut self) -> Vec<Text> {
        self.cut();
        self.texts
    }
}

/// What it costs to read a value: a unit is about a byte.
fn units_of(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => VALUE_UNITS + bytes.len(),
        _ => VALUE_UNITS,
    }
}

/// The answer to TIME, in ms since 1970.
pub(super) fn time(value: Value) -> Option<u64> {
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter().filter_map(number);
    let ms = parts.next()?.saturating_mul(1000);
    Some(ms.saturating_add(parts.next()? / 1000).min(TIME_MAX))
}

/// Whether the answer to ROLE is that of a master; whoever does not say what it is is taken for one.
pub(super) fn is_master(value: Value) -> bool {
    let Value::Array(parts) = value else {
        return true;
    };
    let role = parts.into_iter().next().and_then(bytes);
    role.is_none_or(|role| role == b"master")
}

/// A time that somebody gives, if it is to be believed at Redis's time `now`.
pub(super) fn believed(time: u64, now: u64) -> Option<u64> {
    (time <= TIME_MAX && time <= now.saturating_add(AHEAD_MS_MAX)).then_some(time)
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

/// What an error says, in the words of the reference.
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

/// Of a script that answers one for each; one error is the answer to all.
pub(super) fn of_each(value: Value, len: usize) -> Vec<Value> {
    match value {
        Value::Array(values) if values.len() == len => values,
        other => vec![other; len],
    }
}

/// What is wrong with an answer that does not fit the question.
pub(super) fn fault_of(value: &Value) -> Fault {
    error_of(value).map_or(Fault::Unexpected, Fault::Said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_nobody_can_mean_are_not_believed() {
        let now = 1_800_000_000_000;
        assert_eq!(believed(now + 3_600_000, now), Some(now + 3_600_000));
        for time in [now + 3_700_000, (1 << 53) + 1, u64::MAX] {
            assert_eq!(believed(time, now), None);
        }
        assert_eq!(believed(u64::MAX, u64::MAX), None);
        assert_eq!(believed(5, now), Some(5), "the past is raised elsewhere");
    }

    #[test]
    fn no_time_that_redis_gives_overflows() {
        let parts = |parts: [i64; 2]| Value::Array(parts.map(Value::Int).to_vec());
        assert_eq!(time(parts([17, 1500])), Some(17001));
        assert_eq!(time(parts([i64::MAX, i64::MAX])), Some(TIME_MAX));
        let kept = Value::BulkString(u64::MAX.to_string().into_bytes());
        let cut = cut(
            Value::Array(vec![
                Value::Array(Vec::new()),
                parts([17, 0]),
                kept,
                Value::Int(1),
            ]),
            None,
        );
        assert_eq!(cut.map(|cut| cut.time), Ok(17000));
    }
}
