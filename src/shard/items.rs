//! The accepted items of one group: found by name, kept in the order in which they first came.
//!
//! No step is long: the index splits, the slots stand in chunks, and the order is cut into runs
//! (`order`). May not know what is under way.

use crate::collections::{Index, Slots};
use crate::id::Text;
use crate::protocol::answer::Chunk;
use crate::protocol::ttl::Ttl;

use super::lifetimes::Lifetimes;
use super::order::{Item, Order};

/// Item id → value, in insertion order. Hashes are the caller's: one hasher serves a whole shard.
#[derive(Default)]
pub(super) struct Items {
    index: Index,
    slots: Slots<Item>,
    order: Order,
    /// Given to the next item; never used twice, so it tells an item's place in the order.
    next_sequence: u64,
    /// Names and values.
    held_bytes: usize,
    /// While some item has one.
    lifetimes: Option<Box<Lifetimes>>,
}

impl Items {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What names and values hold.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn get(&self, hash: u64, name: &str) -> Option<&Text> {
        Some(&self.slots.get(self.find(hash, name)?)?.value)
    }

    /// The item's place in the order, which no other item of the group ever has.
    pub(super) fn place(&self, hash: u64, name: &str) -> Option<u64> {
        let item = self.slots.get(self.find(hash, name)?)?;
        Some(item.sequence)
    }

    /// The place that the next new item gets.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Items from that place on while they fit, and the place of the first that did not. What they
    /// take is taken off `items` and `bytes`.
    pub(super) fn piece(
        &self,
        from: u64,
        items: &mut usize,
        bytes: &mut usize,
    ) -> (Vec<(Box<str>, Text)>, Option<u64>) {
        let mut taken = Vec::new();
        for (_, item) in self.order.items_from(from, &self.slots) {
            if *items == 0 || *bytes == 0 {
                return (taken, Some(item.sequence));
            }
            *items -= 1;
            *bytes = bytes.saturating_sub(item.name.len() + item.value.len());
            taken.push((item.name.clone(), Text::clone(&item.value)));
        }
        (taken, None)
    }

    /// Those from that place on.
    pub(super) fn from(&self, place: u64) -> impl Iterator<Item = &Item> {
        let items = self.order.items_from(place, &self.slots);
        items.map(|(_, item)| item)
    }

    /// The slots and names of those from that place on.
    pub(super) fn named_from(&self, from: u64) -> impl Iterator<Item = (u32, &str)> {
        let items = self.order.items_from(from, &self.slots);
        items.map(|(slot, item)| (slot, &*item.name))
    }

    /// Removes all, and gives them.
    pub(super) fn clear(&mut self) -> Items {
        let none = self.to_follow();
        std::mem::replace(self, none)
    }

    /// None yet, to take the place of these.
    pub(super) fn to_follow(&self) -> Items {
        Items {
            next_sequence: self.next_sequence,
            ..Items::default()
        }
    }

