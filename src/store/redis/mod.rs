//! `redis`: groups as hashes of a Redis that several hosts share, with reference engines among them if
//! need be.
//!
//! ```text
//! scripts    what runs in Redis: value, index, time and event in one step
//! message    what goes over the channel, written in pieces, read at a glance or whole
//! names      which groups there are, and whose a key is
//! answers    what Redis says, as values of ours
//! refusals   what callers read when it fails
//! wire       one connection: bytes and answers
//! link       both connections: up, down, up again
//! setup      what is said on them before the first call
//! calls      who waits, in which order commands go out, whose an answer is
//! commands   what a call becomes, and what its answer means
//! changes    what a change becomes, and what its answer means
//! channel    events of all hosts
//! cuts       where among them something was read
//! thread     the store thread's life
//! ```
//! Two connections: one for commands, many of them under way, and one for the channel. An answer
//! makes the reply; what subscribers hear comes by the channel alone, so all hosts show one order.

mod answers;
mod calls;
mod changes;
mod channel;
mod commands;
mod cuts;
mod link;
mod message;
mod names;
mod refusals;
mod scripts;
mod setup;
mod thread;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry};
use redis::Value;
use uuid::Uuid;

use crate::config::RedisStore;
use crate::net::channel::trust;
use crate::net::{self, id_of};
use crate::shard::{Learned, Request, ValueLimits};
use crate::time::sleep_until;

pub use thread::run;

use calls::Calls;
use channel::Hearing;
use link::Link;
use names::Names;
use scripts::Scripts;
use wire::Tls;

const BUFFER_BYTES: usize = 64 * 1024;

/// Why the server cannot start on that Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Nobody vouches for any server.
    #[error(
        "{address}: no certificates to trust ({cause}); install the system's (package \
         ca-certificates), or name a file of them in SSL_CERT_FILE"
    )]
    Trust {
        /// Without secrets.
        address: String,
        /// What was found instead.
        cause: String,
    },
    /// It does not answer, or refuses.
    #[error("{address}: {cause}, given up after {after}")]
    Connect {
        /// Without secrets.
        address: String,
        /// What came of the last attempt.
        cause: String,
        /// How long it was tried.
        after: String,
    },
    /// It answers, and cannot be used.
    #[error("{address}: {cause}")]
    Unfit {
        /// Without secrets.
        address: String,
        /// Why.
        cause: String,
    },
    /// A poll could not be made.
    #[error("cannot wait for sockets: {0}")]
    Poll(#[from] std::io::Error),
}

/// The store.
pub struct Redis {
    settings: RedisStore,
    /// The address without secrets.
    shown: String,
    limits: ValueLimits,
    scripts: Scripts,
    link: Link,
    calls: Calls,
    hearing: Hearing,
    names: Names,
    buffer: Vec<u8>,
    /// For the shards, in order.
    learned: Vec<Learned>,
    /// Redis's time and when it was that, if there is news of it.
    clock: Option<(u64, Instant)>,
}

impl Redis {
    /// Connects, or gives up after `connect_timeout`.
    pub fn start(settings: &RedisStore, limits: ValueLimits) -> Result<Redis, RedisError> {
        let shown = settings.address.shown();
        let tls = tls_of(settings, &shown)?;
        let began = Instant::now();
        let process = Uuid::new_v4();
        let mut redis = Redis {
            settings: settings.clone(),
            shown,
            limits,
            scripts: Scripts::new(process),
            link: Link::new(tls, began),
            calls: Calls::default(),
            hearing: Hearing::new(process),
            names: Names::default(),
            buffer: vec![0; BUFFER_BYTES],
            learned: Vec::new(),
            clock: None,
        };
        redis.wait_until_up(began)?;
        Ok(redis)
    }

    fn wait_until_up(&mut self, began: Instant) -> Result<(), RedisError> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(4);
        let until = began + self.settings.connect_timeout;
        while !self.link.is_up() {
            let now = Instant::now();
            if let Some(cause) = self.link.fatal() {
                return Err(RedisError::Unfit {
                    address: self.shown.clone(),
                    cause: cause.to_owned(),
                });
            }
            if now >= until {
                return Err(RedisError::Connect {
                    address: self.shown.clone(),
                    cause: plain(self.link.cause()),
                    after: in_words(self.settings.connect_timeout),
                });
            }
            let rest = self.turn(poll.registry(), now);
            let rest = rest.min(until.saturating_duration_since(now) + Duration::from_millis(1));
            net::wait(&mut poll, &mut events, Some(rest))?;
            self.take_events(&events);
        }
        self.link.leave(poll.registry());
        Ok(())
    }

    /// For the first line of the log.
    pub fn described(&self) -> String {
        format!("values in {}", self.shown)
    }

    /// Takes what the shards ask; nothing is sent yet.
    fn take(&mut self, requests: Vec<Request>, now: Instant) {
        let until = now + self.settings.call_timeout;
        for request in requests {
            self.enter(request, until);
        }
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            self.link.is_ready(id_of(event.token()));
        }
    }

    /// Reads what is there, sends what may go, does what is due. Gives how long it may rest.
    fn turn(&mut self, registry: &Registry, now: Instant) -> Duration {
        self.tend_link(registry, now);
        if let Err(cause) = self.read(now) {
            self.lose(&cause, registry, now);
        }
        if let Some(cause) = self.link.take_wrong_server() {
            self.lose(&cause, registry, now);
        }
        if self.link.is_up() {
            self.tend_groups(now);
        }
        self.expire(now);
        self.send(now);
        if let Err(cause) = self.link.flush() {
            self.lose(&cause, registry, now);
        }
        if self.link.has_more() {
            return Duration::ZERO;
        }
        let times = [
            Some(self.link.next_at()),
            self.calls.next_at(),
            self.hearing.next_at(),
        ];
        sleep_until(times).unwrap_or(link::BEAT)
    }

    /// The channel first: what it has told by now counts before the answers.
    fn read(&mut self, now: Instant) -> Result<(), String> {
        let mut heard: Vec<Value> = Vec::new();
        let channel = self.link.channel();
        let outcome = channel.map_or(Ok(()), |wire| wire.read(&mut self.buffer, &mut heard));
        for value in heard {
            self.take_heard(value, now)?;
        }
        outcome?;
        let mut answers: Vec<Value> = Vec::new();
        let commands = self.link.commands();
        let outcome = commands.map_or(Ok(()), |wire| wire.read(&mut self.buffer, &mut answers));
        for value in answers {
            self.take_answer(value, now)?;
        }
        outcome
    }
}

fn in_words(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// Without the number that the system has for it, in the middle of a sentence.
fn plain(cause: &str) -> String {
    let cause = cause.split(" (os error").next().unwrap_or_default();
    let mut chars = cause.chars();
    let first = chars.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

fn tls_of(settings: &RedisStore, shown: &str) -> Result<Option<Tls>, RedisError> {
    let Some(name) = settings.address.server_name.clone() else {
        return Ok(None);
    };
    let config = trust().map_err(|cause| RedisError::Trust {
        address: shown.to_owned(),
        cause,
    })?;
    Ok(Some((Arc::clone(&config), name)))
}
