//! `fanout`: groups of subscribers, one item each, published to in a closed loop or at a fixed rate.
//!
//! In order: connect a publisher, note the server's memory, connect and join all subscribers, note
//! it again, publish through warm-up and window, wait for what is outstanding, ask what each group
//! holds, judge. Each step ends by itself: joins by `join_timeout`, sending by the window, waiting
//! by `drain_timeout`. The client threads (`driver`) do the work; this file only starts them.

use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};

use crate::client::Clock;
use crate::cost::{Cost, Meter};
use crate::driver::{Driver, Finished, First};
use crate::faults::Faults;
use crate::limits::Machine;
use crate::progress::Progress;
use crate::publisher::Published;
use crate::report::{Better, Figure, Latency, Report, SEND_LAG, Series};
use crate::scenario::{Pace, RunError, Setup, Shared, Window, pin};
use crate::subscribers::Received;

/// Everything a run of `fanout` is told, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) groups: u32,
    /// Of each group.
    pub(crate) subscribers: u32,
    pub(crate) pace: Pace,
    pub(crate) void: bool,
}

impl Plan {
    pub(crate) fn subscribers_in_all(&self) -> usize {
        self.groups as usize * self.subscribers as usize
    }

    /// Thread `thread`'s share: the same number of each group.
    pub(crate) fn subscribers_of(&self, thread: usize) -> usize {
        let of_each =
            (self.subscribers as usize + self.setup.threads - 1 - thread) / self.setup.threads;
        self.groups as usize * of_each
    }

    fn title(&self) -> String {
        let Self {
            groups,
            subscribers,
            setup,
            ..
        } = self;
        let pace = match self.pace {
            Pace::InFlight(sets) => format!("{sets} in flight"),
            Pace::Rate(rate) => format!("{rate} sets/s"),
        };
        format!(
            "fanout {groups} x {subscribers}, {pace}, {} s",
            setup.seconds
        )
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let (in_flight, rate) = match self.pace {
            Pace::InFlight(sets) => (Some(sets), None),
            Pace::Rate(rate) => (None, Some(rate)),
        };
        let mut settings = self.setup.settings();
        settings.extend([
            ("groups", json!(self.groups)),
            ("subscribers", json!(self.subscribers)),
            ("in_flight", json!(in_flight)),
            ("rate", json!(rate)),
            ("void", json!(self.void)),
        ]);
        settings
    }
}

/// What a run measured.
struct Outcome {
    received: Received,
    published: Published,
    faults: Faults,
    cost: Cost,
    rss_before: Option<u64>,
    rss_joined: Option<u64>,
    machine: Vec<String>,
}

/// Runs `fanout` from connecting to judging.
pub(crate) fn run(plan: &Plan) -> Result<Report, RunError> {
    let setup = &plan.setup;
    let machine = Machine::look(setup.pid);
    let needs = setup.needs(plan.subscribers_in_all());
    machine.allow(&needs)?;
    setup.check_process()?;
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let clock = Clock::start();
    let shared = Shared::default();

    let (reports, reported) = mpsc::channel();
    let mut drivers = Vec::new();
    for index in 0..setup.threads {
        drivers.push(Driver::new(plan, &shared, clock, index, reports.clone())?);
    }
    let waker = drivers[0].waker()?;
    let meter = Meter::new(setup.pid);
    let mut first = First::connect(plan, &mut drivers[0], reported, meter)?;

    let rss_before = first.rss_bytes();
    let progress = Progress::joins(plan.subscribers_in_all() as u64);
    on_threads(&mut drivers, &mut first, &shared, progress, |driver, _| {
        pin(&cores, driver.index());
        driver.join_all()
    })?;
    let rss_joined = first.rss_bytes();

    let window = Window::from(clock.now_ns(), setup);
    let progress = Progress::window(setup);
    on_threads(
        &mut drivers,
        &mut first,
        &shared,
        progress,
        |driver, first| {
            pin(&cores, driver.index());
            match first {
                Some(first) => driver.lead(window, first),
                None => driver.follow(window, &waker),
            }
        },
    )?;

    let Finished {
        published,
        mut faults,
        truth,
        cost,
    } = first.finish();
    let mut received = Received::new(setup.seconds);
    for driver in drivers {
        received.merge(driver.finish(published.sets, &truth));
    }
    faults += std::mem::take(&mut received.faults);
    Ok(Outcome {
        received,
        published,
        faults,
        cost,
        rss_before,
        rss_joined,
        machine: machine.notes(&needs),
    }
    .report(plan))
}

