//! What lists tell of.

use crate::broker::calls::Calls;
use crate::broker::own::present::Present;
use crate::broker::registry::Functions;
use crate::broker::triggers::Triggers;
use crate::broker::turn::Turn;

/// What lists tell of, to be read.
pub(super) struct Sources<'a> {
    pub(super) turn: &'a Turn,
    pub(super) functions: &'a Functions,
    pub(super) triggers: &'a Triggers,
    pub(super) present: &'a Present,
    pub(super) calls: &'a Calls,
    /// When the broker was made, in ms since 1970.
    pub(super) started_ms: u64,
}
