//! Sockets whose subscriptions end: they leave their groups as many a turn as may, in the order in
//! which the sockets ended, and a socket with very many holds up nobody.
//!
//! May not know why a socket ends.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::fanout;
use crate::id::{GroupKey, ItemId, SlotId};
use crate::mesh::Presence;

use super::Subscribers;
use super::connections::Socket;

/// Sockets whose subscriptions end.
#[derive(Default)]
pub(super) struct Endings {
    /// Each has a part of its subscriptions left.
    queue: VecDeque<Ending>,
    /// What may still be spent in this turn.
    units: usize,
}

struct Ending {
    of_fanout: fanout::Ending,
    /// Joins that were admitted and have not entered.
    admitted: Vec<Admitted>,
    context: Option<Arc<str>>,
}

/// The client's name, the group, the item.
type Admitted = (Box<str>, GroupKey, Option<ItemId>);

impl Endings {
    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What a turn may spend is there again: a subscription costs one to be told of, one or two to leave.
    pub(super) fn begin_turn(&mut self, units: usize) {
        self.units = units;
    }
}

impl<S: Socket> Subscribers<S> {
    /// The socket has ended, or is about to: what it held is owed, in the order of joining, and what
    /// was admitted and has not entered. That is one leave for each id. The answers that still come find
    /// nobody.
    pub(super) fn end_subscriptions(&mut self, id: SlotId) {
        self.give_up_persons(id);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let joins = connection.joins.take().into_iter();
        let admitted: Vec<Admitted> = joins.flat_map(|joins| joins.into_admitted()).collect();
        let context = connection.context.as_deref().cloned();
        let Some(of_fanout) = self.fanout.begin_end(id, &mut self.connections) else {
            return self.owe_admitted(admitted, context.as_ref());
        };
        let mut ending = Ending {
            of_fanout,
            admitted,
            context,
        };
        if !self.endings.is_empty() || !self.go_on_with_ending(&mut ending) {
            self.endings.queue.push_back(ending);
        }
    }

    /// Subscriptions leave that this turn has not come to yet.
    pub(super) fn go_on_ending(&mut self) {
        while let Some(mut ending) = self.endings.queue.pop_front() {
            if !self.go_on_with_ending(&mut ending) {
                return self.endings.queue.push_front(ending);
            }
            let id = ending.of_fanout.connection;
            if let Some(connection) = self.connections.get_mut(id)
                && connection.is_over
            {
                self.forget(id);
            }
        }
    }

    /// True when it is over.
    fn go_on_with_ending(&mut self, ending: &mut Ending) -> bool {
        let Ending {
            of_fanout,
            admitted,
            context,
        } = ending;
        let (hooks, debts) = (&self.hooks, &mut self.debts);
        let shared = &self.ports.shared;
        // An admitted join stands in place of what its id named before, entered or not.
        let is_replaced = |held: &str| admitted.iter().any(|(joined, ..)| **joined == *held);
        let (connections, units) = (&mut self.connections, &mut self.endings.units);
        let is_over = self
            .fanout
            .go_on_ending(of_fanout, connections, units, |key, held, item| {
                if hooks.leaves.has(key.stream()) && !is_replaced(&held) {
                    let presence = Presence {
                        subscription: held,
                        key: key.clone(),
                        item,
                        context: context.clone(),
                    };
                    debts.add(presence, shared);
                }
            });
        if is_over {
            let (admitted, context) = (std::mem::take(admitted), context.take());
            self.owe_admitted(admitted, context.as_ref());
        }
        is_over
    }

    fn owe_admitted(&mut self, admitted: Vec<Admitted>, context: Option<&Arc<str>>) {
        for (subscription, key, item) in admitted {
            self.owe(Presence {
                subscription,
                key,
                item,
                context: context.cloned(),
            });
        }
    }
}
