//! The sweep: every socket that lacks something gets it, in one write, as far as the turn's budget
//! reaches. What one write takes where a socket has several groups stands in `plan`.

use std::io::IoSlice;
use std::sync::Arc;

use crate::id::{LocalGroupId, SlotId};

use super::budget::Budget;
use super::group::LocalGroup;
use super::list::{Joined, List};
use super::place::Place;
use super::plan::{emptied, shorten};
use super::reader::{Connections, MemberAt, Reader};
use super::socket::{Socket, Written};
use super::{Fanout, LAG_PARTS_OF_BOUND, Swept};

/// Watchers that are marked in one go.
const MARKS_AT_ONCE: usize = 64;
/// Frames that are forgotten in one go.
const FORGOTTEN_AT_ONCE: usize = 64;

impl Fanout {
    /// Goes on with the sweeps that are due, in turn, until the budget is spent.
    pub fn sweep<C: Connections>(&mut self, connections: &mut C, budget: &mut Budget) {
        self.marks = 0;
        self.look_at_held(connections);
        self.drop_some_kept(budget);
        self.go_on_afresh(connections, budget);
        while !budget.is_spent() {
            let is_seen_to = self.see_to_cohort(connections, budget);
            let Some(local) = self.due.pop_front() else {
                match is_seen_to {
                    true => continue,
                    false => break,
                }
            };
            self.joined.clear();
            let is_done = self.sweep_group(local, connections, budget);
            if !is_done {
                self.due.push_back(local);
            }
        }
    }

    /// Writes what the socket lacks and what waits for it, until it takes no more or the budget is
    /// spent: one write is always made, and what is left over is told in the outcome. Gives whether it
    /// took anything.
    pub fn drain<C: Connections>(
        &mut self,
        id: SlotId,
        connections: &mut C,
        budget: &mut Budget,
    ) -> bool {
        budget.visited();
        self.drain_within(id, connections, budget)
    }

    /// True when the group's sweep has ended.
    fn sweep_group<C: Connections>(
        &mut self,
        local: LocalGroupId,
        connections: &mut C,
        budget: &mut Budget,
    ) -> bool {
        let Some(group) = self.groups.get_mut(local) else {
            return true;
        };
        if !group.sweep.is_begun {
            self.lagging_len -= usize::from(group.sweep.take_lag());
            group.sweep.begin(group.list.end());
        }
        while !group.sweep.has_marked {
            if budget.is_spent() {
                return false;
            }
            match group.mark_some(MARKS_AT_ONCE) {
                Some(marked) => budget.marked(marked),
                None => group.have_marked(),
            }
        }
        while let Some(at) = self.groups.get(local).and_then(LocalGroup::next_visit) {
            if budget.is_spent() {
                return false;
            }
            budget.visited();
            self.visit(local, at, connections, budget);
        }
        self.compact(local, connections, budget) && self.end_sweep(local, budget)
    }

