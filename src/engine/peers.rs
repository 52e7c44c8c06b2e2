//! The SDK workers' sockets, or the one to the engine whose worker we are: how far each is, and what of
//! it has been read or could not be written. Who is behind it stands with the broker.

use std::collections::BTreeMap;
use std::io;

use mio::Registry;

use crate::broker::Members;
use crate::fanout::{Socket as _, Written as OnSocket};
use crate::id::SlotId;
use crate::life::{self, Turn};
use crate::net::tls::MaybeTls;
use crate::protocol::connection::Sender;

/// What is written at most to find out whether a socket takes anything.
const TRIED_BYTES: usize = 64 * 1024;

/// One socket on the worker port, or the link to an engine.
pub(super) struct Peer {
    pub(super) socket: MaybeTls,
    pub(super) phase: Phase,
    /// The number of the listener that it came to.
    pub(super) listener: usize,
    is_link: bool,
    /// It sends traces, metrics and logs, and nothing else.
    pub(super) is_telemetry: bool,
    /// It counts among those that were let in.
    is_let_in: bool,
    is_blocked: bool,
    pub(super) turn: Turn,
    /// What of it is counted in the sums of all.
    counted: Counted,
    /// Of its message that is not whole: its number among all that have begun, and how much of it has come.
    partial: Option<(u64, usize)>,
}

/// What sockets hold that are not let in: how many, and what has come from these.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counted {
    waiting: usize,
    waiting_bytes: usize,
}

/// How far a connection is. An SDK worker's is open, as is an engine's and that of a sender of telemetry.
pub(super) type Phase = life::Phase<Waits>;

/// What is kept while somebody's word is waited for.
pub enum Waits {
    /// The auth function is asked about it.
    Admission {
        /// What has come behind the head.
        early: Vec<u8>,
        /// What it asks to be.
        is_telemetry: bool,
    },
    /// The link to an engine, whose answer to our upgrade is not whole.
    Dial {
        /// What has come of the answer.
        bytes: Vec<u8>,
        /// What it answers to.
        key: String,
    },
}

impl Peer {
    fn new(socket: MaybeTls, phase: Phase, listener: usize, is_link: bool) -> Peer {
        Peer {
            socket,
            phase,
            listener,
            is_link,
            is_telemetry: false,
            is_let_in: false,
            is_blocked: is_link, // until the poll says that it takes bytes
            turn: Turn::default(),
            counted: Counted::default(),
            partial: None,
        }
    }

    /// What it holds now.
    fn count(&self) -> Counted {
        let waiting = match &self.phase {
            Phase::Head(head) => Some(head.bytes.len() + self.socket.kept_bytes()),
            Phase::Waits(waits) => match &**waits {
                Waits::Admission { early, .. } => Some(early.len()),
                Waits::Dial { .. } => None,
            },
            Phase::Open(_) | Phase::Closing => None,
        };
        Counted {
            waiting: usize::from(waiting.is_some()),
            waiting_bytes: waiting.unwrap_or(0),
        }
    }

    /// What has come of its message that is not whole. Not of the link's: there is but one.
    fn partial_bytes(&self) -> usize {
        match &self.phase {
            Phase::Open(open) if !open.is_paused() && !self.is_link => open.kept_bytes(),
            _ => 0,
        }
    }

    /// Whether somebody has still to let it in.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Head(_)) || self.is_asked_about()
    }

    /// Whether the auth function is asked about it.
    pub(super) fn is_asked_about(&self) -> bool {
        matches!(&self.phase, Phase::Waits(waits) if matches!(**waits, Waits::Admission { .. }))
    }

    /// Whether it is a link that connects or upgrades.
    pub(super) fn is_dialling(&self) -> bool {
        matches!(&self.phase, Phase::Waits(waits) if matches!(**waits, Waits::Dial { .. }))
    }

    /// Whether it is the link to an engine.
    pub(super) fn is_link(&self) -> bool {
        self.is_link
    }

    /// Whose frames come from it.
    pub(super) fn sender(&self) -> Sender {
        match self.is_link {
            true => Sender::Server,
            false => Sender::Client,
        }
    }
}

/// What has become of a socket that was written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Alive,
    Dead,
    /// It is not there.
    Gone,
}

