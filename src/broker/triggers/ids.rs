//! One id is one trigger, and the newest registration has it: what a registration takes the place of, who
//! may end what, and what stands below or above under one id.

use crate::id::SlotId;
use crate::protocol::call::ErrorBody;

use super::trigger::{NOBODY, Trigger};
use super::{Triggers, take_from};

/// Triggers of workers with rules that may stand over each other under one id.
const OF_ONE_ID_MAX: usize = 8;

impl Triggers {
    /// Enters a trigger in place of an older one of its id, which is given back. The error is for
    /// whoever registers it. A worker with rules takes over nobody else's: of its own kind it may
    /// stand over one that does the same, as a program does that has connected again.
    pub(in crate::broker) fn register(
        &mut self,
        mut trigger: Trigger,
    ) -> Result<(SlotId, Option<Trigger>), ErrorBody> {
        trigger.matcher = self.matcher_of(&trigger.trigger_type, trigger.config.as_deref())?;
        trigger.check_ids()?;
        trigger.is_early = !self.is_served(&trigger.trigger_type);
        if trigger.is_early {
            self.early.check_room(trigger.owner, trigger.held_bytes())?;
        }
        let replaced = match trigger.guard {
            Some(_) => self.make_way_for_guarded(&trigger)?,
            None => self.make_way(&trigger.id, trigger.owner),
        };
        self.forget_lost(trigger.owner, &trigger.id);
        trigger.order = self.next_order;
        self.next_order += 1;
        let (id, owner, order) = (trigger.id.clone(), trigger.owner, trigger.order);
        trigger.below = self.by_id.get(&id).copied();
        let (below, trigger_type) = (trigger.below, trigger.trigger_type.clone());
        self.holdings.add(owner, trigger.held_bytes());
        if trigger.is_early {
            self.early.add(owner, trigger.held_bytes());
        }
        let slot = self.triggers.insert(trigger);
        if let Some(below) = below {
            self.stop_following(below);
            if let Some(below) = self.triggers.get_mut(below) {
                below.above = Some(slot);
            }
        }
        self.by_id.insert(id, slot);
        self.by_owner.entry(owner).or_default().insert(order, slot);
        self.by_type
            .entry(trigger_type)
            .or_default()
            .insert(order, slot);
        self.set_following(slot);
        Ok((slot, replaced))
    }

    /// Ends all triggers of an id, and remembers who has lost it to somebody else.
    fn make_way(&mut self, id: &str, to: SlotId) -> Option<Trigger> {
        let mut replaced = None;
        while let Some(older) = self.by_id.get(id).and_then(|slot| self.triggers.get(*slot)) {
            let owner = older.owner;
            if owner != to && owner != NOBODY && !self.ended.contains(&owner) {
                self.lost.entry(owner).or_default().insert(id.into());
                self.holdings.add(owner, id.len());
            }
            replaced = self.end_of(id, owner).or(replaced);
        }
        replaced
    }

    /// Ends an older one of the same worker. Those of others stay, if they do the same.
    fn make_way_for_guarded(&mut self, trigger: &Trigger) -> Result<Option<Trigger>, ErrorBody> {
        let others: Vec<&Trigger> = self
            .of_id(&trigger.id)
            .filter(|older| older.owner != trigger.owner && !self.ended.contains(&older.owner))
            .collect();
        let may_stand =
            |older: &&Trigger| older.guard == trigger.guard && older.is_same_as(trigger);
        if others.len() < OF_ONE_ID_MAX && others.iter().all(may_stand) {
            let owners = self.of_id(&trigger.id).map(|older| older.owner);
            let gone = |owner: &SlotId| *owner == trigger.owner || self.ended.contains(owner);
            let gone: Vec<SlotId> = owners.filter(gone).collect();
            let ended = gone
                .into_iter()
                .map(|owner| self.end_of(&trigger.id, owner));
            return Ok(ended.fold(None, Option::or));
        }
        let message = "the id is that of a trigger of another worker";
        Err(ErrorBody::new("trigger_registration_failed", message))
    }

    /// The newest of that id, then those below.
    pub(super) fn of_id(&self, id: &str) -> impl Iterator<Item = &Trigger> {
        let newest = self.by_id.get(id).and_then(|slot| self.triggers.get(*slot));
        std::iter::successors(newest, |trigger| self.triggers.get(trigger.below?))
    }

    /// A worker wants the trigger to end, which may be anybody's: but an id that a newer one has taken
    /// over is not the older one's any more, and who has rules ends its own only. Given back once
    /// nobody has it.
    pub(in crate::broker) fn unregister(
        &mut self,
        id: &str,
        by: SlotId,
        has_rules: bool,
    ) -> Option<Trigger> {
        let is_own = self.of_id(id).any(|trigger| trigger.owner == by);
        let has_lost = self.lost.get(&by).is_some_and(|lost| lost.contains(id));
        if is_own {
            return self.end_of(id, by);
        }
        if has_rules || has_lost {
            return None;
        }
        let owners: Vec<SlotId> = self.of_id(id).map(|trigger| trigger.owner).collect();
        let ended = owners.into_iter().map(|owner| self.end_of(id, owner));
        ended.last().flatten()
    }

    /// Ends that worker's trigger of that id. Given back when no other one stands below or above.
    pub(super) fn end_of(&mut self, id: &str, owner: SlotId) -> Option<Trigger> {
        let mut slot = *self.by_id.get(id)?;
        while self.triggers.get(slot)?.owner != owner {
            slot = self.triggers.get(slot)?.below?;
        }
        self.stop_following(slot);
        let trigger = self.triggers.remove(slot)?;
        self.holdings.remove(trigger.owner, trigger.held_bytes());
        if trigger.is_early {
            self.early.remove(trigger.owner, trigger.held_bytes());
        }
        take_from(&mut self.by_owner, &trigger.owner, trigger.order);
        take_from(&mut self.by_type, &trigger.trigger_type, trigger.order);
        if let Some(below) = trigger.below.and_then(|below| self.triggers.get_mut(below)) {
            below.above = trigger.above;
        }
        match (trigger.above, trigger.below) {
            (Some(above), below) => {
                if let Some(above) = self.triggers.get_mut(above) {
                    above.below = below;
                }
                None
            }
            (None, Some(below)) => {
                self.by_id.insert(id.into(), below);
                self.set_following(below);
                None
            }
            (None, None) => {
                self.by_id.remove(id);
                Some(trigger)
            }
        }
    }

    /// Whether [`Triggers::unregister`] would end something that is there.
    pub(in crate::broker) fn may_end(&self, id: &str, by: SlotId, has_rules: bool) -> bool {
        let mut there = self.of_id(id).filter(|it| !self.ended.contains(&it.owner));
        let has_lost = self.lost.get(&by).is_some_and(|lost| lost.contains(id));
        there.any(|trigger| trigger.owner == by || (!has_rules && !has_lost))
    }

    /// The id is that worker's again.
    pub(in crate::broker) fn forget_lost(&mut self, owner: SlotId, id: &str) {
        if let Some(lost) = self.lost.get_mut(&owner)
            && lost.remove(id)
        {
            self.holdings.remove(owner, id.len());
        }
    }
}
