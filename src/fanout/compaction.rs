//! Who is so far behind that it is brought up to date by item, and what is then kept for all of those.

use std::sync::Arc;

use crate::collections::Named;
use crate::id::{LocalGroupId, SlotId};

use super::budget::Budget;
use super::group::LocalGroup;
use super::kept::Rules;
use super::list::List;
use super::place::Extra;
use super::reader::{Connections, MemberAt, Membership, Reader};
use super::socket::Socket as _;
use super::views::{Change, Standpoints, View};
use super::{Bounds, Fanout};

/// What waits for a reader is summed up again when so much of the bound has come; and frames are kept
/// by item again.
pub(super) const PARTS_OF_BOUND: usize = 16;
/// By so many bits what may wait is cut while the process has too little memory.
const PRESSED_BITS: u32 = 8;
/// Frames that are kept by item in one go.
const KEPT_AT_ONCE: usize = 32;
/// So many places that a frame is looked at for cost as much as keeping one.
const LOOKS_A_FRAME: usize = 16;
/// What is dropped of a group that is gone in one go.
const DROPPED_AT_ONCE: usize = 64;

impl Fanout {
    /// Looks whether what waits for a reader is more than may, here or in all its groups together: then
    /// what only such readers lack is kept by item from here on.
    pub(super) fn check_behind<C: Connections>(
        &mut self,
        local: LocalGroupId,
        at: MemberAt,
        connection: SlotId,
        connections: &mut C,
    ) {
        let allowed = self.allowed_bytes();
        let (Some(group), Some((reader, socket))) =
            (self.groups.get_mut(local), connections.parts(connection))
        else {
            return;
        };
        let next = group.next_of(at);
        if next >= group.given_end(at) {
            return;
        }
        let held = socket.held_bytes();
        if behind_bytes(&group.list, next, reader) + held > allowed {
            reader.set_far_behind(true, &mut self.far_behind_len);
            group.is_to_compact |= group.list.bytes_since_kept() > allowed / PARTS_OF_BOUND;
            return;
        }
        if reader.memberships.len() == 1 {
            reader.set_far_behind(false, &mut self.far_behind_len);
            return;
        }
        if !reader.blocked {
            return;
        }
        let sweep = &group.sweep;
        let fresh = group
            .list
            .bytes_between(next.max(sweep.fresh_from), sweep.fresh_to.max(next));
        let fresh = u32::try_from(fresh).unwrap_or(Reader::UNKNOWN);
        reader.unsummed_bytes = reader.unsummed_bytes.saturating_add(fresh);
        let is_worth_it = reader.unsummed_bytes == Reader::UNKNOWN
            || reader.unsummed_bytes as usize > allowed / PARTS_OF_BOUND;
        if is_worth_it {
            reader.unsummed_bytes = 0;
            let is_far = behind_bytes_of(&self.groups, reader) + held > allowed;
            reader.set_far_behind(is_far, &mut self.far_behind_len);
            if is_far {
                self.compact_all_of(connection, connections);
            }
        }
    }

    /// In all groups in which the reader lacks something that came lately, that is kept by item.
    fn compact_all_of<C: Connections>(&mut self, connection: SlotId, connections: &mut C) {
        let Some((reader, _)) = connections.parts(connection) else {
            return;
        };
        let candidates = (0..).map_while(|number| reader.candidate(number));
        for membership in candidates {
            let Membership { local, at, .. } = reader.memberships[membership];
            if let Some(group) = self.groups.get_mut(local)
                && group.next_of(at) < group.list.end()
                && group.list.bytes_since_kept() > 0
            {
                group.is_to_compact = true;
                self.make_due(local);
            }
        }
    }

    /// The process has too little memory, or enough again. If it has too little, all that readers hold up
    /// is looked at in the next sweeps.
    pub fn set_pressed(&mut self, is_pressed: bool) {
        if std::mem::replace(&mut self.is_pressed, is_pressed) || !is_pressed {
            return;
        }
        let held = self.groups.iter();
        let held = held.filter(|(_, group)| group.list.held_bytes() > 0);
        let held: Vec<LocalGroupId> = held.map(|(local, _)| local).collect();
        held.into_iter().for_each(|local| self.make_due(local));
    }

