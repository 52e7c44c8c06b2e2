//! Items that have had their time: asked for every now and then, and deleted by one script, whichever host
//! asks. Deadlines are kept in Redis, by its clock.
//!
//! What others write past the scripts lasts longer as soon as a host has heard of it. May not know what
//! the script does, or in which order commands go out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use crate::id::{GroupKey, ItemId};
use crate::protocol::streams::StreamRules;
use crate::shard::{HeardEvent, Learned};
use crate::time::Rarely;

use super::Redis;
use super::answers;
use super::members::Members;
use super::message::{names_of, read_names, stored};
use super::names::{ENDS, GROUPS, RUNS, TIMES, TTLS};
use super::scripts::Script;
use super::work::{Ended, Job, Work};

/// How often it is asked what is due. Each host asks for itself, so that any of them may be gone.
const EVERY: Duration = Duration::from_millis(400);
/// Items in one command: Redis serves nobody else meanwhile, which is a millisecond or so.
const ITEMS_MAX: usize = 128;
/// A command that has deleted so much goes no further.
const BYTES_MAX: usize = 256 * 1024;
/// Where among the parts of the answer it stands what became of the run.
const LIFE_AT: usize = 2;
/// Items written by others that are remembered until it is asked next; further ones keep their ends.
const WRITTEN_MAX: usize = 4096;

/// What is known of ends.
pub(super) struct Ends {
    rules: Arc<StreamRules>,
    /// Redis lets its user keep ends.
    pub(super) may: bool,
    /// When it is asked next. None: it is being asked, or Redis cannot be.
    next_at: Option<Instant>,
    /// Some items end, or did since the connections stand.
    pub(super) is_used: bool,
    /// Items that others have written since it was asked last.
    written: HashSet<(GroupKey, ItemId)>,
    failures: Rarely,
}

impl Ends {
    pub(super) fn new(rules: Arc<StreamRules>, now: Instant) -> Ends {
        Ends {
            rules,
            may: true,
            next_at: Some(now),
            is_used: false,
            written: HashSet::new(),
            failures: Rarely::default(),
        }
    }

    /// Whether the settings say that some items end.
    pub(super) fn are_set(&self) -> bool {
        self.rules.iter().any(|rule| rule.ttl.ms().is_some())
    }

    /// How long the items of that stream last, in ms, as the scripts take it.
    pub(super) fn of_stream(&self, stream: &str) -> String {
        let ms = self.rules.of(stream).and_then(|rule| rule.ttl.ms());
        ms.map(|ms| ms.to_string()).unwrap_or_default()
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// The connections stand.
    pub(super) fn begin(&mut self, now: Instant) {
        self.next_at = self.may.then_some(now);
        self.is_used = false;
    }

    /// They are lost.
    pub(super) fn end(&mut self) {
        self.next_at = None;
        self.written.clear();
    }

    /// It is asked again then, unless it is being asked.
    pub(super) fn ask_at(&mut self, at: Instant) {
        self.next_at = self.next_at.map(|next| next.min(at));
    }

    /// As the script takes it.
    pub(super) fn pack(
        &self,
        sha: &str,
        written: &[(GroupKey, ItemId)],
        members: &mut Members,
        now: Instant,
    ) -> Cmd {
        let mut command = begun(sha, ITEMS_MAX);
        members.pack_life(&mut command, now);
        for (key, item) in written {
            let of_stream = self.of_stream(key.stream());
            command.arg(names_of(key)).arg(&**item).arg(of_stream);
        }
        command
    }

    /// Somebody has written the item, or deleted it, past the scripts.
    pub(super) fn note_written(&mut self, key: &GroupKey, item: &ItemId) {
        let may_end = self.is_used || !self.of_stream(key.stream()).is_empty();
        if self.may && may_end && self.written.len() < WRITTEN_MAX {
            self.written.insert((key.clone(), ItemId::clone(item)));
        }
    }
}

/// The script's keys, and how much it may delete.
fn begun(sha: &str, items_max: usize) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(sha).arg(5);
    command.arg(GROUPS).arg(TIMES).arg(ENDS).arg(TTLS).arg(RUNS);
    command.arg(items_max).arg(BYTES_MAX);
    command
}

