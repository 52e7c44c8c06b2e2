//! What the log is to hear of subscribers, as data: whom a limit, an origin or a function keeps out; and,
//! where somebody asks for it, who comes, joins, leaves and goes.
//!
//! Decides nothing, and writes no line: the shell does. Headers, query and context are in no note: they
//! hold tokens.

use crate::id::{GroupKey, ItemId, SlotId};
use crate::protocol::connection::ConnectionError;
use crate::protocol::handshake::{Refusal, path_of_head};
use crate::protocol::members::NoMember;

use super::connections::Socket;
use super::{Subscribers, Whom};

/// Something that the log may hear.
#[derive(Debug)]
pub enum Note {
    /// Of one subscriber.
    Of(Whom, What),
    /// So many calls were refused: too much waits for custom functions of their groups.
    CallsRefused(u64),
    /// A subscription makes nobody a member. It is said once a minute.
    NoMember {
        /// Of which stream.
        stream: Box<str>,
        /// Where the id should be.
        path: Box<str>,
        /// What is wrong with it.
        why: NoMember,
    },
    /// A group's time runs so many ms ahead of the clock. It is said once.
    TimeAhead(u64),
}

/// What there is to say of a subscriber.
#[derive(Debug)]
pub enum What {
    /// It has connected.
    Connects,
    /// Its request is whole: what it asks for, and what becomes of it.
    Asks(Box<str>, Asked),
    /// It wants to join.
    Joins(Named),
    /// It leaves, with names of its own.
    Leaves(Named),
    /// The owner has let its join of that subscription in.
    Joined(Box<str>),
    /// A function refuses its join.
    Refused(Named),
    /// A limit refuses its join.
    OverLimit(Limit, Named),
    /// What it sent is no WebSocket, or too much.
    Closed(ConnectionError),
    /// A limit keeps it out, or ends it.
    Limit(Limit),
    /// Its page is of that origin, which is not among those allowed.
    Page(Box<str>),
    /// The auth function does not let it in: why.
    Auth(Box<str>),
    /// Nothing has come from it for long, nor after a ping.
    Silent,
    /// It is gone.
    Gone,
}

/// A subscription, as the client named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The client's name for it.
    pub subscription: Box<str>,
    /// Its group.
    pub key: GroupKey,
    /// Its item; none for the whole group.
    pub item: Option<ItemId>,
}

/// What becomes of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is let in.
    In,
    /// The auth function is asked.
    Waits,
    /// It is answered with that.
    Refused(Refusal),
    /// The peer has ended it.
    Gone,
}

/// Which limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.connections`.
    Connections,
    /// `limits.handshakes`: so many wait for the auth function.
    Asking,
    /// `limits.handshakes`: so many have come since.
    Heads,
    /// `limits.handshake_bytes`.
    HeadBytes,
    /// `limits.handshake_ms`.
    HeadTime,
    /// `limits.message_bytes`.
    MessageBytes,
    /// `limits.name_bytes`.
    NameBytes,
    /// `limits.subscriptions`.
    Subscriptions,
    /// `limits.equal_subscriptions`.
    EqualSubscriptions,
    /// It asks for a pace that may not be.
    Pace,
    /// `limits.behind_bytes_worker`.
    Behind,
    /// `stall_timeout_ms`.
    Stall,
    /// `limits.memory_bytes`.
    Memory,
    /// `limits.connections_per_address`.
    Address,
    /// `allowed_origins`: its page is of none of them.
    Page,
}

/// How many limits there are.
const LIMITS_LEN: usize = Limit::Page as usize + 1;
/// So many of one limit are told in full in a turn: the first may be said at once, and the second
/// stands for those that are held back.
const TOLD_A_TURN: u32 = 2;

/// What has come up since the shell last took it.
#[derive(Default)]
pub(super) struct Notes {
    list: Vec<Note>,
    /// Who asks for everything, and not only for what keeps somebody out.
    all: bool,
    counts: [u32; LIMITS_LEN],
    /// Some count is not 0.
    has_counts: bool,
}

impl Notes {
    pub(super) fn ask_for_all(&mut self, all: bool) {
        self.all = all;
    }

