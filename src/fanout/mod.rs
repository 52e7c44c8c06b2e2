//! Who has heard what: for each group with local subscribers the list of its last frames, and for
//! each subscriber its place in that list.
//!
//! Pure: no socket, clock, thread or log line. Sockets are lent as [`Connections`].
//!
//! Fan-out is a sweep over the places of a group: each socket gets, in one write, all that it
//! lacks, and its place moves on. Frames that come meanwhile lengthen the list and start no second
//! sweep, so a room too big for its rate gets larger writes, not a longer queue.
//!
//! ```
//! use std::io::IoSlice;
//! use std::sync::Arc;
//!
//! use iii_stream::collections::Named;
//! use iii_stream::fanout::{Bounds, Budget, Connections, Entry, Fanout, Reader, Socket, Written};
//! use iii_stream::id::{GroupKey, SlotId};
//! use iii_stream::protocol::frame::{Event, EventFrame, GroupNames};
//! use iii_stream::protocol::pace::Pace;
//!
//! /// A socket that takes everything.
//! #[derive(Default)]
//! struct Takes { writes: usize, bytes: usize }
//!
//! impl Socket for Takes {
//!     fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
//!         self.writes += 1;
//!         self.bytes += slices.iter().map(|slice| slice.len()).sum::<usize>();
//!         Written::All
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Sockets(Named<(Reader, Takes)>);
//!
//! impl Connections for Sockets {
//!     type Socket = Takes;
//!     fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut Takes)> {
//!         self.0.get_mut(id).map(|(reader, socket)| (reader, socket))
//!     }
//! }
//!
//! let bounds = Bounds { reader: 1 << 20, worker: 256 << 20, custom_events: 1000 };
//! let (mut fanout, mut sockets) = (Fanout::new(bounds), Sockets::default());
//! let (key, id) = (GroupKey::new("chat", "room-1"), sockets.0.insert(Default::default()));
//! let local = fanout.begin_join(&key);
//! let entry = Entry { id: "me".into(), item: None, sync: None, pace: Pace::NONE };
//! fanout.enter(id, local, entry, &mut sockets);
//!
//! // Two events come before the sweep: one write takes both.
//! let names = GroupNames::new(&key);
//! let frame = Arc::new(EventFrame::encode(&names, 1_795_474_467_867, Some("ada"), Event::Update("1")));
//! fanout.append(local, Arc::clone(&frame));
//! fanout.append(local, Arc::clone(&frame));
//! while fanout.is_due() {
//!     fanout.sweep(&mut sockets, &mut Budget::of_writes(64));
//! }
//! let (_, socket) = sockets.0.get_mut(id).unwrap();
//! assert_eq!((socket.writes, socket.bytes), (1, 2 * frame.wire().len()));
//! ```

mod afresh;
mod behind;
mod budget;
mod cohorts;
mod compaction;
#[cfg(test)]
mod converge;
mod ending;
mod entering;
mod fresh;
mod group;
mod held;
mod item_counts;
mod kept;
mod list;
mod marks;
mod members;
mod order;
mod pace;
mod ping;
mod place;
mod plan;
mod reader;
mod refresh;
mod shared;
mod socket;
mod sweep;
#[cfg(test)]
mod test_local;
mod views;
mod watchers;

pub use afresh::SyncOf;
pub use behind::Behind;
pub use budget::{Budget, Tally};
pub use ending::Ending;
pub use reader::{Connections, Reader};
pub use socket::{Socket, Written};

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::collections::{Index, Named};
use crate::id::{GroupKey, ItemId, LocalGroupId, SlotId};
use crate::protocol::frame::{EventFrame, SyncFrame};
use crate::protocol::pace::Pace;

use cohorts::Cohorts;
use group::LocalGroup;
use held::HeldSyncs;
use kept::KeptFrames;
use list::Joined;
use pace::Paced;
use plan::Plan;
use reader::{Membership, Subscription};
use shared::SharedPiece;

/// A group lags while more than this part of the bound has come since its sweep began: small enough
/// that the sweeps before a reader's next visit cannot put it far beyond the bound.
const LAG_PARTS_OF_BOUND: usize = 4;

/// Watchers that events mark themselves before a sweep has to go on.
const MARKS_A_SWEEP: usize = 8 * 1024;

/// A socket that follows more items than this of a group is not moved between its members and its
/// watchers: each of the items would have to be entered or taken out in one go. Debug builds have
/// fewer, so that the simulation's sockets come to have more.
const MOVED_ITEMS_MAX: usize = if cfg!(debug_assertions) { 2 } else { 64 };

