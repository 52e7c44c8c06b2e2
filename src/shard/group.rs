//! One group: its accepted items, its last time, the workers that listen, what is under way.
//!
//! Every method takes one command of the group, in its order. May not look at other groups.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::DefaultHashBuilder;

use crate::id::{CallId, GroupKey, ItemId, LocalGroupId, Text, WorkerId};
use crate::protocol::answer::{Chunk, Outcome};
use crate::protocol::frame::{Event, EventFrame, GroupNames, SyncFrame};
use crate::protocol::input::{StreamFunction, UpdateOp, failed};

use super::command::Join;
use super::effects::{Delivered, Delivery, Effects, Fired, Reply, RequestKind};
use super::hooks::Hooks;
use super::items::Items;
use super::shared::Shared;
use super::under_way::{Flight, Held, InFlight, Send, Texts, UnderWay, Waiting, Write};
use super::update;
use super::walks::Walks;
use super::{Decides, ValueLimits};

/// What a command may use beside its group.
pub(super) struct Turn<'a> {
    /// The turn's wall clock, in ms since 1970.
    pub(super) now: u64,
    /// The group's slot.
    pub(super) slot: u32,
    pub(super) limits: &'a ValueLimits,
    pub(super) decides: Decides,
    /// For the names of items.
    pub(super) hasher: &'a DefaultHashBuilder,
    pub(super) hooks: &'a Hooks,
    pub(super) flight: &'a mut Flight,
    pub(super) walks: &'a mut Walks,
    pub(super) out: &'a mut Effects,
}

impl Turn<'_> {
    /// Of an item's name.
    pub(super) fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }
}

pub(super) struct Group {
    pub(super) key: GroupKey,
    /// Of `key`, by the shard's hasher.
    pub(super) hash: u64,
    /// Tells it from every other group that has had its slot or its name.
    pub(super) birth: u64,
    /// Where it stands in its stream's list of groups.
    pub(super) stream: u32,
    pub(super) place_in_stream: u32,
    items: Items,
    last: Last,
    listeners: Vec<Listener>,
    /// Made when somebody listens or a trigger follows.
    names: Option<Box<GroupNames>>,
    /// None: nothing is under way, and everything is answered at once.
    pub(super) under_way: Option<Box<UnderWay>>,
    /// While somebody follows it in a store that other hosts use as well.
    pub(super) shared: Option<Box<Shared>>,
    /// How many losses of the shared channel it was told of.
    losses: u32,
    /// The `sync` of the whole group, while it is still what the group is.
    sync: Option<(u64, Weak<SyncFrame>)>,
    warmth: Warmth,
}

/// The latest times that were given out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    /// Of all: events are later.
    pub(super) time: u64,
    /// Of events: a `sync` is not earlier. It may be earlier than another `sync`, so joins alone move
    /// nothing.
    pub(super) event: u64,
}

impl Last {
    /// The later of both.
    pub(super) fn max(self, other: Last) -> Last {
        Last {
            time: self.time.max(other.time),
            event: self.event.max(other.event),
        }
    }
}

/// What a group that nobody follows keeps of the texts of its list.
#[derive(PartialEq, Eq)]
enum Warmth {
    /// Nothing that it does not need.
    Cold,
    /// It has made some, or was left; the shard has not noted it yet.
    Warm,
    /// The shard will tell it when to give them back.
    Cooling,
}

/// Whose call brought an event about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// One that was made here: triggers follow it.
    Ours,
    /// Another host's, whose triggers have followed it there.
    Elsewhere,
}

/// A worker with subscribers of this group.
struct Listener {
    worker: WorkerId,
    local: LocalGroupId,
}

impl Group {
    pub(super) fn new(key: GroupKey, hash: u64, birth: u64, last: Last) -> Group {
        Group {
            key,
            hash,
            birth,
            stream: 0,
            place_in_stream: 0,
            items: Items::default(),
            last,
            listeners: Vec::new(),
            names: None,
            under_way: None,
            shared: None,
            losses: 0,
            sync: None,
            warmth: Warmth::Cold,
        }
    }

    pub(super) fn last(&self) -> Last {
        self.last
    }

    pub(super) fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    pub(super) fn items(&self) -> &Items {
        &self.items
    }

