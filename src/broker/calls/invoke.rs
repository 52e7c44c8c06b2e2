//! What an SDK worker calls: a function of another one, of its listener's middleware, or one of ours. Who
//! may, and what is said to who may not.

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::id::SlotId;
use crate::metrics::CallOutcome;
use crate::protocol::answer::Outgoing;
use crate::protocol::call::{Action, ErrorBody, Invoke};
use crate::protocol::function::OVERLOADED;
use crate::protocol::input::StreamFunction;

use crate::broker::Broker;
use crate::broker::awaits::{Awaits, Cause, function_not_found};
use crate::broker::caller::Caller;
use crate::broker::calls::Calls;
use crate::broker::calls::answers::number_of;
use crate::broker::registry::is_own;
use crate::broker::target::FunctionRef;
use crate::broker::turn::Turn;

impl Broker {
    /// An SDK worker calls a function. A worker's own comes before ours of the same id.
    pub(in crate::broker) fn invoke(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        let turn = &mut self.turn;
        let namespace = turn.members.namespace_of(id, invoke.namespace.as_deref());
        let function = FunctionRef::new(&invoke.function_id, namespace.as_deref());
        if let Err(error) = self.functions.may_call(&turn.members, id, function) {
            return self.calls.forbid(turn, id, invoke, &error);
        }
        if self.invoke_middleware(id, invoke) {
            return;
        }
        // A void call is answered by nobody, whatever its id.
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller::new(id, call_id, &invoke.trace)),
        };
        let turn = &mut self.turn;
        if caller.is_none() {
            let function = StreamFunction::from_id(&invoke.function_id);
            turn.metrics()
                .count_call(number_of(function), CallOutcome::Void);
        }
        if let Action::Enqueue { .. } = invoke.action {
            let error = ErrorBody::new("enqueue_error", "QueueModule not loaded");
            let function_id = &invoke.function_id;
            return self.calls.fail(turn, Some(id), caller, function_id, &error);
        }
        if let Some(callee) = self.functions.find(function) {
            let function_id = &invoke.function_id;
            let call = Outgoing {
                caller: turn.members.get(id).map(|peer| peer.worker_id),
                ..passed_on(function_id, invoke, invoke.data)
            };
            let calls = &mut self.calls;
            return calls.pass_on(turn, id, callee, caller, function_id, &call);
        }
        if let Some(function) = StreamFunction::from_id(&invoke.function_id) {
            self.invoke_stream(Some(id), caller, function, invoke.data);
            return;
        }
        if is_own(&invoke.function_id) {
            self.invoke_own(Some(id), caller, &invoke.function_id, invoke.data);
            return;
        }
        let error = function_not_found(&invoke.function_id);
        self.calls
            .fail(turn, Some(id), caller, &invoke.function_id, &error);
    }
}

impl Calls {
    /// A caller hears that it may not, also of a call whose answer it does not wait for.
    fn forbid(&self, turn: &mut Turn, id: SlotId, invoke: &Invoke<'_>, error: &ErrorBody) {
        let call_id = match invoke.action {
            Action::Void => None,
            _ => invoke.id,
        };
        if call_id.is_none() {
            turn.warn_of_void(Some(id), &invoke.function_id, error);
        }
        let caller = Caller::new(id, call_id.unwrap_or_else(Uuid::new_v4), &invoke.trace);
        self.answer_error(turn, Some(caller), &invoke.function_id, error);
    }

    /// A call of the worker `id` goes to who has the function. `called_as`: what that worker has called.
    pub(in crate::broker) fn pass_on(
        &mut self,
        turn: &mut Turn,
        id: SlotId,
        callee: SlotId,
        caller: Option<Caller>,
        called_as: &str,
        call: &Outgoing<'_>,
    ) {
        let waits = caller.is_some();
        if let Some(cause) =
            self.refusal(turn, (id, callee), waits, [Some(call.data), call.metadata])
        {
            turn.metrics().calls_refused.increment();
            let error = ErrorBody::new("invocation_error", cause);
            return self.fail(turn, Some(id), caller, called_as, &error);
        }
        match caller {
            Some(caller) => {
                self.send_call(turn, callee, call, Awaits::Caller(caller), called_as);
            }
            None => turn.write_call(callee, &Uuid::new_v4(), call),
        }
    }

    /// Why a call of an SDK worker's function is refused, if it is.
    fn refusal(
        &self,
        turn: &Turn,
        (id, callee): (SlotId, SlotId),
        waits: bool,
        texts: [Option<&str>; 2],
    ) -> Option<String> {
        let mut texts = texts.into_iter().flatten();
        if let Err(why) = texts.try_for_each(|text| turn.check_passed_on(text)) {
            return Some(why);
        }
        if waits && !self.may_wait(turn, Cause::Callers) {
            return Some(OVERLOADED.to_owned());
        }
        // What a worker sends itself is bounded by its own socket being left unread.
        let cause = (callee != id).then(|| turn.no_room_at(callee));
        cause.flatten().map(str::to_owned)
    }
}

/// The call of that function with that input, as it is passed on.
pub(in crate::broker) fn passed_on<'a>(
    function_id: &'a str,
    invoke: &'a Invoke<'_>,
    data: &'a str,
) -> Outgoing<'a> {
    Outgoing {
        metadata: invoke.metadata.map(RawValue::get),
        traceparent: invoke.trace.traceparent.as_deref(),
        baggage: invoke.trace.baggage.as_deref(),
        ..Outgoing::own(function_id, data)
    }
}
