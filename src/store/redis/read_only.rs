//! A Redis that takes no writes: a replica, or one that was the master until a moment ago.
//!
//! Reads stay up, and changes are refused by Redis itself. Beside that it is asked over a connection of
//! its own, less and less often, whether a master answers at the address by now: only then do the
//! connections move. May not know what was to be changed.

use std::time::{Duration, Instant};

use redis::Value;

use crate::id::SlotId;
use crate::net::dial::Retry;

use super::Redis;
use super::answers;
use super::error::Fault;
use super::resolve::Lookup;
use super::wire::Wire;
use super::work::Step;

const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(5);
/// Beside the connections for commands and for the channel.
const SLOT: u32 = 2;

/// How far the question is whether a master answers by now.
pub(super) struct ReadOnly {
    state: State,
    retry: Retry,
    /// When the question may be asked again.
    next: Option<Instant>,
    /// A write was refused, and none was taken since.
    is_on: bool,
    asked: u32,
}

enum State {
    Resting,
    Resolving(Lookup),
    /// The connection, how many answers are still to come, and until when.
    Asking(Box<Wire>, usize, Instant),
}

impl Default for ReadOnly {
    fn default() -> ReadOnly {
        ReadOnly {
            state: State::Resting,
            retry: Retry::new(FIRST, MAX),
            next: None,
            is_on: false,
            asked: 0,
        }
    }
}

impl ReadOnly {
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn wire(&mut self) -> Option<&mut Wire> {
        match &mut self.state {
            State::Asking(wire, ..) => Some(wire),
            State::Resting | State::Resolving(_) => None,
        }
    }

    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Resting => None,
            State::Resolving(lookup) => Some(lookup.look_at(now)),
            State::Asking(.., until) => Some(*until),
        }
    }

    /// The question comes to nothing, or its connection is of no use any more.
    pub(super) fn give_up(&mut self, now: Instant) {
        if !matches!(self.state, State::Resting) {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        self.state = State::Resting;
        self.next = Some(now + self.retry.wait());
    }
}

impl Redis {
    /// Redis has refused to write.
    pub(super) fn is_read_only(&mut self, now: Instant) {
        let read_only = &mut self.link.read_only;
        if !std::mem::replace(&mut read_only.is_on, true) {
            tracing::warn!(
                "{}: takes no writes; every change is refused until it does, or a master answers there; \
                 reads go on",
                self.shown
            );
        }
        if matches!(read_only.state, State::Resting) && read_only.next.is_none_or(|at| at <= now) {
            read_only.state = State::Resolving(Lookup::begin(&self.settings, now));
        }
    }

    /// A change was stored.
    pub(super) fn has_accepted(&mut self) {
        if self.link.read_only.is_on() {
            tracing::info!("{}: takes writes again", self.shown);
            let read_only = &mut self.link.read_only;
            read_only.retry.begin_afresh();
            (read_only.next, read_only.is_on) = (None, false);
        }
    }

    pub(super) fn tend_read_only(&mut self, now: Instant) {
        match &self.link.read_only.state {
            State::Resting => {}
            State::Resolving(lookup) => match lookup.look(now) {
                None => {}
                Some(Err(_)) => self.link.read_only.rest(now),
                Some(Ok(addresses)) => {
                    let number = self.link.read_only.asked;
                    let at = (number as usize).checked_rem(addresses.len());
                    let address = at.and_then(|at| addresses.get(at).copied());
                    let generation = number.wrapping_add(1);
                    self.link.read_only.asked = generation;
                    let id = SlotId {
                        slot: SLOT,
                        generation,
                    };
                    let wire = address.and_then(|address| {
                        Wire::connect(address, self.link.tls(), id, &self.registry).ok()
                    });
                    let Some(mut wire) = wire else {
                        return self.link.read_only.rest(now);
                    };
                    let has_login = self.settings.address.password.is_some();
                    let login = has_login.then_some(Step::Login);
                    let steps = login.into_iter().chain([Step::Role]);
                    let mut len = 0;
                    for step in steps {
                        wire.queue(&self.pack_step(&step));
                        len += 1;
                    }
                    let until = now + self.settings.connect_timeout;
                    self.link.read_only.state = State::Asking(Box::new(wire), len, until);
                }
            },
            State::Asking(.., until) if *until <= now => self.end_asking(now),
            State::Asking(..) => {}
        }
    }

    fn end_asking(&mut self, now: Instant) {
        if let Some(wire) = self.link.read_only.wire() {
            wire.leave(&self.registry);
        }
        self.link.read_only.rest(now);
    }

    /// What has come over the connection of its own.
    pub(super) fn read_role(&mut self, now: Instant) {
        let mut answered: Vec<Value> = Vec::new();
        let State::Asking(wire, len, _) = &mut self.link.read_only.state else {
            return;
        };
        let outcome = wire.read(&mut self.buffer, &mut answered, now);
        *len = len.saturating_sub(answered.len());
        let is_answered = *len == 0;
        if !is_answered && outcome.is_ok() {
            return;
        }
        self.end_asking(now);
        let role = answered.pop().filter(|_| is_answered);
        let is_there =
            role.is_some_and(|role| answers::error_of(&role).is_none() && answers::is_master(role));
        if is_there {
            self.lose(&Fault::Replaced, now);
        }
    }
}
