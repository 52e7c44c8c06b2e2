//! Calls on their way: who waits, in which order commands go out, and whose each answer is.
//!
//! Commands go out in the order in which they came, many before the first answer. Changes that follow
//! each other go as one command. Where a call needs more than one step (an update, the cut of a join)
//! what follows in its group waits for its end. May not know how the connection comes about.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use redis::Value;

use crate::id::GroupKey;
use crate::protocol::input::StreamFunction;
use crate::protocol::ttl::Ttl;
use crate::shard::{Answer, Learned, Question, Request, RequestKind, Verdict};

use super::Redis;
use super::answers;
use super::error::Fault;
use super::refusals::{function_of, with_cause};
use super::scripts::Script;
use super::work::{Asker, Change, CutOf, Job, Step, Update, What, Work};

/// Changes in one command: Redis serves nobody else meanwhile, which is a millisecond or so.
const BATCH_LEN_MAX: usize = 128;
/// A command with so much in it takes no further change.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// With so many commands of changes under way, further changes wait until they fill one, or an answer
/// comes: what is done once for each command is then shared by more.
const BATCHES_MAX: usize = 2;

/// What waits, and what is under way.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) to_send: VecDeque<Job>,
    pub(super) under_way: VecDeque<UnderWay>,
    /// How many jobs are under way.
    len: usize,
    /// How many commands with changes are under way.
    batches_len: usize,
    /// What failed because Redis had forgotten a script, and what was read behind it, in order: again
    /// before all others, once all that was sent has been answered. The answers of a group keep their
    /// order, and a caller reads what it has written.
    pub(super) failed: VecDeque<Job>,
    /// Groups with a call of several steps, by joined name, and what waits behind it.
    pub(super) busy: HashMap<String, VecDeque<(Asker, Question, Instant)>>,
    /// Since when something is under way.
    asked_at: Option<Instant>,
    /// When it is looked next for what has waited too long.
    pub(super) sweep_at: Option<Instant>,
}

/// One command, or one transaction.
pub(super) struct UnderWay {
    /// Never empty. More than one: changes.
    pub(super) jobs: Vec<Job>,
    got: Vec<Value>,
    answers_len: usize,
    is_batch: bool,
    /// Where it begins among the bytes of the connection.
    pub(super) begins_at: u64,
    sent_at: Instant,
}

impl Calls {
    pub(super) fn is_idle(&self) -> bool {
        self.to_send.is_empty() && self.under_way.is_empty() && self.failed.is_empty()
    }

    pub(super) fn push(&mut self, job: Job) {
        self.to_send.push_back(job);
    }

    pub(super) fn push_first(&mut self, job: Job) {
        self.to_send.push_front(job);
    }

    /// Since when the oldest command waits for its answer.
    pub(super) fn oldest_at(&self) -> Option<Instant> {
        self.under_way.front().map(|first| first.sent_at)
    }

    /// Since when answers have been awaited without a break; `None`: none is.
    pub(super) fn asked_at(&self) -> Option<Instant> {
        self.asked_at
    }

    /// What goes out next as one command.
    fn next_to_send(&mut self, in_flight: usize) -> Option<Vec<Job>> {
        if !self.failed.is_empty() || self.len >= in_flight {
            return None;
        }
        if self.to_send.front()?.change().is_none() {
            return Some(vec![self.to_send.pop_front()?]);
        }
        let room = BATCH_LEN_MAX.min(in_flight - self.len);
        let mut bytes = 0;
        let fits = |change: &&Change| {
            let has_room = bytes < BATCH_BYTES_MAX;
            bytes += change.held_bytes();
            has_room
        };
        let changes = self.to_send.iter().take(room).map_while(Job::change);
        let len = changes.take_while(fits).count();
        let is_full = len == BATCH_LEN_MAX || len < self.to_send.len();
        if self.batches_len >= BATCHES_MAX && !is_full {
            return None;
        }
        Some(self.to_send.drain(..len).collect())
    }

