//! What workers have to know of triggers and custom functions: a new state after a change, which shares
//! with the one before what has not changed, and is with every worker before the next command that it
//! is sent.

use std::sync::Arc;

use crate::mesh::ToOwner;
use crate::shard::hooks::Hooks;

use crate::broker::Broker;

/// The state of the hooks, and what each worker has of it.
pub(in crate::broker) struct HooksState {
    /// Of the latest change.
    version: u64,
    /// The latest that was made; older than `version` while a change has still to be told.
    made: Arc<Hooks>,
    /// The version that each worker has.
    told: Vec<u64>,
}

impl HooksState {
    pub(in crate::broker) fn new(workers: usize) -> HooksState {
        HooksState {
            version: 0,
            made: Arc::new(Hooks::default()),
            told: vec![0; workers],
        }
    }

    /// Something that workers have to know has changed. Gives the version of the new state.
    pub(in crate::broker) fn change(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The version that the next change will have.
    pub(in crate::broker) fn next_version(&self) -> u64 {
        self.version + 1
    }
}

impl Broker {
    /// Sees to it that the worker has the newest state; false while it finds no room there.
    pub(in crate::broker) fn tell_hooks(&mut self, worker: usize) -> bool {
        if self.hooks.told[worker] == self.hooks.version {
            return true;
        }
        if self.hooks.made.version != self.hooks.version {
            let (events, joins, leaves) = self.followed();
            self.hooks.made = Arc::new(Hooks {
                version: self.hooks.version,
                events,
                joins,
                leaves,
                custom: self.functions.custom().clone(),
            });
        }
        let state = &mut self.hooks;
        let message = ToOwner::Hooks(Arc::clone(&state.made));
        let is_told = self.ports.to_commands[worker].try_send(message).is_ok();
        if is_told {
            state.told[worker] = state.version;
        }
        is_told
    }

    /// At the end of a turn: workers that nothing was sent to hear of changes as well.
    pub fn tell_all_hooks(&mut self) {
        for worker in 0..self.ports.to_commands.len() {
            self.tell_hooks(worker); // if not now, then when there is room: it wakes this thread
        }
    }
}
