//! How long sockets are there, without a word of memory for each: their generations rise, so it is enough
//! to know when a few of them were given out.
//!
//! May not read a clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many moments are kept.
const MARKS_MAX: usize = 1024;
/// Two marks that are closer than this are one.
const STEP_LEAST: Duration = Duration::from_millis(10);
/// Beside that, than this part of their age.
const STEP_PARTS: u32 = 96;

/// When generations were given out.
pub(super) struct Ages {
    /// A generation and when it was given out; both rise.
    marks: VecDeque<(u32, Instant)>,
}

impl Ages {
    pub(super) fn new() -> Ages {
        Ages {
            marks: VecDeque::new(),
        }
    }

    /// That generation, later than all before, is given out.
    pub(super) fn note(&mut self, generation: u32, now: Instant) {
        let is_close = |(_, at): &(u32, Instant)| now.saturating_duration_since(*at) < STEP_LEAST;
        if self.marks.back().is_some_and(is_close) {
            return;
        }
        if self.marks.len() == MARKS_MAX {
            self.thin_out(now);
        }
        self.marks.push_back((generation, now));
    }

    /// Drops marks that stand close to the one before, for their age.
    fn thin_out(&mut self, now: Instant) {
        let mut kept: Option<Instant> = None;
        self.marks.retain(|(_, at)| {
            let age = now.saturating_duration_since(*at);
            let step = (age / STEP_PARTS).max(STEP_LEAST);
            let is_close = kept.is_some_and(|kept| at.saturating_duration_since(kept) < step);
            if !is_close {
                kept = Some(*at);
            }
            !is_close
        });
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front(); // the oldest read as a little younger
        }
    }

    /// For how long a generation has been given out, about.
    pub(super) fn of(&self, generation: u32, now: Instant) -> Duration {
        // Generations wrap: what is behind the oldest mark by more than half of all is later.
        let is_later = |mark: u32| (generation.wrapping_sub(mark) as i32) < 0;
        let behind = self.marks.partition_point(|(mark, _)| !is_later(*mark));
        let at = behind.checked_sub(1).and_then(|at| self.marks.get(at));
        let at = at.or(self.marks.front());
        at.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_right_to_a_part_of_it_however_many_sockets_there_were() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let mut ages = Ages::new();
        // One every 50 ms for three days.
        const LEN: u32 = 3 * 24 * 3600 * 20;
        let first = u32::MAX - 1000; // they wrap
        for n in 0..LEN {
            ages.note(first.wrapping_add(n), at(u64::from(n) * 50));
        }
        assert!(ages.marks.len() <= MARKS_MAX);
        let now_ms = u64::from(LEN) * 50;
        for n in (0..LEN).step_by(9_973) {
            let age = ages.of(first.wrapping_add(n), at(now_ms)).as_millis() as f64;
            let right = (now_ms - u64::from(n) * 50) as f64;
            assert!(
                age >= right && age <= right * 1.07 + 100.0,
                "{age} of {right}"
            );
        }
    }

    #[test]
    fn sockets_of_one_moment_have_one_age() {
        let began = Instant::now();
        let mut ages = Ages::new();
        assert_eq!(ages.of(7, began), Duration::ZERO);
        for n in 1..1000 {
            ages.note(n, began);
        }
        assert_eq!(ages.marks.len(), 1);
        let later = began + Duration::from_secs(5);
        assert_eq!(ages.of(500, later), Duration::from_secs(5));
    }
}
