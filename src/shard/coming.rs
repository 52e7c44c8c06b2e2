//! What a shared store tells of a whole group, on its way to being what is kept here of it.
//!
//! Data, and the steps that need nothing of the group: `taking_in` does the others.

use std::collections::HashSet;

use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;

use crate::id::{ItemId, Text};

use super::content::Content;
use super::items::Items;

/// What it costs to take in an item that the store has told, its text not counted.
const COMING_UNITS: usize = 2;
/// What it costs with its text.
pub(super) const TOLD_UNITS: usize = COMING_UNITS + 1;
/// What it costs to find an item changed and to tell of it.
pub(super) const TELL_UNITS: usize = 8;

/// What is being taken in, and how far that is.
pub(super) struct Coming {
    rest: std::vec::IntoIter<(ItemId, Text)>,
    pub(super) items: Items,
    /// The same once more, for those who follow one of them and begin anew.
    pub(super) by_name: Option<Items>,
    /// When it was read, by the store's clock.
    pub(super) time: u64,
    pub(super) aim: Aim,
    pub(super) at: At,
    /// Items of which clients may have passed over the last event.
    pub(super) passed_over: HashSet<Box<str>>,
}

/// What is to come of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// A join of the whole group is answered by it. Who follows single items is told what differs first.
    Join,
    /// Everybody begins anew.
    Afresh,
    /// Everybody is told what differs.
    Difference,
    /// The store had lost all items but this one, if it has that: everybody is told that they are gone.
    Loss(Option<ItemId>),
}

/// How far it is.
pub(super) enum At {
    /// Items are put in their order.
    TakesIn,
    /// Items that are kept here are compared with it, from that place on; then those that it has beside.
    Known(u64),
    Made(u64),
    /// Single items that somebody follows are, behind that one.
    Singles(Option<ItemId>),
    /// Texts of the list are made, from that run on.
    Texts(usize),
    Done,
}

impl Coming {
    pub(super) fn new(aim: Aim, content: Content, time: u64, before: &Items) -> Coming {
        Coming {
            rest: content.into_iter(),
            items: before.to_follow(),
            by_name: None,
            time,
            aim,
            at: At::TakesIn,
            passed_over: HashSet::new(),
        }
    }

    /// Everybody begins anew. `tells_items`: some follow one item.
    pub(super) fn afresh(content: Content, time: u64, before: &Items, tells_items: bool) -> Coming {
        Coming {
            by_name: tells_items.then(Items::default),
            ..Coming::new(Aim::Afresh, content, time, before)
        }
    }

    /// Whether its items take the place of those that are kept here.
    pub(super) fn replaces(&self) -> bool {
        matches!(self.aim, Aim::Join | Aim::Afresh)
    }

    /// Takes in some; true when all are.
    pub(super) fn take_some(&mut self, units: &mut usize, hasher: &DefaultHashBuilder) -> bool {
        while *units > 0 {
            let Some((name, value)) = self.rest.next() else {
                return true;
            };
            let hash = hasher.hash_one(&*name);
            if let Some(by_name) = &mut self.by_name {
                by_name.put(hash, &name, Text::clone(&value));
                *units = units.saturating_sub(COMING_UNITS);
            }
            self.items.put(hash, &name, value);
            *units = units.saturating_sub(COMING_UNITS);
        }
        self.rest.as_slice().is_empty()
    }

    /// Drops a part with each step: all of it at once may be long.
    pub(super) fn drop_in_steps(self) -> impl Iterator<Item = ()> + Send {
        let items = [Some(self.items), self.by_name].into_iter().flatten();
        let items = items.flat_map(Items::drop_in_steps);
        let rest = self.rest.map(drop);
        rest.chain(items)
            .chain(self.passed_over.into_iter().map(drop))
    }
}
