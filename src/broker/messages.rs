//! What SDK workers' messages mean: who serves which functions, types and triggers, and answers to
//! calls. What a call does stands in `calls` and `own`, what a running engine says in `link::conversation`.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer;
use crate::protocol::call::{self, EngineMessage, ErrorBody, InvocationResult};
use crate::protocol::rbac::Access;

use crate::broker::Broker;
use crate::broker::calls::Answered;
use crate::broker::holdings::REGISTERED_BYTES_MAX;
use crate::broker::registry::Description;
use crate::broker::triggers::trigger::ServedType;

impl Broker {
    pub(in crate::broker) fn on_message(&mut self, id: SlotId, text: &str) {
        let message = match call::parse(text) {
            Ok(message) => message,
            Err(why) => return self.drop_message(id, &why),
        };
        let Some(peer) = self.members.get_mut(id) else {
            return;
        };
        let is_first = !std::mem::replace(&mut peer.has_spoken, true);
        let access = Arc::clone(&peer.access);
        if !self.ask_about_registration(id, &message, text) {
            self.serve_message(id, &access, message, text, is_first);
        }
    }

    /// `text`: the message, if it is the worker's first one.
    pub(in crate::broker) fn serve_message(
        &mut self,
        id: SlotId,
        access: &Access,
        message: EngineMessage<'_>,
        text: &str,
        is_first: bool,
    ) {
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
                self.warn(id, &format!("function {function_id} {what}"));
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
                self.unregister_function(id, &self.outer_function(id, &function_id));
            }
            EngineMessage::RegisterTrigger(asked) => {
                let function_id = self.outer_function(id, &asked.function_id);
                self.register_trigger(id, &asked, &function_id);
            }
            EngineMessage::UnregisterTrigger { id: trigger, .. } => {
                self.unregister_trigger(id, &self.outer_trigger(id, &trigger));
            }
            EngineMessage::RegisterTriggerType {
                id: trigger_type,
                description,
                trigger_request_format,
                call_request_format,
            } => {
                let formats = [trigger_request_format, call_request_format];
                if let Err(why) = self.check_all_passed_on(formats.into_iter().flatten()) {
                    return self.drop_message(id, &why);
                }
                let served = ServedType {
                    owner: id,
                    description: (*description).into(),
                    trigger_request_format: trigger_request_format.map(ToOwned::to_owned),
                    call_request_format: call_request_format.map(ToOwned::to_owned),
                };
                if let Some(why) = self.why_not_served(id, &trigger_type) {
                    let what =
                        format_args!("trigger type {} is refused: {why}", Shown(&trigger_type));
                    return self.warn_of(id, "trigger type refused", &trigger_type, what);
                }
                if !self
                    .triggers
                    .has_room(id, trigger_type.len() + served.held_bytes())
                {
                    let why = format!(
                        "a trigger type, which would make those of the worker hold more than {REGISTERED_BYTES_MAX} bytes"
                    );
                    return self.drop_message(id, &why);
                }
                self.serve_type(id, &trigger_type, served);
            }
            EngineMessage::Ping => self.members.send(id, answer::pong),
            EngineMessage::Ignored if is_first => self.reattach(id, text),
            EngineMessage::RegisterService | EngineMessage::Ignored => {}
        }
    }

    /// Whether other workers can read all of these texts.
    pub(in crate::broker) fn check_all_passed_on<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a RawValue>,
    ) -> Result<(), String> {
        let mut texts = texts.into_iter();
        texts.try_for_each(|text| self.check_passed_on(text.get()))
    }

    /// An SDK worker has answered a call.
    pub(in crate::broker) fn result(&mut self, id: SlotId, result: &InvocationResult<'_>) {
        let Some(call) = self.calls.answered(id, result.id) else {
            // Nobody waits for it, or not for this peer.
            if let Some(error) = &result.error {
                let (code, message) = (&error.code, &error.message);
                let (code, message) = (Shown(code), Shown(message));
                let what =
                    format_args!("a call of it that nobody waits for failed: {code}: {message}");
                self.warn_of(id, "failed call", "", what);
            }
            return;
        };
        let unreadable = result
            .result
            .and_then(|json| self.check_passed_on(json).err());
        let unreadable = unreadable.map(|why| ErrorBody::new("invocation_failed", why));
        let answered = match (unreadable.as_ref().or(result.error.as_ref()), result.result) {
            (Some(error), _) if self.is_link(id) => self.told_by_engine(&call, error),
            (Some(error), _) => Answered::Failed(error),
            (None, json) => Answered::Result(json),
        };
        self.hear_call(call, answered);
    }

    /// Counts and logs a message that cannot be read; nobody is answered.
    pub fn drop_message(&mut self, id: SlotId, why: &dyn std::fmt::Display) {
        self.metrics().messages_dropped.increment();
        let why = why.to_string();
        let what = format_args!("a message is dropped: {}", Shown(&why));
        self.warn_of(id, "message", "", what);
    }
}