impl Counted {
    /// The sums once a part of them is another than before.
    fn with(self, now: Counted, before: Counted) -> Counted {
        Counted {
            waiting: self.waiting + now.waiting - before.waiting,
            waiting_bytes: self.waiting_bytes + now.waiting_bytes - before.waiting_bytes,
        }
    }
}

/// The sockets on the worker port. Their ids are those of the broker's members.
#[derive(Default)]
pub(super) struct Peers {
    /// By the slots of their ids.
    slots: Vec<Option<(SlotId, Peer)>>,
    len: usize,
    /// Those that the worker port has let in.
    let_in: usize,
    /// What all of them hold.
    counted: Counted,
    /// Those with a message that is not whole, in the order in which these began, and what has come of
    /// all these.
    partials: BTreeMap<u64, SlotId>,
    partials_begun: u64,
    partial_bytes: usize,
    /// Those that took less than they were given since this was last asked, and whether they took anything.
    blocked: Vec<(SlotId, bool)>,
}

impl Peers {
    pub(super) fn insert(
        &mut self,
        id: SlotId,
        socket: MaybeTls,
        listener: usize,
        registry: &Registry,
    ) -> io::Result<()> {
        let peer = Peer::new(socket, Phase::default(), listener, false);
        self.watch(id, peer, registry)
    }

    /// The link to an engine, which connects. Its upgrade is asked for with that key.
    pub(super) fn insert_link(
        &mut self,
        id: SlotId,
        socket: MaybeTls,
        key: String,
        registry: &Registry,
    ) -> io::Result<()> {
        let dial = Waits::Dial {
            bytes: Vec::new(),
            key,
        };
        let dial = Phase::Waits(Box::new(dial));
        self.watch(id, Peer::new(socket, dial, 0, true), registry)
    }

    fn watch(&mut self, id: SlotId, mut peer: Peer, registry: &Registry) -> io::Result<()> {
        peer.socket.register(id, registry)?;
        let slot = id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some((id, peer));
        self.len += 1;
        self.count(id);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: SlotId, registry: &Registry) -> Option<Peer> {
        self.get(id)?;
        let (_, mut peer) = self.slots.get_mut(id.slot as usize)?.take()?;
        self.len -= 1;
        self.let_in -= usize::from(peer.is_let_in);
        self.counted = self.counted.with(Counted::default(), peer.counted);
        self.forget_partial(peer.partial);
        peer.socket.deregister(registry);
        Some(peer)
    }

