//! Readers far behind are given a fresh `sync` of their group in place of changes that weigh more: asked of
//! the group's owner when one of them could take it, and shared by all who can while it is fresh.
//!
//! May not know who asks the owner.

use std::sync::Arc;

use crate::id::LocalGroupId;
use crate::protocol::frame::SyncFrame;

use super::Fanout;
use super::fresh::{Choice, Fresh, State};
use super::group::LocalGroup;
use super::place::Place;
use super::reader::{Connections, MemberAt};

/// While less than this part of its length has come since, a `sync` is fresh.
const FRESH_PARTS: usize = 10;
/// So much at least has to come before another one is asked for: the owner is not to make one for every
/// event.
const ASKED_BYTES: usize = 4 * 1024;

/// What has to come before a `sync` of that length is too old, and another one may be asked for.
fn outdated_by(len: usize) -> usize {
    ASKED_BYTES.max(len / FRESH_PARTS)
}

impl LocalGroup {
    /// How the reader of that place, whose socket takes bytes, is brought up to date. `room`: how long a
    /// `sync` may be.
    pub(super) fn choose(&mut self, at: MemberAt, room: usize) -> Choice {
        let next = self.next_of(at);
        if self.is_cohort() {
            // What has come for it and may not be given yet is older than a `sync` would be.
            return match self.is_held(at) {
                true => Choice::Hold,
                false => Choice::Frames,
            };
        }
        if !self.list.is_past(next) || !self.place(at).is_some_and(Place::may_begin_afresh) {
            return Choice::Frames;
        }
        let by_frames = self.list.bytes_from(next);
        let by_frames = by_frames.saturating_sub(self.list.custom_bytes());
        let fresh = self.fresh.as_deref();
        let came = fresh.map(|fresh| self.list.offset() - fresh.asked_at);
        let worth = outdated_by(self.sync_len) as u64;
        let may_ask = came.is_none_or(|came| came >= worth) && self.sync_len <= room;
        match fresh.map(|fresh| &fresh.state) {
            Some(State::Asked) if by_frames > self.sync_len => return Choice::Hold,
            Some(State::Asked) => return Choice::Frames,
            Some(State::Here(before, sync)) => {
                let behind = self.list.bytes_from(*before);
                let is_fresh = behind <= sync.len() / FRESH_PARTS;
                let may_take = self.place(at).is_some_and(|place| place.may_take(*before));
                let is_less = may_take && sync.len() + behind < by_frames;
                if is_less && (is_fresh || !may_ask) {
                    let (before, sync) = (*before, Arc::clone(sync));
                    debug_assert!(!self.list.is_past(before), "it was not counted with");
                    if let Some(place) = self.place_mut(at) {
                        place.take_fresh(before, Arc::clone(&sync));
                    }
                    return Choice::Sync(sync);
                }
                if is_fresh {
                    return Choice::Frames;
                }
            }
            Some(State::Gone) | None => {}
        }
        if by_frames <= self.sync_len || !may_ask {
            return Choice::Frames;
        }
        self.joins += 1;
        self.fresh = Some(Box::new(Fresh {
            asked_at: self.list.offset(),
            state: State::Asked,
        }));
        Choice::Ask
    }

    /// Only frames before this one may be kept by item: what comes behind a `sync` that somebody may
    /// still take is told as it is, for that `sync` says what they held before it.
    pub(super) fn end_of_kept(&mut self) -> u64 {
        self.let_fresh_go();
        match self.fresh.as_deref().map(|fresh| &fresh.state) {
            Some(State::Here(before, _)) => *before,
            Some(State::Asked | State::Gone) | None => self.list.end(),
        }
    }

    /// A `sync` that is too old for anybody goes.
    pub(super) fn let_fresh_go(&mut self) {
        let Some(fresh) = &mut self.fresh else {
            return;
        };
        if let State::Here(before, sync) = &fresh.state
            && self.list.bytes_from(*before) > outdated_by(sync.len())
        {
            fresh.state = State::Gone;
        }
        if self.list.held_bytes() == 0 && !matches!(fresh.state, State::Asked) {
            self.fresh = None;
        }
    }
}

impl Fanout {
    /// The `sync` that was asked for came, or could not be had.
    pub fn refreshed<C: Connections>(
        &mut self,
        local: LocalGroupId,
        sync: Option<Arc<SyncFrame>>,
        connections: &mut C,
    ) {
        let is_begun = |group: &LocalGroup| group.afresh.is_some();
        if self.groups.get(local).is_some_and(is_begun) {
            self.finish_afresh(local, connections);
        }
        self.end_join(local);
        if let Some(group) = self.groups.get_mut(local) {
            let before = group.list.end();
            if let Some(fresh) = &mut group.fresh {
                fresh.state = match sync {
                    Some(sync) => {
                        (group.sync_len, group.sync_at) = (sync.len(), before);
                        State::Here(before, sync)
                    }
                    None => State::Gone,
                };
            }
            // Those who have waited for it.
            for (at, place) in group.places() {
                if group.list.is_past(group.next_of(at)) {
                    self.outcome.unfinished.push(place.connection);
                }
            }
        }
        self.let_go_if_empty(local);
    }

