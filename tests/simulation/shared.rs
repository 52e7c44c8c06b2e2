//! What should happen on one host where several share a store that decides: it is told of each answer
//! and takes each event from what the owner delivers, and both are checked against the store's own log.
//!
//! Every host tells the events of a group in the log's order, none twice and none left out from the
//! first `sync` on; and a `sync` is what the group held at its place among them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use iii_stream::id::{CallId, GroupKey, ItemId, LocalGroupId, Text, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::groups::Names;
use iii_stream::shard::{
    Delivery, Fired, FromChannel, HeardEvent, Learned, Question, Request, RequestKind, Snapshot,
    Verdict,
};
use serde_json::{Value, json};

use crate::double::{Double, Logged};
use crate::model::{Entered, Event, JoinId, Model, Waiting, What, function_of, parsed};
use crate::wire::Message;

/// A store that several hosts share, as one of them knows it.
pub(crate) struct SharedStore {
    pub(crate) double: Rc<RefCell<Double>>,
    standings: BTreeMap<GroupKey, Standing>,
    /// Groups that are to be followed, by the request that says so.
    follows: HashMap<(WorkerId, u64), Follow>,
    listings: HashMap<(WorkerId, u64), CallId>,
    /// The listing at hand.
    listing: Option<CallId>,
    /// When the group was read that was just learned of, by the store's clock.
    read_at: Option<u64>,
    /// When that happened which was just heard.
    heard_at: Option<u64>,
    /// What has just happened by calls of this host: triggers may follow it.
    due: Vec<Happened>,
    /// What functions have just made of it, which is in no log.
    made: Vec<Happened>,
    /// Joins on their way to their owner's word, and what functions have said of some.
    joins: HashMap<JoinId, Joining>,
    told: HashMap<JoinId, Option<Value>>,
    /// Fresh starts that have not come to their workers.
    afresh: Vec<(Arc<Snapshot>, Afresh)>,
    effects: u64,
}

/// A join that its owner has taken.
struct Joining {
    group: GroupKey,
    item: Option<ItemId>,
    /// So many events are in its `sync` at least.
    sees: usize,
}

/// Group, item and event.
type Happened = (GroupKey, Option<ItemId>, Value);

/// A group is to be followed, or not any more.
struct Follow {
    group: GroupKey,
    /// A join waits for it in its group's queue.
    is_waited_for: bool,
}

/// How far this host is in the log of a group.
#[derive(Default)]
struct Standing {
    listeners: BTreeMap<WorkerId, LocalGroupId>,
    /// So many events have been told, or are in what subscribers were given; `None`: it is not known.
    at: Option<usize>,
    /// It is not less.
    least: usize,
    /// So many had happened when the last change of this host was answered: a join behind it sees them.
    answered: usize,
    /// The store could not be asked, or was lost: joins may have no `sync`.
    may_lack_sync: bool,
}

/// Every subscription of a group begins anew.
#[derive(Clone)]
pub(crate) struct Afresh {
    pub(crate) group: GroupKey,
    /// For those that have entered before it.
    pub(crate) number: u64,
    /// The first event behind it.
    pub(crate) from: usize,
}

impl SharedStore {
    pub(crate) fn new(double: &Rc<RefCell<Double>>) -> SharedStore {
        SharedStore {
            double: Rc::clone(double),
            standings: BTreeMap::new(),
            follows: HashMap::new(),
            listings: HashMap::new(),
            listing: None,
            read_at: None,
            heard_at: None,
            due: Vec::new(),
            made: Vec::new(),
            joins: HashMap::new(),
            told: HashMap::new(),
            afresh: Vec::new(),
            effects: 0,
        }
    }

    /// The process has died; what was told before is not told again.
    pub(crate) fn restart(&mut self) {
        let mut new = SharedStore::new(&self.double);
        new.effects = self.effects;
        for (key, standing) in &self.standings {
            let least = standing.at.unwrap_or(standing.least);
            let known = new.standings.entry(key.clone()).or_default();
            known.least = least;
        }
        *self = new;
    }

