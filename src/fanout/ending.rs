//! The end of a socket's subscriptions, in as many parts as the turns' budgets make of it: one socket
//! may have very many.
//!
//! Its memberships stay where they are found by their groups until each has left. Meanwhile nothing of
//! a list goes to the socket.

use crate::id::{GroupKey, ItemId, SlotId};

use super::Fanout;
use super::reader::{Connections, MemberAt, Subscription};

/// Compares with so many watchers of an item, or late joins, cost as much as one subscription.
const COMPARES_A_UNIT: usize = 256;

/// A socket whose subscriptions end.
pub struct Ending {
    /// Which.
    pub connection: SlotId,
    /// In the order of joining. Those of items leave before those of whole groups: a socket is moved
    /// to the watchers of a group when it loses the last of these.
    subscriptions: Vec<Subscription>,
    stage: Stage,
    /// Those before it have passed the stage.
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What the socket held is told.
    Told,
    Items,
    Wholes,
}

impl Fanout {
    /// The socket ended: from here on it has no subscription, and nothing of a list goes to it. `None`:
    /// it had none, or its end has begun already.
    pub fn begin_end<C: Connections>(
        &mut self,
        connection: SlotId,
        connections: &mut C,
    ) -> Option<Ending> {
        let (reader, _) = connections.parts(connection)?;
        if reader.is_ending || reader.memberships.is_empty() {
            return None;
        }
        let subscriptions = reader.begin_end();
        reader.set_far_behind(false, &mut self.far_behind_len);
        self.subscriptions_len -= subscriptions.len();
        Some(Ending {
            connection,
            subscriptions,
            stage: Stage::Told,
            at: 0,
        })
    }

    /// Goes on with the end of a socket, which has to be there still; true when it is over. `units`:
    /// what may be spent, one for each subscription. `each` is given these in the order of joining: the
    /// group, the client's name, the item.
    pub fn go_on_ending<C: Connections>(
        &mut self,
        ending: &mut Ending,
        connections: &mut C,
        units: &mut usize,
        mut each: impl FnMut(&GroupKey, Box<str>, Option<ItemId>),
    ) -> bool {
        loop {
            while let Some(subscription) = ending.subscriptions.get_mut(ending.at) {
                if *units == 0 {
                    return false;
                }
                ending.at += 1;
                let is_of_item = subscription.item.is_some();
                let cost = match ending.stage {
                    Stage::Told => {
                        if let Some(group) = self.groups.get(subscription.local) {
                            let id = std::mem::take(&mut subscription.id);
                            each(&group.key, id, subscription.item.clone());
                        }
                        1
                    }
                    Stage::Items if is_of_item => {
                        self.end_one(ending.connection, subscription, connections)
                    }
                    Stage::Wholes if !is_of_item => {
                        self.end_one(ending.connection, subscription, connections)
                    }
                    Stage::Items | Stage::Wholes => 1,
                };
                *units = units.saturating_sub(cost);
            }
            ending.at = 0;
            ending.stage = match ending.stage {
                Stage::Told => Stage::Items,
                Stage::Items => Stage::Wholes,
                Stage::Wholes => {
                    if let Some((reader, _)) = connections.parts(ending.connection) {
                        reader.end();
                    }
                    return true;
                }
            };
        }
    }

