//! The commands about a directory of kept values: what they print, and their exit codes.
//!
//! May not decide what is damaged or how it is saved; `store::files` does.

use std::path::Path;
use std::process::ExitCode;

use iii_stream::notes::counted;
use iii_stream::store::files::{self, Report};
use serde_json::json;

use super::{complain, say};

/// `inspect DIR [--json]`.
pub(crate) fn inspect(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = files::inspect(directory)?;
    if json {
        say(&format!("{}\n", as_json(&report)))?;
    } else {
        say(&shown(&report))?;
    }
    Ok(code(report.is_healthy()))
}

/// `export --reference OUT [--data DIR] [--skip]`.
pub(crate) fn export(data: &Path, out: &Path, skip: bool) -> anyhow::Result<ExitCode> {
    let exported = files::export(data, out, skip)?;
    for group in &exported.left_out {
        complain(&format!("left out: {group}"));
    }
    say(&format!(
        "{}: {} with {} written\n",
        out.display(),
        counted(exported.groups, "group"),
        counted(exported.items, "item")
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `recover --data DIR [--yes]`.
pub(crate) fn recover(data: &Path, does: bool) -> anyhow::Result<ExitCode> {
    let report = files::recover(data, does)?;
    let outcome = match (report.is_healthy(), does) {
        (true, true) if !report.aside.is_empty() => "recovered before; the rest was moved aside",
        (true, _) => "nothing is damaged: nothing to do",
        (false, true) => "recovered: what is whole was kept, the rest moved aside",
        (false, false) => {
            "with --yes what is whole is kept, and the rest moved aside; nothing was changed"
        }
    };
    say(&format!("{}{outcome}\n", shown(&report)))?;
    Ok(code(report.is_healthy() || does))
}

fn shown(report: &Report) -> String {
    if report.engine_files > 0 {
        let files = match report.engine_files {
            1 => "1 file".to_owned(),
            files => format!("{files} files"),
        };
        let mut text = format!("engine      {files} of an engine, not taken over yet\n");
        for fault in &report.faults {
            text += &format!("damaged     {}: {}\n", fault.name, fault.what);
        }
        return text;
    }
    let mut text = format!(
        "groups      {}\nitems       {}\nitem bytes  {}\nlog         {} bytes, last write {}\nsnapshot    {} bytes\n",
        report.groups,
        report.items,
        report.bytes,
        report.log_bytes,
        report.last_sequence,
        report.snapshot_bytes
    );
    if let Some((name, offset, bytes)) = &report.torn {
        text += &format!(
            "cut off     {name}: {bytes} bytes from byte {offset} are not whole; a start keeps them aside\n"
        );
    }
    for loss in &report.losses {
        text += &format!(
            "damaged     {}: {} bytes at byte {}\n",
            loss.name, loss.bytes, loss.offset
        );
    }
    for lack in &report.lacking {
        text += &match lack.to {
            Some(to) if to == lack.from => format!("missing     write {to}: "),
            Some(to) => format!("missing     writes {} to {to}: ", lack.from),
            None => format!("missing     all writes from {} on: ", lack.from),
        };
        text += "the items that they changed are older, or still there, or not there yet\n";
    }
    for name in &report.strangers {
        text += &format!("other       {name}: of another store or another log, and left out\n");
    }
    for name in &report.aside {
        text += &format!("superseded  {name}: does not count any more; a start keeps it aside\n");
    }
    text
}

fn as_json(report: &Report) -> serde_json::Value {
    let torn = report.torn.as_ref();
    let losses = report.losses.iter();
    let faults = report.faults.iter();
    json!({
        "healthy": report.is_healthy(),
        "store": report.store,
        "engine_files": report.engine_files,
        "groups": report.groups,
        "items": report.items,
        "item_bytes": report.bytes,
        "last_write": report.last_sequence,
        "log_bytes": report.log_bytes,
        "snapshot_bytes": report.snapshot_bytes,
        "torn": torn.map(|(name, offset, bytes)| json!({"file": name, "offset": offset, "bytes": bytes})),
        "missing_writes": report.lacking.iter()
            .map(|lack| json!({"from": lack.from, "to": lack.to}))
            .collect::<Vec<_>>(),
        "other_files": report.strangers,
        "superseded_files": report.aside,
        "damaged": losses
            .map(|loss| json!({"file": loss.name, "offset": loss.offset, "bytes": loss.bytes}))
            .chain(faults.map(|fault| json!({"file": fault.name, "what": fault.what})))
            .collect::<Vec<_>>(),
    })
}

fn code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
