//! Calls of SDK workers' functions, whoever wants them, and where their answers go.
//!
//! The engine calls functions for SDK workers and for itself: triggers, conditions, joins, upgrades,
//! custom stores. All take the same way out and back; what differs is who awaits the answer.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::log::Shown;
use crate::mesh::ToWorker;
use crate::protocol::answer::{self, Outgoing, ResultBody};
use crate::protocol::call::ErrorBody;
use crate::protocol::input::StreamFunction;
use crate::protocol::trigger::{is_false, is_unauthorized};
use crate::shard::{CustomAnswer, Told};

use super::Engine;
use super::callee::Callee;
use super::calls::{Answered, Awaits, Caller, Cause, FunctionCall, Handler, OVERLOADED};
use super::ended::How;
use super::outgoing::refused_as_too_long;
use super::peers::Peer;
use super::presence::Word;
use super::target::FunctionRef;

/// What calls of one cause may hold at least, however little `limits.call_queue_bytes` is.
const CALLS_BYTES_MIN: usize = 1024 * 1024;

/// So many times `limits.call_queue_bytes` may wait unsent for all sockets together.
const UNSENT_OF_ALL: usize = 8;

/// How often one callee's dropped trigger calls are told in the log.
const DROPS_SAID_EVERY: Duration = Duration::from_secs(60);