    /// The socket that has that slot.
    pub(super) fn id_at(&self, slot: u32) -> Option<SlotId> {
        let (id, _) = self.slots.get(slot as usize)?.as_ref()?;
        Some(*id)
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&Peer> {
        let (of, peer) = self.slots.get(id.slot as usize)?.as_ref()?;
        (*of == id).then_some(peer)
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Peer> {
        let (of, peer) = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (*of == id).then_some(peer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Has the sums of all hold what the socket holds now.
    pub(super) fn count(&mut self, id: SlotId) {
        let counted = self.counted;
        if let Some(peer) = self.get_mut(id) {
            let now = peer.count();
            let counted = counted.with(now, peer.counted);
            peer.counted = now;
            self.counted = counted;
        }
    }

    /// Counts what has come of a message that is not whole. `is_next`: the one before is whole now.
    pub(super) fn count_partial(&mut self, id: SlotId, is_next: bool) {
        let next = self.partials_begun + 1;
        let Some(peer) = self.get_mut(id) else {
            return;
        };
        let before = peer.partial.take();
        let began = before.map(|(began, _)| began).filter(|_| !is_next);
        let bytes = peer.partial_bytes();
        if bytes > 0 {
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
        let has_room = self.has_room(most);
        let Some(peer) = self.get_mut(id).filter(|_| has_room) else {
            return false;
        };
        peer.is_let_in = true;
        self.let_in += 1;
        true
    }

    pub(super) fn ids(&self) -> Vec<SlotId> {
        self.slots.iter().flatten().map(|(id, _)| *id).collect()
    }

    /// It takes bytes again. True when it did not before.
    pub(super) fn unblock(&mut self, id: SlotId) -> bool {
        self.get_mut(id)
            .is_some_and(|peer| std::mem::take(&mut peer.is_blocked))
    }

    /// Those that took less than they were given, and whether they took anything.
    pub(super) fn take_blocked(&mut self) -> Vec<(SlotId, bool)> {
        std::mem::take(&mut self.blocked)
    }

    /// As [`Sockets::try_write`](crate::life::Sockets::try_write).
    pub(super) fn try_write(&mut self, id: SlotId, members: &mut Members) -> Option<bool> {
        if !self.unblock(id) {
            return None;
        }
        let mut most = TRIED_BYTES;
        self.write(id, members, &mut most);
        let of_it = |(blocked, _): &&(SlotId, bool)| *blocked == id;
        let blocked = self.blocked.iter().rev().find(of_it);
        blocked.map(|(_, has_taken)| *has_taken)
    }

    /// Writes what is unsent until nothing is left, the socket takes no more, or `most` bytes are written.
    pub(super) fn write(&mut self, id: SlotId, members: &mut Members, most: &mut usize) -> Written {
        let Some((_, peer)) = self
            .slots
            .get_mut(id.slot as usize)
            .and_then(|slot| slot.as_mut().filter(|(of, _)| *of == id))
        else {
            return Written::Gone;
        };
        if peer.is_blocked {
            return Written::Alive;
        }
        let held = peer.socket.held_bytes();
        match peer.socket.flush() {
            OnSocket::All => {}
            OnSocket::Part(_) => {
                peer.is_blocked = true;
                // A session over it may hold back less than before.
                self.blocked.push((id, peer.socket.held_bytes() < held));
                return Written::Alive;
            }
            OnSocket::Gone => return Written::Dead,
        }
        let (mut is_dead, mut has_taken) = (false, false);
        let is_written = members.write(id, most, |unsent| match peer.socket.write_bytes(unsent) {
            OnSocket::All => {
                has_taken = true;
                unsent.len()
            }
            OnSocket::Part(len) => {
                peer.is_blocked = true;
                has_taken |= len > 0;
                len
            }
            OnSocket::Gone => {
                is_dead = true;
                0
            }
        });
        if is_dead {
            return Written::Dead;
        }
        if peer.is_blocked {
            self.blocked.push((id, has_taken));
        }
        if is_written && matches!(peer.phase, Phase::Closing) {
            peer.socket.shutdown_write();
        }
        Written::Alive
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    use mio::Poll;

    use super::*;
    use crate::net::tls::TestPort;
    use crate::reading::Received;

    const ID: SlotId = SlotId {
        slot: 0,
        generation: 1,
    };

    #[test]
    fn who_takes_a_part_of_what_tls_holds_back_has_taken_something() {
        let until = Instant::now() + Duration::from_secs(60);
        let mut port = TestPort::open("peers");
        let (client, mut socket) = port.accept_narrow();
        let client = port.client(client, |mut client| {
            client.write_all(b"hello").unwrap();
            client.sock
        });
        let mut buffer = vec![0; 64 * 1024];
        while !matches!(socket.read(&mut buffer), Received::Bytes { len: 5, .. }) {
            assert!(Instant::now() < until, "no handshake");
        }
        let mut client = client.join().unwrap();
        let moment = Duration::from_millis(5);
        client.set_read_timeout(Some(moment)).unwrap();
        let poll = Poll::new().unwrap();
        let (mut peers, mut members) = (Peers::default(), Members::default());
        peers.insert(ID, socket, 0, poll.registry()).unwrap();
        loop {
            let socket = &mut peers.get_mut(ID).unwrap().socket;
            while socket.held_bytes() == 0 {
                socket.write_bytes(&[b'x'; 16 * 1024]);
            }
            let before = socket.held_bytes();
            let mut most = TRIED_BYTES;
            peers.write(ID, &mut members, &mut most);
            let has_taken = peers.take_blocked().pop().map(|(_, has_taken)| has_taken);
            let held = peers.get(ID).unwrap().socket.held_bytes();
            assert_eq!(has_taken, (held > 0).then_some(held < before));
            if has_taken == Some(true) {
                return;
            }
            assert!(Instant::now() < until, "it never took a part");
            peers.unblock(ID);
            // A little makes room for a part of a record, perhaps a while later.
            let _ = client.read(&mut [0; 1024]);
        }
    }
}
