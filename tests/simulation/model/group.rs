//! One group as its subscribers should know it: its items, its events, and what a join is given.

use std::collections::VecDeque;

use iii_stream::id::{GroupKey, ItemId, Text};
use serde_json::{Value, json};

use super::waiting::{Waiting, What};
use crate::wire::{Kind, Message};

/// One group, as its subscribers should know it.
#[derive(Default)]
pub(crate) struct Group {
    /// Accepted items in the order of first insertion.
    pub(crate) items: Vec<(ItemId, Text)>,
    pub(crate) queue: VecDeque<Waiting>,
    pub(crate) history: Vec<Event>,
    /// The highest timestamp that anybody was shown, and that of the last event.
    pub(crate) last_time: u64,
    pub(crate) last_event: u64,
}

/// Something that subscribers hear.
pub(crate) struct Event {
    pub(crate) item: Option<ItemId>,
    pub(crate) event: Value,
    /// Known once its frame has been seen; so is `wire_len`.
    pub(crate) time: Option<u64>,
    pub(crate) wire_len: usize,
}

/// A join at its point of the group's order.
#[derive(Clone, Debug)]
pub(crate) struct Entered {
    pub(crate) group: GroupKey,
    pub(crate) item: Option<ItemId>,
    /// The first event that is for it.
    pub(crate) from: usize,
    /// The data of its `sync`; `None` when the store could not tell.
    pub(crate) sync: Option<Value>,
    /// The time of its `sync`, once that has been seen.
    pub(crate) time: Option<u64>,
    /// Tells whether it was before a fresh start.
    pub(crate) number: u64,
}

impl Group {
    pub(crate) fn value(&self, item: &str) -> Option<&Text> {
        let found = self.items.iter().find(|(name, _)| **name == *item);
        found.map(|(_, value)| value)
    }

    /// The data of a `sync` of the whole group.
    pub(crate) fn list(&self) -> Value {
        self.items.iter().map(|(_, value)| parsed(value)).collect()
    }

    pub(super) fn newest_is_there(&self, item: &str) -> bool {
        let is_there = |waiting: &Waiting| match &waiting.what {
            _ if waiting.custom.is_some() || waiting.is_refused => None,
            What::Set(name, _) | What::Update(name, _) if **name == *item => Some(true),
            What::Delete(name) if **name == *item => Some(false),
            _ => None,
        };
        let newest = self.queue.iter().rev().find_map(is_there);
        newest.unwrap_or_else(|| self.value(item).is_some())
    }

    /// Changes an item and tells of it; gives the old value.
    pub(super) fn change(&mut self, item: &ItemId, new: Option<Text>) -> Option<Text> {
        let found = self.items.iter().position(|(name, _)| name == item);
        let old = found.map(|found| self.items[found].1.clone());
        let event = match (&old, &new) {
            (None, None) => return None,
            (None, Some(new)) => json!({"type": "create", "data": parsed(new)}),
            (Some(_), Some(new)) => json!({"type": "update", "data": parsed(new)}),
            (Some(old), None) => json!({"type": "delete", "data": parsed(old)}),
        };
        match (found, new) {
            (Some(found), Some(new)) => self.items[found].1 = new,
            (Some(found), None) => drop(self.items.remove(found)),
            (None, Some(new)) => self.items.push((item.clone(), new)),
            (None, None) => {}
        }
        self.tell(Some(item.clone()), event);
        old
    }

    pub(super) fn tell(&mut self, item: Option<ItemId>, event: Value) {
        self.history.push(Event {
            item,
            event,
            time: None,
            wire_len: 0,
        });
    }
}

impl Event {
    /// Whether it is for a subscription to that item, or to the whole group.
    pub(super) fn is_custom(&self) -> bool {
        self.event["type"] == "event"
    }

    pub(crate) fn is_for(&self, item: &Option<ItemId>) -> bool {
        item.is_none() || *item == self.item
    }

    /// The same of a reader that may hear every item once only: the kind of a change is by what it held.
    pub(crate) fn is_told_by_item(&self, message: &Message) -> bool {
        let is_change = message.event["type"] != "event" && self.event["type"] != "event";
        let is_gone = |event: &Value| event["type"] == "delete";
        let is_same_change = is_change
            && message.event["data"] == self.event["data"]
            && is_gone(&message.event) == is_gone(&self.event);
        message.kind == Kind::Event
            && message.item == self.item
            && (is_same_change || message.event == self.event)
            && self.time == Some(message.time)
    }

    pub(crate) fn is_told_by(&self, message: &Message) -> bool {
        message.kind == Kind::Event
            && message.item == self.item
            && message.event == self.event
            && self.time.is_none_or(|time| time == message.time)
    }
}

impl Message {
    pub(crate) fn is_sync_of(&self, entered: &Entered) -> bool {
        self.kind == Kind::Sync
            && self.group == entered.group
            && self.item == entered.item
            && entered.sync.as_ref() == Some(&self.event["data"])
            && entered.time.is_none_or(|time| time == self.time)
    }
}

pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a value of the simulation")
}
