//! What workers of a listener with rules may not do to others: take over what others have, or have a
//! trigger call what they may not call themselves.
//!
//! What such a worker may call and register at all stands in `protocol::rbac`.

use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::custom;
use crate::protocol::input::StreamFunction;

use crate::broker::Broker;
use crate::broker::members::Members;
use crate::broker::registry::{Functions, custom_of, is_own};
use crate::broker::target::FunctionRef;

impl Functions {
    /// What counts is where the function stands that the call would reach.
    pub(in crate::broker) fn may_call(
        &self,
        members: &Members,
        id: SlotId,
        function: FunctionRef<'_>,
    ) -> Result<(), ErrorBody> {
        let found = self.found_as(function);
        let found = found.unwrap_or(FunctionRef::plain(function.id));
        let metadata = self.metadata_of(found);
        let peer = members.get(id);
        peer.map_or(Ok(()), |peer| {
            peer.access.may_call(found.namespace, found.id, metadata)
        })
    }

    /// Whether a trigger may call that function. `on_behalf`: whose trigger it is, if its owner's
    /// listener has rules.
    pub(in crate::broker) fn may_fire(
        &self,
        members: &Members,
        on_behalf: Option<SlotId>,
        function: FunctionRef<'_>,
    ) -> bool {
        on_behalf.is_none_or(|owner| {
            let is_there = members.get(owner).is_some();
            let is_own = self.find(function) == Some(owner);
            is_there && (is_own || self.may_call(members, owner, function).is_ok())
        })
    }

    /// The same at the registration: a function that nobody has yet may come to be its own.
    pub(in crate::broker) fn check_called_by_trigger(
        &self,
        members: &Members,
        id: SlotId,
        function: FunctionRef<'_>,
    ) -> Result<(), ErrorBody> {
        let owner = self.find(function);
        let is_others = owner.is_some_and(|owner| owner != id) || is_own(function.id);
        match is_others {
            true => self.may_call(members, id, function),
            false => Ok(()),
        }
    }

    /// Whether a worker of another listener has it, or has others of its stream in place of ours.
    fn is_of_another_listener(
        &self,
        members: &Members,
        function: FunctionRef<'_>,
        listener: usize,
    ) -> bool {
        let is_elsewhere = |function: FunctionRef<'_>| {
            let owner = self.owner_of(function);
            let owner = owner.and_then(|owner| members.get(owner));
            owner.is_some_and(|owner| owner.listener != listener)
        };
        if is_elsewhere(function) {
            return true;
        }
        let Some((_, stream)) = custom_of(function) else {
            return false;
        };
        let Some(functions) = self.custom().get(stream) else {
            return false;
        };
        StreamFunction::ALL.iter().any(|function| {
            let id = custom::function_id(*function, stream);
            functions.has(*function) && is_elsewhere(FunctionRef::plain(&id))
        })
    }
}

impl Broker {
    /// Why a worker may not register a function of that id, if it may not.
    pub(in crate::broker) fn why_not_registered(
        &self,
        id: SlotId,
        function: FunctionRef<'_>,
    ) -> Option<&'static str> {
        let members = &self.turn.members;
        let listener = members.guard_of(id)?;
        if self.of_listeners.ask(function.id) || self.auth.asks(function.id) {
            return Some("it decides who may connect, or do what");
        }
        if is_own(function.id) {
            return Some("it is the server's own");
        }
        if self
            .functions
            .is_of_another_listener(members, function, listener)
        {
            return Some("a worker of another listener has it");
        }
        self.triggers
            .is_join_function_of_others(function.id, listener)
            .then_some("it decides about joins")
    }
}
