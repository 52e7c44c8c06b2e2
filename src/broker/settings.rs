//! Settings that were read again while the broker serves.

use std::sync::Arc;

use crate::collections::PersistentSet;
use crate::mesh::NewSettings;

use super::{Broker, Effect};

impl Broker {
    /// From here on these hold, for whatever begins now. What is under way keeps the time that it has.
    pub(super) fn take_settings(&mut self, settings: Arc<NewSettings>) {
        self.triggers.set_limits(&settings.limits);
        self.limits = settings.limits.clone();
        self.auth.timeout = settings.auth_timeout;
        self.auth.admits_failures = settings.auth_admits_failures;
        self.refuses_failed_joins = settings.refuses_failed_joins;
        self.join_required = names(settings.join_required.iter().cloned());
        self.hooks.change(); // workers hear which joins they may not decide themselves
        self.effects.push(Effect::Settings(settings)); // the shell has some of them
    }
}

/// A set of names of streams.
pub(super) fn names(streams: impl IntoIterator<Item = String>) -> PersistentSet {
    let mut names = PersistentSet::default();
    for stream in streams {
        names.insert(stream.into());
    }
    names
}
