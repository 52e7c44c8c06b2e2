//! One socket as the fan-out sees it: its subscriptions, and what it has to be sent beside events.
//!
//! An idle reader with one subscription owns two small vectors and the subscription's id. May not
//! touch a socket: [`Socket`] is what the worker lends.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::io::IoSlice;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::collections::Index;
use crate::id::{ItemId, LocalGroupId, SlotId};
use crate::protocol::connection::PING_FRAME;
use crate::protocol::frame::{EventFrame, Kind, SyncFrame};

/// So many subscriptions or memberships are looked through one by one. Debug builds have fewer, so
/// that the simulation's sockets come to have more.
const FEW_MAX: usize = if cfg!(debug_assertions) { 2 } else { 16 };

/// A ping that waits is among the first entries of a queue: what comes before it is what has begun, and pongs
/// since.
const PINGS_WITHIN: usize = 3;

/// A membership without a note.
const NONE: u32 = u32::MAX;

/// A socket that takes bytes.
pub trait Socket {
    /// Writes the slices in order, as one, as far as it takes them.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written;

    /// Writes what it has taken and holds back, if it is of a kind that does. A part: the worker will
    /// say when it takes more.
    fn flush(&mut self) -> Written {
        Written::All
    }

    /// So many bytes it holds back.
    fn held_bytes(&self) -> usize {
        0
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it was taken.
    All,
    /// So many bytes were taken; the worker will say when it takes more.
    Part(usize),
    /// The socket is dead.
    Gone,
}

/// The sockets of a worker.
pub trait Connections {
    /// Its kind of socket.
    type Socket: Socket;

    /// The reader and the socket of that name; `None` when it is gone.
    fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut Self::Socket)>;
}

/// What the fan-out knows of one socket.
#[derive(Default)]
pub struct Reader {
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) memberships: Vec<Membership>,
    /// From more than [`FEW_MAX`] subscriptions on, until half of them have gone.
    many: Option<Box<Many>>,
    /// Only while something is in it: an idle reader has none.
    queue: Option<Box<Queue>>,
    /// The socket took less than it was given, and has not said that it takes more.
    pub(super) blocked: bool,
    /// Bytes that came to wait for it since what waits was last summed up, as far as they fit here;
    /// [`Reader::UNKNOWN`]: never.
    pub(super) unsummed_bytes: u32,
    /// Its subscriptions have ended: what is left of its memberships is about to leave.
    pub(super) is_ending: bool,
    /// More waits for it than may: it is brought up to date by item. Only while it has an entry in a group.
    is_far_behind: bool,
}

/// One subscription, by the client's name for it.
pub(super) struct Subscription {
    pub(super) id: Box<str>,
    pub(super) local: LocalGroupId,
    pub(super) item: Option<ItemId>,
    /// The first frame of the list that is for it.
    pub(super) from: u64,
}

/// The socket's entry in one group.
#[derive(Clone, Copy)]
pub(super) struct Membership {
    pub(super) local: LocalGroupId,
    pub(super) at: MemberAt,
    /// Where it stands in [`Many::noted`], or [`NONE`].
    note: u32,
}

/// What lets a reader with many subscriptions find one, and what it lacks, without a look at each.
#[derive(Default)]
struct Many {
    hasher: DefaultHashBuilder,
    /// Positions in `subscriptions`.
    by_id: Index,
    /// In which order the subscriptions were joined: a number for each position.
    joined: Vec<u64>,
    next_joined: u64,
    /// Positions in `memberships`.
    by_local: Index,
    /// Positions in `memberships`, each once: the groups in which it may lack something though their
    /// sweeps have passed it.
    noted: Vec<u32>,
}

/// Where in the group the entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemberAt {
    /// Among those that every event concerns.
    Members(u32),
    /// Among those that follow single items.
    Watchers(u32),
}

/// What goes out before any event of a list.
#[derive(Default)]
struct Queue {
    entries: VecDeque<Queued>,
    /// What is here, or waits in a place to come here, for this socket alone: rests of events are not
    /// counted, for they are shared.
    own_bytes: usize,
}

