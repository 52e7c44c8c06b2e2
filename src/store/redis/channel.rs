//! What comes over the channel: events of all hosts in one order, for the groups that somebody here
//! follows; and groups that are to be read again or forgotten.
//!
//! May not know how the connections come about.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use redis::Value;
use uuid::Uuid;

use crate::id::GroupKey;
use crate::shard::{FromChannel, HeardEvent, Learned};
use crate::time::Rarely;

use super::Redis;
use super::answers;
use super::calls::{Job, Work};
use super::cuts::Pending;
use super::message::{self, EVENTS, Mark};

/// How often a group is read again in which others set and publish apart.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// When a group that has no items any more is looked at, so that the clock has passed its last time.
const FORGET_AFTER: Duration = Duration::from_millis(50);
/// Groups with stored texts that nobody can read are named once, as long as there are so few.
const TOLD_MAX: usize = 10_000;

pub(super) struct Hearing {
    /// By joined name: names that join to the same stand side by side.
    pub(super) followed: HashMap<String, Vec<Followed>>,
    pub(super) cuts: HashMap<u64, Pending>,
    pub(super) next_mark: u64,
    /// Marks on their way, in the order in which they will be heard.
    pub(super) marks: VecDeque<(u64, Instant)>,
    /// Groups to be read again.
    again: Vec<(Instant, GroupKey)>,
    /// Joined names of groups that may have no items any more, and whether we are to be told.
    to_forget: VecDeque<(Instant, String, bool)>,
    are_to_forget: HashSet<String>,
    /// Where our marks are published.
    pub(super) cut_channel: String,
    joined: String,
    told_unreadable: HashSet<String>,
    odd_messages: Rarely,
    /// While the index is loaded: what was heard of meanwhile counts more.
    pub(super) touched: Option<HashSet<String>>,
}

/// A group with subscribers here.
pub(super) struct Followed {
    pub(super) key: GroupKey,
    /// Its events are told.
    pub(super) is_on: bool,
    /// Waits behind a cut whose answer has not come.
    pub(super) held: VecDeque<Held>,
    pub(super) read_at: Option<Instant>,
    is_due: bool,
}

pub(super) enum Held {
    Event(FromChannel),
    Cut(u64),
}

impl Hearing {
    pub(super) fn new(process: Uuid) -> Hearing {
        Hearing {
            followed: HashMap::new(),
            cuts: HashMap::new(),
            next_mark: 0,
            marks: VecDeque::new(),
            again: Vec::new(),
            to_forget: VecDeque::new(),
            are_to_forget: HashSet::new(),
            cut_channel: format!("iii-stream:cut:{process}"),
            joined: String::new(),
            told_unreadable: HashSet::new(),
            odd_messages: Rarely::default(),
            touched: None,
        }
    }

    pub(super) fn follow(&mut self, key: &GroupKey) {
        let with_name = self.followed.entry(key.joined().into()).or_default();
        if !with_name.iter().any(|followed| followed.key == *key) {
            with_name.push(Followed {
                key: key.clone(),
                is_on: false,
                held: VecDeque::new(),
                read_at: None,
                is_due: false,
            });
        }
    }

    pub(super) fn unfollow(&mut self, key: &GroupKey) {
        if let Some(with_name) = self.followed.get_mut(key.joined()) {
            with_name.retain(|followed| followed.key != *key);
            if with_name.is_empty() {
                self.followed.remove(key.joined());
            }
        }
    }

    /// Since when the channel has not told what it should.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.marks.front().map(|(_, sent)| *sent)
    }

    pub(super) fn find(&mut self, key: &GroupKey) -> Option<&mut Followed> {
        let with_name = self.followed.get_mut(key.joined())?;
        with_name.iter_mut().find(|followed| followed.key == *key)
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        let again = self.again.iter().map(|(at, _)| *at).min();
        let forget = self.to_forget.front().map(|(at, ..)| *at);
        [again, forget].into_iter().flatten().min()
    }
}

