//! What every run begins with and ends with, whatever its scenario: a look at the machine, threads
//! for its steps, and what is said of the machine at the end.

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

    /// The same; `watch` is called until all are done, and sleeps a little.
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
                    step(part)
                })
            };
            let handles: Vec<_> = parts.into_iter().enumerate().map(start).collect();
            while !handles.iter().all(|handle| handle.is_finished()) {
                watch();
            }
            let results: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
            results
                .into_iter()
                .try_for_each(|result| result.unwrap_or(Err(RunError::ThreadDied)))
        })
    }

    /// Pins the calling thread: from the last core on, for servers that pin begin at the first.
    fn pin(&self, thread: usize) {
        if let Some(core) = self.cores.iter().rev().cycle().nth(thread) {
            core_affinity::set_for_current(*core);
        }
    }

    /// What the machine gave, and what may spoil the figures.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.machine.notes(&self.needs)
    }
}
