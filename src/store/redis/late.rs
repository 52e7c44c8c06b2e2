//! What has waited too long, and what a lost connection leaves: who is told what.
//!
//! A change that was sent may have been stored, whatever became of its answer; one that was not sent
//! was not. Callers are told which. May not know what is asked.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::protocol::function::unknown_whether_stored;
use crate::protocol::input::StreamFunction;
use crate::shard::Question;

use super::Redis;
use super::calls::Calls;
use super::refusals::function_of;
use super::work::{Asker, Job, Work};

/// How often calls are looked through for those that have waited too long: each is told so much later
/// than its time at most.
const SWEEP: Duration = Duration::from_millis(50);

impl Calls {
    /// When it is to be looked at again; `waits`: something else has a time as well.
    pub(super) fn next_at(&mut self, waits: bool, now: Instant) -> Option<Instant> {
        if !waits && self.is_idle() && self.busy.is_empty() {
            self.sweep_at = None;
            return None;
        }
        Some(*self.sweep_at.get_or_insert(now + SWEEP))
    }
}

fn take_late(queue: &mut VecDeque<Job>, now: Instant, late: &mut Vec<Job>) {
    if queue.iter().any(|job| job.is_late(now)) {
        let (gone, left) = queue.drain(..).partition(|job| job.is_late(now));
        let gone: VecDeque<Job> = gone;
        late.extend(gone);
        *queue = left;
    }
}

impl Redis {
    /// Nobody waits longer than he has to, though Redis lives.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.calls.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        self.calls.sweep_at = Some(now + SWEEP);
        let mut unsent = Vec::new();
        take_late(&mut self.calls.failed, now, &mut unsent);
        take_late(&mut self.calls.to_send, now, &mut unsent);
        let mut sent = Vec::new();
        for job in self
            .calls
            .under_way
            .iter_mut()
            .flat_map(|sent| &mut sent.jobs)
        {
            if job.is_late(now) {
                sent.push(std::mem::replace(job, Job::own(Work::GivenUp)));
            }
        }
        for job in sent {
            self.give_up(job, "timed out", true);
        }
        for job in unsent {
            self.give_up(job, "timed out", false);
        }
        let mut behind = Vec::new();
        for queue in self.calls.busy.values_mut() {
            while let Some((asker, question, _)) = queue.pop_front_if(|(_, _, until)| *until <= now)
            {
                behind.push((asker, question));
            }
        }
        for (asker, question) in behind {
            self.refuse_unsent(asker, &question, "timed out");
            if let Question::Follow { group, .. } = &question {
                self.read_soon(group, now);
            }
        }
        self.expire_listings(now);
    }

    /// The connection is lost, and it had taken `written` bytes. What was not sent has not happened; of
    /// what was, nobody knows.
    pub(super) fn drop_calls(&mut self, cause: &str, written: u64, now: Instant) {
        let calls = std::mem::take(&mut self.calls);
        for sent in calls.under_way {
            let was_sent = sent.begins_at < written;
            for job in sent.jobs {
                let cause = match (job.is_late(now), job.change()) {
                    (true, _) => "timed out",
                    (_, Some(_)) if was_sent => "connection lost",
                    _ => cause,
                };
                self.give_up(job, cause, was_sent);
            }
        }
        for job in calls.failed.into_iter().chain(calls.to_send) {
            self.give_up(job, cause, false);
        }
        for (asker, question, _) in calls.busy.into_values().flatten() {
            self.refuse_unsent(asker, &question, cause);
        }
    }

    fn give_up(&mut self, job: Job, cause: &str, was_sent: bool) {
        match job.work {
            Work::Change(change) if was_sent => {
                self.end_refused(&change, &unknown_whether_stored(cause));
            }
            Work::Change(change) => self.end_refused(&change, &unsent(cause)),
            Work::Read(update) => self.end_update(&update, &unsent(cause)),
            Work::Get(asker, ..) => self.refuse(asker, StreamFunction::Get, cause),
            Work::List(asker, ..) => self.refuse(asker, StreamFunction::List, cause),
            Work::Cut(cut) => self.refuse_cut(cut.mark, &cut.key, cause),
            Work::Mark(mark) => self.refuse_mark(mark, cause),
            Work::Beat(_)
            | Work::Look(_)
            | Work::Find(_)
            | Work::Owner(_)
            | Work::End(_)
            | Work::Renew
            | Work::Ended(_)
            | Work::Keep(_)
            | Work::Forget(..)
            | Work::Raise(..)
            | Work::Names(_)
            | Work::Setup(_)
            | Work::GivenUp => {}
        }
    }

    /// What waited behind a call of several steps.
    fn refuse_unsent(&mut self, asker: Asker, question: &Question, cause: &str) {
        let function = function_of(question);
        match question {
            Question::Follow { group, .. } => self.hearing.follow(group),
            Question::Unfollow { group } => self.hearing.unfollow(group),
            _ => {}
        }
        if let Question::Set { .. }
        | Question::Update { .. }
        | Question::Delete { .. }
        | Question::Send { .. } = question
        {
            return self.refuse(asker, function, &unsent(cause));
        }
        self.refuse(asker, function, cause);
    }
}

fn unsent(cause: &str) -> String {
    format!("{cause}, the change was not sent")
}
