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
//! resolve    a name's addresses
//! link       both connections: up, down, up again
//! read_only  a Redis that takes no writes
//! setup      what is said on them before the first call
//! loading    the names of all groups, read while calls are served
//! work       what is to be done, as plain data
//! calls      who waits, in which order commands go out, whose an answer is
//! chores     what takes longer than a turn
//! ends       items that have had their time, and how long those of each stream last
//! members    what Redis is told of members, and of hosts that are dead
//! keeping    whom this host keeps as members
//! late       what has waited too long, and what a lost connection leaves
//! commands   what a call becomes, and what its answer means
//! changes    what a change becomes, and what its answer means
//! hearing    what is known of followed groups and of marks on their way
//! channel    events of all hosts
//! ahead      groups whose times others have put ahead of Redis's clock
//! cuts       where among them something was read
//! listing    which names there are, shown over turns
//! looks      what others do past the channel
//! fuzzed     the readers of what Redis and other hosts say, for a fuzzer
//! error      why it cannot be used
//! ```
//! Two connections: one for commands, many of them under way, and one for the channel. An answer
//! makes the reply; what subscribers hear comes by the channel alone, so all hosts show one order.

mod ahead;
mod answers;
mod calls;
mod changes;
mod channel;
mod chores;
mod commands;
mod cuts;
mod ends;
mod error;
pub mod fuzzed;
mod hearing;
mod keeping;
mod late;
mod link;
mod listing;
mod loading;
mod looks;
mod members;
mod message;
mod names;
mod read_only;
mod refusals;
mod resolve;
mod scripts;
mod setup;
#[cfg(test)]
mod test_members;
mod wire;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Registry};
use redis::Value;
use uuid::Uuid;

use crate::config::RedisStore;
use crate::id::{SlotId, WorkerId};
use crate::metrics::StoreMetrics;
use crate::net::dial::tls_for;
use crate::net::{self, Ready};
use crate::protocol::streams::StreamRules;
use crate::shard::{Cursor, Decides, Learned, Request, SliceLimits, Store, ValueLimits};
use crate::time::{ClockReading, sleep_until};

pub use error::RedisError;

use calls::Calls;
use chores::Chores;
use ends::Ends;
use error::Fault;
use hearing::Hearing;
use link::Link;
use loading::Known;
use members::Members;
use names::Names;
use scripts::Scripts;

const BUFFER_BYTES: usize = 64 * 1024;

/// The store.
pub struct Redis {
    settings: RedisStore,
    /// The address without secrets.
    shown: String,
    limits: ValueLimits,
    scripts: Scripts,
    link: Link,
    calls: Calls,
    chores: Chores,
    hearing: Hearing,
    names: Names,
    known: Known,
    ends: Ends,
    members: Members,
    /// `limits.name_bytes`.
    name_bytes: usize,
    /// That of the poll in which the sockets are.
    registry: Registry,
    buffer: Vec<u8>,
    /// For the shards, in order.
    learned: Vec<Learned>,
    /// What Redis's clock has said, if the shards have not been told.
    clock: Option<ClockReading>,
    /// What it has said last.
    told_clock: Option<ClockReading>,
    /// How long it took to answer, of commands that nobody has been told of.
    round_trips: Vec<Duration>,
}

impl Redis {
    /// Connects, or gives up after `connect_timeout`. `place`: the machine and its port, for whoever starts
    /// there again. The poll is the one in which its thread waits.
    pub fn start(
        settings: &RedisStore,
        limits: ValueLimits,
        name_bytes: usize,
        rules: &Arc<StreamRules>,
        place: String,
        poll: &mut Poll,
    ) -> Result<Redis, RedisError> {
        let shown = settings.address.shown();
        let tls = tls_for(settings.address.server_name.as_ref());
        let tls = tls.map_err(|cause| RedisError::Trust {
            address: shown.clone(),
            cause,
        })?;
        let began = Instant::now();
        let process = Uuid::new_v4();
        let mut redis = Redis {
            settings: settings.clone(),
            shown,
            limits,
            scripts: Scripts::new(process, settings.address.database),
            link: Link::new(tls, began),
            calls: Calls::default(),
            chores: Chores::default(),
            hearing: Hearing::new(process),
            names: Names::default(),
            known: Known::default(),
            ends: Ends::new(Arc::clone(rules), began),
            members: Members::new(Arc::clone(rules), settings.lease, place, began),
            name_bytes,
            registry: poll.registry().try_clone()?,
            buffer: vec![0; BUFFER_BYTES],
            learned: Vec::new(),
            clock: None,
            told_clock: None,
            round_trips: Vec::new(),
        };
        redis.wait_until_up(began, poll)?;
        Ok(redis)
    }

    fn wait_until_up(&mut self, began: Instant, poll: &mut Poll) -> Result<(), RedisError> {
        let mut events = Events::with_capacity(4);
        let timeout = self.settings.connect_timeout;
        let mut given_up_at = began + timeout;
        let mut was_loading = false;
        while !self.link.is_up() {
            let now = Instant::now();
            // Life counts while it is being connected, and not once that has failed.
            let opening = self.link.opening_heard_at();
            let until = opening.map_or(given_up_at, |at| given_up_at.max(at + timeout));
            if let Some(fault) = self.link.fatal() {
                return Err(RedisError::Unfit {
                    address: self.shown.clone(),
                    cause: fault.to_string(),
                });
            }
            if self.link.is_loading() {
                given_up_at = now + timeout; // it lives, and will be there
                if !std::mem::replace(&mut was_loading, true) {
                    tracing::warn!("{}: still loads its data; the start waits", self.shown);
                }
            }
            if now >= until && !self.link.is_loading() {
                let fault = match self.link.fault() {
                    Fault::Silent => &Fault::NotTried,
                    fault => fault,
                };
                return Err(RedisError::Connect {
                    address: self.shown.clone(),
                    cause: plain(&fault.to_string()),
                    after: in_words(timeout),
                    is_elsewhere: fault.is_elsewhere(),
                });
            }
            let rest = self.turn(now);
            let rest = rest.min(until.saturating_duration_since(now) + Duration::from_millis(1));
            net::wait(poll, &mut events, Some(rest))?;
            for event in &events {
                if let Ready::Socket { id, ends, .. } = Ready::from(event) {
                    self.link.is_ready(id, ends);
                }
            }
        }
        Ok(())
    }