    /// An owner takes a join.
    pub(crate) fn note_join(&mut self, id: JoinId, key: &GroupKey, item: Option<&ItemId>) {
        let joining = Joining {
            group: key.clone(),
            item: item.cloned(),
            sees: self.standing(key).answered,
        };
        self.joins.insert(id, joining);
    }

    /// A function has answered a join in place of the store.
    pub(crate) fn note_told(&mut self, id: JoinId, sync: Option<Value>) {
        self.told.insert(id, sync);
    }

    /// A function has made an event.
    pub(crate) fn note_made(&mut self, key: &GroupKey, item: &ItemId, event: Value) {
        let made = (key.clone(), Some(item.clone()), event);
        self.due.push(made.clone());
        self.made.push(made);
    }

    fn standing(&mut self, key: &GroupKey) -> &mut Standing {
        self.standings.entry(key.clone()).or_default()
    }

    /// So many events of the group had happened by then.
    fn place(&self, key: &GroupKey, time: u64) -> usize {
        let double = self.double.borrow();
        let log = double.log(key).iter();
        log.take_while(|logged| logged.time <= time).count()
    }

    /// What the group held after so many events.
    fn held(&self, key: &GroupKey, events: usize) -> Vec<(ItemId, Text)> {
        let double = self.double.borrow();
        let mut items: Vec<(ItemId, Text)> = Vec::new();
        for Logged { item, event, .. } in &double.log(key)[..events] {
            let Some(item) = item else {
                continue;
            };
            let found = items.iter().position(|(name, _)| name == item);
            match (event, found) {
                (HeardEvent::Create(value), None) => {
                    items.push((item.clone(), Text::clone(value)));
                }
                (HeardEvent::Update(value), Some(found)) => items[found].1 = Text::clone(value),
                (HeardEvent::Delete(_), Some(found)) => drop(items.remove(found)),
                (HeardEvent::Custom { .. }, _) => {}
                _ => panic!("the store's log is wrong"),
            }
        }
        items
    }

    fn data(&self, key: &GroupKey, events: usize, item: Option<&ItemId>) -> Value {
        let held = self.held(key, events);
        match item {
            None => held.iter().map(|(_, value)| parsed(value)).collect(),
            Some(item) => {
                let found = held.iter().find(|(name, _)| name == item);
                found.map_or(Value::Null, |(_, value)| parsed(value))
            }
        }
    }

    fn log_len(&self, key: &GroupKey) -> usize {
        self.double.borrow().log(key).len()
    }
}

impl Standing {
    fn moves_to(&mut self, at: usize) {
        (self.at, self.least) = (Some(at), at);
    }

    fn is_lost(&mut self) {
        self.least = self.at.take().unwrap_or(self.least);
    }
}

impl Model {
    fn of_shared(&mut self) -> &mut SharedStore {
        self.shared.as_mut().expect("the store is shared")
    }

    /// Every group holds what the store holds: everything was told.
    pub(crate) fn take_items(&mut self) {
        let Some(shared) = &self.shared else {
            return;
        };
        for (key, group) in &mut self.groups {
            group.items = shared.double.borrow().items(key).to_vec();
        }
    }

    pub(crate) fn check_shared_quiet(&self) {
        let Some(shared) = &self.shared else {
            return;
        };
        assert!(shared.follows.is_empty() && shared.listings.is_empty());
        assert!(shared.afresh.is_empty(), "nobody has begun anew");
        for (key, standing) in &shared.standings {
            let is_followed = !standing.listeners.is_empty() && !self.is_custom(key);
            let all = shared.log_len(key);
            assert!(
                !is_followed || standing.at.is_none_or(|at| at == all),
                "{key:?} has happened and was not told"
            );
        }
    }

