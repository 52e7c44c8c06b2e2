//! The sockets of a group that follow single items: found by item, so that an event of one item does
//! not visit those of the others; and which of them lack something.
//!
//! May not know the sweep.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::collections::Slots;
use crate::id::ItemId;

use super::marks::{Mark, Marks};
use super::place::{Extra, Place};

/// No watcher stands there.
const NOBODY: u32 = u32::MAX;

/// Watchers that an event marks at once; where an item has more of them, the sweep does it. Debug
/// builds have fewer, so that the simulation's sweeps have some to mark.
const MARKED_AT_ONCE: usize = if cfg!(debug_assertions) { 2 } else { 16 };

#[derive(Default)]
pub(super) struct Watchers {
    places: Slots<Place>,
    by_item: HashMap<ItemId, Vec<u32>>,
    /// Those that follow the whole group as well, so that every event concerns them.
    wholes: Vec<u32>,
    /// Those that lack something, each once. May name one that lacks nothing any more, or [`NOBODY`]
    /// in place of one that is gone.
    due: VecDeque<u32>,
    /// The number of the first in `due`. Numbers wrap.
    first_due: u32,
    marks: Marks,
}

impl Watchers {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Place> {
        self.places.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Place> {
        self.places.get_mut(slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Place)> {
        self.places.iter()
    }

    /// Whether nobody lacks anything.
    pub(super) fn lack_nothing(&self) -> bool {
        self.due.is_empty() && self.marks.first().is_none()
    }

    /// Where that place's next frame is, in a list with that end. One that is not due lacks nothing,
    /// unless it has still to be marked: then it may lack something from the first such event on.
    pub(super) fn next_of(&self, slot: u32, end: u64) -> u64 {
        let Some(place) = self.places.get(slot) else {
            return end;
        };
        if is_due(place) {
            return place.next;
        }
        let unmarked = self.marks.first();
        unmarked.map_or(end, |from| from.max(place.next).min(end))
    }

    /// A place that follows items only.
    pub(super) fn add(&mut self, place: Place) -> u32 {
        let extra = place.extra.as_deref();
        let items = extra.map(Extra::items).unwrap_or_default();
        let slot = self.places.insert(place);
        for item in items {
            self.watch(Some(item), slot);
        }
        slot
    }

    /// Takes a place out.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Place> {
        let mut place = self.places.remove(slot)?;
        let extra = place.extra.as_deref_mut()?;
        if let Some(number) = extra.listed.take() {
            // The slot may soon be another's, who is not to be listed twice.
            self.due[number.wrapping_sub(self.first_due) as usize] = NOBODY;
        }
        let follows_whole = extra.follows_whole();
        for item in extra.items() {
            self.unwatch(Some(&item), slot);
        }
        if follows_whole {
            self.unwatch(None, slot);
        }
        Some(place)
    }

    /// The watcher, which did not follow that item yet, is to be visited for its events; without an
    /// item for those of the whole group.
    pub(super) fn watch(&mut self, item: Option<ItemId>, slot: u32) {
        match item {
            Some(item) => self.by_item.entry(item).or_default().push(slot),
            None => self.wholes.push(slot),
        }
    }

    pub(super) fn unwatch(&mut self, item: Option<&ItemId>, slot: u32) {
        let watchers = match item {
            Some(item) => self.by_item.get_mut(item),
            None => Some(&mut self.wholes),
        };
        let Some(watchers) = watchers else {
            return;
        };
        if let Some(mut found) = position(watchers, slot) {
            // One that is marked fills the hole of one that was, so that nobody is passed over.
            if let Some(at) = self.marks.begun_at(item)
                && found < *at
            {
                *at -= 1;
                watchers.swap(found, *at);
                found = *at;
            }
            watchers.swap_remove(found);
        }
        if watchers.is_empty() {
            match item {
                Some(item) => drop(self.by_item.remove(item)),
                None => self.wholes = Vec::new(),
            }
        }
    }

    /// Whether anybody follows that item and not all of them.
    pub(super) fn has(&self, item: &str) -> bool {
        self.by_item.contains_key(item)
    }

