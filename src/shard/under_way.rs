//! What the store has not accepted yet: the newest value of each touched item, and the commands of
//! the group that wait for their turn.
//!
//! A write computes on the newest value, accepted or not. Everything else holds a place in the
//! queue and no result: it is answered from the accepted items when its turn comes.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::id::{CallId, GroupKey, ItemId, Text, WorkerId};
use crate::protocol::answer::Outcome;
use crate::protocol::input::{StreamFunction, failed};
use crate::protocol::ttl::Ttl;

use super::command::{Ask, Join};
use super::content::Content;
use super::effects::{CustomAnswer, Effects, FromChannel, Reply, Request, RequestKind, Verdict};
use super::times::Times;

/// Queues and tables larger than this are given back instead of kept for the next group.
const SPARE_LEN_MAX: usize = 256;
const SPARES_MAX: usize = 64;

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
pub(super) struct Held {
    pub(super) len: usize,
    pub(super) bytes: usize,
}

/// One command that waits for its turn.
pub(super) enum Waiting {
    /// Waits for the store's answer.
    Write(Write),
    /// An answer that rests on writes before it: it fails with them.
    Rests {
        reply: Reply,
        function: StreamFunction,
    },
    Get {
        item: ItemId,
        hash: u64,
        call: CallId,
    },
    List {
        call: CallId,
    },
    Send(Send),
    /// Its `sync` bears a time that was given out when it took its place.
    Join {
        join: Join,
        hash: u64,
        time: u64,
    },
    /// A join of a shared group whose items are asked for, or known: its `sync` is made, and gets its
    /// time, when its turn comes.
    SharedJoin {
        join: Join,
        hash: u64,
    },
    /// What a shared channel tells, behind what it has told and the store has answered before.
    Channel(Box<FromChannel>),
    /// What the group held when it was read again, which is being taken in.
    Coming,
    /// The store decides: waits for its answer.
    Asked(Asked, Option<Verdict>),
    /// A function of an SDK worker decides: waits for its answer.
    Custom(Box<Custom>),
    /// What is behind it bears times that the store has to keep first: waits for its answer.
    Times {
        is_kept: bool,
    },
    /// A refused write that nobody waits for.
    Void,
}

/// What a shared store has told of a whole group.
pub(super) enum Whole {
    Join {
        content: Content,
        time: u64,
    },
    Read {
        content: Content,
        time: u64,
        is_after_loss: bool,
    },
    /// It had lost all items but that.
    Loss {
        item: Option<ItemId>,
        time: u64,
    },
}

/// A change that the owner has computed.
pub(super) struct Write {
    pub(super) item: ItemId,
    pub(super) hash: u64,
    pub(super) old: Option<Text>,
    pub(super) new: Option<Text>,
    /// As it was said with the write.
    pub(super) ttl: Option<Ttl>,
    pub(super) time: u64,
    pub(super) function: StreamFunction,
    pub(super) reply: Option<Reply>,
    /// The store has accepted it, and something before it has not had its turn.
    pub(super) is_accepted: bool,
}

/// An event that is not kept.
pub(super) struct Send {
    pub(super) id: Option<ItemId>,
    pub(super) kind: Box<str>,
    pub(super) data: Text,
    pub(super) time: u64,
    pub(super) call: Option<CallId>,
}

/// What was asked of a custom function.
pub(super) struct Custom {
    /// The call's name within the shard.
    pub(super) number: u64,
    /// Kept whole: if the function has gone, our own store is asked the same.
    pub(super) ask: Ask,
    /// Given out when it took its place, as those of the commands behind it; `None` where times are
    /// given out when commands have their turns.
    pub(super) time: Option<u64>,
    pub(super) answer: Option<CustomAnswer>,
}

/// What was asked of a store that decides.
pub(super) enum Asked {
    Change {
        function: StreamFunction,
        item: ItemId,
        call: Option<CallId>,
    },
    Get {
        call: CallId,
    },
    List {
        call: CallId,
    },
    Send(Send),
    Join(Join),
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

impl Waiting {
    /// Whether its turn comes with an answer, not by itself.
    fn awaits_answer(&self) -> bool {
        match self {
            Waiting::Custom(custom) => custom.answer.is_none(),
            other => other.awaits_store(),
        }
    }

    /// Whether the store has still to answer it.
    fn awaits_store(&self) -> bool {
        match self {
            Waiting::Write(write) => !write.is_accepted,
            Waiting::Asked(_, verdict) => verdict.is_none(),
            Waiting::Times { is_kept } => !is_kept,
            _ => false,
        }
    }

