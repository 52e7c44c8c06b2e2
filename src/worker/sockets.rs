//! Subscribers' sockets: accepting them, handing them on to the emptiest worker, and one read in their
//! turn. Writes are the fan-out's.
//!
//! May not know what the bytes mean.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::net::TcpStream;

use crate::fanout::{Socket as _, Written};
use crate::id::SlotId;
use crate::life::{Reading, Sockets as _};
use crate::mesh::inquiries::KernelLook;
use crate::mesh::{Handed, ToOwner};
use crate::net::tls::MaybeTls;
use crate::net::{ACCEPTS_A_TURN, Allowed};
use crate::notes::Shown;
use crate::reading::Received;
use crate::subscribers::Socket;

use super::{READ_BYTES_A_TURN, Worker};

/// What looking at a socket costs of the turn's bytes, however little it has.
const SOCKET_COST_BYTES: usize = 1024;
/// The same of one that has ended: it is closed, which is long.
const ENDED_COST_BYTES: usize = 8 * 1024;

impl Socket for MaybeTls {
    fn peer(&self) -> Option<SocketAddr> {
        MaybeTls::peer(self)
    }

    fn end_writes(&mut self) {
        self.shutdown_write();
    }

    fn end(&mut self) {
        self.shutdown();
    }

    fn kernel(&self) -> Option<KernelLook> {
        MaybeTls::kernel(self)
    }

    fn kept_bytes(&self) -> usize {
        MaybeTls::kept_bytes(self)
    }
}

impl Worker {
    /// Takes sockets that wait at the listener, or hands them to the emptiest worker.
    pub(super) fn accept(&mut self) {
        if !self.subscribers.may_read_sockets() {
            return;
        }
        self.listener.go_on(self.now);
        for _ in 0..ACCEPTS_A_TURN {
            if self.listener.is_due() && !self.shared.has_room_for_subscriber() {
                let why = self.shared.no_room();
                return self.listener.rest(self.now, &why);
            }
            let accepts_per_s = self.subscribers.limits().accepts_per_s;
            if self.listener.is_due()
                && accepts_per_s > 0
                && let Err(until) = self.shared.accepts[0].take(self.now, accepts_per_s)
            {
                return self.listener.pause(until);
            }
            let Some(stream) = self.listener.accept(self.now) else {
                return;
            };
            self.place_socket(stream);
        }
    }

    /// Accepts everything that waits, so that closing the listener resets nobody.
    pub(super) fn accept_rest(&mut self) {
        for stream in self.listener.close(self.now) {
            self.place_socket(stream);
        }
    }

    /// Keeps the socket, or hands it on: where no group says where it lives, while this worker holds more
    /// than 1/16 above the mean.
    fn place_socket(&mut self, stream: TcpStream) {
        let shared = Arc::clone(&self.shared);
        let me = self.id.index();
        let (target, stays) = self.worker_for_socket();
        shared.connections[target].fetch_add(1, Ordering::Relaxed);
        if target == me {
            return self.enter_socket(stream, stays);
        }
        let to_commands = &mut self.subscribers.ports_mut().to_commands;
        match to_commands[target].try_send(ToOwner::Socket(stream.into(), stays)) {
            Ok(()) => {}
            Err(ToOwner::Socket(stream, stays)) => {
                shared.connections[target].fetch_sub(1, Ordering::Relaxed);
                shared.connections[me].fetch_add(1, Ordering::Relaxed);
                self.take_socket(stream, stays);
            }
            Err(ToOwner::Command(_) | ToOwner::Placed(_) | ToOwner::Hooks(_)) => {}
        }
    }

    /// The worker that a new socket goes to, and whether it stays there for good.
    fn worker_for_socket(&self) -> (usize, bool) {
        let shared = &self.shared;
        let me = self.id.index();
        if shared.draining.load(Ordering::Relaxed) {
            return (me, true); // the others may have closed all of theirs already
        }
        let steered_to = shared.steered_to.load(Ordering::Relaxed);
        if steered_to < shared.connections.len() {
            return (steered_to, shared.steered_stay.load(Ordering::Relaxed));
        }
        if self.places {
            return (me, false);
        }
        let count_of = |worker: usize| shared.connections[worker].load(Ordering::Relaxed);
        let workers = shared.connections.len();
        let mine = count_of(me) + 1;
        let total = shared.connections_len() + 1;
        if mine * workers * 16 <= total * 17 {
            return (me, true);
        }
        let emptiest = (0..workers)
            .min_by_key(|worker| count_of(*worker))
            .unwrap_or(me);
        let is_emptier = count_of(emptiest) + 1 < mine;
        (if is_emptier { emptiest } else { me }, true)
    }

    /// A socket that was handed over before anything was read from it.
    pub(super) fn take_socket(&mut self, stream: std::net::TcpStream, stays: bool) {
        self.enter_socket(TcpStream::from_std(stream), stays);
    }

