//! Thread kind 2, persistence: what accepts writes, and the loop that serves all shards at once.
//!
//! The border is [`Store`], for files and Redis alike; in memory there is no thread.
//! May not know workers or the engine but through the messages of `mesh`.

pub mod files;
mod memory;
pub mod redis;

pub use memory::Memory;

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::mesh::{StorePorts, ToStore, ToWorker, store_thread, value_limits};
use crate::net::{self, Ready};
use crate::shard::{Learned, Store};
use crate::time::TurnClock;

/// How long the last calls of a store with sockets may take when the process ends.
const LINGER: Duration = Duration::from_secs(1);

/// The store thread's life: what all shards sent since the last turn is served as one, together with
/// what the store's own sockets have.
pub fn run(mut store: Box<dyn Store>, mut poll: Poll, mut ports: StorePorts) -> io::Result<()> {
    let mut events = Events::with_capacity(8);
    let workers = ports.to_open.len();
    let wake = ports.shared.wakes[store_thread(workers)].clone();
    let mut rest = Some(Duration::ZERO);
    let mut is_ending = false;
    while !ports.shared.stopping.load(Ordering::Acquire) {
        wait(&mut *store, &mut poll, &mut events, rest)?;
        let turn = TurnClock::begin();
        wake.lower();
        for outbox in &mut ports.to_open {
            outbox.flush();
        }
        // A neighbour that is full wakes this thread; until then mailbox and sockets wait as well.
        if has_backlog(&ports) {
            rest = store.tend_alone();
            ports.shared.store.loop_turns.note(turn.elapsed());
            continue;
        }
        if !is_ending && ports.shared.is_draining() {
            is_ending = true;
            store.is_ending();
        }
        serve_turn(&mut *store, &mut ports);
        let was_stuck = store.is_stuck();
        rest = tend(&mut *store, &mut ports);
        if was_stuck && !store.is_stuck() {
            rest = Some(Duration::ZERO); // for what was left in the mailbox
        }
        store.measure(&ports.shared.store);
        ports.shared.store.loop_turns.note(turn.elapsed());
    }
    if !is_ending {
        store.is_ending();
    }
    // What was sent before the end, also where answers find no room: nobody waits for them.
    while !store.is_stuck() && serve_mailbox(&mut *store, &mut ports) {}
    let until = Instant::now() + LINGER;
    while !store.is_done() && Instant::now() < until {
        let rest = tend(&mut *store, &mut ports).unwrap_or(LINGER);
        if !store.is_done() {
            wait(&mut *store, &mut poll, &mut events, Some(rest.min(LINGER)))?;
        }
    }
    store.close();
    Ok(())
}

/// Waits until the mailbox, a socket of the store or its rest is over.
fn wait(
    store: &mut dyn Store,
    poll: &mut Poll,
    events: &mut Events,
    rest: Option<Duration>,
) -> io::Result<()> {
    net::wait(poll, events, rest)?;
    for event in &*events {
        if let Ready::Socket { id, ends, .. } = Ready::from(event) {
            store.ready(id, ends);
        }
    }
    Ok(())
}

/// Whether answers have found no room.
fn has_backlog(ports: &StorePorts) -> bool {
    ports.to_open.iter().any(|outbox| outbox.has_backlog())
}

/// Serves what is there, unless answers to what was there before have found no room, or are not known:
/// then a full mailbox holds up those who would ask for more.
fn serve_turn(store: &mut dyn Store, ports: &mut StorePorts) {
    while !store.is_stuck() && !has_backlog(ports) && serve_mailbox(store, ports) {}
}

/// Serves what is in the mailbox as one. False: nothing was there.
fn serve_mailbox(store: &mut dyn Store, ports: &mut StorePorts) -> bool {
    ports.shared.store.mailbox.set_len(ports.mailbox.len());
    let mut requests = Vec::new();
    let mut taken = 0;
    while let Some(message) = ports.mailbox.take() {
        taken += 1;
        match message {
            ToStore::Requests(batch) if requests.is_empty() => requests = batch,
            ToStore::Requests(batch) => requests.extend(batch),
            ToStore::Slice(shard, slice) => store.take_slice(shard, slice),
            ToStore::Settings(settings) => {
                let limits = &settings.limits;
                store.set_limits(value_limits(limits), limits.name_bytes);
            }
        }
    }
    if taken == 0 {
        return false;
    }
    let shared = &ports.shared;
    ports.mailbox.tell_waiters(|thread| shared.wake(thread));
    let mut learned = Vec::with_capacity(requests.len());
    store.serve(requests, &mut learned);
    tell(learned, ports);
    true
}

