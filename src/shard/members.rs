//! The members of one group: who is there with which sockets, and until when somebody stays who has none.
//!
//! Leases keep a member: one for each socket. May not know a socket, what stands of a member, or what the
//! settings call a person.

use std::collections::BTreeMap;

use crate::collections::{Index, Slots};
use crate::id::{ItemId, SlotId, Text, WorkerId};

use super::lifetimes::NEVER;

/// A socket keeps a member of a group.
#[derive(Debug)]
pub struct Hold {
    /// Which socket.
    pub lease: Lease,
    /// The member's id, which is its item's name.
    pub id: ItemId,
    /// What is to be known of it: a JSON object.
    pub data: Text,
}

/// One socket, by its worker's name for it: none after it has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The worker that holds the socket.
    pub worker: WorkerId,
    /// The socket, on that worker.
    pub connection: SlotId,
}

/// The members of a group.
#[derive(Default)]
pub(super) struct Members {
    pub(super) slots: Slots<Member>,
    index: Index,
    /// Slots of members by the tick in which they are to be looked at; each has one entry at most.
    queue: BTreeMap<u32, Vec<u32>>,
}

/// One person there.
pub(super) struct Member {
    pub(super) id: ItemId,
    pub(super) hash: u64,
    /// As it was told last; none: since a start nobody has.
    pub(super) data: Option<Text>,
    pub(super) leases: Vec<Lease>,
    /// How many of them its item tells of; none: that is not known, or it has none.
    pub(super) told: Option<usize>,
    /// Without a lease it goes in that tick. 0: that is still to be said.
    pub(super) until: u32,
    /// When it is looked at; [`NEVER`]: it is not.
    pub(super) queued: u32,
    /// It was found at a start, and others of its sockets may still come.
    pub(super) is_found: bool,
    /// Somebody has deleted its item.
    pub(super) is_away: bool,
}

impl Member {
    /// What its item is to tell.
    pub(super) fn connections(&self) -> usize {
        self.leases.len().max(1)
    }
}

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The first tick in which somebody is to be looked at.
    pub(super) fn next(&self) -> u32 {
        self.queue.keys().next().copied().unwrap_or(NEVER)
    }

    pub(super) fn has(&self, hash: u64, id: &str) -> bool {
        self.find(hash, id).is_some()
    }

    fn find(&self, hash: u64, id: &str) -> Option<u32> {
        let is_it = |slot| self.slots.get(slot).is_some_and(|member| *member.id == *id);
        self.index.find(hash, is_it)
    }

    pub(super) fn get_mut(&mut self, hash: u64, id: &str) -> Option<(u32, &mut Member)> {
        let slot = self.find(hash, id)?;
        Some((slot, self.slots.get_mut(slot)?))
    }

    /// That socket is gone. Gives the member that it was one of, if it was one of its.
    pub(super) fn drop_lease(
        &mut self,
        hash: u64,
        id: &str,
        lease: Lease,
    ) -> Option<(u32, &mut Member)> {
        let (slot, member) = self.get_mut(hash, id)?;
        let before = member.leases.len();
        member.leases.retain(|held| *held != lease);
        (member.leases.len() < before).then_some((slot, member))
    }

    pub(super) fn insert(&mut self, member: Member) -> u32 {
        let hash = member.hash;
        let slot = self.slots.insert(member);
        let slots = &self.slots;
        self.index.insert(hash, slot, |slot| {
            slots.get(slot).map_or(0, |member| member.hash)
        });
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(member) = self.slots.remove(slot) {
            self.index.remove(member.hash, |found| found == slot);
        }
    }

    /// It is looked at in that tick, unless that is before.
    pub(super) fn look_in(&mut self, slot: u32, tick: u32) {
        if let Some(member) = self.slots.get_mut(slot)
            && member.queued == NEVER
        {
            member.queued = tick;
            self.queue.entry(tick).or_default().push(slot);
        }
    }

    /// Who is to be looked at next, up to that tick.
    pub(super) fn take_due(&mut self, tick: u32) -> Option<u32> {
        let mut first = self
            .queue
            .first_entry()
            .filter(|first| *first.key() <= tick)?;
        let slot = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        if let Some(member) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            member.queued = NEVER;
        }
        slot
    }

    /// A store has kept that item as a member's.
    pub(super) fn restore(&mut self, hash: u64, id: &ItemId) {
        if self.has(hash, id) {
            return;
        }
        let slot = self.insert(Member {
            id: ItemId::clone(id),
            hash,
            data: None,
            leases: Vec::new(),
            told: None,
            until: 0,
            queued: NEVER,
            is_found: true,
            is_away: false,
        });
        self.look_in(slot, 0);
    }

    /// The same of its end.
    pub(super) fn forget(&mut self, hash: u64, id: &str) {
        if let Some(slot) = self.find(hash, id) {
            if let Some(member) = self.slots.get(slot)
                && let Some(slots) = self.queue.get_mut(&member.queued)
            {
                slots.retain(|queued| *queued != slot);
            }
            self.queue.retain(|_, slots| !slots.is_empty());
            self.remove(slot);
        }
    }

    pub(super) fn check_invariants(&self) {
        let entries: usize = self.queue.values().map(Vec::len).sum();
        let mut queued = 0;
        for (slot, member) in self.slots.iter() {
            debug_assert_eq!(self.find(member.hash, &member.id), Some(slot));
            let is_queued = member.queued != NEVER;
            queued += usize::from(is_queued);
            let slots = self.queue.get(&member.queued);
            debug_assert_eq!(slots.is_some_and(|slots| slots.contains(&slot)), is_queued);
            let waits = member.leases.is_empty() || member.is_found || member.told.is_none();
            debug_assert!(is_queued || !waits || member.is_away, "nobody looks at it");
        }
        debug_assert_eq!(queued, entries);
    }
}
