//! The leaves that are owed to functions: they are taken from the workers as there is room, so that none is
//! ever dropped, and told one after another.

use std::collections::VecDeque;

use crate::id::{Text, WorkerId};
use crate::mesh::{Presence, ToWorker};

use crate::broker::Broker;
use crate::broker::awaits::Handler;
use crate::broker::calls::Calls;
use crate::broker::joins::payload_of;
use crate::broker::registry::Functions;
use crate::broker::registry::callee::Callee;
use crate::broker::target::FunctionRef;
use crate::broker::triggers::Triggers;
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::trigger::Called;
use crate::broker::turn::Turn;

/// Owed leaves that are taken before the functions have heard of those taken before.
const LEAVES_MAX: usize = 256;
/// How many functions hear of leaves in one turn.
const LEAVE_CALLS_A_TURN: usize = 512;

/// A leave that was taken, and which of the triggers have still to hear of it.
struct Taken {
    audience: Audience,
    payload: Text,
    /// The registration to look at next, and the first one that came too late; none: it is nobody's
    /// turn yet.
    from: u64,
    until: Option<u64>,
}

/// What is owed.
#[derive(Default)]
pub(in crate::broker) struct Leaves {
    /// Workers that owe leaves and wait to be told how many are taken.
    owing: VecDeque<WorkerId>,
    /// Leaves that were taken, and that functions have still to hear of.
    taken: VecDeque<Taken>,
    /// How many each worker was told.
    granted: Vec<(WorkerId, usize)>,
}

impl Leaves {
    /// That worker owes some.
    pub(in crate::broker) fn add_debtor(&mut self, worker: WorkerId) {
        self.owing.push_back(worker);
    }

    /// A worker gives what it owed: the leave functions are called in turns.
    pub(in crate::broker) fn settle(
        &mut self,
        worker: WorkerId,
        leaves: Vec<Presence>,
        more: bool,
    ) {
        self.granted.retain(|(granted, _)| *granted != worker);
        let taken = leaves.into_iter().map(Taken::new);
        self.taken.extend(taken);
        if more {
            self.owing.push_back(worker);
        }
    }

    /// Tells workers how many are taken now.
    fn grant(&mut self, turn: &mut Turn) {
        let granted: usize = self.granted.iter().map(|(_, count)| count).sum();
        let mut room = LEAVES_MAX.saturating_sub(granted + self.taken.len());
        while room > 0
            && let Some(worker) = self.owing.pop_front()
        {
            let count = room;
            room -= count;
            self.granted.push((worker, count));
            turn.tell(worker, ToWorker::TakeLeaves(count));
        }
    }

    fn is_empty(&self) -> bool {
        self.owing.is_empty() && self.granted.is_empty() && self.taken.is_empty()
    }
}

impl Broker {
    /// Takes owed leaves, as many as may wait here: what is not taken stays with its worker, so that none
    /// is ever dropped.
    pub fn take_leaves(&mut self) {
        if self.takes_leaves() {
            self.go_on_with_leaves();
            self.leaves.grant(&mut self.turn);
        }
    }

    /// Whether owed leaves may be taken now.
    fn takes_leaves(&self) -> bool {
        let attached = self.attached.as_ref();
        attached.is_none_or(|attached| attached.lets_leaves_go())
    }

    /// Whether leaves wait for nothing but the next turn.
    pub(in crate::broker) fn may_take_leaves(&self) -> bool {
        if !self.takes_leaves() {
            return false;
        }
        match self.leaves.taken.front() {
            Some(taken) => {
                let next = taken.next_called(&self.triggers);
                next.is_none_or(|called| {
                    has_room_for_leave(&self.turn, &self.functions, &self.calls, &called)
                })
            }
            None => !self.leaves.owing.is_empty() && self.leaves.granted.is_empty(),
        }
    }

    /// Whether leaves are owed, or may still come about, that some function is to hear of.
    pub fn awaits_leaves(&self) -> bool {
        let shared = &self.turn.ports.shared;
        let are_owed = shared.owed_len() > 0 || !self.leaves.is_empty() || !self.joins.is_empty();
        let may_come = are_owed || shared.connections_len() > 0;
        may_come && self.triggers.has_leaves()
    }

    /// Calls the leave functions for what was taken, one after another while its callee has room.
    fn go_on_with_leaves(&mut self) {
        let mut calls = 0;
        while calls < LEAVE_CALLS_A_TURN
            && let Some(mut taken) = self.leaves.taken.pop_front()
        {
            calls += 1;
            let until = *taken.until.get_or_insert(self.triggers.next_order());
            let Some(next) = self.triggers.next_of(&taken.audience, taken.from, until) else {
                continue; // all have heard of it
            };
            if let Some((_, called)) = next.called {
                if !has_room_for_leave(&self.turn, &self.functions, &self.calls, &called) {
                    return self.leaves.taken.push_front(taken);
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
            self.leaves.taken.push_front(taken);
        }
    }
}

/// Whether those have room that a leave calls, and it may be remembered what its condition lets through.
fn has_room_for_leave(turn: &Turn, functions: &Functions, calls: &Calls, called: &Called) -> bool {
    let condition = called.condition.as_deref();
    let condition = condition.map(|condition| called.target.beside(condition));
    let may_ask = condition.is_none() || calls.may_owe(turn);
    let has_room = |function: FunctionRef<'_>| match functions.callee_of(turn, function) {
        Callee::Peer(callee) => turn.members.unsent_bytes_of(callee) < turn.limits.call_queue_bytes,
        Callee::Nobody | Callee::Away => true,
    };
    may_ask && condition.is_none_or(has_room) && has_room(called.target.function())
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

    /// What the next trigger calls that hears of it, if one does.
    fn next_called(&self, triggers: &Triggers) -> Option<Called> {
        let until = self.until.unwrap_or(u64::MAX);
        let next = triggers.next_of(&self.audience, self.from, until)?;
        next.called.map(|(_, called)| called)
    }
}
