//! Reading and ending sockets: those of SDK workers, and the link to an engine.
//!
//! May not know what a message says.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::id::SlotId;
use crate::life::{Because, Reading, Sockets as _};
use crate::mesh::ENDING;
use crate::net::{Allowed, Handshakes};
use crate::notes::Shown;
use crate::protocol::connection::{Payload, close_frame};
use crate::reading::Received;

use super::peers::Phase;
use super::{Engine, READ_BYTES_A_TURN};

/// What looking at a socket costs of the turn's bytes, however little it has.
const SOCKET_COST_BYTES: usize = 1024;
/// The same of one that has ended: it is closed, which is long.
const ENDED_COST_BYTES: usize = 8 * 1024;
/// How often the end of the process goes on.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// How long the leaves of the last sockets may take beyond `drain_ms`.
const LEAVES_GRACE: Duration = Duration::from_secs(1);

impl Engine {
    /// Reads once from each socket that has something, in turn.
    pub(super) fn read_sockets(&mut self) {
        let mut bytes = 0;
        let mut handshakes = Handshakes::default();
        // Once around, so that a socket that is queued again has its next turn in the next one.
        let mut left = self.schedule.readable.len();
        while bytes < READ_BYTES_A_TURN
            && let Some(id) = self.next_readable(&mut left)
        {
            let peer = self.peers.get(id);
            match handshakes.allowed(peer.is_some_and(|peer| peer.socket.is_handshaking())) {
                Allowed::Read => bytes += self.read_socket(id).max(SOCKET_COST_BYTES),
                Allowed::PassOver => {}
                Allowed::Stop => bytes = READ_BYTES_A_TURN,
            }
            self.queue(id);
        }
    }

    /// Reads the socket once, or goes on after a pause. Gives what that costs of the turn's bytes.
    fn read_socket(&mut self, id: SlotId) -> usize {
        if let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.is_dialling())
            && let Some(why) = peer.socket.take_error()
        {
            self.end_link(id, why);
            return 0;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let len = self.read_into(id, &mut buffer);
        self.buffer = buffer;
        len
    }

    fn read_into(&mut self, id: SlotId, buffer: &mut [u8]) -> usize {
        let most = self.read_bytes_max(id).min(buffer.len());
        let received = match self.reading_of(id) {
            Reading::Kept => {
                self.serve(id, &mut []);
                return SOCKET_COST_BYTES;
            }
            Reading::Socket(socket) => {
                let received = socket.read(&mut buffer[..most]);
                if socket.wants_write() {
                    self.broker.turn.members.mark(id); // an answer of TLS itself
                }
                received
            }
            Reading::Nothing => return 0,
        };
        self.was_read(id, &received);
        match received {
            Received::Bytes { len, .. } => {
                if let Some(member) = self.broker.turn.members.get_mut(id)
                    && member.is_link()
                {
                    member.heard_at = Instant::now(); // the turn's time may be long ago
                }
                self.serve(id, &mut buffer[..len]);
                return len;
            }
            Received::Nothing => {}
            Received::End => {
                self.note_fault(id);
                self.end(id);
                return ENDED_COST_BYTES;
            }
        }
        0
    }

    /// Tells whoever reads the log at its finest what has ended a session of TLS. The link's own end says it.
    fn note_fault(&mut self, id: SlotId) {
        let member = self.broker.turn.members.get_mut(id);
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if member.is_some_and(|member| member.is_link()) {
            return;
        }
        let is_handshaking = peer.socket.is_handshaking();
        if let Some(fault) = peer.socket.take_fault() {
            self.broker
                .turn
                .debug(id, || format!("TLS: {}", Shown(&fault)));
            if is_handshaking {
                self.broker.turn.metrics().tls_refused.increment();
            }
        }
    }

    /// These bytes came from that socket, and all that they bring about is carried out.
    fn serve(&mut self, id: SlotId, input: &mut [u8]) {
        self.received(id, input);
        self.broker.go_on();
        self.carry_out();
    }

