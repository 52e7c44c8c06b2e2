//! A ring of the last seconds of every series, so that plots are full when somebody opens them.
//!
//! May not know where the figures come from.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::figures::{Figures, Kind, SERIES, TIMES};

/// So many seconds are kept.
pub(super) const SECONDS: usize = 600;
/// Rates are those of so many of the last seconds.
const RATE_SECONDS: usize = 5;
/// Times that something took are those of so many of the last seconds.
const TIME_SECONDS: usize = 10;

/// One second.
struct Second {
    at_ms: u64,
    /// As they were; of a count how much it rose.
    values: [u64; SERIES.len()],
    /// The 50th and 99th percentile of what came in it, in µs; -1: nothing came.
    times: [[f32; 2]; TIMES.len()],
    /// For each thread the share of a core.
    threads: Vec<(String, f32)>,
}

/// The last seconds.
#[derive(Default)]
pub(super) struct History {
    seconds: VecDeque<Second>,
    /// The latest figures, and those from which rates and times are counted, the oldest first.
    figures: VecDeque<Figures>,
}

impl History {
    /// A second has passed.
    pub(super) fn push(&mut self, figures: Figures, at_ms: u64) {
        let before = self.figures.back();
        let span_s = before.map_or(1.0, |before| {
            let span = figures.at.saturating_duration_since(before.at);
            span.as_secs_f64().max(0.001)
        });
        let mut values = figures.values;
        for (at, (_, kind)) in SERIES.iter().enumerate() {
            if *kind == Kind::Count {
                values[at] = before.map_or(0, |before| {
                    let rose = values[at].saturating_sub(before.values[at]);
                    (rose as f64 / span_s).round() as u64
                });
            }
        }
        let mut times = [[-1.0; 2]; TIMES.len()];
        let mut threads = Vec::new();
        if let Some(before) = before {
            for (at, time) in times.iter_mut().enumerate() {
                let new = figures.times[at].since(&before.times[at]);
                let quantile = |share| new.quantile_us(share).map_or(-1.0, |us| us as f32);
                *time = [quantile(0.5), quantile(0.99)];
            }
            let cpu = figures.threads.iter().map(|thread| {
                let mut known = before.threads.iter();
                let known = known.find(|known| known.name == thread.name);
                let ran_ns = known.map_or(0, |known| thread.cpu_ns.saturating_sub(known.cpu_ns));
                (thread.name.clone(), (ran_ns as f64 / 1e9 / span_s) as f32)
            });
            threads = cpu.collect();
        }
        self.seconds.push_back(Second {
            at_ms,
            values,
            times,
            threads,
        });
        if self.seconds.len() > SECONDS {
            self.seconds.pop_front();
        }
        self.figures.push_back(figures);
        if self.figures.len() > TIME_SECONDS + 1 {
            self.figures.pop_front();
        }
    }

    /// The figures of the last second.
    pub(super) fn latest(&self) -> Option<&Figures> {
        self.figures.back()
    }

    /// `{name: a second}` of the last few seconds, of what is counted.
    pub(super) fn rates(&self) -> Value {
        let mut rates = Map::new();
        let Some(now) = self.figures.back() else {
            return rates.into();
        };
        let from = self.figures.len().saturating_sub(RATE_SECONDS + 1);
        let before = self.figures.get(from).unwrap_or(now);
        let span = now.at.saturating_duration_since(before.at).as_secs_f64();
        for (at, (name, kind)) in SERIES.iter().enumerate() {
            if *kind == Kind::Count {
                let rose = now.values[at].saturating_sub(before.values[at]) as f64;
                let rate = if span > 0.0 { rose / span } else { 0.0 };
                rates.insert((*name).to_owned(), json!((rate * 10.0).round() / 10.0));
            }
        }
        rates.into()
    }

    /// `{name: {count, p50_ms, p99_ms}}` of the last ten seconds.
    pub(super) fn times(&self) -> Value {
        let mut times = Map::new();
        let (Some(now), Some(before)) = (self.figures.back(), self.figures.front()) else {
            return times.into();
        };
        for (at, name) in TIMES.iter().enumerate() {
            let new = now.times[at].since(&before.times[at]);
            let ms = |share| new.quantile_us(share).map(|us| us.round() / 1000.0);
            times.insert(
                (*name).to_owned(),
                json!({"count": new.count(), "p50_ms": ms(0.5), "p99_ms": ms(0.99)}),
            );
        }
        times.into()
    }

