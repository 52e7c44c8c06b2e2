//! What SDK workers' messages mean: who serves which functions, types and triggers, and answers to
//! calls; and what the end of a member brings about. What a call does stands in `calls::streams` and `own`,
//! what a running engine says in `link::conversation`.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::id::{SlotId, Text};
use crate::log::Shown;
use crate::protocol::answer;
use crate::protocol::call::{
    self, EngineMessage, ErrorBody, InvocationResult, TriggerRegistration,
};
use crate::protocol::rbac::Access;

use crate::broker::Broker;
use crate::broker::calls::Answered;
use crate::broker::holdings::{ID_BYTES_MAX, REGISTERED_BYTES_MAX};
use crate::broker::registry::Description;
use crate::broker::target::{FunctionRef, is_named};
use crate::broker::triggers::trigger::{ServedType, Trigger};

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

    fn register_function(&mut self, id: SlotId, function_id: &str, mut description: Description) {
        let texts = [
            &description.request_format,
            &description.response_format,
            &description.metadata,
        ];
        let texts = texts.into_iter().filter_map(|text| text.as_deref());
        if let Err(why) = self.check_all_passed_on(texts) {
            let what = format_args!(
                "function {} is registered without what describes it: {why}",
                Shown(function_id)
            );
            self.warn_of(id, "description", function_id, what);
            description = Description::default();
        }
        let namespace = self.namespace_of(id, None);
        let function = FunctionRef::new(function_id, namespace.as_deref());
        if function_id.len() > ID_BYTES_MAX
            || !self.functions.has_room(function_id, id, &description)
        {
            let what = format_args!(
                "function {} is not registered: its id is longer than {ID_BYTES_MAX} bytes, or all functions \
                 of the worker hold more than {REGISTERED_BYTES_MAX}",
                Shown(function_id)
            );
            return self.warn_of(id, "function beyond its bounds", "", what);
        }
        if let Some(why) = self.why_not_registered(id, function) {
            let what = format_args!("function {} is refused: {why}", Shown(function_id));
            return self.warn_of(id, "function refused", function_id, what);
        }
        if self.has_own(function_id)
            && namespace.is_none()
            && self.functions.owner_of(function).is_none()
        {
            let what = format_args!(
                "it has registered {}, which is called in place of ours while it is there",
                Shown(function_id)
            );
            self.warn_of(id, "function of ours", function_id, what);
        }
        self.debug(id, || format!("registers function {}", Shown(function_id)));
        let guard = self.guard_of(id);
        let change = self.functions.register(function, id, guard, description);
        if let Some(peer) = self.members.get_mut(id) {
            peer.functions.insert(function_id.into());
        }
        if let Some(before) = change.in_place_of {
            self.tell_of_second(function_id, id, before);
        }
        self.functions_changed(change.is_hook);
    }

    /// Two workers that do not know of each other may have the same function: once the log says so.
    /// One that has connected again stands in its own place.
    fn tell_of_second(&mut self, function_id: &str, id: SlotId, before: SlotId) {
        let before = self.members.get(before);
        let Some(before) = before.filter(|before| before.reattach_token.is_some()) else {
            return;
        };
        let before = before.worker_id;
        let newest = self.name_of(id);
        let shown = Shown(function_id);
        let what = format_args!("function {shown}: {newest} in place of SDK worker {before}");
        self.warn_of(id, "function of two workers", function_id, what);
    }

    /// A worker says where its functions stand, and may say so once: those that it has registered
    /// already go there, and its triggers look there. Err: why it may not.
    pub(in crate::broker) fn settle_worker_in(
        &mut self,
        id: SlotId,
        namespace: &str,
    ) -> Result<(), ErrorBody> {
        let Some(peer) = self.members.get_mut(id).filter(|_| is_named(namespace)) else {
            return Ok(());
        };
        match &peer.namespace {
            Some(has) if **has == *namespace => return Ok(()),
            Some(has) => {
                let message = format!("the worker is in namespace {has} and stays there");
                return Err(ErrorBody::new("namespace_refused", message));
            }
            None if namespace.len() > ID_BYTES_MAX => {
                let message = format!("a namespace has no more than {ID_BYTES_MAX} bytes");
                return Err(ErrorBody::new("namespace_refused", message));
            }
            None => peer.access.may_settle_in(namespace)?,
        }
        let name = Text::from(namespace);
        peer.namespace = Some(Text::clone(&name));
        self.begin_settling(id, name);
        Ok(())
    }

    /// One of its functions goes there. True: workers have to know of it.
    pub(in crate::broker) fn settle_function_in(
        &mut self,
        id: SlotId,
        function_id: &str,
        name: &str,
    ) -> bool {
        let function = FunctionRef::new(function_id, Some(name));
        let Some(why) = self.why_not_registered(id, function) else {
            let guard = self.guard_of(id);
            return self.functions.settle_in(function, id, guard);
        };
        let plain = FunctionRef::plain(function_id);
        let is_hook = self.functions.unregister(plain, id);
        if let Some(peer) = self.members.get_mut(id) {
            peer.functions.remove(function_id);
        }
        let (shown, name) = (Shown(function_id), Shown(name));
        let what = format_args!("function {shown} is refused in {name}: {why}");
        self.warn_of(id, "function refused", function_id, what);
        is_hook
    }

    /// Whether other workers can read all of these texts.
    fn check_all_passed_on<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a RawValue>,
    ) -> Result<(), String> {
        let mut texts = texts.into_iter();
        texts.try_for_each(|text| self.check_passed_on(text.get()))
    }

    pub(in crate::broker) fn unregister_function(&mut self, id: SlotId, function_id: &str) {
        self.debug(id, || {
            format!("unregisters function {}", Shown(function_id))
        });
        let namespace = self.namespace_of(id, None);
        let function = FunctionRef::new(function_id, namespace.as_deref());
        let is_hook = self.functions.unregister(function, id);
        if let Some(peer) = self.members.get_mut(id) {
            peer.functions.remove(function_id);
        }
        self.functions_changed(is_hook);
    }

    pub(in crate::broker) fn functions_changed(&mut self, is_hook: bool) {
        if is_hook {
            self.hooks.change();
        }
        self.expect_to_tell_functions();
    }

    /// Registers a trigger of the function that callers know by that id: a worker of a listener with
    /// rules may know it by another.
    pub(in crate::broker) fn register_trigger(
        &mut self,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
        function_id: &str,
    ) {
        match self.enter_trigger(id, id, asked, function_id) {
            Ok(slot) => {
                self.debug(id, || {
                    let (of_type, id) = (Shown(&asked.trigger_type), Shown(&asked.id));
                    format!(
                        "registers trigger {id} of type {of_type} for {}",
                        Shown(function_id)
                    )
                });
                self.trigger_entered(id, asked, slot);
                if self.is_link(id) {
                    self.tell_registration(id, asked, None);
                    self.look_for_what_waits(slot);
                }
            }
            Err(error) => {
                self.warn_of_trigger_refused(id, asked, &error);
                self.tell_registration(id, asked, Some(&error));
            }
        }
    }

    /// Whoever serves its type is handed it; if nobody does, that is said.
    pub(in crate::broker) fn trigger_entered(
        &mut self,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
        slot: SlotId,
    ) {
        if let Some(server) = self.triggers.server_of(&asked.trigger_type) {
            self.hand_over(server, slot);
        }
        if self
            .triggers
            .get(slot)
            .is_some_and(|trigger| trigger.is_early)
        {
            self.warn_of_early_trigger(id, asked);
        }
    }

    /// `id` wants the trigger, `owner` has it from then on.
    pub(in crate::broker) fn enter_trigger(
        &mut self,
        id: SlotId,
        owner: SlotId,
        asked: &TriggerRegistration<'_>,
        function_id: &str,
    ) -> Result<SlotId, ErrorBody> {
        let trigger_type = &*asked.trigger_type;
        let since = self.hooks.next_version();
        let mut trigger = Trigger::new(&asked.id, trigger_type, function_id, owner, since);
        trigger.config = asked.config.map(ToOwned::to_owned);
        trigger.target.metadata = asked.metadata.map(|json| json.get().into());
        trigger.target.namespace = self.namespace_of(id, asked.namespace.as_deref());
        trigger.names_namespace = asked.namespace.is_some() || owner != id;
        trigger.guard = self.guard_of(id);
        // Other workers read both: in listings, and whoever serves the type.
        let texts = [asked.config, asked.metadata].into_iter().flatten();
        self.check_all_passed_on(texts)
            .map_err(|why| ErrorBody::new("trigger_registration_failed", why))?;
        self.check_handed_over(trigger_type)?;
        self.check_called_by_trigger(id, trigger.target.function())?;
        self.check_server_of(trigger_type, id)?;
        self.check_room_for(id, &trigger)?;
        let (slot, replaced) = self.triggers.register(trigger)?;
        self.hooks.change();
        if let Some(replaced) = replaced.filter(|older| *older.trigger_type != *trigger_type) {
            self.trigger_gone(&replaced);
        }
        Ok(slot)
    }

    pub(in crate::broker) fn tell_registration(
        &mut self,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
        error: Option<&ErrorBody>,
    ) {
        let (of_type, function) = (&asked.trigger_type, &asked.function_id);
        let trigger = self.inner_trigger(id, &asked.id);
        self.members.send(id, |out| {
            answer::trigger_registration_result(out, &trigger, of_type, function, error);
        });
    }

    /// The worker `id` wants that trigger to end.
    pub(in crate::broker) fn unregister_trigger(&mut self, id: SlotId, trigger_id: &str) {
        let has_rules = self.guard_of(id).is_some();
        if let Some(trigger) = self.triggers.unregister(trigger_id, id, has_rules) {
            if self.stands_by() {
                self.lose_gate(&trigger);
            }
            self.trigger_gone(&trigger);
        }
    }

    /// What an engine hands over it keeps itself; an SDK worker's triggers are bounded.
    fn check_room_for(&self, id: SlotId, trigger: &Trigger) -> Result<(), ErrorBody> {
        if self.is_link(id) || self.triggers.has_room(trigger.owner, trigger.held_bytes()) {
            return Ok(());
        }
        let message = format!(
            "all triggers and types of the worker would hold more than {REGISTERED_BYTES_MAX} bytes"
        );
        Err(ErrorBody::new("trigger_registration_failed", message))
    }

    /// Whether the worker that serves the type reads what it is handed. One that serves its own
    /// triggers is not read itself until it does.
    fn check_server_of(&self, trigger_type: &str, id: SlotId) -> Result<(), ErrorBody> {
        let server = self.triggers.server_of(trigger_type);
        let cause = server
            .filter(|server| *server != id)
            .and_then(|server| self.no_room_for(server, None, self.unsent_max()));
        match cause {
            Some(cause) => Err(ErrorBody::new("trigger_registration_failed", cause)),
            None => Ok(()),
        }
    }

    /// A trigger is no more: whoever serves its type is told.
    pub(in crate::broker) fn trigger_gone(&mut self, trigger: &Trigger) {
        self.hooks.change();
        if let Some(server) = self.triggers.server_of(&trigger.trigger_type)
            && self.was_handed_over(trigger)
        {
            let of_type = self.inner_type(server, &trigger.trigger_type);
            self.members.send(server, |out| {
                answer::unregister_trigger(out, &trigger.id, &of_type);
            });
        }
    }

    fn serve_type(&mut self, id: SlotId, trigger_type: &str, served: ServedType) {
        self.debug(id, || {
            format!("serves trigger type {}", Shown(trigger_type))
        });
        self.triggers.serve_type(trigger_type, served);
        self.retype(trigger_type.into(), Some(id));
    }

    pub(in crate::broker) fn hand_over(&mut self, server: SlotId, trigger: SlotId) {
        let Some(trigger) = self.triggers.get(trigger) else {
            return;
        };
        let of_type = self.inner_type(server, &trigger.trigger_type);
        self.members.send(server, |out| {
            answer::register_trigger(
                out,
                &trigger.id,
                &of_type,
                &trigger.target.function_id,
                trigger.config.as_deref().map(RawValue::get),
                trigger.target.metadata.as_deref(),
                trigger.target.namespace.as_deref(),
            );
        });
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