    /// What may wait for one reader now: less when all together hold up more than they may.
    pub(super) fn allowed_bytes(&self) -> usize {
        let Bounds { reader, .. } = self.bounds;
        reader.checked_shr(self.pressure()).unwrap_or(0)
    }

    /// By how many bits what may wait is cut.
    fn pressure(&self) -> u32 {
        let held = self.held_bytes + self.held_syncs.bytes();
        let worker = self.bounds.worker;
        let least = if self.is_pressed { PRESSED_BITS } else { 0 };
        let Some(over) = held.checked_sub(worker).filter(|over| *over > 0) else {
            return least;
        };
        let quarters = over / (worker / 4).max(1);
        least.max(2 + 2 * quarters.min(32) as u32)
    }

    /// Keeps by item what only readers far behind lack of the frames that the sweep has brought; true
    /// when that is done.
    pub(super) fn compact<C: Connections>(
        &mut self,
        local: LocalGroupId,
        connections: &mut C,
        budget: &mut Budget,
    ) -> bool {
        let most = self.bounds.custom_events;
        let mut most = most.checked_shr(self.pressure()).unwrap_or(0);
        let allowed = self.allowed_bytes();
        let Some(group) = self.groups.get_mut(local) else {
            return true;
        };
        if group.is_cohort() && group.list.held_bytes() <= allowed {
            most = usize::MAX; // who waits for its pace is not slow
        }
        if !group.is_to_compact {
            return true;
        }
        if budget.is_spent() {
            return false;
        }
        self.shared.forget(local);
        let Stand {
            standpoints,
            before,
            waiting,
            mixed,
        } = group.stand(connections, budget);
        let sync_at = group.sync_at;
        let (list, places) = group.list_and_places();
        let told = |item: &str, change: &Change| {
            standpoints.look_at(waiting.len());
            let places = waiting.iter().filter_map(|at| places.get(*at));
            let told = places.filter(|place| place.is_told(item, change));
            told.map(|place| View::of_items(place.connection.slot))
                .collect()
        };
        let rules = Rules {
            customs_most: most,
            is_watched: &|item| {
                standpoints.look_at(mixed.len());
                let mut mixed = mixed
                    .iter()
                    .filter_map(|at| places.get(*at)?.extra.as_ref());
                places.are_watched(item) || mixed.any(|extra| extra.follows_item(item))
            },
            told: &told,
        };
        let held_bytes = list.held_bytes();
        let (mut is_done, mut grown) = (false, 0);
        loop {
            // One frame at least, however many places are looked at: it has to come to an end.
            for _ in 0..KEPT_AT_ONCE {
                let number = list.first();
                match list.keep_first(before, &standpoints, &rules) {
                    Some(by) if number >= sync_at => grown += by,
                    Some(_) => {}
                    None => is_done = true,
                }
                if is_done || standpoints.looks.get() > KEPT_AT_ONCE * LOOKS_A_FRAME {
                    break;
                }
            }
            let looks = standpoints.looks.take();
            budget.kept(KEPT_AT_ONCE.max(looks / LOOKS_A_FRAME));
            if is_done || budget.is_spent() {
                break;
            }
        }
        self.held_bytes = self.held_bytes + list.held_bytes() - held_bytes;
        self.outcome.customs_dropped += list.end_keeping();
        group.sync_len = group.sync_len.saturating_add_signed(grown);
        group.is_to_compact = !is_done;
        is_done
    }

    /// Goes on to drop what was kept for a group that is gone.
    pub(super) fn drop_some_kept(&mut self, budget: &mut Budget) {
        while let Some(kept) = self.dropped.last_mut() {
            if kept.forget_before(u64::MAX, DROPPED_AT_ONCE) {
                self.dropped.pop();
            }
            budget.kept(DROPPED_AT_ONCE);
            if budget.is_spent() {
                return;
            }
        }
    }
}

