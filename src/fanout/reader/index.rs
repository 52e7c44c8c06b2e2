//! Finding a subscription of a socket, its entry in a group, and the groups in which it lacks something: by a
//! look at each where there are few, else by an index.
//!
//! May not know what is lacking.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::collections::Index;
use crate::id::LocalGroupId;

use super::{MemberAt, Membership, Reader, Subscription};

/// So many subscriptions or memberships are looked through one by one. Debug builds have fewer, so
/// that the simulation's sockets come to have more.
const FEW_MAX: usize = if cfg!(debug_assertions) { 2 } else { 16 };

/// A membership without a note.
const NONE: u32 = u32::MAX;

/// What lets a reader with many subscriptions find one, and what it lacks, without a look at each.
#[derive(Default)]
pub(super) struct Many {
    hasher: DefaultHashBuilder,
    /// Positions in `subscriptions`.
    pub(super) by_id: Index,
    /// In which order the subscriptions were joined: a number for each position.
    pub(super) joined: Vec<u64>,
    next_joined: u64,
    /// Positions in `memberships`.
    by_local: Index,
    /// Positions in `memberships`, each once: the groups in which it may lack something though their
    /// sweeps have passed it.
    noted: Vec<u32>,
}

impl Reader {
    /// Where its entry in that group stands among the memberships.
    pub(in crate::fanout) fn membership(&self, local: LocalGroupId) -> Option<usize> {
        let Some(many) = &self.many else {
            let is_it = |entry: &Membership| entry.local == local;
            return self.memberships.iter().position(is_it);
        };
        let is_it = |index: u32| self.memberships[index as usize].local == local;
        let found = many.by_local.find(many.hasher.hash_one(local), is_it);
        found.map(|index| index as usize)
    }

    /// Where the subscription of that id stands.
    pub(in crate::fanout) fn subscription(&self, id: &str) -> Option<usize> {
        let Some(many) = &self.many else {
            let is_it = |entry: &Subscription| *entry.id == *id;
            return self.subscriptions.iter().position(is_it);
        };
        let is_it = |index: u32| *self.subscriptions[index as usize].id == *id;
        let found = many.by_id.find(many.hasher.hash_one(id), is_it);
        found.map(|index| index as usize)
    }

    /// Adds an entry in a group, at first without room for more: most sockets have one.
    pub(in crate::fanout) fn add_membership(&mut self, local: LocalGroupId, at: MemberAt) {
        if self.memberships.is_empty() {
            self.memberships.reserve_exact(1);
        }
        let note = NONE;
        self.memberships.push(Membership { local, at, note });
        if let Some(many) = &mut self.many {
            many.enter_membership(self.memberships.len() - 1, &self.memberships);
        }
    }