    /// Bytes of values that only it keeps.
    fn held_bytes(&self) -> usize {
        let len = |text: &Option<Text>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Waiting::Write(write) => len(&write.new),
            Waiting::Send(send) => send.data.len(),
            Waiting::Channel(from) => from.held_bytes(),
            Waiting::Custom(custom) => {
                let answer = custom.answer.as_ref();
                custom.ask.held_bytes() + answer.map_or(0, CustomAnswer::held_bytes)
            }
            Waiting::Asked(Asked::Send(send), _) => send.data.len(),
            _ => 0,
        }
    }
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// What waits for functions: all from the first custom call on. The bytes are those of the whole
    /// queue, whose front the store is about to answer.
    pub(super) fn held(&self) -> Held {
        let Some((_, place)) = self.customs.front() else {
            return Held::default();
        };
        Held {
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
    pub(super) fn tell(&mut self, number: u64, answer: CustomAnswer) {
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

    /// Nothing is under way: everything begins anew.
    fn forget(&mut self) {
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

/// A shard's requests under way, in the order in which the store answers them.
pub(super) struct Flight {
    pub(super) shard: WorkerId,
    pub(super) epoch: u32,
    next_number: u64,
    /// Of custom calls, which are no requests to the store.
    next_custom: u64,
    /// `None`: answered before older ones, of other groups.
    waiting: VecDeque<Option<InFlight>>,
    pub(super) times: Times,
    /// When joins have moved times last, by the time that the shard has been there.
    joins_moved_ms: u64,
    /// Commands whose custom function has gone, for our own store.
    pub(super) repeats: Vec<(GroupKey, Ask)>,
    /// Emptied queues, kept for the next group that needs one.
    #[allow(clippy::vec_box, reason = "the boxes themselves are what is kept")]
    spare: Vec<Box<UnderWay>>,
}

/// Who waits for an answer.
pub(super) enum InFlight {
    /// A group, by its slot.
    Group(u32),
    /// Nobody: it is only done.
    Nobody,
    /// A listing over all groups, of one stream if it is named.
    Listing {
        call: CallId,
        stream: Option<Box<str>>,
    },
    /// Times up to `time` are to be kept; a group may wait for it.
    Times { time: u64, slot: Option<u32> },
}

impl InFlight {
    /// The group that waits.
    pub(super) fn slot(self) -> Option<u32> {
        match self {
            InFlight::Group(slot) => Some(slot),
            InFlight::Times { slot, .. } => slot,
            InFlight::Listing { .. } | InFlight::Nobody => None,
        }
    }
}

impl Flight {
    pub(super) fn new(shard: WorkerId) -> Flight {
        Flight {
            shard,
            epoch: 0,
            next_number: 0,
            next_custom: 0,
            waiting: VecDeque::new(),
            times: Times::default(),
            joins_moved_ms: 0,
            repeats: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// A time is about to be given out that no write bears. Whether the group has to wait until the
    /// store has kept it.
    pub(super) fn keep_time(&mut self, time: u64, slot: Option<u32>, out: &mut Effects) -> bool {
        let must_wait = time > self.times.kept;
        if must_wait || self.times.run_low(time) {
            let slot = slot.filter(|_| must_wait);
            let time = time.saturating_add(Times::AHEAD_MS);
            self.times.asked = self.times.asked.max(time);
            self.request(
                InFlight::Times { time, slot },
                RequestKind::Times { time },
                out,
            );
        }
        must_wait
    }

    /// Whether a join may move a time on by itself, as one may in each ms.
    pub(super) fn may_move_times(&mut self, uptime_ms: u64) -> bool {
        let may = self.joins_moved_ms < uptime_ms;
        self.joins_moved_ms = uptime_ms;
        may
    }

    pub(super) fn request(&mut self, who: InFlight, kind: RequestKind, out: &mut Effects) {
        out.requests.push(Request {
            shard: self.shard,
            epoch: self.epoch,
            number: self.next_number,
            kind,
        });
        self.next_number += 1;
        self.waiting.push_back(Some(who));
    }

    /// A name for a custom call.
    pub(super) fn name_custom(&mut self) -> u64 {
        self.next_custom += 1;
        self.next_custom
    }

    /// Who waits for the answer of that number; `None` when it is void since a refusal.
    pub(super) fn answered(&mut self, epoch: u32, number: u64) -> Option<InFlight> {
        let first = self.next_number - self.waiting.len() as u64;
        if epoch != self.epoch {
            return None;
        }
        let at = usize::try_from(number.checked_sub(first)?).ok()?;
        let who = self.waiting.get_mut(at)?.take();
        while self.waiting.pop_front_if(|front| front.is_none()).is_some() {}
        who
    }

    /// After a refusal: everything under way is void, and a new epoch begins. Gives who waited.
    pub(super) fn begin_epoch(&mut self) -> impl Iterator<Item = InFlight> + use<> {
        self.epoch = self.epoch.wrapping_add(1);
        self.times.asked = self.times.kept;
        std::mem::take(&mut self.waiting).into_iter().flatten()
    }

    pub(super) fn take_spare(&mut self) -> Box<UnderWay> {
        let mut under_way = self.spare.pop().unwrap_or_default();
        under_way.epoch = self.epoch;
        under_way
    }

    pub(super) fn keep_spare(&mut self, mut under_way: Box<UnderWay>) {
        let len = under_way.queue.capacity().max(under_way.newest.capacity());
        if self.spare.len() < SPARES_MAX && len <= SPARE_LEN_MAX {
            under_way.forget();
            self.spare.push(under_way);
        }
    }
}
