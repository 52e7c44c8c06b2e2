//! The SDK workers' sockets: few, each with buffers of its own.
//!
//! What is to be sent is collected and goes out in one write a turn. May not know what a call is.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Instant;

use hashbrown::HashSet;
use mio::Registry;
use mio::net::TcpStream;
use uuid::Uuid;

use crate::collections::Named;
use crate::fanout::{Socket, Written};
use crate::id::{SlotId, WorkerId};
use crate::net::Tcp;
use crate::protocol::connection::{self, text_header};
use crate::protocol::handshake::HeadReader;
use crate::shard::Command;

/// What has been sent is dropped from the buffer when it is more than this, or all of it.
const SENT_BYTES_MAX: usize = 256 * 1024;

/// One socket on the worker port.
pub(super) struct Peer {
    pub(super) socket: Tcp,
    pub(super) phase: Phase,
    /// What it is called by everybody; given at the upgrade.
    pub(super) worker_id: Uuid,
    /// Functions that it registered, those taken over by others since included.
    pub(super) functions: HashSet<Box<str>>,
    /// Commands that found their owner full, in order. While there are any it is not read.
    pub(super) parked: VecDeque<(WorkerId, Command)>,
    /// When the call that is parked has waited long enough; `None` for one without an id.
    pub(super) parked_until: Option<Instant>,
    /// Frames to be sent; the first `sent` bytes have been.
    out: Vec<u8>,
    sent: usize,
    is_blocked: bool,
    pub(super) is_readable: bool,
    pub(super) is_queued: bool,
    /// It stands among those that are to be written to.
    is_dirty: bool,
}

/// How far a connection is.
pub(super) enum Phase {
    /// The head is not whole.
    Handshake { bytes: Vec<u8>, head: HeadReader },
    /// An SDK worker.
    Work(connection::Connection),
    /// A sender of traces, metrics and logs.
    Telemetry(connection::Connection),
    /// Its last bytes are queued or sent; what comes in is thrown away until the peer ends it.
    Closing,
}

impl Peer {
    /// Bytes that wait unsent.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Whether its socket is to be left unread: what it asked for has not found room.
    pub(super) fn is_held(&self, unsent_bytes_max: usize) -> bool {
        !self.parked.is_empty() || self.unsent_bytes() > unsent_bytes_max
    }
}

/// Whether a socket can still be written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    Alive,
    Dead,
}

/// The sockets on the worker port.
#[derive(Default)]
pub(super) struct Peers {
    slots: Named<Peer>,
    /// Those with something to send, each once.
    dirty: Vec<SlotId>,
    /// The text of the message being written.
    text: Vec<u8>,
}

impl Peers {
    pub(super) fn insert(&mut self, stream: TcpStream, registry: &Registry) -> io::Result<SlotId> {
        let id = self.slots.insert(Peer {
            socket: Tcp::new(stream),
            phase: Phase::Handshake {
                bytes: Vec::new(),
                head: HeadReader::default(),
            },
            worker_id: Uuid::nil(),
            functions: HashSet::new(),
            parked: VecDeque::new(),
            parked_until: None,
            out: Vec::new(),
            sent: 0,
            is_blocked: false,
            is_readable: false,
            is_queued: false,
            is_dirty: false,
        });
        let Some(peer) = self.slots.get_mut(id) else {
            return Ok(id);
        };
        if let Err(error) = peer.socket.register(id, registry) {
            self.slots.remove(id);
            return Err(error);
        }
        Ok(id)
    }

    pub(super) fn remove(&mut self, id: SlotId, registry: &Registry) -> Option<Peer> {
        let mut peer = self.slots.remove(id)?;
        peer.socket.deregister(registry);
        Some(peer)
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&Peer> {
        self.slots.get(id)
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Peer> {
        self.slots.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn ids(&self) -> Vec<SlotId> {
        self.slots.iter().map(|(id, _)| id).collect()
    }

    /// Queues one JSON message, which `write` appends to the buffer that it is given.
    pub(super) fn send(&mut self, id: SlotId, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(peer) = self.slots.get_mut(id) else {
            return;
        };
        if !matches!(peer.phase, Phase::Work(_)) {
            return;
        }
        self.text.clear();
        write(&mut self.text);
        let (header, header_len) = text_header(self.text.len());
        peer.out.extend_from_slice(&header[..header_len]);
        peer.out.extend_from_slice(&self.text);
        self.text.shrink_to(SENT_BYTES_MAX);
        self.mark(id);
    }

    /// Queues bytes as they are: an HTTP answer, a control frame.
    pub(super) fn send_raw(&mut self, id: SlotId, bytes: &[u8]) {
        if let Some(peer) = self.slots.get_mut(id) {
            peer.out.extend_from_slice(bytes);
            self.mark(id);
        }
    }

    /// It takes bytes again.
    pub(super) fn unblock(&mut self, id: SlotId) {
        if let Some(peer) = self.slots.get_mut(id)
            && peer.is_blocked
        {
            peer.is_blocked = false;
            self.mark(id);
        }
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Writes what is queued, once a socket; calls `written` with each, and whether it is dead.
    pub(super) fn write_all(&mut self, mut written: impl FnMut(SlotId, Liveness)) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(peer) = self.slots.get_mut(id) else {
                continue;
            };
            peer.is_dirty = false;
            if peer.is_blocked || peer.unsent_bytes() == 0 {
                continue;
            }
            match peer.socket.write(&[IoSlice::new(&peer.out[peer.sent..])]) {
                Written::All => peer.sent = peer.out.len(),
                Written::Part(len) => {
                    peer.sent += len;
                    peer.is_blocked = true;
                }
                Written::Gone => {
                    written(id, Liveness::Dead);
                    continue;
                }
            }
            if peer.sent == peer.out.len() || peer.sent > SENT_BYTES_MAX {
                peer.out.drain(..peer.sent);
                peer.out.shrink_to(SENT_BYTES_MAX);
                peer.sent = 0;
            }
            if peer.out.is_empty() && matches!(peer.phase, Phase::Closing) {
                peer.socket.shutdown_write();
            }
            written(id, Liveness::Alive);
        }
    }

    fn mark(&mut self, id: SlotId) {
        if let Some(peer) = self.slots.get_mut(id)
            && !peer.is_dirty
        {
            peer.is_dirty = true;
            self.dirty.push(id);
        }
    }
}
