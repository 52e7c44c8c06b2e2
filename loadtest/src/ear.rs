//! What the subscribers of one client thread must hear, and whether they did.
//!
//! A subscriber follows its group's transcript while it is sent the same bytes as the others before it,
//! and is judged by itself from the first frame on that differs or lacks. May not touch a socket.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::check::audit::FOREIGN;
use crate::check::checker;
use crate::check::faults::{Fault, excerpt};
use crate::check::received::{Batch, Received};
use crate::client::{Ear, wall_ms};
use crate::event::{EventReader, Heard};
use crate::followed::Followed;
use crate::pace::Arrivals;
use crate::plan::Plan;
use crate::scenario::{Shared, Window};
use crate::stamp::Stamp;
use crate::subscription::{Alone, Group, Place, Subscription, Sync, count, is_behind_sync};
use crate::transcript::{self, Change};
use crate::wire::Message;

/// Clocks of two machines differ by less: a time that is further from ours is none that a server gave.
const CLOCKS_DIFFER_MS: u64 = 300_000;

/// What hears the texts of one connection, for one turn.
pub(crate) struct ThreadsEar<'a, C> {
    pub(crate) plan: &'a Plan,
    pub(crate) shared: &'a Shared,
    pub(crate) window: Window,
    pub(crate) followed: Followed,
    pub(crate) number: u32,
    pub(crate) asked_ns: u64,
    pub(crate) joined: &'a mut u32,
    pub(crate) subscriptions: &'a mut [Subscription],
    pub(crate) groups: &'a mut [Group],
    pub(crate) events: &'a EventReader,
    pub(crate) arrivals: &'a mut Arrivals,
    pub(crate) received: &'a mut Received,
    pub(crate) batch: Batch,
    pub(crate) on_complete: C,
}

impl<C: FnMut(u64, u64)> Ear for ThreadsEar<'_, C> {
    #[inline]
    fn follow(&mut self, now_ns: u64, bytes: &[u8], begun: &mut Vec<u8>) -> usize {
        let Some((group, index)) = self.followed.only() else {
            return 0;
        };
        let (place, synced_ms) = match &mut self.subscriptions[index] {
            Subscription::Following { place, synced_ms } => (place, synced_ms),
            Subscription::Counted { frames, left } => {
                let before = *frames;
                let counted = count(bytes, frames, left);
                let passed = before..*frames;
                self.counted(group, passed, now_ns);
                return counted;
            }
            _ => return 0,
        };
        let transcript = &mut self.groups[group as usize].transcript;
        if place.frame == 0 && !is_behind_sync(transcript, *synced_ms) {
            return 0;
        }
        let before = place.frame;
        let followed = transcript.follow(place, bytes);
        if followed < bytes.len() {
            transcript.take_begun(place, begun);
        }
        let passed = before..place.frame;
        self.passed(group, passed, now_ns);
        followed
    }

    #[inline]
    fn hear(&mut self, now_ns: u64, message: Message<'_>) {
        self.batch.turn_to(now_ns, self.window, self.received);
        if let Some((group, index)) = self.followed.only()
            && let Subscription::Counted { frames, .. } = &mut self.subscriptions[index]
        {
            *frames += 1;
            let passed = *frames - 1..*frames;
            return self.counted(group, passed, now_ns);
        }
        let known = self.events.group_of(message.text);
        let index = known.and_then(|group| Some((group, self.followed.index_of(group)?)));
        if let Some((group, index)) = index
            && let Subscription::Following { place, synced_ms } = &mut self.subscriptions[index]
        {
            let transcript = &mut self.groups[group as usize].transcript;
            let is_known = transcript.frame(place.frame) == Some(message.frame)
                && (place.frame > 0 || is_behind_sync(transcript, *synced_ms));
            if is_known {
                let passed = place.frame..place.frame + 1;
                transcript.pass(place);
                return self.passed(group, passed, now_ns);
            }
        }
        self.read(now_ns, message);
    }
}

