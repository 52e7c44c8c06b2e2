//! What the shard asks for is carried out: requests to the store, replies and calls to the engine thread,
//! frames to the workers that follow a group, itself among them.
//!
//! In the order of the effects. May not know what a command asks for.

use std::sync::Arc;
use std::time::Instant;

use crate::id::{GroupKey, ItemId, LocalGroupId};
use crate::mesh::{ToEngine, ToOwner, ToStore, ToWorker};
use crate::shard::{Ask, Command, Delivered, Request};

use super::{FRESH, Note, Socket, Subscribers};

impl<S: Socket> Subscribers<S> {
    /// What the shard asks of a store that answers in the same turn; `None`: nothing more.
    pub fn take_requests(&mut self) -> Option<Vec<Request>> {
        let requests = std::mem::take(&mut self.effects.requests);
        (!requests.is_empty()).then_some(requests)
    }

    /// Carries out what the shard asks for, whole, before the next wait.
    pub fn perform(&mut self) {
        if let Some(outbox) = &mut self.ports.to_store
            && !self.effects.requests.is_empty()
        {
            let requests = std::mem::take(&mut self.effects.requests);
            self.measures.asked(&requests, self.now.monotonic);
            outbox.send(ToStore::Requests(requests));
        }
        self.has_replied = !self.effects.replies.is_empty();
        for reply in self.effects.replies.drain(..) {
            self.ports.to_engine.send(ToEngine::Reply(reply));
        }
        // Behind the replies, also those that have found no room.
        for fired in self.effects.fired.drain(..) {
            match self.ports.to_engine.has_backlog() {
                true => self.ports.to_fired.keep(fired),
                false => self.ports.to_fired.send(fired),
            }
        }
        for call in self.effects.custom.drain(..) {
            self.ports.to_engine.send(ToEngine::Custom(call));
        }
        let deliveries = std::mem::take(&mut self.effects.deliveries);
        let mut events_sent = 0;
        for delivery in deliveries {
            if delivery.to == self.ports.id {
                self.deliver(delivery.local, delivery.what, self.now.monotonic);
            } else if let Some(outbox) = self.ports.to_open.get_mut(delivery.to.index()) {
                events_sent += u64::from(matches!(delivery.what, Delivered::Event(_)));
                outbox.send(ToWorker::Delivery(delivery, self.now.monotonic));
            }
        }
        self.metrics().events_sent.add(events_sent);
        let refused = self.shard.take_refused();
        if refused > 0 {
            self.metrics().commands_refused.add(refused);
            self.notes.push(Note::CallsRefused(refused));
        }
        let starved = self.shard.take_out_of_memory();
        self.metrics().calls_out_of_memory.add(starved);
        let expired = self.shard.take_expired();
        self.metrics().items_expired.add(expired);
        let refused = std::mem::take(&mut self.effects.members_refused);
        self.metrics().members_refused.add(refused);
        let ahead_ms = self.shard.take_ahead_ms();
        if ahead_ms > 0 {
            self.note_time_ahead(ahead_ms);
        }
    }

    /// `due`: when the owner let it go.
    pub(super) fn deliver(&mut self, local: LocalGroupId, what: Delivered, due: Instant) {
        match what {
            Delivered::Event(frame) => {
                self.fanout.events_are_of(self.measures.micros(due));
                self.fanout.append(local, frame);
            }
            Delivered::Afresh(snapshot) => {
                let sync_of = move |item: Option<&ItemId>| snapshot.sync_of(item);
                self.fanout.begin_afresh(local, Arc::new(sync_of));
            }
            Delivered::Entered {
                token: FRESH, sync, ..
            } => self.fanout.refreshed(local, sync, &mut self.connections),
            Delivered::Entered {
                connection,
                token,
                sync,
            } => self.entered(local, connection, token, sync),
        }
    }

    /// Sends a command to the owner of its group.
    pub(super) fn command(&mut self, key: GroupKey, ask: Ask) {
        let owner = self.ports.shared.owners.owner_of(&key);
        let command = Command::Group { key, ask };
        if owner == self.ports.id {
            self.own_commands.push_back(command);
        } else if let Some(outbox) = self.ports.to_commands.get_mut(owner.index()) {
            outbox.send(ToOwner::Command(command));
        }
    }

    /// Sends what waits, and wakes whoever got something.
    pub fn flush(&mut self) {
        self.ports.to_engine.flush();
        if !self.ports.to_engine.has_backlog() {
            self.ports.to_fired.flush();
        }
        if let Some(outbox) = &mut self.ports.to_store {
            outbox.flush();
        }
        for outbox in &mut self.ports.to_open {
            outbox.flush();
        }
        for outbox in &mut self.ports.to_commands {
            outbox.flush();
        }
    }

    fn note_time_ahead(&mut self, ahead_ms: u64) {
        self.metrics().time_ahead_ms.raise_to(ahead_ms);
        if ahead_ms >= 1000 && !self.said_ahead {
            self.said_ahead = true;
            self.notes.push(Note::TimeAhead(ahead_ms));
        }
    }
}