impl Outcome {
    fn report(self, plan: &Plan) -> Report {
        let deliveries: u64 = self.received.deliveries_by_second.iter().sum();
        let counts = vec![
            ("deliveries", deliveries),
            ("sets", self.published.sets_in_window),
            ("sets_in_all", self.published.sets),
        ];
        Report {
            scenario: "fanout",
            title: plan.title(),
            settings: plan.settings(),
            figures: self.figures(plan, deliveries),
            counts,
            checks: self.faults.checks(),
            heard: deliveries,
            latency_over_time: vec![
                Series::of_quantiles(
                    "latency_us_by_second",
                    "delivery, p50",
                    &self.received.latency_us_by_second,
                    |quantiles| quantiles.p50,
                ),
                Series::of_quantiles(
                    "latency_p99_us_by_second",
                    "delivery, p99",
                    &self.received.latency_us_by_second,
                    |quantiles| quantiles.p99,
                ),
                Series::of_quantiles(
                    "last_us_by_second",
                    "last delivery, p50",
                    &self.published.last_us_by_second,
                    |quantiles| quantiles.p50,
                ),
            ],
            throughput_over_time: vec![Series::of_counts(
                "deliveries_by_second",
                "deliveries",
                &self.received.deliveries_by_second,
            )],
            latencies: latencies(self.received, self.published),
            machine: self.machine,
            first_differences: self.faults.into_told(),
        }
    }

    fn figures(&self, plan: &Plan, deliveries: u64) -> Vec<Figure> {
        let rate = deliveries as f64 / f64::from(plan.setup.seconds);
        let grown = self
            .rss_before
            .zip(self.rss_joined)
            .map(|(before, joined)| joined as f64 - before as f64);
        let reads = self.received.reads;
        let mut figures = vec![Figure::new(
            "deliveries_per_second",
            "deliveries",
            "/s",
            Some(rate),
            Better::More,
        )];
        figures.extend(self.cost.figures(
            ["server_cpu_us_per_delivery", "client_cpu_us_per_delivery"],
            ["server CPU a delivery", "client CPU a delivery"],
            deliveries,
        ));
        figures.extend([
            Figure::new(
                "server_rss_bytes_per_subscriber",
                "server memory a subscriber",
                "bytes",
                grown.map(|bytes| bytes / plan.subscribers_in_all() as f64),
                Better::Less,
            ),
            Figure::new(
                "server_rss_bytes_joined",
                "server memory, all joined",
                "bytes",
                self.rss_joined.map(|bytes| bytes as f64),
                Better::Neither,
            ),
            Figure::new(
                "deliveries_per_read",
                "deliveries a read",
                "",
                (reads > 0).then(|| deliveries as f64 / reads as f64),
                Better::Neither,
            ),
        ]);
        figures
    }
}

fn latencies(received: Received, published: Published) -> Vec<Latency> {
    [
        ("latency_us", "delivery", received.latency_us),
        ("last_us", "last delivery", published.last_us),
        ("ack_us", "answer", published.ack_us),
        // How late the publisher sent, which is inside all of these.
        (SEND_LAG, "send lag", published.send_lag_us),
    ]
    .map(|(key, label, histogram)| Latency {
        key,
        label,
        histogram,
    })
    .into()
}