    /// Gives one socket what it lacks.
    fn visit<C: Connections>(
        &mut self,
        local: LocalGroupId,
        at: MemberAt,
        connections: &mut C,
        budget: &mut Budget,
    ) {
        let Some(group) = self.groups.get_mut(local) else {
            return;
        };
        let end = group.given_end(at);
        let before = group.next_of(at);
        let is_cohort = group.is_cohort();
        if before < end
            && let Some(connection) = group.place(at).map(|place| place.connection)
            && let Some((reader, socket)) = connections.parts(connection)
        {
            if reader.is_ending {
                group.pass_all(at); // what it lacked it will not get
            } else if reader.blocked {
                group.catch_up(at, |sync| reader.push_waited(sync));
                let next = group.next_of(at);
                if next < end {
                    reader.note_group(local);
                    self.check_behind(local, at, connection, connections);
                }
            } else if let (MemberAt::Members(index), true) = (at, reader.is_plain())
                && let Some(place) = group.members.get_mut(index as usize)
                && place.extra.is_none()
                && (is_cohort || !group.list.is_past(place.next))
                && let Some(written) = match is_cohort {
                    false => {
                        let joined = &mut self.joined;
                        Some(write_plain(
                            place,
                            &group.list,
                            joined,
                            reader,
                            socket,
                            budget,
                        ))
                    }
                    true => {
                        let lacking = (&mut *place, &group.list);
                        self.shared.serve(local);
                        self.shared.write(lacking, end, reader, socket, budget)
                    }
                }
            {
                let is_unfinished = place.next < end && written == Written::All;
                if place.next >= end {
                    reader.set_far_behind(false, &mut self.far_behind_len);
                }
                match written {
                    Written::Gone => self.outcome.gone.push(connection),
                    Written::All if is_unfinished => self.outcome.unfinished.push(connection),
                    Written::Part(taken) => {
                        let has_taken = taken > 0 || place.next > before;
                        self.blocked.push((connection, has_taken));
                    }
                    Written::All => {}
                }
                if is_unfinished {
                    self.check_behind(local, at, connection, connections);
                }
            } else {
                reader.note_group(local);
                self.drain_within(connection, connections, budget);
                self.check_behind(local, at, connection, connections);
            }
        }
        if let Some(group) = self.groups.get_mut(local) {
            let next = group.next_of(at);
            budget.passed(group.list.passed(before, next));
            let extra = group.place(at).and_then(|place| place.extra.as_ref());
            budget.compared_late(extra.map_or(0, |extra| extra.late_len()));
            group.sweep.slowest = group.sweep.slowest.min(next);
            group.pass_visit(at);
        }
    }

    /// True when nobody lacks what came meanwhile, and all that every place has passed is gone.
    fn end_sweep(&mut self, local: LocalGroupId, budget: &mut Budget) -> bool {
        let Some(group) = self.groups.get_mut(local) else {
            return true;
        };
        let LocalGroup { list, sweep, .. } = group;
        loop {
            let held_bytes = list.held_bytes();
            let is_done = list.forget_before(sweep.slowest, FORGOTTEN_AT_ONCE);
            self.held_bytes -= held_bytes - list.held_bytes();
            if is_done {
                break;
            }
            budget.kept(FORGOTTEN_AT_ONCE);
            if budget.is_spent() {
                return false;
            }
        }
        let events = sweep.fresh_to - sweep.fresh_from;
        if sweep.swept_us != 0 && events > 0 {
            // The lower half of the time is kept; what is swept now is not older than an hour.
            let age_us = (self.due_us as u32).wrapping_sub(sweep.swept_us);
            let due_us = self.due_us.saturating_sub(u64::from(age_us));
            self.swept.push(Swept { due_us, events });
        }
        sweep.is_begun = false;
        sweep.is_queued = sweep.is_outrun;
        group.let_fresh_go();
        let is_done = !group.sweep.is_queued;
        if is_done && group.is_cohort() {
            self.close_cohort(local);
        }
        is_done
    }

