//! What a group has of subscriptions with a pace: those of one pace are a cohort, with a list of its own.
//!
//! May not know a clock: times are handed in.

use crate::id::LocalGroupId;
use crate::protocol::pace::Pace;

/// A cohort that takes long to be written to is due so much of its pace later at most.
const PARTS_FOR_A_SWEEP: u64 = 4;
/// A cohort comes nearer to its group's own moment of the pace by so much of it each time.
const PARTS_NEARER: u64 = 16;

/// What a group is among paced ones.
pub(super) enum Paced {
    /// One that has cohorts: these, by their paces.
    Group(Vec<(Pace, LocalGroupId)>),
    /// A cohort of one.
    Cohort(Cohort),
}

/// Subscriptions of one group and one pace: they are due together.
pub(super) struct Cohort {
    /// The group.
    pub(super) of: LocalGroupId,
    pace: Pace,
    /// Of the group: where in the pace it comes to be due, so that groups are not due together.
    hash: u64,
    /// Frames before this one may be given.
    pub(super) open_to: u64,
    /// When it may be opened next, in µs.
    pub(super) due_us: u64,
    opened_us: u64,
    /// Frames have come that may not be given yet.
    pub(super) has_news: bool,
    /// It was opened, and not everyone has been given what may be given.
    pub(super) is_sweeping: bool,
    /// It stands among those to be kept by item.
    pub(super) is_queued: bool,
    /// When that is done it is opened.
    pub(super) is_due: bool,
}

impl Cohort {
    pub(super) fn new((of, hash): (LocalGroupId, u64), pace: Pace) -> Cohort {
        Cohort {
            of,
            pace,
            hash,
            open_to: 0,
            due_us: 0,
            opened_us: 0,
            has_news: false,
            is_sweeping: false,
            is_queued: false,
            is_due: false,
        }
    }

    /// All frames up to there may be given.
    pub(super) fn open(&mut self, end: u64, now_us: u64) {
        self.open_to = end;
        self.opened_us = now_us;
        self.is_due = false;
        self.has_news = false;
        self.is_sweeping = true;
    }

    /// Everyone has been given that.
    pub(super) fn close(&mut self, now_us: u64) {
        self.is_sweeping = false;
        let pace_us = self.pace.ms() * 1000;
        let given_us = now_us.min(self.opened_us + pace_us / PARTS_FOR_A_SWEEP);
        let least_us = given_us + pace_us;
        let moment_us = self.hash % pace_us.max(1);
        let early_us = (moment_us + pace_us - least_us % pace_us.max(1)) % pace_us.max(1);
        self.due_us = least_us + early_us.min(pace_us / PARTS_NEARER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SlotId;

    const OF: LocalGroupId = SlotId {
        slot: 0,
        generation: 0,
    };

    fn cohort(hash: u64, ms: u64) -> Cohort {
        Cohort::new((OF, hash), Pace::of_ms(ms).unwrap_or_default())
    }

    #[test]
    fn groups_that_begin_together_come_to_be_due_apart() {
        let hashes = (0..100_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut moments: Vec<u64> = hashes
            .map(|hash| {
                let mut cohort = cohort(hash, 100);
                let mut now_us = 5_000_000;
                for _ in 0..20 {
                    cohort.open(0, now_us);
                    cohort.close(now_us);
                    let waits_us = cohort.due_us - now_us;
                    assert!((100_000..=106_250).contains(&waits_us), "{waits_us}");
                    now_us = cohort.due_us;
                }
                now_us % 100_000
            })
            .collect();
        moments.sort_unstable();
        let widest = moments.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest < Some(10_000), "{widest:?} µs without anybody");
    }

    #[test]
    fn a_sweep_that_takes_long_moves_the_next_one_by_a_quarter_of_the_pace_at_most() {
        let mut cohort = cohort(0, 100);
        cohort.open(0, 1_000_000);
        cohort.close(1_010_000);
        assert!(cohort.due_us >= 1_110_000);
        cohort.open(0, 2_000_000);
        cohort.close(2_500_000);
        assert!((2_125_000..=2_131_250).contains(&cohort.due_us));
    }
}
