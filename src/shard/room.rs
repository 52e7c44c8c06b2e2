//! Whether values may grow, and by how much those that are kept have grown.
//!
//! May not know how much memory there is: that is said from outside.

/// What an item takes beside its value, about: its name, its places in the tables, what the allocator
/// adds.
const ITEM_BYTES: usize = 112;
/// Values are kept in steps of so many bytes: one that stays within its step adds nothing.
const STEP_BYTES: usize = 16;
/// Operations that hold no more add nothing worth refusing.
const SMALL_BYTES: usize = 64;

/// What one shard knows of it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The process has no memory for more.
    pub(super) is_out: bool,
    /// What all items have come to take since the start, wrapped around below nothing.
    kept_bytes: u64,
    /// Calls that were refused since that was last asked.
    refused: u64,
}

impl Room {
    /// Whether that value may not take the place of the old one: it would add, and nothing may.
    pub(super) fn refuses(&mut self, old: Option<&str>, new: &str) -> bool {
        let steps = |text: &str| text.len().div_ceil(STEP_BYTES);
        self.refuses_if(|| old.is_none_or(|old| steps(new) > steps(old)))
    }

    /// The same of an update whose result is not known: it adds what its operations bring.
    pub(super) fn refuses_update(&mut self, is_there: bool, ops_bytes: usize) -> bool {
        self.refuses_if(|| !is_there || ops_bytes > SMALL_BYTES)
    }

    fn refuses_if(&mut self, adds: impl FnOnce() -> bool) -> bool {
        let refuses = self.is_out && adds();
        self.refused += u64::from(refuses);
        refuses
    }

    /// An item's value is another one now.
    pub(super) fn note(&mut self, old: Option<&str>, new: Option<&str>) {
        let bytes = |value: Option<&str>| value.map_or(0, |value| ITEM_BYTES + value.len());
        let (old, new) = (bytes(old) as u64, bytes(new) as u64);
        self.kept_bytes = self.kept_bytes.wrapping_add(new).wrapping_sub(old);
    }

    /// So many items are gone, whose values took so much.
    pub(super) fn note_gone(&mut self, items: usize, value_bytes: usize) {
        let bytes = items * ITEM_BYTES + value_bytes;
        self.kept_bytes = self.kept_bytes.wrapping_sub(bytes as u64);
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_adds_is_refused_and_only_without_room() {
        let mut room = Room::default();
        assert!(!room.refuses(None, "1"));
        room.is_out = true;
        assert!(room.refuses(None, "1"));
        assert!(!room.refuses(Some("12345"), "1"));
        assert!(!room.refuses(Some("9"), "10"), "they are kept in one step");
        assert!(room.refuses(Some("9"), &"9".repeat(17)));
        assert!(room.refuses_update(false, 0) && room.refuses_update(true, 65));
        assert!(!room.refuses_update(true, 64));
        assert_eq!((room.take_refused(), room.take_refused()), (4, 0));
    }

    #[test]
    fn what_came_and_went_takes_nothing() {
        let mut room = Room::default();
        room.note(None, Some("12"));
        room.note(Some("12"), Some("1234"));
        assert_eq!(room.kept_bytes(), ITEM_BYTES as u64 + 4);
        room.note(None, Some("1"));
        room.note(Some("1"), None);
        room.note_gone(1, 4);
        assert_eq!(room.kept_bytes(), 0);
    }
}