impl Engine {
    /// Calls a function for the engine itself; `awaits` hears how it ended.
    pub(super) fn ask(&mut self, call: &Outgoing<'_>, awaits: Awaits) {
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
    pub(super) fn ask_at(&mut self, callee: SlotId, call: &Outgoing<'_>, awaits: Awaits) {
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

    /// Why the engine cannot ask now, if it cannot. What is owed has found room before it was taken.
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
    pub(super) fn may_wait(&self, cause: Cause) -> bool {
        let load = self.calls.load(cause);
        let len_max = match cause {
            Cause::Joins => self.limits.joins_in_flight,
            _ => self.limits.calls_in_flight,
        };
        load.len < len_max && load.bytes <= self.calls_bytes_max()
    }

    /// What may wait unsent for one socket: less when too much waits for all of them together.
    pub(super) fn unsent_max(&self) -> usize {
        let one = self.limits.call_queue_bytes;
        let all = one.saturating_mul(UNSENT_OF_ALL);
        match self.peers.unsent_bytes() > all {
            true => all / self.limits.worker_connections.max(UNSENT_OF_ALL),
            false => one,
        }
    }

    /// What calls of one cause may hold.
    pub(super) fn calls_bytes_max(&self) -> usize {
        self.limits.call_queue_bytes.max(CALLS_BYTES_MIN)
    }

    /// Calls the handler of a trigger, once its condition has let it. False as in
    /// [`Engine::call_handler`].
    pub(super) fn fire(&mut self, condition: Option<&str>, handler: Handler) -> bool {
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
    pub(super) fn call_handler(&mut self, handler: &Handler) -> bool {
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
        let unsent_bytes = self.peers.get(callee).map_or(0, Peer::unsent_bytes);
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

    pub(super) fn drop_handler_call(&mut self, callee: SlotId, function_id: &str) {
        self.metrics().trigger_calls_dropped.increment();
        let now = self.now.monotonic;
        let name = self.name_of(callee);
        let Some(peer) = self.peers.get_mut(callee) else {
            return;
        };
        peer.drops += 1;
        let was_said = peer
            .drops_said_at
            .is_some_and(|at: Instant| now.saturating_duration_since(at) < DROPS_SAID_EVERY);
        if !was_said {
            peer.drops_said_at = Some(now);
            let drops = std::mem::take(&mut peer.drops);
            let limit = self.limits.call_queue_bytes;
            tracing::warn!(
                "{name} reads too slowly: more than {limit} bytes wait for it \
                 (limits.call_queue_bytes), so {drops} trigger calls were dropped, the last of {}",
                Shown(function_id)
            );
        }
    }

    /// Why a call that somebody waits for finds no room, if it finds none.
    pub(super) fn no_room_for(
        &self,
        callee: SlotId,
        waits_as: Option<Cause>,
        unsent_max: usize,
    ) -> Option<&'static str> {
        let unsent_bytes = self.peers.get(callee).map_or(0, Peer::unsent_bytes);
        let is_full =
            waits_as.is_some_and(|cause| !self.may_wait(cause)) || unsent_bytes > unsent_max;
        is_full.then_some(OVERLOADED)
    }

    /// Sends a call whose answer is awaited. `called_as` is what its caller called.
    pub(super) fn send_call(
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

    pub(super) fn write_call(&mut self, callee: SlotId, sent_id: &Uuid, call: &Outgoing<'_>) {
        let Some(peer) = self.peers.get(callee) else {
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
        self.peers.send(callee, |out| {
            answer::invoke_function(out, sent_id, &call);
        });
    }

    /// A call has ended: whoever awaits it hears how.
    pub(super) fn hear(&mut self, awaits: Awaits, function_id: &str, answered: Answered<'_>) {
        match awaits {
            Awaits::Caller(caller) => self.answer_caller(caller, function_id, answered),
            Awaits::Groups(caller, stream) => match answered {
                Answered::NotFound => self.list_own_groups(caller, &stream),
                _ => self.answer_caller(caller, function_id, answered),
            },
            Awaits::Nobody => self.log_failure(function_id, answered),
            Awaits::Functions => self.functions_listed(answered),
            Awaits::Workers => self.workers_listed(answered),
            Awaits::TriggerTypes => self.trigger_types_listed(answered),
            Awaits::Configuration => self.configuration_told(answered),
            Awaits::Condition(handler) => match answered {
                Answered::Result(result) if is_false(result) => {}
                Answered::Result(_) => {
                    self.call_handler(&handler);
                }
                _ => self.log_failure(function_id, answered),
            },
            Awaits::JoinCondition(join, handler) => match answered {
                Answered::Result(result) if is_false(result) => {
                    self.join_heard(join, Word::Unasked)
                }
                _ => {
                    self.log_failure(function_id, answered);
                    self.ask_about_join(join, &handler);
                }
            },
            Awaits::Join(join) => {
                let word = match answered {
                    Answered::Result(result) if is_unauthorized(result) => Word::Refuses,
                    Answered::Result(_) => Word::Admits,
                    Answered::TimedOut(_) | Answered::Refused(_) => Word::Refuses,
                    Answered::Failed(_) | Answered::NotFound | Answered::Gone(_) => Word::Fails,
                };
                self.log_failure(function_id, answered);
                self.join_heard(join, word);
            }
            Awaits::Auth { worker, connection } => {
                let verdict = self.auth_verdict(answered);
                self.tell(worker, ToWorker::Authenticated(connection, verdict));
            }
            Awaits::Admission(id) => self.admission_heard(id, function_id, answered),
            Awaits::Registration(id, _) => self.registration_heard(id, function_id, answered),
            Awaits::Custom {
                shard,
                slot,
                number,
                of_join: _,
            } => {
                let answer = match answered {
                    Answered::Result(result) => CustomAnswer::Result(result.map(Text::from)),
                    Answered::Refused(cause) => CustomAnswer::Refused(cause.into()),
                    Answered::NotFound => CustomAnswer::Gone,
                    _ => CustomAnswer::Failed(
                        answered
                            .error(function_id)
                            .unwrap_or_else(|| ErrorBody::new("invocation_failed", "no answer")),
                    ),
                };
                let told = Told {
                    slot,
                    number,
                    answer,
                };
                self.tell(shard, ToWorker::Told(told));
            }
        }
    }

    /// What an SDK worker's function says goes to its caller, if that reads what it asks for: else
    /// calls that are under way would pile up what no limit holds back.
    fn answer_caller(&mut self, caller: Caller, function_id: &str, answered: Answered<'_>) {
        let answered = match self.no_room_for(caller.peer, None, self.unsent_max()) {
            Some(cause) => Answered::Refused(cause),
            None => answered,
        };
        let error = answered.error(function_id);
        let body = match (&error, answered) {
            (Some(error), _) => ResultBody::Error(error),
            (None, Answered::Result(Some(json))) => ResultBody::Json(json),
            (None, _) => ResultBody::Nothing,
        };
        self.answer(Some(caller), function_id, body);
    }

    pub(super) fn hear_call(&mut self, call: FunctionCall, answered: Answered<'_>) {
        self.hear(call.awaits, &call.function_id, answered);
    }

    fn log_failure(&mut self, function_id: &str, answered: Answered<'_>) {
        if let Some(error) = answered.error(function_id) {
            self.warn_of_handler(function_id, &error);
        }
    }
}
