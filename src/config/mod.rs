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
//!           keys: what several entries have; tls: its files; section: one mapping; address: URLs and origins;
//!           report: faults, places; words: how they are told
//!  → Config
//! ```

mod address;
mod admin;
mod changes;
mod check;
mod doubled;
mod engine;
mod entries;
mod env;
mod file;
mod homes;
mod keys;
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
mod tls;
mod words;
mod yaml;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

pub use address::{EngineAddress, without_secrets};
pub use admin::Admin;
pub use changes::Change;
pub use check::{human, json};
pub use homes::KEYS_OF_SERVER;
pub use log::{Log, LogFormat, LogLevel};
pub use quantity::duration;
pub use redis::{RedisAddress, RedisStore};
pub use report::{Fault, Setting};
pub use sources::{Reading, Sources, load, read};
pub use store::{Factor, FileStore, Fsync, StoreConfig};
pub use tls::{Acme, MinVersion, TlsFiles};

use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::protocol::rbac::Filter;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The engine whose protocol we speak.
pub const ENGINE_VERSION: &str = "0.11.6-next.3";

/// Listen backlog unless the file sets one; the kernel cuts it to `somaxconn`.
pub const BACKLOG_LEN: u32 = 65_535;
/// Calls that wait longer get an error.
pub const CALL_TIMEOUT_MS: u64 = 30_000;
/// No answer of `auth_function` so long after it was asked: 503.
pub const AUTH_TIMEOUT_MS: u64 = 5_000;
/// SIGTERM: closes are spread over this, and pending calls get as long.
pub const DRAIN_MS: u64 = 5_000;

/// Subscribers in all; above: 503 with `Retry-After`.
pub const CONNECTIONS_MAX: usize = 1_000_000;
/// Sockets on the worker port, of SDK workers and pages; above: 503 with `Retry-After`.
pub const WORKER_CONNECTIONS_MAX: usize = 10_000;
/// Joins and leaves of one subscriber's socket in a second; beyond: it is not read for a while.
pub const JOINS_PER_S_MAX: usize = 1000;
/// What is read of one subscriber's socket in a second; beyond: likewise.
pub const READ_BYTES_PER_S_MAX: usize = 4 * MIB;
/// Of the memory of the control group or the machine the process may have so much.
pub const MEMORY_PERCENT_MAX: u64 = 85;
/// Both ports: no whole head by then: closed.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
/// Both ports: a longer head is answered 431.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * KIB;
/// Subscribers that are not let in yet: without a whole head, or waiting for `auth_function`; above:
/// the oldest is ended.
pub const HANDSHAKES_MAX: usize = 10_000;
/// What those have sent and wait with; above: the oldest is ended.
pub const HANDSHAKES_BYTES_MAX: usize = 64 * MIB;
/// One message from a subscriber; larger: close 1009.
pub const MESSAGE_BYTES_MAX: usize = MIB;
/// One message from an SDK worker; larger: close 1009. Deployed workers send up to this.
pub const CALL_BYTES_MAX: usize = 16 * MIB;
/// What has come of such messages that are not whole, of all SDK workers together; above: the worker
/// whose message began first is closed with 1013.
pub const PARTIAL_CALL_BYTES_MAX: usize = 256 * MIB;
/// Stream, group, item, subscription id; longer: a join is answered `unauthorized`, a call gets an
/// error.
pub const NAME_BYTES_MAX: usize = 1024;
/// Depth of a value, which is what deployed readers can parse; deeper: an error.
pub const JSON_DEPTH_MAX: usize = 125;
/// One item's text; larger: an error.
pub const VALUE_BYTES_MAX: usize = 16 * MIB;
/// Operations in one `stream::update`; more: an error.
pub const UPDATE_OPS_MAX: usize = 1000;
/// Subscriptions of one connection; a further join is answered `unauthorized`.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Subscriptions of one connection to the same group and item; a further join is answered
/// `unauthorized`.
pub const EQUAL_SUBSCRIPTIONS_MAX: usize = 64;
/// How far a reader may be behind, in all its groups together; further: it is brought up to date by
/// item.
pub const BEHIND_BYTES_MAX: usize = MIB;
/// Custom events that wait for each subscription of such a reader; more: the oldest go.
pub const CUSTOM_EVENTS_BEHIND_MAX: usize = 1000;
/// What all readers of one worker may hold up; above: less may wait for each, and those that take
/// nothing of `sync`s that have begun are closed with 1013.
pub const BEHIND_BYTES_WORKER_MAX: usize = 256 * MIB;
/// Messages in one mailbox; full: its senders pause reading.
pub const MAILBOX_LEN_MAX: usize = 4096;
/// What the messages of one mailbox hold; an empty mailbox takes any one message.
pub const MAILBOX_BYTES_MAX: usize = 16 * MIB;
/// Calls that wait for an SDK worker's function, in all; above: `server is overloaded`.
pub const CALLS_IN_FLIGHT_MAX: usize = 100_000;
/// Joins that wait for functions, in all; a further one is answered `unauthorized`. Their calls count
/// here and not among [`CALLS_IN_FLIGHT_MAX`].
pub const JOINS_IN_FLIGHT_MAX: usize = 100_000;
/// What waits unsent for one slow SDK worker; above: its socket is not read, calls to it are
/// refused.
pub const CALL_QUEUE_BYTES_MAX: usize = 64 * MIB;
/// Triggers of types that no worker serves yet, in all; a further one is refused.
pub const EARLY_TRIGGERS_MAX: usize = 10_000;
/// What those hold; above: likewise.
pub const EARLY_TRIGGERS_BYTES_MAX: usize = 16 * MIB;

