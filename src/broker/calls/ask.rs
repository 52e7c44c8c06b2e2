//! Calls of SDK workers' functions, whoever wants them. Where their answers go stands in `hear`.
//!
//! The broker calls functions for SDK workers and for the server itself: triggers, conditions, joins,
//! upgrades, custom stores. All take the same way out and back; what differs is who awaits the answer.

use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::notes::Shown;
use crate::protocol::answer::{self, Outgoing};
use crate::protocol::call::ErrorBody;
use crate::protocol::input::StreamFunction;

use crate::broker::Broker;
use crate::broker::calls::callee::Callee;
use crate::broker::calls::ended::How;
use crate::broker::calls::{Answered, Awaits, Cause, Handler};
use crate::broker::lines::Level;
use crate::broker::outgoing::refused_as_too_long;
use crate::broker::target::FunctionRef;
use crate::protocol::function::OVERLOADED;

/// What calls of one cause may hold at least, however little `limits.call_queue_bytes` is.
const CALLS_BYTES_MIN: usize = 1024 * 1024;

/// So many times `limits.call_queue_bytes` may wait unsent for all sockets together.
const UNSENT_OF_ALL: usize = 8;

impl Broker {
    /// Calls a function for the server itself; `awaits` says who hears how the call ended.
    pub(in crate::broker) fn ask(&mut self, call: &Outgoing<'_>, awaits: Awaits) {
        match self.callee_of(FunctionRef::new(call.function_id, call.namespace)) {
            // Behind those that waited for the link.
            Callee::Peer(_) if self.has_waiting_calls() && awaits.may_wait_for_link() => {
                self.wait_for_link(call, awaits);
            }
            Callee::Peer(callee) => self.ask_at(callee, call, awaits),
            Callee::Nobody => self.end_call(awaits, call.function_id, How::NotFound),
            Callee::Away => self.wait_for_link(call, awaits),
        }
    }

    /// The same where it is known whose the function is.
    pub(in crate::broker) fn ask_at(
        &mut self,
        callee: SlotId,
        call: &Outgoing<'_>,
        awaits: Awaits,
    ) {
        if let Some(cause) = self.no_room_to_ask(callee, &awaits) {
            return self.end_call(awaits, call.function_id, How::Refused(cause.into()));
        }
        if self.is_link(callee)
            && let Some(cause) = refused_as_too_long(call)
        {
            self.metrics().calls_refused.increment();
            return self.end_call(awaits, call.function_id, How::Refused(cause.into()));
        }
        self.send_call(callee, call, awaits, call.function_id);
    }

