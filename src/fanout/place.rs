//! How far one socket is in one group's list, and which of the list's frames are for it.

use std::sync::Arc;

use crate::id::{ItemId, SlotId};
use crate::protocol::frame::{EventFrame, Kind, SyncFrame};

use super::MOVED_ITEMS_MAX;
use super::entering::{Entering, SyncFor};
use super::item_counts::ItemCounts;
use super::kept::Found;
use super::list::List;
use super::views::{Change, View};

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
    items: ItemCounts,
    /// How many frames of the event at `next` it has been given already.
    pub(super) copies: u32,
    /// Among watchers: it may lack something, from `next` on. Without it `next` means nothing.
    pub(super) due: bool,
    /// Where it stands among the group's due watchers, until the sweep that finds it not due ends.
    pub(super) listed: Option<u32>,
    /// Changes before this number are void for subscriptions to the whole group: a `sync` follows that
    /// has them.
    void_before: u64,
    /// Changes before this number are void for subscriptions to items: each begins anew.
    items_void_before: u64,
    entering: Entering,
}

/// What a place gets of one frame of the list.
pub(super) struct Given<'a> {
    pub(super) number: u64,
    pub(super) frame: &'a Arc<EventFrame>,
    /// How often: at least once.
    pub(super) times: u32,
    pub(super) kind: Kind,
}