    /// How long a further `sync` for a reader far behind may be.
    pub(super) fn syncs_room(&self) -> usize {
        (self.bounds.worker / 2).saturating_sub(self.held_syncs.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::test_local::Local;
    use crate::fanout::{Budget, Entry};
    use crate::id::{GroupKey, SlotId};
    use crate::protocol::frame::{Event, GroupNames};
    use crate::protocol::pace::Pace;

    const ITEMS: usize = 100;

    fn value(n: usize) -> String {
        format!("\"{n:0>60}\"")
    }

    fn sync(time: u64) -> Arc<SyncFrame> {
        let names = GroupNames::new(&GroupKey::new("s", "g"));
        let chunks = (0..ITEMS).map(|n| format!(",{}", value(n)).as_str().into());
        Arc::new(SyncFrame::of_group(&names, time, chunks.collect()))
    }

    /// A room, and sockets in it that take nothing.
    fn room(sockets: usize) -> (Local, LocalGroupId, Vec<SlotId>) {
        let mut local = Local::new();
        let key = GroupKey::new("s", "g");
        let mut group = None;
        let sockets = (0..sockets).map(|_| {
            let at = local.socket();
            let id = local.fanout.begin_join(&key);
            let entry = Entry {
                id: "a".into(),
                item: None,
                sync: Some(sync(1)),
                pace: Pace::NONE,
            };
            local.fanout.enter(at, id, entry, &mut local.sockets);
            let mut budget = Budget::of_writes(1000);
            local.fanout.drain(at, &mut local.sockets, &mut budget);
            local.heard(at);
            local.block(at, 0);
            group = Some(id);
            at
        });
        let sockets = sockets.collect();
        local.fanout.bounds.reader = 1000;
        (local, group.unwrap(), sockets)
    }

    fn change_all(local: &mut Local, group: LocalGroupId, items: usize) {
        for n in 0..items {
            let value = value(n);
            local.tell(group, Some(&format!("u{n}")), Event::Update(&value));
            local.sweep(1000);
        }
    }

    fn taken(local: &mut Local, at: SlotId) -> usize {
        local.sockets.slots.get(at).unwrap().1.taken.len()
    }

    #[test]
    fn one_fresh_sync_takes_the_place_of_changes_that_weigh_more_for_all_who_are_far_behind() {
        let (mut local, group, sockets) = room(3);
        change_all(&mut local, group, ITEMS);
        change_all(&mut local, group, ITEMS);
        for at in &sockets {
            local.unblock(*at);
            assert_eq!(taken(&mut local, *at), 0, "it waits for the sync");
        }
        let asked = local.fanout.take_outcome().stale;
        assert_eq!(asked.len(), 1, "one for all");
        let fresh = sync(1000);
        let (fanout, slots) = (&mut local.fanout, &mut local.sockets);
        fanout.refreshed(group, Some(Arc::clone(&fresh)), slots);
        let waiting = local.fanout.take_outcome().unfinished;
        for at in waiting {
            let mut budget = Budget::of_writes(1000);
            local.fanout.drain(at, &mut local.sockets, &mut budget);
        }
        for at in &sockets {
            let sent = taken(&mut local, *at);
            assert!(sent <= fresh.len() * 11 / 10, "{sent} of {}", fresh.len());
            assert_eq!(local.heard(*at), [1000]);
        }
        local.sweep(1000);
        local.sweep(1000);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn what_comes_behind_a_fresh_sync_is_told_to_whoever_takes_it_later() {
        for is_there in [true, false] {
            let (mut local, group, sockets) = room(2);
            if is_there {
                local.tell(group, Some("x"), Event::Create("1"));
                for at in &sockets {
                    local.unblock(*at);
                    local.heard(*at);
                    local.block(*at, 0);
                }
            }
            change_all(&mut local, group, ITEMS);
            change_all(&mut local, group, ITEMS);
            let (before, behind) = match is_there {
                true => (Event::Delete("1"), Event::Create("2")),
                false => (Event::Create("1"), Event::Delete("1")),
            };
            local.tell(group, Some("x"), before);
            local.sweep(1000);
            local.unblock(sockets[0]);
            assert_eq!(local.fanout.take_outcome().stale.len(), 1);
            let (fanout, slots) = (&mut local.fanout, &mut local.sockets);
            fanout.refreshed(group, Some(sync(1000)), slots);
            local.unblock(sockets[0]);
            local.tell(group, Some("x"), behind);
            local.sweep(1000);
            local.tell(group, Some("u0"), Event::Update("1"));
            local.sweep(1000);
            let kind = if is_there { "x create" } else { "x delete" };
            for at in sockets {
                local.unblock(at);
                assert_eq!(local.heard_kinds(at), ["- sync", kind, "u0 update"]);
            }
            local.sweep(1000);
            assert_eq!(local.fanout.held_bytes(), 0);
        }
    }

    #[test]
    fn few_changes_are_told_one_by_one_and_so_are_all_where_no_sync_can_be_had() {
        let (mut local, group, sockets) = room(1);
        for _ in 0..ITEMS {
            change_all(&mut local, group, 10);
        }
        local.unblock(sockets[0]);
        assert!(local.fanout.take_outcome().stale.is_empty());
        assert_eq!(local.heard(sockets[0]).len(), 10, "each item once");
        local.block(sockets[0], 0);
        change_all(&mut local, group, ITEMS);
        local.unblock(sockets[0]);
        assert_eq!(local.fanout.take_outcome().stale.len(), 1);
        let (fanout, slots) = (&mut local.fanout, &mut local.sockets);
        fanout.refreshed(group, None, slots);
        local.unblock(sockets[0]);
        assert_eq!(local.heard(sockets[0]).len(), ITEMS);
        local.sweep(1000);
        assert_eq!(local.fanout.held_bytes(), 0);
    }
}
