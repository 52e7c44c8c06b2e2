//! Where a subscriber lives: with the owner of its first group, so that a small room's events cross no
//! threads; where that has too many, with the worker that has the fewest.
//!
//! ```text
//! accepted ──► owner of the first group ──► the emptiest worker     each way once at most, then never again
//! ```
//! A socket goes before it follows anything, with what it has sent and what waits for it. On its way it is
//! in no poll: what it sends meanwhile stands in the kernel. May not know what a group is.

use core::net::{IpAddr, SocketAddr}; // an address is data
use std::collections::VecDeque;
use std::sync::Arc;

use crate::fanout::Reader;
use crate::id::{GroupKey, SlotId, WorkerId};
use crate::life::Sockets as _;
use crate::mesh::{ENDING, Handed, ToOwner};
use crate::protocol::connection;
use crate::reading::Unread;

use super::Subscribers;
use super::connections::{Home, Phase, Socket};
use super::joins::{Kind, Message};
use super::persons::Said;

/// A worker may have so many sockets more than the mean, however small that is.
const SPARE_SOCKETS: usize = 64;

/// Who is about to go, within the turn.
#[derive(Default)]
pub(super) struct Departures(VecDeque<Departure>);

struct Departure {
    id: SlotId,
    to: Destination,
    join: Message,
}

/// Where a socket goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Destination {
    worker: WorkerId,
    /// It stays there.
    stays: bool,
}

/// A subscriber between two workers.
struct Moving<S> {
    socket: S,
    /// Without a subscription.
    reader: Reader,
    frames: connection::Connection,
    context: Option<Box<Arc<str>>>,
    said: Option<Said>,
    client: Option<SocketAddr>,
    counted: Option<IpAddr>,
    unread: Unread,
    is_let_in: bool,
    join: Message,
    stays: bool,
}

impl Departures {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<S: Socket> Subscribers<S> {
    /// Serves a join whose names are within their limit. The first one of a socket says where it lives:
    /// with another worker, it is served there.
    pub(super) fn place(&mut self, id: SlotId, join: Message) {
        let destination = match &join.kind {
            Kind::Join { key, .. } => self.destination_of(id, key),
            Kind::Leave { .. } => None,
        };
        let Some(to) = destination else {
            return self.serve(id, join, true);
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.home = Home::Departing;
            self.departures.0.push_back(Departure { id, to, join });
        }
    }

    /// Where the socket goes for that group, if it goes.
    fn destination_of(&mut self, id: SlotId, key: &GroupKey) -> Option<Destination> {
        let owner = self.ports.shared.owners.owner_of(key);
        let connection = self.connections.get_mut(id)?;
        let home = std::mem::replace(&mut connection.home, Home::Decided);
        if home != Home::Undecided || self.place_below == 0 || self.is_ending() {
            return None;
        }
        if owner == self.ports.id {
            return self.refuge(key);
        }
        Some(Destination {
            worker: owner,
            stays: false,
        })
    }

    /// The process is about to end: nobody goes anywhere.
    fn is_ending(&self) -> bool {
        !self.drain.is_serving() || self.ports.shared.is_draining()
    }

    /// Who takes a socket whose group this worker owns, if that has too many itself. It counts here.
    fn refuge(&self, key: &GroupKey) -> Option<Destination> {
        let shared = &self.ports.shared;
        let (workers, total) = (shared.connections.len(), shared.connections_len());
        let mine = shared.sockets_of(self.ports.id);
        let is_near_mean = mine * workers * 4 <= total * 5
            || mine.saturating_sub(SPARE_SOCKETS) * workers <= total;
        if is_near_mean && self.fanout.followers_len(key) < self.place_below {
            return None;
        }
        let worker = shared.emptiest();
        let stays = true;
        (shared.sockets_of(worker) + 1 < mine).then_some(Destination { worker, stays })
    }