    /// How many watchers the item has.
    pub(super) fn len_of(&self, item: &ItemId) -> usize {
        self.by_item.get(item).map_or(0, Vec::len)
    }

    /// An event came: those whom it concerns lack it from now on. Gives how many it has marked itself.
    pub(super) fn note_event(&mut self, item: Option<&str>, number: u64) -> usize {
        let mut marked = 0;
        if let Some(item) = item
            && let Some((item, watchers)) = self.by_item.get_key_value(item)
        {
            if watchers.len() > MARKED_AT_ONCE {
                self.marks.add(Some(item), number);
            } else {
                marked += watchers.len();
                let from = self.marks.first().unwrap_or(number);
                let due = (&mut self.due, self.first_due);
                mark(watchers, &mut self.places, due, (from, number + 1));
            }
        }
        if self.wholes.len() > MARKED_AT_ONCE {
            self.marks.add(None, number);
        } else if !self.wholes.is_empty() {
            marked += self.wholes.len();
            let from = self.marks.first().unwrap_or(number);
            let due = (&mut self.due, self.first_due);
            mark(&self.wholes, &mut self.places, due, (from, number + 1));
        }
        marked
    }

    /// Marks so many watchers at most for events before `before`, in a list with that end. Gives how
    /// many; `None`: all are.
    pub(super) fn mark_some(&mut self, most: usize, before: u64, end: u64) -> Option<usize> {
        if self.marks.first()? >= before {
            return None;
        }
        let Mark { item, from, at, .. } = self.marks.begin()?;
        let watchers = match item {
            Some(item) => self.by_item.get(item).map_or(&[][..], Vec::as_slice),
            None => &self.wholes,
        };
        let rest = watchers.get(*at..).unwrap_or_default();
        let now = &rest[..most.min(rest.len())];
        let due = (&mut self.due, self.first_due);
        mark(now, &mut self.places, due, (*from, end));
        *at += now.len();
        let marked = now.len();
        if marked == rest.len() {
            self.marks.end();
        }
        Some(marked)
    }

    /// The watcher lacks something, from there on.
    pub(super) fn enlist(&mut self, slot: u32, next: u64) {
        if let Some(place) = self.places.get_mut(slot) {
            place.next = next;
            enlist((&mut self.due, self.first_due), slot, place);
        }
    }

    /// Where it stands among the due.
    pub(super) fn place_in_due(&self, slot: u32) -> Option<usize> {
        let extra = self.places.get(slot)?.extra.as_ref()?;
        let number = extra.listed?;
        Some(number.wrapping_sub(self.first_due) as usize)
    }

    pub(super) fn due_len(&self) -> usize {
        self.due.len()
    }

    /// The first of the due.
    pub(super) fn first_due(&self) -> Option<u32> {
        self.due.front().copied()
    }

    /// The first of the due was visited: it goes, or to the end if it still lacks something.
    pub(super) fn pass_first_due(&mut self) {
        let Some(slot) = self.due.pop_front() else {
            return;
        };
        self.first_due = self.first_due.wrapping_add(1);
        if let Some(place) = self.places.get_mut(slot)
            && let Some(extra) = &mut place.extra
        {
            extra.listed = None;
            if extra.due {
                enlist((&mut self.due, self.first_due), slot, place);
            }
        }
        if self.due.is_empty() {
            self.due.shrink_to(64);
        }
    }

