//! What a shard has asked of the store and has no answer to yet, in the order in which the store answers.
//!
//! May not know what is asked for: a group's commands wait in `under_way`.

use std::collections::VecDeque;

use crate::id::{CallId, GroupKey, WorkerId};

use super::command::Ask;
use super::effects::Effects;
use super::requests::{Request, RequestKind};
use super::times::Times;
use super::under_way::UnderWay;

/// Queues and tables larger than this are given back instead of kept for the next group.
const SPARE_LEN_MAX: usize = 256;
const SPARES_MAX: usize = 64;

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
        let len = under_way.capacity();
        if self.spare.len() < SPARES_MAX && len <= SPARE_LEN_MAX {
            under_way.forget();
            self.spare.push(under_way);
        }
    }
}
