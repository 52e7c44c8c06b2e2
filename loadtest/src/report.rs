//! What a run says at its end: the same parts for every scenario.
//!
//! `Report` is the source of the table, of the JSON file and of the plots. The keys are fixed, other
//! tools read them. Computes, but measures nothing.

use std::fmt::{self, Display, Formatter};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::latency::Quantiles;

const CLOCK: &str = "CLOCK_MONOTONIC of this process: publisher and subscribers share it";
const METHOD: &str = "latency runs from the moment at which the work was due to the return of the \
    read that brought what was waited for; at a fixed rate those moments are fixed beforehand, so a \
    stall counts for all that it delayed (no coordinated omission); in a closed loop the moment is \
    that of sending, and a stall shows only in the calls that were under way";

/// How late the publisher itself was: it says something of this program, not of the server.
pub(crate) const SEND_LAG: &str = "send_lag_us";

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
    /// It explains others, and is not compared.
    Neither,
}

/// One number of a run. `None`: not measured.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: Option<f64>,
    pub(crate) better: Better,
}

impl Figure {
    pub(crate) fn new(
        key: &'static str,
        label: &'static str,
        unit: &'static str,
        value: Option<f64>,
        better: Better,
    ) -> Self {
        Self {
            key,
            label,
            unit,
            value,
            better,
        }
    }
}

/// Something that must not have happened, and how often it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) count: u64,
}

/// One kind of latency.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) histogram: Histogram<u64>,
}

/// One value for each second of the window.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) values: Vec<Option<u64>>,
}

impl Series {
    /// One quantile of each second.
    pub(crate) fn of_quantiles(
        key: &'static str,
        label: &'static str,
        seconds: &[Histogram<u64>],
        quantile: fn(Quantiles) -> u64,
    ) -> Self {
        let values = seconds
            .iter()
            .map(|second| Quantiles::of(second).map(quantile))
            .collect();
        Self { key, label, values }
    }

    /// Two quantiles of each second's deliveries.
    pub(crate) fn of_deliveries(seconds: &[Histogram<u64>]) -> [Self; 2] {
        [
            Self::of_quantiles("latency_us_by_second", "delivery, p50", seconds, |of| {
                of.p50
            }),
            Self::of_quantiles("latency_p99_us_by_second", "delivery, p99", seconds, |of| {
                of.p99
            }),
        ]
    }

    pub(crate) fn of_counts(key: &'static str, label: &'static str, seconds: &[u64]) -> Self {
        let values = seconds.iter().copied().map(Some).collect();
        Self { key, label, values }
    }
}

/// One run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) title: String,
    /// What the run was told.
    pub(crate) settings: Vec<(&'static str, Value)>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) counts: Vec<(&'static str, u64)>,
    pub(crate) checks: Vec<Check>,
    /// What has to be more than nothing, or the run proves nothing.
    pub(crate) heard: u64,
    pub(crate) latencies: Vec<Latency>,
    /// Latencies by second, in microseconds.
    pub(crate) latency_over_time: Vec<Series>,
    pub(crate) throughput_over_time: Vec<Series>,
    pub(crate) machine: Vec<String>,
    pub(crate) first_differences: Vec<String>,
}

impl Report {
    /// Whether every check held, and something was heard at all.
    pub(crate) fn is_clean(&self) -> bool {
        self.checks.iter().all(|check| check.count == 0) && self.heard > 0
    }

    pub(crate) fn figure(&self, key: &str) -> Option<f64> {
        let mut figures = self.figures.iter();
        figures.find(|figure| figure.key == key)?.value
    }

    pub(crate) fn latency(&self, key: &str) -> Option<&Histogram<u64>> {
        let latency = self.latencies.iter().find(|latency| latency.key == key);
        latency.map(|latency| &latency.histogram)
    }

