//! What the store has not accepted yet: the newest value of each touched item, and the commands of
//! the group that wait for their turn.
//!
//! A write computes on the newest value, accepted or not. Everything else holds a place in the
//! queue and no result: it is answered from the accepted items when its turn comes.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::id::{CallId, ItemId, Text, WorkerId};
use crate::protocol::input::StreamFunction;

use super::command::Join;
use super::effects::{Effects, Reply, Request, RequestKind};

/// Queues and tables larger than this are given back instead of kept for the next group.
const SPARE_LEN_MAX: usize = 256;
const SPARES_MAX: usize = 64;

/// A group's commands that wait, and what they have computed.
#[derive(Default)]
pub(super) struct UnderWay {
    pub(super) queue: VecDeque<Waiting>,
    newest: HashTable<Newest>,
}

/// The value that an item will have when all its writes under way are accepted.
struct Newest {
    hash: u64,
    item: ItemId,
    value: Option<Text>,
    /// Writes of this item in the queue.
    writes: u32,
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
    /// The store decides: waits for its answer.
    Asked(Asked),
}

/// A change that the owner has computed.
pub(super) struct Write {
    pub(super) item: ItemId,
    pub(super) hash: u64,
    pub(super) old: Option<Text>,
    pub(super) new: Option<Text>,
    pub(super) time: u64,
    pub(super) function: StreamFunction,
    pub(super) reply: Option<Reply>,
}

/// An event that is not kept.
pub(super) struct Send {
    pub(super) id: Option<ItemId>,
    pub(super) kind: Box<str>,
    pub(super) data: Text,
    pub(super) time: u64,
    pub(super) call: Option<CallId>,
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

impl Waiting {
    /// Whether its turn comes with an answer of the store, not by itself.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self, Waiting::Write(_) | Waiting::Asked(_))
    }
}

impl UnderWay {
    /// The newest value of an item with writes under way: `Some(None)` when the last removes it.
    pub(super) fn newest(&self, hash: u64, item: &str) -> Option<&Option<Text>> {
        let found = self.newest.find(hash, |newest| *newest.item == *item)?;
        Some(&found.value)
    }

    pub(super) fn push_write(&mut self, write: Write) {
        let known = self
            .newest
            .find_mut(write.hash, |newest| newest.item == write.item);
        match known {
            Some(newest) => {
                newest.value.clone_from(&write.new);
                newest.writes += 1;
            }
            None => {
                let newest = Newest {
                    hash: write.hash,
                    item: ItemId::clone(&write.item),
                    value: write.new.clone(),
                    writes: 1,
                };
                self.newest
                    .insert_unique(write.hash, newest, |newest| newest.hash);
            }
        }
        self.queue.push_back(Waiting::Write(write));
    }

    /// The oldest write of the item was accepted.
    pub(super) fn write_accepted(&mut self, write: &Write) {
        let entry = self
            .newest
            .find_entry(write.hash, |newest| newest.item == write.item);
        if let Ok(mut entry) = entry {
            entry.get_mut().writes -= 1;
            if entry.get().writes == 0 {
                entry.remove();
            }
        }
    }

    /// A write was refused: what was computed is void.
    pub(super) fn forget_newest(&mut self) {
        self.newest.clear();
    }

    pub(super) fn check_invariants(&self) {
        let writes = |waiting: &&Waiting| matches!(waiting, Waiting::Write(_));
        let counted: u32 = self.newest.iter().map(|newest| newest.writes).sum();
        debug_assert_eq!(self.queue.iter().filter(writes).count(), counted as usize);
        let front = self.queue.front();
        debug_assert!(
            front.is_none_or(Waiting::awaits_answer),
            "its turn had come"
        );
    }
}

/// A shard's requests under way, in the order in which the store answers them.
pub(super) struct Flight {
    pub(super) shard: WorkerId,
    pub(super) epoch: u32,
    next_number: u64,
    waiting: VecDeque<InFlight>,
    /// Emptied queues, kept for the next group that needs one.
    #[allow(clippy::vec_box, reason = "the boxes themselves are what is kept")]
    spare: Vec<Box<UnderWay>>,
}

/// Who waits for an answer.
pub(super) enum InFlight {
    /// A group, by its slot.
    Group(u32),
    /// A listing over all groups, of one stream if it is named.
    Listing {
        call: CallId,
        stream: Option<Box<str>>,
    },
}

impl Flight {
    pub(super) fn new(shard: WorkerId) -> Flight {
        Flight {
            shard,
            epoch: 0,
            next_number: 0,
            waiting: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    pub(super) fn request(&mut self, who: InFlight, kind: RequestKind, out: &mut Effects) {
        out.requests.push(Request {
            shard: self.shard,
            epoch: self.epoch,
            number: self.next_number,
            kind,
        });
        self.next_number += 1;
        self.waiting.push_back(who);
    }

    /// Who waits for the answer of that number; `None` when it is void since a refusal.
    pub(super) fn answered(&mut self, epoch: u32, number: u64) -> Option<InFlight> {
        let first = self.next_number - self.waiting.len() as u64;
        debug_assert!(
            epoch != self.epoch || number == first,
            "answers come in order"
        );
        if epoch == self.epoch {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    /// After a refusal: everything under way is void, and a new epoch begins. Gives who waited.
    pub(super) fn begin_epoch(&mut self) -> VecDeque<InFlight> {
        self.epoch = self.epoch.wrapping_add(1);
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn take_spare(&mut self) -> Box<UnderWay> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn keep_spare(&mut self, mut under_way: Box<UnderWay>) {
        let len = under_way.queue.capacity().max(under_way.newest.capacity());
        if self.spare.len() < SPARES_MAX && len <= SPARE_LEN_MAX {
            under_way.queue.clear();
            under_way.newest.clear();
            self.spare.push(under_way);
        }
    }
}
