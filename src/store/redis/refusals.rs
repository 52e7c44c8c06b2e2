//! What callers read when a call fails: the function's code comes from elsewhere, the words from here.

use std::sync::Arc;

use crate::id::GroupKey;
use crate::protocol::input::StreamFunction;
use crate::shard::Question;

use super::message::read_names;

pub(super) fn function_of(question: &Question) -> StreamFunction {
    match question {
        Question::Set { .. } => StreamFunction::Set,
        Question::Update { .. } => StreamFunction::Update,
        Question::Delete { .. } => StreamFunction::Delete,
        Question::Send { .. } => StreamFunction::Send,
        Question::Get { .. } => StreamFunction::Get,
        Question::Groups { stream: Some(_) } => StreamFunction::ListGroups,
        Question::Groups { stream: None } => StreamFunction::ListAll,
        Question::List { .. }
        | Question::Follow { .. }
        | Question::Unfollow { .. }
        | Question::Keep { .. } => StreamFunction::List,
    }
}

/// In the words of the reference.
pub(super) fn with_cause(function: StreamFunction, cause: &str) -> Arc<str> {
    let what = match function {
        StreamFunction::Get => "Failed to get value from Redis",
        StreamFunction::Set => "Failed to atomically set value in Redis",
        StreamFunction::Delete => "Failed to atomically delete value from Redis",
        StreamFunction::List => "Failed to get group from Redis",
        StreamFunction::ListGroups => "Failed to list groups from Redis",
        StreamFunction::ListAll => "Failed to scan stream from Redis",
        StreamFunction::Send => "Failed to publish event to Redis",
        StreamFunction::Update => "Redis atomic update script failed",
    };
    format!("{what}: {cause}").into()
}

pub(super) fn shared_key(key: &GroupKey, owner: &[u8]) -> String {
    let pair = |key: &GroupKey| format!("stream {:?} group {:?}", key.stream(), key.group());
    let owner = read_names(owner).map_or_else(
        || String::from_utf8_lossy(owner).into_owned(),
        |owner| pair(&owner),
    );
    format!("{owner} and {} share one Redis key; rename one", pair(key))
}
