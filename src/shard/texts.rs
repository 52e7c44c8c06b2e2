//! The texts of a group's list and its `sync`s: made when they are asked for, over turns where they are
//! long in being made, and given back when nobody needs them.
//!
//! May not know what is done with them.

use std::sync::Arc;

use crate::protocol::answer::Chunk;
use crate::protocol::frame::SyncFrame;

use super::command::Join;
use super::group::{Group, Turn, Warmth};
use super::requests::Verdict;
use super::under_way::Texts;
use super::waiting::{Asked, Waiting};

impl Group {
    /// Whether that is about the texts of the list, or about what a shared store tells of the whole group, and
    /// these are more than this turn may make. What is behind it in the queue waits with it, so the items stay
    /// as they are.
    pub(super) fn takes_turns(&self, waiting: &Waiting, turn: &mut Turn<'_>) -> bool {
        let shows_all = |join: &Join| join.item.is_none();
        let cost = match waiting {
            Waiting::List { .. } => self.items.texts_cost(),
            Waiting::Join { join, .. } | Waiting::SharedJoin { join, .. } if shows_all(join) => {
                self.items.texts_cost()
            }
            Waiting::Asked(Asked::Join(join), Some(Verdict::Cut { items, .. }))
                if shows_all(join) =>
            {
                self.cost_of_join(items)
            }
            Waiting::Channel(from) => self.cost_of_channel(from, turn),
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

    /// True once when the shard is to go on with the front of the queue over turns.
    pub(super) fn wants_turns(&mut self) -> bool {
        let Some(under_way) = &mut self.under_way else {
            return false;
        };
        if under_way.texts != Texts::Wanted {
            return false;
        }
        let whole = under_way.take_whole();
        under_way.texts = match whole {
            Some(_) => Texts::Coming,
            None => Texts::From(0),
        };
        if let Some(whole) = whole {
            self.begin_taking_in(whole);
        }
        true
    }

    /// Goes on with the front of the queue while there are units; true when it may have its turn.
    pub(super) fn go_on_with_front(&mut self, turn: &mut Turn<'_>) -> bool {
        let texts = self.under_way.as_ref().map(|under_way| under_way.texts);
        let next = match texts {
            Some(Texts::Coming) if self.go_on_taking_in(turn) => Texts::Made,
            Some(Texts::Coming) => return false,
            Some(Texts::From(run)) => match self.items.make_texts(run, &mut turn.walks.units) {
                Some(run) => Texts::From(run),
                None => Texts::Made,
            },
            _ => return true,
        };
        if let Some(under_way) = &mut self.under_way {
            under_way.texts = next;
        }
        next == Texts::Made
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
