//! Any events, joins and leaves, and sockets that take bytes as they like: what a deployed client makes
//! of what it hears ends on what is there.

mod client;
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{GroupKey, ItemId, LocalGroupId, SlotId, Text};
use crate::protocol::frame::{Event, EventFrame, GroupNames, SyncFrame};
use crate::protocol::pace::Pace;

use super::{Bounds, Budget, Entry, Fanout, Reader};

use client::{Client, Listener};
use lines::{Line, Lines};

const SEEDS: u64 = 200;
const STEPS: usize = 150;
const ITEMS: [usize; 2] = [6, 30];
const GROUPS: [&str; 2] = ["g", "h"];
const PACES_MS: [u64; 2] = [10, 40];
/// A turn with nothing left to do may be followed by so much time, and any other one by so much.
const REST_US: usize = 30_000;
const TURN_US: usize = 20;

/// Numbers by a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

struct World {
    dice: Dice,
    fanout: Fanout,
    lines: Lines,
    clients: BTreeMap<SlotId, Client>,
    store: [BTreeMap<String, String>; 2],
    locals: [Option<LocalGroupId>; 2],
    /// Fresh `sync`s that were asked for.
    asked: Vec<(usize, LocalGroupId)>,
    time: u64,
    now_us: u64,
    bound: usize,
    customs_most: usize,
    heard_syncs: usize,
    value_len: usize,
    items_len: usize,
}

fn key(group: usize) -> GroupKey {
    GroupKey::new("s", GROUPS[group])
}

impl World {
    fn of_seed(seed: u64) -> World {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let bound = [0, 300, 2_000][dice.below(3)];
        let customs_most = [1, 3, 1000][dice.below(3)];
        let value_len = [1, 60][dice.below(2)];
        let items_len = ITEMS[dice.below(2)];
        World {
            fanout: Fanout::new(Bounds {
                reader: bound,
                worker: 1 << 30,
                custom_events: customs_most,
            }),
            lines: Lines::default(),
            clients: BTreeMap::new(),
            store: Default::default(),
            locals: [None; 2],
            asked: Vec::new(),
            time: 0,
            now_us: 1,
            bound,
            customs_most,
            heard_syncs: 0,
            value_len,
            items_len,
            dice,
        }
    }

    fn any(&mut self) -> Option<SlotId> {
        let len = self.clients.len();
        let at = self.dice.below(len.max(1));
        self.clients.keys().nth(at).copied()
    }