/// To each shard what is for it, in order.
fn tell(learned: Vec<Learned>, ports: &mut StorePorts) {
    if let [outbox] = &mut ports.to_open[..] {
        if !learned.is_empty() {
            outbox.send(ToWorker::Learned(learned));
            outbox.flush();
        }
        return;
    }
    let mut by_worker: Vec<Vec<Learned>> = ports.to_open.iter().map(|_| Vec::new()).collect();
    for learned in learned {
        let worker = match &learned {
            Learned::Answer(answer) => answer.shard,
            Learned::Channel(group, _) | Learned::Made { key: group, .. } => {
                ports.shared.owners.owner_of(group)
            }
            Learned::Lost => {
                let all = by_worker.iter_mut();
                all.for_each(|learned| learned.push(Learned::Lost));
                continue;
            }
        };
        by_worker[worker.index()].push(learned);
    }
    for (outbox, learned) in ports.to_open.iter_mut().zip(by_worker) {
        if !learned.is_empty() {
            outbox.send(ToWorker::Learned(learned));
            outbox.flush();
        }
    }
}

/// What is due by itself. Behind the answers of the turn, so that a slice holds what they accept.
fn tend(store: &mut dyn Store, ports: &mut StorePorts) -> Option<Duration> {
    let (mut asks, mut learned) = (Vec::new(), Vec::new());
    let rest = store.tend(&mut asks, &mut learned);
    if let Some(reading) = store.clock() {
        for outbox in &mut ports.to_open {
            outbox.send(ToWorker::Clock(reading));
            outbox.flush();
        }
    }
    if !learned.is_empty() {
        tell(learned, ports);
    }
    for (shard, cursor, limits) in asks {
        if let Some(outbox) = ports.to_open.get_mut(shard.index()) {
            outbox.send(ToWorker::Slice(cursor, limits));
            outbox.flush();
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::id::WorkerId;
    use crate::mesh::{self, Owners, Shared, SocketRoom, Wake};
    use crate::shard::{Decides, Request, RequestKind};

    /// Tells of each request twice what fits into no mailbox, and counts how often it is tended alone.
    struct Loud(Arc<AtomicUsize>);

    impl Store for Loud {
        fn decides(&self) -> Decides {
            Decides::Shared
        }

        fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>) {
            learned.extend(requests.iter().map(|_| Learned::Lost));
        }

        fn tend_alone(&mut self) -> Option<Duration> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Some(Duration::from_millis(1))
        }
    }

    #[test]
    fn a_store_is_tended_while_a_worker_is_full() {
        let poll = Poll::new().unwrap();
        let wake_up = net::wake_up(&poll, net::WAKE).unwrap();
        let mut wakes: Vec<Arc<Wake>> = (0..2).map(|_| Arc::new(Wake::new(|| {}))).collect();
        wakes.push(Arc::new(Wake::new(wake_up)));
        let owners = Owners::Hashed { workers: 1 };
        let shared = Arc::new(Shared::new(owners, wakes, SocketRoom::UNLIMITED));
        let (mut workers, _engine, store) = mesh::tie(Arc::clone(&shared), 1, 1000);
        let tended = Arc::new(AtomicUsize::new(0));
        let loud = Box::new(Loud(Arc::clone(&tended)));
        let thread = std::thread::spawn(|| run(loud, poll, store.unwrap()));
        let to_store = workers[0].to_store.as_mut().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while tended.load(Ordering::Relaxed) < 5 {
            let request = Request {
                shard: WorkerId(0),
                epoch: 0,
                number: 0,
                kind: RequestKind::Times { time: 0 },
            };
            let _ = to_store.try_send(ToStore::Requests(vec![request])); // more than one has no room
            to_store.flush();
            assert!(Instant::now() < until, "a full worker stops the store");
            std::thread::yield_now();
        }
        shared.stopping.store(true, Ordering::Release);
        shared.wake(store_thread(1));
        thread.join().unwrap().unwrap();
    }
}
