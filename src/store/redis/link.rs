//! The two connections: finding the address, connecting, what is said before the first call, and
//! trying again.
//!
//! One lost is both lost: what the channel did not tell would be missing from then on. Names are
//! resolved on a thread that lives no longer than the question.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use mio::Registry;
use redis::{Cmd, Value};

use crate::id::SlotId;
use crate::shard::Learned;

use super::Redis;
use super::answers;
use super::calls::{Job, Work};
use super::message::{EVENTS, read_names};
use super::names::PREFIX;
use super::scripts::Script;
use super::wire::{Tls, Wire};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often an idle connection is heard.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// How often it is looked whether a name has been resolved.
const RESOLVE_LOOK: Duration = Duration::from_millis(10);
/// Channels that are followed.
const CHANNELS_LEN: usize = 2;
/// Keys that Redis looks at for one answer of SCAN.
const SCAN_COUNT: usize = 1000;

/// What is said before the first call.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Login,
    Select,
    /// Whether it is a cluster.
    Info,
    Policy,
    Load(Script),
    Time,
    /// The names that ours have given.
    Index,
    /// The keys that there are, whoever made them.
    Scan(String),
    /// The groups whose last time is kept.
    Times,
}

pub(super) struct Link {
    state: State,
    tls: Option<Tls>,
    commands: Option<Wire>,
    channel: Option<Wire>,
    /// Attempts, each with names of its own in the poll.
    attempts: u32,
    /// In a row that came to nothing.
    failures: u32,
    subscribed_len: usize,
    /// Groups that the index names, while it is loaded, and those whose keys were found.
    indexed: HashSet<String>,
    found: HashSet<String>,
    /// Why it is down.
    cause: String,
    /// It cannot be used, now or later.
    fatal: Option<String>,
    /// The server answers that it must not be written to.
    wrong_server: Option<String>,
    was_up: bool,
    has_warned: bool,
    chance: RandomState,
}

enum State {
    Down(Instant),
    Resolving(Receiver<io::Result<Vec<SocketAddr>>>, Instant),
    /// Connecting, and all that is said first; until when.
    Opening(Instant),
    Up {
        beat_at: Instant,
    },
}

