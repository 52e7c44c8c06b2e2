//! What the log hears of subscribers, in words: each kind of refusal once a second at most.
//!
//! Decides nothing.

use std::fmt;
use std::time::Instant;

use tracing::Level;

use crate::config::Limits;
use crate::life::Because;
use crate::notes::{Notes, Shown, counted};
use crate::protocol::connection::ConnectionError;
use crate::protocol::origin::OriginRule;
use crate::protocol::pace::Pace;
use crate::subscribers::{Asked, Limit, Named, Note, What, Whom};

use super::Worker;

/// What lines name beside what happened.
pub(super) struct Words {
    limits: Limits,
    allowed_origins: String,
}

impl Words {
    pub(super) fn new(limits: &Limits, allowed: &[OriginRule]) -> Words {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        Words {
            limits: limits.clone(),
            allowed_origins: allowed.join(", "),
        }
    }
}

impl Worker {
    /// Says what has come up in this turn, and what was held back for long enough.
    pub(super) fn say(&mut self) {
        let wants_all = tracing::enabled!(Level::DEBUG);
        for note in self.subscribers.take_notes(wants_all) {
            match note {
                Note::Of(whom, what) => self.say_of(whom, what),
                Note::CallsRefused(calls) => warn(
                    &mut self.notes,
                    self.now,
                    "waiting for custom functions",
                    "",
                    format_args!(
                        "{} answered `server is overloaded`: too much waits for custom functions of their groups",
                        counted(calls as usize, "call")
                    ),
                ),
                Note::NoMember { stream, path, why } => tracing::warn!(
                    "{}: a subscription makes nobody a member, for {} {why}; this is said once a minute, and counted",
                    Shown(&stream),
                    Shown(&path)
                ),
                Note::TimeAhead(ahead_ms) => tracing::warn!(
                    "timestamps run {ahead_ms} ms ahead of the clock: it has stepped back, or one group changes more than \
                     1,000 times a second; subscribers see them rise all the same"
                ),
            }
        }
        for (limit, more) in self.subscribers.take_counts() {
            self.notes.count_more(key_of(limit), u64::from(more));
        }
        self.notes.due(self.now, |line| tracing::warn!("{line}"));
    }

    fn say_of(&mut self, whom: Whom, what: What) {
        let name = name_of(whom);
        match what {
            What::Limit(limit) | What::OverLimit(limit, _) => self.say_limit(&name, limit),
            What::Closed(error) => {
                let broken = Because::Broken(&error, "limits.message_bytes");
                match error {
                    ConnectionError::TooBig { .. } => {
                        self.warn_of(Limit::MessageBytes, format_args!("{name} {broken}"));
                    }
                    _ => tracing::debug!("{name} {broken}"),
                }
            }
            What::Page(origin) => {
                let allowed = std::mem::take(&mut self.words.allowed_origins);
                let page = Because::Page {
                    origin: &origin,
                    setting: "server.allowed_origins",
                    allowed: &allowed,
                };
                self.warn_of(Limit::Page, format_args!("{name} {page}"));
                self.words.allowed_origins = allowed;
            }
            What::Auth(why) => {
                // Without what the function itself says.
                let cause = why.split(':').next().unwrap_or_default();
                warn(
                    &mut self.notes,
                    self.now,
                    "auth_function",
                    cause,
                    format_args!(
                        "{name} is refused by {}: {}",
                        Shown(self.subscribers.auth_function()),
                        Shown(&why)
                    ),
                );
            }
            What::Connects => tracing::debug!("{name} connects"),
            What::Asks(path, outcome) => {
                let path = Shown(&path);
                match outcome {
                    Asked::In => tracing::debug!("{name} asks for {path} and is let in"),
                    Asked::Waits => {
                        tracing::debug!("{name} asks for {path} and waits for the auth function");
                    }
                    Asked::Refused(refusal) => {
                        let status = refusal.status();
                        tracing::debug!("{name} asks for {path} and is answered {status}");
                    }
                    Asked::Gone => tracing::debug!("{name} asks for {path} and has gone"),
                }
            }
            What::Joins(named) => tracing::debug!("{name} joins {}", Group(&named)),
            What::Leaves(named) => tracing::debug!("{name} leaves {}", Group(&named)),
            What::Joined(subscription) => {
                tracing::debug!("{name} has joined as {}", Shown(&subscription));
            }
            What::Refused(named) => {
                tracing::debug!("{name} is refused by a function in {}", Group(&named));
            }
            What::Silent => {
                let limits = &self.words.limits;
                let silent = Because::Silent(limits.ping_interval_ms, limits.pong_timeout_ms);
                tracing::debug!("{name} {silent}");
            }
            What::Gone => tracing::debug!("{name} is gone"),
        }
    }

