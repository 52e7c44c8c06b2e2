//! The end of a worker: what it had is gone for everybody at once, and is removed in turns. So are the
//! triggers of a type read again that has changed hands.

use crate::id::{SlotId, Text};
use crate::protocol::call::ErrorBody;

use super::Engine;
use super::attached::not_connected;
use super::calls::Answered;
use super::firing::steps_of;
use super::target::FunctionRef;
use super::trigger::Trigger;
use super::triggers::Ids;

/// Triggers of a type that has changed hands are read again so many at a time.
const RETYPED_AT_A_TIME: usize = 16;

/// A worker that is gone, and what is left of it.
pub(super) struct Ending {
    id: SlotId,
    /// Where its functions stand.
    namespace: Option<Text>,
    /// Functions that it registered.
    functions: Ids,
    /// Ids of triggers that others have taken over.
    lost: Ids,
    /// Trigger types that it served.
    types: Ids,
    /// For those who wait for it.
    error: ErrorBody,
}

/// Triggers of a type that has changed hands: those before `until` that are read again from `from` on.
pub(super) struct Retyping {
    trigger_type: Box<str>,
    /// Who serves it now, and is handed them.
    server: Option<SlotId>,
    from: u64,
    until: u64,
}

impl Engine {
    /// A peer is gone: what is its own serves nobody from now on.
    pub(super) fn begin_ending(&mut self, id: SlotId, namespace: Option<Text>, functions: Ids) {
        let is_link = self.is_link(id);
        self.functions.end(id);
        let (lost, types) = self.triggers.end(id);
        let error = match is_link {
            true => not_connected(),
            false => ErrorBody::new("invocation_stopped", "Invocation stopped"),
        };
        self.work.endings.push_back(Ending {
            id,
            namespace,
            functions,
            lost,
            types,
            error,
        });
        // What the engine handed over is gone before the next link begins.
        let steps = self.work.steps;
        if is_link {
            self.work.steps = usize::MAX;
        }
        self.go_on_ending();
        if is_link {
            self.work.steps = steps;
        }
    }

    pub(super) fn go_on_ending(&mut self) {
        while self.work.steps > 0
            && let Some(mut ending) = self.work.endings.pop_front()
        {
            if !self.end_some(&mut ending) {
                return self.work.endings.push_front(ending);
            }
            self.functions.has_ended(ending.id);
            self.triggers.has_ended(ending.id);
        }
        self.go_on_retyping();
    }

    /// Removes as much as this turn may. True when nothing is left.
    fn end_some(&mut self, ending: &mut Ending) -> bool {
        let id = ending.id;
        let mut is_hook = false;
        while self.work.take_step()
            && let Some(function_id) = ending.functions.next()
        {
            is_hook |= self.functions.unregister(
                FunctionRef::new(&function_id, ending.namespace.as_deref()),
                id,
            );
        }
        self.functions_changed(is_hook);
        while self.calls.has_functions_of(id) && self.work.steps > 0 {
            let calls = self.calls.forget_some_of(id, self.work.steps);
            self.work.take_steps(calls.len().max(1));
            for call in calls {
                self.hear_call(call, Answered::Gone(&ending.error));
            }
        }
        while self.work.steps > 0 && self.triggers.len_of(id) > 0 {
            let some = self.triggers.len_of(id).min(self.work.steps);
            self.work.take_steps(some);
            for trigger in self.triggers.forget_some_of(id, some) {
                self.trigger_gone(&trigger);
            }
        }
        while self.work.take_step()
            && let Some(trigger_id) = ending.lost.next()
        {
            self.triggers.release_lost(id, &trigger_id);
        }
        while self.work.take_step()
            && let Some(trigger_type) = ending.types.next()
        {
            if self.triggers.forget_type(&trigger_type, id) {
                self.retype(trigger_type, None);
            }
        }
        self.work.steps > 0
    }

    /// A type has changed hands: its triggers are read again, and handed to who serves it.
    pub(super) fn retype(&mut self, trigger_type: Box<str>, server: Option<SlotId>) {
        self.hooks.change();
        self.hold_for_work(server);
        self.work.retypings.push_back(Retyping {
            trigger_type,
            server,
            from: 0,
            until: self.triggers.next_order(),
        });
    }

    pub(super) fn go_on_retyping(&mut self) {
        while self.work.steps > 0
            && let Some(mut retyping) = self.work.retypings.pop_front()
        {
            match self.retype_some(&mut retyping) {
                true => self.release_after_work(retyping.server),
                false => self.work.retypings.push_front(retyping),
            }
        }
    }

    fn retype_some(&mut self, retyping: &mut Retyping) -> bool {
        if self.triggers.server_of(&retyping.trigger_type) != retyping.server {
            return true; // it has changed hands again
        }
        let (from, until) = (retyping.from, retyping.until);
        let most = RETYPED_AT_A_TIME;
        let trigger_type = &retyping.trigger_type;
        let (slots, next) = self.triggers.retype(trigger_type, from, until, most);
        self.work.take_steps(1);
        for slot in slots {
            let bytes = self.triggers.get(slot).map_or(0, Trigger::held_bytes);
            self.work.take_steps(steps_of(bytes));
            if let Some(server) = retyping.server {
                self.hand_over(server, slot);
            }
        }
        self.hooks.change();
        retyping.from = next.unwrap_or(until);
        next.is_none()
    }

    /// Whether who serves its type has heard of the trigger.
    pub(super) fn was_handed_over(&self, trigger: &Trigger) -> bool {
        !self.work.retypings.iter().any(|retyping| {
            (retyping.from..retyping.until).contains(&trigger.order)
                && *retyping.trigger_type == *trigger.trigger_type
        })
    }
}
