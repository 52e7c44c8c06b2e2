//! What a shard asks for after one command or answer, against what is due: requests, replies, frames,
//! `sync`s, what fires and what custom functions are asked.

use iii_stream::id::{GroupKey, Text, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::frame::SyncFrame;
use iii_stream::shard::{CustomCall, Delivered, Effects, Fired};

use super::group::Entered;
use super::waiting::{Custom, custom_function};
use super::{Fresh, JoinId, Model};
use crate::wire::Message;

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

impl Model {
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
