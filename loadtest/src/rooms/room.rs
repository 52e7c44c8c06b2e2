//! What was published to one group, in order, and what a `sync` of it may therefore hold.
//!
//! Pure. Each change of the group has a number: 0, 1, 2, … A `set` carries its own inside its value;
//! a `delete` is known by the value that it removes. So the point of a group's order at which a
//! `sync` was made can be told from its values, and what must follow it to the very next change.

use std::collections::VecDeque;

const NONE: u32 = u32::MAX;

struct Change {
    item: u32,
    is_set: bool,
    /// The next change of that item, or `NONE`.
    next_of_item: u32,
    /// Items there are after it.
    held_after: u32,
}

/// What a `sync` says about its place in the group's order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It was made before this change and after all others below.
    Before(u32),
    /// The group looked so more than once: the first change heard after it tells which.
    OneOf(Places),
    /// The group never was so.
    Wrong(String),
}

/// The places in a group's order at which it held what a `sync` says: before any change from
/// `first` to `last` that found `held` items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    first: u32,
    last: u32,
    held: u32,
}

/// One group's history.
#[derive(Default)]
pub(crate) struct Room {
    changes: Vec<Change>,
    last_of_item: Vec<u32>,
    held: u32,
    /// Every change below it has its answer.
    answered: u32,
    /// Of those from there on, which have.
    answered_ahead: VecDeque<bool>,
}

impl Room {
    /// How many changes there have been.
    pub(crate) fn published(&self) -> u32 {
        self.changes.len() as u32
    }

    pub(crate) fn answered(&self) -> u32 {
        self.answered
    }

    /// The number of the next change, which sets `item`.
    pub(crate) fn set(&mut self, item: u32) -> u32 {
        if !self.holds(item) {
            self.held += 1;
        }
        self.push(item, true)
    }

    /// The number of the next change, which deletes `item`; `None` if it is not there.
    pub(crate) fn delete(&mut self, item: u32) -> Option<u32> {
        self.holds(item).then(|| {
            self.held -= 1;
            self.push(item, false)
        })
    }

    pub(crate) fn holds(&self, item: u32) -> bool {
        let last = self.last_of_item.get(item as usize).copied();
        last.and_then(|last| self.changes.get(last as usize))
            .is_some_and(|change| change.is_set)
    }

    fn push(&mut self, item: u32, is_set: bool) -> u32 {
        let number = self.published();
        let index = item as usize;
        if index >= self.last_of_item.len() {
            self.last_of_item.resize(index + 1, NONE);
        }
        let before = std::mem::replace(&mut self.last_of_item[index], number);
        if let Some(before) = self.changes.get_mut(before as usize) {
            before.next_of_item = number;
        }
        self.changes.push(Change {
            item,
            is_set,
            next_of_item: NONE,
            held_after: self.held,
        });
        number
    }

    /// Change `number` has its answer.
    pub(crate) fn answer(&mut self, number: u32) {
        let Some(ahead) = number.checked_sub(self.answered) else {
            return;
        };
        let ahead = ahead as usize;
        if ahead >= self.answered_ahead.len() {
            self.answered_ahead.resize(ahead + 1, false);
        }
        self.answered_ahead[ahead] = true;
        while self.answered_ahead.front() == Some(&true) {
            self.answered_ahead.pop_front();
            self.answered += 1;
        }
    }

    /// Whether change `number` set `item`.
    pub(crate) fn is_set(&self, number: u32, item: u32) -> bool {
        self.change(number)
            .is_some_and(|change| change.is_set && change.item == item)
    }

    /// The change that deleted what `number` had set.
    pub(crate) fn delete_of(&self, number: u32) -> Option<u32> {
        let next = self.change(number)?.next_of_item;
        self.change(next)
            .is_some_and(|change| !change.is_set)
            .then_some(next)
    }

    /// How many items there were when change `number` came.
    fn held_before(&self, number: u32) -> Option<u32> {
        match number.checked_sub(1) {
            Some(before) => self.change(before).map(|change| change.held_after),
            None => Some(0),
        }
    }

    /// Whether a `sync` at one of `places` may be followed by change `number`.
    pub(crate) fn may_follow(&self, places: Places, number: u32) -> bool {
        (places.first..=places.last).contains(&number)
            && self.held_before(number) == Some(places.held)
    }

    /// The last of `places` that is not after change `number`, or else the first.
    pub(crate) fn nearest(&self, places: Places, number: u32) -> u32 {
        let mut fitting =
            (places.first..=places.last).filter(|place| self.may_follow(places, *place));
        let first = fitting.next().unwrap_or(places.first);
        let not_after = fitting.take_while(|place| *place <= number);
        not_after.last().unwrap_or(first)
    }

    fn change(&self, number: u32) -> Option<&Change> {
        self.changes.get(number as usize)
    }

