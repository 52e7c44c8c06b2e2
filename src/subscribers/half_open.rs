//! Sockets that are not let in yet: how many there are, and what they have sent.
//!
//! Two kinds are bounded each for itself. Of those without a whole head the oldest is ended when there
//! are too many: a head takes a moment. Those that wait for the auth function wait for us: when there are
//! too many, a further one is refused.

use std::collections::VecDeque;

use crate::config::Limits;
use crate::id::SlotId;

use super::Subscribers;
use super::connections::{Phase, Socket};
use super::notes::{Limit, What};

/// This worker's share of the limits, and what counts.
pub(super) struct HalfOpen {
    len_max: usize,
    bytes_max: usize,
    heads: Tally,
    asking: Tally,
    /// Those without a whole head, and some that are not among them any more, from the oldest on.
    order: VecDeque<SlotId>,
}

#[derive(Default)]
struct Tally {
    len: usize,
    bytes: usize,
}

impl HalfOpen {
    pub(super) fn new(limits: &Limits, workers: usize) -> HalfOpen {
        let mut half_open = HalfOpen {
            len_max: 0,
            bytes_max: 0,
            heads: Tally::default(),
            asking: Tally::default(),
            order: VecDeque::new(),
        };
        half_open.set_limits(limits, workers);
        half_open
    }

    pub(super) fn set_limits(&mut self, limits: &Limits, workers: usize) {
        let share = |limit: usize| limit.div_ceil(workers.max(1)).max(1);
        self.len_max = share(limits.handshakes);
        self.bytes_max = share(limits.handshakes_bytes);
    }

    /// Whether no further upgrade may wait for the auth function.
    pub(super) fn has_enough_asking(&self) -> bool {
        self.asking.len >= self.len_max || self.asking.bytes >= self.bytes_max
    }

    fn has_too_many_heads(&self) -> bool {
        self.heads.len > self.len_max || self.heads.bytes > self.bytes_max
    }

    fn tally(&mut self, phase: &Phase) -> Option<(&mut Tally, usize)> {
        match phase {
            Phase::Head(head) => Some((&mut self.heads, head.counted_bytes)),
            Phase::Waits(asking) => Some((&mut self.asking, asking.counted_bytes)),
            Phase::Open(_) | Phase::Closing => None,
        }
    }

    fn count(&mut self, phase: &Phase) {
        if let Some((tally, bytes)) = self.tally(phase) {
            tally.len += 1;
            tally.bytes += bytes;
        }
    }

    fn uncount(&mut self, phase: &Phase) {
        if let Some((tally, bytes)) = self.tally(phase) {
            tally.len -= 1;
            tally.bytes -= bytes;
        }
    }
}

impl<S: Socket> Subscribers<S> {
    /// A socket was accepted: nothing has come of its head.
    pub(super) fn count_half_open(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id) {
            self.half_open.count(&connection.phase);
            self.half_open.order.push_back(id);
            self.make_room_for_heads();
        }
    }

    /// The socket goes on to another phase; gives the one before.
    pub(super) fn change_phase(&mut self, id: SlotId, phase: Phase) -> Option<Phase> {
        let connection = self.connections.get_mut(id)?;
        self.half_open.count(&phase);
        let before = std::mem::replace(&mut connection.phase, phase);
        self.half_open.uncount(&before);
        Some(before)
    }

    /// More of the head has come.
    pub(super) fn recount_head(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && let Phase::Head(head) = &mut connection.phase
        {
            let bytes = head.bytes.capacity() + connection.socket.kept_bytes();
            self.half_open.heads.bytes += bytes;
            self.half_open.heads.bytes -= head.counted_bytes;
            head.counted_bytes = bytes;
            self.make_room_for_heads();
        }
    }

    /// The time that a socket had for its head and the auth function is over.
    pub(super) fn forget_head(&mut self, id: SlotId) {
        self.half_open.order.pop_front_if(|first| *first == id);
    }

    fn make_room_for_heads(&mut self) {
        while self.half_open.has_too_many_heads()
            && let Some(id) = self.half_open.order.pop_front()
        {
            let connection = self.connections.get_mut(id);
            if connection.is_some_and(|connection| matches!(connection.phase, Phase::Head(_))) {
                self.metrics().handshakes_ended.increment();
                self.note_limit(id, Limit::Heads, || What::Limit(Limit::Heads));
                self.ended(id);
            }
        }
    }
}
