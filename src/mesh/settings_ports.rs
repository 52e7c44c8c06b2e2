//! The way by which all threads hear of settings that were read again.

use std::sync::Arc;

use super::mailbox::Outbox;
use super::messages::{ToEngine, ToStore, ToWorker};
use super::settings::NewSettings;
use super::{WorkerPorts, store_thread};

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
