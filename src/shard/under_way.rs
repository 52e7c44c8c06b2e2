//! What the store has not accepted yet: the newest value of each touched item, and the commands of
//! the group that wait for their turn.
//!
//! A write computes on the newest value, accepted or not. Everything else holds a place in the
//! queue and no result: it is answered from the accepted items when its turn comes.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::id::{CallId, ItemId, Text};
use crate::protocol::answer::Outcome;
use crate::protocol::input::{StreamFunction, failed};

use super::command::Join;
use super::effects::Reply;
use super::learned::{CustomAnswer, FromChannel};
use super::requests::Verdict;
use super::waiting::{Asked, Waiting, Whole, Write};

/// A group's commands that wait, and what they have computed.
#[derive(Default)]
pub(super) struct UnderWay {
    queue: VecDeque<Waiting>,
    /// Commands that had their turn: the place of the front of the queue.
    gone: u64,
    /// Nothing before this place awaits the store's word. The store's answers come in order.
    settled: u64,
    /// Number and place of each custom call in the queue; both rise.
    customs: VecDeque<(u64, u64)>,
    /// Sum of [`Waiting::held_bytes`] of all in the queue.
    bytes: usize,
    newest: HashTable<Newest>,
    /// Refusals that not all of those whom they concern have been told of, the oldest first.
    refusals: VecDeque<Refusal>,
    /// How many refusals there were.
    refused: u32,
    /// The shard's when it began: where that has gone on, the store has refused what is not accepted.
    pub(super) epoch: u32,
    pub(super) texts: Texts,
    /// More was let go at once than a turn may do: the shard goes on with it.
    pub(super) goes_on: bool,
}

/// How it stands with the texts of the list that the front of the queue needs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// As far as anybody knows.
    #[default]
    AtHand,
    /// They are to be made over turns, or what the store has told is to be taken in.
    Wanted,
    /// What the store has told is being taken in.
    Coming,
    /// Those from that run on are.
    From(usize),
    /// The front goes on, though some may have changed since.
    Made,
}

/// The value that an item will have when all its writes under way are accepted.
struct Newest {
    hash: u64,
    item: ItemId,
    value: Option<Text>,
    /// Writes of this item in the queue.
    writes: u32,
    /// How many refusals there were when that was noted. After a further one the accepted writes alone
    /// count.
    refused: u32,
    accepted: Accepted,
}

/// Writes of an item that are accepted and wait for something before them.
#[derive(Default)]
struct Accepted {
    writes: u32,
    /// What the last of them makes of the item.
    value: Option<Text>,
}

/// The store has refused a write.
struct Refusal {
    /// It concerns what stands before this place.
    before: u64,
    cause: Arc<str>,
    /// A write has been told of it, so that answers behind it rest on nothing.
    has_failed: bool,
}

/// How much waits for a custom function's answer, or behind a command that does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) len: usize,
    pub(super) bytes: usize,
}

impl Newest {
    /// Value and writes as they are after so many refusals, if any write stands.
    fn standing(&self, refused: u32) -> Option<(&Option<Text>, u32)> {
        if self.refused == refused {
            return Some((&self.value, self.writes));
        }
        let Accepted { writes, value } = &self.accepted;
        (*writes > 0).then_some((value, *writes))
    }
}

impl Refusal {
    fn failure(&self, call: CallId, function: StreamFunction) -> Waiting {
        let outcome = Outcome::Failed(failed(function, &self.cause));
        let reply = Reply { call, outcome };
        Waiting::Rests { reply, function }
    }
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// What waits for functions: all from the first custom call on. The bytes are those of the whole
    /// queue, whose front the store is about to answer.
    pub(super) fn load(&self) -> Load {
        let Some((_, place)) = self.customs.front() else {
            return Load::default();
        };
        Load {
            len: self.queue.len() - (place - self.gone) as usize,
            bytes: self.bytes,
        }
    }

