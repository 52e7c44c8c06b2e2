//! The process: arguments → Config → Server::start → wait → exit code.

mod command;
#[path = "main/logging.rs"]
mod logging;
#[path = "main/notify.rs"]
mod notify;
#[path = "main/reload.rs"]
mod reload;
#[path = "main/serve.rs"]
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use command::call::Call;
use command::doctor::Start;
use command::top::Top;
use command::watch::Watch;
use command::{Looks, complain, data, say};
use iii_stream::cli::{Cli, Command, OwnCertificate};
use iii_stream::config::{self, Fault, Sources};
use iii_stream::server;

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
                &looks(at.config, at.engine, at.header, Some(at.own)),
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
                &looks(at.config, address, at.header, Some(at.own)),
                &watch,
            ))
        }
        Some(Command::Health { at, timeout }) => {
            let looks = looks(at.config, at.stream, at.header, Some(at.own));
            or_fault(command::health::health(&looks, timeout))
        }
        Some(Command::Top {
            at,
            groups,
            sockets,
            rows,
            every,
            once,
            json,
            timeout,
        }) => {
            let top = Top {
                groups: &groups,
                sockets: &sockets,
                rows,
                every,
                once,
                json,
                within: timeout,
            };
            or_fault(command::top::top(
                &looks(at.config, at.admin, at.header, None),
                &top,
            ))
        }
        Some(Command::Print { what }) => or_fault(command::print::print(what, Cli::command())),
        Some(Command::Help { topic }) => or_fault(command::help::help(topic.as_deref())),
        Some(Command::Reload { pid, json, timeout }) => {
            or_fault(command::reload::reload(pid, json, timeout))
        }
        None | Some(Command::Serve { .. }) => {
            let reading = reload::read(&sources);
            if reading.faults.is_empty() {
                or_fault(serve::serve(&sources, reading))
            } else {
                show(&reading.faults);
                ExitCode::FAILURE
            }
        }
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
fn looks(
    config: Option<PathBuf>,
    address: Option<String>,
    headers: Vec<String>,
    own: Option<OwnCertificate>,
) -> Looks {
    Looks {
        config,
        address,
        headers,
        own: own.and_then(|own| own.cert.zip(own.key)),
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

fn check(sources: &Sources<'_>, json: bool) -> anyhow::Result<ExitCode> {
    let mut reading = reload::read(sources);
    // Of settings that are at fault the defaults are in force.
    if reading.faults.is_empty()
        && let Err(error) = server::check_cores(&reading.config)
    {
        reading.add_fault(error.to_string());
    }
    if reading.faults.is_empty()
        && let Err(error) = server::check_certificates(&reading.config)
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
        certificates: server::check_certificates(&reading.config)
            .map_err(|error| error.to_string()),
        writes: server::writes_of(&reading.config).map_err(|error| error.to_string()),
    };
    command::doctor::doctor(&reading, &start, json)
}

fn show(faults: &[Fault]) {
    for fault in faults {
        complain(&fault.to_string());
    }
}
