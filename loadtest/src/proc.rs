//! What the kernel tells about a process: CPU time, memory, and our own open-file limit.
//!
//! The parsers take text; `Process` reads the files. May not know what is measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Linux reports CPU time in `stat` in these, whatever the kernel's own tick.
const NS_PER_TICK: u64 = 10_000_000;

/// A process under `/proc`.
pub(crate) struct Process {
    folder: PathBuf,
}

/// CPU time used so far: of each thread, or of all where the kernel keeps no run times.
#[derive(Clone, Debug)]
pub(crate) struct CpuTime {
    by_thread: BTreeMap<u32, u64>,
}

impl CpuTime {
    /// Nanoseconds used after `earlier`. A thread that ended in between is not in it.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        let before = |thread: &u32| earlier.by_thread.get(thread).copied().unwrap_or(0);
        self.by_thread
            .iter()
            .map(|(thread, ns)| ns.saturating_sub(before(thread)))
            .sum()
    }
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self {
            folder: PathBuf::from(format!("/proc/{pid}")),
        }
    }

    pub(crate) fn own() -> Self {
        Self {
            folder: PathBuf::from("/proc/self"),
        }
    }

    /// `None` when there is no such process, or it may not be looked at.
    pub(crate) fn cpu_time(&self) -> Option<CpuTime> {
        self.run_times().or_else(|| {
            let ns = parse_stat(&fs::read_to_string(self.folder.join("stat")).ok()?)?;
            Some(CpuTime {
                by_thread: BTreeMap::from([(0, ns)]),
            })
        })
    }

    fn run_times(&self) -> Option<CpuTime> {
        let mut by_thread = BTreeMap::new();
        for thread in fs::read_dir(self.folder.join("task")).ok()?.flatten() {
            let id = thread.file_name().to_str()?.parse().ok()?;
            // A thread may end while its folder is read.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            by_thread.insert(id, parse_schedstat(&text)?);
        }
        (!by_thread.is_empty()).then_some(CpuTime { by_thread })
    }

    /// Resident memory.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        let field =
            |file: &str, name| parse_kib(&fs::read_to_string(self.folder.join(file)).ok()?, name);
        field("smaps_rollup", "Rss:").or_else(|| field("status", "VmRSS:"))
    }
}

/// The first of three numbers: nanoseconds on a CPU.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// User plus system time. The name in brackets may hold blanks and brackets itself.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut times = fields
        .split_ascii_whitespace()
        .skip(11)
        .map(str::parse::<u64>);
    Some((times.next()?.ok()? + times.next()?.ok()?) * NS_PER_TICK)
}

fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Raises the limit on open files as far as it goes and returns it.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() {
        raised
    } else {
        limit
    };
    now.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_is_the_first_number_of_schedstat() {
        assert_eq!(parse_schedstat("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn stat_is_read_behind_the_last_bracket() {
        let text = "77 (a) b (c) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 9 1 2 3";
        assert_eq!(parse_stat(text), Some(3_000_000_000));
        assert_eq!(parse_stat("77 (cut"), None);
    }

    #[test]
    fn memory_is_read_from_either_file() {
        let rollup =
            "55d0-7ff ---p 00000000 00:00 0 [rollup]\nRss:               12345 kB\nPss:  1 kB\n";
        assert_eq!(parse_kib(rollup, "Rss:"), Some(12_345 * 1024));
        assert_eq!(
            parse_kib("Name:\tx\nVmRSS:\t    88 kB\n", "VmRSS:"),
            Some(88 * 1024)
        );
        assert_eq!(parse_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn time_of_a_new_thread_counts_whole() {
        let at = |times: &[(u32, u64)]| CpuTime {
            by_thread: times.iter().copied().collect(),
        };
        assert_eq!(at(&[(1, 15), (2, 7)]).since(&at(&[(1, 10), (3, 99)])), 12);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = Process::own();
        assert!(own.cpu_time().is_some());
        assert!(own.rss_bytes().is_some_and(|bytes| bytes > 0));
        assert!(Process::new(u32::MAX).cpu_time().is_none());
    }
}