    pub(super) fn check_invariants(&self) {
        for (slot, place) in self.places.iter() {
            let Some(extra) = &place.extra else {
                debug_assert!(false, "it follows everything");
                continue;
            };
            let follows_whole = self.wholes.contains(&slot);
            debug_assert_eq!(extra.follows_whole(), follows_whole);
            for item in extra.items() {
                let watchers = self.by_item.get(&item);
                debug_assert!(watchers.is_some_and(|watchers| watchers.contains(&slot)));
            }
            debug_assert!(!extra.due || extra.listed.is_some());
            let listed = self.place_in_due(slot).map(|place| self.due[place]);
            debug_assert!(listed.is_none_or(|listed| listed == slot));
        }
        let of_items = self.by_item.iter();
        let of_items = of_items.map(|(item, watchers)| (Some(item), watchers));
        let of_all = (!self.wholes.is_empty()).then_some((None, &self.wholes));
        for (item, watchers) in of_items.chain(of_all) {
            debug_assert!(!watchers.is_empty());
            for (number, slot) in watchers.iter().enumerate() {
                let place = self.places.get(*slot);
                let extra = place.and_then(|place| place.extra.as_ref());
                debug_assert!(extra.is_some_and(|extra| extra.follows(item)));
                debug_assert!(!watchers[..number].contains(slot), "listed twice");
            }
        }
        let is_listed = |(slot, _): &(u32, &Place)| self.place_in_due(*slot).is_some();
        let named = self.due.iter().filter(|slot| **slot != NOBODY);
        debug_assert_eq!(named.count(), self.places.iter().filter(is_listed).count());
    }
}

fn is_due(place: &Place) -> bool {
    place.extra.as_ref().is_some_and(|extra| extra.due)
}

/// Who is due and the number of the first of them.
type Due<'a> = (&'a mut VecDeque<u32>, u32);

/// Those who are not due lack what came from `from` on, or since they last lacked nothing.
fn mark(slots: &[u32], places: &mut Slots<Place>, due: Due<'_>, (from, end): (u64, u64)) {
    let (due, first_due) = due;
    for slot in slots {
        if let Some(place) = places.get_mut(*slot)
            && !is_due(place)
        {
            place.next = place.next.max(from);
            if place.next < end {
                enlist((due, first_due), *slot, place);
            }
        }
    }
}

fn enlist((due, first_due): Due<'_>, slot: u32, place: &mut Place) {
    if let Some(extra) = &mut place.extra {
        extra.due = true;
        if extra.listed.is_none() {
            extra.listed = Some(first_due.wrapping_add(due.len() as u32));
            due.push_back(slot);
        }
    }
}

/// Where `slot` stands. An item may have very many watchers: they are compared in blocks without a
/// branch for each, which the compiler turns into vector instructions.
fn position(watchers: &[u32], slot: u32) -> Option<usize> {
    const BLOCK_LEN: usize = 64;
    let holds = |block: &[u32]| {
        let is_it = block.iter().map(|watcher| *watcher == slot);
        is_it.fold(false, |held, is_it| held | is_it)
    };
    let block = watchers.chunks(BLOCK_LEN).position(holds)?;
    let begin = block * BLOCK_LEN;
    let in_block = watchers[begin..]
        .iter()
        .position(|watcher| *watcher == slot)?;
    Some(begin + in_block)
}

#[cfg(test)]
mod tests {
    use crate::fanout::Budget;
    use crate::fanout::reader::MemberAt;
    use crate::fanout::test_local::Local;
    use crate::id::SlotId;

