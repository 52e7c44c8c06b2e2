//! What the members of one thread measured and what was wrong.

use hdrhistogram::Histogram;

use crate::check::faults::Faults;
use crate::latency::{self, DIGITS, DIGITS_BY_SECOND, new_histogram};
use crate::scenario::Window;

/// Histograms in microseconds, of what was due inside the window.
pub(crate) struct Tally {
    pub(crate) faults: Faults,
    /// From the connect to the end of the upgrade.
    pub(crate) upgrade_us: Histogram<u64>,
    /// From the connect to the `sync`.
    pub(crate) sync_us: Histogram<u64>,
    pub(crate) sync_us_by_second: Vec<Histogram<u64>>,
    /// From a set to each of its deliveries.
    pub(crate) latency_us: Histogram<u64>,
    pub(crate) latency_us_by_second: Vec<Histogram<u64>>,
    pub(crate) ack_us: Histogram<u64>,
    /// From a storm's drop to the `sync` of its last member.
    pub(crate) recovery_us: Histogram<u64>,
    /// By the second of the window in which they came.
    pub(crate) syncs_by_second: Vec<u64>,
    pub(crate) deliveries_by_second: Vec<u64>,
    /// Also before and after the window.
    pub(crate) syncs_in_all: u64,
    pub(crate) deliveries_in_all: u64,
    pub(crate) calls: u64,
}

impl Tally {
    pub(crate) fn new(seconds: u32) -> Self {
        let by_second = || (0..seconds).map(|_| new_histogram(DIGITS_BY_SECOND));
        Self {
            faults: Faults::default(),
            upgrade_us: new_histogram(DIGITS),
            sync_us: new_histogram(DIGITS),
            sync_us_by_second: by_second().collect(),
            latency_us: new_histogram(DIGITS),
            latency_us_by_second: by_second().collect(),
            ack_us: new_histogram(DIGITS),
            recovery_us: new_histogram(DIGITS),
            syncs_by_second: vec![0; seconds as usize],
            deliveries_by_second: vec![0; seconds as usize],
            syncs_in_all: 0,
            deliveries_in_all: 0,
            calls: 0,
        }
    }

    /// Adds what another thread measured.
    pub(crate) fn merge(&mut self, other: Self) {
        self.faults += other.faults;
        self.upgrade_us += other.upgrade_us;
        self.sync_us += other.sync_us;
        self.latency_us += other.latency_us;
        self.ack_us += other.ack_us;
        self.recovery_us += other.recovery_us;
        add_each(&mut self.sync_us_by_second, other.sync_us_by_second);
        add_each(&mut self.latency_us_by_second, other.latency_us_by_second);
        add_each(&mut self.syncs_by_second, other.syncs_by_second);
        add_each(&mut self.deliveries_by_second, other.deliveries_by_second);
        self.syncs_in_all += other.syncs_in_all;
        self.deliveries_in_all += other.deliveries_in_all;
        self.calls += other.calls;
    }

    pub(crate) fn upgraded(&mut self, begun_ns: u64, now_ns: u64, window: Window) {
        if window.holds(begun_ns) {
            latency::record(&mut self.upgrade_us, begun_ns, now_ns);
        }
    }

    pub(crate) fn synced(&mut self, begun_ns: u64, now_ns: u64, window: Window) {
        self.syncs_in_all += 1;
        if let Some(second) = window.second_of(now_ns) {
            self.syncs_by_second[second] += 1;
        }
        if let Some(second) = window.second_of(begun_ns) {
            latency::record(&mut self.sync_us, begun_ns, now_ns);
            latency::record(&mut self.sync_us_by_second[second], begun_ns, now_ns);
        }
    }

    /// One event at one member. `sent_ns`: when its set was due; a `delete` does not say.
    pub(crate) fn delivered(&mut self, sent_ns: Option<u64>, now_ns: u64, window: Window) {
        self.deliveries_in_all += 1;
        if let Some(second) = window.second_of(now_ns) {
            self.deliveries_by_second[second] += 1;
        }
        if let Some(sent_ns) = sent_ns
            && let Some(second) = window.second_of(sent_ns)
        {
            latency::record(&mut self.latency_us, sent_ns, now_ns);
            latency::record(&mut self.latency_us_by_second[second], sent_ns, now_ns);
        }
    }
}

fn add_each<T: std::ops::AddAssign>(sums: &mut [T], others: Vec<T>) {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
}
