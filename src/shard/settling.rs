//! When the commands of a group have their turns: at once, behind what waits, or over turns where one answer lets
//! many go.
//!
//! Every command of a group comes by here, in its order. May not know who decides.

use std::sync::Arc;

use crate::protocol::answer::Outcome;

use super::effects::Reply;
use super::flight::Flight;
use super::group::{Group, Turn};
use super::under_way::{Texts, UnderWay};
use super::waiting::Waiting;
use super::walks::{RELEASED_FREE, RELEASED_UNITS};

impl Group {
    /// The oldest write was accepted: it takes effect, and so does what waited behind it.
    pub(super) fn accepted(&mut self, turn: &mut Turn<'_>) {
        self.settle(turn, UnderWay::accept);
    }

    /// A write of this shard was refused: all of this group that are under way fail with it. What else
    /// waits is answered in its turn from what is accepted; functions that were asked have been.
    pub(super) fn refused(&mut self, cause: &Arc<str>, turn: &mut Turn<'_>) {
        let epoch = turn.flight.epoch;
        self.tell_members_again(turn);
        self.settle(turn, |under_way| {
            under_way.refuse(cause);
            under_way.epoch = epoch;
        });
    }

    /// An answer changes what is under way: what waits for none any more, and for nothing before it,
    /// has its turn.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, answer: impl FnOnce(&mut UnderWay)) {
        let Some(mut under_way) = self.under_way.take() else {
            return;
        };
        answer(&mut under_way);
        let mut released = 0;
        while under_way.has_ready() {
            if released >= RELEASED_FREE && turn.walks.lets_wait() {
                if !std::mem::replace(&mut under_way.goes_on, true) {
                    turn.walks.settling.push_back(turn.slot);
                }
                break;
            }
            let Some(waiting) = under_way.pop_ready() else {
                break;
            };
            released += 1;
            if released > RELEASED_FREE {
                turn.walks.spend(RELEASED_UNITS);
            }
            if under_way.texts == Texts::AtHand && self.takes_turns(&waiting, turn) {
                under_way.texts = Texts::Wanted;
            }
            if !matches!(under_way.texts, Texts::AtHand | Texts::Made) {
                under_way.put_back(waiting);
                break;
            }
            under_way.texts = Texts::AtHand;
            self.release(waiting, turn);
        }
        if under_way.len() == 0 {
            return turn.flight.keep_spare(under_way);
        }
        self.under_way = Some(under_way);
    }

    /// Goes on with what too much was for one turn.
    pub(super) fn go_on_settling(&mut self, turn: &mut Turn<'_>) {
        if let Some(under_way) = &mut self.under_way {
            under_way.goes_on = false;
        }
        self.settle(turn, |_| ());
    }

    /// What has come about in the shard since it was last asked something is told it first.
    pub(super) fn take_note(&mut self, turn: &mut Turn<'_>) {
        let epoch = turn.flight.epoch;
        let under_way = self.under_way.as_ref();
        if under_way.is_some_and(|under_way| under_way.epoch != epoch) {
            let cause = Arc::clone(&turn.walks.refusal);
            self.refused(&cause, turn);
        }
        if self.losses != turn.walks.losses {
            self.losses = turn.walks.losses;
            self.lost(turn);
        }
    }

    /// The queue, made if there is none.
    pub(super) fn under_way(&mut self, flight: &mut Flight) -> &mut UnderWay {
        self.under_way.get_or_insert_with(|| flight.take_spare())
    }

    /// Gives a command that waits for no answer its place: behind what is under way, or now.
    pub(super) fn place(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        match &mut self.under_way {
            Some(under_way) => under_way.push(waiting),
            None => self.enter_now(waiting, turn),
        }
    }

    /// A command that waits for nothing has its turn at once, unless it needs texts that are long in
    /// being made.
    pub(super) fn enter_now(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        if !self.takes_turns(&waiting, turn) {
            return self.release(waiting, turn);
        }
        let is_first = self.under_way.is_none();
        let under_way = self.under_way(turn.flight);
        if is_first {
            under_way.texts = Texts::Wanted;
        }
        under_way.push(waiting);
    }

    pub(super) fn release(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        match waiting {
            Waiting::Write(write) => self.carry_out(write, turn),
            Waiting::Rests { reply, .. } => turn.out.replies.push(reply),
            Waiting::Get { item, hash, call } => turn.out.replies.push(Reply {
                call,
                outcome: Outcome::Got(self.items.get(hash, &item).cloned()),
            }),
            Waiting::List { call } => {
                let outcome = Outcome::List(self.chunks());
                turn.out.replies.push(Reply { call, outcome });
            }
            Waiting::Send(send) => {
                turn.out.replies.extend(send.call.map(|call| Reply {
                    call,
                    outcome: Outcome::Sent,
                }));
                self.tell_send(&send, send.time, turn);
            }
            Waiting::Join { join, hash, time } => {
                let sync = self.sync_for(&join, hash, time);
                self.enter(&join, Some(sync), turn.out);
            }
            Waiting::SharedJoin { join, hash } => self.enter_in_turn(join, hash, turn),
            Waiting::Channel(from) => self.take_from_channel(*from, turn),
            Waiting::Coming => self.has_read_again(turn),
            Waiting::Asked(asked, Some(verdict)) => self.learn(asked, verdict, turn),
            Waiting::Custom(custom) => self.learn_custom(*custom, turn),
            Waiting::Times { .. } | Waiting::Void => {}
            Waiting::Asked(_, None) => debug_assert!(false, "its turn has not come"),
        }
    }
}
