//! `doctor`: whether this machine suits the settings, what that means, and what to do.
//!
//! ```text
//! machine   what the kernel tells, as text
//!  → settings  certificates  network  cores  memory  clock  disk  redis    each: Findings
//!  → finding   states, lines, JSON
//! ```
//! Changes nothing but for one small file that the disk is tried with, which is removed.

mod certificates;
mod clock;
mod cores;
mod disk;
mod finding;
mod machine;
mod memory;
mod network;
mod redis;
mod settings;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use iii_stream::config::{Reading, StoreConfig};

use super::output::say;
use clock::Clock;
use finding::{Finding, State, human, json};
use machine::Machine;

/// What the server itself finds out for its start.
#[derive(Debug)]
pub(crate) struct Start {
    /// `limits.connections`, as asked for.
    pub(crate) wanted: usize,
    /// The line about limits that open files lower.
    pub(crate) open_files: Option<String>,
    /// How many worker threads, and where; or why they cannot be there.
    pub(crate) cores: Result<(usize, String), String>,
    /// The certificates of the ports under TLS.
    pub(crate) certificates: Certificates,
    /// How subscribers are written to; or why they cannot be.
    pub(crate) writes: Result<String, String>,
}

/// For each port under TLS its setting, and until when its certificate counts, in seconds since 1970 and
/// for people; or why one cannot be used.
pub(crate) type Certificates = Result<Vec<(&'static str, u64, String)>, String>;

/// Exit code 1: something will hurt.
pub(crate) fn doctor(reading: &Reading, start: &Start, as_json: bool) -> anyhow::Result<ExitCode> {
    let findings = look(reading, start, &Machine::here());
    say(&match as_json {
        true => json(&findings),
        false => human(&findings),
    })?;
    let is_bad = findings.iter().any(|finding| finding.state == State::Bad);
    Ok(match is_bad {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn look(reading: &Reading, start: &Start, machine: &Machine) -> Vec<Finding> {
    let config = &reading.config;
    let clock = Clock::begin();
    let workers = match &start.cores {
        Ok((workers, _)) => *workers,
        Err(_) => 1,
    };
    let mut findings = settings::look(reading);
    findings.push(settings::open_files(reading, start));
    findings.push(settings::writes(start));
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let since_1970 = since_1970.unwrap_or_default();
    findings.extend(certificates::look(&start.certificates, since_1970));
    findings.extend(network::look(machine, config));
    findings.extend(cores::look(machine, start));
    findings.extend(memory::look(machine, config, workers));
    match &config.store {
        StoreConfig::Files(files) => findings.extend(disk::look(files)),
        StoreConfig::Memory => {
            findings.push(Finding::ok("disk", "none: values end with the process"))
        }
        StoreConfig::Redis(redis) => findings.extend(redis::look(redis)),
    }
    // Last, so that it has been watched for some time.
    findings.extend(clock.look(machine));
    findings
}
