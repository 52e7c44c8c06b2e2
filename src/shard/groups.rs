//! All groups of a shard: by name, and by stream for the listings.
//!
//! May not know what a group does.

use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::collections::{Index, Slots};
use crate::id::GroupKey;
use crate::protocol::streams::StreamRules;

use super::group::{Group, Last};

#[derive(Default)]
pub(super) struct Groups {
    hasher: DefaultHashBuilder,
    slots: Slots<Group>,
    by_key: Index,
    streams: Slots<Stream>,
    by_stream: Index,
    /// The latest of all groups that were let go: a group that appears begins there.
    let_go: Last,
    /// Groups that have ever appeared.
    born: u64,
    rules: Arc<StreamRules>,
}

/// The groups of one stream, by their slots, in no order.
struct Stream {
    hash: u64,
    name: Box<str>,
    groups: Vec<u32>,
}

impl Groups {
    /// The hash of an item's name: one hasher serves the whole shard.
    pub(super) fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// What the settings say of streams, for groups that appear from here on.
    pub(super) fn set_rules(&mut self, rules: Arc<StreamRules>) {
        self.rules = rules;
    }

    /// The same, as it was told.
    pub(super) fn rules(&self) -> &Arc<StreamRules> {
        &self.rules
    }

    /// What hashes them.
    pub(super) fn hasher(&self) -> DefaultHashBuilder {
        self.hasher.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, key: &GroupKey) -> Option<u32> {
        self.by_key.find(self.hasher.hash_one(key), |slot| {
            self.slots.get(slot).is_some_and(|group| group.key == *key)
        })
    }

    /// The slot of the group, which appears if it is not there.
    pub(super) fn enter(&mut self, key: GroupKey) -> u32 {
        if let Some(slot) = self.find(&key) {
            return slot;
        }
        let hash = self.hasher.hash_one(&key);
        let stream = self.enter_stream(key.stream());
        self.born += 1;
        let mut group = Group::new(key, hash, self.born, self.let_go);
        group.rule = self.rules.of(group.key.stream()).cloned();
        let slot = self.slots.insert(group);
        if let (Some(group), Some(found)) = (self.slots.get_mut(slot), self.streams.get_mut(stream))
        {
            group.stream = stream;
            group.place_in_stream = found.groups.len() as u32;
            found.groups.push(slot);
        }
        let slots = &self.slots;
        self.by_key.insert(hash, slot, |slot| {
            slots.get(slot).map_or(0, |group| group.hash)
        });
        slot
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Group> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Group> {
        self.slots.get_mut(slot)
    }

    /// Above every slot that a group stands in.
    pub(super) fn slots_end(&self) -> u32 {
        self.slots.end()
    }

    pub(super) fn let_go(&self) -> Last {
        self.let_go
    }

    /// Every group's time is at least this, those of groups to come included.
    pub(super) fn raise_times(&mut self, time: u64) {
        let event = time;
        self.let_go = self.let_go.max(Last { time, event });
        for slot in 0..self.slots.end() {
            if let Some(group) = self.slots.get_mut(slot) {
                group.restore(time);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.slots.iter().map(|(_, group)| group)
    }

    /// Forgets the group if nothing of it is worth keeping but its time, which is kept here.
    pub(super) fn let_go_if_idle(&mut self, slot: u32) {
        if !self.slots.get(slot).is_some_and(Group::is_idle) {
            return;
        }
        let Some(group) = self.slots.remove(slot) else {
            return;
        };
        self.let_go = self.let_go.max(group.last());
        self.by_key.remove(group.hash, |found| found == slot);
        let Some(stream) = self.streams.get_mut(group.stream) else {
            return;
        };
        stream.groups.swap_remove(group.place_in_stream as usize);
        if let Some(moved) = stream.groups.get(group.place_in_stream as usize)
            && let Some(moved) = self.slots.get_mut(*moved)
        {
            moved.place_in_stream = group.place_in_stream;
        }
        if stream.groups.is_empty() {
            self.by_stream
                .remove(stream.hash, |found| found == group.stream);
            self.streams.remove(group.stream);
        }
    }

    /// The slots of the stream's groups, in no order.
    pub(super) fn slots_of(&self, stream: &str) -> &[u32] {
        let found = self.find_stream(stream);
        let found = found.and_then(|slot| self.streams.get(slot));
        found.map_or(&[], |stream| &stream.groups)
    }

    /// Above every slot that a stream stands in.
    pub(super) fn streams_end(&self) -> u32 {
        self.streams.end()
    }

    /// The name of the stream in a slot, and how many groups it has.
    pub(super) fn stream_at(&self, slot: u32) -> Option<(&str, usize)> {
        let stream = self.streams.get(slot)?;
        Some((&stream.name, stream.groups.len()))
    }

    fn find_stream(&self, name: &str) -> Option<u32> {
        self.by_stream.find(self.hash(name), |slot| {
            self.streams
                .get(slot)
                .is_some_and(|stream| *stream.name == *name)
        })
    }

    fn enter_stream(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.find_stream(name) {
            return slot;
        }
        let hash = self.hash(name);
        let slot = self.streams.insert(Stream {
            hash,
            name: name.into(),
            groups: Vec::new(),
        });
        let streams = &self.streams;
        self.by_stream.insert(hash, slot, |slot| {
            streams.get(slot).map_or(0, |stream| stream.hash)
        });
        slot
    }
}
