//! What the channel of a shared store tells of a group: everybody's changes, ours included, in one order
//! for all hosts; and what the group holds when it is read again.
//!
//! While somebody follows the group its items are kept for joins, and for nothing else. May not know what
//! the store answers, or how a whole group is taken in: `taking_in` does.

use crate::id::Text;
use crate::protocol::frame::Event;

use super::group::{Group, Turn, Whose};
use super::items::Items;
use super::learned::{FromChannel, HeardEvent};
use super::waiting::Waiting;

impl Group {
    /// It goes behind what the store has answered before, and what was told before.
    pub(super) fn hear_channel(&mut self, from: FromChannel, turn: &mut Turn<'_>) {
        let heard = Waiting::Channel(Box::new(from));
        let heard = match &mut self.under_way {
            Some(under_way) => under_way.hear(heard),
            None => Some(heard),
        };
        let Some(heard) = heard else {
            return;
        };
        match self.takes_turns(&heard, turn) {
            true => self.under_way(turn.flight).put_first(heard),
            false => self.release(heard, turn),
        }
    }

    /// The channel tells of something.
    pub(super) fn take_from_channel(&mut self, from: FromChannel, turn: &mut Turn<'_>) {
        match from {
            FromChannel::Event {
                item,
                event,
                time,
                is_first,
                is_ours,
            } => {
                if is_first {
                    self.lose_all_but(item.clone(), time, turn);
                }
                if is_ours {
                    self.take_event(item.as_deref(), &event, time, turn);
                } else {
                    self.take_foreign(item.as_deref(), &event, time, turn);
                }
            }
            FromChannel::Read {
                items,
                time,
                is_after_loss,
            } => self.take_read(items, time, is_after_loss, turn),
        }
    }

    pub(super) fn take_event(
        &mut self,
        item: Option<&str>,
        event: &HeardEvent,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(held) = self.hear(item, event, time, turn) else {
            return;
        };
        self.tell_as_held(item, (event, held), time, turn);
        self.enter_behind(turn);
    }

    /// `held`: whether subscribers hold its item, where that is known.
    pub(super) fn tell_as_held(
        &mut self,
        item: Option<&str>,
        (event, held): (&HeardEvent, Option<bool>),
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let told = match (event, held) {
            // Others have written past everybody: clients pass over what does not fit what they hold.
            (HeardEvent::Create(value), Some(true)) => Event::Update(value),
            (HeardEvent::Update(value), Some(false)) => Event::Create(value),
            _ => event.borrowed(),
        };
        self.tell_elsewhere(item, told, time, turn);
    }

    fn tell_elsewhere(
        &mut self,
        item: Option<&str>,
        event: Event<'_>,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let told = self.event_time(time);
        self.tell(item, event, told, Whose::Elsewhere, turn);
    }

    /// One that others have set and published apart is told as they put it. Clients pass over a
    /// `create` of what they hold: when the group is read again, they are told in a way that counts.
    fn take_foreign(
        &mut self,
        item: Option<&str>,
        event: &HeardEvent,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(held) = self.hear(item, event, time, turn) else {
            return;
        };
        if let (Some(item), Some(true), HeardEvent::Create(_)) = (item, held, event) {
            let following = self.following.get_or_insert_default();
            following.passed_over.insert(item.into());
        }
        self.tell_elsewhere(item, event.borrowed(), time, turn);
        self.enter_behind(turn);
    }

    /// Takes note of an event, and tells whether subscribers held its item before. `None`: nobody follows the group.
    fn hear(
        &mut self,
        item: Option<&str>,
        event: &HeardEvent,
        time: u64,
        turn: &Turn<'_>,
    ) -> Option<Option<bool>> {
        let following = self.following.as_deref_mut()?;
        following.heard = following.heard.max(time);
        Some(item.and_then(|item| self.note_event(item, event, turn)))
    }

    /// Whether subscribers hold the item before that event; `None`: it is not known, or no matter.
    pub(super) fn note_event(
        &mut self,
        item: &str,
        event: &HeardEvent,
        turn: &Turn<'_>,
    ) -> Option<bool> {
        let value = match event {
            HeardEvent::Create(value) | HeardEvent::Update(value) => Some(value),
            HeardEvent::Delete(_) => None,
            HeardEvent::Custom { .. } => return None,
        };
        let following = self.following.as_deref_mut()?;
        if !following.is_whole {
            let single = following.singles.get_mut(item)?;
            let before = std::mem::replace(single, value.cloned());
            return Some(before.is_some());
        }
        let hash = turn.hash(item);
        let is_held = self.items().get(hash, item).is_some();
        match value {
            Some(value) => {
                self.items_mut().put(hash, item, Text::clone(value));
            }
            None => self.items_mut().remove(hash, item),
        }
        self.forget_sync();
        Some(is_held)
    }

    /// The channel is lost: nothing is known of the store's items until they are read again.
    pub(super) fn lost(&mut self, turn: &mut Turn<'_>) {
        if self.following.is_none() {
            return;
        }
        self.has_missed_events();
        let Some(following) = self.following.as_deref_mut() else {
            return;
        };
        following.is_whole = false;
        following.owes_sync = true;
        let singles = std::mem::take(&mut following.singles);
        let passed_over = std::mem::take(&mut following.passed_over);
        (following.heard, following.answered) = (0, 0);
        let behind = std::mem::take(&mut following.behind);
        turn.walks.drop_later(singles.into_iter().map(drop));
        turn.walks.drop_later(passed_over.into_iter().map(drop));
        self.drop_coming(turn);
        self.forget_items(turn);
        self.forget_sync();
        for (_, join) in behind {
            self.enter_shared(join, 0, turn);
        }
    }

    pub(super) fn enter_behind(&mut self, turn: &mut Turn<'_>) {
        while let Some(following) = self.following.as_deref_mut()
            && let Some((after, _)) = following.behind.front()
            && *after <= following.heard
            && let Some((_, join)) = following.behind.pop_front()
        {
            let hash = join.item.as_ref().map_or(0, |item| turn.hash(item));
            self.enter_shared(join, hash, turn);
        }
    }

    /// They may be very many.
    pub(super) fn forget_items(&mut self, turn: &mut Turn<'_>) {
        let none = self.items().to_follow();
        self.put_in_place(none, turn);
    }

    fn put_in_place(&mut self, items: Items, turn: &mut Turn<'_>) {
        let before = self.exchange_items(items);
        if !before.is_empty() {
            turn.walks.drop_later(before.drop_in_steps());
        }
    }

    /// Its items are what the store has.
    pub(super) fn fill(&mut self, items: Items, turn: &mut Turn<'_>) {
        self.put_in_place(items, turn);
        let following = self.following.get_or_insert_default();
        following.is_whole = true;
        let singles = std::mem::take(&mut following.singles);
        turn.walks.drop_later(singles.into_iter().map(drop));
    }
}