    /// What has come behind the head: it goes with the socket, if that goes.
    pub(super) fn received_early(&mut self, id: SlotId, early: &mut [u8]) {
        let connection = self.connections.get_mut(id);
        match connection.filter(|connection| connection.home == Home::Departing) {
            Some(connection) if !early.is_empty() => {
                connection.phase = Phase::Open(connection::Connection::before(early.to_vec()));
            }
            Some(_) => {}
            None => self.received_frames(id, early),
        }
    }

    /// Whether a socket is about to go.
    pub(super) fn has_departures(&self) -> bool {
        !self.departures.is_empty()
    }

    /// Hands over those that are about to go. `release` takes a socket out of the poll.
    pub fn hand_over(&mut self, mut release: impl FnMut(&mut S)) {
        while let Some(Departure { id, to, join }) = self.departures.0.pop_front() {
            if let Some(mut moving) = self.take_apart(id, join) {
                release(&mut moving.socket);
                self.send_on(moving, to);
            }
        }
    }

    /// What there is of a socket, which is forgotten here. `None`: it has ended, or is about to.
    fn take_apart(&mut self, id: SlotId, join: Message) -> Option<Moving<S>> {
        let connection = self.connections.get_mut(id)?;
        connection.home = Home::Decided;
        if !matches!(connection.phase, Phase::Open(_)) {
            return None;
        }
        let connection = self.connections.remove(id)?;
        let Phase::Open(frames) = connection.phase else {
            return None;
        };
        self.blocked.remove(&id);
        self.schedule.stalls.unblock(id);
        Some(Moving {
            socket: connection.socket,
            reader: connection.reader,
            frames,
            context: connection.context,
            said: self.persons.take_said(id),
            client: self.proxied.remove(&id),
            counted: self.addresses.remove(&id),
            unread: connection.turn.unread,
            is_let_in: connection.is_let_in,
            join,
            stays: false,
        })
    }

    fn send_on(&mut self, mut moving: Moving<S>, to: Destination) {
        moving.stays = to.stays;
        let held_bytes = moving.reader.queue_bytes() + moving.frames.kept_bytes();
        self.metrics().handed_over.increment();
        let shared = &self.ports.shared;
        shared.count_socket(to.worker);
        shared.uncount_socket(self.ports.id);
        // It waits with us, unread, where that mailbox is full.
        if let Some(outbox) = self.ports.to_commands.get_mut(to.worker.index()) {
            outbox.send(ToOwner::Placed(Handed::new(moving, held_bytes)));
        }
    }

    /// A subscriber that another worker has handed over; `None`: it goes on at once.
    pub fn arrive(&mut self, handed: Handed) -> Option<SlotId> {
        let moving: Moving<S> = *handed.open()?;
        if !moving.stays
            && !self.is_ending()
            && let Kind::Join { key, .. } = &moving.join.kind
            && let Some(to) = self.refuge(key)
        {
            self.send_on(moving, to);
            return None;
        }
        let id = self.connections.insert(moving.socket);
        self.ages.note(id.generation, self.now.monotonic);
        let is_blocked = moving.reader.is_blocked();
        self.persons.put_said(id, moving.said);
        self.proxied
            .extend(moving.client.map(|client| (id, client)));
        self.addresses
            .extend(moving.counted.map(|counted| (id, counted)));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.reader = moving.reader;
            connection.phase = Phase::Open(moving.frames);
            connection.context = moving.context;
            connection.turn.unread = moving.unread;
            connection.is_let_in = moving.is_let_in;
            connection.home = Home::Decided;
        }
        self.schedule.silence.enter(id.slot);
        if is_blocked {
            self.blocked.insert(id, self.now.monotonic);
            self.schedule.note_blocked(id, true, self.now.monotonic);
        } else {
            self.queue_write(id);
        }
        match self.drain.is_serving() {
            true => self.serve(id, moving.join, true),
            false => self.close(id, 1012, ENDING),
        }
        self.queue(id);
        Some(id)
    }
}
