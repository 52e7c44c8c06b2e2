//! Leaves that are owed to functions: the record of a subscription that ended stays here until the
//! engine thread has taken it, and none is ever dropped.
//!
//! The engine is told once that something is owed, and says then how many it has room for. May not
//! know which functions they are.

use std::collections::VecDeque;

use crate::id::{GroupKey, ItemId, SlotId};
use crate::life::Sockets as _;
use crate::mesh::{Presence, Shared, ToEngine};

use super::Subscribers;
use super::connections::Socket;

/// What one worker owes.
#[derive(Default)]
pub(super) struct Debts {
    /// In the order in which they came about.
    owed: VecDeque<Presence>,
    /// Sum of [`bytes_of`] all in `owed`.
    bytes: usize,
    /// The engine knows that something is owed.
    is_told: bool,
    /// How many the engine has room for, since it last got some.
    granted: Option<usize>,
    /// Sockets that are left unread until less is owed.
    held: Vec<SlotId>,
}

impl Debts {
    /// `shared` knows what all workers owe together.
    pub(super) fn add(&mut self, presence: Presence, shared: &Shared) {
        shared.count_owed();
        self.bytes += bytes_of(&presence);
        self.owed.push_back(presence);
    }

    /// The engine has room for so many.
    pub(super) fn grant(&mut self, len: usize) {
        self.granted = Some(self.granted.unwrap_or(0).saturating_add(len));
    }

    fn is_over(&self, most_bytes: usize) -> bool {
        self.bytes > most_bytes
    }

    fn take(&mut self, len: usize) -> Vec<Presence> {
        let taken: Vec<Presence> = self.owed.drain(..len.min(self.owed.len())).collect();
        self.bytes -= taken.iter().map(bytes_of).sum::<usize>();
        taken
    }

    /// The engine could not take them after all.
    fn put_back(&mut self, leaves: Vec<Presence>) {
        for presence in leaves.into_iter().rev() {
            self.bytes += bytes_of(&presence);
            self.owed.push_front(presence);
        }
    }
}

fn bytes_of(presence: &Presence) -> usize {
    size_of::<Presence>() + presence.held_bytes()
}

impl<S: Socket> Subscribers<S> {
    /// A subscription has ended: functions are to be told of it, if any listen.
    pub(super) fn owe(&mut self, presence: Presence) {
        if self.hooks.leaves.has(presence.key.stream()) {
            self.debts.add(presence, &self.ports.shared);
        }
    }

    /// The client asks for a leave: of an id that is unknown as well, and with its own names.
    pub(super) fn leave(
        &mut self,
        id: SlotId,
        subscription: Box<str>,
        key: GroupKey,
        item: Option<ItemId>,
    ) {
        self.fanout.leave(id, &subscription, &mut self.connections);
        self.give_up_person(id, &subscription);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !self.hooks.leaves.has(key.stream()) {
            return;
        }
        let presence = Presence {
            subscription,
            key,
            item,
            context: connection.context.as_deref().cloned(),
        };
        self.debts.add(presence, &self.ports.shared);
        if self.debts.is_over(self.bounds.owed_bytes) && !connection.is_behind_debts {
            connection.is_behind_debts = true;
            self.debts.held.push(id);
        }
    }

    /// Tells the engine once that something is owed, and gives it as many as it has room for.
    pub fn settle(&mut self) {
        let worker = self.ports.id;
        let to_engine = &mut self.ports.to_engine;
        if let Some(len) = self.debts.granted
            && !to_engine.has_backlog()
        {
            let leaves = self.debts.take(len);
            let taken = leaves.len();
            let more = !self.debts.owed.is_empty();
            let message = ToEngine::Leaves {
                worker,
                leaves,
                more,
            };
            match to_engine.try_send(message) {
                Ok(()) => {
                    // Only now: while something is owed the engine does not end.
                    self.ports.shared.uncount_owed(taken);
                    self.debts.granted = None;
                    self.debts.is_told = more;
                }
                Err(ToEngine::Leaves { leaves, .. }) => self.debts.put_back(leaves),
                Err(_) => {}
            }
        }
        if !self.debts.is_told && !self.debts.owed.is_empty() {
            self.debts.is_told = true;
            to_engine.send(ToEngine::Owes(worker));
        }
        if !self.debts.is_over(self.bounds.owed_bytes) {
            self.read_on();
        }
    }

    /// Sockets that were left unread for what was owed are read again.
    fn read_on(&mut self) {
        for id in std::mem::take(&mut self.debts.held) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.is_behind_debts = false;
                self.queue(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Owners, SocketRoom};

    fn presence(n: usize) -> Presence {
        Presence {
            subscription: n.to_string().into(),
            key: GroupKey::new("s", "g"),
            item: None,
            context: None,
        }
    }

    fn names(leaves: &[Presence]) -> Vec<&str> {
        leaves.iter().map(|leave| &*leave.subscription).collect()
    }

    #[test]
    fn debts_are_taken_in_order_and_come_back_where_they_were() {
        let shared = Shared::new(
            Owners::Hashed { workers: 1 },
            Vec::new(),
            SocketRoom::UNLIMITED,
        );
        let mut debts = Debts::default();
        for n in 0..5 {
            debts.add(presence(n), &shared);
        }
        let bytes = debts.bytes;
        let taken = debts.take(2);
        assert_eq!(names(&taken), ["0", "1"]);
        debts.put_back(taken);
        assert_eq!(debts.bytes, bytes);
        assert_eq!(names(&debts.take(9)), ["0", "1", "2", "3", "4"]);
        assert_eq!(debts.bytes, 0);
        assert_eq!(shared.owed_len(), 5, "whoever sends them counts them off");
    }

    #[test]
    fn what_is_granted_twice_adds_up() {
        let mut debts = Debts::default();
        debts.grant(3);
        debts.grant(0);
        debts.grant(4);
        assert_eq!(debts.granted, Some(7));
    }

    #[test]
    fn names_count_against_the_limit() {
        let shared = Shared::new(
            Owners::Hashed { workers: 1 },
            Vec::new(),
            SocketRoom::UNLIMITED,
        );
        let mut debts = Debts::default();
        let long = Presence {
            subscription: "x".repeat(1000).into(),
            ..presence(0)
        };
        debts.add(long, &shared);
        assert!(debts.is_over(1000));
        let _ = debts.take(1);
        assert!(!debts.is_over(0));
    }
}
