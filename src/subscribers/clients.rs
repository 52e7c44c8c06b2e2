//! What a subscriber's bytes mean: the upgrade, joins and leaves, pings and the end.
//!
//! Reads and writes no socket: bytes are handed in, and answers are queued.

use std::sync::Arc;

use crate::fanout::{Connections as _, Entry};
use crate::id::{GroupKey, ItemId, LocalGroupId, SlotId};
use crate::life::{Sockets as _, UNITS_A_MESSAGE};
use crate::mesh::{JoinRequest, Presence, ToEngine};
use crate::protocol::connection::{self, Payload};
use crate::protocol::frame::{SyncFrame, unauthorized};
use crate::protocol::handshake::{Target, Upgrade};
use crate::protocol::message::{self, ClientMessage};
use crate::shard::{Ask, Join};

use super::Subscribers;
use super::connections::{Phase, Socket};
use super::joins::{Kind, Message, Pending, Stage};
use super::notes::{Limit, Named, What};

impl<S: Socket> Subscribers<S> {
    /// All checks are passed: what comes from here on is frames.
    pub(super) fn open(&mut self, id: SlotId, upgrade: &Upgrade, frames: connection::Connection) {
        let date = self.now.wall;
        self.metrics().opened.increment();
        self.change_phase(id, Phase::Open(frames));
        self.schedule.silence.enter(id.slot);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection
            .reader
            .push_head(upgrade.accepted(date).into_boxed_slice());
        self.queue_write(id);
        let (stream, group, item) = match &upgrade.target {
            Target::Group { stream, group } => (stream, group, None),
            Target::Item {
                stream,
                group,
                item,
            } => (stream, group, Some(item)),
            Target::Root | Target::Worker | Target::Telemetry => return,
        };
        // As if the client's first message had been this join; nobody is told the id.
        let names = [stream, group].into_iter().chain(item);
        let fits = names.map(String::len).max() <= Some(self.limits.name_bytes);
        let message = Message {
            kind: Kind::Join {
                key: GroupKey::new(stream, group),
                item: item.map(|item| ItemId::from(&**item)),
                pace: upgrade.pace,
            },
            id: (self.name)(),
            is_large: !fits,
        };
        match fits {
            true => self.place(id, message),
            false => self.serve(id, message, fits),
        }
    }

    pub(super) fn on_message(&mut self, id: SlotId, payload: Payload<'_>) {
        let Some(message) = message::parse(payload) else {
            return self.metrics().messages_ignored.increment();
        };
        let (ClientMessage::Join(named) | ClientMessage::Leave(named)) = &message;
        let item_len = named.item.as_ref().map_or(0, |item| item.len());
        let lens = [
            named.subscription.len(),
            named.stream.len(),
            named.group.len(),
            item_len,
        ];
        let fits = lens.iter().all(|len| *len <= self.limits.name_bytes);
        let key = GroupKey::new(&named.stream, &named.group);
        let item = named.item.as_deref().map(ItemId::from);
        let (kind, is_leave) = match &message {
            ClientMessage::Join(_) => {
                let pace = named.pace;
                (Kind::Join { key, item, pace }, false)
            }
            ClientMessage::Leave(_) => (Kind::Leave { key, item }, true),
        };
        let message = Message {
            kind,
            id: named.subscription.as_ref().into(),
            is_large: !fits,
        };
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match &mut connection.joins {
            // A join that does not fit is refused whatever stands before it.
            Some(joins) if joins.holds(&message.id) && (fits || is_leave) => joins.wait(message),
            _ if fits => self.place(id, message),
            _ => self.serve(id, message, fits),
        }
    }

