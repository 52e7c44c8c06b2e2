//! What has had its time: items, and members whose sockets are gone. Each is deleted as a call would
//! delete it.
//!
//! Only where the owner decides. May not know how long items last: `lifetimes` does.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::id::ItemId;
use crate::protocol::pace::Pace;
use crate::protocol::streams::StreamRules;

use super::group::{Group, Turn};
use super::groups::Groups;
use super::lifetimes::{Look, NEVER, ms_of, tick_after, tick_of};
use super::{Effects, Shard};

/// What it costs to delete an item that is due.
const DELETE_UNITS: usize = 16;
/// A delete that the store has not accepted by then is tried again.
const AGAIN_MS: u64 = 500;

/// Which groups are to be looked at when, and how late it is.
#[derive(Default)]
pub(super) struct Due {
    /// Ticks, and slots of groups: each group that has something once.
    groups: BTreeSet<(u32, u32)>,
    /// How long the shard has been there, by a clock that never steps.
    pub(super) uptime_ms: u64,
    /// What the other clock said when that began, in ms since 1970.
    wall_at_start: u64,
    /// Items that were deleted since this was last asked.
    expired: u64,
}

impl Due {
    /// The tick of a moment in ms since 1970; what is past is due at once.
    pub(super) fn tick_of_wall(&self, ms: u64) -> u32 {
        tick_after(ms.saturating_sub(self.wall_at_start))
    }

    /// When a tick begins, in ms since 1970.
    pub(super) fn wall_of_tick(&self, tick: u32) -> u64 {
        self.wall_at_start.saturating_add(ms_of(tick))
    }

    /// A store that decides has deleted an item that is due, if it was one.
    pub(super) fn note_expired(&mut self, is_one: bool) {
        self.expired += u64::from(is_one);
    }

    /// The group's next tick is another than before.
    pub(super) fn note(&mut self, slot: u32, group: &mut Group) {
        self.groups.remove(&(group.due, slot));
        group.due = group.next_due();
        if group.due != NEVER {
            self.groups.insert((group.due, slot));
        }
    }

    pub(super) fn check_invariants(&self, groups: &Groups) {
        for (tick, slot) in &self.groups {
            let group = groups.get(*slot);
            debug_assert_eq!(group.map(|group| group.due), Some(*tick));
        }
        for group in groups.iter() {
            debug_assert!(group.next_due() >= group.due || group.due == NEVER);
        }
    }
}

impl Shard {
    /// What the settings say of streams: before anything is restored or asked.
    pub fn set_stream_rules(&mut self, rules: Arc<StreamRules>) {
        self.groups.set_rules(rules);
    }

    /// How far apart a subscription to that stream is written to at least.
    pub fn pace_of(&self, stream: &str) -> Pace {
        let rule = self.groups.rules().of(stream);
        rule.map_or(Pace::NONE, |rule| rule.pace)
    }

    /// The shard begins at that moment, in ms since 1970: before anything is restored.
    pub fn begin_at(&mut self, wall_ms: u64) {
        self.due.wall_at_start = wall_ms;
    }

    /// What the settings say of streams.
    pub fn stream_rules(&self) -> &Arc<StreamRules> {
        self.groups.rules()
    }

    /// So many members a group may have from now on.
    pub fn set_members_max(&mut self, most: usize) {
        self.members_max = most;
    }

    /// When it began, in ms since 1970.
    pub fn began_at(&self) -> u64 {
        self.due.wall_at_start
    }

    /// So long it has been there now, by a clock that never steps.
    pub fn set_uptime(&mut self, uptime_ms: u64) {
        self.due.uptime_ms = uptime_ms;
    }

    /// Whether something is due.
    pub fn has_due(&self) -> bool {
        let first = self.due.groups.first();
        first.is_some_and(|(tick, _)| *tick <= tick_of(self.due.uptime_ms))
    }

    /// At which uptime something will be, in ms; none: nothing ever.
    pub fn next_due_ms(&self) -> Option<u64> {
        let (tick, _) = self.due.groups.first()?;
        Some(ms_of(*tick))
    }

