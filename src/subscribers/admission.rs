//! The last checks of an upgrade: how many sockets there are, the page's origin, the auth function.
//!
//! May not ask the function nor judge what it said: the engine thread does. Headers, query and context
//! are never logged: they hold tokens.

use core::net::SocketAddr; // an address is data

use crate::id::SlotId;
use crate::life::Sockets as _;
use crate::mesh::{AuthRequest, AuthVerdict, ToEngine};
use crate::protocol::auth::subscriber_payload;
use crate::protocol::connection;
use crate::protocol::handshake::{Refusal, Upgrade};

use super::Subscribers;
use super::connections::{Asking, Phase, Socket};
use super::notes::{Asked, Limit, What};

/// What becomes of an upgrade that is correct.
pub(super) enum Admission {
    Open,
    /// The auth function's word is waited for.
    Asked,
    Refused(Refusal),
    /// The peer has ended it.
    Gone,
}

impl Admission {
    /// The same for the log.
    pub(super) fn told(&self) -> Asked {
        match self {
            Admission::Open => Asked::In,
            Admission::Asked => Asked::Waits,
            Admission::Refused(refusal) => Asked::Refused(*refusal),
            Admission::Gone => Asked::Gone,
        }
    }
}

/// Why there is no word of the auth function.
pub(super) enum Failure {
    /// The engine thread could not ask it, or it did not answer: why.
    Unavailable(Box<str>),
    /// The mailbox of the engine thread is full.
    Unasked,
    /// No word came within `limits.handshake_ms`.
    Overdue,
}

impl<S: Socket> Subscribers<S> {
    /// What becomes of an upgrade whose head is in order.
    pub(super) fn admit(&mut self, id: SlotId, head: &[u8], origin: Option<&str>) -> Admission {
        self.find_client(id, head);
        if !self.is_from_allowed_page(origin) {
            self.metrics().origins_refused.increment();
            self.note_limit(id, Limit::Page, || {
                What::Page(origin.unwrap_or_default().into())
            });
            return Admission::Refused(Refusal::Forbidden);
        }
        if self.ports.shared.memory.is_full() {
            self.metrics().connections_refused.increment();
            self.note_limit(id, Limit::Memory, || What::Limit(Limit::Memory));
            return Admission::Refused(Refusal::OutOfMemory);
        }
        if !self.count_address(id) {
            self.metrics().connections_refused.increment();
            self.note_limit(id, Limit::Address, || What::Limit(Limit::Address));
            return Admission::Refused(Refusal::AddressBusy);
        }
        if !self.count_in(id) {
            self.metrics().connections_refused.increment();
            self.note_limit(id, Limit::Connections, || What::Limit(Limit::Connections));
            return Admission::Refused(Refusal::Busy);
        }
        if self.auth.is_some() && self.half_open.has_enough_asking() {
            self.metrics().connections_refused.increment();
            self.note_limit(id, Limit::Asking, || What::Limit(Limit::Asking));
            return Admission::Refused(Refusal::AuthBusy);
        }
        let Some(auth) = &self.auth else {
            return Admission::Open;
        };
        let admits_failures = auth.admits_failures;
        let Some(client) = self.client(id) else {
            return Admission::Gone;
        };
        let request = ToEngine::Auth(AuthRequest {
            worker: self.ports.id,
            connection: id,
            input: subscriber_payload(head, client).into(),
        });
        if self.ports.to_engine.try_send(request).is_ok() {
            return Admission::Asked;
        }
        if admits_failures {
            return Admission::Open;
        }
        self.note_failure(id, Failure::Unasked);
        Admission::Refused(Refusal::AuthUnavailable)
    }

    /// Keeps where the client is, if it comes through a proxy whose word counts.
    fn find_client(&mut self, id: SlotId, head: &[u8]) {
        if self.proxies.0.is_empty() {
            return;
        }
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let Some(peer) = connection.socket.peer() else {
            return;
        };
        let seen = connection.phase.client().unwrap_or(peer);
        let client = self.proxies.client(head, seen);
        if client != peer {
            self.proxied.insert(id, client);
        }
    }

