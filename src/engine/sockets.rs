//! Reading and ending sockets: those of SDK workers, and the link to an engine.
//!
//! May not know what a message says.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::id::SlotId;
use crate::mesh::ENDING;
use crate::protocol::connection::{
    ConnectionError, Event, Flow, Payload, Sender, close_frame, pong_frame,
};
use crate::protocol::handshake::{Head, Port};
use crate::reading::Received;
use crate::time::LINGER;

use super::dial::LINK_MESSAGE_BYTES_MAX;
use super::peers::Phase;
use super::{Engine, READ_BYTES_A_TURN};

/// What looking at a socket costs of the turn's bytes, however little it has.
const SOCKET_COST_BYTES: usize = 1024;
/// How often the end of the process goes on.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// How long the leaves of the last sockets may take beyond `drain_ms`.
const LEAVES_GRACE: Duration = Duration::from_secs(1);

impl Engine {
    /// The poll says that bytes, or the end, are there.
    pub(super) fn has_bytes(&mut self, id: SlotId, ends: bool) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.unread.is_told(ends);
            self.queue(id);
        }
    }

    /// Has the socket read in its turn.
    pub(super) fn queue(&mut self, id: SlotId) {
        let is_held = self.is_held(id);
        if let Some(peer) = self.peers.get_mut(id)
            && !peer.is_queued
            && !is_held
            && (peer.unread.is_there() || peer.phase.is_paused())
        {
            peer.is_queued = true;
            self.readable.push_back(id);
        }
    }

    /// Whether the socket is to be left unread: what its peer asked for has not found room, or nobody has
    /// let it in yet.
    fn is_held(&self, id: SlotId) -> bool {
        let peer = self.peers.get(id);
        peer.is_none_or(|peer| matches!(peer.phase, Phase::Admission { .. }))
            || self.broker.is_held(id)
    }

    /// Reads once from each socket that has something, in turn.
    pub(super) fn read_sockets(&mut self) {
        let mut bytes = 0;
        // Once around, so that a socket that is queued again has its next turn in the next one.
        for _ in 0..self.readable.len() {
            if bytes >= READ_BYTES_A_TURN {
                return;
            }
            let Some(id) = self.readable.pop_front() else {
                return;
            };
            if let Some(peer) = self.peers.get_mut(id) {
                peer.is_queued = false;
            }
            bytes += self.read_socket(id).max(SOCKET_COST_BYTES);
            self.queue(id);
        }
    }

    /// Gives the bytes that were read or, after a pause, gone on with.
    fn read_socket(&mut self, id: SlotId) -> usize {
        if self.is_held(id) {
            return 0; // it is queued again when it is held no longer
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return 0;
        };
        // What the connection has kept since a pause comes first.
        if peer.phase.is_paused() {
            self.received(id, 0);
            return SOCKET_COST_BYTES;
        }
        if !peer.unread.is_there() {
            return 0;
        }
        if matches!(peer.phase, Phase::Dial { .. })
            && let Some(why) = peer.socket.take_error()
        {
            self.end_link(id, why);
            return 0;
        }
        let received = peer.socket.read(&mut self.buffer);
        if peer.socket.wants_write() {
            self.broker.members.mark(id); // an answer of TLS itself
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return 0;
        };
        peer.unread.was_read(&received);
        match received {
            Received::Bytes { len, .. } => {
                if peer.is_link()
                    && let Some(member) = self.broker.members.get_mut(id)
                {
                    member.heard_at = Instant::now(); // the turn's time may be long ago
                }
                self.received(id, len);
                return len;
            }
            Received::Nothing => {}
            Received::End => self.end(id),
        }
        0
    }

    fn received(&mut self, id: SlotId, len: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        match self.peers.get_mut(id).map(|peer| &peer.phase) {
            Some(Phase::Handshake { .. }) => self.received_head(id, &buffer[..len]),
            Some(Phase::Dial { .. }) => self.received_answer(id, &buffer[..len]),
            Some(Phase::Work(_) | Phase::Telemetry(_)) => {
                self.received_frames(id, &mut buffer[..len])
            }
            Some(Phase::Admission { .. } | Phase::Closing) | None => {}
        }
        self.broker.go_on();
        self.carry_out();
        self.buffer = buffer;
    }

    fn received_head(&mut self, id: SlotId, input: &[u8]) {
        let limit = self.broker.limits.handshake_bytes;
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let Phase::Handshake { bytes, head } = &mut peer.phase else {
            return;
        };
        bytes.extend_from_slice(input);
        match head.read(Port::Worker, bytes, limit) {
            Head::Incomplete => {
                self.peers.count(id);
                self.end_oldest_waiting();
            }
            Head::Refused(refusal) => {
                let head = std::mem::take(bytes);
                self.broker.note_head(id, &head, refusal);
                let answer = refusal.response(Port::Worker, self.now().wall);
                self.close_with(id, &answer);
            }
            Head::Upgrade(upgrade) => {
                let bytes = std::mem::take(bytes);
                self.upgrade(id, &upgrade, bytes);
            }
        }
    }

    pub(super) fn received_frames(&mut self, id: SlotId, input: &mut [u8]) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let sender = peer.sender();
        let (Phase::Work(open) | Phase::Telemetry(open)) = &mut peer.phase else {
            return;
        };
        // Taken out while its messages are served: they may close it.
        let mut open = std::mem::take(open);
        let limit = match sender {
            Sender::Client => self.broker.limits.call_bytes,
            Sender::Server => self.broker.limits.call_bytes.max(LINK_MESSAGE_BYTES_MAX),
        };
        let mut is_whole = false;
        let received = open.receive_from(sender, input, limit, &mut |event| {
            is_whole |= matches!(event, Event::Message(_));
            self.on_event(id, event)
        });
        if let Err(error) = received {
            let code = error.close_code();
            let reason = match error {
                ConnectionError::TooBig { .. } => {
                    let what = format_args!("is closed with {code}: {error} (limits.call_bytes)");
                    self.broker.warn_of(id, "limits.call_bytes", "", what);
                    format!("limits.call_bytes: {error}")
                }
                _ => {
                    self.broker
                        .debug(id, || format!("is closed with {code}: {error}"));
                    error.to_string()
                }
            };
            self.close_with(id, &close_frame(Some(code), &reason));
        }
        if let Some(peer) = self.peers.get_mut(id)
            && let Phase::Work(place) | Phase::Telemetry(place) = &mut peer.phase
        {
            *place = open;
        }
        self.peers.count_partial(id, is_whole);
        self.end_oldest_partial();
    }

    /// Messages that are not whole hold too much: those go that began first.
    fn end_oldest_partial(&mut self) {
        let most = self.broker.limits.partial_call_bytes;
        while let (bytes, Some(id)) = self.peers.partial()
            && bytes > most
        {
            let what = format_args!(
                "is closed with 1013: messages that are not whole hold more than \
                 limits.partial_call_bytes ({most}), and its own has begun first"
            );
            self.broker
                .warn_of(id, "limits.partial_call_bytes", "", what);
            let reason = "limits.partial_call_bytes: too much is not whole";
            self.close_with(id, &close_frame(Some(1013), reason));
        }
    }

    fn on_event(&mut self, id: SlotId, event: Event<'_>) -> Flow {
        match event {
            Event::Message(payload) => {
                self.on_payload(id, payload);
                self.carry_out();
            }
            Event::Ping(payload) => self.broker.members.send_control(id, &pong_frame(payload)),
            Event::Pong => {}
            Event::Close(reply) => self.close_with(id, &reply.frame()),
        }
        match self.is_held(id) {
            true => Flow::Pause,
            false => Flow::Continue,
        }
    }

    fn on_payload(&mut self, id: SlotId, payload: Payload<'_>) {
        let is_telemetry = match &payload {
            Payload::Text(_) => false,
            Payload::Binary(bytes) => [b"OTLP", b"MTRC", b"LOGS"]
                .iter()
                .any(|mark| bytes.starts_with(*mark)),
        };
        let is_work = self
            .peers
            .get(id)
            .is_some_and(|peer| matches!(peer.phase, Phase::Work(_)));
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
            Err(error) => self.broker.drop_message(id, &error),
        }
    }

    /// Sends `last` and ends the connection.
    pub(super) fn close_with(&mut self, id: SlotId, last: &[u8]) {
        let until = self.now().monotonic + LINGER;
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        if matches!(peer.phase, Phase::Closing) {
            return;
        }
        peer.phase = Phase::Closing;
        self.peers.count(id);
        self.peers.count_partial(id, true);
        self.broker.members.send_last(id, last);
        self.closing.push(until, id);
        self.forget(id);
    }

    /// The peer is gone, or about to be: nobody hears of it from now on.
    fn forget(&mut self, id: SlotId) {
        self.broker.forget(id);
        self.link_ended(id);
    }

    /// The socket has ended, or is to end without a word.
    pub(super) fn end(&mut self, id: SlotId) {
        self.broker.debug(id, || "is gone".to_owned());
        self.forget(id);
        self.peers.remove(id, self.poll.registry());
        self.broker.remove(id);
        self.count_sockets();
    }

    /// Ends what has had its time: sockets without a head, closing ones, calls.
    pub(super) fn end_overdue(&mut self) {
        while let Some(id) = self.handshakes.pop_due(self.now().monotonic) {
            match self.peers.get(id).map(|peer| &peer.phase) {
                Some(Phase::Handshake { .. }) => {
                    let most = self.broker.limits.handshake_ms;
                    let what = format_args!(
                        "is closed: no whole request came within limits.handshake_ms ({most})"
                    );
                    self.broker.warn_of(id, "limits.handshake_ms", "", what);
                    self.end(id);
                }
                Some(Phase::Dial { .. }) => self.end_link(id, "it does not answer"),
                _ => {}
            }
        }
        while let Some(id) = self.closing.pop_due(self.now().monotonic) {
            self.end(id);
        }
        self.broker.end_overdue();
    }

    pub(super) fn next_drain_step(&self) -> Option<Instant> {
        self.drain_until.map(|_| self.drain_at)
    }

    /// The end of the process: nobody new, and a socket is closed when nothing of it is under way.
    pub(super) fn go_on_draining(&mut self) {
        if self.drain_until.is_none() {
            if !self.broker.ports.shared.draining.load(Ordering::Acquire) {
                return;
            }
            self.stop_accepting();
            self.drain_until = Some(self.now().monotonic + self.drain);
            self.broker.is_draining = true;
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
        for id in self.peers.ids() {
            let Some(peer) = self.peers.get(id) else {
                continue;
            };
            if matches!(peer.phase, Phase::Handshake { .. } | Phase::Dial { .. }) {
                self.end(id);
                continue;
            }
            // Of one that is not let in nothing is under way.
            if matches!(peer.phase, Phase::Admission { .. }) {
                self.close_with(id, &close_frame(Some(1012), ENDING));
                continue;
            }
            let has_unread = peer.unread.is_there() || peer.phase.is_paused();
            if is_over || !(has_unread || self.broker.is_busy(id)) {
                self.close_with(id, &close_frame(Some(1012), ENDING));
            }
        }
    }
}

impl Phase {
    pub(super) fn is_paused(&self) -> bool {
        match self {
            Phase::Work(open) | Phase::Telemetry(open) => open.is_paused(),
            Phase::Handshake { .. }
            | Phase::Dial { .. }
            | Phase::Admission { .. }
            | Phase::Closing => false,
        }
    }
}
