//! How many workers there are, which cores the threads run on, and how many files may be open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Pin, Threads};

/// Descriptors that are not subscribers': polls, listeners, wake-ups, SDK workers, logs.
const FILES_KEPT: u64 = 256;

/// The threads' places.
pub(super) struct Cores {
    pub(super) workers: usize,
    /// The workers' cores, in order; empty where nothing is pinned.
    pinned: Vec<usize>,
    /// Cores that no worker has.
    free: Vec<usize>,
}

impl Cores {
    /// Reads the machine. Call it before any thread is pinned: a pinned thread sees one core only.
    pub(super) fn of(config: &Config) -> Cores {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        let cores: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
        // The lesser of the affinity mask and the CPU quota.
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = match config.threads {
            Threads::Auto => usable.saturating_sub(1).max(1),
            Threads::Count(count) => count,
        };
        let has_quota = usable < cores.len();
        let pinned = match &config.pin {
            Pin::None => Vec::new(),
            Pin::Cores(cores) => cores.clone(),
            // With one core there is nothing to choose; engine and worker share it.
            Pin::Auto if has_quota || workers > cores.len() => Vec::new(),
            // From the last: the first core is where most systems take their interrupts.
            Pin::Auto => cores.iter().rev().take(workers).copied().collect(),
        };
        let is_free = |core: &usize| !pinned.iter().take(workers).any(|taken| taken == core);
        let free = cores.iter().copied().filter(is_free).collect();
        Cores {
            workers,
            pinned,
            free,
        }
    }

    /// The core of that worker, if it has one of its own.
    pub(super) fn of_worker(&self, worker: usize) -> Option<usize> {
        self.pinned.get(worker).copied()
    }

    /// The core of engine and store, where exactly one is left; with more the kernel chooses.
    pub(super) fn of_others(&self) -> Option<usize> {
        match self.free[..] {
            [only] if !self.pinned.is_empty() => Some(only),
            _ => None,
        }
    }

    /// For the log.
    pub(super) fn described(&self) -> String {
        let workers = match self.workers {
            1 => "1 worker".to_owned(),
            several => format!("{several} workers"),
        };
        if self.pinned.is_empty() {
            return format!("{workers}, not pinned");
        }
        let cores: Vec<String> = self
            .pinned
            .iter()
            .take(self.workers)
            .map(usize::to_string)
            .collect();
        format!("{workers} on core {}", cores.join(", "))
    }
}

/// Raises the limit of open files as far as the system allows; gives how many sockets fit.
pub(super) fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit of open files stays as it is: {error}");
        }
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(FILES_KEPT).max(1)).unwrap_or(usize::MAX)
}
