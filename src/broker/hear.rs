//! Where the answers to calls of functions go, by what each call was made for.
//!
//! May not know how calls are made (`calls::ask`).

use crate::broker::Broker;
use crate::broker::awaits::{Answered, Awaits, invocation_stopped};
use crate::broker::calls::FunctionCall;
use crate::broker::joins::Word;
use crate::id::Text;
use crate::mesh::ToWorker;
use crate::protocol::call::ErrorBody;
use crate::protocol::trigger::{is_false, is_unauthorized};
use crate::shard::{CustomAnswer, CustomAnswered};

/// Calls that have had their time end so many at a time.
const OVERDUE_A_TURN: usize = 512;

impl Broker {
    /// A call has ended: whoever awaits it hears how.
    pub(in crate::broker) fn hear(
        &mut self,
        awaits: Awaits,
        function_id: &str,
        answered: Answered<'_>,
    ) {
        let turn = &mut self.turn;
        match awaits {
            Awaits::Caller(caller) => {
                self.calls
                    .answer_caller(turn, caller, function_id, answered);
            }
            Awaits::Groups(caller, stream) => match answered {
                Answered::NotFound => self.list_own_groups(caller, &stream),
                _ => self
                    .calls
                    .answer_caller(turn, caller, function_id, answered),
            },
            Awaits::Nobody => turn.log_failure(function_id, answered),
            Awaits::Functions | Awaits::Workers | Awaits::TriggerTypes | Awaits::Configuration => {
                self.engine_heard(&awaits, answered)
            }
            Awaits::Condition(handler) => match answered {
                Answered::Result(result) if is_false(result) => {}
                Answered::Result(_) => {
                    self.call_handler(&handler);
                }
                _ => turn.log_failure(function_id, answered),
            },
            Awaits::JoinCondition(join, handler) => match answered {
                Answered::Result(result) if is_false(result) => {
                    self.joins.heard(turn, join, Word::Unasked);
                }
                _ => {
                    turn.log_failure(function_id, answered);
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
                turn.log_failure(function_id, answered);
                self.joins.heard(turn, join, word);
            }
            Awaits::Auth {
                worker, connection, ..
            } => {
                let verdict = self.auth.verdict(answered);
                turn.tell(worker, ToWorker::Authenticated(connection, verdict));
            }
            Awaits::Admission(id) => {
                self.of_listeners
                    .admission_heard(turn, id, function_id, answered);
            }
            Awaits::Registration(id, _) => self.registration_heard(id, function_id, answered),
            Awaits::Custom {
                shard,
                slot,
                number,
                of_join,
            } => {
                // Who joins is told of nothing; with a function that has gone our own store takes over.
                if of_join && !matches!(answered, Answered::NotFound) {
                    turn.log_failure(function_id, answered);
                }
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
                let answered = CustomAnswered {
                    slot,
                    number,
                    answer,
                };
                turn.tell(shard, ToWorker::CustomAnswered(answered));
            }
        }
    }

    pub(in crate::broker) fn hear_call(&mut self, call: FunctionCall, answered: Answered<'_>) {
        if matches!(call.awaits, Awaits::Caller(_) | Awaits::Groups(..)) {
            self.turn.note_took(call.began);
        }
        self.hear(call.awaits, &call.function_id, answered);
    }

    /// Tells whoever awaits what has ended where it was made.
    pub(in crate::broker) fn hear_ended(&mut self) {
        while let Some(ended) = self.turn.ended.pop_front() {
            let answered = ended.how.answered();
            self.hear(ended.awaits, &ended.function_id, answered);
        }
    }

    /// The process ends before these calls do: whoever has made one is told.
    pub fn stop_calls(&mut self) {
        let error = invocation_stopped();
        for call in self.calls.take_called() {
            self.hear_call(call, Answered::Gone(&error));
        }
        self.calls.stop_streams(&mut self.turn);
    }

    /// Ends calls whose time is over, so many at a time: each is one that nobody has answered.
    pub(in crate::broker) fn end_overdue_calls(&mut self) {
        for _ in 0..OVERDUE_A_TURN {
            let Some(call) = self.calls.pop_overdue(self.turn.now.monotonic) else {
                return;
            };
            let message = format!("invocation timed out after {}ms", call.timeout.as_millis());
            let error = ErrorBody::new("invocation_timeout", message);
            self.hear_call(call, Answered::TimedOut(&error));
        }
    }
}