    pub(super) fn items_mut(&mut self) -> &mut Items {
        &mut self.items
    }

    /// Puts other items in the place of its own, which it gives.
    pub(super) fn exchange_items(&mut self, items: Items) -> Items {
        self.sync = None;
        std::mem::replace(&mut self.items, items)
    }

    /// It had given out this time before the process began, and nobody knows whether it was an event's.
    pub(super) fn restore(&mut self, time: u64) {
        let event = time;
        self.last = self.last.max(Last { time, event });
    }

    /// Events may have passed unseen: the next `sync` is later than all that was shown.
    pub(super) fn has_missed_events(&mut self) {
        self.last.event = self.last.time;
    }

    /// Nothing of it is worth keeping but its time.
    pub(super) fn is_idle(&self) -> bool {
        self.items.is_empty()
            && self.listeners.is_empty()
            && self.under_way.is_none()
            && !self
                .shared
                .as_ref()
                .is_some_and(|shared| shared.has_joins())
    }

    // The owner decides.

    pub(super) fn set(
        &mut self,
        item: ItemId,
        hash: u64,
        data: Text,
        call: Option<CallId>,
        turn: &mut Turn<'_>,
    ) {
        let old = self.newest(hash, &item).cloned();
        let reply = call.map(|call| Reply {
            call,
            outcome: Outcome::Set {
                new: Text::clone(&data),
                old: old.clone(),
            },
        });
        let write = Write {
            item,
            hash,
            old,
            new: Some(data),
            time: self.event_time(turn.now),
            function: StreamFunction::Set,
            reply,
            is_accepted: false,
        };
        self.write(write, turn);
    }

    pub(super) fn update(
        &mut self,
        item: ItemId,
        hash: u64,
        ops: &[UpdateOp],
        call: Option<CallId>,
        turn: &mut Turn<'_>,
    ) {
        let old = self.newest(hash, &item).cloned();
        let updated = update::apply(old.as_deref(), ops);
        // What was there is no deeper: it was checked when it came.
        let json_depth = turn.limits.json_depth;
        if let Err(cause) = update::check_limits(
            &updated.value,
            update::may_deepen(ops, json_depth).then_some(json_depth),
            turn.limits.value_bytes,
        ) {
            let outcome = Outcome::Failed(failed(StreamFunction::Update, &cause));
            return self.rest(call, outcome, StreamFunction::Update, turn);
        }
        let new = Text::from(updated.value);
        let reply = call.map(|call| Reply {
            call,
            outcome: Outcome::Updated {
                new: Text::clone(&new),
                old: old.clone(),
                errors: updated.errors,
            },
        });
        let write = Write {
            item,
            hash,
            old,
            new: Some(new),
            time: self.event_time(turn.now),
            function: StreamFunction::Update,
            reply,
            is_accepted: false,
        };
        self.write(write, turn);
    }

    pub(super) fn delete(
        &mut self,
        item: ItemId,
        hash: u64,
        call: Option<CallId>,
        turn: &mut Turn<'_>,
    ) {
        let Some(old) = self.newest(hash, &item).cloned() else {
            let outcome = Outcome::Deleted { old: None };
            return self.rest(call, outcome, StreamFunction::Delete, turn);
        };
        let reply = call.map(|call| Reply {
            call,
            outcome: Outcome::Deleted {
                old: Some(Text::clone(&old)),
            },
        });
        let write = Write {
            item,
            hash,
            old: Some(old),
            new: None,
            time: self.event_time(turn.now),
            function: StreamFunction::Delete,
            reply,
            is_accepted: false,
        };
        self.write(write, turn);
    }

    pub(super) fn get(&mut self, item: ItemId, hash: u64, call: CallId, turn: &mut Turn<'_>) {
        self.place(Waiting::Get { item, hash, call }, turn);
    }

    pub(super) fn list(&mut self, call: CallId, turn: &mut Turn<'_>) {
        self.place(Waiting::List { call }, turn);
    }

    pub(super) fn send(&mut self, mut send: Send, turn: &mut Turn<'_>) {
        send.time = self.event_time(turn.now);
        self.keep_time(turn);
        self.place(Waiting::Send(send), turn);
    }

