//! The addresses of the server's name, for which nobody waits longer than for a connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::RedisStore;
use crate::net::dial::{Resolving, unresolved};

use super::error::Fault;

/// How often it is looked whether they are there.
const LOOK: Duration = Duration::from_millis(10);

/// The answer on its way.
pub(super) struct Lookup {
    resolving: Resolving,
    until: Instant,
}

impl Lookup {
    pub(super) fn begin(settings: &RedisStore, now: Instant) -> Lookup {
        let address = &settings.address;
        Lookup {
            resolving: Resolving::begin(&address.host, address.port, || {}),
            until: now + settings.connect_timeout,
        }
    }

    pub(super) fn look_at(&self, now: Instant) -> Instant {
        self.until.min(now + LOOK)
    }

    /// None: not yet.
    pub(super) fn look(&self, now: Instant) -> Option<Result<Vec<SocketAddr>, Fault>> {
        match self.resolving.look() {
            Some(found) => Some(found.map_err(|error| Fault::of(&error))),
            None if self.until > now => None,
            None => Some(Err(Fault::of(&unresolved()))),
        }
    }
}
