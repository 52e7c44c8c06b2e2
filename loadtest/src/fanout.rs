//! `fanout`: groups of subscribers, one item each, published to in a closed loop or at a fixed rate.
//!
//! In order: connect a publisher, note the server's memory, connect and join all subscribers, note
//! it again, publish through warm-up and window, wait for what is outstanding, ask what each group
//! holds, judge. Each step ends by itself: joins by `join_timeout`, sending by the window, waiting
//! by `drain_timeout`. The client threads (`driver`) do the work; this file only starts them.

use std::iter;
use std::sync::mpsc;

use crate::check::faults::Faults;
use crate::check::received::Received;
use crate::cost::{Cost, Memory};
use crate::counters::{Counted, Counters};
use crate::driver::{Driver, Finished, First};
use crate::error::RunError;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::publisher::Published;
use crate::report::{Better, Figure, Latency, Report, SEND_LAG, Series};
use crate::run::Run;

/// What a run measured.
struct Outcome {
    received: Received,
    published: Published,
    faults: Faults,
    cost: Cost,
    counted: Counted,
    memory: Memory,
    machine: Vec<String>,
}

/// Runs `fanout` from connecting to judging.
pub(crate) fn run(plan: &Plan) -> Result<Report, RunError> {
    let setup = &plan.setup;
    let run = Run::prepare(setup, plan.connections_in_all())?;
    let (reports, reported) = mpsc::channel();
    let mut drivers = Vec::new();
    for index in 0..setup.threads {
        let reports = reports.clone();
        drivers.push(Driver::new(plan, &run.shared, run.clock, index, reports)?);
    }
    let waker = drivers[0].waker()?;
    let mut first = First::connect(plan, &mut drivers[0], reported, &run.meter)?;

    let counters = || setup.admin.and_then(Counters::read);
    let mut counted = Counted {
        before: counters(),
        ..Counted::default()
    };
    let before = run.meter.rss_bytes();
    run.join_on_threads(plan.subscribers_in_all(), &mut drivers, Driver::join_all)?;
    let joined = run.meter.rss_bytes();

    counted.joined = counters();
    let window = run.window(setup);
    let progress = Progress::window(setup);
    let leads = iter::once(Some(&mut first)).chain(iter::repeat_with(|| None));
    run.on_threads(
        drivers.iter_mut().zip(leads),
        || progress.show(&run.shared),
        |(driver, first)| match first {
            Some(first) => driver.lead(window, first),
            None => driver.follow(window, &waker),
        },
    )?;
    drop(progress);

    counted.after = counters();
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
        counted,
        memory: Memory { before, joined },
        machine: run.notes().into_iter().chain(cost.notes()).collect(),
    }
    .report(plan))
}

impl Outcome {
    fn report(self, plan: &Plan) -> Report {
        let deliveries: u64 = self.received.deliveries_by_second.iter().sum();
        let mut counts = vec![
            ("deliveries", deliveries),
            ("sets", self.published.sets_in_window),
            ("sets_in_all", self.published.sets),
        ];
        if plan.pace_ms.is_some() {
            counts.push(("merged", self.received.merged));
        }
        Report {
            scenario: "fanout",
            title: plan.title(),
            settings: plan.settings(),
            figures: self.figures(plan, deliveries),
            counts,
            checks: self.faults.checks(),
            heard: deliveries,
            latency_over_time: self.latency_over_time(),
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

    fn latency_over_time(&self) -> Vec<Series> {
        let last = Series::of_quantiles(
            "last_us_by_second",
            "last delivery, p50",
            &self.published.last_us_by_second,
            |of| of.p50,
        );
        let deliveries = Series::of_deliveries(&self.received.latency_us_by_second);
        deliveries.into_iter().chain([last]).collect()
    }

    fn figures(&self, plan: &Plan, deliveries: u64) -> Vec<Figure> {
        let rate = deliveries as f64 / f64::from(plan.setup.seconds);
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
        let labels = ["server memory a subscriber", "server memory, all joined"];
        figures.extend(self.memory.figures(labels, Some(plan.subscribers_in_all())));
        figures.push(Figure::new(
            "deliveries_per_read",
            "deliveries a read",
            "",
            (reads > 0).then(|| deliveries as f64 / reads as f64),
            Better::Neither,
        ));
        figures.extend(self.counted.figures());
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::scenario::tests::short;
    use crate::scenario::{Order, Pace, Setup};
    use crate::test_server::{Planted, serve};

    /// Cases at a time: more would wait for each other's cores.
    const AT_A_TIME: usize = 4;
    const LATE: Duration = Duration::from_millis(200);

    fn plan(planted: Planted, pace: Pace, threads: usize) -> Plan {
        let ports = serve(planted);
        let ports = (ports.engine, ports.stream);
        Plan {
            setup: Setup {
                pid: Some(std::process::id()),
                ..short(ports, threads)
            },
            groups: 3,
            subscribers: 4,
            spread: 2,
            pace,
            void: false,
            pace_ms: None,
            unchecked: false,
        }
    }

    fn run_against(planted: Planted, pace: Pace, threads: usize) -> Report {
        run(&plan(planted, pace, threads)).unwrap()
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
        let mut plan = plan(Planted::Swaps(7), Pace::Rate(10.0), 1);
        plan.setup.order = Order::Applied;
        let report = run(&plan).unwrap();
        let told = report.to_string();
        assert!(
            told.contains("reordered 0, before sync 0, late 0, time went back 4"),
            "{told}"
        );
    }

    #[test]
    fn what_takes_longer_than_allowed_is_late() {
        let mut plan = plan(Planted::Delays(7, 2 * LATE), Pace::Rate(10.0), 1);
        plan.setup.late = LATE;
        let report = run(&plan).unwrap();
        assert!(!report.is_clean(), "{report}");
        let words = "group 1 subscriber 0: sequence 2 came after ";
        assert!(report.to_string().contains(words), "{report}");
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
            (Planted::TellsAll(7), "unexpected 8"),
            (Planted::Refuses(7), "calls refused 1"),
            (Planted::AnswersNot(7), "calls unanswered 1"),
            (Planted::HangsUp(7), "disconnected 8"),
            (Planted::FlipsBit(30, 80), "altered 1,"),
            (Planted::StampsAlike(5), "model differs 12"),
            (Planted::GoesBack(7), "time went back 4"),
            (Planted::LiesInList, "altered"),
            (Planted::ListsAnOldValue, "model differs"),
        ];
        for some in faults.chunks(AT_A_TIME) {
            thread::scope(|scope| {
                for (planted, words) in some {
                    scope.spawn(move || {
                        let report = run_against(*planted, Pace::Rate(10.0), 2);
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
}
