//! What the kernel tells about a process: CPU time, context switches, memory, cores.
//!
//! The parsers take text; `Process` reads the files. May not know what is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Linux reports CPU time in `stat` in these, whatever the kernel's own tick.
const NS_PER_TICK: u64 = 10_000_000;

/// No thread has this number.
const WHOLE: u32 = 0;

/// A process under `/proc`.
pub(crate) struct Process {
    folder: PathBuf,
}

/// What a process has used so far: by thread, or in all where the kernel keeps no run times.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    by_thread: BTreeMap<u32, Used>,
}

/// CPU time and context switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) cpu_ns: u64,
    /// The thread went to sleep.
    pub(crate) voluntary: u64,
    /// The thread was sent off its core.
    pub(crate) involuntary: u64,
}

impl Usage {
    /// What was used after `earlier`. A thread that ended in between is not in it.
    pub(crate) fn since(&self, earlier: &Self) -> Used {
        let mut sum = Used::default();
        for (thread, used) in &self.by_thread {
            let before = earlier.by_thread.get(thread).copied().unwrap_or_default();
            sum.cpu_ns += used.cpu_ns.saturating_sub(before.cpu_ns);
            sum.voluntary += used.voluntary.saturating_sub(before.voluntary);
            sum.involuntary += used.involuntary.saturating_sub(before.involuntary);
        }
        sum
    }
}

impl Usage {
    /// What the thread has used that used most after `earlier`; `None` where threads are not told apart.
    pub(crate) fn busiest_ns_since(&self, earlier: &Self) -> Option<u64> {
        let before = |thread| earlier.by_thread.get(thread).map_or(0, |used| used.cpu_ns);
        let threads = self.by_thread.iter();
        let all =
            threads.map(|(thread, used)| (*thread, used.cpu_ns.saturating_sub(before(thread))));
        all.filter(|(thread, _)| *thread != WHOLE)
            .map(|(_, cpu_ns)| cpu_ns)
            .max()
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
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage_of_threads().or_else(|| {
            let cpu_ns = parse_stat(&fs::read_to_string(self.folder.join("stat")).ok()?)?;
            let used = Used {
                cpu_ns,
                ..Used::default()
            };
            Some(Usage {
                by_thread: BTreeMap::from([(WHOLE, used)]),
            })
        })
    }

    fn usage_of_threads(&self) -> Option<Usage> {
        let mut by_thread = BTreeMap::new();
        for thread in fs::read_dir(self.folder.join("task")).ok()?.flatten() {
            let id = thread.file_name().to_str()?.parse().ok()?;
            // A thread may end while its folder is read.
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                continue;
            };
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let switches = |name| parse_field(&status, name).and_then(|text| text.parse().ok());
            let used = Used {
                cpu_ns: parse_schedstat(&text)?,
                voluntary: switches("voluntary_ctxt_switches:").unwrap_or(0),
                involuntary: switches("nonvoluntary_ctxt_switches:").unwrap_or(0),
            };
            by_thread.insert(id, used);
        }
        (!by_thread.is_empty()).then_some(Usage { by_thread })
    }

    /// The cores it may run on.
    pub(crate) fn cores(&self) -> Option<BTreeSet<u32>> {
        let text = fs::read_to_string(self.folder.join("status")).ok()?;
        Some(parse_cores(parse_field(&text, "Cpus_allowed_list:")?))
    }

    /// How many files it may open.
    pub(crate) fn open_files_limit(&self) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join("limits")).ok()?;
        let line = parse_field(&text, "Max open files")?;
        line.split_ascii_whitespace().next()?.parse().ok()
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

/// What follows `name` on its line.
fn parse_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let kib: u64 = parse_field(text, name)?
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kib * 1024)
}

/// `0-3,8`.
fn parse_cores(text: &str) -> BTreeSet<u32> {
    let mut cores = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu_ns() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    parse_schedstat(&text).ok_or_else(|| io::Error::other("schedstat has no number"))
}

/// CPU time that all processes have used since the machine started.
pub(crate) fn machine_cpu_ns() -> Option<u64> {
    parse_machine(&fs::read_to_string("/proc/stat").ok()?)
}

/// The first line: user, nice, system, idle, wait, interrupts, soft interrupts, stolen, guests.
fn parse_machine(text: &str) -> Option<u64> {
    let numbers: Vec<u64> = parse_field(text, "cpu ")?
        .split_ascii_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6].map(|index| numbers.get(index).copied());
    busy.into_iter()
        .try_fold(0, |sum, ticks| Some(sum + ticks? * NS_PER_TICK))
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
    fn cores_and_the_machine_are_read() {
        assert_eq!(parse_cores("0-2,8"), BTreeSet::from([0, 1, 2, 8]));
        assert!(parse_cores("").is_empty());
        let text = "cpu  10 1 5 900 7 2 3 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n";
        assert_eq!(parse_machine(text), Some(210_000_000));
    }

    #[test]
    fn use_of_a_new_thread_counts_whole() {
        let at = |threads: &[(u32, u64, u64)]| Usage {
            by_thread: threads
                .iter()
                .map(|(thread, cpu_ns, voluntary)| {
                    let used = Used {
                        cpu_ns: *cpu_ns,
                        voluntary: *voluntary,
                        involuntary: 0,
                    };
                    (*thread, used)
                })
                .collect(),
        };
        let used = at(&[(1, 15, 4), (2, 7, 1)]).since(&at(&[(1, 10, 4), (3, 99, 9)]));
        assert_eq!((used.cpu_ns, used.voluntary), (12, 1));
        let busiest = |threads| at(threads).busiest_ns_since(&at(&[(1, 10, 4), (3, 99, 9)]));
        assert_eq!(busiest(&[(1, 15, 4), (2, 7, 1)]), Some(7));
        assert_eq!(busiest(&[(WHOLE, 15, 4)]), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = Process::own();
        assert!(own.usage().is_some());
        assert!(own.rss_bytes().is_some_and(|bytes| bytes > 0));
        assert!(own.cores().is_some_and(|cores| !cores.is_empty()));
        assert!(own.open_files_limit().is_some());
        assert!(machine_cpu_ns().is_some());
        assert!(Process::new(u32::MAX).usage().is_none());
    }
}