impl Link {
    pub(super) fn new(tls: Option<Tls>, now: Instant) -> Link {
        Link {
            state: State::Down(now),
            tls,
            commands: None,
            channel: None,
            attempts: 0,
            failures: 0,
            subscribed_len: 0,
            indexed: HashSet::new(),
            found: HashSet::new(),
            cause: "not connected yet".to_owned(),
            fatal: None,
            wrong_server: None,
            was_up: false,
            has_warned: false,
            chance: RandomState::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// None: it is up.
    pub(super) fn down_because(&self) -> Option<String> {
        (!self.is_up()).then(|| self.cause.clone())
    }

    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    pub(super) fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    pub(super) fn has_wrong_server(&mut self, cause: Option<String>) {
        self.wrong_server = cause;
    }

    pub(super) fn take_wrong_server(&mut self) -> Option<String> {
        self.wrong_server.take()
    }

    pub(super) fn has_room(&self) -> bool {
        self.commands.as_ref().is_some_and(Wire::has_room)
    }

    pub(super) fn queue(&mut self, command: &Cmd) {
        if let Some(commands) = &mut self.commands {
            commands.queue(command);
        }
    }

    fn wires(&mut self) -> impl Iterator<Item = &mut Wire> {
        self.commands.iter_mut().chain(&mut self.channel)
    }

    pub(super) fn commands(&mut self) -> Option<&mut Wire> {
        self.commands.as_mut()
    }

    pub(super) fn channel(&mut self) -> Option<&mut Wire> {
        self.channel.as_mut()
    }

    /// The poll says that one of the two has something.
    pub(super) fn is_ready(&mut self, id: SlotId) {
        self.wires()
            .filter(|wire| wire.id() == id)
            .for_each(Wire::is_ready);
    }

    pub(super) fn has_more(&mut self) -> bool {
        self.wires().any(|wire| wire.has_more())
    }

    /// From one poll to another, between two turns.
    pub(super) fn leave(&mut self, registry: &Registry) {
        self.wires().for_each(|wire| wire.leave(registry));
    }

    pub(super) fn enter(&mut self, registry: &Registry) -> io::Result<()> {
        self.wires().try_for_each(|wire| wire.enter(registry))
    }

    pub(super) fn flush(&mut self) -> Result<(), String> {
        self.wires().try_for_each(Wire::flush)
    }

    pub(super) fn next_at(&self) -> Instant {
        match &self.state {
            State::Down(at) | State::Opening(at) => *at,
            State::Resolving(_, until) => (*until).min(Instant::now() + RESOLVE_LOOK),
            State::Up { beat_at } => *beat_at,
        }
    }

    /// Twice as long after each failure, and never quite the same as others wait.
    fn wait(&mut self) -> Duration {
        let doubled = RETRY_FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        let chance = self.chance.hash_one(self.attempts) % 1000;
        let whole = doubled.min(RETRY_MAX);
        whole / 2 + whole.mul_f64(chance as f64 / 2000.0)
    }
}

impl Redis {
    /// Goes on with connecting, and looks after what stands.
    pub(super) fn tend_link(&mut self, registry: &Registry, now: Instant) {
        match &self.link.state {
            State::Down(at) if *at <= now => self.resolve(registry, now),
            State::Down(_) => {}
            State::Resolving(answer, until) => match answer.try_recv() {
                Ok(Ok(addresses)) => self.open(&addresses, registry, now),
                Ok(Err(error)) => self.lose(&error.to_string(), registry, now),
                Err(TryRecvError::Empty) if *until > now => {}
                Err(_) => self.lose("its name could not be resolved", registry, now),
            },
            State::Opening(until) if *until <= now => self.lose("timed out", registry, now),
            State::Opening(_) => {}
            State::Up { beat_at } => {
                let timeout = self.settings.call_timeout;
                let is_deaf = self
                    .hearing
                    .waits_since()
                    .is_some_and(|at| at + timeout <= now);
                if self.calls.is_overdue(now) || is_deaf {
                    return self.lose("timed out", registry, now);
                }
                if *beat_at <= now {
                    let mark = self.hearing.mark_for_beat();
                    let until = now + timeout;
                    let work = Work::Beat(mark);
                    self.calls.push(Job { until, work });
                    self.link.state = State::Up {
                        beat_at: now + BEAT,
                    };
                }
            }
        }
    }

    fn resolve(&mut self, registry: &Registry, now: Instant) {
        let address = &self.settings.address;
        if let Ok(ip) = address.host.parse::<IpAddr>() {
            return self.open(&[SocketAddr::new(ip, address.port)], registry, now);
        }
        let name = (address.host.clone(), address.port);
        let (sender, answer) = crossbeam_channel::bounded(1);
        let spawned = std::thread::Builder::new()
            .name("resolve".to_owned())
            .spawn(move || {
                let found = name.to_socket_addrs().map(Iterator::collect);
                // Nobody asks any more when the process ends.
                let _ = sender.send(found);
            });
        match spawned {
            Ok(_) => {
                let until = now + self.settings.connect_timeout;
                self.link.state = State::Resolving(answer, until);
            }
            Err(error) => self.lose(&error.to_string(), registry, now),
        }
    }

    fn open(&mut self, addresses: &[SocketAddr], registry: &Registry, now: Instant) {
        let attempts = self.link.attempts as usize;
        self.link.attempts = self.link.attempts.wrapping_add(1);
        // The next attempt tries the next address of that name.
        let Some(address) = addresses.get(attempts % addresses.len().max(1)) else {
            return self.lose("its name has no address", registry, now);
        };
        let tls = self.link.tls.as_ref();
        let generation = self.link.attempts;
        let connect = |slot| Wire::connect(*address, tls, SlotId { slot, generation }, registry);
        match (connect(0), connect(1)) {
            (Ok(commands), Ok(channel)) => {
                self.link.commands = Some(commands);
                self.link.channel = Some(channel);
            }
            (Err(error), _) | (_, Err(error)) => {
                return self.lose(&error.to_string(), registry, now);
            }
        }
        self.link.subscribed_len = 0;
        self.link.state = State::Opening(now + self.settings.connect_timeout);
        self.say_first(now);
    }

    fn say_first(&mut self, now: Instant) {
        let until = now + self.settings.connect_timeout;
        let has_login = self.settings.address.password.is_some();
        let has_database = self.settings.address.database != 0;
        let steps = [
            has_login.then_some(Step::Login),
            has_database.then_some(Step::Select),
            Some(Step::Info),
            Some(Step::Policy),
            Some(Step::Time),
        ];
        let loads = Script::ALL.map(|script| Some(Step::Load(script)));
        for step in steps.into_iter().chain(loads).flatten() {
            let work = Work::Setup(step);
            self.calls.push(Job { until, work });
        }
        let login = has_login.then(|| self.pack_step(&Step::Login));
        let cut_channel = &self.hearing.cut_channel;
        if let Some(channel) = &mut self.link.channel {
            login.iter().for_each(|login| channel.queue(login));
            channel.queue(redis::cmd("SUBSCRIBE").arg(EVENTS).arg(cut_channel));
        }
    }

    pub(super) fn pack_step(&self, step: &Step) -> Cmd {
        let address = &self.settings.address;
        let mut command = Cmd::new();
        match step {
            Step::Login => {
                command
                    .arg("AUTH")
                    .arg(&address.user)
                    .arg(&address.password);
            }
            Step::Select => {
                command.arg("SELECT").arg(address.database);
            }
            Step::Info => {
                command.arg("INFO").arg("cluster");
            }
            Step::Policy => {
                command.arg("CONFIG").arg("GET").arg("maxmemory-policy");
            }
            Step::Load(script) => {
                command
                    .arg("SCRIPT")
                    .arg("LOAD")
                    .arg(self.scripts.text(*script));
            }
            Step::Time => {
                command.arg("TIME");
            }
            Step::Index => {
                command.arg("HGETALL").arg("iii-stream:groups");
            }
            Step::Scan(cursor) => {
                command.arg("SCAN").arg(cursor);
                command.arg("MATCH").arg(format!("{PREFIX}*"));
                command.arg("COUNT").arg(SCAN_COUNT);
            }
            Step::Times => {
                command.arg("HKEYS").arg("iii-stream:times");
            }
        }
        command
    }

    /// Both channels are followed: from here on nothing is missed, and the names can be loaded.
    pub(super) fn has_subscribed(&mut self, now: Instant) {
        self.link.subscribed_len += 1;
        if self.link.subscribed_len == CHANNELS_LEN {
            self.names = Default::default();
            self.hearing.touched = Some(HashSet::new());
            self.push_step(Step::Index, now);
        }
    }

    fn push_step(&mut self, step: Step, now: Instant) {
        let until = now + self.settings.connect_timeout;
        let work = Work::Setup(step);
        self.calls.push(Job { until, work });
    }

    pub(super) fn take_step(&mut self, step: Step, value: Value, now: Instant) {
        let error = answers::error_of(&value);
        match (step, error) {
            // Not allowed to ask, or an old server: nothing rests on it.
            (Step::Info | Step::Policy, Some(_)) => {}
            (Step::Load(_), None) => {}
            (_, Some(error)) => self.link.has_wrong_server(Some(error)),
            (Step::Login | Step::Select, None) => {}
            (Step::Info, None) => {
                let info = answers::bytes(value).unwrap_or_default();
                if String::from_utf8_lossy(&info).contains("cluster_enabled:1") {
                    self.link.fatal = Some(
                        "is a cluster, which is not supported: a group and its \
                         index would lie on different nodes"
                            .to_owned(),
                    );
                }
            }
            (Step::Policy, None) => self.take_policy(value),
            (Step::Time, None) => {
                self.clock = answers::time(value).map(|ms| (ms, now)).or(self.clock);
            }
            (Step::Index, None) => {
                self.take_index(value);
                self.push_step(Step::Scan("0".to_owned()), now);
            }
            (Step::Scan(_), None) => self.take_scanned(value, now),
            (Step::Times, None) => self.take_times(value, now),
        }
    }

    fn take_policy(&mut self, value: Value) {
        let pairs = answers::pairs(value).into_iter();
        let policy = pairs
            .filter_map(|(_, policy)| answers::bytes(policy))
            .next();
        let policy = String::from_utf8(policy.unwrap_or_default()).unwrap_or_default();
        if policy.starts_with("allkeys-") && !self.link.has_warned {
            self.link.has_warned = true;
            tracing::warn!(
                "{}: maxmemory-policy is {policy}: values will vanish when its memory is full",
                self.shown
            );
        }
    }

    fn take_index(&mut self, value: Value) {
        self.link.indexed.clear();
        self.link.found.clear();
        for (_, names) in answers::pairs(value) {
            let key = answers::bytes(names).and_then(|names| read_names(&names));
            if let Some(key) = key
                && !self.was_touched(key.joined())
            {
                self.link.indexed.insert(key.joined().to_owned());
                self.names.enter(&key);
            }
        }
    }

    fn was_touched(&self, joined: &str) -> bool {
        let touched = self.hearing.touched.as_ref();
        touched.is_some_and(|touched| touched.contains(joined))
    }

    fn take_scanned(&mut self, value: Value, now: Instant) {
        let Value::Array(parts) = value else {
            return self.link.has_wrong_server(Some(answers::unexpected()));
        };
        let mut parts = parts.into_iter();
        let cursor = parts.next().and_then(answers::bytes);
        let cursor = cursor.and_then(|bytes| String::from_utf8(bytes).ok());
        let cursor = cursor.unwrap_or_else(|| "0".to_owned());
        if let Some(Value::Array(keys)) = parts.next() {
            for key in keys.into_iter().filter_map(answers::bytes) {
                let key = String::from_utf8(key).unwrap_or_default();
                let Some(joined) = key.strip_prefix(PREFIX) else {
                    continue;
                };
                if !self.link.indexed.contains(joined) && !self.was_touched(joined) {
                    self.names.enter_unnamed(joined);
                }
                self.link.found.insert(joined.to_owned());
            }
        }
        if cursor == "0" {
            self.push_step(Step::Times, now);
        } else {
            self.push_step(Step::Scan(cursor), now);
        }
    }

    /// The last step. Groups that others have emptied, and times that a crash left behind, go.
    fn take_times(&mut self, value: Value, now: Instant) {
        let found = std::mem::take(&mut self.link.found);
        let indexed = std::mem::take(&mut self.link.indexed);
        for joined in indexed.difference(&found) {
            self.forget_later(joined.clone(), true, now);
        }
        if let Value::Array(keys) = value {
            for key in keys.into_iter().filter_map(answers::bytes) {
                let key = String::from_utf8(key).unwrap_or_default();
                if let Some(joined) = key.strip_prefix(PREFIX)
                    && !found.contains(joined)
                {
                    self.forget_later(joined.to_owned(), false, now);
                }
            }
        }
        self.is_up_again(now);
    }

    fn is_up_again(&mut self, now: Instant) {
        self.hearing.touched = None;
        self.link.failures = 0;
        self.link.state = State::Up {
            beat_at: now + BEAT,
        };
        if self.link.was_up {
            tracing::info!("{}: connected again", self.shown);
        }
        self.link.was_up = true;
        self.read_all_again(now);
    }

    /// The connections are of no use any more: both go, and it is tried again a little later.
    pub(super) fn lose(&mut self, cause: &str, registry: &Registry, now: Instant) {
        let was_up = self.link.is_up();
        for wire in self.link.wires() {
            wire.leave(registry);
        }
        (self.link.commands, self.link.channel) = (None, None);
        self.link.cause = cause.to_owned();
        self.link.wrong_server = None;
        let wait = self.link.wait();
        self.link.state = State::Down(now + wait);
        self.drop_calls(cause, now);
        self.drop_hearing(cause);
        if was_up {
            self.learned.push(Learned::Lost);
            tracing::error!(
                "{}: connection lost ({cause}); calls fail and subscribers hear nothing until it is back",
                self.shown
            );
        }
    }
}
