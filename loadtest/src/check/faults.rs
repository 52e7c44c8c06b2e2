//! Whatever must not happen in a run: counted by kind, the first few in words.

use std::fmt::Display;
use std::ops::AddAssign;

use crate::report::Check;

/// How many are told in words; all are counted.
const TOLD_MAX: usize = 10;

/// One kind. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Missed,
    Duplicated,
    /// In another order than sent, or, with `--order applied`, never.
    Reordered,
    BeforeSync,
    /// It came, but after longer than `--late`.
    Late,
    /// A frame's time is before that of one heard earlier in its group.
    WentBack,
    /// A value differs from the one that was published under its stamp.
    Altered,
    /// A `sync` holds what the group never was, or what it was before the join.
    WrongSync,
    /// At the end a client shows something else than `stream::list` says.
    Model,
    /// `stream::list` or `stream::get` was not answered, so nothing could be compared.
    Unaudited,
    /// Frames that belong to no subscription of this run.
    Unexpected,
    Disconnected,
    /// A connection that was not there, or had no `sync`, when the run ended.
    NotJoined,
    Refused,
    Unsent,
    Unanswered,
}

const KINDS: [(Fault, &str, &str); 16] = [
    (Fault::Missed, "missed", "missed"),
    (Fault::Duplicated, "duplicated", "duplicated"),
    (Fault::Reordered, "reordered", "reordered"),
    (Fault::BeforeSync, "before_sync", "before sync"),
    (Fault::Late, "late", "late"),
    (Fault::WentBack, "time_went_back", "time went back"),
    (Fault::Altered, "altered", "altered"),
    (Fault::WrongSync, "wrong_sync", "wrong sync"),
    (Fault::Model, "model_differs", "model differs"),
    (Fault::Unaudited, "unaudited", "unaudited"),
    (Fault::Unexpected, "unexpected", "unexpected"),
    (Fault::Disconnected, "disconnected", "disconnected"),
    (Fault::NotJoined, "not_joined", "not joined"),
    (Fault::Refused, "refused", "calls refused"),
    (Fault::Unsent, "unsent", "calls unsent"),
    (Fault::Unanswered, "unanswered", "calls unanswered"),
];

/// The faults of a run, or of a thread's part of it.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    counts: [u64; KINDS.len()],
    told: Vec<String>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault, count: u64) {
        self.counts[fault as usize] += count;
    }

    /// Counts one. `what` is asked only while there is room for words.
    pub(crate) fn tell(&mut self, fault: Fault, who: impl Display, what: impl FnOnce() -> String) {
        self.tell_many(fault, 1, who, what);
    }

    pub(crate) fn tell_many(
        &mut self,
        fault: Fault,
        count: u64,
        who: impl Display,
        what: impl FnOnce() -> String,
    ) {
        self.add(fault, count);
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{who}: {}", what()));
        }
    }

    pub(crate) fn checks(&self) -> Vec<Check> {
        KINDS
            .iter()
            .map(|(fault, key, label)| Check {
                key,
                label,
                count: self.counts[*fault as usize],
            })
            .collect()
    }

    pub(crate) fn into_told(self) -> Vec<String> {
        self.told
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }
}

/// The beginning of a text, for the one who reads the report.
pub(crate) fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_at_its_own_place() {
        for (index, (fault, _, _)) in KINDS.iter().enumerate() {
            assert_eq!(*fault as usize, index);
        }
    }

    #[test]
    fn all_are_counted_and_the_first_told() {
        let mut faults = Faults::default();
        for n in 0..30 {
            faults.tell(Fault::Missed, "group 1", || format!("sequence {n}"));
        }
        let mut sum = Faults::default();
        sum += faults;
        assert_eq!(sum.checks()[0].count, 30);
        let told = sum.into_told();
        assert_eq!(told.len(), TOLD_MAX);
        assert_eq!(told[0], "group 1: sequence 0");
    }
}
