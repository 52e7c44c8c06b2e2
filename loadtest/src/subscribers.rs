//! The subscribers of one client thread: their sockets, what each must hear, what they heard.
//!
//! `turn` is the path of a delivery and sets the harness's own cost: one read into the shared
//! buffer, then for each message two searches at a remembered place, one stamp, one comparison
//! and one histogram entry. Nothing is allocated there unless a check fails.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::Ordering;

use mio::event::Event;
use mio::{Registry, Token};

use crate::audit::{FOREIGN, Truth};
use crate::check::{self, Checker};
use crate::client::{Client, ClientError, Clock, ReadBuffer};
use crate::fanout::Plan;
use crate::faults::{Fault, excerpt};
use crate::message::{self, EventReader, Heard, Kind, Stamp};
use crate::model::Model;
use crate::pace::Arrivals;
use crate::received::{Batch, Received};
use crate::scenario::{Shared, Window};
use crate::target::source_address;

/// Which subscriber of which group.
#[derive(Clone, Copy)]
struct Place {
    group: u32,
    number: u32,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "group {} subscriber {}", self.group, self.number)
    }
}

/// What one subscriber of one group has heard.
#[derive(Default)]
struct Subscription {
    checker: Checker,
    /// What it shows: the one item of its group.
    model: Model,
}

/// The groups that one socket follows: every `spread`th, from `slice` on.
#[derive(Clone, Copy)]
struct Followed {
    slice: u32,
    spread: u32,
    groups: u32,
    /// The first of them among the subscriptions of the thread.
    first: usize,
}

impl Followed {
    fn groups(self) -> impl Iterator<Item = u32> {
        (0..self.groups).map(move |turn| self.slice + turn * self.spread)
    }

    /// The place of `group` among the subscriptions of the thread; `None`: it is not followed.
    #[inline]
    fn index_of(self, group: u32) -> Option<usize> {
        let (turn, slice) = (group / self.spread, group % self.spread);
        (slice == self.slice && turn < self.groups).then(|| self.first + turn as usize)
    }
}

/// One socket.
struct Connection {
    followed: Followed,
    /// Which subscriber of each of its groups it is.
    number: u32,
    /// Of how many groups it has the `sync`.
    joined: u32,
    has_asked: bool,
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
            events: EventReader::new(plan.setup.value_bytes),
            arrivals: Arrivals::new(plan.subscribers_of(thread) as u32 / plan.groups),
            window: Window::default(),
            received: Received::new(plan.setup.seconds),
        }
    }

    pub(crate) fn begin(&mut self, window: Window) {
        self.window = window;
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
            has_asked: false,
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
            has_asked,
            client: Some(client),
        }) = self.connections.get_mut(event.token().0)
        else {
            return Ok(()); // an event that was under way when the connection ended
        };
        let joined_before = *joined;
        let heard_before = self.received.deliveries_in_all;
        let mut ear = Ear {
            plan: self.plan,
            shared: self.shared,
            window: self.window,
            followed: *followed,
            number: *number,
            joined,
            subscriptions: &mut self.subscriptions,
            arrivals: &mut self.arrivals,
            received: &mut self.received,
            batch: Batch::default(),
            on_complete,
        };
        let events = &mut self.events;
        let result = client.turn(event, buffer, clock, |now_ns, text| {
            ear.hear(now_ns, text, events);
        });
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
        if client.is_open() && !*has_asked {
            *has_asked = true;
            for group in followed.groups() {
                client.queue(&message::join(&self.plan.setup.stream_name, group));
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
            for (group, Subscription { checker, model }) in followed.groups().zip(subscriptions) {
                let place = Place {
                    group,
                    number: *number,
                };
                let published = (sets + groups - 1 - u64::from(group)) / groups;
                checker.tell_missed(published as u32, place, faults);
                if let Some(difference) = truth.difference(group, model) {
                    faults.tell(Fault::Model, place, || difference);
                }
            }
        }
        self.received
    }
}

