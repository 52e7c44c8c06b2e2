//! What each job becomes in Redis, and what its answer means. Changes: `changes`.
//!
//! May not know in which order commands go out.

use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use crate::id::{GroupKey, ItemId};
use crate::protocol::input::StreamFunction;
use crate::shard::Verdict;

use super::Redis;
use super::answers::{self, Values};
use super::chores::Doing;
use super::message::stored;
use super::names::{GROUPS, PREFIX, TIMES, redis_key};
use super::scripts::Script;
use super::work::{Asker, CutOf, Job, Work};

impl Redis {
    pub(super) fn pack(&mut self, work: &Work, now: Instant) {
        let cut_channel = &*self.hearing.cut_channel;
        match work {
            Work::Change(change) => {
                let command = self.pack_changes(&[change]);
                self.link.queue(&command);
            }
            Work::Read(update) => self.link.queue(&get(&update.key, &update.item)),
            Work::Get(_, key, item) => self.link.queue(&get(key, item)),
            Work::List(_, key) => {
                self.link.queue(redis::cmd("HVALS").arg(redis_key(key)));
            }
            Work::Cut(cut) if cut.by_script => {
                let mut command = redis::cmd("EVALSHA");
                command.arg(self.scripts.sha(Script::Cut)).arg(2);
                command.arg(redis_key(&cut.key)).arg(TIMES);
                command.arg(cut_channel).arg(cut.mark);
                if let Some(item) = &cut.item {
                    command.arg(&**item);
                }
                self.link.queue(&command);
                self.hearing.has_sent(cut.mark, now);
            }
            Work::Cut(cut) => {
                let CutOf {
                    mark, key, item, ..
                } = &**cut;
                let redis_key = redis_key(key);
                self.link.queue(&redis::cmd("MULTI"));
                match item {
                    Some(item) => self.link.queue(&get(key, item)),
                    None => self.link.queue(redis::cmd("HGETALL").arg(&redis_key)),
                }
                self.link.queue(&redis::cmd("TIME"));
                self.link
                    .queue(redis::cmd("HGET").arg(TIMES).arg(&redis_key));
                self.link.queue(&publish(cut_channel, *mark));
                self.link.queue(&redis::cmd("EXEC"));
                self.hearing.has_sent(*mark, now);
            }
            Work::Mark(mark) => {
                self.link.queue(&publish(cut_channel, *mark));
                self.hearing.has_sent(*mark, now);
            }
            Work::Beat(mark) => {
                self.link.queue(&redis::cmd("DBSIZE"));
                self.link.queue(&redis::cmd("TIME"));
                self.link.queue(&publish(cut_channel, *mark));
                self.hearing.has_sent(*mark, now);
            }
            Work::Look(keys) => {
                for key in keys {
                    self.link.queue(redis::cmd("HLEN").arg(redis_key(key)));
                }
            }
            Work::Find(key) => self.link.queue(redis::cmd("HLEN").arg(redis_key(key))),
            Work::Owner(key) => self.link.queue(&Redis::pack_owner(key)),
            Work::Names(piece) => {
                let command = self.pack_piece(piece);
                self.link.queue(&command);
            }
            Work::End(written) => {
                let command = self.pack_ends(written, now);
                self.link.queue(&command);
            }
            Work::Renew => {
                let command = self.pack_renewal(now);
                self.link.queue(&command);
            }
            Work::Forget(joined, tells) => {
                let redis_key = format!("{}{joined}", PREFIX);
                let mut command = redis::cmd("EVALSHA");
                command.arg(self.scripts.sha(Script::Forget)).arg(3);
                command.arg(redis_key).arg(GROUPS).arg(TIMES);
                command.arg(if *tells { cut_channel } else { "" });
                self.link.queue(&command);
            }
            Work::Raise(key, time) => {
                let mut command = redis::cmd("EVALSHA");
                command.arg(self.scripts.sha(Script::Raise)).arg(2);
                command.arg(redis_key(key)).arg(TIMES).arg(time);
                self.link.queue(&command);
            }
            Work::Setup(step) => {
                let command = self.pack_step(step);
                self.link.queue(&command);
            }
            Work::Keep(word) => {
                let command = self.pack_word(word);
                self.link.queue(&command);
            }
            Work::Ended(_) | Work::GivenUp => debug_assert!(false, "it is never sent"),
        }
    }

