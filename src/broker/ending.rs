//! The end of a worker: what it had is gone for everybody at once, and is removed in turns. So are the
//! functions of a worker moved that says where it stands.

use std::collections::VecDeque;

use crate::id::{SlotId, Text};
use crate::protocol::call::ErrorBody;

use crate::broker::Broker;
use crate::broker::awaits::{Answered, invocation_stopped};
use crate::broker::link::waiting::not_connected;
use crate::broker::members::FunctionIds;
use crate::broker::target::FunctionRef;
use crate::broker::triggers::Ids;
use crate::broker::turn::Turn;

/// A worker that is gone, and what is left of it.
struct Ending {
    id: SlotId,
    /// Where its functions stand.
    namespace: Option<Text>,
    /// Functions that it registered.
    functions: FunctionIds,
    /// Ids of triggers that others have taken over.
    lost: Ids,
    /// Trigger types that it served.
    types: Ids,
    /// For those who wait for it.
    error: ErrorBody,
}

/// A worker that stands in another namespace from now on, and its functions that have still to move.
struct Settling {
    id: SlotId,
    namespace: Text,
    /// The last function that has moved, and the next trigger by the number of its registration.
    after: Option<Box<str>>,
    triggers_from: u64,
}

/// Workers that are gone and of which something is left, and those that stand in another namespace.
#[derive(Default)]
pub(in crate::broker) struct Endings {
    gone: VecDeque<Ending>,
    moving: VecDeque<Settling>,
}

impl Endings {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.moving.is_empty()
    }

    /// A worker stands there from now on, and so does what it has registered. Its socket is left unread
    /// meanwhile.
    pub(in crate::broker) fn begin_settling(
        &mut self,
        turn: &mut Turn,
        id: SlotId,
        namespace: Text,
    ) {
        turn.hold_for_work(Some(id));
        self.moving.push_back(Settling {
            id,
            namespace,
            after: None,
            triggers_from: 0,
        });
    }
}

impl Broker {
    /// A member is gone, or about to be: what is its own goes, and who waits for it is told.
    pub fn forget(&mut self, id: SlotId) {
        let turn = &mut self.turn;
        let Some(member) = turn.members.get_mut(id).filter(|it| !it.has_ended) else {
            return;
        };
        member.has_ended = true;
        member.is_open = false;
        let is_link = member.is_link();
        let functions = std::mem::take(&mut member.functions).into_iter();
        let namespace = member.namespace.take();
        member.asked_about = None;
        let parked = member.parked.take();
        if let Some(attached) = self.attached.as_mut().filter(|_| is_link) {
            attached.link_has_ended(turn, &self.triggers);
        }
        for (owner, command) in parked {
            self.calls.park_orphan(turn, owner, command);
        }
        // What is its own serves nobody from now on.
        self.functions.end(id);
        let (lost, types) = self.triggers.end(id);
        let error = match is_link {
            true => not_connected(),
            false => invocation_stopped(),
        };
        self.endings.gone.push_back(Ending {
            id,
            namespace,
            functions,
            lost,
            types,
            error,
        });
        self.present.worker_has_gone(turn, &mut self.triggers, id);
    }

    /// Removes as much as this turn may of what is left of those that are gone.
    pub(in crate::broker) fn go_on_ending(&mut self) {
        while self.turn.steps.are_left()
            && let Some(mut ending) = self.endings.gone.pop_front()
        {
            if !self.end_some(&mut ending) {
                return self.endings.gone.push_front(ending);
            }
            self.functions.has_ended(ending.id);
            self.triggers.has_ended(ending.id);
        }
        self.go_on_settling();
        if let Some(attached) = &mut self.attached {
            attached.go_on_forgetting(&mut self.turn, &mut self.triggers);
        }
        self.triggers.go_on_retyping(&mut self.turn);
        self.settle_if_due();
    }

    /// Removes as much as this turn may. True when nothing is left.
    fn end_some(&mut self, ending: &mut Ending) -> bool {
        let id = ending.id;
        let mut is_hook = false;
        while self.turn.steps.take_one()
            && let Some(function_id) = ending.functions.next()
        {
            let namespace = ending.namespace.as_deref();
            let settled = namespace.map(|_| FunctionRef::new(&function_id, namespace));
            for function in [Some(FunctionRef::plain(&function_id)), settled] {
                is_hook |= function.is_some_and(|it| self.functions.unregister(it, id));
            }
        }
        self.functions.note_changes(&mut self.turn, is_hook);
        while self.calls.has_functions_of(id) && self.turn.steps.are_left() {
            let calls = self.calls.forget_some_of(id, self.turn.steps.left());
            self.turn.steps.take(calls.len().max(1));
            for call in calls {
                self.hear_call(call, Answered::Gone(&ending.error));
            }
        }
        let (turn, triggers) = (&mut self.turn, &mut self.triggers);
        match &mut self.attached {
            Some(attached) => attached.forget_triggers_of(turn, triggers, id, u64::MAX),
            None => triggers.forget_as_may(turn, id, u64::MAX, |_| {}),
        }
        while turn.steps.take_one()
            && let Some(trigger_id) = ending.lost.next()
        {
            triggers.release_lost(id, &trigger_id);
        }
        while turn.steps.take_one()
            && let Some(trigger_type) = ending.types.next()
        {
            if triggers.forget_type(&trigger_type, id) {
                triggers.begin_retyping(turn, trigger_type, None);
            }
        }
        turn.steps.are_left()
    }

    /// Whether something is left of what an engine handed over that is to do so anew.
    pub fn is_forgetting(&self) -> bool {
        let attached = self.attached.as_ref();
        !self.endings.gone.is_empty() || attached.is_some_and(|it| it.is_forgetting())
    }

    fn go_on_settling(&mut self) {
        while self.turn.steps.are_left()
            && let Some(mut settling) = self.endings.moving.pop_front()
        {
            match self.settle_some(&mut settling) {
                true => self.turn.release_after_work(Some(settling.id)),
                false => self.endings.moving.push_front(settling),
            }
        }
    }

    /// Moves as much as this turn may. True when nothing is left.
    fn settle_some(&mut self, settling: &mut Settling) -> bool {
        let (id, name) = (settling.id, &settling.namespace);
        let peer = self.turn.members.get(id);
        if peer.is_none_or(|peer| peer.namespace.as_ref() != Some(name)) {
            return true; // it has ended
        }
        let mut is_hook = false;
        while self.turn.steps.take_one()
            && let Some(function_id) = {
                let members = &self.turn.members;
                members.function_behind(id, settling.after.as_deref())
            }
        {
            is_hook |= self.settle_function_in(id, &function_id, name);
            settling.after = Some(function_id);
        }
        self.functions.note_changes(&mut self.turn, is_hook);
        let steps = &mut self.turn.steps;
        if !steps.are_left() {
            return false;
        }
        let (most, from) = (steps.left(), settling.triggers_from);
        let (settled, next) = self.triggers.settle_some_in(id, name, from, most);
        steps.take(settled.max(1));
        settling.triggers_from = next.unwrap_or(u64::MAX);
        next.is_none() && steps.are_left()
    }
}
