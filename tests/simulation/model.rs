//! What should happen, by the promises alone: each group is a list of items and a history of events,
//! and a command takes effect when every write before it in its group has the store's word.
//!
//! It is told of each command as its owner takes it, and of each answer as its owner learns it. From
//! then on it knows every reply, event and `sync`, so one that comes early, twice or never is found.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use iii_stream::id::{CallId, GroupKey, ItemId, SlotId, Text, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::frame::SyncFrame;
use iii_stream::protocol::input::{StreamFunction, failed};
use iii_stream::shard::{Ask, Command, Decides, Delivered, Effects, Learned, Verdict};
use serde_json::{Value, json};

use crate::wire::{Kind, Message};

/// What the update of the simulation does: the item's own name, and one more.
pub(crate) const UPDATE_STARTS_AT: i64 = 1;

pub(crate) struct Model {
    decides: Decides,
    pub(crate) groups: BTreeMap<GroupKey, Group>,
    shards: Vec<ShardModel>,
    /// Replies that are due now.
    replies: HashMap<CallId, Outcome>,
    /// Joins that have had their effect at the owner and not yet at their worker.
    entered: HashMap<JoinId, Entered>,
    /// Events of the command or answer at hand, of which no frame has been seen.
    fresh: Vec<(GroupKey, usize)>,
}

/// Who joined: worker, socket, the worker's name for the join.
pub(crate) type JoinId = (WorkerId, SlotId, u32);

#[derive(Default)]
struct ShardModel {
    next_number: u64,
    /// Requests before this one are void since a refusal.
    void_before: u64,
}

/// One group, as its subscribers should know it.
#[derive(Default)]
pub(crate) struct Group {
    /// Accepted items in the order of first insertion.
    pub(crate) items: Vec<(ItemId, Text)>,
    queue: VecDeque<Waiting>,
    pub(crate) history: Vec<Event>,
    /// The highest timestamp that anybody was shown.
    last_time: u64,
}

/// Something that subscribers hear.
pub(crate) struct Event {
    pub(crate) item: Option<ItemId>,
    pub(crate) event: Value,
    /// Known once its frame has been seen; so is `wire_len`.
    pub(crate) time: Option<u64>,
    pub(crate) wire_len: usize,
}

/// A join at its point of the group's order.
#[derive(Clone, Debug)]
pub(crate) struct Entered {
    pub(crate) group: GroupKey,
    pub(crate) item: Option<ItemId>,
    /// The first event that is for it.
    pub(crate) from: usize,
    /// The data of its `sync`; `None` when the store could not tell.
    pub(crate) sync: Option<Value>,
    /// The time of its `sync`, once that has been seen.
    pub(crate) time: Option<u64>,
}

struct Waiting {
    what: What,
    call: Option<CallId>,
    /// The request that it waits for.
    number: Option<u64>,
}

enum What {
    Set(ItemId, Text),
    Update(ItemId),
    Delete(ItemId),
    Get(ItemId),
    List,
    Send(Option<ItemId>, Box<str>, Text),
    Join(JoinId, Option<ItemId>),
}

impl Model {
    pub(crate) fn new(decides: Decides, workers: usize) -> Model {
        Model {
            decides,
            groups: BTreeMap::new(),
            shards: (0..workers).map(|_| ShardModel::default()).collect(),
            replies: HashMap::new(),
            entered: HashMap::new(),
            fresh: Vec::new(),
        }
    }

    /// The owner takes a command.
    pub(crate) fn apply(
        &mut self,
        shard: WorkerId,
        command: &Command,
        groups_of_shard: &[GroupKey],
    ) {
        match command {
            Command::Group { key, ask } => self.ask(shard, key, ask),
            Command::ListGroups { stream, call } => {
                let is_there = |key: &&GroupKey| {
                    key.stream() == &**stream && !self.groups[*key].items.is_empty()
                };
                let there = groups_of_shard.iter().filter(is_there);
                let names = there.map(|key| key.group().to_owned()).collect();
                self.replies.insert(*call, Outcome::Groups(names));
            }
            Command::ListAll { .. } => unreachable!("nobody asks for it here"),
        }
    }

