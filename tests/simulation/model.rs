//! What should happen, by the promises alone: each group is a list of items and a history of events,
//! and a command takes effect when every write before it in its group has the store's word.
//!
//! It is told of each command as its owner takes it, and of each answer as its owner learns it. From
//! then on it knows every reply, event and `sync`, so one that comes early, twice or never is found.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use iii_stream::id::{CallId, GroupKey, ItemId, SlotId, Text, WorkerId};
use iii_stream::mesh::Presence;
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::call::ErrorBody;
use iii_stream::protocol::frame::SyncFrame;
use iii_stream::protocol::input::{StreamFunction, UpdateOp, failed};
use iii_stream::shard::hooks::Hooks;
use iii_stream::shard::{
    Ask, Command, CustomAnswer, CustomAnswered, CustomCall, Delivered, Effects, Fired, Learned,
    Request, Verdict,
};
use serde_json::{Value, json};

use crate::order::CallOrder;
use crate::shared::{self, Said, SharedStore};
use crate::wire::{Kind, Message};

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

/// Subscription, group and item, and what the auth function said of the socket.
type Leave = (Box<str>, GroupKey, Option<ItemId>, Option<Arc<str>>);

/// How much of each effect there was.
pub(crate) struct Marks([usize; 5]);

impl Marks {
    pub(crate) fn of(effects: &Effects) -> Marks {
        Marks([
            effects.requests.len(),
            effects.replies.len(),
            effects.deliveries.len(),
            effects.fired.len(),
            effects.custom.len(),
        ])
    }
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
    pub(crate) queue: VecDeque<Waiting>,
    pub(crate) history: Vec<Event>,
    /// The highest timestamp that anybody was shown, and that of the last event.
    pub(crate) last_time: u64,
    pub(crate) last_event: u64,
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
    /// Tells whether it was before a fresh start.
    pub(crate) number: u64,
}

pub(crate) struct Waiting {
    what: What,
    call: Option<CallId>,
    /// The request that it waits for.
    pub(crate) number: Option<u64>,
    /// The store's word on it has come; refused if it says so.
    is_settled: bool,
    is_refused: bool,
    /// What a store that decides says.
    said: Option<Said>,
    custom: Option<Custom>,
}

/// The call of a custom function.
#[derive(Default)]
struct Custom {
    number: u64,
    answer: Option<Answered>,
}

/// What came back from it.
enum Answered {
    Value(Option<Value>),
    Failed(String),
    Refused,
}

pub(crate) enum What {
    Set(ItemId, Text),
    /// So much is added.
    Update(ItemId, i64),
    Delete(ItemId),
    Get(ItemId),
    List,
    Send(Option<ItemId>, Box<str>, Text),
    Join(JoinId, Option<ItemId>),
    /// The store is asked for what a join is to see.
    Followed,
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

    /// A function that a join is put to answers.
    pub(crate) fn says_of_join(&mut self, subscription: &str, is_admitted: bool) {
        self.said_of_joins.insert(subscription.into(), is_admitted);
    }

    /// A worker is about to hear whether a join is admitted.
    pub(crate) fn check_decided(&mut self, subscription: &str, is_admitted: bool) {
        if let Some(said) = self.said_of_joins.remove(subscription) {
            assert_eq!(said, is_admitted, "the functions' word on {subscription}");
        }
    }

    /// A function hears of a leave.
    pub(crate) fn leave_told(&mut self, data: &Value) {
        let text = |key: &str| data[key].as_str();
        let context = &data["context"];
        let presence = Presence {
            subscription: text("subscription_id").expect("a name").into(),
            key: GroupKey::new(
                text("stream_name").expect("a stream"),
                text("group_id").expect("a group"),
            ),
            item: text("id").map(ItemId::from),
            context: (!context.is_null()).then(|| context.to_string().into()),
        };
        let socket = socket_of(&presence);
        // It may have moved from one worker to another.
        let told = leave_of(&presence);
        let of_socket = self
            .owed
            .iter()
            .find(|((_, of), owed)| *of == socket && owed.contains(&told));
        let worker = of_socket.map_or(WorkerId(0), |((worker, _), _)| *worker);
        self.leaves(worker, &presence);
    }

