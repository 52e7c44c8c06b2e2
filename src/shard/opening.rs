//! Updates of large values, which are opened over turns. What is asked of such a group meanwhile comes
//! behind, in its order.
//!
//! Only where the owner decides. May not know what operations do.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::id::{CallId, GroupKey, ItemId, Text};
use crate::protocol::answer::Outcome;
use crate::protocol::input::{StreamFunction, UpdateOp, failed};
use crate::protocol::ttl::Ttl;

use super::update::Opening;
use super::waiting::Waiting;
use super::walks::Walks;
use super::{Ask, Effects, Reply, Shard};

/// So many bytes of a value are looked at for one unit of what a turn may spend.
const BYTES_A_UNIT: usize = 64;
/// What a command costs that was behind others.
const ASK_UNITS: usize = 16;

/// One update, and the newest value when its turn came.
pub(super) struct Update {
    pub(super) item: ItemId,
    pub(super) hash: u64,
    pub(super) ops: Vec<UpdateOp>,
    pub(super) ttl: Option<Ttl>,
    pub(super) call: Option<CallId>,
    pub(super) old: Option<Text>,
}

/// The groups whose next command takes turns.
#[derive(Default)]
pub(super) struct Openings {
    by_group: HashMap<GroupKey, Behind>,
    /// In the order in which they have their turns.
    order: VecDeque<GroupKey>,
    /// Commands in all of them, and what those hold that are behind.
    len: usize,
    bytes: usize,
}

/// What goes on in one group.
struct Behind {
    /// None: it is done, and what is behind it has its turn.
    update: Option<(Box<Update>, Opening)>,
    asks: VecDeque<Ask>,
}

impl Openings {
    pub(super) fn is_empty(&self) -> bool {
        self.by_group.is_empty()
    }

    /// Commands that wait here.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What they hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts what is asked of a group behind an update there that takes turns. Given back if there is none.
    pub(super) fn put_behind(&mut self, key: &GroupKey, ask: Ask) -> Option<Ask> {
        if self.is_empty() {
            return Some(ask);
        }
        let Some(behind) = self.by_group.get_mut(key) else {
            return Some(ask);
        };
        self.len += 1;
        self.bytes += ask.held_bytes();
        behind.asks.push_back(ask);
        None
    }

    /// The update is its group's next command: what is behind another one there stays behind it.
    fn begin(&mut self, key: GroupKey, update: Update, opening: Opening) {
        self.len += 1;
        let update = Some((Box::new(update), opening));
        match self.by_group.get_mut(&key) {
            Some(behind) => behind.update = update,
            None => {
                self.order.push_back(key.clone());
                let asks = VecDeque::new();
                self.by_group.insert(key, Behind { update, asks });
            }
        }
    }

    /// Whether what is asked of that group comes behind something.
    pub(super) fn has(&self, key: &GroupKey) -> bool {
        self.by_group.contains_key(key)
    }

    fn take_update(&mut self, key: &GroupKey) -> Option<(Box<Update>, Opening)> {
        let taken = self.by_group.get_mut(key)?.update.take()?;
        self.len -= 1;
        Some(taken)
    }

    /// The next command of a group where no update takes turns.
    fn take_ask(&mut self, key: &GroupKey) -> Option<Ask> {
        let ask = self.by_group.get_mut(key)?.asks.pop_front()?;
        self.len -= 1;
        self.bytes -= ask.held_bytes();
        Some(ask)
    }

    pub(super) fn check_invariants(&self) {
        let asks = || self.by_group.values().flat_map(|behind| &behind.asks);
        let updates = self
            .by_group
            .values()
            .filter(|behind| behind.update.is_some());
        debug_assert_eq!(self.len, asks().count() + updates.count());
        debug_assert_eq!(self.bytes, asks().map(Ask::held_bytes).sum::<usize>());
        debug_assert_eq!(self.order.len(), self.by_group.len());
    }

    fn is_done(&self, key: &GroupKey) -> bool {
        let behind = self.by_group.get(key);
        behind.is_none_or(|behind| behind.update.is_none() && behind.asks.is_empty())
    }

    fn takes_turns(&self, key: &GroupKey) -> bool {
        let behind = self.by_group.get(key);
        behind.is_some_and(|behind| behind.update.is_some())
    }
}

impl Walks {
    /// Opens as much as this turn may; true when all is.
    fn open_some(&mut self, update: &Update, opening: &mut Opening) -> bool {
        let old = update.old.as_deref();
        let most = self.units * BYTES_A_UNIT;
        let is_open = opening.go_on(old, most);
        let len = old.map_or(0, str::len);
        self.spend(len.min(most) / BYTES_A_UNIT);
        is_open
    }
}

