//! What should happen on one host where several share a store that decides: it is told of each answer
//! and takes each event from what the owner delivers, and both are checked against the store's own log.
//!
//! Every host tells the events of a group in the log's order, none twice and none left out from the
//! first `sync` on; and a `sync` is what the group held at its place among them.
//!
//! Here: what one host knows of the store and how far it is in the log of each group. `checks` holds what the
//! owner says against that.

mod checks;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use iii_stream::id::{CallId, GroupKey, ItemId, LocalGroupId, Text, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::shard::{HeardEvent, Snapshot, Verdict};
use serde_json::Value;

use crate::double::{Double, Logged};
use crate::model::{JoinId, What, function_of, parsed};
use checks::told;

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
