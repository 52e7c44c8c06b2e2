//! What a shared store tells of a whole group is taken in, over turns where it is much: told to a join, when
//! the group is read again, or when it had lost all items but one.
//!
//! What comes for the group meanwhile comes behind it. May not know where it waits: `texts` does.

use std::ops::Bound;
use std::sync::Arc;

use crate::id::{ItemId, Text};
use crate::protocol::frame::GroupNames;
use crate::protocol::input::StreamFunction;
use crate::protocol::json::compare::is_same;

use super::coming::{Aim, At, Coming, TELL_UNITS, TOLD_UNITS};
use super::content::Content;
use super::effects::{Delivered, Delivery};
use super::group::{Group, Turn};
use super::items::Items;
use super::learned::{FromChannel, HeardEvent};
use super::snapshot::Snapshot;
use super::waiting::Whole;

/// So many bytes of values that are compared cost a unit.
const COMPARED_BYTES_A_UNIT: usize = 64;

/// How an item differs from what is thought of it.
struct Difference {
    item: ItemId,
    event: HeardEvent,
    /// Others write a value anew, in their own form: nothing to tell, but what lists show.
    is_silent: bool,
}

impl Group {
    /// What it costs to take in what the channel tells, beyond what any event costs.
    pub(super) fn cost_of_channel(&self, from: &FromChannel, turn: &Turn<'_>) -> usize {
        let Some(following) = self.following.as_deref() else {
            return 0;
        };
        let known = match following.is_whole {
            true => self.items().len(),
            false => following.singles.len(),
        };
        match from {
            FromChannel::Event { is_first, .. } => usize::from(*is_first) * known * TELL_UNITS,
            FromChannel::Read {
                items,
                is_after_loss,
                ..
            } if self.shows_what_is_stored(turn) => match *is_after_loss || following.owes_sync {
                true => items.len() * 2 * TOLD_UNITS,
                false => (items.len() + known) * TELL_UNITS,
            },
            FromChannel::Read { .. } => 0,
        }
    }

    /// The same of what a join of the whole group is told.
    pub(super) fn cost_of_join(&self, items: &Content) -> usize {
        let singles = self.following.as_deref().map_or(0, |it| it.singles.len());
        items.len() * TOLD_UNITS + singles * TELL_UNITS
    }

    /// What the front of the queue was told is to be taken in over turns.
    pub(super) fn begin_taking_in(&mut self, whole: Whole) {
        let coming = match whole {
            Whole::Join { content, time } => Coming::new(Aim::Join, content, time, self.items()),
            Whole::Loss { item, time } => self.lost_all_but(item, time),
            Whole::Read {
                content,
                time,
                is_after_loss,
            } => self.coming_read(content, time, is_after_loss),
        };
        self.following.get_or_insert_default().coming = Some(Box::new(coming));
    }

    fn coming_read(&self, content: Content, time: u64, is_after_loss: bool) -> Coming {
        let following = self.following.as_deref();
        let owes_sync = following.is_some_and(|following| following.owes_sync);
        if is_after_loss || owes_sync {
            let has_singles = following.is_some_and(|following| following.has_singles);
            return Coming::afresh(content, time, self.items(), has_singles);
        }
        Coming::new(Aim::Difference, content, time, self.items())
    }

    fn lost_all_but(&self, item: Option<ItemId>, time: u64) -> Coming {
        Coming::new(Aim::Loss(item), Content::default(), time, self.items())
    }

    /// Goes on with what the front of the queue was told; true when it is taken in.
    pub(super) fn go_on_taking_in(&mut self, turn: &mut Turn<'_>) -> bool {
        let following = self.following.as_deref_mut();
        let Some(mut coming) = following.and_then(|following| following.coming.take()) else {
            return true;
        };
        let is_done = self.take_in_some(&mut coming, turn);
        // The event itself comes next.
        if !is_done || !matches!(coming.aim, Aim::Loss(_)) {
            self.following.get_or_insert_default().coming = Some(coming);
        }
        is_done
    }

    /// The same of what is little.
    fn take_in_all(&mut self, coming: &mut Coming, turn: &mut Turn<'_>) {
        let left = std::mem::replace(&mut turn.walks.units, usize::MAX);
        let is_done = self.take_in_some(coming, turn);
        debug_assert!(is_done);
        turn.walks.units = left;
    }

