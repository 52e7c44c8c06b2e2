//! The process: arguments → Config → Server::start → wait → exit code.

mod command;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use command::call::Call;
use command::doctor::Start;
use command::watch::Watch;
use command::{Looks, complain, data, say};
use iii_stream::cli::{self, Cli, Command, Print};
use iii_stream::config::{self, Config, Fault, Sources};
use iii_stream::log::{self, Lines, counted};
use iii_stream::server::{self, Options, Server};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

/// Clap ends the process itself: 0 after help and version, 2 on wrong arguments.
fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| wrong_arguments(&error));
    let variable = |name: &str| std::env::var(name).ok();
    let read = |path: &std::path::Path| std::fs::read(path);
    let (file, default_config) = match &cli.command {
        Some(Command::Check { file, .. } | Command::Doctor { file, .. }) => (file, false),
        Some(Command::Serve {
            file,
            use_default_config,
        }) => (file, *use_default_config),
        _ => (&cli.file, cli.use_default_config),
    };
    let sources = Sources {
        config: file.config.clone(),
        engine: file.engine.clone(),
        namespace: file.namespace.clone(),
        expand_env: file.expand_env,
        default_config,
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
        Some(Command::Doctor { json, .. }) => or_fault(doctor(&sources, json)),
        Some(Command::Call {
            at,
            function,
            input,
            namespace,
            timeout,
        }) => {
            let asked = Call {
                function: &function,
                input: &input,
                namespace: namespace.as_deref(),
                within: timeout,
            };
            or_fault(command::call::call(
                &looks(at.config, at.engine, at.header),
                &asked,
            ))
        }
        Some(Command::Watch {
            at,
            engine,
            name,
            group,
            item,
            json,
            count,
            timeout,
        }) => {
            if group.is_none() && at.stream.is_some() {
                let what = "a whole stream is heard through the worker port: name a GROUP, or give --engine in place of --stream";
                let kind = clap::error::ErrorKind::ArgumentConflict;
                Cli::command().error(kind, what).exit();
            }
            let watch = Watch {
                stream: &name,
                group: group.as_deref(),
                item: item.as_deref(),
                json,
                count,
                within: timeout,
            };
            let address = at.stream.or(engine);
            or_fault(command::watch::watch(
                &looks(at.config, address, at.header),
                &watch,
            ))
        }
        Some(Command::Health { at, timeout }) => {
            let looks = looks(at.config, at.stream, at.header);
            or_fault(command::health::health(&looks, timeout))
        }
        Some(Command::Print { what }) => or_fault(match what {
            Print::Completions { shell } => command::print::completions(shell, Cli::command()),
            Print::Man { command } => command::print::man(command.as_deref(), Cli::command()),
        }),
        None | Some(Command::Serve { .. }) => match config::load(&sources) {
            Ok(mut config) => {
                let lowered = server::fit_open_files(&mut config);
                config.warnings.extend(lowered);
                or_fault(serve(&config))
            }
            Err(faults) => {
                show(&faults);
                ExitCode::FAILURE
            }
        },
    }
}

/// Ends the process. An address among the arguments may hold a password, and a message quotes what it
/// does not understand.
fn wrong_arguments(error: &clap::Error) -> ! {
    let arguments = std::env::args_os().skip(1);
    let texts: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .filter(|text| text.contains("://"))
        .collect();
    if texts.is_empty() || !error.use_stderr() {
        error.exit();
    }
    let mut message = error.to_string();
    for text in texts {
        message = message.replace(&text, &config::without_secrets(&text));
    }
    complain(message.trim_end());
    std::process::exit(error.exit_code())
}