    /// Does what is due, as much as this turn may.
    pub fn do_due(&mut self, now: u64, out: &mut Effects) {
        let tick = tick_of(self.due.uptime_ms);
        while self.walks.units > 0
            && let Some((at, slot)) = self.due.groups.first().copied()
            && at <= tick
        {
            self.due.groups.remove(&(at, slot));
            self.walks.spend(1);
            let Some(group) = self.groups.get_mut(slot).filter(|group| group.due == at) else {
                continue;
            };
            // What it is asked comes behind an update that takes turns, and so does this.
            if self.openings.has(&group.key) {
                group.due = tick + 1;
                self.due.groups.insert((tick + 1, slot));
                continue;
            }
            group.due = NEVER;
            let mut expired = 0;
            self.with_group(slot, now, out, |group, turn| {
                expired = group.end_items(tick, turn);
                group.end_members(tick, turn);
            });
            self.due.expired += expired;
        }
    }

    /// Items that were deleted since this was last asked.
    pub fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.due.expired)
    }

    /// Everything was given back: what it holds is due in its time.
    pub(super) fn begin_to_look(&mut self) {
        for slot in 0..self.groups.slots_end() {
            if let Some(group) = self.groups.get_mut(slot) {
                self.due.note(slot, group);
            }
        }
    }
}

impl Group {
    /// In which tick it is to be looked at.
    pub(super) fn next_due(&self) -> u32 {
        let lifetimes = self.items().lifetimes();
        let items = lifetimes.map_or(NEVER, |lifetimes| lifetimes.next());
        let members = self.members.as_ref();
        items.min(members.map_or(NEVER, |members| members.next()))
    }

    /// Deletes the items that are due, as many as this turn may. Gives how many.
    fn end_items(&mut self, tick: u32, turn: &mut Turn<'_>) -> u64 {
        let mut ended = 0;
        while turn.walks.units > 0
            && let Some(lifetimes) = self.items_mut().lifetimes_mut()
        {
            let slot = match lifetimes.look(tick) {
                Look::Nothing => break,
                Look::Later => {
                    turn.walks.spend(1);
                    continue;
                }
                Look::Due(slot) => slot,
            };
            lifetimes.put_off(slot, tick_after(turn.uptime_ms + AGAIN_MS));
            turn.walks.spend(DELETE_UNITS);
            let Some((hash, name)) = self.items().named(slot) else {
                continue;
            };
            let item = ItemId::from(name);
            if self.is_member(hash, &item) {
                self.items_mut().stay(slot); // as long as its person is there
                continue;
            }
            // A write under way renews it, or is this delete.
            if !self.is_under_way(hash, &item) {
                ended += 1;
                self.delete(item, hash, None, turn);
            }
        }
        ended
    }