    pub(super) fn take_result(
        &mut self,
        job: Job,
        value: Value,
        mut before: Vec<Value>,
        now: Instant,
    ) {
        let until = job.until;
        if answers::code_of(&value) == Some("READONLY") {
            self.is_read_only(now);
        }
        match job.work {
            Work::Change(change) => self.take_changed(*change, value, until, now),
            Work::Read(update) => self.take_read(*update, value, until, now),
            Work::Get(asker, key, _) => self.take_found(asker, &key, value),
            Work::List(asker, key) => self.take_list(asker, key, value, now),
            Work::Cut(cut) => {
                let is_refused = |value| answers::code_of(value) == Some("OOM");
                if !cut.by_script && before.iter().any(is_refused) {
                    return self.cut_by_script(*cut, until, now);
                }
                match answers::cutting(value, cut.item.as_ref()) {
                    Ok(cutting) => self.begin_chore(Doing::Cut(cut, Box::new(cutting)), now),
                    Err(fault) => self.take_cut(cut.mark, &cut.key, Err(fault), now),
                }
            }
            Work::Mark(mark) => {
                if let Some(error) = answers::error_of(&value) {
                    self.refuse_mark(mark, &error);
                }
            }
            Work::Beat(_) => {
                self.take_time(before.pop().and_then(answers::time), now);
                self.take_keys_len(before.pop().and_then(answers::number));
            }
            Work::Look(keys) => {
                before.push(value);
                self.take_looks(keys, before);
            }
            Work::Find(key) => self.take_find(&key, value),
            Work::Owner(_) => self.take_owner(value),
            Work::Names(piece) => self.take_piece(piece, value, now),
            Work::End(_) => self.take_ends(value, now),
            Work::Renew => self.take_renewal(value, now),
            Work::Keep(word) => self.take_word(*word, value, now),
            Work::Ended(ended) => self.take_ended(*ended, now),
            Work::Forget(joined, tells) => {
                if let Value::Int(ms) = value {
                    self.forget_in(joined, tells, Duration::from_millis(ms.unsigned_abs()), now);
                }
            }
            Work::Raise(key, time) => self.take_raised(key, time, value, now),
            Work::Setup(step) => self.take_step(step, value, now),
            Work::GivenUp => {}
        }
    }

    fn take_found(&mut self, asker: Asker, key: &GroupKey, value: Value) {
        if self.names.is_of_another(key) {
            return self.answer(asker, Verdict::Found(None));
        }
        if let Some(error) = answers::error_of(&value) {
            return self.refuse(asker, StreamFunction::Get, &error);
        }
        match answers::bytes(value).map(|bytes| stored(&bytes)) {
            None => self.answer(asker, Verdict::Found(None)),
            Some(Ok(text)) => self.answer(asker, Verdict::Found(Some(text))),
            Some(Err(why)) => {
                let cause = format!("Failed to deserialize value: {why}");
                self.answer(asker, Verdict::Refused(cause.into()));
            }
        }
    }

    fn take_list(&mut self, asker: Asker, key: GroupKey, value: Value, now: Instant) {
        if self.names.is_of_another(&key) {
            return self.answer(asker, Verdict::Listed(Vec::new()));
        }
        let Value::Array(values) = value else {
            let fault = answers::fault_of(&value);
            return self.refuse(asker, StreamFunction::List, &fault.to_string());
        };
        self.begin_chore(Doing::List(asker, key, Values::new(values)), now);
    }
}

fn publish(channel: &str, mark: u64) -> Cmd {
    let mut command = redis::cmd("PUBLISH");
    command.arg(channel).arg(mark);
    command
}

fn get(key: &GroupKey, item: &ItemId) -> Cmd {
    let mut command = redis::cmd("HGET");
    command.arg(redis_key(key)).arg(&**item);
    command
}
