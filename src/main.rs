//! The process: arguments → Config → Server::start → wait → exit code.

use std::process::ExitCode;

use clap::Parser;
use iii_stream::cli::{Cli, Command};
use iii_stream::config::{self, Config, Fault, Sources};

/// Clap ends the process itself: 0 after help and version, 2 on wrong arguments.
fn main() -> ExitCode {
    let cli = Cli::parse();
    let variable = |name: &str| std::env::var(name).ok();
    let read = |path: &std::path::Path| std::fs::read(path);
    let mut sources = Sources {
        config: cli.file.config,
        engine: cli.engine,
        default_config: cli.use_default_config,
        variable: &variable,
        read: &read,
    };
    match cli.command {
        Some(Command::Check { file, json }) => {
            sources.config = file.config;
            check(&sources, json)
        }
        None => match config::load(&sources) {
            Ok(config) => serve(config).unwrap_or_else(|error| {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }),
            Err(faults) => {
                show(&faults);
                ExitCode::FAILURE
            }
        },
    }
}

/// Serves until a signal ends it.
fn serve(_config: Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

#[allow(clippy::print_stdout, reason = "the command's own output")]
fn check(sources: &Sources<'_>, json: bool) -> ExitCode {
    let reading = config::read(sources);
    if json {
        println!("{}", config::json(&reading));
    } else {
        print!("{}", config::human(&reading));
        show(&reading.faults);
        if reading.faults.is_empty() {
            reading
                .config
                .warnings
                .iter()
                .for_each(|warning| eprintln!("warning: {warning}"));
        }
    }
    if reading.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn show(faults: &[Fault]) {
    for fault in faults {
        eprintln!("{fault}");
    }
}
