//! The command line: what may be said, and the help that says it. Decides nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config;

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
  iii-stream doctor                whether this machine suits the settings, and what to do
  iii-stream watch chat room-1     what a subscriber of that group is told, a line each
  iii-stream top                   rates, times, hottest groups, slowest sockets and why
  iii-stream call engine::functions::list
                                   one call, as an SDK makes it
  iii-stream help durability       a page about one topic; iii-stream help lists them

Ports (defaults):
  3112   stream port: subscribers connect with a WebSocket, ws://127.0.0.1:3112/
  9464   admin port, on 127.0.0.1: /health, /ready, /metrics, /admin/…; server.admin
  49134  worker port: SDK workers connect, ws://127.0.0.1:49134; not when there is an engine

Settings:
  In the file, under the entry `name: iii-stream`: `config` holds what an iii engine reads too
  (port, host, auth_function, adapter), `server` what is ours (engine, threads, pin, place_below,
  backlog, auth_failure, auth_timeout_ms, join_required, join_failure, streams, allowed_origins,
  worker_origins, trusted_proxies, tls, worker_tls, acme_webroot, acme_port, call_timeout_ms,
  drain_ms, log, ping_interval_ms, pong_timeout_ms, stall_timeout_ms, redis, limits).
  `iii-stream check` lists them all.
  ${NAME:default} in the file is filled in from the environment.

Variables, as an engine gives them; a flag wins over each:
  III_STREAM_CONFIG, III_CONFIG    stand for --config; the second names one worker's config
  III_URL, III_ENGINE_URL          stand for --engine, unless a whole file says what to serve
  III_WORKER_NAME, III_NAMESPACE   how the engine is to list this server

Log:
  On stderr. RUST_LOG=debug shows who connects, joins, leaves, registers and is refused;
  RUST_LOG=warn only what is wrong; it wins over server.log.level. Lines that nobody reads in time are lost and counted.

Signals:
  SIGTERM, SIGINT: close all sockets and end; a second one ends at once. SIGHUP: read the settings
  again, as `iii-stream reload` does. SIGUSR1, SIGUSR2: passed over.

Exit codes:
  0   stopped by SIGTERM or SIGINT; check found no fault; the command did its work
  1   the start failed, each fault one line on stderr; check or doctor found a fault, inspect or
      recover damage; call got an error; nothing listens where call, watch or health looked
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

const CALL: &str = "\
Examples:
  iii-stream call stream::set '{\"stream_name\":\"chat\",\"group_id\":\"room-1\",\"item_id\":\"ada\",\"data\":{\"n\":1}}'
  iii-stream call stream::list '{\"stream_name\":\"chat\",\"group_id\":\"room-1\"}' | jq .
  iii-stream call my::function - < input.json
  iii-stream call --engine wss://engine.example/ -H 'Authorization: Bearer …' my::function

The result is one line of JSON on stdout, an error one line on stderr.

Exit codes: 0 there is a result, 1 an error, no answer in time, or nothing listens there, 2 wrong
arguments, or what the function is to get is no JSON";

const WATCH: &str = "\
Examples:
  iii-stream watch chat room-1                  sync, create, update, delete, event
  iii-stream watch chat room-1 ada              one item
  iii-stream watch chat                         changes in all groups, without a sync
  iii-stream watch chat room-1 --json | jq .event
  iii-stream watch chat room-1 --count 1        what is there now

Names and values are escaped, so that none breaks a line or a terminal. A server that goes is tried
again, 0.2 to 5 s apart, and stderr says so. A whole stream is heard through the worker port, by a
`stream` trigger; a group and an item on the stream port.

Exit codes: 0 ended by Ctrl-C, SIGTERM, --count or a reader that is gone, 1 nothing listens there or
the subscription is refused, 2 wrong arguments";

const HEALTH: &str = "\
Examples:
  iii-stream health
  iii-stream health --stream ws://127.0.0.1:3112
  HEALTHCHECK CMD [\"iii-stream\", \"health\"]        in a Dockerfile

It asks for /health on the stream port, as a load balancer may.

Exit codes: 0 it answers, 1 it does not, or not in time, 2 wrong arguments";

const TOP: &str = "\
Examples:
  iii-stream top
  iii-stream top --once --sockets behind -n 3
  iii-stream top --once --json | jq .sockets.sockets[0].why
  iii-stream top --admin http://127.0.0.1:9464

It asks the admin port (server.admin). Ctrl-C ends it.

Exit codes: 0 looked, 1 nothing listens there, or not for you, 2 wrong arguments";

const DOCTOR: &str = "\
Looked at: the settings; open files; backlog and connections that it has lost; ports; memory of TCP
and of this process; cores, quota, neighbours; clock; the disk of the file store (a small file is
written, synced and removed); Redis. Nothing is changed.

Each line begins with ok, warning (may hurt), bad (will hurt) or unknown (could not be looked at).
Run it as the user, and under the limits, of the server: as a unit of systemd, or in its container.

Examples:
  iii-stream doctor -c config.yaml
  iii-stream doctor --json | jq '.checks[] | select(.state != \"ok\")'

Exit codes: 0 nothing is bad, 1 something is, 2 wrong arguments";

const PRINT: &str = "\
Examples:
  iii-stream print config > /etc/iii-stream/config.yaml
  iii-stream print systemd > /etc/systemd/system/iii-stream.service
  iii-stream print nginx > /etc/nginx/conf.d/iii-stream.conf

The first lines of each say where it goes and what else it needs.";

const RELOAD: &str = "\
Examples:
  iii-stream reload
  iii-stream reload --pid $MAINPID        ExecReload= of a unit of systemd

SIGHUP does the same, and the log tells. What takes effect: limits (but for those of mailboxes),
allowed_origins, worker_origins, trusted_proxies, auth_failure, auth_timeout_ms, join_required,
join_failure, ping_interval_ms, pong_timeout_ms, stall_timeout_ms, log.level. Anything else is named
and waits for the next start. A file with a fault changes nothing. The server is found by a Unix
socket without a file, and answers its own user and root.

Exit codes: 0 what can take effect does, 1 a fault, and nothing is changed, or no server was found, 2
wrong arguments";

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

/// Where the worker port is.
#[derive(Debug, Args)]
pub struct WorkerPort {
    /// The config file that says where; without it ./config.yaml, else the default
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the worker port is, of this server or of an engine: ws:// or wss://
    #[arg(long, visible_alias = "url", value_name = "URL")]
    pub engine: Option<String>,
    /// What goes with the upgrade, as 'Authorization: Bearer …'
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Our own certificate.
    #[command(flatten)]
    pub own: OwnCertificate,
}

/// What a server under TLS is shown that asks its clients for a certificate.
#[derive(Debug, Args)]
pub struct OwnCertificate {
    /// A certificate to show to a server that asks for one (tls.client_ca): PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key: PEM, without a passphrase
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// Where the stream port is.
#[derive(Debug, Args)]
pub struct StreamPort {
    /// The config file that says where; without it ./config.yaml, else the default
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the stream port is: ws:// or wss://
    #[arg(long, value_name = "URL")]
    pub stream: Option<String>,
    /// What goes with the request, as 'Authorization: Bearer …'
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Our own certificate.
    #[command(flatten)]
    pub own: OwnCertificate,
}

/// Where the admin port is.
#[derive(Debug, Args)]
pub struct AdminPort {
    /// The config file that says where; without it ./config.yaml, else the default
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the admin port is: http://
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// What goes with the request, as 'Authorization: Bearer …'
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
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