    /// One subscription leaves its group. Gives what it cost.
    fn end_one<C: Connections>(
        &mut self,
        connection: SlotId,
        subscription: &Subscription,
        connections: &mut C,
    ) -> usize {
        let Subscription {
            local, item, from, ..
        } = subscription;
        let (Some((reader, _)), Some(group)) =
            (connections.parts(connection), self.groups.get_mut(*local))
        else {
            return 1;
        };
        let Some(found) = reader.membership(*local) else {
            return 1;
        };
        let at = reader.memberships[found].at;
        self.cohorts.subscriptions_len -= usize::from(group.is_cohort());
        let Some(place) = group.place_mut(at) else {
            return 1;
        };
        let extra = place.extra();
        let mut compares = extra.late_len();
        extra.remove(item.as_ref(), *from);
        let is_last = extra.is_empty();
        if let MemberAt::Watchers(slot) = at
            && !extra.follows(item.as_ref())
        {
            compares += item.as_ref().map_or(0, |item| group.watchers_len(item));
            group.unwatch(item.as_ref(), slot);
        }
        if is_last {
            reader.take_membership(found);
            self.remove(*local, at, connections);
        }
        1 + compares / COMPARES_A_UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::test_local::Local;

    const MANY: usize = 10_000;

    /// A socket with many subscriptions: some to whole groups, some to items of groups of which it
    /// follows the whole as well, many to items of one group.
    fn with_many(local: &mut Local) -> SlotId {
        let at = local.socket();
        for n in 0..MANY {
            let id = n.to_string();
            let item = format!("u{n}");
            match n % 4 {
                0 => local.join(at, &id, &format!("g{n}"), None),
                1 => local.join(at, &id, &format!("g{}", n - 1), Some(&item)),
                _ => local.join(at, &id, "one", Some(&item)),
            };
        }
        at
    }

    #[test]
    fn many_subscriptions_leave_in_parts_and_each_is_told_once_in_the_order_of_joining() {
        let mut local = Local::new();
        let (at, other) = (with_many(&mut local), local.socket());
        local.join(other, "other", "one", Some("u2"));
        let (fanout, sockets) = (&mut local.fanout, &mut local.sockets);
        let mut ending = fanout.begin_end(at, sockets).unwrap();
        assert!(fanout.begin_end(at, sockets).is_none(), "it has begun");
        let mut told = Vec::new();
        let mut turns = 0;
        loop {
            let (visits, told_before) = (sockets.visits, told.len());
            let mut units = 100;
            let is_over = fanout.go_on_ending(&mut ending, sockets, &mut units, |_, id, _| {
                told.push(id);
            });
            turns += 1;
            let visited = sockets.visits - visits;
            assert!(visited <= 4 * 100 && told.len() - told_before <= 100);
            if turns % 50 == 0 {
                fanout.check_invariants(sockets);
            }
            if is_over {
                break;
            }
        }
        assert!(turns >= 2 * MANY / 100, "{turns} turns");
        let wanted = (0..MANY).map(|n| n.to_string());
        assert!(told.iter().map(|id| id.to_string()).eq(wanted));
        assert_eq!(fanout.groups_len(), 1, "the other one's");
        let (reader, _) = sockets.slots.get(at).unwrap();
        assert!(!reader.is_ending() && reader.memberships.is_empty());
    }

    #[test]
    fn who_is_about_to_leave_gets_nothing_and_holds_nobody_up() {
        let mut local = Local::new();
        let ends = local.socket();
        let stays = local.socket();
        for at in [ends, stays] {
            local.join(at, "a", "one", None);
            local.join(at, "b", "two", Some("u"));
        }
        let group = local.join(ends, "c", "one", Some("u"));
        let other = local.join(ends, "d", "two", Some("v"));
        let taken_of = |local: &Local, at| local.sockets.slots.get(at).unwrap().1.taken.len();
        let before = (taken_of(&local, ends), taken_of(&local, stays));
        let mut ending = local.fanout.begin_end(ends, &mut local.sockets).unwrap();
        let mut is_over = false;
        while !is_over {
            local.event(group, Some("u"));
            local.event(other, Some("u"));
            local.sweep(1000);
            assert_eq!(local.fanout.held_bytes(), 0, "no list is held back");
            let mut units = 1;
            let (fanout, sockets) = (&mut local.fanout, &mut local.sockets);
            is_over = fanout.go_on_ending(&mut ending, sockets, &mut units, |_, _, _| ());
            local.fanout.check_invariants(&mut local.sockets);
        }
        assert_eq!(taken_of(&local, ends), before.0);
        assert!(taken_of(&local, stays) > before.1);
    }
}
