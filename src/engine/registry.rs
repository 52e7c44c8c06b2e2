//! The functions of SDK workers: one table, id → owner.
//!
//! Pure. An id that is taken is taken over by the newest; the end of the older owner does not remove
//! it. What an SDK worker registers over one of ours is its own while it is there, and ours again
//! when it goes (spec: engine-protocol §4).

use hashbrown::HashMap;

use crate::id::SlotId;

/// Who serves which function.
#[derive(Default)]
pub(super) struct Functions {
    owners: HashMap<Box<str>, SlotId>,
}

impl Functions {
    pub(super) fn register(&mut self, id: &str, owner: SlotId) {
        self.owners.insert(id.into(), owner);
    }

    /// Removes the function if that peer still owns it.
    pub(super) fn unregister(&mut self, id: &str, owner: SlotId) {
        if self.owners.get(id) == Some(&owner) {
            self.owners.remove(id);
        }
    }

    /// A peer is gone: its functions go, those taken over since excepted.
    pub(super) fn forget(&mut self, owner: SlotId, ids: impl IntoIterator<Item = Box<str>>) {
        for id in ids {
            self.unregister(&id, owner);
        }
    }

    pub(super) fn owner_of(&self, id: &str) -> Option<SlotId> {
        self.owners.get(id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(slot: u32) -> SlotId {
        SlotId {
            slot,
            generation: 1,
        }
    }

    #[test]
    fn the_newest_owner_keeps_an_id_that_the_older_one_leaves() {
        let mut functions = Functions::default();
        functions.register("f", peer(1));
        functions.register("f", peer(2));
        functions.forget(peer(1), ["f".into()]);
        assert_eq!(functions.owner_of("f"), Some(peer(2)));
        functions.unregister("f", peer(2));
        assert_eq!(functions.owner_of("f"), None);
    }
}