/// The groups that a worker's sockets follow.
pub struct Fanout {
    groups: Named<LocalGroup>,
    by_key: Index,
    hasher: DefaultHashBuilder,
    /// Groups in which somebody lacks something, each once.
    due: VecDeque<LocalGroupId>,
    /// Groups whose subscriptions begin anew, each once.
    afresh: VecDeque<LocalGroupId>,
    /// Groups into which frames come faster than they are swept.
    lagging_len: usize,
    joined: Joined,
    shared: SharedPiece,
    cohorts: Cohorts,
    bounds: Bounds,
    /// Bytes of all lists.
    held_bytes: usize,
    held_syncs: HeldSyncs,
    /// Watchers that events have marked since a sweep last went on.
    marks: usize,
    /// Subscriptions that stand.
    subscriptions_len: usize,
    /// Readers that are brought up to date by item.
    far_behind_len: usize,
    /// The time of what is appended now, by the caller's clock.
    due_us: u64,
    swept: Vec<Swept>,
    outcome: Outcome,
    /// Sockets that took less than they were given, and whether they took anything.
    blocked: Vec<(SlotId, bool)>,
    /// Laid out and carried out within one write; kept for its memory.
    plan: Plan,
    /// The process has too little memory: almost nothing may wait.
    is_pressed: bool,
    /// What was kept for groups that are gone: it is dropped over turns.
    dropped: Vec<KeptFrames>,
}

/// How much may wait for readers that are behind, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For one reader, in all its groups together: `limits.behind_bytes`. Above, it is brought up to date
    /// by item.
    pub reader: usize,
    /// For all readers: `limits.behind_bytes_worker`. Above, less may wait for each.
    pub worker: usize,
    /// Custom events for each subscription of a reader further behind: `limits.custom_events_behind`, in
    /// events.
    pub custom_events: usize,
}

/// What the worker has to do after it called: it takes these with [`Fanout::take_outcome`].
#[derive(Default)]
pub struct Outcome {
    /// Sockets that take nothing of the `sync`s that they hold up, while all hold up more than they may.
    pub slow: Vec<SlotId>,
    /// Sockets that died while they were written to.
    pub gone: Vec<SlotId>,
    /// Sockets that lack more than there was budget for: they are to be drained again.
    pub unfinished: Vec<SlotId>,
    /// Groups that nobody here follows any more: their owners are told.
    pub left: Vec<(GroupKey, LocalGroupId)>,
    /// Groups whose owners are asked for a fresh `sync`, ended by [`Fanout::refreshed`].
    pub stale: Vec<(GroupKey, LocalGroupId)>,
    /// Custom events that readers too far behind have lost.
    pub customs_dropped: u64,
}

impl Outcome {
    /// Whether nothing has come up.
    pub fn is_empty(&self) -> bool {
        let sockets = [&self.slow, &self.gone, &self.unfinished];
        let groups = [&self.left, &self.stale];
        sockets.iter().all(|sockets| sockets.is_empty())
            && groups.iter().all(|groups| groups.is_empty())
            && self.customs_dropped == 0
    }
}

/// Events whose sweep has ended: every socket that takes bytes has been given them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// When the first of them came, by the clock of [`Fanout::events_are_of`].
    pub due_us: u64,
    /// How many they were.
    pub events: u64,
}

/// A join that the owner has let in.
pub struct Entry {
    /// The client's name for the subscription.
    pub id: Box<str>,
    /// One item, or the whole group.
    pub item: Option<ItemId>,
    /// What it is sent first.
    pub sync: Option<Arc<SyncFrame>>,
    /// How far apart it is written to at least.
    pub pace: Pace,
}

impl Fanout {
    /// A fan-out with those bounds.
    pub fn new(bounds: Bounds) -> Fanout {
        Fanout {
            groups: Named::default(),
            by_key: Index::default(),
            hasher: DefaultHashBuilder::default(),
            due: VecDeque::new(),
            afresh: VecDeque::new(),
            lagging_len: 0,
            joined: Joined::default(),
            shared: SharedPiece::default(),
            cohorts: Cohorts::default(),
            bounds,
            held_bytes: 0,
            held_syncs: HeldSyncs::default(),
            marks: 0,
            subscriptions_len: 0,
            far_behind_len: 0,
            due_us: 0,
            swept: Vec::new(),
            outcome: Outcome::default(),
            blocked: Vec::new(),
            plan: Plan::default(),
            is_pressed: false,
            dropped: Vec::new(),
        }
    }