    /// The owner takes a listing: one shard asks for all.
    pub(crate) fn list_shared(&mut self, shard: WorkerId, call: CallId) {
        if shard.index() == 0 {
            self.of_shared().listing = Some(call);
        } else {
            self.replies.insert(call, Outcome::Groups(Names::default()));
        }
    }

    /// The owner takes a leave.
    pub(crate) fn leave_shared(&mut self, key: &GroupKey, worker: WorkerId, local: LocalGroupId) {
        let standing = self.of_shared().standing(key);
        if standing.listeners.get(&worker) == Some(&local) {
            standing.listeners.remove(&worker);
        }
        if standing.listeners.is_empty() {
            standing.is_lost();
        }
    }

    /// The shard asks the store for something.
    pub(crate) fn see_request(&mut self, request: &Request) {
        let RequestKind::Decide(question) = &request.kind else {
            panic!("the store decides");
        };
        let number = (request.shard, request.number);
        match question {
            Question::Follow { group, .. } => {
                let is_waited_for = self.to_be_asked.is_none();
                let follow = Follow {
                    group: group.clone(),
                    is_waited_for,
                };
                self.of_shared().follows.insert(number, follow);
                if is_waited_for {
                    let queue = &mut self.groups.get_mut(group).expect("it is known").queue;
                    let join = What::Followed;
                    queue.push_back(Waiting::new(join, None, Some(request.number)));
                }
            }
            Question::Unfollow { group } => {
                let standing = self.of_shared().standing(group);
                assert!(standing.listeners.is_empty(), "somebody follows it");
                let follow = Follow {
                    group: group.clone(),
                    is_waited_for: false,
                };
                self.of_shared().follows.insert(number, follow);
            }
            Question::Keep { .. } => {}
            Question::Groups { .. } => {
                let listing = self.of_shared().listing.take();
                let call = listing.expect("somebody has asked for it");
                self.of_shared().listings.insert(number, call);
            }
            Question::Set { group, .. }
            | Question::Update { group, .. }
            | Question::Delete { group, .. }
            | Question::Send { group, .. }
            | Question::Get { group, .. }
            | Question::List { group } => {
                let queue = &mut self.groups.get_mut(group).expect("it is known").queue;
                let asked = queue.back_mut().expect("what was just asked");
                assert_eq!(asked.number, Some(u64::MAX), "it is asked once");
                asked.number = Some(request.number);
            }
        }
    }

