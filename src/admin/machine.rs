//! What the operating system says of this process: time on the cores a thread, open files, memory.
//!
//! What cannot be read is 0 or missing: no figure is worth an error.

use std::fs;
use std::time::{Duration, Instant};

/// Counting the open files of a process with very many takes a while: so often at most.
const FILES_EVERY: Duration = Duration::from_secs(5);

/// What is known of the process.
#[derive(Default)]
pub(super) struct Machine {
    files: usize,
    files_at: Option<Instant>,
}

/// A thread, and how long it has run on a core, in ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThreadTime {
    pub(super) name: String,
    pub(super) cpu_ns: u64,
}

impl Machine {
    /// Threads in the order of their names; of several of one name the sum.
    pub(super) fn threads(&self) -> Vec<ThreadTime> {
        let Ok(entries) = fs::read_dir("/proc/self/task") else {
            return Vec::new();
        };
        let mut times: Vec<ThreadTime> = Vec::new();
        for entry in entries.flatten() {
            // A thread has the name of another until it has begun.
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let name = name.trim().to_owned();
            let schedule = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
            let cpu_ns = schedule
                .split_whitespace()
                .next()
                .and_then(|ns| ns.parse().ok());
            let cpu_ns = cpu_ns.unwrap_or(0);
            match times.iter_mut().find(|time| time.name == name) {
                Some(time) => time.cpu_ns += cpu_ns,
                None => times.push(ThreadTime { name, cpu_ns }),
            }
        }
        times.sort_by(|a, b| a.name.len().cmp(&b.name.len()).then(a.name.cmp(&b.name)));
        times
    }

    /// Open files, as they were a few seconds ago at most.
    pub(super) fn open_files(&mut self, now: Instant) -> usize {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < FILES_EVERY;
        if !self.files_at.is_some_and(is_fresh) {
            self.files_at = Some(now);
            self.files = count_files();
        }
        self.files
    }

    /// Memory that the process has in use, in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        let read = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = read
            .split_whitespace()
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0) * rustix::param::page_size() as u64
    }
}

/// Newer kernels (6.2) tell how many there are as the size of their directory. Before, it says 0.
fn count_files() -> usize {
    match fs::metadata("/proc/self/fd").map(|files| files.len()) {
        Ok(len) if len > 0 => len as usize,
        _ => list_files(),
    }
}

fn list_files() -> usize {
    // The one that lists them is among them.
    let entries = fs::read_dir("/proc/self/fd");
    entries.map_or(0, |entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_to() {
        let mut machine = Machine::default();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("busy-one".to_owned());
        let thread =
            thread.spawn(
                move || {
                    while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {}
                },
            );
        let until = Instant::now() + Duration::from_secs(30);
        let has_run = |machine: &Machine| {
            let threads = machine.threads();
            threads
                .iter()
                .any(|time| time.name == "busy-one" && time.cpu_ns > 1_000_000)
        };
        while !has_run(&machine) {
            assert!(Instant::now() < until);
        }
        drop(stop);
        thread.unwrap().join().unwrap();
        assert!(machine.open_files(Instant::now()) > 0);
        assert!(machine.resident_bytes() > 1_000_000);
    }
}