    /// Sets the value: in place where the item is there, else at the end. Gives the item's slot.
    pub(super) fn put(&mut self, hash: u64, name: &str, value: Text) -> u32 {
        let value_len = value.len();
        if let Some(slot) = self.find(hash, name) {
            if let Some(item) = self.slots.get_mut(slot) {
                let old_len = std::mem::replace(&mut item.value, value).len();
                self.held_bytes = self.held_bytes - old_len + value_len;
                let sequence = item.sequence;
                self.order
                    .changed(sequence, old_len, value_len, &self.slots);
            }
            return slot;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.held_bytes += name.len() + value_len;
        let slot = self.slots.insert(Item {
            hash,
            sequence,
            name: name.into(),
            value,
        });
        let slots = &self.slots;
        self.index.insert(hash, slot, |slot| {
            slots.get(slot).map_or(0, |item| item.hash)
        });
        self.order.appended(slot, sequence, value_len);
        slot
    }

    pub(super) fn remove(&mut self, hash: u64, name: &str) {
        let slots = &self.slots;
        let is_it = |slot| {
            slots
                .get(slot)
                .is_some_and(|item: &Item| *item.name == *name)
        };
        let Some(slot) = self.index.remove(hash, is_it) else {
            return;
        };
        self.order.removed(slot, &self.slots);
        if let Some(item) = self.slots.remove(slot) {
            self.held_bytes -= item.name.len() + item.value.len();
        }
        self.stay(slot);
    }

    /// The name of the item in that slot, and its hash.
    pub(super) fn named(&self, slot: u32) -> Option<(u64, &str)> {
        let item = self.slots.get(slot)?;
        Some((item.hash, &item.name))
    }

    /// How long its items last, if any does not last for good.
    pub(super) fn lifetimes(&self) -> Option<&Lifetimes> {
        self.lifetimes.as_deref()
    }

    pub(super) fn lifetimes_mut(&mut self) -> Option<&mut Lifetimes> {
        self.lifetimes.as_deref_mut()
    }

    /// The item in that slot is written; see [`Lifetimes::renew`].
    pub(super) fn renew(
        &mut self,
        slot: u32,
        given: Option<Ttl>,
        of_stream: Option<Ttl>,
        now_ms: u64,
    ) {
        let lifetimes = self.lifetimes.get_or_insert_default();
        lifetimes.renew(slot, given, of_stream, now_ms);
        if lifetimes.is_empty() {
            self.lifetimes = None;
        }
    }

    /// The item in that slot is no more to end.
    pub(super) fn stay(&mut self, slot: u32) {
        if let Some(lifetimes) = &mut self.lifetimes {
            lifetimes.forget(slot);
            if lifetimes.is_empty() {
                self.lifetimes = None;
            }
        }
    }

    /// The item in that slot ends in that tick; `own`: so long it lasts by its own word.
    pub(super) fn end_in(&mut self, slot: u32, own: Option<Ttl>, tick: u32, now_ms: u64) {
        let lifetimes = self.lifetimes.get_or_insert_default();
        lifetimes.put(slot, own, tick, now_ms);
    }

    /// The texts of all values in order, in chunks that are shared until one of their items changes.
    pub(super) fn chunks(&mut self) -> Vec<Chunk> {
        self.order.chunks(&self.slots)
    }

    /// What it costs to make the texts that [`Items::chunks`] needs and that are not there.
    pub(super) fn texts_cost(&self) -> usize {
        self.order.texts_cost()
    }

    /// Makes some of these texts; gives where to go on.
    pub(super) fn make_texts(&mut self, from: usize, units: &mut usize) -> Option<usize> {
        self.order.make_texts(from, &self.slots, units)
    }

    /// Drops an item with each step: all of them at once may be long.
    pub(super) fn drop_in_steps(mut self) -> impl Iterator<Item = ()> + Send {
        std::iter::from_fn(move || self.slots.drop_last().then_some(()))
    }

    /// Gives back the texts that [`Items::chunks`] has made: nobody listens any more.
    pub(super) fn forget_chunks(&mut self) {
        self.order.forget_chunks();
    }

    pub(super) fn check_invariants(&self) {
        self.order.check_invariants(&self.slots);
        if let Some(lifetimes) = &self.lifetimes {
            lifetimes.check_invariants();
        }
    }

    fn find(&self, hash: u64, name: &str) -> Option<u32> {
        self.index.find(hash, |slot| {
            self.slots.get(slot).is_some_and(|item| *item.name == *name)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn a_list_keeps_the_order_of_first_insertion() {
        let hasher = hashbrown::DefaultHashBuilder::default();
        let mut items = Items::default();
        let mut model: Vec<(String, String)> = Vec::new();
        let mut random = 88_172_645_463_325_252_u64;
        for step in 0..30_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let name = format!("item {}", random % 3000);
            let hash = hasher.hash_one(&name);
            let found = model.iter().position(|(known, _)| *known == name);
            if random >> 32 & 3 == 0 {
                items.remove(hash, &name);
                if let Some(found) = found {
                    model.remove(found);
                }
            } else {
                let value = format!("\"{}\"", "x".repeat((random >> 40) as usize % 300));
                items.put(hash, &name, value.as_str().into());
                match found {
                    Some(found) => model[found].1 = value,
                    None => model.push((name, value)),
                }
            }
            if step % 1000 == 0 {
                items.check_invariants();
                let text: String = items.chunks().iter().map(|chunk| &**chunk).collect();
                let expected: String = model.iter().map(|(_, value)| format!(",{value}")).collect();
                assert_eq!(text, expected);
            }
        }
        for (name, value) in &model {
            assert_eq!(
                items.get(hasher.hash_one(name), name).map(|v| &**v),
                Some(&**value)
            );
        }
        for (name, _) in &model {
            items.remove(hasher.hash_one(name), name);
        }
        assert!(items.is_empty() && items.chunks().is_empty());
    }
}
