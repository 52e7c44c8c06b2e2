//! Triggers that were registered before anybody serves their type: how many there are, and what they
//! hold.
//!
//! Pure. May not know the triggers themselves.

use hashbrown::HashMap;

use crate::config::Limits;
use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::input::limit_exceeded;

/// Who has so many of them or fewer finds room in the last quarter, which the others leave free.
const FEW: usize = 16;
/// What those may hold there.
const FEW_BYTES: usize = 64 * 1024;

/// What an entry takes beside its texts, about.
const ENTRY_BYTES: usize = 256;

/// How many there are, and bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Load {
    len: usize,
    bytes: usize,
}

/// All of them, by who has registered them.
pub(in crate::broker) struct Early {
    len_max: usize,
    bytes_max: usize,
    of_all: Load,
    by_owner: HashMap<SlotId, Load>,
}

impl Default for Early {
    fn default() -> Early {
        Early::new(&Limits::default())
    }
}

impl Early {
    pub(in crate::broker) fn new(limits: &Limits) -> Early {
        Early {
            len_max: limits.early_triggers,
            bytes_max: limits.early_triggers_bytes,
            of_all: Load::default(),
            by_owner: HashMap::new(),
        }
    }

    pub(in crate::broker) fn set_limits(&mut self, limits: &Limits) {
        self.len_max = limits.early_triggers;
        self.bytes_max = limits.early_triggers_bytes;
    }

    /// Whether that worker may register one more, with texts of so many bytes. Err: what it is told.
    pub(super) fn check_room(&self, owner: SlotId, text_bytes: usize) -> Result<(), ErrorBody> {
        let own = self.by_owner.get(&owner).copied().unwrap_or_default();
        let bytes = ENTRY_BYTES + text_bytes;
        let has_few = own.len < FEW && own.bytes + bytes <= FEW_BYTES;
        let share = |most: usize| if has_few { most } else { most.div_ceil(4) * 3 };
        for (limit, next, most) in [
            ("limits.early_triggers", self.of_all.len + 1, self.len_max),
            (
                "limits.early_triggers_bytes",
                self.of_all.bytes + bytes,
                self.bytes_max,
            ),
        ] {
            let most = share(most).min(most);
            if next > most {
                let message = format!(
                    "nobody serves its type yet, and {}",
                    limit_exceeded(limit, next, most)
                );
                return Err(ErrorBody::new("trigger_registration_failed", message));
            }
        }
        Ok(())
    }

    pub(in crate::broker) fn add(&mut self, owner: SlotId, text_bytes: usize) {
        let own = self.by_owner.entry(owner).or_default();
        for load in [own, &mut self.of_all] {
            load.len += 1;
            load.bytes += ENTRY_BYTES + text_bytes;
        }
    }

    /// One that is there has become longer.
    pub(in crate::broker) fn grow(&mut self, owner: SlotId, text_bytes: usize) {
        if let Some(own) = self.by_owner.get_mut(&owner) {
            own.bytes += text_bytes;
            self.of_all.bytes += text_bytes;
        }
    }

    /// One is gone, or its type is there.
    pub(in crate::broker) fn remove(&mut self, owner: SlotId, text_bytes: usize) {
        let Some(own) = self.by_owner.get_mut(&owner) else {
            return;
        };
        let bytes = (ENTRY_BYTES + text_bytes).min(own.bytes);
        own.len -= 1;
        own.bytes -= bytes;
        self.of_all.len -= 1;
        self.of_all.bytes -= bytes;
        if own.len == 0 {
            self.by_owner.remove(&owner);
        }
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.by_owner.is_empty() && self.of_all == Load::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(len: usize, bytes: usize) -> Early {
        Early::new(&Limits {
            early_triggers: len,
            early_triggers_bytes: bytes,
            ..Limits::default()
        })
    }

    #[test]
    fn many_of_one_worker_leave_the_last_quarter_to_others() {
        let mut early = with(100, 1 << 20);
        while early.check_room(SlotId::first(1), 10).is_ok() {
            early.add(SlotId::first(1), 10);
        }
        assert_eq!(early.of_all.len, 75);
        let refused = early.check_room(SlotId::first(1), 10).unwrap_err();
        assert_eq!(
            refused.message,
            "nobody serves its type yet, and limits.early_triggers exceeded: 76 > 75"
        );
        for other in [2, 3] {
            for _ in 0..FEW {
                if early.check_room(SlotId::first(other), 10).is_ok() {
                    early.add(SlotId::first(other), 10);
                }
            }
        }
        assert_eq!(early.of_all.len, 100);
        assert!(early.check_room(SlotId::first(4), 10).is_err());
        early.remove(SlotId::first(1), 10);
        assert!(early.check_room(SlotId::first(4), 10).is_ok());
    }

    #[test]
    fn what_they_hold_is_bounded_and_what_goes_makes_room() {
        let mut early = with(100, 100_000);
        let refused = early.check_room(SlotId::first(1), 100_000).unwrap_err();
        assert!(
            refused
                .message
                .contains("limits.early_triggers_bytes exceeded: 100256 > 75000")
        );
        early.add(SlotId::first(1), 70_000);
        early.grow(SlotId::first(1), 10);
        assert!(early.check_room(SlotId::first(2), 70_000).is_err());
        early.remove(SlotId::first(1), 70_010);
        assert!(early.is_empty());
        early.remove(SlotId::first(1), 1);
        assert!(early.is_empty());
    }
}
