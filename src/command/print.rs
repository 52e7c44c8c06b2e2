//! `print`: files that a host needs, as they stand in `src/assets`; and what packages ship, made of the
//! command line itself.

use std::process::ExitCode;

use anyhow::bail;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use iii_stream::cli::Print;

use super::output::say;

/// Prints it.
pub(crate) fn print(what: Print, command: Command) -> anyhow::Result<ExitCode> {
    let text = match what {
        Print::Completions { shell } => return completions(shell, command),
        Print::Man { command: of } => return man(of.as_deref(), command),
        Print::Systemd => include_str!("../assets/iii-stream.service"),
        Print::Docker => include_str!("../assets/Dockerfile"),
        Print::Compose => include_str!("../assets/compose.yaml"),
        Print::Nginx => include_str!("../assets/nginx.conf"),
        Print::Caddy => include_str!("../assets/Caddyfile"),
        Print::Haproxy => include_str!("../assets/haproxy.cfg"),
        Print::Config => include_str!("../assets/config.yaml"),
        Print::Sysctl => include_str!("../assets/sysctl.conf"),
        Print::Grafana => include_str!("../assets/grafana.json"),
        Print::Alerts => include_str!("../assets/alerts.yaml"),
    };
    say(text)?;
    Ok(ExitCode::SUCCESS)
}

/// For a shell to read.
fn completions(shell: Shell, mut command: Command) -> anyhow::Result<ExitCode> {
    let mut out = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut out);
    say(&String::from_utf8(out)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of the program, or of one of its commands.
fn man(of: Option<&str>, mut command: Command) -> anyhow::Result<ExitCode> {
    command.build();
    let command = match of {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => bail!("{name:?} is no command"),
        },
    };
    say(&page(command)?)?;
    Ok(ExitCode::SUCCESS)
}

/// What stands behind the options is laid out by hand, and stays as it is.
fn page(command: Command) -> anyhow::Result<String> {
    let examples = command.get_after_help().map(ToString::to_string);
    let command = command.after_help("");
    let man = Man::new(command.clone());
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.get_subcommands().any(|it| !it.is_hide_set()) {
        man.render_subcommands_section(&mut out)?;
    }
    let mut page = String::from_utf8(out)?;
    if let Some(examples) = examples {
        page += ".SH NOTES\n.nf\n";
        for line in examples.lines() {
            // What begins with a dot would be a command of the formatter.
            let line = line.replace('\\', "\\e").replace('-', "\\-");
            page += &match line.starts_with(['.', '\'']) {
                true => format!("\\&{line}\n"),
                false => format!("{line}\n"),
            };
        }
        page += ".fi\n";
    }
    Ok(page)
}
