//! The command line: what may be said. Decides nothing.
//!
//! `ports` has what the commands are told of where to look, `texts` what their help says beside.

mod ports;
mod texts;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config;

pub use ports::{AdminPort, OwnCertificate, StreamPort, WorkerPort};
use texts::{CALL, DOCTOR, EXAMPLES, EXPORT, HEALTH, INSPECT, PRINT, RECOVER, RELOAD, TOP, WATCH};

/// Our version, and that of the engine that we stand in for.
const SPEAKS: &str = concat!(env!("CARGO_PKG_VERSION"), " (speaks iii 0.11.6-next.3)");
/// Our version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Real-time streams and presence for very many subscribers: a drop-in server for the streams
/// worker of an iii engine.
#[derive(Debug, Parser)]
#[command(name = "iii-stream", version = SPEAKS, after_help = EXAMPLES)]
#[command(disable_version_flag = true, disable_help_subcommand = true)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do other than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to serve.
    #[command(flatten)]
    pub file: FileArgs,
    /// Read no file, also if ./config.yaml is there
    #[arg(long, conflicts_with = "config")]
    pub use_default_config: bool,
    /// Taken for the sake of an engine's start scripts; without effect
    #[arg(long, hide = true)]
    pub no_update_check: bool,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// Which file, and whose.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The file to serve: an engine's config.yaml, or one worker's config as an engine hands it over
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Attach to the engine at this address, ws:// or wss://, instead of being one
    #[arg(long, visible_alias = "url", value_name = "URL")]
    pub engine: Option<String>,
    /// The namespace of that engine in which to be listed
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Fill in ${NAME:default} also where an engine has done it: in one worker's config
    #[arg(long)]
    pub expand_env: bool,
}

