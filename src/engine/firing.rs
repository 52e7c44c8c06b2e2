//! What is told to many triggers at once, or made of very many rows, is done in turns: each turn has a
//! budget, and goes on where the one before stopped.

use std::collections::VecDeque;

use crate::id::{SlotId, Text};
use crate::protocol::call::ErrorBody;
use crate::protocol::logs::otlp;

use super::Engine;
use super::attached::Callee;
use super::calls::Handler;
use super::ending::{Ending, Retyping};
use super::listings::Listing;
use super::trigger::Called;

/// What one turn does of it: so many calls or rows, each of so many bytes or less.
const STEPS_A_TURN: usize = 512;
const STEP_BYTES: usize = 1024;
/// What frames of logs may hold that wait for their turn. Others are dropped, as telemetry may be.
const LOGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Work that goes on from turn to turn.
#[derive(Default)]
pub(super) struct Work {
    /// Calls of triggers, in order.
    firings: VecDeque<Firing>,
    /// Frames of logs whose records have still to be told.
    logs: VecDeque<(SlotId, otlp::Frame)>,
    logs_bytes: usize,
    listings: VecDeque<Listing>,
    /// Workers that are gone, and of which something is left.
    pub(super) endings: VecDeque<Ending>,
    /// Trigger types that have changed hands.
    pub(super) retypings: VecDeque<Retyping>,
    /// What this turn may still do.
    pub(super) steps: usize,
}

/// The same, told to several triggers.
struct Firing {
    called: VecDeque<Called>,
    payload: Text,
    /// Functions of ours that cannot read it: they are not asked again.
    unreadable: Vec<Box<str>>,
    /// The socket that brought it about, which is left unread meanwhile.
    by: Option<SlotId>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.firings.is_empty()
            && self.logs.is_empty()
            && self.listings.is_empty()
            && self.endings.is_empty()
            && self.retypings.is_empty()
    }

    /// Whether this turn may do one step more, which is taken.
    pub(super) fn take_step(&mut self) -> bool {
        let may = self.steps > 0;
        self.take_steps(1);
        may
    }

    pub(super) fn take_steps(&mut self, count: usize) {
        self.steps = self.steps.saturating_sub(count);
    }
}

/// What making or passing on so many bytes costs.
pub(super) fn steps_of(bytes: usize) -> usize {
    1 + bytes / STEP_BYTES
}

impl Engine {
    /// A turn begins: goes on with what the ones before have left.
    pub(super) fn go_on_with_work(&mut self) {
        self.work.steps = STEPS_A_TURN;
        self.go_on_ending();
        self.go_on_firing();
        while self.work.steps > 0 && self.work.firings.is_empty() && self.tell_next_log() {
            self.go_on_firing();
        }
        for _ in 0..self.work.listings.len() {
            if self.work.steps > 0
                && let Some(listing) = self.work.listings.pop_front()
            {
                self.go_on_listing(listing);
            }
        }
    }

    /// Tells all these triggers the same. `by`: the socket that brought it about.
    pub(super) fn fire_all(&mut self, called: Vec<Called>, payload: Text, by: Option<SlotId>) {
        if called.is_empty() {
            return;
        }
        self.hold_for_work(by);
        self.work.firings.push_back(Firing {
            called: called.into(),
            payload,
            unreadable: Vec::new(),
            by,
        });
        self.go_on_firing();
    }

    fn go_on_firing(&mut self) {
        while self.work.steps > 0
            && let Some(mut firing) = self.work.firings.pop_front()
        {
            while self.work.steps > 0
                && let Some(called) = firing.called.pop_front()
            {
                self.fire_one(&mut firing, called);
            }
            if !firing.called.is_empty() {
                return self.work.firings.push_front(firing);
            }
            self.release_after_work(firing.by);
        }
    }

