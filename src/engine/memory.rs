//! Measures what the process has of memory, and says so to all threads and, when it is too much, to the
//! log.
//!
//! It is read from the kernel, in a turn or when nothing else wakes this thread; the nearer the limit is, the
//! more often. What follows from it is each thread's own.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::MEMORY_PERCENT_MAX;
use crate::machine::{self, Resident};
use crate::mesh::{Estimate, Pressure};
use crate::metrics::WorkerMetrics;
use crate::time::Rarely;

use super::Engine;

/// Faster than so many bytes a second it does not grow.
const GROWS_A_SECOND: usize = 512 << 20;
/// How often it is measured, at most and at least.
const SOONEST: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_secs(1);
/// What an item takes beside its texts, about: its places in the tables, and what the allocator adds.
const ITEM_BYTES: usize = 100;
/// A socket and what belongs to it, about.
const SOCKET_BYTES: usize = 600;
/// That there is no memory is said once in that time, however often it comes and goes.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// What is needed for it.
pub(super) struct Meter {
    /// None: the kernel does not tell.
    resident: Option<Resident>,
    estimate: Estimate,
    /// The limit where the settings name none; 0: it is not known.
    most_of_all: usize,
    next_at: Instant,
    said: Rarely,
    /// That there is none was said, and how many calls had been refused before.
    refused_before: Option<u64>,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Meter {
        let all = machine::memory(Path::new("/")).unwrap_or(0);
        let most = u128::from(all) * u128::from(MEMORY_PERCENT_MAX) / 100;
        Meter {
            resident: Resident::open(),
            estimate: Estimate::default(),
            most_of_all: usize::try_from(most).unwrap_or(usize::MAX),
            next_at: now,
            said: Rarely::every(SAID_EVERY),
            refused_before: None,
        }
    }

    /// When it is measured again at the latest.
    pub(super) fn next_at(&self) -> Instant {
        self.next_at
    }
}

impl Engine {
    /// Measures, if it is time for that.
    pub(super) fn measure_memory(&mut self) {
        let now = self.now().monotonic;
        if now < self.meter.next_at {
            return;
        }
        self.meter.next_at = now + LATEST;
        let limits = &self.broker.turn.limits;
        let limit = limits.memory_bytes.unwrap_or(self.meter.most_of_all);
        let resident = self.meter.resident.as_ref().and_then(Resident::bytes);
        let Some(resident) = resident else {
            return;
        };
        let shared = &self.broker.turn.ports.shared;
        let weighed = weighed(&shared.workers) + shared.sockets_len() * SOCKET_BYTES;
        let held = self.meter.estimate.held(resident, weighed);
        let pressure = shared.memory.set(held, limit);
        if limit > 0 {
            let room = limit.saturating_sub(held) as f64 / GROWS_A_SECOND as f64;
            let within = Duration::from_secs_f64(room.min(LATEST.as_secs_f64()));
            self.meter.next_at = now + within.clamp(SOONEST, LATEST);
        }
        self.say_of_memory(pressure, held, limit);
    }

    fn say_of_memory(&mut self, pressure: Pressure, held: usize, limit: usize) {
        let now = self.now().monotonic;
        let workers = &self.broker.turn.ports.shared.workers;
        let refused = workers
            .iter()
            .map(|worker| worker.calls_out_of_memory.get());
        let refused: u64 = refused.sum();
        match (pressure, self.meter.refused_before) {
            (Pressure::Full, None) if self.meter.said.ask(now).is_some() => {
                self.meter.refused_before = Some(refused);
                let mib = |bytes: usize| bytes >> 20;
                tracing::warn!(
                    "{} MiB are held, and limits.memory_bytes are {} MiB: subscribers that come are answered 503, \
                     and calls that would add get `server is out of memory`",
                    mib(held),
                    mib(limit)
                );
            }
            (Pressure::Low | Pressure::High, Some(before)) => {
                self.meter.refused_before = None;
                let calls = refused - before;
                tracing::info!("there is memory again; {calls} calls were refused meanwhile");
            }
            _ => {}
        }
    }
}

/// What all workers hold, as they have counted it last.
fn weighed(workers: &[WorkerMetrics]) -> usize {
    let each = workers.iter().map(|worker| {
        let bytes = worker.item_bytes.get() + worker.behind_bytes.get();
        bytes as usize + worker.items.get() as usize * ITEM_BYTES
    });
    each.sum()
}