impl Place {
    /// The first frame that it gets from `number` on and before `end`, of which it has been given so
    /// many copies already if that frame is its next.
    pub(super) fn first_given<'a>(
        &self,
        list: &'a List,
        mut number: u64,
        end: u64,
        copies: u32,
    ) -> Option<Given<'a>> {
        let mut passed = 0;
        loop {
            // As many frames were passed as there are items to be looked up.
            if list.is_past(number)
                && let Some(extra) = &self.extra
                && passed >= extra.items_len()
            {
                number = extra.first_past(list, number);
                passed = 0;
            }
            if number >= end {
                return None;
            }
            let found = list.first_from(number).filter(|found| found.number < end)?;
            let given = if found.number == self.next { copies } else { 0 };
            let (times, kind) = self.matches(&found);
            if times > given {
                return Some(Given {
                    number: found.number,
                    frame: found.frame,
                    times,
                    kind,
                });
            }
            number = found.number + 1;
            passed += 1;
        }
    }

    /// How many frames of that event it gets, and as what.
    fn matches(&self, found: &Found<'_>) -> (u32, Kind) {
        let mut kind = found.kind_for(View::of_group(self.connection.slot));
        let Some(extra) = &self.extra else {
            let gets_it = kind.is_some() && !found.is_void_custom();
            return (u32::from(gets_it), kind.unwrap_or(Kind::Delete));
        };
        let (mut whole, mut of_items) = extra.matches(found.number, found.frame);
        let is_custom = found.frame.kind() == Kind::Custom;
        let is_void = match is_custom {
            true => found.is_void_custom(),
            false => found.number < extra.void_before,
        };
        if is_void || kind.is_none() {
            whole = 0;
        }
        if !is_custom && found.number < extra.items_void_before {
            of_items = 0;
        }
        if of_items > 0 {
            let of_item = found.kind_for(View::of_items(self.connection.slot));
            of_items *= u32::from(of_item.is_some());
            // A frame does not tell for which subscription it is: those of the whole group need the kind.
            kind = if whole > 0 { kind } else { of_item };
        }
        (whole + of_items, kind.unwrap_or(Kind::Delete))
    }

    /// Moves over frames that are not for it, to the first that it lacks; `send` takes the `sync`s
    /// that go before that.
    pub(super) fn catch_up(&mut self, list: &List, mut send: impl FnMut(Arc<SyncFrame>)) {
        if self.extra.is_none() && !list.is_past(self.next) {
            return;
        }
        loop {
            if let Some(extra) = &mut self.extra {
                extra.pass(self.next, &mut send);
            }
            let extra = self.extra.as_ref();
            let copies = extra.map_or(0, |extra| extra.copies);
            let end = extra.and_then(|extra| extra.next_sync());
            let end = end.unwrap_or(list.end());
            let next = self.first_given(list, self.next, end, copies);
            let next = next.map_or(end, |given| given.number);
            if let Some(extra) = &mut self.extra
                && next != self.next
            {
                // Of an event that was begun a subscription may have left meanwhile.
                extra.copies = 0;
            }
            self.next = next;
            if next < end || next >= list.end() && !self.has_sync_at(next) {
                break;
            }
        }
        if let Some(extra) = &mut self.extra {
            extra.due &= self.next < list.end();
        }
        self.simplify();
    }

    fn has_sync_at(&self, number: u64) -> bool {
        let next_sync = self.extra.as_ref().and_then(|extra| extra.next_sync());
        next_sync.is_some_and(|before| before <= number)
    }

    /// What it gets further of the frame of which it has been given some copies: how many, and as what.
    pub(super) fn begun<'a>(&self, list: &'a List) -> Option<(&'a Arc<EventFrame>, u32, Kind)> {
        let copies = self.extra.as_ref().map_or(0, |extra| extra.copies);
        if copies == 0 {
            return None;
        }
        let found = list.first_from(self.next)?;
        if found.number != self.next {
            return None;
        }
        let (times, kind) = self.matches(&found);
        Some((found.frame, times.saturating_sub(copies), kind))
    }

    /// Its begun frame is given, and it is far behind: a `sync` of the whole group that waits makes
    /// changes before it void.
    pub(super) fn void_before_sync(&mut self, has_begun: bool) {
        let Some(extra) = &mut self.extra else {
            return;
        };
        if has_begun {
            extra.copies = 0;
            self.next += 1;
        }
        if let Some(last) = extra.entering.last_sync_of_group() {
            extra.void_before = extra.void_before.max(last);
        }
    }

    /// Where it stands in the changes that are for subscriptions to the whole group.
    pub(super) fn stands_at(&self, next: u64) -> u64 {
        let extra = self.extra.as_ref();
        extra.map_or(next, |extra| next.max(extra.void_before))
    }

    /// Where it stands in those for subscriptions to items.
    pub(super) fn items_stand_at(&self, next: u64) -> u64 {
        let extra = self.extra.as_ref();
        extra.map_or(next, |extra| next.max(extra.items_void_before))
    }

    /// Whether a `sync` of the item that waits in it comes between those changes.
    pub(super) fn is_told(&self, item: &str, change: &Change) -> bool {
        let extra = self.extra.as_ref();
        extra.is_some_and(|extra| extra.entering.is_told(item, change))
    }

    /// Whether a `sync` of the moment before that frame may go into its order: none is newer.
    pub(super) fn may_take(&self, before: u64) -> bool {
        let extra = self.extra.as_ref();
        let last = extra.and_then(|extra| extra.entering.last_sync());
        self.next < before && last.is_none_or(|last| last < before)
    }

    /// Whether a fresh `sync` may take the place of changes that it lacks.
    pub(super) fn may_begin_afresh(&self) -> bool {
        let Some(extra) = &self.extra else {
            return true;
        };
        extra.whole > 0
            && extra.copies == 0
            && extra.void_before <= self.next
            && extra.entering.last_sync_of_group().is_none()
    }

    /// A fresh `sync`, of the moment before that frame, takes the place of the changes before it.
    pub(super) fn take_fresh(&mut self, before: u64, sync: Arc<SyncFrame>) {
        let extra = self.extra();
        extra.void_before = extra.void_before.max(before);
        extra.entering.add_sync(before, sync, None, SyncFor::Fresh);
    }

    /// Each of its subscriptions begins anew behind what came before `end`: changes and `sync`s that wait
    /// go, but for answers to joins. Gives the bytes of these `sync`s.
    pub(super) fn void_before_afresh(&mut self, end: u64) -> usize {
        if self.next < end {
            let extra = self.extra();
            extra.void_before = end;
            extra.items_void_before = end;
        }
        let extra = self.extra.as_mut();
        extra.map_or(0, |extra| extra.entering.void_fresh())
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
        (extra.whole + extra.items.total()) as usize + extra.entering.len()
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
        let late = extra.entering.items().filter(|late| *late == item);
        standing as usize + late.count()
    }

    /// Bytes of the `sync`s that wait in it.
    pub(super) fn waiting_bytes(&self) -> usize {
        let extra = self.extra.as_ref();
        extra.map_or(0, |extra| extra.entering.waiting_bytes())
    }

    pub(super) fn check_invariants(&self) {
        let Some(extra) = &self.extra else {
            return;
        };
        debug_assert!(!extra.is_empty(), "no subscription is left");
        extra.entering.check_invariants();
    }

    /// Drops `extra` where it says nothing that its absence does not.
    pub(super) fn simplify(&mut self) {
        let next = self.next;
        let says_nothing = |extra: &Extra| {
            extra.whole == 1
                && extra.copies == 0
                && extra.void_before <= next
                && extra.entering.is_empty()
                && extra.items.is_empty()
        };
        if self.extra.as_deref().is_some_and(says_nothing) {
            self.extra = None;
        }
    }
}