    fn has_sent(&mut self, jobs: Vec<Job>, begins_at: u64, now: Instant) {
        let first = jobs.first();
        let under_way = UnderWay {
            got: Vec::new(),
            answers_len: first.map_or(0, Job::answers_len),
            is_batch: first.is_some_and(|job| job.change().is_some()),
            begins_at,
            sent_at: now,
            jobs,
        };
        self.len += under_way.jobs.len();
        self.batches_len += usize::from(under_way.is_batch);
        self.under_way.push_back(under_way);
        self.asked_at.get_or_insert(now);
    }

    /// Whether it can be the next answer that is awaited.
    fn fits(&self, value: &Value) -> bool {
        self.under_way.front().is_none_or(|front| {
            let is_last = front.got.len() + 1 >= front.answers_len;
            match (value, front.jobs.first()) {
                (Value::ServerError(_), _) | (_, None) => true,
                _ if !is_last => true,
                (Value::Array(each), _) if front.is_batch => each.len() == front.jobs.len(),
                (_, Some(job)) => !front.is_batch && job.work.is_answered_by(value),
            }
        })
    }

    /// Whose answers are whole with this one. Err: nobody waits for any.
    fn take_answer(&mut self, value: Value) -> Result<Option<UnderWay>, Value> {
        let Some(front) = self.under_way.front_mut() else {
            return Err(value);
        };
        front.got.push(value);
        if front.got.len() < front.answers_len {
            return Ok(None);
        }
        let answered = self.under_way.pop_front();
        if let Some(answered) = &answered {
            self.len -= answered.jobs.len();
            self.batches_len -= usize::from(answered.is_batch);
        }
        if self.under_way.is_empty() {
            self.asked_at = None;
        }
        Ok(answered)
    }
}

impl Redis {
    pub(super) fn enter(&mut self, request: Request, until: Instant) {
        let asker = Asker {
            shard: request.shard,
            epoch: request.epoch,
            number: request.number,
        };
        let RequestKind::Decide(question) = request.kind else {
            debug_assert!(false, "the store decides");
            return self.answer(asker, Verdict::Refused("the store decides".into()));
        };
        let group = match &question {
            Question::Keep { .. } => None, // what is told of members has an order of its own
            other => other.group().map(GroupKey::joined),
        };
        match group.and_then(|joined| self.calls.busy.get_mut(joined)) {
            Some(queue) => queue.push_back((asker, question, until)),
            None => self.begin(asker, question, until),
        }
    }

    fn begin(&mut self, asker: Asker, question: Question, until: Instant) {
        match question {
            Question::Unfollow { group } => {
                self.hearing.unfollow(&group);
                return self.answer(asker, Verdict::Accepted);
            }
            Question::Keep {
                group,
                item,
                data,
                connections,
            } => {
                self.members.keep(group, item, data, connections);
                return self.answer(asker, Verdict::Accepted);
            }
            // Whatever becomes of it now: it is read as soon as that is possible.
            Question::Follow { ref group, .. } => self.hearing.follow(group),
            _ => {}
        }
        if let Some(fault) = self.link.down_because() {
            let (function, cause) = (function_of(&question), fault.to_string());
            return self.refuse(asker, function, &cause);
        }
        let mut is_used = false;
        let mut change = |key, item, ttl: Option<Ttl>, what| {
            is_used |= ttl.is_some();
            Work::Change(Box::new(Change {
                asker,
                key,
                item,
                ttl,
                what,
            }))
        };
        if !self.names_are_whole() {
            self.ask_owner(&question);
        }
        let work = match question {
            Question::Get { group, item } => Work::Get(asker, group, item),
            Question::List { group } => Work::List(asker, group),
            Question::Set {
                group,
                item,
                data,
                ttl,
            } => change(group, item, ttl, What::Set(data)),
            Question::Delete { group, item } => change(group, item, None, What::Delete),
            Question::Send {
                group,
                id,
                kind,
                data,
            } => change(group, "".into(), None, What::Send { id, kind, data }),
            Question::Update {
                group,
                item,
                ops,
                ttl,
            } => {
                self.hold(&group);
                Work::Read(Box::new(Update {
                    asker,
                    key: group,
                    item,
                    ttl,
                    ops,
                }))
            }
            Question::Follow { group, item } => {
                self.hold(&group);
                let mark = self.hearing.cut_for_join(asker, &group);
                Work::Cut(Box::new(CutOf {
                    mark,
                    key: group,
                    item,
                    by_script: false,
                }))
            }
            Question::Groups { stream } => {
                Work::Mark(self.hearing.mark_for_listing(asker, stream, until))
            }
            Question::Unfollow { .. } | Question::Keep { .. } => return,
        };
        self.ends.is_used |= is_used;
        let until = Some(until);
        self.calls.push(Job { until, work });
    }

