//! `reload`: has a server that runs on this machine read its settings again, and tells what came of it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use iii_stream::control::{Running, running};
use serde::Deserialize;

use super::output::{complain, name, say};

#[derive(Deserialize)]
struct Outcome {
    ok: bool,
    in_force: Vec<String>,
    not_in_force: Vec<String>,
    faults: Vec<String>,
}

/// Exit code 1: nothing was changed, or nobody was found.
pub(crate) fn reload(pid: Option<i32>, json: bool, within: Duration) -> anyhow::Result<ExitCode> {
    let all = running().context("cannot list the servers that run here")?;
    let server = pick(&all, pid)?;
    let answer = server.ask("reload", within).with_context(|| {
        format!(
            "process {} has not answered, or not within {within:?}",
            server.pid
        )
    })?;
    let Some(answer) = answer else {
        bail!(
            "process {} answers its own user and root only: run this as one of them",
            server.pid
        );
    };
    let outcome: Outcome = serde_json::from_str(&answer).context("the server's answer")?;
    if json {
        say(&format!("{answer}\n"))?;
    } else {
        say(&told(&outcome))?;
    }
    for fault in &outcome.faults {
        complain(fault);
    }
    Ok(match outcome.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn told(outcome: &Outcome) -> String {
    let mut lines = String::new();
    for line in &outcome.in_force {
        lines += &format!("in force: {line}\n");
    }
    for line in &outcome.not_in_force {
        lines += &format!("not in force: {line}\n");
    }
    match (outcome.ok, lines.is_empty()) {
        (true, true) => "nothing has changed\n".to_owned(),
        (false, _) => "nothing is changed\n".to_owned(),
        _ => lines,
    }
}

/// The one that is meant: the only one, unless a process is named.
fn pick(all: &[Running], pid: Option<i32>) -> anyhow::Result<&Running> {
    let is_meant = |server: &&Running| pid.is_none_or(|pid| server.pid == pid);
    let meant: Vec<&Running> = all.iter().filter(is_meant).collect();
    match (&meant[..], pid) {
        ([server], _) => Ok(server),
        ([], None) => bail!("no server runs on this machine: start one (iii-stream)"),
        ([], Some(pid)) => bail!("process {pid} is no server that runs on this machine"),
        (_, Some(pid)) => bail!("several servers are process {pid}, in containers: ask in one"),
        (_, None) => {
            let each = meant.iter();
            let each: Vec<String> = each
                .map(|server| format!("{} (ws://{})", server.pid, name(&server.place)))
                .collect();
            bail!(
                "several servers run here: name one with --pid: {}",
                each.join(", ")
            )
        }
    }
}
