//! Where the answers to calls of functions go, by what each call was made for.
//!
//! May not know how calls are made (`calls::ask`).

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::{Answered, Awaits, FunctionCall};
use crate::broker::triggers::presence::Word;
use crate::id::Text;
use crate::mesh::ToWorker;
use crate::protocol::answer::ResultBody;
use crate::protocol::call::ErrorBody;
use crate::protocol::trigger::{is_false, is_unauthorized};
use crate::shard::{CustomAnswer, CustomAnswered};

impl Broker {
    /// A call has ended: whoever awaits it hears how.
    pub(in crate::broker) fn hear(
        &mut self,
        awaits: Awaits,
        function_id: &str,
        answered: Answered<'_>,
    ) {
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
                let answered = CustomAnswered {
                    slot,
                    number,
                    answer,
                };
                self.tell(shard, ToWorker::CustomAnswered(answered));
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

    pub(in crate::broker) fn hear_call(&mut self, call: FunctionCall, answered: Answered<'_>) {
        if matches!(call.awaits, Awaits::Caller(_) | Awaits::Groups(..)) {
            self.note_took(call.began);
        }
        self.hear(call.awaits, &call.function_id, answered);
    }

    pub(in crate::broker) fn log_failure(&mut self, function_id: &str, answered: Answered<'_>) {
        if let Some(error) = answered.error(function_id) {
            self.warn_of_handler(function_id, &error);
        }
    }
}
