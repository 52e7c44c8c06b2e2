//! The end of a worker: what it had is gone for everybody at once, and is removed in turns. So are the
//! triggers of a type read again that has changed hands, the functions of a worker moved that says where
//! it stands, and what an engine handed over forgotten that hands it over anew.

use std::ops::Bound;

use crate::id::{SlotId, Text};
use crate::protocol::call::ErrorBody;

use crate::broker::Broker;
use crate::broker::calls::Answered;
use crate::broker::link::waiting::not_connected;
use crate::broker::members::{FunctionIds, Member};
use crate::broker::target::FunctionRef;
use crate::broker::triggers::Ids;
use crate::broker::triggers::trigger::Trigger;

/// Triggers of a type that has changed hands are read again so many at a time.
const RETYPED_AT_A_TIME: usize = 16;

/// A worker that is gone, and what is left of it.
pub(in crate::broker) struct Ending {
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
pub(in crate::broker) struct Settling {
    id: SlotId,
    namespace: Text,
    /// The last function that has moved, and the next trigger by the number of its registration.
    after: Option<Box<str>>,
    triggers_from: u64,
}

/// What the engine over that link handed over before the `until`th registration: it is told anew.
pub(in crate::broker) struct Forgetting {
    link: SlotId,
    until: u64,
}

/// Triggers of a type that has changed hands: those before `until` that are read again from `from` on.
pub(in crate::broker) struct Retyping {
    trigger_type: Box<str>,
    /// Who serves it now, and is handed them.
    server: Option<SlotId>,
    from: u64,
    until: u64,
}

impl Broker {
    /// A member is gone, or about to be: what is its own goes, and who waits for it is told.
    pub fn forget(&mut self, id: SlotId) {
        let Some(member) = self.members.get_mut(id).filter(|it| !it.has_ended) else {
            return;
        };
        member.has_ended = true;
        member.is_open = false;
        if member.is_link() {
            self.link_has_ended();
        }
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let functions = std::mem::take(&mut member.functions).into_iter();
        let namespace = member.namespace.take();
        member.asked_about = None;
        for (owner, command) in member.parked.take() {
            self.park_orphan(owner, command);
        }
        self.begin_ending(id, namespace, functions);
        self.worker_has_gone(id);
    }

    /// A peer is gone: what is its own serves nobody from now on.
    pub(in crate::broker) fn begin_ending(
        &mut self,
        id: SlotId,
        namespace: Option<Text>,
        functions: FunctionIds,
    ) {
        let is_link = self.members.get(id).is_some_and(Member::is_link);
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
    }

    pub(in crate::broker) fn go_on_ending(&mut self) {
        while self.work.steps.are_left()
            && let Some(mut ending) = self.work.endings.pop_front()
        {
            if !self.end_some(&mut ending) {
                return self.work.endings.push_front(ending);
            }
            self.functions.has_ended(ending.id);
            self.triggers.has_ended(ending.id);
        }
        self.go_on_settling();
        self.go_on_forgetting();
        self.go_on_retyping();
        if !self.is_forgetting() {
            self.settle_if_due();
        }
    }

    /// Removes as much as this turn may. True when nothing is left.
    fn end_some(&mut self, ending: &mut Ending) -> bool {
        let id = ending.id;
        let mut is_hook = false;
        while self.work.steps.take_one()
            && let Some(function_id) = ending.functions.next()
        {
            let namespace = ending.namespace.as_deref();
            let settled = namespace.map(|_| FunctionRef::new(&function_id, namespace));
            for function in [Some(FunctionRef::plain(&function_id)), settled] {
                is_hook |= function.is_some_and(|it| self.functions.unregister(it, id));
            }
        }
        self.functions_changed(is_hook);
        while self.calls.has_functions_of(id) && self.work.steps.are_left() {
            let calls = self.calls.forget_some_of(id, self.work.steps.left());
            self.work.steps.take(calls.len().max(1));
            for call in calls {
                self.hear_call(call, Answered::Gone(&ending.error));
            }
        }
        self.forget_triggers_of(id, u64::MAX);
        while self.work.steps.take_one()
            && let Some(trigger_id) = ending.lost.next()
        {
            self.triggers.release_lost(id, &trigger_id);
        }
        while self.work.steps.take_one()
            && let Some(trigger_type) = ending.types.next()
        {
            if self.triggers.forget_type(&trigger_type, id) {
                self.retype(trigger_type, None);
            }
        }
        self.work.steps.are_left()
    }

