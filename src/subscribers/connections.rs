//! The live connections of one worker, by slot and generation.
//!
//! An idle subscriber owns a socket, a few words here, and its entry in the fan-out. May not know
//! what a group is.

use core::net::SocketAddr; // an address is data
use std::sync::Arc;

use crate::collections::Named;
use crate::fanout::{self, Reader};
use crate::id::SlotId;
use crate::life::{self, Turn};
use crate::mesh::inquiries::KernelLook;
use crate::protocol::handshake::Upgrade;

use super::Bounds;
use super::joins::Joins;

/// A socket as the shell lends it. It is closed when it is dropped.
pub trait Socket: fanout::Socket + Send + 'static {
    /// Who is at the other end; `None` when it is gone.
    fn peer(&self) -> Option<SocketAddr>;
    /// Nothing more will be written.
    fn end_writes(&mut self);
    /// Nothing more will be read or written.
    fn end(&mut self);
    /// What the kernel says of the connection.
    fn kernel(&self) -> Option<KernelLook> {
        None
    }
    /// What it has read and not given yet.
    fn kept_bytes(&self) -> usize {
        0
    }
}

/// How far a connection is, for who looks at it from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The head is not whole.
    Handshake,
    /// The auth function is asked.
    Asking,
    /// Frames come and go.
    Open,
    /// Its last bytes are queued or sent, or it has ended.
    Closing,
}

/// How one connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// How far it is.
    pub state: State,
    /// It took less than it was given, and has not said that it takes more.
    pub is_blocked: bool,
    /// Something is queued for it.
    pub is_to_write: bool,
}

/// One accepted socket.
pub(super) struct Connection<S> {
    pub(super) socket: S,
    /// Its subscriptions, and what it has to be sent.
    pub(super) reader: Reader,
    pub(super) phase: Phase,
    /// Joins that wait for functions or their owner, and messages that wait for joins.
    pub(super) joins: Option<Box<Joins>>,
    /// What the auth function said of it, for the functions that are told of its joins and leaves.
    /// In a box: most sockets have none, and each byte here is one of every socket's.
    pub(super) context: Option<Box<Arc<str>>>,
    pub(super) turn: Turn,
    /// It stands among those with something queued to be written.
    pub(super) is_to_write: bool,
    /// It counts among those that were let in.
    pub(super) is_let_in: bool,
    /// It has asked for leaves while too many were owed: it is left unread until some are taken.
    pub(super) is_behind_debts: bool,
    pub(super) home: Home,
    /// It has ended, and is forgotten once its last subscription has left.
    pub(super) is_over: bool,
}

/// Where a socket lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// It has followed nothing yet.
    Undecided,
    /// It goes to another worker in this turn: it is left unread.
    Departing,
    Decided,
}

/// How far a connection is.
pub(super) type Phase = life::Phase<Asking>;

impl<S> Connection<S> {
    /// Whether the socket is to be left unread: the upgrade waits for the auth function, joins for
    /// functions or owners, leaves for functions, or answers for the client to read them.
    pub(super) fn is_held(&self, bounds: &Bounds) -> bool {
        let joins = self.joins.as_ref();
        let joins_wait = joins.is_some_and(|joins| joins.is_full(bounds.messages));
        self.is_asking()
            || joins_wait
            || self.is_behind_debts
            || self.home == Home::Departing
            || self.has_much_to_take(bounds)
    }

    /// Whether it is answered nothing further until the client has taken some.
    pub(super) fn has_much_to_take(&self, bounds: &Bounds) -> bool {
        self.reader.queue_bytes() > bounds.queue_bytes
    }

    /// Whether its upgrade waits for the auth function.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Waits(_))
    }
}

/// An upgrade that has passed every check but the last.
pub struct Asking {
    pub(super) upgrade: Upgrade,
    /// What came behind the head.
    pub(super) frames: Vec<u8>,
    /// With so many bytes it counts among those that are half open.
    pub(super) counted_bytes: usize,
}

/// The live connections.
pub(super) struct Connections<S> {
    slots: Named<Connection<S>>,
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Connections {
            slots: Named::default(),
        }
    }
}

impl<S> Connections<S> {
    /// Enters a socket of which nothing has come.
    pub(super) fn insert(&mut self, socket: S) -> SlotId {
        self.slots.insert(Connection {
            socket,
            reader: Reader::default(),
            phase: Phase::default(),
            joins: None,
            context: None,
            turn: Turn::default(),
            is_to_write: false,
            is_let_in: false,
            is_behind_debts: false,
            home: Home::Undecided,
            is_over: false,
        })
    }

    /// Forgets the socket; `None` when it was gone already.
    pub(super) fn remove(&mut self, id: SlotId) -> Option<Connection<S>> {
        self.slots.remove(id)
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&Connection<S>> {
        self.slots.get(id)
    }

    /// `None`: the client left, and the slot is empty or someone else's. Not an error.
    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Connection<S>> {
        self.slots.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Above every slot that a connection stands in.
    pub(super) fn slots_end(&self) -> u32 {
        self.slots.slots_end()
    }

    /// The name of what stands in a slot now.
    pub(super) fn id_at(&self, slot: u32) -> Option<SlotId> {
        self.slots.id_at(slot)
    }

    /// All there are now.
    pub(super) fn ids(&self) -> Vec<SlotId> {
        self.slots.iter().map(|(id, _)| id).collect()
    }
}

impl<S: fanout::Socket> fanout::Connections for Connections<S> {
    type Socket = S;

    fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut S)> {
        let connection = self.slots.get_mut(id)?;
        Some((&mut connection.reader, &mut connection.socket))
    }
}
