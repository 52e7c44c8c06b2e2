//! Two servers under the same load, in turn: A B A B …, and what came of it as ratios.
//!
//! Machines change their speed within minutes, so only runs that stood next to each other are
//! compared: a ratio is of one round, and the spread is that of the rounds. Pure.

use std::fmt::{self, Display, Formatter};

use serde_json::{Value, json};

use crate::latency::Quantiles;
use crate::report::{Better, Report, SEND_LAG};

/// One figure of both servers in every round.
pub(crate) struct Compared {
    pub(crate) key: String,
    pub(crate) label: String,
    unit: &'static str,
    better: Better,
    /// Of the first server and of the second.
    values: Vec<(f64, f64)>,
}

/// Least, median and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self {
            least,
            median,
            most,
        })
    }
}

impl Compared {
    /// How many times better the first server was, by round: above 1, it won.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        let ratios = self.values.iter().map(|(a, b)| match self.better {
            Better::Less => b / a,
            Better::More | Better::Neither => a / b,
        });
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }

    fn medians(&self) -> Option<(f64, f64)> {
        let of = |pick: fn(&(f64, f64)) -> f64| Spread::of(self.values.iter().map(pick));
        Some((of(|(a, _)| *a)?.median, of(|(_, b)| *b)?.median))
    }
}

/// All rounds of two servers.
pub(crate) struct Comparison {
    pub(crate) names: [String; 2],
    pub(crate) rounds: Vec<[Report; 2]>,
}

impl Comparison {
    pub(crate) fn is_clean(&self) -> bool {
        self.rounds.iter().flatten().all(Report::is_clean)
    }

    /// Every figure that is better in one direction and was measured on both sides, and p50 and p99
    /// of every latency.
    pub(crate) fn compared(&self) -> Vec<Compared> {
        let mut all: Vec<Compared> = Vec::new();
        for [a, b] in &self.rounds {
            for (figure, other) in a.figures.iter().zip(&b.figures) {
                if let (Some(value), Some(other)) = (figure.value, other.value)
                    && figure.better != Better::Neither
                {
                    let (key, label) = (figure.key.to_owned(), figure.label.to_owned());
                    add(
                        &mut all,
                        key,
                        label,
                        figure.unit,
                        figure.better,
                        (value, other),
                    );
                }
            }
            let of_server = a.latencies.iter().filter(|own| own.key != SEND_LAG);
            for latency in of_server {
                let other = b.latencies.iter().find(|other| other.key == latency.key);
                let of_other = other.and_then(|other| Quantiles::of(&other.histogram));
                let Some((own, of_other)) = Quantiles::of(&latency.histogram).zip(of_other) else {
                    continue;
                };
                for (name, value, other) in [
                    ("p50", own.p50, of_other.p50),
                    ("p99", own.p99, of_other.p99),
                ] {
                    let (key, label) = (latency.key, latency.label);
                    let (key, label) = (format!("{key}_{name}"), format!("{label} {name}"));
                    let values = (value as f64, other as f64);
                    add(&mut all, key, label, "us", Better::Less, values);
                }
            }
        }
        all
    }

    pub(crate) fn to_json(&self) -> Value {
        let figures: Vec<Value> = self
            .compared()
            .iter()
            .map(|compared| {
                let ratio = compared.ratio();
                json!({
                    "key": compared.key,
                    "values": compared.values,
                    "ratio": ratio.map(|ratio| ratio.median),
                    "ratio_least": ratio.map(|ratio| ratio.least),
                    "ratio_most": ratio.map(|ratio| ratio.most),
                })
            })
            .collect();
        let side = |index: usize| -> Vec<Value> {
            let reports = self.rounds.iter().map(|round| round[index].to_json());
            reports.collect()
        };
        json!({
            "servers": self.names,
            "rounds": self.rounds.len(),
            "clean": self.is_clean(),
            "comparison": figures,
            "first": side(0),
            "second": side(1),
        })
    }
}

