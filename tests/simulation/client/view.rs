//! What a listener of a deployed client makes of what it hears, by the client's own rules.

use std::collections::HashMap;

use iii_stream::id::{GroupKey, ItemId};
use serde_json::Value;

use crate::model::Group;
use crate::wire::{Kind, Message};

/// A listener of a deployed client, by the table of what it drops.
#[derive(Debug)]
pub(super) struct View {
    pub(super) group: GroupKey,
    pub(super) item: Option<ItemId>,
    /// Of a group's listener: its list.
    pub(super) items: Vec<Value>,
    /// Of an item's: its value.
    pub(super) value: Value,
    /// The last time that it accepted; of a group's listener, for `sync`s.
    pub(super) last_time: u64,
    /// Of a group's: the same for `update`s, by item.
    pub(super) last_times: HashMap<ItemId, u64>,
    /// Its join was refused: it may be that of another subscription that it hears of.
    pub(super) is_refused: bool,
}

impl View {
    pub(super) fn hears(&mut self, message: &Message) {
        if message.group != self.group {
            return;
        }
        match (&self.item, &message.item) {
            (Some(mine), Some(item)) if mine == item => self.item_hears(message),
            (None, Some(_)) if message.kind == Kind::Event => self.group_hears(message),
            (None, None) => self.group_hears(message),
            _ => {}
        }
    }

    fn item_hears(&mut self, message: &Message) {
        if message.time <= self.last_time {
            return;
        }
        self.last_time = message.time;
        match message.event["type"].as_str() {
            Some("sync" | "create" | "update") => self.value = message.event["data"].clone(),
            Some("delete") => self.value = Value::Null,
            _ => {}
        }
    }

    fn group_hears(&mut self, message: &Message) {
        let data = &message.event["data"];
        let held = self.items.iter().position(|item| item["id"] == data["id"]);
        match message.event["type"].as_str() {
            Some("sync") if message.time >= self.last_time => {
                self.items = data.as_array().cloned().unwrap_or_default();
                self.last_time = message.time;
            }
            Some("create") if held.is_none() => self.items.push(data.clone()),
            Some("update") => {
                let item = message.item.clone().expect("an item");
                let last = self.last_times.entry(item).or_insert(0);
                if message.time <= *last {
                    return;
                }
                *last = message.time;
                self.last_time = self.last_time.max(message.time);
                if let Some(held) = held {
                    self.items[held] = data.clone();
                }
            }
            Some("delete") => {
                self.last_time = self.last_time.max(message.time);
                self.items.retain(|item| item["id"] != data["id"]);
            }
            _ => {}
        }
    }

    /// `is_ordered`: it has heard of each item when it came.
    pub(super) fn check(&self, group: &Group, is_ordered: bool) {
        let Some(item) = &self.item else {
            let mut lists = [
                self.items.clone(),
                group.list().as_array().cloned().unwrap_or_default(),
            ];
            if !is_ordered {
                let by_id = |item: &Value| item["id"].to_string();
                lists.iter_mut().for_each(|list| list.sort_by_key(by_id));
            }
            return assert_eq!(lists[0], lists[1]);
        };
        let value = group.value(item);
        let value = value.map(|value| serde_json::from_str(value).expect("a value"));
        assert_eq!(self.value, value.unwrap_or(Value::Null));
    }
}
