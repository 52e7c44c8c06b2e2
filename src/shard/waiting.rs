//! What may wait in a group's queue, each with what its turn needs.
//!
//! Data alone: `under_way` keeps it in its order.

use crate::id::{CallId, ItemId, Text};
use crate::protocol::input::StreamFunction;
use crate::protocol::ttl::Ttl;

use super::command::{Ask, Join};
use super::content::Content;
use super::effects::Reply;
use super::learned::{CustomAnswer, FromChannel};
use super::requests::Verdict;

/// One command that waits for its turn.
pub(super) enum Waiting {
    /// Waits for the store's answer.
    Write(Write),
    /// An answer that rests on writes before it: it fails with them.
    Rests {
        reply: Reply,
        function: StreamFunction,
    },
    Get {
        item: ItemId,
        hash: u64,
        call: CallId,
    },
    List {
        call: CallId,
    },
    Send(Send),
    /// Its `sync` bears a time that was given out when it took its place.
    Join {
        join: Join,
        hash: u64,
        time: u64,
    },
    /// A join of a shared group whose items are asked for, or known: its `sync` is made, and gets its
    /// time, when its turn comes.
    SharedJoin {
        join: Join,
        hash: u64,
    },
    /// What a shared channel tells, behind what it has told and the store has answered before.
    Channel(Box<FromChannel>),
    /// What the group held when it was read again, which is being taken in.
    Coming,
    /// The store decides: waits for its answer.
    Asked(Asked, Option<Verdict>),
    /// A function of an SDK worker decides: waits for its answer.
    Custom(Box<Custom>),
    /// What is behind it bears times that the store has to keep first: waits for its answer.
    Times {
        is_kept: bool,
    },
    /// A refused write that nobody waits for.
    Void,
}

/// What a shared store has told of a whole group.
pub(super) enum Whole {
    Join {
        content: Content,
        time: u64,
    },
    Read {
        content: Content,
        time: u64,
        is_after_loss: bool,
    },
    /// It had lost all items but that.
    Loss {
        item: Option<ItemId>,
        time: u64,
    },
}

/// A change that the owner has computed.
pub(super) struct Write {
    pub(super) item: ItemId,
    pub(super) hash: u64,
    pub(super) old: Option<Text>,
    pub(super) new: Option<Text>,
    /// As it was said with the write.
    pub(super) ttl: Option<Ttl>,
    pub(super) time: u64,
    pub(super) function: StreamFunction,
    pub(super) reply: Option<Reply>,
    /// The store has accepted it, and something before it has not had its turn.
    pub(super) is_accepted: bool,
}

/// An event that is not kept.
pub(super) struct Send {
    pub(super) id: Option<ItemId>,
    pub(super) kind: Box<str>,
    pub(super) data: Text,
    pub(super) time: u64,
    pub(super) call: Option<CallId>,
}

/// What was asked of a custom function.
pub(super) struct Custom {
    /// The call's name within the shard.
    pub(super) number: u64,
    /// Kept whole: if the function has gone, our own store is asked the same.
    pub(super) ask: Ask,
    /// Given out when it took its place, as those of the commands behind it; `None` where times are
    /// given out when commands have their turns.
    pub(super) time: Option<u64>,
    pub(super) answer: Option<CustomAnswer>,
}

/// What was asked of a store that decides.
pub(super) enum Asked {
    Change {
        function: StreamFunction,
        item: ItemId,
        call: Option<CallId>,
    },
    Get {
        call: CallId,
    },
    List {
        call: CallId,
    },
    Send(Send),
    Join(Join),
}

impl Waiting {
    /// Whether its turn comes with an answer, not by itself.
    pub(super) fn awaits_answer(&self) -> bool {
        match self {
            Waiting::Custom(custom) => custom.answer.is_none(),
            other => other.awaits_store(),
        }
    }

    /// Whether the store has still to answer it.
    pub(super) fn awaits_store(&self) -> bool {
        match self {
            Waiting::Write(write) => !write.is_accepted,
            Waiting::Asked(_, verdict) => verdict.is_none(),
            Waiting::Times { is_kept } => !is_kept,
            _ => false,
        }
    }

    /// Bytes of values that only it keeps.
    pub(super) fn held_bytes(&self) -> usize {
        let len = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Waiting::Write(write) => len(&write.new),
            Waiting::Send(send) => send.data.len(),
            Waiting::Channel(from) => from.held_bytes(),
            Waiting::Custom(custom) => {
                let answer = custom.answer.as_ref();
                custom.ask.held_bytes() + answer.map_or(0, CustomAnswer::held_bytes)
            }
            Waiting::Asked(Asked::Send(send), _) => send.data.len(),
            _ => 0,
        }
    }
}