impl<C: FnMut(u64, u64)> ThreadsEar<'_, C> {
    /// One more subscriber has these frames of `group`.
    #[inline]
    fn passed(&mut self, group: u32, frames: Range<u32>, now_ns: u64) {
        if frames.is_empty() {
            return;
        }
        self.batch.turn_to(now_ns, self.window, self.received);
        self.batch.add(u64::from(frames.end - frames.start));
        let place = Place {
            group,
            number: self.number,
        };
        let late = self.plan.setup.late;
        let groups = u64::from(self.plan.groups);
        let transcript = &self.groups[group as usize].transcript;
        let mut due = Due::default();
        for sequence in frames {
            let Some(change) = transcript.change(sequence) else {
                continue;
            };
            due.add(change.sent_ns, now_ns, self.window, self.received);
            let faults = &mut self.received.faults;
            checker::judge_wait(change.sent_ns, sequence, now_ns, late, place, faults);
            let set = u64::from(sequence) * groups + u64::from(group);
            if self.arrivals.arrived(set) {
                (self.on_complete)(set, now_ns);
            }
        }
        due.end(now_ns, self.window, self.received);
        self.groups[group as usize].transcript.let_go();
    }

    /// The same of frames that nobody looked into.
    #[inline]
    fn counted(&mut self, group: u32, frames: Range<u32>, now_ns: u64) {
        self.batch.turn_to(now_ns, self.window, self.received);
        self.batch.add(u64::from(frames.end - frames.start));
        for sequence in frames {
            let set = u64::from(sequence) * u64::from(self.plan.groups) + u64::from(group);
            if self.arrivals.arrived(set) {
                (self.on_complete)(set, now_ns);
            }
        }
    }

    /// A text that nobody was sent before, or that differs.
    #[cold]
    fn read(&mut self, now_ns: u64, message: Message<'_>) {
        let is_expected = match self.events.read(message.text) {
            Heard::Change { kind, at_ms, stamp } => {
                let change = Change {
                    kind,
                    at_ms,
                    item: stamp.item,
                    sent_ns: stamp.sent_ns,
                };
                self.change(change, &stamp, now_ns, message)
            }
            Heard::Altered { stamp } => self.altered(&stamp, now_ns, message),
            Heard::Sync {
                at_ms,
                group,
                values,
                is_list,
            } => {
                let is_expected = self.sync(at_ms, group, values, now_ns);
                if is_expected && !is_list {
                    self.tell_altered(group, "its sync is no list as published", message);
                }
                is_expected
            }
            Heard::Other => false,
        };
        if !is_expected {
            self.tell_unexpected(message);
        }
    }

    /// False: it is not of this run, or not of a group that is followed.
    fn change(&mut self, change: Change, stamp: &Stamp, now_ns: u64, message: Message<'_>) -> bool {
        let Stamp {
            group, sequence, ..
        } = *stamp;
        let Some((index, set)) = self.ours(stamp) else {
            return false;
        };
        self.merge_before(index, group, sequence, now_ns);
        let place = self.place(group);
        let transcript = &mut self.groups[group as usize].transcript;
        let subscription = &mut self.subscriptions[index];
        if let Subscription::Following {
            place: at,
            synced_ms,
        } = subscription
        {
            let is_next = at.frame == transcript.len()
                && sequence == at.frame
                && change.at_ms >= transcript.time_before(at.frame).max(*synced_ms);
            if is_next {
                let before_ms = transcript.time_before(at.frame);
                transcript.append(message.frame, change);
                transcript.pass(at);
                self.passed(group, sequence..sequence + 1, now_ns);
                let is_far_ahead = change.at_ms > before_ms + CLOCKS_DIFFER_MS
                    && change.at_ms > wall_ms() + CLOCKS_DIFFER_MS;
                if is_far_ahead {
                    self.tell_altered(group, "its time is far ahead", message);
                }
                return true;
            }
        }
        let is_other = transcript
            .frame(sequence)
            .is_some_and(|frame| frame != message.frame);
        let Alone { checker, model } = subscription.leave(transcript);
        transcript::show(model, sequence, &change);
        self.batch.add(1);
        let faults = &mut self.received.faults;
        checker.judge_time(change.at_ms, sequence, place, faults);
        let setup = &self.plan.setup;
        checker::judge_wait(change.sent_ns, sequence, now_ns, setup.late, place, faults);
        let verdict = checker.judge(sequence, place, setup.order, faults);
        self.received.time(change.sent_ns, now_ns, 1, self.window);
        if verdict.is_first_arrival() && self.arrivals.arrived(set) {
            (self.on_complete)(set, now_ns);
        }
        if is_other {
            let what = format!("sequence {sequence} is not what others were sent");
            self.tell_altered(group, &what, message);
        }
        true
    }

    /// What was not published so still stands for its place in the order.
    fn altered(&mut self, stamp: &Stamp, now_ns: u64, message: Message<'_>) -> bool {
        let Stamp {
            group, sequence, ..
        } = *stamp;
        let Some((index, set)) = self.ours(stamp) else {
            return false;
        };
        self.merge_before(index, group, sequence, now_ns);
        let what = format!("sequence {sequence} was not published so");
        self.tell_altered(group, &what, message);
        let place = self.place(group);
        let transcript = &mut self.groups[group as usize].transcript;
        let alone = self.subscriptions[index].leave(transcript);
        let faults = &mut self.received.faults;
        let order = self.plan.setup.order;
        let verdict = alone.checker.judge(sequence, place, order, faults);
        self.batch.add(1);
        if verdict.is_first_arrival() && self.arrivals.arrived(set) {
            (self.on_complete)(set, now_ns);
        }
        true
    }

    /// A subscription with a pace has, with this change, those before it that will not come.
    fn merge_before(&mut self, index: usize, group: u32, sequence: u32, now_ns: u64) {
        if self.plan.pace_ms.is_none() {
            return;
        }
        let Subscription::Alone(alone) = &mut self.subscriptions[index] else {
            return;
        };
        for merged in alone.checker.merge_before(sequence) {
            self.received.merged += 1;
            let set = u64::from(merged) * u64::from(self.plan.groups) + u64::from(group);
            if self.arrivals.arrived(set) {
                (self.on_complete)(set, now_ns);
            }
        }
    }

    /// False: there was a `sync` of the group before, or it is not followed.
    fn sync(&mut self, at_ms: u64, group: u32, values: &[u8], now_ns: u64) -> bool {
        let Some(index) = self.followed.index_of(group) else {
            return false;
        };
        // Before the first set: what there is, another run has left.
        let items = self
            .events
            .values(values)
            .map(|value| (value.stamp.item, FOREIGN))
            .filter(|(item, _)| *item == 0);
        let place = self.place(group);
        let of_group = &mut self.groups[group as usize];
        match &mut self.subscriptions[index] {
            waiting @ Subscription::Waiting if self.plan.unchecked => {
                *waiting = Subscription::Counted { frames: 0, left: 0 };
            }
            waiting @ Subscription::Waiting => {
                *waiting = Subscription::Following {
                    place: transcript::Place::default(),
                    synced_ms: at_ms,
                };
                let is_same = of_group.transcript.join(at_ms, values, items);
                of_group.syncs.push(Sync {
                    asked_ns: self.asked_ns,
                    heard_ns: now_ns,
                    at_ms,
                });
                let faults = &mut self.received.faults;
                if !is_same {
                    faults.tell(Fault::Altered, place, || {
                        format!(
                            "its sync holds another list than others: {}",
                            excerpt(values)
                        )
                    });
                }
                if at_ms + CLOCKS_DIFFER_MS < wall_ms() {
                    faults.tell(Fault::WentBack, place, || {
                        format!("its sync has the time {at_ms}, long ago")
                    });
                }
                if self.plan.pace_ms.is_some() {
                    // What is merged for one is not what is merged for another.
                    waiting.leave(&mut of_group.transcript);
                }
            }
            Subscription::Following { .. } | Subscription::Counted { .. } => return false,
            Subscription::Alone(alone) => {
                if !alone.checker.sync() {
                    return false;
                }
                alone.checker.is_in_time(at_ms);
                alone.model.sync(at_ms, items);
            }
        }
        *self.joined += 1;
        true
    }

    /// The subscription and the set of a stamp. `None`: nobody can have published it, so it is damage, or
    /// someone else's.
    fn ours(&self, stamp: &Stamp) -> Option<(usize, u64)> {
        let groups = u64::from(self.plan.groups);
        let set = u64::from(stamp.sequence) * groups + u64::from(stamp.group);
        let is_ours = stamp.run == self.plan.setup.run
            && stamp.item == 0
            && set < self.shared.sets.load(Ordering::Acquire);
        let index = self.followed.index_of(stamp.group)?;
        is_ours.then_some((index, set))
    }

    fn place(&self, group: u32) -> Place {
        Place {
            group,
            number: self.number,
        }
    }

    fn tell_altered(&mut self, group: u32, what: &str, message: Message<'_>) {
        let place = self.place(group);
        self.received.faults.tell(Fault::Altered, place, || {
            format!("{what}: {}", excerpt(message.text))
        });
    }

    fn tell_unexpected(&mut self, message: Message<'_>) {
        let place = self.place(self.followed.first_group());
        self.received.faults.tell(Fault::Unexpected, place, || {
            format!("not of this run: {}", excerpt(message.text))
        });
    }

    /// After the last text of the turn.
    pub(crate) fn end(&mut self) {
        self.batch.count(self.window, self.received);
    }
}

/// Deliveries of one read whose sets were due at one time: they are timed together.
#[derive(Default)]
struct Due {
    sent_ns: u64,
    deliveries: u64,
}

impl Due {
    #[inline]
    fn add(&mut self, sent_ns: u64, now_ns: u64, window: Window, received: &mut Received) {
        if sent_ns != self.sent_ns {
            self.end(now_ns, window, received);
            self.sent_ns = sent_ns;
        }
        self.deliveries += 1;
    }

    #[inline]
    fn end(&mut self, now_ns: u64, window: Window, received: &mut Received) {
        let deliveries = std::mem::take(&mut self.deliveries);
        if deliveries > 0 {
            received.time(self.sent_ns, now_ns, deliveries, window);
        }
    }
}