    /// What the owner learns that is no answer to a command of a group. Gives back an answer to one.
    pub(crate) fn learn_beside<'a>(
        &mut self,
        shard: WorkerId,
        learned: &'a Learned,
    ) -> Option<&'a Verdict> {
        let shared = self.of_shared();
        let answer = match learned {
            Learned::Answer(answer) => answer,
            Learned::Channel(_, FromChannel::Read { time, .. }) => {
                shared.read_at = Some(*time);
                return None;
            }
            Learned::Channel(_, FromChannel::Event { time, .. }) => {
                shared.heard_at = Some(*time);
                return None;
            }
            Learned::Made { .. } => return None,
            Learned::Lost => {
                for standing in shared.standings.values_mut() {
                    standing.is_lost();
                    standing.may_lack_sync = true;
                }
                return None;
            }
        };
        let number = (shard, answer.number);
        if let Some(follow) = shared.follows.remove(&number) {
            match &answer.verdict {
                Verdict::Cut { time, .. } => shared.read_at = Some(*time),
                Verdict::Refused(_) => shared.standing(&follow.group).may_lack_sync = true,
                _ => {}
            }
            return follow.is_waited_for.then_some(&answer.verdict);
        }
        if let Some(call) = shared.listings.remove(&number) {
            let outcome = match &answer.verdict {
                Verdict::Groups(names) => Outcome::Groups(names.clone()),
                _ => crate::model::failed_listing(),
            };
            self.replies.insert(call, outcome);
            return None;
        }
        Some(&answer.verdict)
    }

    /// A command has its turn, with the store's word on it.
    pub(crate) fn take_decided(
        &mut self,
        key: &GroupKey,
        what: &What,
        call: Option<CallId>,
        said: Said,
    ) {
        let Said {
            outcome,
            event,
            time,
        } = said;
        let shared = self.of_shared();
        let place = shared.place(key, time);
        let answered = &mut shared.standing(key).answered;
        *answered = place.max(*answered);
        let item = match what {
            What::Set(item, _) | What::Update(item, _) | What::Delete(item) => Some(item.clone()),
            What::Send(item, ..) => item.clone(),
            _ => None,
        };
        if let Some(event) = event {
            self.of_shared().due.push((key.clone(), item, event));
        }
        self.replies.extend(call.map(|call| (call, outcome)));
    }

    /// What happened by calls of this host and triggers follow fires, in its order, and nothing else does.
    pub(crate) fn check_fired_shared(&mut self, shard: WorkerId, fired: &[Fired]) {
        let hooks = self.hooks_of(shard);
        let mut due = std::mem::take(&mut self.of_shared().due);
        due.retain(|(key, item, _)| {
            let item = item.as_ref().map(|item| &**item);
            hooks.events.has(key.stream(), key.group(), item)
        });
        assert_eq!(due.len(), fired.len(), "each event fires once");
        for ((key, item, event), fired) in due.into_iter().zip(fired) {
            let message = Message::whole(fired.frame.wire());
            assert_eq!((fired.version, &fired.key), (hooks.version, &key));
            assert_eq!((message.item, message.event), (item, event));
        }
    }

    /// The owner tells of an event: one that a function has just made, or the next of the log.
    pub(crate) fn see_event(&mut self, message: &Message, wire_len: usize) {
        let key = &message.group;
        let shared = self.shared.as_mut().expect("the store is shared");
        let of = (&message.item, &message.event);
        let mut made = shared.made.iter();
        let found = made.position(|(of_key, item, event)| of_key == key && of == (item, event));
        match found {
            Some(found) => drop(shared.made.remove(found)),
            None => self.see_logged(message),
        }
        let group = self.groups.get_mut(key).expect("a group of the simulation");
        assert!(
            message.time > group.last_time,
            "times of events rise strictly"
        );
        group.history.push(Event {
            item: message.item.clone(),
            event: message.event.clone(),
            time: Some(message.time),
            wire_len,
        });
        (group.last_time, group.last_event) = (message.time, message.time);
    }

    fn see_logged(&mut self, message: &Message) {
        let key = &message.group;
        let is_custom = self.is_custom(key);
        let shared = self.shared.as_mut().expect("the store is shared");
        let standing = shared.standings.entry(key.clone()).or_default();
        let double = shared.double.borrow();
        let log = double.log(key);
        let is_it =
            |logged: &Logged| logged.item == message.item && message.event == told(&logged.event);
        let at = match (standing.at, shared.heard_at) {
            _ if is_custom => {
                let mut rest = log.iter().skip(standing.least);
                rest.position(is_it).map(|found| standing.least + found)
            }
            (Some(at), _) => Some(at),
            (None, Some(time)) => log.iter().position(|logged| logged.time == time),
            (None, None) => None,
        };
        let found = at.and_then(|at| log.get(at));
        assert!(
            found.is_some_and(is_it),
            "{found:?} was next in the log, not {message:?}"
        );
        let at = at.expect("it was just found");
        assert!(at >= standing.least, "it was told before");
        standing.moves_to(at + 1);
    }

    /// The owner lets a join in.
    pub(crate) fn see_entered(&mut self, delivery: &Delivery, id: JoinId, sync: Option<&Message>) {
        let shared = self.of_shared();
        let Joining {
            group: key,
            item,
            sees,
        } = shared.joins.remove(&id).expect("its owner was asked");
        if let Some(told) = shared.told.remove(&id) {
            let sync = sync.map(|sync| &sync.event["data"]);
            assert_eq!(sync, told.as_ref(), "what the function has said");
        }
        let is_custom = self.is_custom(&key);
        let shared = self.of_shared();
        let read_at = shared.read_at.map(|time| shared.place(&key, time));
        let had_listeners = !shared.standing(&key).listeners.is_empty();
        shared
            .standing(&key)
            .listeners
            .insert(delivery.to, delivery.local);
        if let Some(sync) = sync.filter(|_| !is_custom) {
            let known = shared.standing(&key).at.filter(|_| had_listeners);
            let least = shared.standing(&key).least;
            let data = &sync.event["data"];
            let is_it = |at: &usize| shared.data(&key, *at, item.as_ref()) == *data;
            let at = match (read_at, known) {
                (Some(at), Some(known)) => {
                    assert_eq!(at, known, "an event was left out, or told twice");
                    is_it(&at).then_some(at)
                }
                (Some(at), None) | (None, Some(at)) => is_it(&at).then_some(at),
                (None, None) => (least.max(sees)..=shared.log_len(&key)).find(is_it),
            };
            let at = at.unwrap_or_else(|| panic!("the group never held that: {sync:?}"));
            assert!(at >= sees, "what was answered before the join is not in it");
            let standing = shared.standing(&key);
            if read_at.is_some() || known.is_some() {
                standing.moves_to(at);
            } else {
                standing.least = at;
            }
            standing.may_lack_sync &= item.is_some();
        }
        let standing = shared.standing(&key);
        assert!(
            sync.is_some() || standing.may_lack_sync || is_custom,
            "a join without its sync"
        );
        shared.effects += 1;
        let number = shared.effects;
        let group = self.groups.get_mut(&key).expect("it was joined");
        let entered = Entered {
            group: key,
            item,
            from: group.history.len(),
            sync: sync.map(|sync| sync.event["data"].clone()),
            time: sync.map(|sync| sync.time),
            number,
        };
        if let Some(sync) = sync {
            let least = group.last_event + u64::from(entered.item.is_some());
            assert!(sync.time >= least, "a sync is not older than what was sent");
            group.last_time = group.last_time.max(sync.time);
        }
        let before = self.entered.insert(id, entered);
        assert!(before.is_none(), "a join's name is used twice");
    }

    /// The owner has everybody begin anew.
    pub(crate) fn see_afresh(&mut self, snapshot: &Arc<Snapshot>) {
        let whole = snapshot.sync_of(None);
        let sync = Message::whole(&whole.pieces_from(0).collect::<Vec<_>>().concat());
        let key = sync.group.clone();
        let is_custom = self.is_custom(&key);
        let shared = self.shared.as_mut().expect("the store is shared");
        let read_at = shared.read_at.map(|time| shared.place(&key, time));
        // It may have waited behind what a function was asked.
        let of_custom = || {
            let least = shared.standings.get(&key).map_or(0, |it| it.least);
            let is_it = |at: &usize| shared.data(&key, *at, None) == sync.event["data"];
            (least..=shared.log_len(&key)).find(is_it)
        };
        let at = read_at.or_else(|| is_custom.then(of_custom)?);
        let at = at.expect("it was just read");
        if let Some(known) = shared.standing(&key).at.filter(|_| !is_custom) {
            assert_eq!(known, at, "an event was left out, or told twice");
        }
        assert_eq!(sync.event["data"], shared.data(&key, at, None));
        let held = shared.held(&key, at);
        if let Some(len) = snapshot.items_len() {
            assert_eq!(len, held.len(), "of each item what the group holds");
            for (item, value) in &held {
                let sync = snapshot.sync_of(Some(item));
                let sync = Message::whole(&sync.pieces_from(0).collect::<Vec<_>>().concat());
                assert_eq!(sync.event["data"], parsed(value), "{item}");
            }
        }
        let standing = shared.standing(&key);
        standing.moves_to(at);
        standing.may_lack_sync = false;
        let group = self.groups.get_mut(&key).expect("somebody follows it");
        let has_seen = shared
            .afresh
            .iter()
            .any(|(seen, _)| Arc::ptr_eq(seen, snapshot));
        if !has_seen {
            assert!(sync.time > group.last_time, "a fresh start is later");
            (group.last_time, group.last_event) = (sync.time, sync.time);
        }
        shared.effects += 1;
        let afresh = Afresh {
            group: key,
            number: shared.effects,
            from: group.history.len(),
        };
        shared.afresh.push((Arc::clone(snapshot), afresh));
    }

    /// A fresh start comes to a worker.
    pub(crate) fn take_afresh(&mut self, snapshot: &Arc<Snapshot>) -> Afresh {
        let afresh = &mut self.of_shared().afresh;
        let is_it = |(of, _): &(Arc<Snapshot>, Afresh)| Arc::ptr_eq(of, snapshot);
        let found = afresh.iter().position(is_it);
        afresh.remove(found.expect("its owner has told of it")).1
    }

    /// The command or answer at hand has been looked at.
    pub(crate) fn end_shared(&mut self) {
        if let Some(shared) = &mut self.shared {
            (shared.read_at, shared.heard_at) = (None, None);
            shared.made.clear();
        }
    }
}

