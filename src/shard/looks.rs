//! What a shard holds, for who looks at it from outside: sums that are kept as it goes, one group at a
//! time, and its items a page at a time.

use crate::id::{GroupKey, Text};

use super::Shard;
use super::group::Group;
use super::items::Items;

/// What all groups hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Items.
    pub items: usize,
    /// Their names and values, in bytes.
    pub bytes: usize,
}

impl Totals {
    pub(super) fn of(items: &Items) -> Totals {
        Totals {
            items: items.len(),
            bytes: items.held_bytes(),
        }
    }

    /// A part of it is another than before.
    pub(super) fn with(self, now: Totals, before: Totals) -> Totals {
        Totals {
            items: self.items + now.items - before.items,
            bytes: self.bytes + now.bytes - before.bytes,
        }
    }
}

/// How a group stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupLook {
    /// What it holds.
    pub holds: Totals,
    /// Events since it appeared here.
    pub events: u64,
    /// Events a second, of late.
    pub events_a_second: f32,
    /// Commands that wait in it.
    pub waiting: usize,
    /// How far its time is ahead of the clock, in ms.
    pub ahead_ms: u64,
}

/// Some items of a group, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemsLook {
    /// Names and values.
    pub items: Vec<(Box<str>, Text)>,
    /// Where the next ones begin; `None`: these were the last.
    pub next: Option<u64>,
}

impl Shard {
    /// What all its groups hold.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Above every slot in which a group stands.
    pub fn slots_end(&self) -> u32 {
        self.groups.slots_end()
    }

    /// Above every slot in which a stream stands.
    pub fn streams_end(&self) -> u32 {
        self.groups.streams_end()
    }

    /// The stream in a slot, and how many groups it has.
    pub fn stream_at(&self, slot: u32) -> Option<(&str, usize)> {
        self.groups.stream_at(slot)
    }

    /// The name of the group in a slot.
    pub fn key_at(&self, slot: u32) -> Option<&GroupKey> {
        Some(&self.groups.get(slot)?.key)
    }

    /// Events of the group in a slot, since it appeared.
    pub fn events_at(&self, slot: u32) -> Option<u64> {
        Some(self.groups.get(slot)?.pace.events)
    }

    /// How fast its events come, in events a second.
    pub fn pace_at(&self, slot: u32, now_ms: u64) -> Option<f32> {
        Some(self.groups.get(slot)?.pace.a_second(now_ms))
    }

    /// What it holds, in bytes.
    pub fn bytes_at(&self, slot: u32) -> Option<usize> {
        Some(self.groups.get(slot)?.items().held_bytes())
    }

    /// The group of that name.
    pub fn look_for(&self, key: &GroupKey, now_ms: u64) -> Option<GroupLook> {
        let group = self.groups.get(self.groups.find(key)?)?;
        Some(look(group, now_ms))
    }

    /// Items of that group from there on, so many and of so many bytes at most, but one if there is
    /// one. `None`: the group is not here.
    pub fn items_of(
        &self,
        key: &GroupKey,
        from: u64,
        items: usize,
        bytes: usize,
    ) -> Option<ItemsLook> {
        let group = self.groups.get(self.groups.find(key)?)?;
        let (mut items, mut bytes) = (items, bytes);
        let (items, next) = group.items().piece(from, &mut items, &mut bytes);
        Some(ItemsLook { items, next })
    }

    /// Everything was given back.
    pub(super) fn sum_up(&mut self) {
        let named = self.groups.iter().map(|group| Totals::of(group.items()));
        let all = named.chain(self.unnamed.all_items().map(Totals::of));
        let nothing = Totals::default();
        self.totals = all.fold(nothing, |sum, more| sum.with(more, nothing));
    }
}

fn look(group: &Group, now_ms: u64) -> GroupLook {
    GroupLook {
        holds: Totals::of(group.items()),
        events: group.pace.events,
        events_a_second: group.pace.a_second(now_ms),
        waiting: group.queue_len(),
        ahead_ms: group.last().time.saturating_sub(now_ms),
    }
}
