//! Calls of SDK workers, trigger calls, and the worker port.

use std::fmt;

use crate::metrics::{CallOutcome, FUNCTIONS};
use crate::protocol::function::StreamFunction;

use super::Scrape;
use super::families::{Families, by_reason, one};

impl Scrape {
    pub(super) fn calls(&self, out: &mut Families<'_>) -> fmt::Result {
        let engine = &self.shared.engine;
        let name_of = |function: usize| {
            let known = StreamFunction::ALL.get(function);
            known.map_or("other", |function| function.id()).to_owned()
        };
        let calls = (0..FUNCTIONS).flat_map(|function| {
            CallOutcome::ALL.map(|outcome| {
                let labels = vec![
                    ("function", name_of(function)),
                    ("outcome", outcome.name().to_owned()),
                ];
                (labels, engine.calls_of(function, outcome))
            })
        });
        let calls: Vec<_> = calls.collect();
        out.counter(
            "calls",
            "Calls that have ended, and those for which nobody waits",
            &calls,
        )?;
        out.gauge(
            "calls_in_flight",
            "Calls under way",
            &one(engine.calls_in_flight.get()),
        )?;
        out.counter(
            "calls_refused",
            "Calls refused because of a limit",
            &one(engine.calls_refused.get()),
        )?;
        out.counter(
            "calls_parked",
            "Calls that waited for room at their owner",
            &one(engine.calls_parked.get()),
        )?;
        out.counter(
            "commands_refused",
            "Calls refused by the owner: too much waits for functions, or there is no memory",
            &one(self.value("commands_refused")),
        )?;
        out.counter(
            "triggers_fired",
            "Trigger calls that were made",
            &one(engine.trigger_calls.get()),
        )?;
        out.counter(
            "triggers_dropped",
            "Trigger calls that were dropped",
            &one(engine.trigger_calls_dropped.get()),
        )?;
        out.counter(
            "worker_messages_dropped",
            "Messages of SDK workers that could not be read",
            &one(engine.messages_dropped.get()),
        )?;
        out.counter(
            "worker_telemetry_frames",
            "Frames of telemetry, which are not looked at",
            &one(engine.telemetry_frames.get()),
        )?;
        let refused = [
            ("503", engine.connections_refused.get()),
            ("403", engine.origins_refused.get()),
        ];
        let refused = refused.map(|(code, count)| (vec![("code", code.to_owned())], count));
        out.counter(
            "worker_upgrades_refused",
            "Upgrades on the worker port that were refused",
            &refused,
        )?;
        let closed = [
            ("silent", engine.silent_closed.get()),
            ("stalled", engine.stalled_closed.get()),
        ];
        let closed = by_reason(closed);
        out.counter(
            "worker_sockets_closed",
            "SDK workers that said nothing, or took nothing, for too long",
            &closed,
        )?;
        out.histogram(
            "call_seconds",
            "How long calls took for which somebody waits",
            self.figures.times[1],
        )
    }
}
