//! Where among the events of the channel something was read.
//!
//! A cut is a transaction that reads and publishes a mark on a channel of this process. It takes its
//! place among the events where the mark is heard; what is heard behind it waits until its answer has
//! come by the other connection. May not know what events say.

use std::time::Instant;

use crate::id::GroupKey;
use crate::protocol::input::StreamFunction;
use crate::shard::{FromChannel, Learned, Verdict};

use super::Redis;
use super::answers::Cut;
use super::error::Fault;
use super::hearing::{BehindCut, Of};
use super::work::{CutOf, Job, Work};

/// Readings of our own under way at once: calls of others are served between them.
const OWN_READS_MAX: usize = 64;

impl Redis {
    /// A mark of ours was heard on the channel: what it was published for takes its place here.
    pub(super) fn heard_mark(&mut self, mark: u64, now: Instant) {
        let Some(pending) = self.hearing.cuts.get_mut(&mark) else {
            return;
        };
        pending.is_heard = true;
        match &pending.of {
            Of::Beat => {
                self.hearing.cuts.remove(&mark);
            }
            Of::Listing(asker, stream, until) => {
                let (asker, stream, until) = (*asker, stream.clone(), *until);
                self.hearing.cuts.remove(&mark);
                self.list(asker, stream, until);
            }
            Of::Join(_) | Of::Again { .. } => {
                let has_answer = pending.answer.is_some();
                let Some(key) = pending.key.clone() else {
                    return;
                };
                match self.hearing.find(&key) {
                    Some(followed) if !has_answer || !followed.held.is_empty() => {
                        followed.is_on = true;
                        followed.held.push_back(BehindCut::Cut(mark));
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
        result: Result<Cut, Fault>,
        now: Instant,
    ) {
        let cut = match result {
            Ok(cut) => cut,
            Err(fault) => {
                self.refuse_cut(mark, key, &fault.to_string());
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
                BehindCut::Event(event) => {
                    followed.told = followed.told.wrapping_add(1);
                    self.learned.push(Learned::Channel(key.clone(), event));
                }
                BehindCut::Cut(mark) => {
                    let pending = self.hearing.cuts.get(&mark);
                    if pending.is_some_and(|pending| pending.answer.is_none()) {
                        if let Some(followed) = self.hearing.find(key) {
                            followed.held.push_front(BehindCut::Cut(mark));
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
            mut items,
            mut digest,
            time,
            ..
        }) = pending.answer
        else {
            return;
        };
        if self.names.is_of_another(key) {
            let others = std::mem::take(&mut items);
            digest = 0;
            self.chores.drop_later(others.drop_in_steps());
        }
        match pending.of {
            Of::Join(asker) => {
                self.answer(asker, Verdict::Cut { items, time });
                self.go_on(key);
            }
            Of::Again { is_after_loss } => {
                self.hearing.own_reads -= 1;
                let Some(followed) = self.hearing.find(key) else {
                    return self.chores.drop_later(items.drop_in_steps());
                };
                let seen = (digest, followed.told);
                let is_as_before = followed.seen == Some(seen);
                followed.read_at = Some(now);
                followed.bytes = items.held_bytes();
                followed.seen = Some(seen);
                if is_as_before && !is_after_loss {
                    // Nobody is to be told anything.
                    return self.chores.drop_later(items.drop_in_steps());
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

    /// The cut is made at a later point. Gives the number of that point.
    pub(super) fn renew_cut(&mut self, mark: u64, key: &GroupKey, now: Instant) -> u64 {
        let renewed = self.hearing.next_mark;
        if let Some(pending) = self.hearing.cuts.remove(&mark) {
            self.hearing.pending(pending.of, pending.key);
        }
        self.release(key, now);
        renewed
    }

    /// The transaction has failed, so nothing was read.
    pub(super) fn refuse_cut(&mut self, mark: u64, key: &GroupKey, cause: &str) {
        let pending = self.hearing.cuts.remove(&mark);
        let is_up = self.link.is_up();
        if let Some(followed) = self.hearing.find(key) {
            followed.is_on = is_up;
            followed.seen = None;
            if is_up {
                // Whoever waited for it has no `sync`: the next reading is one.
                self.read_soon(key, Instant::now());
            }
        }
        if let Some(pending) = pending {
            self.refuse_pending(&pending.of, cause);
            match pending.of {
                Of::Join(_) => self.go_on(key),
                Of::Again { .. } => self.hearing.own_reads -= 1,
                Of::Listing(..) | Of::Beat => {}
            }
        }
    }

    /// The mark of a listing or a beat could not be published.
    pub(super) fn refuse_mark(&mut self, mark: u64, cause: &str) {
        if let Some(pending) = self.hearing.cuts.remove(&mark) {
            self.refuse_pending(&pending.of, cause);
        }
    }

    /// Whoever waits for it, if anybody does, hears why it does not come.
    pub(super) fn refuse_pending(&mut self, of: &Of, cause: &str) {
        let (asker, function) = match of {
            Of::Join(asker) => (asker, StreamFunction::List),
            Of::Listing(asker, Some(_), _) => (asker, StreamFunction::ListGroups),
            Of::Listing(asker, None, _) => (asker, StreamFunction::ListAll),
            Of::Again { .. } | Of::Beat => return,
        };
        self.refuse(*asker, function, cause);
    }

    /// The connections stand: every followed group is read, a few at a time.
    pub(super) fn read_all_again(&mut self) {
        let followed = self.hearing.followed.values().flatten();
        let keys = followed.map(|followed| (followed.key.clone(), true));
        self.hearing.to_read = keys.collect();
    }

    /// Sends what is to be read, as far as there is room.
    pub(super) fn read_again(&mut self) {
        while self.hearing.own_reads < OWN_READS_MAX
            && let Some((key, is_after_loss)) = self.hearing.to_read.pop_front()
        {
            let Some(followed) = self.hearing.find(&key) else {
                continue;
            };
            followed.is_due = false;
            self.hearing.own_reads += 1;
            let of = Of::Again { is_after_loss };
            let mark = self.hearing.pending(of, Some(key.clone()));
            self.calls.push(Job::own(Work::Cut(Box::new(CutOf {
                mark,
                key,
                item: None,
                by_script: false,
            }))));
        }
    }
}
