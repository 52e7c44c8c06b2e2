//! How much each SDK worker has registered: functions in one such book, triggers and types in another.
//!
//! Pure.

use hashbrown::HashMap;

use crate::id::SlotId;

/// What one SDK worker's functions may hold, and its triggers and trigger types again. Further
/// registrations are refused.
pub(in crate::broker) const REGISTERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The same of all SDK workers together. The last quarter is kept for those that have registered
/// little.
pub(in crate::broker) const REGISTERED_BYTES_MAX_OF_ALL: usize = 8 * REGISTERED_BYTES_MAX;
const LITTLE_BYTES: usize = 1024 * 1024;

/// The longest id of a function: it is kept for every call under way.
pub(in crate::broker) const ID_BYTES_MAX: usize = 4096;

/// What an entry takes beside its texts, about.
const ENTRY_BYTES: usize = 256;

/// Bytes by owner.
#[derive(Default)]
pub(in crate::broker) struct Holdings {
    by_owner: HashMap<SlotId, usize>,
    of_all: usize,
}

impl Holdings {
    /// Whether one more entry with texts of so many bytes may be entered.
    pub(in crate::broker) fn has_room(&self, owner: SlotId, text_bytes: usize) -> bool {
        let held = self.by_owner.get(&owner).copied().unwrap_or(0) + ENTRY_BYTES + text_bytes;
        let of_all_max = match held <= LITTLE_BYTES {
            true => REGISTERED_BYTES_MAX_OF_ALL,
            false => REGISTERED_BYTES_MAX_OF_ALL / 4 * 3,
        };
        held <= REGISTERED_BYTES_MAX && self.of_all + ENTRY_BYTES + text_bytes <= of_all_max
    }

    /// Whether anybody holds anything.
    pub(in crate::broker) fn is_left(&self) -> bool {
        !self.by_owner.is_empty() || self.of_all > 0
    }

    #[cfg(test)]
    pub(in crate::broker) fn is_empty(&self) -> bool {
        !self.is_left()
    }

    pub(in crate::broker) fn add(&mut self, owner: SlotId, text_bytes: usize) {
        *self.by_owner.entry(owner).or_insert(0) += ENTRY_BYTES + text_bytes;
        self.of_all += ENTRY_BYTES + text_bytes;
    }

    /// An entry that is there has become longer.
    pub(in crate::broker) fn grow(&mut self, owner: SlotId, text_bytes: usize) {
        *self.by_owner.entry(owner).or_insert(0) += text_bytes;
        self.of_all += text_bytes;
    }

    pub(in crate::broker) fn remove(&mut self, owner: SlotId, text_bytes: usize) {
        if let Some(held) = self.by_owner.get_mut(&owner) {
            let bytes = (ENTRY_BYTES + text_bytes).min(*held);
            *held -= bytes;
            self.of_all -= bytes;
            if *held == 0 {
                self.by_owner.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_makes_room_for_as_much() {
        let owner = SlotId::first;
        let mut holdings = Holdings::default();
        let half = REGISTERED_BYTES_MAX / 2 - ENTRY_BYTES;
        holdings.add(owner(1), half);
        assert!(holdings.has_room(owner(1), half));
        holdings.add(owner(1), half);
        assert!(!holdings.has_room(owner(1), 0) && holdings.has_room(owner(2), half));
        holdings.remove(owner(1), half);
        holdings.remove(owner(1), half);
        assert!(holdings.is_empty());
    }

    #[test]
    fn all_together_are_bounded_and_who_has_little_still_finds_room() {
        let owner = SlotId::first;
        let mut holdings = Holdings::default();
        let whole = REGISTERED_BYTES_MAX - ENTRY_BYTES;
        for n in 0..6 {
            assert!(holdings.has_room(owner(n), whole), "{n}");
            holdings.add(owner(n), whole);
        }
        assert!(!holdings.has_room(owner(7), whole));
        assert!(holdings.has_room(owner(7), LITTLE_BYTES / 2));
        holdings.remove(owner(0), whole);
        assert!(holdings.has_room(owner(7), whole));
    }
}
