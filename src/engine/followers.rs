//! The triggers of our own types by what they follow, and the streams that are followed: a trigger
//! comes and goes at the same cost however many others there are.
//!
//! Pure. May not know a trigger beyond its matcher.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::id::SlotId;
use crate::protocol::trigger::{PresenceTrigger, StreamTrigger, SubscribeTrigger};
use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;

use super::trigger::Matcher;

/// Triggers in the order of registration.
#[derive(Default)]
pub(super) struct List(BTreeMap<u64, SlotId>);

/// Followers by what triggers listen to.
#[derive(Default)]
pub(super) struct Followers {
    /// Of type `stream`, by stream.
    events: HashMap<Box<str>, OfStream>,
    /// The same, as workers know it.
    followed: Followed,
    pub(super) joins: OfPresence,
    pub(super) leaves: OfPresence,
    pub(super) logs: List,
    pub(super) functions_available: List,
    pub(super) workers_available: List,
    topics: HashMap<Box<str>, List>,
}

/// Triggers of one group each, or of any; of one item each, or of every event.
#[derive(Default)]
struct OfStream {
    any_group: ByName,
    groups: HashMap<Box<str>, ByName>,
}

/// Triggers of one name each, or of any.
#[derive(Default)]
struct ByName {
    any: List,
    named: HashMap<Box<str>, List>,
}

/// Triggers of joins, or of leaves.
#[derive(Default)]
pub(super) struct OfPresence {
    by_stream: ByName,
    streams: Streams,
    len: usize,
    /// How many of them ask a condition.
    with_condition: usize,
}

impl Followers {
    /// Followers a trigger that was registered as the `order`th.
    pub(super) fn add(&mut self, order: u64, slot: SlotId, matcher: &Matcher) {
        match matcher {
            Matcher::Event(matcher) => self.add_event(order, slot, matcher),
            Matcher::Join(matcher) => self.joins.add(order, slot, matcher),
            Matcher::Leave(matcher) => self.leaves.add(order, slot, matcher),
            Matcher::Log(_) => self.logs.add(order, slot),
            Matcher::FunctionsAvailable => self.functions_available.add(order, slot),
            Matcher::WorkersAvailable => self.workers_available.add(order, slot),
            Matcher::Topic(SubscribeTrigger { topic: Some(topic) }) => {
                add_to(&mut self.topics, topic, order, slot);
            }
            Matcher::Topic(_) | Matcher::Elsewhere => {}
        }
    }

    /// Takes the trigger off its list.
    pub(super) fn remove(&mut self, order: u64, matcher: &Matcher) {
        match matcher {
            Matcher::Event(matcher) => self.remove_event(order, matcher),
            Matcher::Join(matcher) => self.joins.remove(order, matcher),
            Matcher::Leave(matcher) => self.leaves.remove(order, matcher),
            Matcher::Log(_) => self.logs.remove(order),
            Matcher::FunctionsAvailable => self.functions_available.remove(order),
            Matcher::WorkersAvailable => self.workers_available.remove(order),
            Matcher::Topic(SubscribeTrigger { topic: Some(topic) }) => {
                remove_from(&mut self.topics, topic, order);
            }
            Matcher::Topic(_) | Matcher::Elsewhere => {}
        }
    }

    /// Triggers of an event, in order of registration. `item`: what it is about, if that is an item.
    pub(super) fn of_event(&self, stream: &str, group: &str, item: Option<&str>) -> Vec<SlotId> {
        let Some(of_stream) = self.events.get(stream) else {
            return Vec::new();
        };
        let of_group = [Some(&of_stream.any_group), of_stream.groups.get(group)];
        in_order(of_group.into_iter().flatten().flat_map(|by_item| {
            let named = item.and_then(|item| by_item.named.get(item));
            [Some(&by_item.any), named].into_iter().flatten()
        }))
    }

    /// Triggers of a topic, in order of registration.
    pub(super) fn of_topic(&self, topic: &str) -> impl Iterator<Item = SlotId> {
        self.topics.get(topic).into_iter().flat_map(List::iter)
    }

    /// What some trigger follows: events, joins, leaves.
    pub(super) fn followed(&self) -> (Followed, Streams, Streams) {
        (
            self.followed.clone(),
            self.joins.streams.clone(),
            self.leaves.streams.clone(),
        )
    }

    fn add_event(&mut self, order: u64, slot: SlotId, matcher: &StreamTrigger) {
        let of_stream = self.events.entry(matcher.stream.clone()).or_default();
        let (group, item) = (matcher.group.as_deref(), matcher.item.as_deref());
        let by_item = match group {
            Some(group) => of_stream.groups.entry(group.into()).or_default(),
            None => &mut of_stream.any_group,
        };
        by_item.add(item, order, slot);
        self.followed.add(&matcher.stream, group, item);
    }

