//! Threads: the poll that each waits in, the core that it runs on, and what becomes of the process when
//! one of them ends with an error.
//!
//! May not know what a thread does.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::Poll;

use crate::log;
use crate::mesh::Wake;
use crate::net::{self, WAKE};

use super::cores::Cores;
use super::{PANICKED, scheduling};

/// The polls of workers and engine, and how each thread is woken: workers, engine, store.
pub(super) struct Polls {
    pub(super) workers: Vec<Poll>,
    pub(super) engine: Poll,
    pub(super) wakes: Vec<Arc<Wake>>,
}

impl Polls {
    /// `store`: that of the store's thread, if it has one.
    pub(super) fn new(workers: usize, store: Option<&Poll>) -> io::Result<Polls> {
        let workers: Vec<Poll> = (0..workers)
            .map(|_| Poll::new())
            .collect::<io::Result<_>>()?;
        let engine = Poll::new()?;
        let all = workers.iter().chain([&engine]).chain(store);
        let wakes = all.map(wake_of).collect::<io::Result<_>>()?;
        Ok(Polls {
            workers,
            engine,
            wakes,
        })
    }
}

pub(super) fn wake_of(poll: &Poll) -> io::Result<Arc<Wake>> {
    Ok(Arc::new(Wake::new(net::wake_up(poll, WAKE)?)))
}

/// What the engine or the store runs. On a core that a worker has too it runs between that worker's
/// turns and not in the middle of one: else every call costs two changes of thread.
pub(super) fn beside_workers(
    cores: &Cores,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> impl FnOnce() -> io::Result<()> + Send + 'static {
    let are_shared = cores.are_shared();
    move || {
        if are_shared && let Err(error) = scheduling::never_preempt() {
            tracing::debug!("the kernel refuses SCHED_BATCH: {error}");
        }
        run()
    }
}

/// Starts a thread. An error that ends it ends the process: half a server serves nobody.
pub(super) fn spawn(
    name: String,
    core: Option<usize>,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.clone());
    builder.spawn(move || {
        if let Some(core) = core
            && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
        {
            tracing::warn!(
                "{name} could not be pinned to core {core}: it runs wherever the kernel puts it"
            );
        }
        if let Err(error) = run() {
            tracing::error!("{name} cannot go on: {error}");
            log::end_process(PANICKED);
        }
    })
}
