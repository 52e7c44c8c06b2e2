//! What SDK workers register as triggers and unregister, and who is handed them: whoever serves their type.

use serde_json::value::RawValue;

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::answer;
use crate::protocol::attached::TRIGGER_TYPES;
use crate::protocol::call::{ErrorBody, TriggerRegistration};
use crate::protocol::trigger::TriggerType;

use crate::broker::Broker;
use crate::broker::holdings::REGISTERED_BYTES_MAX;
use crate::broker::registry::Functions;
use crate::broker::triggers::Triggers;
use crate::broker::triggers::trigger::{ServedType, Trigger};
use crate::broker::turn::Turn;

impl Broker {
    /// Registers a trigger of the function that callers know by that id: a worker of a listener with
    /// rules may know it by another.
    pub(in crate::broker) fn register_trigger(
        &mut self,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
        function_id: &str,
    ) {
        let (turn, triggers) = (&mut self.turn, &mut self.triggers);
        match triggers.enter(turn, &self.functions, (id, id), asked, function_id) {
            Ok(slot) => {
                turn.debug(id, || {
                    let (of_type, id) = (Shown(&asked.trigger_type), Shown(&asked.id));
                    format!(
                        "registers trigger {id} of type {of_type} for {}",
                        Shown(function_id)
                    )
                });
                triggers.trigger_entered(turn, id, asked, slot);
                if turn.members.is_link(id) {
                    turn.tell_registration(id, asked, None);
                    if let Some(attached) = &mut self.attached {
                        attached.look_for_what_waits(turn, triggers, slot);
                    }
                }
            }
            Err(error) => {
                turn.warn_of_trigger_refused(id, asked, &error);
                turn.tell_registration(id, asked, Some(&error));
            }
        }
    }

    /// The worker `id` wants that trigger to end.
    pub(in crate::broker) fn unregister_trigger(&mut self, id: SlotId, trigger_id: &str) {
        let has_rules = self.turn.members.guard_of(id).is_some();
        if let Some(trigger) = self.triggers.unregister(trigger_id, id, has_rules) {
            if let Some(attached) = self.attached.as_mut().filter(|it| it.stands_by()) {
                attached.lose_gate(&trigger);
            }
            self.triggers.trigger_gone(&mut self.turn, &trigger);
        }
    }
}

impl Triggers {
    /// `id` wants the trigger, `owner` has it from then on.
    pub(in crate::broker) fn enter(
        &mut self,
        turn: &mut Turn,
        functions: &Functions,
        (id, owner): (SlotId, SlotId),
        asked: &TriggerRegistration<'_>,
        function_id: &str,
    ) -> Result<SlotId, ErrorBody> {
        let trigger_type = &*asked.trigger_type;
        let since = turn.hooks.next_version();
        let mut trigger = Trigger::new(&asked.id, trigger_type, function_id, owner, since);
        trigger.config = asked.config.map(ToOwned::to_owned);
        trigger.target.metadata = asked.metadata.map(|json| json.get().into());
        trigger.target.namespace = turn.members.namespace_of(id, asked.namespace.as_deref());
        trigger.names_namespace = asked.namespace.is_some() || owner != id;
        trigger.guard = turn.members.guard_of(id);
        // Other workers read both: in listings, and whoever serves the type.
        let texts = [asked.config, asked.metadata].into_iter().flatten();
        turn.check_all_passed_on(texts)
            .map_err(|why| ErrorBody::new("trigger_registration_failed", why))?;
        check_handed_over(turn, trigger_type)?;
        functions.check_called_by_trigger(&turn.members, id, trigger.target.function())?;
        self.check_server_of(turn, trigger_type, id)?;
        self.check_room_for(turn, id, &trigger)?;
        let (slot, replaced) = self.register(trigger)?;
        turn.hooks.change();
        if let Some(replaced) = replaced.filter(|older| *older.trigger_type != *trigger_type) {
            self.trigger_gone(turn, &replaced);
        }
        Ok(slot)
    }

    /// Whoever serves its type is handed it; if nobody does, that is said.
    pub(in crate::broker) fn trigger_entered(
        &self,
        turn: &mut Turn,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
        slot: SlotId,
    ) {
        if let Some(server) = self.server_of(&asked.trigger_type) {
            self.hand_over(turn, server, slot);
        }
        if self.get(slot).is_some_and(|trigger| trigger.is_early) {
            turn.warn_of_early_trigger(id, asked);
        }
    }

