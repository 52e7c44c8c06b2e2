//! The command line: what may be said, and the help that says it. Decides nothing.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

/// Our version, and that of the engine that we stand in for.
const SPEAKS: &str = concat!(env!("CARGO_PKG_VERSION"), " (speaks iii 0.11.6-next.3)");
/// Our version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const EXAMPLES: &str = "\
Examples:
  iii-stream                       serve ./config.yaml if it is there, else the defaults
  iii-stream -c config.yaml        serve an engine's whole config.yaml
  iii-stream --engine ws://127.0.0.1:49134
                                   serve the streams of a running engine, as its worker
  iii-stream check -c config.yaml  show every setting and where it came from; serve nothing
  iii-stream check --json | jq .settings
  iii-stream inspect ./data/stream_store
                                   what is kept there: groups, items, sizes, damage

Ports (defaults):
  3112   stream port: subscribers connect with a WebSocket, ws://127.0.0.1:3112/
  49134  worker port: SDK workers connect, ws://127.0.0.1:49134; not when there is an engine

Settings:
  In the file, under the entry `name: iii-stream`: `config` holds what an iii engine reads too
  (port, host, auth_function, adapter), `server` what is ours (engine, threads, pin, backlog,
  auth_failure, auth_timeout_ms, join_required, join_failure, allowed_origins,
  worker_origins, call_timeout_ms, drain_ms, redis, limits). `iii-stream check` lists them all.
  ${NAME:default} in the file is filled in from the environment.

Variables, as an engine gives them; a flag wins over each:
  III_STREAM_CONFIG, III_CONFIG    stand for --config; the second names one worker's config
  III_URL, III_ENGINE_URL          stand for --engine, unless a whole file says what to serve
  III_WORKER_NAME, III_NAMESPACE   how the engine is to list this server

Log:
  On stderr. RUST_LOG=debug shows who connects, joins, leaves, registers and is refused;
  RUST_LOG=warn only what is wrong. Lines that nobody reads in time are lost and counted.

Signals:
  SIGTERM, SIGINT: close all sockets and end; a second one ends at once. SIGHUP: taken, nothing is
  read again yet. SIGUSR1, SIGUSR2: passed over.

Exit codes:
  0   stopped by SIGTERM or SIGINT; check found no fault; the command did its work
  1   the start failed, each fault one line on stderr; check found a fault, inspect or recover damage
  2   wrong arguments
  70  something broke while serving; start it again";

const INSPECT: &str = "\
Examples:
  iii-stream inspect ./data/stream_store
  iii-stream inspect ./data/stream_store --json | jq .items

Exit codes: 0 a server would start on it, 1 it would not, or there is nothing";

const EXPORT: &str = "\
Examples:
  iii-stream export --reference ./data/engine_store
  iii-stream export --reference /tmp/out --data ./data/stream_store --skip

Then name the directory in the engine's config: adapter: {name: kv, config: {store_method:
file_based, file_path: ./data/engine_store}}. An engine cannot keep: stream and group names of more
than 235 bytes together, escaped; two groups whose names joined by a colon are equal; values deeper
than 126, numbers beyond a double.

Exit codes: 0 written, 1 not: nothing was written, each reason is one line";

const RECOVER: &str = "\
Examples:
  iii-stream recover --data ./data/stream_store        what would be saved, and what is lost
  iii-stream recover --data ./data/stream_store --yes  do it; then start the server

What is moved aside ends in .damaged (our files), .other (files of another store) or .refused (files
of an engine). It also says which writes are missing: items that they changed are older then.

Exit codes: 0 nothing is damaged, or it was recovered; 1 damaged and left as it is";

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
