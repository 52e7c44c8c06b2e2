//! What an SDK worker calls: a function of another one, of its listener's middleware, or one of ours. Who
//! may, and what is said to who may not.

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::metrics::CallOutcome;
use crate::protocol::answer::Outgoing;
use crate::protocol::call::{Action, ErrorBody, Invoke};
use crate::protocol::input::{StreamFunction, limit_exceeded};
use crate::protocol::json::value::{self, ValueError};

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::answers::number_of;
use crate::broker::calls::awaits::{Awaits, Cause, function_not_found};
use crate::broker::target::FunctionRef;

impl Broker {
    pub(in crate::broker) fn invoke(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        let namespace = self.namespace_of(id, invoke.namespace.as_deref());
        let function = FunctionRef::new(&invoke.function_id, namespace.as_deref());
        if let Err(error) = self.may_call(id, function) {
            return self.forbid(id, invoke, &error);
        }
        if self.invoke_middleware(id, invoke) {
            return;
        }
        // A void call is answered by nobody, whatever its id.
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller::new(id, call_id, &invoke.trace)),
        };
        if caller.is_none() {
            let function = StreamFunction::from_id(&invoke.function_id);
            self.metrics()
                .count_call(number_of(function), CallOutcome::Void);
        }
        if let Action::Enqueue { .. } = invoke.action {
            let error = ErrorBody::new("enqueue_error", "QueueModule not loaded");
            return self.fail(Some(id), caller, &invoke.function_id, &error);
        }
        if let Some(callee) = self.functions.find(function) {
            return self.invoke_function(id, callee, caller, invoke);
        }
        if let Some(function) = StreamFunction::from_id(&invoke.function_id) {
            self.invoke_stream(Some(id), caller, function, invoke.data);
            return;
        }
        if self.has_own(&invoke.function_id) {
            self.invoke_own(Some(id), caller, &invoke.function_id, invoke.data);
            return;
        }
        let error = function_not_found(&invoke.function_id);
        self.fail(Some(id), caller, &invoke.function_id, &error);
    }

    /// Where that worker's word is looked up first: where it says, or else where it stands itself.
    pub(in crate::broker) fn namespace_of(&self, id: SlotId, named: Option<&str>) -> Option<Text> {
        match named {
            Some(named) => Some(named.into()),
            None => self.members.get(id)?.namespace.clone(),
        }
    }

    /// What counts is where the function stands that the call would reach.
    pub(in crate::broker) fn may_call(
        &self,
        id: SlotId,
        function: FunctionRef<'_>,
    ) -> Result<(), ErrorBody> {
        let found = self.functions.found_as(function);
        let found = found.unwrap_or(FunctionRef::plain(function.id));
        let metadata = self.functions.metadata_of(found);
        let peer = self.members.get(id);
        peer.map_or(Ok(()), |peer| {
            peer.access.may_call(found.namespace, found.id, metadata)
        })
    }

    /// A caller hears that it may not, also of a call whose answer it does not wait for.
    fn forbid(&mut self, id: SlotId, invoke: &Invoke<'_>, error: &ErrorBody) {
        let call_id = match invoke.action {
            Action::Void => None,
            _ => invoke.id,
        };
        if call_id.is_none() {
            self.warn_of_void(Some(id), &invoke.function_id, error);
        }
        let caller = Caller::new(id, call_id.unwrap_or_else(Uuid::new_v4), &invoke.trace);
        self.answer_error(Some(caller), &invoke.function_id, error);
    }

    /// A call of a function of some SDK worker.
    fn invoke_function(
        &mut self,
        id: SlotId,
        callee: SlotId,
        caller: Option<Caller>,
        invoke: &Invoke<'_>,
    ) {
        let metadata = invoke.metadata.map(RawValue::get);
        if let Some(cause) =
            self.refusal(id, callee, caller.is_some(), [Some(invoke.data), metadata])
        {
            self.metrics().calls_refused.increment();
            let error = ErrorBody::new("invocation_error", cause);
            return self.fail(Some(id), caller, &invoke.function_id, &error);
        }
        let call = Outgoing {
            metadata,
            caller: self.members.get(id).map(|peer| peer.worker_id),
            traceparent: invoke.trace.traceparent.as_deref(),
            baggage: invoke.trace.baggage.as_deref(),
            ..Outgoing::own(&invoke.function_id, invoke.data)
        };
        match caller {
            Some(caller) => {
                self.send_call(callee, &call, Awaits::Caller(caller), &invoke.function_id);
            }
            None => self.write_call(callee, &Uuid::new_v4(), &call),
        }
    }

    /// A call goes to the middleware function in place of the one that it names.
    pub(in crate::broker) fn put_to_middleware(
        &mut self,
        id: SlotId,
        callee: SlotId,
        caller: Option<Caller>,
        middleware: &str,
        invoke: &Invoke<'_>,
        input: &str,
    ) {
        let metadata = invoke.metadata.map(RawValue::get);
        let texts = [Some(input), metadata];
        if let Some(cause) = self.refusal(id, callee, caller.is_some(), texts) {
            self.metrics().calls_refused.increment();
            let error = ErrorBody::new("invocation_error", cause);
            return self.fail(Some(id), caller, &invoke.function_id, &error);
        }
        let call = Outgoing {
            metadata,
            traceparent: invoke.trace.traceparent.as_deref(),
            baggage: invoke.trace.baggage.as_deref(),
            ..Outgoing::own(middleware, input)
        };
        match caller {
            Some(caller) => {
                self.send_call(callee, &call, Awaits::Caller(caller), &invoke.function_id);
            }
            None => self.write_call(callee, &Uuid::new_v4(), &call),
        }
    }

    /// Why a call of an SDK worker's function is refused, if it is.
    fn refusal(
        &self,
        id: SlotId,
        callee: SlotId,
        waits: bool,
        texts: [Option<&str>; 2],
    ) -> Option<String> {
        let mut texts = texts.into_iter().flatten();
        if let Err(why) = texts.try_for_each(|text| self.check_passed_on(text)) {
            return Some(why);
        }
        // What a worker sends itself is bounded by its own socket being left unread.
        let unsent_max = match callee == id {
            true => usize::MAX,
            false => self.unsent_max(),
        };
        let waits_as = waits.then_some(Cause::Callers);
        self.no_room_for(callee, waits_as, unsent_max)
            .map(str::to_owned)
    }

    /// Whether SDK workers can read what another one sends them. What stands inside `data` may be as
    /// deep as a value; `data` itself is one level more.
    pub(in crate::broker) fn check_passed_on(&self, json: &str) -> Result<(), String> {
        let depth_max = self.limits.json_depth;
        value::check(json, depth_max + 1).map_err(|why| match why {
            ValueError::TooDeep { depth } => {
                limit_exceeded("limits.json_depth", depth - 1, depth_max)
            }
            other => other.to_string(),
        })
    }
}
