//! A change: what it becomes in Redis, and what the answer means. An update reads, computes natively and
//! changes the value if it is still what was read.
//!
//! May not know in which order commands go out.

use std::collections::HashMap;
use std::time::Instant;

use redis::{Cmd, Value};

use crate::id::{GroupKey, Text};
use crate::protocol::answer::UpdateError;
use crate::protocol::input::StreamFunction;
use crate::protocol::json::value::ValueError;
use crate::shard::Verdict;
use crate::shard::update::{self, Opening};

use super::Redis;
use super::answers::{self, Changed};
use super::chores::{Doing, Opened};
use super::error::Fault;
use super::message::{Unreadable, change_head, event, names_of, stored};
use super::names::{ENDS, GROUPS, RUNS, TIMES, TTLS, is_ambiguous, redis_key};
use super::refusals::{shared_key, with_cause};
use super::scripts::Script;
use super::work::{Change, Job, Update, What, Work};

impl Change {
    /// As the script takes it, without what all changes of the group share.
    fn pack(&self, number: usize, command: &mut Cmd) {
        let head = || change_head(&self.key, &self.item);
        let item = &*self.item;
        let kind = match &self.what {
            What::Set(_) => "set",
            What::Delete => "delete",
            What::Send { .. } => "send",
            What::Swap { old: Some(_), .. } => "swap",
            What::Swap { old: None, .. } => "make",
        };
        command.arg(kind).arg(number);
        match &self.what {
            What::Set(data) => command.arg(head()).arg(item).arg(&**data).arg(""),
            What::Delete => command.arg(head()).arg(item).arg("").arg(""),
            What::Send { id, kind, data } => {
                let event = event(&self.key, id.as_deref(), kind, data);
                command.arg(event).arg("").arg("").arg("")
            }
            What::Swap { old, new, .. } => {
                let expected = old.as_deref().unwrap_or_default();
                command.arg(head()).arg(item).arg(&**new).arg(expected)
            }
        };
        let ttl = self.ttl.map(|ttl| ttl.ms().unwrap_or(0).to_string());
        command.arg(ttl.unwrap_or_default());
    }
}

