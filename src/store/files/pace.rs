//! How fast a snapshot is made: so slowly that nobody notices, but never so slowly that the log
//! outgrows what it may be.
//!
//! Pure: bytes and times in, what to ask for and when out. May not know what a snapshot holds.

use std::time::{Duration, Instant};

use crate::shard::SliceLimits;

/// What one slice may take at leisure. Whatever a delivery waits for shows in its p99 if it goes on for
/// more than a hundredth of the time, so a slice has to be short beside a delivery: slices of 192 items
/// were seen there, at 0.2 of 0.5 ms.
const AT_LEISURE: SliceLimits = SliceLimits {
    items: 64,
    bytes: 16 * 1024,
    groups: 64,
};

/// What it may take where the log grows faster than that: below 1 ms of the worker's turn.
const IN_HASTE: SliceLimits = SliceLimits {
    items: 1024,
    bytes: 256 * 1024,
    groups: 1024,
};

/// The rest after a slice at leisure: a few hundredths of a worker's time are taken, and 10 million items
/// take about five minutes.
pub(super) const REST: Duration = Duration::from_millis(1);

/// The pace of one snapshot.
pub(super) struct Pace {
    /// Size of the log when the snapshot was begun.
    pub(super) log_bytes: u64,
    /// By how much it may grow meanwhile; none: the snapshot is made in haste.
    pub(super) growth_bytes_max: u64,
    /// As much as the snapshot can hold.
    pub(super) bytes_max: u64,
    /// [`REST`], but for tests.
    pub(super) rest: Duration,
    /// Before that no slice is asked for at leisure.
    pub(super) rests_until: Instant,
}

impl Pace {
    /// What to ask for now, `bytes` having been written and the log being so long. `None`: nothing yet.
    pub(super) fn next(&self, bytes: u64, log_bytes: u64, now: Instant) -> Option<SliceLimits> {
        if self.is_behind(bytes, log_bytes) {
            return Some(IN_HASTE);
        }
        (self.rests_until <= now).then_some(AT_LEISURE)
    }

    /// A slice of so many bytes was written: one item may be large.
    pub(super) fn wrote(&mut self, bytes: u64, now: Instant) {
        let slices = (bytes / AT_LEISURE.bytes as u64).max(1);
        self.rests_until = now + self.rest * u32::try_from(slices).unwrap_or(u32::MAX);
    }

    /// Whether the part of the growth that was used up is larger than the part that was written.
    fn is_behind(&self, bytes: u64, log_bytes: u64) -> bool {
        if self.growth_bytes_max == 0 {
            return true;
        }
        let growth = u128::from(log_bytes.saturating_sub(self.log_bytes));
        growth * u128::from(self.bytes_max) > u128::from(bytes) * u128::from(self.growth_bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn pace(now: Instant) -> Pace {
        Pace {
            log_bytes: 64 * MIB,
            growth_bytes_max: 32 * MIB,
            bytes_max: 100 * MIB,
            rest: REST,
            rests_until: now,
        }
    }

    #[test]
    fn between_slices_it_rests_as_long_as_they_were_large() {
        let now = Instant::now();
        let mut pace = pace(now);
        assert!(pace.next(0, 64 * MIB, now).is_some());
        pace.wrote(10_000, now);
        assert!(pace.next(10_000, 64 * MIB, now).is_none());
        let later = now + REST;
        let asked = pace.next(10_000, 64 * MIB, later).unwrap();
        assert_eq!(asked.items, AT_LEISURE.items);
        pace.wrote(16 * MIB, later);
        assert_eq!(pace.rests_until, later + REST * 1024);
    }

    #[test]
    fn it_never_falls_behind_the_growth_of_the_log() {
        let now = Instant::now();
        let mut pace = pace(now);
        pace.wrote(10 * MIB, now);
        assert!(pace.next(10 * MIB, 64 * MIB, now).is_none());
        // A tenth is written, and more than a tenth of the growth is used up.
        let asked = pace.next(10 * MIB, 68 * MIB, now).unwrap();
        assert_eq!(asked.items, IN_HASTE.items);
        assert!(pace.next(20 * MIB, 68 * MIB, now).is_none());
    }
}
