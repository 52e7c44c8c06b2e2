//! What a run says at its end, to people and to programs, and while it goes on.
//!
//! `Report` is the JSON file and the source of the table: the keys are fixed, other tools read
//! them. Computes, but measures nothing.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::scenario::{Outcome, Pace, Plan, Shared};

const TICK: Duration = Duration::from_millis(100);

/// Microseconds up to ten minutes; what is longer counts as that.
pub(crate) fn new_histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, digits)
        .expect("the bounds and 2 or 3 digits are allowed")
}

/// Microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
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

/// One run. `null`: not measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    groups: u32,
    subscribers: u32,
    in_flight: Option<u64>,
    rate: Option<f64>,
    seconds: u32,
    warmup_seconds: f64,
    value_bytes: usize,
    void: bool,
    publishers: usize,
    threads: usize,

    deliveries_per_second: f64,
    server_cpu_us_per_delivery: Option<f64>,
    /// Cores that the server used.
    server_cpu_share: Option<f64>,
    /// From before the subscribers connected until all had joined.
    server_rss_bytes_per_subscriber: Option<f64>,
    server_rss_bytes_joined: Option<u64>,
    client_cpu_us_per_delivery: Option<f64>,
    /// Cores that this program used: near 1 a thread, the figures are its own limit.
    client_cpu_share: Option<f64>,

    missed: u64,
    duplicated: u64,
    reordered: u64,
    before_sync: u64,
    unexpected: u64,
    disconnected: u64,
    refused: u64,
    unsent: u64,
    unanswered: u64,

    /// From intended time to the return of the read that brought the delivery, as are the others.
    latency_us: Option<Quantiles>,
    /// To the answer of the call.
    ack_us: Option<Quantiles>,
    /// To the delivery at the last subscriber of a set.
    last_us: Option<Quantiles>,
    /// Its median for the sets of each second: rising means a queue that grows.
    last_us_by_second: Vec<Option<u64>>,
    /// How late the publisher sent, which is inside all of these.
    send_lag_us: Option<Quantiles>,
    deliveries_by_second: Vec<u64>,
    /// How many deliveries one read brought: what the server coalesced.
    deliveries_per_read: Option<f64>,
    deliveries: u64,
    sets: u64,
    sets_in_all: u64,

    first_differences: Vec<String>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, outcome: Outcome) -> Self {
        let Outcome {
            received,
            published,
            cpu,
            rss_before,
            rss_joined,
        } = outcome;
        let deliveries: u64 = received.deliveries_by_second.iter().sum();
        let seconds = f64::from(plan.seconds);
        let per_delivery = |ns: u64| (deliveries > 0).then(|| ns as f64 / 1e3 / deliveries as f64);
        let share = |ns: u64| ns as f64 / 1e9 / seconds;
        let grown = rss_before
            .zip(rss_joined)
            .map(|(before, joined)| joined as f64 - before as f64);
        let (in_flight, rate) = match plan.pace {
            Pace::InFlight(sets) => (Some(sets), None),
            Pace::Rate(rate) => (None, Some(rate)),
        };
        let mut first_differences = published.refusals;
        first_differences.extend(received.first);
        let differences = received.differences;
        Self {
            scenario: "fanout",
            groups: plan.groups,
            subscribers: plan.subscribers,
            in_flight,
            rate,
            seconds: plan.seconds,
            warmup_seconds: plan.warmup.as_secs_f64(),
            value_bytes: plan.value_bytes,
            void: plan.void,
            publishers: plan.publishers,
            threads: plan.threads,
            deliveries_per_second: deliveries as f64 / seconds,
            server_cpu_us_per_delivery: cpu.server_cpu_ns.and_then(per_delivery),
            server_cpu_share: cpu.server_cpu_ns.map(share),
            server_rss_bytes_per_subscriber: grown
                .map(|bytes| bytes / plan.subscribers_in_all() as f64),
            server_rss_bytes_joined: rss_joined,
            client_cpu_us_per_delivery: cpu.client_cpu_ns.and_then(per_delivery),
            client_cpu_share: cpu.client_cpu_ns.map(share),
            missed: differences.missed,
            duplicated: differences.duplicated,
            reordered: differences.reordered,
            before_sync: differences.before_sync,
            unexpected: differences.unexpected,
            disconnected: differences.disconnected,
            refused: published.refused,
            unsent: published.unsent,
            unanswered: published.unanswered,
            latency_us: Quantiles::of(&received.latency_us),
            ack_us: Quantiles::of(&published.ack_us),
            last_us: Quantiles::of(&published.last_us),
            last_us_by_second: published
                .last_us_by_second
                .iter()
                .map(|second| Quantiles::of(second).map(|quantiles| quantiles.p50))
                .collect(),
            send_lag_us: Quantiles::of(&published.send_lag_us),
            deliveries_by_second: received.deliveries_by_second,
            deliveries_per_read: (received.reads > 0)
                .then(|| deliveries as f64 / received.reads as f64),
            deliveries,
            sets: published.sets_in_window,
            sets_in_all: published.sets,
            first_differences,
        }
    }

    /// Whether every check held: all heard once, in order, after the sync, and something at all.
    pub(crate) fn is_clean(&self) -> bool {
        self.checks().iter().all(|(_, count)| *count == 0) && self.deliveries > 0
    }

    fn checks(&self) -> [(&'static str, u64); 9] {
        [
            ("missed", self.missed),
            ("duplicated", self.duplicated),
            ("reordered", self.reordered),
            ("before sync", self.before_sync),
            ("unexpected", self.unexpected),
            ("disconnected", self.disconnected),
            ("sets refused", self.refused),
            ("sets unsent", self.unsent),
            ("sets unanswered", self.unanswered),
        ]
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pace = match (self.in_flight, self.rate) {
            (Some(sets), _) => format!("{sets} in flight"),
            (_, rate) => format!("{} sets/s", rate.unwrap_or_default()),
        };
        let Self {
            groups,
            subscribers,
            seconds,
            ..
        } = self;
        writeln!(f, "fanout {groups} x {subscribers}, {pace}, {seconds} s")?;
        let mut line = |name: &str, value: Option<f64>, unit: &str| match value {
            Some(value) => writeln!(f, "  {name:<28}{value:>14.3} {unit}"),
            None => writeln!(f, "  {name:<28}{:>14} {unit}", "-"),
        };
        line("deliveries", Some(self.deliveries_per_second), "/s")?;
        line(
            "server CPU a delivery",
            self.server_cpu_us_per_delivery,
            "us",
        )?;
        line("server CPU", self.server_cpu_share, "cores")?;
        line(
            "server memory a subscriber",
            self.server_rss_bytes_per_subscriber,
            "bytes",
        )?;
        line(
            "client CPU a delivery",
            self.client_cpu_us_per_delivery,
            "us",
        )?;
        line("client CPU", self.client_cpu_share, "cores")?;
        line("deliveries a read", self.deliveries_per_read, "")?;
        writeln!(
            f,
            "  {:<14}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "us", "p50", "p90", "p99", "p99.9", "max"
        )?;
        let rows = [
            ("delivery", self.latency_us),
            ("last delivery", self.last_us),
            ("answer", self.ack_us),
            ("send lag", self.send_lag_us),
        ];
        for (name, quantiles) in rows {
            match quantiles {
                Some(Quantiles {
                    p50,
                    p90,
                    p99,
                    p999,
                    max,
                }) => {
                    writeln!(
                        f,
                        "  {name:<14}{p50:>10}{p90:>10}{p99:>10}{p999:>10}{max:>10}"
                    )?;
                }
                None => writeln!(f, "  {name:<14}{:>10}", "-")?,
            }
        }
        let checks = self
            .checks()
            .map(|(name, count)| format!("{name} {count}"))
            .join(", ");
        writeln!(f, "  {checks}")?;
        if self.deliveries == 0 {
            writeln!(f, "  nothing was delivered inside the window")?;
        }
        for difference in &self.first_differences {
            writeln!(f, "  ! {difference}")?;
        }
        Ok(())
    }
}

/// The line on a terminal while the run goes on; silent elsewhere.
pub(crate) struct Progress {
    bar: ProgressBar,
    value: fn(&Shared) -> u64,
}

impl Progress {
    pub(crate) fn joins(subscribers: u64) -> Self {
        let bar = styled(
            ProgressBar::new(subscribers),
            "joined {pos} of {len} subscribers",
        );
        Self {
            bar,
            value: |shared| shared.joined.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn publishing(plan: &Plan) -> Self {
        let span = plan.warmup.as_secs_f64() + f64::from(plan.seconds);
        let bar = styled(
            ProgressBar::no_length(),
            &format!("{{elapsed}} of {span:.0}s, {{pos}} deliveries"),
        );
        Self {
            bar,
            value: |shared| shared.deliveries.load(Ordering::Relaxed),
        }
    }

    /// Shows what there is, and sleeps a little.
    pub(crate) fn show(&self, shared: &Shared) {
        self.bar.set_position((self.value)(shared));
        thread::sleep(TICK);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.with_style(
        ProgressStyle::with_template(template).expect("the templates above are well-formed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_nothing_are_null() {
        let mut histogram = new_histogram(3);
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
}
