//! One group on one worker: its list of last frames, and the sockets that follow it here.

use std::sync::{Arc, Weak};

use hashbrown::HashMap;

use crate::collections::Slots;
use crate::id::{GroupKey, ItemId, LocalGroupId, SlotId};
use crate::protocol::frame::SyncFrame;

use super::list::List;
use super::place::{Extra, Place};
use super::reader::{Connections, MemberAt};

/// No watcher stands there.
const NOBODY: u32 = u32::MAX;

/// A group with local subscriptions, or with joins that wait for their `sync`.
pub(super) struct LocalGroup {
    pub(super) key: GroupKey,
    /// Of `key`, by the fan-out's hasher.
    pub(super) hash: u64,
    pub(super) list: List,
    /// Sockets that every event concerns.
    pub(super) members: Vec<Place>,
    /// Sockets that follow single items only: found by item, so that an event of one item does not
    /// visit those of the others.
    pub(super) watchers: Slots<Place>,
    pub(super) by_item: HashMap<ItemId, Vec<u32>>,
    /// Watchers that lack something, each once. May name one that lacks nothing any more, or
    /// [`NOBODY`] in place of one that is gone.
    pub(super) due_watchers: Vec<u32>,
    /// Joins sent to the owner and not answered yet.
    pub(super) joins: u32,
    /// The `sync` that was given to one here most recently.
    pub(super) last_sync: Weak<SyncFrame>,
    pub(super) sweep: Sweep,
}

/// How far the group's sweep is.
#[derive(Default)]
pub(super) struct Sweep {
    /// It stands in the queue of groups to be swept.
    pub(super) is_queued: bool,
    /// It has begun: what follows counts.
    pub(super) is_begun: bool,
    /// Members before this one have been visited.
    pub(super) members: usize,
    /// Due watchers before this one have been visited.
    pub(super) watchers: usize,
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
}

impl LocalGroup {
    pub(super) fn new(key: GroupKey, hash: u64) -> LocalGroup {
        LocalGroup {
            key,
            hash,
            list: List::default(),
            members: Vec::new(),
            watchers: Slots::default(),
            by_item: HashMap::new(),
            due_watchers: Vec::new(),
            joins: 0,
            last_sync: Weak::new(),
            sweep: Sweep::default(),
        }
    }

    /// Nobody here follows it or is about to.
    pub(super) fn is_empty(&self) -> bool {
        self.has_nobody() && self.joins == 0
    }

    /// Nobody is in it, so nobody lacks anything.
    pub(super) fn has_nobody(&self) -> bool {
        self.members.is_empty() && self.watchers.is_empty()
    }

    pub(super) fn place_mut(&mut self, at: MemberAt) -> Option<&mut Place> {
        match at {
            MemberAt::Members(index) => self.members.get_mut(index as usize),
            MemberAt::Watchers(slot) => self.watchers.get_mut(slot),
        }
    }

    pub(super) fn place(&self, at: MemberAt) -> Option<&Place> {
        match at {
            MemberAt::Members(index) => self.members.get(index as usize),
            MemberAt::Watchers(slot) => self.watchers.get(slot),
        }
    }

    /// Where that place's next frame is: a watcher that is not due lacks nothing.
    pub(super) fn next_of(&self, at: MemberAt) -> u64 {
        let end = self.list.end();
        match (at, self.place(at)) {
            (_, None) => end,
            (MemberAt::Members(_), Some(place)) => place.next,
            (MemberAt::Watchers(_), Some(place)) => {
                let is_due = place.extra.as_ref().is_some_and(|extra| extra.due);
                if is_due { place.next } else { end }
            }
        }
    }

    pub(super) fn add(&mut self, place: Place) -> MemberAt {
        let follows_whole = place
            .extra
            .as_ref()
            .is_none_or(|extra| extra.follows_whole());
        if follows_whole {
            self.members.push(place);
            return MemberAt::Members(self.members.len() as u32 - 1);
        }
        let items = place
            .extra
            .as_ref()
            .map(|extra| extra.items())
            .unwrap_or_default();
        let slot = self.watchers.insert(place);
        for item in items {
            self.watch(item, slot);
        }
        MemberAt::Watchers(slot)
    }

    /// The watcher, which did not follow that item yet, is to be visited for its events.
    pub(super) fn watch(&mut self, item: ItemId, slot: u32) {
        self.by_item.entry(item).or_default().push(slot);
    }

    pub(super) fn unwatch(&mut self, item: &ItemId, slot: u32) {
        if let Some(watchers) = self.by_item.get_mut(item) {
            if let Some(found) = position(watchers, slot) {
                watchers.swap_remove(found);
            }
            if watchers.is_empty() {
                self.by_item.remove(item);
            }
        }
    }

    /// How many watchers the item has.
    pub(super) fn watchers_len(&self, item: &ItemId) -> usize {
        self.by_item.get(item).map_or(0, Vec::len)
    }

