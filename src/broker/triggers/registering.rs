//! What SDK workers register as triggers and unregister, and who is handed them: whoever serves their type.

use serde_json::value::RawValue;

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer;
use crate::protocol::call::{ErrorBody, TriggerRegistration};

use crate::broker::Broker;
use crate::broker::holdings::REGISTERED_BYTES_MAX;
use crate::broker::triggers::trigger::{ServedType, Trigger};

impl Broker {
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

    pub(in crate::broker) fn serve_type(
        &mut self,
        id: SlotId,
        trigger_type: &str,
        served: ServedType,
    ) {
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
}