    /// `hash` is that of the join's item, if it names one.
    pub(super) fn join(&mut self, join: Join, hash: u64, turn: &mut Turn<'_>) {
        let time = self.sync_time(join.item.is_some(), turn.now);
        self.keep_time(turn);
        self.place(Waiting::Join { join, hash, time }, turn);
    }

    pub(super) fn leave(&mut self, worker: WorkerId, local: LocalGroupId) {
        self.listeners
            .retain(|listener| listener.worker != worker || listener.local != local);
        if self.listeners.is_empty() {
            self.listeners = Vec::new();
            self.names = None;
            self.sync = None;
            self.warmth = Warmth::Warm;
        }
    }

    pub(super) fn has_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// The workers that listen, with their entries of the group.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (WorkerId, LocalGroupId)> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| (listener.worker, listener.local))
    }

    // What the store says.

    /// The oldest write was accepted: it takes effect, and so does what waited behind it.
    pub(super) fn accepted(&mut self, turn: &mut Turn<'_>) {
        self.settle(turn, UnderWay::accept);
    }

    /// A write of this shard was refused: all of this group that are under way fail with it. What else
    /// waits is answered in its turn from what is accepted; functions that were asked have been.
    pub(super) fn refused(&mut self, cause: &str, turn: &mut Turn<'_>) {
        let epoch = turn.flight.epoch;
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
        while let Some(waiting) = under_way.pop_ready() {
            if under_way.texts == Texts::AtHand && self.lacks_texts(&waiting, turn) {
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

    // The texts of its list, where they are long in being made.

    /// Whether that is about the texts of the list, and they are more than this turn may make. What is
    /// behind it in the queue waits with it, so the items stay as they are.
    fn lacks_texts(&self, waiting: &Waiting, turn: &mut Turn<'_>) -> bool {
        let shows_all = match waiting {
            Waiting::List { .. } => true,
            Waiting::Join { join, .. } => join.item.is_none(),
            _ => false,
        };
        if !shows_all {
            return false;
        }
        let cost = self.items.texts_cost();
        if turn.walks.is_lending {
            return false;
        }
        if cost > turn.walks.units {
            return true;
        }
        turn.walks.units -= cost;
        false
    }

    /// True once when the shard is to make the texts over turns.
    pub(super) fn wants_texts(&mut self) -> bool {
        let Some(under_way) = &mut self.under_way else {
            return false;
        };
        let wants = under_way.texts == Texts::Wanted;
        if wants {
            under_way.texts = Texts::From(0);
        }
        wants
    }

    /// Goes on with the texts while there are units; true when all are made.
    pub(super) fn make_texts(&mut self, units: &mut usize) -> bool {
        let Some(under_way) = &mut self.under_way else {
            return true;
        };
        let Texts::From(run) = under_way.texts else {
            return true;
        };
        let next = self.items.make_texts(run, units);
        under_way.texts = next.map_or(Texts::Made, Texts::From);
        next.is_none()
    }

    // Parts that both ways of deciding use.

    /// The queue, made if there is none.
    pub(super) fn under_way(&mut self, flight: &mut Flight) -> &mut UnderWay {
        self.under_way.get_or_insert_with(|| flight.take_spare())
    }

    /// The time of an event: later than that of every event and `sync` before it.
    pub(super) fn event_time(&mut self, now: u64) -> u64 {
        let time = now.max(self.last.time.saturating_add(1));
        self.last = Last { time, event: time };
        time
    }

    /// The time of a `sync`: a group's may be that of the last event, an item's is later.
    pub(super) fn sync_time(&mut self, of_item: bool, now: u64) -> u64 {
        let time = now.max(self.last.event.saturating_add(u64::from(of_item)));
        self.last.time = self.last.time.max(time);
        time
    }

    /// The last time is given out with what comes next, and no write bears it: where the store has not
    /// kept it yet, what comes next waits.
    pub(super) fn keep_time(&mut self, turn: &mut Turn<'_>) {
        if turn
            .flight
            .keep_time(self.last.time, Some(turn.slot), turn.out)
        {
            let waiting = Waiting::Times { is_kept: false };
            self.under_way(turn.flight).push(waiting);
        }
    }

    /// Tells the workers that listen, and the triggers that follow, of a change.
    pub(super) fn tell_change(
        &mut self,
        item: &str,
        (old, new): (Option<&str>, Option<&str>),
        time: u64,
        whose: Whose,
        turn: &mut Turn<'_>,
    ) {
        if let Some(event) = change((old, new)) {
            self.tell(Some(item), event, time, whose, turn);
        }
    }

    pub(super) fn tell_send(&mut self, send: &Send, time: u64, turn: &mut Turn<'_>) {
        let event = Event::Custom {
            kind: &send.kind,
            data: &send.data,
        };
        self.tell(send.id.as_deref(), event, time, Whose::Ours, turn);
    }

    /// Enters the worker of a join among those that listen, and gives the join its effect.
    pub(super) fn enter(&mut self, join: &Join, sync: Option<Arc<SyncFrame>>, out: &mut Effects) {
        let of_worker = |listener: &&mut Listener| listener.worker == join.worker;
        match self.listeners.iter_mut().find(of_worker) {
            Some(listener) => listener.local = join.local,
            None => self.listeners.push(Listener {
                worker: join.worker,
                local: join.local,
            }),
        }
        out.deliveries.push(Delivery {
            to: join.worker,
            local: join.local,
            what: Delivered::Entered {
                connection: join.connection,
                token: join.token,
                sync,
            },
        });
    }

    pub(super) fn names(&mut self) -> &GroupNames {
        let key = &self.key;
        self.names
            .get_or_insert_with(|| Box::new(GroupNames::new(key)))
    }

    /// The values' texts, kept for the next who asks.
    fn chunks(&mut self) -> Vec<Chunk> {
        if self.listeners.is_empty() && self.warmth == Warmth::Cold {
            self.warmth = Warmth::Warm;
        }
        self.items.chunks()
    }

    /// True once when it has texts that nobody may need any more: it is to be told when it has cooled.
    pub(super) fn begins_to_cool(&mut self) -> bool {
        let begins = self.warmth == Warmth::Warm;
        if begins {
            self.warmth = Warmth::Cooling;
        }
        begins
    }

    /// Gives back the texts, if nobody follows it.
    pub(super) fn has_cooled(&mut self) {
        let under_way = self.under_way.as_ref();
        if under_way.is_some_and(|under_way| under_way.texts != Texts::AtHand) {
            self.warmth = Warmth::Warm; // they are just being made
            return;
        }
        self.warmth = Warmth::Cold;
        if self.listeners.is_empty() {
            self.items.forget_chunks();
        }
    }

    /// Commands that wait.
    pub(super) fn queue_len(&self) -> usize {
        self.under_way
            .as_ref()
            .map_or(0, |under_way| under_way.len())
    }

    /// What waits for custom functions here.
    pub(super) fn held(&self) -> Held {
        self.under_way
            .as_ref()
            .map_or_else(Held::default, |under_way| under_way.held())
    }

    pub(super) fn check_invariants(&self) {
        self.items.check_invariants();
        if let Some(under_way) = &self.under_way {
            under_way.check_invariants();
        }
    }

    fn newest(&self, hash: u64, item: &str) -> Option<&Text> {
        let under_way = self.under_way.as_ref();
        match under_way.and_then(|under_way| under_way.newest(hash, item)) {
            Some(newest) => newest.as_ref(),
            None => self.items.get(hash, item),
        }
    }

    fn write(&mut self, write: Write, turn: &mut Turn<'_>) {
        let (group, item, time) = (self.key.clone(), ItemId::clone(&write.item), write.time);
        let kind = match &write.new {
            Some(value) => RequestKind::Put {
                group,
                item,
                value: Text::clone(value),
                time,
            },
            None => RequestKind::Remove { group, item, time },
        };
        turn.flight
            .request(InFlight::Group(turn.slot), kind, turn.out);
        self.under_way(turn.flight).push(Waiting::Write(write));
    }

    /// An answer that needs no write, but rests on those under way.
    fn rest(
        &mut self,
        call: Option<CallId>,
        outcome: Outcome,
        function: StreamFunction,
        turn: &mut Turn<'_>,
    ) {
        if let Some(call) = call {
            let reply = Reply { call, outcome };
            self.place(Waiting::Rests { reply, function }, turn);
        }
    }

    /// Gives a command that waits for no answer its place: behind what is under way, or now.
    fn place(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        match &mut self.under_way {
            Some(under_way) => under_way.push(waiting),
            None => self.enter_now(waiting, turn),
        }
    }

    /// A command that waits for nothing has its turn at once, unless it needs texts that are long in
    /// being made.
    pub(super) fn enter_now(&mut self, waiting: Waiting, turn: &mut Turn<'_>) {
        if !self.lacks_texts(&waiting, turn) {
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
            Waiting::Join { join, hash, .. } if turn.decides == Decides::Shared => {
                self.enter_shared(join, hash, turn);
            }
            Waiting::Channel(from) => self.take_from_channel(*from, turn),
            Waiting::Join { join, hash, time } => {
                let sync = self.sync_for(&join, hash, time);
                self.enter(&join, Some(sync), turn.out);
            }
            Waiting::Heard(heard) => self.tell_heard(heard, Whose::Elsewhere, turn),
            Waiting::Asked(asked, Some(verdict)) => self.learn(asked, verdict, turn),
            Waiting::Custom(custom) => self.learn_custom(*custom, turn),
            Waiting::Times { .. } => {}
            Waiting::Asked(_, None) => debug_assert!(false, "its turn has not come"),
        }
    }

    /// An accepted write takes effect.
    fn carry_out(&mut self, write: Write, turn: &mut Turn<'_>) {
        self.sync = None;
        turn.out.replies.extend(write.reply);
        let change = (write.old.as_deref(), write.new.as_deref());
        self.tell_change(&write.item, change, write.time, Whose::Ours, turn);
        match write.new {
            Some(value) => self.items.put(write.hash, &write.item, value),
            None => self.items.remove(write.hash, &write.item),
        }
    }

    /// Whether triggers follow the event, which is about that item.
    pub(super) fn is_followed(&self, item: Option<&str>, turn: &Turn<'_>) -> bool {
        let (stream, group) = (self.key.stream(), self.key.group());
        turn.hooks.events.has(stream, group, item)
    }

    pub(super) fn tell(
        &mut self,
        item: Option<&str>,
        event: Event<'_>,
        time: u64,
        whose: Whose,
        turn: &mut Turn<'_>,
    ) {
        let fires = whose == Whose::Ours && self.is_followed(item, turn);
        if self.listeners.is_empty() && !fires {
            return;
        }
        let frame = Arc::new(EventFrame::encode(self.names(), time, item, event));
        let deliveries = self.listeners.iter().map(|listener| Delivery {
            to: listener.worker,
            local: listener.local,
            what: Delivered::Event(Arc::clone(&frame)),
        });
        turn.out.deliveries.extend(deliveries);
        if fires {
            turn.out.fired.push(Fired {
                version: turn.hooks.version,
                key: self.key.clone(),
                frame,
            });
        }
    }

    /// The `sync` of a join that has its turn; joins with the same time and state share one.
    pub(super) fn sync_for(&mut self, join: &Join, hash: u64, time: u64) -> Arc<SyncFrame> {
        if let Some(item) = &join.item {
            let value = self.items.get(hash, item).cloned();
            return Arc::new(SyncFrame::of_item(self.names(), time, item, value.as_ref()));
        }
        self.whole_sync(time)
    }

    /// An item has changed.
    pub(super) fn forget_sync(&mut self) {
        self.sync = None;
    }

    /// Nobody listens, and triggers follow seldom.
    pub(super) fn forget_names(&mut self) {
        self.names = None;
    }

    pub(super) fn whole_sync(&mut self, time: u64) -> Arc<SyncFrame> {
        if let Some((at, sync)) = &self.sync
            && *at == time
            && let Some(sync) = sync.upgrade()
        {
            return sync;
        }
        let chunks = self.items.chunks();
        let sync = Arc::new(SyncFrame::of_group(self.names(), time, chunks));
        self.sync = Some((time, Arc::downgrade(&sync)));
        sync
    }
}

/// What a change is to whoever follows it; `None`: nothing has changed.
pub(super) fn change<'a>((old, new): (Option<&'a str>, Option<&'a str>)) -> Option<Event<'a>> {
    match (old, new) {
        (None, Some(new)) => Some(Event::Create(new)),
        (Some(_), Some(new)) => Some(Event::Update(new)),
        (Some(old), None) => Some(Event::Delete(old)),
        (None, None) => None,
    }
}