    fn ask(&mut self, shard: WorkerId, key: &GroupKey, ask: &Ask) {
        let decides = self.decides;
        let (what, call) = match ask {
            Ask::Set { item, data, call } => (What::Set(item.clone(), data.clone()), *call),
            Ask::Update { item, call, .. } => (What::Update(item.clone()), *call),
            Ask::Delete { item, call } => (What::Delete(item.clone()), *call),
            Ask::Get { item, call } => (What::Get(item.clone()), Some(*call)),
            Ask::List { call } => (What::List, Some(*call)),
            Ask::Send {
                id,
                kind,
                data,
                call,
            } => (What::Send(id.clone(), kind.clone(), data.clone()), *call),
            Ask::Join(join) => {
                let id = (join.worker, join.connection, join.token);
                (What::Join(id, join.item.clone()), None)
            }
            Ask::Leave { .. } => return,
        };
        let group = self.groups.entry(key.clone()).or_default();
        let asks_store = match (&what, decides) {
            (_, Decides::Store) | (What::Set(..) | What::Update(_), _) => true,
            (What::Delete(item), Decides::Owner) => group.newest_is_there(item),
            _ => false,
        };
        let counter = &mut self.shards[shard.index()].next_number;
        let number = asks_store.then_some(*counter);
        *counter += u64::from(asks_store);
        group.queue.push_back(Waiting { what, call, number });
        self.go_on(key);
    }

    /// The owner learns something.
    pub(crate) fn learn(
        &mut self,
        shard: WorkerId,
        learned: &Learned,
        accepted: &HashSet<(WorkerId, u64)>,
        groups_of_shard: &[GroupKey],
    ) {
        let answer = match learned {
            Learned::Answer(answer) => answer,
            Learned::Heard {
                group, item, new, ..
            } => {
                let known = self.groups.entry(group.clone()).or_default();
                let new = new.clone().expect("others only set");
                known.change(item, Some(new));
                self.fresh.push((group.clone(), known.history.len() - 1));
                return;
            }
        };
        if answer.number < self.shards[shard.index()].void_before {
            return;
        }
        let refused = matches!(answer.verdict, Verdict::Refused(_));
        assert!(
            refused || accepted.contains(&(shard, answer.number)),
            "nobody accepted it"
        );
        if refused && self.decides == Decides::Owner {
            let counters = &mut self.shards[shard.index()];
            counters.void_before = counters.next_number;
            for key in groups_of_shard {
                self.fail(key);
            }
            return;
        }
        let awaits = |group: &Group| {
            let front = group.queue.front();
            front.and_then(|waiting| waiting.number) == Some(answer.number)
        };
        let key = groups_of_shard
            .iter()
            .find(|key| awaits(&self.groups[*key]));
        let key = key
            .expect("some group waits for it at the front of its queue")
            .clone();
        let waiting = self
            .groups
            .get_mut(&key)
            .and_then(|group| group.queue.pop_front());
        let Waiting { what, call, .. } = waiting.expect("the front that was just seen");
        if refused {
            self.refuse(&key, what, call);
        } else {
            self.take_effect(&key, what, call);
        }
        self.go_on(&key);
    }

    /// What waits for no answer any more takes effect.
    fn go_on(&mut self, key: &GroupKey) {
        let is_ready = |waiting: &mut Waiting| waiting.number.is_none();
        while let Some(group) = self.groups.get_mut(key)
            && let Some(waiting) = group.queue.pop_front_if(is_ready)
        {
            self.take_effect(key, waiting.what, waiting.call);
        }
    }

