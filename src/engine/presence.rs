//! What functions say about subscribers' sockets: joins, upgrades, and the leaves that are owed them.

use std::sync::atomic::Ordering;

use crate::id::{SlotId, Text, WorkerId};
use crate::log::Shown;
use crate::mesh::{AuthRequest, AuthVerdict, JoinRequest, Presence, ToWorker};
use crate::protocol::answer::Outgoing;
use crate::protocol::auth::AuthAnswer;
use crate::protocol::trigger::payload::PresenceEvent;

use super::Engine;
use super::attached::Callee;
use super::calls::{Answered, Awaits, Cause, Handler};
use super::peers::Peer;
use super::target::{FunctionRef, Target};

/// Owed leaves that are taken from one worker at a time.
const LEAVES_AT_A_TIME: usize = 256;
/// What a leave call takes in its callee's queue, about, so that a batch fits.
const LEAVE_BYTES: usize = 512;

/// A join while its functions are asked.
pub(super) struct Deciding {
    request: Box<JoinRequest>,
    /// Functions that have still to answer.
    left: usize,
    is_refused: bool,
    /// Some function was asked and has answered.
    was_answered: bool,
}

/// What one function has to say on a join.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It was asked, and does not refuse.
    Admits,
    /// It was asked and refuses, or was silent.
    Refuses,
    /// It failed, or is not there.
    Fails,
    /// Its condition keeps it from being asked.
    Unasked,
}

impl Engine {
    /// Asks all functions that a join of that stream is put to, at once.
    pub(super) fn decide_join(&mut self, request: Box<JoinRequest>) {
        if let Some(request) = self.hold_join(request) {
            self.ask_join_functions(request);
        }
    }

    pub(super) fn ask_join_functions(&mut self, request: Box<JoinRequest>) {
        let asked = self.triggers.of_join(request.presence.key.stream());
        if asked.is_empty() {
            return self.join_unasked(request);
        }
        let payload = payload_of(&request.presence);
        let join = self.deciding.insert(Deciding {
            request,
            left: asked.len(),
            is_refused: false,
            was_answered: false,
        });
        for handler in asked {
            if !self.may_call_all_of(&handler) {
                self.join_heard(join, Word::Unasked);
                continue;
            }
            match handler.condition {
                Some(condition) => {
                    let namespace = handler.target.namespace.clone();
                    let asked = Outgoing {
                        namespace: namespace.as_deref(),
                        ..Outgoing::own(&condition, &payload)
                    };
                    let awaits = Awaits::JoinCondition(join, Box::new(handler.target));
                    self.ask(&asked, awaits);
                }
                None => self.ask(&handler.target.call(&payload), Awaits::Join(join)),
            }
        }
    }

    /// There is nobody to ask about a join: that admits, unless somebody has to be asked.
    pub(super) fn join_unasked(&mut self, request: Box<JoinRequest>) {
        let is_admitted = !self.must_ask_about(&request);
        self.tell(request.worker, ToWorker::Joined(request, is_admitted));
    }

    /// Whether a join is refused unless a function was asked and has answered.
    pub(super) fn must_ask_about(&self, request: &JoinRequest) -> bool {
        self.join_required.contains(request.presence.key.stream())
    }

    /// The condition of a join function has let it be asked.
    pub(super) fn ask_about_join(&mut self, join: SlotId, target: &Target) {
        if let Some(deciding) = self.deciding.get(join) {
            let payload = payload_of(&deciding.request.presence);
            self.ask(&target.call(&payload), Awaits::Join(join));
        }
    }

    /// One function's word. The join is decided when all have answered; one refusal is enough. A
    /// function that fails admits, for many only log, unless somebody has to be asked or the settings
    /// say otherwise.
    pub(super) fn join_heard(&mut self, join: SlotId, word: Word) {
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
        if deciding.left == 0
            && let Some(decided) = self.deciding.remove(join)
        {
            let is_refused = decided.is_refused || (must_ask && !decided.was_answered);
            let request = decided.request;
            self.tell(request.worker, ToWorker::Joined(request, !is_refused));
        }
    }

    /// Asks the auth function about an upgrade.
    pub(super) fn authenticate(&mut self, request: AuthRequest) {
        let awaits = Awaits::Auth {
            worker: request.worker,
            connection: request.connection,
        };
        match self.auth.function_id.clone() {
            Some(function_id) => {
                let namespace = self.own_namespace();
                let asked = Outgoing {
                    namespace: namespace.as_deref(),
                    ..Outgoing::own(&function_id, &request.input)
                };
                self.ask(&asked, awaits);
            }
            None => self.hear(awaits, "", Answered::NotFound),
        }
    }

