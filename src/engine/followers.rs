//! The triggers of our own types by what they follow, and the streams that are followed: a trigger
//! comes and goes at the same cost however many others there are.
//!
//! Pure. May not know a trigger beyond its matcher.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::id::SlotId;
use crate::protocol::trigger::{PresenceTrigger, StreamTrigger, SubscribeTrigger};
use crate::shard::hooks::Streams;

use super::trigger::Matcher;

/// Triggers in the order of registration.
#[derive(Default)]
pub(super) struct List(BTreeMap<u64, SlotId>);

/// Followers by what triggers listen to.
#[derive(Default)]
pub(super) struct Followers {
    /// Of type `stream`, by stream, and those by group and item.
    events: HashMap<Box<str>, ByGroup>,
    event_streams: Streams,
    pub(super) joins: OfPresence,
    pub(super) leaves: OfPresence,
    pub(super) logs: List,
    pub(super) functions_available: List,
    pub(super) workers_available: List,
    topics: HashMap<Box<str>, List>,
}

/// Triggers of one stream, by group, or of any group.
#[derive(Default)]
struct ByGroup {
    any: ByName,
    named: HashMap<Box<str>, ByName>,
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

    /// Triggers of events of that item of that group, in order of registration.
    pub(super) fn of_event(&self, stream: &str, group: &str, item: Option<&str>) -> Vec<SlotId> {
        let Some(of_stream) = self.events.get(stream) else {
            return Vec::new();
        };
        let groups = [Some(&of_stream.any), of_stream.named.get(group)];
        let lists = groups.into_iter().flatten().flat_map(|of_group| {
            let of_item = item.and_then(|item| of_group.named.get(item));
            [Some(&of_group.any), of_item].into_iter().flatten()
        });
        in_order(lists.flat_map(List::entries).collect())
    }

    /// Triggers of a topic, in order of registration.
    pub(super) fn of_topic(&self, topic: &str) -> impl Iterator<Item = SlotId> {
        self.topics.get(topic).into_iter().flat_map(List::iter)
    }

    /// The streams that some trigger follows: events, joins, leaves.
    pub(super) fn streams(&self) -> (Streams, Streams, Streams) {
        (
            self.event_streams.clone(),
            self.joins.streams.clone(),
            self.leaves.streams.clone(),
        )
    }

    fn add_event(&mut self, order: u64, slot: SlotId, matcher: &StreamTrigger) {
        let of_stream = self.events.entry(matcher.stream.clone()).or_default();
        let of_group = match &matcher.group {
            Some(group) => of_stream.named.entry(group.clone()).or_default(),
            None => &mut of_stream.any,
        };
        of_group.add(matcher.item.as_deref(), order, slot);
        self.event_streams.named.insert((*matcher.stream).into());
    }

    fn remove_event(&mut self, order: u64, matcher: &StreamTrigger) {
        let Some(of_stream) = self.events.get_mut(&matcher.stream) else {
            return;
        };
        let item = matcher.item.as_deref();
        match &matcher.group {
            None => of_stream.any.remove(item, order),
            Some(group) => {
                if let Some(of_group) = of_stream.named.get_mut(group) {
                    of_group.remove(item, order);
                    if of_group.is_empty() {
                        of_stream.named.remove(group);
                    }
                }
            }
        }
        if of_stream.any.is_empty() && of_stream.named.is_empty() {
            self.events.remove(&matcher.stream);
            self.event_streams.named.remove(&matcher.stream);
        }
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
        let Some(named) = self.named.get(name) else {
            return self.any.iter().collect();
        };
        in_order(self.any.entries().chain(named.entries()).collect())
    }
}

fn in_order(mut found: Vec<(u64, SlotId)>) -> Vec<SlotId> {
    found.sort_unstable_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, slot)| slot).collect()
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

    #[test]
    fn one_trigger_more_or_less_makes_few_entries_anew_of_those_that_workers_know() {
        let mut followers = Followers::default();
        for order in 0..MANY {
            followers.add(order, slot(order), &Matcher::Event(of(order)));
        }
        let mut anew = 0;
        for order in MANY..MANY + 100 {
            let (before, ..) = followers.streams();
            followers.add(order, slot(order), &Matcher::Event(of(order)));
            let (added, ..) = followers.streams();
            followers.remove(order - MANY, &Matcher::Event(of(order - MANY)));
            let (removed, ..) = followers.streams();
            assert!(added.has(&order.to_string()) && !removed.has(&(order - MANY).to_string()));
            anew += added.named.unshared_len(&before.named);
            anew += removed.named.unshared_len(&added.named);
        }
        assert!(
            anew < 200 * 20,
            "{anew} entries for 200 changes beside {MANY}"
        );
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
        assert!(followers.events.is_empty() && followers.streams().0.is_empty());
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
        assert!(followers.streams().2.has("other"));
        followers.remove(0, &all);
        assert!(followers.streams().2.has("s") && !followers.streams().2.has("other"));
        followers.remove(2, &one);
        assert!(followers.streams().2.is_empty());
        assert_eq!(followers.leaves.len(), (0, 0));
    }
}
