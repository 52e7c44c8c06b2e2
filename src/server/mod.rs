//! Builds the mesh, and starts, pins and stops every thread.
//!
//! The only file that knows all kinds of thread. May not know what they say to each other.

mod acme;
mod certificates;
mod cores;
mod listeners;
mod open_files;
mod operators;
mod reload;
mod rings;
mod scheduling;
mod threads;
mod values;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::Poll;

use crate::config::{AuthFailure, Config, Limits};
use crate::engine::{self, Attach, AttachError, Engine};
use crate::id::WorkerId;
use crate::log;
use crate::mesh::{self, AuthFunction, Owners, SettingsPorts, Shared};
use crate::shard::Store;
use crate::store::files::StoreError;
use crate::store::redis::RedisError;
use crate::store::{self, Memory};
use crate::worker::{self, Worker};

use acme::{Acme, Site};
pub use certificates::{Certificates, check as check_certificates};
use cores::Cores;
use open_files::OpenFiles;
use operators::{Known, Operators};
use rings::Rings;
use threads::{Polls, beside_workers, spawn};
use values::Values;

/// The exit code when a thread has panicked: the supervisor should start us again.
pub const PANICKED: i32 = 70;

/// How long the threads may take beyond `drain_ms`: the closing handshakes of the last sockets.
const DRAIN_GRACE: Duration = Duration::from_millis(2500);