    /// What an engine hands over it keeps itself; an SDK worker's triggers are bounded.
    fn check_room_for(&self, turn: &Turn, id: SlotId, trigger: &Trigger) -> Result<(), ErrorBody> {
        if turn.members.is_link(id) || self.has_room(trigger.owner, trigger.held_bytes()) {
            return Ok(());
        }
        let message = format!(
            "all triggers and types of the worker would hold more than {REGISTERED_BYTES_MAX} bytes"
        );
        Err(ErrorBody::new("trigger_registration_failed", message))
    }

    /// Whether the worker that serves the type reads what it is handed. One that serves its own
    /// triggers is not read itself until it does.
    fn check_server_of(
        &self,
        turn: &Turn,
        trigger_type: &str,
        id: SlotId,
    ) -> Result<(), ErrorBody> {
        let server = self.server_of(trigger_type);
        let cause = server
            .filter(|server| *server != id)
            .and_then(|server| turn.no_room_at(server));
        match cause {
            Some(cause) => Err(ErrorBody::new("trigger_registration_failed", cause)),
            None => Ok(()),
        }
    }

    /// Removes triggers of that worker as this turn may: those registered before the `until`th. `lost` hears
    /// of each whose id nobody has now.
    pub(in crate::broker) fn forget_as_may(
        &mut self,
        turn: &mut Turn,
        owner: SlotId,
        until: u64,
        mut lost: impl FnMut(&Trigger),
    ) {
        while turn.steps.are_left() {
            let most = turn.steps.left();
            let (forgotten, gone) = self.forget_some_of(owner, until, most);
            turn.steps.take(forgotten);
            for trigger in gone {
                self.trigger_gone(turn, &trigger);
                lost(&trigger);
            }
            if forgotten < most {
                return;
            }
        }
    }

    /// A trigger is no more: whoever serves its type is told.
    fn trigger_gone(&self, turn: &mut Turn, trigger: &Trigger) {
        turn.hooks.change();
        if let Some(server) = self.server_of(&trigger.trigger_type)
            && self.was_handed_over(trigger)
        {
            let of_type = turn.members.inner_type(server, &trigger.trigger_type);
            turn.members.send(server, |out| {
                answer::unregister_trigger(out, &trigger.id, &of_type);
            });
        }
    }

    /// Why a worker may not serve that trigger type, if it may not.
    pub(in crate::broker) fn why_not_served(
        &self,
        turn: &Turn,
        id: SlotId,
        trigger_type: &str,
    ) -> Option<&'static str> {
        turn.members.guard_of(id)?;
        if TriggerType::from_id(trigger_type).is_some() {
            return Some("it is the server's own");
        }
        let server = self.server_of(trigger_type);
        server
            .is_some_and(|server| server != id)
            .then_some("another worker serves it")
    }

    /// A worker wants to serve that type. Err: that comes to nothing, for this reason.
    pub(in crate::broker) fn begin_serving(
        &mut self,
        turn: &mut Turn,
        trigger_type: &str,
        served: ServedType,
    ) -> Result<(), String> {
        let id = served.owner;
        if !self.has_room(id, trigger_type.len() + served.held_bytes()) {
            return Err(format!(
                "a trigger type, which would make those of the worker hold more than {REGISTERED_BYTES_MAX} bytes"
            ));
        }
        turn.debug(id, || {
            format!("serves trigger type {}", Shown(trigger_type))
        });
        self.serve_type(trigger_type, served);
        self.begin_retyping(turn, trigger_type.into(), Some(id));
        Ok(())
    }

    pub(super) fn hand_over(&self, turn: &mut Turn, server: SlotId, trigger: SlotId) {
        let Some(trigger) = self.get(trigger) else {
            return;
        };
        let of_type = turn.members.inner_type(server, &trigger.trigger_type);
        turn.members.send(server, |out| {
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

/// An engine may hand us triggers of our own types only.
fn check_handed_over(turn: &Turn, trigger_type: &str) -> Result<(), ErrorBody> {
    let is_ours = TriggerType::from_id(trigger_type)
        .is_some_and(|trigger_type| TRIGGER_TYPES.contains(&trigger_type));
    if turn.attached_to.is_none() || is_ours {
        return Ok(());
    }
    let error = ErrorBody::new("trigger_type_not_found", "Trigger type not found");
    Err(error)
}
