//! What a store keeps of an item beside its value.
//!
//! May not know what comes of it.

use crate::protocol::ttl::Ttl;

/// What was said with one write of an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// How long it lasts unless it is written again; none: as it was told before, or as its stream's do.
    pub ttl: Option<Ttl>,
    /// It is a member's.
    pub is_member: bool,
}

impl Marks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Marks::default()
    }
}
