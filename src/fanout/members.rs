//! Who follows a group here: subscriptions that enter and leave, and whether their sockets stand among
//! its members or its watchers.
//!
//! May not know the sweep.

use std::hash::BuildHasher;

use crate::id::{GroupKey, ItemId, LocalGroupId, SlotId};
use crate::protocol::pace::Pace;

use super::entering::SyncFor;
use super::group::LocalGroup;
use super::place::{Extra, Place};
use super::reader::{Connections, MemberAt, Subscription};
use super::{Entry, Fanout};

impl Fanout {
    /// How many subscriptions to that item, or to the whole group, the socket has beside that of the
    /// id.
    pub fn equal_len<C: Connections>(
        &self,
        connection: SlotId,
        id: &str,
        (key, item): (&GroupKey, Option<&ItemId>),
        connections: &mut C,
    ) -> usize {
        let (Some(local), Some((reader, _))) = (
            self.find(self.hasher.hash_one(key), key),
            connections.parts(connection),
        ) else {
            return 0;
        };
        let own = reader.subscription(id);
        let own = own.map(|found| &reader.subscriptions[found]);
        let equal_in = |local: LocalGroupId| {
            let membership = reader.membership(local)?;
            let place = self
                .groups
                .get(local)?
                .place(reader.memberships[membership].at)?;
            let is_own = own.is_some_and(|own| own.local == local && own.item.as_ref() == item);
            Some(place.equal_len(item) - usize::from(is_own))
        };
        let cohorts = self.groups.get(local).map_or(&[][..], LocalGroup::cohorts);
        let locals = cohorts.iter().map(|(_, cohort)| *cohort);
        locals.chain([local]).filter_map(equal_in).sum()
    }

    /// The owner has let a join in: the subscription stands from here on, in place of an older one
    /// of the same id. Its `sync` goes out before anything that follows.
    pub fn enter<C: Connections>(
        &mut self,
        connection: SlotId,
        local: LocalGroupId,
        entry: Entry,
        connections: &mut C,
    ) {
        self.finish_if_afresh(local, connections);
        let local = match self.pace_of_join(connection, local, &entry, connections) {
            Pace::NONE => local,
            pace => {
                let cohort = self.move_join(local, pace);
                self.finish_if_afresh(cohort, connections);
                cohort
            }
        };
        self.enter_now(connection, local, (entry, SyncFor::Join), connections);
    }

    /// At which pace the subscription follows the group. Frames do not tell for which one they are: with two
    /// paces a socket could be given an older change after a newer one. So the one that stands says it.
    fn pace_of_join<C: Connections>(
        &self,
        connection: SlotId,
        local: LocalGroupId,
        entry: &Entry,
        connections: &mut C,
    ) -> Pace {
        let cohorts = self.groups.get(local).map_or(&[][..], LocalGroup::cohorts);
        if entry.pace == Pace::NONE && cohorts.is_empty() {
            return Pace::NONE;
        }
        let Some((reader, _)) = connections.parts(connection) else {
            return entry.pace;
        };
        let own = reader.subscription(&entry.id);
        let own = own.map(|found| reader.subscriptions[found].local);
        let has_another_in = |local: LocalGroupId| {
            let membership = reader.membership(local)?;
            let group = self.groups.get(local)?;
            let place = group.place(reader.memberships[membership].at)?;
            Some(own != Some(local) || place.subscriptions_len() > 1)
        };
        let unpaced = (Pace::NONE, local);
        let mut paces = std::iter::once(&unpaced).chain(cohorts);
        let standing = paces.find(|(_, local)| has_another_in(*local) == Some(true));
        standing.map_or(entry.pace, |(pace, _)| *pace)
    }

    fn finish_if_afresh<C: Connections>(&mut self, local: LocalGroupId, connections: &mut C) {
        if self
            .groups
            .get(local)
            .is_some_and(|group| group.afresh.is_some())
        {
            self.finish_afresh(local, connections);
        }
    }

    /// The same where nothing begins anew. With the entry comes what its `sync` is for.
    pub(super) fn enter_now<C: Connections>(
        &mut self,
        connection: SlotId,
        local: LocalGroupId,
        (entry, what_for): (Entry, SyncFor),
        connections: &mut C,
    ) {
        self.leave(connection, &entry.id, connections);
        self.end_join(local);
        let Some((reader, _)) = connections.parts(connection) else {
            return self.let_go_if_empty(local);
        };
        let Some(group) = self.groups.get_mut(local) else {
            return;
        };
        if let Some(sync) = &entry.sync {
            self.held_syncs.add(connection, sync, &mut group.last_sync);
            if entry.item.is_none() {
                (group.sync_len, group.sync_at) = (sync.len(), group.list.end());
            }
        }
        let anew = (what_for == SyncFor::Fresh).then_some(local);
        let from = group.list.end();
        self.subscriptions_len += 1;
        self.cohorts.subscriptions_len += usize::from(group.is_cohort());
        reader.add_subscription(Subscription {
            id: entry.id,
            local,
            item: entry.item.clone(),
            from,
        });
        let Some(found) = reader.membership(local) else {
            let extra = entry.item.map(|item| {
                let mut extra = Box::<Extra>::default();
                extra.add(Some(item));
                extra
            });
            let at = group.add(Place {
                connection,
                next: from,
                extra,
            });
            reader.add_membership(local, at);
            if let Some(sync) = entry.sync {
                reader.push_sync(sync, anew);
            }
            return;
        };

        let at = reader.memberships[found].at;
        let was_behind = group.next_of(at) < from;
        // A `sync` that waits in the group goes before this one.
        group.catch_up(at, |sync| reader.push_waited(sync));
        let is_behind = group.next_of(at) < from;
        let Some(place) = group.place_mut(at) else {
            return;
        };
        let item = entry.item.clone();
        let follows = place.extra().follows(item.as_ref());
        if is_behind {
            if let Some(sync) = &entry.sync {
                reader.wait_for_sync(sync.len());
            }
            reader.note(found);
            let sync = entry.sync.map(|sync| (sync, what_for));
            place.extra().add_late(entry.item, from, sync);
        } else {
            place.next = from;
            place.extra().add(entry.item);
            if let Some(sync) = entry.sync {
                reader.push_sync(sync, anew);
            }
        }
        let is_to_move = item.is_none() && place.may_move();
        match at {
            MemberAt::Watchers(_) if is_to_move => self.regroup(connection, local, connections),
            MemberAt::Watchers(slot) if !follows => group.watch(item, slot),
            MemberAt::Watchers(_) | MemberAt::Members(_) => {}
        }
        if was_behind && !is_behind {
            self.make_due(local); // it may have been the one that held the list back
        }
    }

