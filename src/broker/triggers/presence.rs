//! What functions say about joins, and the leaves that are owed them.

use crate::id::{SlotId, Text, WorkerId};
use crate::mesh::{JoinRequest, Presence, ToWorker};
use crate::protocol::answer::Outgoing;
use crate::protocol::trigger::payload::PresenceEvent;

use crate::broker::Broker;
use crate::broker::calls::callee::Callee;
use crate::broker::calls::{Awaits, Cause, Handler};
use crate::broker::members::Member;
use crate::broker::target::{FunctionRef, Target};
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::firing::Firing;
use crate::broker::triggers::trigger::Called;

/// Owed leaves that are taken before the functions have heard of those taken before.
const LEAVES_MAX: usize = 256;
/// How many functions hear of leaves in one turn.
const LEAVE_CALLS_A_TURN: usize = 512;

/// A leave that was taken, and which of the triggers have still to hear of it.
pub(in crate::broker) struct Taken {
    audience: Audience,
    payload: Text,
    /// The registration to look at next, and the first one that came too late; none: it is nobody's
    /// turn yet.
    from: u64,
    until: Option<u64>,
}

/// A join while its functions are asked.
pub(in crate::broker) struct Deciding {
    request: Box<JoinRequest>,
    /// Functions that have still to answer.
    left: usize,
    /// No further function is asked.
    are_all_asked: bool,
    is_refused: bool,
    /// Some function was asked and has answered.
    was_answered: bool,
}

/// What one function has to say on a join.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Word {
    /// It was asked, and does not refuse.
    Admits,
    /// It was asked and refuses, or was silent.
    Refuses,
    /// It failed, or is not there.
    Fails,
    /// Its condition keeps it from being asked.
    Unasked,
}

impl Broker {
    /// Asks all functions that a join of that stream is put to, unless the join has to wait for a running
    /// engine first.
    pub(in crate::broker) fn decide_join(&mut self, request: Box<JoinRequest>) {
        if self.deciding.len() >= self.limits.joins_in_flight {
            self.metrics().calls_refused.increment();
            return self.tell(request.worker, ToWorker::JoinDecided(request, false));
        }
        if let Some(request) = self.hold_join(request) {
            self.ask_join_functions(request);
        }
    }

    /// Asks them, as many in a turn as it may.
    pub(in crate::broker) fn ask_join_functions(&mut self, request: Box<JoinRequest>) {
        let stream = Box::from(request.presence.key.stream());
        let join = self.deciding.insert(Deciding {
            request,
            left: 0,
            are_all_asked: false,
            is_refused: false,
            was_answered: false,
        });
        self.fire_all(Firing::of_join(&stream, join));
    }

    /// Asks one function about a join, or first its condition.
    pub(in crate::broker) fn ask_one_about_join(
        &mut self,
        join: SlotId,
        called: Called,
        payload: &Text,
    ) {
        let Some(deciding) = self.deciding.get_mut(join) else {
            return;
        };
        deciding.left += 1;
        if !self.may_call_all_of(&called) {
            return self.join_heard(join, Word::Unasked);
        }
        match called.condition {
            Some(condition) => {
                let namespace = called.target.namespace.clone();
                let asked = Outgoing {
                    namespace: namespace.as_deref(),
                    ..Outgoing::own(&condition, payload)
                };
                let awaits = Awaits::JoinCondition(join, Box::new(called.target));
                self.ask(&asked, awaits);
            }
            None => self.ask(&called.target.call(payload), Awaits::Join(join)),
        }
    }

    pub(in crate::broker) fn payload_of_join(&self, join: SlotId) -> Option<Text> {
        let deciding = self.deciding.get(join)?;
        Some(payload_of(&deciding.request.presence))
    }

    /// No further function is asked about that join.
    pub(in crate::broker) fn all_asked_about(&mut self, join: SlotId) {
        if let Some(deciding) = self.deciding.get_mut(join) {
            deciding.are_all_asked = true;
            self.decide_if_heard(join);
        }
    }

    /// There is nobody to ask about a join: that admits, unless somebody has to be asked.
    pub(in crate::broker) fn join_unasked(&mut self, request: Box<JoinRequest>) {
        let is_admitted = !self.must_ask_about(&request);
        self.tell(request.worker, ToWorker::JoinDecided(request, is_admitted));
    }

    /// Whether a join is refused unless a function was asked and has answered.
    pub(in crate::broker) fn must_ask_about(&self, request: &JoinRequest) -> bool {
        self.join_required.contains(request.presence.key.stream())
    }

    /// The condition of a join function has let it be asked.
    pub(in crate::broker) fn ask_about_join(&mut self, join: SlotId, target: &Target) {
        if let Some(deciding) = self.deciding.get(join) {
            let payload = payload_of(&deciding.request.presence);
            self.ask(&target.call(&payload), Awaits::Join(join));
        }
    }

    /// One function's word. The join is decided when all have answered; one refusal is enough. A
    /// function that fails admits, for many only log, unless somebody has to be asked or the settings
    /// say otherwise.
    pub(in crate::broker) fn join_heard(&mut self, join: SlotId, word: Word) {
        let Some(deciding) = self.deciding.get_mut(join) else {
            return;
        };
        let must_ask = self
            .join_required
            .contains(deciding.request.presence.key.stream());
        deciding.is_refused |= word == Word::Refuses
            || (word == Word::Fails && (must_ask || self.refuses_failed_joins));
        deciding.was_answered |= word == Word::Admits;
        deciding.left -= 1;
        self.decide_if_heard(join);
    }

