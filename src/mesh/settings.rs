//! Settings that were read again while the server runs, and the way by which all threads hear of them.
//!
//! May not know where they were read, nor what a thread makes of them.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Limits;
use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::shard::ValueLimits;

use super::{Outbox, ToEngine, ToStore, ToWorker, WorkerPorts, store_thread};

/// What all threads go by from now on.
#[derive(Debug)]
pub struct NewSettings {
    /// Every limit. Those of the mailboxes are as they were at the start.
    pub limits: Limits,
    /// Web pages from which subscribers may connect; empty: all.
    pub allowed_origins: Vec<OriginRule>,
    /// Web pages of elsewhere that may open a worker port without rules.
    pub worker_origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    pub trusted_proxies: Proxies,
    /// How long an answer of the auth function is awaited.
    pub auth_timeout: Duration,
    /// An auth function that is missing, fails or refuses lets everybody in.
    pub auth_lets_in: bool,
    /// Streams that nobody joins unless a function was asked and answered.
    pub join_required: Vec<String>,
    /// Whether a join is refused whose function fails or is not there.
    pub refuses_failed_joins: bool,
}

/// What of the limits holds for values that a shard or a store makes itself.
pub fn value_limits(limits: &Limits) -> ValueLimits {
    ValueLimits {
        json_depth: limits.json_depth,
        value_bytes: limits.value_bytes,
    }
}

/// The way to all threads of whoever has read settings again.
pub struct SettingsPorts {
    to_workers: Vec<Outbox<ToWorker>>,
    to_engine: Outbox<ToEngine>,
    to_store: Option<Outbox<ToStore>>,
}

impl SettingsPorts {
    /// To the same threads that this worker can reach.
    pub fn beside(worker: &WorkerPorts) -> SettingsPorts {
        // Nobody wakes this thread when a mailbox has room: it looks again by itself.
        let thread = store_thread(worker.to_open.len()) + 1;
        SettingsPorts {
            to_workers: worker.to_open.iter().map(|to| to.again(thread)).collect(),
            to_engine: worker.to_engine.again(thread),
            to_store: worker.to_store.as_ref().map(|to| to.again(thread)),
        }
    }

    /// Sends them to every thread. A thread that has taken them has let go of them.
    pub fn send(&mut self, settings: &Arc<NewSettings>) {
        for outbox in &mut self.to_workers {
            outbox.send(ToWorker::Settings(Arc::clone(settings)));
        }
        self.to_engine
            .send(ToEngine::Settings(Arc::clone(settings)));
        if let Some(outbox) = &mut self.to_store {
            outbox.send(ToStore::Settings(Arc::clone(settings)));
        }
        self.flush();
    }

    /// Sends what has found no room so far.
    pub fn flush(&mut self) {
        self.to_workers.iter_mut().for_each(Outbox::flush);
        self.to_engine.flush();
        if let Some(outbox) = &mut self.to_store {
            outbox.flush();
        }
    }
}