    /// For the first line of the log.
    pub fn described(&self) -> String {
        format!("values in {}", self.shown)
    }

    /// Reads what is there, sends what may go, does what is due. Gives how long it may rest.
    fn turn(&mut self, now: Instant) -> Duration {
        self.chores.begin_turn();
        self.tend_link(now);
        if let Err(fault) = self.read(now) {
            self.lose(&fault, now);
        }
        if let Some(fault) = self.link.take_wrong_server() {
            self.lose(&fault, now);
        }
        self.read_role(now);
        self.tend_silence(now);
        self.go_on_with_chores(now);
        if self.link.is_up() {
            self.tend_groups(now);
            self.tend_ends(now);
            self.tend_members(now);
        }
        self.expire(now);
        self.send(now);
        if let Err(fault) = self.link.flush() {
            self.lose_after_reading(&fault, now);
        }
        if self.link.has_more() || self.has_begun_more() {
            return Duration::ZERO;
        }
        let waits = self.has_lists();
        let times = [
            Some(self.link.next_at(now)),
            self.calls.next_at(waits, now),
            self.hearing.next_at(),
            self.ends.next_at(),
            self.members.next_at(),
        ];
        sleep_until(times).unwrap_or(link::BEAT)
    }

    /// A connection takes nothing more: what it has said before counts, and may say why.
    fn lose_after_reading(&mut self, fault: &Fault, now: Instant) {
        self.link.reads_to_its_end();
        let read = self.read(now).err();
        let said = self.link.take_wrong_server();
        let said = said.or(read.filter(|read| matches!(read, Fault::Said(_))));
        self.lose(&said.unwrap_or(fault.clone()), now);
    }

    fn take_time(&mut self, ms: Option<u64>, now: Instant) {
        if let Some(ms) = ms {
            self.hearing.ahead.forget_passed(ms);
            self.clock = Some(ClockReading { ms, at: now });
            self.told_clock = self.clock;
        }
    }

    /// By Redis's clock, as far as it was told, in ms since 1970.
    fn redis_time(&self, now: Instant) -> Option<u64> {
        Some(self.told_clock?.ms_at(now))
    }

    /// The channel first: what it has told by now counts before the answers.
    fn read(&mut self, now: Instant) -> Result<(), Fault> {
        let mut heard: Vec<Value> = Vec::new();
        let channel = self.link.channel();
        let outcome = channel.map_or(Ok(()), |wire| wire.read(&mut self.buffer, &mut heard, now));
        for value in heard {
            self.take_heard(value, now)?;
        }
        outcome?;
        if self.chores.is_full() {
            return Ok(());
        }
        let mut answers: Vec<Value> = Vec::new();
        let commands = self.link.commands();
        let outcome = commands.map_or(Ok(()), |wire| {
            wire.read(&mut self.buffer, &mut answers, now)
        });
        for value in answers {
            self.take_answer(value, now)?;
        }
        outcome
    }
}

impl Store for Redis {
    fn decides(&self) -> Decides {
        Decides::Shared
    }

    fn set_limits(&mut self, limits: ValueLimits, name_bytes: usize) {
        (self.limits, self.name_bytes) = (limits, name_bytes);
    }

    /// Takes what the shards ask; nothing is sent yet.
    fn serve(&mut self, requests: Vec<Request>, _learned: &mut Vec<Learned>) {
        let until = Instant::now() + self.settings.call_timeout;
        for request in requests {
            self.enter(request, until);
        }
    }

    fn ready(&mut self, id: SlotId, ends: bool) {
        self.link.is_ready(id, ends);
    }

    fn tend(
        &mut self,
        _asks: &mut Vec<(WorkerId, Cursor, SliceLimits)>,
        learned: &mut Vec<Learned>,
    ) -> Option<Duration> {
        let rest = self.turn(Instant::now());
        learned.append(&mut self.learned);
        Some(rest)
    }

    /// Whoever is full takes no answers, so none is read: all that is done is to go on living for other hosts.
    fn tend_alone(&mut self) -> Option<Duration> {
        let rest = self.renew_alone(Instant::now());
        // What has broken them is seen when they are read.
        let _ = self.link.flush();
        rest
    }

    fn clock(&mut self) -> Option<ClockReading> {
        self.clock.take()
    }

    fn measure(&mut self, metrics: &StoreMetrics) {
        for took in self.round_trips.drain(..) {
            metrics.redis.note(took);
        }
        let takes_writes = self.link.is_up() && !self.link.read_only.is_on();
        metrics.is_down.set(!takes_writes);
        let lag = self
            .calls
            .oldest_at()
            .map_or(Duration::ZERO, |at| at.elapsed());
        metrics.lag_ms.set(lag.as_millis() as u64);
    }

    fn is_ending(&mut self) {
        let now = Instant::now();
        self.members.end(now);
        self.ends.ask_at(now);
        self.tend_ends(now);
    }

    fn is_done(&self) -> bool {
        !self.link.is_up() || (self.calls.is_idle() && !self.has_begun_more())
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
