//! The trigger types and the triggers: who serves a type, and which functions an event calls.
//!
//! Pure. One id is one trigger, and the newest registration has it. A worker may take a built-in type
//! over; while it has it none of our events fire its triggers, and when it goes type and triggers are
//! ours again (spec: triggers.md §1, engine-protocol.md §6).

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde_json::value::RawValue;

use crate::collections::Named;
use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::trigger::{
    LogTrigger, PresenceTrigger, StreamTrigger, SubscribeTrigger, TriggerType,
};
use crate::shard::hooks::Streams;

use super::followers::{Followers, OfPresence};
use super::holdings::Holdings;
use super::trigger::{Matcher, ServedType, Trigger};

#[derive(Default)]
pub(super) struct Triggers {
    triggers: Named<Trigger>,
    by_id: HashMap<Box<str>, SlotId>,
    /// Of each worker, in order of registration.
    by_owner: HashMap<SlotId, BTreeMap<u64, SlotId>>,
    /// Those of our own types, by what they follow.
    followers: Followers,
    /// Types that workers serve.
    types: HashMap<Box<str>, ServedType>,
    /// What each worker's triggers and types hold.
    holdings: Holdings,
    next_order: u64,
}

/// What is to be called, and what is asked before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Called {
    pub(super) function_id: Box<str>,
    pub(super) condition: Option<Box<str>>,
}

impl Triggers {
    /// Enters a trigger in place of an older one of its id, which is given back. The error is for
    /// whoever registers it.
    pub(super) fn register(
        &mut self,
        mut trigger: Trigger,
    ) -> Result<(SlotId, Option<Trigger>), ErrorBody> {
        trigger.matcher = self.matcher_of(&trigger.trigger_type, trigger.config.as_deref())?;
        trigger.check_ids()?;
        trigger.order = self.next_order;
        self.next_order += 1;
        let replaced = self.unregister(&trigger.id);
        let (id, owner, order) = (trigger.id.clone(), trigger.owner, trigger.order);
        self.holdings.add(owner, trigger.held_bytes());
        let slot = self.triggers.insert(trigger);
        self.by_id.insert(id, slot);
        self.by_owner.entry(owner).or_default().insert(order, slot);
        self.set_following(slot);
        Ok((slot, replaced))
    }

    /// Ends a trigger, whoever registered it.
    pub(super) fn unregister(&mut self, id: &str) -> Option<Trigger> {
        let slot = self.by_id.remove(id)?;
        let trigger = self.triggers.remove(slot)?;
        self.followers.remove(trigger.order, &trigger.matcher);
        self.holdings.remove(trigger.owner, trigger.held_bytes());
        if let Some(owned) = self.by_owner.get_mut(&trigger.owner) {
            owned.remove(&trigger.order);
            if owned.is_empty() {
                self.by_owner.remove(&trigger.owner);
            }
        }
        Some(trigger)
    }

    /// Whether a worker may register one more trigger, or a type, with texts of so many bytes.
    pub(super) fn has_room(&self, owner: SlotId, text_bytes: usize) -> bool {
        self.holdings.has_room(owner, text_bytes)
    }

    /// A worker is gone: its triggers go, and are given back.
    pub(super) fn forget_owner(&mut self, owner: SlotId) -> Vec<Trigger> {
        let owned = self.by_owner.remove(&owner).unwrap_or_default();
        let ids = owned
            .into_values()
            .filter_map(|slot| Some(self.triggers.get(slot)?.id.clone()));
        let ids: Vec<Box<str>> = ids.collect();
        ids.iter().filter_map(|id| self.unregister(id)).collect()
    }

    /// A worker serves a type from now on. Gives the triggers of the type that are there already:
    /// they are to be handed to it.
    pub(super) fn serve_type(&mut self, id: &str, served: ServedType) -> Vec<SlotId> {
        self.holdings
            .add(served.owner, id.len() + served.held_bytes());
        if let Some(older) = self.types.insert(id.into(), served) {
            self.holdings
                .remove(older.owner, id.len() + older.held_bytes());
        }
        self.retype(id)
    }

    /// A worker is gone: types that it served are ours again where they are built in. True when it
    /// served any.
    pub(super) fn forget_types_of(&mut self, owner: SlotId) -> bool {
        let ids: Vec<Box<str>> = self
            .types
            .iter()
            .filter(|(_, served)| served.owner == owner)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &ids {
            if let Some(gone) = self.types.remove(id) {
                self.holdings.remove(owner, id.len() + gone.held_bytes());
            }
            self.retype(id);
        }
        !ids.is_empty()
    }

    /// The worker that serves the type, if one does.
    pub(super) fn server_of(&self, trigger_type: &str) -> Option<SlotId> {
        self.types.get(trigger_type).map(|served| served.owner)
    }

    pub(super) fn get(&self, slot: SlotId) -> Option<&Trigger> {
        self.triggers.get(slot)
    }