    fn item(&mut self) -> String {
        format!("u{}", self.dice.below(self.items_len))
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..45 => self.event(),
            45..50 => self.connect(),
            50..60 => self.join(),
            60..63 => self.leave(),
            63..65 => self.end(),
            65..75 => {
                let room = [0, self.dice.below(900)][self.dice.below(2)];
                if let Some(id) = self.any()
                    && !(self.clients[&id].is_plain && self.dice.once_in(2))
                {
                    self.clients.get_mut(&id).unwrap().is_plain = false;
                    self.line(id).room = room;
                }
            }
            75..83 => self.unblock(),
            83..86 => self.answer(),
            86 => self.begin_afresh(),
            _ => {
                let writes = self.dice.below(6);
                self.turn(writes);
            }
        }
    }

    fn line(&mut self, id: SlotId) -> &mut Line {
        &mut self.lines.0.get_mut(id).unwrap().1
    }

    fn event(&mut self) {
        let group = self.dice.below(2);
        self.time += 1 + self.dice.below(3) as u64;
        let time = self.time;
        let names = GroupNames::new(&key(group));
        let item = self.item();
        let pad = "x".repeat(self.value_len);
        let value = format!(r#"{{"id":"{item}","n":{time},"pad":"{pad}"}}"#);
        let frame = match self.dice.below(10) {
            0..2 => {
                let item = self.dice.once_in(2).then_some(&*item);
                for client in self.clients.values_mut() {
                    for listener in client.listeners.values_mut() {
                        let of_item = listener.item.is_none() || listener.item.as_deref() == item;
                        if listener.group == group && of_item {
                            listener.customs.push(time);
                        }
                    }
                }
                let data = time.to_string();
                let event = Event::Custom {
                    kind: "k",
                    data: &data,
                };
                EventFrame::encode(&names, time, item, event)
            }
            2..5 => match self.store[group].remove(&item) {
                Some(old) => EventFrame::encode(&names, time, Some(&item), Event::Delete(&old)),
                None => return,
            },
            _ => {
                let old = self.store[group].insert(item.clone(), value.clone());
                let event = match old {
                    Some(_) => Event::Update(&value),
                    None => Event::Create(&value),
                };
                EventFrame::encode(&names, time, Some(&item), event)
            }
        };
        if let Some(local) = self.locals[group] {
            self.fanout.append(local, Arc::new(frame));
        }
    }

    fn connect(&mut self) {
        if self.clients.len() < 8 {
            let room = [usize::MAX, 500][self.dice.below(2)];
            let paces = [0; 2].map(|_| self.pace());
            let taken = Vec::new();
            let id = self
                .lines
                .0
                .insert((Reader::default(), Line { room, taken }));
            let client = Client {
                paces,
                is_plain: room == usize::MAX,
                ..Client::default()
            };
            self.clients.insert(id, client);
        }
    }

    fn pace(&mut self) -> Pace {
        let ms = PACES_MS.get(self.dice.below(4)).copied();
        ms.and_then(Pace::of_ms).unwrap_or_default()
    }

    fn sync_of(&mut self, group: usize, item: Option<&str>) -> SyncFrame {
        self.time += u64::from(item.is_some());
        let names = GroupNames::new(&key(group));
        match item {
            Some(item) => {
                let value = self.store[group].get(item);
                let value = value.map(|value| Text::from(&**value));
                SyncFrame::of_item(&names, self.time, item, value.as_ref())
            }
            None => {
                let values = self.store[group].values();
                let chunks = values.map(|value| format!(",{value}").as_str().into());
                SyncFrame::of_group(&names, self.time, chunks.collect())
            }
        }
    }

    fn join(&mut self) {
        let Some(id) = self.any() else {
            return;
        };
        let group = self.dice.below(2);
        let item = self.dice.once_in(3).then(|| self.item());
        let sync = Arc::new(self.sync_of(group, item.as_deref()));
        let name = format!("s{}", self.dice.below(5));
        let local = self.fanout.begin_join(&key(group));
        self.locals[group] = Some(local);
        let pace = self.pace();
        let entry = Entry {
            id: name.as_str().into(),
            item: item.as_deref().map(ItemId::from),
            sync: Some(sync),
            pace,
        };
        self.fanout.enter(id, local, entry, &mut self.lines);
        let client = self.clients.get_mut(&id).unwrap();
        let (reader, _) = self.lines.0.get(id).unwrap();
        let others = client.listeners.iter();
        let mut others =
            others.filter(|(other, listener)| listener.group == group && **other != name);
        client.is_mixed |= reader.is_blocked();
        if others.clone().next().is_none() {
            client.paces[group] = pace; // else it is that of what stands
        }
        let is_paced = client.paces[group] != Pace::NONE;
        client.is_mixed |=
            others.any(|(_, other)| is_paced || other.item.is_some() || item.is_some());
        client.joins += 1;
        let listener = Listener {
            group,
            item,
            items: BTreeMap::new(),
            value: None,
            last_time: None,
            last_times: BTreeMap::new(),
            customs: Vec::new(),
            heard: BTreeSet::new(),
        };
        client.listeners.insert(name, listener);
        self.drain(id);
    }

    fn leave(&mut self) {
        if let Some(id) = self.any() {
            let name = format!("s{}", self.dice.below(5));
            self.fanout.leave(id, &name, &mut self.lines);
            self.clients.get_mut(&id).unwrap().listeners.remove(&name);
            self.note_left();
        }
    }

    fn end(&mut self) {
        if let Some(id) = self.any() {
            if let Some(mut ending) = self.fanout.begin_end(id, &mut self.lines) {
                let mut units = usize::MAX;
                let (fanout, lines) = (&mut self.fanout, &mut self.lines);
                assert!(fanout.go_on_ending(&mut ending, lines, &mut units, |_, _, _| ()));
            }
            self.lines.0.remove(id);
            self.clients.remove(&id);
            self.note_left();
        }
    }

    fn unblock(&mut self) {
        if let Some(id) = self.any()
            && !self.clients[&id].is_plain
        {
            let room = [usize::MAX, self.dice.below(700), 1][self.dice.below(3)];
            self.line(id).room = room;
            self.lines.0.get_mut(id).unwrap().0.unblock();
            self.drain(id);
        }
    }

    fn drain(&mut self, id: SlotId) {
        let mut budget = Budget::of_writes(1 + self.dice.below(3));
        self.fanout.drain(id, &mut self.lines, &mut budget);
        self.hear(id);
    }

    fn answer(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let (group, local) = self.asked.remove(0);
        let sync = (!self.dice.once_in(4)).then(|| Arc::new(self.sync_of(group, None)));
        self.fanout.refreshed(local, sync, &mut self.lines);
        self.note_left();
    }

    fn begin_afresh(&mut self) {
        let group = self.dice.below(2);
        let Some(local) = self.locals[group] else {
            return;
        };
        self.time += 1;
        let (time, store) = (self.time, self.store[group].clone());
        for client in self.clients.values_mut() {
            let listeners = client.listeners.values_mut();
            let here = listeners.filter(|listener| listener.group == group);
            here.for_each(|listener| listener.customs.clear()); // what was before is lost
        }
        self.fanout.begin_afresh(
            local,
            Arc::new(move |item| {
                let names = GroupNames::new(&key(group));
                Arc::new(match item {
                    Some(item) => {
                        let value = store.get(&**item).map(|value| Text::from(&**value));
                        SyncFrame::of_item(&names, time, item, value.as_ref())
                    }
                    None => {
                        let chunks = store
                            .values()
                            .map(|value| format!(",{value}").as_str().into());
                        SyncFrame::of_group(&names, time, chunks.collect())
                    }
                })
            }),
        );
    }

    fn turn(&mut self, writes: usize) {
        let mut budget = Budget::of_writes(writes);
        let most_us = if self.fanout.is_due() {
            TURN_US
        } else {
            REST_US
        };
        self.now_us += self.dice.below(most_us) as u64;
        self.fanout.begin_turn(self.now_us);
        self.fanout.sweep(&mut self.lines, &mut budget);
        self.fanout.check_invariants(&mut self.lines);
        if let Some(due_us) = self.fanout.next_due_us() {
            // An event waits as long as its pace and a little more.
            let waits_us = PACES_MS[1] * 1000 * 17 / 16;
            assert!(due_us <= self.now_us + waits_us, "{due_us} is too late");
        }
        self.note_left();
        let ids: Vec<SlotId> = self.clients.keys().copied().collect();
        ids.into_iter().for_each(|id| self.hear(id));
        if !self.fanout.is_due() {
            self.check_memory();
        }
    }

    /// What has come up.
    fn note_left(&mut self) {
        let outcome = self.fanout.take_outcome();
        assert!(
            outcome.slow.is_empty() && outcome.gone.is_empty(),
            "nobody is closed"
        );
        for (_, left) in outcome.left {
            let here = self.locals.iter_mut();
            here.filter(|local| **local == Some(left))
                .for_each(|local| *local = None);
        }
        for (stale, local) in outcome.stale {
            let group = (0..2).find(|group| key(*group) == stale).unwrap();
            self.asked.push((group, local));
        }
        for id in outcome.unfinished {
            if self.clients.contains_key(&id) {
                self.drain(id);
            }
        }
    }

    fn check_memory(&self) {
        let frame = 130 + 30 + self.value_len;
        let kept = self.items_len * (frame + 8 * 4);
        let customs = frame * self.customs_most.min(100) * (self.items_len + 2);
        let recent = self.bound + self.bound / 8 + 2 * frame;
        let lists = GROUPS.len() * (1 + PACES_MS.len());
        let most = lists * (kept + customs + recent);
        assert!(
            self.fanout.held_bytes() <= most,
            "{} > {most}",
            self.fanout.held_bytes()
        );
    }

    fn hear(&mut self, id: SlotId) {
        let taken = std::mem::take(&mut self.line(id).taken);
        let client = self.clients.get_mut(&id).unwrap();
        client.bytes.extend(taken);
        loop {
            let bytes = &client.bytes;
            if bytes.len() < 4 {
                return;
            }
            assert_eq!(bytes[0], 0x81, "a frame was torn");
            let (header_len, len) = match bytes[1] {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                len => (2, usize::from(len)),
            };
            if bytes.len() < header_len + len {
                return;
            }
            let payload = &bytes[header_len..header_len + len];
            let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
            client.bytes.drain(..header_len + len);
            self.heard_syncs += usize::from(json["event"]["type"] == "sync");
            client.hears(&json);
            client.check_pace(&json, self.now_us);
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let ids: Vec<SlotId> = self.clients.keys().copied().collect();
            for id in ids {
                self.line(id).room = usize::MAX;
                self.lines.0.get_mut(id).unwrap().0.unblock();
                self.drain(id);
            }
            self.now_us = self.now_us.max(self.fanout.next_due_us().unwrap_or(0));
            self.turn(50);
            self.answer();
            if !self.fanout.is_due() && self.asked.is_empty() && self.fanout.held_bytes() == 0 {
                break;
            }
        }
        assert_eq!(self.fanout.held_bytes(), 0, "somebody lacks something");
        self.turn(50);
        for client in self.clients.values() {
            assert!(client.bytes.is_empty(), "part of a frame");
            for listener in client.listeners.values() {
                listener.check(&self.store[listener.group], self.customs_most);
            }
        }
    }
}

#[test]
fn whatever_happens_every_reader_ends_on_what_is_there() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let seeds = match number("CONVERGE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CONVERGE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::of_seed(seed);
            for _ in 0..3 {
                for _ in 0..STEPS {
                    world.step();
                }
                world.settle();
            }
        });
        if let Err(failure) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(failure);
        }
    }
}
