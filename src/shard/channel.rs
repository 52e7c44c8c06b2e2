//! What the channel of a shared store tells of a group: everybody's changes, ours included, in one order
//! for all hosts; and what the group holds when it is read again.
//!
//! While somebody follows the group its items are kept for joins, and for nothing else. May not know what
//! the store answers.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{ItemId, Text};
use crate::protocol::frame::{Event, GroupNames};
use crate::protocol::input::StreamFunction;
use crate::protocol::json::compare::is_same;

use super::effects::{Delivered, Delivery, FromChannel, HeardEvent, Snapshot};
use super::group::{Group, Turn, Whose};
use super::items::Items;
use super::under_way::Waiting;

impl Group {
    /// It goes behind what the store has answered before, and what was told before.
    pub(super) fn hear_channel(&mut self, from: FromChannel, turn: &mut Turn<'_>) {
        let heard = Waiting::Channel(Box::new(from));
        let heard = match &mut self.under_way {
            Some(under_way) => under_way.hear(heard),
            None => Some(heard),
        };
        if let Some(heard) = heard {
            self.release(heard, turn);
        }
    }

    /// The channel tells of something.
    pub(super) fn take_from_channel(&mut self, from: FromChannel, turn: &mut Turn<'_>) {
        match from {
            FromChannel::Event {
                item,
                event,
                time,
                is_first,
                is_ours,
            } => {
                if is_first {
                    self.drop_others(item.as_deref(), time, turn);
                }
                if is_ours {
                    self.take_event(item.as_deref(), &event, time, turn);
                } else {
                    self.take_foreign(item.as_deref(), &event, time, turn);
                }
            }
            FromChannel::Read {
                items,
                time,
                is_after_loss,
            } => self.take_read(items, time, is_after_loss, turn),
        }
    }

    pub(super) fn take_event(
        &mut self,
        item: Option<&str>,
        event: &HeardEvent,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(held) = self.hear(item, event, time, turn) else {
            return;
        };
        let told = match (event, held) {
            // Others have written past everybody: clients pass over what does not fit what they hold.
            (HeardEvent::Create(value), Some(true)) => Event::Update(value),
            (HeardEvent::Update(value), Some(false)) => Event::Create(value),
            _ => event.borrowed(),
        };
        self.tell_elsewhere(item, told, time, turn);
    }

    fn tell_elsewhere(
        &mut self,
        item: Option<&str>,
        event: Event<'_>,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let told = self.event_time(time);
        self.tell(item, event, told, Whose::Elsewhere, turn);
        self.enter_behind(turn);
    }

    /// One that others have set and published apart is told as they put it. Clients pass over a
    /// `create` of what they hold: when the group is read again, they are told in a way that counts.
    fn take_foreign(
        &mut self,
        item: Option<&str>,
        event: &HeardEvent,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(held) = self.hear(item, event, time, turn) else {
            return;
        };
        if let (Some(item), Some(true), HeardEvent::Create(_)) = (item, held, event) {
            let following = self.following.get_or_insert_default();
            following.passed_over.insert(item.into());
        }
        self.tell_elsewhere(item, event.borrowed(), time, turn);
    }

    /// The group had no items, whatever is thought here: the store has lost them, as one does that
    /// evicts or is emptied.
    fn drop_others(&mut self, item: Option<&str>, time: u64, turn: &mut Turn<'_>) {
        for (name, old) in self.known() {
            if item != Some(&*name) {
                self.take_event(Some(&name), &HeardEvent::Delete(old), time, turn);
            }
        }
    }

    /// The items that subscribers are thought to hold.
    fn known(&self) -> Vec<(Box<str>, Text)> {
        if let Some(following) = self
            .following
            .as_deref()
            .filter(|following| !following.is_whole)
        {
            let singles = following.singles.iter();
            let known = singles.filter_map(|(name, value)| Some(((**name).into(), value.clone()?)));
            let mut known: Vec<(Box<str>, Text)> = known.collect();
            known.sort_unstable();
            return known;
        }
        let (mut all_items, mut all_bytes) = (usize::MAX, usize::MAX);
        let (known, _) = self.items().piece(0, &mut all_items, &mut all_bytes);
        known
    }

    /// Takes note of an event, and tells whether subscribers held its item before. `None`: nobody follows the group.
    fn hear(
        &mut self,
        item: Option<&str>,
        event: &HeardEvent,
        time: u64,
        turn: &Turn<'_>,
    ) -> Option<Option<bool>> {
        let following = self.following.as_deref_mut()?;
        following.heard = following.heard.max(time);
        Some(item.and_then(|item| self.note_event(item, event, turn)))
    }

    /// Whether subscribers hold the item before that event; `None`: it is not known, or no matter.
    fn note_event(&mut self, item: &str, event: &HeardEvent, turn: &Turn<'_>) -> Option<bool> {
        let value = match event {
            HeardEvent::Create(value) | HeardEvent::Update(value) => Some(value),
            HeardEvent::Delete(_) => None,
            HeardEvent::Custom { .. } => return None,
        };
        let following = self.following.as_deref_mut()?;
        if !following.is_whole {
            let single = following.singles.get_mut(item)?;
            let before = std::mem::replace(single, value.cloned());
            return Some(before.is_some());
        }
        let hash = turn.hash(item);
        let is_held = self.items().get(hash, item).is_some();
        match value {
            Some(value) => {
                self.items_mut().put(hash, item, Text::clone(value));
            }
            None => self.items_mut().remove(hash, item),
        }
        self.forget_sync();
        Some(is_held)
    }

