//! One group on one worker: its list of last frames, and the sockets that follow it here.

use std::sync::{Arc, Weak};

use crate::id::{GroupKey, ItemId, LocalGroupId, SlotId};
use crate::protocol::frame::SyncFrame;

use super::afresh::Afresh;
use super::fresh::Fresh;
use super::list::List;
use super::pace::Paced;
use super::place::{Extra, Place};
use super::reader::{Connections, MemberAt};
use super::watchers::Watchers;

/// A group with local subscriptions, or with joins that wait for their `sync`.
pub(super) struct LocalGroup {
    pub(super) key: GroupKey,
    /// Of `key`, by the fan-out's hasher.
    pub(super) hash: u64,
    pub(super) list: List,
    /// Sockets that every event concerns.
    pub(super) members: Vec<Place>,
    /// Sockets that follow single items; `None`: there are none.
    watchers: Option<Box<Watchers>>,
    /// Joins sent to the owner and not answered yet.
    pub(super) joins: u32,
    /// The `sync` that was given to one here most recently.
    pub(super) last_sync: Weak<SyncFrame>,
    /// About how long a `sync` of the group is now.
    pub(super) sync_len: usize,
    /// That was known before this frame.
    pub(super) sync_at: u64,
    pub(super) sweep: Sweep,
    /// Readers far behind lack frames: those are to be kept by item.
    pub(super) is_to_compact: bool,
    /// A `sync` that is asked for, or is here, for readers far behind.
    pub(super) fresh: Option<Box<Fresh>>,
    /// While its subscriptions begin anew.
    pub(super) afresh: Option<Box<Afresh>>,
    /// What it is among subscriptions with a pace; `None`: it has none.
    pub(super) paced: Option<Box<Paced>>,
}

/// The places of a group, while its list is changed.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    members: &'a [Place],
    watchers: Option<&'a Watchers>,
}

impl<'a> Places<'a> {
    pub(super) fn get(self, at: MemberAt) -> Option<&'a Place> {
        match at {
            MemberAt::Members(index) => self.members.get(index as usize),
            MemberAt::Watchers(slot) => self.watchers?.get(slot),
        }
    }

    /// Whether anybody follows that item and not all of them.
    pub(super) fn are_watched(self, item: &str) -> bool {
        self.watchers.is_some_and(|watchers| watchers.has(item))
    }
}

/// How far the group's sweep is.
#[derive(Default)]
pub(super) struct Sweep {
    /// It stands in the queue of groups to be swept.
    pub(super) is_queued: bool,
    /// It has begun: what follows counts.
    pub(super) is_begun: bool,
    /// The watchers of events before it are marked.
    pub(super) has_marked: bool,
    /// Members before this one have been visited.
    pub(super) members: usize,
    /// So many of the due watchers, the first ones, have not been visited.
    pub(super) watchers_left: usize,
    /// Frames came since it began, or a place that it has visited moved on: another one follows.
    pub(super) is_outrun: bool,
    /// The least place of those visited.
    pub(super) slowest: u64,
    /// Frames from the one to before the other came between the beginnings of the last one and of
    /// this: whoever is behind has them more to wait for.
    pub(super) fresh_from: u64,
    pub(super) fresh_to: u64,
    /// Bytes of the frames that came since it, or the last one, began.
    pub(super) fresh_bytes: usize,
    /// These were more than the bound: it counts among the fan-out's lagging ones.
    pub(super) is_lagging: bool,
    /// When the first frame came that is not swept, in µs that wrap; and the first of those that are
    /// being swept. 0: there is none.
    pub(super) due_us: u32,
    pub(super) swept_us: u32,
}

impl Sweep {
    /// A frame came at that time.
    pub(super) fn note_due(&mut self, due_us: u64) {
        if self.due_us == 0 {
            self.due_us = (due_us as u32).max(1);
        }
    }
}

impl LocalGroup {
    pub(super) fn new(key: GroupKey, hash: u64) -> LocalGroup {
        LocalGroup {
            key,
            hash,
            list: List::default(),
            members: Vec::new(),
            watchers: None,
            joins: 0,
            last_sync: Weak::new(),
            sync_len: 0,
            sync_at: 0,
            sweep: Sweep::default(),
            is_to_compact: false,
            fresh: None,
            afresh: None,
            paced: None,
        }
    }

    /// Nobody here follows it or is about to.
    pub(super) fn is_empty(&self) -> bool {
        self.has_nobody() && self.joins == 0 && self.cohorts().is_empty()
    }

    /// Nobody is in it, so nobody lacks anything.
    pub(super) fn has_nobody(&self) -> bool {
        self.members.is_empty() && self.watchers.is_none()
    }

    /// Sockets in it, and joins.
    pub(super) fn followers_len(&self) -> usize {
        let watchers = self.watchers.as_ref().map_or(0, |watchers| watchers.len());
        self.members.len() + watchers + self.joins as usize
    }

    #[cfg(test)]
    pub(super) fn watchers(&self) -> Option<&Watchers> {
        self.watchers.as_deref()
    }