    fn is_under_way(&self, hash: u64, item: &str) -> bool {
        let under_way = self.under_way.as_ref();
        under_way.is_some_and(|under_way| under_way.newest(hash, item).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Local, join, set};
    use super::super::{
        Ask, Cursor, Decides, Marks, Request, RequestKind, Restored, SliceLimits, Verdict,
    };
    use super::*;
    use crate::id::GroupKey;
    use crate::protocol::streams::{StreamPattern, StreamRule};
    use crate::protocol::ttl::Ttl;

    const WALL: u64 = 1_000_000;

    fn local(of_stream: u64) -> Local {
        let mut local = Local::new(Decides::Owner);
        set_up(&mut local.shard, of_stream);
        local
    }

    fn set_up(shard: &mut Shard, of_stream: u64) {
        let rule = StreamRule {
            streams: StreamPattern::read("s").unwrap(),
            ttl: Ttl::of_ms(of_stream).unwrap(),
            members: None,
            pace: Pace::NONE,
        };
        shard.set_stream_rules(Arc::new(StreamRules::new(vec![rule])));
        shard.begin_at(WALL);
    }

    fn set_for(ttl: u64) -> Ask {
        let mut ask = set("1", 1);
        if let Ask::Set { ttl: given, .. } = &mut ask {
            *given = Ttl::of_ms(ttl);
        }
        ask
    }

    /// The shard has been there so long: a turn of that moment.
    fn turn(local: &mut Local, uptime_ms: u64) -> Effects {
        let mut out = Effects::default();
        let now = WALL + uptime_ms;
        local.shard.set_uptime(uptime_ms);
        local.shard.begin_turn(now, &mut out);
        local.shard.do_due(now, &mut out);
        local.shard.check_invariants();
        local.asked.append(&mut out.requests);
        out
    }

    fn accept(local: &mut Local) -> Effects {
        local.answer(WALL, Verdict::Accepted)
    }

    fn removes(asked: &[Request]) -> usize {
        let is_remove = |asked: &&Request| matches!(asked.kind, RequestKind::Remove { .. });
        asked.iter().filter(is_remove).count()
    }

    /// When it is deleted, in steps of 100 ms; the events that tell of it.
    fn end_of(local: &mut Local, from: u64) -> Option<u64> {
        for at in (from..from + 20_000).step_by(100) {
            let _ = turn(local, at);
            if removes(&local.asked) > 0 {
                let out = accept(local);
                assert_eq!(out.events, 1);
                return Some(at);
            }
        }
        None
    }

    #[test]
    fn an_item_is_deleted_with_its_last_value_when_nobody_has_written_it_for_so_long() {
        let mut local = local(0);
        let _ = local.ask("g", WALL, join(None));
        let _ = local.ask("g", WALL, set_for(3000));
        let _ = accept(&mut local);
        assert!(local.shard.next_due_ms().is_some_and(|ms| ms <= 3100));
        let _ = turn(&mut local, 2900);
        assert!(local.asked.is_empty());
        let _ = turn(&mut local, 3200);
        assert_eq!(removes(&local.asked), 1);
        let out = accept(&mut local);
        let [delivery] = &out.deliveries[..] else {
            unreachable!("one listens")
        };
        let super::super::Delivered::Event(frame) = &delivery.what else {
            unreachable!("it is an event")
        };
        assert!(
            frame.text().contains(r#""type":"delete","data":1"#),
            "{}",
            frame.text()
        );
        assert_eq!(
            (local.shard.next_due_ms(), local.shard.take_expired()),
            (None, 1)
        );
    }

    #[test]
    fn every_write_renews_and_zero_lets_it_stay() {
        for of_stream in [0, 3000] {
            let mut local = local(of_stream);
            let first = if of_stream == 0 {
                set_for(3000)
            } else {
                set("1", 1)
            };
            for (at, ask) in [(0, first), (2000, set("2", 1)), (4000, set("3", 1))] {
                let _ = turn(&mut local, at);
                let _ = local.ask("g", WALL + at, ask);
                let _ = accept(&mut local);
            }
            assert_eq!(end_of(&mut local, 4000), Some(7100));
            let _ = local.ask("g", WALL, set_for(1000));
            let _ = accept(&mut local);
            let _ = local.ask("g", WALL, set_for(0));
            let _ = accept(&mut local);
            let _ = local.ask("g", WALL, set("5", 1));
            let _ = accept(&mut local);
            assert_eq!(end_of(&mut local, 8000), None);
        }
    }

    #[test]
    fn a_write_that_the_store_has_not_accepted_yet_keeps_the_item_and_a_refused_delete_is_tried_again()
     {
        let mut local = local(1000);
        let _ = local.ask("g", WALL, set("1", 1));
        let _ = accept(&mut local);
        let _ = local.ask("g", WALL, set("2", 1));
        let _ = turn(&mut local, 2000);
        assert_eq!(removes(&local.asked), 0);
        let _ = accept(&mut local);
        let _ = turn(&mut local, 4000);
        assert_eq!(removes(&local.asked), 1);
        let _ = turn(&mut local, 8000);
        assert_eq!(removes(&local.asked), 1, "one is under way");
        let _ = local.answer(WALL, Verdict::Refused("full".into()));
        assert_eq!(end_of(&mut local, 8100), Some(8600));
    }

    #[test]
    fn very_many_that_are_due_at_once_go_over_turns_and_each_once() {
        let mut local = local(1000);
        local.shard.walks.units_a_turn = 1600;
        for n in 0..1000 {
            let mut ask = set("1", n);
            if let Ask::Set { item, call, .. } = &mut ask {
                (*item, *call) = (n.to_string().as_str().into(), None);
            }
            let _ = local.ask("g", WALL, ask);
            let _ = accept(&mut local);
        }
        let mut turns = 0;
        while local.shard.next_due_ms().is_some() {
            let _ = turn(&mut local, 1200);
            turns += 1;
            let asked = local.asked.len();
            assert!(asked <= 100, "{asked} in one turn");
            (0..asked).for_each(|_| drop(accept(&mut local)));
        }
        assert!((10..20).contains(&turns), "{turns} turns");
        assert_eq!(local.shard.take_expired(), 1000);
        assert_eq!(local.shard.groups_len(), 0);
    }

    #[test]
    fn after_a_restart_items_end_when_they_would_have_ended() {
        let put = |sequence, item: &str, time, ttl: Option<u64>| Restored::Put {
            sequence,
            key: GroupKey::new("s", "g"),
            item: item.into(),
            value: "1".into(),
            time,
            marks: Marks {
                ttl: ttl.and_then(Ttl::of_ms),
                is_member: false,
            },
        };
        let mut first = local(5000);
        for (sequence, item, time, ttl) in [
            (1, "own", WALL - 4000, Some(10_000)),
            (2, "own", WALL - 3000, None),
            (3, "its stream's", WALL - 1000, None),
            (4, "past", WALL - 9000, None),
            (5, "for good", WALL - 9000, Some(0)),
        ] {
            first.shard.restore(put(sequence, item, time, ttl));
        }
        first.shard.restored(0);
        // What a snapshot of it holds is the same.
        let slice = first.shard.slice(
            Cursor::default(),
            SliceLimits {
                items: 2,
                bytes: 1000,
                groups: 9,
            },
        );
        let rest = SliceLimits {
            items: 99,
            bytes: 1000,
            groups: 9,
        };
        let more = first.shard.slice(slice.next.unwrap(), rest);
        let mut second = local(5000);
        for piece in slice.pieces.into_iter().chain(more.pieces) {
            second.shard.restore(Restored::Piece { sequence: 5, piece });
        }
        second.shard.restored(0);
        for mut local in [first, second] {
            let mut left = Vec::new();
            for at in [0, 3900, 4300, 6900, 7200] {
                let _ = turn(&mut local, at);
                (0..local.asked.len()).for_each(|_| drop(accept(&mut local)));
                let items = local.shard.slice(Cursor::default(), rest).pieces;
                left.push(items.iter().map(|piece| piece.items.len()).sum::<usize>());
            }
            assert_eq!(left, [3, 3, 2, 2, 1]);
        }
    }

    #[test]
    fn what_was_written_by_a_clock_that_was_ahead_lasts_no_longer_than_if_it_was_written_now() {
        const AHEAD: u64 = 3_600_000;
        for ttl in [Some(3000), None] {
            let put = || Restored::Put {
                sequence: 1,
                key: GroupKey::new("s", "g"),
                item: "i".into(),
                value: "1".into(),
                time: WALL + AHEAD,
                marks: Marks {
                    ttl: ttl.and_then(Ttl::of_ms),
                    is_member: false,
                },
            };
            let mut ahead = local(3000);
            ahead.shard.begin_at(WALL + AHEAD);
            ahead.shard.restore(put());
            ahead.shard.restored(0);
            let rest = SliceLimits {
                items: 99,
                bytes: 1000,
                groups: 9,
            };
            let mut of_log = local(3000);
            of_log.shard.restore(put());
            let mut of_snapshot = local(3000);
            for piece in ahead.shard.slice(Cursor::default(), rest).pieces {
                let restored = Restored::Piece { sequence: 1, piece };
                of_snapshot.shard.restore(restored);
            }
            for mut local in [of_log, of_snapshot] {
                local.shard.restored(0);
                assert_eq!(end_of(&mut local, 0), Some(3100));
            }
        }
    }
}
