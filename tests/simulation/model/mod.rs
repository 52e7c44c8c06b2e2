//! What should happen, by the promises alone: each group is a list of items and a history of events,
//! and a command takes effect when every write before it in its group has the store's word.
//!
//! It is told of each command as its owner takes it, and of each answer as its owner learns it. From
//! then on it knows every reply, event and `sync`, so one that comes early, twice or never is found.
//!
//! Here: what it knows, deaths and the end of a run. The way of a command: `taken` (an owner takes it, and
//! the answers to it), `waiting` (its turn in its group, and what it brings about), `checks` (what the shard
//! did of that). `group` is what subscribers should know, `functions` what functions should hear.

mod checks;
mod functions;
mod group;
mod taken;
mod waiting;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use iii_stream::id::{CallId, GroupKey, ItemId, SlotId, Text, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::shard::Request;
use iii_stream::shard::hooks::Hooks;

use crate::order::CallOrder;
use crate::shared::SharedStore;
use functions::Leave;
use waiting::updated;

pub(crate) use checks::Marks;
pub(crate) use group::{Entered, Event, Group, parsed};
pub(crate) use waiting::{Waiting, What, failed_listing, function_of};

pub(crate) struct Model {
    /// `None`: the owner decides.
    pub(crate) shared: Option<SharedStore>,
    pub(crate) groups: BTreeMap<GroupKey, Group>,
    shards: Vec<ShardModel>,
    /// Replies that are due now.
    pub(crate) replies: HashMap<CallId, Outcome>,
    /// Where what is due may come later: how many workers have still to answer a listing.
    listings: HashMap<CallId, usize>,
    /// Joins that have had their effect at the owner and not yet at their worker.
    pub(crate) entered: HashMap<JoinId, Entered>,
    /// Events of the command or answer at hand, of which no frame has been seen.
    fresh: Vec<Fresh>,
    /// Where what is due may come later: events of which it is not known whether they fire.
    unfired: Vec<Fresh>,
    /// What is due may come in a later turn: shards spend little in each.
    pub(crate) lags: bool,
    /// What each worker knows of what is hooked onto.
    hooks: Vec<Arc<Hooks>>,
    /// Streams whose values functions have kept, or keep.
    custom_streams: HashSet<Box<str>>,
    /// What functions have said of joins that are not decided, by subscription.
    said_of_joins: HashMap<Box<str>, bool>,
    /// Events that triggers follow and whose functions have not heard of them, by their texts.
    untold: HashMap<Box<str>, usize>,
    /// What is on its way to functions may get lost.
    may_lose: bool,
    pub(crate) calls: CallOrder,
    /// The command at hand is to be asked of a custom function.
    pub(crate) to_be_asked: Option<GroupKey>,
    /// What each worker has to tell of each socket, in order.
    owed: BTreeMap<(WorkerId, u32), VecDeque<Leave>>,
    /// Leaves of joins that were admitted after the end of their socket: what it held may be told later.
    owed_late: Vec<Leave>,
    /// Those that nobody listened for when their sockets ended.
    unowed: Vec<Leave>,
    /// Fresh `sync`s that workers were given for readers far behind.
    fresh_syncs: Vec<Entered>,
    /// Writes that the store has accepted.
    pub(crate) accepted: HashSet<(WorkerId, u64)>,
    /// The highest that the clock has been.
    clock_most: u64,
}

/// An event of which no frame has been seen.
#[derive(Clone)]
struct Fresh {
    group: GroupKey,
    number: usize,
}

/// Who joined: worker, socket, the worker's name for the join.
pub(crate) type JoinId = (WorkerId, SlotId, u32);

#[derive(Default)]
struct ShardModel {
    next_number: u64,
    /// Requests before this one are void since a refusal.
    void_before: u64,
}

impl Model {
    pub(crate) fn new(shared: Option<SharedStore>, workers: usize) -> Model {
        Model {
            shared,
            groups: BTreeMap::new(),
            shards: (0..workers).map(|_| ShardModel::default()).collect(),
            replies: HashMap::new(),
            listings: HashMap::new(),
            entered: HashMap::new(),
            fresh: Vec::new(),
            unfired: Vec::new(),
            lags: false,
            hooks: vec![Arc::default(); workers],
            custom_streams: HashSet::new(),
            said_of_joins: HashMap::new(),
            untold: HashMap::new(),
            may_lose: false,
            calls: CallOrder::default(),
            to_be_asked: None,
            owed: BTreeMap::new(),
            owed_late: Vec::new(),
            unowed: Vec::new(),
            fresh_syncs: Vec::new(),
            accepted: HashSet::new(),
            clock_most: 0,
        }
    }

