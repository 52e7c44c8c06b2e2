//! Every setting and limit, parsed once into checked types.
//!
//! Plain data, for all to read. Knows no socket and no thread; the environment and the file system
//! come in through [`Sources`], so that a test needs neither. The way of a setting:
//!
//! ```text
//! sources   which file, if any
//!  → env    its variables filled in, and the way back to what was written
//!  → yaml   a tree in which everything knows its place
//!  → file   each key checked; manager: the worker port's; engine: whom to attach to;
//!           keys: what several entries have; streams: what holds of single ones; tls: its files; section: one mapping; address: URLs and origins;
//!           report: faults, places; words: how they are told
//!  → Config
//! ```

mod address;
mod admin;
mod changes;
mod check;
mod doubled;
mod endpoint;
mod engine;
mod entries;
mod env;
mod file;
mod homes;
mod keys;
mod limits;
mod log;
mod manager;
mod ports;
mod quantity;
mod redis;
mod report;
mod section;
mod server;
mod sources;
mod store;
mod stored;
mod stored_file;
mod streams;
mod tls;
mod words;
mod yaml;

pub use address::{EngineAddress, without_secrets};
pub use admin::Admin;
pub use changes::Change;
pub use check::{human, json};
pub use endpoint::Endpoint;
pub use homes::KEYS_OF_SERVER;
pub use limits::*;
pub use log::{Log, LogFormat, LogLevel};
pub use quantity::duration;
pub use redis::{RedisAddress, RedisStore};
pub use report::{Fault, Setting};
pub use sources::{Reading, Sources, load, read};
pub use store::{Factor, FileStore, Fsync, StoreConfig};
pub use tls::{Acme, MinVersion, TlsFiles};

use endpoint::ip_address;

use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::protocol::rbac::Filter;
use crate::protocol::streams::StreamRules;

/// The engine whose protocol we speak.
pub const ENGINE_VERSION: &str = "0.11.6-next.3";

/// Workers at most, also where there are more cores.
pub const THREADS_MAX: usize = 256;
/// Listen backlog unless the file sets one; the kernel cuts it to `somaxconn`.
pub const BACKLOG_LEN: u32 = 65_535;
/// So many followers of a group live with its owner.
pub const PLACE_BELOW: usize = 256;
/// Calls that wait longer get an error.
pub const CALL_TIMEOUT_MS: u64 = 30_000;
/// No answer of `auth_function` so long after it was asked: 503.
pub const AUTH_TIMEOUT_MS: u64 = 5_000;
/// SIGTERM: closes are spread over this, and pending calls get as long.
pub const DRAIN_MS: u64 = 5_000;

/// The stream port, of either default.
pub const STREAM_PORT: u16 = 3112;
/// The worker port, of either default.
pub const WORKER_PORT: u16 = 49134;
/// Where operators look.
pub const ADMIN_PORT: u16 = 9464;
/// Where the embedded default listens.
const HOST_EMBEDDED: &str = "127.0.0.1";
/// Where a file that names no host listens, as the reference does.
const HOST_OF_FILE: &str = "0.0.0.0";

/// A larger file fails the start.
const FILE_BYTES_MAX: usize = 4 * MIB;

/// All that the server is told at its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where subscribers connect.
    pub stream: Endpoint,
    /// Where SDK workers connect: each with its own rules, one set of tables behind them. Empty when
    /// there is an engine, for its worker port serves them then.
    pub worker_listeners: Vec<WorkerListener>,
    /// The engine to attach to. None: we are the engine.
    pub engine: Option<EngineAddress>,
    /// By what that engine knows this server.
    pub known_as: KnownAs,
    /// Who may subscribe.
    pub auth: AuthSettings,
    /// Web pages from which subscribers may connect: `scheme://host[:port]`, `*.domain`, `null`;
    /// without case. Empty: all.
    pub allowed_origins: Vec<OriginRule>,
    /// The same for SDK workers, on a listener without rules. Empty: loopback hosts only.
    pub worker_origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    pub trusted_proxies: Proxies,
    /// Under what TLS subscribers connect. None: none.
    pub tls: Option<TlsFiles>,
    /// The same for SDK workers, on all their listeners.
    pub worker_tls: Option<TlsFiles>,
    /// Where authorities of certificates are answered. None: nowhere.
    pub acme: Option<Acme>,
    /// Streams that nobody joins unless a function was asked and answered.
    pub join_required: Vec<String>,
    /// What holds when a join function fails, or is not there.
    pub join_failure: AuthFailure,
    /// What holds of single streams.
    pub streams: StreamRules,
    /// How many workers there are.
    pub threads: Threads,
    /// Which cores they run on.
    pub pin: Pin,
    /// A group's owner takes sockets that follow it first while it has fewer followers of it. 0: sockets
    /// stay where they are accepted, or with the emptiest worker.
    pub place_below: usize,
    /// How workers write.
    pub io: Io,
    /// Listen backlog. None: [`BACKLOG_LEN`], and no word about what the kernel makes of it.
    pub backlog: Option<u32>,
    /// Calls that wait longer get an error.
    pub call_timeout_ms: u64,
    /// How long a stop may take.
    pub drain_ms: u64,
    /// What keeps the values.
    pub store: StoreConfig,
    /// What is refused, closed or cut off, and from where on.
    pub limits: Limits,
    /// What the log is like.
    pub log: Log,
    /// Where operators look. None: nowhere.
    pub admin: Option<Admin>,
    /// The file that was read, as named. None: no file.
    pub file: Option<String>,
    /// Lines for the log at start, at `warn`.
    pub warnings: Vec<String>,
    /// Lines for the log at start, at `info`.
    pub notices: Vec<String>,
}

