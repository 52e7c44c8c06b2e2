//! The commands about a directory of kept values: what they print, and their exit codes.
//!
//! May not decide what is damaged or how it is saved; `store::files` does.

use std::path::Path;
use std::process::ExitCode;

use iii_stream::store::files::{self, Report};
use serde_json::json;

use crate::say;

/// `inspect DIR [--json]`.
pub(crate) fn inspect(directory: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let report = files::inspect(directory)?;
    if json {
        say(as_json(&report));
    } else {
        show(&report);
    }
    Ok(code(report.is_healthy()))
}

/// `export --reference OUT [--data DIR] [--skip]`.
pub(crate) fn export(data: &Path, out: &Path, skip: bool) -> anyhow::Result<ExitCode> {
    let exported = files::export(data, out, skip)?;
    for group in &exported.left_out {
        eprintln!("left out: {group}");
    }
    say(format_args!(
        "{}: {} groups with {} items written",
        out.display(),
        exported.groups,
        exported.items
    ));
    Ok(ExitCode::SUCCESS)
}

/// `recover --data DIR [--yes]`.
pub(crate) fn recover(data: &Path, does: bool) -> anyhow::Result<ExitCode> {
    let report = files::recover(data, does)?;
    show(&report);
    let outcome = match (report.is_healthy(), does) {
        (true, _) => "nothing is damaged: nothing to do",
        (false, true) => "recovered: what is whole was kept, the rest moved aside",
        (false, false) => {
            "with --yes what is whole is kept, and the rest moved aside; nothing was changed"
        }
    };
    say(outcome);
    Ok(code(report.is_healthy() || does))
}

fn show(report: &Report) {
    say(format_args!("groups      {}", report.groups));
    say(format_args!("items       {}", report.items));
    say(format_args!("item bytes  {}", report.bytes));
    say(format_args!(
        "log         {} bytes, to write {}",
        report.log_bytes, report.last_sequence
    ));
    say(format_args!("snapshot    {} bytes", report.snapshot_bytes));
    if let Some((name, offset, bytes)) = &report.torn {
        say(format_args!(
            "cut off     {name}: {bytes} bytes from byte {offset} are not whole; a start keeps them aside"
        ));
    }
    for loss in &report.losses {
        say(format_args!(
            "damaged     {}: {} bytes at byte {}",
            loss.name, loss.bytes, loss.offset
        ));
    }
    for fault in &report.faults {
        say(format_args!("damaged     {}: {}", fault.name, fault.what));
    }
}

fn as_json(report: &Report) -> serde_json::Value {
    let torn = report.torn.as_ref();
    let losses = report.losses.iter();
    let faults = report.faults.iter();
    json!({
        "healthy": report.is_healthy(),
        "groups": report.groups,
        "items": report.items,
        "item_bytes": report.bytes,
        "last_write": report.last_sequence,
        "log_bytes": report.log_bytes,
        "snapshot_bytes": report.snapshot_bytes,
        "torn": torn.map(|(name, offset, bytes)| json!({"file": name, "offset": offset, "bytes": bytes})),
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
