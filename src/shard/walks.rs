//! What would hold a turn up is done over turns, within a budget for each: the texts of a large group's list,
//! what a shared store tells of one, listings of very many groups, what a refusal or a loss ends, and large
//! groups that go.
//!
//! Whatever is asked of a group meanwhile comes behind it, in its order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::CallId;

use super::items::Items;
use super::listing::Listing;
use super::snapshot::Snapshot;
use super::{Effects, Reply, Shard};

/// What one turn spends at most. A unit is about what an item costs that is put into a list's text.
pub const UNITS_A_TURN: usize = 8 * 1024;
/// What it costs to look at a group or at something that waits in one.
const LOOK_UNITS: usize = 2;

/// One answer lets so many commands go that waited behind it; further ones cost of what a turn may spend.
pub(super) const RELEASED_FREE: usize = 64;
/// So much each.
pub(super) const RELEASED_UNITS: usize = 8;

/// So much of what nobody needs goes before anything else does.
const DROPPED_AT_ONCE: usize = 64;

/// Whoever begins anew last may drop a snapshot of so many items; of more the shard keeps one until then.
const SNAPSHOT_ITEMS_MAX: usize = 256;
/// Snapshots that are looked at in a turn.
const SNAPSHOTS_LOOKED_AT: usize = 16;

/// What goes on over turns.
pub(super) struct Walks {
    /// What this turn may still spend.
    pub(super) units: usize,
    pub(super) units_a_turn: usize,
    /// Groups where the front of the queue is long in being made, by their slots.
    pub(super) texts: VecDeque<u32>,
    /// What an answer lets go may have its turn later. Where others are heard nothing may: what is heard
    /// goes before all that waits for nothing.
    releases_in_turns: bool,
    /// Slots of groups where one answer has let more go than a turn may do.
    pub(super) settling: VecDeque<u32>,
    /// Slots of groups with writes of an epoch that the store has refused, and why it did.
    failing: VecDeque<u32>,
    pub(super) refusal: Arc<str>,
    /// How often a shared channel was lost.
    pub(super) losses: u32,
    /// Groups from that slot on have not been told of the last loss, unless they were asked something.
    lost_at: Option<u32>,
    /// The listing that has begun, and those behind it.
    listing: Option<(CallId, Listing)>,
    listings: VecDeque<(CallId, Option<Box<str>>)>,
    /// A group has items that go back at once, so nothing may wait there.
    pub(super) is_lending: bool,
    /// What nobody needs any more: each step drops a part.
    rubbish: Vec<Box<dyn Iterator<Item = ()> + Send>>,
    /// Large ones with which others begin anew.
    snapshots: VecDeque<Arc<Snapshot>>,
}

impl Default for Walks {
    fn default() -> Walks {
        Walks {
            units: UNITS_A_TURN,
            units_a_turn: UNITS_A_TURN,
            texts: VecDeque::new(),
            releases_in_turns: false,
            settling: VecDeque::new(),
            failing: VecDeque::new(),
            refusal: "".into(),
            losses: 0,
            lost_at: None,
            listing: None,
            listings: VecDeque::new(),
            is_lending: false,
            rubbish: Vec::new(),
            snapshots: VecDeque::new(),
        }
    }
}

impl Walks {
    pub(super) fn new(releases_in_turns: bool) -> Walks {
        Walks {
            releases_in_turns,
            ..Walks::default()
        }
    }

    fn is_idle(&self) -> bool {
        self.texts.is_empty()
            && self.settling.is_empty()
            && self.failing.is_empty()
            && self.lost_at.is_none()
            && self.listing.is_none()
            && self.listings.is_empty()
            && self.rubbish.is_empty()
    }

    /// A group in that slot has got its first item, or has lost its last.
    pub(super) fn note_change(&mut self, slot: u32, names: (&str, &str), had_items: bool) {
        if let Some((_, listing)) = &mut self.listing {
            listing.note_change(slot, names, had_items);
        }
    }
}

impl Shard {
    /// What one turn spends from here on: [`UNITS_A_TURN`], unless a test sets less.
    pub fn set_units_a_turn(&mut self, units: usize) {
        (self.walks.units, self.walks.units_a_turn) = (units, units);
    }