    /// The share of a core that each thread had in the last second.
    pub(super) fn cpu(&self) -> &[(String, f32)] {
        self.seconds.back().map_or(&[], |second| &second.threads)
    }

    /// See the shapes in `admin`. `wanted`: these series; empty: all.
    pub(super) fn json(&self, seconds: usize, wanted: &[String]) -> String {
        let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
        let from = self.seconds.len().saturating_sub(seconds);
        let shown = || self.seconds.range(from..);
        let mut series = Map::new();
        for (at, (name, _)) in SERIES.iter().enumerate() {
            if is_wanted(name) {
                let values = shown().map(|second| second.values[at]);
                series.insert((*name).to_owned(), values.collect());
            }
        }
        for (at, name) in TIMES.iter().enumerate() {
            for (which, label) in ["p50_us", "p99_us"].into_iter().enumerate() {
                let name = format!("{name}_{label}");
                if is_wanted(&name) {
                    let values = shown().map(|second| match second.times[at][which] {
                        us if us < 0.0 => Value::Null,
                        us => us.round().into(),
                    });
                    series.insert(name, values.collect());
                }
            }
        }
        let names = self
            .seconds
            .back()
            .map_or(&[][..], |second| &second.threads);
        for (thread, _) in names {
            let name = format!("cpu:{thread}");
            if is_wanted(&name) {
                let values = shown().map(|second| {
                    let mut threads = second.threads.iter();
                    let found = threads.find(|(known, _)| known == thread);
                    found.map_or(Value::Null, |(_, share)| {
                        json!((f64::from(*share) * 1000.0).round() / 1000.0)
                    })
                });
                series.insert(name, values.collect());
            }
        }
        let at_ms: Vec<u64> = shown().map(|second| second.at_ms).collect();
        json!({"at_ms": at_ms, "series": series}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::machine::ThreadTime;
    use super::*;
    use crate::metrics::{Distribution, Histogram};

    fn figures(at: Instant, events: u64, cpu_ms: u64, times: Distribution) -> Figures {
        let mut values = [0; SERIES.len()];
        let place = SERIES
            .iter()
            .position(|(name, _)| *name == "events")
            .unwrap();
        values[place] = events;
        values[0] = events; // a level
        Figures {
            at,
            values,
            times: [times; TIMES.len()],
            threads: vec![ThreadTime {
                name: "worker-0".to_owned(),
                cpu_ns: cpu_ms * 1_000_000,
            }],
        }
    }

    #[test]
    fn counts_are_shown_by_how_much_they_rose_and_levels_as_they_are() {
        let began = Instant::now();
        let histogram = Histogram::default();
        let mut history = History::default();
        for second in 0..700_u64 {
            histogram.note(Duration::from_micros(150));
            let at = began + Duration::from_secs(second);
            let cpu_ms = second * 250;
            history.push(
                figures(at, second * 40, cpu_ms, histogram.read()),
                second * 1000,
            );
        }
        let names = ["events", "connections", "cpu:worker-0", "call_p99_us"];
        let text = history.json(3, &names.map(str::to_owned));
        let shown: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(shown["at_ms"], json!([697_000, 698_000, 699_000]));
        assert_eq!(shown["series"]["events"], json!([40, 40, 40]));
        assert_eq!(
            shown["series"]["connections"],
            json!([27_880, 27_920, 27_960])
        );
        assert_eq!(shown["series"]["cpu:worker-0"], json!([0.25, 0.25, 0.25]));
        assert_eq!(shown["series"]["call_p99_us"], json!([199.0, 199.0, 199.0]));
        let all: Value = serde_json::from_str(&history.json(SECONDS, &[])).unwrap();
        assert_eq!(all["at_ms"].as_array().unwrap().len(), SECONDS);
        let series = all["series"].as_object().unwrap();
        assert_eq!(series.len(), SERIES.len() + 2 * TIMES.len() + 1);
        assert_eq!(history.rates()["events"], json!(40.0));
        assert_eq!(history.times()["call"]["count"], json!(10));
    }
}
