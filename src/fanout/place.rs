//! How far one socket is in one group's list, and which of the list's frames are for it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::id::{ItemId, SlotId};
use crate::protocol::frame::{EventFrame, SyncFrame};

use super::MOVED_ITEMS_MAX;
use super::list::List;

/// A socket's entry in a group. Without `extra` it has one subscription, to the whole group.
pub(super) struct Place {
    pub(super) connection: SlotId,
    /// The number of the first frame that it has not been given.
    pub(super) next: u64,
    pub(super) extra: Option<Box<Extra>>,
}

/// What only sockets with item subscriptions, or with several subscriptions in a group, have.
#[derive(Default)]
pub(super) struct Extra {
    /// Subscriptions to the whole group.
    pub(super) whole: u32,
    items: Items,
    /// How many frames of the event at `next` it has been given already.
    pub(super) copies: u32,
    /// Among watchers: it may lack something, from `next` on. Without it `next` means nothing.
    pub(super) due: bool,
    /// Where it stands among the group's due watchers, until the sweep that finds it not due ends.
    pub(super) listed: Option<u32>,
    /// Subscriptions entered while the socket was behind.
    entering: Option<Box<Entering>>,
}

/// How often each item is subscribed to. Most have one.
#[derive(Default)]
enum Items {
    #[default]
    None,
    One(ItemId, u32),
    Many(HashMap<ItemId, u32>),
}

#[derive(Default)]
struct Entering {
    late: Vec<Late>,
    /// `sync`s, each with the number of the frame before which it goes.
    syncs: VecDeque<(u64, Arc<SyncFrame>)>,
}

/// A subscription for which the frames before `from` are not.
struct Late {
    from: u64,
    item: Option<ItemId>,
}

impl Place {
    /// How many frames of that event it gets.
    pub(super) fn matches(&self, number: u64, frame: &EventFrame) -> u32 {
        match &self.extra {
            None => 1,
            Some(extra) => extra.matches(number, frame),
        }
    }

    /// Moves over frames that are not for it, to the first that it lacks; `send` takes the `sync`s
    /// that go before that.
    pub(super) fn catch_up(&mut self, list: &List, mut send: impl FnMut(Arc<SyncFrame>)) {
        let Some(extra) = &mut self.extra else {
            return;
        };
        loop {
            extra.pass(self.next, &mut send);
            let end = extra.next_sync().unwrap_or(u64::MAX);
            while self.next < end
                && let Some(frame) = list.frame(self.next)
                && extra.matches(self.next, frame) <= extra.copies
            {
                // Of an event that was begun a subscription may have left meanwhile.
                extra.copies = 0;
                self.next += 1;
            }
            if self.next < end {
                break;
            }
        }
        extra.due &= self.next < list.end();
        self.simplify();
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_with(|| {
            Box::new(Extra {
                whole: 1,
                ..Extra::default()
            })
        })
    }

    /// Whether it follows so few items that it may be moved between members and watchers.
    pub(super) fn may_move(&self) -> bool {
        let extra = self.extra.as_ref();
        extra.is_none_or(|extra| extra.items_len() <= MOVED_ITEMS_MAX)
    }

    /// Its subscriptions, those that are being entered included.
    pub(super) fn subscriptions_len(&self) -> usize {
        let Some(extra) = &self.extra else {
            return 1;
        };
        let late = extra
            .entering
            .as_ref()
            .map_or(0, |entering| entering.late.len());
        let of_items = match &extra.items {
            Items::None => 0,
            Items::One(_, count) => *count,
            Items::Many(counts) => counts.values().sum(),
        };
        (extra.whole + of_items) as usize + late
    }

    /// Its subscriptions to that item, or to the whole group.
    pub(super) fn equal_len(&self, item: Option<&ItemId>) -> usize {
        let Some(extra) = &self.extra else {
            return usize::from(item.is_none());
        };
        let standing = match item {
            None => extra.whole,
            Some(item) => extra.items.count(item),
        };
        let late = extra.entering.iter().flat_map(|entering| &entering.late);
        let late = late.filter(|late| late.item.as_ref() == item);
        standing as usize + late.count()
    }

    /// Bytes of the `sync`s that wait in it.
    pub(super) fn waiting_bytes(&self) -> usize {
        let extra = self.extra.as_ref();
        let entering = extra.and_then(|extra| extra.entering.as_ref());
        let syncs = entering.into_iter().flat_map(|entering| &entering.syncs);
        syncs.map(|(_, sync)| sync.len()).sum()
    }

    pub(super) fn check_invariants(&self) {
        let Some(extra) = &self.extra else {
            return;
        };
        debug_assert!(!extra.is_empty(), "no subscription is left");
        let Some(entering) = &extra.entering else {
            return;
        };
        debug_assert!(
            entering
                .syncs
                .iter()
                .is_sorted_by_key(|(before, _)| *before)
        );
    }

    /// Drops `extra` where it says nothing that its absence does not.
    pub(super) fn simplify(&mut self) {
        let says_nothing = |extra: &Extra| {
            extra.whole == 1
                && extra.copies == 0
                && extra.entering.is_none()
                && matches!(extra.items, Items::None)
        };
        if self.extra.as_deref().is_some_and(says_nothing) {
            self.extra = None;
        }
    }
}

impl Extra {
    fn matches(&self, number: u64, frame: &EventFrame) -> u32 {
        let of_items = frame.item().map_or(0, |item| self.items.count(item));
        let is_for = |late: &&Late| late.from <= number && late.matches(frame);
        let late = self
            .entering
            .as_ref()
            .map_or(0, |entering| entering.late.iter().filter(is_for).count());
        self.whole + of_items + late as u32
    }

