//! What readers far behind still lack of a group, with every item once: its last change, and for which
//! readers that is a `create`, an `update`, a `delete` or nothing; and the last custom events.
//!
//! A reader that stands here has been given every frame before its place and none behind it. What it
//! held of an item before that item's change is noted by its views: by their places it could not be told,
//! for readers pass one another here.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::collections::{Index, Slots};
use crate::id::ItemId;
use crate::protocol::frame::{EventFrame, Kind};

use super::order::{Entry, Order};
use super::views::{Change, HeldBefore, Standpoints, View};

/// Frames by number, with gaps: those between are superseded.
#[derive(Default)]
pub(super) struct KeptFrames {
    frames: Slots<Kept>,
    order: Order,
    /// The changes, by item.
    by_item: Index,
    hasher: DefaultHashBuilder,
    customs: Customs,
    /// Of the frames, and of what is noted of readers.
    bytes: usize,
}

struct Kept {
    number: u64,
    frame: Arc<EventFrame>,
    /// Of the item's name.
    hash: u64,
    held: HeldBefore,
}

#[derive(Default)]
struct Customs {
    /// Numbers of the last ones, as many as a subscription may have waiting.
    last: VecDeque<u64>,
    /// Those of each item that are here, and those of none. Watchers of an item hear of it alone, so
    /// that theirs reach further back.
    by_item: BTreeMap<Option<Box<str>>, VecDeque<u64>>,
    bytes: usize,
    dropped: u64,
}

/// What is known of the group's readers beside where they stand.
pub(super) struct Rules<'a> {
    /// How many custom events may wait for a subscription.
    pub(super) customs_most: usize,
    /// Whether somebody follows that item by itself.
    pub(super) is_watched: &'a dyn Fn(&str) -> bool,
    /// The views that a `sync` tells of the item between two of its changes: see [`Change`].
    pub(super) told: &'a dyn Fn(&str, &Change) -> Vec<View>,
}

/// One frame, as a reader finds it.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) number: u64,
    pub(super) frame: &'a Arc<EventFrame>,
    past: Past<'a>,
}

#[derive(Clone, Copy)]
enum Past<'a> {
    /// Every reader gets it as it is.
    Recent,
    /// A change of an item, which some held before.
    Held(&'a HeldBefore),
    /// A custom event. Void for those of the whole group: too many came behind it.
    Custom { is_void: bool },
}

impl<'a> Found<'a> {
    /// One that nobody is too far behind for.
    pub(super) fn recent(number: u64, frame: &'a Arc<EventFrame>) -> Found<'a> {
        let past = Past::Recent;
        Found {
            number,
            frame,
            past,
        }
    }

    /// What it is to that view; `None`: nothing has changed for it.
    pub(super) fn kind_for(&self, view: View) -> Option<Kind> {
        match self.past {
            Past::Held(held) => held.kind_for(view, self.frame.kind()),
            Past::Recent | Past::Custom { .. } => Some(self.frame.kind()),
        }
    }

    /// What it is to the views of the whole group, but [`Found::except`].
    pub(super) fn kind_for_most(&self) -> Option<Kind> {
        match self.past {
            Past::Recent => Some(self.frame.kind()),
            Past::Held(held) => held.kind_for_most(self.frame.kind()),
            Past::Custom { is_void } => (!is_void).then_some(Kind::Custom),
        }
    }

    /// The views to which it is something else, sorted.
    pub(super) fn except(&self) -> &'a [View] {
        match self.past {
            Past::Held(held) => held.except(),
            Past::Recent | Past::Custom { .. } => &[],
        }
    }

    /// Whether it is a custom event that subscriptions of the whole group get no more.
    pub(super) fn is_void_custom(&self) -> bool {
        matches!(self.past, Past::Custom { is_void: true })
    }
}

