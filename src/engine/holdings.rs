//! How much each SDK worker has registered: functions in one such book, triggers and types in another.
//!
//! Pure.

use hashbrown::HashMap;

use crate::id::SlotId;

/// What one SDK worker's functions may hold, and its triggers and trigger types again. Further
/// registrations are refused.
pub(super) const REGISTERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest id of a function: it is kept for every call under way.
pub(super) const ID_BYTES_MAX: usize = 4096;

/// What an entry takes beside its texts, about.
const ENTRY_BYTES: usize = 256;

/// Bytes by owner.
#[derive(Default)]
pub(super) struct Holdings(HashMap<SlotId, usize>);

impl Holdings {
    /// Whether one more entry with texts of so many bytes may be entered.
    pub(super) fn has_room(&self, owner: SlotId, text_bytes: usize) -> bool {
        let held = self.0.get(&owner).copied().unwrap_or(0);
        held + ENTRY_BYTES + text_bytes <= REGISTERED_BYTES_MAX
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, owner: SlotId, text_bytes: usize) {
        *self.0.entry(owner).or_insert(0) += ENTRY_BYTES + text_bytes;
    }

    pub(super) fn remove(&mut self, owner: SlotId, text_bytes: usize) {
        if let Some(held) = self.0.get_mut(&owner) {
            *held = held.saturating_sub(ENTRY_BYTES + text_bytes);
            if *held == 0 {
                self.0.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_makes_room_for_as_much() {
        let owner = |slot| SlotId {
            slot,
            generation: 1,
        };
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
}
