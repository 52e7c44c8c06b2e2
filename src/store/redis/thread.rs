//! The store thread's life on Redis: requests of all shards and what both sockets have, in one poll.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::mesh::{StorePorts, ToStore, ToWorker, store_thread};
use crate::net;

use super::Redis;

/// How long the last calls may take when the process ends.
const LINGER: Duration = Duration::from_secs(1);

/// Runs until the process ends.
pub fn run(mut redis: Redis, mut poll: Poll, mut ports: StorePorts) -> io::Result<()> {
    let mut events = Events::with_capacity(8);
    let wake = ports.shared.wakes[store_thread(ports.to_open.len())].clone();
    redis.link.enter(poll.registry())?;
    let mut rest = Some(Duration::ZERO);
    while !ports.shared.stopping.load(Ordering::Acquire) {
        net::wait(&mut poll, &mut events, rest)?;
        wake.lower();
        redis.take_events(&events);
        for outbox in &mut ports.to_open {
            outbox.flush();
        }
        // A neighbour that is full wakes this thread; until then the sockets wait as well.
        if ports.to_open.iter().any(|outbox| outbox.has_backlog()) {
            rest = None;
            continue;
        }
        let now = Instant::now();
        take_requests(&mut redis, &mut ports, now);
        rest = Some(redis.turn(poll.registry(), now));
        tell(&mut redis, &mut ports);
    }
    take_requests(&mut redis, &mut ports, Instant::now());
    finish(&mut redis, &mut poll, &mut events)
}

/// Sends what was asked before the end; nobody waits for the answers.
fn finish(redis: &mut Redis, poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    let until = Instant::now() + LINGER;
    loop {
        let now = Instant::now();
        let rest = redis.turn(poll.registry(), now);
        if now >= until || !redis.link.is_up() || redis.calls.is_idle() {
            return Ok(());
        }
        net::wait(poll, events, Some(rest.min(LINGER)))?;
        redis.take_events(events);
    }
}

fn take_requests(redis: &mut Redis, ports: &mut StorePorts, now: Instant) {
    let mut taken = 0;
    while let Some(message) = ports.mailbox.take() {
        taken += 1;
        match message {
            ToStore::Requests(requests) => redis.take(requests, now),
            ToStore::Slice(..) => debug_assert!(false, "nothing is asked of the shards"),
        }
    }
    if taken > 0 {
        let shared = &ports.shared;
        ports.mailbox.tell_waiters(|thread| shared.wake(thread));
    }
}

/// What has come, to the shards that it is for. The time first: answers rest on it.
fn tell(redis: &mut Redis, ports: &mut StorePorts) {
    if let Some((ms, at)) = redis.clock.take() {
        for outbox in &mut ports.to_open {
            outbox.send(ToWorker::Clock(ms, at));
        }
    }
    super::super::tell(redis.learned.drain(..), ports);
    for outbox in &mut ports.to_open {
        outbox.flush();
    }
}
