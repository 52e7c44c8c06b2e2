//! Drives any server of this protocol and tells the truth about it.
//!
//! The exit code: 0 all checks held, 1 one failed, 2 wrong flags, 3 the run could not be done. How
//! to read the figures:
//!
//! - A delivery is one event at one subscriber. Rates and CPU are of the window (`--seconds`), which
//!   follows `--warmup`; both are checked, and what was published is awaited before it is judged.
//! - Latency runs from the intended send time to the return of the `read` that brought the message.
//!   Deliveries of one read share that time, and time spent reading other sockets is in it: look at
//!   the client's CPU beside it. With `--rate` the intended times are fixed beforehand, so a stall
//!   counts for every set it delays; with `--in-flight` the intended time is the actual one.
//! - A set is in flight until its answer and all its deliveries have come.
//! - At the end each client's list, kept by the rules of deployed clients, is compared with what
//!   `stream::list` and `stream::get` say.
//! - Server CPU is the scheduler's run time of all threads of `--pid`. On loopback it includes the
//!   receiver's TCP input, which runs in the sender's system call, for all servers alike.

mod arguments;
mod audit;
mod check;
mod client;
mod compare;
mod cost;
mod driver;
mod fanout;
mod faults;
mod latency;
mod limits;
mod message;
mod model;
mod pace;
mod plot;
mod proc;
mod progress;
mod publisher;
mod report;
mod rooms;
mod scenario;
mod subscribers;
mod target;
#[cfg(test)]
mod test_server;
mod waiting;
mod wire;

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use serde_json::Value;

use arguments::{Against, Arguments, Output, Plan};
use compare::Comparison;

const CHECK_FAILED: u8 = 1;
const NOT_DONE: u8 = 3;

fn main() -> ExitCode {
    let scenario = Arguments::parse().scenario;
    let (output, against) = (scenario.common().output(), scenario.common().against());
    let plan = match scenario.plan() {
        Ok(plan) => plan,
        Err(why) => Arguments::command()
            .error(ErrorKind::ValueValidation, why)
            .exit(),
    };
    let done = match against {
        Some(against) => compare(&plan, &against, &output),
        None => run(&plan, &output),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CHECK_FAILED),
        Err(why) => {
            eprintln!("loadtest: {why}");
            ExitCode::from(NOT_DONE)
        }
    }
}

/// One run. True: every check held.
fn run(plan: &Plan, output: &Output) -> Result<bool, String> {
    let report = plan.run().map_err(|e| e.to_string())?;
    say(&report);
    if let Some(file) = &output.json {
        write_json(file, &report.to_json())?;
    }
    if let Some(folder) = &output.plots {
        plot::write_report(folder, &report).map_err(|e| cannot_write(folder, &e))?;
    }
    Ok(report.is_clean())
}

/// Both servers in turn. True: every check of every run held.
fn compare(plan: &Plan, against: &Against, output: &Output) -> Result<bool, String> {
    let mut comparison = Comparison {
        names: against.names.clone(),
        rounds: Vec::new(),
    };
    for _ in 0..against.rounds {
        let first = plan.again().run().map_err(|e| e.to_string())?;
        let second = plan.on(against).run().map_err(|e| e.to_string())?;
        for (name, report) in against.names.iter().zip([&first, &second]) {
            say(&format_args!("{name}: {report}"));
        }
        comparison.rounds.push([first, second]);
    }
    say(&comparison);
    if let Some(file) = &output.json {
        write_json(file, &comparison.to_json())?;
    }
    if let Some(folder) = &output.plots {
        plot::write_comparison(folder, &comparison).map_err(|e| cannot_write(folder, &e))?;
    }
    Ok(comparison.is_clean())
}

#[allow(clippy::print_stdout, reason = "the report is this program's output")]
fn say(what: &dyn Display) {
    print!("{what}");
}

fn write_json(file: &Path, json: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(json).map_err(|e| e.to_string())?;
    fs::write(file, text + "\n").map_err(|e| cannot_write(file, &e))
}

fn cannot_write(path: &Path, why: &io::Error) -> String {
    format!("cannot write {}: {why}", path.display())
}
