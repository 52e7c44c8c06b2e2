//! The SDK workers' sockets, or the one to the engine whose worker we are: few, each with buffers of
//! its own.
//!
//! What is to be sent is collected and goes out in one write a turn; long answers are written out
//! only as the socket takes them.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashSet;
use mio::Registry;
use mio::net::TcpStream;
use uuid::Uuid;

use crate::collections::Named;
use crate::fanout::Written;
use crate::id::SlotId;
use crate::net::channel::Channel;
use crate::protocol::answer::{Outcome, ResultBody};
use crate::protocol::connection::{self, Sender, masked_control, push_masked_text, text_header};
use crate::protocol::handshake::HeadReader;
use crate::protocol::input::StreamFunction;
use crate::protocol::rbac::Access;

use super::calls::Caller;
use super::link::Masks;
use super::parked::Parked;
use super::workers::Profile;

/// Answers are written out while less than this waits unsent; the others stay what they are, shared
/// with the shards that gave them, and what is sent after them waits behind them.
const OUT_BYTES: usize = 256 * 1024;

/// Calls of one peer that may be under way and have long answers (lists): what the answers hold is
/// known only when they come.
const LISTS_UNDER_WAY_MAX: u32 = 4;

/// One socket on the worker port, or the link to an engine.
pub(super) struct Peer {
    pub(super) socket: Channel,
    /// Of the link alone: there we are the client, whose frames are masked.
    masks: Option<Masks>,
    pub(super) phase: Phase,
    /// What it is called by everybody; given at the upgrade.
    pub(super) worker_id: Uuid,
    /// The number of the listener that it came to.
    pub(super) listener: usize,
    /// What it may do.
    pub(super) access: Arc<Access>,
    /// Where it connects from.
    pub(super) ip: Option<IpAddr>,
    /// It counts among those that were let in.
    is_let_in: bool,
    /// Since when it is there as an SDK worker, in ms since 1970.
    pub(super) connected_at_ms: Option<u64>,
    /// What it tells about itself.
    pub(super) profile: Profile,
    /// Functions that it registered, those taken over by others since excepted.
    pub(super) functions: HashSet<Box<str>>,
    /// Commands that found their owner full, in order. While there are any it is not read.
    pub(super) parked: Parked,
    /// When the call that is parked has waited long enough; `None` for one without an id.
    pub(super) parked_until: Option<Instant>,
    /// Calls of lists under way.
    pub(super) lists_under_way: u32,
    /// Trigger calls that found its queue full, since that was last told.
    pub(super) drops: u64,
    pub(super) drops_said_at: Option<Instant>,
    /// Frames to be sent; the first `sent` bytes have been.
    out: Vec<u8>,
    sent: usize,
    /// What follows, and the bytes that it holds.
    behind: VecDeque<Behind>,
    behind_bytes: usize,
    /// What is sent after all else: a close frame, or an HTTP answer that refuses.
    last: Vec<u8>,
    is_blocked: bool,
    pub(super) is_readable: bool,
    /// The poll has told of the end. It tells once, and data may stand before it: so reading goes on
    /// until the end is read.
    pub(super) is_ending: bool,
    pub(super) is_queued: bool,
    /// It stands among those that are to be written to.
    is_dirty: bool,
}

/// The answer to a stream call, not written out yet.
pub(super) struct Answer {
    pub(super) caller: Caller,
    pub(super) function: StreamFunction,
    pub(super) outcome: Outcome,
}

/// What waits behind `out`, in order.
enum Behind {
    /// An answer whose values are still shared with the shard that gave it.
    Answer(Answer),
    /// Frames that were sent after such answers.
    Frames(Vec<u8>),
}

/// How far a connection is.
pub(super) enum Phase {
    /// The head is not whole.
    Handshake { bytes: Vec<u8>, head: HeadReader },
    /// The auth function is asked about it.
    Admission {
        /// What has come behind the head.
        early: Vec<u8>,
        is_telemetry: bool,
    },
    /// The link to an engine, whose answer to our upgrade is not whole.
    Dial { bytes: Vec<u8>, key: String },
    /// An SDK worker, or the engine.
    Work(connection::Connection),
    /// A sender of traces, metrics and logs.
    Telemetry(connection::Connection),
    /// Its last bytes are queued or sent; what comes in is thrown away until the peer ends it.
    Closing,
}

