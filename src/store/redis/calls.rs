//! Calls on their way: what each becomes in Redis, in which order, and what its answer means.
//!
//! Commands go out in the order in which they came, many before the first answer. Where a call needs
//! more than one step (an update, the cut of a join) what follows in its group waits for its end.
//! May not know how the connection comes about.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

use crate::id::{GroupKey, ItemId, Text, WorkerId};
use crate::protocol::answer::UpdateError;
use crate::protocol::input::{StreamFunction, UpdateOp};
use crate::shard::{Answer, Learned, Question, Request, RequestKind, Verdict, update};

use super::Redis;
use super::answers::{self, Changed};
use super::link::Step;
use super::message::{change_head, event, names_of, read_names, stored};
use super::names::{is_ambiguous, redis_key};
use super::scripts::Script;

const GROUPS: &str = "iii-stream:groups";
const TIMES: &str = "iii-stream:times";
/// The cause that callers get whose change may or may not have been stored.
const UNKNOWN: &str = "connection lost, unknown whether the change was stored";

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    shard: WorkerId,
    epoch: u32,
    number: u64,
}

/// One thing to be done in Redis.
pub(super) struct Job {
    /// Nobody waits longer.
    pub(super) until: Instant,
    pub(super) work: Work,
}

pub(super) enum Work {
    Change(Box<Change>),
    Get(Asker, GroupKey, ItemId),
    List(Asker, GroupKey),
    /// Items at a point that the channel tells: the number of the cut.
    Cut(u64, GroupKey, Option<ItemId>),
    /// Only the point.
    Mark(u64),
    /// A point, and the time.
    Beat(u64),
    /// Removes what is kept of a group without items, by its joined name; and tells us of it in the
    /// order of the channel.
    Forget(String, bool),
    Setup(Step),
}

/// A change and how far it is.
pub(super) struct Change {
    asker: Asker,
    key: GroupKey,
    item: ItemId,
    what: What,
}

enum What {
    /// `true`: the old text is known to be JSON, whatever it looks like.
    Set(Text, bool),
    Delete(bool),
    Send {
        id: Option<ItemId>,
        kind: Box<str>,
        data: Text,
    },
    /// An update reads first.
    Read(Arc<[UpdateOp]>),
    /// And writes if nothing has changed meanwhile.
    Swap {
        ops: Arc<[UpdateOp]>,
        old: Option<Vec<u8>>,
        new: Text,
        errors: Vec<UpdateError>,
    },
}

/// What waits, and what is under way.
#[derive(Default)]
pub(super) struct Calls {
    to_send: VecDeque<Job>,
    under_way: VecDeque<UnderWay>,
    /// Jobs whose script Redis had forgotten, in their order. They go before all others, once all
    /// that was sent has been answered.
    again: VecDeque<Job>,
    /// The scripts are loaded, or will be before these.
    has_loaded: bool,
    /// Groups with a call of several steps, by joined name, and what waits behind it.
    busy: HashMap<String, VecDeque<(Asker, Question, Instant)>>,
}

struct UnderWay {
    job: Job,
    got: Vec<Value>,
}

impl Job {
    /// How many answers it has.
    fn answers_len(&self) -> usize {
        match self.work {
            Work::Cut(..) => 6,
            Work::Beat(_) => 2,
            _ => 1,
        }
    }
}

impl Calls {
    pub(super) fn is_idle(&self) -> bool {
        self.to_send.is_empty() && self.under_way.is_empty() && self.again.is_empty()
    }

    pub(super) fn push(&mut self, job: Job) {
        self.to_send.push_back(job);
    }

