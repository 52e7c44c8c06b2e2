//! Accepting, reading and ending sockets: the worker's side of every socket's life.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::TcpStream;

use crate::fanout::Connections as _;
use crate::id::SlotId;
use crate::mesh::ToOwner;
use crate::net::{ACCEPTS_A_TURN, LINGER, Received};
use crate::protocol::connection::close_frame;
use crate::protocol::handshake::Refusal;

use super::auth::Failure;
use super::connections::Phase;
use super::{READ_BYTES_A_TURN, Worker};

/// What looking at a socket costs of the turn's bytes, however little it has.
const SOCKET_COST_BYTES: usize = 1024;

impl Worker {
    /// Takes sockets that wait at the listener, or hands them to the emptiest worker.
    pub(super) fn accept(&mut self) {
        if !self.may_read_sockets() {
            return;
        }
        for _ in 0..ACCEPTS_A_TURN {
            if self.listener.is_due() && !self.ports.shared.has_room_for_subscriber() {
                let why = self.ports.shared.no_room();
                return self.listener.rest(self.now.monotonic, &why);
            }
            let Some(stream) = self.listener.accept(self.now.monotonic) else {
                return;
            };
            self.place_socket(stream);
        }
    }

    /// Accepts everything that waits, so that closing the listener resets nobody.
    pub(super) fn accept_rest(&mut self) {
        for stream in self.listener.close(self.now.monotonic) {
            self.place_socket(stream);
        }
    }

    /// Keeps the socket, or hands it on while this worker holds more than 1/16 above the mean.
    fn place_socket(&mut self, stream: TcpStream) {
        let shared = self.shared();
        let me = self.ports.id.index();
        let target = self.worker_for_socket();
        shared.connections[target].fetch_add(1, Ordering::Relaxed);
        if target != me {
            let message = ToOwner::Socket(stream.into());
            match self.ports.to_commands[target].try_send(message) {
                Ok(()) => {}
                Err(ToOwner::Socket(stream)) => {
                    shared.connections[target].fetch_sub(1, Ordering::Relaxed);
                    shared.connections[me].fetch_add(1, Ordering::Relaxed);
                    self.take_socket(stream);
                }
                Err(ToOwner::Command(_) | ToOwner::Hooks(_)) => {}
            }
            return;
        }
        self.enter_socket(stream);
    }

    fn worker_for_socket(&self) -> usize {
        let shared = &self.ports.shared;
        let me = self.ports.id.index();
        if shared.draining.load(Ordering::Relaxed) {
            return me; // the others may have closed all of theirs already
        }
        let steered_to = shared.steered_to.load(Ordering::Relaxed);
        if steered_to < shared.connections.len() {
            return steered_to;
        }
        let count_of = |worker: usize| shared.connections[worker].load(Ordering::Relaxed);
        let workers = shared.connections.len();
        let mine = count_of(me) + 1;
        let total = shared.connections_len() + 1;
        if mine * workers * 16 <= total * 17 {
            return me;
        }
        let emptiest = (0..workers)
            .min_by_key(|worker| count_of(*worker))
            .unwrap_or(me);
        if count_of(emptiest) + 1 < mine {
            emptiest
        } else {
            me
        }
    }

    /// A socket that was handed over: from here on it stays.
    pub(super) fn take_socket(&mut self, stream: std::net::TcpStream) {
        self.enter_socket(TcpStream::from_std(stream));
    }

    fn enter_socket(&mut self, stream: TcpStream) {
        if !self.drain.is_serving() {
            return self.forget_count(); // handed over too late: it was not even read from
        }
        let until = self.now.monotonic + Duration::from_millis(self.limits.handshake_ms);
        match self.connections.insert(stream, self.poll.registry()) {
            Ok(id) => {
                self.handshakes.push(until, id);
                self.count_half_open(id);
                self.debug(id, || "connects".to_owned());
            }
            Err(error) => {
                self.forget_count();
                tracing::warn!("cannot watch a subscriber's socket: {error}");
            }
        }
    }

    fn forget_count(&self) {
        self.ports.shared.connections[self.ports.id.index()].fetch_sub(1, Ordering::Relaxed);
    }

