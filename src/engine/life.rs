//! What the life of a socket means on the worker port, and for the link to an engine.
//!
//! May not know what a message says.

use crate::id::SlotId;
use crate::life::{Because, Life, Rates, Schedule, Sockets, UNITS_A_MESSAGE};
use crate::net::tls::MaybeTls;
use crate::protocol::connection::{ConnectionError, PING_FRAME, Payload, Sender, close_frame};
use crate::protocol::handshake::{Port, Refusal, Upgrade};
use crate::time::Now;

use super::Engine;
use super::dial::LINK_MESSAGE_BYTES_MAX;
use super::peers::{Peer, Phase, Waits};

impl Sockets for Engine {
    type Socket = MaybeTls;
    type Waits = Waits;
    const PORT: Port = Port::Worker;

    fn life(&mut self, id: SlotId) -> Option<Life<'_, MaybeTls, Waits>> {
        let peer = self.peers.get_mut(id)?;
        Some(Life {
            socket: &mut peer.socket,
            phase: &mut peer.phase,
            turn: &mut peer.turn,
        })
    }

    fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    fn clocks(&self) -> Now {
        self.now()
    }

    /// What its peer asked for has not found room, or nobody has let it in yet.
    fn is_held(&mut self, id: SlotId) -> bool {
        let peer = self.peers.get(id);
        peer.is_none_or(|peer| peer.is_asked_about()) || self.broker.turn.is_held(id)
    }

    /// An engine brings about what others ask of it.
    fn rates(&self, id: SlotId) -> Rates {
        let limits = &self.broker.turn.limits;
        match self.peers.get(id).map(|peer| peer.sender()) {
            Some(Sender::Server) => Rates {
                messages: 0,
                bytes: 0,
            },
            Some(Sender::Client) | None => Rates {
                messages: limits.calls_per_s,
                bytes: limits.worker_read_bytes_per_s,
            },
        }
    }

    fn head_bytes_max(&self) -> usize {
        self.broker.turn.limits.handshake_bytes
    }

    fn message_limit(&mut self, id: SlotId) -> (Sender, usize) {
        let most = self.broker.turn.limits.call_bytes;
        match self.peers.get(id).map(|peer| peer.sender()) {
            Some(Sender::Server) => (Sender::Server, most.max(LINK_MESSAGE_BYTES_MAX)),
            Some(Sender::Client) | None => (Sender::Client, most),
        }
    }

    fn is_proxy(&mut self, id: SlotId) -> bool {
        let peer = self.peers.get(id).and_then(|peer| peer.socket.peer());
        peer.is_some_and(|peer| self.proxies.trust(peer.ip()))
    }

    fn on_head_part(&mut self, id: SlotId) {
        self.peers.count(id);
        self.end_oldest_waiting();
    }

    fn on_head_refused(&mut self, id: SlotId, head: &[u8], refusal: Refusal) {
        if refusal == Refusal::HeadTooLarge {
            let too_long = Because::HeadBytes(self.broker.turn.limits.handshake_bytes);
            self.warn_because(id, "limits.handshake_bytes", &too_long);
        }
        self.broker
            .turn
            .debug(id, || Because::Asked(head, refusal).to_string());
    }

    fn on_upgrade(&mut self, id: SlotId, upgrade: Upgrade, head: &[u8], early: &mut [u8]) {
        self.upgrade(id, &upgrade, head, early);
    }

    fn on_waiting_part(&mut self, id: SlotId, input: &mut [u8]) {
        self.received_answer(id, input);
    }

    /// What an engine says before it ends is read first.
    fn ends_waiting(&self) -> bool {
        false
    }

    fn on_payload(&mut self, id: SlotId, payload: Payload<'_>) {
        self.charge(id, UNITS_A_MESSAGE - 1);
        self.hear(id, payload);
        self.carry_out();
    }

    fn on_broken(&mut self, id: SlotId, error: &ConnectionError) {
        let because = Because::Broken(error, "limits.call_bytes");
        let reason = match error {
            ConnectionError::TooBig { .. } => {
                self.warn_because(id, "limits.call_bytes", &because);
                format!("limits.call_bytes: {error}")
            }
            _ => {
                self.broker.turn.debug(id, || because.to_string());
                error.to_string()
            }
        };
        self.close_with(id, close_frame(Some(error.close_code()), &reason));
    }

    fn have_read(&mut self, id: SlotId, is_whole: bool) {
        self.peers.count_partial(id, is_whole);
        self.end_oldest_partial();
    }

    fn send_pong(&mut self, id: SlotId, pong: Vec<u8>) {
        self.broker.turn.members.send_control(id, &pong);
    }

    fn begin_close(&mut self, id: SlotId, last: Vec<u8>) {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.phase = Phase::Closing;
        }
        self.peers.count(id);
        self.peers.count_partial(id, true);
        self.broker.turn.members.send_last(id, &last);
        self.forget(id);
    }

    fn end(&mut self, id: SlotId) {
        self.broker.turn.debug(id, || "is gone".to_owned());
        self.forget(id);
        self.peers.remove(id, self.poll.registry());
        self.broker.remove(id);
        self.count_sockets();
    }

    fn id_at(&self, slot: u32) -> Option<SlotId> {
        self.peers.id_at(slot)
    }

    fn send_ping(&mut self, id: SlotId) {
        self.broker.turn.members.send_control(id, &PING_FRAME);
    }

    fn try_write(&mut self, id: SlotId) -> Option<bool> {
        let takes = self.peers.try_write(id, &mut self.broker.turn.members);
        self.broker.turn.members.mark(id); // there may be more
        takes
    }

    fn on_silent(&mut self, id: SlotId) {
        self.broker.turn.metrics().silent_closed.increment();
        let limits = &self.broker.turn.limits;
        let silent = Because::Silent(limits.ping_interval_ms, limits.pong_timeout_ms);
        self.broker.turn.debug(id, || silent.to_string());
        self.end(id);
    }

    /// The link is given up by rules of its own.
    fn on_stalled(&mut self, id: SlotId) {
        if self.peers.get(id).is_none_or(Peer::is_link) {
            return;
        }
        self.broker.turn.metrics().stalled_closed.increment();
        let stalled = Because::Stalled(self.broker.turn.limits.stall_timeout_ms);
        self.warn_because(id, "stall_timeout_ms", &stalled);
        self.close_with(id, close_frame(Some(1013), "stall_timeout_ms"));
    }

    fn on_overdue(&mut self, id: SlotId) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        if matches!(peer.phase, Phase::Head(_)) {
            let late = Because::HeadTime(self.broker.turn.limits.handshake_ms);
            self.warn_because(id, "limits.handshake_ms", &late);
            self.end(id);
        } else if peer.is_dialling() {
            self.end_link(id, "it does not answer");
        }
    }
}
