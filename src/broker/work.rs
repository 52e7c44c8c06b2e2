//! What is told to many, made of very many rows, or undone bit by bit is done in turns: each turn has a
//! budget, and goes on where the one before stopped. Whatever happens puts what it brings about here, and
//! the loop drains it: nothing is done within something else.

use std::collections::VecDeque;

use crate::id::SlotId;
use crate::protocol::answer::Outcome;
use crate::protocol::groups::{Merge, Names};
use crate::protocol::input::StreamFunction;
use crate::protocol::logs::otlp;

use crate::broker::Broker;
use crate::broker::calls::StreamCall;
use crate::broker::ending::{Ending, Forgetting, Retyping, Settling};
use crate::broker::own::listings::Listing;
use crate::broker::steps::Steps;
use crate::broker::triggers::firing::{Firing, FiringKind, Firings};

/// What frames of logs may hold that wait for their turn. Others are dropped, as telemetry may be.
const LOGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// So many names of groups are put together in one step.
const NAMES_A_STEP: usize = 4;

/// Work that goes on from turn to turn.
#[derive(Default)]
pub(in crate::broker) struct Work {
    pub(in crate::broker) firings: Firings,
    /// Frames of logs whose records have still to be told.
    logs: VecDeque<(SlotId, otlp::Frame)>,
    logs_bytes: usize,
    listings: VecDeque<Listing>,
    /// Listings of groups that all workers have answered, on their way to one text.
    merges: VecDeque<(StreamCall, Merge)>,
    /// Workers that are gone, and of which something is left.
    pub(in crate::broker) endings: VecDeque<Ending>,
    /// Workers that stand in another namespace from now on.
    pub(in crate::broker) settlings: VecDeque<Settling>,
    /// What an engine handed over that does so anew.
    pub(in crate::broker) forgettings: VecDeque<Forgetting>,
    /// Trigger types that have changed hands.
    pub(in crate::broker) retypings: VecDeque<Retyping>,
    /// Joins that waited for an engine and have still to be looked at.
    pub(in crate::broker) waiting_joins: usize,
    /// What this turn may still do.
    pub(in crate::broker) steps: Steps,
}

impl Work {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.firings.is_empty()
            && self.logs.is_empty()
            && self.listings.is_empty()
            && self.merges.is_empty()
            && self.endings.is_empty()
            && self.settlings.is_empty()
            && self.forgettings.is_empty()
            && self.retypings.is_empty()
            && self.waiting_joins == 0
    }
}

impl Broker {
    /// A turn begins.
    pub(in crate::broker) fn begin_work(&mut self) {
        self.work.steps.begin_turn();
        self.go_on();
    }

    /// Does what has come up, as far as this turn may.
    pub fn go_on(&mut self) {
        self.hear_ended();
        if !self.has_work() {
            return;
        }
        // Very much may end at once: what goes on beside it has its part of every turn.
        self.by_half(Broker::go_on_ending);
        self.ask_what_waited();
        self.go_on_deciding();
        // And so has each of these.
        self.by_half(|broker| broker.go_on_firing(FiringKind::Joins));
        self.by_half(|broker| broker.go_on_firing(FiringKind::Events));
        self.by_half(Broker::go_on_with_logs);
        self.by_half(Broker::go_on_with_listings);
        self.go_on_with_merges();
        self.go_on_firing(FiringKind::Joins);
        self.go_on_firing(FiringKind::Events);
        self.go_on_with_logs();
        self.go_on_with_listings();
        self.hear_ended();
    }

    /// Goes on with one thing, and leaves half of what is left of the turn to those behind it.
    fn by_half(&mut self, goes_on: impl FnOnce(&mut Broker)) {
        let held = self.work.steps.hold_back();
        goes_on(self);
        self.work.steps.give_back(held);
    }

    fn go_on_with_logs(&mut self) {
        self.go_on_firing(FiringKind::Logs);
        while self.work.steps.are_left()
            && self.work.firings.len_of(FiringKind::Logs) == 0
            && self.tell_next_log()
        {
            self.go_on_firing(FiringKind::Logs);
        }
    }

