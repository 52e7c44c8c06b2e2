//! The trigger types and the triggers: who serves a type, and which functions an event calls.
//!
//! Pure. One id is one trigger, and the newest registration has it. A worker may take a built-in type
//! over; while it has it none of our events fire its triggers, and when it goes type and triggers are
//! ours again (spec: triggers.md §1, engine-protocol.md §6).

pub(in crate::broker) mod audience;
mod called;
mod early;
pub(in crate::broker) mod firing;
mod followers;
mod ids;
mod registering;
mod retyping;
pub(in crate::broker) mod trigger;
mod types;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use hashbrown::{HashMap, HashSet, hash_set};

use crate::collections::Named;
use crate::config::Limits;
use crate::id::{SlotId, Text};
use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;

use crate::broker::holdings::Holdings;
use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::early::Early;
use crate::broker::triggers::firing::Firings;
use crate::broker::triggers::followers::Followers;
use crate::broker::triggers::retyping::Retyping;
use crate::broker::triggers::trigger::{Called, Matcher, ServedType, Trigger};

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
    /// What is told to them, in turns.
    firings: Firings,
    /// Types that have changed hands.
    retypings: VecDeque<Retyping>,
}

/// Where one of an audience stands, and what is called for it: the trigger and its function. None: it
/// hears of nothing now.
pub(in crate::broker) struct Next {
    pub(in crate::broker) order: u64,
    pub(in crate::broker) called: Option<(SlotId, Called)>,
}

/// Ids to be gone through bit by bit.
pub(in crate::broker) type Ids = hash_set::IntoIter<Box<str>>;

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
    fn goes_in_a_circle(&mut self, slot: SlotId, second: u64) -> Option<Box<str>> {
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

    pub(in crate::broker) fn is_empty(&self) -> bool {
        let is_left = self.holdings.is_left() || !self.early.is_empty();
        self.triggers.iter().next().is_none()
            && self.by_id.is_empty()
            && self.types.is_empty()
            && self.ended.is_empty()
            && !is_left
    }

    /// Whether something goes on in the next turn.
    pub(in crate::broker) fn has_work(&self) -> bool {
        !self.firings.is_empty() || !self.retypings.is_empty()
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
    use serde_json::value::RawValue;

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