    /// Serves one message that nothing holds up. `fits`: its names are within their limit.
    pub(super) fn serve(&mut self, id: SlotId, message: Message, fits: bool) {
        let (key, item, pace) = match message.kind {
            Kind::Leave { key, item } => {
                self.note(id, || What::Leaves(named(&message.id, &key, item.as_ref())));
                return self.leave(id, message.id, key, item);
            }
            Kind::Join { key, item, pace } => (key, item, pace),
        };
        self.charge(id, UNITS_A_MESSAGE - 1);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let pending = connection
            .joins
            .as_ref()
            .map_or(0, |joins| joins.pending_len());
        let is_known = connection.reader.has_subscription(&message.id);
        let joins_len = connection.reader.subscriptions_len() + pending;
        let is_full = joins_len >= self.limits.subscriptions && !is_known;
        let may_have_equals = joins_len >= self.limits.equal_subscriptions;
        let names = (&key, item.as_ref());
        let within = match pace {
            _ if !fits => Err(Limit::NameBytes),
            None => Err(Limit::Pace),
            Some(_) if is_full => Err(Limit::Subscriptions),
            Some(_) if may_have_equals && self.has_equals(id, &message.id, names) => {
                Err(Limit::EqualSubscriptions)
            }
            // What the settings say of the stream is promised to whoever runs the server.
            Some(pace) => Ok(pace.max(self.shard.pace_of(key.stream()))),
        };
        let pace = match within {
            Ok(pace) => pace,
            Err(limit) => return self.refuse_join(id, &message.id, (key, item), limit),
        };
        self.note(id, || What::Joins(named(&message.id, &key, item.as_ref())));
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let now = self.now.monotonic;
        let joins = connection.joins.get_or_insert_default();
        let names = (key.clone(), item.clone(), pace);
        if !self.hooks.joins.has(key.stream()) {
            let token = joins.begin(message.id.clone(), names, Stage::Entering, now);
            self.keep_person(id, &message.id, (&key, item.as_ref()));
            return self.send_join(id, token, key, item);
        }
        let token = joins.begin(message.id.clone(), names, Stage::Asked, now);
        let request = JoinRequest {
            worker: self.ports.id,
            connection: id,
            token,
            presence: Presence {
                subscription: message.id,
                key,
                item,
                context: connection.context.as_deref().cloned(),
            },
        };
        let request = ToEngine::Join(Box::new(request));
        self.ports.to_engine.send(request);
    }

    /// A join is beyond that limit.
    fn refuse_join(
        &mut self,
        id: SlotId,
        subscription: &str,
        (key, item): (GroupKey, Option<ItemId>),
        limit: Limit,
    ) {
        self.note_limit(id, limit, || {
            What::OverLimit(limit, named(subscription, &key, item.as_ref()))
        });
        self.tell_unauthorized(id, &key, item.as_deref());
        self.metrics().joins_refused.increment();
    }

    /// The functions' word on a join, which may come after the end of its socket.
    pub(super) fn join_decided(&mut self, request: JoinRequest, is_admitted: bool) {
        let JoinRequest {
            connection: id,
            token,
            presence,
            ..
        } = request;
        let joins = self
            .connections
            .get_mut(id)
            .and_then(|connection| connection.joins.as_mut());
        match (joins, is_admitted) {
            (Some(joins), true) => {
                let Presence {
                    subscription,
                    key,
                    item,
                    ..
                } = presence;
                joins.move_to(token, Stage::Entering);
                self.keep_person(id, &subscription, (&key, item.as_ref()));
                self.send_join(id, token, key, item);
            }
            (Some(joins), false) => {
                joins.end(token);
                self.metrics().joins_unauthorized.increment();
                let (id_of_it, key, item) = (&presence.subscription, &presence.key, &presence.item);
                self.note(id, || What::Refused(named(id_of_it, key, item.as_ref())));
                self.tell_unauthorized(id, &presence.key, presence.item.as_deref());
                self.go_on_with(id, &presence.subscription);
            }
            (None, true) => self.owe(presence),
            (None, false) => {}
        }
    }