    /// While messages that are not whole hold too much, the socket is closed whose message began first.
    pub(super) fn end_oldest_partial(&mut self) {
        let most = self.broker.turn.limits.partial_call_bytes;
        while let (bytes, Some(id)) = self.peers.partial()
            && bytes > most
        {
            let what = format_args!(
                "is closed with 1013: messages that are not whole hold more than \
                 limits.partial_call_bytes ({most}), and its own has begun first"
            );
            self.broker
                .turn
                .warn_of(id, "limits.partial_call_bytes", "", what);
            let reason = "limits.partial_call_bytes: too much is not whole";
            self.close_with(id, close_frame(Some(1013), reason));
        }
    }

    /// A whole message: of a sender of telemetry, an SDK worker, or the engine.
    pub(super) fn hear(&mut self, id: SlotId, payload: Payload<'_>) {
        let is_telemetry = match &payload {
            Payload::Text(_) => false,
            Payload::Binary(bytes) => [b"OTLP", b"MTRC", b"LOGS"]
                .iter()
                .any(|mark| bytes.starts_with(*mark)),
        };
        let is_work = self
            .peers
            .get(id)
            .is_some_and(|peer| matches!(peer.phase, Phase::Open(_)) && !peer.is_telemetry);
        if is_telemetry || !is_work {
            let frame = match payload {
                Payload::Text(_) => &[],
                Payload::Binary(bytes) => bytes,
            };
            self.broker.telemetry(id, frame);
            return self.broker.go_on();
        }
        let text = match payload {
            Payload::Text(text) => Ok(text),
            Payload::Binary(bytes) => std::str::from_utf8(bytes),
        };
        match text {
            Ok(text) => self.broker.hear_message(id, text),
            Err(error) => self.broker.turn.drop_message(id, &error),
        }
    }

    /// The peer is gone, or about to be: nobody hears of it from now on.
    pub(super) fn forget(&mut self, id: SlotId) {
        self.broker.forget(id);
        self.link_ended(id);
    }

    /// Ends what has had its time: sockets, calls.
    pub(super) fn end_overdue(&mut self) {
        self.end_overdue_sockets();
        self.broker.end_overdue();
    }

    /// A warning about why a socket is answered or closed.
    pub(super) fn warn_because(&mut self, id: SlotId, kind: &'static str, because: &Because<'_>) {
        let what = format_args!("{because}");
        self.broker.turn.warn_of(id, kind, "", what);
    }

    pub(super) fn next_drain_step(&self) -> Option<Instant> {
        self.drain_until.map(|_| self.drain_at)
    }

    /// The end of the process: nobody new, and a socket is closed when nothing of it is under way.
    pub(super) fn go_on_draining(&mut self) {
        if self.drain_until.is_none() {
            if !self
                .broker
                .turn
                .ports
                .shared
                .draining
                .load(Ordering::Acquire)
            {
                return;
            }
            self.stop_accepting();
            self.drain_until = Some(self.now().monotonic + self.drain);
            self.broker.turn.is_draining = true;
        }
        if self.drain_at > self.now().monotonic {
            return;
        }
        self.drain_at = self.now().monotonic + DRAIN_STEP;
        let since = |until: Instant| self.now().monotonic.checked_duration_since(until);
        let late = self.drain_until.and_then(since);
        // Functions hear of every leave before their sockets close.
        if self.broker.awaits_leaves() && late.is_none_or(|late| late < LEAVES_GRACE) {
            return;
        }
        let is_over = late.is_some();
        if self.broker.has_work() && !is_over {
            return; // somebody is still to hear of it, whom no call under way shows
        }
        // Whoever still waits is told before its socket closes: SDKs wait on over a reconnect.
        if is_over && !std::mem::replace(&mut self.has_stopped_calls, true) {
            return self.broker.stop_calls();
        }
        for id in self.peers.ids() {
            let Some(peer) = self.peers.get(id) else {
                continue;
            };
            if matches!(peer.phase, Phase::Head(_)) || peer.is_dialling() {
                self.end(id);
                continue;
            }
            // Of one that is not let in nothing is under way.
            if peer.is_asked_about() {
                self.close_with(id, close_frame(Some(1012), ENDING));
                continue;
            }
            let has_unread = peer.turn.unread.is_there() || peer.phase.is_paused();
            if is_over || !(has_unread || self.broker.is_busy(id)) {
                self.close_with(id, close_frame(Some(1012), ENDING));
            }
        }
    }
}
