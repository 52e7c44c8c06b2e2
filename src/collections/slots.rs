//! A slab in chunks: what is in it never moves, and a freed slot is used again.
//!
//! May not know what it holds. `Slots` gives out plain indexes; `Named` adds a generation, so that
//! a reused slot is not taken for its last owner.

use crate::id::SlotId;

/// Slots in one chunk. The first chunk grows by doubling, so a small table stays small.
const CHUNK_LEN: usize = 4096;
const CHUNK_BITS: u32 = CHUNK_LEN.trailing_zeros();

/// Marks the end of the list of free slots.
const NONE: u32 = u32::MAX;

/// Values by index.
pub struct Slots<T> {
    chunks: Vec<Vec<Slot<T>>>,
    /// Head of the list of free slots, which is linked through the slots themselves.
    free: u32,
    /// Held slots.
    len: u32,
    /// Slots ever made: held and free.
    made: u32,
}

enum Slot<T> {
    Free { next: u32 },
    Held(T),
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            chunks: Vec::new(),
            free: NONE,
            len: 0,
            made: 0,
        }
    }
}

impl<T> Slots<T> {
    /// How many values are held.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Above every slot that a value stands in.
    pub fn end(&self) -> u32 {
        self.made
    }

    /// Keeps `value` and tells where.
    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if self.free != NONE {
            let slot = self.free;
            let place = &mut self.chunks[chunk_of(slot)][offset_of(slot)];
            if let Slot::Free { next } = *place {
                self.free = next;
            }
            *place = Slot::Held(value);
            return slot;
        }
        let slot = self.made;
        self.made += 1;
        if chunk_of(slot) == self.chunks.len() {
            // One reallocation of pointers a chunk; whole chunks from the second on.
            let capacity = if slot == 0 { 1 } else { CHUNK_LEN };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        self.chunks[chunk_of(slot)].push(Slot::Held(value));
        slot
    }

    /// Takes the value out; `None` when the slot is free.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let place = self.place_mut(slot)?;
        if matches!(place, Slot::Free { .. }) {
            return None;
        }
        let Slot::Held(value) = std::mem::replace(place, Slot::Free { next: NONE }) else {
            return None;
        };
        let next = self.free;
        if let Some(place) = self.place_mut(slot) {
            *place = Slot::Free { next };
        }
        self.free = slot;
        self.len -= 1;
        Some(value)
    }

    /// Drops what is in the last slot, of a table that takes nothing more; false when there is none.
    pub fn drop_last(&mut self) -> bool {
        self.free = NONE;
        let Some(chunk) = self.chunks.last_mut() else {
            return false;
        };
        if let Some(Slot::Held(_)) = chunk.pop() {
            self.len -= 1;
        }
        if chunk.is_empty() {
            self.chunks.pop();
        }
        self.made = self.made.saturating_sub(1);
        true
    }

    /// The value in a slot.
    pub fn get(&self, slot: u32) -> Option<&T> {
        match self.chunks.get(chunk_of(slot))?.get(offset_of(slot))? {
            Slot::Held(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// The value in a slot, to change.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        match self.place_mut(slot)? {
            Slot::Held(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    /// All values with their slots, in the order of the slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.made).filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        self.chunks
            .get_mut(chunk_of(slot))?
            .get_mut(offset_of(slot))
    }
}

fn chunk_of(slot: u32) -> usize {
    (slot >> CHUNK_BITS) as usize
}

fn offset_of(slot: u32) -> usize {
    slot as usize & (CHUNK_LEN - 1)
}

/// Values by slot and generation.
pub struct Named<T> {
    slots: Slots<(u32, T)>,
    /// Given to the next value. It comes round after 2³² insertions.
    generation: u32,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named {
            slots: Slots::default(),
            generation: 0,
        }
    }
}

impl<T> Named<T> {
    /// How many values are held.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Keeps `value` under a name that nothing else has.
    pub fn insert(&mut self, value: T) -> SlotId {
        self.generation = self.generation.wrapping_add(1);
        SlotId {
            slot: self.slots.insert((self.generation, value)),
            generation: self.generation,
        }
    }

    /// Takes the value out. `None`: it left, and the slot is empty or someone else's. Not an error.
    pub fn remove(&mut self, id: SlotId) -> Option<T> {
        self.get(id)?;
        self.slots.remove(id.slot).map(|(_, value)| value)
    }

    /// The value of that name.
    pub fn get(&self, id: SlotId) -> Option<&T> {
        let (generation, value) = self.slots.get(id.slot)?;
        (*generation == id.generation).then_some(value)
    }

    /// The value of that name, to change.
    pub fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        let (generation, value) = self.slots.get_mut(id.slot)?;
        (*generation == id.generation).then_some(value)
    }

    /// Above every slot that a value stands in.
    pub fn slots_end(&self) -> u32 {
        self.slots.end()
    }

    /// All values with their names, in the order of the slots.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &T)> {
        self.slots.iter().map(|(slot, (generation, value))| {
            let id = SlotId {
                slot,
                generation: *generation,
            };
            (id, value)
        })
    }

    /// The name of what stands in a slot now.
    pub fn id_at(&self, slot: u32) -> Option<SlotId> {
        let (generation, _) = self.slots.get(slot)?;
        Some(SlotId {
            slot,
            generation: *generation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_is_used_again_under_another_name() {
        let mut table = Named::default();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(first.slot, second.slot);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&"second"));
    }

    #[test]
    fn values_stay_at_their_slots_over_many_chunks() {
        let mut slots = Slots::default();
        for n in 0..3 * CHUNK_LEN as u32 {
            assert_eq!(slots.insert(n), n);
        }
        for n in (0..3 * CHUNK_LEN as u32).step_by(3) {
            assert_eq!(slots.remove(n), Some(n));
            assert_eq!(slots.remove(n), None);
        }
        assert_eq!(slots.len(), 2 * CHUNK_LEN);
        assert!(
            slots
                .iter()
                .all(|(slot, value)| slot == *value && slot % 3 != 0)
        );
        for _ in 0..CHUNK_LEN {
            let slot = slots.insert(7);
            assert_eq!(slot % 3, 0, "free slots first");
        }
        assert_eq!(slots.made as usize, 3 * CHUNK_LEN);
    }
}