impl Redis {
    /// One message of the channel connection. Err: it is no subscription any more.
    pub(super) fn take_heard(&mut self, value: Value, now: Instant) -> Result<(), String> {
        if let Some(error) = answers::error_of(&value) {
            return Err(error);
        }
        let parts = match value {
            Value::Array(parts) | Value::Push { data: parts, .. } => parts,
            _ => return Ok(()),
        };
        let mut parts = parts.into_iter().filter_map(answers::bytes);
        let kind = parts.next().unwrap_or_default();
        let (channel, payload) = (parts.next().unwrap_or_default(), parts.next());
        match (&*kind, payload) {
            (b"subscribe", _) => self.has_subscribed(now),
            (b"message", Some(payload)) => {
                let text = String::from_utf8_lossy(&payload);
                if channel != EVENTS.as_bytes() {
                    self.hear_own(&text, now);
                } else {
                    self.hear(&text, matches!(text, Cow::Borrowed(_)), now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self, text: &str, is_utf8: bool, now: Instant) {
        let Some(seen) = message::glance(text) else {
            return self.pass_over("it names no group", now);
        };
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
        if seen.mark == Mark::Stays && !is_followed {
            return;
        }
        let key = GroupKey::new(&seen.stream, &seen.group);
        match seen.mark {
            Mark::New | Mark::Named => self.names.enter(&key),
            Mark::Gone => self.names.remove(&key),
            Mark::Foreign | Mark::Stays => {}
        }
        if seen.mark != Mark::Stays
            && let Some(touched) = &mut self.hearing.touched
        {
            touched.insert(key.joined().into());
        }
        if !is_followed && seen.mark != Mark::Foreign {
            return;
        }
        let Some(read) = message::read(text).filter(|_| is_utf8) else {
            self.read_soon(&key, now);
            return self.pass_over("it is of no known form", now);
        };
        if seen.mark == Mark::Foreign {
            self.note_foreign(&key, &read.event, now);
        }
        if is_followed {
            let event = FromChannel::Event {
                item: read.item,
                event: read.event,
                time: read.time,
                is_first: seen.mark == Mark::New,
            };
            self.forward(&key, event);
        }
    }

    /// Others set and publish apart, and keep no index.
    fn note_foreign(&mut self, key: &GroupKey, event: &HeardEvent, now: Instant) {
        match event {
            HeardEvent::Create(_) | HeardEvent::Update(_) => self.names.enter(key),
            HeardEvent::Delete(_) => self.forget_later(key.joined().to_owned(), true, now),
            HeardEvent::Custom { .. } => return,
        }
        self.read_soon(key, now);
    }

    /// What was heard of the group may not be what it holds.
    fn read_soon(&mut self, key: &GroupKey, now: Instant) {
        let hearing = &mut self.hearing;
        if let Some(followed) = hearing.find(key)
            && followed.is_on
            && !followed.is_due
        {
            followed.is_due = true;
            let since = followed.read_at.unwrap_or(now);
            hearing
                .again
                .push((now.max(since + READ_AGAIN), key.clone()));
        }
    }

    fn forward(&mut self, key: &GroupKey, event: FromChannel) {
        match self.hearing.find(key) {
            Some(followed) if !followed.held.is_empty() => {
                followed.held.push_back(Held::Event(event));
            }
            _ => self.learned.push(Learned::Channel(key.clone(), event)),
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
            self.names.remove_joined(joined);
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
        }
        hearing.marks.clear();
        hearing.again.clear();
        hearing.touched = None;
        let cuts = std::mem::take(&mut hearing.cuts);
        for pending in cuts.into_values() {
            self.refuse_pending(&pending.of, cause);
        }
    }

    /// What is due by itself.
    pub(super) fn tend_groups(&mut self, now: Instant) {
        let again = std::mem::take(&mut self.hearing.again).into_iter();
        let (due, rest): (Vec<_>, Vec<_>) = again.partition(|(at, _)| *at <= now);
        self.hearing.again = rest;
        for (_, key) in due {
            if let Some(followed) = self.hearing.find(&key) {
                followed.is_due = false;
                self.read_again(key, false, now);
            }
        }
        while let Some((_, joined, tells)) =
            self.hearing.to_forget.pop_front_if(|(at, ..)| *at <= now)
        {
            self.hearing.are_to_forget.remove(&joined);
            let until = now + self.settings.call_timeout;
            let work = Work::Forget(joined, tells);
            self.calls.push(Job { until, work });
        }
    }

    /// The group may have no items any more: then nothing of it is kept, in a while.
    pub(super) fn forget_later(&mut self, joined: String, tells: bool, now: Instant) {
        if self.hearing.are_to_forget.insert(joined.clone()) {
            let at = now + FORGET_AFTER;
            self.hearing.to_forget.push_back((at, joined, tells));
        }
    }

    pub(super) fn note_unreadable(&mut self, key: &GroupKey, len: usize) {
        let told = &mut self.hearing.told_unreadable;
        if len > 0 && told.len() < TOLD_MAX && told.insert(key.joined().into()) {
            tracing::warn!("{key:?}: {len} stored values are no JSON and are left out of lists");
        }
    }
}
