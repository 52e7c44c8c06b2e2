//! All that a shard can learn from outside: answers of the store, what other hosts did, and what custom functions
//! answered.
//!
//! Data alone. May not know what comes of it.

use std::sync::Arc;

use crate::id::{GroupKey, ItemId, Text};
use crate::protocol::call::ErrorBody;
use crate::protocol::frame::Event;

use super::content::Content;
use super::requests::{Answer, Verdict};

/// What a shard learns from outside.
pub enum Learned {
    /// The store's word on a request of this shard.
    Answer(Answer),
    /// What a channel that all hosts share tells of a group.
    Channel(GroupKey, FromChannel),
    /// The store has changed an item of itself, for this host: triggers are to hear of it. Whoever follows the
    /// group hears by the channel.
    Made {
        /// The item's group.
        key: GroupKey,
        /// Its name.
        item: ItemId,
        /// What became of it.
        event: HeardEvent,
        /// When, by the store's clock, in ms since 1970.
        time: u64,
        /// It had a time to live, and that is over.
        has_expired: bool,
    },
    /// The channel is lost: what comes next of any group is a [`FromChannel::Read`].
    Lost,
}

/// What a channel that all hosts share tells, in one order for all of them.
pub enum FromChannel {
    /// Something happened, here or elsewhere.
    Event {
        /// The item that it is about; `None` for a custom event of the group.
        item: Option<ItemId>,
        /// What.
        event: HeardEvent,
        /// When, by the store's clock, in ms since 1970.
        time: u64,
        /// The group had no items before it.
        is_first: bool,
        /// A server of ours has made it, in one step with the change.
        is_ours: bool,
    },
    /// The group was read again at this point between its events.
    Read {
        /// All that it holds.
        items: Content,
        /// When, by the store's clock.
        time: u64,
        /// The channel was lost before.
        is_after_loss: bool,
    },
}

/// An event as the channel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeardEvent {
    /// An item that was not there: its value.
    Create(Text),
    /// One that was: its new value.
    Update(Text),
    /// One that is gone: its last value.
    Delete(Text),
    /// Something that is not kept.
    Custom {
        /// The caller's word for it.
        kind: Box<str>,
        /// JSON text.
        data: Text,
    },
}

impl HeardEvent {
    /// As frames are made of it.
    pub(super) fn borrowed(&self) -> Event<'_> {
        match self {
            HeardEvent::Create(data) => Event::Create(data),
            HeardEvent::Update(data) => Event::Update(data),
            HeardEvent::Delete(data) => Event::Delete(data),
            HeardEvent::Custom { kind, data } => Event::Custom { kind, data },
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            HeardEvent::Create(data) | HeardEvent::Update(data) | HeardEvent::Delete(data) => {
                data.len()
            }
            HeardEvent::Custom { kind, data } => kind.len() + data.len(),
        }
    }
}

impl FromChannel {
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            FromChannel::Event { item, event, .. } => {
                item.as_ref().map_or(0, |item| item.len()) + event.held_bytes()
            }
            FromChannel::Read { items, .. } => items.held_bytes(),
        }
    }

    /// Nobody takes it: drops a part with each step.
    pub(super) fn drop_in_steps(self) -> impl Iterator<Item = ()> + Send {
        let items = match self {
            FromChannel::Event { .. } => Content::default(),
            FromChannel::Read { items, .. } => items,
        };
        items.drop_in_steps()
    }
}

impl Learned {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        let len = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        let verdict = match self {
            Learned::Answer(answer) => &answer.verdict,
            Learned::Channel(_, from) => return from.held_bytes(),
            Learned::Made { event, .. } => return event.held_bytes(),
            Learned::Lost => return 0,
        };
        match verdict {
            Verdict::Accepted => 0,
            Verdict::Refused(cause) => cause.len(),
            Verdict::Decided { old, new, .. } => len(old) + len(new),
            Verdict::Found(value) => len(value),
            Verdict::Listed(values) => values.iter().map(|value| value.len()).sum(),
            Verdict::Cut { items, .. } => items.held_bytes(),
            Verdict::Groups(names) => names.held_bytes(),
        }
    }
}

/// What a custom function answered.
pub struct CustomAnswered {
    /// The group's slot, as in the call.
    pub slot: u32,
    /// As in the call.
    pub number: u64,
    /// What came back.
    pub answer: CustomAnswer,
}

/// What came back from a custom function.
pub enum CustomAnswer {
    /// A JSON text, or nothing.
    Result(Option<Text>),
    /// It failed, or could not be asked.
    Failed(ErrorBody),
    /// A limit of ours refuses the call: the cause, for the caller.
    Refused(Arc<str>),
    /// There is no such function any more: our own store serves.
    Gone,
}

impl CustomAnswered {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        self.answer.held_bytes()
    }
}

impl CustomAnswer {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        match self {
            CustomAnswer::Result(result) => result.as_ref().map_or(0, |text| text.len()),
            CustomAnswer::Failed(error) => error.held_bytes(),
            CustomAnswer::Refused(cause) => cause.len(),
            CustomAnswer::Gone => 0,
        }
    }
}
