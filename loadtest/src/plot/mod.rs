//! The plots of a run, or of one server beside another: which lines, from which figures.
//!
//! `growth` has those of many runs, `svg` draws; the files go into the folder that was asked for. May not measure anything.

mod growth;
mod svg;

use std::fs;
use std::io;
use std::path::Path;

use crate::compare::Comparison;
use crate::latency;
use crate::report::{Report, SEND_LAG, Series};
pub(crate) use growth::{Curve, write as write_growth};
use svg::{Axis, Bar, Line, Scale};

/// One run among those that a plot shows: the second is dashed.
type Named<'a> = (&'a str, &'a Report);

/// Writes the plots of one run.
pub(crate) fn write_report(folder: &Path, report: &Report) -> io::Result<()> {
    write_runs(folder, &[("", report)])
}

/// Writes the plots of the last round, the two servers in each, and the ratios of all rounds.
pub(crate) fn write_comparison(folder: &Path, comparison: &Comparison) -> io::Result<()> {
    let [a, b] = &comparison.names;
    if let Some([first, second]) = comparison.rounds.last() {
        write_runs(folder, &[(a, first), (b, second)])?;
    }
    let bars: Vec<Bar> = comparison
        .compared()
        .iter()
        .filter_map(|compared| {
            let ratio = compared.ratio()?;
            Some(Bar {
                label: compared.label.clone(),
                value: ratio.median,
                least: ratio.least,
                most: ratio.most,
            })
        })
        .collect();
    let rounds = comparison.rounds.len();
    let below = format!("right of 1: {a} is better than {b}; median and range of {rounds} rounds");
    fs::write(
        folder.join("comparison.svg"),
        svg::bars("How many times better", &below, 1.0, &bars),
    )
}

fn write_runs(folder: &Path, runs: &[Named<'_>]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let below = runs.first().map_or("", |(_, report)| report.title.as_str());
    let write = |name: &str, chart: String| fs::write(folder.join(name), chart);
    write("latency-over-time.svg", latency_over_time(runs, below))?;
    write("percentiles.svg", percentiles(runs, below))?;
    write("throughput.svg", throughput(runs, below))
}

fn latency_over_time(runs: &[Named<'_>], below: &str) -> String {
    let lines = over_time(runs, |report| &report.latency_over_time, 1e-3);
    svg::lines(
        "Latency over time",
        below,
        &seconds(),
        &milliseconds(),
        &lines,
    )
}

fn throughput(runs: &[Named<'_>], below: &str) -> String {
    let lines = over_time(runs, |report| &report.throughput_over_time, 1.0);
    let y = Axis::new("per second", Scale::Linear);
    svg::lines("Throughput", below, &seconds(), &y, &lines)
}

fn over_time(runs: &[Named<'_>], pick: fn(&Report) -> &Vec<Series>, factor: f64) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, (name, report)) in runs.iter().enumerate() {
        let heard = |series: &&Series| series.values.iter().flatten().any(|value| *value > 0);
        for (color, series) in pick(report).iter().filter(heard).enumerate() {
            let values = series.values.iter().enumerate();
            lines.push(Line {
                label: label(series.label, name),
                color,
                is_dashed: index > 0,
                points: values
                    .map(|(second, value)| {
                        let value = value.map(|value| value as f64 * factor);
                        (second as f64 + 0.5, value)
                    })
                    .collect(),
            });
        }
    }
    lines
}

/// Slower by tens to the right: 90 %, 99 %, 99.9 %.
fn percentiles(runs: &[Named<'_>], below: &str) -> String {
    let mut lines = Vec::new();
    let mut rarest: f64 = 10.0;
    for (index, (name, report)) in runs.iter().enumerate() {
        for (color, latency) in report.latencies.iter().enumerate() {
            if latency.histogram.is_empty() || latency.key == SEND_LAG {
                continue;
            }
            let curve = latency::curve(&latency.histogram);
            rarest = curve
                .last()
                .map_or(rarest, |(share, _)| rarest.max(1.0 / share));
            lines.push(Line {
                label: label(latency.label, name),
                color,
                is_dashed: index > 0,
                points: curve
                    .into_iter()
                    .map(|(share, us)| (1.0 / share, Some(us.max(1.0) / 1e3)))
                    .collect(),
            });
        }
    }
    let x = Axis {
        ticks: Some(percentile_ticks(rarest)),
        ..Axis::new("percentile", Scale::Log)
    };
    svg::lines("Latency by percentile", below, &x, &milliseconds(), &lines)
}

fn percentile_ticks(rarest: f64) -> Vec<(f64, String)> {
    ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999"]
        .into_iter()
        .enumerate()
        .map(|(tens, text)| (10f64.powi(tens as i32), format!("{text} %")))
        .filter(|(share, _)| *share <= rarest)
        .collect()
}

fn label(what: &str, of: &str) -> String {
    match of {
        "" => what.to_owned(),
        of => format!("{what}, {of}"),
    }
}

fn seconds() -> Axis {
    Axis::new("second of the window", Scale::Linear)
}

fn milliseconds() -> Axis {
    Axis::new("ms", Scale::Log)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;
    use crate::latency::{DIGITS, new_histogram};
    use crate::report::{Better, Figure, Latency};

    fn report() -> Report {
        let mut histogram = new_histogram(DIGITS);
        (1..5_000).for_each(|us| histogram.saturating_record(us));
        Report {
            scenario: "fanout",
            title: "fanout 1 x 1".to_owned(),
            figures: vec![Figure::new("rate", "rate", "/s", Some(5.0), Better::More)],
            latencies: vec![Latency {
                key: "latency_us",
                label: "delivery",
                histogram,
            }],
            throughput_over_time: vec![Series::of_counts("n", "deliveries", &[3, 4])],
            ..Report::default()
        }
    }

    #[test]
    fn both_servers_are_in_each_plot() {
        let (first, second) = (report(), report());
        let runs = [("ours", &first), ("theirs", &second)];
        let chart = percentiles(&runs, "");
        assert!(chart.contains("delivery, ours") && chart.contains("delivery, theirs"));
        assert!(chart.contains("99.9 %") && !chart.contains("99.999 %"));
        assert_eq!(throughput(&runs, "").matches("stroke-dasharray").count(), 2);
    }

    #[test]
    fn files_are_written_where_asked() {
        let folder = std::env::temp_dir().join(format!("loadtest-plots-{}", std::process::id()));
        let comparison = Comparison {
            names: ["a".to_owned(), "b".to_owned()],
            rounds: vec![[report(), report()]],
        };
        write_comparison(&folder, &comparison).unwrap();
        for name in [
            "latency-over-time",
            "percentiles",
            "throughput",
            "comparison",
        ] {
            let text = fs::read_to_string(folder.join(format!("{name}.svg"))).unwrap();
            assert!(text.contains("</svg>"), "{name}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
