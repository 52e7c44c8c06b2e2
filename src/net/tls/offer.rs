//! What the next handshake shows. Each thread has its own hand on it; new files are taken over by one
//! swap, and whoever is connected hears nothing of that.
//!
//! Whoever looks for new files does so on a thread that may read files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::ProducesTickets;

use super::files::{Faulty, Loaded, Shown, Stamp};
use super::session::Session;
use crate::config::TlsFiles;

/// What one port shows, for all threads.
pub struct Offered {
    files: TlsFiles,
    /// With them clients of one thread come back to another.
    tickets: Arc<dyn ProducesTickets>,
    current: Mutex<Arc<ServerConfig>>,
    /// Which one that is: threads ask for it when this has changed.
    generation: AtomicU64,
    not_after_s: AtomicU64,
    looked: Mutex<Looked>,
}

/// What was seen of the files.
struct Looked {
    at: Stamp,
    /// Others, which could not be used: they may have been half written.
    doubtful: Option<Stamp>,
}

/// What a look at the files has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Same,
    /// New files are shown from now on: until when they count.
    Taken(String),
    /// New files cannot be used, and the old ones are still shown.
    Faulty(Faulty),
}

impl Offered {
    /// Reads the files for the first time.
    pub fn load(files: TlsFiles) -> Result<Offered, Faulty> {
        let at = files.stamp(); // before they are read: what is written meanwhile is seen later
        let tickets = tickets(&files)?;
        let loaded = files.load(Arc::clone(&tickets), SystemTime::now())?;
        Ok(Offered {
            tickets,
            current: Mutex::new(loaded.config),
            generation: AtomicU64::new(0),
            not_after_s: AtomicU64::new(seconds(loaded.not_after)),
            looked: Mutex::new(Looked { at, doubtful: None }),
            files,
        })
    }

    /// When the certificate that is shown counts no more, in seconds since 1970.
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s.load(Ordering::Relaxed)
    }

    /// The same, for people.
    pub fn not_after(&self) -> String {
        Shown(UNIX_EPOCH + Duration::from_secs(self.not_after_s())).to_string()
    }

    /// Whether that is sooner than in so long.
    pub fn expires_within(&self, within: Duration) -> bool {
        let left = self
            .not_after_s()
            .saturating_sub(seconds(SystemTime::now()));
        Duration::from_secs(left) < within
    }

    /// Takes the files if they have changed. Those that cannot be used are told of once, at the second
    /// look: one file of two may be there already.
    pub fn look(&self) -> Look {
        let mut looked = locked(&self.looked);
        let at = self.files.stamp();
        if at == looked.at {
            return Look::Same;
        }
        match self.take() {
            Err(_) if looked.doubtful.as_ref() != Some(&at) => {
                looked.doubtful = Some(at);
                Look::Same
            }
            outcome => {
                *looked = Looked { at, doubtful: None };
                outcome.map_or_else(Look::Faulty, Look::Taken)
            }
        }
    }

    /// Takes the files, whether they have changed or not.
    pub fn reload(&self) -> Look {
        let mut looked = locked(&self.looked);
        let at = self.files.stamp();
        *looked = Looked { at, doubtful: None };
        self.take().map_or_else(Look::Faulty, Look::Taken)
    }

    fn take(&self) -> Result<String, Faulty> {
        // A ticket would let a client in whose authority may be gone by now.
        let tickets = match self.files.client_ca {
            Some(_) => tickets(&self.files)?,
            None => Arc::clone(&self.tickets),
        };
        let Loaded { config, not_after } = self.files.load(tickets, SystemTime::now())?;
        *locked(&self.current) = config;
        self.not_after_s
            .store(seconds(not_after), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(self.not_after())
    }
}

/// It fails only where the system has no random numbers.
fn tickets(files: &TlsFiles) -> Result<Arc<dyn ProducesTickets>, Faulty> {
    Ticketer::new().map_err(|error| files.faulty(error))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread's hand on it.
pub struct Offer {
    offered: Arc<Offered>,
    generation: u64,
    config: Arc<ServerConfig>,
}

impl Offer {
    /// From that which all threads have.
    pub fn new(offered: Arc<Offered>) -> Offer {
        let generation = offered.generation.load(Ordering::Acquire);
        let config = Arc::clone(&locked(&offered.current));
        Offer {
            offered,
            generation,
            config,
        }
    }

    /// A session that shows what is to be shown now.
    pub(super) fn session(&mut self) -> Result<Session, rustls::Error> {
        let generation = self.offered.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.config = Arc::clone(&locked(&self.offered.current));
            self.generation = generation;
        }
        Session::new(Arc::clone(&self.config))
    }
}
