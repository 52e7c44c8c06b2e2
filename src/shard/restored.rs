//! What is kept of items beside their values, taken of a group and given back to it.
//!
//! May not know how a store writes it.

use crate::id::ItemId;
use crate::protocol::ttl::Ttl;

use super::Shard;
use super::due::Due;
use super::group::Group;
use super::keep::Marked;
use super::lifetimes::{NEVER, tick_after};

impl Shard {
    /// What is kept of so many of the group's items beside their values, from that place on.
    pub(super) fn marked(&self, group: &Group, from: u64, len: usize) -> Vec<Marked> {
        let lifetimes = group.items().lifetimes();
        if lifetimes.is_none() && group.members.is_none() {
            return Vec::new();
        }
        let items = group.items().named_from(from).take(len).enumerate();
        let marked = items.filter_map(|(at, (slot, name))| {
            let lifetime = lifetimes.and_then(|lifetimes| lifetimes.of(slot));
            let is_member = group.is_member(self.groups.hash(name), name);
            if lifetime.is_none() && !is_member {
                return None;
            }
            let (ttl, ends) = lifetime.unwrap_or((None, NEVER));
            Some(Marked {
                at: at as u32,
                ttl,
                ends_ms: (ends != NEVER).then(|| self.due.wall_of_tick(ends)),
                is_member,
            })
        });
        marked.collect()
    }
}

impl Group {
    /// Whether that item is a member's.
    pub(super) fn restore_member(&mut self, hash: u64, item: &ItemId, is_one: bool) {
        if is_one {
            let members = self.members.get_or_insert_default();
            return members.restore(hash, item);
        }
        if let Some(members) = &mut self.members {
            members.forget(hash, item);
            if members.is_empty() {
                self.members = None;
            }
        }
    }

    /// The item in that slot was written then.
    pub(super) fn restore_lifetime(&mut self, slot: u32, given: Option<Ttl>, time: u64, due: &Due) {
        let of_stream = self.ttl();
        let own = given.or_else(|| self.items.lifetimes()?.of(slot)?.0);
        match own.or(of_stream).map(Ttl::ms) {
            None => {}
            Some(Some(ms)) => self.restore_end(slot, own, time.saturating_add(ms), due),
            // It stays, and is told from the others of its stream where those do not.
            Some(None) => self.items.renew(slot, own, of_stream, 0),
        }
    }

    /// The item in that slot ends then, in ms since 1970; at the latest as if it was written now, for the
    /// clock that said when it was may have been ahead.
    pub(super) fn restore_end(&mut self, slot: u32, own: Option<Ttl>, ends_ms: u64, due: &Due) {
        let lasts = own.or(self.ttl()).and_then(Ttl::ms);
        let tick = due.tick_of_wall(ends_ms);
        let tick = lasts.map_or(tick, |ms| tick.min(tick_after(ms)));
        self.items_mut().end_in(slot, own, tick, 0);
    }
}
