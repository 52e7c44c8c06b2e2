//! The typed names: workers, slots, calls, groups, items.
//!
//! Every other module may use these; this one uses nothing of ours.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One of our pinned threads, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

impl WorkerId {
    /// The index, for tables with one entry a worker.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A place in one of the chunked tables. `generation` makes a reused slot a different name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    /// Index of the slot.
    pub slot: u32,
    /// How many names its table had given out, this one included.
    pub generation: u32,
}

#[cfg(test)]
impl SlotId {
    /// The first name of a slot.
    pub(crate) fn first(slot: u32) -> SlotId {
        SlotId {
            slot,
            generation: 1,
        }
    }
}

/// A call that waits for its reply: its slot in the engine thread's table.
pub type CallId = SlotId;

/// A group's entry on a worker that has subscribers of it.
pub type LocalGroupId = SlotId;

/// The name of an item, unescaped. Shared, because command, store and event all carry it.
pub type ItemId = Arc<str>;

/// One JSON value as the text it came in, checked, without surrounding white space.
pub type Text = Arc<str>;

/// The pair of names that identifies a group: `("a", "b:c")` and `("a:b", "c")` are two groups.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// `stream:group`.
    joined: Arc<str>,
    /// Where the colon between the two stands, in bytes.
    split: u32,
}

impl GroupKey {
    /// Joins the two names. They are limited long before `u32` is (`limits.name_bytes`).
    pub fn new(stream: &str, group: &str) -> GroupKey {
        let mut joined = String::with_capacity(stream.len() + 1 + group.len());
        joined.push_str(stream);
        joined.push(':');
        joined.push_str(group);
        GroupKey {
            joined: joined.into(),
            split: stream.len() as u32,
        }
    }

    /// The two names with one colon between them, the first so many bytes long. `None`: there is no
    /// colon at that place.
    pub fn of_joined(joined: &str, stream_len: usize) -> Option<GroupKey> {
        if joined.as_bytes().get(stream_len) != Some(&b':') {
            return None;
        }
        Some(GroupKey {
            joined: joined.into(),
            split: u32::try_from(stream_len).ok()?,
        })
    }

    /// Name of the stream.
    pub fn stream(&self) -> &str {
        &self.joined[..self.split as usize]
    }

    /// Name of the group.
    pub fn group(&self) -> &str {
        &self.joined[self.split as usize + 1..]
    }

    /// Both names with one colon between them: what decides the owner.
    pub fn joined(&self) -> &str {
        &self.joined
    }
}

impl Hash for GroupKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.joined.hash(state);
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:?}, {:?})", self.stream(), self.group())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_pair_of_its_names() {
        let left = GroupKey::new("a", "b:c");
        let right = GroupKey::new("a:b", "c");
        assert_ne!(left, right);
        assert_eq!(left.joined(), right.joined());
        assert_eq!((right.stream(), right.group()), ("a:b", "c"));
        assert_eq!(GroupKey::new("", "").group(), "");
        assert_eq!(GroupKey::of_joined("a:b:c", 3), Some(right));
        assert_eq!(GroupKey::of_joined("a:b:c", 2), None);
        assert_eq!(GroupKey::of_joined("", 0), None);
    }
}