impl KeptFrames {
    /// The frame with the next number: it supersedes the change of its item that is here. Those whom the
    /// standpoints leave out have been given it. Gives by how much a `sync` of the group grew with it, as
    /// far as that is known.
    pub(super) fn keep(
        &mut self,
        number: u64,
        frame: Arc<EventFrame>,
        standpoints: &Standpoints,
        rules: &Rules<'_>,
    ) -> isize {
        match frame.kind() {
            Kind::Custom => {
                self.keep_custom(number, frame, standpoints, rules);
                0
            }
            Kind::Create | Kind::Update | Kind::Delete => {
                self.keep_change(number, frame, standpoints, rules)
            }
        }
    }

    fn keep_change(
        &mut self,
        number: u64,
        frame: Arc<EventFrame>,
        standpoints: &Standpoints,
        rules: &Rules<'_>,
    ) -> isize {
        let hash = self.hasher.hash_one(frame.item());
        let was_there = frame.kind() != Kind::Create;
        let mut held = HeldBefore::by_all(was_there);
        let mut was_len = frame.data_len();
        if let Some(older) = self.change_of(hash, frame.item()) {
            let change = Change {
                supersedes: older.number,
                number,
                was_there,
            };
            let told = || (rules.told)(frame.item().map_or("", |item| item), &change);
            held = older.held.after(&change, standpoints, told);
            was_len = older.frame.data_len();
            self.forget(older.number);
        }
        let len = frame.data_len() as isize;
        let grown = match frame.kind() {
            Kind::Create => len + 1,
            Kind::Delete => -len - 1,
            Kind::Update | Kind::Custom => len - was_len as isize,
        };
        if frame.kind() == Kind::Delete && held.is_by_none() {
            return grown; // it came and went, and none of them has heard of it
        }
        let slot = self.frames.insert(Kept {
            number,
            frame,
            hash,
            held,
        });
        let frames = &self.frames;
        let hash_of = |slot| frames.get(slot).map_or(0, |kept| kept.hash);
        self.by_item.insert(hash, slot, hash_of);
        self.enter(number, slot);
        grown
    }

    fn keep_custom(
        &mut self,
        number: u64,
        frame: Arc<EventFrame>,
        standpoints: &Standpoints,
        rules: &Rules<'_>,
    ) {
        let item = frame.item().map(Box::from);
        self.customs.bytes += frame.wire().len();
        let slot = self.frames.insert(Kept {
            number,
            frame,
            hash: 0,
            held: HeldBefore::default(),
        });
        self.enter(number, slot);
        self.customs.last.push_back(number);
        let of_item = self.customs.by_item.entry(item).or_default();
        of_item.push_back(number);
        let oldest = (of_item.len() > rules.customs_most).then(|| of_item[0]);
        self.drop_old_customs(standpoints, rules);
        // As many of this item alone came behind that one.
        if let Some(oldest) = oldest.filter(|oldest| self.frame_at(*oldest).is_some()) {
            self.customs.dropped += u64::from(!standpoints.is_whole);
            self.forget(oldest);
        }
    }

    /// Those that too many have come behind, unless watchers of their items get them still.
    fn drop_old_customs(&mut self, standpoints: &Standpoints, rules: &Rules<'_>) {
        while self.customs.last.len() > rules.customs_most
            && let Some(oldest) = self.customs.last.pop_front()
        {
            let frame = self.frame_at(oldest);
            let is_kept = frame
                .and_then(|frame| frame.item())
                .is_some_and(|item| (rules.is_watched)(item));
            self.customs.dropped += u64::from(standpoints.is_whole || !is_kept);
            if !is_kept {
                self.forget(oldest);
            }
        }
    }

    /// The change of that item that is here.
    fn change_of(&self, hash: u64, item: Option<&str>) -> Option<&Kept> {
        let is_it = |slot| {
            let kept = self.frames.get(slot);
            kept.is_some_and(|kept| kept.hash == hash && kept.frame.item() == item)
        };
        self.frames.get(self.by_item.find(hash, is_it)?)
    }

    fn enter(&mut self, number: u64, slot: u32) {
        let Some(kept) = self.frames.get(slot) else {
            return;
        };
        self.bytes += kept.held_bytes();
        self.order.push(Entry {
            number,
            slot,
            bytes: kept.frame.wire().len() as u32,
        });
    }

