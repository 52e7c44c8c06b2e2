//! What comes over the channel: events of all hosts in one order, and the points of our own at which
//! something was read.
//!
//! A cut is a transaction that reads and publishes a mark on a channel of this process. It takes its
//! place among the events where the mark is heard; what is heard behind it waits until its answer has
//! come by the other connection. May not know how the connections come about.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use redis::Value;
use uuid::Uuid;

use crate::id::GroupKey;
use crate::protocol::input::StreamFunction;
use crate::shard::{FromChannel, HeardEvent, Learned, Verdict};
use crate::time::Rarely;

use super::Redis;
use super::answers::{self, Cut};
use super::calls::{Asker, Job, Work};
use super::message::{self, EVENTS, Mark};

/// How often a group is read again in which others set and publish apart.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// When a group that has no items any more is looked at, so that the clock has passed its last time.
const FORGET_AFTER: Duration = Duration::from_millis(50);
/// Groups with stored texts that nobody can read are named once, as long as there are so few.
const TOLD_MAX: usize = 10_000;

pub(super) struct Hearing {
    /// By joined name: names that join to the same stand side by side.
    followed: HashMap<String, Vec<Followed>>,
    cuts: HashMap<u64, Pending>,
    next_mark: u64,
    /// Marks on their way, in the order in which they will be heard.
    marks: VecDeque<(u64, Instant)>,
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
struct Followed {
    key: GroupKey,
    /// Its events are told.
    is_on: bool,
    /// Waits behind a cut whose answer has not come.
    held: VecDeque<Held>,
    read_at: Option<Instant>,
    is_due: bool,
}

enum Held {
    Event(FromChannel),
    Cut(u64),
}

struct Pending {
    of: Of,
    /// None: of no group.
    key: Option<GroupKey>,
    is_heard: bool,
    answer: Option<Cut>,
}

enum Of {
    Join(Asker),
    Again { is_after_loss: bool },
    Listing(Asker, Option<Box<str>>),
    Beat,
}

impl Hearing {
    pub(super) fn new() -> Hearing {
        Hearing {
            followed: HashMap::new(),
            cuts: HashMap::new(),
            next_mark: 0,
            marks: VecDeque::new(),
            again: Vec::new(),
            to_forget: VecDeque::new(),
            are_to_forget: HashSet::new(),
            cut_channel: format!("iii-stream:cut:{}", Uuid::new_v4()),
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

    pub(super) fn cut_for_join(&mut self, asker: Asker, key: &GroupKey) -> u64 {
        debug_assert!(self.followed.contains_key(key.joined()));
        self.pending(Of::Join(asker), Some(key.clone()))
    }

    pub(super) fn mark_for_listing(&mut self, asker: Asker, stream: Option<Box<str>>) -> u64 {
        self.pending(Of::Listing(asker, stream), None)
    }

    pub(super) fn mark_for_beat(&mut self) -> u64 {
        self.pending(Of::Beat, None)
    }

    fn pending(&mut self, of: Of, key: Option<GroupKey>) -> u64 {
        let mark = self.next_mark;
        self.next_mark += 1;
        let pending = Pending {
            of,
            key,
            is_heard: false,
            answer: None,
        };
        self.cuts.insert(mark, pending);
        mark
    }

    pub(super) fn has_sent(&mut self, mark: u64, now: Instant) {
        self.marks.push_back((mark, now));
    }

    /// Since when the channel has not told what it should.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.marks.front().map(|(_, sent)| *sent)
    }

    fn find(&mut self, key: &GroupKey) -> Option<&mut Followed> {
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
            (b"message", Some(payload)) => match std::str::from_utf8(&payload) {
                Ok(text) if channel == EVENTS.as_bytes() => self.hear(text, now),
                Ok(text) => self.hear_own(text, now),
                Err(_) => self.pass_over("it is not UTF-8", now),
            },
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self, text: &str, now: Instant) {
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
        let Some(read) = message::read(text) else {
            return self.pass_over("it is of no known form", now);
        };
        if seen.mark == Mark::Foreign {
            self.note_foreign(&key, &read.event, is_followed, now);
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
    fn note_foreign(
        &mut self,
        key: &GroupKey,
        event: &HeardEvent,
        is_followed: bool,
        now: Instant,
    ) {
        match event {
            HeardEvent::Create(_) | HeardEvent::Update(_) => self.names.enter(key),
            HeardEvent::Delete(_) => self.forget_later(key.joined().to_owned(), true, now),
            HeardEvent::Custom { .. } => return,
        }
        let hearing = &mut self.hearing;
        if is_followed
            && let Some(followed) = hearing.find(key)
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
        while let Some((sent, _)) = self.hearing.marks.pop_front()
            && sent < mark
        {}
        self.heard_mark(mark, now);
    }

    fn heard_mark(&mut self, mark: u64, now: Instant) {
        let Some(pending) = self.hearing.cuts.get_mut(&mark) else {
            return;
        };
        pending.is_heard = true;
        match &pending.of {
            Of::Beat => {
                self.hearing.cuts.remove(&mark);
            }
            Of::Listing(asker, stream) => {
                let asker = *asker;
                let keys = self.names.list(stream.as_deref());
                self.hearing.cuts.remove(&mark);
                self.answer(asker, Verdict::Groups(keys));
            }
            Of::Join(_) | Of::Again { .. } => {
                let has_answer = pending.answer.is_some();
                let Some(key) = pending.key.clone() else {
                    return;
                };
                match self.hearing.find(&key) {
                    Some(followed) if !has_answer || !followed.held.is_empty() => {
                        followed.is_on = true;
                        followed.held.push_back(Held::Cut(mark));
                    }
                    Some(followed) => {
                        followed.is_on = true;
                        self.make_cut(mark, &key, now);
                    }
                    None if has_answer => self.make_cut(mark, &key, now),
                    None => {}
                }
            }
        }
    }

    /// What the transaction has read.
    pub(super) fn take_cut(
        &mut self,
        mark: u64,
        key: &GroupKey,
        result: Result<Cut, String>,
        now: Instant,
    ) {
        let cut = match result {
            Ok(cut) => cut,
            Err(cause) => {
                self.refuse_cut(mark, key, &cause);
                return self.release(key, now);
            }
        };
        self.note_unreadable(key, cut.unreadable);
        let Some(pending) = self.hearing.cuts.get_mut(&mark) else {
            return;
        };
        pending.answer = Some(cut);
        let is_heard = pending.is_heard;
        if is_heard && self.hearing.find(key).is_none() {
            return self.make_cut(mark, key, now);
        }
        self.release(key, now);
    }

    /// Lets go what waited behind cuts that have their answers.
    fn release(&mut self, key: &GroupKey, now: Instant) {
        while let Some(followed) = self.hearing.find(key)
            && let Some(held) = followed.held.pop_front()
        {
            match held {
                Held::Event(event) => self.learned.push(Learned::Channel(key.clone(), event)),
                Held::Cut(mark) => {
                    let pending = self.hearing.cuts.get(&mark);
                    if pending.is_some_and(|pending| pending.answer.is_none()) {
                        if let Some(followed) = self.hearing.find(key) {
                            followed.held.push_front(Held::Cut(mark));
                        }
                        return;
                    }
                    self.make_cut(mark, key, now);
                }
            }
        }
    }

    /// Mark and answer are there: it takes its place in the order of the events.
    fn make_cut(&mut self, mark: u64, key: &GroupKey, now: Instant) {
        let Some(pending) = self.hearing.cuts.remove(&mark) else {
            return;
        };
        let Some(Cut {
            mut items, time, ..
        }) = pending.answer
        else {
            return;
        };
        if self.names.is_of_another(key) {
            items.clear();
        }
        match pending.of {
            Of::Join(asker) => {
                self.answer(asker, Verdict::Cut { items, time });
                self.go_on(key);
            }
            Of::Again { is_after_loss } => {
                if let Some(followed) = self.hearing.find(key) {
                    followed.read_at = Some(now);
                }
                let read = FromChannel::Read {
                    items,
                    time,
                    is_after_loss,
                };
                self.learned.push(Learned::Channel(key.clone(), read));
            }
            Of::Listing(..) | Of::Beat => {}
        }
    }

    pub(super) fn refuse_cut(&mut self, mark: u64, key: &GroupKey, cause: &str) {
        let pending = self.hearing.cuts.remove(&mark);
        if let Some(followed) = self.hearing.find(key) {
            followed.is_on = self.link.is_up();
        }
        if let Some(Pending {
            of: Of::Join(asker),
            ..
        }) = pending
        {
            self.refuse(asker, StreamFunction::List, cause);
            self.go_on(key);
        }
    }

    pub(super) fn refuse_mark(&mut self, mark: u64, cause: &str) {
        if let Some(Pending {
            of: Of::Listing(asker, stream),
            ..
        }) = self.hearing.cuts.remove(&mark)
        {
            let function = match stream {
                Some(_) => StreamFunction::ListGroups,
                None => StreamFunction::ListAll,
            };
            self.refuse(asker, function, cause);
        }
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
            match pending.of {
                Of::Join(asker) => self.refuse(asker, StreamFunction::List, cause),
                Of::Listing(asker, Some(_)) => {
                    self.refuse(asker, StreamFunction::ListGroups, cause);
                }
                Of::Listing(asker, None) => self.refuse(asker, StreamFunction::ListAll, cause),
                Of::Again { .. } | Of::Beat => {}
            }
        }
    }

    /// The connections stand: every followed group is read.
    pub(super) fn read_all_again(&mut self, now: Instant) {
        let followed = self.hearing.followed.values().flatten();
        let keys: Vec<GroupKey> = followed.map(|followed| followed.key.clone()).collect();
        for key in keys {
            self.read_again(key, true, now);
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

    fn read_again(&mut self, key: GroupKey, is_after_loss: bool, now: Instant) {
        let of = Of::Again { is_after_loss };
        let mark = self.hearing.pending(of, Some(key.clone()));
        let until = now + self.settings.call_timeout;
        let work = Work::Cut(mark, key, None);
        self.calls.push(Job { until, work });
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
