//! Calls of SDK workers' functions, whoever wants them. Where their answers go stands in `hear`.
//!
//! The broker calls functions for SDK workers and for the server itself: triggers, conditions, joins,
//! upgrades, custom stores. All take the same way out and back; what differs is who awaits the answer.

use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::protocol::answer::Outgoing;
use crate::protocol::call::ErrorBody;
use crate::protocol::input::StreamFunction;

use crate::broker::Broker;
use crate::broker::awaits::{Answered, Awaits, Cause, Handler};
use crate::broker::calls::Calls;
use crate::broker::ended::How;
use crate::broker::outgoing::refused_as_too_long;
use crate::broker::registry::callee::Callee;
use crate::broker::registry::is_own;
use crate::broker::target::FunctionRef;
use crate::broker::turn::Turn;
use crate::protocol::function::OVERLOADED;

impl Broker {
    /// Calls a function for the server itself; `awaits` says who hears how the call ended.
    pub(in crate::broker) fn ask(&mut self, call: &Outgoing<'_>, awaits: Awaits) {
        let turn = &mut self.turn;
        let function = FunctionRef::new(call.function_id, call.namespace);
        match (self.functions.callee_of(turn, function), &mut self.attached) {
            // Behind those that waited for the link.
            (Callee::Peer(_), Some(attached))
                if attached.has_waiting_calls(turn) && awaits.may_wait_for_link() =>
            {
                attached.wait_for_link(turn, call, awaits);
            }
            (Callee::Away, Some(attached)) => attached.wait_for_link(turn, call, awaits),
            (Callee::Peer(callee), _) => self.calls.ask_at(turn, callee, call, awaits),
            (Callee::Nobody | Callee::Away, _) => {
                turn.end_call(awaits, call.function_id, How::NotFound);
            }
        }
    }

    /// Calls the handler of a trigger, once its condition has let it. False as in
    /// [`Broker::call_handler`].
    pub(in crate::broker) fn fire(&mut self, condition: Option<&str>, handler: Handler) -> bool {
        let Some(condition) = condition else {
            return self.call_handler(&handler);
        };
        let function = handler.target.beside(condition);
        match self
            .functions
            .may_fire(&self.turn.members, handler.on_behalf, function)
        {
            false => self.turn.warn_of_trigger(&handler, condition),
            true => {
                let payload = Text::clone(&handler.payload);
                let namespace = handler.target.namespace.clone();
                let asked = Outgoing {
                    namespace: namespace.as_deref(),
                    ..Outgoing::own(condition, &payload)
                };
                self.ask(&asked, Awaits::Condition(Box::new(handler)));
            }
        }
        true
    }

    /// Calls the handler of a trigger. Nobody waits for its answer; an error is logged. False: it is a
    /// function of ours, which cannot read its input.
    pub(in crate::broker) fn call_handler(&mut self, handler: &Handler) -> bool {
        let function = handler.target.function();
        if !self
            .functions
            .may_fire(&self.turn.members, handler.on_behalf, function)
        {
            self.turn.warn_of_trigger(handler, function.id);
            return true;
        }
        match self.functions.callee_of(&self.turn, function) {
            Callee::Peer(callee) => self.calls.call_handler_at(&mut self.turn, callee, handler),
            Callee::Nobody => return self.call_own_handler(handler),
            Callee::Away => self.turn.metrics().trigger_calls_dropped.increment(),
        }
        true
    }

    /// A trigger may call a function of our own as well: as a void call does.
    fn call_own_handler(&mut self, handler: &Handler) -> bool {
        let function_id = &*handler.target.function_id;
        match StreamFunction::from_id(function_id) {
            Some(function) => self.invoke_stream(None, None, function, &handler.payload),
            None if is_own(function_id) => {
                self.invoke_own(None, None, function_id, &handler.payload)
            }
            None => {
                self.turn.log_failure(function_id, Answered::NotFound);
                true
            }
        }
    }
}

