//! The texts of a group's list and its `sync`s: made when they are asked for, over turns where they are
//! long in being made, and given back when nobody needs them.
//!
//! May not know what is done with them.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::protocol::answer::Chunk;
use crate::protocol::frame::SyncFrame;

use super::command::Join;
use super::effects::Verdict;
use super::following::Coming;
use super::group::{Group, Turn, Warmth};
use super::under_way::{Asked, Texts, Waiting};

/// What it costs to take in an item that the store has told, its text not counted.
const COMING_UNITS: usize = 2;
/// What it costs with its text.
const TOLD_UNITS: usize = COMING_UNITS + 1;

impl Group {
    /// Whether that is about the texts of the list, and they are more than this turn may make. What is
    /// behind it in the queue waits with it, so the items stay as they are.
    pub(super) fn lacks_texts(&self, waiting: &Waiting, turn: &mut Turn<'_>) -> bool {
        let shows_all = |join: &Join| join.item.is_none();
        let cost = match waiting {
            Waiting::List { .. } => self.items.texts_cost(),
            Waiting::Join { join, .. } | Waiting::SharedJoin { join, .. } if shows_all(join) => {
                self.items.texts_cost()
            }
            Waiting::Asked(Asked::Join(join), Some(Verdict::Cut { items, .. }))
                if shows_all(join) =>
            {
                items.len() * TOLD_UNITS
            }
            _ => return false,
        };
        if turn.walks.is_lending {
            return false;
        }
        if cost > turn.walks.units {
            return true;
        }
        turn.walks.units -= cost;
        false
    }

    /// True once when the shard is to make the texts over turns.
    pub(super) fn wants_texts(&mut self) -> bool {
        let Some(under_way) = &mut self.under_way else {
            return false;
        };
        if under_way.texts != Texts::Wanted {
            return false;
        }
        under_way.texts = match under_way.take_told() {
            Some(told) => {
                let items = self.items.to_follow();
                let rest = told.into_iter();
                let coming = Box::new(Coming { items, rest });
                self.following.get_or_insert_default().coming = Some(coming);
                Texts::Coming
            }
            None => Texts::From(0),
        };
        true
    }

    /// Goes on with the texts while there are units; true when all are made.
    pub(super) fn make_texts(&mut self, units: &mut usize, hasher: &DefaultHashBuilder) -> bool {
        let Some(under_way) = &mut self.under_way else {
            return true;
        };
        let following = self.following.as_deref_mut();
        let mut coming = following.and_then(|following| following.coming.as_deref_mut());
        if under_way.texts == Texts::Coming {
            if let Some(coming) = &mut coming
                && !coming.go_on(units, hasher)
            {
                return false;
            }
            under_way.texts = Texts::From(0);
        }
        let Texts::From(run) = under_way.texts else {
            return true;
        };
        let items = coming.map_or(&mut self.items, |coming| &mut coming.items);
        let next = items.make_texts(run, units);
        under_way.texts = next.map_or(Texts::Made, Texts::From);
        next.is_none()
    }

    /// The values' texts, kept for the next who asks.
    pub(super) fn chunks(&mut self) -> Vec<Chunk> {
        if self.listeners.is_empty() && self.warmth == Warmth::Cold {
            self.warmth = Warmth::Warm;
        }
        self.items.chunks()
    }

    /// True once when it has texts that nobody may need any more: it is to be told when it has cooled.
    pub(super) fn begins_to_cool(&mut self) -> bool {
        let begins = self.warmth == Warmth::Warm;
        if begins {
            self.warmth = Warmth::Cooling;
        }
        begins
    }

    /// Gives back the texts, if nobody follows it.
    pub(super) fn has_cooled(&mut self) {
        let under_way = self.under_way.as_ref();
        if under_way.is_some_and(|under_way| under_way.texts != Texts::AtHand) {
            self.warmth = Warmth::Warm; // they are just being made
            return;
        }
        self.warmth = Warmth::Cold;
        if self.listeners.is_empty() {
            self.items.forget_chunks();
        }
    }

    /// The `sync` of a join that has its turn; joins with the same time and state share one.
    pub(super) fn sync_for(&mut self, join: &Join, hash: u64, time: u64) -> Arc<SyncFrame> {
        if let Some(item) = &join.item {
            let value = self.items.get(hash, item).cloned();
            return Arc::new(SyncFrame::of_item(self.names(), time, item, value.as_ref()));
        }
        self.whole_sync(time)
    }

    /// An item has changed.
    pub(super) fn forget_sync(&mut self) {
        self.sync = None;
    }

    pub(super) fn whole_sync(&mut self, time: u64) -> Arc<SyncFrame> {
        if let Some((at, sync)) = &self.sync
            && *at == time
            && let Some(sync) = sync.upgrade()
        {
            return sync;
        }
        let chunks = self.items.chunks();
        let sync = Arc::new(SyncFrame::of_group(self.names(), time, chunks));
        self.sync = Some((time, Arc::downgrade(&sync)));
        sync
    }
}

impl Coming {
    /// Takes in some; true when all are.
    fn go_on(&mut self, units: &mut usize, hasher: &DefaultHashBuilder) -> bool {
        while *units > 0 {
            let Some((name, value)) = self.rest.next() else {
                return true;
            };
            self.items.put(hasher.hash_one(&*name), &name, value);
            *units = units.saturating_sub(COMING_UNITS);
        }
        false
    }
}