impl Redis {
    /// Asks what is due, if it is time.
    pub(super) fn tend_ends(&mut self, now: Instant) {
        if self.ends.next_at.is_some_and(|at| at <= now) {
            self.ends.next_at = None;
            let written = self.ends.written.drain().collect();
            self.calls.push(Job::own(Work::End(written)));
        }
    }

    pub(super) fn pack_ends(&mut self, written: &[(GroupKey, ItemId)], now: Instant) -> Cmd {
        let sha = self.scripts.sha(Script::Ends);
        self.ends.pack(sha, written, &mut self.members, now)
    }

    /// The same script deletes nothing and renews the lease.
    pub(super) fn pack_renewal(&mut self, now: Instant) -> Cmd {
        let mut command = begun(self.scripts.sha(Script::Ends), 0);
        self.members.pack_renewal(&mut command, now);
        command
    }

    pub(super) fn take_renewal(&mut self, value: Value, now: Instant) {
        match value {
            Value::Array(parts) => {
                let mut parts = parts.into_iter().skip(LIFE_AT);
                let mut next = || parts.next().unwrap_or(Value::Nil);
                let (life, time) = (next(), next());
                self.take_runs(life, time, Value::Nil, now);
            }
            refused => self.take_runs(refused, Value::Nil, Value::Nil, now),
        }
    }

    pub(super) fn take_ends(&mut self, value: Value, now: Instant) {
        let (mut has_more, mut failure) = (false, answers::error_of(&value));
        if !matches!(value, Value::Array(_)) {
            self.take_runs(Value::Nil, Value::Nil, Value::Nil, now);
        }
        if let Value::Array(parts) = value {
            let mut parts = parts.into_iter();
            let mut is_so = || parts.next().and_then(answers::bytes).as_deref() == Some(b"1");
            has_more = is_so();
            self.ends.is_used |= is_so();
            let mut next = || parts.next().unwrap_or(Value::Nil);
            let (life, time, of_run) = (next(), next(), next());
            self.take_runs(life, time, of_run, now);
            for part in parts {
                if answers::code_of(&part) == Some("READONLY") {
                    self.is_read_only(now);
                }
                failure = failure.or_else(|| answers::error_of(&part));
                if let Some(ended) = ended(part) {
                    let job = Job::own(Work::Ended(Box::new(ended)));
                    self.take_in_order(job, Value::Nil, Vec::new(), now);
                }
            }
        }
        if let Some(cause) = failure
            && let Some(more) = self.ends.failures.ask(now)
        {
            tracing::warn!(
                "{}: items that are due cannot be deleted: {cause}; {more} more since the last such line",
                self.shown
            );
        }
        self.ends.next_at = Some(if has_more { now } else { now + EVERY });
    }

    /// It is gone: triggers hear of it from here, subscribers by the channel.
    pub(super) fn take_ended(&mut self, ended: Ended, now: Instant) {
        if ended.is_empty {
            self.forget_later(ended.key.joined().to_owned(), false, now);
        }
        if let Ok(old) = stored(&ended.old) {
            let Ended {
                key,
                item,
                time,
                is_member,
                ..
            } = ended;
            self.learned.push(Learned::Made {
                key,
                item,
                event: HeardEvent::Delete(old),
                time,
                has_expired: !is_member,
            });
        }
    }
}

/// Its group's names, its own, its time, its last value, what became of the group, and whether it was a
/// member's.
fn ended(value: Value) -> Option<Ended> {
    let Value::Array(parts) = value else {
        return None;
    };
    let mut parts = parts.into_iter();
    let key = read_names(&answers::bytes(parts.next()?)?)?;
    let item = String::from_utf8(answers::bytes(parts.next()?)?).ok()?;
    let time = answers::number(parts.next()?)?;
    let old = answers::bytes(parts.next()?)?;
    let state = answers::bytes(parts.next()?)?;
    Some(Ended {
        key,
        item: item.into(),
        time,
        old,
        is_empty: state == b"gone",
        is_member: parts.next().and_then(answers::bytes).as_deref() == Some(b"1"),
    })
}