struct Queued {
    what: What,
    /// Bytes of it that the socket has taken.
    taken: usize,
}

enum What {
    /// An event, and the kind of change that it is to this socket.
    Event(Arc<EventFrame>, Kind),
    /// A `sync`. With a group it answers no join, and is void if another comes for it.
    Sync(Arc<SyncFrame>, Option<LocalGroupId>),
    /// The answer to the upgrade: nothing goes before it, and nothing voids it.
    Head(Box<[u8]>),
    /// Something of this socket alone: `unauthorized`, a close frame.
    Own(Box<[u8]>),
    /// A pong: only the last one counts (RFC 6455 §5.5.3).
    Pong(Box<[u8]>),
    /// A ping of ours.
    Ping,
}

impl Reader {
    /// More has come to wait for it than anybody has counted.
    pub(super) const UNKNOWN: u32 = u32::MAX;

    /// The socket took less than it was given.
    pub(super) fn block(&mut self) {
        self.blocked = true;
        self.unsummed_bytes = Reader::UNKNOWN;
    }

    /// Subscriptions that stand.
    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether a subscription of that id stands.
    pub fn has_subscription(&self, id: &str) -> bool {
        self.subscription(id).is_some()
    }

    /// Whether a subscription of that id stands in that group.
    pub(super) fn follows(&self, id: &str, local: LocalGroupId) -> bool {
        let found = self.subscription(id);
        found.is_some_and(|found| self.subscriptions[found].local == local)
    }

    /// Whether the socket took less than it was given.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether nothing waits before the events of lists.
    pub fn queue_is_empty(&self) -> bool {
        self.queue
            .as_ref()
            .is_none_or(|queue| queue.entries.is_empty())
    }

