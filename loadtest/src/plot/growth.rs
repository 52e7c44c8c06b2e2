//! Plots of how figures grow: sweeps, or single runs that differ in something of the server.
//!
//! Reads reports as they stand in JSON files, so what was measured elsewhere and earlier can stand
//! in one plot. May not measure anything.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::plot::svg::{self, Axis, Line, Scale};

/// One line in every plot.
pub(crate) struct Curve {
    pub(crate) name: String,
    /// What grows, and the report of each size.
    pub(crate) points: Vec<(f64, Value)>,
}

/// Which figures one plot shows, and how.
struct Chart {
    file: &'static str,
    title: &'static str,
    y: &'static str,
    factor: f64,
    /// JSON pointer and label of each line.
    figures: &'static [(&'static str, &'static str)],
}

const CHARTS: [Chart; 3] = [
    Chart {
        file: "cost",
        title: "Server CPU a delivery",
        y: "µs",
        factor: 1.0,
        figures: &[("/server_cpu_us_per_delivery", "server CPU")],
    },
    Chart {
        file: "latency",
        title: "Latency of a delivery",
        y: "ms",
        factor: 1e-3,
        figures: &[("/latency_us/p50", "p50"), ("/latency_us/p99", "p99")],
    },
    Chart {
        file: "rate",
        title: "Deliveries a second",
        y: "per second",
        factor: 1.0,
        figures: &[("/deliveries_per_second", "deliveries")],
    },
];

impl Curve {
    /// A sweep as it stands in its file, and its axis.
    pub(crate) fn of_sweep(name: &str, sweep: &Value) -> Option<(String, Self)> {
        let axis = sweep["sweep"].as_str()?.to_owned();
        let values = sweep["values"].as_array()?.iter().map(Value::as_f64);
        let points = sweep["points"].as_array()?.iter().cloned();
        let curve = Self {
            name: name.to_owned(),
            points: values
                .zip(points)
                .filter_map(|(value, report)| Some((value?, report)))
                .collect(),
        };
        Some((axis, curve))
    }
}

/// Writes `AXIS-cost.svg` and so on; a plot of which nothing was measured is left out.
pub(crate) fn write(folder: &Path, axis: &str, curves: &[Curve]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for chart in &CHARTS {
        let lines = chart.lines(curves);
        if lines.is_empty() {
            continue;
        }
        let x = Axis::new(axis, Scale::Log);
        let y = Axis::new(chart.y, Scale::Log);
        let below = below(curves);
        let drawn = svg::lines(
            &format!("{} by {axis}", chart.title),
            &below,
            &x,
            &y,
            &lines,
        );
        fs::write(folder.join(format!("{axis}-{}.svg", chart.file)), drawn)?;
    }
    Ok(())
}

impl Chart {
    fn lines(&self, curves: &[Curve]) -> Vec<Line> {
        let mut lines = Vec::new();
        for (color, curve) in curves.iter().enumerate() {
            for (index, (pointer, label)) in self.figures.iter().enumerate() {
                let value = |report: &Value| {
                    let value = report.pointer(pointer)?.as_f64()? * self.factor;
                    (value > 0.0).then_some(value)
                };
                let points = curve.points.iter();
                let points: Vec<(f64, Option<f64>)> =
                    points.map(|(x, report)| (*x, value(report))).collect();
                if points.iter().all(|(_, y)| y.is_none()) {
                    continue;
                }
                lines.push(Line {
                    label: super::label(label, &curve.name),
                    color,
                    is_dashed: index > 0,
                    points,
                });
            }
        }
        lines
    }
}

/// What all points have in common.
fn below(curves: &[Curve]) -> String {
    let Some((_, report)) = curves.first().and_then(|curve| curve.points.first()) else {
        return String::new();
    };
    let pace = match (report["in_flight"].as_f64(), report["rate"].as_f64()) {
        (Some(sets), _) => format!("{sets} in flight"),
        (None, Some(rate)) => format!("{rate} sets/s"),
        (None, None) => "several loads".to_owned(),
    };
    let seconds = report["seconds"].as_f64().unwrap_or_default();
    format!("fanout, {pace}, {seconds} s each")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use serde_json::json;

    use super::*;

    fn curve(name: &str) -> Curve {
        let report = |us| {
            json!({"in_flight": 8, "seconds": 3, "server_cpu_us_per_delivery": us,
                "latency_us": {"p50": 90, "p99": 900}, "deliveries_per_second": null})
        };
        let sweep = json!({"sweep": "groups", "values": [1, 10, 100],
            "points": [report(9.0), report(3.0), report(1.0)]});
        let (axis, curve) = Curve::of_sweep(name, &sweep).unwrap();
        assert_eq!((axis.as_str(), curve.points.len()), ("groups", 3));
        curve
    }

    #[test]
    fn a_file_without_a_sweep_is_none() {
        assert!(Curve::of_sweep("", &json!({"scenario": "fanout"})).is_none());
    }

    #[test]
    fn what_was_measured_is_drawn_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("loadtest-growth-{}", std::process::id()));
        write(&folder, "groups", &[curve("ours"), curve("theirs")]).unwrap();
        let latency = fs::read_to_string(folder.join("groups-latency.svg")).unwrap();
        for words in ["p99, ours", "p50, theirs", "8 in flight, 3 s each"] {
            assert!(latency.contains(words), "{words}");
        }
        assert!(folder.join("groups-cost.svg").exists());
        assert!(!folder.join("groups-rate.svg").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
