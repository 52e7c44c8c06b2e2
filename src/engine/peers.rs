//! The SDK workers' sockets, or the one to the engine whose worker we are: few, each with buffers of
//! its own.
//!
//! What is to be sent is collected (`outgoing`) and goes out in one write a turn.

use std::collections::{BTreeMap, BTreeSet, btree_set};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;
use mio::net::TcpStream;
use uuid::Uuid;

use crate::collections::Named;
use crate::fanout::Written;
use crate::id::{SlotId, Text};
use crate::net::channel::Channel;
use crate::protocol::answer::ResultBody;
use crate::protocol::connection::{self, Sender};
use crate::protocol::handshake::HeadReader;
use crate::protocol::rbac::Access;
use crate::reading::Unread;

use super::calls::Caller;
use super::outgoing::{Answer, Unsent};
use super::parked::Parked;
use super::profile::Profile;
use super::renamed::Names;

/// Calls of one peer that may be under way and have long answers (lists): what the answers hold is
/// known only when they come.
const LISTS_UNDER_WAY_MAX: u32 = 4;

/// A registration that a function is asked about.
pub(super) struct AskedAbout {
    /// As a message.
    pub(super) text: Box<str>,
    pub(super) came_as: CameAs,
}

/// How a registration has come.
pub(super) enum CameAs {
    Message,
    /// Whoever waits for the call's answer, if anybody does.
    Call(Option<Caller>),
}

/// Functions to be gone through bit by bit.
pub(super) type FunctionIds = btree_set::IntoIter<Box<str>>;

/// One socket on the worker port, or the link to an engine.
pub(super) struct Peer {
    pub(super) socket: Channel,
    pub(super) phase: Phase,
    /// What it is called by everybody; given at the upgrade.
    pub(super) worker_id: Uuid,
    /// Whoever says it takes its place. None: nobody can.
    pub(super) reattach_token: Option<Box<str>>,
    /// It has said something, so it takes nobody's place any more.
    pub(super) has_spoken: bool,
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
    /// Where its functions stand. None: in `default`.
    pub(super) namespace: Option<Text>,
    /// Functions that it registered, those included that a newer worker serves.
    pub(super) functions: BTreeSet<Box<str>>,
    /// What of it stands under other ids than its own.
    pub(super) names: Names,
    /// A registration of it while a function is asked about that. Meanwhile it is not read.
    pub(super) asked_about: Option<AskedAbout>,
    /// Commands that found their owner full, in order. While there are any it is not read.
    pub(super) parked: Parked,
    /// When the call that is parked has waited long enough; `None` for one without an id.
    pub(super) parked_until: Option<Instant>,
    /// Calls of lists under way.
    pub(super) lists_under_way: u32,
    /// What it has brought about and is still being done in turns.
    pub(super) work_under_way: u32,
    /// Trigger calls that found its queue full, since that was last told.
    pub(super) drops: u64,
    pub(super) drops_said_at: Option<Instant>,
    /// When something has come from it last. Only the link's is kept.
    pub(super) heard_at: Instant,
    unsent: Unsent,
    is_blocked: bool,
    pub(super) unread: Unread,
    pub(super) is_queued: bool,
    /// It stands among those that are to be written to.
    is_dirty: bool,
    /// What of it is counted in the sums of all.
    counted: Counted,
    /// Of its message that is not whole: the how manieth that has begun, and what has come of it.
    partial: Option<(u64, usize)>,
}

