//! The readers of what Redis and other hosts say, on any bytes: what fuzzing reaches.
//!
//! Nobody else needs them from outside.

use redis::Parser;

use super::answers::{
    bytes, changed, code_of, cut, error_of, fault_of, is_master, number, of_each, pairs,
};
use super::message::{self, read_names, stored};
use crate::shard::HeardEvent;

/// What is seen of a message of the channel.
#[derive(Debug)]
pub struct Seen {
    /// Of stream and group, at a glance.
    pub names: Option<(String, String)>,
    /// The whole, if it is one.
    pub whole: Option<Whole>,
}

/// A whole message.
#[derive(Debug)]
pub struct Whole {
    /// Name of the item.
    pub item: Option<String>,
    /// When it happened.
    pub time: u64,
    /// What did: `create`, `update`, `delete` or `event`.
    pub kind: &'static str,
    /// With which JSON text.
    pub data: String,
}

/// Reads a message of the channel.
pub fn message(text: &str) -> Seen {
    let names = message::glance(text);
    let whole = message::read(text).map(|read| {
        let (kind, data) = match read.event {
            HeardEvent::Create(data) => ("create", data),
            HeardEvent::Update(data) => ("update", data),
            HeardEvent::Delete(data) => ("delete", data),
            HeardEvent::Custom { data, .. } => ("event", data),
        };
        Whole {
            item: read.item.map(|item| item.to_string()),
            time: read.time,
            kind,
            data: data.to_string(),
        }
    });
    Seen {
        names: names.map(|seen| (seen.stream.into_owned(), seen.group.into_owned())),
        whole,
    }
}

/// Reads answers, each as everything that it may be the answer to. Gives how many there were.
pub fn answers(mut input: &[u8]) -> usize {
    let mut parser = Parser::new();
    let mut count = 0;
    while !input.is_empty()
        && let Ok(value) = parser.parse_value(&mut input)
    {
        count += 1;
        let _ = (error_of(&value), code_of(&value), fault_of(&value));
        let _ = changed(value.clone());
        let _ = cut(value.clone(), None);
        let _ = cut(value.clone(), Some(&"u".into()));
        let _ = (number(value.clone()), is_master(value.clone()));
        let _ = of_each(value.clone(), 3);
        for (key, item) in pairs(value) {
            let _ = bytes(key).and_then(|key| read_names(&key));
            let _ = bytes(item).map(|item| stored(&item));
        }
    }
    count
}
