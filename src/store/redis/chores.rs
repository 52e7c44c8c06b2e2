//! What takes longer than a turn: the values of a large group, an update of a large value, listings of
//! very many names, and what is dropped of those. Each goes on over turns.
//!
//! What is answered of a group meanwhile comes behind, in its order. May not know what commands are.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use redis::Value;

use crate::id::{GroupKey, Text};
use crate::shard::{Verdict, update};

use super::Redis;
use super::answers::{Cutting, Values};
use super::work::{Asker, CutOf, Job, Update, Work};

/// What one turn spends at most; a unit is about what it costs to read a byte of a stored value.
const UNITS_A_TURN: usize = 256 * 1024;
/// What it costs to take an answer that was behind.
const ANSWER_UNITS: usize = 256;
/// What it costs to drop a name.
const DROP_UNITS: usize = 64;
/// While there are so many no further answers are read: each holds what Redis has said.
const CHORES_MAX: usize = 16;

pub(super) struct Chores {
    /// What this turn may still spend.
    pub(super) units: usize,
    units_a_turn: usize,
    /// By the joined name of the group.
    by_group: HashMap<String, Chore>,
    order: VecDeque<String>,
    /// What nobody needs any more: each step drops a part.
    rubbish: Vec<Box<dyn Iterator<Item = ()> + Send>>,
}

/// What is being done for a group, and the answers behind it.
struct Chore {
    doing: Option<Doing>,
    behind: VecDeque<Answered>,
}

struct Answered {
    job: Job,
    value: Value,
    before: Vec<Value>,
}

/// Something that has begun.
pub(super) enum Doing {
    List(Asker, GroupKey, Values),
    Cut(Box<CutOf>, Box<Cutting>),
    Update(Box<Opened>),
}

/// An update whose value is being opened.
pub(super) struct Opened {
    pub(super) update: Update,
    pub(super) until: Option<Instant>,
    /// As it was read, and as text if it is the group's.
    pub(super) old: Option<Vec<u8>>,
    pub(super) text: Option<Text>,
    pub(super) opening: update::Opening,
}

impl Default for Chores {
    fn default() -> Chores {
        Chores {
            units: UNITS_A_TURN,
            units_a_turn: UNITS_A_TURN,
            by_group: HashMap::new(),
            order: VecDeque::new(),
            rubbish: Vec::new(),
        }
    }
}

impl Chores {
    pub(super) fn begin_turn(&mut self) {
        self.units = self.units_a_turn;
    }

    pub(super) fn spend(&mut self, units: usize) {
        self.units = self.units.saturating_sub(units);
    }

    /// Nobody waits for anything here.
    pub(super) fn has_none(&self) -> bool {
        self.by_group.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_group.len() >= CHORES_MAX
    }

    pub(super) fn drop_later(&mut self, rubbish: impl Iterator<Item = ()> + Send + 'static) {
        self.rubbish.push(Box::new(rubbish));
    }

    fn drop_some(&mut self) {
        while self.units > 0
            && let Some(rubbish) = self.rubbish.last_mut()
        {
            self.units = self.units.saturating_sub(DROP_UNITS);
            if rubbish.next().is_none() {
                self.rubbish.pop();
            }
        }
    }

    /// The answer is of a group with something that goes on: it comes behind. Else it is given back.
    fn put_behind(&mut self, answered: Answered) -> Option<Answered> {
        let chore = match group_of(&answered.job.work) {
            Some(key) if !self.by_group.is_empty() => self.by_group.get_mut(key.joined()),
            _ => None,
        };
        let Some(chore) = chore else {
            return Some(answered);
        };
        chore.behind.push_back(answered);
        None
    }
}

impl Doing {
    fn group(&self) -> &GroupKey {
        match self {
            Doing::List(_, key, _) => key,
            Doing::Cut(cut, _) => &cut.key,
            Doing::Update(opened) => &opened.update.key,
        }
    }
}

impl Redis {
    /// Whether something goes on that was too long for one turn.
    pub(super) fn has_begun_more(&self) -> bool {
        !self.chores.has_none()
            || !self.chores.rubbish.is_empty()
            || !self.names.listings.is_empty()
            || self.known.has_gone()
    }

    /// The answer to a job, in its turn.
    pub(super) fn take_in_order(
        &mut self,
        job: Job,
        value: Value,
        before: Vec<Value>,
        now: Instant,
    ) {
        let answered = Answered { job, value, before };
        if let Some(answered) = self.chores.put_behind(answered) {
            self.take_result(answered.job, answered.value, answered.before, now);
        }
    }