    /// Nobody lacks anything, or will for an event that comes now.
    pub(super) fn lacks_nothing(&self) -> bool {
        let lack_nothing = |watchers: &Watchers| watchers.lack_nothing();
        self.members.is_empty() && self.watchers.as_deref().is_none_or(lack_nothing)
    }

    pub(super) fn list_and_places(&mut self) -> (&mut List, Places<'_>) {
        let places = Places {
            members: &self.members,
            watchers: self.watchers.as_deref(),
        };
        (&mut self.list, places)
    }

    pub(super) fn place_mut(&mut self, at: MemberAt) -> Option<&mut Place> {
        match at {
            MemberAt::Members(index) => self.members.get_mut(index as usize),
            MemberAt::Watchers(slot) => self.watchers.as_mut()?.get_mut(slot),
        }
    }

    pub(super) fn place(&self, at: MemberAt) -> Option<&Place> {
        let places = Places {
            members: &self.members,
            watchers: self.watchers.as_deref(),
        };
        places.get(at)
    }

    /// Where that place's next frame is.
    pub(super) fn next_of(&self, at: MemberAt) -> u64 {
        let end = self.list.end();
        match at {
            MemberAt::Members(index) => {
                let place = self.members.get(index as usize);
                place.map_or(end, |place| place.next)
            }
            MemberAt::Watchers(slot) => {
                let watchers = self.watchers.as_ref();
                watchers.map_or(end, |watchers| watchers.next_of(slot, end))
            }
        }
    }

    pub(super) fn add(&mut self, place: Place) -> MemberAt {
        let extra = place.extra.as_deref();
        if extra.is_none_or(Extra::follows_whole) {
            self.members.push(place);
            return MemberAt::Members(self.members.len() as u32 - 1);
        }
        MemberAt::Watchers(self.watchers.get_or_insert_default().add(place))
    }

    /// The watcher, which did not follow that item, or the whole group, is to be visited for it.
    pub(super) fn watch(&mut self, item: Option<ItemId>, slot: u32) {
        if let Some(watchers) = &mut self.watchers {
            watchers.watch(item, slot);
        }
    }

    pub(super) fn unwatch(&mut self, item: Option<&ItemId>, slot: u32) {
        if let Some(watchers) = &mut self.watchers {
            watchers.unwatch(item, slot);
        }
    }

    /// How many sockets follow single items.
    pub(super) fn watchers_total(&self) -> usize {
        self.watchers.as_ref().map_or(0, |watchers| watchers.len())
    }

    /// How many watchers the item has.
    pub(super) fn watchers_len(&self, item: &ItemId) -> usize {
        let watchers = self.watchers.as_ref();
        watchers.map_or(0, |watchers| watchers.len_of(item))
    }

    /// Whether the running sweep has been there, or will not come there.
    pub(super) fn is_visited(&self, at: MemberAt) -> bool {
        let visited = match at {
            MemberAt::Members(index) => (index as usize) < self.sweep.members,
            MemberAt::Watchers(slot) => {
                let place = self
                    .watchers
                    .as_ref()
                    .and_then(|watchers| watchers.place_in_due(slot));
                let is_left = place.is_some_and(|place| place < self.sweep.watchers_left);
                self.sweep.has_marked && !is_left
            }
        };
        visited && self.sweep.is_begun
    }

    /// Takes a place out. Its socket's own entry is the caller's.
    pub(super) fn remove<C: Connections>(
        &mut self,
        local: LocalGroupId,
        at: MemberAt,
        connections: &mut C,
    ) -> Option<Place> {
        match at {
            MemberAt::Watchers(slot) => {
                let watchers = self.watchers.as_mut()?;
                let place = watchers.remove(slot)?;
                if watchers.is_empty() {
                    self.watchers = None;
                    self.sweep.watchers_left = 0;
                }
                Some(place)
            }
            MemberAt::Members(index) => self.remove_member(local, index as usize, connections),
        }
    }