    /// A turn begins: goes on with what was too long for those before it.
    pub fn begin_turn(&mut self, now: u64, out: &mut Effects) {
        self.walks.units = self.walks.units_a_turn;
        self.walks.let_snapshots_go();
        if !self.has_begun_more() {
            return;
        }
        self.go_on_failing(now, out);
        self.go_on_losing(now, out);
        self.go_on_settling(now, out);
        self.go_on_with_texts(now, out);
        self.go_on_opening(now, out);
        self.go_on_listing(out);
        self.go_on_dropping();
    }

    /// Whether something goes on that was too long for one turn.
    pub fn has_begun_more(&self) -> bool {
        !self.walks.is_idle() || !self.openings.is_empty()
    }

    /// The writes of these groups were refused. A group that is asked something before its turn comes
    /// is told of it first.
    pub(super) fn fail(
        &mut self,
        slots: impl Iterator<Item = u32>,
        cause: &str,
        now: u64,
        out: &mut Effects,
    ) {
        self.walks.refusal = cause.into();
        self.walks.failing.extend(slots);
        self.go_on_failing(now, out);
    }

    fn go_on_failing(&mut self, now: u64, out: &mut Effects) {
        while self.walks.units > 0
            && let Some(slot) = self.walks.failing.pop_front()
        {
            // What waits there beyond that costs as it is let go.
            let waiting = self.groups.get(slot).map_or(0, |group| group.queue_len());
            self.walks
                .spend(LOOK_UNITS + LOOK_UNITS * waiting.min(RELEASED_FREE));
            self.with_group(slot, now, out, |_, _| ());
        }
    }

    /// A shared channel is lost, for all groups.
    pub(super) fn lose_all(&mut self, now: u64, out: &mut Effects) {
        self.walks.losses = self.walks.losses.wrapping_add(1);
        self.walks.lost_at = Some(0);
        self.go_on_losing(now, out);
    }

    fn go_on_losing(&mut self, now: u64, out: &mut Effects) {
        while self.walks.units > 0
            && let Some(slot) = self.walks.lost_at
        {
            self.walks.spend(LOOK_UNITS);
            self.with_group(slot, now, out, |_, _| ());
            self.walks.lost_at = (slot + 1 < self.groups.slots_end()).then_some(slot + 1);
        }
    }

    fn go_on_with_texts(&mut self, now: u64, out: &mut Effects) {
        while self.walks.units > 0
            && let Some(slot) = self.walks.texts.front().copied()
        {
            let mut is_done = true;
            self.with_group(slot, now, out, |group, turn| {
                is_done = group.go_on_with_front(turn);
                if is_done {
                    group.settle(turn, |_| ());
                }
            });
            if !is_done {
                return;
            }
            self.walks.texts.pop_front();
        }
    }

    fn go_on_settling(&mut self, now: u64, out: &mut Effects) {
        for _ in 0..self.walks.settling.len() {
            if self.walks.units == 0 {
                return;
            }
            let Some(slot) = self.walks.settling.pop_front() else {
                return;
            };
            self.with_group(slot, now, out, |group, turn| group.go_on_settling(turn));
        }
    }

    /// Lists the groups of that stream, or all, from what is accepted.
    pub(super) fn list_own(&mut self, stream: Option<Box<str>>, call: CallId, out: &mut Effects) {
        self.walks.listings.push_back((call, stream));
        self.go_on_listing(out);
    }

    fn go_on_listing(&mut self, out: &mut Effects) {
        while self.walks.units > 0 {
            if self.walks.listing.is_none()
                && let Some((call, stream)) = self.walks.listings.pop_front()
            {
                self.walks.spend(1);
                let listing = self.begin_listing(stream);
                self.walks.listing = Some((call, listing));
            }
            let Some((call, mut listing)) = self.walks.listing.take() else {
                return;
            };
            let groups = &self.groups;
            let names_of = |slot| {
                let group = groups.get(slot).filter(|group| group.has_items())?;
                Some((group.key.stream(), group.key.group()))
            };
            if !listing.go_on(&mut self.walks.units, names_of) {
                self.walks.listing = Some((call, listing));
                return;
            }
            let outcome = listing.outcome();
            out.replies.push(Reply { call, outcome });
        }
    }