    /// 401 where the function was asked and does not admit, 503 where nobody answered (spec: auth §3).
    pub(super) fn auth_verdict(&self, answered: Answered<'_>) -> AuthVerdict {
        let lets_in = self.auth.lets_in;
        match answered {
            Answered::Result(result) => match AuthAnswer::read(result) {
                AuthAnswer::Admitted { context } => AuthVerdict::Admitted(context),
                answer if lets_in => AuthVerdict::Admitted(answer.context_if_all_admitted()),
                AuthAnswer::Unauthorized { .. } => AuthVerdict::Unauthorized("it says no".into()),
                AuthAnswer::Nonsense => {
                    AuthVerdict::Unauthorized("it answers neither an object nor null".into())
                }
            },
            _ if lets_in => AuthVerdict::Admitted(None),
            Answered::Failed(error) => {
                let (code, message) = (Shown(&error.code), Shown(&error.message));
                AuthVerdict::Unauthorized(format!("it throws: {code}: {message}").into())
            }
            Answered::NotFound => AuthVerdict::Unavailable("nobody has registered it".into()),
            Answered::Gone(_) => {
                AuthVerdict::Unavailable("its worker has gone while it was asked".into())
            }
            Answered::TimedOut(_) => {
                AuthVerdict::Unavailable("it has not answered within server.auth_timeout_ms".into())
            }
            Answered::Refused(cause) => {
                AuthVerdict::Unavailable(format!("it could not be asked: {cause}").into())
            }
        }
    }

    /// Takes owed leaves, as many as their callees have room for: what is not taken stays with its
    /// worker, so that none is ever dropped.
    pub(super) fn take_leaves(&mut self) {
        self.go_on_with_leaves();
        if self.owing.is_empty() {
            return; // nothing is looked at for nothing
        }
        let mut room = self.room_for_leaves();
        while room > 0
            && let Some(worker) = self.owing.pop_front()
        {
            let count = room.min(LEAVES_AT_A_TIME);
            room -= count;
            self.leaves_granted.push((worker, count));
            self.tell(worker, ToWorker::TakeLeaves(count));
        }
    }

    /// Whether owed leaves wait for nothing but the next turn.
    pub(super) fn may_take_leaves(&self) -> bool {
        let is_due = !self.taken_leaves.is_empty() || !self.owing.is_empty();
        is_due && self.room_for_a_batch() > 0
    }

    /// Whether leaves are owed, or may still come about, that some function is to hear of.
    pub(super) fn awaits_leaves(&self) -> bool {
        let shared = &self.ports.shared;
        let are_owed = shared.owed.load(Ordering::Acquire) > 0
            || !self.owing.is_empty()
            || !self.leaves_granted.is_empty()
            || !self.taken_leaves.is_empty()
            || !self.deciding.is_empty();
        let may_come = are_owed || shared.connections_len() > 0;
        may_come && self.triggers.leave_functions().next().is_some()
    }

    /// How many leaves may be taken now, those that are on their way deducted.
    fn room_for_leaves(&self) -> usize {
        let granted: usize = self.leaves_granted.iter().map(|(_, count)| count).sum();
        self.room_for_a_batch()
            .saturating_sub(granted + self.taken_leaves.len())
    }

    /// How many leaves every callee of theirs has room for.
    fn room_for_a_batch(&self) -> usize {
        if !self.takes_leaves() {
            return 0;
        }
        let unsent_bytes = |function: FunctionRef<'_>| match self.callee_of(function) {
            Callee::Peer(callee) => self.peers.get(callee).map(Peer::unsent_bytes),
            Callee::Nobody | Callee::Away => None,
        };
        let fullest = self
            .triggers
            .leave_functions()
            .filter_map(unsent_bytes)
            .max();
        let room_bytes = self
            .limits
            .call_queue_bytes
            .saturating_sub(fullest.unwrap_or(0));
        let (triggers, with_condition) = self.triggers.leaves_len();
        let room = room_bytes / (LEAVE_BYTES * triggers.max(1));
        room.max(usize::from(room_bytes > 0))
            .min(self.room_for_conditions(with_condition))
    }

    /// For how many leaves conditions may be asked, so many for each.
    fn room_for_conditions(&self, conditions: usize) -> usize {
        if conditions == 0 {
            return usize::MAX;
        }
        let owed = self.calls.load(Cause::Debts);
        if owed.bytes > self.calls_bytes_max() {
            return 0;
        }
        let in_flight_max = self.limits.calls_in_flight;
        let room = in_flight_max.saturating_sub(owed.len);
        (room / conditions).max(usize::from(room > 0))
    }

    /// Calls the leave functions for what a worker owed.
    pub(super) fn settle_leaves(&mut self, worker: WorkerId, leaves: Vec<Presence>, more: bool) {
        self.leaves_granted
            .retain(|(granted, _)| *granted != worker);
        self.taken_leaves.extend(leaves);
        self.go_on_with_leaves();
        if more {
            self.owing.push_back(worker);
        }
    }

    /// Calls the leave functions for what was taken, one leave after another while there is room.
    fn go_on_with_leaves(&mut self) {
        while !self.taken_leaves.is_empty()
            && self.room_for_a_batch() > 0
            && let Some(presence) = self.taken_leaves.pop_front()
        {
            self.call_leave_functions(&presence);
        }
    }

    fn call_leave_functions(&mut self, presence: &Presence) {
        let payload = payload_of(presence);
        for handler in self.triggers.of_leave(presence.key.stream()) {
            self.fire(
                handler.condition.as_deref(),
                Handler {
                    target: handler.target,
                    payload: Text::clone(&payload),
                    is_owed: true,
                    on_behalf: handler.on_behalf,
                },
            );
        }
    }

    /// Sends a worker what it takes at all times.
    pub(super) fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        if let Some(outbox) = self.ports.to_open.get_mut(worker.index()) {
            outbox.send(message);
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