    /// Writes from the socket's queue and from the lists of its groups, in one vectored write after
    /// another, until it lacks nothing, takes no more, or the budget is spent.
    fn drain_within<C: Connections>(
        &mut self,
        id: SlotId,
        connections: &mut C,
        budget: &mut Budget,
    ) -> bool {
        let mut has_taken = false;
        let Some((reader, socket)) = connections.parts(id) else {
            return has_taken;
        };
        let syncs_room = self.syncs_room();
        let (groups, due, plan) = (&mut self.groups, &mut self.due, &mut self.plan);
        while !reader.blocked {
            plan.syncs_room = syncs_room;
            let looked_at_all = plan.look(groups, due, reader);
            self.outcome.stale.append(&mut plan.stale);
            for sync in plan.taken.drain(..) {
                self.held_syncs.add_own(id, &sync);
            }
            let mut slices = emptied(std::mem::take(&mut plan.slices));
            let mut covers_all = plan.fill(groups, reader, &mut slices) && looked_at_all;
            covers_all &= !shorten(&mut slices);
            let bytes = slices.iter().map(|slice| slice.len()).sum();
            let written = if bytes > 0 {
                let written = socket.write(&slices);
                budget.written(bytes);
                budget.tally.note_write(bytes, written);
                written
            } else {
                Written::All
            };
            plan.slices = emptied(slices);
            match written {
                Written::All => {
                    has_taken |= bytes > 0;
                    budget.tally.deliveries += plan.carry_out(bytes, groups, due, reader);
                }
                Written::Part(taken) => {
                    has_taken |= taken > 0;
                    self.blocked.push((id, has_taken));
                    reader.block();
                    budget.tally.deliveries += plan.carry_out(taken, groups, due, reader);
                }
                Written::Gone => {
                    reader.block();
                    self.outcome.gone.push(id);
                }
            }
            if written == Written::All && covers_all {
                reader.set_far_behind(false, &mut self.far_behind_len);
                plan.finish(groups, due, reader);
                return has_taken;
            }
            if written == Written::All && budget.is_spent() {
                self.outcome.unfinished.push(id);
                return has_taken;
            }
        }
        has_taken
    }
}

impl super::group::Sweep {
    fn begin(&mut self, end: u64) {
        *self = super::group::Sweep {
            is_queued: true,
            is_begun: true,
            slowest: end,
            fresh_from: self.fresh_to,
            fresh_to: end,
            swept_us: self.due_us,
            ..super::group::Sweep::default()
        };
    }

    /// So much has come that waits for its sweep; true when the group lags from here on.
    pub(super) fn note_lag(&mut self, bytes: usize, allowed: usize) -> bool {
        bytes > allowed / LAG_PARTS_OF_BOUND && !std::mem::replace(&mut self.is_lagging, true)
    }

    /// What came so far is nobody's worry any more; true when the group lagged.
    pub(super) fn take_lag(&mut self) -> bool {
        self.fresh_bytes = 0;
        std::mem::take(&mut self.is_lagging)
    }
}