impl Shard {
    /// An update has its turn: at once, unless its value is long in being opened.
    pub(super) fn begin_update(
        &mut self,
        slot: u32,
        mut update: Update,
        now: u64,
        out: &mut Effects,
    ) {
        let mut begun = None;
        self.with_group(slot, now, out, |group, turn| {
            update.old = group.newest(update.hash, &update.item).cloned();
            let mut opening = Opening::of(update.old.as_deref(), &update.ops);
            match turn.walks.open_some(&update, &mut opening) {
                true => group.update(update, opening, turn),
                false => begun = Some((group.key.clone(), update, opening)),
            }
        });
        // What it changes is there, so the group stays.
        if let Some((key, update, opening)) = begun {
            self.openings.begin(key, update, opening);
        }
    }

    /// Goes on with the updates that take turns, and with what is behind them.
    pub(super) fn go_on_opening(&mut self, now: u64, out: &mut Effects) {
        while self.walks.units > 0
            && let Some(key) = self.openings.order.pop_front()
        {
            if let Some((update, mut opening)) = self.openings.take_update(&key) {
                if !self.walks.open_some(&update, &mut opening) {
                    self.openings.order.push_back(key.clone());
                    self.openings.begin(key, *update, opening);
                    continue;
                }
                if let Some(slot) = self.groups.find(&key) {
                    self.with_group(slot, now, out, |group, turn| {
                        group.update(*update, opening, turn);
                    });
                }
            }
            while !self.openings.takes_turns(&key) {
                if self.walks.units == 0 {
                    break;
                }
                let Some(ask) = self.openings.take_ask(&key) else {
                    break;
                };
                self.walks.spend(ASK_UNITS);
                self.ask_group(key.clone(), ask, now, out);
            }
            match self.openings.is_done(&key) {
                true => drop(self.openings.by_group.remove(&key)),
                false => self.openings.order.push_back(key),
            }
        }
    }

