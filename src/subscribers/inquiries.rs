//! What the admin thread asks about groups and sockets, looked up in slices of turns: whoever looks from
//! outside makes no turn long.
//!
//! Changes nothing of what it looks at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::id::{GroupKey, SlotId};
use crate::mesh::inquiries::{
    Findings, GroupOrder, Inquiry, Question, Search, SocketLook, SocketOrder,
};

use super::Subscribers;
use super::connections::{Connection, Phase, Socket};

/// Groups and sockets that one turn looks at.
const LOOKS_A_TURN: usize = 4096;
/// Of the groups that a socket follows so many are named.
const GROUPS_NAMED: usize = 3;

/// An inquiry that is being looked up.
pub(super) struct Looking {
    inquiry: Inquiry,
    stage: Stage,
}

enum Stage {
    /// Groups that are owned here, from that slot on.
    Owned(u32, First),
    /// Groups that are followed here, from that slot on.
    Followed(u32, First),
    /// Groups of which something is known, as far as they were looked up.
    Named(usize, Vec<(Option<crate::shard::GroupLook>, usize)>),
    /// Names, from that slot on.
    Names(u32, FirstNames),
    /// Sockets, from that slot on, and how many there were.
    Sockets(u32, usize, First),
    /// What takes one look.
    AtOnce,
}

/// The first so many of what was looked at, by what they are put in order by.
struct First {
    most: usize,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl First {
    fn new(most: usize) -> First {
        First {
            most,
            heap: BinaryHeap::new(),
        }
    }

    fn add(&mut self, weight: u64, slot: u32) {
        if self.heap.len() < self.most {
            self.heap.push(Reverse((weight, slot)));
        } else if let Some(mut least) = self.heap.peek_mut()
            && least.0.0 < weight
        {
            *least = Reverse((weight, slot));
        }
    }

    /// The slots, the largest first.
    fn into_slots(self) -> Vec<u32> {
        let sorted = self.heap.into_sorted_vec(); // the least of the reversed is the largest
        sorted.into_iter().map(|Reverse((_, slot))| slot).collect()
    }
}

/// The first names of those that were looked at, and for each how many groups.
#[derive(Default)]
struct FirstNames(BTreeMap<Box<str>, usize>);

impl FirstNames {
    fn add(&mut self, name: &str, groups: usize, most: usize) {
        if let Some(known) = self.0.get_mut(name) {
            *known += groups;
        } else if self.0.len() < most {
            self.0.insert(name.into(), groups);
        } else if self
            .0
            .last_key_value()
            .is_some_and(|(last, _)| *name < **last)
        {
            self.0.pop_last();
            self.0.insert(name.into(), groups);
        }
    }
}

impl Looking {
    fn new(inquiry: Inquiry) -> Looking {
        let stage = match &inquiry.question {
            Question::FirstGroups(_, most) => Stage::Owned(0, First::new(*most)),
            Question::Groups(_) => Stage::Named(0, Vec::new()),
            Question::Names(_) => Stage::Names(0, FirstNames::default()),
            Question::Sockets(_, most) => Stage::Sockets(0, 0, First::new(*most)),
            Question::Closed(..) | Question::Items(..) => Stage::AtOnce,
        };
        Looking { inquiry, stage }
    }
}

impl<S: Socket> Subscribers<S> {
    /// Whether somebody looks from outside.
    pub(super) fn is_asked(&self) -> bool {
        self.looking.is_some() || !self.ports.shared.inquiries[self.ports.id.index()].is_empty()
    }

    /// Goes on with what is asked from outside, as far as one turn may.
    pub fn answer_inquiries(&mut self) {
        let mut looks = LOOKS_A_TURN;
        while looks > 0 {
            let looking = match self.looking.take() {
                Some(looking) => *looking,
                None => {
                    let inquiries = &self.ports.shared.inquiries[self.ports.id.index()];
                    let Some(inquiry) = inquiries.take() else {
                        return;
                    };
                    Looking::new(inquiry)
                }
            };
            looks = looks.saturating_sub(1);
            self.look_on(looking, &mut looks);
        }
    }

