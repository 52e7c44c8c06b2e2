//! The two connections: finding the address, connecting, and trying again.
//!
//! One lost is both lost: what the channel did not tell would be missing from then on. Redis is dead
//! when nothing at all has come for too long, however many answers are awaited.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use redis::Cmd;

use crate::id::SlotId;
use crate::net::dial::{Retry, Tls};
use crate::shard::Learned;

use super::Redis;
use super::error::Fault;
use super::read_only::ReadOnly;
use super::resolve::Lookup;
use super::setup::CHANNELS_LEN;
use super::wire::Wire;
use super::work::{Job, Work};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often an idle connection is heard.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// Of an outage, so many causes are told.
const CAUSES_MAX: usize = 8;
/// After so long a time without an answer the log is told.
const QUIET: Duration = Duration::from_secs(1);

pub(super) struct Link {
    state: State,
    tls: Option<Tls>,
    commands: Option<Wire>,
    pub(super) channel: Option<Wire>,
    /// The address that both connections lead to.
    address: Option<SocketAddr>,
    /// How many attempts there were. The sockets of each have names of their own in the poll.
    attempts: u32,
    retry: Retry,
    pub(super) subscribed_len: usize,
    /// Redis has answered all steps of `setup`.
    pub(super) is_told: bool,
    /// Why the link is down.
    fault: Fault,
    /// Why it was down since it was up, as the log was told.
    told: Vec<String>,
    /// An error that Redis has answered where one does no harm, while the connections were made.
    said: Option<Fault>,
    /// Why this Redis cannot be used, now or later.
    pub(super) fatal: Option<Fault>,
    /// The server answers what makes these connections useless.
    wrong_server: Option<Fault>,
    /// Redis has not answered for a while, and the log was told.
    was_quiet: bool,
    pub(super) is_replica: bool,
    pub(super) read_only: ReadOnly,
    /// What Redis is set to give notices of.
    pub(super) notices: String,
    was_up: bool,
    pub(super) has_warned: bool,
    pub(super) has_named_rights: bool,
}

enum State {
    Down(Instant),
    Resolving(Lookup),
    /// Connecting, and all that is said first; since when.
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
            address: None,
            attempts: 0,
            retry: Retry::new(RETRY_FIRST, RETRY_MAX),
            subscribed_len: 0,
            is_told: false,
            fault: Fault::NotTried,
            told: Vec::new(),
            said: None,
            fatal: None,
            wrong_server: None,
            was_quiet: false,
            is_replica: false,
            read_only: ReadOnly::default(),
            notices: String::new(),
            was_up: false,
            has_warned: false,
            has_named_rights: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Why the link is down. None: it is up.
    pub(super) fn down_because(&self) -> Option<&Fault> {
        (!self.is_up()).then_some(&self.fault)
    }

    pub(super) fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Redis has answered that it still reads its data.
    pub(super) fn is_loading(&self) -> bool {
        let is_down = matches!(self.state, State::Down(_));
        is_down && self.fault.is_loading()
    }

    pub(super) fn fatal(&self) -> Option<&Fault> {
        self.fatal.as_ref()
    }

    /// The server answers what makes these connections useless. Its first such answer counts.
    pub(super) fn has_wrong_server(&mut self, fault: Fault) {
        self.wrong_server.get_or_insert(fault);
    }

    pub(super) fn take_wrong_server(&mut self) -> Option<Fault> {
        self.wrong_server.take()
    }

    /// Redis has answered an error that does no harm, unless the connection ends with it.
    pub(super) fn has_said(&mut self, fault: Fault) {
        self.said.get_or_insert(fault);
    }

    pub(super) fn has_room(&self) -> bool {
        self.commands.as_ref().is_some_and(Wire::has_room)
    }

