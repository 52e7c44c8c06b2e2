//! Events whose watchers have not been marked yet. An event of an item with very many watchers marks
//! nobody by itself: the sweep does, within its budget.
//!
//! May not know the watchers.

use std::collections::VecDeque;

use hashbrown::HashSet;

use crate::id::ItemId;

/// In the order of the events. An item has at most one that has begun, the first, and one behind it.
#[derive(Default)]
pub(super) struct Marks {
    queue: VecDeque<Mark>,
    /// Of which items there is one that has not begun; `None`: of those who follow the whole group.
    waiting: HashSet<Option<ItemId>>,
}

/// Watchers to be marked.
pub(super) struct Mark {
    /// Of that item; `None`: those who follow the whole group.
    pub(super) item: Option<ItemId>,
    /// The number of the first event that they may lack.
    pub(super) from: u64,
    /// Those before this one are marked.
    pub(super) at: usize,
    has_begun: bool,
}

impl Marks {
    /// An event of that number came. One that has not begun covers it.
    pub(super) fn add(&mut self, item: Option<&ItemId>, from: u64) {
        let item = item.cloned();
        if !self.waiting.contains(&item) {
            self.waiting.insert(item.clone());
            self.queue.push_back(Mark {
                item,
                from,
                at: 0,
                has_begun: false,
            });
        }
    }

    /// The number of the first event whose watchers are not all marked.
    pub(super) fn first(&self) -> Option<u64> {
        self.queue.front().map(|mark| mark.from)
    }

    /// The oldest, which begins.
    pub(super) fn begin(&mut self) -> Option<&mut Mark> {
        let mark = self.queue.front_mut()?;
        if !std::mem::replace(&mut mark.has_begun, true) {
            self.waiting.remove(&mark.item);
        }
        Some(mark)
    }

    /// The oldest has come to its end.
    pub(super) fn end(&mut self) {
        self.queue.pop_front();
    }

    /// How far the oldest is, if it is of that item.
    pub(super) fn begun_at(&mut self, item: Option<&ItemId>) -> Option<&mut usize> {
        let mark = self.queue.front_mut()?;
        (mark.item.as_ref() == item).then_some(&mut mark.at)
    }
}
