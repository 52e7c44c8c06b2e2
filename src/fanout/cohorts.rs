//! Subscriptions with a pace: every event of a group goes into the lists of its cohorts as well, and waits
//! there until the cohort is due. Then all of its places are brought up to date by item.
//!
//! May not know a clock: the time is handed in.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::id::LocalGroupId;
use crate::protocol::frame::EventFrame;
use crate::protocol::pace::Pace;

use super::Fanout;
use super::budget::Budget;
use super::compaction::PARTS_OF_BOUND;
use super::group::LocalGroup;
use super::pace::{Cohort, Paced};
use super::reader::{Connections, MemberAt};

/// A group with so many cohorts takes no further pace as it is: each cohort has its own list.
const EXACT_MAX: usize = 16;

/// All cohorts, and when they are due.
#[derive(Default)]
pub(super) struct Cohorts {
    /// The time of this turn, in µs since some moment.
    pub(super) now_us: u64,
    /// Those that wait, each once or not at all.
    waiting: BTreeSet<(u64, LocalGroupId)>,
    /// Those of which frames are to be kept by item, each once.
    queue: VecDeque<LocalGroupId>,
    /// How many there are.
    pub(super) len: usize,
    /// Subscriptions in them.
    pub(super) subscriptions_len: usize,
}