    pub(super) fn queue(&mut self, command: &Cmd) {
        if let Some(commands) = &mut self.commands {
            commands.queue(command);
        }
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Where the next command begins among the bytes of its connection.
    pub(super) fn packed(&self) -> u64 {
        self.commands.as_ref().map_or(0, Wire::packed)
    }

    /// When Redis last gave a sign of life while the connections were made.
    pub(super) fn opening_heard_at(&self) -> Option<Instant> {
        let State::Opening(since) = self.state else {
            return None;
        };
        let wires = self.commands.iter().chain(&self.channel);
        wires.map(Wire::heard_at).max().or(Some(since))
    }

    fn wires(&mut self) -> impl Iterator<Item = &mut Wire> {
        let pair = self.commands.iter_mut().chain(&mut self.channel);
        pair.chain(self.read_only.wire())
    }

    pub(super) fn commands(&mut self) -> Option<&mut Wire> {
        self.commands.as_mut()
    }

    pub(super) fn channel(&mut self) -> Option<&mut Wire> {
        self.channel.as_mut()
    }

    /// The poll says that one of the two has something.
    pub(super) fn is_ready(&mut self, id: SlotId, ends: bool) {
        self.wires()
            .filter(|wire| wire.id() == id)
            .for_each(|wire| wire.is_ready(ends));
    }

    pub(super) fn reads_to_its_end(&mut self) {
        let pair = self.commands.iter_mut().chain(&mut self.channel);
        pair.for_each(Wire::reads_to_its_end);
    }

    pub(super) fn has_more(&mut self) -> bool {
        self.wires().any(|wire| wire.has_more())
    }

    /// Err: why a connection is broken.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        // What breaks the third connection is seen when it is read.
        let _ = self.read_only.wire().map(Wire::flush);
        let mut pair = self.commands.iter_mut().chain(&mut self.channel);
        pair.try_for_each(Wire::flush)
    }

    pub(super) fn next_at(&self, now: Instant) -> Instant {
        match &self.state {
            State::Down(at) => *at,
            State::Opening(_) => now + QUIET,
            State::Resolving(lookup) => lookup.look_at(now),
            State::Up { beat_at } => self
                .read_only
                .next_at(now)
                .map_or(*beat_at, |at| at.min(*beat_at)),
        }
    }
}

impl Redis {
    /// Goes on with connecting, and looks after what stands.
    pub(super) fn tend_link(&mut self, now: Instant) {
        match &self.link.state {
            State::Down(at) if *at <= now => {
                let lookup = Lookup::begin(&self.settings, now);
                self.link.state = State::Resolving(lookup);
                self.tend_link(now);
            }
            State::Down(_) | State::Opening(_) => {}
            State::Resolving(lookup) => match lookup.look(now) {
                Some(Ok(addresses)) => self.open(&addresses, now),
                Some(Err(fault)) => self.lose(&fault, now),
                None => {}
            },
            State::Up { beat_at } if *beat_at <= now => {
                let mark = self.hearing.mark_for_beat();
                self.calls.push(Job::own(Work::Beat(mark)));
                self.look();
                self.tend_names(now);
                self.link.state = State::Up {
                    beat_at: now + BEAT,
                };
            }
            State::Up { .. } => self.tend_read_only(now),
        }
    }

    /// After what has come was read: whether Redis still lives.
    pub(super) fn tend_silence(&mut self, now: Instant) {
        let timeout = match self.link.state {
            State::Down(_) | State::Resolving(_) => return,
            State::Opening(_) => self.settings.connect_timeout,
            State::Up { .. } => self.settings.call_timeout,
        };
        let quiet = self.silence(now);
        if quiet >= timeout {
            return self.lose(&Fault::Silent, now);
        }
        let is_quiet = quiet >= QUIET && self.link.is_up();
        if is_quiet && !self.link.was_quiet {
            tracing::warn!(
                "{}: no answer for {} ms; calls wait, up to call_timeout_ms",
                self.shown,
                quiet.as_millis()
            );
        } else if !is_quiet && self.link.was_quiet {
            tracing::info!("{}: answers again", self.shown);
        }
        self.link.was_quiet = is_quiet;
    }