    fn take_out(&mut self, number: u64) -> Option<Kept> {
        let entry = self.order.remove(number)?;
        let kept = self.frames.remove(entry.slot)?;
        self.bytes -= kept.held_bytes();
        if kept.frame.kind() != Kind::Custom {
            self.by_item.remove(kept.hash, |slot| slot == entry.slot);
        }
        Some(kept)
    }

    /// The frame of that number goes.
    fn forget(&mut self, number: u64) {
        let Some(kept) = self.take_out(number) else {
            return;
        };
        if kept.frame.kind() != Kind::Custom {
            return;
        }
        let customs = &mut self.customs;
        customs.bytes -= kept.frame.wire().len();
        customs.last.pop_front_if(|first| *first <= number);
        let item = kept.frame.item().map(Box::from);
        if let Some(of_item) = customs.by_item.get_mut(&item) {
            of_item.pop_front_if(|first| *first <= number);
            if of_item.is_empty() {
                customs.by_item.remove(&item);
            }
        }
    }

    /// So many at most of the frames before that number go; true when all have gone.
    pub(super) fn forget_before(&mut self, number: u64, most: usize) -> bool {
        for _ in 0..most {
            match self.order.first() {
                Some(first) if first.number < number => self.forget(first.number),
                _ => return true,
            }
        }
        self.order
            .first()
            .is_none_or(|first| first.number >= number)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame of that number.
    pub(super) fn frame_at(&self, number: u64) -> Option<&Arc<EventFrame>> {
        let found = self.first_from(number)?;
        (found.number == number).then_some(found.frame)
    }

    /// The first frame at that number or behind it.
    pub(super) fn first_from(&self, number: u64) -> Option<Found<'_>> {
        let entry = self.order.first_from(number)?;
        let kept = self.frames.get(entry.slot)?;
        let past = if kept.frame.kind() == Kind::Custom {
            let first = self.customs.last.front();
            let is_void = first.is_none_or(|first| *first > entry.number);
            Past::Custom { is_void }
        } else {
            Past::Held(&kept.held)
        };
        Some(Found {
            number: entry.number,
            frame: &kept.frame,
            past,
        })
    }

    /// The number of the first custom event there or behind that subscriptions of the whole group get.
    pub(super) fn custom_from(&self, number: u64) -> Option<u64> {
        let last = &self.customs.last;
        last.get(last.partition_point(|custom| *custom < number))
            .copied()
    }

    /// The number of the first frame of that item there or behind.
    pub(super) fn item_from(&self, item: &ItemId, number: u64) -> Option<u64> {
        let hash = self.hasher.hash_one(Some(item));
        let change = self.change_of(hash, Some(&**item)).map(|kept| kept.number);
        let change = change.filter(|change| *change >= number);
        let customs = &self.customs.by_item;
        let customs = (!customs.is_empty()).then(|| customs.get(&Some(Box::from(&**item))));
        let custom = customs.flatten().and_then(|customs| {
            let first = customs.partition_point(|custom| *custom < number);
            customs.get(first).copied()
        });
        change.into_iter().chain(custom).min()
    }

    /// Bytes from that number on.
    pub(super) fn bytes_from(&self, number: u64) -> usize {
        self.order.bytes_from(number)
    }

    /// Bytes of all that is here.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Of these, those of custom events.
    pub(super) fn custom_bytes(&self) -> usize {
        self.customs.bytes
    }

    /// Custom events that somebody has lost since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.customs.dropped)
    }

    pub(super) fn check_invariants(&self) {
        let mut bytes = 0;
        for (slot, kept) in self.frames.iter() {
            bytes += kept.held_bytes();
            let entry = self.order.first_from(kept.number);
            debug_assert!(entry.is_some_and(|entry| entry.slot == slot));
            debug_assert!(kept.held.except().is_sorted());
        }
        debug_assert_eq!(self.bytes, bytes);
        let of_items = self.customs.by_item.values().map(VecDeque::len);
        debug_assert!(self.customs.last.len() <= of_items.sum());
    }
}

impl Kept {
    fn held_bytes(&self) -> usize {
        self.frame.wire().len() + self.held.held_bytes()
    }
}
