//! What a store that keeps values takes of a shard for a snapshot, and what it gives back at start.
//!
//! A snapshot is taken a slice at a time while the shard goes on. Each slice is right up to one
//! write of the store's log; what the log holds beside it is sorted out when both are given back.
//! May not know how a store writes either.

use std::collections::HashMap;

use crate::id::{GroupKey, ItemId, Text};
use crate::protocol::ttl::Ttl;

use super::Shard;
use super::lifetimes::NEVER;
use super::marks::Marks;
use super::times::Times;

/// How much one slice may take, so that it does not hold its worker up.
#[derive(Debug, Clone, Copy)]
pub struct SliceLimits {
    /// Items in it.
    pub items: usize,
    /// Bytes of their names and values; one item is taken whatever its size.
    pub bytes: usize,
    /// Groups that are looked at, those without items included.
    pub groups: usize,
}

/// Where the next slice begins. The default is the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Behind the groups that nobody has named, which come first: whoever names one while a slice is
    /// on its way comes later.
    is_in_named: bool,
    slot: u32,
    /// Which group it stands in; if another has the slot by now, that one is taken whole.
    birth: u64,
    sequence: u64,
}

/// Some groups of a shard, or a part of one.
#[derive(Debug, Default)]
pub struct Slice {
    /// In the order of the cursor.
    pub pieces: Vec<Piece>,
    /// The highest time of all groups that the shard has let go.
    pub time_let_go: u64,
    /// Where to go on; `None` when all was taken.
    pub next: Option<Cursor>,
}

/// Accepted items of one group that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The group.
    pub key: GroupKey,
    /// The highest time that it has given out.
    pub time: u64,
    /// It begins with the group's first item: what was taken of a group of this name before is void.
    pub is_first: bool,
    /// The names are only one of the readings of its joined name.
    pub is_unnamed: bool,
    /// In their order.
    pub items: Vec<(Box<str>, Text)>,
    /// What is to be known of some of them beside, in their order.
    pub marked: Vec<Marked>,
}

/// What a store keeps of one item of a piece beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// Which item of the piece.
    pub at: u32,
    /// How long it lasts by its own word; none: as its stream's do.
    pub ttl: Option<Ttl>,
    /// When it ends, in ms since 1970; none: it does not.
    pub ends_ms: Option<u64>,
    /// It is a member's.
    pub is_member: bool,
}

/// One thing that a store has kept. Those of a snapshot come first, then the log in its order.
#[derive(Debug)]
pub enum Restored {
    /// Of a snapshot.
    Piece {
        /// The number of the log's last write that is in it.
        sequence: u64,
        /// What it holds.
        piece: Piece,
    },
    /// A write of the log.
    Put {
        /// Its number in the log.
        sequence: u64,
        /// The item's group.
        key: GroupKey,
        /// Its name.
        item: ItemId,
        /// Its value.
        value: Text,
        /// When, in ms since 1970.
        time: u64,
        /// What was said beside.
        marks: Marks,
    },
    /// A removal of the log.
    Remove {
        /// Its number in the log.
        sequence: u64,
        /// The item's group.
        key: GroupKey,
        /// Its name.
        item: ItemId,
        /// When, in ms since 1970.
        time: u64,
    },
}

impl Restored {
    /// The group it is about.
    pub fn key(&self) -> &GroupKey {
        match self {
            Restored::Piece { piece, .. } => &piece.key,
            Restored::Put { key, .. } | Restored::Remove { key, .. } => key,
        }
    }
}