    /// The join is decided once all have been asked and have answered. Where there was nobody to ask that
    /// admits, unless somebody has to be asked.
    fn decide_if_heard(&mut self, join: SlotId) {
        let deciding = self.deciding.get(join);
        if deciding.is_some_and(|deciding| deciding.left == 0 && deciding.are_all_asked)
            && let Some(decided) = self.deciding.remove(join)
        {
            let must_ask = self.must_ask_about(&decided.request);
            let is_refused = decided.is_refused || (must_ask && !decided.was_answered);
            let request = decided.request;
            self.tell(request.worker, ToWorker::JoinDecided(request, !is_refused));
        }
    }

    /// Takes owed leaves, as many as may wait here: what is not taken stays with its worker, so that none
    /// is ever dropped.
    pub fn take_leaves(&mut self) {
        self.go_on_with_leaves();
        if !self.takes_leaves() {
            return;
        }
        let granted: usize = self.leaves_granted.iter().map(|(_, count)| count).sum();
        let mut room = LEAVES_MAX.saturating_sub(granted + self.taken_leaves.len());
        while room > 0
            && let Some(worker) = self.owing.pop_front()
        {
            let count = room;
            room -= count;
            self.leaves_granted.push((worker, count));
            self.tell(worker, ToWorker::TakeLeaves(count));
        }
    }

    /// Whether leaves wait for nothing but the next turn.
    pub(in crate::broker) fn may_take_leaves(&self) -> bool {
        if !self.takes_leaves() {
            return false;
        }
        let has_room = !self.owing.is_empty() && self.leaves_granted.is_empty();
        match self.taken_leaves.front() {
            Some(taken) => self.may_tell_of(taken),
            None => has_room,
        }
    }

    /// Whether leaves are owed, or may still come about, that some function is to hear of.
    pub fn awaits_leaves(&self) -> bool {
        let shared = &self.ports.shared;
        let are_owed = shared.owed_len() > 0
            || !self.owing.is_empty()
            || !self.leaves_granted.is_empty()
            || !self.taken_leaves.is_empty()
            || !self.deciding.is_empty();
        let may_come = are_owed || shared.connections_len() > 0;
        may_come && self.triggers.has_leaves()
    }

    /// A worker gives what it owed: the leave functions are called in turns.
    pub(in crate::broker) fn settle_leaves(
        &mut self,
        worker: WorkerId,
        leaves: Vec<Presence>,
        more: bool,
    ) {
        self.leaves_granted
            .retain(|(granted, _)| *granted != worker);
        let taken = leaves.into_iter().map(Taken::new);
        self.taken_leaves.extend(taken);
        if more {
            self.owing.push_back(worker);
        }
    }

    /// Calls the leave functions for what was taken, one after another while its callee has room.
    fn go_on_with_leaves(&mut self) {
        if !self.takes_leaves() {
            return;
        }
        let mut calls = 0;
        while calls < LEAVE_CALLS_A_TURN
            && let Some(mut taken) = self.taken_leaves.pop_front()
        {
            calls += 1;
            let until = *taken.until.get_or_insert(self.triggers.next_order());
            let Some(next) = self.triggers.next_of(&taken.audience, taken.from, until) else {
                continue; // all have heard of it
            };
            if let Some((_, called)) = next.called {
                if !self.has_room_for_leave(&called) {
                    return self.taken_leaves.push_front(taken);
                }
                let handler = Handler {
                    target: called.target,
                    payload: Text::clone(&taken.payload),
                    is_owed: true,
                    on_behalf: called.on_behalf,
                };
                self.fire(called.condition.as_deref(), handler);
            }
            taken.from = next.order + 1;
            self.taken_leaves.push_front(taken);
        }
    }

    /// Whether the next function that hears of that leave can hear of it now.
    fn may_tell_of(&self, taken: &Taken) -> bool {
        let until = taken.until.unwrap_or(u64::MAX);
        let next = self.triggers.next_of(&taken.audience, taken.from, until);
        let called = next.and_then(|next| next.called);
        called.is_none_or(|(_, called)| self.has_room_for_leave(&called))
    }

    /// Whether those have room that a leave calls, and it may be remembered what its condition lets
    /// through.
    fn has_room_for_leave(&self, called: &Called) -> bool {
        let condition = called.condition.as_deref();
        let condition = condition.map(|condition| called.target.beside(condition));
        let owed = self.calls.load(Cause::Debts);
        let may_ask = condition.is_none()
            || (owed.bytes <= self.calls_bytes_max() && owed.len < self.limits.calls_in_flight);
        let has_room = |function: FunctionRef<'_>| match self.callee_of(function) {
            Callee::Peer(callee) => {
                let unsent_bytes = self.members.get(callee).map_or(0, Member::unsent_bytes);
                unsent_bytes < self.limits.call_queue_bytes
            }
            Callee::Nobody | Callee::Away => true,
        };
        may_ask && condition.is_none_or(has_room) && has_room(called.target.function())
    }
}

impl Taken {
    fn new(presence: Presence) -> Taken {
        Taken {
            audience: Audience::Leave(presence.key.stream().into()),
            payload: payload_of(&presence),
            from: 0,
            until: None,
        }
    }
}

fn payload_of(presence: &Presence) -> Text {
    let event = PresenceEvent {
        context: presence.context.as_deref(),
        stream: presence.key.stream(),
        group: presence.key.group(),
        id: presence.item.as_deref(),
        subscription_id: &presence.subscription,
    };
    let mut text = Vec::new();
    event.write(&mut text);
    String::from_utf8(text).unwrap_or_default().into()
}