/// Where a command looks for a server.
fn looks(config: Option<PathBuf>, address: Option<String>, headers: Vec<String>) -> Looks {
    Looks {
        config,
        address,
        headers,
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

/// Serves until a signal ends it. A second one ends it at once, as does one that comes while it starts.
fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    start_log().context("cannot start a thread for the log")?;
    server::end_process_on_panic();
    // Taken before the next thread starts, so that a signal that comes early is not lost.
    let signals = signals().context("cannot listen for signals")?;
    match &config.file {
        Some(file) => tracing::info!("iii-stream {} starts with {file}", cli::VERSION),
        None => tracing::info!("iii-stream {} starts with no config file", cli::VERSION),
    }
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
    std::thread::spawn(move || hear_signals(signals, &is_first, &tell));
    let options = Options {
        serves,
        ..Options::default()
    };
    let server = Server::start(config, options)?;
    let signal = told.recv().context("nobody listens for signals")?;
    tracing::info!(
        "{signal}: closing {} within {:?}, calls under way have {:?}; a second signal ends at once",
        counted(server.sockets_len(), "socket"),
        server.drain_for(),
        Duration::from_millis(config.drain_ms)
    );
    server.drain();
    tracing::info!("ended");
    log::flush();
    Ok(ExitCode::SUCCESS)
}

/// Takes those that mean something here. Those that others send to have logs or settings read again,
/// or to be told something, would end the process by default; a file that reaches its limit is a write
/// that fails. Signals that stop a process, dump it or limit its time stay what they are.
fn signals() -> std::io::Result<Signals> {
    let passed_over = Arc::new(AtomicBool::new(false));
    for signal in [SIGXFSZ, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::clone(&passed_over))?;
    }
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

/// The thread's life.
fn hear_signals(mut signals: Signals, is_first: &AtomicBool, tell: &Sender<&'static str>) {
    for signal in signals.forever() {
        let name = match signal {
            SIGHUP => {
                tracing::info!(
                    "SIGHUP: nothing is read again yet; a change of the settings takes a restart"
                );
                continue;
            }
            SIGINT => "SIGINT",
            _ => "SIGTERM",
        };
        // While it starts nothing was promised to anybody, and whatever is being read stays as it is.
        if !is_first.swap(false, Ordering::AcqRel) || tell.send(name).is_err() {
            tracing::info!("{name}: ended at once");
            log::end_process(0);
        }
    }
}

/// Human lines on stderr, at `info` or as `RUST_LOG` says. Nobody waits for whoever reads them.
fn start_log() -> std::io::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let has_colour = std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal();
    let lines = Lines::start(std::io::stderr(), |lost| {
        tracing::warn!(
            "{} of the log were lost: nobody read them in time",
            counted(lost as usize, "line")
        );
    })?;
    lines.install();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(has_colour)
        .with_writer(move || lines.clone())
        .log_internal_errors(false)
        .init();
    Ok(())
}

fn check(sources: &Sources<'_>, json: bool) -> anyhow::Result<ExitCode> {
    let mut reading = config::read(sources);
    reading.fit(server::fit_open_files);
    // Of settings that are at fault the defaults are in force.
    if reading.faults.is_empty()
        && let Err(error) = server::check_cores(&reading.config)
    {
        reading.add_fault(error.to_string());
    }
    if json {
        say(&format!("{}\n", config::json(&reading)))?;
    } else {
        say(&config::human(&reading))?;
        show(&reading.faults);
        if reading.faults.is_empty() {
            for notice in &reading.config.notices {
                complain(&format!("note: {notice}"));
            }
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

fn doctor(sources: &Sources<'_>, json: bool) -> anyhow::Result<ExitCode> {
    let mut reading = config::read(sources);
    // Before the settings are lowered to it: the doctor says so in words of its own.
    let wanted = reading.config.limits.connections;
    let open_files = server::fit_open_files(&mut reading.config);
    let start = Start {
        wanted,
        open_files,
        cores: server::cores_of(&reading.config).map_err(|error| error.to_string()),
    };
    command::doctor::doctor(&reading, &start, json)
}

fn show(faults: &[Fault]) {
    for fault in faults {
        complain(&fault.to_string());
    }
}
