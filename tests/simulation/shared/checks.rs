//! What an owner asks for, delivers and fires, against the log of the store that hosts share: requests, answers,
//! events, joins, and fresh starts.

use std::sync::Arc;

use iii_stream::id::{CallId, GroupKey, LocalGroupId, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::groups::Names;
use iii_stream::shard::{
    Delivery, Fired, FromChannel, HeardEvent, Learned, Question, Request, RequestKind, Snapshot,
    Verdict,
};
use serde_json::{Value, json};

use super::{Afresh, Follow, Joining, Said, SharedStore};
use crate::double::Logged;
use crate::model::{Entered, Event, JoinId, Model, Waiting, What, parsed};
use crate::wire::Message;

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

/// As subscribers are told of it.
pub(super) fn told(event: &HeardEvent) -> Value {
    match event {
        HeardEvent::Create(data) => json!({"type": "create", "data": parsed(data)}),
        HeardEvent::Update(data) => json!({"type": "update", "data": parsed(data)}),
        HeardEvent::Delete(data) => json!({"type": "delete", "data": parsed(data)}),
        HeardEvent::Custom { kind, data } => {
            json!({"type": "event", "event": {"type": &**kind, "data": parsed(data)}})
        }
    }
}
