//! The trigger types and the triggers: who serves a type, and which functions an event calls.
//!
//! Pure. One id is one trigger, and the newest registration has it. A worker may take a built-in type
//! over; while it has it none of our events fire its triggers, and when it goes type and triggers are
//! ours again (spec: triggers.md §1, engine-protocol.md §6).

pub(in crate::broker) mod audience;
mod early;
pub(in crate::broker) mod firing;
mod followers;
pub(in crate::broker) mod hooks;
pub(in crate::broker) mod presence;
pub(in crate::broker) mod trigger;

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::{HashMap, HashSet, hash_set};
use serde_json::value::RawValue;

use crate::collections::Named;
use crate::config::Limits;
use crate::id::{SlotId, Text};
use crate::protocol::call::ErrorBody;
use crate::protocol::trigger::{
    LogTrigger, PresenceTrigger, StreamTrigger, SubscribeTrigger, TriggerType,
};
use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;

use crate::broker::holdings::Holdings;
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::early::Early;
use crate::broker::triggers::followers::Followers;
use crate::broker::triggers::trigger::{Called, Matcher, NOBODY, ServedType, Trigger};

#[derive(Default)]
pub(in crate::broker) struct Triggers {
    triggers: Named<Trigger>,
    /// The newest of each id, in the order of listings.
    by_id: BTreeMap<Box<str>, SlotId>,
    /// Of each worker, in order of registration.
    by_owner: HashMap<SlotId, BTreeMap<u64, SlotId>>,
    /// Of each type, likewise.
    by_type: HashMap<Box<str>, BTreeMap<u64, SlotId>>,
    /// Ids that a worker had and that a newer one has taken over.
    lost: HashMap<SlotId, HashSet<Box<str>>>,
    /// Those of our own types, by what they follow.
    followers: Followers,
    /// Functions that joins are put to, by the listeners with rules of those who want it; none: of
    /// one without.
    join_functions: HashMap<Box<str>, HashMap<Option<usize>, usize>>,
    /// Types that workers serve, in the order of listings.
    types: BTreeMap<Box<str>, ServedType>,
    types_by_owner: HashMap<SlotId, HashSet<Box<str>>>,
    /// What each worker's triggers and types hold.
    holdings: Holdings,
    /// The same of those triggers that were there before their type.
    early: Early,
    /// Owners that are gone. What is left of theirs does nothing, and is removed bit by bit.
    ended: HashSet<SlotId>,
    next_order: u64,
}

/// Where one of an audience stands, and what is called for it: the trigger and its function. None: it
/// hears of nothing now.
pub(in crate::broker) struct Next {
    pub(in crate::broker) order: u64,
    pub(in crate::broker) called: Option<(SlotId, Called)>,
}

/// Ids to be gone through bit by bit.
pub(in crate::broker) type Ids = hash_set::IntoIter<Box<str>>;

/// Triggers of workers with rules that may stand over each other under one id.
const OF_ONE_ID_MAX: usize = 8;

impl Triggers {
    pub(in crate::broker) fn new(limits: &Limits) -> Triggers {
        Triggers {
            early: Early::new(limits),
            ..Triggers::default()
        }
    }