/// Where readers far behind stand.
struct Stand {
    standpoints: Standpoints,
    /// The first frame that another reader may lack still.
    before: u64,
    /// Those of them in which `sync`s of items wait.
    waiting: Vec<MemberAt>,
    /// Those of them that follow single items and are no watchers: they follow the whole group as well,
    /// or have till now and follow too many items to be moved.
    mixed: Vec<MemberAt>,
}

impl LocalGroup {
    /// Where readers far behind stand. What has begun to be given is queued for them, so that their places
    /// are between frames.
    fn stand<C: Connections>(&mut self, connections: &mut C, budget: &mut Budget) -> Stand {
        let is_cohort = self.is_cohort();
        let to = match is_cohort {
            true => self.list.end(),
            false => self.sweep.fresh_to.min(self.end_of_kept()),
        };
        let (mut before, mut behind, mut looked_at) = (to, Vec::new(), 0);
        for (at, place) in self.places() {
            looked_at += 1;
            let next = self.next_of(at);
            if next >= to {
                continue;
            }
            let is_behind = is_cohort
                || self.list.is_past(next)
                || match connections.parts(place.connection) {
                    Some((reader, _)) => reader.is_far_behind() || reader.is_ending,
                    None => continue,
                };
            if is_behind {
                behind.push((at, next, place.connection));
            } else {
                before = before.min(next);
            }
        }
        budget.placed(looked_at);
        let mut standpoints = Standpoints::default();
        let (mut waiting, mut mixed) = (Vec::new(), Vec::new());
        for (at, next, connection) in behind {
            let begun = self.place(at).and_then(|place| place.begun(&self.list));
            let begun = begun.map(|(frame, times, kind)| (Arc::clone(frame), times, kind));
            if let Some((frame, times, kind)) = &begun
                && let Some((reader, _)) = connections.parts(connection)
                && !reader.is_ending
            {
                reader.push_begun(frame, *kind, *times);
            }
            let Some(place) = self.place_mut(at) else {
                continue;
            };
            place.void_before_sync(begun.is_some());
            let next = next + u64::from(begun.is_some());
            let extra = place.extra.as_deref();
            if extra.is_none_or(Extra::follows_whole) {
                standpoints.is_whole = true;
                let view = View::of_group(connection.slot);
                standpoints.places.push((place.stands_at(next), view));
            }
            if let Some(extra) = extra.filter(|extra| extra.has_items()) {
                mixed.extend(matches!(at, MemberAt::Members(_)).then_some(at));
                let view = View::of_items(connection.slot);
                standpoints.places.push((place.items_stand_at(next), view));
                waiting.extend(extra.next_sync().map(|_| at));
            }
            self.sweep.is_outrun |= begun.is_some(); // it may have been all that it lacked
        }
        standpoints.places.sort_unstable();
        Stand {
            standpoints,
            before,
            waiting,
            mixed,
        }
    }
}

/// What waits behind the frame being written: one frame is always sent, whatever its size.
fn behind_bytes(list: &List, next: u64, reader: &Reader) -> usize {
    let begun = if reader.has_begun() { next } else { next + 1 };
    list.bytes_from(begun)
}

