//! Whether values may grow.
//!
//! May not know how much memory there is: that is said from outside.

/// Values are kept in steps of so many bytes: one that stays within its step adds nothing.
const STEP_BYTES: usize = 16;
/// Operations that hold no more add nothing worth refusing.
const SMALL_BYTES: usize = 64;

/// What one shard knows of it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The process has no memory for more.
    pub(super) is_out: bool,
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
}