    /// Bytes that wait for this socket alone: whole `sync`s, answers and pongs, but no events.
    pub fn queue_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.own_bytes)
    }

    /// Whether more waits for it than may.
    pub(super) fn is_far_behind(&self) -> bool {
        self.is_far_behind
    }

    /// Says whether more waits for it than may. `all`: how many readers there are of which that is so.
    pub(super) fn set_far_behind(&mut self, is_so: bool, all: &mut usize) {
        let was = std::mem::replace(&mut self.is_far_behind, is_so);
        *all = *all + usize::from(is_so) - usize::from(was);
    }

    /// The socket takes bytes again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Queues the answer to the upgrade.
    pub fn push_head(&mut self, bytes: Box<[u8]>) {
        debug_assert!(self.queue_is_empty(), "it is the first of all");
        self.push(What::Head(bytes));
    }

    /// Queues something of this socket alone.
    pub fn push_own(&mut self, bytes: Box<[u8]>) {
        self.push(What::Own(bytes));
    }

    /// Queues a `sync`; with its group one that answers no join.
    pub(super) fn push_sync(&mut self, sync: Arc<SyncFrame>, anew: Option<LocalGroupId>) {
        self.push(What::Sync(sync, anew));
    }

    /// `sync`s of that group that answer no join and have not begun go, for newer ones come.
    pub(super) fn void_syncs(&mut self, local: LocalGroupId) {
        if let Some(queue) = &mut self.queue {
            queue.entries.retain(|queued| {
                let is_of_it = matches!(&queued.what, What::Sync(_, Some(of)) if *of == local);
                let stays = !is_of_it || queued.taken > 0;
                queue.own_bytes -= if stays { 0 } else { queued.own_bytes() };
                stays
            });
        }
        self.let_queue_go();
    }

    /// Queues so many frames of an event that has begun, so that its place can move on.
    pub(super) fn push_begun(&mut self, frame: &Arc<EventFrame>, kind: Kind, times: u32) {
        for _ in 0..times {
            self.push(What::Event(Arc::clone(frame), kind));
        }
    }

    /// A `sync` of so many bytes waits in a place of this reader: it counts from now on.
    pub(super) fn wait_for_sync(&mut self, bytes: usize) {
        self.queue.get_or_insert_default().own_bytes += bytes;
    }

    /// Queues a `sync` that has waited.
    pub(super) fn push_waited(&mut self, sync: Arc<SyncFrame>) {
        let queue = self.queue.get_or_insert_default();
        queue.entries.push_back(Queued::new(What::Sync(sync, None)));
    }

    /// `sync`s of so many bytes that waited will not come.
    pub(super) fn void_waited(&mut self, bytes: usize) {
        if let Some(queue) = &mut self.queue {
            queue.own_bytes -= bytes;
        }
        self.let_queue_go();
    }

    /// Puts a pong before everything that may wait; an older one that waits is void.
    pub fn push_pong(&mut self, bytes: Box<[u8]>) {
        let queue = self.queue.get_or_insert_default();
        let first = queue.entries.front();
        let at = usize::from(first.is_some_and(Queued::is_bound_to_go));
        queue.own_bytes += bytes.len();
        let pong = Queued::new(What::Pong(bytes));
        // It was put there, and only what was before it can have gone.
        match queue.entries.get_mut(at) {
            Some(older) if matches!(older.what, What::Pong(_)) => {
                queue.own_bytes -= older.own_bytes();
                *older = pong;
            }
            _ => queue.entries.insert(at, pong),
        }
    }

    /// Puts a ping, of which so many bytes are taken, before everything that may wait, unless one waits
    /// already.
    pub(super) fn push_ping(&mut self, taken: usize) {
        let queue = self.queue.get_or_insert_default();
        let is_ping = |queued: &Queued| matches!(queued.what, What::Ping);
        if queue.entries.iter().take(PINGS_WITHIN).any(is_ping) {
            return; // nobody has taken that one
        }
        let first = queue.entries.front();
        let at = usize::from(first.is_some_and(Queued::is_bound_to_go));
        queue.own_bytes += PING_FRAME.len();
        let what = What::Ping;
        queue.entries.insert(at, Queued { what, taken });
    }

    /// Drops everything that may wait, and ends with `bytes`.
    pub fn push_last(&mut self, bytes: Box<[u8]>) {
        if let Some(queue) = &mut self.queue {
            queue.entries.retain(|queued| {
                let stays = queued.is_bound_to_go();
                queue.own_bytes -= if stays { 0 } else { queued.own_bytes() };
                stays
            });
        }
        self.push(What::Own(bytes));
    }

    /// The rest of an event of which the socket has taken `taken` bytes.
    pub(super) fn push_rest(&mut self, frame: Arc<EventFrame>, kind: Kind, taken: usize) {
        let queue = self.queue.get_or_insert_default();
        debug_assert!(queue.entries.is_empty(), "what waits goes before any event");
        queue.entries.push_back(Queued {
            what: What::Event(frame, kind),
            taken,
        });
    }

    /// Whether a frame has begun to be written.
    pub(super) fn has_begun(&self) -> bool {
        let front = self.queue.as_ref().and_then(|queue| queue.entries.front());
        front.is_some_and(|queued| queued.taken > 0)
    }

    /// Whether it has one entry in one group and nothing else to send.
    pub(super) fn is_plain(&self) -> bool {
        self.queue.is_none() && self.memberships.len() == 1
    }

    /// Where its entry in that group stands among the memberships.
    pub(super) fn membership(&self, local: LocalGroupId) -> Option<usize> {
        let Some(many) = &self.many else {
            let is_it = |entry: &Membership| entry.local == local;
            return self.memberships.iter().position(is_it);
        };
        let is_it = |index: u32| self.memberships[index as usize].local == local;
        let found = many.by_local.find(many.hasher.hash_one(local), is_it);
        found.map(|index| index as usize)
    }

    /// Where the subscription of that id stands.
    pub(super) fn subscription(&self, id: &str) -> Option<usize> {
        let Some(many) = &self.many else {
            let is_it = |entry: &Subscription| *entry.id == *id;
            return self.subscriptions.iter().position(is_it);
        };
        let is_it = |index: u32| *self.subscriptions[index as usize].id == *id;
        let found = many.by_id.find(many.hasher.hash_one(id), is_it);
        found.map(|index| index as usize)
    }

    /// Adds an entry in a group, at first without room for more: most sockets have one.
    pub(super) fn add_membership(&mut self, local: LocalGroupId, at: MemberAt) {
        if self.memberships.is_empty() {
            self.memberships.reserve_exact(1);
        }
        let note = NONE;
        self.memberships.push(Membership { local, at, note });
        if let Some(many) = &mut self.many {
            many.enter_membership(self.memberships.len() - 1, &self.memberships);
        }
    }

    /// Adds a subscription, likewise.
    pub(super) fn add_subscription(&mut self, subscription: Subscription) {
        if self.subscriptions.is_empty() {
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
        if let Some(many) = &mut self.many {
            many.enter_subscription(self.subscriptions.len() - 1, &self.subscriptions);
        } else if self.subscriptions.len() > FEW_MAX {
            let mut many = Box::<Many>::default();
            for index in 0..self.subscriptions.len() {
                many.enter_subscription(index, &self.subscriptions);
            }
            for index in 0..self.memberships.len() {
                many.enter_membership(index, &self.memberships);
            }
            self.many = Some(many);
            for index in 0..self.memberships.len() {
                self.note(index); // until now nobody took notes
            }
        }
    }

    /// Takes a subscription out.
    pub(super) fn take_subscription(&mut self, index: usize) -> Subscription {
        let Some(many) = &mut self.many else {
            return self.subscriptions.remove(index); // few stand in the order of joining
        };
        many.leave_subscription(index, &self.subscriptions);
        many.leave_subscription(self.subscriptions.len() - 1, &self.subscriptions);
        many.joined.swap_remove(index);
        let subscription = self.subscriptions.swap_remove(index);
        if self.subscriptions.len() <= FEW_MAX / 2 {
            self.subscriptions = self.take_subscriptions();
            for membership in &mut self.memberships {
                membership.note = NONE;
            }
        } else if index < self.subscriptions.len() {
            many.fill_subscription(index, &self.subscriptions);
        }
        subscription
    }

    /// All subscriptions in the order of joining. Nothing finds them here any more.
    fn take_subscriptions(&mut self) -> Vec<Subscription> {
        let subscriptions = std::mem::take(&mut self.subscriptions);
        let Some(many) = self.many.take() else {
            return subscriptions;
        };
        in_order_of_joining(many.joined, subscriptions)
    }

    /// Takes a membership out and fills its place from the end.
    pub(super) fn take_membership(&mut self, index: usize) {
        self.unnote(index);
        if let Some(many) = &mut self.many {
            many.leave_membership(index, &self.memberships);
            many.leave_membership(self.memberships.len() - 1, &self.memberships);
        }
        self.memberships.swap_remove(index);
        if let Some(many) = &mut self.many
            && let Some(filler) = self.memberships.get(index)
        {
            if let Some(noted) = many.noted.get_mut(filler.note as usize) {
                *noted = index as u32;
            }
            many.enter_membership(index, &self.memberships);
        }
    }

    /// Ends all subscriptions, and gives them in the order of joining. The entries in groups that were
    /// theirs stay, and are still found by their groups.
    pub(super) fn begin_end(&mut self) -> Vec<Subscription> {
        self.is_ending = true;
        let Some(many) = &mut self.many else {
            return std::mem::take(&mut self.subscriptions);
        };
        many.by_id = Index::default();
        let joined = std::mem::take(&mut many.joined);
        in_order_of_joining(joined, std::mem::take(&mut self.subscriptions))
    }

    /// Nothing is left of its memberships.
    pub(super) fn end(&mut self) {
        debug_assert!(self.memberships.is_empty(), "each has left");
        self.is_ending = false;
        self.many = None;
    }

    /// Whether its memberships are about to leave.
    pub fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// In that group it may lack something though the group's sweep has passed it.
    pub(super) fn note(&mut self, index: usize) {
        if let Some(many) = &mut self.many
            && self.memberships[index].note == NONE
        {
            self.memberships[index].note = many.noted.len() as u32;
            many.noted.push(index as u32);
        }
    }

    /// [`Reader::note`] by the group's name.
    pub(super) fn note_group(&mut self, local: LocalGroupId) {
        if self.many.is_some()
            && let Some(index) = self.membership(local)
        {
            self.note(index);
        }
    }

    /// It lacks nothing in that group.
    pub(super) fn unnote(&mut self, index: usize) {
        let note = std::mem::replace(&mut self.memberships[index].note, NONE);
        if let Some(many) = &mut self.many
            && note != NONE
        {
            many.noted.swap_remove(note as usize);
            if let Some(filler) = many.noted.get(note as usize) {
                self.memberships[*filler as usize].note = note;
            }
        }
    }

    /// Whether what it lacks is found by its notes only.
    pub(super) fn goes_by_notes(&self) -> bool {
        self.many.is_some() && self.memberships.len() > FEW_MAX
    }

    /// The memberships to look at for what it lacks, by number.
    pub(super) fn candidate(&self, number: usize) -> Option<usize> {
        match &self.many {
            _ if self.is_ending => None,
            Some(many) if self.goes_by_notes() => {
                many.noted.get(number).map(|index| *index as usize)
            }
            _ => (number < self.memberships.len()).then_some(number),
        }
    }

    /// Whether it finds what it lacks in that group without a sweep.
    pub(super) fn looks_at(&self, membership: &Membership) -> bool {
        self.many.is_none() || membership.note != NONE
    }

    /// `waiting_bytes`: of `sync`s in its places.
    pub(super) fn check_invariants(&self, waiting_bytes: usize) {
        let entries = self.queue.iter().flat_map(|queue| &queue.entries);
        let queued_bytes: usize = entries.map(Queued::own_bytes).sum();
        debug_assert_eq!(self.queue_bytes(), queued_bytes + waiting_bytes);
        let holds_nothing = |queue: &Queue| queue.entries.is_empty() && queue.own_bytes == 0;
        debug_assert!(!self.queue.as_deref().is_some_and(holds_nothing));
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            debug_assert_eq!(self.subscription(&subscription.id), Some(index));
        }
        for (index, membership) in self.memberships.iter().enumerate() {
            debug_assert_eq!(self.membership(membership.local), Some(index));
        }
        let noted = self.memberships.iter().filter(|entry| entry.note != NONE);
        let Some(many) = &self.many else {
            debug_assert!(self.subscriptions.len() <= FEW_MAX);
            return debug_assert_eq!(noted.count(), 0);
        };
        debug_assert_eq!(many.joined.len(), self.subscriptions.len());
        debug_assert_eq!(noted.count(), many.noted.len());
        for (note, index) in many.noted.iter().enumerate() {
            debug_assert_eq!(self.memberships[*index as usize].note, note as u32);
        }
    }

    /// Lays what is queued into `slices`, `most` of them; false when that was not everything.
    pub(super) fn plan<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>, most: usize) -> bool {
        let entries = self.queue.iter().flat_map(|queue| &queue.entries);
        for piece in entries.flat_map(Queued::pieces) {
            if slices.len() == most {
                return false;
            }
            slices.push(IoSlice::new(piece));
        }
        true
    }

    /// Takes `bytes` from what is queued; gives how many were beyond it.
    pub(super) fn consume(&mut self, mut bytes: usize) -> usize {
        let Some(queue) = &mut self.queue else {
            return bytes;
        };
        while let Some(front) = queue.entries.front_mut() {
            let rest = front.len() - front.taken;
            if bytes < rest {
                front.taken += bytes;
                return 0;
            }
            bytes -= rest;
            queue.own_bytes -= front.own_bytes();
            queue.entries.pop_front();
        }
        self.let_queue_go();
        bytes
    }

    fn push(&mut self, what: What) {
        let queue = self.queue.get_or_insert_default();
        let queued = Queued::new(what);
        queue.own_bytes += queued.own_bytes();
        queue.entries.push_back(queued);
    }

    fn let_queue_go(&mut self) {
        let holds_nothing = |queue: &Queue| queue.entries.is_empty() && queue.own_bytes == 0;
        if self.queue.as_deref().is_some_and(holds_nothing) {
            self.queue = None;
        }
    }
}