/// A socket from which nothing has come for so long is pinged. 0: never.
pub const PING_INTERVAL_MS: u64 = 25_000;
/// A socket from which nothing comes for so long after that is closed.
pub const PONG_TIMEOUT_MS: u64 = 20_000;
/// A socket for which something waits and that takes no byte for so long is closed with 1013.
pub const STALL_TIMEOUT_MS: u64 = 60_000;

/// A file cannot ask for less: a turn's answers must fit.
const MAILBOX_LEN_MIN: usize = 8;
const _: () = assert!(MAILBOX_LEN_MAX >= MAILBOX_LEN_MIN);

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
    pub auth: Auth,
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
    /// How many workers there are.
    pub threads: Threads,
    /// Which cores they run on.
    pub pin: Pin,
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
            auth: Auth::default(),
            allowed_origins: Vec::new(),
            trusted_proxies: Proxies::default(),
            worker_origins: Vec::new(),
            tls: None,
            worker_tls: None,
            acme: None,
            join_required: Vec::new(),
            join_failure: AuthFailure::Allow,
            threads: Threads::Auto,
            pin: Pin::Auto,
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
pub struct Auth {
    /// Asked for each subscriber that connects. None: all may.
    pub function: Option<String>,
    /// What holds when the function does not admit, or cannot be asked.
    pub failure: AuthFailure,
    /// See [`AUTH_TIMEOUT_MS`]. The handshake's own limit holds beside it.
    pub timeout_ms: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
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

/// Every limit, by the key it has under `server.limits`; what happens there stands at each default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`PING_INTERVAL_MS`].
    pub ping_interval_ms: u64,
    /// See [`PONG_TIMEOUT_MS`].
    pub pong_timeout_ms: u64,
    /// See [`STALL_TIMEOUT_MS`].
    pub stall_timeout_ms: u64,
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// See [`WORKER_CONNECTIONS_MAX`].
    pub worker_connections: usize,
    /// Subscribers from one address; above: 503 with `Retry-After`. 0: as many as there are.
    pub connections_per_address: usize,
    /// Sockets that are accepted in a second, on each port; the others wait. 0: as fast as it goes.
    pub accepts_per_s: usize,
    /// See [`JOINS_PER_S_MAX`]. 0: as many as come.
    pub joins_per_s: usize,
    /// See [`READ_BYTES_PER_S_MAX`]. 0: as many as come.
    pub read_bytes_per_s: usize,
    /// Messages of one SDK worker in a second; beyond: its socket is not read for a while. 0: as many
    /// as come.
    pub calls_per_s: usize,
    /// What is read of one SDK worker in a second; beyond: likewise. 0: as many as come.
    pub worker_read_bytes_per_s: usize,
    /// What the process may have; above: no upgrade, and no call that would add. 0: as much as there
    /// is. None: [`MEMORY_PERCENT_MAX`] of it.
    pub memory_bytes: Option<usize>,
    /// See [`HANDSHAKE_MS_MAX`].
    pub handshake_ms: u64,
    /// See [`HANDSHAKE_BYTES_MAX`].
    pub handshake_bytes: usize,
    /// See [`HANDSHAKES_MAX`].
    pub handshakes: usize,
    /// See [`HANDSHAKES_BYTES_MAX`].
    pub handshakes_bytes: usize,
    /// See [`MESSAGE_BYTES_MAX`].
    pub message_bytes: usize,
    /// See [`CALL_BYTES_MAX`].
    pub call_bytes: usize,
    /// See [`PARTIAL_CALL_BYTES_MAX`].
    pub partial_call_bytes: usize,
    /// See [`NAME_BYTES_MAX`].
    pub name_bytes: usize,
    /// See [`JSON_DEPTH_MAX`].
    pub json_depth: usize,
    /// See [`VALUE_BYTES_MAX`].
    pub value_bytes: usize,
    /// See [`UPDATE_OPS_MAX`].
    pub update_ops: usize,
    /// See [`SUBSCRIPTIONS_MAX`].
    pub subscriptions: usize,
    /// See [`EQUAL_SUBSCRIPTIONS_MAX`].
    pub equal_subscriptions: usize,
    /// See [`BEHIND_BYTES_MAX`].
    pub behind_bytes: usize,
    /// [`CUSTOM_EVENTS_BEHIND_MAX`].
    pub custom_events_behind: usize,
    /// See [`BEHIND_BYTES_WORKER_MAX`].
    pub behind_bytes_worker: usize,
    /// See [`MAILBOX_LEN_MAX`]. A file asks for 8 or more; a test may set less.
    pub mailbox_len: usize,
    /// See [`MAILBOX_BYTES_MAX`].
    pub mailbox_bytes: usize,
    /// See [`CALLS_IN_FLIGHT_MAX`].
    pub calls_in_flight: usize,
    /// See [`JOINS_IN_FLIGHT_MAX`].
    pub joins_in_flight: usize,
    /// See [`CALL_QUEUE_BYTES_MAX`].
    pub call_queue_bytes: usize,
    /// See [`EARLY_TRIGGERS_MAX`].
    pub early_triggers: usize,
    /// See [`EARLY_TRIGGERS_BYTES_MAX`].
    pub early_triggers_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            ping_interval_ms: PING_INTERVAL_MS,
            pong_timeout_ms: PONG_TIMEOUT_MS,
            stall_timeout_ms: STALL_TIMEOUT_MS,
            connections: CONNECTIONS_MAX,
            worker_connections: WORKER_CONNECTIONS_MAX,
            connections_per_address: 0,
            accepts_per_s: 0,
            joins_per_s: JOINS_PER_S_MAX,
            read_bytes_per_s: READ_BYTES_PER_S_MAX,
            calls_per_s: 0,
            worker_read_bytes_per_s: 0,
            memory_bytes: None,
            handshake_ms: HANDSHAKE_MS_MAX,
            handshake_bytes: HANDSHAKE_BYTES_MAX,
            handshakes: HANDSHAKES_MAX,
            handshakes_bytes: HANDSHAKES_BYTES_MAX,
            message_bytes: MESSAGE_BYTES_MAX,
            call_bytes: CALL_BYTES_MAX,
            partial_call_bytes: PARTIAL_CALL_BYTES_MAX,
            name_bytes: NAME_BYTES_MAX,
            json_depth: JSON_DEPTH_MAX,
            value_bytes: VALUE_BYTES_MAX,
            update_ops: UPDATE_OPS_MAX,
            subscriptions: SUBSCRIPTIONS_MAX,
            equal_subscriptions: EQUAL_SUBSCRIPTIONS_MAX,
            behind_bytes: BEHIND_BYTES_MAX,
            custom_events_behind: CUSTOM_EVENTS_BEHIND_MAX,
            behind_bytes_worker: BEHIND_BYTES_WORKER_MAX,
            mailbox_len: MAILBOX_LEN_MAX,
            mailbox_bytes: MAILBOX_BYTES_MAX,
            calls_in_flight: CALLS_IN_FLIGHT_MAX,
            joins_in_flight: JOINS_IN_FLIGHT_MAX,
            call_queue_bytes: CALL_QUEUE_BYTES_MAX,
            early_triggers: EARLY_TRIGGERS_MAX,
            early_triggers_bytes: EARLY_TRIGGERS_BYTES_MAX,
        }
    }
}

/// A host and a port to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As written, for messages: an address, an IPv6 address with or without brackets, or a name.
    pub host: String,
    /// 0: the kernel picks a free one.
    pub port: u16,
}

impl Endpoint {
    /// Takes both as they are.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Endpoint {
            host: host.into(),
            port,
        }
    }

    /// The addresses to try, in order. A name is looked up, so this may wait: ask once, at start.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = ip_address(&self.host) {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

/// `host:port`, with the brackets that an IPv6 address needs there.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ip_address(&self.host) {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// None: a name, or nothing sensible.
fn ip_address(host: &str) -> Option<IpAddr> {
    match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_takes_addresses_with_and_without_brackets_and_shows_them_with() {
        for (host, shown) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("localhost", "localhost:80"),
        ] {
            let endpoint = Endpoint::new(host, 80);
            assert_eq!(endpoint.to_string(), shown);
            let addresses = endpoint.addresses().unwrap();
            assert!(
                addresses
                    .iter()
                    .all(|address| address.ip().is_loopback() && address.port() == 80)
            );
            assert!(!addresses.is_empty());
        }
        assert!(Endpoint::new("[127.0.0.1]", 80).addresses().is_err());
    }
}