    pub(in crate::broker) fn set_limits(&mut self, limits: &Limits) {
        self.early.set_limits(limits);
    }

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
    fn of_id(&self, id: &str) -> impl Iterator<Item = &Trigger> {
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
    fn end_of(&mut self, id: &str, owner: SlotId) -> Option<Trigger> {
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

    /// Whether a worker may register one more trigger, or a type, with texts of so many bytes.
    pub(in crate::broker) fn has_room(&self, owner: SlotId, text_bytes: usize) -> bool {
        self.holdings.has_room(owner, text_bytes)
    }

    /// A worker stands in a namespace from now on: its triggers that name none follow it. So many of them
    /// do, from the `from`th registration on: gives how many were looked at, and where to go on.
    pub(in crate::broker) fn settle_some_in(
        &mut self,
        owner: SlotId,
        namespace: &Text,
        from: u64,
        most: usize,
    ) -> (usize, Option<u64>) {
        let owned = self.by_owner.get(&owner).into_iter();
        let mut looked_at = 0;
        let mut last = from;
        for (order, slot) in owned.flat_map(|owned| owned.range(from..)).take(most) {
            looked_at += 1;
            last = *order;
            if let Some(trigger) = self
                .triggers
                .get_mut(*slot)
                .filter(|it| !it.names_namespace)
            {
                let before = trigger.held_bytes();
                trigger.target.namespace = Some(Text::clone(namespace));
                let grown = trigger.held_bytes() - before;
                self.holdings.grow(owner, grown);
                if trigger.is_early {
                    self.early.grow(owner, grown);
                }
            }
        }
        (looked_at, (looked_at == most).then_some(last + 1))
    }

    /// A worker is gone: its triggers fire no more, and it serves no type. Gives the ids that others have
    /// taken from it, and its types; these and its triggers have still to be forgotten.
    pub(in crate::broker) fn end(&mut self, owner: SlotId) -> (Ids, Ids) {
        self.ended.insert(owner);
        let lost = self.lost.remove(&owner).unwrap_or_default();
        let types = self.types_by_owner.remove(&owner).unwrap_or_default();
        (lost.into_iter(), types.into_iter())
    }

    /// Nothing is left of a worker that is gone.
    pub(in crate::broker) fn has_ended(&mut self, owner: SlotId) {
        self.ended.remove(&owner);
    }

    /// A worker that is gone had lost that id.
    pub(in crate::broker) fn release_lost(&mut self, owner: SlotId, id: &str) {
        self.holdings.remove(owner, id.len());
    }

    /// Whether that worker has triggers that were registered before the `until`th.
    pub(in crate::broker) fn has_some_of(&self, owner: SlotId, until: u64) -> bool {
        let owned = self.by_owner.get(&owner);
        owned.is_some_and(|owned| owned.range(..until).next().is_some())
    }

    /// So many triggers of a worker go, of those registered before the `until`th: gives how many did, and
    /// those whose ids nobody has now.
    pub(in crate::broker) fn forget_some_of(
        &mut self,
        owner: SlotId,
        until: u64,
        most: usize,
    ) -> (usize, Vec<Trigger>) {
        let slots = self.by_owner.get(&owner).into_iter();
        let ids: Vec<Box<str>> = slots
            .flat_map(|owned| owned.range(..until).take(most))
            .filter_map(|(_, slot)| Some(self.triggers.get(*slot)?.id.clone()))
            .collect();
        let gone = ids.iter().filter_map(|id| self.end_of(id, owner)).collect();
        (ids.len(), gone)
    }

    /// A worker serves a type from now on: its triggers are to be read again.
    pub(in crate::broker) fn serve_type(&mut self, id: &str, served: ServedType) {
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
    pub(in crate::broker) fn server_of(&self, trigger_type: &str) -> Option<SlotId> {
        let server = self.types.get(trigger_type).map(|served| served.owner);
        server.filter(|server| !self.ended.contains(server))
    }

    /// Whether triggers of that type do anything: it is built in, or a worker serves it.
    fn is_served(&self, trigger_type: &str) -> bool {
        TriggerType::from_id(trigger_type).is_some() || self.server_of(trigger_type).is_some()
    }

    pub(in crate::broker) fn get(&self, slot: SlotId) -> Option<&Trigger> {
        self.triggers.get(slot)
    }

    /// All triggers by id, from the first one behind `after` on, until `each` has enough. Gives the last
    /// id, or nothing when there are no more.
    pub(in crate::broker) fn list_some(
        &self,
        after: Option<&str>,
        mut each: impl FnMut(&Trigger) -> bool,
    ) -> Option<Box<str>> {
        for (id, _) in self.by_id.range::<str, _>(behind(after)) {
            let mut goes_on = true;
            let there = self.of_id(id).filter(|it| !self.ended.contains(&it.owner));
            there.for_each(|trigger| goes_on &= each(trigger));
            if !goes_on {
                return Some(id.clone());
            }
        }
        None
    }

    /// The newest trigger of that id whose owner is there.
    pub(in crate::broker) fn find(&self, id: &str) -> Option<&Trigger> {
        self.of_id(id).find(|it| !self.ended.contains(&it.owner))
    }

    /// The first type behind that id that a worker serves.
    pub(in crate::broker) fn next_type(&self, after: Option<&str>) -> Option<(&str, &ServedType)> {
        let mut types = self.types.range::<str, _>(behind(after));
        let served = types.find(|(_, served)| !self.ended.contains(&served.owner));
        served.map(|(id, served)| (&**id, served))
    }

    /// The first trigger of that audience that was registered as the `from`th or later, but before
    /// `until`.
    pub(in crate::broker) fn next_of(
        &self,
        audience: &Audience,
        from: u64,
        until: u64,
    ) -> Option<Next> {
        let next = self.followers.next(audience, from);
        let (order, slot) = next.filter(|(order, _)| *order < until)?;
        let firing = self.firing(slot);
        let trigger = firing.and_then(|slot| self.triggers.get(slot));
        let heard = trigger.filter(|trigger| trigger.hears_of(audience));
        Some(Next {
            order,
            called: heard.and_then(|trigger| Some((firing?, trigger.called()))),
        })
    }

    /// A trigger fires. Its id, once in its life, when it does so very often within a second.
    pub(in crate::broker) fn goes_in_a_circle(
        &mut self,
        slot: SlotId,
        second: u64,
    ) -> Option<Box<str>> {
        let trigger = self.triggers.get_mut(slot)?;
        let is_news = trigger.rate.goes_in_a_circle(second);
        is_news.then(|| trigger.id.clone())
    }

    /// The function that a trigger puts joins to, and of which stream.
    pub(in crate::broker) fn join_function(&self, slot: SlotId) -> Option<(Option<&str>, &str)> {
        self.triggers.get(slot)?.join_function()
    }

    /// Whether leaves are told to anybody.
    pub(in crate::broker) fn has_leaves(&self) -> bool {
        !self.followers.leaves.is_empty()
    }

    /// Whether anybody hears of what is logged.
    pub(in crate::broker) fn has_logs(&self) -> bool {
        !self.followers.logs.is_empty()
    }

    /// What some trigger follows: events, joins, leaves.
    pub(in crate::broker) fn followed(&self) -> (Followed, Streams, Streams) {
        self.followers.followed()
    }

    /// That trigger, or the newest one below it, if their owner is there.
    fn firing(&self, slot: SlotId) -> Option<SlotId> {
        if self.ended.is_empty() {
            return Some(slot);
        }
        let below = |slot: &SlotId| self.triggers.get(*slot)?.below;
        std::iter::successors(Some(slot), below).find(|slot| {
            let trigger = self.triggers.get(*slot);
            trigger.is_some_and(|trigger| !self.ended.contains(&trigger.owner))
        })
    }

    /// Whether a join is put to that function because of a worker that came to another listener than
    /// this one, which has rules.
    pub(in crate::broker) fn is_join_function_of_others(
        &self,
        function_id: &str,
        listener: usize,
    ) -> bool {
        let wanted = self.join_functions.get(function_id);
        wanted.is_some_and(|wanted| wanted.keys().any(|by| *by != Some(listener)))
    }

    fn matcher_of(
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
    pub(in crate::broker) fn retype(
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

    pub(in crate::broker) fn is_empty(&self) -> bool {
        let is_left = self.holdings.is_left() || !self.early.is_empty();
        self.triggers.iter().next().is_none()
            && self.by_id.is_empty()
            && self.types.is_empty()
            && self.ended.is_empty()
            && !is_left
    }

    /// The number of the next registration.
    pub(in crate::broker) fn next_order(&self) -> u64 {
        self.next_order
    }

    /// What the trigger follows calls it from now on, in its place by order of registration.
    fn set_following(&mut self, slot: SlotId) {
        let Some(trigger) = self.triggers.get(slot) else {
            return;
        };
        if trigger.above.is_some() {
            return; // the one above it is called
        }
        self.followers.add(trigger.order, slot, &trigger.matcher);
        if let Matcher::Join(_) = trigger.matcher {
            for function in trigger.functions() {
                let wanted = self.join_functions.entry(function.into()).or_default();
                *wanted.entry(trigger.guard).or_insert(0) += 1;
            }
        }
    }

    fn stop_following(&mut self, slot: SlotId) {
        let Some(trigger) = self.triggers.get(slot) else {
            return;
        };
        if trigger.above.is_some() {
            return;
        }
        self.followers.remove(trigger.order, &trigger.matcher);
        if let Matcher::Join(_) = trigger.matcher {
            for function in trigger.functions() {
                let Some(wanted) = self.join_functions.get_mut(function) else {
                    continue;
                };
                if let Some(count) = wanted.get_mut(&trigger.guard) {
                    *count -= 1;
                }
                wanted.retain(|_, count| *count > 0);
                if wanted.is_empty() {
                    self.join_functions.remove(function);
                }
            }
        }
    }
}

/// The ids behind that one; none: all.
fn behind(after: Option<&str>) -> (Bound<&str>, Bound<&str>) {
    (
        after.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}

fn take_from<K, Q>(lists: &mut HashMap<K, BTreeMap<u64, SlotId>>, key: &Q, order: u64)
where
    K: Eq + std::hash::Hash + std::borrow::Borrow<Q>,
    Q: Eq + std::hash::Hash + ?Sized,
{
    if let Some(list) = lists.get_mut(key) {
        list.remove(&order);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::triggers::trigger::CIRCLE_CALLS_A_SECOND;
    use crate::id::{GroupKey, ItemId};

    fn trigger(id: &str, trigger_type: &str, config: &str, owner: u32) -> Trigger {
        let mut trigger = Trigger::new(
            id,
            trigger_type,
            &format!("f-{id}"),
            SlotId::first(owner),
            1,
        );
        trigger.config = Some(RawValue::from_string(config.to_owned()).unwrap());
        trigger
    }

    fn event(group: &str, item: Option<&str>, version: u64) -> Audience {
        Audience::Event {
            key: GroupKey::new("s", group),
            item: item.map(ItemId::from),
            version,
        }
    }

    /// The functions that are called for it.
    fn called(triggers: &Triggers, audience: &Audience) -> Vec<String> {
        let (mut from, mut called) = (0, Vec::new());
        while let Some(next) = triggers.next_of(audience, from, u64::MAX) {
            from = next.order + 1;
            let function = next.called.map(|(_, called)| called.target.function_id);
            called.extend(function.map(String::from));
        }
        called
    }

    fn events(triggers: &Triggers, group: &str, item: Option<&str>) -> Vec<String> {
        called(triggers, &event(group, item, 1))
    }

    fn joins(triggers: &Triggers) -> usize {
        called(triggers, &Audience::Join("any".into())).len()
    }

    #[test]
    fn an_event_calls_what_matches_in_order_of_registration() {
        let mut triggers = Triggers::default();
        for (id, config) in [
            ("a", r#"{"stream_name":"s","group_id":"g"}"#),
            ("b", r#"{"stream_name":"s"}"#),
            ("c", r#"{"stream_name":"s","group_id":"g","item_id":"i"}"#),
            ("d", r#"{"stream_name":"other"}"#),
        ] {
            triggers.register(trigger(id, "stream", config, 1)).unwrap();
        }
        assert_eq!(events(&triggers, "g", Some("i")), ["f-a", "f-b", "f-c"]);
        assert_eq!(events(&triggers, "g", None), ["f-a", "f-b"]);
        assert_eq!(events(&triggers, "x", Some("i")), ["f-b"]);
        let (events, joins, _) = triggers.followed();
        assert!(events.has("s", "g", None) && events.has("other", "g", None));
        assert!(!joins.has("s"));
    }

    #[test]
    fn a_trigger_hears_of_nothing_that_happened_before_it() {
        let mut triggers = Triggers::default();
        let mut late = trigger("a", "stream", r#"{"stream_name":"s"}"#, 1);
        late.since = 2;
        triggers.register(late).unwrap();
        assert!(events(&triggers, "g", None).is_empty());
        assert_eq!(called(&triggers, &event("g", None, 2)).len(), 1);
    }

    #[test]
    fn one_id_is_one_trigger_whatever_its_type() {
        let mut triggers = Triggers::default();
        triggers
            .register(trigger("a", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        let (_, replaced) = triggers
            .register(trigger("a", "stream:join", "{}", 2))
            .unwrap();
        assert!(replaced.is_some_and(|old| &*old.trigger_type == "stream"));
        assert!(events(&triggers, "g", None).is_empty());
        assert_eq!(joins(&triggers), 1);
        assert!(
            triggers
                .forget_some_of(SlotId::first(1), u64::MAX, 9)
                .1
                .is_empty(),
            "it is the newer owner's"
        );
        assert_eq!(
            triggers
                .forget_some_of(SlotId::first(2), u64::MAX, 9)
                .1
                .len(),
            1
        );
        assert_eq!(joins(&triggers), 0);
    }

    #[test]
    fn an_id_that_a_newer_worker_has_taken_over_is_not_ended_by_the_older_one() {
        let mut triggers = Triggers::default();
        let config = r#"{"stream_name":"s"}"#;
        triggers
            .register(trigger("a", "stream", config, 1))
            .unwrap();
        triggers
            .register(trigger("a", "stream", config, 2))
            .unwrap();
        assert!(triggers.unregister("a", SlotId::first(1), false).is_none());
        assert_eq!(events(&triggers, "g", None), ["f-a"]);
        triggers
            .register(trigger("a", "stream", config, 1))
            .unwrap();
        assert!(triggers.unregister("a", SlotId::first(2), false).is_none());
        assert!(
            triggers.unregister("a", SlotId::first(1), false).is_some(),
            "again its own"
        );
        triggers
            .register(trigger("a", "stream", config, 2))
            .unwrap();
        assert!(
            triggers.unregister("a", SlotId::first(3), false).is_some(),
            "anybody may"
        );
        for owner in 1..=3 {
            let (lost, _) = triggers.end(SlotId::first(owner));
            for id in lost {
                triggers.release_lost(SlotId::first(owner), &id);
            }
            triggers.forget_some_of(SlotId::first(owner), u64::MAX, 9);
            triggers.has_ended(SlotId::first(owner));
        }
        assert!(triggers.lost.is_empty() && triggers.holdings.is_empty());
    }

    #[test]
    fn a_worker_with_rules_neither_replaces_nor_ends_what_others_have() {
        let mut triggers = Triggers::default();
        let config = r#"{"stream_name":"s"}"#;
        let guarded = |config: &str, owner| {
            let mut trigger = trigger("a", "stream", config, owner);
            trigger.guard = Some(1);
            trigger
        };
        triggers
            .register(trigger("a", "stream", config, 1))
            .unwrap();
        assert!(triggers.register(guarded(config, 2)).is_err());
        assert!(triggers.unregister("a", SlotId::first(2), true).is_none());
        assert!(triggers.unregister("a", SlotId::first(1), false).is_some());

        // Of its own kind the newest fires, and the one below when it has ended.
        triggers.register(guarded(config, 2)).unwrap();
        triggers.register(guarded(config, 3)).unwrap();
        assert_eq!(events(&triggers, "g", None), ["f-a"]);
        let other = r#"{"stream_name":"s","group_id":"g"}"#;
        assert!(triggers.register(guarded(other, 4)).is_err());
        assert!(triggers.unregister("a", SlotId::first(4), true).is_none());
        assert!(
            triggers
                .forget_some_of(SlotId::first(3), u64::MAX, 9)
                .1
                .is_empty()
        );
        assert_eq!(events(&triggers, "g", None), ["f-a"]);
        triggers.register(guarded(config, 3)).unwrap();
        assert!(
            triggers.unregister("a", SlotId::first(2), true).is_none(),
            "the one below"
        );
        assert_eq!(events(&triggers, "g", None), ["f-a"]);
        assert!(triggers.unregister("a", SlotId::first(3), true).is_some());
        assert!(events(&triggers, "g", None).is_empty());
        assert!(triggers.by_type.is_empty() && triggers.holdings.is_empty());
    }

    #[test]
    fn triggers_of_an_ended_owner_fire_no_more_while_they_are_still_there() {
        let mut triggers = Triggers::default();
        let config = r#"{"stream_name":"s"}"#;
        let mut guarded = |id: &str, owner| {
            let mut trigger = trigger(id, "stream", config, owner);
            trigger.guard = Some(1);
            triggers.register(trigger).unwrap();
        };
        guarded("a", 1);
        guarded("a", 2);
        guarded("b", 2);
        assert_eq!(events(&triggers, "g", None), ["f-a", "f-b"]);
        triggers.end(SlotId::first(2));
        assert_eq!(events(&triggers, "g", None), ["f-a"], "the one below");
        while triggers.has_some_of(SlotId::first(2), u64::MAX) {
            triggers.forget_some_of(SlotId::first(2), u64::MAX, 1);
            assert_eq!(events(&triggers, "g", None), ["f-a"]);
        }
        triggers.has_ended(SlotId::first(2));
        assert_eq!(events(&triggers, "g", None), ["f-a"]);
    }

    #[test]
    fn a_refused_trigger_leaves_the_older_one() {
        let mut triggers = Triggers::default();
        triggers
            .register(trigger("a", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        assert!(triggers.register(trigger("a", "stream", "{}", 1)).is_err());
        triggers.early = Early::new(&Limits {
            early_triggers: 0,
            ..Limits::default()
        });
        assert!(triggers.register(trigger("a", "unknown", "{}", 1)).is_err());
        assert_eq!(events(&triggers, "g", None), ["f-a"]);
    }

    #[test]
    fn what_waits_for_its_type_counts_until_that_is_served_or_it_ends() {
        let mut triggers = Triggers::default();
        for id in ["a", "b", "c"] {
            triggers.register(trigger(id, "mine", "{}", 1)).unwrap();
        }
        let (settled, next) = triggers.settle_some_in(SlotId::first(1), &"orders".into(), 0, 9);
        assert_eq!((settled, next), (3, None));
        assert!(triggers.unregister("b", SlotId::first(1), false).is_some());
        triggers
            .register(trigger("a", "stream:join", "{}", 1))
            .unwrap();
        assert!(!triggers.early.is_empty());
        let served = ServedType {
            owner: SlotId::first(9),
            description: "mine".into(),
            trigger_request_format: None,
            call_request_format: None,
        };
        triggers.serve_type("mine", served);
        assert_eq!(triggers.retype("mine", 0, 9, 9).0.len(), 1);
        assert!(triggers.early.is_empty());
        // What was accepted once waits for its type to come back, and counts no more.
        let (_, mut types) = triggers.end(SlotId::first(9));
        assert!(triggers.forget_type(&types.next().unwrap(), SlotId::first(9)));
        triggers.retype("mine", 0, 9, 9);
        assert!(triggers.early.is_empty());
        assert!(triggers.unregister("c", SlotId::first(1), false).is_some());
        assert!(triggers.early.is_empty());
    }

    #[test]
    fn a_built_in_type_that_was_taken_over_comes_back_with_its_triggers() {
        let mut triggers = Triggers::default();
        triggers
            .register(trigger("a", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        let served = ServedType {
            owner: SlotId::first(9),
            description: "mine".into(),
            trigger_request_format: None,
            call_request_format: None,
        };
        triggers.serve_type("stream", served);
        let (handed_over, _) = triggers.retype("stream", 0, 9, 9);
        assert_eq!(handed_over.len(), 1, "it is handed over");
        assert_eq!(triggers.server_of("stream"), Some(SlotId::first(9)));
        triggers
            .register(trigger("b", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        triggers.register(trigger("c", "stream", "[]", 1)).unwrap();
        assert!(events(&triggers, "g", None).is_empty());
        let (_, mut types) = triggers.end(SlotId::first(9));
        assert_eq!(triggers.server_of("stream"), None);
        let freed = types.next().unwrap();
        assert!(triggers.forget_type(&freed, SlotId::first(9)) && types.next().is_none());
        triggers.has_ended(SlotId::first(9));
        let (first, next) = triggers.retype("stream", 0, 9, 2);
        assert_eq!((first.len(), next), (2, Some(2)));
        assert_eq!(triggers.retype("stream", 2, 9, 2).0.len(), 1);
        assert_eq!(
            events(&triggers, "g", None),
            ["f-a", "f-b"],
            "c says nothing to us"
        );
    }

    #[test]
    fn a_topic_calls_once_a_trigger_and_the_end_of_one_leaves_the_others() {
        let mut triggers = Triggers::default();
        for id in ["a", "b"] {
            triggers
                .register(trigger(id, "subscribe", r#"{"topic":"t"}"#, 1))
                .unwrap();
        }
        triggers
            .register(trigger("c", "subscribe", r#"{"topic":""}"#, 1))
            .unwrap();
        let of_topic =
            |triggers: &Triggers, topic: &str| called(triggers, &Audience::Topic(topic.into()));
        assert_eq!(of_topic(&triggers, "t"), ["f-a", "f-b"]);
        triggers.unregister("a", SlotId::first(1), false);
        assert_eq!(of_topic(&triggers, "t"), ["f-b"]);
        assert!(of_topic(&triggers, "").is_empty());
    }

    #[test]
    fn a_trigger_that_runs_in_a_circle_is_told_of_once() {
        let mut triggers = Triggers::default();
        triggers
            .register(trigger("a", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        let next = triggers.next_of(&event("g", None, 1), 0, 1);
        let (slot, _) = next.unwrap().called.unwrap();
        let mut circles = Vec::new();
        for call in 0..CIRCLE_CALLS_A_SECOND * 3 {
            let second = u64::from(call / (CIRCLE_CALLS_A_SECOND + 1));
            circles.extend(triggers.goes_in_a_circle(slot, second));
        }
        assert_eq!(circles, [Box::<str>::from("a")]);
    }

    #[test]
    fn triggers_are_listed_by_id_from_where_the_last_part_ended() {
        let mut triggers = Triggers::default();
        for id in ["b", "d", "a", "c"] {
            let (owner, config) = (if id == "d" { 2 } else { 1 }, r#"{"stream_name":"s"}"#);
            triggers
                .register(trigger(id, "stream", config, owner))
                .unwrap();
        }
        triggers.end(SlotId::first(2));
        let (mut after, mut parts) = (None, Vec::new());
        loop {
            let mut part = Vec::new();
            after = triggers.list_some(after.as_deref(), |trigger| {
                part.push(trigger.id.to_string());
                part.len() < 2
            });
            parts.push(part.join(""));
            if after.is_none() {
                break;
            }
        }
        assert_eq!(parts, ["ab", "c"], "and nothing of who has ended");
    }
}