    fn fire_one(&mut self, firing: &mut Firing, called: Called) {
        let is_known = firing.unreadable.contains(&called.target.function_id);
        let steps = if is_known {
            1
        } else {
            steps_of(firing.payload.len())
        };
        self.work.steps = self.work.steps.saturating_sub(steps);
        if is_known {
            return;
        }
        let handler = Handler {
            target: called.target,
            payload: Text::clone(&firing.payload),
            is_owed: false,
            on_behalf: called.on_behalf,
        };
        if !self.call_handler(&handler) {
            firing.unreadable.push(handler.target.function_id);
        }
    }

    /// Leaves out whom it makes no sense to tell what the server itself says: functions of ours, which
    /// do nothing on it, and those of workers that read nothing.
    pub(super) fn keep_listeners(&mut self, called: &mut Vec<Called>) {
        called.retain(|called| match self.callee_of(called.target.function()) {
            Callee::Peer(callee) => {
                let is_full = self.no_room_for(callee, None, self.unsent_max()).is_some();
                if is_full {
                    self.drop_handler_call(callee, &called.target.function_id);
                }
                !is_full
            }
            Callee::Nobody if self.has_own(&called.target.function_id) => {
                let error =
                    ErrorBody::new("deserialization_error", "it cannot read what it is told");
                self.fail(None, None, &called.target.function_id, &error);
                false
            }
            Callee::Nobody | Callee::Away => false,
        });
    }

    /// A frame of logs that some trigger may hear of.
    pub(super) fn keep_logs(&mut self, id: SlotId, frame: otlp::Frame) {
        if self.work.logs_bytes + frame.held_bytes() > LOGS_BYTES_MAX {
            return self.warn(id, "a frame of logs is dropped: too many wait to be told");
        }
        self.work.logs_bytes += frame.held_bytes();
        self.hold_for_work(Some(id));
        self.work.logs.push_back((id, frame));
        while self.work.steps > 0 && self.work.firings.is_empty() && self.tell_next_log() {}
    }

    /// Tells the next record of the next frame. False when there is none.
    fn tell_next_log(&mut self) -> bool {
        let Some((id, mut frame)) = self.work.logs.pop_front() else {
            return false;
        };
        match frame.next() {
            Some(Ok(entry)) => {
                let bytes = entry.body.len() + entry.attributes.len();
                self.work.steps = self.work.steps.saturating_sub(steps_of(bytes));
                let (called, payload) = self.followers(&entry);
                self.work.logs.push_front((id, frame));
                self.fire_all(called, payload, None);
            }
            Some(Err(_)) => self.work.logs.push_front((id, frame)), // it was read before
            None => {
                self.work.logs_bytes -= frame.held_bytes();
                self.release_after_work(Some(id));
            }
        }
        true
    }

    /// A list that is made in turns. Its socket is left unread until it is there.
    pub(super) fn begin_listing(&mut self, listing: Listing) {
        self.hold_for_work(listing.by());
        match self.work.steps > 0 {
            true => self.go_on_listing(listing),
            false => self.work.listings.push_back(listing),
        }
    }

    fn go_on_listing(&mut self, mut listing: Listing) {
        let before = listing.len();
        let most = self.work.steps;
        let (is_done, looked_at) = self.list_some(&mut listing, most);
        let steps = looked_at + (listing.len() - before) / STEP_BYTES;
        self.work.steps = self.work.steps.saturating_sub(steps.max(1));
        match is_done {
            true => {
                let by = listing.by();
                self.listed(listing);
                self.release_after_work(by);
            }
            false => self.work.listings.push_back(listing),
        }
    }

    pub(super) fn hold_for_work(&mut self, by: Option<SlotId>) {
        if let Some(peer) = by.and_then(|id| self.peers.get_mut(id)) {
            peer.work_under_way += 1;
        }
    }

    pub(super) fn release_after_work(&mut self, by: Option<SlotId>) {
        if let Some(id) = by
            && let Some(peer) = self.peers.get_mut(id)
        {
            peer.work_under_way = peer.work_under_way.saturating_sub(1);
            self.queue(id);
        }
    }
}
