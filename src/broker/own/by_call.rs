//! Triggers that are registered by a call: they do not end with the connection that the call came
//! through.
//!
//! The checks are those of a message. A worker of a listener with rules is trusted with nothing that
//! outlives it: what it registers so ends with it.

use std::borrow::Cow;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer::{self, ResultBody};
use crate::protocol::call::{EngineMessage, ErrorBody, TriggerRegistration};
use crate::protocol::json::text;
use crate::protocol::listing::bindings::{self, REGISTER_TRIGGER};

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::members::{CameAs, Members};
use crate::broker::own::Done;
use crate::broker::own::listings::row_of;
use crate::broker::triggers::Triggers;
use crate::broker::triggers::trigger::NOBODY;

impl Broker {
    /// `engine::register_trigger`. `id`: the worker that calls it; none: a trigger does. False: the input
    /// cannot be read.
    pub(super) fn register_by_call(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        data: &str,
    ) -> bool {
        let turn = &mut self.turn;
        let checked = turn.check_passed_on(data);
        let read = checked
            .map_err(|why| ErrorBody::new("invocation_error", why))
            .and_then(|()| bindings::register_trigger(data))
            .and_then(|binding| Ok((id.ok_or_else(of_no_worker)?, binding)));
        let (by, binding) = match read {
            Ok(read) => read,
            Err(error) => {
                self.calls.fail(turn, id, caller, REGISTER_TRIGGER, &error);
                return false;
            }
        };
        let new_id = || Cow::from(Uuid::new_v4().to_string());
        let message = EngineMessage::RegisterTrigger(TriggerRegistration {
            id: binding.id.unwrap_or_else(new_id),
            trigger_type: binding.trigger_type,
            function_id: binding.function_id,
            config: binding.config,
            metadata: binding.metadata,
            namespace: binding.namespace,
        });
        let members = &turn.members;
        match self
            .of_listeners
            .function_asked_about(members, by, &message)
        {
            Some(function_id) => {
                let text = message_of(&message);
                self.ask_about(by, &function_id, &message, &text, CameAs::Call(caller));
            }
            None => self.bind(by, caller, &message),
        }
        true
    }

    /// Registers the trigger as all functions have let it, and answers the call.
    pub(in crate::broker) fn bind(
        &mut self,
        by: SlotId,
        caller: Option<Caller>,
        message: &EngineMessage<'_>,
    ) {
        let EngineMessage::RegisterTrigger(asked) = message else {
            return;
        };
        let (turn, calls, triggers) = (&mut self.turn, &self.calls, &mut self.triggers);
        let function_id = turn.members.outer_function(by, &asked.function_id);
        let owner = match turn.members.guard_of(by) {
            Some(_) => by,
            None => NOBODY,
        };
        let entered = check_type_allowed(&turn.members, by, &asked.trigger_type)
            .and_then(|()| triggers.enter(turn, &self.functions, (by, owner), asked, &function_id));
        match entered {
            Ok(slot) => {
                triggers.forget_lost(by, &asked.id);
                turn.debug(by, || {
                    let (of_type, id) = (Shown(&asked.trigger_type), Shown(&asked.id));
                    let function = Shown(&function_id);
                    format!("registers trigger {id} of type {of_type} for {function} by a call")
                });
                triggers.trigger_entered(turn, by, asked, slot);
                let id = id_result(&turn.members.inner_trigger(by, &asked.id));
                calls.answer(turn, caller, REGISTER_TRIGGER, ResultBody::Json(&id));
            }
            Err(error) => {
                turn.warn_of_trigger_refused(by, asked, &error);
                calls.answer_error(turn, caller, REGISTER_TRIGGER, &error);
            }
        }
    }

    /// `engine::unregister_trigger`.
    pub(super) fn unregister_by_call(
        &mut self,
        id: Option<SlotId>,
        data: &str,
    ) -> Result<Done, ErrorBody> {
        let trigger = bindings::unregister_trigger(data)?;
        let by = id.ok_or_else(of_no_worker)?;
        let members = &self.turn.members;
        let outer = members.outer_trigger(by, &trigger);
        let has_rules = members.guard_of(by).is_some();
        if !self.triggers.may_end(&outer, by, has_rules) {
            return Err(trigger_not_found(&trigger));
        }
        self.unregister_trigger(by, &outer);
        Ok(Done::with_result(id_result(&trigger)))
    }
}

/// A call hears what a message of its worker does not: that it may not.
fn check_type_allowed(members: &Members, by: SlotId, trigger_type: &str) -> Result<(), ErrorBody> {
    let peer = members.get(by);
    match peer.is_none_or(|peer| peer.access.may_register_trigger(trigger_type)) {
        true => Ok(()),
        false => {
            let shown = Shown(trigger_type);
            let message =
                format!("trigger type '{shown}' not allowed (add to allowed_trigger_types)");
            Err(ErrorBody::new("FORBIDDEN", message))
        }
    }
}

/// `engine::registered-triggers::info`.
pub(super) fn registered_trigger(triggers: &Triggers, data: &str) -> Result<Done, ErrorBody> {
    let id = bindings::registered_info(data)?;
    let found = triggers.find(&id);
    let trigger = found.ok_or_else(|| trigger_not_found(&id))?;
    let mut row = Vec::new();
    row_of(trigger).write(&mut row);
    Ok(Done::with_result(
        String::from_utf8(row).unwrap_or_default(),
    ))
}

fn of_no_worker() -> ErrorBody {
    let message = "only a worker may call it, for what it registers is checked as its own";
    ErrorBody::new("FORBIDDEN", message)
}

fn trigger_not_found(id: &str) -> ErrorBody {
    ErrorBody::new(
        "trigger_not_found",
        format!("Trigger {} not found", Shown(id)),
    )
}

/// The message that says the same.
fn message_of(message: &EngineMessage<'_>) -> String {
    let mut out = Vec::new();
    if let EngineMessage::RegisterTrigger(asked) = message {
        answer::register_trigger(
            &mut out,
            &asked.id,
            &asked.trigger_type,
            &asked.function_id,
            asked.config.map(RawValue::get),
            asked.metadata.map(RawValue::get),
            asked.namespace.as_deref(),
        );
    }
    String::from_utf8(out).unwrap_or_default()
}

fn id_result(id: &str) -> String {
    let mut out = br#"{"id":"#.to_vec();
    text::write_string(&mut out, id);
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}