    fn look_on(&mut self, looking: Looking, looks: &mut usize) {
        let Looking { inquiry, stage } = looking;
        let outcome = match (&inquiry.question, stage) {
            (Question::FirstGroups(order, most), Stage::Owned(from, first)) => {
                self.look_at_owned((*order, *most), from, first, looks)
            }
            (_, Stage::Followed(from, first)) => self.look_at_followed(from, first, looks),
            (Question::Groups(keys), Stage::Named(at, found)) => {
                let keys = Arc::clone(keys);
                self.look_for_groups(&keys, at, found, looks)
            }
            (Question::Names(search), Stage::Names(from, names)) => {
                let search = Arc::clone(search);
                self.look_at_names(&search, from, names, looks)
            }
            (Question::Sockets(order, _), Stage::Sockets(from, len, first)) => {
                self.look_at_sockets(*order, (from, len), first, looks)
            }
            (Question::Closed(reason, most), _) => {
                let last = self.closed.last(*reason, *most);
                *looks = looks.saturating_sub(last.len());
                Ok(Findings::Closed(last))
            }
            (Question::Items(key, from, items, bytes), _) => {
                let now = self.now.wall_ms;
                let look = self.shard.look_for(key, now);
                let items = self.shard.items_of(key, *from, *items, *bytes);
                Ok(Findings::Items(look.zip(items)))
            }
            (_, stage) => Err(stage),
        };
        match outcome {
            Ok(findings) => inquiry.answer(self.ports.id, findings),
            Err(stage) => self.looking = Some(Box::new(Looking { inquiry, stage })),
        }
    }

    /// `Err`: where to go on next turn.
    fn look_at_owned(
        &self,
        (order, most): (GroupOrder, usize),
        from: u32,
        mut first: First,
        looks: &mut usize,
    ) -> Result<Findings, Stage> {
        let end = self.shard.slots_end();
        if order == GroupOrder::Subscribers {
            return Err(Stage::Followed(0, First::new(most)));
        }
        let mut slot = from;
        while slot < end {
            if *looks == 0 {
                return Err(Stage::Owned(slot, first));
            }
            *looks -= 1;
            let shard = &self.shard;
            let weight = match order {
                GroupOrder::Events => shard.events_at(slot),
                GroupOrder::Pace => {
                    let pace = shard.pace_at(slot, self.now.wall_ms);
                    pace.map(|pace| (pace * 1000.0) as u64)
                }
                GroupOrder::Bytes | GroupOrder::Subscribers => {
                    shard.bytes_at(slot).map(|bytes| bytes as u64)
                }
            };
            if let Some(weight) = weight {
                first.add(weight, slot);
            }
            slot += 1;
        }
        let slots = first.into_slots().into_iter();
        let key_of = |slot| self.shard.key_at(slot).cloned();
        Ok(Findings::FirstGroups(slots.filter_map(key_of).collect()))
    }

    fn look_at_followed(
        &self,
        from: u32,
        mut first: First,
        looks: &mut usize,
    ) -> Result<Findings, Stage> {
        let end = self.fanout.slots_end();
        let mut slot = from;
        while slot < end {
            if *looks == 0 {
                return Err(Stage::Followed(slot, first));
            }
            *looks -= 1;
            if let Some((_, followers)) = self.fanout.group_at(slot) {
                first.add(followers as u64, slot);
            }
            slot += 1;
        }
        let slots = first.into_slots().into_iter();
        let key_of = |slot| {
            let (key, _) = self.fanout.group_at(slot)?;
            Some(key.clone())
        };
        Ok(Findings::FirstGroups(slots.filter_map(key_of).collect()))
    }

    fn look_at_names(
        &self,
        search: &Search,
        from: u32,
        mut names: FirstNames,
        looks: &mut usize,
    ) -> Result<Findings, Stage> {
        let end = match search.stream {
            Some(_) => self.shard.slots_end(),
            None => self.shard.streams_end(),
        };
        let mut slot = from;
        while slot < end {
            if *looks == 0 {
                return Err(Stage::Names(slot, names));
            }
            *looks -= 1;
            let found = match &search.stream {
                Some(stream) => {
                    let key = self.shard.key_at(slot);
                    let key = key.filter(|key| *key.stream() == **stream);
                    key.map(|key| (key.group(), 1))
                }
                None => self.shard.stream_at(slot),
            };
            if let Some((name, groups)) = found
                && search.wants(name)
            {
                names.add(name, groups, search.most);
            }
            slot += 1;
        }
        Ok(Findings::Names(names.0.into_iter().collect()))
    }

