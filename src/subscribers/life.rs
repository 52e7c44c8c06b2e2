//! What the life of a socket means on the stream port.
//!
//! May not know what a message asks for.

use crate::fanout::{Budget, Connections as _};
use crate::id::SlotId;
use crate::life::{Life, Rates, Schedule, Sockets};
use crate::metrics::Closed;
use crate::protocol::connection::{ConnectionError, Payload, Sender, code_of_close};
use crate::protocol::handshake::{Port, Refusal, Upgrade};
use crate::time::Now;

use super::Subscribers;
use super::admission::{Admission, Failure};
use super::closed::STALLED;
use super::connections::{Asking, Phase, Socket};
use super::notes::{Limit, What, asks};

impl<S: Socket> Sockets for Subscribers<S> {
    type Socket = S;
    type Waits = Asking;
    const PORT: Port = Port::Stream;

    fn life(&mut self, id: SlotId) -> Option<Life<'_, S, Asking>> {
        let connection = self.connections.get_mut(id)?;
        Some(Life {
            socket: &mut connection.socket,
            phase: &mut connection.phase,
            turn: &mut connection.turn,
        })
    }

    fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    fn clocks(&self) -> Now {
        self.now
    }

    fn is_held(&mut self, id: SlotId) -> bool {
        let connection = self.connections.get(id);
        connection.is_none_or(|connection| connection.is_held(&self.bounds))
    }

    fn rates(&self, _id: SlotId) -> Rates {
        Rates {
            messages: self.limits.joins_per_s,
            bytes: self.limits.read_bytes_per_s,
        }
    }

    fn head_bytes_max(&self) -> usize {
        self.limits.handshake_bytes
    }

    fn message_limit(&mut self, _id: SlotId) -> (Sender, usize) {
        (Sender::Client, self.limits.message_bytes)
    }

    fn is_proxy(&mut self, id: SlotId) -> bool {
        if self.proxies.0.is_empty() {
            return false;
        }
        let peer = self.socket(id).and_then(|socket| socket.peer());
        peer.is_some_and(|peer| self.proxies.trust(peer.ip()))
    }

    fn on_head_part(&mut self, id: SlotId) {
        self.recount_head(id);
    }

    fn on_head_refused(&mut self, id: SlotId, head: &[u8], refusal: Refusal) {
        self.note_head(id, head, refusal);
    }

    fn on_upgrade(&mut self, id: SlotId, upgrade: Upgrade, head: &[u8], early: &mut [u8]) {
        let admission = self.admit(id, head, upgrade.origin.as_deref());
        self.note(id, || asks(head, admission.told()));
        if matches!(admission, Admission::Open | Admission::Asked) {
            self.note_person(id, head);
        }
        match admission {
            Admission::Open => {
                self.open(id, &upgrade, Default::default());
                self.received_early(id, early);
            }
            Admission::Asked => self.wait_for_auth(id, upgrade, (head.len(), early)),
            Admission::Refused(refusal) => self.refuse(id, refusal),
            Admission::Gone => self.ended(id),
        }
    }

    /// Only here it is known whether somebody new may be sent to this server.
    fn refuse(&mut self, id: SlotId, refusal: Refusal) {
        let refusal = match refusal {
            Refusal::Ready(_) => Refusal::Ready(self.ports.shared.not_ready(self.now.wall_ms)),
            refusal => refusal,
        };
        let answer = refusal.response(Port::Stream, self.now.wall);
        self.close_with(id, answer);
    }

    fn ends_waiting(&self) -> bool {
        true
    }

    fn on_payload(&mut self, id: SlotId, payload: Payload<'_>) {
        self.on_message(id, payload);
    }

    fn on_broken(&mut self, id: SlotId, error: &ConnectionError) {
        let code = error.close_code();
        if let ConnectionError::TooBig { .. } = error {
            self.note_limit(id, Limit::MessageBytes, || What::Closed(*error));
            return self.close(id, code, "limits.message_bytes");
        }
        self.note(id, || What::Closed(*error));
        self.close(id, code, &error.to_string());
    }

    fn send_pong(&mut self, id: SlotId, pong: Vec<u8>) {
        if let Some((reader, _)) = self.connections.parts(id) {
            reader.push_pong(pong.into_boxed_slice());
            self.queue_write(id);
        }
    }

    fn begin_close(&mut self, id: SlotId, last: Vec<u8>) {
        let (reason, code) = match self.closing_for.take() {
            Some((reason, code)) => (reason, Some(code)),
            None => (Closed::Client, code_of_close(&last)),
        };
        self.note_closed(id, reason, code);
        self.change_phase(id, Phase::Closing);
        self.end_subscriptions(id);
        if let Some((reader, _)) = self.connections.parts(id) {
            reader.push_last(last.into_boxed_slice());
        }
        self.queue_write(id);
    }

    fn end(&mut self, id: SlotId) {
        self.ended(id);
    }

    fn id_at(&self, slot: u32) -> Option<SlotId> {
        self.connections.id_at(slot)
    }

    fn send_ping(&mut self, id: SlotId) {
        let waits = self.fanout.ping(id, &mut self.connections);
        if waits {
            self.queue_write(id);
        }
    }

    fn try_write(&mut self, id: SlotId) -> Option<bool> {
        let is_blocked = |of: &mut Self| {
            let parts = of.connections.parts(id);
            parts.is_some_and(|(reader, _)| reader.is_blocked())
        };
        if !is_blocked(self) {
            return None;
        }
        let held_bytes = |of: &mut Self| {
            let parts = of.connections.parts(id);
            parts.map_or(0, |(_, socket)| socket.held_bytes())
        };
        let held = held_bytes(self);
        if let Some((reader, _)) = self.connections.parts(id) {
            reader.unblock();
        }
        let mut budget = Budget::of_writes(1);
        let has_taken = self.fanout.drain(id, &mut self.connections, &mut budget);
        // A session over it may hold back less than before.
        let has_taken = has_taken || held_bytes(self) < held;
        let is_blocked = is_blocked(self);
        if !is_blocked {
            self.blocked.remove(&id);
            self.queue_write(id); // it may have been left unread for what it had not taken
        }
        (has_taken || is_blocked).then_some(has_taken)
    }

    fn on_silent(&mut self, id: SlotId) {
        self.note(id, || What::Silent);
        self.note_closed(id, Closed::Silent, None);
        self.change_phase(id, Phase::Closing);
        self.ended(id);
    }

    fn on_stalled(&mut self, id: SlotId) {
        self.note_limit(id, Limit::Stall, || What::Limit(Limit::Stall));
        self.close(id, 1013, STALLED);
    }

    fn on_overdue(&mut self, id: SlotId) {
        self.forget_head(id);
        match self.connections.get(id).map(|connection| &connection.phase) {
            Some(Phase::Head(_)) => {
                self.note_limit(id, Limit::HeadTime, || What::Limit(Limit::HeadTime));
                self.ended(id);
            }
            Some(Phase::Waits(_)) => self.auth_fails(id, Failure::Overdue),
            _ => {}
        }
    }
}
