//! What the log hears of SDK workers: what of theirs fails or is refused, once a second at most of each
//! kind and function; and, where somebody asks for it, who comes, registers and goes.
//!
//! Decides nothing. Headers and queries are never shown: they hold tokens.

use std::fmt;

use crate::id::SlotId;
use crate::notes::Shown;
use crate::protocol::call::{ErrorBody, TriggerRegistration};

use crate::broker::awaits::{Answered, Handler};
use crate::broker::caller::is_operator;
use crate::broker::lines::{Level, Line};
use crate::broker::turn::Turn;
use crate::protocol::function::OVERLOADED;

/// An error that a limit of ours brings about names it at its beginning.
const LIMIT_WITHIN_BYTES: usize = 200;

/// Trigger types of other parts of an engine, and whose they are.
const TYPES_OF_OTHERS: [(&str, &str); 6] = [
    ("http", "http"),
    ("cron", "cron"),
    ("state", "state"),
    ("queue", "queue"),
    ("durable:subscriber", "queue"),
    ("configuration", "configuration"),
];

impl Turn {
    /// The other end of that socket.
    pub fn name_of(&self, id: SlotId) -> String {
        if is_operator(id) {
            return "an operator".to_owned();
        }
        if let Some(attached_to) = &self.attached_to {
            return format!("the engine at {}", attached_to.known_as.shown);
        }
        let Some(peer) = self.members.get(id) else {
            return "an SDK worker that has gone".to_owned();
        };
        let ip = peer.ip.map(|ip| ip.to_string()).unwrap_or_default();
        match (peer.profile.name(), peer.connected_at_ms) {
            (Some(name), _) => {
                let runtime = Shown(peer.profile.runtime());
                format!("SDK worker {} ({runtime}, {ip})", Shown(name))
            }
            (None, Some(_)) => format!("SDK worker {} ({ip})", peer.worker_id),
            (None, None) => format!("a socket from {ip}"),
        }
    }

    /// A warning about what an SDK worker does.
    pub fn warn(&mut self, id: SlotId, what: &str) {
        self.warn_of(id, "SDK worker", "", format_args!("{}", Shown(what)));
    }

    /// The same of a kind of its own, for each of `whose`.
    pub fn warn_of(
        &mut self,
        id: SlotId,
        kind: &'static str,
        whose: &str,
        what: fmt::Arguments<'_>,
    ) {
        let now = self.now.monotonic;
        if self.lines.count(now, kind, whose) {
            return;
        }
        let name = self.name_of(id);
        self.lines
            .warn(now, kind, whose, format_args!("{name}: {what}"));
    }

    /// Counts and logs a message that cannot be read; nobody is answered.
    pub fn drop_message(&mut self, id: SlotId, why: &dyn fmt::Display) {
        self.metrics().messages_dropped.increment();
        let why = why.to_string();
        let what = format_args!("a message is dropped: {}", Shown(&why));
        self.warn_of(id, "message", "", what);
    }

    /// A call that nobody waits for fails: else nothing would be seen of it anywhere. `id`: the socket that
    /// it came from; none for a trigger's.
    pub(in crate::broker) fn warn_of_void(
        &mut self,
        id: Option<SlotId>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        let (code, message) = (&error.code, &error.message);
        match id {
            Some(id) => {
                let (name, code, message) = (Shown(function_id), Shown(code), Shown(message));
                let what = format_args!(
                    "its call of {name}, which waits for no answer, fails: {code}: {message}"
                );
                self.warn_of(id, "void call", function_id, what);
            }
            None => self.warn_of_handler(function_id, error),
        }
    }

    /// The same of a function that the server called for itself, if it has failed.
    pub(in crate::broker) fn log_failure(&mut self, function_id: &str, answered: Answered<'_>) {
        if let Some(error) = answered.error(function_id) {
            self.warn_of_handler(function_id, &error);
        }
    }

    /// A trigger calls what its worker may not call.
    pub(in crate::broker) fn warn_of_trigger(&mut self, handler: &Handler, function_id: &str) {
        if let Some(owner) = handler.on_behalf {
            let what = format_args!(
                "a trigger of it calls {}, which it may not: not called",
                Shown(function_id)
            );
            self.warn_of(owner, "trigger that may not call", function_id, what);
        }
    }

    /// A trigger's call is dropped, for too much waits for its callee.
    pub(in crate::broker) fn drop_handler_call(&mut self, callee: SlotId, function_id: &str) {
        self.metrics().trigger_calls_dropped.increment();
        let now = self.now.monotonic;
        let peer = self.members.get_mut(callee);
        let Some(passed_over) = peer.and_then(|peer| peer.drops.ask(now)) else {
            return;
        };
        let (name, drops) = (self.name_of(callee), passed_over + 1);
        let limit = self.limits.call_queue_bytes;
        self.lines.say(
            Level::Warn,
            format!(
                "{name} reads too slowly: more than {limit} bytes wait for it \
                 (limits.call_queue_bytes), so {drops} trigger calls were dropped, the last of {}",
                Shown(function_id)
            ),
        );
    }

