//! A socket's joins that wait for functions or for their owner, and the messages that wait for them.
//!
//! Messages take effect in the order sent, per subscription id: while a join of an id waits, what
//! comes for the same id waits behind it; other ids go on side by side. No socket and no group here.

use std::collections::VecDeque;

use crate::id::{GroupKey, ItemId};

/// Messages that may wait per socket, joins that wait for functions or their `sync` included. At that number the
/// socket is not read until one is done.
pub(super) const WAITING_MAX: usize = 64;

/// What waits of one socket.
#[derive(Default)]
pub(super) struct Joins {
    pending: Vec<Pending>,
    waiting: VecDeque<Message>,
    next_token: u32,
}

/// A join that is not done.
pub(super) struct Pending {
    pub(super) token: u32,
    pub(super) id: Box<str>,
    pub(super) stage: Stage,
}

/// What a join waits for.
pub(super) enum Stage {
    /// Functions: the engine has its names.
    Asked,
    /// The group's owner, which will let it in.
    Entering { key: GroupKey, item: Option<ItemId> },
}

/// One message of the client.
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) id: Box<str>,
}

pub(super) enum Kind {
    Join {
        key: GroupKey,
        item: Option<ItemId>,
    },
    /// Only its id counts; functions are told the rest as the client wrote it.
    Leave {
        key: GroupKey,
        item: Option<ItemId>,
    },
}

impl Joins {
    /// Whether a join of that id waits, so that this message has to.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.pending.iter().any(|pending| *pending.id == *id)
    }

    pub(super) fn wait(&mut self, message: Message) {
        self.waiting.push_back(message);
    }

    /// Notes a join, and names it.
    pub(super) fn begin(&mut self, id: Box<str>, stage: Stage) -> u32 {
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        self.pending.push(Pending { token, id, stage });
        token
    }

    /// The functions admit the join of that name: it waits for its owner now.
    pub(super) fn admit(&mut self, token: u32, key: GroupKey, item: Option<ItemId>) {
        let mut pending = self.pending.iter_mut();
        if let Some(pending) = pending.find(|pending| pending.token == token) {
            pending.stage = Stage::Entering { key, item };
        }
    }

    /// The socket ended: joins that were admitted and have not entered, in the order sent.
    pub(super) fn into_admitted(
        self,
    ) -> impl Iterator<Item = (Box<str>, GroupKey, Option<ItemId>)> {
        let pending = self.pending.into_iter();
        pending.filter_map(|pending| match pending.stage {
            Stage::Asked => None,
            Stage::Entering { key, item } => Some((pending.id, key, item)),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entering(group: &str) -> Stage {
        Stage::Entering {
            key: GroupKey::new("s", group),
            item: None,
        }
    }

    fn leave(id: &str) -> Message {
        Message {
            kind: Kind::Leave {
                key: GroupKey::new("s", "g"),
                item: None,
            },
            id: id.into(),
        }
    }

    #[test]
    fn messages_of_an_id_wait_for_its_join_and_others_do_not() {
        let mut joins = Joins::default();
        let token = joins.begin("a".into(), Stage::Asked);
        assert!(joins.holds("a") && !joins.holds("b"));
        joins.wait(leave("a"));
        assert!(joins.next_of("a").is_none());
        joins.admit(token, GroupKey::new("s", "g"), None);
        assert!(joins.holds("a"), "admitted is not entered");
        assert!(joins.end(token).is_some_and(|pending| *pending.id == *"a"));
        assert!(joins.next_of("a").is_some() && joins.next_of("a").is_none());
        assert!(joins.is_empty() && joins.end(token).is_none());
    }

    #[test]
    fn only_admitted_joins_are_owed_a_leave_when_the_socket_ends() {
        let mut joins = Joins::default();
        let first = joins.begin("a".into(), Stage::Asked);
        joins.begin("b".into(), entering("g"));
        joins.begin("c".into(), Stage::Asked);
        joins.wait(leave("b"));
        joins.admit(first, GroupKey::new("s", "h"), None);
        let owed = joins.into_admitted();
        let owed: Vec<_> = owed
            .map(|(id, key, _)| (id.to_string(), key.group().to_owned()))
            .collect();
        assert_eq!(
            owed,
            [("a", "h"), ("b", "g")].map(|(id, group)| (id.to_owned(), group.to_owned()))
        );
    }

    #[test]
    fn joins_that_are_asked_about_count_among_what_may_wait() {
        let mut joins = Joins::default();
        for n in 0..WAITING_MAX - 1 {
            joins.begin(n.to_string().into(), Stage::Asked);
        }
        assert!(!joins.is_full());
        joins.wait(leave("0"));
        assert!(joins.is_full());
    }
}