    /// A function hears of an event.
    pub(crate) fn event_told(&mut self, data: &Value) {
        let text = data.to_string();
        let untold = self.untold.get_mut(&*text);
        let untold = untold.unwrap_or_else(|| panic!("it was told, or did not happen: {text}"));
        *untold -= 1;
        if *untold == 0 {
            self.untold.remove(&*text);
        }
    }

    fn note_fired(&mut self, fired: &[Fired]) {
        for fired in fired {
            let text = parsed(fired.frame.text()).to_string();
            *self.untold.entry(text.into()).or_default() += 1;
        }
    }

    /// Every function has heard of what it follows.
    pub(crate) fn check_all_told(&self) {
        assert!(
            self.untold.is_empty(),
            "events that triggers follow and nobody was told of: {:?}",
            self.untold
        );
    }

    /// What is on its way to functions is lost.
    pub(crate) fn loses_what_is_told(&mut self) {
        self.may_lose = true;
        self.said_of_joins.clear();
    }

    /// A subscription has ended: if anybody watches, one leave is due, behind those before it of its
    /// socket.
    pub(crate) fn owe(&mut self, worker: WorkerId, presence: &Presence) {
        let hooks = &self.hooks[worker.index()];
        if hooks.leaves.has(presence.key.stream()) {
            let of_socket = (worker, socket_of(presence));
            let owed = self.owed.entry(of_socket).or_default();
            owed.push_back(leave_of(presence));
        }
    }

    /// A join was admitted after the end of its socket.
    pub(crate) fn owe_late(&mut self, worker: WorkerId, presence: &Presence) {
        if self.hooks[worker.index()].leaves.has(presence.key.stream()) {
            self.owed_late.push(leave_of(presence));
        }
    }

    /// The engine takes a leave.
    pub(crate) fn leaves(&mut self, worker: WorkerId, presence: &Presence) {
        let told = leave_of(presence);
        let owed = self.owed.get_mut(&(worker, socket_of(presence)));
        let due = owed.as_ref().and_then(|owed| owed.front());
        let late = self.owed_late.iter().position(|late| *late == told);
        match (due == Some(&told), late) {
            (false, Some(late)) => drop(self.owed_late.swap_remove(late)),
            _ => {
                let owed = owed.expect("something is owed of it");
                // Who begins anew stands behind those that have not.
                let is_loose = self.shared.is_some() || self.may_lose;
                let any = owed.len() * usize::from(is_loose);
                let mut first = owed.iter().take(any.max(1));
                let found = first.position(|due| *due == told);
                owed.remove(found.expect("one for each, in order"));
            }
        }
    }

    /// The store has accepted these.
    pub(crate) fn accept(&mut self, requests: &[Request]) {
        let numbers = requests
            .iter()
            .map(|request| (request.shard, request.number));
        self.accepted.extend(numbers);
    }

    /// The owner takes a command.
    pub(crate) fn apply(
        &mut self,
        shard: WorkerId,
        command: &Command,
        groups_of_shard: &[GroupKey],
    ) {
        self.calls.take(command);
        match command {
            Command::Group { key, ask } => self.ask(shard, key, ask),
            Command::ListGroups { call, .. } if self.shared.is_some() => {
                self.list_shared(shard, *call);
            }
            // What comes and goes while it is made is in it or not.
            Command::ListGroups { call, .. } if self.lags => {
                *self.listings.entry(*call).or_default() += 1;
            }
            Command::ListGroups { stream, call } => {
                let is_there = |key: &&GroupKey| {
                    key.stream() == &**stream && !self.groups[*key].items.is_empty()
                };
                let there = groups_of_shard.iter().filter(is_there);
                let names = there.map(|key| (key.stream(), key.group())).collect();
                self.replies.insert(*call, Outcome::Groups(names));
            }
            Command::ListAll { .. } => unreachable!("nobody asks for it here"),
        }
    }

