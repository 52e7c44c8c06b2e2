//! The way back: what a caller is told, what is counted of it, and what the log hears of a call whose
//! answer nobody waits for.

use std::time::Instant;

use crate::id::SlotId;
use crate::metrics::CallOutcome;
use crate::notes::Shown;
use crate::protocol::answer::{Outcome, ResultBody};
use crate::protocol::call::ErrorBody;
use crate::protocol::input::StreamFunction;
use crate::shard::Reply;

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::{Said, StreamCall};
use crate::broker::outgoing::Answer;

impl Broker {
    /// A worker has answered a stream call.
    pub(in crate::broker) fn reply(&mut self, reply: Reply) {
        match self.calls.end_stream(reply.call, reply.outcome) {
            Some((call, Said::Outcome(outcome))) => self.answer_stream(call, outcome),
            Some((call, Said::Parts(parts))) => self.merge_parts(call, parts),
            None => {}
        }
    }

    pub(in crate::broker) fn answer_stream(&mut self, call: StreamCall, outcome: Outcome) {
        self.list_ended(&call);
        let ended = match outcome {
            Outcome::Failed(_) => CallOutcome::Failed,
            _ => CallOutcome::Done,
        };
        let function = number_of(Some(call.function));
        self.metrics().count_call(function, ended);
        self.note_took(call.began);
        if let Outcome::Failed(error) = &outcome {
            self.note_refusal(call.caller.peer, call.function.id(), error);
        }
        if let Some(number) = call.caller.operator_number() {
            let body = ResultBody::Outcome(&outcome);
            return self.answer_operator(number, &call.caller, call.function.id(), body);
        }
        self.members.answer(Answer {
            caller: call.caller,
            function: call.function,
            outcome,
        });
    }

    /// A call has its answer, for which somebody waits.
    pub(in crate::broker) fn note_took(&self, began: Instant) {
        let took = self.now.monotonic.saturating_duration_since(began);
        self.metrics().call.note(took);
    }

    /// A call fails before anybody was asked. One that nobody waits for leaves a line in the log:
    /// else nothing would be seen of it anywhere. `id` as in [`Broker::invoke_stream`].
    pub(in crate::broker) fn fail(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        match caller {
            Some(caller) => self.answer_error(Some(caller), function_id, error),
            None => self.warn_of_void(id, function_id, error),
        }
    }

    pub(super) fn warn_of_void(
        &mut self,
        id: Option<SlotId>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        let (code, message) = (&error.code, &error.message);
        match id {
            Some(id) => {
                let (name, code, message) = (Shown(function_id), Shown(code), Shown(message));
                let what = format_args!(
                    "its call of {name}, which waits for no answer, fails: {code}: {message}"
                );
                self.warn_of(id, "void call", function_id, what);
            }
            None => self.warn_of_handler(function_id, error),
        }
    }

    pub(in crate::broker) fn answer_error(
        &mut self,
        caller: Option<Caller>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        self.answer(caller, function_id, ResultBody::Error(error));
    }

    pub(in crate::broker) fn answer(
        &mut self,
        caller: Option<Caller>,
        function_id: &str,
        body: ResultBody<'_>,
    ) {
        if let Some(caller) = caller {
            let outcome = match body {
                ResultBody::Error(_) => CallOutcome::Failed,
                _ => CallOutcome::Done,
            };
            let function = StreamFunction::from_id(function_id);
            self.metrics().count_call(number_of(function), outcome);
            if let ResultBody::Error(error) = body {
                self.note_refusal(caller.peer, function_id, error);
            }
            match caller.operator_number() {
                Some(number) => self.answer_operator(number, &caller, function_id, body),
                None => self.members.send_result(&caller, function_id, body),
            }
        }
    }
}

/// As the counters number it. `None`: it is none of the eight.
pub(super) fn number_of(function: Option<StreamFunction>) -> usize {
    function.map_or(usize::MAX, |function| function as usize)
}
