//! What one subscriber must hear, and whether it did.
//!
//! Pure. A subscriber must hear each sequence number of its group from the first that is not in its
//! `sync`, once, in order, none before that `sync`, at times that never fall, and not too late. May
//! not know sockets or clocks.

use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use crate::check::faults::{Fault, Faults};
use crate::scenario::Order;

/// What one more sequence number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    InOrder,
    /// Numbers before this one have not come: late or missed, the end will tell.
    AfterGap,
    /// It was overtaken: a later number came first.
    Reordered,
    /// It had come before.
    Duplicated,
}

impl Verdict {
    /// Whether this subscriber had still to hear that number.
    pub(crate) fn is_first_arrival(self) -> bool {
        self != Self::Duplicated
    }
}

/// The numbers one subscriber has heard.
#[derive(Clone, Default)]
pub(crate) struct Checker {
    synced: bool,
    latest_ms: u64,
    /// Below it every number has come but those in `gaps`.
    next: u32,
    /// Ascending, not empty, not touching.
    gaps: Vec<Range<u32>>,
}

impl Checker {
    /// False: there was a `sync` before; one join gets one.
    pub(crate) fn sync(&mut self) -> bool {
        !std::mem::replace(&mut self.synced, true)
    }

    /// Everything below `next` was in the `sync`.
    pub(crate) fn begin_at(&mut self, next: u32) {
        self.next = next;
    }

    /// With a pace a change stands for those before it of its item. Which it stands for, that have not come.
    pub(crate) fn merge_before(&mut self, sequence: u32) -> Range<u32> {
        let merged = self.next..sequence.max(self.next);
        self.next = merged.end;
        merged
    }

    /// The number that should come next.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// False: the group's time went back.
    #[inline]
    pub(crate) fn is_in_time(&mut self, at_ms: u64) -> bool {
        let is_in_time = at_ms >= self.latest_ms;
        self.latest_ms = self.latest_ms.max(at_ms);
        is_in_time
    }

    pub(crate) fn hear(&mut self, sequence: u32) -> Verdict {
        if sequence == self.next {
            self.next += 1;
            return Verdict::InOrder;
        }
        if sequence > self.next {
            self.gaps.push(self.next..sequence);
            self.next = sequence + 1;
            return Verdict::AfterGap;
        }
        let Some(index) = self.gaps.iter().position(|gap| gap.contains(&sequence)) else {
            return Verdict::Duplicated;
        };
        let gap = self.gaps.remove(index);
        let halves = [gap.start..sequence, sequence + 1..gap.end];
        for half in halves.into_iter().rev().filter(|half| !half.is_empty()) {
            self.gaps.insert(index, half);
        }
        Verdict::Reordered
    }

    /// What never came of the numbers below `published`.
    pub(crate) fn missed(&self, published: u32) -> impl Iterator<Item = Range<u32>> {
        let tail = self.next..published;
        self.gaps
            .iter()
            .cloned()
            .chain(std::iter::once(tail))
            .filter(|range| !range.is_empty())
    }

    /// Counts what never came of the numbers below `published`.
    pub(crate) fn tell_missed(&self, published: u32, who: impl Display, faults: &mut Faults) {
        for gap in self.missed(published) {
            let count = u64::from(gap.end - gap.start);
            faults.tell_many(Fault::Missed, count, &who, || match count {
                1 => format!("sequence {} never came", gap.start),
                _ => format!("sequences {} to {} never came", gap.start, gap.end - 1),
            });
        }
    }

    /// Places `sequence` among what has been heard.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        sequence: u32,
        who: impl Display,
        order: Order,
        faults: &mut Faults,
    ) -> Verdict {
        if !self.synced {
            faults.tell(Fault::BeforeSync, &who, || {
                format!("sequence {sequence} came before the sync")
            });
        }
        let verdict = self.hear(sequence);
        match verdict {
            Verdict::Reordered if order == Order::Sent => {
                faults.tell(Fault::Reordered, who, || {
                    format!("sequence {sequence} was overtaken")
                });
            }
            Verdict::InOrder | Verdict::AfterGap | Verdict::Reordered => {}
            Verdict::Duplicated => faults.tell(Fault::Duplicated, who, || {
                format!("sequence {sequence} came again")
            }),
        }
        verdict
    }

    /// Compares the time of change `sequence` with those of the changes heard before it.
    #[inline]
    pub(crate) fn judge_time(
        &mut self,
        at_ms: u64,
        sequence: u32,
        who: impl Display,
        faults: &mut Faults,
    ) {
        if !self.is_in_time(at_ms) {
            faults.tell(Fault::WentBack, who, || {
                format!("sequence {sequence} has an earlier time than one before it")
            });
        }
    }
}

