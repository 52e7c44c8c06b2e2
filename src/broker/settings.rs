//! Settings that were read again while the broker serves.

use std::sync::Arc;

use crate::mesh::NewSettings;

use super::{Broker, Effect};

impl Broker {
    /// From here on these hold, for whatever begins now. What is under way keeps the time that it has,
    /// but for auth calls, which get no more than a new one.
    pub(super) fn take_settings(&mut self, settings: Arc<NewSettings>) {
        self.triggers.set_limits(&settings.limits);
        self.turn.limits = settings.limits.clone();
        self.auth.timeout = settings.auth_timeout;
        let now = self.turn.now.monotonic;
        self.calls.shorten_auth(now + settings.auth_timeout);
        self.auth.admits_failures = settings.auth_admits_failures;
        let required = settings.join_required.iter().cloned();
        self.joins.set(required, settings.refuses_failed_joins);
        self.turn.hooks.change(); // workers hear which joins they may not decide themselves
        self.turn.effects.push(Effect::Settings(settings)); // the shell has some of them
    }
}