    fn say_limit(&mut self, name: &str, limit: Limit) {
        let (key, limits) = (key_of(limit), &self.words.limits);
        let joined = |most: usize| format!("has a join answered `unauthorized`: {key} ({most})");
        let what = match limit {
            Limit::Connections => Because::Full(key, limits.connections).to_string(),
            Limit::Asking => format!("is answered 503: {key} wait for the auth function"),
            Limit::Heads => {
                Because::Handshakes(limits.handshakes, "has sent no whole head").to_string()
            }
            Limit::HeadBytes => Because::HeadBytes(limits.handshake_bytes).to_string(),
            Limit::HeadTime => Because::HeadTime(limits.handshake_ms).to_string(),
            Limit::Behind => format!(
                "is closed with 1013: it takes nothing, and all together hold up {key} ({})",
                limits.behind_bytes_worker
            ),
            Limit::Address => format!(
                "is answered 503: {key} ({}) are there from its address",
                limits.connections_per_address
            ),
            Limit::Memory => format!("is answered 503: more than {key} are held"),
            Limit::Stall => Because::Stalled(limits.stall_timeout_ms).to_string(),
            Limit::NameBytes => joined(limits.name_bytes),
            Limit::Subscriptions => joined(limits.subscriptions),
            Limit::EqualSubscriptions => joined(limits.equal_subscriptions),
            Limit::Pace => format!(
                "has a join answered `unauthorized`: its {key} is no whole number from 0 to {}",
                Pace::MS_MAX
            ),
            // Told with what came.
            Limit::MessageBytes | Limit::Page => return,
        };
        self.warn_of(limit, format_args!("{name} {what}"));
    }

    fn warn_of(&mut self, limit: Limit, line: fmt::Arguments<'_>) {
        warn(&mut self.notes, self.now, key_of(limit), "", line);
    }
}

/// Says it now, or later with how often.
fn warn(
    notes: &mut Notes,
    now: Instant,
    kind: &'static str,
    whose: &str,
    line: fmt::Arguments<'_>,
) {
    if let Some(line) = notes.take(now, kind, whose, line) {
        tracing::warn!("{line}");
    }
}

/// The setting that it is about.
fn key_of(limit: Limit) -> &'static str {
    match limit {
        Limit::Connections => "limits.connections",
        Limit::Asking | Limit::Heads => "limits.handshakes",
        Limit::HeadBytes => "limits.handshake_bytes",
        Limit::HeadTime => "limits.handshake_ms",
        Limit::MessageBytes => "limits.message_bytes",
        Limit::NameBytes => "limits.name_bytes",
        Limit::Subscriptions => "limits.subscriptions",
        Limit::EqualSubscriptions => "limits.equal_subscriptions",
        Limit::Pace => "pace",
        Limit::Behind => "limits.behind_bytes_worker",
        Limit::Memory => "limits.memory_bytes",
        Limit::Address => "limits.connections_per_address",
        Limit::Stall => "stall_timeout_ms",
        Limit::Page => "allowed_origins",
    }
}

fn name_of(whom: Whom) -> String {
    whom.peer.map_or_else(
        || "a subscriber that has gone".to_owned(),
        |peer| format!("subscriber {peer}"),
    )
}

/// A group, or an item there, as a line shows it.
struct Group<'a>(&'a Named);

impl fmt::Display for Group<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named { key, item, .. } = self.0;
        write!(out, "{} > {}", Shown(key.stream()), Shown(key.group()))?;
        match item {
            Some(item) => write!(out, " > {}", Shown(item)),
            None => Ok(()),
        }
    }
}