    /// When the first of those that wait has waited long enough.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let under_way = self.under_way.front().map(|under_way| under_way.job.until);
        let to_send = self.to_send.front().map(|job| job.until);
        let behind = self.busy.values().filter_map(|queue| queue.front());
        let behind = behind.map(|(_, _, until)| *until);
        [under_way, to_send]
            .into_iter()
            .flatten()
            .chain(behind)
            .min()
    }

    /// Whether Redis has not answered for so long that nobody waits for it any more.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let front = self.under_way.front();
        front.is_some_and(|under_way| under_way.job.until <= now)
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
        let group = group_of(&question).map(GroupKey::joined);
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
            // Whatever becomes of it now: it is read as soon as that is possible.
            Question::Follow { ref group, .. } => self.hearing.follow(group),
            _ => {}
        }
        if let Some(cause) = self.link.down_because() {
            let function = function_of(&question);
            return self.refuse(asker, function, &cause);
        }
        let change = |key, item, what| {
            Work::Change(Box::new(Change {
                asker,
                key,
                item,
                what,
            }))
        };
        let work = match question {
            Question::Get { group, .. } if self.names.is_of_another(&group) => {
                return self.answer(asker, Verdict::Found(None));
            }
            Question::List { group } if self.names.is_of_another(&group) => {
                return self.answer(asker, Verdict::Listed(Vec::new()));
            }
            Question::Get { group, item } => Work::Get(asker, group, item),
            Question::List { group } => Work::List(asker, group),
            Question::Set { group, item, data } => change(group, item, What::Set(data, false)),
            Question::Delete { group, item } => change(group, item, What::Delete(false)),
            Question::Send {
                group,
                id,
                kind,
                data,
            } => change(group, "".into(), What::Send { id, kind, data }),
            Question::Update { group, item, ops } => {
                self.hold(&group);
                change(group, item, What::Read(ops))
            }
            Question::Follow { group, item } => {
                self.hold(&group);
                let cut = self.hearing.cut_for_join(asker, &group);
                Work::Cut(cut, group, item)
            }
            Question::Groups { stream } => Work::Mark(self.hearing.mark_for_listing(asker, stream)),
            Question::Unfollow { .. } => return,
        };
        self.calls.push(Job { until, work });
    }

    /// What comes for that group waits from here on.
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
        if self.calls.lacks_scripts() {
            let until = now + self.settings.call_timeout;
            for script in Script::ALL.into_iter().rev() {
                let work = Work::Setup(Step::Load(script));
                self.calls.again.push_front(Job { until, work });
            }
            self.calls.has_loaded = true;
        }
        while self.calls.under_way.len() < self.settings.in_flight
            && self.link.has_room()
            && let Some(job) = self.next_to_send()
        {
            if job.until <= now {
                self.give_up(job, "timed out");
                continue;
            }
            self.pack(&job.work, now);
            let got = Vec::with_capacity(job.answers_len());
            self.calls.under_way.push_back(UnderWay { job, got });
        }
    }

    fn next_to_send(&mut self) -> Option<Job> {
        let calls = &mut self.calls;
        if calls.again.is_empty() {
            calls.has_loaded = false;
            return calls.to_send.pop_front();
        }
        if calls.has_loaded {
            return calls.again.pop_front();
        }
        None
    }

    /// What waits behind a call of several steps, or for the socket, for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(job) = self.calls.to_send.pop_front_if(|job| job.until <= now) {
            self.give_up(job, "timed out");
        }
        let mut late = Vec::new();
        for queue in self.calls.busy.values_mut() {
            while let Some((asker, question, _)) = queue.pop_front_if(|(_, _, until)| *until <= now)
            {
                late.push((asker, function_of(&question)));
            }
        }
        for (asker, function) in late {
            self.refuse(asker, function, "timed out");
        }
    }

    fn pack(&mut self, work: &Work, now: Instant) {
        let cut_channel = self.hearing.cut_channel.clone();
        let publish = |mark: &u64| {
            let mut command = Cmd::new();
            command.arg("PUBLISH").arg(&cut_channel).arg(*mark);
            command
        };
        match work {
            Work::Change(change) => {
                let command = self.pack_change(change);
                self.link.queue(&command);
            }
            Work::Get(_, key, item) => {
                let mut command = redis::cmd("HGET");
                command.arg(redis_key(key)).arg(&**item);
                self.link.queue(&command);
            }
            Work::List(_, key) => {
                self.link.queue(redis::cmd("HVALS").arg(redis_key(key)));
            }
            Work::Cut(mark, key, item) => {
                let redis_key = redis_key(key);
                self.link.queue(&redis::cmd("MULTI"));
                match item {
                    Some(item) => {
                        let mut command = redis::cmd("HGET");
                        command.arg(&redis_key).arg(&**item);
                        self.link.queue(&command);
                    }
                    None => self.link.queue(redis::cmd("HGETALL").arg(&redis_key)),
                }
                self.link.queue(&redis::cmd("TIME"));
                self.link
                    .queue(redis::cmd("HGET").arg(TIMES).arg(&redis_key));
                self.link.queue(&publish(mark));
                self.link.queue(&redis::cmd("EXEC"));
                self.hearing.has_sent(*mark, now);
            }
            Work::Mark(mark) => {
                self.link.queue(&publish(mark));
                self.hearing.has_sent(*mark, now);
            }
            Work::Beat(mark) => {
                self.link.queue(&redis::cmd("TIME"));
                self.link.queue(&publish(mark));
                self.hearing.has_sent(*mark, now);
            }
            Work::Forget(joined, tells) => {
                let redis_key = format!("{}{joined}", super::names::PREFIX);
                let mut command = self.evaluated(Script::Forget, &redis_key);
                command.arg(if *tells { &*cut_channel } else { "" });
                self.link.queue(&command);
            }
            Work::Setup(step) => {
                let command = self.pack_step(step);
                self.link.queue(&command);
            }
        }
    }

    fn pack_change(&self, change: &Change) -> Cmd {
        let Change {
            key, item, what, ..
        } = change;
        let redis_key = redis_key(key);
        let script = match what {
            What::Set(..) => Script::Set,
            What::Delete(_) => Script::Delete,
            What::Send { .. } => Script::Send,
            What::Swap { .. } => Script::Swap,
            What::Read(_) => {
                let mut command = redis::cmd("HGET");
                command.arg(&redis_key).arg(&**item);
                return command;
            }
        };
        let mut command = self.evaluated(script, &redis_key);
        if let What::Send { id, kind, data } = what {
            command.arg(event(key, id.as_deref(), kind, data));
            return command;
        }
        command
            .arg(names_of(key))
            .arg(u8::from(is_ambiguous(key)))
            .arg(change_head(key, item))
            .arg(&**item);
        match what {
            What::Set(data, is_checked) => command.arg(&**data).arg(u8::from(*is_checked)),
            What::Swap { old, new, .. } => {
                let expected = old.as_deref().unwrap_or_default();
                let is_there = u8::from(old.is_some());
                command.arg(&**new).arg(is_there).arg(expected)
            }
            What::Delete(is_checked) => command.arg(u8::from(*is_checked)),
            What::Send { .. } | What::Read(_) => &mut command,
        };
        command
    }

    fn evaluated(&self, script: Script, redis_key: &str) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.scripts.sha(script)).arg(3);
        command.arg(redis_key).arg(GROUPS).arg(TIMES);
        command
    }

    /// The next answer on the connection for commands. Err: it is out of step.
    pub(super) fn take_answer(&mut self, value: Value, now: Instant) -> Result<(), String> {
        let Some(front) = self.calls.under_way.front_mut() else {
            return Err(answers::error_of(&value).unwrap_or_else(answers::unexpected));
        };
        front.got.push(value);
        if front.got.len() < front.job.answers_len() {
            return Ok(());
        }
        let Some(UnderWay { job, mut got }) = self.calls.under_way.pop_front() else {
            return Ok(());
        };
        let Some(value) = got.pop() else {
            return Ok(());
        };
        if answers::code_of(&value) == Some("NOSCRIPT") {
            self.calls.again.push_back(job);
            return Ok(());
        }
        if answers::code_of(&value) == Some("READONLY") {
            // Another server is the master by now, under the same name.
            self.link.has_wrong_server(answers::error_of(&value));
        }
        self.take_result(job, value, got, now);
        Ok(())
    }

    fn take_result(&mut self, job: Job, value: Value, mut before: Vec<Value>, now: Instant) {
        let until = job.until;
        match job.work {
            Work::Change(change) => self.take_changed(*change, value, until, now),
            Work::Get(asker, _, _) => self.take_found(asker, value),
            Work::List(asker, key) => self.take_list(asker, &key, value),
            Work::Cut(cut, key, item) => {
                let result = answers::cut(value, item.as_ref());
                self.take_cut(cut, &key, result, now);
            }
            Work::Mark(mark) => {
                if let Some(error) = answers::error_of(&value) {
                    self.refuse_mark(mark, &error);
                }
            }
            Work::Beat(_) => {
                let time = before.pop().and_then(answers::time);
                self.clock = time.map(|ms| (ms, now)).or(self.clock);
            }
            Work::Forget(joined, tells) => {
                if answers::bytes(value).as_deref() == Some(b"wait") {
                    self.forget_later(joined, tells, now);
                }
            }
            Work::Setup(step) => self.take_step(step, value, now),
        }
    }

    fn take_found(&mut self, asker: Asker, value: Value) {
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

    fn take_list(&mut self, asker: Asker, key: &GroupKey, value: Value) {
        let Value::Array(values) = value else {
            let cause = answers::error_of(&value).unwrap_or_else(answers::unexpected);
            return self.refuse(asker, StreamFunction::List, &cause);
        };
        let values_len = values.len();
        let texts = values.into_iter().filter_map(answers::bytes);
        let texts: Vec<Text> = texts.filter_map(|bytes| stored(&bytes).ok()).collect();
        self.note_unreadable(key, values_len - texts.len());
        self.answer(asker, Verdict::Listed(texts));
    }

    fn take_changed(&mut self, mut change: Change, value: Value, until: Instant, now: Instant) {
        let function = change.what.function();
        if let Some(error) = answers::error_of(&value) {
            return self.end_refused(change, &error);
        }
        if let What::Read(ops) = change.what {
            let old = answers::bytes(value);
            change.what = What::Read(Arc::clone(&ops));
            return self.compute(change, ops, old, until);
        }
        let changed = match answers::changed(value) {
            Ok(changed) => changed,
            Err(cause) => return self.end_refused(change, &cause),
        };
        match (changed, &mut change.what) {
            (Changed::Owned(names), _) => {
                let cause = shared_key(&change.key, &names);
                self.end(&change, Verdict::Refused(cause.into()));
            }
            (Changed::Nothing, _) => self.end(&change, decided(None, None, Vec::new(), 0)),
            (Changed::Odd(old), What::Set(_, is_checked) | What::Delete(is_checked)) => {
                match stored(&old) {
                    Ok(_) => {
                        *is_checked = true;
                        let work = Work::Change(Box::new(change));
                        self.calls.to_send.push_front(Job { until, work });
                    }
                    Err(why) => {
                        let cause = format!("Failed to deserialize old value: {why}");
                        self.end(&change, Verdict::Refused(cause.into()));
                    }
                }
            }
            (Changed::Other(old), What::Swap { ops, .. }) => {
                let ops = Arc::clone(ops);
                self.compute(change, ops, old, until);
            }
            (
                Changed::Done {
                    time,
                    old,
                    is_empty,
                },
                _,
            ) => {
                if is_empty {
                    self.forget_later(change.key.joined().to_owned(), false, now);
                }
                self.end_done(change, old, time);
            }
            _ => {
                debug_assert!(false, "not an answer of the script for {function:?}");
                self.end_refused(change, &answers::unexpected());
            }
        }
    }

    fn end_done(&mut self, change: Change, old: Option<Vec<u8>>, time: u64) {
        let old = old.as_deref().map(stored).transpose();
        let verdict = match (old, &change.what) {
            (Err(why), _) => {
                let cause = format!("Failed to deserialize old value: {why}");
                Verdict::Refused(cause.into())
            }
            (Ok(old), What::Set(data, _)) => {
                decided(old, Some(Text::clone(data)), Vec::new(), time)
            }
            (Ok(old), What::Swap { new, errors, .. }) => {
                decided(old, Some(Text::clone(new)), errors.clone(), time)
            }
            (Ok(old), _) => decided(old, None, Vec::new(), time),
        };
        self.end(&change, verdict);
    }

    /// The next step of an update, on what was there a moment ago.
    fn compute(
        &mut self,
        mut change: Change,
        ops: Arc<[UpdateOp]>,
        old: Option<Vec<u8>>,
        until: Instant,
    ) {
        let readable = match old.as_deref().map(stored).transpose() {
            Ok(_) if self.names.is_of_another(&change.key) => None,
            Ok(readable) => readable,
            Err(why) => {
                let cause = format!("failed to decode existing JSON: {why}");
                return self.end_refused(change, &cause);
            }
        };
        let updated = update::apply(readable.as_deref(), &ops);
        let limits = &self.limits;
        let checked = update::check_limits(&updated.value, limits.json_depth, limits.value_bytes);
        if let Err(cause) = checked {
            return self.end(&change, Verdict::Refused(cause.into()));
        }
        change.what = What::Swap {
            ops,
            old,
            new: updated.value.into(),
            errors: updated.errors,
        };
        let work = Work::Change(Box::new(change));
        // Behind nothing: its group waits for it.
        self.calls.to_send.push_front(Job { until, work });
    }

    fn end_refused(&mut self, change: Change, cause: &str) {
        let function = change.what.function();
        let refused = Verdict::Refused(with_cause(function, cause));
        self.end(&change, refused);
    }

    fn end(&mut self, change: &Change, verdict: Verdict) {
        self.answer(change.asker, verdict);
        if matches!(change.what, What::Read(_) | What::Swap { .. }) {
            self.go_on(&change.key);
        }
    }

    /// The connection is lost. What was not sent has not happened; of what was, nobody knows.
    pub(super) fn drop_calls(&mut self, cause: &str, now: Instant) {
        let calls = std::mem::take(&mut self.calls);
        for UnderWay { job, .. } in calls.under_way {
            let is_late = job.until <= now;
            let is_read = match &job.work {
                Work::Change(change) => matches!(change.what, What::Read(_)),
                _ => true,
            };
            let cause = match (is_late, is_read) {
                (true, _) => "timed out",
                (_, true) => cause,
                (_, false) => UNKNOWN,
            };
            self.give_up(job, cause);
        }
        for job in calls.again.into_iter().chain(calls.to_send) {
            self.give_up(job, cause);
        }
        for (asker, question, _) in calls.busy.into_values().flatten() {
            self.refuse(asker, function_of(&question), cause);
        }
    }

    fn give_up(&mut self, job: Job, cause: &str) {
        match job.work {
            Work::Change(change) => self.end_refused(*change, cause),
            Work::Get(asker, ..) => self.refuse(asker, StreamFunction::Get, cause),
            Work::List(asker, ..) => self.refuse(asker, StreamFunction::List, cause),
            Work::Cut(cut, key, _) => self.refuse_cut(cut, &key, cause),
            Work::Mark(mark) => self.refuse_mark(mark, cause),
            Work::Beat(_) | Work::Forget(..) | Work::Setup(_) => {}
        }
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

impl Calls {
    /// Whether Redis has forgotten the scripts, and all that was sent has been answered.
    fn lacks_scripts(&self) -> bool {
        !self.again.is_empty() && self.under_way.is_empty() && !self.has_loaded
    }
}

impl What {
    fn function(&self) -> StreamFunction {
        match self {
            What::Set(..) => StreamFunction::Set,
            What::Delete(_) => StreamFunction::Delete,
            What::Send { .. } => StreamFunction::Send,
            What::Read(_) | What::Swap { .. } => StreamFunction::Update,
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

fn group_of(question: &Question) -> Option<&GroupKey> {
    match question {
        Question::Set { group, .. }
        | Question::Update { group, .. }
        | Question::Delete { group, .. }
        | Question::Send { group, .. }
        | Question::Get { group, .. }
        | Question::List { group }
        | Question::Follow { group, .. }
        | Question::Unfollow { group } => Some(group),
        Question::Groups { .. } => None,
    }
}

fn function_of(question: &Question) -> StreamFunction {
    match question {
        Question::Set { .. } => StreamFunction::Set,
        Question::Update { .. } => StreamFunction::Update,
        Question::Delete { .. } => StreamFunction::Delete,
        Question::Send { .. } => StreamFunction::Send,
        Question::Get { .. } => StreamFunction::Get,
        Question::Groups { stream: Some(_) } => StreamFunction::ListGroups,
        Question::Groups { stream: None } => StreamFunction::ListAll,
        Question::List { .. } | Question::Follow { .. } | Question::Unfollow { .. } => {
            StreamFunction::List
        }
    }
}

/// In the words of the reference.
fn with_cause(function: StreamFunction, cause: &str) -> Arc<str> {
    let what = match function {
        StreamFunction::Get => "Failed to get value from Redis",
        StreamFunction::Set => "Failed to atomically set value in Redis",
        StreamFunction::Delete => "Failed to atomically delete value from Redis",
        StreamFunction::List => "Failed to get group from Redis",
        StreamFunction::ListGroups => "Failed to list groups from Redis",
        StreamFunction::ListAll => "Failed to scan stream from Redis",
        StreamFunction::Send => "Failed to publish event to Redis",
        StreamFunction::Update => "Redis atomic update script failed",
    };
    format!("{what}: {cause}").into()
}

fn shared_key(key: &GroupKey, owner: &[u8]) -> String {
    let pair = |key: &GroupKey| format!("stream {:?} group {:?}", key.stream(), key.group());
    let owner = read_names(owner).map_or_else(
        || String::from_utf8_lossy(owner).into_owned(),
        |owner| pair(&owner),
    );
    format!("{owner} and {} share one Redis key; rename one", pair(key))
}
