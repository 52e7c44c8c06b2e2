//! One load at several sizes: how cost and latency grow with subscribers, groups or bytes.
//!
//! Computes and tells; the runs are those of `fanout`. May not measure anything.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use serde_json::{Value, json};

use crate::latency::Quantiles;
use crate::report::Report;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Subscribers,
    Groups,
    Bytes,
}

impl Axis {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Subscribers => "subscribers",
            Self::Groups => "groups",
            Self::Bytes => "bytes",
        }
    }
}

/// What is asked for: `subscribers=1,10,100`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) axis: Axis,
    pub(crate) values: Vec<u32>,
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = text.split_once('=').ok_or("must be AXIS=VALUE,VALUE,…")?;
        let axis = [Axis::Subscribers, Axis::Groups, Axis::Bytes]
            .into_iter()
            .find(|axis| axis.name() == name)
            .ok_or("the axis is subscribers, groups or bytes")?;
        let number = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is no whole number"))
        };
        let values: Vec<u32> = values.split(',').map(number).collect::<Result<_, _>>()?;
        Ok(Self { axis, values })
    }
}

/// All runs of a sweep, in the order of its values.
pub(crate) struct Swept {
    pub(crate) axis: Axis,
    pub(crate) points: Vec<(u32, Report)>,
}

impl Swept {
    pub(crate) fn is_clean(&self) -> bool {
        self.points.iter().all(|(_, report)| report.is_clean())
    }

    pub(crate) fn to_json(&self) -> Value {
        let values: Vec<u32> = self.points.iter().map(|(value, _)| *value).collect();
        let points: Vec<Value> = self.points.iter().map(|(_, run)| run.to_json()).collect();
        json!({
            "scenario": "fanout",
            "sweep": self.axis.name(),
            "values": values,
            "clean": self.is_clean(),
            "points": points,
        })
    }
}

/// A number in its column, or a dash.
fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

impl Display for Swept {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "fanout by {}", self.axis.name())?;
        writeln!(
            f,
            "  {:>12}{:>14}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}  checks",
            self.axis.name(),
            "deliveries/s",
            "server us",
            "client us",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "answer p99"
        )?;
        for (value, report) in &self.points {
            let figure = |key| report.figure(key);
            let quantile = |key, of: fn(Quantiles) -> u64| {
                let quantiles = report.latency(key).and_then(Quantiles::of);
                cell(quantiles.map(|all| of(all) as f64), 0)
            };
            writeln!(
                f,
                "  {value:>12}{:>14}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}  {}",
                cell(figure("deliveries_per_second"), 0),
                cell(figure("server_cpu_us_per_delivery"), 3),
                cell(figure("client_cpu_us_per_delivery"), 3),
                quantile("latency_us", |all| all.p50),
                quantile("latency_us", |all| all.p99),
                quantile("latency_us", |all| all.p999),
                quantile("ack_us", |all| all.p99),
                if report.is_clean() { "held" } else { "FAILED" },
            )?;
        }
        writeln!(
            f,
            "  us: CPU a delivery; then from the moment due to each delivery, and to the answer"
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;
    use crate::report::{Better, Figure};

    #[test]
    fn axis_and_values_are_read() {
        let sweep: Sweep = "groups=1,10,100000".parse().unwrap();
        assert_eq!(sweep.axis, Axis::Groups);
        assert_eq!(sweep.values, [1, 10, 100_000]);
        for wrong in ["", "groups", "groups=", "groups=1,x", "rooms=1", "bytes=-1"] {
            assert!(wrong.parse::<Sweep>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_point_has_its_row_and_one_that_failed_fails_all() {
        let report = |rate| Report {
            heard: 1,
            figures: vec![Figure::new(
                "deliveries_per_second",
                "deliveries",
                "/s",
                Some(rate),
                Better::More,
            )],
            ..Report::default()
        };
        let mut swept = Swept {
            axis: Axis::Bytes,
            points: vec![(64, report(1_234.0)), (128, report(99.0))],
        };
        assert!(swept.is_clean());
        let table = swept.to_string();
        assert!(table.contains("1234") && table.contains("99") && !table.contains("FAILED"));
        assert_eq!(swept.to_json()["values"], json!([64, 128]));
        swept.points[1].1.heard = 0;
        assert!(!swept.is_clean() && swept.to_string().contains("FAILED"));
    }
}