    /// Why that callee cannot be asked now, if it cannot. What is owed has found room before it was taken.
    fn no_room_to_ask(&self, callee: SlotId, awaits: &Awaits) -> Option<&'static str> {
        if awaits.is_owed() {
            return None;
        }
        let cause = awaits.cause();
        let why = self.no_room_for(callee, Some(cause), self.unsent_max())?;
        match cause {
            Cause::Conditions => self.metrics().trigger_calls_dropped.increment(),
            _ => self.metrics().calls_refused.increment(),
        }
        Some(why)
    }

    /// Whether one more call of that cause may wait for its answer.
    pub(in crate::broker) fn may_wait(&self, cause: Cause) -> bool {
        let load = self.calls.load(cause);
        let len_max = match cause {
            Cause::Joins => self.limits.joins_in_flight,
            _ => self.limits.calls_in_flight,
        };
        load.len < len_max && load.bytes <= self.calls_bytes_max()
    }

    /// What may wait unsent for one socket: less when too much waits for all of them together.
    pub fn unsent_max(&self) -> usize {
        let one = self.limits.call_queue_bytes;
        let all = one.saturating_mul(UNSENT_OF_ALL);
        match self.members.unsent_bytes() > all {
            true => all / self.limits.worker_connections.max(UNSENT_OF_ALL),
            false => one,
        }
    }

    /// What calls of one cause may hold.
    pub(in crate::broker) fn calls_bytes_max(&self) -> usize {
        self.limits.call_queue_bytes.max(CALLS_BYTES_MIN)
    }

    /// Calls the handler of a trigger, once its condition has let it. False as in
    /// [`Broker::call_handler`].
    pub(in crate::broker) fn fire(&mut self, condition: Option<&str>, handler: Handler) -> bool {
        match condition {
            Some(condition)
                if !self.may_fire(handler.on_behalf, handler.target.beside(condition)) =>
            {
                self.warn_of_trigger(&handler, condition);
            }
            Some(condition) => {
                let payload = Text::clone(&handler.payload);
                let namespace = handler.target.namespace.clone();
                let asked = Outgoing {
                    namespace: namespace.as_deref(),
                    ..Outgoing::own(condition, &payload)
                };
                self.ask(&asked, Awaits::Condition(Box::new(handler)));
            }
            None => return self.call_handler(&handler),
        }
        true
    }

    /// Calls the handler of a trigger. Nobody waits for its answer; an error is logged. False: it is a
    /// function of ours, which cannot read its input.
    pub(in crate::broker) fn call_handler(&mut self, handler: &Handler) -> bool {
        let function_id = &*handler.target.function_id;
        if !self.may_fire(handler.on_behalf, handler.target.function()) {
            self.warn_of_trigger(handler, function_id);
            return true;
        }
        match self.callee_of(handler.target.function()) {
            Callee::Peer(callee) => self.call_handler_at(callee, handler),
            Callee::Nobody => return self.call_own_handler(handler),
            Callee::Away => self.metrics().trigger_calls_dropped.increment(),
        }
        true
    }

    fn call_handler_at(&mut self, callee: SlotId, handler: &Handler) {
        let function_id = &*handler.target.function_id;
        let unsent_bytes = self
            .members
            .get(callee)
            .map_or(0, |member| member.unsent_bytes());
        if unsent_bytes > self.unsent_max() && !handler.is_owed {
            return self.drop_handler_call(callee, function_id);
        }
        let call = handler.target.call(&handler.payload);
        if self.is_link(callee)
            && let Some(cause) = refused_as_too_long(&call)
        {
            self.metrics().trigger_calls_dropped.increment();
            return self.log_failure(function_id, Answered::Refused(&cause));
        }
        self.metrics().trigger_calls.increment();
        if self.may_wait(Cause::Handlers) {
            self.send_call(callee, &call, Awaits::Nobody, function_id);
        } else {
            self.write_call(callee, &Uuid::new_v4(), &call);
        }
    }

    fn warn_of_trigger(&mut self, handler: &Handler, function_id: &str) {
        if let Some(owner) = handler.on_behalf {
            let what = format_args!(
                "a trigger of it calls {}, which it may not: not called",
                Shown(function_id)
            );
            self.warn_of(owner, "trigger that may not call", function_id, what);
        }
    }

    /// A trigger may call a function of our own as well: as a void call does.
    fn call_own_handler(&mut self, handler: &Handler) -> bool {
        let function_id = &*handler.target.function_id;
        match StreamFunction::from_id(function_id) {
            Some(function) => self.invoke_stream(None, None, function, &handler.payload),
            None if self.has_own(function_id) => {
                self.invoke_own(None, None, function_id, &handler.payload)
            }
            None => {
                self.log_failure(function_id, Answered::NotFound);
                true
            }
        }
    }

    pub(in crate::broker) fn drop_handler_call(&mut self, callee: SlotId, function_id: &str) {
        self.metrics().trigger_calls_dropped.increment();
        let now = self.now.monotonic;
        let peer = self.members.get_mut(callee);
        let Some(passed_over) = peer.and_then(|peer| peer.drops.ask(now)) else {
            return;
        };
        let (name, drops) = (self.name_of(callee), passed_over + 1);
        let limit = self.limits.call_queue_bytes;
        self.lines.say(
            Level::Warn,
            format!(
                "{name} reads too slowly: more than {limit} bytes wait for it \
                 (limits.call_queue_bytes), so {drops} trigger calls were dropped, the last of {}",
                Shown(function_id)
            ),
        );
    }

    /// Why a call that somebody waits for finds no room, if it finds none.
    pub(in crate::broker) fn no_room_for(
        &self,
        callee: SlotId,
        waits_as: Option<Cause>,
        unsent_max: usize,
    ) -> Option<&'static str> {
        let unsent_bytes = self
            .members
            .get(callee)
            .map_or(0, |member| member.unsent_bytes());
        let is_full =
            waits_as.is_some_and(|cause| !self.may_wait(cause)) || unsent_bytes > unsent_max;
        is_full.then_some(OVERLOADED)
    }

    /// Sends a call whose answer is awaited. `called_as` is what its caller called.
    pub(in crate::broker) fn send_call(
        &mut self,
        callee: SlotId,
        call: &Outgoing<'_>,
        awaits: Awaits,
        called_as: &str,
    ) {
        let timeout = match &awaits {
            Awaits::Auth { .. } => self.auth.timeout,
            _ => self.call_timeout,
        };
        let now = self.now.monotonic;
        let (sent_id, older) = self
            .calls
            .begin_function(awaits, called_as, callee, now, timeout);
        if let Some(older) = older {
            let error = ErrorBody::new("invocation_error", "channel closed");
            self.end_call(older.awaits, &older.function_id, How::Failed(error));
        }
        self.write_call(callee, &sent_id, call);
    }

    pub(in crate::broker) fn write_call(
        &mut self,
        callee: SlotId,
        sent_id: &Uuid,
        call: &Outgoing<'_>,
    ) {
        let Some(peer) = self.members.get(callee) else {
            return;
        };
        let renamed = peer.names.functions.inner(call.function_id);
        let renamed = renamed.map(Box::<str>::from);
        let known_as = peer.access.inner_id(call.function_id);
        let call = Outgoing {
            function_id: renamed.as_deref().unwrap_or(known_as),
            // An SDK worker knows where its functions stand: that is for an engine.
            namespace: call.namespace.filter(|_| peer.is_link()),
            ..*call
        };
        self.members.send(callee, |out| {
            answer::invoke_function(out, sent_id, &call);
        });
    }
}
