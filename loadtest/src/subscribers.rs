//! The subscribers of one client thread: their sockets, and which groups each follows.
//!
//! `turn` is the path of a delivery and sets the harness's own cost: one read into the shared
//! buffer, then one comparison with what others of the group were sent (`ear`). Nothing is allocated
//! there unless a check fails.

use std::sync::atomic::Ordering;

use mio::event::Event;
use mio::{Registry, Token};

use crate::check::audit::Truth;
use crate::check::faults::Fault;
use crate::check::received::{Batch, Received};
use crate::client::{Client, ClientError, Clock, ReadBuffer};
use crate::ear::ThreadsEar;
use crate::event::EventReader;
use crate::followed::Followed;
use crate::message;
use crate::pace::Arrivals;
use crate::plan::Plan;
use crate::scenario::{Shared, Window};
use crate::subscription::{Group, Place, Subscription};
use crate::target::source_address;

/// One socket.
struct Connection {
    followed: Followed,
    /// Which subscriber of each of its groups it is.
    number: u32,
    /// Of how many groups it has the `sync`.
    joined: u32,
    /// When its joins were sent; `None` before.
    asked_ns: Option<u64>,
    /// `None` once the server has ended it.
    client: Option<Client>,
}

/// All subscribers of one thread. The token of each connection is its index.
pub(crate) struct Subscribers<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    thread: usize,
    connections: Vec<Connection>,
    subscriptions: Vec<Subscription>,
    /// Of each group, what all its subscribers of this thread are sent.
    groups: Vec<Group>,
    joined: usize,
    /// Connections that lack a `sync`.
    under_way: usize,
    events: EventReader,
    arrivals: Arrivals,
    window: Window,
    received: Received,
}

impl<'a> Subscribers<'a> {
    pub(crate) fn new(plan: &'a Plan, shared: &'a Shared, thread: usize) -> Self {
        Self {
            plan,
            shared,
            thread,
            connections: Vec::with_capacity(plan.connections_of(thread)),
            subscriptions: Vec::with_capacity(plan.subscribers_of(thread)),
            joined: 0,
            under_way: 0,
            groups: (0..plan.groups).map(|_| Group::default()).collect(),
            events: EventReader::new(&plan.setup.stream_name, plan.setup.value_bytes),
            arrivals: Arrivals::new(plan.subscribers_of(thread) as u32 / plan.groups),
            window: Window::default(),
            received: Received::new(plan.setup.seconds),
        }
    }

    /// All have their `sync`, and nothing was published so far.
    pub(crate) fn begin(&mut self, window: Window) {
        self.window = window;
        for (number, group) in self.groups.iter_mut().enumerate() {
            let who = format_args!("group {number}");
            group.judge_syncs(who, &mut self.received.faults);
        }
    }

    /// How many have their `sync`.
    pub(crate) fn joined(&self) -> usize {
        self.joined
    }