    /// A write of the shard was refused: nothing that this group has under way comes to pass.
    fn fail(&mut self, key: &GroupKey) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        for waiting in std::mem::take(&mut group.queue) {
            match waiting.what {
                What::Set(..) | What::Update(_) | What::Delete(_) => {
                    self.refuse(key, waiting.what, waiting.call);
                }
                other => self.take_effect(key, other, waiting.call),
            }
        }
    }

    fn refuse(&mut self, key: &GroupKey, what: What, call: Option<CallId>) {
        if let What::Join(id, item) = what {
            return self.enter(key, id, item, false);
        }
        let failed = Outcome::Failed(failed(function_of(&what), ""));
        self.replies.extend(call.map(|call| (call, failed)));
    }

    fn take_effect(&mut self, key: &GroupKey, what: What, call: Option<CallId>) {
        let group = self.groups.entry(key.clone()).or_default();
        let heard = group.history.len();
        let outcome = match what {
            What::Set(item, new) => Outcome::Set {
                old: group.change(&item, Some(new.clone())),
                new,
            },
            What::Update(item) => {
                let new = updated(&item, group.value(&item));
                Outcome::Updated {
                    old: group.change(&item, Some(new.clone())),
                    new,
                    errors: Vec::new(),
                }
            }
            What::Delete(item) => Outcome::Deleted {
                old: group.change(&item, None),
            },
            What::Get(item) => Outcome::Got(group.value(&item).cloned()),
            What::List => {
                Outcome::List(group.items.iter().map(|(_, value)| value.clone()).collect())
            }
            What::Send(item, kind, data) => {
                let data: Value = serde_json::from_str(&data).expect("the simulation's own");
                let event = json!({"type": "event", "event": {"type": &*kind, "data": data}});
                group.tell(item, event);
                Outcome::Sent
            }
            What::Join(id, item) => return self.enter(key, id, item, true),
        };
        if group.history.len() > heard {
            self.fresh.push((key.clone(), heard));
        }
        self.replies.extend(call.map(|call| (call, outcome)));
    }

    fn enter(&mut self, key: &GroupKey, id: JoinId, item: Option<ItemId>, is_told: bool) {
        let group = &self.groups[key];
        let sync = match &item {
            Some(item) => group.value(item).map_or(Value::Null, |value| parsed(value)),
            None => group.list(),
        };
        let entered = Entered {
            group: key.clone(),
            item,
            from: group.history.len(),
            sync: is_told.then_some(sync),
            time: None,
        };
        let before = self.entered.insert(id, entered);
        assert!(before.is_none(), "a join's name is used twice");
    }

    /// What a shard asks for after one command or answer: all that is due and nothing else.
    pub(crate) fn check(&mut self, shard: WorkerId, out: &Effects) {
        for reply in &out.replies {
            let due = self.replies.remove(&reply.call);
            let due = due.expect("a reply that is not due, or not any more");
            assert!(
                is_same(&due, &reply.outcome),
                "{due:?}, not {:?}",
                reply.outcome
            );
        }
        assert!(
            self.replies.is_empty(),
            "replies that are due: {:?}",
            self.replies
        );
        let requests = out.requests.iter().map(|request| request.number);
        let first = self.shards[shard.index()].next_number - out.requests.len() as u64;
        assert!(requests.eq(first..self.shards[shard.index()].next_number));
        let mut last = std::ptr::null();
        for delivery in &out.deliveries {
            match &delivery.what {
                Delivered::Event(frame) => {
                    if std::sync::Arc::as_ptr(frame) != last {
                        self.check_event(&Message::whole(frame.wire()), frame.wire().len());
                    }
                    last = std::sync::Arc::as_ptr(frame);
                }
                Delivered::Entered {
                    connection,
                    token,
                    sync,
                } => {
                    let wire = |sync: &SyncFrame| sync.pieces_from(0).collect::<Vec<_>>().concat();
                    let sync = sync.as_deref().map(|sync| Message::whole(&wire(sync)));
                    self.check_entered((delivery.to, *connection, *token), sync);
                }
            }
        }
        self.fresh.clear();
        let are_timed = self
            .entered
            .values()
            .all(|entered| entered.sync.is_some() == entered.time.is_some());
        assert!(are_timed, "a join had its turn and no effect");
    }

    fn check_event(&mut self, message: &Message, wire_len: usize) {
        let group = self
            .groups
            .get_mut(&message.group)
            .expect("a group of the simulation");
        let fresh = self.fresh.iter().filter(|(key, _)| *key == message.group);
        let mut numbers = fresh.map(|(_, number)| *number);
        // Those before the first listener of the group bring about no frame.
        let found = numbers.find(|number| group.history[*number].is_told_by(message));
        let found = found.unwrap_or_else(|| panic!("it did not happen: {message:?}"));
        self.fresh
            .retain(|(key, number)| *key != message.group || *number > found);
        assert!(
            message.time > group.last_time,
            "times of events rise strictly"
        );
        let event = &mut group.history[found];
        (event.time, event.wire_len) = (Some(message.time), wire_len);
        group.last_time = message.time;
    }

    fn check_entered(&mut self, id: JoinId, sync: Option<Message>) {
        let entered = self.entered.get_mut(&id).expect("a join that is due");
        assert_eq!(sync.is_some(), entered.sync.is_some());
        let Some(sync) = sync else {
            return;
        };
        assert!(
            sync.is_sync_of(entered),
            "{sync:?} is not {:?}",
            entered.sync
        );
        let group = self.groups.get_mut(&entered.group).expect("it was joined");
        let least = group.last_time + u64::from(entered.item.is_some());
        assert!(sync.time >= least, "a sync is not older than what was sent");
        entered.time = Some(sync.time);
        group.last_time = sync.time;
    }

    /// The join has its effect at its worker.
    pub(crate) fn take_entered(&mut self, id: JoinId) -> Entered {
        self.entered
            .remove(&id)
            .expect("entered once, after its turn at the owner")
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
    pub(crate) fn durable(
        &self,
        key: &GroupKey,
        shard: WorkerId,
        accepted: &HashSet<(WorkerId, u64)>,
    ) -> Vec<(ItemId, Text)> {
        let known = &self.groups[key];
        let mut group = Group {
            items: known.items.clone(),
            ..Group::default()
        };
        for waiting in &known.queue {
            if waiting
                .number
                .is_some_and(|number| accepted.contains(&(shard, number)))
            {
                match &waiting.what {
                    What::Set(item, value) => drop(group.change(item, Some(value.clone()))),
                    What::Update(item) => {
                        let new = updated(item, group.value(item));
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
        self.entered.clear();
        self.fresh.clear();
    }

    /// Nothing is under way.
    pub(crate) fn check_quiet(&self) {
        assert!(self.groups.values().all(|group| group.queue.is_empty()));
        assert!(self.entered.is_empty(), "joins that never took effect");
    }
}

impl Group {
    pub(crate) fn value(&self, item: &str) -> Option<&Text> {
        let found = self.items.iter().find(|(name, _)| **name == *item);
        found.map(|(_, value)| value)
    }

    /// The data of a `sync` of the whole group.
    pub(crate) fn list(&self) -> Value {
        self.items.iter().map(|(_, value)| parsed(value)).collect()
    }

    fn newest_is_there(&self, item: &str) -> bool {
        let is_there = |waiting: &Waiting| match &waiting.what {
            What::Set(name, _) | What::Update(name) if **name == *item => Some(true),
            What::Delete(name) if **name == *item => Some(false),
            _ => None,
        };
        let newest = self.queue.iter().rev().find_map(is_there);
        newest.unwrap_or_else(|| self.value(item).is_some())
    }

    /// Changes an item and tells of it; gives the old value.
    fn change(&mut self, item: &ItemId, new: Option<Text>) -> Option<Text> {
        let found = self.items.iter().position(|(name, _)| name == item);
        let old = found.map(|found| self.items[found].1.clone());
        let event = match (&old, &new) {
            (None, None) => return None,
            (None, Some(new)) => json!({"type": "create", "data": parsed(new)}),
            (Some(_), Some(new)) => json!({"type": "update", "data": parsed(new)}),
            (Some(old), None) => json!({"type": "delete", "data": parsed(old)}),
        };
        match (found, new) {
            (Some(found), Some(new)) => self.items[found].1 = new,
            (Some(found), None) => drop(self.items.remove(found)),
            (None, Some(new)) => self.items.push((item.clone(), new)),
            (None, None) => {}
        }
        self.tell(Some(item.clone()), event);
        old
    }

    fn tell(&mut self, item: Option<ItemId>, event: Value) {
        self.history.push(Event {
            item,
            event,
            time: None,
            wire_len: 0,
        });
    }
}

impl Event {
    /// Whether it is for a subscription to that item, or to the whole group.
    pub(crate) fn is_for(&self, item: &Option<ItemId>) -> bool {
        item.is_none() || *item == self.item
    }

    pub(crate) fn is_told_by(&self, message: &Message) -> bool {
        message.kind == Kind::Event
            && message.item == self.item
            && message.event == self.event
            && self.time.is_none_or(|time| time == message.time)
    }
}

impl Message {
    pub(crate) fn is_sync_of(&self, entered: &Entered) -> bool {
        self.kind == Kind::Sync
            && self.group == entered.group
            && self.item == entered.item
            && entered.sync.as_ref() == Some(&self.event["data"])
            && entered.time.is_none_or(|time| time == self.time)
    }
}

fn updated(item: &str, old: Option<&Text>) -> Text {
    let Some(old) = old else {
        return format!(r#"{{"id":"{item}","n":{UPDATE_STARTS_AT}}}"#).into();
    };
    let tree = parsed(old);
    let n = tree["n"].as_i64().expect("a value of the simulation") + 1;
    match tree["pad"].as_str() {
        Some(pad) => format!(r#"{{"id":"{item}","n":{n},"pad":"{pad}"}}"#).into(),
        None => format!(r#"{{"id":"{item}","n":{n}}}"#).into(),
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a value of the simulation")
}

fn function_of(what: &What) -> StreamFunction {
    match what {
        What::Set(..) => StreamFunction::Set,
        What::Update(_) => StreamFunction::Update,
        What::Delete(_) => StreamFunction::Delete,
        What::Get(_) => StreamFunction::Get,
        What::List => StreamFunction::List,
        What::Send(..) => StreamFunction::Send,
        What::Join(..) => unreachable!("nobody waits for a reply to it"),
    }
}

/// Whether the reply says what is due: of a failure only that it is one of that function.
fn is_same(due: &Outcome, told: &Outcome) -> bool {
    let joined = |chunks: &[Text]| {
        chunks
            .iter()
            .map(|chunk| format!(",{chunk}"))
            .collect::<String>()
    };
    match (due, told) {
        (Outcome::List(values), Outcome::List(chunks)) => joined(values) == chunks.concat(),
        (Outcome::Groups(due), Outcome::Groups(told)) => {
            let mut told = told.clone();
            told.sort_unstable();
            *due == told
        }
        (Outcome::Failed(due), Outcome::Failed(told)) => due.code == told.code,
        _ => due == told,
    }
}
