//! What every run begins with and ends with, whatever its scenario: a look at the machine, threads
//! for its steps, and what is said of the machine at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use core_affinity::CoreId;

use crate::client::Clock;
use crate::cost::Meter;
use crate::error::RunError;
use crate::limits::{Machine, Needs};
use crate::progress::Progress;
use crate::scenario::{Setup, Shared, Window};

/// What a run stands on.
pub(crate) struct Run {
    machine: Machine,
    needs: Needs,
    /// Those of the process before any thread is pinned.
    cores: Vec<CoreId>,
    /// A thread is not where it was put.
    is_unpinned: AtomicBool,
    pub(crate) clock: Clock,
    pub(crate) shared: Shared,
    pub(crate) meter: Meter,
}

impl Run {
    /// An error: it cannot be done here.
    pub(crate) fn prepare(setup: &Setup, connections: usize) -> Result<Self, RunError> {
        let machine = Machine::look(setup.pid);
        let needs = setup.needs(connections);
        machine.allow(&needs)?;
        setup.check_process()?;
        Ok(Self {
            machine,
            needs,
            cores: core_affinity::get_core_ids().unwrap_or_default(),
            is_unpinned: AtomicBool::new(false),
            clock: Clock::start(),
            shared: Shared::default(),
            meter: Meter::new(setup.pid),
        })
    }

    /// Warm-up and window, from now on.
    pub(crate) fn window(&self, setup: &Setup) -> Window {
        Window::from(self.clock.now_ns(), setup)
    }

    /// Does one step with each of `parts`, each on a pinned thread of its own, and shows how many
    /// have joined.
    pub(crate) fn join_on_threads<T: Send>(
        &self,
        subscribers: usize,
        parts: impl IntoIterator<Item = T>,
        step: impl Fn(T) -> Result<(), RunError> + Sync,
    ) -> Result<(), RunError> {
        let progress = Progress::joins(subscribers as u64);
        self.on_threads(parts, || progress.show(&self.shared), step)
    }

    /// The same; `watch` is called until all are done, and sleeps a little. One that dies stops the others.
    pub(crate) fn on_threads<T: Send>(
        &self,
        parts: impl IntoIterator<Item = T>,
        mut watch: impl FnMut(),
        step: impl Fn(T) -> Result<(), RunError> + Sync,
    ) -> Result<(), RunError> {
        thread::scope(|scope| {
            let step = &step;
            let start = |(index, part)| {
                scope.spawn(move || {
                    self.pin(index);
                    let _stops = StopsOthers(&self.shared.stop);
                    step(part)
                })
            };
            let handles: Vec<_> = parts.into_iter().enumerate().map(start).collect();
            while !handles.iter().all(|handle| handle.is_finished()) {
                watch();
            }
            let results: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
            let mut results = results.into_iter().enumerate();
            results
                .try_for_each(|(index, result)| result.unwrap_or(Err(RunError::ThreadDied(index))))
        })
    }

    /// Pins the calling thread, from the last core on.
    fn pin(&self, thread: usize) {
        let core = self.cores.iter().rev().cycle().nth(thread);
        if !core.is_some_and(|core| core_affinity::set_for_current(*core)) {
            self.is_unpinned.store(true, Ordering::Relaxed);
        }
    }

    /// What the machine gave, and what may spoil the figures.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.machine.notes(&self.needs);
        if self.is_unpinned.load(Ordering::Relaxed) {
            let note = "a client thread could not be pinned: it runs wherever the kernel puts it";
            notes.push(note.to_owned());
        }
        notes
    }
}

/// Where a thread dies, the others end as well.
struct StopsOthers<'a>(&'a AtomicBool);

impl Drop for StopsOthers<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_on(cores: Vec<CoreId>) -> Run {
        let needs = Needs {
            connections: 1,
            sources: 1,
            handshakes: 1,
            threads: 2,
            is_local: true,
        };
        Run {
            machine: Machine::look(None),
            needs,
            cores,
            is_unpinned: AtomicBool::new(false),
            clock: Clock::start(),
            shared: Shared::default(),
            meter: Meter::new(None),
        }
    }

    #[test]
    fn a_thread_that_dies_stops_the_others_and_is_named() {
        let run = run_on(core_affinity::get_core_ids().unwrap_or_default());
        let stop = &run.shared.stop;
        let step = |dies: bool| {
            assert!(!dies, "as the test wants it");
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            Ok(())
        };
        let ended = run.on_threads([false, true], thread::yield_now, step);
        assert!(matches!(ended, Err(RunError::ThreadDied(1))), "{ended:?}");
    }

    #[test]
    fn a_thread_that_is_not_where_it_was_put_is_said() {
        let is_said = |run: &Run| {
            let done = run.on_threads([()], thread::yield_now, |()| Ok(()));
            assert!(done.is_ok());
            let notes = run.notes();
            notes
                .iter()
                .any(|note| note.contains("could not be pinned"))
        };
        assert!(!is_said(&run_on(
            core_affinity::get_core_ids().unwrap_or_default()
        )));
        assert!(is_said(&run_on(vec![CoreId { id: 1023 }])));
        assert!(is_said(&run_on(Vec::new())));
    }
}