/// The embedded default but for its store and the admin port: values end with the process, and there is
/// none.
impl Default for Config {
    fn default() -> Self {
        Config {
            stream: Endpoint::new(HOST_EMBEDDED, STREAM_PORT),
            worker_listeners: vec![Endpoint::new(HOST_EMBEDDED, WORKER_PORT).into()],
            engine: None,
            known_as: KnownAs::default(),
            auth: AuthSettings::default(),
            allowed_origins: Vec::new(),
            trusted_proxies: Proxies::default(),
            worker_origins: Vec::new(),
            tls: None,
            worker_tls: None,
            acme: None,
            join_required: Vec::new(),
            join_failure: AuthFailure::Allow,
            streams: StreamRules::default(),
            threads: Threads::Auto,
            pin: Pin::Auto,
            place_below: PLACE_BELOW,
            io: Io::Auto,
            backlog: None,
            call_timeout_ms: CALL_TIMEOUT_MS,
            drain_ms: DRAIN_MS,
            store: StoreConfig::Memory,
            limits: Limits::default(),
            admin: None,
            log: Log::default(),
            file: None,
            warnings: Vec::new(),
            notices: Vec::new(),
        }
    }
}

/// By what an engine knows this server, which is one of its workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownAs {
    /// None: `iii-stream:<host>:<pid>`.
    pub name: Option<String>,
    /// None: the engine's own default.
    pub namespace: Option<String>,
}

/// One port for SDK workers.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerListener {
    /// Where it is.
    pub endpoint: Endpoint,
    /// What may be done there. None: everything.
    pub rbac: Option<Rbac>,
    /// Called in place of each function that is called there.
    pub middleware: Option<String>,
}

/// A listener without rules.
impl From<Endpoint> for WorkerListener {
    fn from(endpoint: Endpoint) -> Self {
        WorkerListener {
            endpoint,
            rbac: None,
            middleware: None,
        }
    }
}

/// The rules of one listener for SDK workers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rbac {
    /// Asked when a worker connects.
    pub auth_function: Option<String>,
    /// Asked before a function is registered.
    pub on_function: Option<String>,
    /// Asked before a trigger is registered.
    pub on_trigger: Option<String>,
    /// Asked before a trigger type is registered.
    pub on_trigger_type: Option<String>,
    /// A function may be called when one of these exposes it.
    pub expose_functions: Vec<Filter>,
}

/// Who may subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// Asked for each subscriber that connects. None: all may.
    pub function: Option<String>,
    /// What holds when the function does not admit, or cannot be asked.
    pub failure: AuthFailure,
    /// See [`AUTH_TIMEOUT_MS`]. The handshake's own limit holds beside it.
    pub timeout_ms: u64,
}

impl Default for AuthSettings {
    fn default() -> Self {
        AuthSettings {
            function: None,
            failure: AuthFailure::Refuse,
            timeout_ms: AUTH_TIMEOUT_MS,
        }
    }
}

/// What becomes of a subscriber whom the auth function does not admit, and of a join whose function
/// fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthFailure {
    /// 401 or 503; `unauthorized`.
    Refuse,
    /// Let in, as the reference does.
    Allow,
}

/// How many workers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The cores of this process less one, at least one.
    Auto,
    /// As many; may exceed the cores.
    Count(usize),
}

/// Which cores the workers run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// One core each, unless a CPU quota is set or the workers outnumber the cores.
    Auto,
    /// Where the kernel likes.
    None,
    /// Worker `n` on the `n`th of these. At least as many as a fixed number of threads.
    Cores(Vec<usize>),
}

/// How workers write to subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// Many sends in one system call (io_uring) where the kernel lets them, else one each.
    Auto,
    /// A system call each.
    Epoll,
    /// Many in one. Where the kernel refuses that, nothing starts.
    Uring,
}
