//! Settings that were read again while there are subscribers.

use crate::fanout;
use crate::life::Sockets as _;
use crate::mesh::{NewSettings, value_limits};

use super::Subscribers;
use super::connections::Socket;

impl<S: Socket> Subscribers<S> {
    /// From here on these hold. Who is beyond a limit now stays until it does what the limit is about.
    pub(super) fn take_settings(&mut self, settings: &NewSettings) {
        let limits = &settings.limits;
        self.half_open.set_limits(limits, self.workers_len());
        self.fanout.set_bounds(fanout::Bounds {
            reader: limits.behind_bytes,
            worker: limits.behind_bytes_worker,
            custom_events: limits.custom_events_behind,
        });
        self.shard.set_limits(value_limits(limits));
        self.shard.set_members_max(limits.members_per_group);
        self.set_times(limits, self.connections.ids());
        self.limits = limits.clone();
        self.allowed_origins.clone_from(&settings.allowed_origins);
        self.proxies.clone_from(&settings.trusted_proxies);
        if let Some(auth) = &mut self.auth {
            auth.admits_failures = settings.auth_admits_failures;
        }
    }

    fn workers_len(&self) -> usize {
        self.ports.shared.connections.len()
    }
}
