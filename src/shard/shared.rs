//! A group in a store that several hosts share: the store decides, and its channel tells everybody of
//! every change, ours included. So all hosts show one order.
//!
//! An answer makes the reply and fires triggers; events come from the channel alone. While somebody
//! follows the group its items are kept for joins, and for nothing else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::id::{ItemId, LocalGroupId, Text, WorkerId};
use crate::protocol::frame::{Event, EventFrame, GroupNames, SyncFrame};
use crate::protocol::input::{StreamFunction, UpdateOp};
use crate::protocol::json::compare::is_same;

use super::command::{Ask, Join};
use super::effects::{
    Delivered, Delivery, Fired, FromChannel, HeardEvent, Question, RequestKind, Snapshot, Verdict,
};
use super::group::{Group, Turn, Whose};
use super::under_way::{Asked, InFlight, Waiting};

/// What a group has beside its items while somebody follows it.
#[derive(Default)]
pub(super) struct Shared {
    /// Its items are all that the store has, up to what was heard last.
    is_whole: bool,
    /// Until then: what those who follow single items were last told of them.
    singles: HashMap<ItemId, Option<Text>>,
    /// Items of which clients may have passed over the last event.
    passed_over: HashSet<Box<str>>,
    /// Somebody has entered without a `sync`: the next reading is one.
    owes_sync: bool,
    /// All items were asked for; joins wait for the answer.
    is_asked: bool,
    /// Joins that have not entered.
    joins: usize,
    /// The store's time of the last change that was heard.
    heard: u64,
    /// The store's time of the last change of ours that was answered.
    answered: u64,
    /// Joins that come after an answer whose change has not been heard yet, and its time: they are
    /// to see it.
    behind: VecDeque<(u64, Join)>,
}

impl Shared {
    pub(super) fn has_joins(&self) -> bool {
        self.joins > 0
    }
}