    fn remove_event(&mut self, order: u64, matcher: &StreamTrigger) {
        let Some(of_stream) = self.events.get_mut(&matcher.stream) else {
            return;
        };
        let (group, item) = (matcher.group.as_deref(), matcher.item.as_deref());
        match group {
            Some(group) => {
                if let Some(by_item) = of_stream.groups.get_mut(group) {
                    by_item.remove(item, order);
                    if by_item.is_empty() {
                        of_stream.groups.remove(group);
                    }
                }
            }
            None => of_stream.any_group.remove(item, order),
        }
        if of_stream.any_group.is_empty() && of_stream.groups.is_empty() {
            self.events.remove(&matcher.stream);
        }
        self.followed.remove(&matcher.stream, group, item);
    }
}

impl OfPresence {
    /// Triggers of that stream, in order of registration.
    pub(super) fn find(&self, stream: &str) -> Vec<SlotId> {
        self.by_stream.find(stream)
    }

    /// All triggers, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = SlotId> {
        let lists = [&self.by_stream.any]
            .into_iter()
            .chain(self.by_stream.named.values());
        lists.flat_map(List::iter)
    }

    /// How many there are, and how many of them ask a condition.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.len, self.with_condition)
    }

    fn add(&mut self, order: u64, slot: SlotId, matcher: &PresenceTrigger) {
        self.by_stream.add(matcher.stream.as_deref(), order, slot);
        self.len += 1;
        self.with_condition += usize::from(matcher.condition.is_some());
        match &matcher.stream {
            Some(stream) => self.streams.named.insert((**stream).into()),
            None => self.streams.all = true,
        }
    }

    fn remove(&mut self, order: u64, matcher: &PresenceTrigger) {
        self.by_stream.remove(matcher.stream.as_deref(), order);
        self.len -= 1;
        self.with_condition -= usize::from(matcher.condition.is_some());
        match &matcher.stream {
            Some(stream) if self.by_stream.named.contains_key(stream) => {}
            Some(stream) => self.streams.named.remove(stream),
            None => self.streams.all = !self.by_stream.any.is_empty(),
        }
    }
}

impl ByName {
    fn add(&mut self, name: Option<&str>, order: u64, slot: SlotId) {
        match name {
            Some(name) => add_to(&mut self.named, name, order, slot),
            None => self.any.add(order, slot),
        }
    }

    fn remove(&mut self, name: Option<&str>, order: u64) {
        match name {
            Some(name) => remove_from(&mut self.named, name, order),
            None => self.any.remove(order),
        }
    }

    fn is_empty(&self) -> bool {
        self.any.is_empty() && self.named.is_empty()
    }

    fn find(&self, name: &str) -> Vec<SlotId> {
        in_order(
            [Some(&self.any), self.named.get(name)]
                .into_iter()
                .flatten(),
        )
    }
}

impl List {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SlotId> {
        self.0.values().copied()
    }

    fn entries(&self) -> impl Iterator<Item = (u64, SlotId)> {
        self.0.iter().map(|(order, slot)| (*order, *slot))
    }

    fn add(&mut self, order: u64, slot: SlotId) {
        self.0.insert(order, slot);
    }

    fn remove(&mut self, order: u64) {
        self.0.remove(&order);
    }
}

/// What these lists hold, in order of registration.
fn in_order<'a>(lists: impl Iterator<Item = &'a List>) -> Vec<SlotId> {
    let mut found: Vec<(u64, SlotId)> = lists.flat_map(List::entries).collect();
    found.sort_unstable_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, slot)| slot).collect()
}

fn add_to(lists: &mut HashMap<Box<str>, List>, name: &str, order: u64, slot: SlotId) {
    lists.entry(name.into()).or_default().add(order, slot);
}

