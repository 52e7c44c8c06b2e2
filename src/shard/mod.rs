//! What a group means: the shard applies commands in order and says what must happen.
//!
//! Pure: no socket, file, thread, lock, clock or log line. Time is handed in; the order of hash
//! tables reaches no effect. Uses `protocol`, `collections` and `id`.
//!
//! A shard has two entrances and one way out. [`Shard::apply`] takes a command: where the owner
//! decides (memory, files) its result waits in the group's queue until the store has accepted it;
//! where the store decides it is sent on. [`Shard::learn`] takes the store's word, and what other
//! hosts did. What follows from either comes out as [`Effects`].

mod command;
mod decided;
mod effects;
mod group;
mod groups;
mod items;
mod sync;
mod under_way;
pub mod update;

pub use command::{Ask, Command, Join};
pub use effects::{
    Answer, Delivered, Delivery, Effects, Learned, Question, Reply, Request, RequestKind, Store,
    Verdict,
};

use crate::id::{CallId, GroupKey, WorkerId};
use crate::protocol::answer::Outcome;
use crate::protocol::input::StreamFunction;

use group::{Group, Turn};
use groups::Groups;
use under_way::{Flight, InFlight, Send};

/// Who decides what a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    /// The owner: memory, files.
    Owner,
    /// The store: values live elsewhere.
    Store,
}

/// Limits on a value that an update has made; what comes in from outside was checked there.
#[derive(Debug, Clone, Copy)]
pub struct ValueLimits {
    /// `limits.json_depth`.
    pub json_depth: usize,
    /// `limits.value_bytes`.
    pub value_bytes: usize,
}

/// The groups of one worker.
pub struct Shard {
    decides: Decides,
    limits: ValueLimits,
    groups: Groups,
    flight: Flight,
    /// How far the group that is furthest ahead of the clock is, in ms, since it was last asked.
    ahead_ms: u64,
}

impl Shard {
    /// The shard of that worker.
    pub fn new(worker: WorkerId, decides: Decides, limits: ValueLimits) -> Shard {
        Shard {
            decides,
            limits,
            groups: Groups::default(),
            flight: Flight::new(worker),
            ahead_ms: 0,
        }
    }

    /// Applies one command at `now` (ms since 1970) and appends to `out` what must now happen.
    pub fn apply(&mut self, command: Command, now: u64, out: &mut Effects) {
        match command {
            Command::Group { key, ask } => self.apply_to_group(key, ask, now, out),
            Command::ListGroups { stream, call } => self.list(Some(stream), call, out),
            Command::ListAll { call } => self.list(None, call, out),
        }
    }

    /// Takes what the store says, or what another host did.
    pub fn learn(&mut self, learned: Learned, now: u64, out: &mut Effects) {
        match learned {
            Learned::Answer(answer) => self.answered(answer, now, out),
            Learned::Heard {
                group,
                item,
                old,
                new,
                time,
            } => {
                // Nobody here follows a group that is not there.
                if let Some(slot) = self.groups.find(&group) {
                    self.with_group(slot, now, out, |group, turn| {
                        group.heard(&item, old, new, time, turn.out);
                    });
                }
            }
        }
    }

    /// Groups that are there: with items, subscribers, or something under way.
    pub fn groups_len(&self) -> usize {
        self.groups.len()
    }

    /// How far a group's time ran ahead of the clock since this was last asked, in ms.
    pub fn take_ahead_ms(&mut self) -> u64 {
        std::mem::take(&mut self.ahead_ms)
    }

    /// Panics where what should hold does not: for tests, since it looks at every item.
    pub fn check_invariants(&self) {
        self.groups.iter().for_each(Group::check_invariants);
    }

    fn apply_to_group(&mut self, key: GroupKey, ask: Ask, now: u64, out: &mut Effects) {
        let slot = match (&ask, self.decides) {
            // These make no group.
            (Ask::Leave { .. }, _) | (Ask::Get { .. } | Ask::List { .. }, Decides::Owner) => {
                match self.groups.find(&key) {
                    Some(slot) => slot,
                    None => return nothing_there(&ask, out),
                }
            }
            _ => self.groups.enter(key),
        };
        if self.decides == Decides::Store {
            return self.with_group(slot, now, out, |group, turn| group.ask_store(ask, turn));
        }
        let hash = ask.item().map_or(0, |item| self.groups.hash(item));
        let limits = self.limits;
        self.with_group(slot, now, out, |group, turn| match ask {
            Ask::Set { item, data, call } => group.set(item, hash, data, call, turn),
            Ask::Update { item, ops, call } => group.update(item, hash, &ops, call, &limits, turn),
            Ask::Delete { item, call } => group.delete(item, hash, call, turn),
            Ask::Get { item, call } => group.get(item, hash, call, turn),
            Ask::List { call } => group.list(call, turn),
            Ask::Send {
                id,
                kind,
                data,
                call,
            } => {
                let send = Send {
                    id,
                    kind,
                    data,
                    time: 0,
                    call,
                };
                group.send(send, turn);
            }
            Ask::Join(join) => group.join(join, hash, turn),
            Ask::Leave { worker, local } => group.leave(worker, local),
        });
    }

