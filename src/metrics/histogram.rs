//! How long things took, in fixed buckets: 1, 2, 5 from 50 µs to 10 s.
//!
//! Each histogram has one writer. Buckets of several threads may be added.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the buckets, in µs. What is longer stands in one more.
pub const BOUNDS_US: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// How many buckets there are.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// How often something took how long. One thread writes it.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: array::from_fn(|_| AtomicU64::new(0)),
            sum_ns: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Something took so long. Only the owning thread may.
    pub fn note(&self, took: Duration) {
        self.note_many(took, 1);
    }

    /// So many things took so long each. Only the owning thread may.
    pub fn note_many(&self, took: Duration, count: u64) {
        let nanos = took.as_nanos().min(u128::from(u64::MAX)) as u64;
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < nanos);
        add(&self.buckets[bucket], count);
        add(&self.sum_ns, nanos.saturating_mul(count));
    }

    /// What it holds now.
    pub fn read(&self) -> Distribution {
        Distribution {
            buckets: array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

fn add(number: &AtomicU64, more: u64) {
    let sum = number.load(Ordering::Relaxed).wrapping_add(more);
    number.store(sum, Ordering::Relaxed);
}

/// What one histogram, or several together, held at a moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Distribution {
    /// How many stand in each bucket, in that one alone.
    pub buckets: [u64; BUCKETS],
    /// All together, in ns.
    pub sum_ns: u64,
}

impl Distribution {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Both together.
    pub fn plus(&self, other: &Distribution) -> Distribution {
        Distribution {
            buckets: array::from_fn(|at| self.buckets[at].wrapping_add(other.buckets[at])),
            sum_ns: self.sum_ns.wrapping_add(other.sum_ns),
        }
    }

    /// What has come since it was that.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        Distribution {
            buckets: array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
        }
    }

    /// Below what time that share of all stands, in µs: within its bucket as if they were spread evenly.
    /// `None`: there is nothing.
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = share * count as f64;
        let mut before = 0.0;
        for (at, of_bucket) in self.buckets.iter().enumerate() {
            let of_bucket = *of_bucket as f64;
            if of_bucket > 0.0 && before + of_bucket >= wanted {
                let from = at.checked_sub(1).map_or(0, |at| BOUNDS_US[at]) as f64;
                let Some(to) = BOUNDS_US.get(at) else {
                    return Some(from); // it is open at its end
                };
                return Some(from + (*to as f64 - from) * ((wanted - before) / of_bucket).max(0.0));
            }
            before += of_bucket;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stands_in_the_first_bucket_that_reaches_it() {
        let histogram = Histogram::default();
        for nanos in [0, 50_000, 50_001, 10_000_000_000, 10_000_000_001, u64::MAX] {
            histogram.note(Duration::from_nanos(nanos));
        }
        let read = histogram.read();
        let filled = read
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        let filled: Vec<(usize, u64)> = filled.map(|(at, count)| (at, *count)).collect();
        assert_eq!(filled, [(0, 2), (1, 1), (16, 1), (17, 2)]);
        assert_eq!(read.count(), 6);
    }

    #[test]
    fn quantiles_are_found_between_the_ends_of_a_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile_us(0.5), None);
        histogram.note_many(Duration::from_micros(150), 99);
        let earlier = histogram.read();
        histogram.note_many(Duration::from_millis(3), 1);
        let read = histogram.read();
        assert_eq!(read.quantile_us(0.99), Some(200.0));
        let most = read.quantile_us(1.0);
        assert_eq!(most, Some(5_000.0));
        assert_eq!(read.since(&earlier).count(), 1);
        assert_eq!(read.plus(&earlier).count(), 199);
        assert_eq!(read.sum_ns, 99 * 150_000 + 3_000_000);
    }
}