/// What is set beside the configuration.
#[derive(Default)]
pub struct Options {
    /// A store on a thread of its own, in place of the configured one.
    pub store: Option<Box<dyn Store>>,
    /// Groups named `…@2` belong to worker 2.
    pub steered: bool,
    /// An engine that is attached to is pinged so often.
    pub ping_every: Option<Duration>,
    /// Counts what has been read of the values that were kept.
    pub read: Arc<AtomicU64>,
    /// Set before the first thread serves anybody: from then on only [`Server::drain`] may end it.
    pub serves: Arc<AtomicBool>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody has the port.
    #[error("address {address} is already in use; {hint}")]
    AddressInUse {
        /// The address as configured.
        address: String,
        /// Who it may be, and what to do.
        hint: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address as configured.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// What is kept cannot be read, or nothing could be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis cannot be reached, or not be used.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// There is an engine to attach to, but nothing will ever reach it.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The workers cannot run where they should.
    #[error("server.pin: {0}")]
    Pin(String),
    /// Files of a port under TLS cannot be used.
    #[error("server.{key}: {faulty}")]
    Tls {
        /// The setting.
        key: &'static str,
        /// Which file, why, and what to do.
        faulty: String,
    },
    /// The kernel refuses io_uring, without which the settings let nothing start.
    #[error("server.io: {0}")]
    Ring(String),
    /// A thread or a poll could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    stream_address: SocketAddr,
    worker_addresses: Vec<SocketAddr>,
    workers: Vec<JoinHandle<()>>,
    engine: JoinHandle<()>,
    store: Option<JoinHandle<()>>,
    drained: Receiver<WorkerId>,
    drain: Duration,
    files: OpenFiles,
    settings_ports: SettingsPorts,
    certificates: Certificates,
    _certificates_watch: Option<certificates::Watch>,
    _acme: Option<Acme>,
    operators: Option<Operators>,
}

impl Server {
    /// Opens the ports and starts all threads. When it returns, clients are served.
    pub fn start(config: &Config, mut options: Options) -> Result<Server, StartError> {
        let began = Instant::now();
        let cores = Cores::of(config)?;
        let workers = cores.workers;
        let owners = match (workers as u16, options.steered) {
            (workers, true) => Owners::Steered { workers },
            (workers, false) => Owners::Hashed { workers },
        };
        let certificates = Certificates::load(config)?;
        let mut store_poll = Poll::new()?;
        let values = Values::open(config, owners, workers, &mut options, &mut store_poll)?;
        let stream = listeners::stream(config, workers)?;
        let attach = attach_of(config, options.ping_every)?;
        let sdk_workers = listeners::workers(config, &certificates)?;
        let acme = listeners::acme(config)?;
        let admin = listeners::admin(config)?;
        let stream_address = stream[0].local_addr()?;
        let worker_addresses: Vec<SocketAddr> = sdk_workers
            .iter()
            .map(|listener| listener.socket.local_addr())
            .collect::<io::Result<_>>()?;
        let mode = mode(attach.as_ref(), &worker_addresses);
        open_files::raise();
        let files = OpenFiles::of(config, workers);
        let limits = files.fit(&config.limits);
        let rings = Rings::of(config.io, workers)?;

        let has_store = values.store.is_some();
        let polls = Polls::new(workers, has_store.then_some(&store_poll))?;
        let shared = Arc::new(Shared::new(owners, polls.wakes, files.room));
        let (worker_ports, engine_ports, store_ports) = mesh::tie(
            Arc::clone(&shared),
            limits.mailbox_len,
            limits.mailbox_bytes,
        );
        let settings_ports = SettingsPorts::beside(&worker_ports[0]);
        let (drained_sender, drained) = crossbeam_channel::bounded(workers);
        let drain = Duration::from_millis(config.drain_ms);
        let engine = Engine::new(engine::Parts {
            poll: polls.engine,
            listeners: sdk_workers,
            attach,
            origins: config.worker_origins.clone(),
            proxies: config.trusted_proxies.clone(),
            ports: engine_ports,
            settings: engine_settings_of(config, limits.clone()),
            drain,
        })?;
        options.serves.store(true, Ordering::Release);
        let each = worker_ports.into_iter().zip(stream).zip(values.shards);
        let parts_of = |(((ports, listener), shard), poll)| worker::Parts {
            poll,
            listener,
            tls: certificates.of("tls"),
            ports,
            store_here: (!has_store).then(|| Box::new(Memory) as Box<dyn Store>),
            shard,
            auth: subscribers_auth_of(config),
            allowed_origins: config.allowed_origins.clone(),
            proxies: config.trusted_proxies.clone(),
            limits: limits.clone(),
            place_below: config.place_below,
            drain,
            drained: drained_sender.clone(),
            shares_core: cores.are_shared(),
            answers_first: cores.are_shared() && !cores.are_crowded,
            has_ring: rings.are_used,
        };
        let worker_threads = each
            .zip(polls.workers)
            .map(parts_of)
            .map(|parts| start_worker(parts, &cores))
            .collect::<io::Result<_>>()?;
        let run = beside_workers(&cores, move || engine.run());
        let engine = spawn("engine".to_owned(), cores.of_engine(), run)?;
        let store = match (values.store, store_ports) {
            (Some(store), Some(ports)) => {
                let run = beside_workers(&cores, move || store::run(store, store_poll, ports));
                Some(spawn("store".to_owned(), cores.of_store(), run)?)
            }
            _ => None,
        };
        let known = Known {
            config,
            limits: &limits,
            cores: &cores,
            shared: &shared,
            stream: stream_address,
            workers: &worker_addresses,
            store_kind: values.kind,
            store: &values.described,
            has_store_thread: has_store,
            certificates: &certificates,
            began,
        };
        let operators = match (admin, config.admin.clone()) {
            (Some(listener), Some(settings)) => Some(Operators::start(listener, settings, &known)?),
            _ => None,
        };
        let admin = operators.as_ref().map(|operators| operators.address);
        tracing::info!(
            "serves subscribers on {stream_address}{mode}; {}; {}; {}{}",
            cores.described(),
            rings.described,
            values.described,
            admin.map_or(String::new(), |address| format!(
                "; admin port on {address}"
            )),
        );
        let acme = match (acme, &config.acme) {
            (Some(listener), Some(acme)) => {
                let tls_port = config.tls.as_ref().map(|_| stream_address.port());
                let webroot = acme.webroot.clone();
                Some(Acme::serve(listener, Site { webroot, tls_port })?)
            }
            _ => None,
        };
        Ok(Server {
            _certificates_watch: certificates.watch()?,
            certificates,
            _acme: acme,
            shared,
            stream_address,
            worker_addresses,
            workers: worker_threads,
            engine,
            store,
            drained,
            drain,
            files,
            settings_ports,
            operators,
        })
    }

    /// Where subscribers connect.
    pub fn stream_address(&self) -> SocketAddr {
        self.stream_address
    }

    /// Where SDK workers connect: the first listener. None in attached mode.
    pub fn worker_address(&self) -> Option<SocketAddr> {
        self.worker_addresses.first().copied()
    }

    /// Where operators look, if they may anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.operators.as_ref().map(|operators| operators.address)
    }

    /// All listeners on which SDK workers connect, in the order of the configuration.
    pub fn worker_addresses(&self) -> &[SocketAddr] {
        &self.worker_addresses
    }

    /// The certificates of the ports under TLS.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// What all threads may look at.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How many sockets there are, of subscribers and SDK workers.
    pub fn sockets_len(&self) -> usize {
        self.shared.sockets_len()
    }

    /// Over how long [`Server::drain`] spreads the ends of subscribers' sockets.
    pub fn drain_for(&self) -> Duration {
        worker::drain_for(self.drain, self.shared.connections_len())
    }

    /// How long calls under way have at the end.
    pub fn drain_time(&self) -> Duration {
        self.drain
    }

