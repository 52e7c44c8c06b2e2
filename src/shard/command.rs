//! All that can be asked of a shard. The time at which it is asked comes beside it.

use crate::id::{CallId, GroupKey, ItemId, LocalGroupId, SlotId, Text, WorkerId};
use crate::protocol::answer::Outcome;
use crate::protocol::input::{StreamFunction, UpdateOp, failed};
use crate::protocol::ttl::Ttl;

use super::effects::{Effects, Reply};
use super::members::{Hold, Lease};

/// One question to the owner.
#[derive(Debug)]
pub enum Command {
    /// About one group.
    Group {
        /// Which.
        key: GroupKey,
        /// What is asked.
        ask: Ask,
    },
    /// The names of a stream's groups on this shard.
    ListGroups {
        /// Name of the stream.
        stream: Box<str>,
        /// Who asks.
        call: CallId,
    },
    /// The names of all groups on this shard.
    ListAll {
        /// Who asks.
        call: CallId,
    },
}

/// What is asked of one group. `call` is `None` where nobody waits for the answer.
#[derive(Debug)]
pub enum Ask {
    /// Set an item.
    Set {
        /// Its name.
        item: ItemId,
        /// Its value, checked.
        data: Text,
        /// How long it lasts unless it is written again; none: as before, or as its stream's do.
        ttl: Option<Ttl>,
        /// Who asks.
        call: Option<CallId>,
    },
    /// Change parts of an item.
    Update {
        /// Its name.
        item: ItemId,
        /// What to do, in this order.
        ops: Vec<UpdateOp>,
        /// As of a set.
        ttl: Option<Ttl>,
        /// Who asks.
        call: Option<CallId>,
    },
    /// Remove an item.
    Delete {
        /// Its name.
        item: ItemId,
        /// Who asks.
        call: Option<CallId>,
    },
    /// Read an item.
    Get {
        /// Its name.
        item: ItemId,
        /// Who asks.
        call: CallId,
    },
    /// Read all items.
    List {
        /// Who asks.
        call: CallId,
    },
    /// Tell the subscribers something that is not kept.
    Send {
        /// The item it is about, if any.
        id: Option<ItemId>,
        /// The caller's word for the event.
        kind: Box<str>,
        /// JSON text.
        data: Text,
        /// Who asks.
        call: Option<CallId>,
    },
    /// Enter a subscription.
    Join(Join),
    /// A socket keeps a member.
    Hold(Box<Hold>),
    /// It does no more.
    Release {
        /// Which socket.
        lease: Lease,
        /// The member.
        id: ItemId,
    },
    /// The last local subscription of a worker is gone.
    Leave {
        /// Which worker.
        worker: WorkerId,
        /// The entry that it has let go; a newer one stands.
        local: LocalGroupId,
    },
}

/// A subscription that wants its `sync`.
#[derive(Debug)]
pub struct Join {
    /// The worker that holds the socket.
    pub worker: WorkerId,
    /// The group's entry on that worker.
    pub local: LocalGroupId,
    /// The socket, on that worker.
    pub connection: SlotId,
    /// The worker's own name for the join.
    pub token: u32,
    /// One item, or the whole group.
    pub item: Option<ItemId>,
}

impl Command {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        match self {
            Command::Group { key, ask } => key.joined().len() + ask.held_bytes(),
            Command::ListGroups { stream, .. } => stream.len(),
            Command::ListAll { .. } => 0,
        }
    }

    /// The call that waits for an answer, if one does.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Command::Group { ask, .. } => ask.call(),
            Command::ListGroups { call, .. } | Command::ListAll { call } => Some(*call),
        }
    }
}

impl Ask {
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Ask::Set { item, data, .. } => item.len() + data.len(),
            Ask::Update { item, ops, .. } => {
                item.len()
                    + ops
                        .iter()
                        .map(|op| size_of_val(op) + op.held_bytes())
                        .sum::<usize>()
            }
            Ask::Delete { item, .. } | Ask::Get { item, .. } => item.len(),
            Ask::Send { id, kind, data, .. } => {
                id.as_ref().map_or(0, |id| id.len()) + kind.len() + data.len()
            }
            Ask::Join(join) => join.item.as_ref().map_or(0, |item| item.len()),
            Ask::Hold(hold) => size_of::<Hold>() + hold.id.len() + hold.data.len(),
            Ask::Release { id, .. } => id.len(),
            Ask::List { .. } | Ask::Leave { .. } => 0,
        }
    }

    fn call(&self) -> Option<CallId> {
        match self {
            Ask::Set { call, .. }
            | Ask::Update { call, .. }
            | Ask::Delete { call, .. }
            | Ask::Send { call, .. } => *call,
            Ask::Get { call, .. } | Ask::List { call } => Some(*call),
            Ask::Join(_) | Ask::Leave { .. } | Ask::Hold(_) | Ask::Release { .. } => None,
        }
    }
}

impl Ask {
    /// The function that a custom one may stand in for.
    pub(super) fn function(&self) -> Option<StreamFunction> {
        match self {
            Ask::Set { .. } => Some(StreamFunction::Set),
            Ask::Update { .. } => Some(StreamFunction::Update),
            Ask::Delete { .. } => Some(StreamFunction::Delete),
            Ask::Get { .. } => Some(StreamFunction::Get),
            Ask::List { .. } => Some(StreamFunction::List),
            Ask::Join(join) if join.item.is_some() => Some(StreamFunction::Get),
            Ask::Join(_) => Some(StreamFunction::List),
            Ask::Send { .. } | Ask::Leave { .. } | Ask::Hold(_) | Ask::Release { .. } => None,
        }
    }

    /// Nobody will carry it out: whoever waits for the answer is told so.
    pub(super) fn refuse(self, cause: &str, out: &mut Effects) {
        let (function, call) = match self {
            Ask::Set { call, .. } => (StreamFunction::Set, call),
            Ask::Update { call, .. } => (StreamFunction::Update, call),
            Ask::Delete { call, .. } => (StreamFunction::Delete, call),
            Ask::Send { call, .. } => (StreamFunction::Send, call),
            Ask::Get { call, .. } => (StreamFunction::Get, Some(call)),
            Ask::List { call } => (StreamFunction::List, Some(call)),
            Ask::Join(_) | Ask::Leave { .. } | Ask::Hold(_) | Ask::Release { .. } => return,
        };
        let outcome = Outcome::Failed(failed(function, cause));
        out.replies.extend(call.map(|call| Reply { call, outcome }));
    }

    /// The item it is about.
    pub(super) fn item(&self) -> Option<&str> {
        match self {
            Ask::Set { item, .. }
            | Ask::Update { item, .. }
            | Ask::Delete { item, .. }
            | Ask::Get { item, .. } => Some(item),
            Ask::Join(join) => join.item.as_deref(),
            Ask::Hold(hold) => Some(&hold.id),
            Ask::Release { id, .. } => Some(id),
            Ask::List { .. } | Ask::Send { .. } | Ask::Leave { .. } => None,
        }
    }
}
