//! Reads the settings; and again while the server runs, where those take effect that can.

use std::time::Duration;

use iii_stream::config::{self, Reading, Sources};
use iii_stream::server::{self, Server};
use serde_json::json;

use super::logging::Logging;

/// How long the threads may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The settings, with limits as the system allows.
pub(crate) fn read(sources: &Sources<'_>) -> Reading {
    let mut reading = config::read(sources);
    reading.fit(server::fit_open_files);
    reading
}

/// What is needed to read them again.
pub(crate) struct Reload<'a> {
    sources: &'a Sources<'a>,
    logging: Logging,
    /// What is in force.
    reading: Reading,
}

/// What has come of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    in_force: Vec<String>,
    /// With why not.
    not_in_force: Vec<String>,
    /// Why nothing was changed.
    faults: Vec<String>,
}

impl<'a> Reload<'a> {
    pub(crate) fn new(sources: &'a Sources<'a>, logging: Logging, reading: Reading) -> Reload<'a> {
        Reload {
            sources,
            logging,
            reading,
        }
    }

    /// Does it, and says so.
    pub(crate) fn reload(&mut self, server: &mut Server) -> Outcome {
        let new = read(self.sources);
        let mut outcome = Outcome {
            faults: new.faults.iter().map(ToString::to_string).collect(),
            ..Outcome::default()
        };
        if outcome.faults.is_empty() {
            outcome.faults.extend(self.reading.lost_in(&new));
        }
        if outcome.faults.is_empty() {
            self.take_over(new, server, &mut outcome);
        }
        outcome.say();
        outcome
    }

    fn take_over(&mut self, new: Reading, server: &mut Server, outcome: &mut Outcome) {
        for warning in &new.config.warnings {
            if !self.reading.config.warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        let warnings = new.config.warnings.clone();
        for change in self.reading.take_over(new) {
            let is_level = change.key.ends_with(".log.level");
            if !change.is_live {
                let line = format!("{change} (takes a restart)");
                outcome.not_in_force.push(line);
            } else if is_level && !self.logging.set_level(self.reading.config.log.level) {
                let line = format!("{change} (RUST_LOG is set, and wins)");
                outcome.not_in_force.push(line);
            } else {
                outcome.in_force.push(change.to_string());
            }
        }
        self.reading.config.warnings = warnings;
        let faulty = server.certificates().reload();
        outcome.not_in_force.extend(faulty);
        if !server.reload(&self.reading.config, WITHIN) {
            let line = "some threads are too busy and will follow".to_owned();
            outcome.not_in_force.push(line);
        }
    }
}

impl Outcome {
    pub(crate) fn failed(why: &str) -> Outcome {
        Outcome {
            faults: vec![why.to_owned()],
            ..Outcome::default()
        }
    }

    /// For whoever asked.
    pub(crate) fn json(&self) -> String {
        json!({
            "ok": self.faults.is_empty(),
            "in_force": self.in_force,
            "not_in_force": self.not_in_force,
            "faults": self.faults,
        })
        .to_string()
    }

    fn say(&self) {
        if let Some(first) = self.faults.first() {
            let first = first.lines().next().unwrap_or_default();
            let more = match self.faults.len() {
                1 => String::new(),
                len => format!(" (and {} more: iii-stream check shows them)", len - 1),
            };
            tracing::error!("settings read again, and nothing is changed: {first}{more}");
            return;
        }
        match self.in_force.is_empty() {
            true => tracing::info!("settings read again: nothing else is in force"),
            false => tracing::info!(
                "settings read again, in force from now on: {}",
                self.in_force.join("; ")
            ),
        }
        if !self.not_in_force.is_empty() {
            tracing::warn!(
                "settings read again, not in force: {}",
                self.not_in_force.join("; ")
            );
        }
    }
}