    /// A command takes its place.
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.held_bytes();
        match &waiting {
            Waiting::Write(write) => self.note_newest(write),
            Waiting::Custom(custom) => {
                let place = self.gone + self.queue.len() as u64;
                self.customs.push_back((custom.number, place));
            }
            _ => {}
        }
        self.queue.push_back(waiting);
    }

    /// Whether the next command waits for no answer any more.
    pub(super) fn has_ready(&self) -> bool {
        let front = self.queue.front();
        front.is_some_and(|front| {
            !front.awaits_answer() || (front.awaits_store() && self.is_refused())
        })
    }

    /// The next command, if it waits for no answer any more. What is refused is told so.
    pub(super) fn pop_ready(&mut self) -> Option<Waiting> {
        if !self.has_ready() {
            return None;
        }
        let is_refused = self.is_refused();
        let waiting = self.queue.pop_front()?;
        self.gone += 1;
        self.bytes -= waiting.held_bytes();
        match &waiting {
            Waiting::Write(write) => self.forget_write(write),
            Waiting::Custom(_) => drop(self.customs.pop_front()),
            _ => {}
        }
        if is_refused {
            return Some(self.refused(waiting));
        }
        Some(waiting)
    }

    /// Whether a refusal concerns the front of the queue.
    fn is_refused(&self) -> bool {
        let refusal = self.refusals.front();
        refusal.is_some_and(|refusal| self.gone < refusal.before)
    }

    /// What the refusal makes of the command that was the front: a write that is not accepted fails, and
    /// an answer that rests on one. Everything else stays as it is.
    fn refused(&mut self, waiting: Waiting) -> Waiting {
        let Some(refusal) = self.refusals.front_mut() else {
            return waiting;
        };
        let waiting = match waiting {
            Waiting::Write(write) if !write.is_accepted => {
                refusal.has_failed = true;
                let reply = write.reply;
                reply.map_or(Waiting::Void, |Reply { call, .. }| {
                    refusal.failure(call, write.function)
                })
            }
            Waiting::Rests { reply, function } if refusal.has_failed => {
                refusal.failure(reply.call, function)
            }
            other => other,
        };
        let gone = self.gone;
        let _ = self.refusals.pop_front_if(|refusal| refusal.before <= gone);
        waiting
    }

    /// What the store has told of the whole group with the front of the queue, if it has: for a join, when the
    /// group was read again, or that it had lost all items but one. The front keeps its place without it.
    pub(super) fn take_whole(&mut self) -> Option<Whole> {
        let front = self.queue.front_mut()?;
        let held_bytes = front.held_bytes();
        let told = match front {
            Waiting::Asked(
                Asked::Join(Join { item: None, .. }),
                Some(Verdict::Cut { items, time }),
            ) => {
                let (content, time) = (std::mem::take(items), *time);
                Some(Whole::Join { content, time })
            }
            Waiting::Channel(from) => match &mut **from {
                FromChannel::Event {
                    item,
                    time,
                    is_first: is_first @ true,
                    ..
                } => {
                    *is_first = false;
                    let (item, time) = (item.clone(), *time);
                    Some(Whole::Loss { item, time })
                }
                FromChannel::Event { .. } => None,
                FromChannel::Read {
                    items,
                    time,
                    is_after_loss,
                } => {
                    let told = Whole::Read {
                        content: std::mem::take(items),
                        time: *time,
                        is_after_loss: *is_after_loss,
                    };
                    *front = Waiting::Coming;
                    Some(told)
                }
            },
            _ => None,
        };
        self.bytes = self.bytes - held_bytes + front.held_bytes();
        told
    }

    /// What was taken goes back: its turn has not come.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        debug_assert!(matches!(
            waiting,
            Waiting::List { .. }
                | Waiting::Join { .. }
                | Waiting::SharedJoin { .. }
                | Waiting::Channel(_)
                | Waiting::Coming
                | Waiting::Asked(Asked::Join(_), Some(_))
        ));
        self.gone -= 1;
        self.bytes += waiting.held_bytes();
        self.queue.push_front(waiting);
    }

    /// The store's channel tells something that takes turns, and nothing that is answered waits: it goes
    /// before all.
    pub(super) fn put_first(&mut self, heard: Waiting) {
        self.settled = self.settled.max(self.gone);
        self.insert_settled(heard);
        self.texts = Texts::Wanted;
    }

    /// The store accepts the oldest write or time that it has not answered.
    pub(super) fn accept(&mut self) {
        let Some(at) = self.next_of_store() else {
            return;
        };
        match self.queue.get_mut(at) {
            Some(Waiting::Write(write)) => {
                write.is_accepted = true;
                if at > 0 {
                    note_accepted(&mut self.newest, write);
                }
            }
            Some(Waiting::Times { is_kept }) => *is_kept = true,
            _ => {}
        }
    }

    /// The store answers the oldest question that it has not answered.
    pub(super) fn decide(&mut self, verdict: Verdict) {
        let at = self.next_of_store();
        if let Some(Waiting::Asked(_, place)) = at.and_then(|at| self.queue.get_mut(at)) {
            *place = Some(verdict);
        }
    }

    /// The store's channel tells something. It goes behind all that the store has answered and that waits
    /// for something else; given back if there is nothing.
    pub(super) fn hear(&mut self, heard: Waiting) -> Option<Waiting> {
        if self.settled <= self.gone {
            return Some(heard);
        }
        self.insert_settled(heard);
        None
    }

    /// Behind all that the store has answered.
    fn insert_settled(&mut self, heard: Waiting) {
        let place = self.settled;
        let at = (place - self.gone) as usize;
        self.bytes += heard.held_bytes();
        self.queue.insert(at, heard);
        self.settled += 1;
        for (_, of_custom) in &mut self.customs {
            *of_custom += u64::from(*of_custom >= place);
        }
    }

    /// The writes that the store has not accepted.
    pub(super) fn unaccepted(&self) -> impl Iterator<Item = &Write> {
        self.queue.iter().filter_map(|waiting| match waiting {
            Waiting::Write(write) if !write.is_accepted => Some(write),
            _ => None,
        })
    }

    /// A custom function answers the call of that number, in whatever order.
    pub(super) fn answer_custom(&mut self, number: u64, answer: CustomAnswer) {
        let found = self
            .customs
            .binary_search_by_key(&number, |(number, _)| *number);
        let Ok(found) = found else {
            return;
        };
        let at = (self.customs[found].1 - self.gone) as usize;
        if let Some(Waiting::Custom(custom)) = self.queue.get_mut(at)
            && custom.answer.is_none()
        {
            self.bytes += answer.held_bytes();
            custom.answer = Some(answer);
        }
    }

    /// A write was refused: those that are not accepted, and answers that rest on one of them, fail in
    /// their places, when their turns come. Times that cannot be kept hold nobody up.
    pub(super) fn refuse(&mut self, cause: &Arc<str>) {
        let end = self.gone + self.queue.len() as u64;
        self.refused = self.refused.wrapping_add(1);
        self.settled = end;
        self.refusals.push_back(Refusal {
            before: end,
            cause: Arc::clone(cause),
            has_failed: false,
        });
    }

    /// Where the next one stands that the store has to answer; it is taken as answered.
    fn next_of_store(&mut self) -> Option<usize> {
        let settled = self.settled.max(self.gone) - self.gone;
        let mut behind = self.queue.iter().skip(settled as usize);
        let passed = behind.position(Waiting::awaits_store)?;
        let at = settled as usize + passed;
        self.settled = self.gone + at as u64 + 1;
        Some(at)
    }

    /// How much its queue or its table have room for.
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity().max(self.newest.capacity())
    }

    /// Nothing is under way: everything begins anew.
    pub(super) fn forget(&mut self) {
        self.queue.clear();
        self.newest.clear();
        self.customs.clear();
        self.refusals.clear();
        self.bytes = 0;
        self.goes_on = false;
        (self.gone, self.settled) = (0, 0);
    }

    /// The newest value of an item with writes under way: `Some(None)` when the last removes it.
    pub(super) fn newest(&self, hash: u64, item: &str) -> Option<&Option<Text>> {
        let found = self.newest.find(hash, |newest| *newest.item == *item)?;
        found.standing(self.refused).map(|(value, _)| value)
    }

    fn note_newest(&mut self, write: &Write) {
        let refused = self.refused;
        let known = self
            .newest
            .find_mut(write.hash, |newest| newest.item == write.item);
        match known {
            Some(newest) => {
                newest.writes = 1 + newest.standing(refused).map_or(0, |(_, writes)| writes);
                newest.refused = refused;
                newest.value.clone_from(&write.new);
            }
            None => {
                let newest = Newest {
                    hash: write.hash,
                    item: ItemId::clone(&write.item),
                    value: write.new.clone(),
                    writes: 1,
                    refused,
                    accepted: Accepted::default(),
                };
                self.newest
                    .insert_unique(write.hash, newest, |newest| newest.hash);
            }
        }
    }

    /// The oldest write of the item leaves the queue.
    fn forget_write(&mut self, write: &Write) {
        let entry = self
            .newest
            .find_entry(write.hash, |newest| newest.item == write.item);
        let Ok(mut entry) = entry else {
            return;
        };
        let newest = entry.get_mut();
        if write.is_accepted {
            newest.writes = newest.writes.saturating_sub(1);
            newest.accepted.writes = newest.accepted.writes.saturating_sub(1);
            if newest.accepted.writes == 0 {
                newest.accepted.value = None;
            }
        }
        let standing = newest.standing(self.refused);
        if standing.is_none_or(|(_, writes)| writes == 0) {
            entry.remove();
        }
    }

    pub(super) fn check_invariants(&self) {
        let refused_to = self.refusals.back().map_or(0, |refusal| refusal.before);
        let refused_len = refused_to.saturating_sub(self.gone) as usize;
        let stands = |(at, waiting): &(usize, &Waiting)| match waiting {
            Waiting::Write(write) => write.is_accepted || *at >= refused_len,
            _ => false,
        };
        let standing = self.newest.iter();
        let standing = standing.filter_map(|newest| newest.standing(self.refused));
        let counted: u32 = standing.map(|(_, writes)| writes).sum();
        let standing = self.queue.iter().enumerate().filter(stands);
        debug_assert_eq!(standing.count(), counted as usize);
        let bytes: usize = self.queue.iter().map(Waiting::held_bytes).sum();
        debug_assert_eq!(self.bytes, bytes);
        let is_custom = |waiting: &&Waiting| matches!(waiting, Waiting::Custom(_));
        debug_assert_eq!(
            self.queue.iter().filter(is_custom).count(),
            self.customs.len()
        );
        for (number, place) in &self.customs {
            let there = self.queue.get((place - self.gone) as usize);
            debug_assert!(
                matches!(there, Some(Waiting::Custom(custom)) if custom.number == *number)
            );
        }
        let settled = self.settled.saturating_sub(self.gone) as usize;
        let mut before = self.queue.iter().take(settled).skip(refused_len);
        debug_assert!(before.all(|waiting| !waiting.awaits_store()));
        debug_assert!(
            self.texts != Texts::AtHand || self.goes_on || !self.has_ready(),
            "its turn had come"
        );
    }
}

/// The store has accepted the write, and something before it has not had its turn.
fn note_accepted(newest: &mut HashTable<Newest>, write: &Write) {
    let known = newest.find_mut(write.hash, |newest| newest.item == write.item);
    if let Some(newest) = known {
        newest.accepted.writes += 1;
        newest.accepted.value.clone_from(&write.new);
    }
}