impl Slice {
    /// Bytes it holds on the heap, shared ones included.
    pub fn held_bytes(&self) -> usize {
        let items = self.pieces.iter().flat_map(|piece| &piece.items);
        items.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Which writes of the log the pieces of a snapshot already hold, by the slots of their groups.
#[derive(Default)]
pub(super) struct Restoring {
    marks: HashMap<u32, Vec<Mark>>,
}

/// Items from `first` up to below `end`, by their place in the group, are right up to a write.
struct Mark {
    first: u64,
    end: u64,
    sequence: u64,
}

impl Restoring {
    /// Whether the item at that place of the group already holds that write.
    fn holds(&self, slot: u32, place: u64, sequence: u64) -> bool {
        let marks = self.marks.get(&slot).map_or(&[][..], Vec::as_slice);
        let after = marks.partition_point(|mark| mark.first <= place);
        let mark = after.checked_sub(1).and_then(|at| marks.get(at));
        mark.is_some_and(|mark| place < mark.end && sequence <= mark.sequence)
    }
}

impl Shard {
    /// The next accepted items from `cursor` on.
    pub fn slice(&self, cursor: Cursor, limits: SliceLimits) -> Slice {
        let mut slice = Slice {
            time_let_go: self.groups.let_go().time,
            ..Slice::default()
        };
        let mut left = limits;
        let cursor = if cursor.is_in_named {
            cursor
        } else {
            slice.next = self.unnamed_slice(cursor, &mut left, &mut slice.pieces);
            if slice.next.is_some() {
                return slice;
            }
            Cursor {
                is_in_named: true,
                ..Cursor::default()
            }
        };
        slice.next = self.named_slice(cursor, left, &mut slice.pieces);
        slice
    }

    /// Gives where to go on, unless all was taken.
    fn unnamed_slice(
        &self,
        cursor: Cursor,
        left: &mut SliceLimits,
        pieces: &mut Vec<Piece>,
    ) -> Option<Cursor> {
        for place in cursor.slot as usize..self.unnamed.places_end() {
            let goes_on = place == cursor.slot as usize;
            let from = if goes_on { cursor.sequence } else { 0 };
            let here = |sequence| Cursor {
                slot: place as u32,
                sequence,
                ..Cursor::default()
            };
            if left.items == 0 || left.bytes == 0 || left.groups == 0 {
                return Some(here(from));
            }
            left.groups -= 1;
            let Some(entry) = self.unnamed.at(place) else {
                continue;
            };
            let (items, next) = entry.items.piece(from, &mut left.items, &mut left.bytes);
            pieces.push(Piece {
                key: entry.key.clone(),
                time: 0,
                is_first: from == 0,
                is_unnamed: true,
                items,
                marked: Vec::new(),
            });
            if let Some(sequence) = next {
                return Some(here(sequence));
            }
        }
        None
    }

    fn named_slice(
        &self,
        cursor: Cursor,
        mut left: SliceLimits,
        pieces: &mut Vec<Piece>,
    ) -> Option<Cursor> {
        for slot in cursor.slot..self.groups.slots_end() {
            let here = |birth, sequence| Cursor {
                is_in_named: true,
                slot,
                birth,
                sequence,
            };
            if left.items == 0 || left.bytes == 0 || left.groups == 0 {
                return Some(here(0, 0));
            }
            left.groups -= 1;
            let Some(group) = self.groups.get(slot).filter(|group| group.has_items()) else {
                continue;
            };
            let goes_on = slot == cursor.slot && group.birth == cursor.birth;
            let from = if goes_on { cursor.sequence } else { 0 };
            let (items, next) = group.items().piece(from, &mut left.items, &mut left.bytes);
            pieces.push(Piece {
                key: group.key.clone(),
                time: group.last().time,
                is_first: from == 0,
                is_unnamed: false,
                marked: self.marked(group, from, items.len()),
                items,
            });
            if let Some(sequence) = next {
                return Some(here(group.birth, sequence));
            }
        }
        None
    }

    /// Takes back what a store has kept, before the first command. After the last of it
    /// [`Shard::restored`] has to be called.
    pub fn restore(&mut self, restored: Restored) {
        match restored {
            Restored::Piece { piece, .. } if piece.is_unnamed => self.restore_unnamed(piece),
            Restored::Piece { sequence, piece } => {
                // Named after it was taken without a name: what it is now is here.
                self.unnamed.take(&piece.key);
                self.restore_piece(sequence, piece);
            }
            Restored::Put {
                sequence,
                key,
                item,
                value,
                time,
                marks,
            } => {
                self.restore_item(sequence, key, &item, Some((value, marks)), time);
            }
            Restored::Remove {
                sequence,
                key,
                item,
                time,
            } => {
                let slot = self.restore_item(sequence, key, &item, None, time);
                self.forget_if_empty(slot);
            }
        }
    }

    /// One change of the log, unless a slice that was taken later holds the item: none is its removal.
    /// Gives the group's slot.
    fn restore_item(
        &mut self,
        sequence: u64,
        key: GroupKey,
        item: &ItemId,
        value: Option<(Text, Marks)>,
        time: u64,
    ) -> u32 {
        let hash = self.groups.hash(item);
        self.name(&key);
        let slot = self.groups.enter(key);
        let restoring = self.restoring.as_ref();
        let due = &self.due;
        if let Some(group) = self.groups.get_mut(slot) {
            group.restore(time);
            let place = group.items().place(hash, item);
            let is_held = place.is_some_and(|place| {
                restoring.is_some_and(|known| known.holds(slot, place, sequence))
            });
            match value {
                Some((value, marks)) if !is_held => {
                    let slot = group.items_mut().put(hash, item, value);
                    group.restore_lifetime(slot, marks.ttl, time, due);
                    group.restore_member(hash, item, marks.is_member);
                }
                None if place.is_some() && !is_held => {
                    group.items_mut().remove(hash, item);
                    group.restore_member(hash, item, false);
                }
                _ => {}
            }
        }
        slot
    }

    /// All was given back. No time up to `time` is given out again.
    pub fn restored(&mut self, time: u64) {
        self.restoring = None;
        self.begin_to_look();
        self.groups.raise_times(time);
        self.sum_up();
    }

    /// From now on times that no write bears are given out once the store has kept them; it has those
    /// up to `kept`.
    pub fn keep_times_from(&mut self, kept: u64) {
        self.flight.times = Times::from(kept);
    }

    fn restore_unnamed(&mut self, piece: Piece) {
        let Some(items) = self.unnamed.enter(piece.key) else {
            return;
        };
        if piece.is_first {
            drop(items.clear());
        }
        for (name, value) in piece.items {
            items.put(self.groups.hash(&name), &name, value);
        }
    }

    fn restore_piece(&mut self, sequence: u64, piece: Piece) {
        if piece.is_first
            && let Some(slot) = self.groups.find(&piece.key)
            && let Some(group) = self.groups.get_mut(slot)
        {
            drop(group.items_mut().clear());
            group.members = None;
            self.forget_marks(slot);
        }
        let slot = self.groups.enter(piece.key);
        let hashes: Vec<u64> = piece
            .items
            .iter()
            .map(|(name, _)| self.groups.hash(name))
            .collect();
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        group.restore(piece.time);
        let first = group.items().next_sequence();
        let mut marked = piece.marked.into_iter().peekable();
        let due = &self.due;
        for (at, ((name, value), hash)) in piece.items.into_iter().zip(hashes).enumerate() {
            // It was taken before, and then removed and made anew: its place is here.
            group.items_mut().remove(hash, &name);
            let slot = group.items_mut().put(hash, &name, value);
            match marked.next_if(|marked| marked.at as usize == at) {
                Some(marked) => {
                    match marked.ends_ms {
                        Some(ms) => group.restore_end(slot, marked.ttl, ms, due),
                        None if marked.ttl.is_some() => {
                            group.items_mut().end_in(slot, marked.ttl, NEVER, 0);
                        }
                        None => {}
                    }
                    group.restore_member(hash, &(*name).into(), marked.is_member);
                }
                None => group.restore_lifetime(slot, None, piece.time, due),
            }
        }
        let mark = Mark {
            first,
            end: group.items().next_sequence(),
            sequence,
        };
        let restoring = self.restoring.get_or_insert_default();
        restoring.marks.entry(slot).or_default().push(mark);
        self.forget_if_empty(slot);
    }

    fn forget_if_empty(&mut self, slot: u32) {
        if self
            .groups
            .get(slot)
            .is_some_and(|group| !group.has_items())
        {
            self.forget_marks(slot);
            self.groups.let_go_if_idle(slot);
        }
    }

    fn forget_marks(&mut self, slot: u32) {
        if let Some(restoring) = &mut self.restoring {
            restoring.marks.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallId, WorkerId};
    use crate::shard::{Answer, Ask, Command, Decides, Effects, Learned, ValueLimits, Verdict};

    const ONE: SliceLimits = SliceLimits {
        items: 1,
        bytes: 1000,
        groups: 10,
    };

    fn shard() -> Shard {
        let limits = ValueLimits {
            json_depth: 9,
            value_bytes: 99,
        };
        Shard::new(WorkerId(0), Decides::Owner, limits)
    }

    /// The item is set, or deleted, and the store accepts.
    fn change(shard: &mut Shard, group: &str, item: &str, value: Option<&str>) {
        let call: Option<CallId> = None;
        let item = item.into();
        let ask = match value {
            Some(value) => Ask::Set {
                item,
                data: value.into(),
                ttl: None,
                call,
            },
            None => Ask::Delete { item, call },
        };
        let (key, mut out) = (GroupKey::new("s", group), Effects::default());
        shard.apply(Command::Group { key, ask }, 1, &mut out);
        for request in std::mem::take(&mut out.requests) {
            let answer = Answer {
                shard: request.shard,
                epoch: request.epoch,
                number: request.number,
                verdict: Verdict::Accepted,
            };
            shard.learn(Learned::Answer(answer), 1, &mut out);
        }
    }

    fn names(slice: &Slice) -> Vec<(String, bool, Vec<String>)> {
        let names = |piece: &Piece| {
            piece
                .items
                .iter()
                .map(|(name, _)| name.to_string())
                .collect()
        };
        let piece = |piece: &Piece| (piece.key.group().to_owned(), piece.is_first, names(piece));
        slice.pieces.iter().map(piece).collect()
    }

    fn expected(group: &str, is_first: bool, items: &[&str]) -> (String, bool, Vec<String>) {
        let items = items.iter().map(|item| (*item).to_owned()).collect();
        (group.to_owned(), is_first, items)
    }

    #[test]
    fn a_large_group_is_taken_in_pieces_that_bear_its_order() {
        let mut shard = shard();
        for item in ["a", "b", "c"] {
            change(&mut shard, "g", item, Some("1"));
        }
        let first = shard.slice(Cursor::default(), ONE);
        assert_eq!(names(&first), [expected("g", true, &["a"])]);
        // Taken already, it is taken again where it now stands.
        change(&mut shard, "g", "a", None);
        change(&mut shard, "g", "a", Some("2"));
        let rest = SliceLimits { items: 9, ..ONE };
        let second = shard.slice(first.next.unwrap(), rest);
        assert_eq!(names(&second), [expected("g", false, &["b", "c", "a"])]);
        assert_eq!(second.next, None);
    }

    #[test]
    fn a_group_in_the_place_of_one_that_was_half_taken_is_taken_whole() {
        let mut shard = shard();
        change(&mut shard, "g", "a", Some("1"));
        change(&mut shard, "g", "b", Some("1"));
        let first = shard.slice(Cursor::default(), ONE);
        change(&mut shard, "g", "a", None);
        change(&mut shard, "g", "b", None);
        for item in ["x", "y"] {
            change(&mut shard, "g", item, Some("1"));
        }
        let rest = SliceLimits { items: 9, ..ONE };
        let second = shard.slice(first.next.unwrap(), rest);
        assert_eq!(names(&second), [expected("g", true, &["x", "y"])]);

        let mut restored = self::shard();
        for (sequence, slice) in [(2, first), (6, second)] {
            for piece in slice.pieces {
                restored.restore(Restored::Piece { sequence, piece });
            }
        }
        restored.restored(0);
        let all = restored.slice(Cursor::default(), rest);
        assert_eq!(names(&all), [expected("g", true, &["x", "y"])]);
    }

    #[test]
    fn a_slice_ends_after_so_many_groups_even_if_none_has_items() {
        let mut shard = shard();
        for n in 0..30 {
            change(&mut shard, &format!("g{n}"), "i", Some("1"));
        }
        for n in 0..29 {
            change(&mut shard, &format!("g{n}"), "i", None);
        }
        let mut slices = 1;
        let mut slice = shard.slice(Cursor::default(), ONE);
        while let Some(next) = slice.next {
            assert_eq!(names(&slice), []);
            slice = shard.slice(next, ONE);
            slices += 1;
        }
        assert_eq!(names(&slice), [expected("g29", true, &["i"])]);
        assert_eq!(slices, 3);
    }
}
