//! A socket's joins that wait for functions or for their owner, and the messages that wait for them.
//!
//! Messages take effect in the order sent, per subscription id: while a join of an id waits, what
//! comes for the same id waits behind it; other ids go on side by side. No socket and no group here.

use std::collections::VecDeque;
use std::time::Instant;

use crate::id::{GroupKey, ItemId};
use crate::protocol::pace::Pace;

/// In place of a join's name: no socket joins, a fresh `sync` of the group is asked for.
pub const FRESH: u32 = u32::MAX;

/// What waits of one socket.
#[derive(Default)]
pub(super) struct Joins {
    pending: Vec<Pending>,
    waiting: VecDeque<Message>,
    /// How many of them are large: with one nothing more is read.
    large_len: usize,
    next_token: u32,
}

/// A join that is not done.
pub(super) struct Pending {
    pub(super) token: u32,
    pub(super) id: Box<str>,
    pub(super) key: GroupKey,
    pub(super) item: Option<ItemId>,
    pub(super) pace: Pace,
    pub(super) stage: Stage,
    /// When it was asked for.
    pub(super) began: Instant,
}

/// What a join waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Functions.
    Asked,
    /// The group's owner, which will let it in.
    Entering,
    /// The client, which has too much to take already: its owner is asked, or asked anew, when less
    /// waits.
    Parked,
}

/// One message of the client.
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) id: Box<str>,
    /// Some name of it is longer than those of joins may be.
    pub(super) is_large: bool,
}

pub(super) enum Kind {
    Join {
        key: GroupKey,
        item: Option<ItemId>,
        /// What it asks for. None: what may not be asked for.
        pace: Option<Pace>,
    },
    /// Only its id counts; functions are told the rest as the client wrote it.
    Leave { key: GroupKey, item: Option<ItemId> },
}

impl Joins {
    /// Whether a join of that id waits, so that this message has to.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.pending.iter().any(|pending| *pending.id == *id)
    }

    pub(super) fn wait(&mut self, message: Message) {
        self.large_len += usize::from(message.is_large);
        self.waiting.push_back(message);
    }

    /// Notes a join, and names it.
    pub(super) fn begin(
        &mut self,
        id: Box<str>,
        (key, item, pace): (GroupKey, Option<ItemId>, Pace),
        stage: Stage,
        began: Instant,
    ) -> u32 {
        let token = self.next_token;
        self.next_token = (token + 1) % FRESH;
        self.pending.push(Pending {
            token,
            id,
            key,
            item,
            pace,
            stage,
            began,
        });
        token
    }

    /// The join of that name waits for something else now.
    pub(super) fn move_to(&mut self, token: u32, stage: Stage) {
        let mut pending = self.pending.iter_mut();
        if let Some(pending) = pending.find(|pending| pending.token == token) {
            pending.stage = stage;
        }
    }

    /// The oldest join that is parked.
    pub(super) fn first_parked(&self) -> Option<&Pending> {
        let mut pending = self.pending.iter();
        pending.find(|pending| pending.stage == Stage::Parked)
    }

    /// Joins to that item, or to the whole group, that are not done.
    pub(super) fn equal_len(&self, key: &GroupKey, item: Option<&ItemId>) -> usize {
        let is_equal = |pending: &&Pending| pending.item.as_ref() == item && pending.key == *key;
        self.pending.iter().filter(is_equal).count()
    }

    /// The socket ended: joins that were admitted and have not entered, in the order sent.
    pub(super) fn into_admitted(
        self,
    ) -> impl Iterator<Item = (Box<str>, GroupKey, Option<ItemId>)> {
        let pending = self.pending.into_iter();
        pending.filter_map(|pending| match pending.stage {
            Stage::Asked => None,
            Stage::Entering | Stage::Parked => Some((pending.id, pending.key, pending.item)),
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
        let message = self.waiting.remove(found)?;
        self.large_len -= usize::from(message.is_large);
        Some(message)
    }

    pub(super) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no more than that may wait.
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.large_len > 0 || self.pending.len() + self.waiting.len() >= most
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(group: &str) -> (GroupKey, Option<ItemId>, Pace) {
        (GroupKey::new("s", group), None, Pace::NONE)
    }

    fn leave(id: &str) -> Message {
        Message {
            kind: Kind::Leave {
                key: GroupKey::new("s", "g"),
                item: None,
            },
            id: id.into(),
            is_large: false,
        }
    }

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn nothing_more_may_wait_behind_a_message_with_long_names() {
        let mut joins = Joins::default();
        let token = joins.begin("a".into(), group("g"), Stage::Asked, now());
        joins.wait(Message {
            is_large: true,
            ..leave("a")
        });
        assert!(joins.is_full(64));
        joins.end(token);
        assert!(joins.next_of("a").is_some() && !joins.is_full(64));
    }

    #[test]
    fn messages_of_an_id_wait_for_its_join_and_others_do_not() {
        let mut joins = Joins::default();
        let token = joins.begin("a".into(), group("g"), Stage::Asked, now());
        assert!(joins.holds("a") && !joins.holds("b"));
        joins.wait(leave("a"));
        assert!(joins.next_of("a").is_none());
        joins.move_to(token, Stage::Entering);
        assert!(joins.holds("a"), "admitted is not entered");
        assert!(joins.end(token).is_some_and(|pending| *pending.id == *"a"));
        assert!(joins.next_of("a").is_some() && joins.next_of("a").is_none());
        assert!(joins.is_empty() && joins.end(token).is_none());
    }

    #[test]
    fn only_admitted_joins_are_owed_a_leave_when_the_socket_ends() {
        let mut joins = Joins::default();
        let first = joins.begin("a".into(), group("h"), Stage::Asked, now());
        joins.begin("b".into(), group("g"), Stage::Parked, now());
        joins.begin("c".into(), group("g"), Stage::Asked, now());
        joins.wait(leave("b"));
        assert!(
            joins
                .first_parked()
                .is_some_and(|parked| *parked.id == *"b")
        );
        let (key, ..) = group("g");
        assert_eq!(joins.equal_len(&key, None), 2);
        assert_eq!(joins.equal_len(&key, Some(&"u".into())), 0);
        joins.move_to(first, Stage::Entering);
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
        for n in 0..3 {
            joins.begin(n.to_string().into(), group("g"), Stage::Asked, now());
        }
        assert!(!joins.is_full(4));
        joins.wait(leave("0"));
        assert!(joins.is_full(4));
    }
}
