//! When sets are due, and which are still under way.
//!
//! Pure: time is data, in nanoseconds of the run's clock. May not know sockets or messages.

use std::collections::VecDeque;

use crate::check::faults::{Fault, Faults};

/// Send times at a fixed rate. They do not move when the sender or the server is late: latency
/// is counted from them, so a stall costs every set that it delayed (no coordinated omission).
pub(crate) struct Schedule {
    start_ns: u64,
    interval_ns: f64,
    given_out: u64,
}

impl Schedule {
    pub(crate) fn new(start_ns: u64, sets_per_second: f64) -> Self {
        Self {
            start_ns,
            interval_ns: 1e9 / sets_per_second,
            given_out: 0,
        }
    }

    /// When the next set is due. Computed from its number, so rounding does not add up.
    pub(crate) fn next_ns(&self) -> u64 {
        self.start_ns + (self.given_out as f64 * self.interval_ns) as u64
    }

    /// The intended time of one set that is due, and has not been given out.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns();
        (due_ns <= now_ns).then(|| {
            self.given_out += 1;
            due_ns
        })
    }
}

/// How many deliveries of each set this thread's subscribers still wait for.
pub(crate) struct Arrivals {
    /// Deliveries a set has on this thread: each group has the same number of subscribers here.
    per_set: u32,
    first: u64,
    missing: VecDeque<u32>,
}

impl Arrivals {
    pub(crate) fn new(per_set: u32) -> Self {
        Self {
            per_set,
            first: 0,
            missing: VecDeque::new(),
        }
    }

    /// Counts one delivery. True: it was the set's last on this thread.
    #[inline]
    pub(crate) fn arrived(&mut self, set: u64) -> bool {
        let Some(index) = set.checked_sub(self.first) else {
            return false;
        };
        let index = index as usize;
        if index >= self.missing.len() {
            self.missing.resize(index + 1, self.per_set);
        }
        let missing = &mut self.missing[index];
        *missing = missing.saturating_sub(1);
        let is_last = *missing == 0;
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
            self.first += 1;
        }
        is_last
    }
}

/// The sets that lack their acknowledgement or deliveries, oldest first.
pub(crate) struct SetsUnderWay {
    /// Threads that report each set once all their subscribers have it.
    threads: u32,
    expects_answers: bool,
    first: u64,
    sets: VecDeque<Set>,
    open: u64,
    unanswered: u64,
}

struct Set {
    intended_ns: u64,
    last_arrival_ns: u64,
    threads_missing: u32,
    answered: bool,
}

/// A set that all its subscribers have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) intended_ns: u64,
    pub(crate) last_arrival_ns: u64,
}

impl SetsUnderWay {
    pub(crate) fn new(threads: u32, expects_answers: bool) -> Self {
        Self {
            threads,
            expects_answers,
            first: 0,
            sets: VecDeque::new(),
            open: 0,
            unanswered: 0,
        }
    }

    /// Starts the next set and gives its number: 0, 1, 2, …
    pub(crate) fn start(&mut self, intended_ns: u64) -> u64 {
        self.sets.push_back(Set {
            intended_ns,
            last_arrival_ns: intended_ns,
            threads_missing: self.threads,
            answered: !self.expects_answers,
        });
        self.open += 1;
        self.unanswered += u64::from(self.expects_answers);
        self.started() - 1
    }

    /// How many sets there have been.
    pub(crate) fn started(&self) -> u64 {
        self.first + self.sets.len() as u64
    }

    /// How many are in flight.
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    pub(crate) fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Counts those that never had one.
    pub(crate) fn tell_unanswered(&self, faults: &mut Faults) {
        for (number, _) in (self.first..)
            .zip(&self.sets)
            .filter(|(_, set)| !set.answered)
        {
            let who = format_args!("call {number}");
            faults.tell(Fault::Unanswered, who, || "it was not answered".to_owned());
        }
    }

