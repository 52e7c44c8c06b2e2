//! The thread where operators look: what it is told of the server at the start.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Poll;

use crate::admin::{self, About, Admin, ThreadAbout};
use crate::config::{self, Config, Limits};
use crate::mesh::Shared;

use super::certificates::Certificates;
use super::cores::Cores;
use super::threads::{beside_workers, spawn, wake_of};

/// The thread, and where it listens.
pub(super) struct Operators {
    pub(super) address: SocketAddr,
    pub(super) thread: JoinHandle<()>,
    tokens: Sender<Option<String>>,
    /// What it has not taken is replaced.
    pending: Receiver<Option<String>>,
}

/// What the server knows when it starts the thread.
pub(super) struct Known<'a> {
    pub(super) config: &'a Config,
    pub(super) limits: &'a Limits,
    pub(super) cores: &'a Cores,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) stream: SocketAddr,
    pub(super) workers: &'a [SocketAddr],
    pub(super) store_kind: &'static str,
    pub(super) store: &'a str,
    pub(super) has_store_thread: bool,
    pub(super) certificates: &'a Certificates,
    pub(super) began: Instant,
}

impl Operators {
    pub(super) fn start(
        listener: TcpListener,
        settings: config::Admin,
        known: &Known<'_>,
    ) -> io::Result<Operators> {
        let poll = Poll::new()?;
        let wake = wake_of(&poll)?;
        // It is the first, and nobody else sets it.
        let _ = known.shared.admin.set(Arc::clone(&wake));
        let address = listener.local_addr()?;
        let (tokens, pending) = bounded(1);
        let admin = Admin::new(admin::Parts {
            listener,
            poll,
            wake,
            shared: Arc::clone(known.shared),
            about: about(known, &settings, address),
            settings,
            tokens: pending.clone(),
        })?;
        let run = beside_workers(known.cores, move || admin.run());
        let thread = spawn("admin".to_owned(), known.cores.of_admin(), run)?;
        Ok(Operators {
            address,
            thread,
            tokens,
            pending,
        })
    }

    /// From here on that token counts.
    pub(super) fn set_token(&self, shared: &Shared, token: Option<String>) {
        while self.pending.try_recv().is_ok() {}
        // Nobody else sends.
        let _ = self.tokens.try_send(token);
        if let Some(wake) = shared.admin.get() {
            wake.wake();
        }
    }
}

fn about(known: &Known<'_>, settings: &config::Admin, address: SocketAddr) -> About {
    let cores = known.cores;
    let workers = (0..cores.workers).map(|worker| ThreadAbout {
        name: format!("worker-{worker}"),
        core: cores.of_worker(worker),
    });
    let engine = ThreadAbout {
        name: "engine".to_owned(),
        core: cores.of_engine(),
    };
    let store = known.has_store_thread.then(|| ThreadAbout {
        name: "store".to_owned(),
        core: cores.of_store(),
    });
    let admin = ThreadAbout {
        name: "admin".to_owned(),
        core: cores.of_admin(),
    };
    About {
        stream: known.stream.to_string(),
        workers: known.workers.iter().map(SocketAddr::to_string).collect(),
        engine: known
            .config
            .engine
            .as_ref()
            .map(|engine| engine.shown.clone()),
        admin: address.to_string(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        file: known.config.file.clone(),
        threads: workers
            .chain([engine])
            .chain(store)
            .chain([admin])
            .collect(),
        cores: cores.described(),
        store_kind: known.store_kind,
        store: known.store.to_owned(),
        has_store_thread: known.has_store_thread,
        connections_max: known.limits.connections,
        behind_bytes_max: known.limits.behind_bytes,
        certificates: known.certificates.offered(),
        has_page: settings.page,
        began: known.began,
    }
}
