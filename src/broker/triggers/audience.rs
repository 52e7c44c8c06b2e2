//! Who hears of something.
//!
//! Pure. May not know the triggers.

use crate::id::{GroupKey, ItemId};

/// Who hears of something: the triggers that follow it.
#[derive(Debug)]
pub(in crate::broker) enum Audience {
    /// `item`: what the event is about, if that is an item.
    Event {
        key: GroupKey,
        item: Option<ItemId>,
        /// The state of the hooks when it happened: triggers that came later do not hear of it.
        version: u64,
    },
    /// Of that stream.
    Join(Box<str>),
    Leave(Box<str>),
    /// Of that severity.
    Log(Box<str>),
    Topic(Box<str>),
    FunctionsAvailable,
    WorkersAvailable,
}
