//! Who follows a group in a store that several hosts share: joins are answered by the store, or from the items
//! that are kept here while somebody follows the group.
//!
//! May not know how a whole group is taken in, or what the channel tells.

use std::sync::Arc;

use crate::id::{ItemId, LocalGroupId, Text, WorkerId};
use crate::protocol::frame::SyncFrame;
use crate::protocol::json::compare::is_same;

use super::command::Join;
use super::flight::InFlight;
use super::following::Following;
use super::group::{Group, Turn};
use super::learned::HeardEvent;
use super::requests::{Question, RequestKind, Verdict};
use super::waiting::{Asked, Waiting};

impl Group {
    pub(super) fn join_shared(&mut self, join: Join, hash: u64, turn: &mut Turn<'_>) {
        let following = self.following.get_or_insert_default();
        following.joins += 1;
        following.has_singles |= join.item.is_some();
        if following.is_whole {
            if let Some(join) = following.put_behind(join) {
                self.enter_now(Waiting::SharedJoin { join, hash }, turn);
            }
            return;
        }
        let waiting = if following.is_asked {
            Waiting::SharedJoin { join, hash }
        } else {
            following.is_asked = join.item.is_none();
            let question = Question::Follow {
                group: self.key.clone(),
                item: join.item.clone(),
            };
            let kind = RequestKind::Decide(question);
            turn.flight
                .request(InFlight::Group(turn.slot), kind, turn.out);
            Waiting::Asked(Asked::Join(join), None)
        };
        self.under_way(turn.flight).push(waiting);
    }

    /// A function answers the join in place of the store, but events come from there.
    pub(super) fn follow_beside(&mut self, item: Option<&ItemId>, turn: &mut Turn<'_>) {
        self.following.get_or_insert_default().has_singles |= item.is_some();
        let group = self.key.clone();
        // One item is enough to be told of all events; which does not matter.
        let item = Some(item.cloned().unwrap_or_else(|| "".into()));
        let kind = RequestKind::Decide(Question::Follow { group, item });
        turn.flight.request(InFlight::Nobody, kind, turn.out);
    }

    pub(super) fn leave_shared(
        &mut self,
        worker: WorkerId,
        local: LocalGroupId,
        turn: &mut Turn<'_>,
    ) {
        self.leave(worker, local);
        let waits = |following: &Following| following.has_joins();
        if self.has_listeners() || self.following.as_deref().is_none_or(waits) {
            return;
        }
        self.drop_coming(turn);
        if let Some(following) = self.following.take() {
            turn.walks.drop_later(following.drop_in_steps());
        }
        self.forget_items(turn);
        let group = self.key.clone();
        let kind = RequestKind::Decide(Question::Unfollow { group });
        turn.flight.request(InFlight::Nobody, kind, turn.out);
    }

    /// The store's word on a join.
    pub(super) fn learn_join(&mut self, join: Join, verdict: Verdict, turn: &mut Turn<'_>) {
        let following = self.following.get_or_insert_default();
        following.joins = following.joins.saturating_sub(1);
        following.is_asked &= join.item.is_some();
        let Verdict::Cut { items, time } = verdict else {
            following.owes_sync = true;
            return self.enter(&join, None, turn.out);
        };
        if !std::mem::replace(&mut following.is_heard, true) {
            self.may_have_missed_events(time, turn);
        }
        let sync = match &join.item {
            None => {
                let items = self.taken_in(items, time, turn);
                let told = self.sync_time(false, time);
                self.fill(items, turn);
                self.following.get_or_insert_default().has_read(time);
                self.whole_sync(told)
            }
            Some(item) => {
                let value = items.first().map(|(_, value)| value);
                self.catch_up(item, value, time, turn);
                let told = self.sync_time(true, time);
                self.note_single(item, value);
                let names = self.names();
                Arc::new(SyncFrame::of_item(names, told, item, value))
            }
        };
        self.enter(&join, Some(sync), turn.out);
        self.enter_behind(turn);
    }

    fn note_single(&mut self, item: &ItemId, value: Option<&Text>) {
        let following = self.following.get_or_insert_default();
        if !following.is_whole {
            let value = value.cloned();
            following.singles.insert(ItemId::clone(item), value);
        }
    }

    /// What a join has read may differ from what those who follow single items were told.
    fn catch_up(&mut self, item: &ItemId, new: Option<&Text>, time: u64, turn: &mut Turn<'_>) {
        let Some(following) = self.following.as_deref() else {
            return;
        };
        if following.is_whole {
            return;
        }
        let old = following.singles.get(item).cloned();
        let event = match (old, new) {
            (Some(Some(old)), None) => HeardEvent::Delete(old),
            (Some(Some(old)), Some(new)) if is_same(new, &old) => return,
            (Some(Some(_)), Some(new)) => HeardEvent::Update(Text::clone(new)),
            (Some(None), Some(new)) => HeardEvent::Create(Text::clone(new)),
            (Some(None) | None, _) => return,
        };
        self.take_event(Some(item), &event, time, turn);
    }

    /// A join has its turn, if it has to wait for no event.
    pub(super) fn enter_in_turn(&mut self, join: Join, hash: u64, turn: &mut Turn<'_>) {
        let following = self.following.get_or_insert_default();
        if let Some(join) = following.put_behind(join) {
            self.enter_shared(join, hash, turn);
        }
    }

    /// It is answered from the items, if they are what the store has.
    pub(super) fn enter_shared(&mut self, join: Join, hash: u64, turn: &mut Turn<'_>) {
        let mut is_whole = false;
        if let Some(following) = self.following.as_deref_mut() {
            following.joins = following.joins.saturating_sub(1);
            is_whole = following.is_whole;
            following.owes_sync |= !is_whole;
        }
        let sync = is_whole.then(|| {
            let time = self.sync_time(join.item.is_some(), turn.now);
            self.sync_for(&join, hash, time)
        });
        self.enter(&join, sync, turn.out);
    }
}