    /// Stops accepting, answers what is under way, closes every socket with 1012 and ends all
    /// threads. Takes `drain_ms` and a little at most.
    pub fn drain(self) {
        let until = Instant::now() + self.drain + DRAIN_GRACE;
        self.shared.drain();
        for _ in &self.workers {
            let left = until.saturating_duration_since(Instant::now());
            if self.drained.recv_timeout(left).is_err() {
                tracing::warn!("some sockets were not closed in time");
                break;
            }
        }
        // The engine answers what it has of the workers, and ends by itself when all its sockets are
        // closed; they have had the same time.
        let (ended, engine_ended) = crossbeam_channel::bounded(1);
        let engine = self.engine;
        let waiter = std::thread::spawn(move || {
            let joined = engine.join();
            // Nobody listens any more after the time limit.
            let _ = ended.try_send(());
            joined
        });
        let left = until.saturating_duration_since(Instant::now());
        let _ = engine_ended.recv_timeout(left);
        self.shared.stop();
        // A thread that panicked has ended the process already.
        let _ = waiter.join();
        let operators = self.operators.map(|operators| operators.thread);
        for thread in self.workers.into_iter().chain(self.store).chain(operators) {
            let _ = thread.join();
        }
    }
}

fn start_worker(parts: worker::Parts, cores: &Cores) -> io::Result<JoinHandle<()>> {
    let number = parts.ports.id.index();
    let worker = Worker::new(parts)?;
    let name = format!("worker-{number}");
    spawn(name, cores.of_worker(number), move || worker.run())
}

/// Whom to attach to, and as whom; `ping_every` in place of the usual.
fn attach_of(config: &Config, ping_every: Option<Duration>) -> Result<Option<Attach>, AttachError> {
    let Some(address) = config.engine.clone() else {
        return Ok(None);
    };
    // A process id alone is the same in every container.
    let default = || {
        let uname = rustix::system::uname();
        let host = uname.nodename().to_string_lossy();
        format!("iii-stream:{host}:{}", std::process::id())
    };
    let known_as = config.known_as.clone();
    let name = known_as.name.unwrap_or_else(default);
    let mut attach = Attach::new(address, name, known_as.namespace)?;
    if let Some(every) = ping_every {
        attach.ping_every(every);
    }
    Ok(Some(attach))
}

/// Whether this machine has the cores that the settings name.
pub fn check_cores(config: &Config) -> Result<(), StartError> {
    Cores::of(config).map(drop)
}

/// Lowers limits of sockets to what the limit of open files leaves room for. Gives the line about
/// that, for log and check.
pub fn fit_open_files(config: &mut Config) -> Option<String> {
    let workers = Cores::of(config).map_or(1, |cores| cores.workers);
    OpenFiles::of(config, workers).lower(config)
}

/// How many worker threads there would be, and where, as the log says it.
pub fn cores_of(config: &Config) -> Result<(usize, String), StartError> {
    let cores = Cores::of(config)?;
    Ok((cores.workers, cores.described()))
}

/// How subscribers would be written to, as the log says it.
pub fn writes_of(config: &Config) -> Result<String, StartError> {
    let workers = Cores::of(config).map_or(1, |cores| cores.workers);
    Ok(Rings::of(config.io, workers)?.described)
}

/// What holds for the engine thread.
fn engine_settings_of(config: &Config, limits: Limits) -> engine::Settings {
    engine::Settings {
        limits,
        call_timeout: Duration::from_millis(config.call_timeout_ms),
        auth: engine::Authenticator {
            function_id: config.auth.function.clone(),
            timeout: Duration::from_millis(config.auth.timeout_ms),
            admits_failures: config.auth.failure == AuthFailure::Allow,
        },
        join_required: config.join_required.clone(),
        refuses_failed_joins: config.join_failure == AuthFailure::Refuse,
    }
}

/// Who decides about subscribers' sockets, for a worker.
fn subscribers_auth_of(config: &Config) -> Option<AuthFunction> {
    let id = config.auth.function.clone()?;
    Some(AuthFunction {
        id: id.into(),
        admits_failures: config.auth.failure == AuthFailure::Allow,
    })
}

/// What the server is to SDK workers, for people.
fn mode(attach: Option<&Attach>, listeners: &[SocketAddr]) -> String {
    if let Some(attach) = attach {
        return format!(", attached to the engine at {}", attach.shown());
    }
    if listeners.is_empty() {
        return " and has no port for SDK workers".to_owned();
    }
    let on: Vec<String> = listeners.iter().map(SocketAddr::to_string).collect();
    format!(" and SDK workers on {}", on.join(", "))
}

/// From now on a panic in any thread ends the process, with its message and exit code 70.
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        log::say(&format!("thread {name} {info}"));
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            backtrace.to_string().lines().for_each(log::say);
        }
        log::end_process(PANICKED);
    }));
}
