//! What waits in a socket's place in a group until the frames before it are given: subscriptions that
//! entered while the socket was behind, and `sync`s in their order.
//!
//! May not know how far the place is.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::ItemId;
use crate::protocol::frame::{EventFrame, SyncFrame};

use super::views::Change;

/// Nothing, for most places, costs no more than a pointer.
#[derive(Default)]
pub(super) struct Entering(Option<Box<Waits>>);

#[derive(Default)]
struct Waits {
    late: Vec<Late>,
    /// In the order of the frames before which they go.
    syncs: VecDeque<Waiting>,
}

/// A subscription for which the frames before `from` are not.
struct Late {
    from: u64,
    item: Option<ItemId>,
}

/// A `sync` that waits.
struct Waiting {
    /// The number of the frame before which it goes.
    before: u64,
    sync: Arc<SyncFrame>,
    /// Of one item; `None`: of the whole group.
    item: Option<ItemId>,
    what_for: SyncFor,
}

/// What a `sync` is sent for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncFor {
    /// It answers a join, which has one.
    Join,
    /// It takes the place of changes, and a newer one may take its own.
    Fresh,
}

impl Entering {
    /// A subscription that gets the frames from that one on.
    pub(super) fn add(&mut self, from: u64, item: Option<ItemId>) {
        let waits = self.0.get_or_insert_default();
        waits.late.push(Late { from, item });
    }

    /// A `sync` that goes before that frame; none that waits goes behind it.
    pub(super) fn add_sync(
        &mut self,
        before: u64,
        sync: Arc<SyncFrame>,
        item: Option<ItemId>,
        what_for: SyncFor,
    ) {
        let waits = self.0.get_or_insert_default();
        waits.syncs.push_back(Waiting {
            before,
            sync,
            item,
            what_for,
        });
    }

    /// Takes a subscription out; false where it does not wait.
    pub(super) fn remove(&mut self, from: u64, item: Option<&ItemId>) -> bool {
        let Some(waits) = &mut self.0 else {
            return false;
        };
        let is_it = |late: &Late| late.from == from && late.item.as_ref() == item;
        let Some(found) = waits.late.iter().position(is_it) else {
            return false;
        };
        waits.late.swap_remove(found);
        true
    }

    /// All before that frame are given: subscriptions that waited for that are entered, and `sync`s sent.
    pub(super) fn pass(
        &mut self,
        next: u64,
        send: &mut impl FnMut(Arc<SyncFrame>),
        mut enter: impl FnMut(Option<ItemId>),
    ) {
        let Some(waits) = &mut self.0 else {
            return;
        };
        let syncs = &mut waits.syncs;
        while let Some(due) = syncs.pop_front_if(|waiting| waiting.before <= next) {
            send(due.sync);
        }
        for late in waits.late.extract_if(.., |late| late.from <= next) {
            enter(late.item);
        }
        if waits.late.is_empty() && waits.syncs.is_empty() {
            self.0 = None;
        }
    }

    /// `sync`s that answer no join go; gives their bytes.
    pub(super) fn void_fresh(&mut self) -> usize {
        let before = self.waiting_bytes();
        if let Some(waits) = &mut self.0 {
            let stays = |waiting: &Waiting| waiting.what_for == SyncFor::Join;
            waits.syncs.retain(stays);
        }
        before - self.waiting_bytes()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many subscriptions wait.
    pub(super) fn len(&self) -> usize {
        self.late().count()
    }

    /// What each of them follows: an item, or the whole group.
    pub(super) fn items(&self) -> impl Iterator<Item = Option<&ItemId>> {
        self.late().map(|late| late.item.as_ref())
    }

    /// The same of those that the frame of that number is for.
    pub(super) fn matching(
        &self,
        number: u64,
        frame: &EventFrame,
    ) -> impl Iterator<Item = Option<&ItemId>> {
        let late = self.late().filter(move |late| late.from <= number);
        let items = late.map(|late| late.item.as_ref());
        items.filter(|item| item.is_none_or(|item| frame.item() == Some(item)))
    }

    /// The frame before which the first `sync` goes.
    pub(super) fn next_sync(&self) -> Option<u64> {
        self.syncs().next().map(|waiting| waiting.before)
    }

    /// The same of the last one.
    pub(super) fn last_sync(&self) -> Option<u64> {
        self.syncs().next_back().map(|waiting| waiting.before)
    }

    /// The same of the last one of the whole group.
    pub(super) fn last_sync_of_group(&self) -> Option<u64> {
        let mut of_group = self.syncs().filter(|waiting| waiting.item.is_none());
        of_group.next_back().map(|waiting| waiting.before)
    }

    /// Whether a `sync` of the item comes between those changes.
    pub(super) fn is_told(&self, item: &str, change: &Change) -> bool {
        let Some(waits) = &self.0 else {
            return false;
        };
        let syncs = &waits.syncs;
        let first = syncs.partition_point(|waiting| waiting.before <= change.supersedes);
        syncs
            .range(first..)
            .take_while(|waiting| change.is_after_sync(waiting.before))
            .any(|waiting| waiting.item.as_deref() == Some(item))
    }

    /// Bytes of the `sync`s.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.syncs().map(|waiting| waiting.sync.len()).sum()
    }

    pub(super) fn check_invariants(&self) {
        debug_assert!(self.syncs().is_sorted_by_key(|waiting| waiting.before));
    }

    fn late(&self) -> impl Iterator<Item = &Late> {
        self.0.iter().flat_map(|waits| &waits.late)
    }

    fn syncs(&self) -> impl DoubleEndedIterator<Item = &Waiting> {
        self.0.iter().flat_map(|waits| &waits.syncs)
    }
}
