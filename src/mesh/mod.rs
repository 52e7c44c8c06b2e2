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
pub mod inquiries;
mod mailbox;
mod memory;
mod pace;
mod requests;
mod settings;
pub mod wake;

pub use addresses::Addresses;
pub use mailbox::{Address, Mailbox, Outbox, Wake, Weigh, mailbox};
pub use memory::{Estimate, Memory, Pressure};
pub use pace::Pace;
pub use requests::{AuthFunction, AuthRequest, AuthVerdict, JoinRequest, Presence};
pub use settings::{NewSettings, SettingsPorts, value_limits};

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::id::{GroupKey, SlotId, WorkerId};
use crate::metrics::{EngineMetrics, StoreMetrics, WorkerMetrics};
use crate::protocol::handshake::NotReady;
use crate::shard::hooks::Hooks;
use crate::shard::{
    Command, Cursor, CustomCall, Delivered, Delivery, Fired, Learned, Reply, Request, Slice,
    SliceLimits, Told,
};
use crate::time::{ClockReading, RarelyOfAll};

use inquiries::Inquiries;

/// What a worker takes at all times.
pub enum ToWorker {
    /// Something for the subscribers of a group, and when the owner let it go.
    Delivery(Delivery, Instant),
    /// What the store has to say to this shard, in order.
    Learned(Vec<Learned>),
    /// The clock of the store that all hosts share: from here on it counts instead of this host's own.
    Clock(ClockReading),
    /// The store wants a slice of this shard, from there on and so large. It holds what was learned
    /// before, and nothing later.
    Slice(Cursor, SliceLimits),
    /// What a custom function answered this shard.
    Told(Told),
    /// The functions' word on a join: whether it is admitted.
    JoinDecided(Box<JoinRequest>, bool),
    /// The auth function's word on an upgrade.
    Authenticated(SlotId, AuthVerdict),
    /// Who is asked about upgrades from here on. None: everybody is let in.
    AuthFunction(Option<AuthFunction>),
    /// The engine has room for so many owed leaves.
    TakeLeaves(usize),
    /// Settings that were read again.
    Settings(Arc<NewSettings>),
}

/// What a worker takes when nothing that follows from it would have to wait.
pub enum ToOwner {
    /// A command to its shard.
    Command(Command),
    /// A socket that another worker has accepted and not read from.
    Socket(TcpStream),
    /// The streams that SDK workers have hooked onto, from here on.
    Hooks(Arc<Hooks>),
}

/// What the engine thread takes.
pub enum ToEngine {
    /// The answer to a call.
    Reply(Reply),
    /// An event of a stream that triggers follow.
    Fired(Fired),
    /// A custom function is to be asked.
    Custom(CustomCall),
    /// A join is to be decided.
    Join(Box<JoinRequest>),
    /// An upgrade is to be decided.
    Auth(AuthRequest),
    /// A worker owes leaves and waits to be told how many there is room for.
    Owes(WorkerId),
    /// Leaves of that worker, as many as there was room for, and whether more are owed.
    Leaves {
        /// Which worker.
        worker: WorkerId,
        /// In the order in which they came about.
        leaves: Vec<Presence>,
        /// More are owed.
        more: bool,
    },
    /// Settings that were read again.
    Settings(Arc<NewSettings>),
}

/// What the store thread takes.
pub enum ToStore {
    /// One turn's requests of one shard, in order.
    Requests(Vec<Request>),
    /// What it had asked of that shard.
    Slice(WorkerId, Slice),
    /// Settings that were read again.
    Settings(Arc<NewSettings>),
}

impl Weigh for ToWorker {
    fn held_bytes(&self) -> usize {
        match self {
            ToWorker::Delivery(delivery, _) => match &delivery.what {
                Delivered::Event(frame) => frame.held_bytes(),
                Delivered::Entered { sync, .. } => {
                    sync.as_ref().map_or(0, |sync| sync.held_bytes())
                }
                Delivered::Afresh(snapshot) => snapshot.whole.held_bytes(),
            },
            ToWorker::Learned(learned) => learned.iter().map(Learned::held_bytes).sum(),
            ToWorker::Slice(..) | ToWorker::Clock(..) => 0,
            ToWorker::Told(told) => told.held_bytes(),
            ToWorker::JoinDecided(request, _) => request.presence.held_bytes(),
            ToWorker::Authenticated(_, AuthVerdict::Admitted(Some(context))) => context.len(),
            ToWorker::AuthFunction(Some(function)) => function.id.len(),
            ToWorker::AuthFunction(None)
            | ToWorker::Authenticated(..)
            | ToWorker::TakeLeaves(_)
            | ToWorker::Settings(_) => 0,
        }
    }
}

impl Weigh for ToOwner {
    fn held_bytes(&self) -> usize {
        match self {
            ToOwner::Command(command) => command.held_bytes(),
            ToOwner::Socket(_) | ToOwner::Hooks(_) => 0,
        }
    }
}

