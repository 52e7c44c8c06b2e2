//! One group: its accepted items, its last time, the workers that listen, what is under way.
//!
//! Every method takes one command of the group, in its order. May not look at other groups.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::DefaultHashBuilder;

use crate::id::{GroupKey, LocalGroupId, WorkerId};
use crate::protocol::frame::{Event, EventFrame, GroupNames, SyncFrame};
use crate::protocol::streams::{MembersRule, StreamRule};
use crate::protocol::ttl::Ttl;

use super::ValueLimits;
use super::command::Join;
use super::effects::{Delivered, Delivery, Effects, Fired};
use super::flight::Flight;
use super::following::Following;
use super::hooks::Hooks;
use super::items::Items;
use super::lifetimes::NEVER;
use super::members::Members;
use super::pace::Pace;
use super::room::Room;
use super::under_way::{Load, UnderWay};
use super::waiting::{Send, Waiting};
use super::walks::Walks;

/// What a command may use beside its group.
pub(super) struct Turn<'a> {
    /// The turn's wall clock, in ms since 1970.
    pub(super) now: u64,
    /// The group's slot.
    pub(super) slot: u32,
    /// How long the shard has been there, in ms: for what has to last so long, whatever the clock does.
    pub(super) uptime_ms: u64,
    pub(super) limits: &'a ValueLimits,
    /// `limits.members_per_group`.
    pub(super) members_max: usize,
    /// For the names of items.
    pub(super) hasher: &'a DefaultHashBuilder,
    pub(super) hooks: &'a Hooks,
    pub(super) flight: &'a mut Flight,
    pub(super) walks: &'a mut Walks,
    pub(super) room: &'a mut Room,
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
    pub(super) items: Items,
    pub(super) last: Last,
    pub(super) listeners: Vec<Listener>,
    /// Made when somebody listens or a trigger follows.
    names: Option<Box<GroupNames>>,
    /// None: nothing is under way, and everything is answered at once.
    pub(super) under_way: Option<Box<UnderWay>>,
    /// While somebody follows it in a store that other hosts use as well.
    pub(super) following: Option<Box<Following>>,
    /// How many losses of the shared channel it was told of.
    pub(super) losses: u32,
    /// The `sync` of the whole group, while it is still what the group is.
    pub(super) sync: Option<(u64, Weak<SyncFrame>)>,
    pub(super) warmth: Warmth,
    pub(super) pace: Pace,
    /// What the settings say of its stream.
    pub(super) rule: Option<Arc<StreamRule>>,
    /// While somebody is one.
    pub(super) members: Option<Box<Members>>,
    /// In which tick the shard will look at its items.
    pub(super) due: u32,
}

/// The latest times that were given out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    /// Of all: events are later.
    pub(super) time: u64,
    /// Of events, as far as they are known: the `sync` of an item is later. It may be that of another
    /// `sync`, so joins alone move nothing.
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
pub(super) enum Warmth {
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
pub(super) struct Listener {
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
            following: None,
            losses: 0,
            sync: None,
            warmth: Warmth::Cold,
            pace: Pace::default(),
            rule: None,
            members: None,
            due: NEVER,
        }
    }

    pub(super) fn last(&self) -> Last {
        self.last
    }

    /// How long its items last that are not told otherwise.
    pub(super) fn ttl(&self) -> Option<Ttl> {
        let ttl = self.rule.as_ref()?.ttl;
        (ttl != Ttl::NEVER).then_some(ttl)
    }

    /// Who is a member of it.
    pub(super) fn members_rule(&self) -> Option<&MembersRule> {
        self.rule.as_ref()?.members.as_ref()
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
            && self.members.is_none()
            && !self
                .following
                .as_ref()
                .is_some_and(|following| following.has_joins())
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

    /// The time of an event: later than that of every event and `sync` before it.
    pub(super) fn event_time(&mut self, now: u64) -> u64 {
        let time = now.max(self.last.time.saturating_add(1));
        self.last = Last { time, event: time };
        time
    }

    /// The time of a `sync`: not earlier than what was told before, and an item's later than the last event.
    pub(super) fn sync_time(&mut self, of_item: bool, now: u64) -> u64 {
        let least = self.last.event.saturating_add(u64::from(of_item));
        self.last.time = self.last.time.max(least).max(now);
        self.last.time
    }

    /// What the next `sync` shows may have changed unheard: as after an event, it is later than all that was
    /// shown. Who joins and leaves moves times no faster by it than the clock does.
    pub(super) fn may_have_missed_events(&mut self, now: u64, turn: &mut Turn<'_>) {
        let moves = self.last.event < self.last.time && self.last.time >= now;
        if moves && turn.flight.may_move_times(turn.uptime_ms) {
            self.has_missed_events();
        }
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

    /// Tells the workers that listen, and the triggers that follow, of a change that was made here.
    pub(super) fn tell_change(
        &mut self,
        item: &str,
        (old, new): (Option<&str>, Option<&str>),
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        if let Some(event) = change((old, new)) {
            self.tell(Some(item), event, time, Whose::Ours, turn);
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

    /// Commands that wait.
    pub(super) fn queue_len(&self) -> usize {
        self.under_way
            .as_ref()
            .map_or(0, |under_way| under_way.len())
    }

    /// What waits for custom functions here.
    pub(super) fn load(&self) -> Load {
        self.under_way
            .as_ref()
            .map_or_else(Load::default, |under_way| under_way.load())
    }

    pub(super) fn check_invariants(&self) {
        self.items.check_invariants();
        if let Some(members) = &self.members {
            members.check_invariants();
        }
        if let Some(under_way) = &self.under_way {
            under_way.check_invariants();
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
        turn.out.events += 1;
        self.pace.note(turn.now);
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

    /// Nobody listens, and triggers follow seldom.
    pub(super) fn forget_names(&mut self) {
        self.names = None;
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