/// `joined`: the number of each.
fn in_order_of_joining(joined: Vec<u64>, subscriptions: Vec<Subscription>) -> Vec<Subscription> {
    if joined.is_sorted() {
        return subscriptions;
    }
    let mut numbered: Vec<_> = joined.into_iter().zip(subscriptions).collect();
    numbered.sort_unstable_by_key(|(number, _)| *number);
    let subscriptions = numbered.into_iter().map(|(_, subscription)| subscription);
    subscriptions.collect()
}

impl Many {
    /// The newest one, at the end.
    fn enter_subscription(&mut self, index: usize, all: &[Subscription]) {
        debug_assert_eq!(self.joined.len(), index);
        self.joined.push(self.next_joined);
        self.next_joined += 1;
        self.fill_subscription(index, all);
    }

    /// One that has its number already.
    fn fill_subscription(&mut self, index: usize, all: &[Subscription]) {
        let hash_of = |index: u32| self.hasher.hash_one(&*all[index as usize].id);
        let hash = hash_of(index as u32);
        self.by_id.insert(hash, index as u32, hash_of);
    }

    fn enter_membership(&mut self, index: usize, all: &[Membership]) {
        let hash_of = |index: u32| self.hasher.hash_one(all[index as usize].local);
        let hash = hash_of(index as u32);
        self.by_local.insert(hash, index as u32, hash_of);
    }