impl Weigh for ToEngine {
    fn held_bytes(&self) -> usize {
        match self {
            ToEngine::Reply(reply) => reply.outcome.held_bytes(),
            ToEngine::Fired(fired) => fired.frame.held_bytes(),
            ToEngine::Custom(call) => call.input.len(),
            ToEngine::Join(request) => request.presence.held_bytes(),
            ToEngine::Auth(request) => request.input.len(),
            ToEngine::Owes(_) | ToEngine::Settings(_) => 0,
            ToEngine::Leaves { leaves, .. } => leaves.iter().map(Presence::held_bytes).sum(),
        }
    }
}

impl Weigh for ToStore {
    fn held_bytes(&self) -> usize {
        match self {
            ToStore::Requests(requests) => requests.iter().map(Request::held_bytes).sum(),
            ToStore::Slice(_, slice) => slice.held_bytes(),
            ToStore::Settings(_) => 0,
        }
    }
}

/// Which worker owns a group.
#[derive(Debug, Clone, Copy)]
pub enum Owners {
    /// By a fixed hash of the joined name.
    Hashed {
        /// How many workers there are.
        workers: u16,
    },
    /// For tests: a group named `…@2` belongs to worker 2, others as by the hash.
    Steered {
        /// How many workers there are.
        workers: u16,
    },
}

impl Owners {
    /// The group's owner.
    pub fn owner_of(self, key: &GroupKey) -> WorkerId {
        let (Owners::Hashed { workers } | Owners::Steered { workers }) = self;
        if let Owners::Steered { .. } = self
            && let Some((_, named)) = key.group().rsplit_once('@')
            && let Ok(named) = named.parse::<u16>()
        {
            return WorkerId(named % workers);
        }
        let spread = u128::from(fixed_hash(key.joined())) * u128::from(workers);
        WorkerId((spread >> 64) as u16)
    }
}

/// FNV-1a, and a multiplication that carries its low bits up to where [`Owners`] looks.
fn fixed_hash(text: &str) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Why sockets are closed while [`Shared::draining`] holds, for the close frame.
pub const ENDING: &str = "the server ends; come again";

/// What all threads may look at.
pub struct Shared {
    /// Who owns which group.
    pub owners: Owners,
    /// How each thread is woken: the workers by their index, then the engine, then the store.
    pub wakes: Vec<Arc<Wake>>,
    /// Sockets on each worker, those on their way to it included.
    pub connections: Vec<AtomicUsize>,
    /// Those of them that were let in, on all workers: what `limits.connections` bounds.
    pub let_in: AtomicUsize,
    /// Sockets of the engine thread, the link to a running engine included.
    pub sdk_sockets: AtomicUsize,
    /// How many sockets may be accepted.
    pub room: SocketRoom,
    /// How many subscribers each address has, where that is bounded.
    pub addresses: Addresses,
    /// How fast subscribers are accepted, where that is bounded, and SDK workers.
    pub accepts: [Pace; 2],
    /// That sockets are not accepted, and why.
    pub said_no_room: Arc<RarelyOfAll>,
    /// What each worker counts.
    pub workers: Vec<WorkerMetrics>,
    /// What the engine thread counts.
    pub engine: EngineMetrics,
    /// What the store thread counts.
    pub store: StoreMetrics,
    /// What the process has of memory and may have.
    pub memory: Memory,
    /// What each worker is asked about what it holds.
    pub inquiries: Vec<Inquiries>,
    /// How the admin thread is woken, where there is one.
    pub admin: OnceLock<Arc<Wake>>,
    /// Leaves that workers owe to functions and the engine has not taken.
    pub owed: AtomicUsize,
    /// The process ends: no new sockets, and those that are there are closed one after another.
    pub draining: AtomicBool,
    /// Every socket is gone, or has had its time: the threads end.
    pub stopping: AtomicBool,
    /// For tests: the worker that gets the next sockets; none if out of range.
    pub steered_to: AtomicUsize,
}

/// A refusal of the store counts so long: who gets no traffic would never hear that it takes writes again.
const REFUSAL_COUNTS_MS: u64 = 10_000;

/// How many sockets may be open, in whatever phase: beyond, those that wait are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketRoom {
    /// On all ports.
    pub all: usize,
    /// On the stream port, so that SDK workers find room beside.
    pub stream: usize,
}

impl SocketRoom {
    /// For tests: as many as the system lets.
    pub const UNLIMITED: SocketRoom = SocketRoom {
        all: usize::MAX,
        stream: usize::MAX,
    };
}

impl Shared {
    /// Of so many workers as the owners have, without a socket.
    pub fn new(owners: Owners, wakes: Vec<Arc<Wake>>, room: SocketRoom) -> Shared {
        let (Owners::Hashed { workers } | Owners::Steered { workers }) = owners;
        Shared {
            owners,
            wakes,
            connections: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            let_in: AtomicUsize::new(0),
            sdk_sockets: AtomicUsize::new(0),
            room,
            addresses: Addresses::default(),
            accepts: Default::default(),
            said_no_room: Arc::default(),
            workers: (0..workers).map(|_| WorkerMetrics::default()).collect(),
            engine: EngineMetrics::default(),
            store: StoreMetrics::default(),
            memory: Memory::default(),
            inquiries: (0..workers).map(|_| Inquiries::default()).collect(),
            admin: OnceLock::new(),
            owed: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            steered_to: AtomicUsize::new(usize::MAX),
        }
    }

