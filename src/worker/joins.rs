//! A socket's joins that wait for their owner, and the messages that wait for them.
//!
//! Messages take effect in the order sent, per subscription id: while a join of an id waits, what
//! comes for the same id waits behind it; other ids go on side by side. No socket and no group here.

use std::collections::VecDeque;

use crate::id::{GroupKey, ItemId};

/// Messages that may wait per socket, joins that wait for their `sync` included. At that number the
/// socket is not read until one is done.
pub(super) const WAITING_MAX: usize = 64;

/// What waits of one socket.
#[derive(Default)]
pub(super) struct Joins {
    pending: Vec<Pending>,
    waiting: VecDeque<Message>,
    next_token: u32,
}

/// A join that was sent to the group's owner.
pub(super) struct Pending {
    pub(super) token: u32,
    pub(super) id: Box<str>,
    pub(super) item: Option<ItemId>,
}

/// One message of the client.
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) id: Box<str>,
}

pub(super) enum Kind {
    Join { key: GroupKey, item: Option<ItemId> },
    Leave,
}

impl Joins {
    /// Whether a join of that id waits, so that this message has to.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.pending.iter().any(|pending| *pending.id == *id)
    }

    pub(super) fn wait(&mut self, message: Message) {
        self.waiting.push_back(message);
    }

    /// Notes a join that is sent to the owner, and names it.
    pub(super) fn begin(&mut self, id: Box<str>, item: Option<ItemId>) -> u32 {
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        self.pending.push(Pending { token, id, item });
        token
    }

    /// The join of that name has its answer.
    pub(super) fn end(&mut self, token: u32) -> Option<Pending> {
        let found = self
            .pending
            .iter()
            .position(|pending| pending.token == token)?;
        Some(self.pending.remove(found))
    }

    /// The first message of that id that waited, if nothing holds it any more.
    pub(super) fn next_of(&mut self, id: &str) -> Option<Message> {
        if self.holds(id) {
            return None;
        }
        let found = self.waiting.iter().position(|message| *message.id == *id)?;
        self.waiting.remove(found)
    }

    pub(super) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() + self.waiting.len() >= WAITING_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.waiting.is_empty()
    }
}