    /// The poll says that bytes, or the end, are there.
    pub(super) fn has_bytes(&mut self, id: SlotId, ends: bool) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.unread.is_told(ends);
            if ends && matches!(connection.phase, Phase::Asking(_)) {
                return self.end(id); // nobody is there for the answer
            }
            self.queue(id);
        }
    }

    /// Has the socket read in its turn, unless it is held.
    pub(super) fn queue(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.is_queued
            && !connection.is_held()
            && (connection.unread.is_there() || connection.phase.is_paused())
        {
            connection.is_queued = true;
            self.readable.push_back(id);
        }
    }

    /// Has what is queued for the socket written in this turn.
    pub(super) fn write(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.is_to_write
        {
            connection.is_to_write = true;
            self.to_write.push_back(id);
        }
    }

    /// The poll says that the socket takes bytes.
    pub(super) fn takes_bytes(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.reader.is_blocked()
        {
            connection.reader.unblock();
            self.write(id);
        }
    }

    /// Reads once from each socket that has something, in turn.
    pub(super) fn read_sockets(&mut self) {
        let mut bytes = 0;
        // Once around, so that a socket that is queued again has its next turn in the next one.
        for _ in 0..self.readable.len() {
            if bytes >= READ_BYTES_A_TURN || !self.may_read_sockets() {
                return;
            }
            let Some(id) = self.readable.pop_front() else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(id) {
                connection.is_queued = false;
                if !connection.is_held() {
                    bytes += self.read_socket(id).max(SOCKET_COST_BYTES);
                    self.queue(id);
                }
            }
        }
    }

    /// Gives the bytes that were read or, after a pause, gone on with.
    fn read_socket(&mut self, id: SlotId) -> usize {
        let Some(connection) = self.connections.get_mut(id) else {
            return 0;
        };
        // What the connection has kept since a pause comes first.
        if connection.phase.is_paused() {
            self.received(id, 0);
            return SOCKET_COST_BYTES;
        }
        if !connection.unread.is_there() {
            return 0;
        }
        let received = connection.socket.read(&mut self.buffer);
        connection.unread.was_read(&received);
        match received {
            Received::Bytes { len, .. } => {
                self.received(id, len);
                return len;
            }
            Received::Nothing => {}
            Received::End => self.end(id),
        }
        0
    }

    /// Closes with a code: what waits is dropped but for a frame that has begun. A socket that is no
    /// WebSocket yet ends without a word, or with the answer that is left for it.
    pub(super) fn close(&mut self, id: SlotId, code: u16, reason: &str) {
        match self
            .connections
            .get_mut(id)
            .map(|connection| &connection.phase)
        {
            Some(Phase::Handshake(_)) => self.end(id),
            Some(Phase::Asking(_)) => self.refuse(id, &Refusal::AuthUnavailable),
            _ => self.close_with(id, close_frame(Some(code), reason)),
        }
    }

    /// Sends `last` and ends the connection.
    pub(super) fn close_with(&mut self, id: SlotId, last: Vec<u8>) {
        let until = self.now.monotonic + LINGER;
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if matches!(connection.phase, Phase::Closing) {
            return;
        }
        self.change_phase(id, Phase::Closing);
        self.end_subscriptions(id);
        if let Some((reader, _)) = self.connections.parts(id) {
            reader.push_last(last.into_boxed_slice());
        }
        self.closing.push(until, id);
        self.write(id);
    }

    /// A closing socket that has sent everything only waits for the peer's end.
    pub(super) fn finish_if_closing(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && matches!(connection.phase, Phase::Closing)
            && connection.reader.queue_is_empty()
        {
            connection.socket.shutdown_write();
        }
    }

    /// The socket has ended, or is to end without a word.
    pub(super) fn end(&mut self, id: SlotId) {
        self.debug(id, || "is gone".to_owned());
        self.end_subscriptions(id); // what it owes is counted before it is not
        self.change_phase(id, Phase::Closing);
        if let Some(connection) = self.connections.get_mut(id)
            && connection.reader.is_ending()
        {
            connection.is_over = true;
            connection.socket.shutdown(); // the peer waits for nothing
            return;
        }
        self.forget(id);
    }

    /// The socket has ended, and nothing of it is left in the fan-out.
    pub(super) fn forget(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.is_let_in
        {
            self.ports.shared.let_in.fetch_sub(1, Ordering::Relaxed);
        }
        if self.connections.remove(id, self.poll.registry()) {
            self.forget_count();
        }
    }

    /// Ends what has had its time: sockets without a head or an answer to it, and closing ones.
    pub(super) fn end_overdue(&mut self) {
        while let Some(id) = self.handshakes.pop_due(self.now.monotonic) {
            self.forget_head(id);
            match self
                .connections
                .get_mut(id)
                .map(|connection| &connection.phase)
            {
                Some(Phase::Handshake(_)) => {
                    let most = self.limits.handshake_ms;
                    let what = format_args!(
                        "is closed: no whole request came within limits.handshake_ms ({most})"
                    );
                    self.note_limit(id, "limits.handshake_ms", what);
                    self.end(id);
                }
                Some(Phase::Asking(_)) => self.auth_fails(id, Failure::Overdue),
                _ => {}
            }
        }
        while let Some(id) = self.closing.pop_due(self.now.monotonic) {
            self.end(id);
        }
    }
}