    /// For how long nothing has come though something should.
    fn silence(&self, now: Instant) -> Duration {
        let link = &self.link;
        let since = |asked: Option<Instant>, wire: Option<&Wire>| {
            let at = asked?.max(wire?.heard_at());
            Some(now.saturating_duration_since(at))
        };
        let asked = match link.state {
            State::Opening(at) => Some(at),
            _ => self.calls.asked_at(),
        };
        let commands = since(asked, link.commands.as_ref());
        let heard = match link.state {
            State::Opening(at) => (link.subscribed_len < CHANNELS_LEN).then_some(at),
            _ => self.hearing.waits_since(),
        };
        let channel = since(heard, link.channel.as_ref());
        commands.max(channel).unwrap_or_default()
    }

    fn open(&mut self, addresses: &[SocketAddr], now: Instant) {
        let attempts = self.link.attempts as usize;
        self.link.attempts = self.link.attempts.wrapping_add(1);
        // The next attempt tries the next address of that name.
        let Some(address) = addresses.get(attempts % addresses.len().max(1)) else {
            return self.lose(&Fault::NoAddress, now);
        };
        let tls = self.link.tls.as_ref();
        let generation = self.link.attempts;
        let registry = &self.registry;
        let connect = |slot| Wire::connect(*address, tls, SlotId { slot, generation }, registry);
        match (connect(0), connect(1)) {
            (Ok(commands), Ok(channel)) => {
                self.link.commands = Some(commands);
                self.link.channel = Some(channel);
            }
            (Err(error), _) | (_, Err(error)) => {
                return self.lose(&Fault::of(&error), now);
            }
        }
        self.link.subscribed_len = 0;
        self.link.is_told = false;
        self.link.said = None;
        self.link.address = Some(*address);
        self.link.state = State::Opening(now);
        self.say_first();
    }

    pub(super) fn is_up_again(&mut self, now: Instant) {
        // One that takes no writes is not well: it is back for good once it has taken one.
        if !self.link.read_only.is_on() {
            self.link.retry.begin_afresh();
        }
        self.link.state = State::Up {
            beat_at: now + BEAT,
        };
        if self.link.was_up {
            tracing::info!("{}: connected again", self.shown);
        }
        self.link.was_up = true;
        self.link.told.clear();
        let notices = std::mem::take(&mut self.link.notices);
        self.ask_for_notices(&notices);
        self.ends.begin(now);
        self.members.begin(now);
        self.raise_times_again(now);
        self.read_all_again();
        self.load_names();
    }

    /// The connections are of no use any more: both go, and it is tried again a little later.
    pub(super) fn lose(&mut self, fault: &Fault, now: Instant) {
        self.end_chores(now);
        let was_up = self.link.is_up();
        // Why it ends a connection that has just come stands in what it has answered.
        let is_opening = matches!(self.link.state, State::Opening(_));
        let said = self.link.said.take();
        let fault = said.as_ref().filter(|_| is_opening).unwrap_or(fault);
        for wire in self.link.wires() {
            wire.leave(&self.registry);
        }
        let written = self.link.commands.as_ref().map_or(0, Wire::written);
        (self.link.commands, self.link.channel) = (None, None);
        self.link.read_only.give_up(now);
        self.link.fault = fault.clone();
        self.link.wrong_server = None;
        let wait = self.link.retry.wait();
        self.link.state = State::Down(now + wait);
        self.link.was_quiet = false;
        let cause = fault.to_string();
        self.drop_calls(&cause, written, now);
        self.drop_hearing(&cause);
        self.drop_names(&cause);
        self.ends.end();
        if was_up {
            self.learned.push(Learned::Lost);
            tracing::error!(
                "{}: connection lost ({cause}); calls fail and subscribers hear nothing until it is back",
                self.shown
            );
        }
        self.tell_why_down(cause, was_up);
    }

    /// Each cause once, until it is up again: the one of the loss is seldom why it stays away.
    fn tell_why_down(&mut self, cause: String, is_told: bool) {
        let told = &mut self.link.told;
        if !self.link.was_up || told.len() >= CAUSES_MAX || told.contains(&cause) {
            return;
        }
        if !is_told {
            tracing::warn!("{}: does not connect again: {cause}", self.shown);
        }
        told.push(cause);
    }
}