    /// Calls for that group wait from here on.
    fn hold(&mut self, key: &GroupKey) {
        self.calls.busy.insert(key.joined().into(), VecDeque::new());
    }

    /// The call of several steps is done: what waited behind it goes on.
    pub(super) fn go_on(&mut self, key: &GroupKey) {
        let Some(mut queue) = self.calls.busy.remove(key.joined()) else {
            return;
        };
        while let Some((asker, question, until)) = queue.pop_front() {
            self.begin(asker, question, until);
            if let Some(held) = self.calls.busy.get_mut(key.joined()) {
                *held = queue;
                return;
            }
        }
    }

    /// Packs what may go out. The socket is not written to yet.
    pub(super) fn send(&mut self, now: Instant) {
        self.load_what_is_forgotten();
        while self.link.has_room()
            && let Some(jobs) = self.calls.next_to_send(self.settings.in_flight)
        {
            let begins_at = self.link.packed();
            match &jobs[..] {
                [job] => self.pack(&job.work, now),
                jobs => {
                    let changes: Vec<&Change> = jobs.iter().filter_map(Job::change).collect();
                    let command = self.pack_changes(&changes);
                    self.link.queue(&command);
                }
            }
            self.calls.has_sent(jobs, begins_at, now);
        }
    }

    /// Packs one thing before all that waits, however much is under way.
    pub(super) fn send_alone(&mut self, job: Job, now: Instant) {
        let begins_at = self.link.packed();
        self.pack(&job.work, now);
        self.calls.has_sent(vec![job], begins_at, now);
    }

    /// All that was sent has been answered, and some of it because Redis had forgotten a script.
    fn load_what_is_forgotten(&mut self) {
        if self.calls.failed.is_empty() || !self.calls.under_way.is_empty() {
            return;
        }
        let load = |script| Job::own(Work::Setup(Step::Load(script)));
        let mut again: VecDeque<Job> = Script::ALL.map(load).into();
        again.append(&mut self.calls.failed);
        again.append(&mut self.calls.to_send);
        self.calls.to_send = again;
    }

    /// The next answer on the connection for commands. Err: it is out of step.
    pub(super) fn take_answer(&mut self, value: Value, now: Instant) -> Result<(), Fault> {
        // Those behind it would be displaced as well: nobody is told of one that is another's.
        if !self.calls.fits(&value) {
            return Err(Fault::Unexpected);
        }
        let answered = match self.calls.take_answer(value) {
            Ok(Some(answered)) => answered,
            Ok(None) => return Ok(()),
            Err(value) => return Err(answers::fault_of(&value)),
        };
        let UnderWay {
            jobs,
            mut got,
            is_batch,
            sent_at,
            ..
        } = answered;
        self.round_trips
            .push(now.saturating_duration_since(sent_at));
        let Some(value) = got.pop() else {
            return Ok(());
        };
        let is_forgotten = answers::code_of(&value) == Some("NOSCRIPT");
        let is_behind = !self.calls.failed.is_empty() && jobs.iter().all(Job::is_read);
        if is_forgotten || is_behind {
            for job in jobs {
                let again = self.renewed(job, now);
                self.calls.failed.extend(again);
            }
        } else if is_batch {
            let values = answers::of_each(value, jobs.len());
            for (job, value) in jobs.into_iter().zip(values) {
                self.take_in_order(job, value, Vec::new(), now);
            }
        } else if let Some(job) = jobs.into_iter().next() {
            self.take_in_order(job, value, got, now);
        }
        Ok(())
    }

    /// As it is done again, if somebody waits for it: a cut at another point.
    fn renewed(&mut self, mut job: Job, now: Instant) -> Option<Job> {
        match &mut job.work {
            Work::GivenUp => return None,
            Work::Cut(cut) => cut.mark = self.renew_cut(cut.mark, &cut.key, now),
            _ => {}
        }
        Some(job)
    }