    /// Takes a member out and fills its place from the end, so that the sweep visits everyone once:
    /// a hole among those visited is filled by one who was.
    fn remove_member<C: Connections>(
        &mut self,
        local: LocalGroupId,
        mut index: usize,
        connections: &mut C,
    ) -> Option<Place> {
        if index >= self.members.len() {
            return None;
        }
        if index < self.sweep.members {
            self.sweep.members -= 1;
            let last_visited = self.sweep.members;
            self.members.swap(index, last_visited);
            moved(self.members[index].connection, local, index, connections);
            index = last_visited;
        }
        let place = self.members.swap_remove(index);
        if let Some(filler) = self.members.get(index) {
            moved(filler.connection, local, index, connections);
        }
        if self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(self.members.len() * 2);
        }
        Some(place)
    }

    /// All places and where they stand.
    pub(super) fn places(&self) -> impl Iterator<Item = (MemberAt, &Place)> {
        let members = self.members.iter().enumerate();
        let members = members.map(|(index, place)| (MemberAt::Members(index as u32), place));
        let watchers = self.watchers.iter().flat_map(|watchers| watchers.iter());
        members.chain(watchers.map(|(slot, place)| (MemberAt::Watchers(slot), place)))
    }

    pub(super) fn check_invariants(&self) {
        self.list.check_invariants();
        debug_assert!(self.sweep.members <= self.members.len());
        let due_len = self
            .watchers
            .as_ref()
            .map_or(0, |watchers| watchers.due_len());
        debug_assert!(!self.sweep.is_begun || self.sweep.watchers_left <= due_len);
        debug_assert!(self.sweep.is_queued || !self.sweep.is_begun);
        debug_assert!(self.sweep.is_queued || self.sweep.fresh_bytes == 0);
        match self.cohort() {
            Some(cohort) => {
                debug_assert!(cohort.has_news || cohort.open_to >= self.list.end());
                debug_assert!(cohort.is_queued || !self.sweep.is_lagging && !cohort.is_due);
            }
            None => debug_assert!(self.sweep.fresh_bytes > 0 || !self.sweep.is_lagging),
        }
        for (at, place) in self.places() {
            let next = self.next_of(at);
            debug_assert!(self.list.holds_from(next), "a frame that it lacks is gone");
            place.check_invariants();
        }
        if let Some(watchers) = &self.watchers {
            debug_assert!(!watchers.is_empty());
            watchers.check_invariants();
        }
    }

    /// A frame of that number is about to come: those who watch for it lack it from now on. Gives how
    /// many were marked for that; where they are many, the sweep does it.
    pub(super) fn note_event(&mut self, item: Option<&str>, number: u64) -> usize {
        let watchers = self.watchers.as_mut();
        watchers.map_or(0, |watchers| watchers.note_event(item, number))
    }

    /// The sweep marks so many watchers at most, and gives how many; `None`: all are.
    pub(super) fn mark_some(&mut self, most: usize) -> Option<usize> {
        let (before, end) = (self.sweep.fresh_to, self.list.end());
        self.watchers.as_mut()?.mark_some(most, before, end)
    }

    /// All are marked: the sweep visits those who are due now.
    pub(super) fn have_marked(&mut self) {
        self.sweep.has_marked = true;
        let watchers = self.watchers.as_ref();
        self.sweep.watchers_left = watchers.map_or(0, |watchers| watchers.due_len());
    }

    /// Whom the sweep visits next.
    pub(super) fn next_visit(&self) -> Option<MemberAt> {
        if self.sweep.members < self.members.len() {
            return Some(MemberAt::Members(self.sweep.members as u32));
        }
        if self.sweep.watchers_left == 0 {
            return None;
        }
        let slot = self.watchers.as_ref()?.first_due()?;
        Some(MemberAt::Watchers(slot))
    }

    /// It has been there.
    pub(super) fn pass_visit(&mut self, at: MemberAt) {
        match at {
            MemberAt::Members(_) => self.sweep.members += 1,
            MemberAt::Watchers(_) => {
                self.sweep.watchers_left -= 1;
                if let Some(watchers) = &mut self.watchers {
                    watchers.pass_first_due();
                }
            }
        }
    }

    /// The watcher lacks something, from there on. A running sweep may not come there any more.
    pub(super) fn mark_watcher(&mut self, slot: u32, next: u64) {
        if let Some(watchers) = &mut self.watchers {
            watchers.enlist(slot, next);
        }
        self.sweep.slowest = self.sweep.slowest.min(next);
        self.sweep.is_outrun |= self.sweep.is_begun;
    }

    /// A place lacks nothing any more.
    pub(super) fn pass_all(&mut self, at: MemberAt) {
        let end = self.list.end();
        if let Some(place) = self.place_mut(at) {
            place.next = end;
            if let Some(extra) = &mut place.extra {
                extra.due = false;
            }
        }
    }

    /// Brings a place up to the first frame that it lacks; `send` takes the `sync`s before that.
    pub(super) fn catch_up(&mut self, at: MemberAt, send: impl FnMut(Arc<SyncFrame>)) {
        let next = self.next_of(at);
        if let MemberAt::Watchers(slot) = at
            && next < self.list.end()
            && !self.is_due(at)
        {
            self.mark_watcher(slot, next); // it was still to be marked
        }
        let place = match at {
            MemberAt::Members(index) => self.members.get_mut(index as usize),
            MemberAt::Watchers(slot) => {
                let watchers = self.watchers.as_mut();
                watchers.and_then(|watchers| watchers.get_mut(slot))
            }
        };
        if let Some(place) = place {
            place.next = next;
            place.catch_up(&self.list, send);
        }
    }

    fn is_due(&self, at: MemberAt) -> bool {
        let extra = self.place(at).and_then(|place| place.extra.as_ref());
        extra.is_some_and(|extra| extra.due)
    }
}

/// Tells a socket where its member stands now.
fn moved<C: Connections>(
    connection: SlotId,
    local: LocalGroupId,
    index: usize,
    connections: &mut C,
) {
    if let Some((reader, _)) = connections.parts(connection)
        && let Some(found) = reader.membership(local)
    {
        reader.memberships[found].at = MemberAt::Members(index as u32);
    }
}
