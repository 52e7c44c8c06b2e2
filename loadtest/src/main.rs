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
mod ceiling;
mod check;
mod client;
mod compare;
mod cost;
mod counters;
mod driver;
mod ear;
mod error;
mod event;
mod fanout;
mod followed;
mod latency;
mod limits;
mod members;
mod message;
mod pace;
mod plan;
mod plot;
mod proc;
mod progress;
mod publisher;
mod report;
mod rooms;
mod run;
mod scenario;
mod sdk;
mod stamp;
mod stream;
mod subscribers;
mod subscription;
mod sweep;
mod target;
#[cfg(test)]
mod test_server;
mod transcript;
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

use arguments::{Against, Arguments, Ceiling, Command, Output, Plan, Plot, Scenario};
use compare::Comparison;
use plot::Curve;
use sweep::{Sweep, Swept};

const CHECK_FAILED: u8 = 1;
const NOT_DONE: u8 = 3;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Load(scenario) => load(*scenario),
        Command::Ceiling(flags) => ceiling(&flags),
        Command::Plot(flags) => plot_files(&flags),
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

/// True: every check held.
fn load(scenario: Scenario) -> Result<bool, String> {
    let output = scenario.common().output();
    let against = checked(scenario.common().against());
    if let Scenario::Fanout(fanout) = &scenario
        && let Some(wanted) = &fanout.sweep
    {
        return sweep(wanted, &checked(fanout.plans(wanted)), &output);
    }
    let plan = checked(scenario.plan());
    match against {
        Some(against) => compare(&plan, &against, &output),
        None => run(&plan, &output),
    }
}

/// Wrong flags end the program.
fn checked<T>(plan: Result<T, String>) -> T {
    plan.unwrap_or_else(|why| {
        Arguments::command()
            .error(ErrorKind::ValueValidation, why)
            .exit()
    })
}

/// One run. True: every check held.
fn run(plan: &Plan, output: &Output) -> Result<bool, String> {
    let report = plan.run().map_err(|e| e.to_string())?;
    say(&report);
    write_json(output.json.as_deref(), || report.to_json())?;
    if let Some(folder) = &output.plots {
        plot::write_report(folder, &report).map_err(|e| cannot_write(folder, &e))?;
    }
    Ok(report.is_clean())
}

/// One run at each size. True: every check of every run held.
fn sweep(wanted: &Sweep, plans: &[(u32, plan::Plan)], output: &Output) -> Result<bool, String> {
    let mut swept = Swept {
        axis: wanted.axis,
        points: Vec::new(),
    };
    for (value, plan) in plans {
        let report = fanout::run(plan).map_err(|e| e.to_string())?;
        if !report.is_clean() {
            say(&report);
        }
        swept.points.push((*value, report));
    }
    say(&swept);
    let json = swept.to_json();
    write_json(output.json.as_deref(), || json.clone())?;
    if let Some(folder) = &output.plots
        && let Some((axis, curve)) = Curve::of_sweep("", &json)
    {
        plot::write_growth(folder, &axis, &[curve]).map_err(|e| cannot_write(folder, &e))?;
    }
    Ok(swept.is_clean())
}

/// True: this program kept to its own checks.
fn ceiling(flags: &Ceiling) -> Result<bool, String> {
    let ceiling = ceiling::run(&flags.plan()).map_err(|e| e.to_string())?;
    say(&ceiling);
    write_json(flags.json.as_deref(), || ceiling.to_json())?;
    Ok(ceiling.is_clean())
}

fn plot_files(flags: &Plot) -> Result<bool, String> {
    let mut axis = flags.axis.clone();
    let mut sweeps: Vec<Curve> = Vec::new();
    let mut runs = Curve {
        name: String::new(),
        points: Vec::new(),
    };
    for (name, file) in &flags.files {
        let json = read_json(file)?;
        if let Some((of_sweep, curve)) = Curve::of_sweep(name, &json) {
            axis = of_sweep;
            match sweeps.iter_mut().find(|other| other.name == *name) {
                Some(rounds) => rounds.merge(curve.points),
                None => sweeps.push(curve),
            }
        } else {
            let number = name.parse().map_err(|_| {
                format!(
                    "{} is a single run: {name} has to be a number",
                    file.display()
                )
            })?;
            runs.add(number, json);
        }
    }
    if !runs.points.is_empty() {
        sweeps.push(runs);
    }
    plot::write_growth(&flags.folder, &axis, &sweeps)
        .map_err(|e| cannot_write(&flags.folder, &e))?;
    Ok(true)
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
    write_json(output.json.as_deref(), || comparison.to_json())?;
    if let Some(folder) = &output.plots {
        plot::write_comparison(folder, &comparison).map_err(|e| cannot_write(folder, &e))?;
    }
    Ok(comparison.is_clean())
}

#[allow(clippy::print_stdout, reason = "the report is this program's output")]
fn say(what: &dyn Display) {
    print!("{what}");
}

fn write_json(file: Option<&Path>, json: impl FnOnce() -> Value) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(&json()).map_err(|e| e.to_string())?;
    fs::write(file, text + "\n").map_err(|e| cannot_write(file, &e))
}

fn read_json(file: &Path) -> Result<Value, String> {
    let cannot_read = |why: &dyn Display| format!("cannot read {}: {why}", file.display());
    let text = fs::read_to_string(file).map_err(|e| cannot_read(&e))?;
    serde_json::from_str(&text).map_err(|e| cannot_read(&e))
}

fn cannot_write(path: &Path, why: &io::Error) -> String {
    format!("cannot write {}: {why}", path.display())
}