/// What waits for this reader in all its groups, without the one frame that is always sent.
fn behind_bytes_of(groups: &Named<LocalGroup>, reader: &Reader) -> usize {
    let mut bytes = 0;
    let mut begun = usize::from(!reader.has_begun());
    let candidates = (0..).map_while(|number| reader.candidate(number));
    for membership in candidates {
        let Membership { local, at, .. } = reader.memberships[membership];
        let Some(group) = groups.get(local) else {
            continue;
        };
        let next = group.next_of(at);
        if next < group.list.end() {
            bytes += group.list.bytes_from(next + begun as u64);
            begun = 0;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fanout::test_local::Local;
    use crate::protocol::frame::Event;
    use crate::time::thread_time;

    #[test]
    fn a_reader_further_behind_than_the_bound_is_sent_every_item_once() {
        let mut local = Local::with_bound(0);
        let at = local.socket();
        let group = local.join(at, "a", "g", None); // 1
        local.heard(at);
        local.block(at, 0);
        let update = |local: &mut Local| local.tell(group, Some("u"), Event::Update("1"));
        let len = update(&mut local); // 2
        local.sweep(1000);
        local.sweep(1000);
        local.unblock(at);
        assert_eq!(local.heard(at), [2], "one frame is always sent");
        local.fanout.bounds.reader = 2 * len;
        local.block(at, 0);
        for _ in 0..3 {
            update(&mut local); // up to 5
            local.sweep(1000);
        }
        local.unblock(at);
        assert_eq!(local.heard(at), [3, 4, 5], "it is within the bound");
        local.block(at, 0);
        for _ in 0..4 {
            update(&mut local); // up to 9
            local.sweep(1000);
        }
        assert!(local.fanout.held_bytes() <= len, "one of the item");
        local.unblock(at);
        assert_eq!(local.heard(at), [9]);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn what_waits_for_a_reader_is_bounded_in_all_its_groups_together() {
        const GROUPS: usize = 100;
        let mut local = Local::new();
        let at = local.socket();
        let groups: Vec<LocalGroupId> = (0..GROUPS)
            .map(|n| local.join(at, &n.to_string(), &n.to_string(), None))
            .collect();
        local.block(at, 0);
        let len = local.event(groups[0], None);
        let bound = 1000 * len;
        local.fanout.bounds.reader = bound;
        local.fanout.bounds.custom_events = 5;
        for round in 0..100 {
            for group in &groups {
                local.event(*group, None);
                let mut budget = Budget::of_writes(1000);
                local.fanout.sweep(&mut local.sockets, &mut budget);
            }
            let held = local.fanout.held_bytes();
            let is_cut = round < 9 || held <= bound + bound / 8;
            assert!(is_cut, "{held} in round {round}");
        }
        assert!(local.fanout.take_outcome().customs_dropped > 0);
        local.end(at);
        local.sweep(1000);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn what_all_readers_hold_up_is_bounded_and_less_may_wait_for_each_when_it_is_much() {
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..100).map(|_| local.socket()).collect();
        let joins = sockets.iter().enumerate();
        let groups: Vec<LocalGroupId> = joins
            .map(|(n, at)| local.join(*at, "a", &n.to_string(), None))
            .collect();
        for at in &sockets {
            local.block(*at, 0);
        }
        let len = local.event(groups[0], None);
        local.fanout.bounds = Bounds {
            reader: 1000 * len,
            worker: 2000 * len,
            custom_events: 1000,
        };
        for round in 0..500 {
            for group in &groups {
                local.event(*group, None);
            }
            let mut budget = Budget::of_writes(1000);
            local.fanout.sweep(&mut local.sockets, &mut budget);
            local.sweep(1000);
            let held = local.fanout.held_bytes();
            assert!(held <= 2 * 2000 * len, "{held} in round {round}");
        }
        assert!(
            local.fanout.take_outcome().slow.is_empty(),
            "nobody is closed"
        );
    }

    #[test]
    fn items_that_come_and_go_hold_nothing_up() {
        let mut local = Local::with_bound(1 << 30);
        let at = local.socket();
        let group = local.join(at, "a", "g", None);
        local.heard(at);
        local.block(at, 0);
        local.fanout.bounds.reader = 0;
        let value = format!("\"{}\"", "x".repeat(1000));
        local.tell(group, Some("stays"), Event::Create("1"));
        local.sweep(1000);
        local.tell(group, Some("stays too"), Event::Create("1"));
        local.sweep(1000);
        for n in 0..200 {
            let item = format!("u{n}");
            local.tell(group, Some(&item), Event::Create(&value));
            local.sweep(1000);
            local.tell(group, Some(&item), Event::Delete(&value));
            local.sweep(1000);
        }
        let held = local.fanout.held_bytes();
        assert!(held < 5 * value.len(), "{held} bytes of one item at a time");
        local.end(at);
        local.sweep(1000);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn who_follows_an_item_holds_up_no_custom_events_of_others() {
        for follows_whole in [false, true] {
            let mut local = Local::with_bound(1 << 30);
            let at = local.socket();
            let group = local.join(at, "a", "g", Some("mine"));
            if follows_whole {
                local.join(at, "b", "g", None);
            }
            local.heard(at);
            local.block(at, 0);
            local.fanout.bounds.reader = 0;
            local.fanout.bounds.custom_events = 5;
            let mut len = 0;
            for n in 0..200 {
                len = local.event(group, Some(&format!("item {n:3}")));
                local.event(group, Some("mine"));
                local.sweep(1000);
            }
            let held = local.fanout.held_bytes();
            assert!(held < 8 * len, "{held} bytes, one is {len}");
            assert!(held >= 5 * len, "the last ones of its item stay");
            local.end(at);
            local.sweep(1000);
            assert_eq!(local.fanout.held_bytes(), 0);
        }
    }

    #[test]
    fn looks_at_where_very_many_slow_readers_stand_are_paid_for() {
        const READERS: usize = 1000;
        const ITEMS: usize = 200;
        let mut local = Local::new();
        local.fanout.bounds.reader = 0;
        let readers: Vec<SlotId> = (0..READERS).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &readers {
            group = Some(local.join(*at, "a", "g", None));
            local.heard(*at);
            local.block(*at, 0);
        }
        let group = group.unwrap();
        let mut len = 0;
        for n in 0..ITEMS {
            len = local.tell(group, Some(&format!("u{n:3}")), Event::Create("1"));
        }
        local.sweep(1000);
        for (n, at) in readers.iter().enumerate() {
            local.drain_for(*at, n % ITEMS * len); // each stands elsewhere
        }
        local.sweep(1000);
        for n in 0..ITEMS {
            local.tell(group, Some(&format!("u{n:3}")), Event::Update("2"));
        }
        let mut turns = 0;
        while local.fanout.is_due() {
            let mut budget = Budget::of_writes(64);
            local.fanout.sweep(&mut local.sockets, &mut budget);
            turns += 1;
        }
        assert!(turns > 10, "{turns} turns");
        local.fanout.check_invariants(&mut local.sockets);
    }

    #[test]
    fn a_follower_of_one_item_is_not_slow_for_events_of_others() {
        let mut local = Local::with_bound(200);
        let at = local.socket();
        let group = local.join(at, "a", "g", Some("u1"));
        local.heard(at);
        local.block(at, 10);
        local.event(group, Some("u1")); // 2
        local.sweep(1000);
        for _ in 0..100 {
            local.event(group, Some("u2"));
            local.sweep(1000);
        }
        assert!(local.fanout.take_outcome().slow.is_empty());
        assert_eq!(local.fanout.held_bytes(), 0);
        local.unblock(at);
        assert_eq!(local.heard(at), [2]);
    }

    #[test]
    fn a_follower_of_one_item_is_brought_up_to_date_without_a_look_at_all_others() {
        const OTHERS: usize = 20_000;
        const WATCHERS: usize = 100;
        let mut local = Local::new();
        local.fanout.bounds.reader = 1000;
        let all = local.socket();
        let group = local.join(all, "a", "g", None);
        local.block(all, 0);
        let watchers: Vec<SlotId> = (0..WATCHERS).map(|_| local.socket()).collect();
        for (n, at) in watchers.iter().enumerate() {
            local.join(*at, "a", "g", Some(&format!("u{n}")));
            local.heard(*at);
            local.block(*at, 0);
            local.tell(group, Some(&format!("u{n}")), Event::Create("1"));
        }
        local.sweep(1000);
        for n in 0..OTHERS {
            local.tell(group, Some(&format!("other {n}")), Event::Create("1"));
            if n % 100 == 0 {
                local
                    .fanout
                    .sweep(&mut local.sockets, &mut Budget::of_writes(1000));
            }
        }
        local.sweep(1000);
        let mut took = Duration::ZERO;
        for at in watchers {
            let began = thread_time();
            local.drain_for(at, usize::MAX);
            took += thread_time() - began;
            assert_eq!(local.heard(at).len(), 1);
        }
        local.sweep(1000);
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}