/// What to do other than to serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is done without any command
    #[command(hide = true)]
    Serve {
        /// What to serve.
        #[command(flatten)]
        file: FileArgs,
        /// Read no file, also if ./config.yaml is there
        #[arg(long, conflicts_with = "config")]
        use_default_config: bool,
    },
    /// Read everything, show every setting and where it came from, open nothing
    Check {
        /// What to read.
        #[command(flatten)]
        file: FileArgs,
        /// One JSON object in place of lines
        #[arg(long)]
        json: bool,
    },
    /// Show what is kept in a directory; change nothing
    ///
    /// Groups, items and sizes, how far the log has come, and whether a server would start on it. One
    /// may be running: then the end of the log may show as not whole.
    #[command(after_help = INSPECT)]
    Inspect {
        /// A directory that the file store keeps: `file_path` in the config file
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// One JSON object in place of lines
        #[arg(long)]
        json: bool,
    },
    /// Write the files that an iii engine keeps, so that one can go on with the same values
    ///
    /// Stop this server first; do not start the engine before it is done.
    #[command(after_help = EXPORT)]
    Export {
        /// Where to write them: a directory that is empty, or not there yet
        #[arg(long, value_name = "OUT")]
        reference: PathBuf,
        /// What to write: a directory that the file store keeps
        #[arg(long, value_name = "DIR", default_value = "./data/stream_store")]
        data: PathBuf,
        /// Leave out the groups that an engine could not read; else one of them stops it
        #[arg(long)]
        skip: bool,
    },
    /// Save what can be saved of a directory on which the start has failed
    ///
    /// Without --yes it only says what it would do. With it, what is whole is written anew, and what
    /// was there is moved aside. Nothing is deleted.
    #[command(after_help = RECOVER)]
    Recover {
        /// The directory that the start has named
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Call a function through the worker port, as an SDK does; print its result
    #[command(after_help = CALL)]
    Call {
        /// Where the worker port is.
        #[command(flatten)]
        at: WorkerPort,
        /// As stream::get, or a function of a worker
        #[arg(value_name = "FUNCTION")]
        function: String,
        /// What it gets: JSON, or - for standard input; without it {}
        #[arg(value_name = "JSON", default_value = "{}", hide_default_value = true)]
        input: String,
        /// The namespace in which the function is looked for first
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        /// How long to wait for the answer
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
        timeout: Duration,
    },
    /// Print what a subscriber is told, a line each, until Ctrl-C
    #[command(after_help = WATCH)]
    Watch {
        /// Where the stream port is.
        #[command(flatten)]
        at: StreamPort,
        /// Where the worker port is; for a whole stream
        #[arg(long, visible_alias = "url", value_name = "URL", conflicts_with_all = ["stream", "group"])]
        engine: Option<String>,
        /// The stream
        #[arg(value_name = "STREAM")]
        name: String,
        /// One of its groups; without it all
        #[arg(value_name = "GROUP")]
        group: Option<String>,
        /// One item of the group; without it all
        #[arg(value_name = "ITEM")]
        item: Option<String>,
        /// Frames as JSON, one a line, in place of lines for people
        #[arg(long)]
        json: bool,
        /// End after so many
        #[arg(short = 'n', long, value_name = "NUMBER")]
        count: Option<u64>,
        /// How long a connection may take
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
        timeout: Duration,
    },
    /// Ask the stream port whether the server is there, for containers and scripts
    #[command(after_help = HEALTH)]
    Health {
        /// Where the stream port is.
        #[command(flatten)]
        at: StreamPort,
        /// How long to wait for the answer
        #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
        timeout: Duration,
    },
    /// Show what a server does: rates, times, hottest groups, slowest sockets and why
    #[command(after_help = TOP)]
    Top {
        /// Where the admin port is.
        #[command(flatten)]
        at: AdminPort,
        /// What comes first among groups: events, pace, subscribers or bytes
        #[arg(long, value_name = "KEY", default_value = "pace", value_parser = ["events", "pace", "subscribers", "bytes"])]
        groups: String,
        /// What comes first among sockets: behind, oldest, bytes or subscriptions
        #[arg(long, value_name = "KEY", default_value = "behind", value_parser = ["behind", "oldest", "bytes", "subscriptions"])]
        sockets: String,
        /// Rows of each
        #[arg(short = 'n', long, value_name = "NUMBER", default_value = "10", value_parser = clap::value_parser!(u16).range(1..=200))]
        rows: u16,
        /// How often it is looked anew
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
        every: Duration,
        /// Look once, without moving the cursor
        #[arg(long)]
        once: bool,
        /// One JSON object for each look, a line each
        #[arg(long)]
        json: bool,
        /// How long to wait for an answer
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
        timeout: Duration,
    },
    /// Look whether this machine suits the settings, and say what to do; change nothing
    #[command(after_help = DOCTOR)]
    Doctor {
        /// What to read.
        #[command(flatten)]
        file: FileArgs,
        /// One JSON object in place of lines
        #[arg(long)]
        json: bool,
    },
    /// Have a server that runs on this machine read its settings again; tell what takes effect
    #[command(after_help = RELOAD)]
    Reload {
        /// Which one, by its process, where several run
        #[arg(long, value_name = "PID")]
        pid: Option<i32>,
        /// One JSON object in place of lines
        #[arg(long)]
        json: bool,
        /// How long to wait for the answer
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
        timeout: Duration,
    },
    /// Print a file that a host needs: a unit, a container, a proxy, the settings, a dashboard
    #[command(after_help = PRINT)]
    Print {
        /// What.
        #[command(subcommand)]
        what: Print,
    },
    /// Print a page about one topic; without a topic, list them
    Help {
        /// As config, durability or limits
        #[arg(value_name = "TOPIC")]
        topic: Option<String>,
    },
}

/// What packages ship.
#[derive(Debug, Subcommand)]
pub enum Print {
    /// For a shell to complete our command line
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// A manual page, for man
    Man {
        /// Of which command; without it of the program
        command: Option<String>,
    },
    /// A unit of systemd, with its sandbox
    Systemd,
    /// A Dockerfile
    Docker,
    /// A file for docker compose, with Redis
    Compose,
    /// The part of an nginx in front
    Nginx,
    /// The same of a Caddy
    Caddy,
    /// The same of a HAProxy
    Haproxy,
    /// A config file with every setting
    Config,
    /// What of the kernel to set for many subscribers
    Sysctl,
    /// A dashboard of Grafana
    Grafana,
    /// Rules by which Prometheus raises alerts
    Alerts,
}

/// `5s`. A bare number could be taken for seconds, or for milliseconds as in the file.
fn time(text: &str) -> Result<Duration, String> {
    let time = config::duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected a time with its unit, as 500ms, 5s or 2min".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_holds_together() {
        Cli::command().debug_assert();
        assert!(SPEAKS.contains(crate::config::ENGINE_VERSION));
        let is_listed = |key: &str| {
            let mut words = EXAMPLES.split(|char: char| !char.is_alphanumeric() && char != '_');
            words.any(|word| word == key)
        };
        for key in crate::config::KEYS_OF_SERVER {
            assert!(is_listed(key), "{key}");
        }
    }
}