/// What sockets hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counted {
    /// Unsent.
    unsent_bytes: usize,
    /// Of sockets that are not let in: how many, and what has come from them.
    waiting: usize,
    waiting_bytes: usize,
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
            phase,
            worker_id: Uuid::nil(),
            reattach_token: None,
            has_spoken: false,
            listener: 0,
            access: Arc::new(Access::unlimited()),
            ip: None,
            is_let_in: false,
            connected_at_ms: None,
            profile: Profile::default(),
            namespace: None,
            functions: BTreeSet::new(),
            names: Names::default(),
            asked_about: None,
            parked: Parked::default(),
            parked_until: None,
            lists_under_way: 0,
            work_under_way: 0,
            drops: 0,
            drops_said_at: None,
            heard_at: Instant::now(),
            unsent: Unsent::default(),
            is_blocked: false,
            unread: Unread::default(),
            is_queued: false,
            is_dirty: false,
            counted: Counted::default(),
            partial: None,
        }
    }

    /// What it holds now.
    fn count(&self) -> Counted {
        let waiting = match &self.phase {
            Phase::Handshake { bytes, .. } => Some(bytes.len()),
            Phase::Admission { early, .. } => Some(early.len()),
            _ => None,
        };
        Counted {
            unsent_bytes: self.unsent_bytes(),
            waiting: usize::from(waiting.is_some()),
            waiting_bytes: waiting.unwrap_or(0),
        }
    }

    /// What has come of its message that is not whole. Not of the link's: there is but one.
    fn partial_bytes(&self) -> usize {
        match &self.phase {
            Phase::Work(open) | Phase::Telemetry(open) if !open.is_paused() && !self.is_link() => {
                open.kept_bytes()
            }
            _ => 0,
        }
    }

    /// Whether somebody has still to let it in.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(
            self.phase,
            Phase::Handshake { .. } | Phase::Admission { .. }
        )
    }

    /// Whether it is the link to an engine.
    pub(super) fn is_link(&self) -> bool {
        self.unsent.is_of_client()
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
        self.unsent.bytes()
    }

    /// The same without answers that are not written out yet.
    pub(super) fn written_bytes(&self) -> usize {
        self.unsent.written_bytes()
    }

    /// When the first of its answers that are held may leave.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.unsent.held_until()
    }

    /// Whether its socket is to be left unread: what it asked for has not found room, or nobody
    /// has let it in yet. The link never is, for all programs behind the engine share it: calls
    /// beyond its bounds are refused.
    pub(super) fn is_held(&self, unsent_bytes_max: usize) -> bool {
        let is_full = matches!(self.phase, Phase::Admission { .. })
            || !self.parked.is_empty()
            || self.asked_about.is_some()
            || self.unsent_bytes() > unsent_bytes_max
            || self.work_under_way > 0
            || self.lists_under_way >= LISTS_UNDER_WAY_MAX;
        is_full && !self.is_link()
    }
}

impl Peer {
    /// Writes until nothing is left or the socket takes no more.
    fn write(&mut self, text: &mut Vec<u8>) -> Liveness {
        match self.socket.flush() {
            Written::All => {}
            Written::Part(_) => self.is_blocked = true,
            Written::Gone => return Liveness::Dead,
        }
        loop {
            let unsent = self.unsent.next(text);
            if self.is_blocked || unsent.is_empty() {
                return Liveness::Alive;
            }
            let len = unsent.len();
            match self.socket.write(unsent) {
                Written::All => self.unsent.advance(len),
                Written::Part(len) => {
                    self.unsent.advance(len);
                    self.is_blocked = true;
                }
                Written::Gone => return Liveness::Dead,
            }
        }
    }
}

/// Whether a socket can still be written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    Alive,
    Dead,
}

impl Counted {
    /// The sums once a part of them is another than before.
    fn with(self, now: Counted, before: Counted) -> Counted {
        Counted {
            unsent_bytes: self.unsent_bytes + now.unsent_bytes - before.unsent_bytes,
            waiting: self.waiting + now.waiting - before.waiting,
            waiting_bytes: self.waiting_bytes + now.waiting_bytes - before.waiting_bytes,
        }
    }
}