impl Redis {
    /// One command for all of them.
    pub(super) fn pack_changes(&self, changes: &[&Change]) -> Cmd {
        let mut numbers = HashMap::new();
        let mut groups: Vec<&GroupKey> = Vec::new();
        for Change { key, .. } in changes {
            numbers
                .entry((key.stream(), key.group()))
                .or_insert_with(|| {
                    groups.push(key);
                    groups.len()
                });
        }
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.scripts.sha(Script::Change));
        command.arg(5 + groups.len());
        command.arg(GROUPS).arg(TIMES).arg(ENDS).arg(TTLS).arg(RUNS);
        for key in &groups {
            command.arg(redis_key(key));
        }
        for key in &groups {
            command.arg(names_of(key)).arg(u8::from(is_ambiguous(key)));
            command.arg(self.ends.of_stream(key.stream()));
        }
        for change in changes {
            let key = &change.key;
            change.pack(numbers[&(key.stream(), key.group())], &mut command);
        }
        command
    }

    pub(super) fn take_changed(
        &mut self,
        change: Change,
        value: Value,
        until: Option<Instant>,
        now: Instant,
    ) {
        if let Some(error) = answers::error_of(&value) {
            return self.end_refused(&change, &error);
        }
        let changed = match answers::changed(value) {
            Ok(changed) => changed,
            Err(fault) => return self.end_refused(&change, &fault.to_string()),
        };
        match changed {
            Changed::Done {
                time,
                old,
                is_empty,
            } => {
                if !matches!(change.what, What::Send { .. }) {
                    self.has_accepted();
                }
                if is_empty {
                    self.forget_later(change.key.joined().to_owned(), false, now);
                }
                self.end_done(&change, old, time);
            }
            Changed::Nothing => self.end(&change, decided(None, None, Vec::new(), 0)),
            Changed::Owned(names) => {
                let cause = shared_key(&change.key, &names);
                self.end(&change, Verdict::Refused(cause.into()));
            }
            Changed::Odd(old) => {
                let why = stored(&old).err();
                let why = why.unwrap_or(Unreadable::Value(ValueError::Syntax));
                let cause = format!("Failed to deserialize old value: {why}");
                self.end(&change, Verdict::Refused(cause.into()));
            }
            Changed::Other(old) => match change.what {
                What::Swap { ops, .. } => {
                    let Change {
                        asker,
                        key,
                        item,
                        ttl,
                        ..
                    } = change;
                    let update = Update {
                        asker,
                        key,
                        item,
                        ttl,
                        ops,
                    };
                    self.compute(update, old, until, now);
                }
                _ => self.end_refused(&change, &Fault::Unexpected.to_string()),
            },
        }
    }

    /// It has been made. An old text that Redis takes for JSON and nobody else does is as good as none.
    fn end_done(&mut self, change: &Change, old: Option<Vec<u8>>, time: u64) {
        let old = old.and_then(|old| stored(&old).ok());
        let (new, errors) = match &change.what {
            What::Set(data) => (Some(data), Vec::new()),
            What::Swap { new, errors, .. } => (Some(new), errors.clone()),
            What::Delete | What::Send { .. } => (None, Vec::new()),
        };
        let verdict = decided(old, new.cloned(), errors, time);
        self.end(change, verdict);
    }

    pub(super) fn take_read(
        &mut self,
        update: Update,
        value: Value,
        until: Option<Instant>,
        now: Instant,
    ) {
        match answers::error_of(&value) {
            Some(error) => self.end_update(&update, &error),
            None => self.compute(update, answers::bytes(value), until, now),
        }
    }

    /// The next step of an update, on what was there a moment ago.
    fn compute(
        &mut self,
        update: Update,
        old: Option<Vec<u8>>,
        until: Option<Instant>,
        now: Instant,
    ) {
        self.chores.spend(old.as_ref().map_or(0, Vec::len));
        let text = match old.as_deref().map(stored).transpose() {
            Ok(_) if self.names.is_of_another(&update.key) => None,
            Ok(text) => text,
            Err(why) => {
                let cause = format!("failed to decode existing JSON: {why}");
                return self.end_update(&update, &cause);
            }
        };
        let opening = Opening::of(text.as_deref(), &update.ops);
        let opened = Opened {
            update,
            until,
            old,
            text,
            opening,
        };
        self.begin_chore(Doing::Update(Box::new(opened)), now);
    }

    /// Its value is open: what it becomes is sent.
    pub(super) fn end_compute(&mut self, opened: Opened) {
        let Opened {
            update,
            until,
            old,
            text,
            opening,
        } = opened;
        let updated = opening.apply(text.as_deref(), &update.ops);
        let limits = &self.limits;
        let checked = update::check_limits(
            &updated.value,
            &update.ops,
            limits.json_depth,
            limits.value_bytes,
        );
        if let Err(cause) = checked {
            self.answer(update.asker, Verdict::Refused(cause.into()));
            return self.go_on(&update.key);
        }
        let what = What::Swap {
            ops: update.ops,
            old,
            new: updated.value.into(),
            errors: updated.errors,
        };
        let work = Work::Change(Box::new(Change {
            asker: update.asker,
            key: update.key,
            item: update.item,
            ttl: update.ttl,
            what,
        }));
        // It goes out before all others: its group waits for it.
        self.calls.push_first(Job { until, work });
    }

    pub(super) fn end_update(&mut self, update: &Update, cause: &str) {
        self.refuse(update.asker, StreamFunction::Update, cause);
        self.go_on(&update.key);
    }

    pub(super) fn end_refused(&mut self, change: &Change, cause: &str) {
        let function = change.what.function();
        self.end(change, Verdict::Refused(with_cause(function, cause)));
    }

    fn end(&mut self, change: &Change, verdict: Verdict) {
        self.answer(change.asker, verdict);
        if matches!(change.what, What::Swap { .. }) {
            self.go_on(&change.key);
        }
    }
}

fn decided(old: Option<Text>, new: Option<Text>, errors: Vec<UpdateError>, time: u64) -> Verdict {
    Verdict::Decided {
        old,
        new,
        errors,
        time,
    }
}
