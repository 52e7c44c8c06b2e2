//! What a deployed client makes of what it hears, and what it may expect of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::pace::Pace;

use super::GROUPS;

/// What a deployed client knows of one subscription.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) group: usize,
    pub(super) item: Option<String>,
    pub(super) items: BTreeMap<String, String>,
    pub(super) value: Option<String>,
    /// `None`: its `sync` has not come.
    pub(super) last_time: Option<u64>,
    pub(super) last_times: BTreeMap<String, u64>,
    /// Numbers of the custom events for it since it joined, and those that it heard.
    pub(super) customs: Vec<u64>,
    pub(super) heard: BTreeSet<u64>,
}

#[derive(Default)]
pub(super) struct Client {
    pub(super) listeners: BTreeMap<String, Listener>,
    /// The last time heard of each group, and of each item.
    pub(super) times: BTreeMap<(usize, Option<String>), u64>,
    /// It has joined something while its socket was blocked, or follows items and the whole of a group.
    pub(super) is_mixed: bool,
    /// Of its subscriptions in each group.
    pub(super) paces: [Pace; 2],
    /// Its socket has never been blocked, and it has joined once.
    pub(super) is_plain: bool,
    pub(super) joins: usize,
    /// When it was last written a change or a custom event, and the items of the changes.
    pub(super) written_us: Option<u64>,
    pub(super) written: BTreeSet<String>,
    pub(super) bytes: Vec<u8>,
}

impl Client {
    /// Two writes are as far apart as its pace, and each has an item once.
    pub(super) fn check_pace(&mut self, json: &serde_json::Value, now_us: u64) {
        let group = usize::from(json["groupId"] == GROUPS[1]);
        let pace_us = self.paces[group].ms() * 1000;
        let kind = json["event"]["type"].as_str().unwrap();
        if !self.is_plain || self.joins > 1 || pace_us == 0 || kind == "sync" {
            return;
        }
        if self.written_us != Some(now_us) {
            if let Some(before_us) = self.written_us.replace(now_us) {
                let apart_us = now_us - before_us;
                assert!(apart_us >= pace_us, "{apart_us} µs after the last write");
            }
            self.written.clear();
        }
        if kind != "event" {
            let item = json["id"].as_str().unwrap().to_owned();
            assert!(self.written.insert(item), "twice in one write: {json}");
        }
    }

    pub(super) fn hears(&mut self, json: &serde_json::Value) {
        let group = usize::from(json["groupId"] == GROUPS[1]);
        let time = json["timestamp"].as_u64().unwrap();
        let item = json["id"].as_str().map(str::to_owned);
        let kind = json["event"]["type"].as_str().unwrap();
        let last = self.times.entry((group, None)).or_default();
        assert!(*last <= time, "a time of the group falls: {last}, {json}");
        *last = time;
        let mut is_copy = false;
        if let Some(item) = &item
            && kind != "sync"
        {
            let last = self.times.entry((group, Some(item.clone()))).or_default();
            assert!(*last <= time, "a time of the item falls");
            is_copy = *last == time;
            *last = time;
        }
        let is_strict = !self.is_mixed && !is_copy;
        if !is_copy && !matches!(kind, "sync" | "event") {
            let here = self.listeners.values().filter(|of| of.group == group);
            let mut held = here
                .filter_map(|of| of.holds(item.as_deref().unwrap()))
                .peekable();
            assert!(
                held.peek().is_none() || held.any(|held| held == (kind != "create")),
                "it fits nobody: {json} for {:?}",
                self.listeners
            );
        }
        for listener in self.listeners.values_mut() {
            if listener.group == group {
                listener.hears(json, (time, item.as_deref(), kind), is_strict);
            }
        }
    }
}

impl Listener {
    /// Whether it holds that item; `None`: it does not follow it, or knows nothing yet.
    fn holds(&self, item: &str) -> Option<bool> {
        self.last_time?;
        match &self.item {
            None => Some(self.items.contains_key(item)),
            Some(mine) => (mine == item).then_some(self.value.is_some()),
        }
    }

    pub(super) fn hears(
        &mut self,
        json: &serde_json::Value,
        (time, item, kind): (u64, Option<&str>, &str),
        is_strict: bool,
    ) {
        let data = &json["event"]["data"];
        let text = data.to_string();
        if kind == "event" {
            let is_for = self.item.is_none() || self.item.as_deref() == item;
            let number = json["event"]["event"]["data"].as_u64().unwrap();
            if is_for && self.customs.contains(&number) {
                let is_copy = self.heard.last() == Some(&number);
                let is_next = self.heard.last().is_none_or(|last| *last < number);
                assert!(is_copy || is_next, "a custom event out of its order");
                self.heard.insert(number);
            }
            return;
        }
        if let Some(mine) = &self.item {
            if item != Some(mine) || self.last_time.is_some_and(|last| time <= last) {
                return;
            }
            let is_there = self.value.is_some();
            let is_synced = self.last_time.is_some();
            self.last_time = Some(time);
            if is_strict && is_synced && kind != "sync" {
                assert_eq!(kind != "create", is_there, "{json} for {self:?}");
            }
            self.value = (kind != "delete" && !data.is_null()).then_some(text);
            return;
        }
        match (kind, item) {
            ("sync", None) => {
                if self.last_time.is_none_or(|last| time >= last) {
                    self.last_time = Some(time);
                    let values = data.as_array().unwrap().iter();
                    self.items = values
                        .map(|value| (value["id"].as_str().unwrap().to_owned(), value.to_string()))
                        .collect();
                }
            }
            ("sync", _) => {}
            (_, None) => panic!("a change of no item: {json}"),
            (kind, Some(item)) => {
                let is_there = self.items.contains_key(item);
                if is_strict && self.last_time.is_some() {
                    assert_eq!(kind != "create", is_there, "{json} for {self:?}");
                }
                match kind {
                    "create" if !is_there => drop(self.items.insert(item.into(), text)),
                    "update" => {
                        let last = self.last_times.entry(item.into()).or_default();
                        if time <= *last {
                            return;
                        }
                        *last = time;
                        self.last_time = self.last_time.map(|last| last.max(time));
                        if is_there {
                            self.items.insert(item.into(), text);
                        }
                    }
                    "delete" => {
                        self.last_time = self.last_time.map(|last| last.max(time));
                        self.items.remove(item);
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn check(&self, store: &BTreeMap<String, String>, customs_most: usize) {
        let parsed = |text: &String| -> serde_json::Value { serde_json::from_str(text).unwrap() };
        assert!(self.last_time.is_some(), "its sync never came");
        match &self.item {
            Some(item) => {
                assert_eq!(self.value.as_ref().map(parsed), store.get(item).map(parsed));
            }
            None => {
                let mine = self.items.iter().map(|(item, value)| (item, parsed(value)));
                let theirs = store.iter().map(|(item, value)| (item, parsed(value)));
                assert!(mine.eq(theirs), "{:?}, not {store:?}", self.items);
            }
        }
        let must = self.customs.iter().rev().take(customs_most);
        for number in must {
            assert!(
                self.heard.contains(number),
                "the last custom events come: {number} of {self:?}"
            );
        }
    }
}