    /// The set's intended time; `None` if it had its answer or never was.
    pub(crate) fn answered(&mut self, set: u64) -> Option<u64> {
        let entry = self.get_mut(set).filter(|entry| !entry.answered)?;
        entry.answered = true;
        let intended_ns = entry.intended_ns;
        self.unanswered -= 1;
        self.settle(set);
        Some(intended_ns)
    }

    /// One thread has all its deliveries of the set. `Some` when that was the last thread.
    pub(crate) fn arrived(&mut self, set: u64, at_ns: u64) -> Option<Delivered> {
        let entry = self
            .get_mut(set)
            .filter(|entry| entry.threads_missing > 0)?;
        entry.threads_missing -= 1;
        entry.last_arrival_ns = entry.last_arrival_ns.max(at_ns);
        let delivered = Delivered {
            intended_ns: entry.intended_ns,
            last_arrival_ns: entry.last_arrival_ns,
        };
        let is_last = entry.threads_missing == 0;
        self.settle(set);
        is_last.then_some(delivered)
    }

    fn get_mut(&mut self, set: u64) -> Option<&mut Set> {
        self.sets.get_mut(set.checked_sub(self.first)? as usize)
    }

    fn settle(&mut self, set: u64) {
        let is_done = |entry: &Set| entry.answered && entry.threads_missing == 0;
        if self.get_mut(set).is_some_and(|entry| is_done(entry)) {
            self.open -= 1;
        }
        while self.sets.front().is_some_and(is_done) {
            self.sets.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_keeps_its_times_when_the_sender_is_late() {
        let mut schedule = Schedule::new(1_000, 1e6); // one each 1,000 ns
        assert_eq!(schedule.take_due(999), None);
        assert_eq!(schedule.take_due(1_000), Some(1_000));
        assert_eq!(schedule.take_due(1_000), None);
        let late: Vec<u64> = std::iter::from_fn(|| schedule.take_due(4_500)).collect();
        assert_eq!(late, [2_000, 3_000, 4_000]);
        assert_eq!(schedule.next_ns(), 5_000);
    }

    #[test]
    fn schedule_does_not_drift() {
        let mut schedule = Schedule::new(0, 3.0);
        let sets = std::iter::from_fn(|| schedule.take_due(999_999_999_999)).count();
        assert_eq!(sets, 3_000);
    }

    #[test]
    fn arrivals_know_the_last_of_each_set() {
        let mut arrivals = Arrivals::new(2);
        let heard = [1, 0, 0, 1, 2, 2, 0];
        let last: Vec<bool> = heard.iter().map(|set| arrivals.arrived(*set)).collect();
        assert_eq!(last, [false, false, true, true, false, true, false]);
    }

    #[test]
    fn set_is_open_until_answer_and_all_deliveries() {
        let mut sets = SetsUnderWay::new(2, true);
        assert_eq!((sets.start(10), sets.start(20)), (0, 1));
        assert_eq!(sets.answered(1), Some(20));
        assert_eq!(sets.answered(1), None, "a second answer");
        assert_eq!(sets.arrived(1, 90), None);
        assert_eq!(
            sets.arrived(1, 80),
            Some(Delivered {
                intended_ns: 20,
                last_arrival_ns: 90
            })
        );
        assert_eq!((sets.open(), sets.unanswered(), sets.started()), (1, 1, 2));
        sets.arrived(0, 100);
        sets.arrived(0, 110);
        assert_eq!(sets.open(), 1);
        let mut faults = Faults::default();
        sets.tell_unanswered(&mut faults);
        assert_eq!(faults.into_told(), ["call 0: it was not answered"]);
        assert_eq!(sets.answered(0), Some(10));
        assert_eq!((sets.open(), sets.unanswered(), sets.started()), (0, 0, 2));
        assert_eq!(sets.arrived(7, 1), None, "never started");
    }

    #[test]
    fn void_sets_need_no_answer() {
        let mut sets = SetsUnderWay::new(1, false);
        let set = sets.start(5);
        assert!(sets.arrived(set, 6).is_some());
        assert_eq!((sets.open(), sets.unanswered()), (0, 0));
    }
}
