//! What the process has of memory and may have, for all threads to see. The engine thread measures it.
//!
//! The kernel tells what is resident. An allocator keeps what is freed, and gives it out again: so what is
//! resident does not fall when values are deleted, and nobody would be served any more. What the threads
//! hold is weighed beside it, and what is weighed less than before is taken for free.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// From this part of the limit on slow readers are brought up to date at once.
const HIGH_PERCENT: usize = 95;
/// So much of the limit has to be free again before it is said that there is room: else the answer would
/// change with every call.
const BACK_PERCENT: usize = 2;

/// How near the limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Far.
    Low,
    /// What readers hold up is given back, as much as can be.
    High,
    /// Nothing may be added.
    Full,
}

/// What all threads may look at.
#[derive(Debug, Default)]
pub struct Memory {
    held_bytes: AtomicUsize,
    limit_bytes: AtomicUsize,
    pressure: AtomicU8,
}

impl Memory {
    /// How near the limit is.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::Low,
            1 => Pressure::High,
            _ => Pressure::Full,
        }
    }

    /// Whether nothing may be added.
    pub fn is_full(&self) -> bool {
        self.pressure() == Pressure::Full
    }

    /// What the process has, less what its allocator keeps to give it out again.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// What it may have; 0: as much as there is.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// So much is held of so much. Only the thread that measures may say so.
    pub fn set(&self, held_bytes: usize, limit_bytes: usize) -> Pressure {
        let pressure = pressure(held_bytes, limit_bytes, self.pressure());
        self.held_bytes.store(held_bytes, Ordering::Relaxed);
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.pressure.store(pressure as u8, Ordering::Relaxed);
        pressure
    }
}

fn pressure(held: usize, limit: usize, before: Pressure) -> Pressure {
    let reaches = |percent: usize, level: Pressure| {
        let back = match before >= level {
            true => BACK_PERCENT,
            false => 0,
        };
        limit > 0 && held >= limit / 100 * (percent - back)
    };
    if reaches(100, Pressure::Full) {
        Pressure::Full
    } else if reaches(HIGH_PERCENT, Pressure::High) {
        Pressure::High
    } else {
        Pressure::Low
    }
}

/// What the process holds, from what is resident and what is weighed.
#[derive(Debug, Default)]
pub struct Estimate {
    before: Option<(usize, usize)>,
    /// What the allocator keeps to give it out again.
    free: usize,
}

impl Estimate {
    /// What is held now. Of `weighed` only the changes count.
    pub fn held(&mut self, resident: usize, weighed: usize) -> usize {
        let (resident_before, weighed_before) = self.before.unwrap_or((resident, weighed));
        self.before = Some((resident, weighed));
        let grown = resident as i64 - resident_before as i64;
        let added = weighed as i64 - weighed_before as i64;
        let used = match grown > 0 && added > 0 {
            // What was added beyond that came out of what is free; what grew beyond it found nothing there.
            true => (grown - added).abs(),
            false => added + grown.abs(),
        };
        let free = (self.free as i64).saturating_sub(used);
        self.free = free.clamp(0, resident as i64) as usize;
        resident - self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_freed_and_kept_by_the_allocator_is_room() {
        let mut estimate = Estimate::default();
        let mut held =
            |resident: usize, weighed: usize| estimate.held(resident * MIB, weighed * MIB) / MIB;
        assert_eq!(held(20, 0), 20);
        assert_eq!(held(120, 100), 120);
        assert_eq!(held(120, 40), 60, "freed, and kept by the allocator");
        assert_eq!(held(120, 100), 120, "and given out again");
        assert_eq!(held(120, 0), 20);
        assert_eq!(held(50, 0), 20, "and given back");
        assert_eq!(held(60, 20), 40, "the half of it came out of what was free");
        assert_eq!(held(60, 0), 20);
        let others = "somebody else has grown, and found nothing there";
        assert_eq!(held(100, 0), 100, "{others}");
    }

    #[test]
    fn more_than_there_is_is_never_free() {
        let mut estimate = Estimate::default();
        estimate.held(10, 1000);
        assert_eq!(estimate.held(10, 0), 0);
        assert_eq!(estimate.held(30, 0), 30);
    }

    #[test]
    fn the_limit_has_a_step_before_it_and_one_back() {
        use Pressure::{Full, High, Low};
        let after = |before, held: usize| pressure(held * MIB, 100 * MIB, before);
        assert_eq!(
            [94, 95, 99, 100, 500].map(|held| after(Low, held)),
            [Low, High, High, Full, Full]
        );
        assert_eq!(
            [99, 98, 97].map(|held| after(Full, held)),
            [Full, Full, High]
        );
        assert_eq!(
            [94, 93, 92].map(|held| after(High, held)),
            [High, High, Low]
        );
        assert_eq!(
            [94, 93, 92].map(|held| after(Full, held)),
            [High, High, Low]
        );
        assert_eq!(pressure(usize::MAX, 0, Full), Low, "there is no limit");
    }

    #[test]
    fn all_threads_see_what_one_has_measured() {
        let memory = Memory::default();
        assert!(!memory.is_full());
        assert_eq!(memory.set(100 * MIB, 100 * MIB), Pressure::Full);
        assert!(memory.is_full());
        assert_eq!(
            (memory.held_bytes(), memory.limit_bytes()),
            (100 * MIB, 100 * MIB)
        );
    }
}