    #[test]
    fn an_event_of_one_item_visits_no_follower_of_another() {
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..100).map(|_| local.socket()).collect();
        let mut group = None;
        for (number, at) in sockets.iter().enumerate() {
            group = Some(local.join(*at, "a", "g", Some(&format!("u{number}"))));
            local.heard(*at);
        }
        local.sockets.visits = 0;
        local.event(group.unwrap(), Some("u7"));
        let mut budget = Budget::of_writes(1000);
        local.fanout.sweep(&mut local.sockets, &mut budget);
        assert!(local.sockets.visits <= 4, "{} visits", local.sockets.visits);
        for (number, at) in sockets.iter().enumerate() {
            let heard = local.heard(*at);
            assert_eq!(heard.len(), usize::from(number == 7));
        }
    }

    #[test]
    fn who_is_still_to_be_marked_gets_what_it_lacks_before_what_it_joins() {
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..100).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &sockets {
            group = Some(local.join(*at, "a", "g", Some("u")));
            local.heard(*at);
        }
        local.event(group.unwrap(), Some("u")); // 101
        local.join(sockets[1], "b", "g", Some("v")); // 102
        local.join(sockets[2], "b", "g", None); // 103
        local.block(sockets[3], 0);
        local.join(sockets[3], "b", "g", Some("u")); // 104
        local.fanout.check_invariants(&mut local.sockets);
        local.sweep(1000);
        local.unblock(sockets[3]);
        local.sweep(1000);
        assert_eq!(local.heard(sockets[0]), [101]);
        assert_eq!(local.heard(sockets[1]), [101, 102]);
        assert_eq!(local.heard(sockets[2]), [101, 103]);
        assert_eq!(local.heard(sockets[3]), [101, 104]);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn events_of_items_with_few_watchers_wait_for_the_sweep_when_they_have_marked_many() {
        let mut local = Local::with_bound(1 << 30);
        let (at, other) = (local.socket(), local.socket());
        let group = local.join(at, "a", "g", Some("u"));
        local.join(other, "a", "g", Some("u"));
        let mut events = 0;
        while !local.fanout.is_lagging() {
            local.event(group, Some("u"));
            events += 1;
        }
        assert_eq!(events, super::super::MARKS_A_SWEEP / 2);
        assert!(local.fanout.is_due(), "it ends by itself");
        let mut budget = Budget::of_writes(1);
        local.fanout.sweep(&mut local.sockets, &mut budget);
        assert!(!local.fanout.is_lagging());
        local.fanout.check_invariants(&mut local.sockets);
    }

    #[test]
    fn a_socket_with_many_items_stays_where_it_is_when_it_joins_and_leaves_the_whole_group() {
        const ITEMS: usize = 1000;
        let mut local = Local::new();
        let (watches, is_member) = (local.socket(), local.socket());
        let mut group = local.join(is_member, "w", "g", None);
        for n in 0..ITEMS {
            for at in [watches, is_member] {
                group = local.join(at, &n.to_string(), "g", Some(&format!("u{n}")));
            }
        }
        let at_of = |local: &Local, at: SlotId| {
            let (reader, _) = local.sockets.slots.get(at).unwrap();
            reader.memberships[0].at
        };
        let places = (at_of(&local, watches), at_of(&local, is_member));
        assert!(matches!(places.0, MemberAt::Watchers(_)));
        assert!(matches!(places.1, MemberAt::Members(_)));
        let heard = |local: &mut Local, item: &str| {
            local.heard(watches);
            local.heard(is_member);
            local.event(group, Some(item));
            local.sweep(1000);
            (local.heard(watches).len(), local.heard(is_member).len())
        };
        for _ in 0..3 {
            assert_eq!(heard(&mut local, "u7"), (1, 2));
            assert_eq!(heard(&mut local, "v"), (0, 1));
            local.join(watches, "w", "g", None);
            local.leave(is_member, "w");
            assert_eq!(heard(&mut local, "u7"), (2, 1));
            assert_eq!(heard(&mut local, "v"), (1, 0));
            local.leave(watches, "w");
            local.join(is_member, "w", "g", None);
            assert_eq!(places, (at_of(&local, watches), at_of(&local, is_member)));
        }
        local.join(watches, "w", "g", None);
        local.leave(is_member, "w");
        for n in 0..ITEMS - 1 {
            local.leave(watches, &n.to_string());
            local.leave(is_member, &n.to_string());
        }
        let moved = (at_of(&local, watches), at_of(&local, is_member));
        assert!(matches!(moved.0, MemberAt::Members(_)), "few are moved");
        assert!(matches!(moved.1, MemberAt::Watchers(_)));
        assert_eq!(heard(&mut local, &format!("u{}", ITEMS - 1)), (2, 1));
        assert_eq!(heard(&mut local, "v"), (1, 0));
        for at in [watches, is_member] {
            local.end(at);
        }
        assert_eq!(local.fanout.groups_len(), 0);
    }

    #[test]
    fn a_follower_that_comes_and_goes_blocked_is_due_once() {
        let mut local = Local::new();
        let (at, other) = (local.socket(), local.socket());
        let group = local.join(other, "a", "g", Some("u2"));
        local.block(at, 0);
        for _ in 0..50 {
            local.join(at, "a", "g", Some("u1"));
            local.event(group, Some("u1"));
            local.sweep(1000);
            local.leave(at, "a");
            local.fanout.check_invariants(&mut local.sockets);
            let watchers = local.fanout.groups.get(group).unwrap().watchers();
            let due_watchers = watchers.map_or(0, |watchers| watchers.due_len());
            assert!(due_watchers <= 2, "{due_watchers} due of two");
        }
    }
}