    fn take_in_some(&mut self, coming: &mut Coming, turn: &mut Turn<'_>) -> bool {
        loop {
            coming.at = match std::mem::replace(&mut coming.at, At::Done) {
                At::TakesIn if coming.take_some(&mut turn.walks.units, turn.hasher) => {
                    self.first_to_compare(coming)
                }
                At::TakesIn => At::TakesIn,
                At::Known(from) => self.tell_known(coming, from, turn),
                At::Made(from) => self.tell_made(coming, from, turn),
                At::Singles(last) => self.tell_singles(coming, last, turn),
                At::Texts(run) => {
                    let items = match coming.replaces() {
                        true => &mut coming.items,
                        false => self.items_mut(),
                    };
                    let next = items.make_texts(run, &mut turn.walks.units);
                    next.map_or(At::Done, At::Texts)
                }
                At::Done => return true,
            };
            if turn.walks.units == 0 {
                return matches!(coming.at, At::Done);
            }
        }
    }

    fn first_to_compare(&mut self, coming: &mut Coming) -> At {
        let following = self.following.get_or_insert_default();
        let is_whole = following.is_whole;
        match coming.aim {
            Aim::Afresh => return At::Texts(0),
            Aim::Join if is_whole => return At::Texts(0),
            Aim::Join | Aim::Difference => {
                coming.passed_over = std::mem::take(&mut following.passed_over);
            }
            Aim::Loss(_) => {}
        }
        match is_whole {
            true => At::Known(0),
            false => At::Singles(None),
        }
    }

    /// All that differs was told.
    fn behind_telling(&self, coming: &Coming) -> At {
        let following = self.following.as_deref();
        let is_shown = following.is_some_and(|it| it.is_whole && !it.behind.is_empty());
        match coming.aim {
            Aim::Join | Aim::Afresh => At::Texts(0),
            Aim::Difference if is_shown => At::Texts(0),
            Aim::Difference | Aim::Loss(_) => At::Done,
        }
    }

    fn tell_known(&mut self, coming: &Coming, from: u64, turn: &mut Turn<'_>) -> At {
        let (mut found, mut next) = (Vec::new(), None);
        for item in self.items().from(from) {
            if turn.walks.units == 0 {
                next = Some(item.sequence);
                break;
            }
            let new = coming.items.get(item.hash, &item.name);
            found.extend(coming.compare(&item.name, Some(&item.value), new, turn));
        }
        self.tell_differences(found, coming.time, turn);
        match (next, &coming.aim) {
            (Some(next), _) => At::Known(next),
            (None, Aim::Loss(_)) => self.behind_telling(coming),
            (None, _) => At::Made(0),
        }
    }

    fn tell_made(&mut self, coming: &Coming, from: u64, turn: &mut Turn<'_>) -> At {
        let (mut found, mut next) = (Vec::new(), None);
        for item in coming.items.from(from) {
            if turn.walks.units == 0 {
                next = Some(item.sequence);
                break;
            }
            turn.walks.spend(1);
            if self.items().get(item.hash, &item.name).is_none() {
                found.extend(coming.compare(&item.name, None, Some(&item.value), turn));
            }
        }
        self.tell_differences(found, coming.time, turn);
        next.map_or_else(|| self.behind_telling(coming), At::Made)
    }

    fn tell_singles(&mut self, coming: &Coming, last: Option<ItemId>, turn: &mut Turn<'_>) -> At {
        let (mut found, mut reached) = (Vec::new(), None);
        let mut has_more = false;
        let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let following = self.following.as_deref();
        let singles = following.map(|it| it.singles.range::<str, _>((from, Bound::Unbounded)));
        for (name, old) in singles.into_iter().flatten() {
            if turn.walks.units == 0 {
                has_more = true;
                break;
            }
            let new = coming.items.get(turn.hash(name), name);
            found.extend(coming.compare(name, old.as_ref(), new, turn));
            reached = Some(ItemId::clone(name));
        }
        self.tell_differences(found, coming.time, turn);
        match has_more {
            true => At::Singles(reached.or(last)),
            false => self.behind_telling(coming),
        }
    }

    fn tell_differences(&mut self, found: Vec<Difference>, time: u64, turn: &mut Turn<'_>) {
        for Difference {
            item,
            event,
            is_silent,
        } in found
        {
            let held = self.note_event(&item, &event, turn);
            if !is_silent {
                self.tell_as_held(Some(&item), (&event, held), time, turn);
            }
        }
    }

