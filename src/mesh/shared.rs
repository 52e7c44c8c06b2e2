//! What all threads may look at: who is woken how, how many sockets there are and may be, what is counted,
//! and whether the process ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::id::WorkerId;
use crate::metrics::{EngineMetrics, StoreMetrics, WorkerMetrics};
use crate::protocol::handshake::NotReady;
use crate::time::RarelyOfAll;

use super::addresses::Addresses;
use super::inquiries::Inquiries;
use super::mailbox::Wake;
use super::memory::Memory;
use super::operators::Operators;
use super::owners::Owners;
use super::pace::Pace;

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
    /// That somebody is no member, and why.
    pub said_no_member: RarelyOfAll,
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
    /// What operators call by hand.
    pub operators: Operators,
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
    /// For tests: sockets stay where they were steered to, whatever they follow.
    pub steered_stay: AtomicBool,
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
            said_no_member: RarelyOfAll::default(),
            workers: (0..workers).map(|_| WorkerMetrics::default()).collect(),
            engine: EngineMetrics::default(),
            store: StoreMetrics::default(),
            memory: Memory::default(),
            inquiries: (0..workers).map(|_| Inquiries::default()).collect(),
            operators: Operators::default(),
            admin: OnceLock::new(),
            owed: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            steered_to: AtomicUsize::new(usize::MAX),
            steered_stay: AtomicBool::new(true),
        }
    }

    /// A socket is on its way to that worker.
    pub fn count_socket(&self, worker: WorkerId) {
        self.connections[worker.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// How many sockets that worker has, those on their way to it included.
    pub fn sockets_of(&self, worker: WorkerId) -> usize {
        self.connections[worker.index()].load(Ordering::Relaxed)
    }

    /// The worker with the fewest of them.
    pub fn emptiest(&self) -> WorkerId {
        let workers = (0..self.connections.len() as u16).map(WorkerId);
        let emptiest = workers.min_by_key(|worker| self.sockets_of(*worker));
        emptiest.unwrap_or(WorkerId(0))
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
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
