//! What the admin thread asks the workers about what they hold, and the way back of what they find.
//!
//! A worker looks in slices of its turns. Nobody waits: what a full queue does not take is not asked, and
//! an answer that nobody takes is dropped.

use core::net::SocketAddr; // an address is data
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::id::{GroupKey, WorkerId};
use crate::metrics::Closed;
use crate::shard::{GroupLook, ItemsLook};

use super::Wake;

/// Inquiries that may wait for one worker.
const WAITING_MAX: usize = 64;

/// By what groups are put in order, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOrder {
    /// Events since the group appeared.
    Events,
    /// Events a second, of late.
    Pace,
    /// Sockets that follow it.
    Subscribers,
    /// What it holds.
    Bytes,
}

/// By what sockets are put in order, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOrder {
    /// How far behind they are, in bytes.
    Behind,
    /// How long they are there.
    Oldest,
    /// What this process holds for each alone, in bytes.
    Bytes,
    /// Their subscriptions.
    Subscriptions,
}

/// Which names are asked for: the first so many, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Those of groups of that stream; `None`: those of streams.
    pub stream: Option<Box<str>>,
    /// Those that have this in them.
    pub contains: Box<str>,
    /// Those that come after that one; `None`: all.
    pub after: Option<Box<str>>,
    /// So many.
    pub most: usize,
}

impl Search {
    /// Whether that name is among them.
    pub fn wants(&self, name: &str) -> bool {
        let is_behind = self.after.as_deref().is_none_or(|after| name > after);
        is_behind && name.contains(&*self.contains)
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// The streams of groups that it owns, or groups of one of these, by their names.
    Names(Arc<Search>),
    /// The names of the groups that come first here: of those that it owns, and where they are put in
    /// order by who follows them, of those that its sockets follow.
    FirstGroups(GroupOrder, usize),
    /// What is known here of these groups.
    Groups(Arc<[GroupKey]>),
    /// The sockets that come first.
    Sockets(SocketOrder, usize),
    /// The sockets that have ended last, of that reason if there is one.
    Closed(Option<Closed>, usize),
    /// A group that it owns, and some of its items: from where on, so many, of so many bytes.
    Items(GroupKey, u64, usize, usize),
}

/// What a worker has found.
#[derive(Debug)]
pub enum Findings {
    /// The first names, and of streams how many groups each has.
    Names(Vec<(Box<str>, usize)>),
    /// See [`Question::FirstGroups`].
    FirstGroups(Vec<GroupKey>),
    /// For each group what its owner knows, if this is its owner and it is there, and how many sockets
    /// here follow it.
    Groups(Vec<(Option<GroupLook>, usize)>),
    /// The first of so many.
    Sockets(Vec<SocketLook>, usize),
    /// The last ones, the latest first.
    Closed(Vec<ClosedSocket>),
    /// None: there is no such group.
    Items(Option<(GroupLook, ItemsLook)>),
}

/// How a socket stands.
#[derive(Debug, Clone)]
pub struct SocketLook {
    /// On which worker.
    pub worker: WorkerId,
    /// Its name there.
    pub slot: u32,
    /// See `slot`.
    pub generation: u32,
    /// Who is at the other end; `None` when it is gone.
    pub peer: Option<SocketAddr>,
    /// How long it is there, in ms, to some hundredths.
    pub age_ms: u64,
    /// Subscriptions that stand.
    pub subscriptions: usize,
    /// What it has still to be sent, in bytes: events, and what is for it alone.
    pub behind_bytes: usize,
    /// Events that came since it was last given one.
    pub behind_events: u64,
    /// What of it is for this socket alone.
    pub own_bytes: usize,
    /// For how long it has taken no byte, in ms; `None`: it takes them.
    pub blocked_ms: Option<u64>,
    /// It is about to be closed.
    pub is_closing: bool,
    /// It is left unread: joins wait for functions or their owner, or answers wait for it.
    pub is_held: bool,
    /// Some of the groups that it follows.
    pub groups: Vec<GroupKey>,
    /// What the kernel says of the connection.
    pub kernel: Option<KernelLook>,
}

/// What the kernel says of a connection: `TCP_INFO`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct KernelLook {
    /// The smoothed round trip, in µs.
    pub rtt_us: u32,
    /// Segments that are sent and not acknowledged.
    pub unacked: u32,
    /// Segments that were sent again, since the connection began.
    pub retransmits: u32,
    /// Segments that may be under way at once.
    pub congestion_window: u32,
    /// Since the peer last acknowledged something, in ms.
    pub last_ack_ms: u32,
    /// Since something was last sent to it, in ms.
    pub last_sent_ms: u32,
    /// Bytes that the peer has acknowledged.
    pub acked_bytes: u64,
    /// Bytes that the kernel holds and has not sent.
    pub unsent_bytes: u32,
    /// How long its receive window has held sending up, in µs.
    pub window_limited_us: u64,
}

