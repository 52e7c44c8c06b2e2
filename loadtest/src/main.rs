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
mod cost;
mod driver;
mod fanout;
mod faults;
mod latency;
mod limits;
mod message;
mod model;
mod pace;
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

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use arguments::{Arguments, Plan};
use report::Report;

const CHECK_FAILED: u8 = 1;
const NOT_DONE: u8 = 3;

fn main() -> ExitCode {
    let scenario = Arguments::parse().scenario;
    let json = scenario.common().json.clone();
    let plan = match scenario.plan() {
        Ok(plan) => plan,
        Err(why) => Arguments::command()
            .error(ErrorKind::ValueValidation, why)
            .exit(),
    };
    match run(&plan, json) {
        Ok(report) => {
            #[allow(clippy::print_stdout, reason = "the report is this program's output")]
            {
                print!("{report}");
            }
            if report.is_clean() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(CHECK_FAILED)
            }
        }
        Err(why) => {
            eprintln!("loadtest: {why}");
            ExitCode::from(NOT_DONE)
        }
    }
}

fn run(plan: &Plan, json: Option<PathBuf>) -> Result<Report, String> {
    let report = plan.run().map_err(|e| e.to_string())?;
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&report.to_json()).map_err(|e| e.to_string())?;
        fs::write(&file, text + "\n")
            .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    Ok(report)
}