    /// One flat object; `null`: not measured.
    pub(crate) fn to_json(&self) -> Value {
        let mut all = Map::new();
        let mut put = |key: &str, value: Value| all.insert(key.to_owned(), value);
        put("scenario", json!(self.scenario));
        for (key, value) in &self.settings {
            put(key, value.clone());
        }
        for figure in &self.figures {
            put(figure.key, json!(figure.value));
        }
        for (key, count) in &self.counts {
            put(key, json!(count));
        }
        for check in &self.checks {
            put(check.key, json!(check.count));
        }
        for latency in &self.latencies {
            put(latency.key, json!(Quantiles::of(&latency.histogram)));
        }
        for series in self
            .latency_over_time
            .iter()
            .chain(&self.throughput_over_time)
        {
            put(series.key, json!(series.values));
        }
        put("clean", json!(self.is_clean()));
        put("clock", json!(CLOCK));
        put("method", json!(METHOD));
        put("machine", json!(self.machine));
        put("first_differences", json!(self.first_differences));
        Value::Object(all)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for Figure {
            label, unit, value, ..
        } in &self.figures
        {
            if let Some(value) = value {
                writeln!(f, "  {label:<32}{value:>14.3} {unit}")?;
            }
        }
        let unmeasured = self.figures.iter().filter(|figure| figure.value.is_none());
        let unmeasured: Vec<&str> = unmeasured.map(|figure| figure.label).collect();
        if !unmeasured.is_empty() {
            writeln!(f, "  not measured: {}", unmeasured.join(", "))?;
        }
        write_latencies(f, &self.latencies)?;
        writeln!(
            f,
            "  from the moment due to the return of the read; {CLOCK}"
        )?;
        for note in &self.machine {
            writeln!(f, "  machine: {note}")?;
        }
        let checks: Vec<String> = self
            .checks
            .iter()
            .map(|check| format!("{} {}", check.label, check.count))
            .collect();
        writeln!(f, "  {}", checks.join(", "))?;
        if self.heard == 0 {
            writeln!(f, "  nothing was heard inside the window")?;
        }
        for difference in &self.first_differences {
            writeln!(f, "  ! {difference}")?;
        }
        Ok(())
    }
}

fn write_latencies(f: &mut Formatter<'_>, latencies: &[Latency]) -> fmt::Result {
    writeln!(
        f,
        "  {:<22}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "us", "p50", "p90", "p99", "p99.9", "max"
    )?;
    for Latency {
        label, histogram, ..
    } in latencies
    {
        match Quantiles::of(histogram) {
            Some(Quantiles {
                p50,
                p90,
                p99,
                p999,
                max,
            }) => writeln!(
                f,
                "  {label:<22}{p50:>10}{p90:>10}{p99:>10}{p999:>10}{max:>10}"
            )?,
            None => writeln!(f, "  {label:<22}{:>10}", "-")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{DIGITS, new_histogram};

    fn report() -> Report {
        let mut histogram = new_histogram(DIGITS);
        histogram.saturating_record(250);
        Report {
            scenario: "fanout",
            title: "fanout 1 x 1".to_owned(),
            figures: vec![Figure::new(
                "a_figure",
                "a figure",
                "us",
                None,
                Better::Less,
            )],
            checks: vec![Check {
                key: "missed",
                label: "missed",
                count: 0,
            }],
            heard: 1,
            latencies: vec![Latency {
                key: "latency_us",
                label: "delivery",
                histogram,
            }],
            ..Report::default()
        }
    }

    #[test]
    fn json_is_flat_and_says_clock_and_method() {
        let json = report().to_json();
        assert_eq!(json["latency_us"]["p999"], 250);
        assert_eq!(json["a_figure"], Value::Null);
        assert_eq!(json["clean"], true);
        assert!(json["clock"].is_string() && json["method"].is_string());
    }

    #[test]
    fn one_failed_check_or_nothing_heard_is_not_clean() {
        assert!(report().is_clean());
        let mut failed = report();
        failed.checks[0].count = 1;
        assert!(!failed.is_clean());
        let mut silent = report();
        silent.heard = 0;
        assert!(!silent.is_clean());
        assert!(silent.to_string().contains("nothing was heard"));
    }
}