    fn begin_listing(&self, stream: Option<Box<str>>) -> Listing {
        match stream {
            Some(stream) => {
                let slots = self.groups.slots_of(&stream);
                let mut listing = Listing::of_stream(stream.clone(), slots);
                for group in self.unnamed.names_in(&stream) {
                    listing.add(&stream, &group);
                }
                listing
            }
            None => {
                let mut listing = Listing::of_all(self.groups.slots_end());
                for (stream, group) in self.unnamed.all_names() {
                    listing.add(stream, group);
                }
                listing
            }
        }
    }

    fn go_on_dropping(&mut self) {
        while self.walks.units > 0
            && let Some(rubbish) = self.walks.rubbish.last_mut()
        {
            self.walks.units -= 1;
            if rubbish.next().is_none() {
                self.walks.rubbish.pop();
            }
        }
    }
}

impl Walks {
    /// Whether what one answer lets go has to wait for the next turn.
    pub(super) fn lets_wait(&self) -> bool {
        self.releases_in_turns && self.units == 0
    }

    /// Drops a little at once, and the rest over turns.
    pub(super) fn drop_later(&mut self, mut rubbish: impl Iterator<Item = ()> + Send + 'static) {
        for _ in 0..self.units.min(DROPPED_AT_ONCE) {
            self.units -= 1;
            if rubbish.next().is_none() {
                return;
            }
        }
        self.rubbish.push(Box::new(rubbish));
    }

    /// Others begin anew with it. If it is large it is dropped here, over turns.
    pub(super) fn keep_snapshot(&mut self, snapshot: &Arc<Snapshot>) {
        if snapshot.items_len() > Some(SNAPSHOT_ITEMS_MAX) {
            self.snapshots.push_back(Arc::clone(snapshot));
        }
    }

    fn let_snapshots_go(&mut self) {
        for _ in 0..self.snapshots.len().min(SNAPSHOTS_LOOKED_AT) {
            let Some(mut snapshot) = self.snapshots.pop_front() else {
                return;
            };
            match Arc::get_mut(&mut snapshot) {
                Some(snapshot) => {
                    let items = snapshot.take_items();
                    self.drop_later(items.into_iter().flat_map(Items::drop_in_steps));
                }
                None => self.snapshots.push_back(snapshot),
            }
        }
    }

