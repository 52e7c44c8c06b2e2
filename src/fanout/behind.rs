//! How the groups here and their sockets stand, for who looks at them from outside. Changes nothing.

use std::hash::BuildHasher;

use crate::id::{GroupKey, LocalGroupId, SlotId};

use super::Fanout;
use super::group::LocalGroup;
use super::reader::{Membership, Reader};

/// What a socket has still to be sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// Bytes: of events, and of what is for it alone.
    pub bytes: usize,
    /// Events that have come since it was last given one. Some may not be for it.
    pub events: u64,
}

impl Fanout {
    /// How far behind a socket is, in all its groups together.
    pub fn behind(&self, reader: &Reader) -> Behind {
        let mut behind = Behind {
            bytes: reader.queue_bytes(),
            events: 0,
        };
        if !reader.blocked && reader.queue_is_empty() {
            return behind; // what came this turn is on its way
        }
        let memberships = (0..).map_while(|number| reader.candidate(number));
        for membership in memberships {
            let Membership { local, at, .. } = reader.memberships[membership];
            if let Some(group) = self.groups.get(local) {
                let next = group.next_of(at);
                behind.bytes += group.list.bytes_from(next);
                behind.events += group.list.end().saturating_sub(next);
            }
        }
        behind
    }

    /// How much it takes to look at that socket.
    pub fn look_cost(&self, reader: &Reader) -> usize {
        1 + match reader.blocked {
            true => reader.memberships.len(),
            false => 0,
        }
    }

    /// Some of the groups that a socket follows.
    pub fn groups_of<'a>(&'a self, reader: &'a Reader) -> impl Iterator<Item = &'a GroupKey> {
        let locals = reader.memberships.iter().map(|entry| entry.local);
        locals.filter_map(|local| Some(&self.groups.get(local)?.key))
    }

    /// How many sockets here follow the group.
    pub fn followers(&self, key: &GroupKey) -> usize {
        let found = self.find(self.hasher.hash_one(key), key);
        found.map_or(0, |local| self.followers_of(local))
    }

    /// Above every slot in which a group stands here.
    pub fn slots_end(&self) -> u32 {
        self.groups.slots_end()
    }

    /// The group that stands in a slot, and how many sockets here follow it. `None` for a cohort.
    pub fn group_at(&self, slot: u32) -> Option<(&GroupKey, usize)> {
        let local = self.groups.id_at(slot)?;
        let group = self.groups.get(local)?;
        (!group.is_cohort()).then(|| (&group.key, self.followers_of(local)))
    }

    fn followers_of(&self, local: SlotId) -> usize {
        let followers = |local: LocalGroupId| {
            let group = self.groups.get(local);
            group.map_or(0, |group| group.members.len() + group.watchers_total())
        };
        let cohorts = self.groups.get(local).map_or(&[][..], LocalGroup::cohorts);
        let paced = cohorts.iter().map(|(_, cohort)| followers(*cohort));
        followers(local) + paced.sum::<usize>()
    }
}