    /// Connections of which a group still lacks its `sync`.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(crate) fn are_all_connected(&self) -> bool {
        self.connections.len() == self.plan.connections_of(self.thread)
    }

    /// Begins one more connection. Neighbours go to different groups, as clients come in life.
    pub(crate) fn connect_next(&mut self, registry: &Registry) -> Result<(), ClientError> {
        let Self { plan, thread, .. } = *self;
        let index = self.connections.len();
        let spread = plan.spread as usize;
        let source = source_address(index, plan.setup.sources);
        let client = Client::connect(&plan.setup.stream, source, registry, Token(index))?;
        let slice = (index % spread) as u32;
        let followed = Followed {
            slice,
            spread: plan.spread,
            groups: (plan.groups - slice).div_ceil(plan.spread),
            first: self.subscriptions.len(),
        };
        self.connections.push(Connection {
            followed,
            number: (index / spread * plan.setup.threads + thread) as u32,
            joined: 0,
            asked_ns: None,
            client: Some(client),
        });
        let subscriptions = followed.first + followed.groups as usize;
        self.subscriptions
            .resize_with(subscriptions, Subscription::default);
        self.under_way += 1;
        Ok(())
    }

    /// Reads what `event` announces. `on_complete` is told each set that all subscribers of this
    /// thread have. An error means that the connection has ended; `lose` counts it.
    pub(crate) fn turn(
        &mut self,
        event: &Event,
        buffer: &mut ReadBuffer,
        clock: &Clock,
        on_complete: impl FnMut(u64, u64),
    ) -> Result<(), ClientError> {
        let Some(Connection {
            followed,
            number,
            joined,
            asked_ns,
            client: Some(client),
        }) = self.connections.get_mut(event.token().0)
        else {
            return Ok(()); // an event that was under way when the connection ended
        };
        let joined_before = *joined;
        let heard_before = self.received.deliveries_in_all;
        let mut ear = ThreadsEar {
            plan: self.plan,
            shared: self.shared,
            window: self.window,
            followed: *followed,
            number: *number,
            asked_ns: asked_ns.unwrap_or_default(),
            joined,
            subscriptions: &mut self.subscriptions,
            groups: &mut self.groups,
            events: &self.events,
            arrivals: &mut self.arrivals,
            received: &mut self.received,
            batch: Batch::default(),
            on_complete,
        };
        let result = client.turn_with(event, buffer, clock, &mut ear);
        ear.end();
        let deliveries = self.received.deliveries_in_all - heard_before;
        self.shared
            .deliveries
            .fetch_add(deliveries, Ordering::Relaxed);
        self.joined += (*joined - joined_before) as usize;
        if joined_before < *joined && *joined == followed.groups {
            self.under_way -= 1;
        }
        result?;
        if client.is_open() && asked_ns.is_none() {
            *asked_ns = Some(clock.now_ns());
            for group in followed.groups() {
                let (stream, pace_ms) = (&self.plan.setup.stream_name, self.plan.pace_ms);
                client.queue(&message::join_at_pace(stream, group, pace_ms));
            }
            client.flush()?;
        }
        Ok(())
    }

    /// The connection of `token` has ended on its own.
    pub(crate) fn lose(&mut self, token: Token, why: &ClientError) {
        if let Some(connection) = self.connections.get_mut(token.0) {
            connection.client = None;
            let place = Place {
                group: connection.followed.slice,
                number: connection.number,
            };
            let faults = &mut self.received.faults;
            faults.tell(Fault::Disconnected, place, || why.to_string());
        }
    }

    /// Judges what never came, now that `sets` sets are out and no more is waited for, and what
    /// each subscriber shows in the end.
    pub(crate) fn finish(mut self, sets: u64, truth: &Truth) -> Received {
        let groups = u64::from(self.plan.groups);
        let faults = &mut self.received.faults;
        for Connection {
            followed, number, ..
        } in &self.connections
        {
            let subscriptions = &self.subscriptions[followed.first..];
            for (group, subscription) in followed.groups().zip(subscriptions) {
                let place = Place {
                    group,
                    number: *number,
                };
                let published = (sets + groups - 1 - u64::from(group)) / groups;
                let (next, model) = subscription.shown(&self.groups[group as usize]);
                next.tell_missed(published as u32, place, faults);
                if let Some(difference) = truth.difference(group, &model)
                    && !self.plan.unchecked
                {
                    faults.tell(Fault::Model, place, || difference);
                }
            }
        }
        self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_followed_by_one_socket_of_a_round() {
        let (groups, spread) = (10, 4);
        let mut first = 0;
        let mut seen = Vec::new();
        for slice in 0..spread {
            let followed = Followed {
                slice,
                spread,
                groups: (groups - slice).div_ceil(spread),
                first,
            };
            for (turn, group) in followed.groups().enumerate() {
                assert_eq!(followed.index_of(group), Some(first + turn));
                seen.push(group);
            }
            assert_eq!(followed.index_of(slice + 1), None);
            assert_eq!(followed.index_of(slice + 3 * spread), None);
            first += followed.groups as usize;
        }
        seen.sort_unstable();
        assert_eq!(seen, Vec::from_iter(0..groups));
    }
}
