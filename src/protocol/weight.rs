//! How many bytes messages between threads hold, for the bounds of mailboxes.

use crate::protocol::answer::{Chunk, Outcome, UpdateError};
use crate::protocol::call::ErrorBody;
use crate::protocol::input::{AppendPath, UpdateOp};

impl Outcome {
    /// Bytes it holds on the heap, shared ones included.
    pub fn held_bytes(&self) -> usize {
        let len = |text: &Option<crate::id::Text>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Outcome::Set { new, old } => new.len() + len(old),
            Outcome::Updated { new, old, errors } => {
                let errors = errors
                    .iter()
                    .map(|error| size_of::<UpdateError>() + error.code.len() + error.message.len());
                new.len() + len(old) + errors.sum::<usize>()
            }
            Outcome::Got(value) => len(value),
            Outcome::Deleted { old } => len(old),
            Outcome::List(chunks) => {
                let chunks = chunks.iter().map(|chunk| size_of::<Chunk>() + chunk.len());
                chunks.sum()
            }
            Outcome::Groups(names) => names.iter().map(|name| name_bytes(name)).sum(),
            Outcome::All(streams) => {
                let of_stream = |(name, groups): &(String, Vec<String>)| {
                    size_of::<Vec<String>>()
                        + name_bytes(name)
                        + groups.iter().map(|name| name_bytes(name)).sum::<usize>()
                };
                streams.iter().map(of_stream).sum()
            }
            Outcome::Sent => 0,
            Outcome::Failed(error) => error.held_bytes(),
        }
    }
}

/// A name of its own takes its place beside its text.
fn name_bytes(name: &str) -> usize {
    size_of::<String>() + name.len()
}

impl ErrorBody {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        let stacktrace = self.stacktrace.as_ref().map_or(0, String::len);
        self.code.len() + self.message.len() + stacktrace
    }
}

impl UpdateOp {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        match self {
            UpdateOp::Set { path, value } => path.len() + value.len(),
            UpdateOp::Append { path, value } => {
                let path = match path {
                    AppendPath::Key(key) => key.len(),
                    AppendPath::Keys(keys) => segments_bytes(keys),
                };
                path + value.len()
            }
            UpdateOp::Merge { path, value } => segments_bytes(path) + value.len(),
            UpdateOp::Increment { path, .. }
            | UpdateOp::Decrement { path, .. }
            | UpdateOp::Remove { path } => path.len(),
        }
    }
}

/// A path of many short keys holds more than their letters.
fn segments_bytes(keys: &[Box<str>]) -> usize {
    keys.iter()
        .map(|key| key.len() + 2 * size_of::<Box<str>>())
        .sum()
}