    /// Whether one more of that limit is to be told in full.
    fn count(&mut self, limit: Limit) -> bool {
        if self.all {
            return true;
        }
        let count = &mut self.counts[limit as usize];
        *count += 1;
        self.has_counts = true;
        *count <= TOLD_A_TURN
    }

    pub(super) fn push(&mut self, note: Note) {
        self.list.push(note);
    }

    pub(super) fn take(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.list)
    }

    /// Those of each limit that were only counted.
    pub(super) fn take_counts(&mut self) -> impl Iterator<Item = (Limit, u32)> + use<> {
        let is_there = std::mem::take(&mut self.has_counts);
        let counts = is_there.then(|| std::mem::take(&mut self.counts));
        let counts = LIMITS.into_iter().zip(counts.into_iter().flatten());
        let more = counts.map(|(limit, count)| (limit, count.saturating_sub(TOLD_A_TURN)));
        more.filter(|(_, more)| *more > 0)
    }
}

const LIMITS: [Limit; LIMITS_LEN] = [
    Limit::Connections,
    Limit::Asking,
    Limit::Heads,
    Limit::HeadBytes,
    Limit::HeadTime,
    Limit::MessageBytes,
    Limit::NameBytes,
    Limit::Subscriptions,
    Limit::EqualSubscriptions,
    Limit::Pace,
    Limit::Behind,
    Limit::Stall,
    Limit::Memory,
    Limit::Address,
    Limit::Page,
];

impl<S: Socket> Subscribers<S> {
    /// What the log is to hear, in order. `all`: from here on also who comes, joins, leaves and goes.
    pub fn take_notes(&mut self, all: bool) -> Vec<Note> {
        self.notes.ask_for_all(all);
        self.notes.take()
    }

    /// How many more of each limit there were than [`Subscribers::take_notes`] has told of.
    pub fn take_counts(&mut self) -> impl Iterator<Item = (Limit, u32)> + use<S> {
        self.notes.take_counts()
    }

    fn whom(&mut self, id: SlotId) -> Whom {
        let peer = self.client(id);
        Whom { id, peer }
    }

    /// A limit keeps a subscriber, or one of its messages, out; `what` is made if it is to be told.
    pub(super) fn note_limit(&mut self, id: SlotId, limit: Limit, what: impl FnOnce() -> What) {
        if self.notes.count(limit) {
            let whom = self.whom(id);
            self.notes.push(Note::Of(whom, what()));
        }
    }

    /// A request is refused before anybody was asked: by a limit, or for what it is.
    pub(super) fn note_head(&mut self, id: SlotId, head: &[u8], refusal: Refusal) {
        if refusal == Refusal::HeadTooLarge {
            self.note_limit(id, Limit::HeadBytes, || What::Limit(Limit::HeadBytes));
        }
        self.note(id, || asks(head, Asked::Refused(refusal)));
    }

    pub(super) fn note_refused_by_auth(&mut self, id: SlotId, why: Box<str>) {
        let whom = self.whom(id);
        self.notes.push(Note::Of(whom, What::Auth(why)));
    }

    /// For who has asked for everything; `what` is made for nobody else.
    pub(super) fn note(&mut self, id: SlotId, what: impl FnOnce() -> What) {
        if self.notes.all {
            let whom = self.whom(id);
            self.notes.push(Note::Of(whom, what()));
        }
    }
}

/// What an upgrade asked for, and what became of it.
pub(super) fn asks(head: &[u8], outcome: Asked) -> What {
    What::Asks(path_of_head(head).into(), outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_run_into_in_one_turn_is_told_twice_and_counted() {
        let mut notes = Notes::default();
        let told = (0..10).filter(|_| notes.count(Limit::Page)).count();
        assert_eq!((told, notes.count(Limit::Heads)), (2, true));
        let counted: Vec<_> = notes.take_counts().collect();
        assert_eq!(counted, [(Limit::Page, 8)]);
        assert_eq!(notes.take_counts().count(), 0);
        notes.ask_for_all(true);
        assert!((0..10).all(|_| notes.count(Limit::Page)));
        assert_eq!(notes.take_counts().count(), 0);
    }

    #[test]
    fn each_limit_has_its_place() {
        for (number, limit) in LIMITS.into_iter().enumerate() {
            assert_eq!(limit as usize, number);
        }
    }
}
