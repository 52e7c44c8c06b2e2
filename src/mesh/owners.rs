//! Which worker owns a group: the same one on every host of one version with as many workers.

use crate::id::{GroupKey, WorkerId};

/// Which worker owns a group.
#[derive(Debug, Clone, Copy)]
pub enum Owners {
    /// By a fixed hash of the joined name.
    Hashed {
        /// How many workers there are.
        workers: u16,
    },
    /// For tests: a group named `…@2` belongs to worker 2, others as by the hash.
    Steered {
        /// How many workers there are.
        workers: u16,
    },
}

impl Owners {
    /// The group's owner.
    pub fn owner_of(self, key: &GroupKey) -> WorkerId {
        let (Owners::Hashed { workers } | Owners::Steered { workers }) = self;
        if let Owners::Steered { .. } = self
            && let Some((_, named)) = key.group().rsplit_once('@')
            && let Ok(named) = named.parse::<u16>()
        {
            return WorkerId(named % workers);
        }
        let spread = u128::from(fixed_hash(key.joined())) * u128::from(workers);
        WorkerId((spread >> 64) as u16)
    }
}

/// FNV-1a, and a multiplication that carries its low bits up to where [`Owners`] looks.
fn fixed_hash(text: &str) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_evenly_and_always_the_same_way() {
        let owners = Owners::Hashed { workers: 15 };
        let mut counts = [0_u32; 15];
        for n in 0..15_000 {
            let key = GroupKey::new("presence", &format!("room-{n}"));
            counts[owners.owner_of(&key).index()] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
        // Another value would move every group to another owner between two hosts of one version.
        let known = ["room-1", "room-2", "room-3"].map(|group| {
            let WorkerId(owner) = owners.owner_of(&GroupKey::new("presence", group));
            owner
        });
        assert_eq!(known, [10, 4, 14]);
        assert_eq!(
            Owners::Steered { workers: 3 }.owner_of(&GroupKey::new("s", "g@2")),
            WorkerId(2)
        );
    }
}
