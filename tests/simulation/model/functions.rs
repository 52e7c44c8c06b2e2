//! What the functions of triggers should hear: an event that is followed once, a leave once for each
//! subscription, and a worker the word on a join as the function gave it.

use std::collections::VecDeque;
use std::sync::Arc;

use iii_stream::id::{GroupKey, ItemId, WorkerId};
use iii_stream::mesh::Presence;
use iii_stream::shard::Fired;
use serde_json::Value;

use super::Model;
use super::group::parsed;

/// Subscription, group and item, and what the auth function said of the socket.
pub(super) type Leave = (Box<str>, GroupKey, Option<ItemId>, Option<Arc<str>>);

impl Model {
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

    pub(super) fn note_fired(&mut self, fired: &[Fired]) {
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

    /// The same of a subscription whose socket ends. That goes over turns: a function that comes meanwhile
    /// may hear of it or not.
    pub(crate) fn owe_of_ending(&mut self, worker: WorkerId, presence: &Presence) {
        match self.hooks[worker.index()].leaves.has(presence.key.stream()) {
            true => self.owe(worker, presence),
            false => self.unowed.push(leave_of(presence)),
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
        let of_socket = (worker, socket_of(presence));
        let is_owed = |owed: &VecDeque<Leave>| owed.contains(&told);
        let unowed = self.unowed.iter().position(|unowed| *unowed == told);
        if let Some(unowed) = unowed
            && !self.owed.get(&of_socket).is_some_and(is_owed)
            && !self.owed_late.contains(&told)
        {
            return drop(self.unowed.swap_remove(unowed));
        }
        let owed = self.owed.get_mut(&of_socket);
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