impl Calls {
    /// Calls a function for the server itself, where it is known whose it is.
    pub(in crate::broker) fn ask_at(
        &mut self,
        turn: &mut Turn,
        callee: SlotId,
        call: &Outgoing<'_>,
        awaits: Awaits,
    ) {
        if let Some(cause) = self.no_room_to_ask(turn, callee, &awaits) {
            return turn.end_call(awaits, call.function_id, How::Refused(cause.into()));
        }
        if turn.members.is_link(callee)
            && let Some(cause) = refused_as_too_long(call)
        {
            turn.metrics().calls_refused.increment();
            return turn.end_call(awaits, call.function_id, How::Refused(cause.into()));
        }
        self.send_call(turn, callee, call, awaits, call.function_id);
    }

    /// Why that callee cannot be asked now, if it cannot. What is owed has found room before it was taken.
    fn no_room_to_ask(&self, turn: &Turn, callee: SlotId, awaits: &Awaits) -> Option<&'static str> {
        if awaits.is_owed() {
            return None;
        }
        let cause = awaits.cause();
        let why = self.no_room_for(turn, callee, cause)?;
        match cause {
            Cause::Conditions => turn.metrics().trigger_calls_dropped.increment(),
            _ => turn.metrics().calls_refused.increment(),
        }
        Some(why)
    }

    /// Whether one more call of that cause may wait for its answer.
    pub(super) fn may_wait(&self, turn: &Turn, cause: Cause) -> bool {
        let load = self.load(cause);
        let len_max = match cause {
            Cause::Joins => turn.limits.joins_in_flight,
            _ => turn.limits.calls_in_flight,
        };
        load.len < len_max && load.bytes <= turn.calls_bytes_max()
    }

    /// Whether one more call of a condition may wait whose trigger is owed what it tells.
    pub(in crate::broker) fn may_owe(&self, turn: &Turn) -> bool {
        let owed = self.load(Cause::Debts);
        owed.bytes <= turn.calls_bytes_max() && owed.len < turn.limits.calls_in_flight
    }

    /// Why a call that somebody waits for finds no room, if it finds none.
    pub(super) fn no_room_for(
        &self,
        turn: &Turn,
        callee: SlotId,
        waits_as: Cause,
    ) -> Option<&'static str> {
        match self.may_wait(turn, waits_as) {
            true => turn.no_room_at(callee),
            false => Some(OVERLOADED),
        }
    }

    /// Calls the handler of a trigger, where it is known whose it is.
    fn call_handler_at(&mut self, turn: &mut Turn, callee: SlotId, handler: &Handler) {
        let function_id = &*handler.target.function_id;
        if turn.no_room_at(callee).is_some() && !handler.is_owed {
            return turn.drop_handler_call(callee, function_id);
        }
        let call = handler.target.call(&handler.payload);
        if turn.members.is_link(callee)
            && let Some(cause) = refused_as_too_long(&call)
        {
            turn.metrics().trigger_calls_dropped.increment();
            return turn.log_failure(function_id, Answered::Refused(&cause));
        }
        turn.metrics().trigger_calls.increment();
        if self.may_wait(turn, Cause::Handlers) {
            self.send_call(turn, callee, &call, Awaits::Nobody, function_id);
        } else {
            turn.write_call(callee, &Uuid::new_v4(), &call);
        }
    }

    /// Sends a call whose answer is awaited. `called_as` is what its caller called.
    pub(in crate::broker) fn send_call(
        &mut self,
        turn: &mut Turn,
        callee: SlotId,
        call: &Outgoing<'_>,
        awaits: Awaits,
        called_as: &str,
    ) {
        let timeout = awaits.timeout().unwrap_or(turn.call_timeout);
        let now = turn.now.monotonic;
        let (sent_id, older) = self.begin_function(awaits, called_as, callee, now, timeout);
        if let Some(older) = older {
            let error = ErrorBody::new("invocation_error", "channel closed");
            turn.end_call(older.awaits, &older.function_id, How::Failed(error));
        }
        turn.write_call(callee, &sent_id, call);
    }
}