    fn ask(&mut self, shard: WorkerId, key: &GroupKey, ask: &Ask) {
        let (what, call) = match ask {
            Ask::Set {
                item, data, call, ..
            } => (What::Set(item.clone(), data.clone()), *call),
            Ask::Update {
                item, ops, call, ..
            } => {
                let by = ops.iter().find_map(|op| match op {
                    UpdateOp::Increment { by, .. } => Some(*by),
                    _ => None,
                });
                let by = by.expect("an update of the simulation");
                (What::Update(item.clone(), by), *call)
            }
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
                if let Some(shared) = &mut self.shared {
                    shared.note_join(id, key, join.item.as_ref());
                }
                (What::Join(id, join.item.clone()), None)
            }
            Ask::Leave { worker, local } if self.shared.is_some() => {
                return self.leave_shared(key, *worker, *local);
            }
            Ask::Leave { .. } => return,
            Ask::Hold(_) | Ask::Release { .. } => return, // `members` has a run of its own
        };
        let group = self.groups.entry(key.clone()).or_default();
        let function = custom_function(&what);
        let hooks = &self.hooks[shard.index()];
        if function.is_some_and(|function| hooks.is_custom(key.stream(), function)) {
            self.to_be_asked = Some(key.clone());
            let custom = Some(Custom::default());
            group.queue.push_back(Waiting {
                custom,
                ..Waiting::new(what, call, None)
            });
            return;
        }
        if self.shared.is_some() {
            if !matches!(what, What::Join(..)) {
                // The request itself has its number.
                group
                    .queue
                    .push_back(Waiting::new(what, call, Some(u64::MAX)));
            }
            return;
        }
        let asks_store = match &what {
            What::Set(..) | What::Update(..) => true,
            What::Delete(item) => group.newest_is_there(item),
            _ => false,
        };
        let counter = &mut self.shards[shard.index()].next_number;
        let number = asks_store.then_some(*counter);
        *counter += u64::from(asks_store);
        group.queue.push_back(Waiting::new(what, call, number));
        self.go_on(key);
    }

    /// The owner learns something.
    pub(crate) fn learn(
        &mut self,
        shard: WorkerId,
        learned: &Learned,
        groups_of_shard: &[GroupKey],
    ) {
        if self.shared.is_some() {
            if let Some(verdict) = self.learn_beside(shard, learned)
                && let Learned::Answer(answer) = learned
            {
                self.settle(answer.number, groups_of_shard, |what| {
                    shared::said(what, verdict)
                });
            }
            return;
        }
        let Learned::Answer(answer) = learned else {
            unreachable!("a log has no channel");
        };
        if answer.number < self.shards[shard.index()].void_before {
            return;
        }
        let refused = matches!(answer.verdict, Verdict::Refused(_));
        assert!(
            refused || self.accepted.contains(&(shard, answer.number)),
            "nobody accepted it"
        );
        if refused {
            let counters = &mut self.shards[shard.index()];
            counters.void_before = counters.next_number;
            for key in groups_of_shard {
                self.fail(key);
            }
            return;
        }
        self.settle(answer.number, groups_of_shard, |_| None);
    }

    /// The store's word on a command has come. `says`: what a store that decides says, if it is none that
    /// refuses.
    fn settle(
        &mut self,
        number: u64,
        groups_of_shard: &[GroupKey],
        says: impl FnOnce(&What) -> Option<Said>,
    ) {
        let is_shared = self.shared.is_some();
        for key in groups_of_shard {
            let group = self.groups.entry(key.clone()).or_default();
            let mut open = group.queue.iter_mut();
            let first = open.find(|waiting| waiting.number.is_some() && !waiting.is_settled);
            if let Some(first) = first.filter(|first| first.number == Some(number)) {
                first.said = says(&first.what);
                first.is_refused = is_shared && first.said.is_none();
                first.is_settled = true;
                return self.go_on(key);
            }
        }
        panic!("some group waits for it first of all");
    }

    /// The owner learns what a custom function has answered.
    pub(crate) fn told(&mut self, told: &CustomAnswered, groups_of_shard: &[GroupKey]) {
        for key in groups_of_shard {
            let group = self.groups.entry(key.clone()).or_default();
            let mut customs = group
                .queue
                .iter_mut()
                .filter_map(|waiting| waiting.custom.as_mut());
            if let Some(custom) = customs.find(|custom| custom.number == told.number) {
                custom.answer = Some(answered(&told.answer));
                return self.go_on(key);
            }
        }
        panic!("some command waits for it");
    }

    /// What waits for no answer any more takes effect.
    fn go_on(&mut self, key: &GroupKey) {
        while let Some(group) = self.groups.get_mut(key)
            && let Some(waiting) = group.queue.pop_front_if(|waiting| waiting.is_ready())
        {
            let Waiting { what, call, .. } = waiting;
            match (
                waiting.custom.and_then(|custom| custom.answer),
                waiting.said,
            ) {
                (Some(answer), _) => self.take_custom(key, what, call, answer),
                (None, Some(said)) => self.take_decided(key, &what, call, said),
                (None, None) if waiting.is_refused => self.refuse(key, what, call),
                (None, None) => self.take_effect(key, what, call),
            }
        }
    }

    /// A write of the shard was refused: nothing that this group has under way comes to pass.
    fn fail(&mut self, key: &GroupKey) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        let mut has_refused = false;
        for waiting in &mut group.queue {
            let rests = has_refused && matches!(waiting.what, What::Delete(_));
            let is_open = waiting.number.is_some() && !waiting.is_settled;
            if waiting.custom.is_none() && !waiting.is_settled && (is_open || rests) {
                (waiting.is_settled, waiting.is_refused) = (true, true);
                has_refused = true;
            }
        }
        self.go_on(key);
    }

    fn refuse(&mut self, key: &GroupKey, what: What, call: Option<CallId>) {
        if let What::Join(id, item) = what {
            return self.enter(key, id, item, None);
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
            What::Update(item, by) => {
                let new = updated(&item, by, group.value(&item));
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
            What::Join(id, item) => {
                let sync = match &item {
                    Some(item) => group.value(item).map_or(Value::Null, |value| parsed(value)),
                    None => group.list(),
                };
                return self.enter(key, id, item, Some(sync));
            }
            What::Followed => return,
        };
        if group.history.len() > heard {
            self.note_fresh(key.clone(), heard);
        }
        self.replies.extend(call.map(|call| (call, outcome)));
    }

    /// A custom function's answer takes effect; nothing is kept.
    fn take_custom(&mut self, key: &GroupKey, what: What, call: Option<CallId>, answer: Answered) {
        let value = match (&what, answer) {
            (What::Join(id, item), answer) => {
                let sync = match answer {
                    Answered::Value(value) => Some(value.unwrap_or(Value::Null)),
                    _ => None,
                };
                return self.enter(key, *id, item.clone(), sync);
            }
            (_, Answered::Value(value)) => value,
            (What::Get(_) | What::List, Answered::Failed(code)) => {
                let mut failed = ErrorBody::new("", "");
                failed.code = code.into();
                let failed = Outcome::Failed(failed);
                return self.replies.extend(call.map(|call| (call, failed)));
            }
            _ => return self.refuse(key, what, call),
        };
        let text = |value: &Value| Text::from(value.to_string());
        let outcome = match (&what, &value) {
            (What::Get(_) | What::List, value) => Outcome::Got(value.as_ref().map(text)),
            (_, None) => return self.refuse(key, what, call),
            (_, Some(value)) if !value.is_object() => {
                Outcome::Failed(ErrorBody::new("JSON_ERROR", ""))
            }
            (_, Some(value)) => self.take_written(key, &what, value),
        };
        self.replies.extend(call.map(|call| (call, outcome)));
    }

    fn take_written(&mut self, key: &GroupKey, what: &What, answer: &Value) -> Outcome {
        let group = self.groups.entry(key.clone()).or_default();
        let (old, new) = (answer.get("old_value"), answer.get("new_value"));
        let (What::Set(item, _) | What::Update(item, _) | What::Delete(item)) = what else {
            unreachable!("only writes are written");
        };
        let event = match (old, new) {
            (None, Some(new)) => Some(json!({"type": "create", "data": new})),
            (Some(_), Some(new)) => Some(json!({"type": "update", "data": new})),
            (Some(old), None) => Some(json!({"type": "delete", "data": old})),
            (None, None) => None,
        };
        match (event, &mut self.shared) {
            (None, _) => {}
            (Some(event), Some(shared)) => shared.note_made(key, item, event),
            (Some(event), None) => {
                group.tell(Some(item.clone()), event);
                let number = group.history.len() - 1;
                self.note_fresh(key.clone(), number);
            }
        }
        let text = |value: Option<&Value>| value.map(|value| Text::from(value.to_string()));
        let old = text(old);
        let new = text(new).unwrap_or_else(|| "null".into());
        match what {
            What::Delete(_) => Outcome::Deleted { old },
            What::Update(..) => Outcome::Updated {
                new,
                old,
                errors: Vec::new(),
            },
            _ => Outcome::Set { new, old },
        }
    }

    fn note_fresh(&mut self, group: GroupKey, number: usize) {
        if self.lags {
            let group = group.clone();
            self.unfired.push(Fresh { group, number });
        }
        self.fresh.push(Fresh { group, number });
    }

    fn enter(&mut self, key: &GroupKey, id: JoinId, item: Option<ItemId>, sync: Option<Value>) {
        if let Some(shared) = &mut self.shared {
            return shared.note_told(id, sync); // it enters as the owner says
        }
        let group = &self.groups[key];
        let entered = Entered {
            group: key.clone(),
            item,
            from: group.history.len(),
            sync,
            time: None,
            number: 0,
        };
        let before = self.entered.insert(id, entered);
        assert!(before.is_none(), "a join's name is used twice");
    }

    /// What a shard asks for after one command or answer: all that is due and nothing else. `before`:
    /// what it had asked for already.
    pub(crate) fn check(&mut self, shard: WorkerId, out: &Effects, before: Marks) {
        let Marks([requests, replies, deliveries, fired, custom]) = before;
        for reply in &out.replies[replies..] {
            if let Some(due) = self.listings.get_mut(&reply.call) {
                *due -= 1;
                self.listings.retain(|_, due| *due > 0);
                continue;
            }
            let due = self.replies.remove(&reply.call);
            let due = due.expect("a reply that is not due, or not any more");
            assert!(
                is_same(&due, &reply.outcome),
                "{due:?}, not {:?}",
                reply.outcome
            );
        }
        assert!(
            self.lags || self.replies.is_empty(),
            "replies that are due: {:?}",
            self.replies
        );
        let requests = &out.requests[requests..];
        if self.shared.is_some() {
            self.shards[shard.index()].next_number += requests.len() as u64;
            requests
                .iter()
                .for_each(|request| self.see_request(request));
        }
        let numbers = requests.iter().map(|request| request.number);
        let first = self.shards[shard.index()].next_number - requests.len() as u64;
        assert!(numbers.eq(first..self.shards[shard.index()].next_number));
        self.check_asked(&out.custom[custom..]);
        let fresh = self.fresh.clone();
        let mut last = std::ptr::null();
        for delivery in &out.deliveries[deliveries..] {
            match &delivery.what {
                Delivered::Event(frame) => {
                    if std::sync::Arc::as_ptr(frame) != last {
                        self.check_event(&Message::whole(frame.wire()), frame.wire().len());
                    }
                    last = std::sync::Arc::as_ptr(frame);
                }
                Delivered::Afresh(snapshot) => self.see_afresh(snapshot),
                Delivered::Entered {
                    connection,
                    token,
                    sync,
                } => {
                    let wire = |sync: &SyncFrame| sync.pieces_from(0).collect::<Vec<_>>().concat();
                    let sync = sync.as_deref().map(|sync| Message::whole(&wire(sync)));
                    let id = (delivery.to, *connection, *token);
                    match self.shared {
                        Some(_) => self.see_entered(delivery, id, sync.as_ref()),
                        None => self.check_entered(id, sync),
                    }
                }
            }
        }
        if !self.lags {
            self.fresh.clear();
        }
        match self.shared {
            Some(_) => self.check_fired_shared(shard, &out.fired[fired..]),
            None if self.lags => self.check_fired_later(shard, &out.fired[fired..]),
            None => self.check_fired(shard, fresh, &out.fired[fired..]),
        }
        self.note_fired(&out.fired[fired..]);
        let are_timed = self
            .entered
            .values()
            .all(|entered| entered.sync.is_some() == entered.time.is_some());
        assert!(self.lags || are_timed, "a join had its turn and no effect");
        self.end_shared();
    }

    /// A command that a custom function decides is asked of it, and nothing else is.
    fn check_asked(&mut self, calls: &[CustomCall]) {
        let Some(key) = self.to_be_asked.take() else {
            return assert!(calls.is_empty(), "a function is asked for nothing");
        };
        let [call] = calls else {
            panic!("one call for a command");
        };
        assert_eq!(call.key, key);
        let queue = self.groups.get_mut(&key).map(|group| &mut group.queue);
        let asked = queue.and_then(|queue| queue.back_mut());
        let asked = asked.expect("what was just asked");
        assert_eq!(Some(call.function), custom_function(&asked.what));
        let number = call.number;
        asked.custom = Some(Custom {
            number,
            answer: None,
        });
    }

    /// The same where it may come in a later turn: in the order of each group.
    fn check_fired_later(&mut self, shard: WorkerId, fired: &[Fired]) {
        let hooks = self.hooks_of(shard);
        for fired in fired {
            assert_eq!(fired.version, hooks.version);
            let message = Message::whole(fired.frame.wire());
            let is_it = |fresh: &Fresh| {
                let event = &self.groups[&fresh.group].history[fresh.number];
                fresh.group == fired.key && event.is_told_by(&message)
            };
            let found = self.unfired.iter().position(is_it);
            let found = found.unwrap_or_else(|| panic!("it did not happen: {message:?}"));
            let Fresh { group, number } = self.unfired.remove(found);
            // Those before it in its group were passed over.
            self.unfired
                .retain(|fresh| fresh.group != group || fresh.number > number);
            self.see_fired(&group, number, fired);
        }
    }

    fn see_fired(&mut self, group: &GroupKey, number: usize, fired: &Fired) {
        let message = Message::whole(fired.frame.wire());
        let group = self.groups.get_mut(group).expect("it happened there");
        let event = &mut group.history[number];
        assert!(
            event.is_told_by(&message),
            "{:?}, not {message:?}",
            event.event
        );
        event.time = Some(message.time);
        event.wire_len = fired.frame.wire().len();
        group.last_time = group.last_time.max(message.time);
        group.last_event = group.last_event.max(message.time);
    }

    /// What happened here that triggers follow fires, in its order, and nothing else does.
    fn check_fired(&mut self, shard: WorkerId, mut due: Vec<Fresh>, fired: &[Fired]) {
        let hooks = self.hooks_of(shard);
        due.retain(|fresh| {
            let item = &self.groups[&fresh.group].history[fresh.number].item;
            let (stream, group) = (fresh.group.stream(), fresh.group.group());
            let item = item.as_ref().map(|item| &**item);
            hooks.events.has(stream, group, item)
        });
        assert_eq!(due.len(), fired.len(), "each event fires once");
        for (fresh, fired) in due.into_iter().zip(fired) {
            assert_eq!((fired.version, &fired.key), (hooks.version, &fresh.group));
            self.see_fired(&fresh.group, fresh.number, fired);
        }
    }

    fn check_event(&mut self, message: &Message, wire_len: usize) {
        if self.shared.is_some() {
            return self.see_event(message, wire_len);
        }
        let group = self
            .groups
            .get_mut(&message.group)
            .expect("a group of the simulation");
        let fresh = self.fresh.iter();
        let fresh = fresh.filter(|fresh| fresh.group == message.group);
        let mut numbers = fresh.map(|fresh| fresh.number);
        // Those before the first listener of the group bring about no frame.
        let found = numbers.find(|number| group.history[*number].is_told_by(message));
        let found = found.unwrap_or_else(|| panic!("it did not happen: {message:?}"));
        self.fresh
            .retain(|fresh| fresh.group != message.group || fresh.number > found);
        assert!(
            message.time > group.last_time,
            "times of events rise strictly"
        );
        let event = &mut group.history[found];
        (event.time, event.wire_len) = (Some(message.time), wire_len);
        (group.last_time, group.last_event) = (message.time, message.time);
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
        let least = group.last_event + u64::from(entered.item.is_some());
        assert!(sync.time >= least, "a sync is not older than what was sent");
        entered.time = Some(sync.time);
        group.last_time = group.last_time.max(sync.time);
    }

    /// The join has its effect at its worker.
    pub(crate) fn take_entered(&mut self, id: JoinId) -> Entered {
        self.entered
            .remove(&id)
            .expect("entered once, after its turn at the owner")
    }

    /// A worker is given a fresh `sync`.
    pub(crate) fn note_fresh_sync(&mut self, id: JoinId) {
        let entered = self.take_entered(id);
        self.fresh_syncs.push(entered);
    }

    /// Whether it is a fresh `sync` that some worker was given.
    pub(crate) fn is_fresh(&self, message: &Message) -> bool {
        let mut fresh = self.fresh_syncs.iter();
        fresh.any(|entered| message.is_sync_of(entered))
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

impl Waiting {
    pub(crate) fn new(what: What, call: Option<CallId>, number: Option<u64>) -> Waiting {
        Waiting {
            what,
            call,
            number,
            is_settled: false,
            is_refused: false,
            said: None,
            custom: None,
        }
    }

    fn is_ready(&self) -> bool {
        let is_told = |custom: &Custom| custom.answer.is_some();
        (self.number.is_none() || self.is_settled) && self.custom.as_ref().is_none_or(is_told)
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
            _ if waiting.custom.is_some() || waiting.is_refused => None,
            What::Set(name, _) | What::Update(name, _) if **name == *item => Some(true),
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
    fn is_custom(&self) -> bool {
        self.event["type"] == "event"
    }

    pub(crate) fn is_for(&self, item: &Option<ItemId>) -> bool {
        item.is_none() || *item == self.item
    }

    /// The same of a reader that may hear every item once only: the kind of a change is by what it held.
    pub(crate) fn is_told_by_item(&self, message: &Message) -> bool {
        let is_change = message.event["type"] != "event" && self.event["type"] != "event";
        let is_gone = |event: &Value| event["type"] == "delete";
        let is_same_change = is_change
            && message.event["data"] == self.event["data"]
            && is_gone(&message.event) == is_gone(&self.event);
        message.kind == Kind::Event
            && message.item == self.item
            && (is_same_change || message.event == self.event)
            && self.time == Some(message.time)
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

fn updated(item: &str, by: i64, old: Option<&Text>) -> Text {
    let Some(old) = old else {
        return format!(r#"{{"id":"{item}","n":{by}}}"#).into();
    };
    let tree = parsed(old);
    let n = tree["n"].as_i64().expect("a value of the simulation") + by;
    match tree["pad"].as_str() {
        Some(pad) => format!(r#"{{"id":"{item}","n":{n},"pad":"{pad}"}}"#).into(),
        None => format!(r#"{{"id":"{item}","n":{n}}}"#).into(),
    }
}

pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a value of the simulation")
}

pub(crate) fn function_of(what: &What) -> StreamFunction {
    match what {
        What::Set(..) => StreamFunction::Set,
        What::Update(..) => StreamFunction::Update,
        What::Delete(_) => StreamFunction::Delete,
        What::Get(_) => StreamFunction::Get,
        What::List => StreamFunction::List,
        What::Send(..) => StreamFunction::Send,
        What::Join(..) | What::Followed => unreachable!("nobody waits for a reply to it"),
    }
}

pub(crate) fn failed_listing() -> Outcome {
    Outcome::Failed(failed(StreamFunction::ListGroups, ""))
}

/// The function of which a custom one may be asked.
fn custom_function(what: &What) -> Option<StreamFunction> {
    match what {
        What::Send(..) | What::Followed => None,
        What::Join(_, Some(_)) => Some(StreamFunction::Get),
        What::Join(_, None) => Some(StreamFunction::List),
        other => Some(function_of(other)),
    }
}

fn answered(answer: &CustomAnswer) -> Answered {
    match answer {
        CustomAnswer::Result(value) => Answered::Value(value.as_deref().map(parsed)),
        CustomAnswer::Failed(error) => Answered::Failed(error.code.to_string()),
        CustomAnswer::Refused(_) => Answered::Refused,
        CustomAnswer::Gone => unreachable!("functions of the simulation stay"),
    }
}

/// A leave as the functions are told of it.
fn leave_of(presence: &Presence) -> Leave {
    let presence = presence.clone();
    let Presence {
        subscription,
        key,
        item,
        context,
    } = presence;
    (subscription, key, item, context)
}

/// Ids of the simulation begin with their socket.
fn socket_of(presence: &Presence) -> u32 {
    let (socket, _) = presence.subscription.split_once('.').expect("a socket");
    socket.parse().expect("a number")
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
        (Outcome::Failed(due), Outcome::Failed(told)) => due.code == told.code,
        _ => due == told,
    }
}
