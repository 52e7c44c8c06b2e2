//! What the subscribers of a thread heard: counts by second, latencies, faults.
//!
//! Adds up. May not decide what is right.

use hdrhistogram::Histogram;

use crate::check::faults::Faults;
use crate::latency::{self, DIGITS, DIGITS_BY_SECOND, new_histogram};
use crate::scenario::Window;

/// What the subscribers of a thread heard.
pub(crate) struct Received {
    pub(crate) faults: Faults,
    /// Microseconds, of sets that were due inside the window.
    pub(crate) latency_us: Histogram<u64>,
    /// By the second of the window in which the set was due.
    pub(crate) latency_us_by_second: Vec<Histogram<u64>>,
    /// By the second of the window in which they arrived.
    pub(crate) deliveries_by_second: Vec<u64>,
    /// Also before and after the window.
    pub(crate) deliveries_in_all: u64,
    /// Deliveries that were not made, since a later change of the item stood for them. In all.
    pub(crate) merged: u64,
    /// Reads inside the window that brought deliveries.
    pub(crate) reads: u64,
}

impl Received {
    pub(crate) fn new(seconds: u32) -> Self {
        Self {
            faults: Faults::default(),
            latency_us: new_histogram(DIGITS),
            latency_us_by_second: (0..seconds)
                .map(|_| new_histogram(DIGITS_BY_SECOND))
                .collect(),
            deliveries_by_second: vec![0; seconds as usize],
            deliveries_in_all: 0,
            merged: 0,
            reads: 0,
        }
    }

    /// Adds what another thread heard.
    pub(crate) fn merge(&mut self, other: Self) {
        self.faults += other.faults;
        self.latency_us += other.latency_us;
        for (sum, second) in self
            .latency_us_by_second
            .iter_mut()
            .zip(other.latency_us_by_second)
        {
            *sum += second;
        }
        for (sum, count) in self
            .deliveries_by_second
            .iter_mut()
            .zip(other.deliveries_by_second)
        {
            *sum += count;
        }
        self.deliveries_in_all += other.deliveries_in_all;
        self.merged += other.merged;
        self.reads += other.reads;
    }

    /// Times `count` deliveries of sets that were due at `sent_ns`.
    #[inline]
    pub(crate) fn time(&mut self, sent_ns: u64, now_ns: u64, count: u64, window: Window) {
        if let Some(second) = window.second_of(sent_ns) {
            let all = &mut self.latency_us;
            latency::record_many(all, sent_ns, now_ns, count);
            let of_second = &mut self.latency_us_by_second[second];
            latency::record_many(of_second, sent_ns, now_ns, count);
        }
    }
}

/// Deliveries that one read brought: they share one time, so they are counted together.
#[derive(Default)]
pub(crate) struct Batch {
    at_ns: u64,
    deliveries: u64,
}

impl Batch {
    /// Before a text of the read that returned at `at_ns`.
    #[inline]
    pub(crate) fn turn_to(&mut self, at_ns: u64, window: Window, received: &mut Received) {
        if at_ns != self.at_ns {
            self.count(window, received);
            self.at_ns = at_ns;
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, deliveries: u64) {
        self.deliveries += deliveries;
    }

    pub(crate) fn count(&mut self, window: Window, received: &mut Received) {
        let deliveries = std::mem::take(&mut self.deliveries);
        received.deliveries_in_all += deliveries;
        if deliveries > 0
            && let Some(second) = window.second_of(self.at_ns)
        {
            received.deliveries_by_second[second] += deliveries;
            received.reads += 1;
        }
    }
}