fn remove_from(lists: &mut HashMap<Box<str>, List>, name: &str, order: u64) {
    if let Some(list) = lists.get_mut(name) {
        list.remove(order);
        if list.is_empty() {
            lists.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u64 = 10_000;

    fn slot(order: u64) -> SlotId {
        SlotId {
            slot: order as u32,
            generation: 1,
        }
    }

    fn of(stream: u64) -> StreamTrigger {
        StreamTrigger {
            stream: stream.to_string().into(),
            group: None,
            item: None,
            condition: None,
        }
    }

    fn presence(stream: Option<&str>, condition: Option<&str>) -> PresenceTrigger {
        PresenceTrigger {
            stream: stream.map(Box::from),
            condition: condition.map(Box::from),
        }
    }

    /// The `order`th of many triggers, and an event that it follows.
    type Many = fn(u64) -> StreamTrigger;

    fn of_item(item: u64) -> StreamTrigger {
        StreamTrigger {
            item: Some(item.to_string().into()),
            ..of(0)
        }
    }

    fn of_group(group: u64) -> StreamTrigger {
        StreamTrigger {
            group: Some(group.to_string().into()),
            ..of(0)
        }
    }

    fn event_of(matcher: &StreamTrigger) -> (&str, &str, Option<&str>) {
        let group = matcher.group.as_deref().unwrap_or("any");
        (&matcher.stream, group, matcher.item.as_deref())
    }

    #[test]
    fn one_trigger_more_or_less_makes_few_entries_anew_of_those_that_workers_know() {
        for make in [of as Many, of_group, of_item] {
            let mut followers = Followers::default();
            for order in 0..MANY {
                followers.add(order, slot(order), &Matcher::Event(make(order)));
            }
            let mut anew = 0;
            for order in MANY..MANY + 100 {
                let (new, old) = (make(order), make(order - MANY));
                let (before, ..) = followers.followed();
                followers.add(order, slot(order), &Matcher::Event(make(order)));
                let (added, ..) = followers.followed();
                followers.remove(order - MANY, &Matcher::Event(make(order - MANY)));
                let (removed, ..) = followers.followed();
                let has = |followed: &Followed, matcher: &StreamTrigger| {
                    let (stream, group, item) = event_of(matcher);
                    followed.has(stream, group, item)
                };
                assert!(has(&added, &new) && has(&added, &old));
                assert!(has(&removed, &new) && !has(&removed, &old));
                anew += added.unshared_len(&before, "0");
                anew += removed.unshared_len(&added, "0");
            }
            assert!(
                anew < 200 * 21,
                "{anew} entries for 200 changes beside {MANY}"
            );
        }
    }

    #[test]
    fn an_event_finds_its_own_triggers_among_many_of_other_groups_and_items() {
        let mut followers = Followers::default();
        let mut order = 0;
        for number in 0..MANY {
            for make in [of_item as Many, of_group] {
                followers.add(order, slot(order), &Matcher::Event(make(number)));
                order += 1;
            }
        }
        followers.add(order, slot(order), &Matcher::Event(of(0)));
        assert_eq!(followers.of_event("0", "5", None), [11, order].map(slot));
        let found = followers.of_event("0", "5", Some("4"));
        assert_eq!(found, [8, 11, order].map(slot));
        assert_eq!(followers.of_event("0", "x", Some("x")), [slot(order)]);
        assert_eq!(followers.of_event("1", "5", Some("4")), []);
    }

    #[test]
    fn an_event_finds_the_triggers_of_its_group_and_item_and_no_others() {
        let mut followers = Followers::default();
        let matcher = |group: Option<&str>, item: Option<&str>| {
            Matcher::Event(StreamTrigger {
                group: group.map(Box::from),
                item: item.map(Box::from),
                ..of(1)
            })
        };
        let all = [
            matcher(Some("g"), Some("i")),
            matcher(None, None),
            matcher(Some("g"), None),
            matcher(None, Some("i")),
            matcher(Some("g"), Some("other")),
            matcher(Some("other"), None),
        ];
        for (order, matcher) in all.iter().enumerate() {
            followers.add(order as u64, slot(order as u64), matcher);
        }
        let found = followers.of_event("1", "g", Some("i"));
        assert_eq!(found, [0, 1, 2, 3].map(slot));
        assert_eq!(followers.of_event("1", "g", None), [1, 2].map(slot));
        assert_eq!(followers.of_event("1", "x", Some("x")), [1].map(slot));
        for (order, matcher) in all.iter().enumerate() {
            followers.remove(order as u64, matcher);
        }
        assert!(followers.events.is_empty() && followers.followed().0.is_empty());
    }

    #[test]
    fn streams_are_followed_until_the_last_of_their_triggers_goes() {
        let mut followers = Followers::default();
        let all = Matcher::Leave(presence(None, Some("c")));
        let one = Matcher::Leave(presence(Some("s"), None));
        for (order, matcher) in [&all, &one, &one, &all].into_iter().enumerate() {
            followers.add(order as u64, slot(order as u64), matcher);
        }
        assert_eq!(followers.leaves.len(), (4, 2));
        assert_eq!(followers.leaves.find("s"), [0, 1, 2, 3].map(slot));
        assert_eq!(followers.leaves.find("other"), [0, 3].map(slot));
        followers.remove(3, &all);
        followers.remove(1, &one);
        assert!(followers.followed().2.has("other"));
        followers.remove(0, &all);
        assert!(followers.followed().2.has("s") && !followers.followed().2.has("other"));
        followers.remove(2, &one);
        assert!(followers.followed().2.is_empty());
        assert_eq!(followers.leaves.len(), (0, 0));
    }
}