    /// Whether the socket has as many subscriptions to the same as it may; one that takes the place of
    /// an equal one is none more.
    fn has_equals(
        &mut self,
        id: SlotId,
        subscription: &str,
        (key, item): (&GroupKey, Option<&ItemId>),
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id) else {
            return false;
        };
        let joins = connection.joins.as_ref();
        let joining = joins.map_or(0, |joins| joins.equal_len(key, item));
        let (fanout, connections) = (&self.fanout, &mut self.connections);
        let held = fanout.equal_len(id, subscription, (key, item), connections);
        joining + held >= self.limits.equal_subscriptions
    }

    /// Has the group's owner let a join in, unless the client has too much to take already.
    fn send_join(&mut self, id: SlotId, token: u32, key: GroupKey, item: Option<ItemId>) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.has_much_to_take(&self.bounds)
            && let Some(joins) = &mut connection.joins
        {
            return joins.move_to(token, Stage::Parked);
        }
        let join = Join {
            worker: self.ports.id,
            local: self.fanout.begin_join(&key),
            connection: id,
            token,
            item,
        };
        self.command(key, Ask::Join(join));
    }

    fn tell_unauthorized(&mut self, id: SlotId, key: &GroupKey, item: Option<&str>) {
        let answer = unauthorized(key, self.now.wall_ms, item);
        if let Some((reader, _)) = self.connections.parts(id) {
            reader.push_own(answer);
            self.queue_write(id);
        }
    }

    /// The owner has let a join in.
    pub(super) fn entered(
        &mut self,
        local: LocalGroupId,
        id: SlotId,
        token: u32,
        sync: Option<Arc<SyncFrame>>,
    ) {
        let Some(connection) = self.connections.get_mut(id) else {
            return self.fanout.give_up(local);
        };
        let has_much_to_take = connection.has_much_to_take(&self.bounds);
        let Some(joins) = &mut connection.joins else {
            return self.fanout.give_up(local);
        };
        if has_much_to_take {
            // Others of its joins were answered meanwhile. Kept, each answer could be of another time.
            joins.move_to(token, Stage::Parked);
            return self.fanout.give_up(local);
        }
        let Some(Pending {
            id: subscription,
            item,
            pace,
            began,
            ..
        }) = joins.end(token)
        else {
            return self.fanout.give_up(local);
        };
        self.note(id, || What::Joined(subscription.clone()));
        self.metrics().joins.increment();
        let is_home = self
            .fanout
            .key_of(local)
            .is_some_and(|key| self.ports.shared.owners.owner_of(key) == self.ports.id);
        self.metrics().joins_home.add(u64::from(is_home));
        self.metrics()
            .join
            .note(self.now.monotonic.saturating_duration_since(began));
        let entry = Entry {
            id: subscription.clone(),
            item,
            sync,
            pace,
        };
        self.fanout.enter(id, local, entry, &mut self.connections);
        self.queue_write(id);
        self.go_on_with(id, &subscription);
    }

    /// The client has taken something: a join that waited for that goes to its owner.
    pub(super) fn go_on_with_parked(&mut self, id: SlotId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.has_much_to_take(&self.bounds) {
            return;
        }
        let Some(joins) = &mut connection.joins else {
            return;
        };
        let Some(parked) = joins.first_parked() else {
            return;
        };
        let (token, key, item) = (parked.token, parked.key.clone(), parked.item.clone());
        joins.move_to(token, Stage::Entering);
        self.send_join(id, token, key, item);
    }

    /// A join of that subscription id is done: what waited behind it is served.
    fn go_on_with(&mut self, id: SlotId, subscription: &str) {
        loop {
            let joins = self
                .connections
                .get_mut(id)
                .and_then(|connection| connection.joins.as_mut());
            let Some(message) = joins.and_then(|joins| joins.next_of(subscription)) else {
                break;
            };
            self.serve(id, message, true);
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection
            .joins
            .as_ref()
            .is_some_and(|joins| joins.is_empty())
        {
            connection.joins = None;
        }
        self.queue(id); // it may have been left unread since it was full
    }
}

fn named(subscription: &str, key: &GroupKey, item: Option<&ItemId>) -> Named {
    Named {
        subscription: subscription.into(),
        key: key.clone(),
        item: item.cloned(),
    }
}
