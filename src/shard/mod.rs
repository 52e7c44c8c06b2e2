//! What a group means: the shard applies commands in order and says what must happen.
//!
//! Pure: no socket, file, thread, lock, clock or log line. Time is handed in; the order of hash
//! tables reaches no effect. Uses `protocol`, `collections` and `id`.
//!
//! A shard has three entrances and one way out. [`Shard::apply`] takes a command: where the owner
//! decides (memory, files) its result waits in the group's queue until the store has accepted it;
//! where the store decides it is sent on. [`Shard::learn`] takes the store's word, and what other
//! hosts did. [`Shard::custom_answered`] takes what a function of an SDK worker has answered. What
//! takes long or is due by the clock goes on with [`Shard::begin_turn`] and [`Shard::do_due`]. What
//! follows from any of them comes out as [`Effects`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use iii_stream::id::{GroupKey, SlotId, WorkerId};
//! use iii_stream::shard::{Ask, Command, Decides, Delivered, Effects, Join, Shard, Store, ValueLimits};
//! use iii_stream::store::Memory;
//!
//! let limits = ValueLimits { json_depth: 125, value_bytes: 16 << 20 };
//! let mut shard = Shard::new(WorkerId(0), Decides::Owner, limits);
//! let mut effects = Effects::default();
//! let (id, now) = (SlotId { slot: 0, generation: 1 }, 1_795_474_467_867);
//! let group = |ask| Command::Group { key: GroupKey::new("chat", "room-1"), ask };
//!
//! // Somebody joins, and an item is set. Nothing is told before the store has accepted it.
//! let join = Join { worker: WorkerId(0), local: id, connection: id, token: 7, item: None };
//! shard.apply(group(Ask::Join(join)), now, &mut effects);
//! let data = Arc::from(r#"{"clicks":1}"#);
//! let set = Ask::Set { item: "ada".into(), data, ttl: None, call: Some(id) };
//! shard.apply(group(set), now, &mut effects);
//! assert!(effects.replies.is_empty());
//!
//! let mut learned = Vec::new();
//! Memory.serve(std::mem::take(&mut effects.requests), &mut learned);
//! learned.into_iter().for_each(|answer| shard.learn(answer, now, &mut effects));
//! assert_eq!(effects.replies.len(), 1);
//! assert!(matches!(effects.deliveries[0].what, Delivered::Entered { token: 7, sync: Some(_), .. }));
//! let Delivered::Event(frame) = &effects.deliveries[1].what else { unreachable!() };
//! assert_eq!(frame.item(), Some("ada"));
//! ```

mod channel;
mod coming;
mod command;
mod content;
mod custom;
mod due;
mod effects;
mod flight;
pub mod followed;
mod following;
mod group;
mod groups;
pub mod hooks;
mod items;
mod keep;
mod learned;
mod lifetimes;
mod listing;
mod looks;
mod marks;
mod members;
mod membership;
mod opening;
mod order;
mod owner;
mod pace;
mod requests;
mod restored;
mod room;
mod settling;
mod shared;
mod shared_joins;
mod snapshot;
mod store;
mod taking_in;
mod texts;
mod times;
mod under_way;
mod unnamed;
pub mod update;
mod verdicts;
mod waiting;
mod walks;

pub use command::{Ask, Command, Join};
pub use content::Content;
pub use effects::{CustomCall, Delivered, Delivery, Effects, Fired, Reply};
pub use keep::{Cursor, Marked, Piece, Restored, Slice, SliceLimits};
pub use learned::{CustomAnswer, CustomAnswered, FromChannel, HeardEvent, Learned};
pub use looks::{GroupLook, ItemsLook, Totals};
pub use marks::Marks;
pub use members::{Hold, Lease};
pub use requests::{Answer, Question, Request, RequestKind, Verdict};
pub use snapshot::Snapshot;
pub use store::Store;
pub use walks::UNITS_A_TURN;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::id::{CallId, GroupKey, WorkerId};
use crate::protocol::answer::Outcome;
use crate::protocol::function::OVERLOADED;
use crate::protocol::groups::Names;

use due::Due;
use flight::{Flight, InFlight};
use group::{Group, Turn};
use groups::Groups;
use hooks::Hooks;
use keep::Restoring;
use opening::{Openings, Update};
use room::Room;
use under_way::Load;
use unnamed::Unnamed;
use walks::Walks;

