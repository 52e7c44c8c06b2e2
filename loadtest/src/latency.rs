//! Latencies as HDR histograms, in microseconds.
//!
//! At a fixed rate every time is counted from the moment at which the work was due, not from the
//! one at which it was begun: a stall counts for all that it delayed (no coordinated omission), and
//! nothing has to be guessed afterwards. `pace::Schedule` holds those moments. May not read a clock.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Ten minutes; what is longer counts as that.
const LONGEST_US: u64 = 600_000_000;
/// Steps of the percentile curve: each is this share of the way that is left to 100 %.
const CURVE_STEPS_PER_HALVING: u32 = 5;

/// Significant digits of the whole run, and of each second of it.
pub(crate) const DIGITS: u8 = 3;
pub(crate) const DIGITS_BY_SECOND: u8 = 2;

pub(crate) fn new_histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, digits)
        .expect("the bounds and 2 or 3 digits are allowed")
}

/// Records the time from `begin_ns`, when it was due, to `end_ns`.
#[inline]
pub(crate) fn record(histogram: &mut Histogram<u64>, begin_ns: u64, end_ns: u64) {
    record_many(histogram, begin_ns, end_ns, 1);
}

/// Records that time for each of `count`.
#[inline]
pub(crate) fn record_many(histogram: &mut Histogram<u64>, begin_ns: u64, end_ns: u64, count: u64) {
    histogram.saturating_record_n(end_ns.saturating_sub(begin_ns) / 1_000, count);
}

/// Microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let quantiles = Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        };
        (!histogram.is_empty()).then_some(quantiles)
    }
}

/// The percentile curve: (share that is slower, microseconds), from all to one in the number
/// recorded.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let step = 0.5f64.powf(1.0 / f64::from(CURVE_STEPS_PER_HALVING));
    let least = 1.0 / histogram.len().max(1) as f64;
    std::iter::successors(Some(1.0), |share| Some(share * step))
        .take_while(|share| *share >= least)
        .map(|share| {
            let us = histogram.value_at_quantile(1.0 - share);
            (share, us as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Schedule;

    #[test]
    fn quantiles_of_nothing_are_null() {
        let mut histogram = new_histogram(DIGITS);
        assert_eq!(Quantiles::of(&histogram), None);
        (1..=1000).for_each(|us| histogram.saturating_record(us));
        let quantiles = Quantiles::of(&histogram);
        assert_eq!(
            quantiles,
            Some(Quantiles {
                p50: 500,
                p90: 900,
                p99: 990,
                p999: 999,
                max: 1000
            })
        );
    }

    /// A server that answers within 1 ms stands still for the second of two seconds at 100 a second.
    /// Who sends the next only after the answer to the last would record one slow call in 101.
    #[test]
    fn a_stall_counts_for_all_that_it_delayed() {
        const MS: u64 = 1_000_000;
        let mut schedule = Schedule::new(0, 100.0);
        let mut histogram = new_histogram(DIGITS);
        while let Some(due_ns) = schedule.take_due(1_999 * MS) {
            let answered_ns = if due_ns < 1_000 * MS {
                due_ns + MS
            } else {
                2_000 * MS
            };
            record(&mut histogram, due_ns, answered_ns);
        }
        assert_eq!(histogram.len(), 200);
        let at = |quantile| histogram.value_at_quantile(quantile);
        assert!(at(0.5) <= 1_001, "{}", at(0.5));
        assert!((490_000..=520_000).contains(&at(0.75)), "{}", at(0.75));
        assert!(at(0.99) >= 970_000, "{}", at(0.99));
    }

    #[test]
    fn curve_falls_from_all_to_the_slowest() {
        let mut histogram = new_histogram(DIGITS);
        (1..=1024).for_each(|us| histogram.saturating_record(us));
        let curve = curve(&histogram);
        assert_eq!(curve[0].0, 1.0);
        assert!(curve.is_sorted_by(|a, b| a.0 > b.0 && a.1 <= b.1));
        let (share, us) = curve[curve.len() - 1];
        assert!(share <= 0.0012 && us >= 1_022.0, "{share} {us}");
    }
}