    /// The store had no items, whatever is thought here: it has lost them, as one does that evicts or is
    /// emptied. They may be few: else it was taken in before.
    pub(super) fn lose_all_but(&mut self, item: Option<ItemId>, time: u64, turn: &mut Turn<'_>) {
        if self.following.is_some() {
            let mut coming = self.lost_all_but(item, time);
            self.take_in_all(&mut coming, turn);
        }
    }

    /// The items and the time that a join of the whole group was told.
    pub(super) fn taken_in(&mut self, told: Content, time: u64, turn: &mut Turn<'_>) -> Items {
        let coming = self.following.get_or_insert_default().coming.take();
        if let Some(coming) = coming {
            debug_assert_eq!(coming.aim, Aim::Join);
            return coming.items;
        }
        let mut coming = Coming::new(Aim::Join, told, time, self.items());
        self.take_in_all(&mut coming, turn);
        coming.items
    }

    /// The group was read again, and that is little.
    pub(super) fn take_read(
        &mut self,
        content: Content,
        time: u64,
        is_after_loss: bool,
        turn: &mut Turn<'_>,
    ) {
        if self.following.is_none() {
            return turn.walks.drop_later(content.drop_in_steps());
        }
        let mut coming = self.coming_read(content, time, is_after_loss);
        if self.shows_what_is_stored(turn) {
            self.take_in_all(&mut coming, turn);
        }
        self.end_reading(coming, turn);
    }

    /// The group was read again, and that is taken in.
    pub(super) fn has_read_again(&mut self, turn: &mut Turn<'_>) {
        let following = self.following.as_deref_mut();
        if let Some(coming) = following.and_then(|following| following.coming.take()) {
            self.end_reading(*coming, turn);
        }
    }

    /// After a loss everybody gets a fresh `sync`; else what differs was told.
    fn end_reading(&mut self, mut coming: Coming, turn: &mut Turn<'_>) {
        if !self.shows_what_is_stored(turn) {
            return turn.walks.drop_later(coming.drop_in_steps());
        }
        let time = coming.time;
        if coming.aim == Aim::Afresh {
            self.start_afresh(&mut coming, turn);
        }
        turn.walks.drop_later(coming.drop_in_steps());
        let following = self.following.get_or_insert_default();
        following.heard = following.heard.max(time);
        self.enter_behind(turn);
    }

    /// Whether somebody follows it, and is shown what the store has.
    fn shows_what_is_stored(&self, turn: &Turn<'_>) -> bool {
        let stream = self.key.stream();
        let functions = [StreamFunction::List, StreamFunction::Get];
        let is_custom = functions.map(|function| turn.hooks.is_custom(stream, function));
        self.has_listeners() && !is_custom.contains(&true)
    }

    fn start_afresh(&mut self, coming: &mut Coming, turn: &mut Turn<'_>) {
        let told = self.event_time(coming.time); // what has changed meanwhile had no events
        let none = self.items().to_follow();
        self.fill(std::mem::replace(&mut coming.items, none), turn);
        self.following.get_or_insert_default().owes_sync = false;
        let snapshot = Arc::new(Snapshot::new(
            GroupNames::new(&self.key),
            (told, self.whole_sync(told)),
            coming.by_name.take(),
            turn.hasher.clone(),
        ));
        turn.walks.keep_snapshot(&snapshot);
        let afresh = |(to, local)| Delivery {
            to,
            local,
            what: Delivered::Afresh(Arc::clone(&snapshot)),
        };
        turn.out.deliveries.extend(self.listeners().map(afresh));
    }

    /// What was told before is void: the group is read anew. A join keeps its answer.
    pub(super) fn drop_coming(&mut self, turn: &mut Turn<'_>) {
        let Some(following) = self.following.as_deref_mut() else {
            return;
        };
        let is_void = |coming: &mut Box<Coming>| coming.aim != Aim::Join;
        if let Some(coming) = following.coming.take_if(is_void) {
            turn.walks.drop_later(coming.drop_in_steps());
        }
    }
}

