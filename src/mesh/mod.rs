//! How threads talk: bounded mailboxes, one wake-up for many messages, and who owns a group.
//!
//! Shared mutable state lives here and in `metrics` only; all else belongs to one thread.
//!
//! # Full mailboxes
//!
//! Nothing waits in a send. Each worker has two mailboxes. The *open* one (events, `sync`s, the
//! store's answers) is always drained: taking from it only lengthens bounded lists. The *command*
//! one (calls, joins, leaves, sockets) is left alone while anything stands in a backlog of open
//! messages, replies or store requests, which are what commands bring about; a worker's own sockets
//! are left alone while anything stands in any backlog, since they bring about commands. A backlog
//! of commands does not close the command mailbox: commands bring about none, and two workers that
//! flood each other's groups would wait for each other for ever.

mod addresses;
mod handed;
pub mod inquiries;
mod mailbox;
mod memory;
mod messages;
pub mod operators;
mod owners;
mod pace;
mod requests;
mod settings;
mod settings_ports;
mod shared;
pub mod wake;

pub use addresses::Addresses;
pub use handed::Handed;
pub use mailbox::{Address, Mailbox, Outbox, Wake, Weigh, mailbox};
pub use memory::{Estimate, Memory, Pressure};
pub use messages::{ToEngine, ToOwner, ToStore, ToWorker};
pub use owners::Owners;
pub use pace::Pace;
pub use requests::{AuthFunction, AuthRequest, AuthVerdict, JoinRequest, Presence};
pub use settings::{NewSettings, value_limits};
pub use settings_ports::SettingsPorts;
pub use shared::{ENDING, Shared, SocketRoom};

use std::sync::Arc;

use crate::id::WorkerId;
use crate::shard::Fired;

// With the workers go the threads of the engine, the store and the admin port.
const _: () = assert!(crate::config::THREADS_MAX + 3 <= wake::THREADS_MAX);

/// What a worker has of the mesh.
pub struct WorkerPorts {
    /// Which worker this is.
    pub id: WorkerId,
    /// Always drained.
    pub open: Mailbox<ToWorker>,
    /// Drained while nothing that follows would have to wait.
    pub commands: Mailbox<ToOwner>,
    /// The other workers' open mailboxes, and its own, which it does not use.
    pub to_open: Vec<Outbox<ToWorker>>,
    /// The other workers' command mailboxes, and its own, which it does not use.
    pub to_commands: Vec<Outbox<ToOwner>>,
    /// The engine's.
    pub to_engine: Outbox<ToEngine>,
    /// Its other one, for events that triggers follow: however many those are, answers pass them.
    pub to_fired: Outbox<Fired>,
    /// The store's, if it has a thread.
    pub to_store: Option<Outbox<ToStore>>,
    /// What all may look at.
    pub shared: Arc<Shared>,
}

/// What the engine thread has of the mesh.
pub struct EnginePorts {
    /// What workers say and ask: replies, joins, upgrades, leaves.
    pub mailbox: Mailbox<ToEngine>,
    /// Events that triggers follow.
    pub fired: Mailbox<Fired>,
    /// The workers' command mailboxes.
    pub to_commands: Vec<Outbox<ToOwner>>,
    /// The workers' open mailboxes.
    pub to_open: Vec<Outbox<ToWorker>>,
    /// What all may look at.
    pub shared: Arc<Shared>,
}

/// What the store thread has of the mesh.
pub struct StorePorts {
    /// The shards' requests, and their slices.
    pub mailbox: Mailbox<ToStore>,
    /// The workers' open mailboxes.
    pub to_open: Vec<Outbox<ToWorker>>,
    /// What all may look at.
    pub shared: Arc<Shared>,
}

/// The threads' numbers in a mesh of so many workers.
pub fn engine_thread(workers: usize) -> usize {
    workers
}

/// See [`engine_thread`].
pub fn store_thread(workers: usize) -> usize {
    workers + 1
}

/// Ties the threads together. `shared.wakes` holds one wake-up for each worker, one for the engine
/// and one for the store if it has a thread.
pub fn tie(
    shared: Arc<Shared>,
    len_max: usize,
    bytes_max: usize,
) -> (Vec<WorkerPorts>, EnginePorts, Option<StorePorts>) {
    let workers = shared.connections.len();
    let has_store = shared.wakes.len() > store_thread(workers);
    let wake_of = |thread: usize| Arc::clone(&shared.wakes[thread]);
    let (open_to, open): (Vec<_>, Vec<_>) = (0..workers)
        .map(|worker| mailbox(len_max, bytes_max, wake_of(worker)))
        .unzip();
    let (commands_to, commands): (Vec<_>, Vec<_>) = (0..workers)
        .map(|worker| mailbox(len_max, bytes_max, wake_of(worker)))
        .unzip();
    let (engine_to, engine) = mailbox(len_max, bytes_max, wake_of(engine_thread(workers)));
    let (fired_to, fired) = mailbox(len_max, bytes_max, wake_of(engine_thread(workers)));
    let store = has_store.then(|| mailbox(len_max, bytes_max, wake_of(store_thread(workers))));
    let (store_to, store) = store.map_or((None, None), |(address, mailbox)| {
        (Some(address), Some(mailbox))
    });

    let worker_ports = open
        .into_iter()
        .zip(commands)
        .enumerate()
        .map(|(thread, (open, commands))| WorkerPorts {
            id: WorkerId(thread as u16),
            open,
            commands,
            to_open: outboxes(&open_to, thread),
            to_commands: outboxes(&commands_to, thread),
            to_engine: Outbox::new(engine_to.clone(), thread),
            to_fired: Outbox::new(fired_to.clone(), thread),
            to_store: store_to.clone().map(|address| Outbox::new(address, thread)),
            shared: Arc::clone(&shared),
        })
        .collect();
    let engine_ports = EnginePorts {
        mailbox: engine,
        fired,
        to_commands: outboxes(&commands_to, engine_thread(workers)),
        to_open: outboxes(&open_to, engine_thread(workers)),
        shared: Arc::clone(&shared),
    };
    let store_ports = store.map(|mailbox| StorePorts {
        mailbox,
        to_open: outboxes(&open_to, store_thread(workers)),
        shared: Arc::clone(&shared),
    });
    (worker_ports, engine_ports, store_ports)
}

fn outboxes<M: Weigh>(addresses: &[Address<M>], thread: usize) -> Vec<Outbox<M>> {
    let outbox = |address: &Address<M>| Outbox::new(address.clone(), thread);
    addresses.iter().map(outbox).collect()
}