/// The case that counts: one subscription, to a whole group, nothing else to send.
fn write_plain<S: Socket>(
    place: &mut Place,
    list: &List,
    joined: &mut Joined,
    reader: &mut Reader,
    socket: &mut S,
    budget: &mut Budget,
) -> Written {
    while place.next < list.end() {
        let (bytes, to) = joined.frames(list, place.next);
        let written = socket.write(&[IoSlice::new(bytes)]);
        budget.written(bytes.len());
        budget.tally.note_write(bytes.len(), written);
        match written {
            Written::All => {
                budget.tally.deliveries += to - place.next;
                place.next = to;
                if budget.is_spent() {
                    return written;
                }
            }
            Written::Part(mut taken) => {
                reader.block();
                let next = place.next;
                while let Some(frame) = list.frame(place.next) {
                    let len = frame.wire().len();
                    if taken < len {
                        if taken > 0 {
                            reader.push_rest(Arc::clone(frame), frame.kind(), taken);
                            place.next += 1;
                        }
                        break;
                    }
                    taken -= len;
                    place.next += 1;
                }
                budget.tally.deliveries += place.next - next;
                return written;
            }
            Written::Gone => {
                reader.block();
                return written;
            }
        }
    }
    Written::All
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::Entry;
    use crate::fanout::budget::{MARKED_WATCHERS, WRITE_UNITS};
    use crate::fanout::plan::{SLICES_MAX, WRITE_BYTES_MAX};
    use crate::fanout::test_local::Local;
    use crate::id::GroupKey;
    use crate::protocol::frame::{GroupNames, SyncFrame};
    use crate::protocol::pace::Pace;

    #[test]
    fn a_burst_reaches_several_subscriptions_of_a_socket_event_by_event() {
        let mut local = Local::new();
        let at = local.socket();
        let group = local.join(at, "a", "g", None);
        local.join(at, "b", "g", Some("u1"));
        local.join(at, "c", "g", None);
        local.event(group, Some("u1"));
        local.event(group, Some("u2"));
        local.event(group, None);
        local.event(group, Some("u1"));
        local.heard(at);
        let writes = local.fake(at).writes;
        local.sweep(1000);
        assert_eq!(local.heard(at), [4, 4, 4, 5, 5, 6, 6, 7, 7, 7]);
        assert_eq!(local.fake(at).writes, writes + 1);
    }

    /// Cuts what a socket hears at every byte, or at some where it is long; it hears the same.
    fn cut_everywhere(make: impl Fn(&mut Local, SlotId)) {
        cut_lanes_everywhere(|_| 0, make);
    }

    /// Likewise, where order holds within what has the same `lane` only.
    fn cut_lanes_everywhere(lane: impl Fn(u64) -> u64, make: impl Fn(&mut Local, SlotId)) {
        let run = |room: usize| {
            let mut local = Local::new();
            let at = local.socket();
            local.block(at, room);
            make(&mut local, at);
            local.sweep(1000);
            let len = local.fake(at).taken.len();
            local.unblock(at);
            assert_eq!(local.fanout.held_bytes(), 0);
            let mut heard = local.heard(at);
            heard.sort_by_key(|time| lane(*time));
            (len, heard)
        };
        let (len, whole) = run(usize::MAX);
        assert!(!whole.is_empty());
        for room in (0..=len).step_by(1 + len / 1500) {
            assert_eq!(run(room), (room, whole.clone()));
        }
    }

    #[test]
    fn a_reader_cut_at_every_byte_hears_everything_once() {
        // The reader that needs no more than its place.
        cut_everywhere(|local, at| {
            let group = local.join(at, "a", "g", None);
            for _ in 0..4 {
                local.event(group, Some("u1"));
            }
        });
        // Several frames of one event.
        cut_everywhere(|local, at| {
            let group = local.join(at, "a", "g", None);
            local.join(at, "b", "g", Some("u1"));
            local.event(group, Some("u1"));
            local.event(group, Some("u2"));
            local.event(group, Some("u1"));
        });
        // Two groups, in one vectored write.
        cut_everywhere(|local, at| {
            let first = local.join(at, "a", "g", None);
            let second = local.join(at, "b", "h", None);
            for group in [first, second, first] {
                local.event(group, None);
            }
        });
        // Many groups, more than one write's worth of frames, and a `sync` behind events.
        let group_of = |time| match time {
            1..=9 => time - 1,
            10..=18 => time - 10,
            19..=22 => time - 19,
            23 => 3,
            _ => (time - 24) % 9,
        };
        cut_lanes_everywhere(group_of, |local, at| {
            let groups: Vec<LocalGroupId> = (0..9)
                .map(|number| local.join(at, &format!("s{number}"), &format!("g{number}"), None))
                .collect();
            for group in groups.iter().chain(&groups[..4]) {
                local.event(*group, None);
            }
            local.sweep(1000);
            local.join(at, "t", "g3", Some("u1"));
            for group in groups.iter().cycle().take(70) {
                local.event(*group, Some("u1"));
            }
        });
        // A follower of single items, and events of others.
        cut_everywhere(|local, at| {
            let group = local.join(at, "a", "g", Some("u1"));
            for item in ["u2", "u1", "u2", "u1", "u2"] {
                local.event(group, Some(item));
            }
        });
    }

    #[test]
    fn a_sync_behind_older_events_waits_for_them_wherever_the_socket_blocked() {
        for room in 0..300 {
            let mut local = Local::new();
            let at = local.socket();
            let group = local.join(at, "a", "g", None); // time 1
            local.heard(at);
            local.block(at, room);
            local.event(group, Some("u1")); // 2
            local.event(group, Some("u1")); // 3
            local.sweep(1000);
            local.join(at, "b", "g", Some("u1")); // 4
            local.event(group, Some("u1")); // 5
            local.sweep(1000);
            local.unblock(at);
            assert_eq!(
                local.heard(at),
                [2, 3, 4, 5, 5],
                "blocked after {room} bytes"
            );
        }
    }

    #[test]
    fn members_that_leave_in_mid_sweep_let_everyone_be_visited_once() {
        for leaving in 0..10 {
            let mut local = Local::new();
            let sockets: Vec<SlotId> = (0..10).map(|_| local.socket()).collect();
            let mut group = None;
            for at in &sockets {
                group = Some(local.join(*at, "a", "g", None));
                local.heard(*at);
            }
            local.event(group.unwrap(), None); // 11
            local.sweep(5);
            local.leave(sockets[leaving], "a");
            local.fanout.check_invariants(&mut local.sockets);
            while local.fanout.is_due() {
                local.sweep(2);
            }
            for (number, at) in sockets.iter().enumerate() {
                let writes = local.fake(*at).writes;
                if number != leaving {
                    assert_eq!((local.heard(*at), writes), (vec![11], 2));
                }
            }
        }
    }

    #[test]
    fn frames_that_come_in_mid_sweep_make_later_writes_larger_and_start_no_second_sweep() {
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..9).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &sockets {
            group = Some(local.join(*at, "a", "g", None));
            local.heard(*at);
            local.fake(*at).writes = 0;
        }
        let group = group.unwrap();
        let mut all = Vec::new();
        for _ in 0..3 {
            local.event(group, None);
            all.push(local.time);
            local.sweep(3);
            assert!(local.fanout.is_due());
            assert_eq!(local.fanout.due.len(), 1);
        }
        let writes = |local: &mut Local, at: &SlotId| local.fake(*at).writes;
        let total: usize = sockets.iter().map(|at| writes(&mut local, at)).sum();
        assert!(total <= 9, "a turn's budget is kept");
        while local.fanout.is_due() {
            local.sweep(3);
        }
        let counts: Vec<usize> = sockets.iter().map(|at| writes(&mut local, at)).collect();
        assert!(counts.iter().all(|writes| *writes <= 2), "{counts:?}");
        for at in &sockets {
            assert_eq!(local.heard(*at), all);
        }
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    /// What a socket hears without a sweep.
    fn drained(local: &mut Local, at: SlotId) -> Vec<u64> {
        let mut budget = Budget::of_writes(1000);
        local.fanout.drain(at, &mut local.sockets, &mut budget);
        local.heard(at)
    }

    #[test]
    fn who_no_longer_follows_the_group_has_the_custom_events_of_its_items_still() {
        let mut local = Local::with_bound(1 << 30);
        let at = local.socket();
        let group = local.join(at, "all", "g", None);
        for n in 0..=super::super::MOVED_ITEMS_MAX {
            local.join(at, &n.to_string(), "g", Some(&format!("u{n}")));
        }
        local.leave(at, "all");
        local.heard(at);
        local.block(at, 0);
        local.fanout.bounds.reader = 0;
        local.fanout.bounds.custom_events = 5;
        local.event(group, Some("u0"));
        local.event(group, Some("u1"));
        for _ in 0..50 {
            local.event(group, Some("other"));
            local.sweep(1000);
        }
        local.unblock(at);
        assert_eq!(local.heard_kinds(at), ["u0 event", "u1 event"]);
        local.sweep(1000);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn an_event_of_an_item_with_very_many_watchers_marks_them_in_the_sweeps_budget() {
        const WATCHERS: usize = 3000;
        let mut local = Local::new();
        let mut sockets: Vec<SlotId> = (0..WATCHERS).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &sockets {
            group = Some(local.join(*at, "a", "g", Some("u")));
            local.heard(*at);
        }
        let group = group.unwrap();
        let due_len = |local: &Local| {
            let watchers = local.fanout.groups.get(group).unwrap().watchers();
            watchers.map_or(0, |watchers| watchers.due_len())
        };
        let first = local.time + 1;
        local.event(group, Some("u"));
        assert_eq!(due_len(&local), 0, "the event marks nobody");
        let mut turns = 0;
        let mut wanted = vec![first];
        while local.fanout.is_due() {
            let before = due_len(&local);
            let mut budget = Budget::of_writes(1);
            local.fanout.sweep(&mut local.sockets, &mut budget);
            budget.check(1000);
            let most = WRITE_UNITS * MARKED_WATCHERS + MARKS_AT_ONCE;
            assert!(due_len(&local) <= before + most);
            turns += 1;
            if turns == 20 {
                // Some are marked, and others not: they leave, come, lose bytes, and more happens.
                assert!((1..WATCHERS).contains(&due_len(&local)));
                for n in [WATCHERS - 1, WATCHERS / 2, 7, 0] {
                    local.leave(sockets[n], "a");
                    sockets.swap_remove(n);
                }
                let late = local.socket();
                local.join(late, "a", "g", Some("u"));
                let sync = local.heard(late);
                assert!(sync[0] > first, "what came before it is not for it");
                for _ in 0..2 {
                    wanted.push(local.time + 1);
                    local.event(group, Some("u"));
                }
                local.event(group, Some("v"));
                local.fanout.check_invariants(&mut local.sockets);
                assert_eq!(drained(&mut local, late), wanted[1..]);
            }
        }
        assert!(turns > WATCHERS, "{turns} turns");
        for at in sockets {
            assert_eq!(local.heard(at), wanted);
        }
        local.fanout.check_invariants(&mut local.sockets);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn one_socket_takes_no_more_of_a_turn_than_there_is() {
        let mut local = Local::new();
        let (at, other) = (local.socket(), local.socket());
        let mut group = None;
        for n in 0..1000 {
            group = Some(local.join(at, &n.to_string(), "g", None));
        }
        let others = local.join(other, "a", "h", None);
        let writes = local.fake(at).writes;
        local.heard(at);
        local.heard(other);
        local.event(group.unwrap(), None);
        local.event(others, None);
        local.sweep(2);
        let first = local.heard(at).len();
        assert!(first <= 2 * SLICES_MAX && first > 0, "{first}");
        assert_eq!(local.fanout.take_outcome().unfinished, [at]);
        local.sweep(2);
        assert_eq!(local.heard(other).len(), 1, "others have their turns");
        let mut turns = 0;
        let mut heard = first;
        while local.fanout.held_bytes() > 0 {
            let mut budget = Budget::of_writes(2);
            local.fanout.drain(at, &mut local.sockets, &mut budget);
            local.sweep(2);
            heard += local.heard(at).len();
            turns += 1;
        }
        assert_eq!(heard, 1000, "each of its subscriptions, once");
        let writes = local.fake(at).writes - writes;
        assert!(writes <= 2 * (turns + 1), "{writes} in {turns} turns");
    }

    #[test]
    fn a_subscription_that_leaves_between_two_frames_of_an_event_takes_no_later_one_along() {
        let mut local = Local::new();
        let at = local.socket();
        let group = local.join(at, "a", "g", None);
        local.join(at, "b", "g", None);
        local.heard(at);
        let len = local.event(group, None); // 3
        local.block(at, len);
        local.sweep(1000);
        local.leave(at, "b");
        local.unblock(at);
        local.event(group, None); // 4
        local.sweep(1000);
        local.event(group, None); // 5
        local.sweep(1000);
        assert_eq!(local.heard(at), [3, 4, 5]);
    }

    #[test]
    fn a_long_sync_is_written_in_pieces_and_takes_as_many_turns() {
        let mut local = Local::new();
        let at = local.socket();
        let key = GroupKey::new("s", "g");
        let part = format!(",\"{}\"", "x".repeat(64 * 1024));
        let parts = (0..60).map(|_| part.as_str().into()).collect();
        let sync = SyncFrame::of_group(&GroupNames::new(&key), 1, parts);
        let len = sync.len();
        let group = local.fanout.begin_join(&key);
        let entry = Entry {
            id: "a".into(),
            item: None,
            sync: Some(Arc::new(sync)),
            pace: Pace::NONE,
        };
        local.fanout.enter(at, group, entry, &mut local.sockets);
        let mut turns = 0;
        while local.fake(at).taken.len() < len {
            turns += 1;
            assert!(turns < 100, "it stands still");
            let mut budget = Budget::of_writes(64);
            local.fanout.drain(at, &mut local.sockets, &mut budget);
            let _ = local.fanout.take_outcome();
        }
        assert!(turns >= len / (WRITE_BYTES_MAX + part.len()), "{turns}");
        let longest = local.fake(at).longest;
        assert!(longest < WRITE_BYTES_MAX + part.len(), "{longest}");
    }

    #[test]
    fn a_sync_behind_frames_that_are_for_nobody_any_more_is_sent() {
        let mut local = Local::new();
        let at = local.socket();
        let group = local.join(at, "a", "g", None);
        local.heard(at);
        local.block(at, 0);
        local.event(group, Some("u1"));
        local.sweep(1000);
        local.join(at, "b", "g", Some("u1")); // 3
        local.leave(at, "a");
        local.unblock(at);
        assert_eq!(local.heard(at), [3]);
    }

    #[test]
    fn syncs_of_a_group_go_out_in_the_order_of_the_joins() {
        let mut local = Local::new();
        let at = local.socket();
        let group = local.join(at, "a", "g", None);
        local.heard(at);
        local.block(at, 0);
        local.event(group, None); // 2
        local.sweep(1000);
        local.join(at, "b", "g", None); // 3
        local.unblock_for(at, 10);
        local.join(at, "c", "g", None); // 4, when nothing but the rest of 2 is before the sync of b
        local.unblock(at);
        assert_eq!(local.heard(at), [2, 3, 4]);
    }

    #[test]
    fn what_a_socket_of_many_groups_is_sent_costs_what_it_lacks() {
        let mut local = Local::new();
        let at = local.socket();
        let groups: Vec<LocalGroupId> = (0..50)
            .map(|number| local.join(at, &format!("s{number}"), &format!("g{number}"), None))
            .collect();
        local.heard(at);
        let looked_at = |local: &mut Local| {
            let (reader, _) = local.sockets.slots.get(at).unwrap();
            (0..).map_while(|number| reader.candidate(number)).count()
        };
        assert_eq!(looked_at(&mut local), 0);
        local.block(at, 0);
        for group in &groups[10..15] {
            local.event(*group, None);
        }
        local.sweep(1000);
        assert_eq!(looked_at(&mut local), 5);
        local.leave(at, "s12");
        local.join(at, "t", "g13", None);
        assert_eq!(looked_at(&mut local), 4);
        local.unblock(at);
        assert_eq!(looked_at(&mut local), 0);
        assert_eq!(local.fanout.held_bytes(), 0);
        let mut heard = local.heard(at);
        heard.sort_unstable();
        assert_eq!(heard, [51, 52, 54, 55, 56]);
        for number in (0..50).filter(|number| *number != 12) {
            local.leave(at, &format!("s{number}"));
            local.fanout.check_invariants(&mut local.sockets);
        }
        local.leave(at, "t");
        assert_eq!(local.fanout.groups_len(), 0);
    }

    #[test]
    fn bytes_queued_for_one_socket_are_known() {
        let mut local = Local::new();
        let at = local.socket();
        let queue_bytes = |local: &mut Local| {
            local.fanout.check_invariants(&mut local.sockets);
            local.sockets.slots.get(at).unwrap().0.queue_bytes()
        };
        let group = local.join(at, "a", "g", None);
        let sync_len = local.fake(at).taken.len();
        assert_eq!(queue_bytes(&mut local), 0);
        local.block(at, 10);
        local.event(group, None);
        local.sweep(1000);
        assert_eq!(queue_bytes(&mut local), 0, "a rest of an event is shared");
        local.event(group, None);
        local.sweep(1000);
        local.join(at, "b", "g", None);
        assert_eq!(queue_bytes(&mut local), sync_len, "it waits in its place");
        let reader = |local: &mut Local, push: fn(&mut Reader)| {
            push(&mut local.sockets.slots.get_mut(at).unwrap().0);
        };
        reader(&mut local, |reader| reader.push_own(Box::new([0; 7])));
        reader(&mut local, |reader| reader.push_pong(Box::new([0; 5])));
        reader(&mut local, |reader| reader.push_pong(Box::new([0; 3])));
        assert_eq!(queue_bytes(&mut local), sync_len + 10, "one pong counts");
        local.end(at);
        reader(&mut local, |reader| reader.push_last(Box::new([0; 2])));
        assert_eq!(queue_bytes(&mut local), 2);
        local.unblock(at);
        assert_eq!(queue_bytes(&mut local), 0);
    }

    #[test]
    fn frames_go_with_the_last_reader_that_lacked_them() {
        let mut local = Local::new();
        let (slow, fast) = (local.socket(), local.socket());
        let group = local.join(slow, "a", "g", None);
        local.join(fast, "a", "g", None);
        local.block(slow, 0);
        local.event(group, None);
        local.sweep(1000);
        assert!(local.fanout.held_bytes() > 0);
        local.end(slow);
        local.sweep(1000);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn frames_go_when_a_reader_catches_up_in_the_middle_of_the_sweep_that_found_it_behind() {
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..6).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &sockets {
            group = Some(local.join(*at, "a", "g", None));
        }
        local.block(sockets[0], 0);
        local.event(group.unwrap(), None);
        local.sweep(1000);
        local.event(group.unwrap(), None);
        local.sweep(2); // the blocked one has been visited, and not everyone else
        assert!(local.fanout.is_due());
        local.unblock(sockets[0]);
        assert!(!local.fanout.is_due());
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn a_group_lags_until_the_sweep_of_what_came_begins() {
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..4).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &sockets {
            group = Some(local.join(*at, "a", "g", None));
        }
        let group = group.unwrap();
        let len = local.event(group, None);
        local.fanout.bounds.reader = 2 * len * LAG_PARTS_OF_BOUND;
        local.sweep(2);
        local.event(group, None);
        local.event(group, None);
        assert!(!local.fanout.is_lagging(), "so much may come");
        local.event(group, None);
        assert!(local.fanout.is_lagging());
        local.sweep(1);
        assert!(local.fanout.is_lagging(), "the first sweep goes on");
        local.sweep(4);
        assert!(!local.fanout.is_lagging(), "what came is being swept");
        for _ in 0..3 {
            local.event(group, None);
        }
        assert!(local.fanout.is_lagging());
        local.fanout.begin_join(&GroupKey::new("s", "g"));
        for at in &sockets {
            local.end(*at);
        }
        assert!(
            !local.fanout.is_lagging(),
            "nobody is left to lack anything"
        );
        local.sweep(1000);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn a_list_is_bounded_while_a_large_room_is_swept_slower_than_frames_come() {
        let mut local = Local::new();
        let sockets: Vec<SlotId> = (0..200).map(|_| local.socket()).collect();
        let mut group = None;
        for at in &sockets {
            group = Some(local.join(*at, "a", "g", None));
        }
        let group = group.unwrap();
        let len = local.event(group, None);
        let bound = 40 * len;
        local.fanout.bounds.reader = bound;
        let mut came = 0;
        for _ in 0..2000 {
            while !local.fanout.is_lagging() {
                local.event(group, None);
                came += 1;
            }
            local.sweep(5);
            assert!(local.fanout.held_bytes() <= 2 * (bound / LAG_PARTS_OF_BOUND + len));
        }
        assert!(local.fanout.take_outcome().slow.is_empty());
        assert!(came >= 200, "it goes on: {came}");
    }
}