    /// What the clock shows in the turn that begins.
    pub(crate) fn see_clock(&mut self, now: u64) {
        self.clock_most = self.clock_most.max(now);
    }

    /// From here on that worker knows this.
    pub(crate) fn set_hooks(&mut self, worker: WorkerId, hooks: &Arc<Hooks>) {
        let streams = self.groups.keys().map(GroupKey::stream);
        let custom = streams.filter(|stream| hooks.custom.get(stream).is_some());
        self.custom_streams.extend(custom.map(Box::from));
        self.hooks[worker.index()] = Arc::clone(hooks);
    }

    /// Whether the group's values may be kept by functions.
    pub(crate) fn is_custom(&self, group: &GroupKey) -> bool {
        self.custom_streams.contains(group.stream())
    }

    pub(crate) fn hooks_of(&self, worker: WorkerId) -> Arc<Hooks> {
        Arc::clone(&self.hooks[worker.index()])
    }

    /// The store has accepted these.
    pub(crate) fn accept(&mut self, requests: &[Request]) {
        let numbers = requests
            .iter()
            .map(|request| (request.shard, request.number));
        self.accepted.extend(numbers);
    }

    /// Of the items that the group ever had, the longest frame of each, and so many of its custom events.
    pub(crate) fn kept_bytes(&self, group: &GroupKey, customs: usize) -> usize {
        let history = &self.groups[group].history;
        let mut longest: HashMap<&ItemId, usize> = HashMap::new();
        for event in history.iter().filter(|event| !event.is_custom()) {
            if let Some(item) = &event.item {
                let longest = longest.entry(item).or_insert(0);
                *longest = event.wire_len.max(*longest);
            }
        }
        let customs = history
            .iter()
            .rev()
            .filter(|event| event.is_custom())
            .take(customs);
        let customs: usize = customs.map(|event| event.wire_len).sum();
        longest.values().sum::<usize>() + customs
    }

    /// The newest time that anybody has been shown.
    pub(crate) fn last_time(&self) -> u64 {
        self.groups
            .values()
            .map(|group| group.last_time)
            .max()
            .unwrap_or(0)
    }

    /// Items of a group when every write that the store has accepted is learned.
    pub(crate) fn durable(&self, key: &GroupKey, shard: WorkerId) -> Vec<(ItemId, Text)> {
        let known = &self.groups[key];
        let mut group = Group {
            items: known.items.clone(),
            ..Group::default()
        };
        for waiting in &known.queue {
            if waiting
                .number
                .is_some_and(|number| self.accepted.contains(&(shard, number)))
            {
                match &waiting.what {
                    What::Set(item, value) => drop(group.change(item, Some(value.clone()))),
                    What::Update(item, by) => {
                        let new = updated(item, *by, group.value(item));
                        group.change(item, Some(new));
                    }
                    What::Delete(item) => drop(group.change(item, None)),
                    _ => {}
                }
            }
        }
        group.items
    }

    /// The process died and began anew with these items; each shard has sent so many requests.
    pub(crate) fn restart(
        &mut self,
        items: impl Fn(&GroupKey) -> Vec<(ItemId, Text)>,
        requests: &[u64],
    ) {
        for (key, group) in &mut self.groups {
            group.items = items(key);
            group.queue.clear();
        }
        for (shard, sent) in self.shards.iter_mut().zip(requests) {
            (shard.next_number, shard.void_before) = (*sent, 0);
        }
        if let Some(shared) = &mut self.shared {
            shared.restart();
            // Beside such a store no process keeps how far its own clock was ahead, where a group went by that.
            let kept = shared.double.borrow().time();
            for group in self.groups.values_mut() {
                group.last_time = group.last_time.min(kept);
                group.last_event = group.last_event.min(kept);
            }
        }
        self.entered.clear();
        self.replies.clear();
        self.listings.clear();
        self.fresh.clear();
        self.unfired.clear();
        self.owed.clear();
        self.owed_late.clear();
        self.unowed.clear();
        self.said_of_joins.clear();
        self.untold.clear();
        self.may_lose = false;
        self.accepted.clear();
    }

    /// Nothing is under way.
    pub(crate) fn check_quiet(&self) {
        assert!(self.groups.values().all(|group| group.queue.is_empty()));
        assert!(self.entered.is_empty(), "joins that never took effect");
        assert!(
            self.replies.is_empty() && self.listings.is_empty(),
            "replies that never came"
        );
        self.check_shared_quiet();
        let all_told = self.owed.values().all(VecDeque::is_empty) && self.owed_late.is_empty();
        assert!(all_told || self.may_lose, "leaves that nobody was told of");
    }
}
