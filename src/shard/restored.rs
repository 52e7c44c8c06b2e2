//! What is kept of items beside their values, taken of a group and given back to it.
//!
//! May not know how a store writes it.

use crate::protocol::ttl::Ttl;

use super::Shard;
use super::due::Due;
use super::group::Group;
use super::keep::Marked;
use super::lifetimes::NEVER;

impl Shard {
    /// What is kept of so many of the group's items beside their values, from that place on.
    pub(super) fn marked(&self, group: &Group, from: u64, len: usize) -> Vec<Marked> {
        let Some(lifetimes) = group.items().lifetimes() else {
            return Vec::new();
        };
        let items = group.items().named_from(from).take(len).enumerate();
        let marked = items.filter_map(|(at, (slot, _))| {
            let (ttl, ends) = lifetimes.of(slot)?;
            let ends_ms = (ends != NEVER).then(|| self.due.wall_of_tick(ends));
            let at = at as u32;
            Some(Marked { at, ttl, ends_ms })
        });
        marked.collect()
    }
}

impl Group {
    /// The item in that slot was written then.
    pub(super) fn restore_lifetime(&mut self, slot: u32, given: Option<Ttl>, time: u64, due: &Due) {
        let items = self.items_mut();
        let own = given.or_else(|| items.lifetimes()?.of(slot)?.0);
        match own.or(self.ttl).map(Ttl::ms) {
            None => {}
            Some(Some(ms)) => {
                let tick = due.tick_of_wall(time.saturating_add(ms));
                self.items_mut().end_in(slot, own, tick, 0);
            }
            // It stays, and is told from the others of its stream where those do not.
            Some(None) => self.items.renew(slot, own, self.ttl, 0),
        }
    }
}