    /// Where a `sync` with these `items` (item and sequence, by item) stands in the order, for a
    /// join sent when all changes below `answered` had their answers.
    pub(crate) fn cut(&self, items: &[(u32, u32)], answered: u32) -> Cut {
        for (item, sequence) in items {
            if !self.is_set(*sequence, *item) {
                return Cut::Wrong(format!("holds item {item} as never published"));
            }
        }
        let latest = items.iter().map(|(_, sequence)| *sequence).max();
        // No value was replaced before the place: there it stands with the latest of them.
        let replaced = items
            .iter()
            .filter_map(|(_, sequence)| self.change(*sequence))
            .map(|change| change.next_of_item)
            .min();
        let places = Places {
            first: latest.map_or(0, |latest| latest + 1),
            last: replaced.unwrap_or(NONE).min(self.published()),
            held: items.len() as u32,
        };
        let in_time = Places {
            first: places.first.max(answered),
            ..places
        };
        let mut fitting =
            (in_time.first..=in_time.last).filter(|place| self.may_follow(in_time, *place));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Cut::Before(only),
            (Some(_), Some(_)) => Cut::OneOf(in_time),
            (None, _) => Cut::Wrong(self.why_wrong(places, answered)),
        }
    }

    fn why_wrong(&self, places: Places, answered: u32) -> String {
        let Places { first, last, held } = places;
        if first > last {
            return format!(
                "holds a value that change {last} replaced beside one of change {}",
                first - 1
            );
        }
        match (first..=last).rfind(|place| self.may_follow(places, *place)) {
            Some(place) => format!(
                "was made before change {place}, though {} was answered before the join",
                answered - 1
            ),
            None => format!(
                "holds {held} items, and there were {} before change {first}",
                self.held_before(first).unwrap_or(0)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0: set a, 1: set b, 2: set a, 3: delete b, 4: delete a, 5: set b.
    fn room() -> Room {
        let mut room = Room::default();
        room.set(0);
        room.set(1);
        room.set(0);
        room.delete(1);
        room.delete(0);
        room.set(1);
        room
    }

    #[test]
    fn each_state_that_was_has_its_place() {
        let room = room();
        for (items, cut) in [
            (&[(0, 0)][..], Cut::Before(1)),
            (&[(0, 0), (1, 1)], Cut::Before(2)),
            (&[(0, 2), (1, 1)], Cut::Before(3)),
            (&[(0, 2)], Cut::Before(4)),
            (&[(1, 5)], Cut::Before(6)),
        ] {
            assert_eq!(room.cut(items, 0), cut, "{items:?}");
        }
        assert_eq!(Room::default().cut(&[], 0), Cut::Before(0));
        assert_eq!(room.cut(&[], 3), Cut::Before(5), "it was empty once since");
    }

    /// Before 2 and before 4 the group holds item 0 alone: a visitor came and went between.
    #[test]
    fn where_the_group_looked_so_twice_the_next_change_decides() {
        let mut room = Room::default();
        room.set(0);
        room.set(1);
        room.delete(1);
        room.set(2);
        let Cut::OneOf(places) = room.cut(&[(0, 0)], 0) else {
            unreachable!("1 and 3 both fit");
        };
        let may_follow = [0, 1, 2, 3, 4].map(|number| room.may_follow(places, number));
        assert_eq!(may_follow, [false, true, false, true, false]);
        let nearest = [0, 1, 2, 3, 4].map(|number| room.nearest(places, number));
        assert_eq!(nearest, [1, 1, 1, 3, 3]);
        assert_eq!(room.cut(&[(0, 0)], 2), Cut::Before(3));
    }

    #[test]
    fn what_never_was_is_wrong() {
        let room = room();
        for items in [
            &[(1, 1)][..],     // item 0 lacks
            &[(0, 1)],         // 1 set another item
            &[(0, 9)],         // not published
            &[(0, 0), (1, 5)], // replaced long before
        ] {
            assert!(matches!(room.cut(items, 0), Cut::Wrong(_)), "{items:?}");
        }
    }

    #[test]
    fn a_sync_older_than_an_answer_before_the_join_is_wrong() {
        let room = room();
        assert_eq!(room.cut(&[(0, 2)], 4), Cut::Before(4));
        assert!(matches!(room.cut(&[(0, 2)], 5), Cut::Wrong(_)));
    }

    #[test]
    fn deletes_are_known_by_what_they_remove() {
        let room = room();
        assert_eq!(room.delete_of(1), Some(3));
        assert_eq!(room.delete_of(2), Some(4));
        assert_eq!(room.delete_of(0), None, "it was set again");
        assert_eq!(room.delete_of(5), None);
        assert!(room.holds(1) && !room.holds(0) && !room.holds(9));
    }

    #[test]
    fn answers_count_up_to_the_first_that_lacks() {
        let mut room = room();
        room.answer(1);
        assert_eq!(room.answered(), 0);
        room.answer(0);
        assert_eq!(room.answered(), 2);
        room.answer(0);
        assert_eq!(room.answered(), 2);
    }
}
