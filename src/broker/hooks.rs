//! What workers have to know of triggers and custom functions: a new state after a change, which shares
//! with the one before what has not changed, and is with every worker before the next command that it
//! is sent. The broker makes it, of what several rooms know; the turn sends it.

use std::sync::Arc;

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

    /// Whether the latest state has been made.
    pub(in crate::broker) fn is_made(&self) -> bool {
        self.made.version == self.version
    }

    /// What that worker has still to be told.
    pub(in crate::broker) fn owed_to(&self, worker: usize) -> Option<Arc<Hooks>> {
        let is_told = self.told[worker] == self.version;
        (!is_told).then(|| Arc::clone(&self.made))
    }

    /// That worker has been told what was made last.
    pub(in crate::broker) fn was_told(&mut self, worker: usize) {
        self.told[worker] = self.made.version;
    }
}

impl Broker {
    /// Makes what workers are told, if something of it has changed: before any command is sent.
    pub(in crate::broker) fn make_hooks(&mut self) {
        let state = &self.turn.hooks;
        if state.is_made() {
            return;
        }
        let version = state.version;
        let (events, mut joins, leaves) = self.triggers.followed();
        joins.required = self.joins.required().clone();
        let (events, joins, leaves) = match &self.attached {
            Some(attached) => attached.with_lost(events, joins, leaves),
            None => (events, joins, leaves),
        };
        self.turn.hooks.made = Arc::new(Hooks {
            version,
            events,
            joins,
            leaves,
            custom: self.functions.custom().clone(),
        });
    }

    /// At the end of a turn: workers that nothing was sent to hear of changes as well.
    pub fn tell_all_hooks(&mut self) {
        self.make_hooks();
        for worker in 0..self.turn.ports.to_commands.len() {
            self.turn.tell_hooks(worker); // if not now, then when there is room: it wakes this thread
        }
    }
}
