//! The sockets that have ended last, and why: what an operator asks for when a client says that it was
//! thrown out.
//!
//! Only sockets that were let in count, so that probes push nobody out.

use std::collections::VecDeque;

use crate::id::SlotId;
use crate::mesh::ENDING;
use crate::mesh::inquiries::ClosedSocket;
use crate::metrics::Closed;

use super::Subscribers;
use super::connections::{Phase, Socket};

/// The words of the close frame of a reader that takes nothing: the setting that says so.
pub(super) const STALLED: &str = "stall_timeout_ms";
/// So many are kept.
pub(super) const CLOSED_MAX: usize = 4096;

/// The last ones, the latest at the end.
#[derive(Default)]
pub(super) struct ClosedSockets(VecDeque<ClosedSocket>);

impl ClosedSockets {
    fn push(&mut self, socket: ClosedSocket) {
        if self.0.len() == CLOSED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(socket);
    }

    /// So many at most, the latest first.
    pub(super) fn last(&self, reason: Option<Closed>, most: usize) -> Vec<ClosedSocket> {
        let is_it = |socket: &&ClosedSocket| reason.is_none_or(|reason| socket.reason == reason);
        self.0
            .iter()
            .rev()
            .filter(is_it)
            .take(most)
            .cloned()
            .collect()
    }
}

impl<S: Socket> Subscribers<S> {
    /// A socket is about to end. One that is not open, or not any more, is none of these.
    pub(super) fn note_closed(&mut self, id: SlotId, reason: Closed, code: Option<u16>) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if !matches!(connection.phase, Phase::Open(_)) {
            return;
        }
        let behind = self.fanout.behind(&connection.reader);
        let socket = ClosedSocket {
            worker: self.ports.id,
            at_ms: self.now.wall_ms,
            peer: connection.socket.peer(),
            reason,
            code,
            age_ms: self.age_ms(id),
            behind_bytes: behind.bytes,
            behind_events: behind.events,
            blocked_ms: self.blocked_ms(id),
            subscriptions: connection.reader.subscriptions_len(),
        };
        self.metrics().closed.of(reason as usize).increment();
        self.closed.push(socket);
    }

    pub(super) fn age_ms(&self, id: SlotId) -> u64 {
        let age = self.ages.of(id.generation, self.now.monotonic);
        age.as_millis() as u64
    }

    /// For how long the socket has taken no byte.
    pub(super) fn blocked_ms(&self, id: SlotId) -> Option<u64> {
        let connection = self.connections.get(id)?;
        if !connection.reader.is_blocked() {
            return None;
        }
        let since = self.blocked.get(&id)?;
        let blocked = self.now.monotonic.saturating_duration_since(*since);
        Some(blocked.as_millis() as u64)
    }
}

/// The reason of a close frame that the server sends, by its code and its words.
pub(super) fn reason_of(code: u16, words: &str) -> Closed {
    match (code, words) {
        (_, "limits.behind_bytes_worker") => Closed::Behind,
        (_, ENDING) => Closed::Ending,
        (_, STALLED) => Closed::Stalled,
        (1009, _) => Closed::TooLarge,
        (1002 | 1007, _) => Closed::Protocol,
        (1012, _) => Closed::Ending,
        _ => Closed::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;

    #[test]
    fn the_last_ones_are_kept_and_the_latest_come_first() {
        let mut closed = ClosedSockets::default();
        for n in 0..CLOSED_MAX as u64 + 10 {
            closed.push(ClosedSocket {
                worker: WorkerId(0),
                at_ms: n,
                peer: None,
                reason: if n % 2 == 0 {
                    Closed::Gone
                } else {
                    Closed::Client
                },
                code: None,
                age_ms: 0,
                behind_bytes: 0,
                behind_events: 0,
                blocked_ms: None,
                subscriptions: 0,
            });
        }
        let all = closed.last(None, usize::MAX);
        assert_eq!(all.len(), CLOSED_MAX);
        assert_eq!((all[0].at_ms, all[CLOSED_MAX - 1].at_ms), (4105, 10));
        let gone = closed.last(Some(Closed::Gone), 2);
        assert_eq!([gone[0].at_ms, gone[1].at_ms], [4104, 4102]);
    }

    #[test]
    fn a_close_frame_has_its_reason() {
        for (code, words, reason) in [
            (1013, "limits.behind_bytes_worker", Closed::Behind),
            (1013, STALLED, Closed::Stalled),
            (1009, "limits.message_bytes", Closed::TooLarge),
            (1002, "peer broke the WebSocket protocol", Closed::Protocol),
            (1012, ENDING, Closed::Ending),
            (1000, "", Closed::Other),
        ] {
            assert_eq!(reason_of(code, words), reason, "{words}");
        }
    }
}
