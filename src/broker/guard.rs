//! What workers of a listener with rules may not do to others: take over what others have, or have a
//! trigger call what they may not call themselves.
//!
//! What such a worker may call and register at all stands in `protocol::rbac`.

use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::custom;
use crate::protocol::input::StreamFunction;
use crate::protocol::trigger::TriggerType;

use crate::broker::Broker;
use crate::broker::registry::custom_of;
use crate::broker::target::FunctionRef;
use crate::broker::triggers::trigger::Called;

impl Broker {
    /// The number of the worker's listener, if that has rules.
    pub(in crate::broker) fn guard_of(&self, id: SlotId) -> Option<usize> {
        let peer = self.members.get(id)?;
        peer.access.has_rules().then_some(peer.listener)
    }

    /// Whether a trigger may call that function. `on_behalf`: whose trigger it is, if its owner's
    /// listener has rules.
    pub(in crate::broker) fn may_fire(
        &self,
        on_behalf: Option<SlotId>,
        function: FunctionRef<'_>,
    ) -> bool {
        on_behalf.is_none_or(|owner| {
            let is_there = self.members.get(owner).is_some();
            let is_own = self.functions.find(function) == Some(owner);
            is_there && (is_own || self.may_call(owner, function).is_ok())
        })
    }

    /// The same for its condition as well.
    pub(in crate::broker) fn may_call_all_of(&self, called: &Called) -> bool {
        let condition = called.condition.as_deref();
        let condition = condition.map(|condition| called.target.beside(condition));
        let named = [condition, Some(called.target.function())];
        let mut named = named.into_iter().flatten();
        named.all(|function| self.may_fire(called.on_behalf, function))
    }

    /// The same at the registration: a function that nobody has yet may come to be its own.
    pub(in crate::broker) fn check_called_by_trigger(
        &self,
        id: SlotId,
        function: FunctionRef<'_>,
    ) -> Result<(), ErrorBody> {
        let owner = self.functions.find(function);
        let is_others = owner.is_some_and(|owner| owner != id) || self.has_own(function.id);
        match is_others {
            true => self.may_call(id, function),
            false => Ok(()),
        }
    }

    /// Why a worker may not register a function of that id, if it may not.
    pub(in crate::broker) fn why_not_registered(
        &self,
        id: SlotId,
        function: FunctionRef<'_>,
    ) -> Option<&'static str> {
        let listener = self.guard_of(id)?;
        let function_id = function.id;
        let asks_for_sockets = self.of_listeners.ask(function_id)
            || self.auth.function_id.as_deref() == Some(function_id);
        if asks_for_sockets {
            return Some("it decides who may connect, or do what");
        }
        if self.has_own(function_id) {
            return Some("it is the server's own");
        }
        if self.is_of_another_listener(function, listener)
            || self.is_stored_by_another_listener(function, listener)
        {
            return Some("a worker of another listener has it");
        }
        self.triggers
            .is_join_function_of_others(function_id, listener)
            .then_some("it decides about joins")
    }

    /// Why a worker may not serve that trigger type, if it may not.
    pub(in crate::broker) fn why_not_served(
        &self,
        id: SlotId,
        trigger_type: &str,
    ) -> Option<&'static str> {
        self.guard_of(id)?;
        if TriggerType::from_id(trigger_type).is_some() {
            return Some("it is the server's own");
        }
        let server = self.triggers.server_of(trigger_type);
        server
            .is_some_and(|server| server != id)
            .then_some("another worker serves it")
    }

    fn is_of_another_listener(&self, function: FunctionRef<'_>, listener: usize) -> bool {
        let owner = self.functions.owner_of(function);
        let owner = owner.and_then(|owner| self.members.get(owner));
        owner.is_some_and(|owner| owner.listener != listener)
    }

    /// Whether it is a function of a stream that has others in place of ours.
    fn is_stored_by_another_listener(&self, function: FunctionRef<'_>, listener: usize) -> bool {
        let Some((_, stream)) = custom_of(function) else {
            return false;
        };
        let Some(functions) = self.functions.custom().get(stream) else {
            return false;
        };
        StreamFunction::ALL.iter().any(|function| {
            let id = custom::function_id(*function, stream);
            functions.has(*function)
                && self.is_of_another_listener(FunctionRef::plain(&id), listener)
        })
    }
}
