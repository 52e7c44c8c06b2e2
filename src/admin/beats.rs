//! Whether every thread still turns: each is woken once a second, and has to have turned since.

use std::time::{Duration, Instant};

use crate::mesh::Shared;

/// A thread that has not turned for so long is stuck.
const STUCK: Duration = Duration::from_secs(5);
/// The same of the store's, which may wait for a disk.
const STORE_STUCK: Duration = Duration::from_secs(30);

/// The threads, and when each has turned last.
pub(super) struct Beats {
    threads: Vec<Thread>,
}

struct Thread {
    name: String,
    turns: u64,
    turned_at: Instant,
}

impl Beats {
    pub(super) fn new(workers: usize, has_store: bool, now: Instant) -> Beats {
        let workers = (0..workers).map(|worker| format!("worker-{worker}"));
        let names = workers.chain(["engine".to_owned()]);
        let names = names.chain(has_store.then(|| "store".to_owned()));
        let threads = names.map(|name| Thread {
            name,
            turns: 0,
            turned_at: now,
        });
        Beats {
            threads: threads.collect(),
        }
    }

    /// Looks who has turned.
    pub(super) fn look(&mut self, shared: &Shared, now: Instant) {
        let workers = shared.workers.iter().map(|worker| worker.loop_turns.len());
        let engine = shared.engine.loop_turns.len();
        let turns = workers.chain([engine, shared.store.loop_turns.len()]);
        for (thread, turns) in self.threads.iter_mut().zip(turns) {
            if thread.turns != turns {
                thread.turns = turns;
                thread.turned_at = now;
            }
        }
    }

    /// The thread that is stuck for longest, and for how long; `None`: all turn.
    pub(super) fn silent(&self, now: Instant) -> Option<(&str, Duration)> {
        let silent = self.threads.iter().filter_map(|thread| {
            let silent = now.saturating_duration_since(thread.turned_at);
            let most = if thread.name == "store" {
                STORE_STUCK
            } else {
                STUCK
            };
            (silent > most).then_some((&*thread.name, silent))
        });
        silent.max_by_key(|(_, silent)| *silent)
    }

    pub(super) fn turns_of(&self, name: &str) -> Option<u64> {
        Some(self.find(name)?.turns)
    }

    pub(super) fn turned_ms_ago(&self, name: &str, now: Instant) -> Option<u64> {
        let silent = now.saturating_duration_since(self.find(name)?.turned_at);
        Some(silent.as_millis() as u64)
    }

    fn find(&self, name: &str) -> Option<&Thread> {
        self.threads.iter().find(|thread| thread.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Owners, SocketRoom};

    #[test]
    fn a_thread_that_does_not_turn_is_named() {
        let owners = Owners::Hashed { workers: 2 };
        let shared = Shared::new(owners, Vec::new(), SocketRoom::UNLIMITED);
        let began = Instant::now();
        let mut beats = Beats::new(2, false, began);
        let after = |seconds| began + Duration::from_secs(seconds);
        shared.workers[0].loop_turns.note(Duration::ZERO);
        beats.look(&shared, after(4));
        assert_eq!(beats.silent(after(5)), None);
        shared.workers[0].loop_turns.note(Duration::ZERO);
        shared.engine.loop_turns.note(Duration::ZERO);
        beats.look(&shared, after(6));
        assert_eq!(
            beats.silent(after(7)),
            Some(("worker-1", Duration::from_secs(7)))
        );
        assert_eq!(beats.turns_of("worker-0"), Some(2));
        assert_eq!(beats.turned_ms_ago("engine", after(7)), Some(1000));
    }
}
