//! What comes over the channel: events of all hosts in one order, for the groups that somebody here
//! follows; and groups that are to be read again or forgotten.
//!
//! May not know how the connections come about.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use redis::Value;

use crate::id::GroupKey;
use crate::shard::{FromChannel, HeardEvent, Learned};

use super::Redis;
use super::answers;
use super::error::Fault;
use super::hearing::{BehindCut, Followed};
use super::looks::{Looks, Notices};
use super::message::{self, Author, Became, EVENTS};
use super::work::{Job, Work};

/// How often a group is read again in which others set and publish apart.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// When a group that has no items any more is looked at, so that the clock has passed its last time.
const FORGET_AFTER: Duration = Duration::from_millis(50);
/// It is looked at so often while that is still to come.
const FORGET_WAIT_MAX: Duration = Duration::from_secs(1);
/// Groups with stored texts that nobody can read are named once, as long as there are so few.
const TOLD_MAX: usize = 10_000;

impl Redis {
    /// One message of the channel connection. Err: it is no subscription any more.
    pub(super) fn take_heard(&mut self, value: Value, now: Instant) -> Result<(), Fault> {
        if let Some(error) = answers::error_of(&value) {
            if self.notices_are_refused() {
                return Ok(());
            }
            let error = self.settings.address.without_login(&error);
            return Err(self.channel_fault(error));
        }
        let parts = match value {
            Value::Array(parts) | Value::Push { data: parts, .. } => parts,
            _ => return Ok(()),
        };
        let mut parts = parts.into_iter().filter_map(answers::bytes);
        let kind = parts.next().unwrap_or_default();
        // The channel, or the pattern that it fits; then what was published, or the channel.
        let (channel, payload) = (parts.next().unwrap_or_default(), parts.next());
        match (&*kind, payload) {
            (b"subscribe", _) => self.has_subscribed(now),
            (b"psubscribe", _) => self.hearing.notices.stand(),
            (b"pmessage", Some(channel)) => {
                let what = parts.next().unwrap_or_default();
                self.hear_notice(&channel, &what, now);
            }
            (b"message", Some(payload)) => {
                let text = String::from_utf8_lossy(&payload);
                if channel != EVENTS.as_bytes() {
                    self.settle_notice(None, now);
                    self.hear_own(&text, now);
                } else {
                    self.hear(&text, matches!(text, Cow::Borrowed(_)), now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn channel_fault(&mut self, said: String) -> Fault {
        if self.link.is_up() || !said.to_lowercase().starts_with("noperm") {
            return Fault::Said(said);
        }
        let cut_channel = self.hearing.cut_channel.clone();
        let fault = Fault::NoChannel { cut_channel, said };
        self.link.fatal.get_or_insert(fault.clone());
        fault
    }

    fn hear(&mut self, text: &str, is_utf8: bool, now: Instant) {
        let Some(seen) = message::glance(text) else {
            return self.pass_over("it names no group", now);
        };
        let became = match seen.author {
            Author::Foreign => None,
            // Of another database: its groups are none of ours.
            Author::Ours { database, .. } if database != self.settings.address.database => return,
            Author::Ours { became, .. } => Some(became),
        };
        if seen.stream.len().max(seen.group.len()) > self.name_bytes {
            return self.pass_over("its names are longer than limits.name_bytes", now);
        }
        let joined = &mut self.hearing.joined;
        joined.clear();
        joined.push_str(&seen.stream);
        joined.push(':');
        joined.push_str(&seen.group);
        let with_name = self.hearing.followed.get(joined);
        let is_it = |followed: &&Followed| {
            followed.key.stream() == seen.stream && followed.key.group() == seen.group
        };
        let followed = with_name.and_then(|with_name| with_name.iter().find(is_it));
        let is_followed = followed.is_some_and(|followed| followed.is_on);
        if self.hearing.notices.waits() {
            let joined = std::mem::take(&mut self.hearing.joined);
            self.settle_notice(became.is_some().then_some(&joined), now);
            self.hearing.joined = joined;
        }
        if became == Some(Became::Stays) && !is_followed {
            return;
        }
        let key = GroupKey::new(&seen.stream, &seen.group);
        match became {
            Some(Became::New | Became::Named) => self.enter_name(&key),
            Some(Became::Gone) => self.remove_name(&key),
            Some(Became::Stays) | None => {}
        }
        if !is_followed && became.is_some() {
            return;
        }
        let read = message::read(text).filter(|read| is_utf8 && self.is_within_limits(read));
        let Some(read) = read else {
            self.read_soon(&key, now);
            return self.pass_over("it is of no known form, or beyond a limit", now);
        };
        if became.is_none() {
            self.note_foreign(&key, &read.event, now);
            if let Some(item) = &read.item
                && !matches!(read.event, HeardEvent::Custom { .. })
            {
                self.ends.note_written(&key, item);
            }
        }
        if is_followed {
            let time = self.believed(read.time, now);
            self.note_time(&key, time, became.is_some(), now);
            let event = FromChannel::Event {
                item: read.item,
                event: read.event,
                time,
                is_first: became == Some(Became::New),
                is_ours: became.is_some(),
            };
            self.forward(&key, event);
        }
    }

    fn is_within_limits(&self, read: &message::Message) -> bool {
        let item_len = read.item.as_ref().map_or(0, |item| item.len());
        let kind_len = match &read.event {
            HeardEvent::Custom { kind, .. } => kind.len(),
            _ => 0,
        };
        item_len.max(kind_len) <= self.name_bytes
    }

    /// The time of a message. One that nobody can mean is taken for none: it is raised to the group's.
    fn believed(&mut self, time: u64, now: Instant) -> u64 {
        let by_redis = self.redis_time(now).unwrap_or(0);
        match answers::believed(time, by_redis) {
            Some(time) => time,
            None => {
                if let Some(more) = self.hearing.odd_times.ask(now) {
                    tracing::warn!(
                        "a message on {EVENTS} gives the time {time}, far ahead of Redis's clock: Redis's \
                         own is told in its place; {more} more since the last such line"
                    );
                }
                by_redis
            }
        }
    }

    /// What is shown of the group is not to be older after a restart.
    fn note_time(&mut self, key: &GroupKey, time: u64, is_ours: bool, now: Instant) {
        let by_redis = self.redis_time(now).unwrap_or(u64::MAX);
        if let Some(time) = self.hearing.ahead.note(key, time, is_ours, by_redis) {
            self.calls.push(Job::own(Work::Raise(key.clone(), time)));
        }
    }

    /// The connections stand again: times of groups that Redis may not have kept are sent once more.
    pub(super) fn raise_times_again(&mut self, now: Instant) {
        let by_redis = self.redis_time(now).unwrap_or(u64::MAX);
        for (key, time) in self.hearing.ahead.tell_again(by_redis) {
            self.calls.push(Job::own(Work::Raise(key, time)));
        }
    }

    /// Redis's word on the time of a group that was sent to be kept.
    pub(super) fn take_raised(&mut self, key: GroupKey, time: u64, value: Value, now: Instant) {
        let by_redis = self.redis_time(now).unwrap_or(u64::MAX);
        let said = answers::bytes(value);
        if said.as_deref() == Some(b"none") {
            self.forget_later(key.joined().to_owned(), false, now);
        }
        let kept = said.map(|_| time);
        if let Some(time) = self.hearing.ahead.answered(&key, kept, by_redis) {
            self.calls.push(Job::own(Work::Raise(key, time)));
        }
    }

    /// Others set and publish apart, and keep no index.
    fn note_foreign(&mut self, key: &GroupKey, event: &HeardEvent, now: Instant) {
        match event {
            HeardEvent::Create(_) | HeardEvent::Update(_) => self.find_later(key),
            HeardEvent::Delete(_) if self.names.has(key) => {
                self.forget_later(key.joined().to_owned(), true, now);
            }
            HeardEvent::Delete(_) => {}
            HeardEvent::Custom { .. } => return,
        }
        self.read_soon(key, now);
    }

    /// What was heard of the group may not be what it holds.
    pub(super) fn read_soon(&mut self, key: &GroupKey, now: Instant) {
        let hearing = &mut self.hearing;
        if let Some(followed) = hearing.find(key)
            && !followed.is_due
        {
            followed.is_due = true;
            let since = followed.read_at.unwrap_or(now);
            let at = now.max(since + READ_AGAIN);
            hearing.again.insert((at, hearing.next_again), key.clone());
            hearing.next_again += 1;
        }
    }

    fn forward(&mut self, key: &GroupKey, event: FromChannel) {
        match self.hearing.find(key) {
            Some(followed) if !followed.held.is_empty() => {
                followed.held.push_back(BehindCut::Event(event));
            }
            Some(followed) => {
                followed.told = followed.told.wrapping_add(1);
                self.learned.push(Learned::Channel(key.clone(), event));
            }
            None => {}
        }
    }

    fn pass_over(&mut self, why: &str, now: Instant) {
        if let Some(more) = self.hearing.odd_messages.ask(now) {
            tracing::warn!(
                "passed over a message on {EVENTS}: {why}; {more} more since the last such line"
            );
        }
    }

    /// A message of this process to itself.
    fn hear_own(&mut self, text: &str, now: Instant) {
        if let Some(joined) = text.strip_prefix("gone:") {
            self.remove_joined_name(joined);
            return;
        }
        let Ok(mark) = text.parse::<u64>() else {
            return;
        };
        // Marks before it whose transactions have failed are not heard.
        let marks = &mut self.hearing.marks;
        if let Some(at) = marks.iter().position(|(sent, _)| *sent == mark) {
            marks.drain(..=at);
        }
        self.heard_mark(mark, now);
    }

    /// The connections are lost: nothing is on its way any more.
    pub(super) fn drop_hearing(&mut self, cause: &str) {
        let hearing = &mut self.hearing;
        for followed in hearing.followed.values_mut().flatten() {
            followed.is_on = false;
            followed.is_due = false;
            followed.held.clear();
            followed.seen = None;
        }
        hearing.marks.clear();
        hearing.again.clear();
        hearing.to_read.clear();
        hearing.own_reads = 0;
        hearing.finding.clear();
        hearing.looks = Looks::default();
        hearing.notices = Notices::default();
        hearing.ahead.is_lost();
        let cuts = std::mem::take(&mut hearing.cuts);
        for pending in cuts.into_values() {
            self.refuse_pending(&pending.of, cause);
        }
    }

    /// What is due by itself.
    pub(super) fn tend_groups(&mut self, now: Instant) {
        let hearing = &mut self.hearing;
        while let Some(entry) = hearing.again.first_entry()
            && entry.key().0 <= now
        {
            hearing.to_read.push_back((entry.remove(), false));
        }
        self.read_again();
        while let Some(entry) = self.hearing.to_forget.first_entry()
            && entry.key().0 <= now
        {
            let of = entry.remove();
            self.hearing.are_to_forget.remove(&of);
            let (joined, tells) = of;
            self.calls.push(Job::own(Work::Forget(joined, tells)));
        }
    }

    /// The group may have no items any more: then nothing of it is kept, in a while.
    pub(super) fn forget_later(&mut self, joined: String, tells: bool, now: Instant) {
        self.forget_in(joined, tells, FORGET_AFTER, now);
    }

    /// The same when the clock has passed its last time.
    pub(super) fn forget_in(&mut self, joined: String, tells: bool, wait: Duration, now: Instant) {
        let hearing = &mut self.hearing;
        let of = (joined, tells);
        if hearing.are_to_forget.insert(of.clone()) {
            let at = now + wait.clamp(FORGET_AFTER, FORGET_WAIT_MAX);
            hearing.to_forget.insert((at, hearing.next_again), of);
            hearing.next_again += 1;
        }
    }

    pub(super) fn note_unreadable(&mut self, key: &GroupKey, len: usize) {
        let told = &mut self.hearing.told_unreadable;
        if len > 0 && told.len() < TOLD_MAX && told.insert(key.joined().into()) {
            tracing::warn!("{key:?}: {len} stored values are no JSON and are left out of lists");
        }
    }
}