    /// A subscription that gets every frame from now on.
    pub(super) fn add(&mut self, item: Option<ItemId>) {
        match item {
            None => self.whole += 1,
            Some(item) => self.items.add(item),
        }
    }

    /// A subscription that gets its `sync` before frame `from`, and the frames from there on.
    pub(super) fn add_late(
        &mut self,
        item: Option<ItemId>,
        from: u64,
        sync: Option<Arc<SyncFrame>>,
    ) {
        let entering = self.entering.get_or_insert_default();
        entering.late.push(Late { from, item });
        entering.syncs.extend(sync.map(|sync| (from, sync)));
    }

    /// Takes a subscription out.
    pub(super) fn remove(&mut self, item: Option<&ItemId>, from: u64) {
        if let Some(entering) = &mut self.entering {
            let is_it = |late: &Late| late.from == from && late.item.as_ref() == item;
            if let Some(found) = entering.late.iter().position(is_it) {
                entering.late.swap_remove(found);
                return;
            }
        }
        match item {
            None => self.whole = self.whole.saturating_sub(1),
            Some(item) => self.items.remove(item),
        }
    }

    /// Its place is `next` now: what was to be entered by then is, and the `sync`s due are given.
    fn pass(&mut self, next: u64, send: &mut impl FnMut(Arc<SyncFrame>)) {
        let Some(mut entering) = self.entering.take() else {
            return;
        };
        while entering
            .syncs
            .front()
            .is_some_and(|(before, _)| *before <= next)
        {
            if let Some((_, sync)) = entering.syncs.pop_front() {
                send(sync);
            }
        }
        for late in entering.late.extract_if(.., |late| late.from <= next) {
            self.add(late.item);
        }
        if !entering.late.is_empty() || !entering.syncs.is_empty() {
            self.entering = Some(entering);
        }
    }

    /// The frame before which a `sync` has to go, if one waits.
    pub(super) fn next_sync(&self) -> Option<u64> {
        let entering = self.entering.as_ref()?;
        entering.syncs.front().map(|(before, _)| *before)
    }

    /// Whether it follows the whole group, or will.
    pub(super) fn follows_whole(&self) -> bool {
        let late = self.entering.iter().flat_map(|entering| &entering.late);
        self.whole > 0 || late.into_iter().any(|late| late.item.is_none())
    }

    /// Subscriptions that are being entered.
    pub(super) fn late_len(&self) -> usize {
        let entering = self.entering.as_ref();
        entering.map_or(0, |entering| entering.late.len())
    }

    /// Whether no subscription is left.
    pub(super) fn is_empty(&self) -> bool {
        let has_late = self
            .entering
            .as_ref()
            .is_some_and(|entering| !entering.late.is_empty());
        self.whole == 0 && !has_late && matches!(self.items, Items::None)
    }

    /// The items that it follows, each once.
    pub(super) fn items(&self) -> Vec<ItemId> {
        let late = self.entering.iter().flat_map(|entering| &entering.late);
        let mut items: Vec<ItemId> = late.filter_map(|late| late.item.clone()).collect();
        match &self.items {
            Items::None => {}
            Items::One(item, _) => items.push(ItemId::clone(item)),
            Items::Many(counts) => items.extend(counts.keys().cloned()),
        }
        items.sort_unstable();
        items.dedup();
        items
    }

    /// How many items it follows, or a little more.
    pub(super) fn items_len(&self) -> usize {
        let late = self.entering.iter().flat_map(|entering| &entering.late);
        let late = late.filter(|late| late.item.is_some()).count();
        let standing = match &self.items {
            Items::None => 0,
            Items::One(..) => 1,
            Items::Many(counts) => counts.len(),
        };
        standing + late
    }

    /// Whether it still follows that item, or the whole group.
    pub(super) fn follows(&self, item: Option<&ItemId>) -> bool {
        let Some(name) = item else {
            return self.follows_whole();
        };
        let mut late = self.entering.iter().flat_map(|entering| &entering.late);
        self.items.count(name) > 0 || late.any(|late| late.item.as_ref() == item)
    }
}

impl Late {
    fn matches(&self, frame: &EventFrame) -> bool {
        match &self.item {
            None => true,
            Some(item) => frame.item() == Some(item),
        }
    }
}

impl Items {
    fn count(&self, name: &str) -> u32 {
        match self {
            Items::One(item, count) if **item == *name => *count,
            Items::None | Items::One(..) => 0,
            Items::Many(counts) => counts.get(name).copied().unwrap_or(0),
        }
    }

    fn add(&mut self, item: ItemId) {
        match self {
            Items::None => *self = Items::One(item, 1),
            Items::One(known, count) if *known == item => *count += 1,
            Items::One(known, count) => {
                *self = Items::Many(HashMap::from([(ItemId::clone(known), *count), (item, 1)]));
            }
            Items::Many(counts) => *counts.entry(item).or_insert(0) += 1,
        }
    }

    fn remove(&mut self, item: &ItemId) {
        let is_last = match self {
            Items::None => true,
            Items::One(_, count) => {
                *count -= 1;
                *count == 0
            }
            Items::Many(counts) => {
                if let Some(count) = counts.get_mut(item) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(item);
                    }
                }
                counts.is_empty()
            }
        };
        if is_last {
            *self = Items::None;
        }
    }
}