    fn go_on_with_listings(&mut self) {
        for _ in 0..self.work.listings.len() {
            if self.work.steps.are_left()
                && let Some(listing) = self.work.listings.pop_front()
            {
                self.go_on_listing(listing);
            }
        }
    }

    fn go_on_with_merges(&mut self) {
        for _ in 0..self.work.merges.len() {
            if self.work.steps.are_left()
                && let Some((call, merge)) = self.work.merges.pop_front()
            {
                self.go_on_merging(call, merge);
            }
        }
    }

    /// Whether something goes on in the next turn.
    pub(crate) fn has_work(&self) -> bool {
        !self.work.is_empty() || !self.ended.is_empty() || self.has_waiting_calls()
    }

    /// Whether more events may wait for their turn: they hold what their mailbox would.
    pub(in crate::broker) fn has_room_for_firings(&self) -> bool {
        let firings = &self.work.firings;
        firings.len_of(FiringKind::Events) < self.limits.mailbox_len
            && firings.bytes() <= self.limits.mailbox_bytes
    }

    /// A frame of logs that some trigger may hear of.
    pub(in crate::broker) fn keep_logs(&mut self, id: SlotId, frame: otlp::Frame) {
        if self.work.logs_bytes + frame.held_bytes() > LOGS_BYTES_MAX {
            return self.warn(id, "a frame of logs is dropped: too many wait to be told");
        }
        self.work.logs_bytes += frame.held_bytes();
        self.hold_for_work(Some(id));
        self.work.logs.push_back((id, frame));
    }

    /// Tells the next record of the next frame. False when there is none.
    fn tell_next_log(&mut self) -> bool {
        let Some((id, mut frame)) = self.work.logs.pop_front() else {
            return false;
        };
        match frame.next() {
            Some(Ok(entry)) => {
                let bytes = entry.body.len() + entry.attributes.len();
                self.work.steps.take(1);
                self.work.steps.take_bytes(bytes);
                self.work.logs.push_front((id, frame));
                self.fire_all(Firing::of_log(entry));
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
    pub(in crate::broker) fn begin_listing(&mut self, listing: Listing) {
        self.hold_for_work(listing.by());
        self.work.listings.push_back(listing);
    }

    fn go_on_listing(&mut self, mut listing: Listing) {
        let before = listing.len();
        let most = self.work.steps.left();
        let (is_done, looked_at) = self.list_some(&mut listing, most);
        self.work.steps.take(looked_at.max(1));
        self.work.steps.take_bytes(listing.len() - before);
        match is_done {
            true => {
                let by = listing.by();
                self.listed(listing);
                self.release_after_work(by);
            }
            false => self.work.listings.push_back(listing),
        }
    }

    /// All workers have answered a listing of groups. Its socket is left unread until it is there.
    pub(in crate::broker) fn merge_parts(&mut self, call: StreamCall, parts: Vec<Names>) {
        let of_stream = call.function == StreamFunction::ListGroups;
        let merge = Merge::new(parts, of_stream);
        self.work.merges.push_back((call, merge));
    }

    fn go_on_merging(&mut self, call: StreamCall, mut merge: Merge) {
        let most = self.work.steps.left() * NAMES_A_STEP;
        let written = merge.go_on(most);
        self.work.steps.take(written / NAMES_A_STEP + 1);
        match written < most {
            true => self.answer_stream(call, Outcome::Listed(merge.text())),
            false => self.work.merges.push_back((call, merge)),
        }
    }

    pub(in crate::broker) fn hold_for_work(&mut self, by: Option<SlotId>) {
        if let Some(peer) = by.and_then(|id| self.members.get_mut(id)) {
            peer.work_under_way += 1;
        }
    }

    pub(in crate::broker) fn release_after_work(&mut self, by: Option<SlotId>) {
        if let Some(id) = by
            && let Some(peer) = self.members.get_mut(id)
        {
            peer.work_under_way = peer.work_under_way.saturating_sub(1);
            self.free(id);
        }
    }
}
