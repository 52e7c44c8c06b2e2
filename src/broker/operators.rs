//! Calls that operators make by hand: of functions of streams, as an SDK worker would make them.
//!
//! May not know who the operator is.

use crate::mesh::operators::{OperatorAnswer, OperatorCall};
use crate::protocol::answer::ResultBody;

use super::Broker;
use super::caller::Caller;
use super::turn::Turn;

/// So many are made in a turn.
const CALLS_A_TURN: usize = 4;

impl Broker {
    /// Makes calls that wait.
    pub(super) fn call_for_operators(&mut self) {
        for _ in 0..CALLS_A_TURN {
            let Some(call) = self.turn.ports.shared.operators.take_call() else {
                return;
            };
            let OperatorCall {
                function,
                input,
                number,
            } = call;
            self.invoke_stream(None, Some(Caller::operator(number)), function, &input);
        }
    }
}

impl Turn {
    /// The answer to a call that an operator has made.
    pub(super) fn answer_operator(
        &self,
        number: u32,
        caller: &Caller,
        function_id: &str,
        body: ResultBody<'_>,
    ) {
        let mut message = Vec::new();
        caller.write_answer(&mut message, function_id, body);
        let shared = &self.ports.shared;
        shared.operators.answer(OperatorAnswer { number, message });
        if let Some(admin) = shared.admin.get() {
            admin.wake();
        }
    }
}
