//! What SDK workers' messages mean: who serves which functions, types and triggers, and answers to
//! calls. What a call does stands in `calls` and `own`, what a running engine says in `link::conversation`.

use std::sync::Arc;

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer;
use crate::protocol::call::{self, EngineMessage, ErrorBody, InvocationResult};

use crate::broker::Broker;
use crate::broker::awaits::Answered;
use crate::broker::link::told_by_engine;
use crate::broker::registry::Description;
use crate::broker::triggers::trigger::ServedType;

impl Broker {
    /// One message of an SDK worker. A registration may be put to a function first.
    pub(in crate::broker) fn on_message(&mut self, id: SlotId, text: &str) {
        let message = match call::parse(text) {
            Ok(message) => message,
            Err(why) => return self.turn.drop_message(id, &why),
        };
        let Some(peer) = self.turn.members.get_mut(id) else {
            return;
        };
        let is_first = !std::mem::replace(&mut peer.has_spoken, true);
        if !self.ask_about_registration(id, &message, text) {
            self.serve_message(id, message, text, is_first);
        }
    }

    /// `text`: the message, if it is the worker's first one.
    pub(in crate::broker) fn serve_message(
        &mut self,
        id: SlotId,
        message: EngineMessage<'_>,
        text: &str,
        is_first: bool,
    ) {
        let Some(peer) = self.turn.members.get(id) else {
            return;
        };
        let access = Arc::clone(&peer.access);
        match message {
            EngineMessage::Invoke(invoke) => self.invoke(id, &invoke),
            // What a worker may not register is passed over without a word to it.
            EngineMessage::RegisterFunction { .. } if !access.may_register_functions() => {}
            EngineMessage::RegisterTriggerType { .. } if !access.may_register_trigger_types() => {}
            EngineMessage::RegisterTrigger(ref asked)
                if !access.may_register_trigger(&asked.trigger_type) => {}
            EngineMessage::InvocationResult(result) => self.result(id, &result),
            EngineMessage::RegisterFunction {
                id: function_id,
                has_invocation: true,
                ..
            } => {
                let what = "is to be called over HTTP, which is not served: passed over";
                self.turn
                    .warn(id, &format!("function {function_id} {what}"));
            }
            EngineMessage::RegisterFunction {
                id: function_id,
                description,
                request_format,
                response_format,
                metadata,
                ..
            } => {
                let description = Description {
                    text: description.as_deref().map(Box::from),
                    request_format: request_format.map(ToOwned::to_owned),
                    response_format: response_format.map(ToOwned::to_owned),
                    metadata: metadata.map(ToOwned::to_owned),
                };
                self.register_function(id, &access.outer_id(&function_id), description);
            }
            EngineMessage::UnregisterFunction { id: function_id } => {
                let function_id = self.turn.members.outer_function(id, &function_id);
                self.functions.withdraw(&mut self.turn, id, &function_id);
            }
            EngineMessage::RegisterTrigger(asked) => {
                let function_id = self.turn.members.outer_function(id, &asked.function_id);
                self.register_trigger(id, &asked, &function_id);
            }
            EngineMessage::UnregisterTrigger { id: trigger, .. } => {
                self.unregister_trigger(id, &self.turn.members.outer_trigger(id, &trigger));
            }
            EngineMessage::RegisterTriggerType {
                id: trigger_type,
                description,
                trigger_request_format,
                call_request_format,
            } => {
                let turn = &mut self.turn;
                let formats = [trigger_request_format, call_request_format];
                if let Err(why) = turn.check_all_passed_on(formats.into_iter().flatten()) {
                    return turn.drop_message(id, &why);
                }
                let served = ServedType {
                    owner: id,
                    description: (*description).into(),
                    trigger_request_format: trigger_request_format.map(ToOwned::to_owned),
                    call_request_format: call_request_format.map(ToOwned::to_owned),
                };
                if let Some(why) = self.triggers.why_not_served(turn, id, &trigger_type) {
                    let what =
                        format_args!("trigger type {} is refused: {why}", Shown(&trigger_type));
                    return turn.warn_of(id, "trigger type refused", &trigger_type, what);
                }
                let begun = self.triggers.begin_serving(turn, &trigger_type, served);
                if let Err(why) = begun {
                    turn.drop_message(id, &why);
                }
            }
            EngineMessage::Ping => self.turn.members.send(id, answer::pong),
            EngineMessage::Ignored if is_first => {
                self.replaced
                    .reattach(&mut self.turn, &self.present, id, text);
            }
            EngineMessage::RegisterService | EngineMessage::Ignored => {}
        }
    }

    /// An SDK worker has answered a call.
    pub(in crate::broker) fn result(&mut self, id: SlotId, result: &InvocationResult<'_>) {
        let turn = &mut self.turn;
        let Some(call) = self.calls.answered(id, result.id) else {
            // Nobody waits for it, or not for this peer.
            if let Some(error) = &result.error {
                let (code, message) = (&error.code, &error.message);
                let (code, message) = (Shown(code), Shown(message));
                let what =
                    format_args!("a call of it that nobody waits for failed: {code}: {message}");
                turn.warn_of(id, "failed call", "", what);
            }
            return;
        };
        let unreadable = result
            .result
            .and_then(|json| turn.check_passed_on(json).err());
        let unreadable = unreadable.map(|why| ErrorBody::new("invocation_failed", why));
        let answered = match (unreadable.as_ref().or(result.error.as_ref()), result.result) {
            (Some(error), _) if turn.members.is_link(id) => {
                told_by_engine(turn, &mut self.functions, &call, error)
            }
            (Some(error), _) => Answered::Failed(error),
            (None, json) => Answered::Result(json),
        };
        self.hear_call(call, answered);
    }
}
