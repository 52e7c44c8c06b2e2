//! What a rooms scenario says at its end: the same parts for all four, and what matters to each.

use serde_json::{Value, json};

use crate::report::{Better, Figure, Latency, Report, Series};
use crate::rooms::tally::Tally;
use crate::rooms::{Kind, Outcome, Plan};
use crate::scenario::Pace;

impl Plan {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Presence { .. } => "presence",
            Kind::Connect { .. } => "connect",
            Kind::Idle => "idle",
            Kind::Storm { .. } => "storm",
        }
    }

    fn title(&self) -> String {
        let (members, rooms) = (self.members_in_all(), self.rooms.len());
        let seconds = self.setup.seconds;
        let what = match self.kind {
            Kind::Presence { leaves, away } => format!(
                "{} updates/s, {leaves} leaves/s, away for {} ms",
                self.updates,
                away.as_millis()
            ),
            Kind::Connect {
                pace: Pace::InFlight(most),
            } => format!("{most} handshakes in flight, {} updates/s", self.updates),
            Kind::Connect {
                pace: Pace::Rate(rate),
            } => format!("{rate} connections/s, {} updates/s", self.updates),
            Kind::Idle => "silent".to_owned(),
            Kind::Storm { every, after } => format!(
                "all drop every {} ms and come back after {} ms, {} updates/s",
                every.as_millis(),
                after.as_millis(),
                self.updates
            ),
        };
        let name = self.name();
        format!("{name} {members} members in {rooms} rooms, {what}, {seconds} s")
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let mut settings = self.setup.settings();
        settings.extend([
            ("rooms", json!(self.rooms.len())),
            ("members", json!(self.members_in_all())),
            ("largest_room", json!(self.rooms.iter().max())),
            ("updates_per_second", json!(self.updates)),
        ]);
        match self.kind {
            Kind::Presence { leaves, away } => settings.extend([
                ("leaves_per_second", json!(leaves)),
                ("away_ms", json!(away.as_millis() as u64)),
            ]),
            Kind::Connect { pace } => settings.extend(match pace {
                Pace::InFlight(most) => [("in_flight", json!(most)), ("rate", Value::Null)],
                Pace::Rate(rate) => [("in_flight", Value::Null), ("rate", json!(rate))],
            }),
            Kind::Idle => {}
            Kind::Storm { every, after } => settings.extend([
                ("every_ms", json!(every.as_millis() as u64)),
                ("after_ms", json!(after.as_millis() as u64)),
            ]),
        }
        settings
    }
}

impl Outcome {
    pub(super) fn report(self, plan: &Plan) -> Report {
        let syncs: u64 = self.tally.syncs_by_second.iter().sum();
        let deliveries: u64 = self.tally.deliveries_by_second.iter().sum();
        let counts = vec![
            ("connections", syncs),
            ("deliveries", deliveries),
            ("connections_in_all", self.tally.syncs_in_all),
            ("deliveries_in_all", self.tally.deliveries_in_all),
            ("calls_in_all", self.tally.calls),
            ("storms", self.tally.recovery_us.len()),
        ];
        let heard = match plan.kind {
            Kind::Presence { .. } => deliveries,
            Kind::Connect { .. } | Kind::Storm { .. } => syncs,
            Kind::Idle => self.tally.deliveries_in_all,
        };
        let figures = self.figures(plan, syncs, deliveries);
        let tally = self.tally;
        Report {
            scenario: plan.name(),
            title: plan.title(),
            settings: plan.settings(),
            figures,
            counts,
            checks: tally.faults.checks(),
            heard,
            latency_over_time: latency_over_time(&tally),
            throughput_over_time: vec![
                Series::of_counts(
                    "connections_by_second",
                    "connections",
                    &tally.syncs_by_second,
                ),
                Series::of_counts(
                    "deliveries_by_second",
                    "deliveries",
                    &tally.deliveries_by_second,
                ),
            ],
            latencies: [
                ("upgrade_us", "connect to 101", tally.upgrade_us),
                ("sync_us", "connect to sync", tally.sync_us),
                ("recovery_us", "drop to all back", tally.recovery_us),
                ("latency_us", "delivery", tally.latency_us),
                ("ack_us", "answer", tally.ack_us),
            ]
            .map(|(key, label, histogram)| Latency {
                key,
                label,
                histogram,
            })
            .into_iter()
            .filter(|latency| !latency.histogram.is_empty())
            .collect(),
            machine: self.machine,
            first_differences: tally.faults.into_told(),
        }
    }

    fn figures(&self, plan: &Plan, syncs: u64, deliveries: u64) -> Vec<Figure> {
        let seconds = f64::from(plan.setup.seconds);
        let mut figures = Vec::new();
        let mut put = |key, label, unit, value, better| {
            figures.push(Figure::new(key, label, unit, value, better));
        };
        match plan.kind {
            Kind::Connect { .. } => {
                let rate = Some(syncs as f64 / seconds);
                put(
                    "connections_per_second",
                    "connections",
                    "/s",
                    rate,
                    Better::More,
                );
            }
            Kind::Storm { .. } => {
                let recovery = &self.tally.recovery_us;
                let rate = plan.members_in_all() as f64 * 1e6 / recovery.mean();
                put(
                    "connections_per_second",
                    "connections while coming back",
                    "/s",
                    (!recovery.is_empty()).then_some(rate),
                    Better::More,
                );
            }
            Kind::Presence { .. } | Kind::Idle => {
                let rate = plan.members_in_all() as f64 * 1e9 / self.gathered_ns as f64;
                put(
                    "joins_per_second",
                    "joins before the window",
                    "/s",
                    Some(rate),
                    Better::More,
                );
            }
        }
        let rate = deliveries as f64 / seconds;
        put(
            "deliveries_per_second",
            "deliveries",
            "/s",
            Some(rate),
            Better::More,
        );
        let (keys, labels, count) = match plan.kind {
            Kind::Presence { .. } => (
                ["server_cpu_us_per_delivery", "client_cpu_us_per_delivery"],
                ["server CPU a delivery", "client CPU a delivery"],
                deliveries,
            ),
            Kind::Connect { .. } | Kind::Storm { .. } => (
                [
                    "server_cpu_us_per_connection",
                    "client_cpu_us_per_connection",
                ],
                ["server CPU a connection", "client CPU a connection"],
                syncs,
            ),
            Kind::Idle => (
                ["server_cpu_us_per_member", "client_cpu_us_per_member"],
                ["server CPU a member, silent", "client CPU a member, silent"],
                plan.members_in_all() as u64,
            ),
        };
        figures.extend(self.cost.figures(keys, labels, count));
        figures.extend(self.memory(plan));
        figures
    }

    fn memory(&self, plan: &Plan) -> Vec<Figure> {
        let stay = !matches!(plan.kind, Kind::Connect { .. });
        let labels = ["server memory a member", "server memory before the window"];
        let members = stay.then(|| plan.members_in_all());
        let mut figures = Vec::from(self.memory.figures(labels, members));
        figures.push(Figure::new(
            "server_rss_bytes_after",
            "server memory after the window",
            "bytes",
            self.rss_after.map(|bytes| bytes as f64),
            Better::Neither,
        ));
        figures
    }
}

fn latency_over_time(tally: &Tally) -> Vec<Series> {
    let sync = Series::of_quantiles(
        "sync_us_by_second",
        "connect to sync, p50",
        &tally.sync_us_by_second,
        |of| of.p50,
    );
    let deliveries = Series::of_deliveries(&tally.latency_us_by_second);
    [sync].into_iter().chain(deliveries).collect()
}
