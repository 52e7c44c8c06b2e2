//! What the log hears of subscribers: whom a limit, an origin or a function keeps out, once a second at
//! most of each kind; and, where somebody asks for it, who comes, joins, leaves and goes.
//!
//! Decides nothing. Headers, query and context are never shown: they hold tokens.

use std::fmt;

use tracing::Level;

use crate::id::{GroupKey, SlotId};
use crate::log::Shown;
use crate::protocol::handshake::{Refusal, path_of_head};
use crate::protocol::origin::origin;

use super::Worker;
use super::auth::Admission;

impl Worker {
    /// Who is at the other end, for the log.
    fn name_of(&mut self, id: SlotId) -> String {
        let connection = self.connections.get_mut(id);
        let peer = connection.and_then(|connection| connection.socket.peer());
        peer.map_or_else(
            || "a subscriber that has gone".to_owned(),
            |peer| format!("subscriber {peer}"),
        )
    }

    /// A limit keeps a subscriber, or one of its messages, out.
    pub(super) fn note_limit(&mut self, id: SlotId, limit: &'static str, what: fmt::Arguments<'_>) {
        let now = self.now.monotonic;
        if self.notes.count(now, limit, "") {
            return;
        }
        let name = self.name_of(id);
        self.notes
            .warn(now, limit, "", format_args!("{name} {what}"));
    }

    /// A request is refused before anybody was asked: by a limit, or for what it is.
    pub(super) fn note_head(&mut self, id: SlotId, head: &[u8], refusal: Refusal) {
        if refusal == Refusal::HeadTooLarge {
            let most = self.limits.handshake_bytes;
            let what = format_args!(
                "is answered 431: its request has more than limits.handshake_bytes ({most}), or too many headers"
            );
            self.note_limit(id, "limits.handshake_bytes", what);
        }
        self.debug(id, || {
            let path = path_of_head(head);
            format!(
                "asks for {} and is answered {}",
                Shown(&path),
                refusal.status()
            )
        });
    }

    /// A page of an origin that is not among those allowed.
    pub(super) fn note_page(&mut self, id: SlotId, head: &[u8]) {
        let now = self.now.monotonic;
        if self.notes.count(now, "allowed_origins", "") {
            return;
        }
        let name = self.name_of(id);
        let origin = origin(head).unwrap_or_default();
        let allowed: Vec<String> = self
            .allowed_origins
            .iter()
            .map(ToString::to_string)
            .collect();
        self.notes.warn(
            now,
            "allowed_origins",
            "",
            format_args!(
                "{name} is answered 403: its page is of {}, server.allowed_origins has {}",
                Shown(&origin),
                allowed.join(", ")
            ),
        );
    }

    pub(super) fn note_refused_by_auth(&mut self, id: SlotId, reason: &str) {
        let name = self.name_of(id);
        let function = self.auth.as_ref().map_or("", |auth| &auth.function);
        // Without what the function itself says.
        let cause = reason.split(':').next().unwrap_or_default();
        self.notes.warn(
            self.now.monotonic,
            "auth_function",
            cause,
            format_args!(
                "{name} is refused by {}: {}",
                Shown(function),
                Shown(reason)
            ),
        );
    }

    /// A line about a subscriber for who has asked for such; `what` is made for nobody else.
    pub(super) fn debug(&mut self, id: SlotId, what: impl FnOnce() -> String) {
        if tracing::enabled!(Level::DEBUG) {
            let name = self.name_of(id);
            tracing::debug!("{name} {}", what());
        }
    }
}

/// What an upgrade asked for, and what became of it.
pub(super) fn upgrade_line(head: &[u8], admission: &Admission) -> String {
    let path = path_of_head(head);
    let outcome = match admission {
        Admission::Open => "is let in".to_owned(),
        Admission::Asked => "waits for the auth function".to_owned(),
        Admission::Refused(refusal) => format!("is answered {}", refusal.status()),
        Admission::Gone => "has gone".to_owned(),
    };
    format!("asks for {} and {outcome}", Shown(&path))
}

/// What a subscriber does in a group, or of an item there.
pub(super) fn group_line(does: &str, key: &GroupKey, item: Option<&str>) -> String {
    let (stream, group) = (Shown(key.stream()), Shown(key.group()));
    match item {
        Some(item) => format!("{does} {stream} > {group} > {}", Shown(item)),
        None => format!("{does} {stream} > {group}"),
    }
}