    /// Redis is full and refuses every transaction: what one would have read, by a script.
    pub(super) fn cut_by_script(&mut self, mut cut: CutOf, until: Option<Instant>, now: Instant) {
        cut.mark = self.renew_cut(cut.mark, &cut.key, now);
        cut.by_script = true;
        let work = Work::Cut(Box::new(cut));
        self.calls.push_first(Job { until, work });
    }

    pub(super) fn answer(&mut self, asker: Asker, verdict: Verdict) {
        self.learned.push(Learned::Answer(Answer {
            shard: asker.shard,
            epoch: asker.epoch,
            number: asker.number,
            verdict,
        }));
    }

    pub(super) fn refuse(&mut self, asker: Asker, function: StreamFunction, cause: &str) {
        self.answer(asker, Verdict::Refused(with_cause(function, cause)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;

    fn key() -> GroupKey {
        GroupKey::new("s", "g")
    }

    fn asker(number: u64) -> Asker {
        Asker {
            shard: WorkerId(0),
            epoch: 0,
            number,
        }
    }

    fn push(calls: &mut Calls, work: Work) {
        let until = Some(Instant::now());
        calls.push(Job { until, work });
    }

    fn push_sets(calls: &mut Calls, len: usize, bytes: usize) {
        for number in 0..len {
            push(
                calls,
                Work::Change(Box::new(Change {
                    asker: asker(number as u64),
                    key: key(),
                    item: "i".into(),
                    ttl: None,
                    what: What::Set("1".repeat(bytes).into()),
                })),
            );
        }
    }

    /// How many jobs each command has.
    fn send(calls: &mut Calls, in_flight: usize) -> Vec<usize> {
        let mut lens = Vec::new();
        while let Some(jobs) = calls.next_to_send(in_flight) {
            lens.push(jobs.len());
            calls.has_sent(jobs, 0, Instant::now());
        }
        lens
    }

    #[test]
    fn changes_that_follow_each_other_are_one_command() {
        let mut calls = Calls::default();
        push_sets(&mut calls, 3, 1);
        push(&mut calls, Work::Get(asker(3), key(), "i".into()));
        push_sets(&mut calls, 2, 1);
        assert_eq!(send(&mut calls, 1000), [3, 1, 2]);
        for _ in 0..3 {
            assert!(matches!(calls.take_answer(Value::Nil), Ok(Some(_))));
        }
        assert!(calls.is_idle() && calls.take_answer(Value::Nil).is_err());
    }

    #[test]
    fn no_command_has_more_than_its_bounds() {
        let mut calls = Calls::default();
        push_sets(&mut calls, BATCH_LEN_MAX + 1, 1);
        assert_eq!(send(&mut calls, 1000), [BATCH_LEN_MAX, 1]);
        let mut calls = Calls::default();
        push_sets(&mut calls, 3, BATCH_BYTES_MAX / 2);
        assert_eq!(send(&mut calls, 1000), [2, 1]);
        let mut calls = Calls::default();
        push_sets(&mut calls, 3, 1);
        assert_eq!(send(&mut calls, 2), [2], "the rest has to wait");
    }

    #[test]
    fn further_changes_wait_for_an_answer_or_until_they_fill_a_command() {
        let mut calls = Calls::default();
        for _ in 0..BATCHES_MAX {
            push_sets(&mut calls, 1, 1);
            assert_eq!(send(&mut calls, 1000), [1]);
        }
        push_sets(&mut calls, 5, 1);
        assert!(send(&mut calls, 1000).is_empty());
        assert!(calls.take_answer(Value::Nil).is_ok());
        assert_eq!(send(&mut calls, 1000), [5]);
        push_sets(&mut calls, BATCH_LEN_MAX, 1);
        assert_eq!(send(&mut calls, 1000), [BATCH_LEN_MAX]);
    }

    #[test]
    fn nothing_goes_out_before_what_failed_is_repeated() {
        let mut calls = Calls::default();
        push_sets(&mut calls, 1, 1);
        let failed = calls.next_to_send(1000).unwrap();
        calls.failed.extend(failed);
        push_sets(&mut calls, 1, 1);
        assert!(send(&mut calls, 1000).is_empty());
    }
}