    /// Begins it, and ends it as well where the turn may still spend so much.
    pub(super) fn begin_chore(&mut self, doing: Doing, now: Instant) {
        if let Some(doing) = self.go_on_doing(doing, now) {
            let joined = doing.group().joined().to_owned();
            self.chores.order.push_back(joined.clone());
            let chore = Chore {
                doing: Some(doing),
                behind: VecDeque::new(),
            };
            let replaced = self.chores.by_group.insert(joined, chore);
            debug_assert!(replaced.is_none(), "its answers come behind");
        }
    }

    /// Goes on, and gives what is not done yet.
    fn go_on_doing(&mut self, doing: Doing, now: Instant) -> Option<Doing> {
        let units = &mut self.chores.units;
        match doing {
            Doing::List(asker, key, mut values) => {
                if !values.go_on(units) {
                    return Some(Doing::List(asker, key, values));
                }
                self.note_unreadable(&key, values.unreadable);
                self.answer(asker, Verdict::Listed(values.end()));
            }
            Doing::Cut(cut, mut cutting) => {
                if !cutting.go_on(units) {
                    return Some(Doing::Cut(cut, cutting));
                }
                self.take_cut(cut.mark, &cut.key, Ok(cutting.end()), now);
            }
            Doing::Update(mut opened) => {
                let most = *units;
                let is_open = opened.opening.go_on(opened.text.as_deref(), most);
                let len = opened.text.as_ref().map_or(0, |text| text.len());
                self.chores.spend(if is_open { len } else { most });
                if !is_open {
                    return Some(Doing::Update(opened));
                }
                self.end_compute(*opened);
            }
        }
        None
    }

    /// Goes on with what was too long for the turns before.
    pub(super) fn go_on_with_chores(&mut self, now: Instant) {
        for _ in 0..self.chores.order.len() {
            if self.chores.units == 0 {
                return;
            }
            let Some(joined) = self.chores.order.pop_front() else {
                break;
            };
            if let Some(chore) = self.chores.by_group.remove(&joined) {
                self.go_on_with_chore(joined, chore, now);
            }
        }
        self.go_on_forgetting(now);
        while self.chores.units > 0 && !self.names.listings.is_empty() {
            if let Some(listing) = self.names.list_on(&mut self.chores.units) {
                self.answer(listing.asker, Verdict::Groups(listing.end()));
            }
        }
        self.chores.drop_some();
    }

    fn go_on_with_chore(&mut self, joined: String, chore: Chore, now: Instant) {
        let Chore { doing, mut behind } = chore;
        let mut doing = doing.and_then(|doing| self.go_on_doing(doing, now));
        while doing.is_none() && self.chores.units > 0 {
            let Some(answered) = behind.pop_front() else {
                return;
            };
            self.chores.spend(ANSWER_UNITS);
            self.take_result(answered.job, answered.value, answered.before, now);
            if let Some(begun) = self.chores.by_group.remove(&joined) {
                self.chores.order.pop_back();
                doing = begun.doing;
            }
        }
        if doing.is_some() || !behind.is_empty() {
            self.chores.order.push_back(joined.clone());
            self.chores.by_group.insert(joined, Chore { doing, behind });
        }
    }

    /// The connections are lost: what Redis has said before is taken whole.
    pub(super) fn end_chores(&mut self, now: Instant) {
        while !self.chores.has_none() {
            self.chores.units = usize::MAX;
            self.go_on_with_chores(now);
        }
        self.chores.units = 0;
    }
}

/// The group whose answers keep their order.
fn group_of(work: &Work) -> Option<&GroupKey> {
    match work {
        Work::Change(change) => Some(&change.key),
        Work::Read(update) => Some(&update.key),
        Work::Get(_, key, _) | Work::List(_, key) => Some(key),
        Work::Cut(cut) => Some(&cut.key),
        Work::Ended(ended) => Some(&ended.key),
        Work::Keep(word) => Some(&word.key),
        Work::Mark(_)
        | Work::Beat(_)
        | Work::Look(_)
        | Work::Find(_)
        | Work::Owner(_)
        | Work::End(_)
        | Work::Renew
        | Work::Forget(..)
        | Work::Raise(..)
        | Work::Names(_)
        | Work::Setup(_)
        | Work::GivenUp => None,
    }
}