impl Group {
    pub(super) fn join_shared(&mut self, join: Join, hash: u64, turn: &mut Turn<'_>) {
        let shared = self.shared.get_or_insert_default();
        shared.joins += 1;
        if shared.is_whole {
            if shared.heard >= shared.answered {
                let time = 0; // given out when it enters
                return self.enter_now(Waiting::Join { join, hash, time }, turn);
            }
            return shared.behind.push_back((shared.answered, join));
        }
        let waiting = if shared.is_asked {
            Waiting::Join {
                join,
                hash,
                time: 0,
            }
        } else {
            shared.is_asked = join.item.is_none();
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
        self.shared.get_or_insert_default();
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
        let waits = |shared: &Shared| shared.has_joins();
        if self.has_listeners() || self.shared.as_deref().is_none_or(waits) {
            return;
        }
        self.shared = None;
        self.forget_items(turn);
        let group = self.key.clone();
        let kind = RequestKind::Decide(Question::Unfollow { group });
        turn.flight.request(InFlight::Nobody, kind, turn.out);
    }

    /// Whether it would add to the items that are kept here for those who follow, and nothing may.
    pub(super) fn refuses_to_grow(&self, ask: &Ask, turn: &mut Turn<'_>) -> bool {
        if self.shared.is_none() {
            return false;
        }
        let old = |item: &str, turn: &Turn<'_>| self.items.get(turn.hash(item), item);
        match ask {
            Ask::Set { item, data, .. } => {
                let old = old(item, turn);
                turn.room.refuses(old.map(|old| &**old), data)
            }
            Ask::Update { item, ops, .. } => {
                let is_there = old(item, turn).is_some();
                let bytes = ops.iter().map(UpdateOp::held_bytes).sum();
                turn.room.refuses_update(is_there, bytes)
            }
            _ => false,
        }
    }

    /// The store's word on a join.
    pub(super) fn learn_join(&mut self, join: Join, verdict: Verdict, turn: &mut Turn<'_>) {
        let shared = self.shared.get_or_insert_default();
        shared.joins = shared.joins.saturating_sub(1);
        shared.is_asked &= join.item.is_some();
        let Verdict::Cut { items, time } = verdict else {
            shared.owes_sync = true;
            return self.enter(&join, None, turn.out);
        };
        self.catch_up(join.item.as_ref(), &items, time, turn);
        let told = self.sync_time(join.item.is_some(), time);
        let sync = match &join.item {
            None => {
                self.fill(items, time, turn);
                self.whole_sync(told)
            }
            Some(item) => {
                let value = items.first().map(|(_, value)| value);
                self.note_single(item, value);
                let names = self.names();
                Arc::new(SyncFrame::of_item(names, told, item, value))
            }
        };
        self.enter(&join, Some(sync), turn.out);
        self.enter_behind(turn);
    }

    fn note_single(&mut self, item: &ItemId, value: Option<&Text>) {
        let shared = self.shared.get_or_insert_default();
        if !shared.is_whole {
            let value = value.cloned();
            shared.singles.insert(ItemId::clone(item), value);
        }
    }

    /// What a join has read may differ from what those who follow single items were told.
    fn catch_up(
        &mut self,
        item: Option<&ItemId>,
        items: &[(ItemId, Text)],
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(shared) = self.shared.as_deref() else {
            return;
        };
        if shared.is_whole || shared.singles.is_empty() {
            return;
        }
        let Some(item) = item else {
            return self.tell_difference(items, time, turn);
        };
        let old = shared.singles.get(item).cloned();
        let new = items.first().map(|(_, value)| value);
        let event = match (old, new) {
            (Some(Some(old)), None) => HeardEvent::Delete(old),
            (Some(Some(old)), Some(new)) if is_same(new, &old) => return,
            (Some(Some(_)), Some(new)) => HeardEvent::Update(Text::clone(new)),
            (Some(None), Some(new)) => HeardEvent::Create(Text::clone(new)),
            (Some(None) | None, _) => return,
        };
        self.take_event(Some(item), &event, time, turn);
    }

    /// A join has its turn; it is answered from the items, if they are what the store has.
    pub(super) fn enter_shared(&mut self, join: Join, hash: u64, turn: &mut Turn<'_>) {
        let mut is_whole = false;
        if let Some(shared) = self.shared.as_deref_mut() {
            shared.joins = shared.joins.saturating_sub(1);
            is_whole = shared.is_whole;
            shared.owes_sync |= !is_whole;
        }
        let sync = is_whole.then(|| {
            let time = self.sync_time(join.item.is_some(), turn.now);
            self.sync_for(&join, hash, time)
        });
        self.enter(&join, sync, turn.out);
    }

    /// An answer to one of our changes: triggers follow it at once, subscribers hear of it by the
    /// channel.
    pub(super) fn answered_shared(
        &mut self,
        item: Option<&str>,
        event: Event<'_>,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        if let Some(shared) = &mut self.shared {
            shared.answered = shared.answered.max(time);
        }
        if !self.is_followed(item, turn) {
            return;
        }
        let frame = Arc::new(EventFrame::encode(self.names(), time, item, event));
        turn.out.fired.push(Fired {
            version: turn.hooks.version,
            key: self.key.clone(),
            frame,
        });
        if !self.has_listeners() {
            self.forget_names();
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
                    self.drop_others(item.as_deref(), time, turn);
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

    fn take_event(
        &mut self,
        item: Option<&str>,
        event: &HeardEvent,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(shared) = self.shared.as_deref_mut() else {
            return;
        };
        shared.heard = shared.heard.max(time);
        let held = item.and_then(|item| self.note_event(item, event, turn));
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
        self.enter_behind(turn);
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
        let Some(shared) = self.shared.as_deref_mut() else {
            return;
        };
        shared.heard = shared.heard.max(time);
        let held = item.and_then(|item| self.note_event(item, event, turn));
        if let (Some(item), Some(true), HeardEvent::Create(_)) = (item, held, event) {
            let shared = self.shared.get_or_insert_default();
            shared.passed_over.insert(item.into());
        }
        self.tell_elsewhere(item, event.borrowed(), time, turn);
    }

    /// The group had no items, whatever is thought here: the store has lost them, as one does that
    /// evicts or is emptied.
    fn drop_others(&mut self, item: Option<&str>, time: u64, turn: &mut Turn<'_>) {
        for (name, old) in self.known() {
            if item != Some(&*name) {
                self.take_event(Some(&name), &HeardEvent::Delete(old), time, turn);
            }
        }
    }

    /// The items that subscribers are thought to hold.
    fn known(&self) -> Vec<(Box<str>, Text)> {
        if let Some(shared) = self.shared.as_deref().filter(|shared| !shared.is_whole) {
            let singles = shared.singles.iter();
            let known = singles.filter_map(|(name, value)| Some(((**name).into(), value.clone()?)));
            let mut known: Vec<(Box<str>, Text)> = known.collect();
            known.sort_unstable();
            return known;
        }
        let (mut all_items, mut all_bytes) = (usize::MAX, usize::MAX);
        let (known, _) = self.items().piece(0, &mut all_items, &mut all_bytes);
        known
    }

    /// Whether subscribers hold the item before that event; `None`: it is not known, or no matter.
    fn note_event(&mut self, item: &str, event: &HeardEvent, turn: &mut Turn<'_>) -> Option<bool> {
        let value = match event {
            HeardEvent::Create(value) | HeardEvent::Update(value) => Some(value),
            HeardEvent::Delete(_) => None,
            HeardEvent::Custom { .. } => return None,
        };
        let shared = self.shared.as_deref_mut()?;
        if !shared.is_whole {
            let single = shared.singles.get_mut(item)?;
            let before = std::mem::replace(single, value.cloned());
            return Some(before.is_some());
        }
        let hash = turn.hash(item);
        let old = self.items().get(hash, item);
        let is_held = old.is_some();
        turn.room
            .note(old.map(|old| &**old), value.map(|value| &**value));
        match value {
            Some(value) => self.items_mut().put(hash, item, Text::clone(value)),
            None => self.items_mut().remove(hash, item),
        }
        self.forget_sync();
        Some(is_held)
    }

    /// The group was read again: after a loss everybody gets a fresh `sync`, else what differs.
    fn take_read(
        &mut self,
        items: Vec<(ItemId, Text)>,
        time: u64,
        is_after_loss: bool,
        turn: &mut Turn<'_>,
    ) {
        let stream = self.key.stream();
        let functions = [StreamFunction::List, StreamFunction::Get];
        let is_custom = functions.map(|function| turn.hooks.is_custom(stream, function));
        let Some(shared) = self.shared.as_deref() else {
            return;
        };
        if !self.has_listeners() || is_custom.contains(&true) {
            return;
        }
        if is_after_loss || shared.owes_sync {
            self.start_afresh(items, time, turn);
        } else {
            self.tell_difference(&items, time, turn);
        }
        self.enter_behind(turn);
    }

    fn start_afresh(&mut self, items: Vec<(ItemId, Text)>, time: u64, turn: &mut Turn<'_>) {
        let told = self.event_time(time); // what has changed meanwhile had no events
        self.fill(items.clone(), time, turn);
        self.shared.get_or_insert_default().owes_sync = false;
        let snapshot = Arc::new(Snapshot {
            names: GroupNames::new(&self.key),
            time: told,
            whole: self.whole_sync(told),
            items: items.into_iter().collect::<HashMap<_, _>>(),
        });
        let afresh = |(to, local)| Delivery {
            to,
            local,
            what: Delivered::Afresh(Arc::clone(&snapshot)),
        };
        turn.out.deliveries.extend(self.listeners().map(afresh));
    }

    fn tell_difference(&mut self, items: &[(ItemId, Text)], time: u64, turn: &mut Turn<'_>) {
        let mut now: HashMap<&str, &Text> =
            items.iter().map(|(name, value)| (&**name, value)).collect();
        let mut events = Vec::new();
        let shared = self.shared.as_deref_mut();
        let passed_over = shared.map(|shared| std::mem::take(&mut shared.passed_over));
        let passed_over = passed_over.unwrap_or_default();
        for (name, old) in self.known() {
            match now.remove(&*name) {
                None => events.push((name, HeardEvent::Delete(old))),
                Some(new) if passed_over.contains(&name) => {
                    events.push((name, HeardEvent::Update(Text::clone(new))));
                }
                Some(new) if *new == old => {}
                // Others write a value anew, in their own form: nothing to tell, but what lists show.
                Some(new) if is_same(new, &old) => {
                    let event = HeardEvent::Update(Text::clone(new));
                    self.note_event(&name, &event, turn);
                }
                Some(new) => events.push((name, HeardEvent::Update(Text::clone(new)))),
            }
        }
        let shared = self.shared.as_deref();
        let is_followed = |name: &str| {
            shared.is_some_and(|shared| shared.is_whole || shared.singles.contains_key(name))
        };
        let is_new = |(name, _): &&(ItemId, Text)| now.contains_key(&**name) && is_followed(name);
        for (name, value) in items.iter().filter(is_new) {
            let event = HeardEvent::Create(Text::clone(value));
            events.push(((**name).into(), event));
        }
        for (name, event) in events {
            self.take_event(Some(&name), &event, time, turn);
        }
        if let Some(shared) = &mut self.shared {
            shared.heard = shared.heard.max(time);
        }
    }

    /// The channel is lost: nothing is known of the store's items until they are read again.
    pub(super) fn lost(&mut self, turn: &mut Turn<'_>) {
        if self.shared.is_none() {
            return;
        }
        self.has_missed_events();
        let Some(shared) = self.shared.as_deref_mut() else {
            return;
        };
        shared.is_whole = false;
        shared.owes_sync = true;
        shared.singles.clear();
        shared.passed_over.clear();
        (shared.heard, shared.answered) = (0, 0);
        let behind = std::mem::take(&mut shared.behind);
        self.forget_items(turn);
        self.forget_sync();
        for (_, join) in behind {
            self.enter_shared(join, 0, turn);
        }
    }

    fn enter_behind(&mut self, turn: &mut Turn<'_>) {
        while let Some(shared) = self.shared.as_deref_mut()
            && let Some((after, _)) = shared.behind.front()
            && *after <= shared.heard
            && let Some((_, join)) = shared.behind.pop_front()
        {
            let hash = join.item.as_ref().map_or(0, |item| turn.hash(item));
            self.enter_shared(join, hash, turn);
        }
    }

    /// They may be very many.
    fn forget_items(&mut self, turn: &mut Turn<'_>) {
        let items = self.items_mut().clear();
        let (len, bytes) = items.weight();
        turn.room.note_gone(len, bytes);
        if !items.is_empty() {
            turn.walks.rubbish.push(items);
        }
    }

    fn fill(&mut self, items: Vec<(ItemId, Text)>, time: u64, turn: &mut Turn<'_>) {
        self.forget_items(turn);
        for (name, value) in items {
            turn.room.note(None, Some(&value));
            self.items_mut().put(turn.hash(&name), &name, value);
        }
        self.forget_sync();
        let shared = self.shared.get_or_insert_default();
        shared.is_whole = true;
        shared.singles = HashMap::new();
        shared.heard = shared.heard.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        Local, call, join, leave, outcomes, set, sync, text, times, value, watching,
    };
    use super::super::{Decides, Effects, Learned};
    use super::*;
    use crate::id::GroupKey;
    use crate::protocol::answer::Outcome;

    fn tell(local: &mut Local, learned: Learned) -> Effects {
        let mut out = Effects::default();
        local.shard.learn(learned, 100, &mut out);
        local.shard.check_invariants();
        local.asked.append(&mut out.requests);
        out
    }

    fn event(local: &mut Local, event: HeardEvent, time: u64) -> Effects {
        let item = Some("u1".into());
        let from = FromChannel::Event {
            item,
            event,
            time,
            is_first: false,
            is_ours: true,
        };
        tell(local, Learned::Channel(GroupKey::new("s", "g"), from))
    }

    fn read(local: &mut Local, items: &[(&str, &str)], is_after_loss: bool) -> Effects {
        let owned = |(name, value): &(&str, &str)| (ItemId::from(*name), Text::from(*value));
        let from = FromChannel::Read {
            items: items.iter().map(owned).collect(),
            time: 300,
            is_after_loss,
        };
        tell(local, Learned::Channel(GroupKey::new("s", "g"), from))
    }

    fn cut(items: &[(&str, &str)], time: u64) -> Verdict {
        let owned = |(name, value): &(&str, &str)| (ItemId::from(*name), Text::from(*value));
        Verdict::Cut {
            items: items.iter().map(owned).collect(),
            time,
        }
    }

    fn decided(new: &str, time: u64) -> Verdict {
        Verdict::Decided {
            old: None,
            new: value(new),
            errors: Vec::new(),
            time,
        }
    }

    /// With one subscriber of the whole group.
    fn followed() -> Local {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let out = local.answer(100, cut(&[("u1", "7")], 90));
        assert!(text(&sync(&out)).contains(r#""timestamp":90"#));
        local
    }

    fn told(out: &Effects) -> Vec<String> {
        let texts = out.deliveries.iter().map(|delivery| match &delivery.what {
            Delivered::Event(frame) => frame.text().to_owned(),
            Delivered::Entered { sync, .. } => sync.as_deref().map(text).unwrap_or_default(),
            Delivered::Afresh(snapshot) => text(&snapshot.whole),
        });
        texts
            .map(|text| {
                text.split_once(r#""event":"#)
                    .map_or(text.clone(), |(_, event)| event.to_owned())
            })
            .collect()
    }

    #[test]
    fn events_come_from_the_channel_alone_and_an_answer_makes_reply_and_triggers() {
        let mut local = followed();
        local.shard.set_hooks(watching("s", 1));
        let _ = local.ask("g", 100, set("1", 1));
        let out = local.answer(100, decided("1", 150));
        let (old, new) = (None, "1".into());
        assert_eq!(outcomes(&out), [(1, &Outcome::Set { new, old })]);
        assert!(out.deliveries.is_empty());
        assert!(out.fired[0].frame.text().contains(r#""timestamp":150"#));
        let out = event(&mut local, HeardEvent::Update("1".into()), 150);
        assert_eq!(told(&out), [r#"{"type":"update","data":1}}"#]);
        assert_eq!(times(&out), [150]);
        assert!(out.fired.is_empty() && out.replies.is_empty());
        // A clock behind what was given out: raised.
        assert_eq!(
            times(&event(&mut local, HeardEvent::Update("2".into()), 3)),
            [151]
        );
    }

    #[test]
    fn joins_of_a_followed_group_ask_nobody_and_see_what_was_answered_before_them() {
        let mut local = followed();
        let out = local.ask("g", 100, join(None));
        assert!(local.asked.is_empty());
        assert!(text(&sync(&out)).ends_with(r#""data":[7]}}"#));
        let _ = local.ask("g", 100, set("8", 1));
        let _ = local.answer(100, decided("8", 150));
        let out = local.ask("g", 160, join(Some("u1")));
        assert!(out.is_empty(), "the channel has not told of it yet");
        let out = event(&mut local, HeardEvent::Update("8".into()), 150);
        assert_eq!(
            told(&out),
            [
                r#"{"type":"update","data":8}}"#,
                r#"{"type":"sync","data":8}}"#
            ]
        );
    }

    #[test]
    fn joins_that_come_while_items_are_asked_for_share_the_answer() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let _ = local.ask("g", 100, join(None));
        let _ = local.ask("g", 100, join(Some("u1")));
        assert_eq!(local.asked.len(), 1);
        let out = local.answer(100, cut(&[("u1", "7")], 90));
        let group = r#"{"type":"sync","data":[7]}}"#;
        assert_eq!(told(&out), [group, group, r#"{"type":"sync","data":7}}"#]);
    }

    #[test]
    fn the_last_who_leaves_ends_the_following() {
        let mut local = followed();
        let _ = local.ask("g", 100, leave());
        let asked = &local.asked[0].kind;
        assert!(matches!(
            asked,
            RequestKind::Decide(Question::Unfollow { .. })
        ));
        assert_eq!(local.shard.groups_len(), 0);
        let out = local.answer(100, Verdict::Accepted);
        assert!(out.is_empty());
        assert!(event(&mut local, HeardEvent::Update("1".into()), 150).is_empty());
        let _ = local.ask("g", 100, join(None));
        assert_eq!(local.asked.len(), 1, "asked anew");
    }

    #[test]
    fn after_a_loss_joins_wait_for_nothing_and_everybody_begins_anew() {
        let mut local = followed();
        let _ = local.ask("g", 100, set("8", 1));
        let _ = local.answer(100, decided("8", 150));
        let _ = local.ask("g", 100, join(None));
        let out = tell(&mut local, Learned::Lost);
        assert_eq!(told(&out), [""], "it stands, without a sync");
        let out = local.ask("g", 100, join(None));
        assert!(out.deliveries.is_empty());
        let out = local.answer(100, Verdict::Refused("gone".into()));
        assert_eq!(told(&out), [""]);
        let out = read(&mut local, &[("u2", "9")], true);
        assert_eq!(told(&out), [r#"{"type":"sync","data":[9]}}"#]);
        assert_eq!(times(&out), [300]);
        let Delivered::Afresh(snapshot) = &out.deliveries[0].what else {
            unreachable!("a fresh start")
        };
        let of_item = |item: &str| text(&snapshot.sync_of(Some(&item.into())));
        assert!(of_item("u2").ends_with(r#""data":9}}"#));
        assert!(of_item("u1").ends_with(r#""data":null}}"#));
        let out = local.ask("g", 400, join(None));
        assert_eq!(told(&out), [r#"{"type":"sync","data":[9]}}"#]);
    }

    #[test]
    fn what_differs_when_a_group_is_read_again_is_told() {
        let mut local = followed();
        assert!(read(&mut local, &[("u1", "7")], false).is_empty());
        let out = read(&mut local, &[("u1", "8"), ("u2", "1")], false);
        assert_eq!(
            told(&out),
            [
                r#"{"type":"update","data":8}}"#,
                r#"{"type":"create","data":1}}"#
            ]
        );
        let out = read(&mut local, &[("u2", "1")], false);
        assert_eq!(told(&out), [r#"{"type":"delete","data":8}}"#]);
        assert!(times(&out)[0] > 300);
    }

    #[test]
    fn items_that_the_store_has_lost_are_told_when_it_has_its_first_again() {
        let mut local = followed();
        let from = FromChannel::Event {
            item: Some("u2".into()),
            event: HeardEvent::Create("1".into()),
            time: 200,
            is_first: true,
            is_ours: true,
        };
        let out = tell(&mut local, Learned::Channel(GroupKey::new("s", "g"), from));
        assert_eq!(
            told(&out),
            [
                r#"{"type":"delete","data":7}}"#,
                r#"{"type":"create","data":1}}"#
            ]
        );
        let out = local.ask("g", 400, join(None));
        assert_eq!(told(&out), [r#"{"type":"sync","data":[1]}}"#]);
    }

    fn foreign(local: &mut Local, item: &str, event: HeardEvent, time: u64) -> Effects {
        let from = FromChannel::Event {
            item: Some(item.into()),
            event,
            time,
            is_first: false,
            is_ours: false,
        };
        tell(local, Learned::Channel(GroupKey::new("s", "g"), from))
    }

    #[test]
    fn a_holder_is_told_of_an_update_whatever_redis_had_lost_or_gained() {
        let mut local = followed();
        let out = event(&mut local, HeardEvent::Create("8".into()), 150);
        assert_eq!(told(&out), [r#"{"type":"update","data":8}}"#]);
        let gone = event(&mut local, HeardEvent::Delete("8".into()), 151);
        assert_eq!(told(&gone), [r#"{"type":"delete","data":8}}"#]);
        let out = event(&mut local, HeardEvent::Update("9".into()), 152);
        assert_eq!(told(&out), [r#"{"type":"create","data":9}}"#]);
    }

    #[test]
    fn who_follows_one_item_is_told_the_same() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(Some("u1")));
        let _ = local.answer(100, cut(&[("u1", "7")], 90));
        let out = event(&mut local, HeardEvent::Create("8".into()), 150);
        assert_eq!(told(&out), [r#"{"type":"update","data":8}}"#]);
        let out = read(&mut local, &[("u1", "9"), ("u2", "1")], false);
        assert_eq!(
            told(&out),
            [r#"{"type":"update","data":9}}"#],
            "and no sync"
        );
        assert!(read(&mut local, &[("u1", "9")], false).is_empty());
        let out = read(&mut local, &[], false);
        assert_eq!(told(&out), [r#"{"type":"delete","data":9}}"#]);
        let out = read(&mut local, &[("u1", "1")], false);
        assert_eq!(told(&out), [r#"{"type":"create","data":1}}"#]);
        // What a join has read that nobody was told of.
        let _ = local.ask("g", 100, join(Some("u1")));
        let out = local.answer(100, cut(&[("u1", "2")], 400));
        assert_eq!(
            told(&out),
            [
                r#"{"type":"update","data":2}}"#,
                r#"{"type":"sync","data":2}}"#
            ]
        );
    }

    #[test]
    fn a_value_in_another_form_is_no_event_and_lists_show_the_stored_one() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let _ = local.answer(100, cut(&[("u1", r#"{"a":1,"b":2}"#)], 90));
        assert!(read(&mut local, &[("u1", r#"{"b":2,"a":1.0}"#)], false).is_empty());
        let out = local.ask("g", 400, join(None));
        assert_eq!(told(&out), [r#"{"type":"sync","data":[{"b":2,"a":1.0}]}}"#]);
    }

    #[test]
    fn what_clients_pass_over_of_others_is_told_again_in_a_way_that_counts() {
        let mut local = followed();
        let out = foreign(&mut local, "u1", HeardEvent::Create("8".into()), 150);
        assert_eq!(
            told(&out),
            [r#"{"type":"create","data":8}}"#],
            "as they put it"
        );
        let out = read(&mut local, &[("u1", "8")], false);
        assert_eq!(told(&out), [r#"{"type":"update","data":8}}"#]);
        assert!(read(&mut local, &[("u1", "8")], false).is_empty());
    }

    #[test]
    fn whoever_has_entered_without_a_sync_gets_it_with_the_next_reading() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let out = local.answer(100, Verdict::Refused("timed out".into()));
        assert_eq!(told(&out), [""]);
        let out = read(&mut local, &[("u1", "9")], false);
        assert_eq!(told(&out), [r#"{"type":"sync","data":[9]}}"#]);
        assert!(read(&mut local, &[("u1", "9")], false).is_empty());
    }

    #[test]
    fn a_time_at_the_end_of_all_times_overflows_nothing() {
        let mut local = followed();
        let out = event(&mut local, HeardEvent::Update("8".into()), u64::MAX);
        assert_eq!(times(&out), [u64::MAX]);
        let out = event(&mut local, HeardEvent::Update("9".into()), u64::MAX);
        assert_eq!(times(&out), [u64::MAX]);
        assert_eq!(times(&local.ask("g", 100, join(Some("u1")))), [u64::MAX]);
        let _ = local.ask("g", 100, leave());
        let _ = local.ask("h", 100, join(None));
    }

    #[test]
    fn answers_of_other_groups_may_come_first() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, set("1", 1));
        let _ = local.ask("h", 100, set("2", 2));
        local.asked.swap(0, 1);
        let first = local.answer(100, decided("2", 5));
        let second = local.answer(100, decided("1", 6));
        let calls = [first, second].map(|out| outcomes(&out)[0].0);
        assert_eq!(calls, [2, 1]);
        let _ = local.ask("g", 100, super::super::Ask::List { call: call(3) });
        assert_eq!(local.asked.len(), 1);
    }
}