    pub(super) fn spend(&mut self, units: usize) {
        self.units = self.units.saturating_sub(units);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{call, join, outcomes, set, sync, text};
    use super::super::{
        Answer, Ask, Command, Decides, Effects, FromChannel, Learned, Question, Request,
        RequestKind, Shard, ValueLimits, Verdict,
    };
    use super::*;
    use crate::id::{GroupKey, WorkerId};
    use crate::protocol::answer::Outcome;

    /// A shard whose turns may spend little, and what it has asked of the store.
    struct Slow {
        shard: Shard,
        asked: VecDeque<Request>,
    }

    impl Slow {
        fn new(decides: Decides, units_a_turn: usize) -> Slow {
            let limits = ValueLimits {
                json_depth: 10,
                value_bytes: 1000,
            };
            let mut shard = Shard::new(WorkerId(0), decides, limits);
            shard.walks.units_a_turn = units_a_turn;
            Slow {
                shard,
                asked: VecDeque::new(),
            }
        }

        fn act(&mut self, act: impl FnOnce(&mut Shard, &mut Effects)) -> Effects {
            let mut out = Effects::default();
            act(&mut self.shard, &mut out);
            self.asked.extend(out.requests.drain(..));
            out
        }

        fn turn(&mut self) -> Effects {
            let out = self.act(|shard, out| shard.begin_turn(9, out));
            self.shard.check_invariants();
            out
        }

        fn ask(&mut self, group: &str, ask: Ask) -> Effects {
            let key = GroupKey::new("s", group);
            self.act(|shard, out| shard.apply(Command::Group { key, ask }, 9, out))
        }

        fn answer(&mut self, verdict: Verdict) -> Effects {
            let asked = self.asked.pop_front().unwrap();
            let answer = Learned::Answer(Answer {
                shard: asked.shard,
                epoch: asked.epoch,
                number: asked.number,
                verdict,
            });
            self.act(|shard, out| shard.learn(answer, 9, out))
        }

        fn put(&mut self, group: &str, item: &str, value: &str) -> Effects {
            let ask = Ask::Set {
                item: item.into(),
                data: value.into(),
                ttl: None,
                call: None,
            };
            let _ = self.ask(group, ask);
            self.answer(Verdict::Accepted)
        }

        fn remove(&mut self, group: &str, item: &str) {
            let item = item.into();
            let _ = self.ask(group, Ask::Delete { item, call: None });
            let _ = self.answer(Verdict::Accepted);
        }
    }

    fn calls(out: &Effects) -> Vec<u32> {
        outcomes(out).iter().map(|(call, _)| *call).collect()
    }

    #[test]
    fn texts_of_a_large_group_are_made_over_turns_and_what_is_asked_meanwhile_comes_behind() {
        const ITEMS: usize = 5000;
        let mut slow = Slow::new(Decides::Owner, 1500);
        for n in 0..ITEMS {
            slow.put("g", &n.to_string(), "1");
        }
        let _ = slow.turn();
        for ask in [Ask::List { call: call(1) }, join(None), set("2", 2)] {
            assert!(slow.ask("g", ask).replies.is_empty());
        }
        assert!(slow.answer(Verdict::Accepted).is_empty(), "it is behind");
        assert!(slow.ask("g", Ask::List { call: call(3) }).is_empty());
        assert_eq!(calls(&slow.ask("h", Ask::List { call: call(4) })), [4]);
        let mut turns = 0;
        let out = loop {
            turns += 1;
            let out = slow.turn();
            if !out.is_empty() {
                break out;
            }
            assert!(slow.shard.has_begun_more());
        };
        assert!((3..=ITEMS / 1024 + 1).contains(&turns), "{turns} turns");
        let Outcome::List(before) = outcomes(&out)[0].1 else {
            unreachable!("a list comes first")
        };
        let before: String = before.iter().map(|chunk| &**chunk).collect();
        assert_eq!(before, ",1".repeat(ITEMS));
        assert_eq!(calls(&out), [1, 2, 3]);
        let sync = text(&sync(&out));
        assert!(sync.ends_with(r#"1,1]}}"#), "{}", &sync[sync.len() - 50..]);
        let Outcome::List(after) = outcomes(&out)[2].1 else {
            unreachable!("a list comes last")
        };
        assert!(after.last().unwrap().ends_with(",1,2"));
        assert_eq!(
            out.deliveries.len(),
            2,
            "the entry, and the event behind it"
        );
        let _ = slow.turn();
        assert!(!slow.shard.has_begun_more());
        assert_eq!(calls(&slow.ask("g", Ask::List { call: call(5) })), [5]);
    }

    #[test]
    fn a_refusal_reaches_a_group_whose_texts_are_being_made_and_takes_no_read_along() {
        let mut slow = Slow::new(Decides::Owner, 1500);
        for n in 0..5000 {
            slow.put("g", &n.to_string(), "1");
        }
        let _ = slow.turn();
        for ask in [
            Ask::List { call: call(1) },
            set("2", 2),
            Ask::List { call: call(3) },
        ] {
            assert!(slow.ask("g", ask).is_empty());
        }
        assert!(slow.answer(Verdict::Refused("full".into())).is_empty());
        let out = loop {
            let out = slow.turn();
            if !out.is_empty() {
                break out;
            }
        };
        let outcomes = outcomes(&out);
        assert!(matches!(outcomes[1], (2, Outcome::Failed(_))));
        assert!(matches!(outcomes[0], (1, Outcome::List(_))));
        assert_eq!(outcomes[0].1, outcomes[2].1, "nothing was changed");
        assert_eq!(slow.put("g", "u1", "3").replies.len(), 0);
    }

    #[test]
    fn what_one_answer_lets_go_goes_over_turns_and_in_its_order() {
        const READS: u32 = 2000;
        let mut slow = Slow::new(Decides::Owner, 400);
        slow.put("g", "u1", "1");
        let _ = slow.turn();
        assert!(slow.ask("g", set("2", 0)).is_empty());
        for n in 1..=READS {
            let get = Ask::Get {
                item: "u1".into(),
                call: call(n),
            };
            assert!(slow.ask("g", get).is_empty());
        }
        let mut told = calls(&slow.answer(Verdict::Accepted));
        assert!(told.len() <= 64 + 50, "{} at once", told.len());
        // What is asked meanwhile comes behind, and other groups go on.
        assert!(
            slow.ask(
                "g",
                Ask::List {
                    call: call(READS + 1)
                }
            )
            .is_empty()
        );
        assert_eq!(calls(&slow.ask("h", Ask::List { call: call(1) })), [1]);
        while slow.shard.has_begun_more() {
            let out = slow.turn();
            assert!(
                out.replies.len() <= 64 + 50,
                "{} at once",
                out.replies.len()
            );
            told.extend(calls(&out));
        }
        assert!(told.iter().copied().eq(0..=READS + 1));
    }

    #[test]
    fn what_a_refusal_ends_in_one_group_ends_over_turns_and_in_its_order() {
        const CALLS: u32 = 6000;
        let mut slow = Slow::new(Decides::Owner, 400);
        slow.put("g", "u1", "1");
        let _ = slow.turn();
        for n in 0..CALLS {
            let ask = match n % 3 {
                0 => set("2", n),
                1 => Ask::Get {
                    item: "u1".into(),
                    call: call(n),
                },
                // It rests on a set that will not have been.
                _ => Ask::Delete {
                    item: "nobody".into(),
                    call: Some(call(n)),
                },
            };
            assert!(slow.ask("g", ask).is_empty());
        }
        let mut told: Vec<(u32, bool)> = Vec::new();
        let mut hear = |out: &Effects| {
            assert!(
                out.replies.len() <= 64 + 50,
                "{} at once",
                out.replies.len()
            );
            assert!(out.deliveries.is_empty());
            for (call, outcome) in outcomes(out) {
                if let Outcome::Got(value) = outcome {
                    assert_eq!(value.as_deref(), Some("1"), "nothing was changed");
                }
                told.push((call, matches!(outcome, Outcome::Failed(_))));
            }
        };
        hear(&slow.answer(Verdict::Refused("full".into())));
        slow.asked.clear();
        // What is asked meanwhile comes behind, and rests on what is accepted.
        hear(&slow.ask("g", set("3", CALLS)));
        let mut turns = 0;
        while slow.shard.has_begun_more() {
            hear(&slow.turn());
            turns += 1;
        }
        assert!(turns >= CALLS / 114, "{turns} turns");
        let refused = (0..CALLS).map(|n| (n, n % 3 != 1));
        assert!(told.iter().copied().eq(refused));
        let out = slow.answer(Verdict::Accepted);
        let set = outcomes(&out)[0].1;
        assert!(matches!(set, Outcome::Set { old: Some(old), .. } if &**old == "1"));
    }

    /// Groups by the number of the listing's call: each once.
    fn listed(out: &Effects) -> Vec<(u32, BTreeSet<String>)> {
        let mut listings = Vec::new();
        for (call, outcome) in outcomes(out) {
            let Outcome::Groups(groups) = outcome else {
                continue;
            };
            let groups: Vec<String> = groups
                .iter()
                .map(|(stream, group)| {
                    assert_eq!(stream, "s");
                    group.to_owned()
                })
                .collect();
            let set: BTreeSet<String> = groups.iter().cloned().collect();
            assert_eq!(set.len(), groups.len(), "each once");
            listings.push((call, set));
        }
        listings
    }

    #[test]
    fn listings_are_made_over_turns_and_show_what_was_there_when_they_began() {
        const GROUPS: u32 = 300;
        for of_stream in [true, false] {
            let mut slow = Slow::new(Decides::Owner, 10 * super::super::listing::LISTED_UNITS);
            let mut model = BTreeSet::new();
            let mut draw = 1_u32;
            let mut change = |slow: &mut Slow, model: &mut BTreeSet<String>| {
                draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let group = ((draw >> 8) % GROUPS).to_string();
                if draw >> 31 == 0 && model.remove(&group) {
                    slow.remove(&group, "u");
                } else {
                    slow.put(&group, "u", "1");
                    model.insert(group);
                }
            };
            for _ in 0..500 {
                change(&mut slow, &mut model);
            }
            for round in 0..20 {
                let _ = slow.turn();
                let call = call(round);
                let ask = if of_stream {
                    let stream = "s".into();
                    Command::ListGroups { stream, call }
                } else {
                    Command::ListAll { call }
                };
                let mut out = slow.act(|shard, out| shard.apply(ask, 9, out));
                let wanted = model.clone();
                let mut turns = 0;
                while out.replies.is_empty() {
                    turns += 1;
                    for _ in 0..20 {
                        change(&mut slow, &mut model);
                    }
                    let before = slow.shard.walks.units_a_turn;
                    out = slow.turn();
                    assert!(slow.shard.walks.units <= before);
                }
                assert!(turns >= wanted.len() / 10 - 1, "{turns} turns");
                assert_eq!(listed(&out), [(round, wanted)]);
            }
        }
    }

    #[test]
    fn what_a_refusal_ends_ends_over_turns_and_each_group_before_it_goes_on() {
        const GROUPS: u32 = 100;
        let mut slow = Slow::new(Decides::Owner, 40);
        for n in 0..GROUPS {
            let _ = slow.ask(&n.to_string(), set("1", n));
        }
        let _ = slow.turn();
        let mut failed = calls(&slow.answer(Verdict::Refused("full".into())));
        assert!((1..=11).contains(&failed.len()), "{failed:?}");
        slow.asked.clear();
        // A group that has not been told yet is told first, and goes on.
        let last = (GROUPS - 1).to_string();
        let out = slow.ask(&last, set("2", GROUPS));
        assert!(matches!(outcomes(&out)[..], [(call, Outcome::Failed(_))] if call == GROUPS - 1));
        failed.extend(calls(&out));
        let mut turns = 0;
        while slow.shard.has_begun_more() {
            let out = slow.turn();
            assert!(out.replies.len() <= 11, "{} at once", out.replies.len());
            failed.extend(calls(&out));
            turns += 1;
        }
        assert!(turns >= 8, "{turns} turns");
        failed.sort_unstable();
        assert!(failed.iter().copied().eq(0..GROUPS), "each once");
        assert_eq!(
            calls(&slow.answer(Verdict::Accepted)),
            [GROUPS],
            "it stands"
        );
    }

    #[test]
    fn a_lost_channel_is_lost_for_all_groups_over_turns_and_for_those_that_are_asked_at_once() {
        const GROUPS: usize = 100;
        const ITEMS: usize = 50;
        let mut slow = Slow::new(Decides::Shared, 40);
        for n in 0..GROUPS {
            let _ = slow.ask(&n.to_string(), join(None));
            let item = |n: usize| (n.to_string().as_str().into(), "1".into());
            let items = (0..ITEMS).map(item).collect();
            let mut told = slow.answer(Verdict::Cut { items, time: 1 }).deliveries;
            while slow.shard.has_begun_more() {
                told.extend(slow.turn().deliveries);
            }
            assert_eq!(told.len(), 1);
        }
        let kept = |slow: &Slow| {
            slow.shard
                .groups
                .iter()
                .filter(|group| group.has_items())
                .count()
        };
        assert_eq!(kept(&slow), GROUPS);
        let _ = slow.turn();
        let _ = slow.act(|shard, out| shard.learn(Learned::Lost, 9, out));
        assert!((GROUPS - 20..GROUPS).contains(&kept(&slow)));
        let last = (GROUPS - 1).to_string();
        assert!(slow.ask(&last, join(None)).deliveries.is_empty());
        let asked = slow.asked.pop_back().unwrap();
        let follow = matches!(asked.kind, RequestKind::Decide(Question::Follow { .. }));
        assert!(follow, "what it held is void");
        let read = FromChannel::Read {
            items: [("u".into(), "2".into())].into_iter().collect(),
            time: 2,
            is_after_loss: true,
        };
        let before = (GROUPS - 2).to_string();
        let read = Learned::Channel(GroupKey::new("s", &before), read);
        let mut told = slow.act(|shard, out| shard.learn(read, 9, out)).deliveries;
        let mut turns = 0;
        while slow.shard.has_begun_more() {
            told.extend(slow.turn().deliveries);
            turns += 1;
        }
        assert_eq!(told.len(), 1, "everybody begins anew");
        assert!(turns > GROUPS * ITEMS / 40, "items go in turns: {turns}");
        assert_eq!(kept(&slow), 1, "what was read after the loss stays");
    }
}