    /// A write was refused: updates that take turns rest on what may never have been. Their groups are
    /// told first.
    pub(super) fn fail_openings(&mut self, cause: &str, now: u64, out: &mut Effects) {
        for key in self.openings.order.clone() {
            let Some((update, _)) = self.openings.take_update(&key) else {
                continue;
            };
            let Some(call) = update.call else {
                continue;
            };
            let function = StreamFunction::Update;
            let outcome = Outcome::Failed(failed(function, cause));
            let reply = Reply { call, outcome };
            let slot = self.groups.enter(key);
            self.with_group(slot, now, out, |group, turn| {
                group.place(Waiting::Rests { reply, function }, turn);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Local, call, delete, join, outcomes, set};
    use super::super::{Answer, Command, Decides, Learned, Request, Verdict};
    use super::*;

    const BYTES: usize = 100_000;

    fn large(n: u32) -> String {
        let rest = "x".repeat(BYTES);
        format!(r#"{{"rest":"{rest}","n":{n}}}"#)
    }

    fn increment(item: &str, n: u32) -> Ask {
        Ask::Update {
            item: item.into(),
            ops: vec![UpdateOp::Increment {
                path: "n".into(),
                by: 1,
            }],
            ttl: None,
            call: Some(call(n)),
        }
    }

    /// A shard that opens about 6,400 bytes a turn, with a large value in `g`.
    fn with_large() -> Local {
        let mut local = Local::new(Decides::Owner);
        local.shard.limits.value_bytes = 10 * BYTES;
        let _ = local.set_accepted("g", 5, &large(1));
        local.shard.walks.units_a_turn = 100;
        let _ = turn(&mut local);
        local
    }

    fn turn(local: &mut Local) -> Effects {
        let mut out = Effects::default();
        local.shard.begin_turn(5, &mut out);
        local.shard.check_invariants();
        local.asked.append(&mut out.requests);
        out
    }

    fn new_of(outcome: &Outcome) -> &str {
        match outcome {
            Outcome::Updated { new, .. } | Outcome::Set { new, .. } => new,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_update_of_a_large_value_takes_turns_and_what_its_group_is_asked_comes_behind() {
        let mut local = with_large();
        let get = |n| Ask::Get {
            item: "u1".into(),
            call: call(n),
        };
        for ask in [increment("u1", 1), get(2), increment("u1", 3), join(None)] {
            assert!(local.ask("g", 5, ask).is_empty());
        }
        for ask in [set("2", 4), delete(5)] {
            assert!(local.ask("g", 5, ask).is_empty());
        }
        assert!(local.asked.is_empty(), "nothing was decided");
        assert_eq!(local.shard.waiting_len(), 6);
        // Other groups go on.
        let _ = local.ask("h", 5, set("2", 9));
        assert_eq!(outcomes(&local.answer(5, Verdict::Accepted))[0].0, 9);
        let mut turns = 0;
        while local.shard.has_begun_more() {
            assert!(turn(&mut local).is_empty(), "the store has still to accept");
            turns += 1;
        }
        assert!((32..40).contains(&turns), "two of 100,000 bytes: {turns}");
        let mut replies = Vec::new();
        while !local.asked.is_empty() {
            replies.extend(local.answer(5, Verdict::Accepted).replies);
        }
        // The join's texts take turns as well.
        while local.shard.has_begun_more() {
            replies.extend(turn(&mut local).replies);
        }
        let order: Vec<u32> = replies.iter().map(|reply| reply.call.slot).collect();
        assert_eq!(order, [1, 2, 3, 4, 5]);
        assert!(new_of(&replies[0].outcome).ends_with(r#""n":2}"#));
        assert!(new_of(&replies[2].outcome).ends_with(r#""n":3}"#));
        assert_eq!(local.shard.waiting_len(), 0);
    }

    #[test]
    fn a_refused_write_takes_along_an_update_that_takes_turns_and_nothing_behind_it() {
        let mut local = with_large();
        let mut other = set(&large(7), 1);
        if let Ask::Set { item, .. } = &mut other {
            *item = "new".into();
        }
        let _ = local.ask("fresh", 5, other);
        assert!(local.ask("fresh", 5, increment("new", 2)).is_empty());
        assert!(local.ask("fresh", 5, set("1", 3)).is_empty());
        let _ = turn(&mut local);
        let out = local.answer(5, Verdict::Refused("full".into()));
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        let mut ended: Vec<u32> = Vec::new();
        for (call, outcome) in outcomes(&out) {
            assert!(failed(outcome));
            ended.push(call);
        }
        ended.sort_unstable();
        assert_eq!(ended, [1, 2]);
        while local.shard.has_begun_more() {
            assert!(turn(&mut local).is_empty());
        }
        let out = local.answer(5, Verdict::Accepted);
        assert_eq!(outcomes(&out)[0].0, 3);
    }

    #[test]
    fn what_is_behind_large_updates_has_its_turns_bit_by_bit() {
        let mut local = with_large();
        let _ = local.ask("g", 5, increment("u1", 0));
        for n in 1..100 {
            let _ = local.ask("g", 5, set("1", n));
        }
        while local.asked.is_empty() {
            let _ = turn(&mut local);
        }
        while local.shard.has_begun_more() {
            let before = local.asked.len();
            let _ = turn(&mut local);
            assert!(local.asked.len() - before <= 8);
        }
        assert_eq!(local.asked.len(), 100);
    }

    /// Any commands, answers and turns: each group's replies are those of a shard without a budget.
    #[test]
    fn replies_are_those_of_a_shard_that_does_all_at_once() {
        fn answer(local: &mut Local, asked: Request, replies: &mut Vec<Reply>) {
            let answer = Answer {
                shard: asked.shard,
                epoch: asked.epoch,
                number: asked.number,
                verdict: Verdict::Accepted,
            };
            let mut out = Effects::default();
            local.shard.learn(Learned::Answer(answer), 5, &mut out);
            local.asked.append(&mut out.requests);
            replies.append(&mut out.replies);
        }
        for seed in 1..40_u32 {
            let mut draw = seed.wrapping_mul(2_654_435_761);
            let mut below = |most: u32| {
                draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (draw >> 8) % most
            };
            let commands: Vec<(u32, u32, u32)> =
                (0..60).map(|_| (below(2), below(8), below(3))).collect();
            let run = |units: usize| {
                let mut local = Local::new(Decides::Owner);
                local.shard.limits.value_bytes = 10 * BYTES;
                local.shard.walks.units_a_turn = units;
                let _ = turn(&mut local);
                let mut replies = Vec::new();
                for (n, (group, what, then)) in commands.iter().enumerate() {
                    let n = n as u32;
                    let ask = match what {
                        0 => set(&large(n), n),
                        1 => set("1", n),
                        2 => delete(n),
                        3 => Ask::List { call: call(n) },
                        4 => Ask::Get {
                            item: "u1".into(),
                            call: call(n),
                        },
                        _ => increment("u1", n),
                    };
                    let key = GroupKey::new("s", &group.to_string());
                    let mut out = Effects::default();
                    let command = Command::Group { key, ask };
                    local.shard.apply(command, 5, &mut out);
                    local.asked.append(&mut out.requests);
                    replies.append(&mut out.replies);
                    if *then == 0 && !local.asked.is_empty() {
                        let asked = local.asked.remove(0);
                        answer(&mut local, asked, &mut replies);
                    }
                    if *then == 1 {
                        replies.append(&mut turn(&mut local).replies);
                    }
                }
                while local.shard.has_begun_more() || !local.asked.is_empty() {
                    replies.append(&mut turn(&mut local).replies);
                    for asked in std::mem::take(&mut local.asked) {
                        answer(&mut local, asked, &mut replies);
                    }
                }
                assert_eq!(replies.len(), commands.len());
                let of_group = |wanted: u32| {
                    let of = |reply: &&Reply| commands[reply.call.slot as usize].0 == wanted;
                    let replies = replies.iter().filter(of);
                    let shown =
                        replies.map(|reply| format!("{} {:?}", reply.call.slot, reply.outcome));
                    shown.collect::<Vec<_>>()
                };
                [of_group(0), of_group(1)]
            };
            assert!(run(100) == run(usize::MAX / BYTES_A_UNIT), "seed {seed}");
        }
    }
}