    /// Where the client is; `None`: it is gone.
    pub(super) fn client(&mut self, id: SlotId) -> Option<SocketAddr> {
        if let Some(client) = self.proxied.get(&id) {
            return Some(*client);
        }
        self.connections.get_mut(id)?.socket.peer()
    }

    /// Counts the socket among those of its address, if that is bounded and there is room for one more.
    fn count_address(&mut self, id: SlotId) -> bool {
        let most = self.limits.connections_per_address;
        if most == 0 {
            return true;
        }
        let Some(client) = self.client(id) else {
            return true; // it is gone, which shows soon
        };
        let counted = self.ports.shared.addresses.count(client.ip(), most);
        self.addresses.extend(counted.map(|counted| (id, counted)));
        counted.is_some()
    }

    /// Counts the socket among those that are let in, if there is room for one more.
    fn count_in(&mut self, id: SlotId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else {
            return false;
        };
        let has_room = self.ports.shared.count_let_in(self.limits.connections);
        connection.is_let_in = has_room;
        has_room
    }

    /// Keeps an upgrade, and what came behind it, for the auth function's word.
    pub(super) fn wait_for_auth(
        &mut self,
        id: SlotId,
        upgrade: Upgrade,
        (head_len, frames): (usize, &[u8]),
    ) {
        if let Some(connection) = self.connections.get_mut(id) {
            if connection.turn.unread.has_end() {
                // The poll has told of the end together with the head, and tells it once.
                return self.ended(id);
            }
            let asking = Asking {
                upgrade,
                frames: frames.to_vec(),
                counted_bytes: head_len + frames.len(), // the engine has the head
            };
            self.change_phase(id, Phase::Waits(Box::new(asking)));
        }
    }

    /// The auth function's word on an upgrade, if anybody still waits for it.
    pub(super) fn authenticated(&mut self, id: SlotId, verdict: AuthVerdict) {
        let connection = self.connections.get_mut(id);
        let Some(connection) = connection.filter(|connection| connection.is_asking()) else {
            return;
        };
        match verdict {
            AuthVerdict::Admitted(context) => {
                connection.context = context.map(Box::new);
                self.let_in(id);
            }
            AuthVerdict::Unauthorized(why) => {
                self.metrics().auth_unauthorized.increment();
                self.note_refused_by_auth(id, why);
                self.refuse(id, Refusal::Unauthorized);
            }
            AuthVerdict::Unavailable(why) => {
                self.note_failure(id, Failure::Unavailable(why));
                self.refuse(id, Refusal::AuthUnavailable);
            }
        }
    }

    /// There will be no word on an upgrade that waits for one.
    pub(super) fn auth_fails(&mut self, id: SlotId, failure: Failure) {
        if self.auth.as_ref().is_some_and(|auth| auth.admits_failures) {
            return self.let_in(id);
        }
        self.note_failure(id, failure);
        self.refuse(id, Refusal::AuthUnavailable);
    }

    /// An upgrade that waited becomes a WebSocket.
    fn let_in(&mut self, id: SlotId) {
        let connection = self.connections.get_mut(id);
        if !connection.is_some_and(|connection| connection.is_asking()) {
            return;
        }
        // `Closing` stands in its place until `open` has put the next one there.
        let Some(Phase::Waits(asking)) = self.change_phase(id, Phase::Closing) else {
            return;
        };
        let Asking {
            upgrade, frames, ..
        } = *asking;
        self.open(id, &upgrade, connection::Connection::before(frames));
        self.queue(id); // it was left unread
    }

    fn is_from_allowed_page(&self, origin: Option<&str>) -> bool {
        let mut rules = self.allowed_origins.iter();
        self.allowed_origins.is_empty()
            || origin.is_none_or(|origin| rules.any(|rule| rule.matches(origin)))
    }

    fn note_failure(&mut self, id: SlotId, failure: Failure) {
        let metrics = self.metrics();
        let (counter, reason) = match failure {
            Failure::Unavailable(why) => (&metrics.auth_unavailable, why),
            Failure::Unasked => (
                &metrics.auth_unasked,
                "the engine has too much to do to ask it".into(),
            ),
            Failure::Overdue => (
                &metrics.auth_overdue,
                "it has not answered within limits.handshake_ms".into(),
            ),
        };
        counter.increment();
        self.note_refused_by_auth(id, reason);
    }
}
