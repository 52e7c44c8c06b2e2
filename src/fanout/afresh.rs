//! A group whose subscriptions begin anew, each with a fresh `sync`, in as many parts as the turns'
//! budgets make of it. What comes for the group meanwhile comes behind it.
//!
//! May not know why they do.

use std::sync::Arc;

use crate::id::{ItemId, LocalGroupId, SlotId};
use crate::protocol::frame::{EventFrame, SyncFrame};
use crate::protocol::pace::Pace;

use super::budget::Budget;
use super::entering::SyncFor;
use super::reader::{Connections, Reader};
use super::{Entry, Fanout};

/// Makes the `sync` of an item, or of the whole group.
pub type SyncOf = Arc<dyn Fn(Option<&ItemId>) -> Arc<SyncFrame> + Send + Sync>;

/// So many subscriptions that are looked at for those of the group cost as much as a look at a socket.
const LOOKED_AT: usize = 16;
/// What one subscription costs that begins anew.
const ENTRY_UNITS: usize = 8;

pub(super) struct Afresh {
    sync_of: SyncOf,
    /// Sockets whose subscriptions have still to begin anew.
    readers: Vec<SlotId>,
    /// Of the last of them: the client's names for these, and the items. The last one is the next.
    subscriptions: Vec<(Box<str>, Option<ItemId>)>,
    /// Events that came since.
    events: Vec<Arc<EventFrame>>,
}

impl Fanout {
    /// Every subscription of the group is to begin anew: the sweeps do it before anything else, and no
    /// more is to be taken meanwhile. Sockets with something to be written are among the unfinished.
    pub fn begin_afresh(&mut self, local: LocalGroupId, sync_of: SyncOf) {
        let group = self.groups.get(local);
        let cohorts = group.map(|group| group.cohorts().to_vec());
        for (_, cohort) in cohorts.unwrap_or_default() {
            self.begin_afresh(cohort, Arc::clone(&sync_of));
        }
        let Some(group) = self.groups.get_mut(local) else {
            return;
        };
        let places = group.places();
        let readers = places.map(|(_, place)| place.connection).collect();
        // One that has begun is void with what came behind it: all of that is in this one.
        let begun = group.afresh.replace(Box::new(Afresh {
            sync_of,
            readers,
            subscriptions: Vec::new(),
            events: Vec::new(),
        }));
        if begun.is_none() {
            self.afresh.push_back(local);
        }
    }

    /// Keeps an event that comes behind; gives it back if there is nothing to wait for.
    pub(super) fn keep_behind(
        &mut self,
        local: LocalGroupId,
        frame: Arc<EventFrame>,
    ) -> Option<Arc<EventFrame>> {
        let group = self.groups.get_mut(local)?;
        let Some(afresh) = &mut group.afresh else {
            return Some(frame);
        };
        afresh.events.push(frame);
        None
    }

    /// Goes on in all groups, until the budget is spent.
    pub(super) fn go_on_afresh<C: Connections>(
        &mut self,
        connections: &mut C,
        budget: &mut Budget,
    ) {
        while !budget.is_spent()
            && let Some(local) = self.afresh.front().copied()
        {
            if !self.begin_one_afresh(local, connections, budget) {
                self.end_afresh(local);
            }
        }
    }

    /// Comes to an end in that group at once, for somebody is about to enter behind it.
    pub(super) fn finish_afresh<C: Connections>(
        &mut self,
        local: LocalGroupId,
        connections: &mut C,
    ) {
        let mut budget = Budget::of_writes(0);
        while self.begin_one_afresh(local, connections, &mut budget) {}
        self.end_afresh(local);
    }

