//! The way back: what a caller is told, what is counted of it, and what the log hears of a call whose
//! answer nobody waits for.

use crate::id::{CallId, SlotId};
use crate::metrics::CallOutcome;
use crate::protocol::answer::{Outcome, ResultBody};
use crate::protocol::call::ErrorBody;
use crate::protocol::function::{failed, unknown_whether_stored};
use crate::protocol::groups::{Merge, Names};
use crate::protocol::input::StreamFunction;
use crate::shard::Reply;

use crate::broker::awaits::{Answered, Cause};
use crate::broker::caller::Caller;
use crate::broker::calls::{Calls, Said, StreamCall};
use crate::broker::outgoing::Answer;
use crate::broker::turn::Turn;

/// So many names of groups are put together in one step.
const NAMES_A_STEP: usize = 4;
/// Why calls end with the process.
const SERVER_ENDS: &str = "the server ends";

impl Calls {
    /// A worker has answered a stream call.
    pub(in crate::broker) fn reply(&mut self, turn: &mut Turn, reply: Reply) {
        match self.end_stream(reply.call, reply.outcome) {
            Some((call, Said::Outcome(outcome))) => self.answer_stream(turn, call, outcome),
            Some((call, Said::Parts(parts))) => self.merge_parts(call, parts),
            None => {}
        }
    }

    fn answer_stream(&mut self, turn: &mut Turn, call: StreamCall, outcome: Outcome) {
        call.release(turn);
        let ended = match outcome {
            Outcome::Failed(_) => CallOutcome::Failed,
            _ => CallOutcome::Done,
        };
        let function = number_of(Some(call.function));
        turn.metrics().count_call(function, ended);
        turn.note_took(call.began);
        if let Outcome::Failed(error) = &outcome {
            self.note_refusal(turn, call.caller.peer, call.function.id(), error);
        }
        if let Some(number) = call.caller.operator_number() {
            let body = ResultBody::Outcome(&outcome);
            return turn.answer_operator(number, &call.caller, call.function.id(), body);
        }
        turn.members.answer(Answer {
            caller: call.caller,
            function: call.function,
            outcome,
        });
    }

    /// Whoever waits for one of our own functions is told that the process ends before it does.
    pub(in crate::broker) fn stop_streams(&mut self, turn: &mut Turn) {
        let ids: Vec<CallId> = self.streams.iter().map(|(id, _)| id).collect();
        for id in ids {
            let Some(call) = self.abandon_stream(id) else {
                continue;
            };
            let cause = match call.function {
                StreamFunction::Get
                | StreamFunction::List
                | StreamFunction::ListGroups
                | StreamFunction::ListAll => SERVER_ENDS.to_owned(),
                _ => unknown_whether_stored(SERVER_ENDS),
            };
            let error = failed(call.function, &cause);
            self.answer_stream(turn, call, Outcome::Failed(error));
        }
    }

    /// All workers have answered a listing of groups. Its socket is left unread until it is there.
    fn merge_parts(&mut self, call: StreamCall, parts: Vec<Names>) {
        let of_stream = call.function == StreamFunction::ListGroups;
        let merge = Merge::new(parts, of_stream);
        self.merges.push_back((call, merge));
    }

    /// Whether listings of groups are put together.
    pub(in crate::broker) fn has_merges(&self) -> bool {
        !self.merges.is_empty()
    }

    /// Puts together as much of them as this turn may.
    pub(in crate::broker) fn go_on_with_merges(&mut self, turn: &mut Turn) {
        for _ in 0..self.merges.len() {
            if turn.steps.are_left()
                && let Some((call, merge)) = self.merges.pop_front()
            {
                self.go_on_merging(turn, call, merge);
            }
        }
    }

    fn go_on_merging(&mut self, turn: &mut Turn, call: StreamCall, mut merge: Merge) {
        let most = turn.steps.left() * NAMES_A_STEP;
        let written = merge.go_on(most);
        turn.steps.take(written / NAMES_A_STEP + 1);
        match written < most {
            true => self.answer_stream(turn, call, Outcome::Listed(merge.text())),
            false => self.merges.push_back((call, merge)),
        }
    }

    /// A call fails before anybody was asked. One that nobody waits for leaves a line in the log. `id`: the
    /// socket that it came from; none for a trigger's.
    pub(in crate::broker) fn fail(
        &self,
        turn: &mut Turn,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        match caller {
            Some(caller) => self.answer_error(turn, Some(caller), function_id, error),
            None => turn.warn_of_void(id, function_id, error),
        }
    }

    pub(in crate::broker) fn answer_error(
        &self,
        turn: &mut Turn,
        caller: Option<Caller>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        self.answer(turn, caller, function_id, ResultBody::Error(error));
    }

    pub(in crate::broker) fn answer(
        &self,
        turn: &mut Turn,
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
            turn.metrics().count_call(number_of(function), outcome);
            if let ResultBody::Error(error) = body {
                self.note_refusal(turn, caller.peer, function_id, error);
            }
            match caller.operator_number() {
                Some(number) => turn.answer_operator(number, &caller, function_id, body),
                None => turn.members.send_result(&caller, function_id, body),
            }
        }
    }

    /// What an SDK worker's function says goes to its caller, if that reads what it asks for: else
    /// calls that are under way would pile up what no limit holds back.
    pub(in crate::broker) fn answer_caller(
        &self,
        turn: &mut Turn,
        caller: Caller,
        function_id: &str,
        answered: Answered<'_>,
    ) {
        let answered = match turn.no_room_at(caller.peer) {
            Some(cause) => Answered::Refused(cause),
            None => answered,
        };
        let error = answered.error(function_id);
        let body = match (&error, answered) {
            (Some(error), _) => ResultBody::Error(error),
            (None, Answered::Result(Some(json))) => ResultBody::Json(json),
            (None, _) => ResultBody::Nothing,
        };
        self.answer(turn, Some(caller), function_id, body);
    }

    fn note_refusal(&self, turn: &mut Turn, id: SlotId, function_id: &str, error: &ErrorBody) {
        let may_wait = self.may_wait(turn, Cause::Callers);
        turn.note_refusal(id, function_id, error, may_wait);
    }
}

impl StreamCall {
    /// It has ended: one call of a list less for its caller, which may have been held for it.
    pub(super) fn release(&self, turn: &mut Turn) {
        if !self.holds {
            return;
        }
        if let Some(peer) = turn.members.get_mut(self.caller.peer) {
            peer.lists_under_way = peer.lists_under_way.saturating_sub(1);
            turn.free(self.caller.peer);
        }
    }
}

/// As the counters number it. `None`: it is none of the eight.
pub(super) fn number_of(function: Option<StreamFunction>) -> usize {
    function.map_or(usize::MAX, |function| function as usize)
}