impl Extra {
    /// How many subscriptions to the whole group, and to its item, that event is for.
    fn matches(&self, number: u64, frame: &EventFrame) -> (u32, u32) {
        let mut of_items = frame.item().map_or(0, |item| self.items.count(item));
        let mut whole = self.whole;
        for item in self.entering.matching(number, frame) {
            match item {
                None => whole += 1,
                Some(_) => of_items += 1,
            }
        }
        (whole, of_items)
    }

    /// The first number there or behind whose frame may be for it, of those that it is far behind.
    fn first_past(&self, list: &List, number: u64) -> u64 {
        let of_group = match self.follows_whole() {
            true if number >= self.void_before => return number,
            true => list.custom_from(number).min(self.void_before),
            false => list.first().max(number),
        };
        let of_items = self.items.names().chain(self.entering.items().flatten());
        let of_items = of_items.map(|item| list.item_from(item, number));
        of_items.fold(of_group, u64::min)
    }

    /// Whether it has subscriptions to items.
    pub(super) fn has_items(&self) -> bool {
        !self.items.is_empty() || self.entering.items().flatten().next().is_some()
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
        sync: Option<(Arc<SyncFrame>, SyncFor)>,
    ) {
        if let Some((sync, what_for)) = sync {
            let item = item.clone();
            self.entering.add_sync(from, sync, item, what_for);
        }
        self.entering.add(from, item);
    }

    /// Takes a subscription out.
    pub(super) fn remove(&mut self, item: Option<&ItemId>, from: u64) {
        if self.entering.remove(from, item) {
            return;
        }
        match item {
            None => self.whole = self.whole.saturating_sub(1),
            Some(item) => self.items.remove(item),
        }
    }

    /// Its place is `next` now: what was to be entered by then is, and the `sync`s due are given.
    fn pass(&mut self, next: u64, send: &mut impl FnMut(Arc<SyncFrame>)) {
        if self.entering.is_empty() {
            return;
        }
        let mut entering = std::mem::take(&mut self.entering);
        entering.pass(next, send, |item| self.add(item));
        self.entering = entering;
    }

    /// The frame before which a `sync` has to go, if one waits.
    pub(super) fn next_sync(&self) -> Option<u64> {
        self.entering.next_sync()
    }

    /// Whether it follows the whole group, or will.
    pub(super) fn follows_whole(&self) -> bool {
        self.whole > 0 || self.entering.items().any(|item| item.is_none())
    }

    /// Subscriptions that are being entered.
    pub(super) fn late_len(&self) -> usize {
        self.entering.len()
    }

    /// Whether no subscription is left.
    pub(super) fn is_empty(&self) -> bool {
        self.whole == 0 && self.late_len() == 0 && self.items.is_empty()
    }

    /// The items that it follows, each once.
    pub(super) fn items(&self) -> Vec<ItemId> {
        let late = self.entering.items().flatten();
        let mut items: Vec<ItemId> = self.items.names().chain(late).cloned().collect();
        items.sort_unstable();
        items.dedup();
        items
    }

    /// How many items it follows, or a little more.
    pub(super) fn items_len(&self) -> usize {
        self.items.len() + self.entering.items().flatten().count()
    }

    /// Whether it follows that item by itself.
    pub(super) fn follows_item(&self, item: &str) -> bool {
        let mut late = self.entering.items().flatten();
        self.items.count(item) > 0 || late.any(|late| **late == *item)
    }

    /// Whether it still follows that item, or the whole group.
    pub(super) fn follows(&self, item: Option<&ItemId>) -> bool {
        match item {
            None => self.follows_whole(),
            Some(item) => self.follows_item(item),
        }
    }
}