impl Peer {
    fn new(socket: Channel, phase: Phase) -> Peer {
        Peer {
            socket,
            masks: None,
            phase,
            worker_id: Uuid::nil(),
            listener: 0,
            access: Arc::new(Access::unlimited()),
            ip: None,
            is_let_in: false,
            connected_at_ms: None,
            profile: Profile::default(),
            functions: HashSet::new(),
            parked: Parked::default(),
            parked_until: None,
            lists_under_way: 0,
            drops: 0,
            drops_said_at: None,
            out: Vec::new(),
            sent: 0,
            behind: VecDeque::new(),
            behind_bytes: 0,
            last: Vec::new(),
            is_blocked: false,
            is_readable: false,
            is_ending: false,
            is_queued: false,
            is_dirty: false,
        }
    }

    /// Whether it is the link to an engine.
    pub(super) fn is_link(&self) -> bool {
        self.masks.is_some()
    }

    /// Whose frames come from it.
    pub(super) fn sender(&self) -> Sender {
        match self.is_link() {
            true => Sender::Server,
            false => Sender::Client,
        }
    }

    /// Bytes that wait unsent.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.out.len() - self.sent + self.behind_bytes
    }

    /// Whether its socket is to be left unread: what it asked for has not found room, or nobody
    /// has let it in yet. The link never is, for all programs behind the engine share it: calls
    /// beyond its bounds are refused.
    pub(super) fn is_held(&self, unsent_bytes_max: usize) -> bool {
        let is_full = matches!(self.phase, Phase::Admission { .. })
            || !self.parked.is_empty()
            || self.unsent_bytes() > unsent_bytes_max
            || self.lists_under_way >= LISTS_UNDER_WAY_MAX;
        is_full && !self.is_link()
    }
}

impl Peer {
    /// Appends one message as a frame: behind answers that are not written out yet.
    fn push(&mut self, text: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.behind.is_empty() {
            return push_frame(&mut self.out, self.masks.as_mut(), text, write);
        }
        let mut frames = match self.behind.pop_back() {
            Some(Behind::Frames(frames)) => frames,
            last => {
                self.behind.extend(last);
                Vec::new()
            }
        };
        let before = frames.len();
        push_frame(&mut frames, self.masks.as_mut(), text, write);
        self.behind_bytes += frames.len() - before;
        self.behind.push_back(Behind::Frames(frames));
    }

    /// Writes out what is behind until so many bytes wait unsent.
    fn write_out(&mut self, text: &mut Vec<u8>) {
        while self.out.len() - self.sent < OUT_BYTES
            && let Some(next) = self.behind.pop_front()
        {
            let Answer {
                caller,
                function,
                outcome,
            } = match next {
                Behind::Answer(answer) => answer,
                Behind::Frames(mut frames) => {
                    self.behind_bytes -= frames.len();
                    self.out.append(&mut frames);
                    continue;
                }
            };
            self.behind_bytes -= outcome.held_bytes();
            let body = ResultBody::Outcome(&outcome);
            push_frame(&mut self.out, self.masks.as_mut(), text, |out| {
                caller.write_answer(out, function.id(), body);
            });
        }
    }

    /// A control frame as this side of the connection sends it.
    fn control(&mut self, frame: &[u8]) -> Vec<u8> {
        match &mut self.masks {
            Some(masks) => masked_control(frame, masks.next()),
            None => frame.to_vec(),
        }
    }

    /// Writes until nothing is left or the socket takes no more.
    fn write(&mut self, text: &mut Vec<u8>) -> Liveness {
        match self.socket.flush() {
            Written::All => {}
            Written::Part(_) => self.is_blocked = true,
            Written::Gone => return Liveness::Dead,
        }
        loop {
            self.write_out(text);
            if self.behind.is_empty() {
                self.out.append(&mut self.last);
            }
            let unsent = &self.out[self.sent..];
            if self.is_blocked || unsent.is_empty() {
                return Liveness::Alive;
            }
            match self.socket.write(unsent) {
                Written::All => self.sent = self.out.len(),
                Written::Part(len) => {
                    self.sent += len;
                    self.is_blocked = true;
                }
                Written::Gone => return Liveness::Dead,
            }
            // Moved to the front only when that is less than what has gone.
            if self.sent >= self.out.len() - self.sent {
                self.out.drain(..self.sent);
                self.out.shrink_to(OUT_BYTES);
                self.sent = 0;
            }
        }
    }
}

/// Appends to `out` what `write` makes, as one frame.
fn push_frame(
    out: &mut Vec<u8>,
    masks: Option<&mut Masks>,
    text: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    text.clear();
    write(text);
    match masks {
        Some(masks) => push_masked_text(out, text, masks.next()),
        None => {
            let (header, header_len) = text_header(text.len());
            out.extend_from_slice(&header[..header_len]);
            out.extend_from_slice(text);
        }
    }
    text.shrink_to(OUT_BYTES);
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
    /// Those that the worker port has let in.
    let_in: usize,
    /// Those with something to send, each once.
    dirty: Vec<SlotId>,
    /// The text of the message being written.
    text: Vec<u8>,
}

