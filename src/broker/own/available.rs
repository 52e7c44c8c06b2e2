//! `engine::functions-available`: whoever follows it hears of a new set of functions soon after it
//! changed, once for all changes of that time.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::broker::own::listings::Listing;

/// How long changes are gathered. The promise is a second, this thread's turns included.
const GATHERED_FOR: Duration = Duration::from_millis(500);

impl Broker {
    /// The set of functions may have changed: that will have to be told.
    pub(in crate::broker) fn expect_to_tell_functions(&mut self) {
        if self.functions.has_changed() && self.functions_due.is_none() {
            self.functions_due = Some(self.now.monotonic + GATHERED_FOR);
        }
    }

    /// When the next change is told.
    pub(in crate::broker) fn next_functions_told(&self) -> Option<Instant> {
        self.functions_due
    }

    /// Tells of what has changed, if it is time.
    pub fn tell_functions(&mut self) {
        if self
            .functions_due
            .is_none_or(|due| due > self.now.monotonic)
        {
            return;
        }
        self.functions_due = None;
        let has_changed = self.functions.take_changed();
        if has_changed && !self.is_draining {
            self.begin_listing(Listing::for_followers());
        }
    }
}
