//! The line on a terminal while a run goes on; silent elsewhere.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::scenario::{Setup, Shared};

const TICK: Duration = Duration::from_millis(100);

/// One bar, for one part of a run.
pub(crate) struct Progress {
    bar: ProgressBar,
    counts: Counts,
}

enum Counts {
    Joined,
    Time,
}

impl Progress {
    pub(crate) fn joins(subscribers: u64) -> Self {
        let template = "{bar:30} {pos} of {len} joined";
        Self {
            bar: styled(ProgressBar::new(subscribers), template),
            counts: Counts::Joined,
        }
    }

    /// Warm-up and window.
    pub(crate) fn window(setup: &Setup) -> Self {
        let ms = setup.warmup.as_millis() as u64 + u64::from(setup.seconds) * 1_000;
        let bar = ProgressBar::new(ms);
        Self {
            bar: styled(bar, "{bar:30} {elapsed}, {msg}"),
            counts: Counts::Time,
        }
    }

    /// Shows what there is, and sleeps a little.
    pub(crate) fn show(&self, shared: &Shared) {
        self.show_for(shared, TICK);
    }

    /// The same, with a sleep of `longest` if that is less.
    pub(crate) fn show_for(&self, shared: &Shared, longest: Duration) {
        let joined = shared.joined.load(Ordering::Relaxed);
        match self.counts {
            Counts::Joined => self.bar.set_position(joined),
            Counts::Time => {
                let elapsed_ms = self.bar.elapsed().as_millis() as u64;
                let most = self.bar.length().unwrap_or(elapsed_ms);
                self.bar.set_position(elapsed_ms.min(most));
                let deliveries = shared.deliveries.load(Ordering::Relaxed);
                self.bar
                    .set_message(format!("{joined} joined, {deliveries} deliveries"));
            }
        }
        thread::sleep(TICK.min(longest));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.with_style(
        ProgressStyle::with_template(template).expect("the templates above are well-formed"),
    )
}