/// What hears the texts of one connection, for one turn.
struct Ear<'a, C> {
    plan: &'a Plan,
    shared: &'a Shared,
    window: Window,
    followed: Followed,
    number: u32,
    joined: &'a mut u32,
    subscriptions: &'a mut [Subscription],
    arrivals: &'a mut Arrivals,
    received: &'a mut Received,
    batch: Batch,
    on_complete: C,
}

impl<C: FnMut(u64, u64)> Ear<'_, C> {
    #[inline]
    fn hear(&mut self, now_ns: u64, text: &[u8], events: &mut EventReader) {
        self.batch.turn_to(now_ns, self.window, self.received);
        let is_expected = match events.read(text) {
            Heard::Change {
                kind,
                at_ms,
                stamp,
                is_whole,
            } => {
                if !is_whole {
                    self.tell_altered(&stamp, text);
                }
                self.change(kind, at_ms, &stamp, now_ns)
            }
            Heard::Sync {
                at_ms,
                group,
                values,
            } => self.sync(at_ms, group, values, events),
            Heard::Other => false,
        };
        if !is_expected {
            self.tell_unexpected(text);
        }
    }

    /// False: it is not of this run, or not of a group that is followed.
    #[inline]
    fn change(&mut self, kind: Kind, at_ms: u64, stamp: &Stamp, now_ns: u64) -> bool {
        let Stamp {
            group, sequence, ..
        } = *stamp;
        let set = u64::from(sequence) * u64::from(self.plan.groups) + u64::from(group);
        let index = self.followed.index_of(group);
        let Some(index) = index.filter(|_| self.is_ours(stamp, set)) else {
            return false;
        };
        let place = Place {
            group,
            number: self.number,
        };
        let Subscription { checker, model } = &mut self.subscriptions[index];
        match kind {
            Kind::Create => model.create(stamp.item, sequence),
            Kind::Update => model.update(at_ms, stamp.item, sequence),
            Kind::Delete => model.delete(at_ms, stamp.item),
        }
        self.batch.add();
        self.received.time(stamp.sent_ns, now_ns, self.window);
        let faults = &mut self.received.faults;
        let setup = &self.plan.setup;
        checker.judge_time(at_ms, sequence, place, faults);
        check::judge_wait(stamp, now_ns, setup.late, place, faults);
        let verdict = checker.judge(sequence, place, setup.order, faults);
        if verdict.is_first_arrival() && self.arrivals.arrived(set) {
            (self.on_complete)(set, now_ns);
        }
        true
    }

    /// False: there was a `sync` of the group before, or it is not followed.
    fn sync(&mut self, at_ms: u64, group: u32, values: &[u8], events: &mut EventReader) -> bool {
        let Some(index) = self.followed.index_of(group) else {
            return false;
        };
        let Subscription { checker, model } = &mut self.subscriptions[index];
        if !checker.sync() {
            return false;
        }
        *self.joined += 1;
        checker.is_in_time(at_ms);
        // Before the first set: what there is, another run has left.
        let items = events
            .stamps(values)
            .map(|(stamp, _)| (stamp.item, FOREIGN));
        model.sync(at_ms, items.filter(|(item, _)| *item == 0));
        true
    }

    /// A stamp that nobody can have published is damage, or someone else's.
    #[inline]
    fn is_ours(&self, stamp: &Stamp, set: u64) -> bool {
        stamp.run == self.plan.setup.run
            && stamp.item == 0
            && set < self.shared.sets.load(Ordering::Acquire)
    }

    #[cold]
    fn tell_altered(&mut self, stamp: &Stamp, text: &[u8]) {
        let Stamp {
            group, sequence, ..
        } = *stamp;
        let place = Place {
            group,
            number: self.number,
        };
        self.received.faults.tell(Fault::Altered, place, || {
            format!(
                "sequence {sequence} was not published so: {}",
                excerpt(text)
            )
        });
    }

    #[cold]
    fn tell_unexpected(&mut self, text: &[u8]) {
        let place = Place {
            group: self.followed.slice,
            number: self.number,
        };
        self.received.faults.tell(Fault::Unexpected, place, || {
            format!("not of this run: {}", excerpt(text))
        });
    }

    /// After the last text of the turn.
    fn end(&mut self) {
        self.batch.count(self.window, self.received);
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