/// What a store that decides says of a command.
pub(crate) struct Said {
    outcome: Outcome,
    /// What has happened by it, and when, by the store's clock.
    event: Option<Value>,
    time: u64,
}

/// `None`: it is refused.
pub(crate) fn said(what: &What, verdict: &Verdict) -> Option<Said> {
    let (outcome, event) = match (what, verdict) {
        (What::Followed, _) => (Outcome::Sent, None), // whose join it is has its effect as the owner says
        (_, Verdict::Refused(_)) => return None,
        (What::Get(_), Verdict::Found(value)) => (Outcome::Got(value.clone()), None),
        (What::List, Verdict::Listed(pieces)) => {
            // The model lists values, which are joined where they are compared.
            let values = pieces.iter().map(|piece| Text::from(&piece[1..]));
            (Outcome::List(values.collect()), None)
        }
        (What::Send(_, kind, data), Verdict::Decided { .. }) => {
            let (kind, data) = (kind.clone(), Text::clone(data));
            let event = told(&HeardEvent::Custom { kind, data });
            (Outcome::Sent, Some(event))
        }
        (_, Verdict::Decided { old, new, .. }) => {
            let (old, new) = (old.clone(), new.clone());
            let event = match (old.clone(), new.clone()) {
                (None, None) => None,
                (None, Some(new)) => Some(HeardEvent::Create(new)),
                (Some(_), Some(new)) => Some(HeardEvent::Update(new)),
                (Some(old), None) => Some(HeardEvent::Delete(old)),
            };
            let outcome = match (what, new) {
                (What::Update(..), Some(new)) => Outcome::Updated {
                    new,
                    old,
                    errors: Vec::new(),
                },
                (_, Some(new)) => Outcome::Set { new, old },
                (_, None) => Outcome::Deleted { old },
            };
            (outcome, event.as_ref().map(told))
        }
        _ => panic!("no answer to {:?}", function_of(what)),
    };
    let time = match verdict {
        Verdict::Decided { time, .. } => *time,
        _ => 0,
    };
    Some(Said {
        outcome,
        event,
        time,
    })
}

/// As subscribers are told of it.
fn told(event: &HeardEvent) -> Value {
    match event {
        HeardEvent::Create(data) => json!({"type": "create", "data": parsed(data)}),
        HeardEvent::Update(data) => json!({"type": "update", "data": parsed(data)}),
        HeardEvent::Delete(data) => json!({"type": "delete", "data": parsed(data)}),
        HeardEvent::Custom { kind, data } => {
            json!({"type": "event", "event": {"type": &**kind, "data": parsed(data)}})
        }
    }
}