/// The sockets on the worker port.
#[derive(Default)]
pub(super) struct Peers {
    slots: Named<Peer>,
    /// Those that the worker port has let in.
    let_in: usize,
    /// What all of them hold.
    counted: Counted,
    /// Those with a message that is not whole, in the order in which these began, and what has come of
    /// all these.
    partials: BTreeMap<u64, SlotId>,
    partials_begun: u64,
    partial_bytes: usize,
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
        peer.unsent = Unsent::of_link(request);
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
        self.count(id);
        registered.map(|()| id)
    }

    pub(super) fn remove(&mut self, id: SlotId, registry: &Registry) -> Option<Peer> {
        let mut peer = self.slots.remove(id)?;
        self.let_in -= usize::from(peer.is_let_in);
        self.counted = self.counted.with(Counted::default(), peer.counted);
        self.forget_partial(peer.partial);
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

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Has the sums of all hold what the socket holds now.
    pub(super) fn count(&mut self, id: SlotId) {
        if let Some(peer) = self.slots.get_mut(id) {
            let now = peer.count();
            self.counted = self.counted.with(now, peer.counted);
            peer.counted = now;
        }
    }

    /// Counts what has come of a message that is not whole. `is_next`: the one before is whole now.
    pub(super) fn count_partial(&mut self, id: SlotId, is_next: bool) {
        let Some(peer) = self.slots.get_mut(id) else {
            return;
        };
        let before = peer.partial.take();
        let began = before.map(|(began, _)| began).filter(|_| !is_next);
        let bytes = peer.partial_bytes();
        if bytes > 0 {
            let next = self.partials_begun + 1;
            peer.partial = Some((began.unwrap_or(next), bytes));
        }
        let now = peer.partial;
        self.forget_partial(before);
        if let Some((began, bytes)) = now {
            self.partials_begun = self.partials_begun.max(began);
            self.partials.insert(began, id);
            self.partial_bytes += bytes;
        }
    }

    fn forget_partial(&mut self, partial: Option<(u64, usize)>) {
        if let Some((began, bytes)) = partial {
            self.partials.remove(&began);
            self.partial_bytes -= bytes;
        }
    }

    /// What has come of all messages that are not whole, and whose began first.
    pub(super) fn partial(&self) -> (usize, Option<SlotId>) {
        let first = self.partials.values().next();
        (self.partial_bytes, first.copied())
    }

    /// What waits unsent for all of them.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.counted.unsent_bytes
    }

    /// How many are not let in, and what has come from these.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.counted.waiting, self.counted.waiting_bytes)
    }

    /// Whether one more may be let in.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.let_in < most
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
        peer.unsent.push(&mut self.text, write);
        self.mark(id);
    }

    /// Queues the answer to a call of a function that has answered in full.
    pub(super) fn send_result(&mut self, caller: &Caller, function_id: &str, body: ResultBody<'_>) {
        let Some(peer) = self.slots.get_mut(caller.peer) else {
            return;
        };
        if matches!(peer.phase, Phase::Work(_)) {
            peer.unsent
                .push_result(&mut self.text, caller, function_id, body);
            self.mark(caller.peer);
        }
    }

    /// Lets the answers of that socket go that have been held long enough.
    pub(super) fn release(&mut self, id: SlotId, now: Instant) {
        if let Some(peer) = self.slots.get_mut(id)
            && peer.unsent.release(now)
        {
            self.mark(id);
        }
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
        peer.unsent.push_answer(answer);
        self.mark(id);
    }

    /// Queues a control frame of the server, as this side of the connection sends it.
    pub(super) fn send_control(&mut self, id: SlotId, frame: &[u8]) {
        if let Some(peer) = self.slots.get_mut(id) {
            let frame = peer.unsent.control(frame);
            self.send_raw(id, &frame);
        }
    }

    /// Queues bytes as they are, before answers that are not written out yet: the 101, a pong.
    pub(super) fn send_raw(&mut self, id: SlotId, bytes: &[u8]) {
        if let Some(peer) = self.slots.get_mut(id) {
            peer.unsent.push_raw(bytes);
            self.mark(id);
        }
    }

    /// Queues what ends the connection, behind all else.
    pub(super) fn send_last(&mut self, id: SlotId, bytes: &[u8]) {
        if let Some(peer) = self.slots.get_mut(id) {
            peer.unsent.push_last(bytes);
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
            if peer.unsent.is_empty() && matches!(peer.phase, Phase::Closing) {
                peer.socket.shutdown_write();
            }
            self.count(id);
            written(id, Liveness::Alive);
        }
    }

    /// Has it written to in this turn.
    pub(super) fn mark(&mut self, id: SlotId) {
        self.count(id);
        if let Some(peer) = self.slots.get_mut(id)
            && !peer.is_dirty
        {
            peer.is_dirty = true;
            self.dirty.push(id);
        }
    }
}
