//! One socket as the fan-out sees it: its subscriptions, and what it has to be sent beside events.
//!
//! An idle reader with one subscription owns two small vectors and the subscription's id. May not
//! touch a socket: [`Socket`] is what the worker lends.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::id::{ItemId, LocalGroupId, SlotId};
use crate::protocol::frame::{EventFrame, SyncFrame};

/// A socket that takes bytes.
pub trait Socket {
    /// Writes the slices in order, as one, as far as it takes them.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written;
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
    /// What goes out before any event of a list.
    #[allow(
        clippy::box_collection,
        reason = "it is seldom there, and 8 bytes are less than 32"
    )]
    queue: Option<Box<VecDeque<Queued>>>,
    /// The socket took less than it was given, and has not said that it takes more.
    pub(super) blocked: bool,
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
}

/// Where in the group the entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemberAt {
    /// Among those that every event concerns.
    Members(u32),
    /// Among those that follow single items.
    Watchers(u32),
}

pub(super) struct Queued {
    what: What,
    /// Bytes of it that the socket has taken.
    taken: usize,
}

enum What {
    Event(Arc<EventFrame>),
    Sync(Arc<SyncFrame>),
    /// The answer to the upgrade: nothing goes before it, and nothing voids it.
    Head(Box<[u8]>),
    /// Something of this socket alone: `unauthorized`, a close frame.
    Own(Box<[u8]>),
    /// A pong: only the last one counts (RFC 6455 §5.5.3).
    Pong(Box<[u8]>),
}

impl Reader {
    /// Subscriptions that stand.
    pub fn subscriptions_len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether a subscription of that id stands.
    pub fn has_subscription(&self, id: &str) -> bool {
        self.subscriptions
            .iter()
            .any(|subscription| *subscription.id == *id)
    }

    /// Whether the socket took less than it was given.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether nothing waits before the events of lists.
    pub fn queue_is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// The socket takes bytes again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Queues the answer to the upgrade.
    pub fn push_head(&mut self, bytes: Box<[u8]>) {
        debug_assert!(self.queue.is_none(), "it is the first of all");
        self.push(What::Head(bytes));
    }

    /// Queues something of this socket alone.
    pub fn push_own(&mut self, bytes: Box<[u8]>) {
        self.push(What::Own(bytes));
    }

    /// Queues a `sync`.
    pub(super) fn push_sync(&mut self, sync: Arc<SyncFrame>) {
        self.push(What::Sync(sync));
    }

    /// Puts a pong before everything that may wait; an older one that waits is void.
    pub fn push_pong(&mut self, bytes: Box<[u8]>) {
        let queue = self.queue.get_or_insert_default();
        queue.retain(|queued| queued.is_bound_to_go() || !matches!(queued.what, What::Pong(_)));
        let first = queue.front().is_some_and(Queued::is_bound_to_go);
        queue.insert(usize::from(first), Queued::new(What::Pong(bytes)));
    }

    /// Drops everything that may wait, and ends with `bytes`.
    pub fn push_last(&mut self, bytes: Box<[u8]>) {
        let queue = self.queue.get_or_insert_default();
        queue.retain(Queued::is_bound_to_go);
        queue.push_back(Queued::new(What::Own(bytes)));
    }

    /// The rest of an event of which the socket has taken `taken` bytes.
    pub(super) fn push_rest(&mut self, frame: Arc<EventFrame>, taken: usize) {
        let queue = self.queue.get_or_insert_default();
        debug_assert!(queue.is_empty(), "what waits goes before any event");
        queue.push_back(Queued {
            what: What::Event(frame),
            taken,
        });
    }

    /// Whether a frame has begun to be written.
    pub(super) fn has_begun(&self) -> bool {
        let front = self.queue.as_ref().and_then(|queue| queue.front());
        front.is_some_and(|queued| queued.taken > 0)
    }

    /// Whether it has one entry in one group and nothing else to send.
    pub(super) fn is_plain(&self) -> bool {
        self.queue.is_none() && self.memberships.len() == 1
    }

    pub(super) fn membership(&self, local: LocalGroupId) -> Option<usize> {
        self.memberships
            .iter()
            .position(|entry| entry.local == local)
    }

    /// Adds one membership or subscription without room for more: most sockets have one.
    pub(super) fn add_membership(&mut self, membership: Membership) {
        if self.memberships.is_empty() {
            self.memberships.reserve_exact(1);
        }
        self.memberships.push(membership);
    }

    pub(super) fn add_subscription(&mut self, subscription: Subscription) {
        if self.subscriptions.is_empty() {
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
    }

    /// Lays what is queued into `slices`; gives how many it took, and whether that was everything.
    pub(super) fn plan<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, bool) {
        let pieces = self
            .queue
            .iter()
            .flat_map(|queue| queue.iter())
            .flat_map(Queued::pieces);
        let mut len = 0;
        for piece in pieces {
            if len == slices.len() {
                return (len, false);
            }
            slices[len] = IoSlice::new(piece);
            len += 1;
        }
        (len, true)
    }

    /// Takes `bytes` from what is queued; gives how many were beyond it.
    pub(super) fn consume(&mut self, mut bytes: usize) -> usize {
        let Some(queue) = &mut self.queue else {
            return bytes;
        };
        while let Some(front) = queue.front_mut() {
            let rest = front.len() - front.taken;
            if bytes < rest {
                front.taken += bytes;
                return 0;
            }
            bytes -= rest;
            queue.pop_front();
        }
        self.queue = None;
        bytes
    }

    fn push(&mut self, what: What) {
        let queue = self.queue.get_or_insert_default();
        queue.push_back(Queued::new(what));
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

    fn len(&self) -> usize {
        match &self.what {
            What::Event(frame) => frame.wire().len(),
            What::Sync(sync) => sync.len(),
            What::Head(bytes) | What::Own(bytes) | What::Pong(bytes) => bytes.len(),
        }
    }

    /// What has not been taken.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (sync, single) = match &self.what {
            What::Event(frame) => (None, Some(frame.wire())),
            What::Sync(sync) => (Some(sync), None),
            What::Head(bytes) | What::Own(bytes) | What::Pong(bytes) => (None, Some(&**bytes)),
        };
        let of_sync = sync
            .into_iter()
            .flat_map(|sync| sync.pieces_from(self.taken));
        let single = single.map(|bytes| &bytes[self.taken..]);
        single.into_iter().chain(of_sync)
    }
}
