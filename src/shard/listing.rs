//! A listing of very many groups, which is made over turns: it shows what was there at its beginning.
//!
//! May not know who has asked.

use hashbrown::HashSet;

use crate::protocol::answer::Outcome;
use crate::protocol::groups::Names;

/// What a listing spends on a group, its name's place among the others included.
pub(super) const LISTED_UNITS: usize = 8;

/// The names of the groups that had items when it began.
pub(super) struct Listing {
    /// Of that stream; `None`: of all.
    stream: Option<Box<str>>,
    slots: Looked,
    /// How many of the slots were looked at.
    at: usize,
    /// Slots whose groups got their first item or lost their last since it began: they were looked at
    /// then, and whoever has the slot now is not shown. Those of a stream stand here once looked at.
    looked_at: HashSet<u32>,
    names: Names,
}

/// The slots to look at.
enum Looked {
    Of(Vec<u32>),
    /// All before this one.
    Before(u32),
}

impl Listing {
    /// Of that stream, whose groups stand in those slots.
    pub(super) fn of_stream(stream: Box<str>, slots: &[u32]) -> Listing {
        Listing {
            stream: Some(stream),
            slots: Looked::Of(slots.to_vec()),
            at: 0,
            // With room for all, since a large table is long in growing.
            looked_at: HashSet::with_capacity(slots.len()),
            names: Names::default(),
        }
    }

    /// Of all streams, whose groups stand before that slot.
    pub(super) fn of_all(end: u32) -> Listing {
        Listing {
            stream: None,
            slots: Looked::Before(end),
            at: 0,
            looked_at: HashSet::new(),
            names: Names::default(),
        }
    }

    /// Goes on while there are units; true when it has all. `names_of` gives stream and group of who
    /// has that slot and items.
    pub(super) fn go_on<'a>(
        &mut self,
        units: &mut usize,
        names_of: impl Fn(u32) -> Option<(&'a str, &'a str)>,
    ) -> bool {
        while let Some(slot) = self.slot() {
            if *units == 0 {
                return false;
            }
            *units = units.saturating_sub(LISTED_UNITS);
            self.at += 1;
            let is_new = match self.slots {
                Looked::Of(_) => self.looked_at.insert(slot),
                Looked::Before(_) => !self.looked_at.contains(&slot),
            };
            if is_new && let Some((stream, group)) = names_of(slot) {
                self.names.add(stream, group);
            }
        }
        true
    }

    /// A group in that slot has got its first item, or has lost its last.
    pub(super) fn note_change(
        &mut self,
        slot: u32,
        (stream, group): (&str, &str),
        had_items: bool,
    ) {
        let is_of_stream = |of: &str| of == stream;
        if self.stream.as_deref().is_none_or(is_of_stream)
            && !self.is_behind(slot)
            && self.looked_at.insert(slot)
            && had_items
        {
            self.names.add(stream, group);
        }
    }

    /// A group that is in no slot.
    pub(super) fn add(&mut self, stream: &str, group: &str) {
        self.names.add(stream, group);
    }

    pub(super) fn outcome(self) -> Outcome {
        Outcome::Groups(self.names)
    }

    fn slot(&self) -> Option<u32> {
        match &self.slots {
            Looked::Of(slots) => slots.get(self.at).copied(),
            Looked::Before(end) => (self.at < *end as usize).then_some(self.at as u32),
        }
    }

    /// Whether it was looked at already, where that is told by its number.
    fn is_behind(&self, slot: u32) -> bool {
        matches!(self.slots, Looked::Before(_)) && (slot as usize) < self.at
    }
}