/// Runs one step on every driver, each on a thread of its own, and shows how it goes. The first
/// driver is given `first`.
fn on_threads<'a>(
    drivers: &mut [Driver<'a>],
    first: &mut First,
    shared: &Shared,
    progress: Progress,
    step: impl Fn(&mut Driver<'a>, Option<&mut First>) -> Result<(), RunError> + Sync,
) -> Result<(), RunError> {
    let mut first = Some(first);
    thread::scope(|scope| {
        let step = &step;
        let start = |driver| {
            let first = first.take();
            scope.spawn(move || step(driver, first))
        };
        let handles: Vec<_> = drivers.iter_mut().map(start).collect();
        while !handles.iter().all(|handle| handle.is_finished()) {
            progress.show(shared);
        }
        let results: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
        results
            .into_iter()
            .try_for_each(|result| result.unwrap_or(Err(RunError::ThreadDied)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::VALUE_BYTES_MIN;
    use crate::scenario::{Order, new_run};
    use crate::test_server::{Planted, serve};

    fn run_against(planted: Planted, pace: Pace, threads: usize) -> Report {
        run_in_order(planted, pace, threads, Order::Sent)
    }

    fn run_in_order(planted: Planted, pace: Pace, threads: usize, order: Order) -> Report {
        let (engine, stream) = serve(planted);
        let plan = Plan {
            setup: Setup {
                engine,
                stream,
                warmup: Duration::from_millis(100),
                seconds: 1,
                value_bytes: VALUE_BYTES_MIN + 10,
                publishers: 1,
                threads,
                sources: 2,
                handshakes: 5,
                join_timeout: Duration::from_secs(5),
                drain_timeout: Duration::from_millis(300),
                stream_name: "load".to_owned(),
                order,
                audits: true,
                pid: Some(std::process::id()),
                run: new_run(),
            },
            groups: 3,
            subscribers: 4,
            pace,
            void: false,
        };
        run(&plan).unwrap()
    }

    #[test]
    fn good_server_passes_in_both_loops_and_on_several_threads() {
        for (pace, threads) in [
            (Pace::InFlight(5), 1),
            (Pace::InFlight(5), 3),
            (Pace::Rate(50.0), 2),
        ] {
            let report = run_against(Planted::Nothing, pace, threads);
            assert!(report.is_clean(), "{pace:?} {threads}: {report}");
        }
    }

    /// Calls may be swapped before they are applied, frames not after: their times tell.
    #[test]
    fn order_as_applied_is_seen_by_times() {
        let report = run_in_order(Planted::Swaps(7), Pace::Rate(10.0), 1, Order::Applied);
        let told = report.to_string();
        assert!(
            told.contains("reordered 0, before sync 0, time went back 4"),
            "{told}"
        );
    }

    /// Other tools read these.
    #[test]
    fn keys_of_the_report_stay() {
        let json = run_against(Planted::Nothing, Pace::InFlight(2), 1).to_json();
        let keys = "scenario groups subscribers in_flight rate seconds warmup_seconds value_bytes \
            void publishers threads deliveries_per_second server_cpu_us_per_delivery \
            server_cpu_share server_rss_bytes_per_subscriber server_rss_bytes_joined \
            client_cpu_us_per_delivery client_cpu_share missed duplicated reordered before_sync \
            unexpected disconnected refused unsent unanswered latency_us ack_us last_us \
            last_us_by_second send_lag_us deliveries_by_second deliveries_per_read deliveries sets \
            sets_in_all first_differences";
        for key in keys.split_ascii_whitespace() {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert!(json["deliveries"].is_u64() && json["latency_us"]["p999"].is_u64());
    }

    #[test]
    fn every_planted_fault_is_found_with_the_right_words() {
        let faults = [
            (Planted::Drops(7), "missed 4, duplicated 0"),
            (Planted::Repeats(7), "missed 0, duplicated 4"),
            (Planted::Swaps(7), "reordered 4"),
            (Planted::Alters(7), "altered 4"),
            (Planted::StampsAlike(5), "model differs 12"),
            (Planted::GoesBack(7), "time went back 4"),
            (Planted::LiesInList, "altered"),
            (Planted::ListsAnOldValue, "model differs"),
        ];
        thread::scope(|scope| {
            for (planted, words) in faults {
                scope.spawn(move || {
                    let report = run_against(planted, Pace::Rate(10.0), 2);
                    assert!(!report.is_clean(), "{planted:?}");
                    assert!(
                        report.to_string().contains(words),
                        "{planted:?}, {words}: {report}"
                    );
                    assert!(!report.first_differences.is_empty(), "{planted:?}");
                });
            }
        });
    }
}