    /// What may wait from now on: seen to in the next sweeps.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Groups with local subscriptions or joins.
    pub fn groups_len(&self) -> usize {
        self.groups.len() - self.cohorts.len
    }

    /// Whether a sweep has still to begin or to go on.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
            || !self.afresh.is_empty()
            || !self.dropped.is_empty()
            || !self.cohorts.rest()
    }

    /// Whether sweeps have to go on before more frames are taken. Readers that no sweep has reached
    /// yet are not slow, so nothing else bounds what is kept for them. A sweep needs nobody's help,
    /// so this ends.
    pub fn is_lagging(&self) -> bool {
        self.lagging_len > 0 || self.marks >= MARKS_A_SWEEP || !self.afresh.is_empty()
    }

    /// What has come up since this was last asked.
    pub fn take_outcome(&mut self) -> Outcome {
        std::mem::take(&mut self.outcome)
    }

    /// Sockets that took less than they were given since this was last asked, and whether they took anything.
    pub fn take_blocked(&mut self) -> Vec<(SlotId, bool)> {
        std::mem::take(&mut self.blocked)
    }

    /// A join is sent to the group's owner: gives the entry to name there. Ended by
    /// [`Fanout::enter`] or [`Fanout::give_up`].
    pub fn begin_join(&mut self, key: &GroupKey) -> LocalGroupId {
        let hash = self.hasher.hash_one(key);
        let id = match self.find(hash, key) {
            Some(id) => id,
            None => {
                let id = self.groups.insert(LocalGroup::new(key.clone(), hash));
                let groups = &self.groups;
                let hash_of = |slot| {
                    groups
                        .id_at(slot)
                        .and_then(|id| groups.get(id))
                        .map_or(0, |group| group.hash)
                };
                self.by_key.insert(hash, id.slot, hash_of);
                id
            }
        };
        if let Some(group) = self.groups.get_mut(id) {
            group.joins += 1;
        }
        id
    }

    /// The join of a socket is void: the socket is gone, or has too much to take already.
    pub fn give_up(&mut self, local: LocalGroupId) {
        self.end_join(local);
        self.let_go_if_empty(local);
    }

    /// An event of the group came from its owner.
    pub fn append(&mut self, local: LocalGroupId, frame: Arc<EventFrame>) {
        let frame = match self.afresh.is_empty() {
            true => frame,
            false => match self.keep_behind(local, frame) {
                Some(frame) => frame,
                None => return,
            },
        };
        let paced = self
            .groups
            .get(local)
            .and_then(|group| group.paced.as_deref());
        match paced {
            None => {}
            Some(Paced::Group(_)) => self.append_to_cohorts(local, &frame),
            Some(Paced::Cohort(_)) => return self.append_paced(local, frame),
        }
        let Some(group) = self.groups.get_mut(local) else {
            return;
        };
        let number = group.list.end();
        self.marks += group.note_event(frame.item(), number);
        if group.lacks_nothing() {
            return;
        }
        group.sweep.note_due(self.due_us);
        let len = frame.wire().len();
        self.held_bytes += len;
        group.sweep.fresh_bytes += len;
        let bytes = group.sweep.fresh_bytes;
        self.lagging_len += usize::from(group.sweep.note_lag(bytes, self.bounds.reader));
        group.list.append(frame);
        self.make_due(local);
    }

    /// What is appended from here on has come at that time, in µs since some moment.
    pub fn events_are_of(&mut self, due_us: u64) {
        self.due_us = due_us;
    }

    /// The events that have been swept since this was last asked.
    pub fn take_swept(&mut self) -> std::vec::Drain<'_, Swept> {
        self.swept.drain(..)
    }

    /// Subscriptions that stand, of all sockets.
    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions_len
    }

    /// Readers that are further behind than they may be, and are brought up to date by item.
    pub fn far_behind_len(&self) -> usize {
        self.far_behind_len
    }

    /// Bytes of the frames that somebody here still lacks, or whose sweep has not ended.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Panics where what should hold does not: for tests, since it looks at everyone.
    pub fn check_invariants<C: Connections>(&self, connections: &mut C) {
        let lists = self.groups.iter().map(|(_, group)| group.list.held_bytes());
        debug_assert_eq!(self.held_bytes, lists.sum::<usize>());
        let lagging = self
            .groups
            .iter()
            .filter(|(_, group)| group.sweep.is_lagging);
        debug_assert_eq!(self.lagging_len, lagging.count());
        debug_assert!(self.is_due() || self.lagging_len == 0, "it would not end");
        let mut far_behind = BTreeSet::new();
        for (local, group) in self.groups.iter() {
            group.check_invariants();
            debug_assert!(!group.is_empty(), "nobody follows it");
            debug_assert_eq!(
                group.sweep.is_queued,
                self.due.iter().filter(|due| **due == local).count() == 1
            );
            for (at, place) in group.places() {
                let Some((reader, _)) = connections.parts(place.connection) else {
                    debug_assert!(false, "its socket is gone");
                    continue;
                };
                let waiting = reader.memberships.iter().filter_map(|entry| {
                    let group = self.groups.get(entry.local)?;
                    Some(group.place(entry.at)?.waiting_bytes())
                });
                reader.check_invariants(waiting.sum());
                if reader.is_far_behind() {
                    far_behind.insert(place.connection);
                }
                let at_here = |entry: &&Membership| entry.local == local;
                let mut entries = reader.memberships.iter().filter(at_here);
                let entry = entries.next();
                debug_assert_eq!(entry.map(|entry| entry.at), Some(at));
                let is_held = group.is_cohort() && group.is_held(at);
                let is_behind =
                    group.next_of(at) < group.list.end() && !reader.is_ending && !is_held;
                let will_be_visited =
                    group.sweep.is_queued && (!group.is_visited(at) || group.sweep.is_outrun);
                debug_assert!(
                    !is_behind
                        || will_be_visited
                        || entry.is_some_and(|entry| reader.looks_at(entry)),
                    "it will not get what it lacks"
                );
                debug_assert!(entries.next().is_none(), "one entry a group");
                let of_group = |subscription: &&Subscription| subscription.local == local;
                let subscriptions = reader.subscriptions.iter().filter(of_group);
                debug_assert!(
                    reader.is_ending || place.subscriptions_len() == subscriptions.count()
                );
                for entry in &reader.memberships {
                    let group = self.groups.get(entry.local);
                    let there = group.and_then(|group| group.place(entry.at));
                    debug_assert_eq!(there.map(|there| there.connection), Some(place.connection));
                }
            }
        }
        debug_assert_eq!(self.far_behind_len, far_behind.len());
    }

    /// How many sockets follow that group here, or are about to.
    pub fn followers_len(&self, key: &GroupKey) -> usize {
        let local = self.find(self.hasher.hash_one(key), key);
        let group = local.and_then(|local| self.groups.get(local));
        let cohorts = group.map_or(&[][..], LocalGroup::cohorts).iter();
        let cohorts = cohorts.filter_map(|(_, cohort)| self.groups.get(*cohort));
        let all = cohorts.chain(group).map(LocalGroup::followers_len);
        all.sum()
    }

    /// The names of a group with somebody here.
    pub fn key_of(&self, local: LocalGroupId) -> Option<&GroupKey> {
        self.groups.get(local).map(|group| &group.key)
    }

    fn find(&self, hash: u64, key: &GroupKey) -> Option<LocalGroupId> {
        let group_at = |slot| {
            let id = self.groups.id_at(slot)?;
            self.groups.get(id)
        };
        let is_it = |slot| group_at(slot).is_some_and(|group| group.key == *key);
        self.groups.id_at(self.by_key.find(hash, is_it)?)
    }

    fn make_due(&mut self, local: LocalGroupId) {
        let Some(group) = self.groups.get_mut(local) else {
            return;
        };
        group.sweep.is_outrun |= group.sweep.is_begun;
        if !group.sweep.is_queued {
            group.sweep.is_queued = true;
            self.due.push_back(local);
        }
    }

    pub(super) fn end_join(&mut self, local: LocalGroupId) {
        if let Some(group) = self.groups.get_mut(local) {
            group.joins = group.joins.saturating_sub(1);
        }
    }

    fn let_go_if_empty(&mut self, local: LocalGroupId) {
        if !self.groups.get(local).is_some_and(LocalGroup::is_empty) {
            return;
        }
        if let Some(mut group) = self.groups.remove(local) {
            self.held_bytes -= group.list.held_bytes();
            let kept = group.list.take_kept();
            self.dropped.extend(kept.map(|kept| *kept));
            if let Some(cohort) = group.cohort() {
                self.cohorts.len -= 1;
                if let Some(all) = self.groups.get_mut(cohort.of) {
                    all.remove_cohort(local);
                }
                return self.let_go_if_empty(cohort.of);
            }
            self.by_key.remove(group.hash, |slot| slot == local.slot);
            self.outcome.left.push((group.key, local));
        }
    }
}
