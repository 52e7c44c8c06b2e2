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

use crate::broker::triggers::audience::Audience;
use crate::broker::triggers::trigger::Matcher;

/// Triggers in the order of registration.
#[derive(Default)]
pub(in crate::broker) struct List(BTreeMap<u64, SlotId>);

/// Followers by what triggers listen to.
#[derive(Default)]
pub(in crate::broker) struct Followers {
    /// Of type `stream`, by stream.
    events: HashMap<Box<str>, OfStream>,
    /// The same, as workers know it.
    followed: Followed,
    pub(in crate::broker) joins: OfPresence,
    pub(in crate::broker) leaves: OfPresence,
    pub(in crate::broker) logs: List,
    pub(in crate::broker) functions_available: List,
    pub(in crate::broker) workers_available: List,
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
pub(in crate::broker) struct OfPresence {
    by_stream: ByName,
    streams: Streams,
}

impl Followers {
    /// Followers a trigger that was registered as the `order`th.
    pub(in crate::broker) fn add(&mut self, order: u64, slot: SlotId, matcher: &Matcher) {
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
    pub(in crate::broker) fn remove(&mut self, order: u64, matcher: &Matcher) {
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

    /// The first trigger of that audience that was registered as the `from`th or later, and as which.
    /// A call costs the same however many there are.
    pub(in crate::broker) fn next(&self, audience: &Audience, from: u64) -> Option<(u64, SlotId)> {
        match audience {
            Audience::Event { key, item, .. } => {
                let of_stream = self.events.get(key.stream())?;
                let of_group = [
                    Some(&of_stream.any_group),
                    of_stream.groups.get(key.group()),
                ];
                let lists = of_group.into_iter().flatten().flat_map(|by_item| {
                    let named = item.as_deref().and_then(|item| by_item.named.get(item));
                    [Some(&by_item.any), named].into_iter().flatten()
                });
                next_of(lists, from)
            }
            Audience::Join(stream) => self.joins.by_stream.next(stream, from),
            Audience::Leave(stream) => self.leaves.by_stream.next(stream, from),
            Audience::Log(_) => self.logs.next(from),
            Audience::Topic(topic) => self.topics.get(topic)?.next(from),
            Audience::FunctionsAvailable => self.functions_available.next(from),
            Audience::WorkersAvailable => self.workers_available.next(from),
        }
    }

    /// What some trigger follows: events, joins, leaves.
    pub(in crate::broker) fn followed(&self) -> (Followed, Streams, Streams) {
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
    /// Whether there is none.
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.by_stream.is_empty()
    }

    fn add(&mut self, order: u64, slot: SlotId, matcher: &PresenceTrigger) {
        self.by_stream.add(matcher.stream.as_deref(), order, slot);
        match &matcher.stream {
            Some(stream) => self.streams.named.insert((**stream).into()),
            None => self.streams.all = true,
        }
    }

    fn remove(&mut self, order: u64, matcher: &PresenceTrigger) {
        self.by_stream.remove(matcher.stream.as_deref(), order);
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

    fn next(&self, name: &str, from: u64) -> Option<(u64, SlotId)> {
        let lists = [Some(&self.any), self.named.get(name)];
        next_of(lists.into_iter().flatten(), from)
    }
}

impl List {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn next(&self, from: u64) -> Option<(u64, SlotId)> {
        let next = self.0.range(from..).next();
        next.map(|(order, slot)| (*order, *slot))
    }

    fn add(&mut self, order: u64, slot: SlotId) {
        self.0.insert(order, slot);
    }

    fn remove(&mut self, order: u64) {
        self.0.remove(&order);
    }
}

/// The first in these lists that was registered as the `from`th or later.
fn next_of<'a>(lists: impl Iterator<Item = &'a List>, from: u64) -> Option<(u64, SlotId)> {
    let firsts = lists.filter_map(|list| list.next(from));
    firsts.min_by_key(|(order, _)| *order)
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
    use crate::id::{GroupKey, ItemId};

    const MANY: u64 = 10_000;

    fn slot(order: u64) -> SlotId {
        SlotId::first(order as u32)
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

    /// Who hears of it, in order of registration.
    fn found(followers: &Followers, audience: &Audience) -> Vec<SlotId> {
        let (mut from, mut found) = (0, Vec::new());
        while let Some((order, slot)) = followers.next(audience, from) {
            from = order + 1;
            found.push(slot);
        }
        found
    }

    fn event(stream: &str, group: &str, item: Option<&str>) -> Audience {
        Audience::Event {
            key: GroupKey::new(stream, group),
            item: item.map(ItemId::from),
            version: 0,
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
        assert_eq!(
            found(&followers, &event("0", "5", None)),
            [11, order].map(slot)
        );
        let hearing = found(&followers, &event("0", "5", Some("4")));
        assert_eq!(hearing, [8, 11, order].map(slot));
        assert_eq!(
            found(&followers, &event("0", "x", Some("x"))),
            [slot(order)]
        );
        assert_eq!(found(&followers, &event("1", "5", Some("4"))), []);
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
        let hearing = found(&followers, &event("1", "g", Some("i")));
        assert_eq!(hearing, [0, 1, 2, 3].map(slot));
        assert_eq!(found(&followers, &event("1", "g", None)), [1, 2].map(slot));
        assert_eq!(
            found(&followers, &event("1", "x", Some("x"))),
            [1].map(slot)
        );
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
        let leaves = |stream: &str| found(&followers, &Audience::Leave(stream.into()));
        assert_eq!(leaves("s"), [0, 1, 2, 3].map(slot));
        assert_eq!(leaves("other"), [0, 3].map(slot));
        followers.remove(3, &all);
        followers.remove(1, &one);
        assert!(followers.followed().2.has("other"));
        followers.remove(0, &all);
        assert!(followers.followed().2.has("s") && !followers.followed().2.has("other"));
        followers.remove(2, &one);
        assert!(followers.followed().2.is_empty());
        assert!(followers.leaves.is_empty());
    }
}