    fn leave_subscription(&mut self, index: usize, all: &[Subscription]) {
        let hash = self.hasher.hash_one(&*all[index].id);
        self.by_id.remove(hash, |found| found == index as u32);
    }

    fn leave_membership(&mut self, index: usize, all: &[Membership]) {
        let hash = self.hasher.hash_one(all[index].local);
        self.by_local.remove(hash, |found| found == index as u32);
    }
}

impl Queued {
    fn new(what: What) -> Queued {
        Queued { what, taken: 0 }
    }

    /// A frame that has begun, or the answer to the upgrade: it goes out next, whatever comes.
    fn is_bound_to_go(&self) -> bool {
        self.taken > 0 || matches!(self.what, What::Head(_))
    }

    /// Its bytes, unless others share them.
    fn own_bytes(&self) -> usize {
        match &self.what {
            What::Event(..) => 0,
            _ => self.len(),
        }
    }

    fn len(&self) -> usize {
        match &self.what {
            What::Event(frame, _) => frame.wire().len(),
            What::Sync(sync, _) => sync.len(),
            What::Head(bytes) | What::Own(bytes) | What::Pong(bytes) => bytes.len(),
            What::Ping => PING_FRAME.len(),
        }
    }

    /// What has not been taken.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (sync, whole) = match &self.what {
            What::Event(frame, kind) => (None, frame.wire_as(*kind)),
            What::Sync(sync, _) => (Some(sync), [&[][..]; 3]),
            What::Head(bytes) | What::Own(bytes) | What::Pong(bytes) => {
                (None, [&**bytes, &[], &[]])
            }
            What::Ping => (None, [&PING_FRAME[..], &[], &[]]),
        };
        let of_sync = sync
            .into_iter()
            .flat_map(|sync| sync.pieces_from(self.taken));
        let mut skip = self.taken;
        let whole = whole.into_iter().filter_map(move |piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            (skipped < piece.len()).then(|| &piece[skipped..])
        });
        whole.chain(of_sync)
    }
}