    /// The group was read again: after a loss everybody gets a fresh `sync`, else what differs.
    fn take_read(
        &mut self,
        items: Vec<(ItemId, Text)>,
        time: u64,
        is_after_loss: bool,
        turn: &mut Turn<'_>,
    ) {
        let stream = self.key.stream();
        let functions = [StreamFunction::List, StreamFunction::Get];
        let is_custom = functions.map(|function| turn.hooks.is_custom(stream, function));
        let Some(following) = self.following.as_deref() else {
            return;
        };
        if !self.has_listeners() || is_custom.contains(&true) {
            return;
        }
        if is_after_loss || following.owes_sync {
            self.start_afresh(items, time, turn);
        } else {
            let items = self.taken_in(items, turn);
            self.tell_difference(&items, time, turn);
        }
        let following = self.following.get_or_insert_default();
        following.heard = following.heard.max(time);
        self.enter_behind(turn);
    }

    fn start_afresh(&mut self, items: Vec<(ItemId, Text)>, time: u64, turn: &mut Turn<'_>) {
        let told = self.event_time(time); // what has changed meanwhile had no events
        let taken_in = self.taken_in(items.clone(), turn);
        self.fill(taken_in, turn);
        self.following.get_or_insert_default().owes_sync = false;
        let snapshot = Arc::new(Snapshot {
            names: GroupNames::new(&self.key),
            time: told,
            whole: self.whole_sync(told),
            items: items.into_iter().collect::<HashMap<_, _>>(),
        });
        let afresh = |(to, local)| Delivery {
            to,
            local,
            what: Delivered::Afresh(Arc::clone(&snapshot)),
        };
        turn.out.deliveries.extend(self.listeners().map(afresh));
    }

    pub(super) fn tell_difference(&mut self, items: &Items, time: u64, turn: &mut Turn<'_>) {
        let following = self.following.get_or_insert_default();
        let passed_over = std::mem::take(&mut following.passed_over);
        let mut events = Vec::new();
        for (name, old) in self.known() {
            match items.get(turn.hash(&name), &name) {
                None => events.push((name, HeardEvent::Delete(old))),
                Some(new) if passed_over.contains(&name) => {
                    events.push((name, HeardEvent::Update(Text::clone(new))));
                }
                Some(new) if *new == old => {}
                // Others write a value anew, in their own form: nothing to tell, but what lists show.
                Some(new) if is_same(new, &old) => {
                    let event = HeardEvent::Update(Text::clone(new));
                    self.note_event(&name, &event, turn);
                }
                Some(new) => events.push((name, HeardEvent::Update(Text::clone(new)))),
            }
        }
        events.extend(self.made(items, turn));
        for (name, event) in events {
            self.take_event(Some(&name), &event, time, turn);
        }
    }

    /// The followed ones of these items that subscribers are not thought to hold.
    fn made(&self, items: &Items, turn: &Turn<'_>) -> Vec<(Box<str>, HeardEvent)> {
        let create = |name: &str| {
            let value = items.get(turn.hash(name), name)?;
            Some((name.into(), HeardEvent::Create(Text::clone(value))))
        };
        let following = self.following.as_deref();
        if let Some(following) = following.filter(|following| !following.is_whole) {
            let missing = following.singles.iter();
            let mut missing: Vec<&str> = missing
                .filter(|(_, value)| value.is_none())
                .map(|(name, _)| &**name)
                .collect();
            missing.sort_unstable();
            return missing.into_iter().filter_map(create).collect();
        }
        let names = items.named_from(0).map(|(_, name)| name);
        names
            .filter(|name| self.items().get(turn.hash(name), name).is_none())
            .filter_map(create)
            .collect()
    }

    /// The channel is lost: nothing is known of the store's items until they are read again.
    pub(super) fn lost(&mut self, turn: &mut Turn<'_>) {
        if self.following.is_none() {
            return;
        }
        self.has_missed_events();
        let Some(following) = self.following.as_deref_mut() else {
            return;
        };
        following.is_whole = false;
        following.owes_sync = true;
        following.singles.clear();
        following.passed_over.clear();
        (following.heard, following.answered) = (0, 0);
        let behind = std::mem::take(&mut following.behind);
        self.forget_items(turn);
        self.forget_sync();
        for (_, join) in behind {
            self.enter_shared(join, 0, turn);
        }
    }

    pub(super) fn enter_behind(&mut self, turn: &mut Turn<'_>) {
        while let Some(following) = self.following.as_deref_mut()
            && let Some((after, _)) = following.behind.front()
            && *after <= following.heard
            && let Some((_, join)) = following.behind.pop_front()
        {
            let hash = join.item.as_ref().map_or(0, |item| turn.hash(item));
            self.enter_shared(join, hash, turn);
        }
    }

    /// They may be very many.
    pub(super) fn forget_items(&mut self, turn: &mut Turn<'_>) {
        let none = self.items().to_follow();
        self.put_in_place(none, turn);
    }

    fn put_in_place(&mut self, items: Items, turn: &mut Turn<'_>) {
        let before = self.exchange_items(items);
        if !before.is_empty() {
            turn.walks.rubbish.push(before);
        }
    }

    /// What the store has told, as the items of a group.
    pub(super) fn taken_in(&self, told: Vec<(ItemId, Text)>, turn: &Turn<'_>) -> Items {
        let mut items = self.items().to_follow();
        for (name, value) in told {
            items.put(turn.hash(&name), &name, value);
        }
        items
    }

    /// Its items are what the store has.
    pub(super) fn fill(&mut self, items: Items, turn: &mut Turn<'_>) {
        self.put_in_place(items, turn);
        let following = self.following.get_or_insert_default();
        following.is_whole = true;
        following.singles = HashMap::new();
    }
}