    /// The next subscription of the group; false when there is none.
    fn begin_one_afresh<C: Connections>(
        &mut self,
        local: LocalGroupId,
        connections: &mut C,
        budget: &mut Budget,
    ) -> bool {
        let Some(group) = self.groups.get_mut(local) else {
            return false;
        };
        let Some(afresh) = &mut group.afresh else {
            return false;
        };
        let Some(id) = afresh.readers.last().copied() else {
            return false;
        };
        let Some((reader, _)) = connections.parts(id) else {
            afresh.readers.pop();
            afresh.subscriptions.clear(); // it may have gone in their midst
            return true;
        };
        if let Some((name, item)) = afresh.subscriptions.pop() {
            if afresh.subscriptions.is_empty() {
                afresh.readers.pop();
                self.outcome.unfinished.push(id);
            }
            if reader.follows(&name, local) {
                let sync = Some((afresh.sync_of)(item.as_ref()));
                // As a join of the same id: it takes the older one's place.
                group.joins += 1;
                let entry = Entry {
                    id: name,
                    item,
                    sync,
                    pace: Pace::NONE, // it is in its cohort
                };
                self.enter_now(id, local, (entry, SyncFor::Fresh), connections);
            }
            budget.spend(ENTRY_UNITS);
            return true;
        }
        budget.spend(1 + reader.subscriptions.len() / LOOKED_AT);
        afresh.subscriptions = subscriptions_of(reader, local);
        // What it was to be sent before and has not begun is void.
        reader.void_syncs(local);
        let found = reader.membership(local);
        let at = found.map(|found| reader.memberships[found].at);
        let end = group.list.end();
        if let Some(place) = at.and_then(|at| group.place_mut(at)) {
            reader.void_waited(place.void_before_afresh(end));
        }
        let Some(afresh) = &mut group.afresh else {
            return false;
        };
        if afresh.subscriptions.is_empty() {
            afresh.readers.pop();
        }
        true
    }

    fn end_afresh(&mut self, local: LocalGroupId) {
        self.afresh.retain(|found| *found != local);
        let group = self.groups.get_mut(local);
        let Some(afresh) = group.and_then(|group| group.afresh.take()) else {
            return;
        };
        for frame in afresh.events {
            self.append(local, frame);
        }
    }
}