    /// A socket of that worker is gone.
    pub fn uncount_socket(&self, worker: WorkerId) {
        self.connections[worker.index()].fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a socket among those that are let in, if fewer than `most` are.
    pub fn count_let_in(&self, most: usize) -> bool {
        let has_room = self.let_in.fetch_add(1, Ordering::Relaxed) < most;
        if !has_room {
            self.uncount_let_in();
        }
        has_room
    }

    /// One of those that were let in is gone.
    pub fn uncount_let_in(&self) {
        self.let_in.fetch_sub(1, Ordering::Relaxed);
    }

    /// A leave is owed.
    pub fn count_owed(&self) {
        self.owed.fetch_add(1, Ordering::Release);
    }

    /// The engine has taken so many leaves.
    pub fn uncount_owed(&self, len: usize) {
        self.owed.fetch_sub(len, Ordering::Release);
    }

    /// How many leaves all workers owe.
    pub fn owed_len(&self) -> usize {
        self.owed.load(Ordering::Acquire)
    }

    /// All sockets.
    pub fn sockets_len(&self) -> usize {
        self.connections_len() + self.sdk_sockets.load(Ordering::Relaxed)
    }

    /// Whether one more socket may be accepted on the stream port.
    pub fn has_room_for_subscriber(&self) -> bool {
        self.connections_len() < self.room.stream && self.has_room_for_socket()
    }

    /// Whether one more socket may be accepted on any port.
    pub fn has_room_for_socket(&self) -> bool {
        self.sockets_len() < self.room.all
    }

    /// Why no further socket may be accepted, for the log.
    pub fn no_room(&self) -> String {
        format!(
            "{} sockets are open, and the last files are kept for the store",
            self.sockets_len()
        )
    }

    /// Sockets of all workers.
    pub fn connections_len(&self) -> usize {
        let counts = self
            .connections
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        counts.sum()
    }

    /// Wakes the thread of that number.
    pub fn wake(&self, thread: usize) {
        if let Some(wake) = self.wakes.get(thread) {
            wake.wake();
        }
    }

    /// Tells every thread that the process is about to end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Tells every thread to end now.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    /// How many turns each thread has made: the workers by their index, then the engine, then the store if it
    /// has a thread.
    pub fn turns(&self) -> Vec<u64> {
        let workers = self.workers.iter().map(|worker| worker.loop_turns.len());
        let others = [self.engine.loop_turns.len(), self.store.loop_turns.len()];
        workers.chain(others).take(self.wakes.len()).collect()
    }

    /// Why nobody new should be sent here, if so: load balancers ask. `now_ms`: since 1970.
    pub fn not_ready(&self, now_ms: u64) -> Option<NotReady> {
        let refuses = |worker: &WorkerMetrics| {
            let since = now_ms.saturating_sub(worker.store_refused_ms.get());
            worker.store_refuses.is_set() && since < REFUSAL_COUNTS_MS
        };
        if self.draining.load(Ordering::Acquire) {
            Some(NotReady::Draining)
        } else if self.store.is_down.is_set() {
            Some(NotReady::StoreDown)
        } else if self.workers.iter().any(refuses) {
            Some(NotReady::StoreRefuses)
        } else {
            None
        }
    }

    /// Wakes every thread.
    pub fn wake_all(&self) {
        for wake in self.wakes.iter().chain(self.admin.get()) {
            wake.wake();
        }
    }
}

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
    /// The other workers' command mailboxes.
    pub to_commands: Vec<Outbox<ToOwner>>,
    /// The engine's.
    pub to_engine: Outbox<ToEngine>,
    /// The store's, if it has a thread.
    pub to_store: Option<Outbox<ToStore>>,
    /// What all may look at.
    pub shared: Arc<Shared>,
}

/// What the engine thread has of the mesh.
pub struct EnginePorts {
    /// What workers say and ask: replies, events that triggers follow, joins, upgrades, leaves.
    pub mailbox: Mailbox<ToEngine>,
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
            to_store: store_to.clone().map(|address| Outbox::new(address, thread)),
            shared: Arc::clone(&shared),
        })
        .collect();
    let engine_ports = EnginePorts {
        mailbox: engine,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_evenly_and_always_the_same_way() {
        let owners = Owners::Hashed { workers: 15 };
        let mut counts = [0_u32; 15];
        for n in 0..15_000 {
            let key = GroupKey::new("presence", &format!("room-{n}"));
            counts[owners.owner_of(&key).index()] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
        // Another value would move every group to another owner between two hosts of one version.
        let known = ["room-1", "room-2", "room-3"].map(|group| {
            let WorkerId(owner) = owners.owner_of(&GroupKey::new("presence", group));
            owner
        });
        assert_eq!(known, [10, 4, 14]);
        assert_eq!(
            Owners::Steered { workers: 3 }.owner_of(&GroupKey::new("s", "g@2")),
            WorkerId(2)
        );
    }
}
