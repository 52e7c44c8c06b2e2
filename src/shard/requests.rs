//! All that a shard can ask of the store, and the store's word on it.
//!
//! Data alone. Numbers and epochs tell whose an answer is.

use std::sync::Arc;

use crate::id::{GroupKey, ItemId, Text, WorkerId};
use crate::protocol::answer::UpdateError;
use crate::protocol::groups::Names;
use crate::protocol::input::UpdateOp;
use crate::protocol::ttl::Ttl;

use super::content::Content;
use super::marks::Marks;

/// One thing for the store to do. Numbers rise by one within a shard.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub shard: WorkerId,
    /// After a refusal the store refuses everything of that shard and epoch unseen.
    pub epoch: u32,
    /// Its place in the shard's order.
    pub number: u64,
    /// What to do.
    pub kind: RequestKind,
}

/// What a store can be asked.
#[derive(Debug, Clone)]
pub enum RequestKind {
    /// The owner has decided: keep this value.
    Put {
        /// The item's group.
        group: GroupKey,
        /// Its name.
        item: ItemId,
        /// Its new value.
        value: Text,
        /// The time of the change, in ms since 1970.
        time: u64,
        /// What is to be kept beside.
        marks: Marks,
    },
    /// The owner has decided: the item is gone.
    Remove {
        /// The item's group.
        group: GroupKey,
        /// Its name.
        item: ItemId,
        /// The time of the change, in ms since 1970.
        time: u64,
    },
    /// No time up to this one is to be given out after the next start.
    Times {
        /// In ms since 1970.
        time: u64,
    },
    /// The store decides.
    Decide(Question),
}

/// What a store that decides is asked.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are those of Ask")]
pub enum Question {
    /// Set an item: answered by [`Verdict::Decided`].
    Set {
        group: GroupKey,
        item: ItemId,
        data: Text,
        ttl: Option<Ttl>,
    },
    /// Change parts of an item: answered by [`Verdict::Decided`].
    Update {
        group: GroupKey,
        item: ItemId,
        ops: Arc<[UpdateOp]>,
        ttl: Option<Ttl>,
    },
    /// Remove an item: answered by [`Verdict::Decided`].
    Delete { group: GroupKey, item: ItemId },
    /// Give an event its time, and tell it to other hosts: answered by [`Verdict::Decided`].
    Send {
        group: GroupKey,
        id: Option<ItemId>,
        kind: Box<str>,
        data: Text,
    },
    /// Read an item: answered by [`Verdict::Found`].
    Get { group: GroupKey, item: ItemId },
    /// Read all items: answered by [`Verdict::Listed`].
    List { group: GroupKey },
    /// All groups, of one stream if it is named: answered by [`Verdict::Groups`].
    Groups { stream: Option<Box<str>> },
    /// Tell of the group's events from here on, and what it holds here, or one item of it: answered
    /// by [`Verdict::Cut`].
    Follow {
        group: GroupKey,
        item: Option<ItemId>,
    },
    /// A member has so many sockets here: answered by [`Verdict::Accepted`] at once, whatever becomes of it.
    Keep {
        group: GroupKey,
        item: ItemId,
        data: Text,
        connections: u32,
    },
    /// Tell of the group's events no more: answered by [`Verdict::Accepted`].
    Unfollow { group: GroupKey },
}

/// The store's word on one request: one for each, in order of their numbers within a shard.
pub struct Answer {
    /// Who asked.
    pub shard: WorkerId,
    /// As in the request.
    pub epoch: u32,
    /// As in the request.
    pub number: u64,
    /// The word.
    pub verdict: Verdict,
}

/// What a store says.
pub enum Verdict {
    /// The write is as durable as the configuration promises.
    Accepted,
    /// It is not and never will be: the cause, for the caller.
    Refused(Arc<str>),
    /// The store's decision on a change or an event.
    Decided {
        /// The value before, if the item was there.
        old: Option<Text>,
        /// The value now, if it is there.
        new: Option<Text>,
        /// Operations of an update that failed.
        errors: Vec<UpdateError>,
        /// When, in ms since 1970.
        time: u64,
    },
    /// An item's value, if it is there.
    Found(Option<Text>),
    /// The values of a group in order, each with a comma before it, in pieces of any number.
    Listed(Vec<Text>),
    /// Stream and group names.
    Groups(Names),
    /// Items at one point between the group's events: those before are in it, those after are not.
    Cut {
        /// All, or the one that was asked for if it is there.
        items: Content,
        /// When, by the store's clock, in ms since 1970: not before any event that is in it.
        time: u64,
    },
}

impl Question {
    /// The group that it is about, if it is about one.
    pub fn group(&self) -> Option<&GroupKey> {
        match self {
            Question::Set { group, .. }
            | Question::Update { group, .. }
            | Question::Delete { group, .. }
            | Question::Send { group, .. }
            | Question::Get { group, .. }
            | Question::List { group }
            | Question::Follow { group, .. }
            | Question::Keep { group, .. }
            | Question::Unfollow { group } => Some(group),
            Question::Groups { .. } => None,
        }
    }
}

impl Request {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        match &self.kind {
            RequestKind::Put { item, value, .. } => item.len() + value.len(),
            RequestKind::Remove { item, .. } => item.len(),
            RequestKind::Times { .. } => 0,
            RequestKind::Decide(question) => match question {
                Question::Set { item, data, .. } => item.len() + data.len(),
                Question::Update { item, ops, .. } => {
                    item.len() + ops.iter().map(UpdateOp::held_bytes).sum::<usize>()
                }
                Question::Delete { item, .. } | Question::Get { item, .. } => item.len(),
                Question::Send { kind, data, .. } => kind.len() + data.len(),
                Question::Keep { item, data, .. } => item.len() + data.len(),
                Question::List { .. }
                | Question::Groups { .. }
                | Question::Follow { .. }
                | Question::Unfollow { .. } => 0,
            },
        }
    }
}