/// Whether what was due at `sent_ns` came within `longest`.
#[inline]
pub(crate) fn judge_wait(
    sent_ns: u64,
    sequence: u32,
    now_ns: u64,
    longest: Duration,
    who: impl Display,
    faults: &mut Faults,
) {
    let waited_ns = now_ns.saturating_sub(sent_ns);
    if waited_ns > longest.as_nanos() as u64 {
        faults.tell(Fault::Late, who, || {
            let waited_ms = waited_ns / 1_000_000;
            format!("sequence {sequence} came after {waited_ms} ms")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(heard: &[u32]) -> (Checker, Vec<Verdict>) {
        let mut checker = Checker::default();
        let verdicts = heard
            .iter()
            .map(|sequence| checker.hear(*sequence))
            .collect();
        (checker, verdicts)
    }

    fn missed(checker: &Checker, published: u32) -> Vec<Range<u32>> {
        checker.missed(published).collect()
    }

    #[test]
    fn everything_in_order_is_no_difference() {
        let (checker, verdicts) = verdicts(&[0, 1, 2]);
        assert_eq!(verdicts, [Verdict::InOrder; 3]);
        assert!(missed(&checker, 3).is_empty());
    }

    #[test]
    fn missed_at_start_middle_and_end_is_found() {
        let (checker, _) = verdicts(&[1, 2, 5]);
        assert_eq!(missed(&checker, 8), [0..1, 3..5, 6..8]);
        assert_eq!(Checker::default().missed(2).next(), Some(0..2));
    }

    #[test]
    fn duplicated_is_found_at_once_and_later() {
        let (checker, verdicts) = verdicts(&[0, 0, 1, 2, 1]);
        assert_eq!(
            verdicts
                .iter()
                .filter(|v| **v == Verdict::Duplicated)
                .count(),
            2
        );
        assert!(missed(&checker, 3).is_empty());
    }

    #[test]
    fn overtaken_is_reordered_and_not_missed() {
        let (checker, verdicts) = verdicts(&[0, 4, 2, 1, 3, 3, 5]);
        use Verdict::*;
        assert_eq!(
            verdicts,
            [
                InOrder, AfterGap, Reordered, Reordered, Reordered, Duplicated, InOrder
            ]
        );
        assert!(missed(&checker, 6).is_empty());
    }

    #[test]
    fn a_gap_closes_from_within() {
        let (checker, _) = verdicts(&[9, 4]);
        assert_eq!(missed(&checker, 10), [0..4, 5..9]);
    }

    #[test]
    fn what_the_sync_held_is_not_missed_and_not_heard_again() {
        let mut checker = Checker::default();
        checker.begin_at(5);
        assert_eq!(checker.hear(4), Verdict::Duplicated);
        assert_eq!(checker.hear(6), Verdict::AfterGap);
        assert_eq!(checker.missed(7).next(), Some(5..6));
        assert_eq!(checker.next(), 7);
    }

    #[test]
    fn what_a_later_change_stands_for_is_not_missed_and_the_last_one_is() {
        let mut checker = Checker::default();
        let merged = [0, 3, 2, 6].map(|sequence| checker.merge_before(sequence).len());
        assert_eq!(merged, [0, 3, 0, 3]);
        assert_eq!(checker.hear(6), Verdict::InOrder);
        assert_eq!(checker.hear(4), Verdict::Duplicated, "it comes too late");
        assert_eq!(checker.missed(9).next(), Some(7..9));
    }

    #[test]
    fn time_may_stand_and_not_fall() {
        let mut checker = Checker::default();
        let judged = [7, 7, 8, 6, 7, 8].map(|ms| checker.is_in_time(ms));
        assert_eq!(judged, [true, true, true, false, false, true]);
    }

    #[test]
    fn one_join_gets_one_sync() {
        let mut checker = Checker::default();
        assert!(checker.sync());
        assert!(!checker.sync());
    }
}
