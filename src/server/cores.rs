//! How many workers there are, and which cores the threads run on.

use crate::config::{Config, Pin, THREADS_MAX, Threads};
use crate::notes::counted;

use super::StartError;

/// The threads' places.
pub(super) struct Cores {
    pub(super) workers: usize,
    /// The workers' cores, in order; empty where nothing is pinned.
    pinned: Vec<usize>,
    /// Cores that no worker has.
    free: Vec<usize>,
    /// There are more workers than cores.
    pub(super) are_crowded: bool,
}

/// One less than there are cores, for the other threads have to run as well.
fn workers_on(cores: usize) -> usize {
    cores.saturating_sub(1).clamp(1, THREADS_MAX)
}

impl Cores {
    /// Reads the machine. Call it before any thread is pinned: a pinned thread sees one core only.
    pub(super) fn of(config: &Config) -> Result<Cores, StartError> {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        let usable: Vec<usize> = ids.into_iter().map(|core| core.id).collect();
        // The lesser of the affinity mask and the CPU quota.
        let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = match config.threads {
            Threads::Auto => workers_on(parallelism),
            Threads::Count(count) => count,
        };
        let has_quota = parallelism < usable.len();
        let pinned = match &config.pin {
            Pin::None => Vec::new(),
            Pin::Cores(cores) => named(cores, workers, &usable)?,
            Pin::Auto if has_quota || workers > usable.len() => Vec::new(),
            // From the last: the first core is where most systems take their interrupts.
            Pin::Auto => usable.iter().rev().take(workers).copied().collect(),
        };
        // Where no worker is pinned, nobody is.
        let is_free = |core: &usize| !pinned.is_empty() && !pinned.contains(core);
        let free = usable.iter().copied().filter(is_free).collect();
        Ok(Cores {
            workers,
            pinned,
            free,
            are_crowded: workers > parallelism,
        })
    }

    /// The core of that worker, if it has one of its own.
    pub(super) fn of_worker(&self, worker: usize) -> Option<usize> {
        self.pinned.get(worker).copied()
    }

    /// The core of the engine thread: the first that no worker has, if there is one.
    pub(super) fn of_engine(&self) -> Option<usize> {
        self.free.first().copied()
    }

    /// The core of the store thread: the second such core, or the engine's.
    pub(super) fn of_store(&self) -> Option<usize> {
        self.free.get(1).copied().or(self.of_engine())
    }

    /// The core of the admin thread: the last such core.
    pub(super) fn of_admin(&self) -> Option<usize> {
        self.free.last().copied()
    }

    /// Engine and store have to run where the workers run.
    pub(super) fn are_shared(&self) -> bool {
        self.free.is_empty()
    }

    /// For the log.
    pub(super) fn described(&self) -> String {
        let threads = counted(self.workers, "thread");
        if self.pinned.is_empty() {
            return format!("{threads}, not pinned");
        }
        let cores: Vec<String> = self.pinned.iter().map(usize::to_string).collect();
        let core = match cores.len() {
            1 => "core",
            _ => "cores",
        };
        format!("{threads} on {core} {}", cores.join(", "))
    }
}

/// The cores that the configuration names, as far as there are workers for them.
fn named(cores: &[usize], workers: usize, usable: &[usize]) -> Result<Vec<usize>, StartError> {
    if cores.len() < workers {
        let len = cores.len();
        return Err(StartError::Pin(format!(
            "{len} cores for {workers} workers; name one a worker, or set threads"
        )));
    }
    let pinned = &cores[..workers];
    if let Some(core) = pinned.iter().find(|core| !usable.contains(core)) {
        return Err(StartError::Pin(format!(
            "core {core} is not there or not allowed to this process, which has {usable:?}"
        )));
    }
    Ok(pinned.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_has_to_be_long_enough_and_allowed() {
        assert_eq!(named(&[2, 3, 9], 2, &[1, 2, 3]).unwrap(), [2, 3]);
        let too_short = named(&[2], 2, &[2]).unwrap_err().to_string();
        assert_eq!(
            too_short,
            "server.pin: 1 cores for 2 workers; name one a worker, or set threads"
        );
        assert!(named(&[9], 1, &[1, 2]).is_err());
    }

    #[test]
    fn there_is_a_worker_less_than_there_are_cores_and_no_more_than_may_be() {
        let workers = [1, 2, 16, 257, 258, 4096].map(workers_on);
        assert_eq!(workers, [1, 1, 15, 256, 256, 256]);
    }

    #[test]
    fn cores_are_crowded_where_there_are_more_workers_than_they_are() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let are_crowded = |workers| {
            let config = Config {
                threads: Threads::Count(workers),
                ..Config::default()
            };
            Cores::of(&config).unwrap().are_crowded
        };
        assert!(!are_crowded(cores));
        assert!(are_crowded(cores + 1));
    }

    #[test]
    fn the_engine_has_a_core_that_no_worker_has() {
        let config = Config {
            threads: Threads::Count(1),
            ..Config::default()
        };
        let cores = Cores::of(&config).unwrap();
        let worker = cores.of_worker(0);
        assert!(
            cores
                .of_engine()
                .is_none_or(|engine| Some(engine) != worker)
        );
    }
}
