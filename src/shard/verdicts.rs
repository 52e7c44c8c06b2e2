//! What a shard learns: the store's word on what was asked of it, what other hosts did, and what custom functions
//! have answered.
//!
//! May not know what a group makes of it.

use crate::id::{GroupKey, ItemId};

use super::effects::{Effects, Reply};
use super::flight::InFlight;
use super::group::Group;
use super::learned::{CustomAnswered, HeardEvent, Learned};
use super::requests::{Answer, Verdict};
use super::{Decides, Shard, shared};

impl Shard {
    /// Takes what the store says, or what another host did.
    pub fn learn(&mut self, learned: Learned, now: u64, out: &mut Effects) {
        match learned {
            Learned::Answer(answer) => self.answered(answer, now, out),
            Learned::Channel(group, from) => {
                // Nobody here follows a group that is not there.
                match self.groups.find(&group) {
                    Some(slot) => self.with_group(slot, now, out, |group, turn| {
                        group.hear_channel(from, turn);
                    }),
                    None => self.walks.drop_later(from.drop_in_steps()),
                }
            }
            Learned::Made {
                key,
                item,
                event,
                time,
                has_expired,
            } => {
                self.due.note_expired(has_expired);
                self.made((key, &item), (&event, time), now, out);
            }
            Learned::Lost => self.lose_all(now, out),
        }
    }

    /// Takes what a custom function has answered.
    pub fn custom_answered(&mut self, answered: CustomAnswered, now: u64, out: &mut Effects) {
        let CustomAnswered {
            slot,
            number,
            answer,
        } = answered;
        // A group that waits is kept, so that the slot is its own still.
        self.with_group(slot, now, out, |group, turn| {
            group.settle(turn, |under_way| under_way.answer_custom(number, answer));
        });
    }

    /// The store has changed an item of itself, for this host.
    fn made(
        &mut self,
        (key, item): (GroupKey, &ItemId),
        (event, time): (&HeardEvent, u64),
        now: u64,
        out: &mut Effects,
    ) {
        let slot = self.groups.enter(key);
        self.with_group(slot, now, out, |group, turn| {
            group.made_by_store(item, event, time, turn);
        });
    }

    fn answered(&mut self, answer: Answer, now: u64, out: &mut Effects) {
        let Some(who) = self.flight.answered(answer.epoch, answer.number) else {
            return;
        };
        match self.decides {
            Decides::Owner => self.accepted(who, answer.verdict, now, out),
            Decides::Shared => self.decided(who, answer.verdict, now, out),
        }
    }

    /// The store's word on what the owner has decided.
    fn accepted(&mut self, who: InFlight, verdict: Verdict, now: u64, out: &mut Effects) {
        match (who, verdict) {
            (who, Verdict::Refused(cause)) => self.refused(who, &cause, now, out),
            (InFlight::Group(slot), _) => self.with_group(slot, now, out, Group::accepted),
            (InFlight::Times { time, slot }, _) => {
                self.flight.times.keep(time);
                if let Some(slot) = slot {
                    self.with_group(slot, now, out, Group::accepted);
                }
                self.apply_postponed(now, out);
            }
            (InFlight::Listing { .. } | InFlight::Nobody, _) => {
                debug_assert!(false, "the owner lists by itself");
            }
        }
    }

    /// The word of a store that decides. What it refuses fails alone.
    fn decided(&mut self, who: InFlight, verdict: Verdict, now: u64, out: &mut Effects) {
        match who {
            InFlight::Group(slot) => self.with_group(slot, now, out, |group, turn| {
                group.answered(verdict, turn);
            }),
            InFlight::Listing { call, stream } => {
                let outcome = shared::listed(verdict, stream.is_some());
                out.replies.push(Reply { call, outcome });
            }
            InFlight::Times { .. } | InFlight::Nobody => {}
        }
    }

    /// Everything of this shard that is under way fails with the refused request of `first`.
    fn refused(&mut self, first: InFlight, cause: &str, now: u64, out: &mut Effects) {
        let others = self.flight.begin_epoch();
        let mut slots = Vec::new();
        for who in std::iter::once(first).chain(others) {
            if let InFlight::Times { time, .. } = who {
                // Nobody is held up because times cannot be kept; soon that is tried again.
                self.flight.times.keep(time);
            }
            slots.extend(who.slot());
        }
        // A group's whole queue ends at its first mention; its later ones find nothing under way.
        slots.dedup();
        self.fail(slots.into_iter(), cause, now, out);
        self.fail_openings(cause, now, out);
        self.apply_postponed(now, out);
    }
}