impl Peers {
    pub(super) fn insert(
        &mut self,
        stream: TcpStream,
        listener: usize,
        registry: &Registry,
    ) -> io::Result<SlotId> {
        let ip = stream.peer_addr().ok().map(|address| address.ip());
        let head = Phase::Handshake {
            bytes: Vec::new(),
            head: HeadReader::default(),
        };
        let mut peer = Peer::new(Channel::plain(stream), head);
        peer.listener = listener;
        peer.ip = ip.map(|ip| ip.to_canonical());
        self.watch(peer, registry)
    }

    /// The link to an engine, which connects: `request` is sent when it has, and asks for an upgrade
    /// with that key.
    pub(super) fn insert_link(
        &mut self,
        socket: Channel,
        request: Vec<u8>,
        key: String,
        registry: &Registry,
    ) -> io::Result<SlotId> {
        let dial = Phase::Dial {
            bytes: Vec::new(),
            key,
        };
        let mut peer = Peer::new(socket, dial);
        peer.masks = Some(Masks::default());
        peer.out = request;
        peer.is_blocked = true; // until the poll says that it takes bytes
        self.watch(peer, registry)
    }

    fn watch(&mut self, peer: Peer, registry: &Registry) -> io::Result<SlotId> {
        let id = self.slots.insert(peer);
        let registered = match self.slots.get_mut(id) {
            Some(peer) => peer.socket.register(id, registry),
            None => Err(io::Error::other("a slot just filled is empty")),
        };
        if registered.is_err() {
            self.slots.remove(id);
        }
        registered.map(|()| id)
    }

    pub(super) fn remove(&mut self, id: SlotId, registry: &Registry) -> Option<Peer> {
        let mut peer = self.slots.remove(id)?;
        self.let_in -= usize::from(peer.is_let_in);
        peer.socket.deregister(registry);
        Some(peer)
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&Peer> {
        self.slots.get(id)
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Peer> {
        self.slots.get_mut(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Counts a socket among those that are let in, if fewer than `most` are.
    pub(super) fn count_in(&mut self, id: SlotId, most: usize) -> bool {
        let Some(peer) = self.slots.get_mut(id).filter(|_| self.let_in < most) else {
            return false;
        };
        peer.is_let_in = true;
        self.let_in += 1;
        true
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
        peer.write_out(&mut self.text); // what was answered before goes before
        peer.push(&mut self.text, write);
        self.mark(id);
    }

    /// Queues the answer to a stream call.
    pub(super) fn answer(&mut self, answer: Answer) {
        let id = answer.caller.peer;
        let Some(peer) = self.slots.get_mut(id) else {
            return;
        };
        if !matches!(peer.phase, Phase::Work(_)) {
            return;
        }
        peer.behind_bytes += answer.outcome.held_bytes();
        peer.behind.push_back(Behind::Answer(answer));
        self.mark(id);
    }

    /// Queues a control frame of the server, as this side of the connection sends it.
    pub(super) fn send_control(&mut self, id: SlotId, frame: &[u8]) {
        if let Some(peer) = self.slots.get_mut(id) {
            let frame = peer.control(frame);
            self.send_raw(id, &frame);
        }
    }

    /// Queues bytes as they are, before answers that are not written out yet: the 101, a pong.
    pub(super) fn send_raw(&mut self, id: SlotId, bytes: &[u8]) {
        if let Some(peer) = self.slots.get_mut(id) {
            peer.out.extend_from_slice(bytes);
            self.mark(id);
        }
    }

    /// Queues what ends the connection, behind all else.
    pub(super) fn send_last(&mut self, id: SlotId, bytes: &[u8]) {
        if let Some(peer) = self.slots.get_mut(id) {
            peer.last = peer.control(bytes); // an HTTP answer never goes to an engine
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
            if peer.write(&mut self.text) == Liveness::Dead {
                written(id, Liveness::Dead);
                continue;
            }
            if peer.out.is_empty() && matches!(peer.phase, Phase::Closing) {
                peer.socket.shutdown_write();
            }
            written(id, Liveness::Alive);
        }
    }

    /// Has it written to in this turn.
    pub(super) fn mark(&mut self, id: SlotId) {
        if let Some(peer) = self.slots.get_mut(id)
            && !peer.is_dirty
        {
            peer.is_dirty = true;
            self.dirty.push(id);
        }
    }
}