/// A socket that has ended.
#[derive(Debug, Clone)]
pub struct ClosedSocket {
    /// On which worker.
    pub worker: WorkerId,
    /// When, in ms since 1970.
    pub at_ms: u64,
    /// Who was at the other end.
    pub peer: Option<SocketAddr>,
    /// Why.
    pub reason: Closed,
    /// The code of the close frame, if there was one.
    pub code: Option<u16>,
    /// How long it was there, in ms, to some hundredths.
    pub age_ms: u64,
    /// What it had still to be sent, in bytes.
    pub behind_bytes: usize,
    /// The events of that.
    pub behind_events: u64,
    /// For how long it had taken no byte, in ms; `None`: it took them.
    pub blocked_ms: Option<u64>,
    /// Subscriptions that it had.
    pub subscriptions: usize,
}

/// A question, and the way back.
pub struct Inquiry {
    /// What is asked.
    pub question: Question,
    /// The asker's name for it.
    pub number: u64,
    back: Sender<Found>,
    wake: Arc<Wake>,
}

/// What came back.
pub struct Found {
    /// As in the inquiry.
    pub number: u64,
    /// Who has answered.
    pub worker: WorkerId,
    /// What it has found.
    pub findings: Findings,
}

impl Inquiry {
    /// Gives the answer back. One that finds no room is dropped: whoever asked has given up long since.
    pub fn answer(self, worker: WorkerId, findings: Findings) {
        let found = Found {
            number: self.number,
            worker,
            findings,
        };
        if self.back.try_send(found).is_ok() {
            self.wake.wake();
        }
    }
}

/// What is asked of one worker and not taken yet.
pub struct Inquiries {
    sender: Sender<Inquiry>,
    receiver: Receiver<Inquiry>,
}

impl Default for Inquiries {
    fn default() -> Inquiries {
        let (sender, receiver) = bounded(WAITING_MAX);
        Inquiries { sender, receiver }
    }
}

impl Inquiries {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// What is asked next.
    pub fn take(&self) -> Option<Inquiry> {
        self.receiver.try_recv().ok()
    }

    /// False: it has enough to answer.
    fn ask(&self, inquiry: Inquiry) -> bool {
        self.sender.try_send(inquiry).is_ok()
    }
}

/// Who asks: the one end to which all answers come.
pub struct Asker {
    back: Sender<Found>,
    answers: Receiver<Found>,
    wake: Arc<Wake>,
}

impl Asker {
    /// `wake` is that of the thread that asks so many workers.
    pub fn new(workers: usize, wake: Arc<Wake>) -> Asker {
        // A worker has this many taken or waiting at most.
        let (back, answers) = bounded((WAITING_MAX + 1) * workers.max(1));
        Asker {
            back,
            answers,
            wake,
        }
    }

    /// False: that worker has enough to answer. The caller wakes it.
    pub fn ask(&self, of: &Inquiries, question: Question, number: u64) -> bool {
        of.ask(Inquiry {
            question,
            number,
            back: self.back.clone(),
            wake: Arc::clone(&self.wake),
        })
    }

    /// What has come back.
    pub fn take(&self) -> Option<Found> {
        self.answers.try_recv().ok()
    }
}