    fn list(&mut self, stream: Option<Box<str>>, call: CallId, out: &mut Effects) {
        if self.decides == Decides::Store {
            // One shard asks for all: the store is one.
            if self.flight.shard.index() == 0 {
                let question = Question::Groups {
                    stream: stream.clone(),
                };
                let who = InFlight::Listing { call, stream };
                self.flight.request(who, RequestKind::Decide(question), out);
                return;
            }
        }
        let outcome = match stream {
            Some(stream) => Outcome::Groups(self.groups.names_in(&stream)),
            None => Outcome::All(self.groups.all_names()),
        };
        out.replies.push(Reply { call, outcome });
    }

    fn answered(&mut self, answer: Answer, now: u64, out: &mut Effects) {
        let who = match (
            self.flight.answered(answer.epoch, answer.number),
            self.decides,
        ) {
            (None, _) => return,
            (Some(who), Decides::Owner) => who,
            (Some(InFlight::Group(slot)), Decides::Store) => {
                return self.with_group(slot, now, out, |group, turn| {
                    group.answered(answer.verdict, turn)
                });
            }
            (Some(InFlight::Listing { call, stream }), Decides::Store) => {
                let outcome = listed(answer.verdict, stream.is_some());
                out.replies.push(Reply { call, outcome });
                return;
            }
        };
        match (who, answer.verdict) {
            (InFlight::Group(slot), Verdict::Refused(cause)) => {
                self.refused(slot, &cause, now, out);
            }
            (InFlight::Group(slot), _) => self.with_group(slot, now, out, Group::accepted),
            (InFlight::Listing { .. }, _) => debug_assert!(false, "the owner lists by itself"),
        }
    }

    /// Everything of this shard that is under way fails with the refused write of group `first`.
    fn refused(&mut self, first: u32, cause: &str, now: u64, out: &mut Effects) {
        let others = self.flight.begin_epoch();
        let slots = others.into_iter().filter_map(|who| match who {
            InFlight::Group(slot) => Some(slot),
            InFlight::Listing { .. } => None,
        });
        // A group's whole queue ends at its first mention; its later ones find nothing under way.
        for slot in std::iter::once(first).chain(slots) {
            self.with_group(slot, now, out, |group, turn| group.refused(cause, turn));
        }
    }

    fn with_group(
        &mut self,
        slot: u32,
        now: u64,
        out: &mut Effects,
        act: impl FnOnce(&mut Group, &mut Turn<'_>),
    ) {
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        let flight = &mut self.flight;
        act(
            group,
            &mut Turn {
                now,
                slot,
                flight,
                out,
            },
        );
        self.ahead_ms = self.ahead_ms.max(group.last_time().saturating_sub(now));
        self.groups.let_go_if_idle(slot);
    }
}

impl Ask {
    /// The item it is about.
    fn item(&self) -> Option<&str> {
        match self {
            Ask::Set { item, .. }
            | Ask::Update { item, .. }
            | Ask::Delete { item, .. }
            | Ask::Get { item, .. } => Some(item),
            Ask::Join(join) => join.item.as_deref(),
            Ask::List { .. } | Ask::Send { .. } | Ask::Leave { .. } => None,
        }
    }
}

/// Answers a question about a group that is not there.
fn nothing_there(ask: &Ask, out: &mut Effects) {
    let (call, outcome) = match ask {
        Ask::Get { call, .. } => (*call, Outcome::Got(None)),
        Ask::List { call } => (*call, Outcome::List(Vec::new())),
        _ => return,
    };
    out.replies.push(Reply { call, outcome });
}

/// What a store that decides says of its groups, as the outcome of a listing.
fn listed(verdict: Verdict, of_stream: bool) -> Outcome {
    let function = if of_stream {
        StreamFunction::ListGroups
    } else {
        StreamFunction::ListAll
    };
    match verdict {
        Verdict::Groups(keys) if of_stream => {
            Outcome::Groups(keys.iter().map(|key| key.group().to_owned()).collect())
        }
        Verdict::Groups(keys) => {
            let mut streams: Vec<(String, Vec<String>)> = Vec::new();
            for key in keys {
                match streams.last_mut() {
                    Some((stream, groups)) if stream == key.stream() => {
                        groups.push(key.group().to_owned())
                    }
                    _ => streams.push((key.stream().to_owned(), vec![key.group().to_owned()])),
                }
            }
            Outcome::All(streams)
        }
        other => decided::refusal(function, &other),
    }
}
