//! Settings that were read again while the server runs.
//!
//! May not know where they were read, nor what a thread makes of them.

use std::time::Duration;

use crate::config::Limits;
use crate::protocol::origin::OriginRule;
use crate::protocol::proxied::Proxies;
use crate::shard::ValueLimits;

/// What all threads go by from now on.
#[derive(Debug)]
pub struct NewSettings {
    /// Every limit. Those of the mailboxes are as they were at the start.
    pub limits: Limits,
    /// Web pages from which subscribers may connect; empty: all.
    pub allowed_origins: Vec<OriginRule>,
    /// Web pages of elsewhere that may open a worker port without rules.
    pub worker_origins: Vec<OriginRule>,
    /// Whose word counts on where a client is.
    pub trusted_proxies: Proxies,
    /// How long an answer of the auth function is awaited.
    pub auth_timeout: Duration,
    /// An auth function that is missing, fails or refuses lets everybody in.
    pub auth_admits_failures: bool,
    /// Streams that nobody joins unless a function was asked and answered.
    pub join_required: Vec<String>,
    /// Whether a join is refused whose function fails or is not there.
    pub refuses_failed_joins: bool,
}

/// What of the limits holds for values that a shard or a store makes itself.
pub fn value_limits(limits: &Limits) -> ValueLimits {
    ValueLimits {
        json_depth: limits.json_depth,
        value_bytes: limits.value_bytes,
    }
}