    fn look_for_groups(
        &self,
        keys: &[GroupKey],
        at: usize,
        mut found: Vec<(Option<crate::shard::GroupLook>, usize)>,
        looks: &mut usize,
    ) -> Result<Findings, Stage> {
        for key in keys.iter().skip(at) {
            if *looks == 0 {
                return Err(Stage::Named(found.len(), found));
            }
            *looks -= 1;
            let look = self.shard.look_for(key, self.now.wall_ms);
            found.push((look, self.fanout.followers(key)));
        }
        Ok(Findings::Groups(found))
    }

    fn look_at_sockets(
        &self,
        order: SocketOrder,
        (from, mut len): (u32, usize),
        mut first: First,
        looks: &mut usize,
    ) -> Result<Findings, Stage> {
        let end = self.connections.slots_end();
        let mut slot = from;
        while slot < end {
            if *looks == 0 {
                return Err(Stage::Sockets(slot, len, first));
            }
            *looks -= 1;
            if let Some((id, connection)) = self.open_at(slot) {
                len += 1;
                let cost = self.fanout.look_cost(&connection.reader);
                *looks = looks.saturating_sub(cost);
                first.add(self.weight_of(order, id, connection), slot);
            }
            slot += 1;
        }
        let slots = first.into_slots().into_iter();
        let look_of = |slot| {
            let (id, connection) = self.open_at(slot)?;
            Some(self.look_at_socket(id, connection))
        };
        Ok(Findings::Sockets(slots.filter_map(look_of).collect(), len))
    }

    /// What stands in a slot, if it was let in.
    fn open_at(&self, slot: u32) -> Option<(SlotId, &Connection<S>)> {
        let id = self.connections.id_at(slot)?;
        let connection = self.connections.get(id)?;
        let is_open = matches!(connection.phase, Phase::Open(_) | Phase::Closing);
        (is_open && connection.is_let_in).then_some((id, connection))
    }

    fn weight_of(&self, order: SocketOrder, id: SlotId, connection: &Connection<S>) -> u64 {
        let reader = &connection.reader;
        match order {
            SocketOrder::Behind => {
                // Of two that are as far behind, the one that has taken nothing for longer.
                let bytes = self.fanout.behind(reader).bytes as u64;
                let blocked_ms = self.blocked_ms(id).unwrap_or(0).min(0xff_ffff);
                bytes.min(u64::MAX >> 24) << 24 | blocked_ms
            }
            SocketOrder::Oldest => self.age_ms(id),
            SocketOrder::Bytes => reader.queue_bytes() as u64,
            SocketOrder::Subscriptions => reader.subscriptions_len() as u64,
        }
    }

    fn look_at_socket(&self, id: SlotId, connection: &Connection<S>) -> SocketLook {
        let reader = &connection.reader;
        let behind = self.fanout.behind(reader);
        SocketLook {
            worker: self.ports.id,
            slot: id.slot,
            generation: id.generation,
            peer: connection.socket.peer(),
            age_ms: self.age_ms(id),
            subscriptions: reader.subscriptions_len(),
            behind_bytes: behind.bytes,
            behind_events: behind.events,
            own_bytes: reader.queue_bytes(),
            blocked_ms: self.blocked_ms(id),
            is_closing: matches!(connection.phase, Phase::Closing),
            is_held: connection.is_held(&self.bounds),
            groups: self
                .fanout
                .groups_of(reader)
                .take(GROUPS_NAMED)
                .cloned()
                .collect(),
            kernel: connection.socket.kernel(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_the_first_are_kept_with_all_their_groups() {
        let mut names = FirstNames::default();
        for (name, groups) in [("d", 1), ("b", 2), ("c", 4), ("a", 8), ("b", 16), ("d", 32)] {
            names.add(name, groups, 2);
        }
        let kept = names.0.into_iter().collect::<Vec<_>>();
        assert_eq!(kept, [("a".into(), 8), ("b".into(), 18)]);
    }

    #[test]
    fn of_many_the_largest_are_kept_in_order() {
        let mut first = First::new(3);
        for (slot, weight) in [5, 1, 9, 7, 3, 9, 0].into_iter().enumerate() {
            first.add(weight, slot as u32);
        }
        let mut slots = first.into_slots();
        slots[..2].sort();
        assert_eq!(slots, [2, 5, 3]);
        assert!(First::new(0).into_slots().is_empty());
    }
}
