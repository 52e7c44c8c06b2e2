//! The live connections of one worker, by slot and generation.
//!
//! An idle subscriber owns a socket, a few words here, and its entry in the fan-out. May not know
//! what a group is.

use std::io;
use std::sync::Arc;

use mio::Registry;
use mio::net::TcpStream;

use crate::collections::Named;
use crate::fanout::{self, Reader};
use crate::id::SlotId;
use crate::net::{Tcp, Unread};
use crate::protocol;
use crate::protocol::handshake::{HeadReader, Upgrade};

use super::joins::Joins;

/// One accepted socket.
pub(super) struct Connection {
    pub(super) socket: Tcp,
    /// Its subscriptions, and what it has to be sent.
    pub(super) reader: Reader,
    pub(super) phase: Phase,
    /// Joins that wait for functions or their owner, and messages that wait for joins.
    pub(super) joins: Option<Box<Joins>>,
    /// What the auth function said of it, for the functions that are told of its joins and leaves.
    pub(super) context: Option<Arc<str>>,
    pub(super) unread: Unread,
    /// It stands in the worker's queue of sockets to be read.
    pub(super) is_queued: bool,
    /// It stands among those with something queued to be written.
    pub(super) is_to_write: bool,
    /// It counts among those that were let in.
    pub(super) is_let_in: bool,
    /// It has asked for leaves while too many were owed: it is left unread until some are taken.
    pub(super) is_behind_debts: bool,
    /// It has ended, and is forgotten once its last subscription has left.
    pub(super) is_over: bool,
}

/// How far a connection is.
pub(super) enum Phase {
    /// The head is not whole.
    Handshake(Box<Handshake>),
    /// The auth function is asked; the socket is left unread meanwhile.
    Asking(Box<Asking>),
    /// Frames come and go.
    Open(protocol::connection::Connection),
    /// Its last bytes are queued or sent; what comes in is thrown away until the peer ends it.
    Closing,
}

/// What a socket that reads slowly may have queued for itself before it is left unread, and its joins
/// unanswered: one answer more is always sent, whatever its size.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

impl Connection {
    /// Whether the socket is to be left unread: the upgrade waits for the auth function, joins for
    /// functions or owners, leaves for functions, or answers for the client to read them.
    pub(super) fn is_held(&self) -> bool {
        let joins_wait = self.joins.as_ref().is_some_and(|joins| joins.is_full());
        self.is_asking() || joins_wait || self.is_behind_debts || self.has_much_to_take()
    }

    /// Whether it is answered nothing further until the client has taken some.
    pub(super) fn has_much_to_take(&self) -> bool {
        self.reader.queue_bytes() > QUEUE_BYTES_MAX
    }

    /// Whether its upgrade waits for the auth function.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asking(_))
    }
}

impl Phase {
    /// Whether something that came is kept to be gone on with.
    pub(super) fn is_paused(&self) -> bool {
        match self {
            Phase::Open(open) => open.is_paused(),
            Phase::Handshake(_) | Phase::Asking(_) | Phase::Closing => false,
        }
    }
}

/// What has come of the head.
#[derive(Default)]
pub(super) struct Handshake {
    pub(super) bytes: Vec<u8>,
    pub(super) head: HeadReader,
    /// With so many bytes it counts among those that are half open.
    pub(super) counted_bytes: usize,
}

/// An upgrade that has passed every check but the last.
pub(super) struct Asking {
    pub(super) upgrade: Upgrade,
    /// What came behind the head.
    pub(super) frames: Vec<u8>,
    /// With so many bytes it counts among those that are half open.
    pub(super) counted_bytes: usize,
}

/// The live connections.
#[derive(Default)]
pub(super) struct Connections {
    slots: Named<Connection>,
}

impl Connections {
    /// Enters a socket and has the poll watch it.
    pub(super) fn insert(&mut self, stream: TcpStream, registry: &Registry) -> io::Result<SlotId> {
        let id = self.slots.insert(Connection {
            socket: Tcp::new(stream),
            reader: Reader::default(),
            phase: Phase::Handshake(Box::default()),
            joins: None,
            context: None,
            unread: Unread::default(),
            is_queued: false,
            is_to_write: false,
            is_let_in: false,
            is_behind_debts: false,
            is_over: false,
        });
        let registered = match self.slots.get_mut(id) {
            Some(connection) => connection.socket.register(id, registry),
            None => Err(io::Error::other("a slot just filled is empty")),
        };
        if registered.is_err() {
            self.slots.remove(id);
        }
        registered.map(|()| id)
    }

    /// Closes the socket and forgets it; false when it was gone already.
    pub(super) fn remove(&mut self, id: SlotId, registry: &Registry) -> bool {
        let Some(mut connection) = self.slots.remove(id) else {
            return false;
        };
        connection.socket.deregister(registry);
        true
    }

    /// `None`: the client left, and the slot is empty or someone else's. Not an error.
    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Connection> {
        self.slots.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// All there are now.
    pub(super) fn ids(&self) -> Vec<SlotId> {
        self.slots.iter().map(|(id, _)| id).collect()
    }
}

impl fanout::Connections for Connections {
    type Socket = Tcp;

    fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut Tcp)> {
        let connection = self.slots.get_mut(id)?;
        Some((&mut connection.reader, &mut connection.socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_connection_costs_is_known() {
        assert_eq!(size_of::<Connection>(), 136);
    }
}