    /// Whether the running sweep has been there.
    pub(super) fn is_visited(&self, at: MemberAt) -> bool {
        let visited = match at {
            MemberAt::Members(index) => (index as usize) < self.sweep.members,
            MemberAt::Watchers(slot) => {
                let extra = self
                    .watchers
                    .get(slot)
                    .and_then(|place| place.extra.as_ref());
                let listed = extra.and_then(|extra| extra.listed);
                listed.is_some_and(|listed| (listed as usize) < self.sweep.watchers)
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
                let mut place = self.watchers.remove(slot)?;
                if let Some(listed) = place.extra.as_mut().and_then(|extra| extra.listed.take()) {
                    // The slot may soon be another's, who is not to be listed twice.
                    self.due_watchers[listed as usize] = NOBODY;
                }
                for item in place
                    .extra
                    .as_ref()
                    .map(|extra| extra.items())
                    .unwrap_or_default()
                {
                    self.unwatch(&item, slot);
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
        let watchers = self.watchers.iter();
        members.chain(watchers.map(|(slot, place)| (MemberAt::Watchers(slot), place)))
    }

    pub(super) fn check_invariants(&self) {
        self.list.check_invariants();
        debug_assert!(self.sweep.members <= self.members.len());
        debug_assert!(!self.sweep.is_begun || self.sweep.watchers <= self.due_watchers.len());
        debug_assert!(self.sweep.is_queued || !self.sweep.is_begun);
        debug_assert!(self.sweep.is_queued || self.sweep.fresh_bytes == 0);
        debug_assert!(self.sweep.fresh_bytes > 0 || !self.sweep.is_lagging);
        for (at, place) in self.places() {
            let next = self.next_of(at);
            debug_assert!(self.list.holds_from(next), "a frame that it lacks is gone");
            place.check_invariants();
            match (at, &place.extra) {
                (MemberAt::Members(_), extra) => {
                    let follows_whole = |extra: &Extra| extra.follows_whole();
                    debug_assert!(extra.as_deref().is_none_or(follows_whole));
                }
                (MemberAt::Watchers(_), None) => debug_assert!(false, "it follows everything"),
                (MemberAt::Watchers(slot), Some(extra)) => {
                    debug_assert!(!extra.follows_whole());
                    for item in extra.items() {
                        let watchers = self.by_item.get(&item);
                        debug_assert!(watchers.is_some_and(|watchers| watchers.contains(&slot)));
                    }
                    debug_assert!(!extra.due || extra.listed.is_some());
                    let listed = extra
                        .listed
                        .map(|listed| self.due_watchers[listed as usize]);
                    debug_assert!(listed.is_none_or(|listed| listed == slot));
                }
            }
        }
        for (item, watchers) in &self.by_item {
            debug_assert!(!watchers.is_empty());
            for (number, slot) in watchers.iter().enumerate() {
                let extra = self
                    .watchers
                    .get(*slot)
                    .and_then(|place| place.extra.as_ref());
                debug_assert!(extra.is_some_and(|extra| extra.follows(item)));
                debug_assert!(!watchers[..number].contains(slot), "listed twice");
            }
        }
        let is_listed = |(_, place): &(u32, &Place)| {
            place
                .extra
                .as_ref()
                .is_some_and(|extra| extra.listed.is_some())
        };
        let named = self.due_watchers.iter().filter(|slot| **slot != NOBODY);
        debug_assert_eq!(
            named.count(),
            self.watchers.iter().filter(is_listed).count()
        );
    }

    /// A frame for that item came: its watchers lack it from now on. Gives how many they are.
    pub(super) fn mark_watchers(&mut self, item: &str, number: u64) -> usize {
        let Some(watchers) = self.by_item.get(item) else {
            return 0;
        };
        for slot in watchers {
            let Some(place) = self.watchers.get_mut(*slot) else {
                continue;
            };
            if let Some(extra) = &mut place.extra
                && !extra.due
            {
                place.next = number;
                enlist(&mut self.due_watchers, *slot, extra);
            }
        }
        watchers.len()
    }

    /// The watcher lacks something, from its place on.
    pub(super) fn mark_watcher(&mut self, slot: u32) {
        let place = self.watchers.get_mut(slot);
        if let Some(extra) = place.and_then(|place| place.extra.as_mut()) {
            enlist(&mut self.due_watchers, slot, extra);
        }
    }

    /// Takes those out of the due watchers who lack nothing any more.
    pub(super) fn retain_due(&mut self) {
        let mut kept = 0;
        self.due_watchers.retain(|slot| {
            let place = self.watchers.get_mut(*slot);
            let Some(extra) = place.and_then(|place| place.extra.as_mut()) else {
                return false;
            };
            extra.listed = extra.due.then_some(kept);
            kept += u32::from(extra.due);
            extra.due
        });
        if self.due_watchers.is_empty() {
            self.due_watchers.shrink_to(64);
        }
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
        let place = match at {
            MemberAt::Members(index) => self.members.get_mut(index as usize),
            MemberAt::Watchers(slot) => self.watchers.get_mut(slot),
        };
        if let Some(place) = place {
            place.next = next;
            place.catch_up(&self.list, send);
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

fn enlist(due_watchers: &mut Vec<u32>, slot: u32, extra: &mut Extra) {
    extra.due = true;
    if extra.listed.is_none() {
        extra.listed = Some(due_watchers.len() as u32);
        due_watchers.push(slot);
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
