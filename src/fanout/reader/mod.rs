//! One socket as the fan-out sees it: its subscriptions, and whether it keeps up.
//!
//! An idle reader with one subscription owns two small vectors and the subscription's id. `index` finds what
//! one with many has, `queue` is what it has to be sent beside events. May not touch a socket: [`Socket`] is
//! what the worker lends.

mod index;
mod queue;

use crate::collections::Index;
use crate::id::{ItemId, LocalGroupId, SlotId};

use super::socket::Socket;
use index::{Many, in_order_of_joining};
use queue::Queue;

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
    /// From more than a few subscriptions on, until half of them have gone.
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
    /// Where it stands among the notes of [`Many`], if it does.
    note: u32,
}

/// Where in the group the entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemberAt {
    /// Among those that every event concerns.
    Members(u32),
    /// Among those that follow single items.
    Watchers(u32),
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

    /// Whether it has one entry in one group and nothing else to send.
    pub(super) fn is_plain(&self) -> bool {
        self.queue.is_none() && self.memberships.len() == 1
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

    /// `waiting_bytes`: of `sync`s in its places.
    pub(super) fn check_invariants(&self, waiting_bytes: usize) {
        self.check_queue(waiting_bytes);
        self.check_index();
    }
}