/// The reader's subscriptions in that group, the first one at the end.
fn subscriptions_of(reader: &Reader, local: LocalGroupId) -> Vec<(Box<str>, Option<ItemId>)> {
    let all = reader.subscriptions.iter().rev();
    let here = all.filter(|subscription| subscription.local == local);
    here.map(|subscription| (subscription.id.clone(), subscription.item.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::test_local::Local;
    use crate::id::GroupKey;
    use crate::protocol::frame::{Event, GroupNames};

    const SYNC: u64 = 100_000;

    fn sync_of(time: u64) -> SyncOf {
        let names = GroupNames::new(&GroupKey::new("s", "g"));
        Arc::new(move |item| {
            Arc::new(match item {
                Some(item) => SyncFrame::of_item(&names, time, item, None),
                None => SyncFrame::of_group(&names, time, vec![",1".into()]),
            })
        })
    }

    #[test]
    fn subscriptions_begin_anew_over_turns_and_what_comes_meanwhile_comes_behind() {
        const SOCKETS: usize = 20;
        const ITEMS: usize = 30;
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..SOCKETS).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &sockets {
            for n in 0..ITEMS {
                group = Some(local.join(*at, &n.to_string(), "g", Some("u")));
                local.join(*at, &format!("of another {n}"), "h", None);
            }
            local.heard(*at);
        }
        let group = group.unwrap();
        let (gone, leaves, blocked) = (sockets[0], sockets[1], sockets[2]);
        local.block(blocked, 0);
        local.event(group, Some("u"));
        local.sweep(1000);
        local.fanout.begin_afresh(group, sync_of(SYNC));
        assert!(local.fanout.is_lagging(), "no more is to be taken");
        for at in &sockets {
            local.heard(*at);
        }
        local.event(group, Some("u"));
        local.end(gone);
        local.leave(leaves, "7");
        let mut turns = 0;
        while local.fanout.is_lagging() {
            let visits = local.sockets.visits;
            let mut budget = Budget::of_writes(1);
            local.fanout.sweep(&mut local.sockets, &mut budget);
            budget.check(0);
            assert!(local.sockets.visits - visits < 100);
            turns += 1;
        }
        assert!(turns > SOCKETS * ITEMS / 5, "{turns} turns");
        local.fanout.check_invariants(&mut local.sockets);
        local.unblock(blocked);
        let mut unfinished = local.fanout.take_outcome().unfinished;
        unfinished.sort_unstable_by_key(|at| at.slot);
        unfinished.dedup();
        assert_eq!(unfinished, sockets[1..]);
        for at in unfinished {
            let mut budget = Budget::of_writes(1000);
            local.fanout.drain(at, &mut local.sockets, &mut budget);
        }
        local.sweep(1000);
        for at in &sockets[1..] {
            let heard = local.heard(*at);
            let of_each = ITEMS - usize::from(*at == leaves);
            assert_eq!(
                heard.len(),
                2 * of_each,
                "a sync each, and the event behind it"
            );
            assert!(heard[..of_each].iter().all(|time| *time == SYNC));
            assert!(heard[of_each..].iter().all(|time| *time < SYNC));
        }
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn a_socket_that_goes_in_the_midst_of_it_takes_nothing_from_the_next_one() {
        const ITEMS: usize = 40;
        let mut local = Local::new();
        let (stays, goes) = (local.socket(), local.socket());
        let group = local.join(stays, "0", "g", Some("own"));
        local.join(stays, "39", "g", Some("own"));
        local.heard(stays);
        for n in 0..ITEMS {
            local.join(goes, &n.to_string(), "g", Some(&format!("u{n}"))); // its turn comes first
        }
        local.fanout.begin_afresh(group, sync_of(SYNC));
        let mut budget = Budget::of_writes(1);
        local.fanout.sweep(&mut local.sockets, &mut budget);
        assert!(local.fanout.is_lagging(), "it is in the midst");
        let _ = local.fanout.take_outcome();
        local.end(goes);
        local.sockets.slots.remove(goes);
        while local.fanout.is_lagging() {
            let mut budget = Budget::of_writes(1);
            local.fanout.sweep(&mut local.sockets, &mut budget);
        }
        let unfinished = local.fanout.take_outcome().unfinished;
        assert_eq!(unfinished, [stays]);
        let mut budget = Budget::of_writes(1000);
        local.fanout.drain(stays, &mut local.sockets, &mut budget);
        assert_eq!(local.heard(stays), [SYNC, SYNC], "a sync for each");
        local.event(group, Some("u39"));
        local.sweep(1000);
        assert!(local.heard(stays).is_empty(), "it follows its own item");
        local.fanout.check_invariants(&mut local.sockets);
    }

    #[test]
    fn a_sync_that_a_newer_one_makes_void_takes_the_changes_behind_it_with_it() {
        for whole in [true, false] {
            let mut local = Local::new();
            let socket = local.socket();
            let mut group = None;
            for n in 0..40 {
                let item = Some("u").filter(|_| !whole);
                group = Some(local.join(socket, &n.to_string(), "g", item));
            }
            let group = group.unwrap();
            local.heard(socket);
            local.block(socket, 0);
            local.tell(group, Some("u"), Event::Update("1"));
            local.sweep(1000);
            local.fanout.begin_afresh(group, sync_of(SYNC));
            local.sweep(1000);
            local.tell(group, Some("u"), Event::Update("1"));
            local.sweep(1000);
            local.fanout.begin_afresh(group, sync_of(SYNC + 1));
            let mut budget = Budget::of_writes(1);
            local.fanout.sweep(&mut local.sockets, &mut budget);
            assert!(local.fanout.is_lagging(), "it is in the midst");
            local.unblock(socket);
            local.tell(group, Some("u"), Event::Update("1"));
            local.sweep(1000);
            let heard = local.heard(socket);
            assert_eq!(heard.len(), 80, "a sync for each, and the event behind it");
            let (syncs, events) = heard.split_at(40);
            assert!(syncs.iter().all(|time| *time == SYNC + 1), "{syncs:?}");
            assert!(events.iter().all(|time| *time == events[0]), "{events:?}");
            local.fanout.check_invariants(&mut local.sockets);
        }
    }

    #[test]
    fn who_enters_meanwhile_enters_behind_and_a_second_beginning_takes_the_place_of_the_first() {
        let mut local = Local::new();
        let (first, second) = (local.socket(), local.socket());
        let group = local.join(first, "a", "g", None);
        local.heard(first);
        local.fanout.begin_afresh(group, sync_of(SYNC));
        local.event(group, None);
        local.fanout.begin_afresh(group, sync_of(SYNC + 1));
        local.join(second, "a", "g", None);
        let entered = local.heard(second);
        local.event(group, None);
        local.sweep(1000);
        assert_eq!(local.heard(first)[0], SYNC + 1);
        assert_eq!(entered.len(), 1);
        assert_eq!(local.heard(second).len(), 1, "the event behind both");
        local.fanout.check_invariants(&mut local.sockets);
    }
}
