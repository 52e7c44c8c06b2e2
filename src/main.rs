//! The process: arguments → Config → Server::start → wait → exit code.

mod data;

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use anyhow::Context;
use clap::Parser;
use iii_stream::cli::{Cli, Command};
use iii_stream::config::{self, Config, Fault, Sources};
use iii_stream::server::{self, Options, Server};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

/// Clap ends the process itself: 0 after help and version, 2 on wrong arguments.
fn main() -> ExitCode {
    let cli = Cli::parse();
    let variable = |name: &str| std::env::var(name).ok();
    let read = |path: &std::path::Path| std::fs::read(path);
    let file = match &cli.command {
        Some(Command::Check { file, .. }) => file,
        _ => &cli.file,
    };
    let sources = Sources {
        config: file.config.clone(),
        engine: file.engine.clone(),
        namespace: file.namespace.clone(),
        expand_env: file.expand_env,
        default_config: cli.use_default_config,
        variable: &variable,
        read: &read,
    };
    match cli.command {
        Some(Command::Check { json, .. }) => or_fault(check(&sources, json)),
        Some(Command::Inspect { directory, json }) => or_fault(data::inspect(&directory, json)),
        Some(Command::Export {
            reference,
            data,
            skip,
        }) => or_fault(data::export(&data, &reference, skip)),
        Some(Command::Recover { data, yes }) => or_fault(data::recover(&data, yes)),
        None => match config::load(&sources) {
            Ok(config) => or_fault(serve(&config)),
            Err(faults) => {
                show(&faults);
                ExitCode::FAILURE
            }
        },
    }
}

/// An error is one line.
fn or_fault(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        complain(&line_of(&error));
        ExitCode::FAILURE
    })
}

/// The error and its causes, but for those that it names itself.
fn line_of(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// The command's own output. Who reads only its beginning is no error.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output")
        }
        _ => Ok(()),
    }
}

/// One line on stderr. Where that cannot be written, the exit code has to do.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Serves until a signal ends it. A second one ends it at once, as does one that comes while it starts.
fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    start_log();
    server::end_process_on_panic();
    // A file that reaches its limit is a write that fails, not the end of the process.
    let passed_over = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGXFSZ, passed_over).context("cannot take a signal")?;
    // Taken before the first thread starts, so that a signal that comes early is not lost.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot listen for signals")?;
    config
        .notices
        .iter()
        .for_each(|notice| tracing::info!("{notice}"));
    config
        .warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));
    let (tell, told) = channel();
    let serves = Arc::new(AtomicBool::new(false));
    let is_first = Arc::clone(&serves);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // While it starts nothing was promised to anybody, and whatever is being read stays as it is.
            if !is_first.swap(false, Ordering::AcqRel) || tell.send(()).is_err() {
                tracing::info!("ended at once");
                std::process::exit(0);
            }
        }
    });
    let options = Options {
        serves,
        ..Options::default()
    };
    let server = Server::start(config, options)?;
    told.recv().context("nobody listens for signals")?;
    tracing::info!(
        "ending: closing all sockets over {} ms; once more ends at once",
        config.drain_ms
    );
    server.drain();
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

/// Human lines on stderr, at `info` or as `RUST_LOG` says. A line that cannot be written, for its reader
/// is gone or its disk full, is lost, and nothing else.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let has_colour = std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(has_colour)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
}

fn check(sources: &Sources<'_>, json: bool) -> anyhow::Result<ExitCode> {
    let reading = config::read(sources);
    if json {
        say(&format!("{}\n", config::json(&reading)))?;
    } else {
        say(&config::human(&reading))?;
        show(&reading.faults);
        if reading.faults.is_empty() {
            for warning in &reading.config.warnings {
                complain(&format!("warning: {warning}"));
            }
        }
    }
    Ok(if reading.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn show(faults: &[Fault]) {
    for fault in faults {
        complain(&fault.to_string());
    }
}
