//! Plots of how figures grow: sweeps, or single runs that differ in something of the server.
//!
//! Reads reports as they stand in JSON files, so what was measured elsewhere and earlier can stand
//! in one plot. Of several rounds the medians are drawn. May not measure anything.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::compare::Spread;
use crate::plot::svg::{self, Axis, Line, Scale};

/// One line in every plot.
pub(crate) struct Curve {
    pub(crate) name: String,
    /// What grows, and the reports of each size: one of each round.
    pub(crate) points: Vec<(f64, Vec<Value>)>,
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
                .filter_map(|(value, report)| Some((value?, vec![report])))
                .collect(),
        };
        Some((axis, curve))
    }

    /// One more run of that size.
    pub(crate) fn add(&mut self, value: f64, report: Value) {
        self.merge([(value, vec![report])]);
    }

    /// One more round of the same sizes, or of others.
    pub(crate) fn merge(&mut self, round: impl IntoIterator<Item = (f64, Vec<Value>)>) {
        for (value, reports) in round {
            match self.points.iter_mut().find(|(x, _)| *x == value) {
                Some((_, rounds)) => rounds.extend(reports),
                None => self.points.push((value, reports)),
            }
        }
        self.points.sort_by(|(a, _), (b, _)| f64::total_cmp(a, b));
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
                let value = |rounds: &[Value]| {
                    let figures = rounds.iter().filter_map(|report| report.pointer(pointer));
                    let median = Spread::of(figures.filter_map(Value::as_f64))?.median;
                    (median > 0.0).then_some(median * self.factor)
                };
                let points = curve.points.iter();
                let points: Vec<(f64, Option<f64>)> =
                    points.map(|(x, rounds)| (*x, value(rounds))).collect();
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
    let first = curves.first().and_then(|curve| curve.points.first());
    let Some((rounds, report)) = first.and_then(|(_, all)| Some((all.len(), all.first()?))) else {
        return String::new();
    };
    let pace = match (report["in_flight"].as_f64(), report["rate"].as_f64()) {
        (Some(sets), _) => format!("{sets} in flight"),
        (None, Some(rate)) => format!("{rate} sets/s"),
        (None, None) => "several loads".to_owned(),
    };
    let seconds = report["seconds"].as_f64().unwrap_or_default();
    let of = match rounds {
        1 => String::new(),
        _ => format!(", medians of {rounds}"),
    };
    format!("fanout, {pace}, {seconds} s each{of}")
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
    fn several_rounds_are_drawn_as_their_medians() {
        let mut all = curve("ours");
        for us in [2.0, 7.0] {
            all.add(10.0, json!({"server_cpu_us_per_delivery": us}));
        }
        all.add(5.0, json!({"server_cpu_us_per_delivery": 4.0}));
        let sizes: Vec<f64> = all.points.iter().map(|(x, _)| *x).collect();
        assert_eq!(sizes, [1.0, 5.0, 10.0, 100.0]);
        let lines = CHARTS[0].lines(&[all]);
        let drawn = [(1.0, 9.0), (5.0, 4.0), (10.0, 3.0), (100.0, 1.0)];
        assert_eq!(lines[0].points, drawn.map(|(x, y)| (x, Some(y))));
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