/// Who decides what a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    /// The owner: memory, files.
    Owner,
    /// The store, where the values live and which other hosts use as well: a channel tells all of them of
    /// every change, ours included, and an answer makes no event.
    Shared,
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
    /// For the names of items.
    hasher: DefaultHashBuilder,
    groups: Groups,
    /// Groups taken over whose names nobody has said yet.
    unnamed: Unnamed,
    /// Joins of such groups whose times the store has to keep first, and what was asked of the same
    /// groups behind them.
    postponed: Vec<(GroupKey, Ask)>,
    /// Updates that take turns, and what is behind them.
    openings: Openings,
    hooks: Arc<Hooks>,
    flight: Flight,
    /// Commands that wait in the groups' queues.
    waiting_len: usize,
    /// Of those, what waits for custom functions, or behind what does.
    load: Load,
    /// Commands that were refused since that was last asked, because too much waits for functions.
    refused_len: u64,
    /// Groups that have made the texts of their lists without anybody to follow them, and when: the
    /// texts are given back a little later, so that whoever asks again and again is not answered
    /// anew each time.
    cooling: VecDeque<(u64, u32)>,
    /// How far the group that is furthest ahead of the clock is, in ms, since it was last asked.
    ahead_ms: u64,
    /// While a store gives back what it has kept.
    restoring: Option<Box<Restoring>>,
    walks: Walks,
    room: Room,
    totals: Totals,
    due: Due,
    /// `limits.members_per_group`.
    members_max: usize,
}

/// How long a group that nobody follows keeps the texts of its list, in ms.
const COOLING_MS: u64 = 1000;