impl Coming {
    /// What has become of an item. Costs of what the turn may spend.
    fn compare(
        &self,
        item: &str,
        old: Option<&Text>,
        new: Option<&Text>,
        turn: &mut Turn<'_>,
    ) -> Option<Difference> {
        turn.walks.spend(1);
        if matches!(&self.aim, Aim::Loss(keeps) if keeps.as_deref() == Some(item)) {
            return None;
        }
        let is_passed_over = || self.passed_over.contains(item);
        let (event, is_silent) = match (old, new) {
            (None, None) => return None,
            (Some(old), None) => (HeardEvent::Delete(Text::clone(old)), false),
            (None, Some(new)) => (HeardEvent::Create(Text::clone(new)), false),
            (Some(old), Some(new)) => {
                turn.walks.spend(old.len() / COMPARED_BYTES_A_UNIT);
                let is_told = is_passed_over() || !(new == old || is_same(new, old));
                if !is_told && new == old {
                    return None;
                }
                (HeardEvent::Update(Text::clone(new)), !is_told)
            }
        };
        turn.walks.spend(TELL_UNITS);
        Some(Difference {
            item: item.into(),
            event,
            is_silent,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{Local, cut, followed, hear, join, leave, read, tell, told};
    use super::super::{Decides, Delivered, Effects, Learned};
    use super::*;
    use crate::id::GroupKey;

    const ITEMS: usize = 1000;
    const UNITS: usize = 40;

    /// A shard whose turns may spend little.
    fn slow() -> Local {
        let mut local = Local::new(Decides::Shared);
        local.shard.walks.units_a_turn = UNITS;
        local.shard.begin_turn(9, &mut Effects::default());
        local
    }

    /// Turns until nothing goes on, and what each has told.
    fn turns(local: &mut Local) -> Vec<Effects> {
        let mut turns = Vec::new();
        while local.shard.has_begun_more() {
            let mut out = Effects::default();
            local.shard.begin_turn(9, &mut out);
            local.shard.check_invariants();
            local.asked.append(&mut out.requests);
            turns.push(out);
        }
        local.shard.begin_turn(9, &mut Effects::default());
        turns
    }

    /// What subscribers hold, by what they were told.
    #[derive(Default)]
    struct Shown(BTreeMap<String, String>);

    impl Shown {
        fn hear(&mut self, out: &Effects) {
            for delivery in &out.deliveries {
                let Delivered::Event(frame) = &delivery.what else {
                    continue;
                };
                let item = frame.item().unwrap().to_owned();
                let (_, event) = frame.text().rsplit_once(r#""type":""#).unwrap();
                let (kind, rest) = event.split_once('"').unwrap();
                let value = rest.strip_prefix(r#","data":"#).unwrap();
                let value = value.trim_end_matches('}').to_owned();
                let was_held = match kind {
                    "delete" => self.0.remove(&item).is_some(),
                    _ => self.0.insert(item, value).is_some(),
                };
                assert_eq!(was_held, kind != "create", "{}", frame.text());
            }
        }
    }

    fn items(of: impl Iterator<Item = (usize, &'static str)>) -> BTreeMap<String, String> {
        of.map(|(n, value)| (n.to_string(), value.to_owned()))
            .collect()
    }

    fn borrowed(items: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
        let items = items.iter();
        items.map(|(name, value)| (&**name, &**value)).collect()
    }

    /// A subscriber of the whole group, which has those items.
    fn holding(items: &BTreeMap<String, String>) -> (Local, Shown) {
        let mut local = slow();
        let _ = local.ask("g", 9, join(None));
        let first = local.answer(9, cut(&borrowed(items), 2));
        let entered: usize = turns(&mut local).iter().map(|out| told(out).len()).sum();
        assert_eq!(told(&first).len() + entered, 1);
        (local, Shown(items.clone()))
    }

    #[test]
    fn what_the_store_tells_a_join_of_a_large_group_is_taken_in_over_turns_and_events_come_behind()
    {
        let mut local = slow();
        // Who follows one item has heard that it is not there.
        let _ = local.ask("g", 9, join(Some("7")));
        assert_eq!(told(&local.answer(9, cut(&[], 1))).len(), 1);
        let _ = local.ask("g", 9, join(None));
        let names: Vec<String> = (0..ITEMS).map(|n| n.to_string()).collect();
        let items: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
        assert!(
            told(&local.answer(9, cut(&items, 2))).is_empty(),
            "not at once"
        );
        let made = HeardEvent::Create("2".into());
        assert!(
            told(&hear(&mut local, made, 3)).is_empty(),
            "behind the join"
        );
        let (mut turns, mut heard) = (0, Vec::new());
        while local.shard.has_begun_more() {
            let mut out = Effects::default();
            local.shard.begin_turn(9, &mut out);
            heard.extend(told(&out));
            turns += 1;
        }
        assert!((2 * ITEMS / 40..4 * ITEMS / 40).contains(&turns), "{turns}");
        assert_eq!(heard.len(), 3, "{heard:?}");
        assert!(
            heard[0].starts_with(r#"{"type":"create","data":1}"#),
            "{}",
            heard[0]
        );
        let shown = heard[1].matches('1').count();
        assert!(
            heard[1].contains("sync") && shown == ITEMS,
            "{shown}: {}",
            heard[1]
        );
        assert!(
            heard[2].starts_with(r#"{"type":"create","data":2}"#),
            "{}",
            heard[2]
        );
    }

    #[test]
    fn what_is_read_after_a_loss_is_taken_in_over_turns_and_events_come_behind() {
        for has_singles in [true, false] {
            let all = items((0..ITEMS).map(|n| (n, "1")));
            let (mut local, _) = holding(&all);
            if has_singles {
                let _ = local.ask("g", 9, join(Some("7")));
                let _ = turns(&mut local);
            }
            let _ = tell(&mut local, Learned::Lost);
            let _ = turns(&mut local);
            assert!(told(&read(&mut local, &borrowed(&all), true)).is_empty());
            let made = HeardEvent::Create("2".into());
            assert!(told(&hear(&mut local, made, 400)).is_empty(), "behind it");
            let mut out = turns(&mut local);
            let least = ITEMS * if has_singles { 4 } else { 2 } / UNITS;
            assert!(out.len() >= least, "{} turns", out.len());
            out.retain(|out| !out.deliveries.is_empty());
            let [out] = &mut out[..] else {
                panic!("{} turns told something", out.len())
            };
            let heard = told(out);
            assert_eq!(heard.len(), 2, "{heard:?}");
            assert!(heard[0].contains("sync") && heard[0].matches('1').count() == ITEMS);
            assert!(heard[1].contains(r#"{"type":"create","data":2}"#));
            let Delivered::Afresh(snapshot) = &out.deliveries[0].what else {
                panic!("everybody begins anew")
            };
            assert_eq!(snapshot.items_len(), has_singles.then_some(ITEMS));
            if has_singles {
                let of_item =
                    |item: &str| super::super::tests::text(&snapshot.sync_of(Some(&item.into())));
                assert!(of_item("7").ends_with(r#""data":1}}"#));
                assert!(of_item("u1").ends_with(r#""data":null}}"#));
            }
            out.deliveries.clear();
            assert!(!local.shard.has_begun_more());
            // Nobody begins anew with it any more: it goes over turns as well.
            local.shard.begin_turn(9, &mut Effects::default());
            let gone = turns(&mut local).len();
            assert_eq!(gone > ITEMS / UNITS / 2, has_singles, "{gone} turns");
        }
    }

    #[test]
    fn what_differs_when_a_large_group_is_read_again_is_told_over_turns() {
        let before = items((0..ITEMS).map(|n| (n, "1")));
        let (mut local, mut held) = holding(&before);
        // A quarter is gone, a quarter is another, a quarter is new.
        let after = (0..ITEMS + ITEMS / 4)
            .filter(|n| n % 4 > 0 || *n >= ITEMS)
            .map(|n| (n, if n % 4 == 1 { "2" } else { "1" }));
        let mut after = items(after);
        held.hear(&read(&mut local, &borrowed(&after), false));
        let made = HeardEvent::Create("3".into());
        assert!(told(&hear(&mut local, made, 400)).is_empty(), "behind it");
        let mut entered = None;
        let all = turns(&mut local);
        assert!(all.len() > ITEMS / 2 * 8 / UNITS, "{} turns", all.len());
        for out in &all {
            assert!(
                out.deliveries.len() <= 2 + UNITS / 8,
                "{}",
                out.deliveries.len()
            );
            held.hear(out);
            entered = entered.or(out.deliveries.first().map(|_| held.0.len()));
        }
        after.insert("u1".into(), "3".into());
        assert_eq!(held.0, after);
        // Whoever joins sees the same.
        let _ = local.ask("g", 500, join(None));
        let seen: Vec<String> = turns(&mut local).iter().flat_map(told).collect();
        let [sync] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(
            sync.matches(|digit: char| digit.is_ascii_digit()).count(),
            after.len()
        );
        assert_eq!(
            sync.matches('2').count(),
            after.values().filter(|it| *it == "2").count()
        );
    }

    #[test]
    fn whoever_joins_in_the_midst_of_it_is_told_the_rest() {
        let before = items((0..ITEMS).map(|n| (n, "1")));
        let (mut local, mut held) = holding(&before);
        let after = items((0..ITEMS).map(|n| (n, "2")));
        held.hear(&read(&mut local, &borrowed(&after), false));
        for _ in 0..ITEMS / 10 {
            let mut out = Effects::default();
            local.shard.begin_turn(9, &mut out);
            held.hear(&out);
        }
        let mut out = local.ask("g", 9, join(Some("999")));
        held.hear(&out);
        for turn in turns(&mut local) {
            held.hear(&turn);
            out.deliveries.extend(turn.deliveries);
        }
        assert_eq!(held.0, after);
        let heard = told(&out);
        let entered = heard.iter().position(|text| text.contains("sync")).unwrap();
        assert!(
            heard[entered].ends_with(r#""data":1}}"#),
            "not its turn yet"
        );
        let is_it = |delivery: &Delivery| match &delivery.what {
            Delivered::Event(frame) => frame.item() == Some("999"),
            _ => false,
        };
        assert!(
            out.deliveries[entered..].iter().any(is_it),
            "it hears of it"
        );
    }

    /// Each item is told of, and no turn tells of more than it may.
    fn hear_over_turns(local: &mut Local, held: &mut Shown) {
        let all = turns(local);
        assert!(all.len() >= ITEMS * 8 / UNITS, "{} turns", all.len());
        for out in &all {
            let len = out.deliveries.len();
            assert!(len <= 2 + UNITS / 8, "{len}");
            held.hear(out);
        }
    }

    #[test]
    fn items_that_the_store_has_lost_are_gone_over_turns_and_its_first_comes_behind() {
        let before = items((0..ITEMS).map(|n| (n, "1")));
        let (mut local, mut held) = holding(&before);
        let from = FromChannel::Event {
            item: Some("7".into()),
            event: HeardEvent::Create("2".into()),
            time: 400,
            is_first: true,
            is_ours: true,
        };
        held.hear(&tell(
            &mut local,
            Learned::Channel(GroupKey::new("s", "g"), from),
        ));
        assert!(held.0.len() > ITEMS - 10, "not at once");
        hear_over_turns(&mut local, &mut held);
        assert_eq!(held.0, items([(7, "2")].into_iter()));
    }

    #[test]
    fn who_follows_single_items_is_told_over_turns_what_differs() {
        let mut local = slow();
        let before = items((0..ITEMS).map(|n| (n, "1")));
        for (name, value) in &before {
            let _ = local.ask("g", 9, join(Some(name)));
            let _ = local.answer(9, cut(&[(name, value)], 1));
        }
        let mut held = Shown(before);
        let after = items((0..ITEMS).map(|n| (n, "2")));
        held.hear(&read(&mut local, &borrowed(&after), false));
        hear_over_turns(&mut local, &mut held);
        assert_eq!(held.0, after);
    }

    #[test]
    fn what_is_being_taken_in_is_void_after_a_further_loss_and_when_the_last_one_leaves() {
        let all = items((0..ITEMS).map(|n| (n, "1")));
        for leaves in [true, false] {
            let (mut local, _) = holding(&all);
            let _ = tell(&mut local, Learned::Lost);
            let _ = turns(&mut local);
            assert!(told(&read(&mut local, &borrowed(&all), true)).is_empty());
            local.shard.begin_turn(9, &mut Effects::default());
            if leaves {
                let _ = local.ask("g", 9, leave());
            } else {
                let _ = tell(&mut local, Learned::Lost);
            }
            let heard: Vec<String> = turns(&mut local).iter().flat_map(told).collect();
            assert!(heard.is_empty(), "{heard:?}");
            if leaves {
                assert_eq!(local.shard.groups_len(), 0);
                continue;
            }
            let first = told(&read(&mut local, &[("u1", "3")], true));
            let rest = turns(&mut local);
            let heard: Vec<String> = rest.iter().flat_map(told).chain(first).collect();
            assert_eq!(heard, [r#"{"type":"sync","data":[3]}}"#]);
        }
    }

    #[test]
    fn a_reading_that_nobody_waits_for_goes_over_turns() {
        let mut local = followed();
        local.shard.walks.units_a_turn = UNITS;
        let _ = turns(&mut local);
        let all = items((0..ITEMS).map(|n| (n, "1")));
        let from = FromChannel::Read {
            items: borrowed(&all)
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            time: 300,
            is_after_loss: false,
        };
        let nobody_s = GroupKey::new("s", "nobody's");
        assert!(tell(&mut local, Learned::Channel(nobody_s, from)).is_empty());
        assert!(turns(&mut local).len() >= ITEMS / UNITS - 1);
    }
}
