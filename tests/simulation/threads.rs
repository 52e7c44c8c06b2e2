//! The threads of a run as the mesh sees them: who has been woken, and whether one sleeps before a
//! mailbox with something in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iii_stream::mesh::{
    self, EnginePorts, Outbox, Owners, Shared, SocketRoom, StorePorts, Wake, Weigh, WorkerPorts,
    engine_thread, store_thread,
};

/// Messages that a mailbox holds.
const MAILBOX_LEN: usize = 2;
/// And their bytes: one long value is more.
const MAILBOX_BYTES: usize = 300;

/// Workers by their index, then the engine, then the store.
pub(crate) struct Threads {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<Thread>,
}

struct Thread {
    /// It has been woken since it last looked.
    is_woken: Arc<AtomicBool>,
    /// It had nothing to do at the end of its last turn.
    sleeps: bool,
}

/// What each thread has of the mesh.
pub(crate) type Ports = (Vec<WorkerPorts>, EnginePorts, StorePorts);

impl Threads {
    /// Ties so many workers, the engine and the store together.
    pub(crate) fn tie(workers: usize) -> (Threads, Ports) {
        let (mut threads, mut wakes) = (Vec::new(), Vec::new());
        for _ in 0..=store_thread(workers) {
            let is_woken = Arc::new(AtomicBool::new(false));
            let bell = Arc::clone(&is_woken);
            wakes.push(Arc::new(Wake::new(move || {
                bell.store(true, Ordering::Relaxed);
            })));
            threads.push(Thread {
                is_woken,
                sleeps: false,
            });
        }
        let shared = Arc::new(Shared::new(
            Owners::Steered {
                workers: workers as u16,
            },
            wakes,
            SocketRoom::UNLIMITED,
        ));
        let (ports, engine, store) = mesh::tie(Arc::clone(&shared), MAILBOX_LEN, MAILBOX_BYTES);
        let store = store.expect("there is a wake-up for it");
        (Threads { shared, threads }, (ports, engine, store))
    }

    pub(crate) fn engine(&self) -> usize {
        engine_thread(self.shared.workers.len())
    }

    pub(crate) fn store(&self) -> usize {
        store_thread(self.shared.workers.len())
    }

    /// A turn of that thread begins.
    pub(crate) fn begin_turn(&mut self, thread: usize) {
        self.threads[thread]
            .is_woken
            .store(false, Ordering::Relaxed);
        self.shared.wakes[thread].lower();
    }

    /// A turn of that thread has ended: whether there is nothing to do until it is woken.
    pub(crate) fn end_turn(&mut self, thread: usize, sleeps: bool) {
        self.threads[thread].sleeps = sleeps;
    }

    /// Something beside the mesh has come for it.
    pub(crate) fn rouse(&mut self, thread: usize) {
        self.threads[thread].sleeps = false;
    }

    /// Whether nothing will get the thread to its next turn as things are.
    pub(crate) fn sleeps(&self, thread: usize) -> bool {
        let thread = &self.threads[thread];
        thread.sleeps && !thread.is_woken.load(Ordering::Relaxed)
    }

    /// A thread that sleeps has taken all that was sent to it.
    pub(crate) fn check_mailbox(&self, thread: usize, len: usize) {
        assert!(
            len <= MAILBOX_LEN && (len == 0 || !self.sleeps(thread)),
            "thread {thread} sleeps before {len} messages"
        );
    }

    /// A thread that sleeps with messages that found no room has somebody who will wake it: who takes
    /// what is in that mailbox.
    pub(crate) fn check_outbox<M: Weigh>(&self, thread: usize, outbox: &Outbox<M>, len: usize) {
        assert!(
            !outbox.has_backlog() || len > 0 || !self.sleeps(thread),
            "thread {thread} waits for room in an empty mailbox"
        );
    }
}
