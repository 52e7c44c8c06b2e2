//! How much room there is, and how much of it is kept for the next snapshot: what it takes away again
//! is more than it needs, so writes may not use that up before.
//!
//! Pure but for the clock that is handed in. May not know what is written.

use std::time::{Duration, Instant};

/// How long what the system has said of a disk is believed.
const BELIEVED: Duration = Duration::from_millis(100);
/// Beside all that is counted: blocks begun, heads, names.
const SLACK_BYTES: u64 = 16 * 1024;
/// A log that is shorter than this part of the live data gives back too little.
const GAIN_DIVISOR: u64 = 16;
/// A snapshot is begun while so much more than it may need is free: an eighth.
const EARLY_DIVISOR: u64 = 8;

/// What is known of the disk's room.
#[derive(Default)]
pub(super) struct Room {
    free_bytes: Option<u64>,
    read_at: Option<Instant>,
    /// Writes were refused for it since the last snapshot.
    is_refusing: bool,
}

/// What stands in the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) snapshot_bytes: u64,
    pub(super) log_bytes: u64,
    /// Of the snapshot that is being made.
    pub(super) written_bytes: u64,
}

impl Sizes {
    /// As much as the snapshot that is made, or the next, may still need.
    pub(super) fn kept_bytes(self) -> u64 {
        let most = self.snapshot_bytes + self.log_bytes;
        most.saturating_sub(self.written_bytes) + SLACK_BYTES
    }
}

impl Room {
    /// What was believed is asked anew.
    pub(super) fn forget(&mut self) {
        self.read_at = None;
    }

    /// A snapshot was finished.
    pub(super) fn was_made(&mut self) {
        self.is_refusing = false;
        self.forget();
    }

    /// So much was written.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.free_bytes = self.free_bytes.map(|free| free.saturating_sub(bytes));
    }

    /// Bytes that are free, as far as they are known.
    pub(super) fn free_bytes(
        &mut self,
        now: Instant,
        ask: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        let is_believed = |at: Instant| now.saturating_duration_since(at) < BELIEVED;
        if !self.read_at.is_some_and(is_believed) {
            self.free_bytes = ask();
            self.read_at = Some(now);
        }
        self.free_bytes
    }

    /// Whether a batch of so many bytes leaves the next snapshot its room; else how much is free.
    pub(super) fn take(
        &mut self,
        bytes: u64,
        sizes: Sizes,
        now: Instant,
        ask: impl Fn() -> Option<u64>,
    ) -> Result<(), u64> {
        // The snapshot may hold the batch as well.
        let needs = sizes.kept_bytes() + 2 * bytes;
        let is_enough = |free: Option<u64>| free.is_none_or(|free| free >= needs);
        if is_enough(self.free_bytes(now, &ask)) {
            return Ok(());
        }
        self.forget();
        let free = self.free_bytes(now, ask);
        self.is_refusing = !is_enough(free);
        match free {
            Some(free) if self.is_refusing => Err(free),
            _ => Ok(()),
        }
    }

    /// Whether a snapshot should be made while there is room for it: it gives something back, and what is
    /// free will soon be too little.
    pub(super) fn is_short(
        &mut self,
        sizes: Sizes,
        now: Instant,
        ask: impl Fn() -> Option<u64>,
    ) -> bool {
        let gives_back = sizes.log_bytes > SLACK_BYTES.max(sizes.snapshot_bytes / GAIN_DIVISOR);
        if !gives_back && !self.is_refusing {
            return false;
        }
        let needs = sizes.kept_bytes();
        let free = self.free_bytes(now, ask);
        self.is_refusing || free.is_some_and(|free| free < needs + needs / EARLY_DIVISOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn sizes(snapshot: u64, log: u64, written: u64) -> Sizes {
        Sizes {
            snapshot_bytes: snapshot * MIB,
            log_bytes: log * MIB,
            written_bytes: written * MIB,
        }
    }

    #[test]
    fn writes_leave_the_next_snapshot_its_room() {
        let now = Instant::now();
        let free = |bytes: u64| move || Some(bytes * MIB);
        let mut room = Room::default();
        assert_eq!(room.take(MIB, sizes(100, 20, 0), now, free(123)), Ok(()));
        let later = now + BELIEVED;
        assert!(!room.is_short(sizes(100, 20, 0), later, free(200)));
        let later = later + BELIEVED;
        assert!(room.is_short(sizes(100, 20, 0), later, free(130)));
        let later = later + BELIEVED;
        let refused = room.take(MIB, sizes(100, 20, 0), later, free(121));
        assert_eq!(refused, Err(121 * MIB));
        // Half of it is written.
        assert_eq!(room.take(MIB, sizes(100, 20, 60), later, free(63)), Ok(()));
        // Where nobody knows, everything is tried.
        room.forget();
        assert_eq!(room.take(MIB, sizes(100, 20, 0), now, || None), Ok(()));
    }

    #[test]
    fn what_gives_nothing_back_is_made_only_for_writes_that_wait() {
        let now = Instant::now();
        let mut room = Room::default();
        let nothing = || Some(0);
        assert!(!room.is_short(sizes(100, 6, 0), now, nothing));
        assert!(room.is_short(sizes(100, 7, 0), now, nothing));
        assert!(room.take(1, sizes(100, 6, 0), now, nothing).is_err());
        assert!(room.is_short(sizes(100, 6, 0), now, nothing));
        room.was_made();
        assert!(!room.is_short(sizes(100, 0, 0), now, nothing));
    }

    #[test]
    fn what_was_said_is_believed_for_a_while() {
        let now = Instant::now();
        let mut room = Room::default();
        assert_eq!(
            room.take(MIB, sizes(1, 0, 0), now, || Some(9 * MIB)),
            Ok(())
        );
        room.wrote(MIB);
        let unasked = || unreachable!("it was just said");
        assert_eq!(room.free_bytes(now, unasked), Some(8 * MIB));
    }
}
