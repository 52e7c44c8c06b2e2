//! Who serves a trigger type, what a config means to it, and what becomes of its triggers when it changes
//! hands.

use serde_json::value::RawValue;

use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::trigger::{
    LogTrigger, PresenceTrigger, StreamTrigger, SubscribeTrigger, TriggerType,
};

use super::trigger::{Matcher, ServedType};
use super::{Triggers, behind};

impl Triggers {
    /// A worker serves a type from now on: its triggers are to be read again.
    pub(super) fn serve_type(&mut self, id: &str, served: ServedType) {
        let owner = served.owner;
        self.holdings.add(owner, id.len() + served.held_bytes());
        if let Some(older) = self.types.insert(id.into(), served) {
            self.leave_type(id, &older);
        }
        self.types_by_owner
            .entry(owner)
            .or_default()
            .insert(id.into());
    }

    /// A worker is gone: a type that it served is ours again where it is built in. True when its triggers
    /// are to be read again, for nobody else serves it.
    pub(in crate::broker) fn forget_type(&mut self, id: &str, owner: SlotId) -> bool {
        if self
            .types
            .get(id)
            .is_none_or(|served| served.owner != owner)
        {
            return false;
        }
        if let Some(gone) = self.types.remove(id) {
            self.holdings.remove(owner, id.len() + gone.held_bytes());
        }
        true
    }

    fn leave_type(&mut self, id: &str, older: &ServedType) {
        self.holdings
            .remove(older.owner, id.len() + older.held_bytes());
        if let Some(ids) = self.types_by_owner.get_mut(&older.owner) {
            ids.remove(id);
            if ids.is_empty() {
                self.types_by_owner.remove(&older.owner);
            }
        }
    }

    /// The worker that serves the type, if one does.
    pub(super) fn server_of(&self, trigger_type: &str) -> Option<SlotId> {
        let server = self.types.get(trigger_type).map(|served| served.owner);
        server.filter(|server| !self.ended.contains(server))
    }

    /// Whether triggers of that type do anything: it is built in, or a worker serves it.
    pub(super) fn is_served(&self, trigger_type: &str) -> bool {
        TriggerType::from_id(trigger_type).is_some() || self.server_of(trigger_type).is_some()
    }

    /// The first type behind that id that a worker serves.
    pub(in crate::broker) fn next_type(&self, after: Option<&str>) -> Option<(&str, &ServedType)> {
        let mut types = self.types.range::<str, _>(behind(after));
        let served = types.find(|(_, served)| !self.ended.contains(&served.owner));
        served.map(|(id, served)| (&**id, served))
    }

    pub(super) fn matcher_of(
        &self,
        trigger_type: &str,
        config: Option<&RawValue>,
    ) -> Result<Matcher, ErrorBody> {
        if self.server_of(trigger_type).is_some() {
            return Ok(Matcher::Elsewhere);
        }
        let Some(built_in) = TriggerType::from_id(trigger_type) else {
            return Ok(Matcher::Elsewhere); // it waits for somebody who serves its type
        };
        Ok(match built_in {
            TriggerType::Stream => Matcher::Event(StreamTrigger::read(config)?),
            TriggerType::Join => Matcher::Join(PresenceTrigger::read(built_in, config)?),
            TriggerType::Leave => Matcher::Leave(PresenceTrigger::read(built_in, config)?),
            TriggerType::Log => Matcher::Log(LogTrigger::read(config)),
            TriggerType::Subscribe => Matcher::Topic(SubscribeTrigger::read(config)),
            TriggerType::FunctionsAvailable => Matcher::FunctionsAvailable,
            TriggerType::WorkersAvailable => Matcher::WorkersAvailable,
        })
    }

    /// Triggers of that type from the `from`th registration on, so many of those that were there
    /// before `until`: they are read again, for their type has changed hands. Gives them, and where
    /// to go on.
    pub(super) fn retype(
        &mut self,
        trigger_type: &str,
        from: u64,
        until: u64,
        most: usize,
    ) -> (Vec<SlotId>, Option<u64>) {
        let of_type = self.by_type.get(trigger_type).into_iter();
        let slots: Vec<(u64, SlotId)> = of_type
            .flat_map(|of_type| of_type.range(from..until))
            .map(|(order, slot)| (*order, *slot))
            .take(most)
            .collect();
        for (_, slot) in &slots {
            let config = self.triggers.get(*slot).and_then(|t| t.config.clone());
            // With a config that says nothing to us it waits.
            let matcher = self.matcher_of(trigger_type, config.as_deref());
            self.stop_following(*slot);
            let is_served = self.is_served(trigger_type);
            if let Some(trigger) = self.triggers.get_mut(*slot) {
                trigger.matcher = matcher.unwrap_or(Matcher::Elsewhere);
                if is_served && std::mem::take(&mut trigger.is_early) {
                    self.early.remove(trigger.owner, trigger.held_bytes());
                }
            }
            self.set_following(*slot);
        }
        let next = slots.last().filter(|_| slots.len() == most);
        let next = next.map(|(order, _)| order + 1);
        (slots.into_iter().map(|(_, slot)| slot).collect(), next)
    }
}