fn add(
    all: &mut Vec<Compared>,
    key: String,
    label: String,
    unit: &'static str,
    better: Better,
    values: (f64, f64),
) {
    match all.iter_mut().find(|compared| compared.key == key) {
        Some(compared) => compared.values.push(values),
        None => all.push(Compared {
            key,
            label,
            unit,
            better,
            values: vec![values],
        }),
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [a, b] = &self.names;
        let rounds = self.rounds.len();
        writeln!(f, "A {a} against B {b}, {rounds} rounds in turn")?;
        writeln!(
            f,
            "  {:<32}{:>14}{:>14} {:<6}{:>26}",
            "medians", "A", "B", "", "A is better by (range)"
        )?;
        for compared in self.compared() {
            if let (Some((a, b)), Some(ratio)) = (compared.medians(), compared.ratio()) {
                let Spread {
                    least,
                    median,
                    most,
                } = ratio;
                let told = format!("{median:.2} ({least:.2}-{most:.2})");
                let Compared { label, unit, .. } = &compared;
                writeln!(f, "  {label:<32}{a:>14.3}{b:>14.3} {unit:<6}{told:>26}")?;
            }
        }
        let others = self
            .rounds
            .iter()
            .flatten()
            .flat_map(|report| &report.figures)
            .filter(|figure| figure.key == "others_cpu_share")
            .filter_map(|figure| figure.value);
        if let Some(others) = Spread::of(others) {
            writeln!(
                f,
                "  other programs used {:.2} to {:.2} cores meanwhile",
                others.least, others.most
            )?;
        }
        if !self.is_clean() {
            writeln!(f, "  not every run passed its checks")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;
    use crate::latency::{DIGITS, new_histogram};
    use crate::report::{Figure, Latency};

    fn report(rate: f64, cpu: f64, latency_us: u64) -> Report {
        let mut histogram = new_histogram(DIGITS);
        histogram.saturating_record(latency_us);
        Report {
            figures: vec![
                Figure::new("rate", "rate", "/s", Some(rate), Better::More),
                Figure::new("cpu", "cpu", "us", Some(cpu), Better::Less),
                Figure::new("share", "share", "cores", Some(1.0), Better::Neither),
                Figure::new("rss", "rss", "bytes", None, Better::Less),
            ],
            latencies: vec![Latency {
                key: "latency_us",
                label: "delivery",
                histogram,
            }],
            heard: 1,
            ..Report::default()
        }
    }

    fn comparison() -> Comparison {
        Comparison {
            names: ["ours".to_owned(), "theirs".to_owned()],
            rounds: vec![
                [report(200.0, 1.0, 10), report(100.0, 2.0, 20)],
                [report(90.0, 3.0, 10), report(100.0, 2.0, 30)],
                [report(300.0, 1.0, 10), report(100.0, 4.0, 40)],
            ],
        }
    }

    #[test]
    fn ratios_are_of_neighbours_and_above_one_where_the_first_is_better() {
        let comparison = comparison();
        let compared = comparison.compared();
        let keys: Vec<&str> = compared
            .iter()
            .map(|compared| compared.key.as_str())
            .collect();
        assert_eq!(keys, ["rate", "cpu", "latency_us_p50", "latency_us_p99"]);
        let ratio = |index: usize| compared[index].ratio().unwrap();
        assert_eq!(
            ratio(0),
            Spread {
                least: 0.9,
                median: 2.0,
                most: 3.0
            }
        );
        assert_eq!(ratio(1).median, 2.0);
        assert_eq!(ratio(2).median, 3.0);
        assert!(comparison.to_string().contains("2.00 (0.90-3.00)"));
        assert_eq!(comparison.to_json()["rounds"], 3);
    }

    #[test]
    fn one_run_that_failed_makes_all_fail() {
        let mut comparison = comparison();
        assert!(comparison.is_clean());
        comparison.rounds[1][1].heard = 0;
        assert!(!comparison.is_clean());
        assert!(comparison.to_string().contains("not every run passed"));
    }

    #[test]
    fn spread_of_an_even_number_lies_between() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0].into_iter()).unwrap();
        assert_eq!(spread.median, 2.5);
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
