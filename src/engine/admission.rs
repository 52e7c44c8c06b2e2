//! Who may connect to the worker port: the pages of browsers on a listener without rules, and whom the
//! auth function of a listener with rules lets in.
//!
//! While that function is asked the socket is left unread: the 101 is sent, and nothing else. Asking it,
//! and what its answer means, is the broker's.

use std::sync::Arc;

use crate::id::SlotId;
use crate::life::{Because, Sockets as _};
use crate::notes::Shown;
use crate::protocol::connection::{Connection, close_frame};
use crate::protocol::handshake::{Refusal, Target, Upgrade, path_of_head};
use crate::protocol::origin::is_loopback;
use crate::protocol::rbac::{Access, Grant};

use super::Engine;
use super::peers::{Peer, Phase, Waits};

impl Engine {
    /// The head of a request is in order. `early`: what has come behind it.
    pub(super) fn upgrade(&mut self, id: SlotId, upgrade: &Upgrade, head: &[u8], early: &[u8]) {
        let early = early.to_vec();
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let rules = self.broker.rules_of(peer.listener).cloned();
        self.find_client(id, head);
        let origin = upgrade.origin.as_deref();
        if rules.is_none() && !self.may_connect_from(origin) {
            return self.refuse_page(id, origin.unwrap_or_default());
        }
        if !self
            .peers
            .has_room(self.broker.turn.limits.worker_connections)
        {
            return self.refuse_one_too_many(id);
        }
        self.broker.turn.debug(id, || {
            format!("asks for {} and is upgraded", Shown(&path_of_head(head)))
        });
        let accepted = upgrade.accepted(self.now().wall);
        self.broker.turn.members.send_raw(id, &accepted);
        let is_telemetry = upgrade.target == Target::Telemetry;
        match rules {
            None => self.open(id, is_telemetry, Access::unlimited(), early),
            Some(rules) => match &rules.auth_function {
                Some(function_id) => {
                    let admission = Waits::Admission {
                        early,
                        is_telemetry,
                    };
                    self.ask_for_admission(id, function_id, head, admission);
                }
                None => {
                    let access = Access::limited(Grant::unasked(), Arc::clone(&rules.exposed));
                    self.open(id, is_telemetry, access, early);
                }
            },
        }
    }

    /// Tells the broker where the client is, if it comes through a proxy whose word counts.
    fn find_client(&mut self, id: SlotId, head: &[u8]) {
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        if let Some(address) = peer.socket.peer() {
            let seen = peer.phase.client().unwrap_or(address);
            let client = self.proxies.client(head, seen);
            if client != address {
                self.broker.turn.members.come_from(id, client.ip());
            }
        }
    }

    /// Requests without `Origin` are no browser's.
    fn may_connect_from(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| {
            is_loopback(origin) || self.origins.iter().any(|rule| rule.matches(origin))
        })
    }

    fn refuse_page(&mut self, id: SlotId, origin: &str) {
        self.broker.turn.metrics().origins_refused.increment();
        self.note_page(id, origin);
        self.refuse(id, Refusal::Forbidden);
    }

    fn refuse_one_too_many(&mut self, id: SlotId) {
        self.broker.turn.metrics().connections_refused.increment();
        let open = self.broker.turn.limits.worker_connections;
        let full = Because::Full("limits.worker_connections", open);
        self.warn_because(id, "limits.worker_connections", &full);
        self.refuse(id, Refusal::Busy);
    }

    fn ask_for_admission(&mut self, id: SlotId, function_id: &str, head: &[u8], admission: Waits) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.phase = Phase::Waits(Box::new(admission));
        self.peers.count(id);
        self.end_oldest_waiting();
        if self.peers.get(id).is_some() {
            self.broker.ask_for_admission(id, function_id, head);
        }
    }

    /// Too many wait to be let in, or what has come from them is too much: the oldest go.
    pub(super) fn end_oldest_waiting(&mut self) {
        let (len_max, bytes_max) = (
            self.broker.turn.limits.handshakes,
            self.broker.turn.limits.handshakes_bytes,
        );
        let is_over = |(len, bytes)| len > len_max || bytes > bytes_max;
        while is_over(self.peers.waiting())
            && let Some(id) = self.schedule.handshakes.pop()
        {
            if self.peers.get(id).is_some_and(Peer::is_waiting) {
                self.broker.turn.metrics().connections_refused.increment();
                let too_many = Because::Handshakes(len_max, "is not let in");
                self.warn_because(id, "limits.handshakes", &too_many);
                self.end(id);
            }
        }
    }

    /// A page of an origin that is not among those allowed.
    fn note_page(&mut self, id: SlotId, origin: &str) {
        let allowed: Vec<String> = self.origins.iter().map(ToString::to_string).collect();
        let allowed = match allowed.is_empty() {
            true => "none, so that only loopback pages may".to_owned(),
            false => allowed.join(", "),
        };
        let page = Because::Page {
            origin,
            setting: "server.worker_origins",
            allowed: &allowed,
        };
        self.warn_because(id, "worker_origins", &page);
    }

    /// The auth function lets it in.
    pub(super) fn admit(&mut self, id: SlotId, access: Access) {
        let Some(peer) = self.peers.get_mut(id) else {
            return; // it has given up
        };
        if let Phase::Waits(waits) = &mut peer.phase
            && let Waits::Admission {
                early,
                is_telemetry,
            } = &mut **waits
        {
            let (early, is_telemetry) = (std::mem::take(early), *is_telemetry);
            self.open(id, is_telemetry, access, early);
        }
    }

    /// From here on the peer is served, `early` first: what came behind its head.
    fn open(&mut self, id: SlotId, is_telemetry: bool, access: Access, early: Vec<u8>) {
        if !self
            .peers
            .count_in(id, self.broker.turn.limits.worker_connections)
        {
            self.broker.turn.metrics().connections_refused.increment();
            return self.close_with(id, close_frame(Some(1013), "too many are open"));
        }
        if let Some(peer) = self.peers.get_mut(id) {
            peer.phase = Phase::Open(Connection::before(early));
            peer.is_telemetry = is_telemetry;
            self.schedule.silence.enter(id.slot);
        }
        self.broker.open(id, is_telemetry, access);
        self.peers.count(id);
        self.queue(id);
    }
}