    /// Adds a subscription, likewise.
    pub(in crate::fanout) fn add_subscription(&mut self, subscription: Subscription) {
        if self.subscriptions.is_empty() {
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push(subscription);
        if let Some(many) = &mut self.many {
            many.enter_subscription(self.subscriptions.len() - 1, &self.subscriptions);
        } else if self.subscriptions.len() > FEW_MAX {
            let mut many = Box::<Many>::default();
            for index in 0..self.subscriptions.len() {
                many.enter_subscription(index, &self.subscriptions);
            }
            for index in 0..self.memberships.len() {
                many.enter_membership(index, &self.memberships);
            }
            self.many = Some(many);
            for index in 0..self.memberships.len() {
                self.note(index); // until now nobody took notes
            }
        }
    }

    /// Takes a subscription out.
    pub(in crate::fanout) fn take_subscription(&mut self, index: usize) -> Subscription {
        let Some(many) = &mut self.many else {
            return self.subscriptions.remove(index); // few stand in the order of joining
        };
        many.leave_subscription(index, &self.subscriptions);
        many.leave_subscription(self.subscriptions.len() - 1, &self.subscriptions);
        many.joined.swap_remove(index);
        let subscription = self.subscriptions.swap_remove(index);
        if self.subscriptions.len() <= FEW_MAX / 2 {
            self.subscriptions = self.take_subscriptions();
            for membership in &mut self.memberships {
                membership.note = NONE;
            }
        } else if index < self.subscriptions.len() {
            many.fill_subscription(index, &self.subscriptions);
        }
        subscription
    }

    /// All subscriptions in the order of joining. Nothing finds them here any more.
    fn take_subscriptions(&mut self) -> Vec<Subscription> {
        let subscriptions = std::mem::take(&mut self.subscriptions);
        let Some(many) = self.many.take() else {
            return subscriptions;
        };
        in_order_of_joining(many.joined, subscriptions)
    }

    /// Takes a membership out and fills its place from the end.
    pub(in crate::fanout) fn take_membership(&mut self, index: usize) {
        self.unnote(index);
        if let Some(many) = &mut self.many {
            many.leave_membership(index, &self.memberships);
            many.leave_membership(self.memberships.len() - 1, &self.memberships);
        }
        self.memberships.swap_remove(index);
        if let Some(many) = &mut self.many
            && let Some(filler) = self.memberships.get(index)
        {
            if let Some(noted) = many.noted.get_mut(filler.note as usize) {
                *noted = index as u32;
            }
            many.enter_membership(index, &self.memberships);
        }
    }

    /// In that group it may lack something though the group's sweep has passed it.
    pub(in crate::fanout) fn note(&mut self, index: usize) {
        if let Some(many) = &mut self.many
            && self.memberships[index].note == NONE
        {
            self.memberships[index].note = many.noted.len() as u32;
            many.noted.push(index as u32);
        }
    }

    /// [`Reader::note`] by the group's name.
    pub(in crate::fanout) fn note_group(&mut self, local: LocalGroupId) {
        if self.many.is_some()
            && let Some(index) = self.membership(local)
        {
            self.note(index);
        }
    }

    /// It lacks nothing in that group.
    pub(in crate::fanout) fn unnote(&mut self, index: usize) {
        let note = std::mem::replace(&mut self.memberships[index].note, NONE);
        if let Some(many) = &mut self.many
            && note != NONE
        {
            many.noted.swap_remove(note as usize);
            if let Some(filler) = many.noted.get(note as usize) {
                self.memberships[*filler as usize].note = note;
            }
        }
    }

    /// Whether what it lacks is found by its notes only.
    pub(in crate::fanout) fn goes_by_notes(&self) -> bool {
        self.many.is_some() && self.memberships.len() > FEW_MAX
    }

    /// The memberships to look at for what it lacks, by number.
    pub(in crate::fanout) fn candidate(&self, number: usize) -> Option<usize> {
        match &self.many {
            _ if self.is_ending => None,
            Some(many) if self.goes_by_notes() => {
                many.noted.get(number).map(|index| *index as usize)
            }
            _ => (number < self.memberships.len()).then_some(number),
        }
    }

    /// Whether it finds what it lacks in that group without a sweep.
    pub(in crate::fanout) fn looks_at(&self, membership: &Membership) -> bool {
        self.many.is_none() || membership.note != NONE
    }

    pub(super) fn check_index(&self) {
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            debug_assert_eq!(self.subscription(&subscription.id), Some(index));
        }
        for (index, membership) in self.memberships.iter().enumerate() {
            debug_assert_eq!(self.membership(membership.local), Some(index));
        }
        let noted = self.memberships.iter().filter(|entry| entry.note != NONE);
        let Some(many) = &self.many else {
            debug_assert!(self.subscriptions.len() <= FEW_MAX);
            return debug_assert_eq!(noted.count(), 0);
        };
        debug_assert_eq!(many.joined.len(), self.subscriptions.len());
        debug_assert_eq!(noted.count(), many.noted.len());
        for (note, index) in many.noted.iter().enumerate() {
            debug_assert_eq!(self.memberships[*index as usize].note, note as u32);
        }
    }
}

/// `joined`: the number of each.
pub(super) fn in_order_of_joining(
    joined: Vec<u64>,
    subscriptions: Vec<Subscription>,
) -> Vec<Subscription> {
    if joined.is_sorted() {
        return subscriptions;
    }
    let mut numbered: Vec<_> = joined.into_iter().zip(subscriptions).collect();
    numbered.sort_unstable_by_key(|(number, _)| *number);
    let subscriptions = numbered.into_iter().map(|(_, subscription)| subscription);
    subscriptions.collect()
}

impl Many {
    /// The newest one, at the end.
    fn enter_subscription(&mut self, index: usize, all: &[Subscription]) {
        debug_assert_eq!(self.joined.len(), index);
        self.joined.push(self.next_joined);
        self.next_joined += 1;
        self.fill_subscription(index, all);
    }

    /// One that has its number already.
    fn fill_subscription(&mut self, index: usize, all: &[Subscription]) {
        let hash_of = |index: u32| self.hasher.hash_one(&*all[index as usize].id);
        let hash = hash_of(index as u32);
        self.by_id.insert(hash, index as u32, hash_of);
    }

    fn enter_membership(&mut self, index: usize, all: &[Membership]) {
        let hash_of = |index: u32| self.hasher.hash_one(all[index as usize].local);
        let hash = hash_of(index as u32);
        self.by_local.insert(hash, index as u32, hash_of);
    }

    fn leave_subscription(&mut self, index: usize, all: &[Subscription]) {
        let hash = self.hasher.hash_one(&*all[index].id);
        self.by_id.remove(hash, |found| found == index as u32);
    }

    fn leave_membership(&mut self, index: usize, all: &[Membership]) {
        let hash = self.hasher.hash_one(all[index].local);
        self.by_local.remove(hash, |found| found == index as u32);
    }
}