    /// Subscribers whose first group another worker owns go there.
    pub(super) fn hand_over(&mut self) {
        let registry = self.poll.registry();
        self.subscribers
            .hand_over(|socket| socket.deregister(registry));
    }

    /// A subscriber that follows a group of ours first, or is to stay here.
    pub(super) fn take_placed(&mut self, handed: Handed) {
        if let Some(id) = self.subscribers.arrive(handed) {
            self.watch(id);
        }
    }

    fn enter_socket(&mut self, stream: TcpStream, stays: bool) {
        let socket = match MaybeTls::accepted(stream, self.offer.as_mut()) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!("cannot begin a session of TLS: {error}");
                return self.shared.uncount_socket(self.id);
            }
        };
        let Some(id) = self.subscribers.enter(socket) else {
            return;
        };
        if stays {
            self.subscribers.stays(id);
        }
        if self.offer.is_some()
            && self.subscribers.is_proxy(id)
            && let Some(socket) = self.subscribers.socket(id)
        {
            socket.expect_line();
        }
        self.watch(id);
    }

    /// Has the poll watch the socket.
    fn watch(&mut self, id: SlotId) {
        let registry = self.poll.registry();
        let socket = self.subscribers.socket(id);
        let watched = socket.map_or(Ok(()), |socket| socket.register(id, registry));
        if let Err(error) = watched {
            self.subscribers.ended(id);
            tracing::warn!("cannot watch a subscriber's socket: {error}");
        }
    }

    /// Reads once from each socket that has something, in turn.
    pub(super) fn read_sockets(&mut self) {
        let mut bytes = 0;
        self.handshakes.begin_turn(self.subscribers.is_sweep_due());
        // Once around, so that a socket that is queued again has its next turn in the next one.
        let mut left = self.subscribers.readable_len();
        while bytes < READ_BYTES_A_TURN
            && self.subscribers.may_read_sockets()
            && let Some(id) = self.subscribers.next_readable(&mut left)
        {
            let socket = self.subscribers.socket(id);
            let is_handshaking = socket.is_some_and(|socket| socket.is_handshaking());
            match self.handshakes.allowed(is_handshaking) {
                Allowed::Read => bytes += self.read_socket(id).max(SOCKET_COST_BYTES),
                Allowed::PassOver => {}
                Allowed::Stop => bytes = READ_BYTES_A_TURN,
            }
            self.subscribers.queue(id);
        }
    }

    /// The poll says that the socket takes bytes: what lies over it goes first.
    pub(super) fn takes_bytes(&mut self, id: SlotId) {
        let flushed = self.subscribers.socket(id).map(|socket| socket.flush());
        match flushed {
            Some(Written::All) => self.subscribers.takes_bytes(id),
            Some(Written::Gone) => self.subscribers.ended(id),
            Some(Written::Part(_)) => self.subscribers.takes_some(id),
            None => {}
        }
    }

    /// Tells whoever reads the log at its finest what has ended a session of TLS.
    fn note_fault(&mut self, id: SlotId) {
        let Some(socket) = self.subscribers.socket(id) else {
            return;
        };
        let is_handshaking = socket.is_handshaking();
        if let Some(fault) = socket.take_fault() {
            let peer = socket.peer().map(|peer| peer.to_string());
            let peer = peer.as_deref().unwrap_or("somebody");
            tracing::debug!("subscriber {id:?} at {peer}: TLS: {}", Shown(&fault));
            if is_handshaking {
                self.metrics().tls_refused.increment();
            }
        }
    }

    /// Reads the socket once, or goes on after a pause. Gives what that costs of the turn's bytes.
    fn read_socket(&mut self, id: SlotId) -> usize {
        let most = self.subscribers.read_bytes_max(id);
        let most = most.min(self.buffer.len());
        let received = match self.subscribers.reading_of(id) {
            Reading::Kept => {
                self.subscribers.received(id, &mut []);
                return SOCKET_COST_BYTES;
            }
            Reading::Socket(socket) => {
                let received = socket.read(&mut self.buffer[..most]);
                if socket.wants_write() {
                    // What it does not take now goes when it takes bytes, and so does its end.
                    let _ = socket.flush();
                }
                received
            }
            Reading::Nothing => return 0,
        };
        self.subscribers.was_read(id, &received);
        match received {
            Received::Bytes { len, .. } => {
                self.subscribers.received(id, &mut self.buffer[..len]);
                return len;
            }
            Received::Nothing => {}
            Received::End => {
                self.note_fault(id);
                self.subscribers.ended(id);
                return ENDED_COST_BYTES;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscribers::Subscribers;

    #[test]
    fn what_every_connection_costs_is_known() {
        // In a debug build each socket knows its poll, too.
        let wanted = if cfg!(debug_assertions) { 144 } else { 128 };
        assert_eq!(Subscribers::<MaybeTls>::CONNECTION_BYTES, wanted);
    }
}
