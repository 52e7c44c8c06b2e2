//! What a group has beside its items while somebody follows it in a store that other hosts use as well.
//!
//! Data alone: `shared`, `channel` and `taking_in` change it.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::id::{ItemId, Text};

use super::coming::Coming;
use super::command::Join;

/// What a group has while somebody follows it.
#[derive(Default)]
pub(super) struct Following {
    /// It was read since somebody follows it: from then on everything is heard.
    pub(super) is_heard: bool,
    /// Its items are all that the store has, up to what was heard last.
    pub(super) is_whole: bool,
    /// Until then: what those who follow single items were last told of them.
    pub(super) singles: BTreeMap<ItemId, Option<Text>>,
    /// Somebody has joined a single item since it is followed.
    pub(super) has_singles: bool,
    /// Items of which clients may have passed over the last event.
    pub(super) passed_over: HashSet<Box<str>>,
    /// Somebody has entered without a `sync`: the next reading is one.
    pub(super) owes_sync: bool,
    /// All items were asked for; joins wait for the answer.
    pub(super) is_asked: bool,
    /// Joins that have not entered.
    pub(super) joins: usize,
    /// The store's time of the last change that was heard.
    pub(super) heard: u64,
    /// The store's time when a join has last read all items. A change may have come in the same
    /// millisecond, before it or after it.
    pub(super) read: u64,
    /// The store's time of the last change of ours that was answered.
    pub(super) answered: u64,
    /// Joins that come after an answer whose change has not been heard yet, and its time: they are
    /// to see it.
    pub(super) behind: VecDeque<(u64, Join)>,
    /// What the store has told with the front of the queue, while it is long in being taken in.
    pub(super) coming: Option<Box<Coming>>,
}

impl Following {
    /// A join has read all items: what was answered before it is among them.
    pub(super) fn has_read(&mut self, time: u64) {
        self.read = time;
        self.heard = self.heard.max(time.saturating_sub(1));
        if self.answered <= time {
            self.answered = 0;
        }
    }

    /// Puts a join behind the event of what was answered and is not among the items yet. Given back if there
    /// is nothing of the kind.
    pub(super) fn put_behind(&mut self, join: Join) -> Option<Join> {
        if !self.is_whole || self.heard >= self.answered {
            return Some(join);
        }
        self.behind.push_back((self.answered, join));
        None
    }

    /// Drops a part with each step: all of it at once may be long.
    pub(super) fn drop_in_steps(self) -> impl Iterator<Item = ()> + Send {
        let singles = self.singles.into_iter().map(drop);
        singles.chain(self.passed_over.into_iter().map(drop))
    }

    pub(super) fn has_joins(&self) -> bool {
        self.joins > 0
    }
}