    /// All triggers, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Trigger> {
        self.triggers.iter().map(|(_, trigger)| trigger)
    }

    /// All types that workers serve, in no order.
    pub(super) fn served_types(&self) -> impl Iterator<Item = (&str, &ServedType)> {
        self.types.iter().map(|(id, served)| (&**id, served))
    }

    /// What an event calls that happened in state `version` of the hooks, in order of registration.
    /// `circles` gets the triggers that fire so often that somebody should know.
    pub(super) fn of_event(
        &mut self,
        stream: &str,
        group: &str,
        item: Option<&str>,
        version: u64,
        second: u64,
        circles: &mut Vec<Box<str>>,
    ) -> Vec<Called> {
        let mut called = Vec::new();
        for slot in self.followers.of_event(stream, group) {
            let Some(trigger) = self.triggers.get_mut(slot) else {
                continue;
            };
            let Matcher::Event(matcher) = &trigger.matcher else {
                continue;
            };
            if trigger.since > version || !matcher.matches(stream, group, item) {
                continue;
            }
            called.push(Called {
                function_id: trigger.function_id.clone(),
                condition: matcher.condition.clone(),
            });
            if trigger.rate.goes_in_a_circle(second) {
                circles.push(trigger.id.clone());
            }
        }
        called
    }

    /// What a join of that stream is put to.
    pub(super) fn of_join(&self, stream: &str) -> Vec<Called> {
        self.of_presence(&self.followers.joins, stream)
    }

    /// What a leave of that stream is told to.
    pub(super) fn of_leave(&self, stream: &str) -> Vec<Called> {
        self.of_presence(&self.followers.leaves, stream)
    }

    /// Whether leaves are told to anybody.
    pub(super) fn has_leaves(&self) -> bool {
        self.leaves_len().0 > 0
    }

    /// How many triggers a leave may fire, and how many of these ask a condition.
    pub(super) fn leaves_len(&self) -> (usize, usize) {
        self.followers.leaves.len()
    }

    /// All functions that leaves are told to, or that are asked before, in no order.
    pub(super) fn leave_functions(&self) -> impl Iterator<Item = &str> {
        self.followers.leaves.iter().flat_map(|slot| {
            let trigger = self.triggers.get(slot);
            let condition = trigger.and_then(|trigger| match &trigger.matcher {
                Matcher::Leave(matcher) => matcher.condition.as_deref(),
                _ => None,
            });
            let function = trigger.map(|trigger| &*trigger.function_id);
            function.into_iter().chain(condition)
        })
    }

    /// Functions that hear of entries of that severity.
    pub(super) fn of_log(&self, severity_text: &str) -> Vec<Box<str>> {
        self.functions_of(self.followers.logs.iter(), |matcher| match matcher {
            Matcher::Log(matcher) => matcher.matches(severity_text),
            _ => false,
        })
    }

    /// Whether anybody hears of what is logged.
    pub(super) fn has_logs(&self) -> bool {
        !self.followers.logs.is_empty()
    }

    /// Functions that hear of what is published under that topic.
    pub(super) fn of_topic(&self, topic: &str) -> Vec<Box<str>> {
        self.functions_of(self.followers.of_topic(topic), |_| true)
    }

    /// Functions that hear of changes in the set of functions.
    pub(super) fn of_functions_available(&self) -> Vec<Box<str>> {
        self.functions_of(self.followers.functions_available.iter(), |_| true)
    }

    /// Functions that hear of workers that come and go.
    pub(super) fn of_workers_available(&self) -> Vec<Box<str>> {
        self.functions_of(self.followers.workers_available.iter(), |_| true)
    }

    /// The streams that some trigger follows: events, joins, leaves.
    pub(super) fn streams(&self) -> (Streams, Streams, Streams) {
        self.followers.streams()
    }

    fn of_presence(&self, followers: &OfPresence, stream: &str) -> Vec<Called> {
        let called = followers.find(stream).into_iter().filter_map(|slot| {
            let trigger = self.triggers.get(slot)?;
            let (Matcher::Join(matcher) | Matcher::Leave(matcher)) = &trigger.matcher else {
                return None;
            };
            matcher.matches(stream).then(|| Called {
                function_id: trigger.function_id.clone(),
                condition: matcher.condition.clone(),
            })
        });
        called.collect()
    }

    fn functions_of(
        &self,
        slots: impl Iterator<Item = SlotId>,
        matches: impl Fn(&Matcher) -> bool,
    ) -> Vec<Box<str>> {
        let found = slots.filter_map(|slot| self.triggers.get(slot));
        found
            .filter(|trigger| matches(&trigger.matcher))
            .map(|trigger| trigger.function_id.clone())
            .collect()
    }

    fn matcher_of(
        &self,
        trigger_type: &str,
        config: Option<&RawValue>,
    ) -> Result<Matcher, ErrorBody> {
        if self.types.contains_key(trigger_type) {
            return Ok(Matcher::Elsewhere);
        }
        let Some(built_in) = TriggerType::from_id(trigger_type) else {
            return Err(ErrorBody::new(
                "trigger_type_not_found",
                "Trigger type not found",
            ));
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

    /// A type has changed hands: its triggers are read again. Gives all of them.
    fn retype(&mut self, trigger_type: &str) -> Vec<SlotId> {
        let of_type = self
            .triggers
            .iter()
            .filter(|(_, trigger)| *trigger.trigger_type == *trigger_type);
        let slots: Vec<SlotId> = of_type.map(|(slot, _)| slot).collect();
        for slot in &slots {
            let config = self.triggers.get(*slot).and_then(|t| t.config.clone());
            // Of a type that nobody serves, or with a config that says nothing to us, it waits.
            let matcher = self.matcher_of(trigger_type, config.as_deref());
            if let Some(trigger) = self.triggers.get_mut(*slot) {
                self.followers.remove(trigger.order, &trigger.matcher);
                trigger.matcher = matcher.unwrap_or(Matcher::Elsewhere);
            }
            self.set_following(*slot);
        }
        slots
    }

    /// What the trigger follows calls it from now on, in its place by order of registration.
    fn set_following(&mut self, slot: SlotId) {
        if let Some(trigger) = self.triggers.get(slot) {
            self.followers.add(trigger.order, slot, &trigger.matcher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trigger::CIRCLE_CALLS_A_SECOND;
    use super::*;

    fn peer(slot: u32) -> SlotId {
        SlotId {
            slot,
            generation: 1,
        }
    }

    fn trigger(id: &str, trigger_type: &str, config: &str, owner: u32) -> Trigger {
        let mut trigger = Trigger::new(id, trigger_type, &format!("f-{id}"), peer(owner), 1);
        trigger.config = Some(RawValue::from_string(config.to_owned()).unwrap());
        trigger
    }

    fn events(triggers: &mut Triggers, group: &str, item: Option<&str>) -> Vec<String> {
        let called = triggers.of_event("s", group, item, 1, 0, &mut Vec::new());
        called
            .iter()
            .map(|called| called.function_id.to_string())
            .collect()
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
        assert_eq!(events(&mut triggers, "g", Some("i")), ["f-a", "f-b", "f-c"]);
        assert_eq!(events(&mut triggers, "g", None), ["f-a", "f-b"]);
        assert_eq!(events(&mut triggers, "x", Some("i")), ["f-b"]);
        let (events, joins, _) = triggers.streams();
        assert!(events.has("s") && events.has("other") && !joins.has("s"));
    }

    #[test]
    fn a_trigger_hears_of_nothing_that_happened_before_it() {
        let mut triggers = Triggers::default();
        let mut late = trigger("a", "stream", r#"{"stream_name":"s"}"#, 1);
        late.since = 2;
        triggers.register(late).unwrap();
        assert!(events(&mut triggers, "g", None).is_empty());
        assert_eq!(
            triggers
                .of_event("s", "g", None, 2, 0, &mut Vec::new())
                .len(),
            1
        );
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
        assert!(events(&mut triggers, "g", None).is_empty());
        assert_eq!(triggers.of_join("any").len(), 1);
        assert!(
            triggers.forget_owner(peer(1)).is_empty(),
            "it is the newer owner's"
        );
        assert_eq!(triggers.forget_owner(peer(2)).len(), 1);
        assert!(triggers.of_join("any").is_empty());
    }

    #[test]
    fn a_refused_trigger_leaves_the_older_one() {
        let mut triggers = Triggers::default();
        triggers
            .register(trigger("a", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        assert!(triggers.register(trigger("a", "stream", "{}", 1)).is_err());
        assert!(triggers.register(trigger("a", "unknown", "{}", 1)).is_err());
        assert_eq!(events(&mut triggers, "g", None), ["f-a"]);
    }

    #[test]
    fn a_built_in_type_that_was_taken_over_comes_back_with_its_triggers() {
        let mut triggers = Triggers::default();
        triggers
            .register(trigger("a", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        let served = ServedType {
            owner: peer(9),
            description: "mine".into(),
            trigger_request_format: None,
            call_request_format: None,
        };
        assert_eq!(
            triggers.serve_type("stream", served).len(),
            1,
            "it is handed over"
        );
        assert_eq!(triggers.server_of("stream"), Some(peer(9)));
        triggers
            .register(trigger("b", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        triggers.register(trigger("c", "stream", "[]", 1)).unwrap();
        assert!(events(&mut triggers, "g", None).is_empty());
        triggers.forget_types_of(peer(9));
        assert_eq!(
            events(&mut triggers, "g", None),
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
        assert_eq!(triggers.of_topic("t").len(), 2);
        triggers.unregister("a");
        assert_eq!(triggers.of_topic("t"), [Box::<str>::from("f-b")]);
        assert!(triggers.of_topic("").is_empty());
    }

    #[test]
    fn a_trigger_that_runs_in_a_circle_is_told_of_once() {
        let mut triggers = Triggers::default();
        triggers
            .register(trigger("a", "stream", r#"{"stream_name":"s"}"#, 1))
            .unwrap();
        let mut circles = Vec::new();
        for call in 0..CIRCLE_CALLS_A_SECOND * 3 {
            let second = u64::from(call / (CIRCLE_CALLS_A_SECOND + 1));
            triggers.of_event("s", "g", None, 1, second, &mut circles);
        }
        assert_eq!(circles, [Box::<str>::from("a")]);
    }
}