    /// A function that the server called for itself has failed.
    pub(in crate::broker) fn warn_of_handler(&mut self, function_id: &str, error: &ErrorBody) {
        let (code, message) = (Shown(&error.code), Shown(&error.message));
        let what = format_args!("function {} failed: {code}: {message}", Shown(function_id));
        self.lines
            .warn(self.now.monotonic, "function", function_id, what);
    }

    /// A registration of a trigger that comes to nothing.
    pub(in crate::broker) fn warn_of_trigger_refused(
        &mut self,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
        error: &ErrorBody,
    ) {
        let of_type = &*asked.trigger_type;
        let hint = self.hint_at_part(of_type);
        let (of_type, function) = (Shown(of_type), Shown(&asked.function_id));
        let (trigger, why) = (Shown(&asked.id), Shown(&error.message));
        let what = format_args!(
            "its trigger of type {of_type} for function {function} is refused: {why}{hint} (trigger {trigger})"
        );
        self.warn_of(id, "trigger", &asked.function_id, what);
    }

    /// A trigger that does nothing, for nobody serves its type yet.
    pub(in crate::broker) fn warn_of_early_trigger(
        &mut self,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
    ) {
        let of_type = &*asked.trigger_type;
        let hint = self.hint_at_part(of_type);
        let (shown, function) = (Shown(of_type), Shown(&asked.function_id));
        let what = format_args!(
            "its trigger of type {shown} for function {function} waits until a worker serves that type{hint} \
             (trigger {})",
            Shown(&asked.id)
        );
        self.warn_of(id, "early trigger", of_type, what);
    }

    /// Of which part of an engine that type is, if it is one that this server has not.
    fn hint_at_part(&self, trigger_type: &str) -> String {
        let mut others = TYPES_OF_OTHERS.iter();
        match others.find(|(other, _)| *other == trigger_type) {
            Some((_, part)) if self.attached_to.is_none() => format!(
                "; the {part} worker is not part of this server: run it beside an engine (--engine)"
            ),
            _ => String::new(),
        }
    }

    /// A caller gets an error. One that a limit brings about is told. `may_wait`: there are fewer calls
    /// under way than may be.
    pub(in crate::broker) fn note_refusal(
        &mut self,
        id: SlotId,
        function_id: &str,
        error: &ErrorBody,
        may_wait: bool,
    ) {
        let begins = error.message.floor_char_boundary(LIMIT_WITHIN_BYTES);
        let begins = &error.message[..begins];
        if begins.ends_with(OVERLOADED) {
            let limit = match may_wait {
                true => "limits.call_queue_bytes",
                false => "limits.calls_in_flight",
            };
            let what = format_args!(
                "its call of {} is answered `{OVERLOADED}`: {limit}",
                Shown(function_id)
            );
            return self.warn_of(id, limit, "", what);
        }
        let Some(limit) = limit_in(begins) else {
            return;
        };
        let limit = limit.to_owned();
        let message = Shown(&error.message);
        let what = format_args!("its call of {} is refused: {message}", Shown(function_id));
        self.warn_of(id, "call", &limit, what);
    }

    /// What the log is to hear now.
    pub fn take_lines(&mut self) -> Vec<Line> {
        self.lines.take_due(self.now.monotonic)
    }

    /// What it is to hear at the end: nothing is held back any longer.
    pub fn take_last_lines(&mut self) -> Vec<Line> {
        self.lines.take_all()
    }

    /// A line about a socket for who has asked for such; `what` is made for nobody else.
    pub fn debug(&mut self, id: SlotId, what: impl FnOnce() -> String) {
        if self.lines.shows_debug {
            let line = format!("{} {}", self.name_of(id), what());
            self.lines.say(Level::Debug, line);
        }
    }
}

/// The name in `limits.NAME exceeded: …`.
fn limit_in(message: &str) -> Option<&str> {
    let start = message.find("limits.")?;
    let (name, _) = message[start..].split_once(" exceeded: ")?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_');
    name.bytes().all(is_name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_refuses_is_found() {
        let message = "Failed to set value: limits.value_bytes exceeded: 5 > 4";
        assert_eq!(limit_in(message), Some("limits.value_bytes"));
        for message in ["", "limits.", "limits.x", "limits.a b exceeded: 1"] {
            assert_eq!(limit_in(message), None);
        }
    }
}