    /// Removes triggers of that worker as this turn may: those registered before the `until`th.
    fn forget_triggers_of(&mut self, id: SlotId, until: u64) {
        let is_link = self.attached.is_some();
        while self.work.steps.are_left() {
            let most = self.work.steps.left();
            let (forgotten, gone) = self.triggers.forget_some_of(id, until, most);
            self.work.steps.take(forgotten);
            for trigger in gone {
                self.trigger_gone(&trigger);
                if is_link {
                    self.lose_gate(&trigger);
                }
            }
            if forgotten < most {
                return;
            }
        }
    }

    /// What the engine over that link has handed over so far is forgotten: it does so anew.
    pub(in crate::broker) fn begin_forgetting(&mut self, link: SlotId) {
        let until = self.triggers.next_order();
        self.work.forgettings.push_back(Forgetting { link, until });
    }

    fn go_on_forgetting(&mut self) {
        while self.work.steps.are_left()
            && let Some(forgetting) = self.work.forgettings.front()
        {
            let (link, until) = (forgetting.link, forgetting.until);
            self.forget_triggers_of(link, until);
            if self.triggers.has_some_of(link, until) {
                return;
            }
            self.work.forgettings.pop_front();
        }
    }

    /// Whether something is left of what an engine handed over that is to do so anew.
    pub fn is_forgetting(&self) -> bool {
        !self.work.forgettings.is_empty() || !self.work.endings.is_empty()
    }

    /// A worker stands there from now on, and so does what it has registered. Its socket is left unread
    /// meanwhile.
    pub(in crate::broker) fn begin_settling(&mut self, id: SlotId, namespace: Text) {
        self.hold_for_work(Some(id));
        self.work.settlings.push_back(Settling {
            id,
            namespace,
            after: None,
            triggers_from: 0,
        });
    }

    fn go_on_settling(&mut self) {
        while self.work.steps.are_left()
            && let Some(mut settling) = self.work.settlings.pop_front()
        {
            match self.settle_some(&mut settling) {
                true => self.release_after_work(Some(settling.id)),
                false => self.work.settlings.push_front(settling),
            }
        }
    }

    /// Moves as much as this turn may. True when nothing is left.
    fn settle_some(&mut self, settling: &mut Settling) -> bool {
        let (id, name) = (settling.id, &settling.namespace);
        let peer = self.members.get(id);
        if peer.is_none_or(|peer| peer.namespace.as_ref() != Some(name)) {
            return true; // it has ended
        }
        let mut is_hook = false;
        while self.work.steps.take_one()
            && let Some(function_id) = self.function_behind(id, settling.after.as_deref())
        {
            is_hook |= self.settle_function_in(id, &function_id, name);
            settling.after = Some(function_id);
        }
        self.functions_changed(is_hook);
        if !self.work.steps.are_left() {
            return false;
        }
        let (most, from) = (self.work.steps.left(), settling.triggers_from);
        let (settled, next) = self.triggers.settle_some_in(id, name, from, most);
        self.work.steps.take(settled.max(1));
        settling.triggers_from = next.unwrap_or(u64::MAX);
        next.is_none() && self.work.steps.are_left()
    }

    /// The next function that the worker has registered.
    pub(in crate::broker) fn function_behind(
        &self,
        id: SlotId,
        after: Option<&str>,
    ) -> Option<Box<str>> {
        let functions = &self.members.get(id)?.functions;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = functions.range::<str, _>((from, Bound::Unbounded));
        behind.next().cloned()
    }

    /// A type has changed hands: its triggers are read again, and handed to who serves it.
    pub(in crate::broker) fn retype(&mut self, trigger_type: Box<str>, server: Option<SlotId>) {
        self.hooks.change();
        self.hold_for_work(server);
        self.work.retypings.push_back(Retyping {
            trigger_type,
            server,
            from: 0,
            until: self.triggers.next_order(),
        });
    }

    pub(in crate::broker) fn go_on_retyping(&mut self) {
        while self.work.steps.are_left()
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
        self.work.steps.take(1);
        for slot in slots {
            let bytes = self.triggers.get(slot).map_or(0, Trigger::held_bytes);
            self.work.steps.take(1);
            self.work.steps.take_bytes(bytes);
            if let Some(server) = retyping.server {
                self.hand_over(server, slot);
            }
        }
        self.hooks.change();
        retyping.from = next.unwrap_or(until);
        next.is_none()
    }

    /// Whether who serves its type has heard of the trigger.
    pub(in crate::broker) fn was_handed_over(&self, trigger: &Trigger) -> bool {
        !self.work.retypings.iter().any(|retyping| {
            (retyping.from..retyping.until).contains(&trigger.order)
                && *retyping.trigger_type == *trigger.trigger_type
        })
    }
}