impl Cohorts {
    /// Whether none has something to be done now.
    pub(super) fn rest(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Fanout {
    /// A turn begins at that time, in µs since the moment from which the times of events count.
    pub fn begin_turn(&mut self, now_us: u64) {
        self.cohorts.now_us = now_us;
        while let Some((due_us, local)) = self.cohorts.waiting.first().copied()
            && due_us <= now_us
        {
            self.cohorts.waiting.pop_first();
            let group = self.groups.get_mut(local);
            if let Some(cohort) = group.and_then(LocalGroup::cohort_mut) {
                cohort.is_due = true;
                self.queue_cohort(local);
            }
        }
    }

    /// When a subscription with a pace may be written to next, if it lacks something.
    pub fn next_due_us(&self) -> Option<u64> {
        self.cohorts.waiting.first().map(|(due_us, _)| *due_us)
    }

    /// Subscriptions with a pace.
    pub fn paced_len(&self) -> usize {
        self.cohorts.subscriptions_len
    }

    /// A join to the group goes to its cohort of that pace; among very many paces, of one a little slower.
    pub(super) fn move_join(&mut self, local: LocalGroupId, mut pace: Pace) -> LocalGroupId {
        let Some(group) = self.groups.get(local) else {
            return local;
        };
        if group.cohort_of(pace).is_none() && group.cohorts().len() >= EXACT_MAX {
            pace = pace.rounded_up();
        }
        let cohort = match group.cohort_of(pace) {
            Some(cohort) => cohort,
            None => {
                let mut cohort = LocalGroup::new(group.key.clone(), group.hash);
                let paced = Paced::Cohort(Cohort::new((local, group.hash), pace));
                cohort.paced = Some(Box::new(paced));
                let cohort = self.groups.insert(cohort);
                self.cohorts.len += 1;
                if let Some(group) = self.groups.get_mut(local) {
                    group.add_cohort(pace, cohort);
                }
                cohort
            }
        };
        if let Some(cohort) = self.groups.get_mut(cohort) {
            cohort.joins += 1;
        }
        self.end_join(local);
        cohort
    }

    /// An event of the group came: it goes to its cohorts.
    pub(super) fn append_to_cohorts(&mut self, local: LocalGroupId, frame: &Arc<EventFrame>) {
        let cohort_at = |fanout: &Fanout, number| {
            let group = fanout.groups.get(local)?;
            group.cohorts().get(number).map(|(_, cohort)| *cohort)
        };
        let mut number = 0;
        while let Some(cohort) = cohort_at(self, number) {
            self.append(cohort, Arc::clone(frame));
            number += 1;
        }
    }

    /// An event came into a cohort.
    pub(super) fn append_paced(&mut self, local: LocalGroupId, frame: Arc<EventFrame>) {
        let kept_from = self.allowed_bytes() / PARTS_OF_BOUND;
        let Some(group) = self.groups.get_mut(local) else {
            return;
        };
        let number = group.list.end();
        self.marks += group.note_event(frame.item(), number);
        if group.lacks_nothing() {
            return;
        }
        self.held_bytes += frame.wire().len();
        group.list.append(frame);
        let bytes = group.list.bytes_since_kept();
        self.lagging_len += usize::from(group.sweep.note_lag(bytes, self.bounds.reader));
        let Some(cohort) = group.cohort_mut() else {
            return;
        };
        let had_news = std::mem::replace(&mut cohort.has_news, true);
        if !had_news && !cohort.is_sweeping {
            cohort.is_due = cohort.due_us <= self.cohorts.now_us;
            if !cohort.is_due {
                self.cohorts.waiting.insert((cohort.due_us, local));
            }
        }
        if cohort.is_due || bytes > kept_from {
            self.queue_cohort(local);
        }
    }

    fn queue_cohort(&mut self, local: LocalGroupId) {
        let group = self.groups.get_mut(local);
        if let Some(cohort) = group.and_then(LocalGroup::cohort_mut)
            && !cohort.is_queued
        {
            cohort.is_queued = true;
            self.cohorts.queue.push_back(local);
        }
    }

    /// Keeps by item what has come into a cohort, and opens it if it is due; false when there is none to be
    /// seen to.
    pub(super) fn see_to_cohort<C: Connections>(
        &mut self,
        connections: &mut C,
        budget: &mut Budget,
    ) -> bool {
        let Some(local) = self.cohorts.queue.pop_front() else {
            return false;
        };
        if let Some(group) = self.groups.get_mut(local) {
            group.is_to_compact = true;
        }
        if !self.compact(local, connections, budget) {
            self.cohorts.queue.push_back(local);
            return true;
        }
        let now_us = self.cohorts.now_us;
        let Some(group) = self.groups.get_mut(local) else {
            return true;
        };
        self.lagging_len -= usize::from(group.sweep.take_lag());
        let end = group.list.end();
        let Some(cohort) = group.cohort_mut() else {
            return true;
        };
        cohort.is_queued = false;
        if cohort.is_due {
            cohort.open(end, now_us);
            group.sweep.note_due(now_us);
            self.make_due(local);
        }
        true
    }

    /// Everyone in the group, if it is a cohort, has been given what may be given.
    pub(super) fn close_cohort(&mut self, local: LocalGroupId) {
        let now_us = self.cohorts.now_us;
        let group = self.groups.get_mut(local);
        if let Some(cohort) = group.and_then(LocalGroup::cohort_mut)
            && cohort.is_sweeping
        {
            cohort.close(now_us);
            if cohort.has_news {
                self.cohorts.waiting.insert((cohort.due_us, local));
            }
        }
    }

    /// A subscription left that group.
    pub(super) fn count_left(&mut self, local: LocalGroupId) {
        let is_cohort = self.groups.get(local).is_some_and(LocalGroup::is_cohort);
        self.cohorts.subscriptions_len -= usize::from(is_cohort);
    }
}

impl LocalGroup {
    /// Its cohorts, by their paces.
    pub(super) fn cohorts(&self) -> &[(Pace, LocalGroupId)] {
        match self.paced.as_deref() {
            Some(Paced::Group(cohorts)) => cohorts,
            Some(Paced::Cohort(_)) | None => &[],
        }
    }

    fn cohort_of(&self, pace: Pace) -> Option<LocalGroupId> {
        let found = self.cohorts().iter().find(|(of, _)| *of == pace);
        found.map(|(_, cohort)| *cohort)
    }

    pub(super) fn add_cohort(&mut self, pace: Pace, cohort: LocalGroupId) {
        let none = || Box::new(Paced::Group(Vec::with_capacity(1)));
        if let Paced::Group(cohorts) = &mut **self.paced.get_or_insert_with(none) {
            cohorts.push((pace, cohort));
        }
    }

    pub(super) fn remove_cohort(&mut self, cohort: LocalGroupId) {
        if let Some(Paced::Group(cohorts)) = self.paced.as_deref_mut() {
            cohorts.retain(|(_, found)| *found != cohort);
            if cohorts.is_empty() {
                self.paced = None;
            }
        }
    }

    pub(super) fn cohort(&self) -> Option<&Cohort> {
        match self.paced.as_deref() {
            Some(Paced::Cohort(cohort)) => Some(cohort),
            Some(Paced::Group(_)) | None => None,
        }
    }

    pub(super) fn cohort_mut(&mut self) -> Option<&mut Cohort> {
        match self.paced.as_deref_mut() {
            Some(Paced::Cohort(cohort)) => Some(cohort),
            Some(Paced::Group(_)) | None => None,
        }
    }

    pub(super) fn is_cohort(&self) -> bool {
        self.cohort().is_some()
    }

    /// The frames before this one may be given to that place.
    pub(super) fn given_end(&self, at: MemberAt) -> u64 {
        let end = self.list.end();
        let Some(cohort) = self.cohort() else {
            return end;
        };
        // A `sync` does not wait, and takes along what goes before it.
        let before = self.next_sync(at).unwrap_or(0);
        before.max(cohort.open_to).min(end)
    }

    /// Whether nothing may be given to that place, which is in a cohort, until this is opened.
    pub(super) fn is_held(&self, at: MemberAt) -> bool {
        self.next_sync(at).is_none() && self.next_of(at) >= self.given_end(at)
    }

    fn next_sync(&self, at: MemberAt) -> Option<u64> {
        self.place(at)?.extra.as_ref()?.next_sync()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;
    use crate::fanout::test_local::Local;
    use crate::id::{GroupKey, SlotId};
    use crate::protocol::frame::Event;

    const PACE_US: u64 = 50_000;

    /// Begins a turn at that time and makes it.
    fn turn(local: &mut Local, now_us: u64) {
        local.fanout.begin_turn(now_us);
        local.sweep(1000);
    }

    fn heard(local: &mut Local, at: SlotId) -> Vec<String> {
        local.heard_kinds(at)
    }

    fn paced(local: &mut Local) {
        local.pace = Pace::of_ms(PACE_US / 1000).unwrap();
    }

    /// Joins the whole of a group with the pace, and has taken the `sync`.
    fn join(local: &mut Local, at: SlotId) -> LocalGroupId {
        paced(local);
        let group = local.join(at, "a", "g", None);
        assert_eq!(heard(local, at), ["- sync"]);
        group
    }

    #[test]
    fn the_first_event_goes_at_once_and_then_each_item_once_a_pace() {
        let mut local = Local::new();
        let (slow, fast) = (local.socket(), local.socket());
        let group = join(&mut local, slow);
        local.pace = Pace::NONE;
        local.join(fast, "a", "g", None);
        heard(&mut local, fast);
        turn(&mut local, 1_000_000);
        local.tell(group, Some("u"), Event::Create("1"));
        local.tell(group, Some("v"), Event::Create("1"));
        local.sweep(1000);
        assert_eq!(heard(&mut local, slow), ["u create", "v create"]);
        for n in 0..10 {
            turn(&mut local, 1_000_100 + n * 1000);
            local.tell(group, Some("u"), Event::Update("1"));
            local.event(group, None);
            local.sweep(1000);
            assert_eq!(heard(&mut local, slow), [""; 0], "it is not due");
        }
        assert_eq!(heard(&mut local, fast).len(), 22, "nobody else waits");
        let due_us = local.fanout.next_due_us().unwrap();
        assert!((1_000_000 + PACE_US..1_000_000 + PACE_US * 17 / 16 + 1).contains(&due_us));
        turn(&mut local, due_us - 1);
        assert_eq!(heard(&mut local, slow), [""; 0]);
        let writes = local.sockets.slots.get(slow).unwrap().1.writes;
        turn(&mut local, due_us);
        assert_eq!(local.sockets.slots.get(slow).unwrap().1.writes, writes + 1);
        let last = heard(&mut local, slow);
        assert_eq!(last.iter().filter(|frame| *frame == "- event").count(), 10);
        assert_eq!(last.iter().filter(|frame| *frame == "u update").count(), 1);
        assert_eq!(last.len(), 11);
        assert_eq!(
            (local.fanout.held_bytes(), local.fanout.next_due_us()),
            (0, None)
        );
        turn(&mut local, due_us + 10 * PACE_US);
        local.tell(group, Some("u"), Event::Delete("1"));
        local.sweep(1000);
        assert_eq!(heard(&mut local, slow), ["u delete"], "it was quiet");
    }

    #[test]
    fn what_came_between_is_what_it_is_to_who_heard_nothing_of_it() {
        let mut local = Local::new();
        let at = local.socket();
        let group = join(&mut local, at);
        turn(&mut local, 1_000_000);
        for item in ["there", "gone", "anew"] {
            local.tell(group, Some(item), Event::Create("1"));
        }
        local.sweep(1000);
        heard(&mut local, at);
        local.tell(group, Some("there"), Event::Update("2"));
        local.tell(group, Some("there"), Event::Update("3"));
        local.tell(group, Some("gone"), Event::Update("2"));
        local.tell(group, Some("gone"), Event::Delete("2"));
        local.tell(group, Some("anew"), Event::Delete("1"));
        local.tell(group, Some("anew"), Event::Create("2"));
        local.tell(group, Some("new"), Event::Create("1"));
        local.tell(group, Some("new"), Event::Update("2"));
        local.tell(group, Some("never"), Event::Create("1"));
        // Who joins in between holds what was there then.
        let other = local.socket();
        join(&mut local, other);
        local.tell(group, Some("new"), Event::Update("3"));
        local.tell(group, Some("never"), Event::Delete("1"));
        let due_us = local.fanout.next_due_us().unwrap();
        turn(&mut local, due_us);
        let mut first = heard(&mut local, at);
        first.sort_unstable();
        assert_eq!(
            first,
            ["anew update", "gone delete", "new create", "there update"]
        );
        assert_eq!(heard(&mut local, other), ["new update", "never delete"]);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn a_sync_does_not_wait_and_takes_along_what_goes_before_it() {
        let mut local = Local::new();
        let at = local.socket();
        let group = join(&mut local, at);
        turn(&mut local, 1_000_000);
        local.tell(group, Some("u"), Event::Create("1"));
        local.sweep(1000);
        local.tell(group, Some("u"), Event::Update("2"));
        local.sweep(1000);
        heard(&mut local, at);
        local.join(at, "b", "g", Some("v"));
        assert_eq!(heard(&mut local, at), ["u update", "v sync"]);
        local.join(at, "c", "h", None);
        assert_eq!(heard(&mut local, at), ["- sync"]);
    }

    #[test]
    fn a_socket_follows_a_group_at_the_pace_of_what_it_follows_there_already() {
        let mut local = Local::new();
        let (at, other) = (local.socket(), local.socket());
        let group = join(&mut local, at);
        local.pace = Pace::NONE;
        local.join(at, "b", "g", Some("u"));
        local.join(other, "a", "g", None);
        let len = |local: &Local| (local.fanout.paced_len(), local.fanout.subscriptions_len());
        assert_eq!(len(&local), (2, 3), "neither is another socket's");
        // In the place of its only subscription stands one of another pace.
        local.leave(at, "b");
        local.join(at, "a", "g", None);
        assert_eq!(len(&local), (0, 2));
        paced(&mut local);
        local.join(at, "b", "g", None);
        assert_eq!(len(&local), (0, 3));
        local.leave(at, "a");
        local.join(at, "b", "g", Some("v"));
        assert_eq!(len(&local), (1, 2));
        turn(&mut local, 1_000_000);
        local.tell(group, Some("v"), Event::Create("1"));
        local.sweep(1000);
        local.tell(group, Some("v"), Event::Update("2"));
        local.sweep(1000);
        assert!(heard(&mut local, at).ends_with(&["v create".to_owned()]));
        assert!(heard(&mut local, other).ends_with(&["v update".to_owned()]));
    }

    #[test]
    fn a_cohort_goes_with_its_last_subscription_and_the_group_with_its_last_cohort() {
        let mut local = Local::new();
        let (at, other) = (local.socket(), local.socket());
        let group = join(&mut local, at);
        local.join(at, "b", "g", Some("u"));
        local.pace = Pace::of_ms(7).unwrap();
        local.join(other, "a", "g", None);
        assert_eq!(
            (local.fanout.paced_len(), local.fanout.groups_len()),
            (3, 1)
        );
        assert_eq!(local.fanout.followers(&GroupKey::new("s", "g")), 2);
        local.event(group, None);
        local.leave(at, "a");
        local.leave(at, "b");
        assert!(local.fanout.take_outcome().left.is_empty());
        local.end(other);
        assert_eq!(
            (local.fanout.paced_len(), local.fanout.groups_len()),
            (0, 0)
        );
        assert_eq!(local.fanout.take_outcome().left.len(), 1);
        turn(&mut local, 2_000_000);
        assert_eq!(
            (local.fanout.held_bytes(), local.fanout.next_due_us()),
            (0, None)
        );
    }

    #[test]
    fn a_reader_that_takes_little_is_brought_up_to_date_and_holds_up_nobody() {
        let mut local = Local::new();
        let (blocked, other) = (local.socket(), local.socket());
        let group = join(&mut local, blocked);
        join(&mut local, other);
        local.block(blocked, 10);
        let mut now_us = 1_000_000;
        for n in 0..50 {
            let (item, value) = (format!("u{}", n % 7), n.to_string());
            turn(&mut local, now_us);
            let event = match n < 7 {
                true => Event::Create(&value),
                false => Event::Update(&value),
            };
            local.tell(group, Some(&item), event);
            local.sweep(1000);
            assert_eq!(heard(&mut local, other).len(), 1);
            now_us += 2 * PACE_US;
        }
        assert_eq!(local.fanout.next_due_us(), None);
        local.unblock(blocked);
        let heard = heard(&mut local, blocked);
        assert_eq!(heard.len(), 8, "{heard:?}: one had begun");
        turn(&mut local, now_us);
        assert_eq!(local.fanout.held_bytes(), 0);
    }

    #[test]
    fn very_many_paces_of_one_group_share_cohorts_that_are_no_faster() {
        let mut local = Local::new();
        let mut group = None;
        for ms in 1..=Pace::MS_MAX {
            if ms > 500 && ms % 97 != 0 && ms != Pace::MS_MAX {
                continue;
            }
            let at = local.socket();
            local.pace = Pace::of_ms(ms).unwrap();
            group = Some(local.join(at, "a", "g", None));
            let (reader, _) = local.sockets.parts(at).unwrap();
            let cohort = reader.memberships[0].local;
            let all = local.fanout.groups.get(group.unwrap()).unwrap().cohorts();
            let (given, _) = all.iter().find(|(_, of)| *of == cohort).unwrap();
            assert!((ms..2 * ms).contains(&given.ms()), "{ms}: {}", given.ms());
        }
        let group = local.fanout.groups.get(group.unwrap()).unwrap();
        let cohorts = group.cohorts().len();
        assert!(cohorts <= EXACT_MAX + 13, "{cohorts}");
    }
}