/// What may wait in one shard for the answers of custom functions, or behind a command that does; a
/// call beyond it is refused. Functions may be slow for long, and the other groups are to go on.
/// Joins are let through: their sockets bound them.
const HELD_LEN_MAX: usize = 16 * 1024;
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Shard {
    /// What holds from now on for values that an update makes.
    pub fn set_limits(&mut self, limits: ValueLimits) {
        self.limits = limits;
    }

    /// The shard of that worker.
    pub fn new(worker: WorkerId, decides: Decides, limits: ValueLimits) -> Shard {
        let groups = Groups::default();
        Shard {
            decides,
            limits,
            hasher: groups.hasher(),
            groups,
            unnamed: Unnamed::default(),
            postponed: Vec::new(),
            openings: Openings::default(),
            hooks: Arc::default(),
            flight: Flight::new(worker),
            waiting_len: 0,
            load: Load::default(),
            refused_len: 0,
            cooling: VecDeque::new(),
            ahead_ms: 0,
            restoring: None,
            walks: Walks::new(decides == Decides::Owner),
            room: Room::default(),
            totals: Totals::default(),
            due: Due::default(),
            members_max: usize::MAX,
        }
    }

    /// Who decides what a change does.
    pub fn decides(&self) -> Decides {
        self.decides
    }

    /// Applies one command at `now` (ms since 1970) and appends to `out` what must now happen.
    pub fn apply(&mut self, command: Command, now: u64, out: &mut Effects) {
        match command {
            Command::Group { key, ask } => self.apply_to_group(key, ask, now, out),
            Command::ListGroups { stream, call } => self.list(Some(stream), call, out),
            Command::ListAll { call } => self.list(None, call, out),
        }
    }

    /// What SDK workers have hooked onto, from the next command on.
    pub fn set_hooks(&mut self, hooks: Arc<Hooks>) {
        self.hooks = hooks;
    }

    /// Commands that wait for the store, reads behind them included. Those that wait for a custom
    /// function are not among them: they have a bound of their own.
    pub fn waiting_len(&self) -> usize {
        self.waiting_len - self.load.len + self.openings.len()
    }

    /// Whether what waits behind updates of large values is too much for more to be taken.
    pub fn holds_much(&self) -> bool {
        self.openings.bytes() > HELD_BYTES_MAX
    }

    /// Commands that were refused since this was last asked, because too many wait for custom
    /// functions; those that nobody waits for included.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused_len)
    }

    /// From here on the process has no memory for more, or has it again.
    pub fn set_out_of_memory(&mut self, is_out: bool) {
        self.room.is_out = is_out;
    }

    /// Calls that were refused since this was last asked, because they would add and there is no memory.
    pub fn take_out_of_memory(&mut self) -> u64 {
        self.room.take_refused()
    }

    /// Groups that are there: with items, subscribers, or something under way.
    pub fn groups_len(&self) -> usize {
        self.groups.len() + self.unnamed.len()
    }

    /// How far a group's time ran ahead of the clock since this was last asked, in ms.
    pub fn take_ahead_ms(&mut self) -> u64 {
        std::mem::take(&mut self.ahead_ms)
    }

    /// Panics where what should hold does not: for tests, since it looks at every item.
    pub fn check_invariants(&self) {
        self.groups.iter().for_each(Group::check_invariants);
        self.due.check_invariants(&self.groups);
        let loads: Vec<Load> = self.groups.iter().map(Group::load).collect();
        let len = loads.iter().map(|load| load.len).sum();
        let bytes = loads.iter().map(|load| load.bytes).sum();
        debug_assert_eq!(self.load, Load { len, bytes });
        self.openings.check_invariants();
    }

    fn apply_to_group(&mut self, key: GroupKey, ask: Ask, now: u64, out: &mut Effects) {
        if let Some(ask) = self.openings.put_behind(&key, ask) {
            self.ask_group(key, ask, now, out);
        }
    }

    /// Asks a group whose next command this is.
    fn ask_group(&mut self, key: GroupKey, ask: Ask, now: u64, out: &mut Effects) {
        let custom = ask.function();
        let custom = custom.filter(|function| self.hooks.is_custom(key.stream(), *function));
        if self.finds_no_room(&key, &ask, custom.is_some()) {
            self.refused_len += 1;
            return ask.refuse(OVERLOADED, out);
        }
        if let Some(function) = custom {
            let decides = self.decides;
            let slot = self.groups.enter(key);
            return self.with_group(slot, now, out, |group, turn| {
                group.ask_custom(function, ask, decides, turn);
            });
        }
        self.apply_to_own(key, ask, now, out);
    }

    fn apply_to_named(&mut self, key: GroupKey, ask: Ask, now: u64, out: &mut Effects) {
        let slot = match (&ask, self.decides) {
            // These make no group.
            (Ask::Leave { .. } | Ask::Release { .. }, _)
            | (Ask::Get { .. } | Ask::List { .. }, Decides::Owner) => {
                match self.groups.find(&key) {
                    Some(slot) => slot,
                    None => return nothing_there(&ask, out),
                }
            }
            _ => self.groups.enter(key),
        };
        let hash = ask.item().map_or(0, |item| self.groups.hash(item));
        let decides = self.decides;
        let ask = match (decides, ask) {
            (
                Decides::Owner,
                Ask::Update {
                    item,
                    ops,
                    ttl,
                    call,
                },
            ) => {
                let old = None;
                let update = Update {
                    item,
                    hash,
                    ops,
                    ttl,
                    call,
                    old,
                };
                return self.begin_update(slot, update, now, out);
            }
            (_, other) => other,
        };
        self.with_group(slot, now, out, |group, turn| match decides {
            Decides::Owner => group.apply_own(ask, hash, turn),
            Decides::Shared => group.apply_shared(ask, hash, turn),
        });
    }

    /// Whether it would wait for a function, and too much does.
    fn finds_no_room(&self, key: &GroupKey, ask: &Ask, is_custom: bool) -> bool {
        if self.load.len < HELD_LEN_MAX && self.load.bytes < HELD_BYTES_MAX {
            return false;
        }
        let group = || self.groups.get(self.groups.find(key)?);
        let is_joining = matches!(ask, Ask::Join(_) | Ask::Hold(_));
        let is_leaving = matches!(ask, Ask::Leave { .. } | Ask::Release { .. });
        let may_wait = !is_joining && !is_leaving;
        may_wait && (is_custom || group().is_some_and(|group| group.load().len > 0))
    }

    fn list(&mut self, stream: Option<Box<str>>, call: CallId, out: &mut Effects) {
        if self.decides != Decides::Owner {
            // One shard asks for all: the store is one.
            if self.flight.shard.index() == 0 {
                let question = Question::Groups {
                    stream: stream.clone(),
                };
                let who = InFlight::Listing { call, stream };
                self.flight.request(who, RequestKind::Decide(question), out);
                return;
            }
            // Items that are kept for joins make no group beside the store's.
            let outcome = Outcome::Groups(Names::default());
            return out.replies.push(Reply { call, outcome });
        }
        self.list_own(stream, call, out);
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
        let (waited, before, had_items) = (group.queue_len(), group.load(), group.has_items());
        let had = Totals::of(group.items());
        let mut turn = Turn {
            now,
            slot,
            uptime_ms: self.due.uptime_ms,
            limits: &self.limits,
            members_max: self.members_max,
            hasher: &self.hasher,
            hooks: &self.hooks,
            flight: &mut self.flight,
            walks: &mut self.walks,
            room: &mut self.room,
            out,
        };
        group.take_note(&mut turn);
        act(group, &mut turn);
        self.waiting_len = self.waiting_len + group.queue_len() - waited;
        let after = group.load();
        self.load = Load {
            len: self.load.len + after.len - before.len,
            bytes: self.load.bytes + after.bytes - before.bytes,
        };
        self.totals = self.totals.with(Totals::of(group.items()), had);
        self.ahead_ms = self.ahead_ms.max(group.last().time.saturating_sub(now));
        if group.wants_turns() {
            self.walks.texts.push_back(slot);
        }
        if group.has_items() != had_items {
            let names = (group.key.stream(), group.key.group());
            self.walks.note_change(slot, names, had_items);
        }
        if group.due != group.next_due() {
            self.due.note(slot, group);
        }
        if group.begins_to_cool() {
            self.cooling.push_back((now, slot));
        }
        self.groups.let_go_if_idle(slot);
        self.cool(now);
        if !self.flight.repeats.is_empty() {
            // None of these asks a custom function, so they bring about no more of them.
            for (key, ask) in std::mem::take(&mut self.flight.repeats) {
                if let Some(ask) = self.openings.put_behind(&key, ask) {
                    self.apply_to_own(key, ask, now, out);
                }
            }
        }
    }

    /// Gives back what the groups that have cooled long enough do not need.
    fn cool(&mut self, now: u64) {
        while let Some((since, slot)) = self.cooling.front()
            && now.abs_diff(*since) >= COOLING_MS
        {
            // The slot may be another group's by now: it loses texts that it can make again.
            if let Some(group) = self.groups.get_mut(*slot) {
                group.has_cooled();
            }
            self.cooling.pop_front();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ItemId, SlotId, Text};
    use crate::protocol::frame::SyncFrame;

    /// A shard and the requests that no store has answered.
    pub(super) struct Local {
        pub(super) shard: Shard,
        pub(super) asked: Vec<Request>,
    }

    impl Local {
        pub(super) fn new(decides: Decides) -> Local {
            let limits = ValueLimits {
                json_depth: 10,
                value_bytes: 1000,
            };
            Local {
                shard: Shard::new(WorkerId(0), decides, limits),
                asked: Vec::new(),
            }
        }

        pub(super) fn ask(&mut self, group: &str, now: u64, ask: Ask) -> Effects {
            let key = GroupKey::new("s", group);
            let mut out = Effects::default();
            self.shard.apply(Command::Group { key, ask }, now, &mut out);
            self.shard.check_invariants();
            self.asked.append(&mut out.requests);
            out
        }

        /// The store answers the oldest request.
        pub(super) fn answer(&mut self, now: u64, verdict: Verdict) -> Effects {
            let request = self.asked.remove(0);
            let answer = Answer {
                shard: request.shard,
                epoch: request.epoch,
                number: request.number,
                verdict,
            };
            let mut out = Effects::default();
            self.shard.learn(Learned::Answer(answer), now, &mut out);
            self.shard.check_invariants();
            out
        }

        /// Sets an item and has it accepted: the time of the event, if anybody listens.
        pub(super) fn set_accepted(&mut self, group: &str, now: u64, value: &str) -> Option<u64> {
            let _ = self.ask(group, now, set(value, 0));
            times(&self.answer(now, Verdict::Accepted)).pop()
        }
    }

    pub(super) fn call(n: u32) -> CallId {
        SlotId::first(n)
    }

    pub(super) fn set(value: &str, n: u32) -> Ask {
        Ask::Set {
            item: "u1".into(),
            data: value.into(),
            ttl: None,
            call: Some(call(n)),
        }
    }

    pub(super) fn delete(n: u32) -> Ask {
        Ask::Delete {
            item: "u1".into(),
            call: Some(call(n)),
        }
    }

    pub(super) fn join(item: Option<&str>) -> Ask {
        Ask::Join(Join {
            worker: WorkerId(0),
            local: call(0),
            connection: call(0),
            token: 0,
            item: item.map(Into::into),
        })
    }

    pub(super) fn leave() -> Ask {
        Ask::Leave {
            worker: WorkerId(0),
            local: call(0),
        }
    }

    pub(super) fn outcomes(out: &Effects) -> Vec<(u32, &Outcome)> {
        let replies = out.replies.iter();
        replies
            .map(|reply| (reply.call.slot, &reply.outcome))
            .collect()
    }

    pub(super) fn sync(out: &Effects) -> Arc<SyncFrame> {
        let found = out
            .deliveries
            .iter()
            .find_map(|delivery| match &delivery.what {
                Delivered::Entered { sync, .. } => sync.clone(),
                Delivered::Event(_) | Delivered::Afresh(_) => None,
            });
        found.unwrap()
    }

    pub(super) fn text(sync: &SyncFrame) -> String {
        let bytes = sync.pieces_from(0).collect::<Vec<_>>().concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The timestamps of all that is delivered.
    pub(super) fn times(out: &Effects) -> Vec<u64> {
        let time = |text: &str| {
            let (_, rest) = text.split_once(r#""timestamp":"#).unwrap();
            rest.split(',').next().unwrap().parse().unwrap()
        };
        let texts = out.deliveries.iter().map(|delivery| match &delivery.what {
            Delivered::Event(frame) => String::from_utf8_lossy(frame.wire()).into_owned(),
            Delivered::Entered { sync, .. } => text(sync.as_ref().unwrap()),
            Delivered::Afresh(snapshot) => text(&snapshot.whole),
        });
        texts.map(|text| time(&text)).collect()
    }

    pub(super) fn value(text: &str) -> Option<Text> {
        Some(text.into())
    }

    /// The shard learns something.
    pub(super) fn tell(local: &mut Local, learned: Learned) -> Effects {
        let mut out = Effects::default();
        local.shard.learn(learned, 100, &mut out);
        local.shard.check_invariants();
        local.asked.append(&mut out.requests);
        out
    }

    /// The group `g` was read again.
    pub(super) fn read(local: &mut Local, items: &[(&str, &str)], is_after_loss: bool) -> Effects {
        let owned = |(name, value): &(&str, &str)| (ItemId::from(*name), Text::from(*value));
        let from = FromChannel::Read {
            items: items.iter().map(owned).collect(),
            time: 300,
            is_after_loss,
        };
        tell(local, Learned::Channel(GroupKey::new("s", "g"), from))
    }

    /// With one subscriber of the whole group.
    pub(super) fn followed() -> Local {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let out = local.answer(100, cut(&[("u1", "7")], 90));
        assert!(text(&sync(&out)).contains(r#""timestamp":90"#));
        local
    }

    /// The events of all that is delivered; whoever has no `sync` has nothing.
    pub(super) fn told(out: &Effects) -> Vec<String> {
        let texts = out.deliveries.iter().map(|delivery| match &delivery.what {
            Delivered::Event(frame) => frame.text().to_owned(),
            Delivered::Entered { sync, .. } => sync.as_deref().map(text).unwrap_or_default(),
            Delivered::Afresh(snapshot) => text(&snapshot.whole),
        });
        texts
            .map(|text| {
                text.split_once(r#""event":"#)
                    .map_or(text.clone(), |(_, event)| event.to_owned())
            })
            .collect()
    }

    #[test]
    fn nothing_leaves_before_the_store_has_accepted_what_it_rests_on() {
        let mut local = Local::new(Decides::Owner);
        let _ = local.ask("g", 5, join(None));
        for ask in [
            set("1", 1),
            set("2", 2),
            Ask::Get {
                item: "u1".into(),
                call: call(3),
            },
            join(Some("u1")),
            delete(4),
            delete(5),
        ] {
            let out = local.ask("g", 5, ask);
            assert!(out.replies.is_empty() && out.deliveries.is_empty());
        }
        assert_eq!(
            local.asked.len(),
            3,
            "the second delete finds nothing to remove"
        );
        // Another group does not wait for this one.
        let out = local.ask("h", 5, Ask::List { call: call(6) });
        assert_eq!(outcomes(&out), [(6, &Outcome::List(Vec::new()))]);
        let mut names = Effects::default();
        let stream = "s".into();
        let ask = Command::ListGroups {
            stream,
            call: call(7),
        };
        local.shard.apply(ask, 5, &mut names);
        assert_eq!(outcomes(&names), [(7, &Outcome::Groups(Names::default()))]);

        let out = local.answer(6, Verdict::Accepted);
        let old = None;
        let new = "1".into();
        assert_eq!(outcomes(&out), [(1, &Outcome::Set { new, old })]);
        assert_eq!(times(&out), [6]);
        let out = local.answer(6, Verdict::Accepted);
        let (old, new) = (value("1"), "2".into());
        let got = Outcome::Got(value("2"));
        assert_eq!(outcomes(&out), [(2, &Outcome::Set { new, old }), (3, &got)]);
        assert!(text(&sync(&out)).ends_with(r#""data":2}}"#));
        let out = local.answer(6, Verdict::Accepted);
        let (first, second) = (value("2"), None);
        let (first, second) = (
            Outcome::Deleted { old: first },
            Outcome::Deleted { old: second },
        );
        assert_eq!(outcomes(&out), [(4, &first), (5, &second)]);
    }

    #[test]
    fn times_rise_while_the_clock_stands_still_or_steps_back() {
        let mut local = Local::new(Decides::Owner);
        assert_eq!(times(&local.ask("g", 100, join(None))), [100]);
        assert_eq!(local.set_accepted("g", 100, "1"), Some(101));
        assert_eq!(local.set_accepted("g", 100, "2"), Some(102));
        assert_eq!(times(&local.ask("g", 50, join(None))), [102], "not older");
        assert_eq!(times(&local.ask("g", 50, join(Some("u1")))), [103], "newer");
        assert_eq!(local.set_accepted("g", 50, "3"), Some(104));
        assert_eq!(local.shard.take_ahead_ms(), 54);
        assert_eq!(local.set_accepted("g", 9000, "4"), Some(9000));
    }

    #[test]
    fn a_group_that_appears_begins_above_the_times_of_those_that_were_let_go() {
        let mut local = Local::new(Decides::Owner);
        let _ = local.ask("g", 100, join(None));
        assert_eq!(local.set_accepted("g", 100, "1"), Some(101));
        let _ = local.ask("g", 100, delete(1));
        let _ = local.answer(100, Verdict::Accepted); // 102
        let _ = local.ask("g", 100, leave());
        assert_eq!(local.shard.groups_len(), 0);
        assert_eq!(times(&local.ask("g", 40, join(Some("u1")))), [103]);
        assert_eq!(times(&local.ask("h", 40, join(None))), [102]);
        assert_eq!(local.set_accepted("h", 40, "1"), Some(103));
    }

    #[test]
    fn joins_at_one_time_share_their_sync_until_an_item_changes() {
        let mut local = Local::new(Decides::Owner);
        local.set_accepted("g", 100, "1");
        let first = sync(&local.ask("g", 200, join(None)));
        let second = sync(&local.ask("g", 200, join(None)));
        assert!(Arc::ptr_eq(&first, &second));
        local.set_accepted("g", 100, "2");
        let third = sync(&local.ask("g", 100, join(None)));
        assert!(text(&first).ends_with(r#""data":[1]}}"#));
        assert!(text(&third).ends_with(r#""data":[2]}}"#));
    }

    #[test]
    fn ten_thousand_joins_of_one_version_encode_the_room_once_and_a_change_encodes_its_part() {
        let mut local = Local::new(Decides::Owner);
        for n in 0..300 {
            let item = format!("item {n}").as_str().into();
            let data = format!("\"{}\"", "x".repeat(900)).as_str().into();
            let ask = Ask::Set {
                item,
                data,
                ttl: None,
                call: None,
            };
            let _ = local.ask("g", 1, ask);
            local.answer(1, Verdict::Accepted);
        }
        let join_at = |local: &mut Local, now: u64| {
            local.shard.begin_turn(now, &mut Effects::default());
            sync(&local.ask("g", now, join(None)))
        };
        // Where the parts of a room stand in memory: who shares them has encoded nothing.
        let parts = |sync: &SyncFrame| {
            let pieces = sync.pieces_from(0).filter(|piece| piece.len() > 1000);
            pieces.map(<[u8]>::as_ptr).collect::<Vec<_>>()
        };
        let first = join_at(&mut local, 1000);
        let len = parts(&first).len();
        assert!(len > 3, "{len}");
        for n in 0..10_000 {
            let sync = join_at(&mut local, 1000 + n / 5);
            assert_eq!(parts(&sync), parts(&first), "join {n}");
        }
        let ask = Ask::Set {
            item: "item 150".into(),
            data: "1".into(),
            ttl: None,
            call: None,
        };
        let _ = local.ask("g", 4000, ask);
        local.answer(4000, Verdict::Accepted);
        let second = join_at(&mut local, 4000);
        let (before, after) = (parts(&first), parts(&second));
        let same = before.iter().zip(&after).filter(|(a, b)| a == b);
        assert_eq!(same.count(), len - 1);
    }

    #[test]
    fn after_a_refusal_all_writes_under_way_fail_and_reads_are_answered_from_what_is_accepted() {
        let mut local = Local::new(Decides::Owner);
        local.set_accepted("g", 1, "1");
        for (group, ask) in [
            ("g", set("2", 1)),
            ("g", Ask::List { call: call(2) }),
            ("h", set("3", 3)),
            ("g", delete(4)),
            ("g", delete(5)),
            ("g", join(None)),
        ] {
            let out = local.ask(group, 1, ask);
            assert!(out.replies.is_empty() && out.deliveries.is_empty());
        }
        let epoch = local.asked[0].epoch;
        let out = local.answer(1, Verdict::Refused("disk full".into()));
        let mut calls: Vec<(u32, bool)> = Vec::new();
        for (call, outcome) in outcomes(&out) {
            calls.push((call, matches!(outcome, Outcome::Failed(_))));
        }
        calls.sort_unstable();
        assert_eq!(
            calls,
            [(1, true), (2, false), (3, true), (4, true), (5, true)]
        );
        assert!(text(&sync(&out)).ends_with(r#""data":[1]}}"#));
        assert_eq!(
            local.shard.groups_len(),
            1,
            "the other group was never made"
        );
        // The answers to what was refused unseen say nothing new.
        while !local.asked.is_empty() {
            assert!(
                local
                    .answer(1, Verdict::Refused("unseen".into()))
                    .is_empty()
            );
        }
        let _ = local.ask("g", 1, set("9", 6));
        assert_ne!(local.asked[0].epoch, epoch);
        let out = local.answer(1, Verdict::Accepted);
        let (old, new) = (value("1"), "9".into());
        assert_eq!(outcomes(&out), [(6, &Outcome::Set { new, old })]);
    }

    pub(super) fn cut(items: &[(&str, &str)], time: u64) -> Verdict {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        Verdict::Cut {
            items: items.iter().map(owned).collect(),
            time,
        }
    }

    pub(super) fn decided(old: Option<&str>, new: Option<&str>, time: u64) -> Verdict {
        Verdict::Decided {
            old: old.map(Into::into),
            new: new.map(Into::into),
            errors: Vec::new(),
            time,
        }
    }

    /// The channel tells of `u1` in the group `g`.
    pub(super) fn hear(local: &mut Local, event: HeardEvent, time: u64) -> Effects {
        let from = FromChannel::Event {
            item: Some("u1".into()),
            event,
            time,
            is_first: false,
            is_ours: true,
        };
        let mut out = Effects::default();
        let learned = Learned::Channel(GroupKey::new("s", "g"), from);
        local.shard.learn(learned, 100, &mut out);
        local.shard.check_invariants();
        local.asked.append(&mut out.requests);
        out
    }

    #[test]
    fn a_store_that_decides_is_believed_in_its_order() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let out = local.answer(100, cut(&[("u1", "7")], 100));
        assert!(text(&sync(&out)).ends_with(r#""data":[7]}}"#));
        let out = local.ask("g", 100, set("1", 1));
        assert!(out.replies.is_empty() && out.deliveries.is_empty());
        let out = local.answer(100, decided(Some("5"), Some("1"), 40));
        let (old, new) = (value("5"), "1".into());
        assert_eq!(outcomes(&out), [(1, &Outcome::Set { new, old })]);
        let out = hear(&mut local, HeardEvent::Update("1".into()), 40);
        assert_eq!(times(&out), [101], "its clock may be behind what was sent");
        let out = hear(&mut local, HeardEvent::Update("2".into()), 500);
        assert_eq!(times(&out), [500]);
        // What it refuses fails alone; a join stands without its sync.
        let _ = local.ask("h", 100, delete(2));
        let _ = local.ask("h", 100, join(Some("u1")));
        let out = local.answer(100, Verdict::Refused("gone".into()));
        assert!(matches!(outcomes(&out)[..], [(2, Outcome::Failed(_))]));
        let out = local.answer(100, Verdict::Refused("gone".into()));
        let entered = &out.deliveries[0].what;
        assert!(matches!(entered, Delivered::Entered { sync: None, .. }));
    }

    pub(super) fn watching(stream: &str, version: u64) -> Arc<Hooks> {
        let mut hooks = Hooks {
            version,
            ..Hooks::default()
        };
        hooks.events.add(stream, None, None);
        Arc::new(hooks)
    }

    /// Version, item and text of each event that fires triggers.
    pub(super) fn fired(out: &Effects) -> Vec<(u64, Option<&str>, &str)> {
        let fired = out.fired.iter();
        fired
            .map(|fired| (fired.version, fired.frame.item(), fired.frame.text()))
            .collect()
    }

    #[test]
    fn an_accepted_event_of_a_watched_stream_fires_though_nobody_listens() {
        let mut local = Local::new(Decides::Owner);
        local.shard.set_hooks(watching("s", 7));
        let out = local.ask("g", 5, set("1", 1));
        assert!(out.fired.is_empty(), "nothing is accepted yet");
        let out = local.answer(5, Verdict::Accepted);
        let created = r#"{"type":"stream","timestamp":5,"streamName":"s","groupId":"g","id":"u1","event":{"type":"create","data":1}}"#;
        assert_eq!(fired(&out), [(7, Some("u1"), created)]);
        assert!(out.deliveries.is_empty());

        let _ = local.ask("g", 5, join(None));
        let _ = local.ask("g", 5, delete(2));
        let out = local.answer(5, Verdict::Accepted);
        let Delivered::Event(heard) = &out.deliveries[0].what else {
            unreachable!("an event was delivered")
        };
        assert!(Arc::ptr_eq(heard, &out.fired[0].frame), "one text for both");
        // A deletion of nothing and a refused write are no events.
        let out = local.ask("g", 5, delete(3));
        assert!(out.fired.is_empty());
        let _ = local.ask("g", 5, set("2", 4));
        let out = local.answer(5, Verdict::Refused("disk full".into()));
        assert!(out.fired.is_empty());

        local.shard.set_hooks(watching("other", 8));
        let _ = local.ask("g", 5, set("3", 5));
        let out = local.answer(5, Verdict::Accepted);
        assert!(out.fired.is_empty() && out.deliveries.len() == 1);
    }

    #[test]
    fn only_events_that_a_trigger_follows_go_to_the_engine() {
        let mut hooks = Hooks::default();
        hooks.events.add("s", Some("g"), Some("u2"));
        hooks.events.add("s", Some("h"), None);
        let hooks = Arc::new(hooks);
        for decides in [Decides::Owner, Decides::Shared] {
            let mut local = Local::new(decides);
            local.shard.set_hooks(Arc::clone(&hooks));
            let mut fire = |group: &str, item: &str| {
                let ask = Ask::Set {
                    item: item.into(),
                    data: "1".into(),
                    ttl: None,
                    call: None,
                };
                let _ = local.ask(group, 5, ask);
                let out = local.answer(
                    5,
                    match decides {
                        Decides::Owner => Verdict::Accepted,
                        Decides::Shared => decided(None, Some("1"), 500),
                    },
                );
                out.fired.len()
            };
            assert_eq!(fire("g", "u1"), 0);
            assert_eq!(fire("g", "u2"), 1);
            assert_eq!(fire("h", "u1"), 1);
            assert_eq!(fire("i", "u2"), 0);
        }
    }

    #[test]
    fn what_was_only_heard_from_other_hosts_fires_nothing() {
        let mut local = Local::new(Decides::Shared);
        local.shard.set_hooks(watching("s", 1));
        let _ = local.ask("g", 100, join(None));
        let _ = local.answer(100, cut(&[], 100));
        let out = hear(&mut local, HeardEvent::Create("1".into()), 500);
        assert!(out.deliveries.len() == 1 && out.fired.is_empty());
        let _ = local.ask("g", 100, set("2", 1));
        let out = local.answer(100, decided(Some("1"), Some("2"), 600));
        assert_eq!(fired(&out).len(), 1);
        let send = Ask::Send {
            id: None,
            kind: "typing".into(),
            data: "1".into(),
            call: None,
        };
        let _ = local.ask("g", 100, send);
        let out = local.answer(100, decided(None, None, 700));
        assert_eq!(fired(&out).len(), 1);
    }
}