    /// Ends the subscription of that id; false when there is none.
    pub fn leave<C: Connections>(
        &mut self,
        connection: SlotId,
        id: &str,
        connections: &mut C,
    ) -> bool {
        let Some((reader, _)) = connections.parts(connection) else {
            return false;
        };
        let Some(found) = reader.subscription(id) else {
            return false;
        };
        let subscription = reader.take_subscription(found);
        self.subscriptions_len -= 1;
        let local = subscription.local;
        self.count_left(local);
        let (Some(found), Some(group)) = (reader.membership(local), self.groups.get_mut(local))
        else {
            return true;
        };
        let at = reader.memberships[found].at;
        let Some(place) = group.place_mut(at) else {
            return true;
        };
        let extra = place.extra();
        extra.remove(subscription.item.as_ref(), subscription.from);
        let is_last = extra.is_empty();
        let follows_whole = extra.follows_whole();
        let unwatches = !extra.follows(subscription.item.as_ref());
        let is_to_move = place.may_move();
        if let MemberAt::Watchers(slot) = at
            && unwatches
        {
            group.unwatch(subscription.item.as_ref(), slot);
        }
        if is_last {
            reader.take_membership(found);
            if reader.memberships.is_empty() {
                reader.set_far_behind(false, &mut self.far_behind_len);
            }
            self.remove(local, at, connections);
            return true;
        }
        match at {
            MemberAt::Watchers(_) if follows_whole && is_to_move => {
                self.regroup(connection, local, connections)
            }
            MemberAt::Members(_) if !follows_whole && is_to_move => {
                self.regroup(connection, local, connections)
            }
            MemberAt::Members(_) if follows_whole => {
                if let Some(place) = group.place_mut(at) {
                    place.simplify();
                }
            }
            MemberAt::Members(_) | MemberAt::Watchers(_) => {}
        }
        true
    }

    /// Moves a socket between members and watchers, as its subscriptions now ask for.
    pub(super) fn regroup<C: Connections>(
        &mut self,
        connection: SlotId,
        local: LocalGroupId,
        connections: &mut C,
    ) {
        let at = connections.parts(connection).and_then(|(reader, _)| {
            let found = reader.membership(local)?;
            Some(reader.memberships[found].at)
        });
        let (Some(at), Some(group)) = (at, self.groups.get_mut(local)) else {
            return;
        };
        let next = group.next_of(at);
        let is_behind = next < group.list.end();
        let Some(mut place) = group.remove(local, at, connections) else {
            return;
        };
        place.next = next;
        place.extra().due = false;
        place.simplify();
        let new_at = group.add(place);
        if let (MemberAt::Watchers(slot), true) = (new_at, is_behind) {
            group.mark_watcher(slot, next);
        }
        if let Some((reader, _)) = connections.parts(connection)
            && let Some(found) = reader.membership(local)
        {
            reader.memberships[found].at = new_at;
        }
        if is_behind {
            self.make_due(local);
        }
    }

    /// Takes a socket out of a group. Its own entry is the caller's.
    pub(super) fn remove<C: Connections>(
        &mut self,
        local: LocalGroupId,
        at: MemberAt,
        connections: &mut C,
    ) {
        let Some(group) = self.groups.get_mut(local) else {
            return;
        };
        let was_behind = group.next_of(at) < group.list.end();
        let place = group.remove(local, at, connections);
        if let Some(place) = &place
            && let waiting_bytes @ 1.. = place.waiting_bytes()
            && let Some((reader, _)) = connections.parts(place.connection)
        {
            reader.void_waited(waiting_bytes);
        }
        if group.has_nobody() {
            self.lagging_len -= usize::from(group.sweep.take_lag());
        }
        if was_behind {
            self.make_due(local); // it may have been the one that held the list back
        }
        self.let_go_if_empty(local);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::test_local::Local;
    use crate::protocol::frame::Event;

    #[test]
    fn a_join_without_a_sync_leaves_nothing_behind_that_waits() {
        let mut local = Local::new();
        let at = local.socket();
        let group = local.join(at, "a", "g", None);
        local.heard(at);
        local.block(at, 0);
        local.tell(group, Some("u"), Event::Create("1"));
        local.sweep(1000);
        let entry = Entry {
            id: "b".into(),
            item: None,
            sync: None,
            pace: Pace::NONE,
        };
        local.fanout.begin_join(&GroupKey::new("s", "g"));
        local.fanout.enter(at, group, entry, &mut local.sockets);
        local.fanout.check_invariants(&mut local.sockets);
        local.unblock(at);
        assert_eq!(local.heard(at).len(), 1);
        local.tell(group, Some("u"), Event::Delete("1"));
        local.sweep(1000);
        assert_eq!(local.heard(at).len(), 2, "one for each subscription");
    }
}
