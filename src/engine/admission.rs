//! Who may connect to the worker port: the pages of browsers on a listener without rules, and whom the
//! auth function of a listener with rules lets in.
//!
//! While that function is asked the socket is left unread: the 101 is sent, and nothing else.

use std::sync::Arc;

use uuid::Uuid;

use crate::id::SlotId;
use crate::log::Shown;
use crate::protocol::answer::{self, Outgoing};
use crate::protocol::auth::worker_payload;
use crate::protocol::connection::{Connection, close_frame, text_header};
use crate::protocol::handshake::{Port, Refusal, Target, Upgrade, path_of_head};
use crate::protocol::origin::is_loopback;
use crate::protocol::rbac::{Access, Grant, write_auth_error};

use super::Engine;
use super::calls::{Answered, Awaits};
use super::peers::{Peer, Phase};
use super::reattach::new_token;

impl Engine {
    /// The head of a request is in order. `bytes`: all that has come, the head first.
    pub(super) fn upgrade(&mut self, id: SlotId, upgrade: &Upgrade, mut bytes: Vec<u8>) {
        let early = bytes.split_off(upgrade.consumed);
        let head = bytes;
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let rules = self.listeners.rules_of(peer.listener).cloned();
        let origin = upgrade.origin.as_deref();
        if rules.is_none() && !self.may_connect_from(origin) {
            return self.refuse_page(id, origin.unwrap_or_default());
        }
        if !self.peers.has_room(self.limits.worker_connections) {
            return self.refuse_one_too_many(id);
        }
        self.debug(id, || {
            format!("asks for {} and is upgraded", Shown(&path_of_head(&head)))
        });
        let accepted = upgrade.accepted(self.now.wall);
        self.peers.send_raw(id, &accepted);
        let is_telemetry = upgrade.target == Target::Telemetry;
        match rules {
            None => self.open(id, is_telemetry, Access::unlimited(), early),
            Some(rules) => match &rules.auth_function {
                Some(function_id) => {
                    let admission = Phase::Admission {
                        early,
                        is_telemetry,
                    };
                    self.ask_for_admission(id, function_id, &head, admission);
                }
                None => {
                    let access = Access::limited(Grant::unasked(), Arc::clone(&rules.exposed));
                    self.open(id, is_telemetry, access, early);
                }
            },
        }
    }

    /// Requests without `Origin` are no browser's.
    fn may_connect_from(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| {
            is_loopback(origin) || self.origins.iter().any(|rule| rule.matches(origin))
        })
    }

    fn refuse_page(&mut self, id: SlotId, origin: &str) {
        self.metrics().origins_refused.increment();
        self.note_page(id, origin);
        self.refuse(id, &Refusal::Forbidden);
    }

    fn refuse_one_too_many(&mut self, id: SlotId) {
        self.metrics().connections_refused.increment();
        let open = self.limits.worker_connections;
        let what = format_args!("is answered 503: limits.worker_connections ({open}) are there");
        self.warn_of(id, "limits.worker_connections", "", what);
        self.refuse(id, &Refusal::Busy);
    }

    fn refuse(&mut self, id: SlotId, refusal: &Refusal) {
        let answer = refusal.response(Port::Worker, self.now.wall);
        self.close_with(id, &answer);
    }

    fn ask_for_admission(&mut self, id: SlotId, function_id: &str, head: &[u8], admission: Phase) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.phase = admission;
        self.peers.count(id);
        self.end_oldest_waiting();
        let Some(peer) = self.peers.get(id) else {
            return;
        };
        let ip = peer.ip.map(|ip| ip.to_string()).unwrap_or_default();
        let payload = worker_payload(head, ip);
        self.ask(&Outgoing::own(function_id, &payload), Awaits::Admission(id));
    }

    /// Too many wait to be let in, or what has come from them is too much: the oldest go.
    pub(super) fn end_oldest_waiting(&mut self) {
        let (len_max, bytes_max) = (self.limits.handshakes, self.limits.handshakes_bytes);
        let is_over = |(len, bytes)| len > len_max || bytes > bytes_max;
        while is_over(self.peers.waiting())
            && let Some(id) = self.handshakes.pop()
        {
            if self.peers.get(id).is_some_and(Peer::is_waiting) {
                self.metrics().connections_refused.increment();
                let what = format_args!(
                    "is closed: limits.handshakes ({len_max}) have come since, and it is not let in"
                );
                self.warn_of(id, "limits.handshakes", "", what);
                self.end(id);
            }
        }
    }

    /// What has come of the auth function.
    pub(super) fn admission_heard(
        &mut self,
        id: SlotId,
        function_id: &str,
        answered: Answered<'_>,
    ) {
        let grant = match answered {
            Answered::Result(result) => Grant::read(result),
            failed => Err(failed
                .error(function_id)
                .map(|error| error.message)
                .unwrap_or_default()),
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return; // it has given up
        };
        let listener = peer.listener;
        let Phase::Admission {
            early,
            is_telemetry,
        } = &mut peer.phase
        else {
            return;
        };
        let (early, is_telemetry) = (std::mem::take(early), *is_telemetry);
        match grant {
            Ok(grant) => {
                let rules = self.listeners.rules_of(listener);
                let exposed = rules.map(|rules| Arc::clone(&rules.exposed));
                let access = Access::limited(grant, exposed.unwrap_or_default());
                self.open(id, is_telemetry, access, early);
            }
            Err(message) => {
                let what =
                    format_args!("is refused by {}: {}", Shown(function_id), Shown(&message));
                self.warn_of(id, "auth_function_id", function_id, what);
                self.close_with(id, &refused(&message));
            }
        }
    }

    /// From here on the peer is served, `early` first: what came behind its head.
    fn open(&mut self, id: SlotId, is_telemetry: bool, access: Access, early: Vec<u8>) {
        if !self.peers.count_in(id, self.limits.worker_connections) {
            self.metrics().connections_refused.increment();
            return self.close_with(id, &close_frame(Some(1013), "too many are open"));
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let worker_id = Uuid::new_v4();
        let connection = Connection::before(early);
        peer.worker_id = worker_id;
        peer.access = Arc::new(access);
        peer.phase = match is_telemetry {
            true => Phase::Telemetry(connection),
            false => Phase::Work(connection),
        };
        if !is_telemetry {
            let token = new_token();
            peer.reattach_token = Some(token.as_str().into());
            self.peers.send(id, |out| {
                answer::worker_registered(out, &worker_id, &token);
            });
            self.debug(id, || "is let in".to_owned());
            self.worker_has_come(id);
        }
        self.peers.count(id);
        self.queue(id);
    }
}

/// The last words to a worker that is not let in: a message, and a close frame without a code.
fn refused(message: &str) -> Vec<u8> {
    let mut text = Vec::new();
    write_auth_error(&mut text, message);
    let (header, header_len) = text_header(text.len());
    let close = close_frame(None, "");
    [&header[..header_len], &text, &close].concat()
}
