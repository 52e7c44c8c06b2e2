//! Whose turn it is to be read, and who has had its time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::id::SlotId;
use crate::reading::Unread;
use crate::time::Deadlines;

use super::pacing::Pacing;
use super::silence::Silence;
use super::stalls::Stalls;

/// Whether one socket is to be read.
#[derive(Debug, Default)]
pub struct Turn {
    /// What the poll has told and nobody has read yet.
    pub unread: Unread,
    /// It stands in the queue of sockets to be read.
    pub(super) is_queued: bool,
}

/// The queue and the time limits of all sockets of one port.
pub struct Schedule {
    /// Sockets with something to read, each once.
    pub readable: VecDeque<SlotId>,
    /// Sockets without a whole head or a word on it, in the order of their time limits.
    pub handshakes: Deadlines<SlotId>,
    /// Closing sockets, in the order in which they are given up.
    pub closing: Deadlines<SlotId>,
    /// Who has brought about how much.
    pub pacing: Pacing,
    /// Open sockets, by when something has come from them last.
    pub silence: Silence,
    /// Sockets that take less than waits for them.
    pub stalls: Stalls,
}

impl Schedule {
    /// The schedule of a port without sockets.
    pub fn new(limits: &Limits, now: Instant) -> Schedule {
        let [ping, pong, stall] = times(limits);
        Schedule {
            readable: VecDeque::new(),
            handshakes: Deadlines::default(),
            closing: Deadlines::default(),
            pacing: Pacing::default(),
            silence: Silence::new(ping, pong, now),
            stalls: Stalls::new(stall),
        }
    }

    /// From here on these limits hold, and nobody who is there has longer than they say, but that a first
    /// ping may come up to an interval later. True: all open sockets have to enter [`Schedule::silence`].
    pub fn set_limits(&mut self, limits: &Limits, now: Instant) -> bool {
        let [ping, pong, stall] = times(limits);
        let handshake = Duration::from_millis(limits.handshake_ms);
        self.handshakes.shorten(now + handshake);
        self.stalls.set(stall);
        self.silence.set(ping, pong)
    }

    /// When somebody has had its time, or is to be looked at.
    pub fn next_at(&self) -> Option<Instant> {
        let times = [
            self.handshakes.next_at(),
            self.closing.next_at(),
            self.pacing.next_at(),
            self.silence.next_at(),
            self.stalls.next_at(),
        ];
        times.into_iter().flatten().min()
    }

    /// That socket takes bytes again.
    pub fn unblock(&mut self, id: SlotId) {
        self.stalls.unblock(id);
        self.silence.take(id.slot);
    }

    /// That socket took less than it was given. `has_taken`: but something.
    pub fn note_blocked(&mut self, id: SlotId, has_taken: bool, now: Instant) {
        self.stalls.note_blocked(id, has_taken, now);
        if has_taken {
            self.silence.take(id.slot);
        }
    }
}

impl Turn {
    /// True where it is to be queued now. `is_paused`: it has kept something to be gone on with.
    pub(super) fn may_be_queued(&mut self, is_paused: bool) -> bool {
        let may = !self.is_queued && (self.unread.is_there() || is_paused);
        self.is_queued |= may;
        may
    }
}

fn times(limits: &Limits) -> [Duration; 3] {
    let times = [
        limits.ping_interval_ms,
        limits.pong_timeout_ms,
        limits.stall_timeout_ms,
    ];
    times.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_times_hold_for_who_comes_and_for_who_is_there() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let hours = Limits {
            handshake_ms: 3_600_000,
            stall_timeout_ms: 3_600_000,
            ..Limits::default()
        };
        let seconds = Limits {
            handshake_ms: 1000,
            stall_timeout_ms: 1000,
            ..Limits::default()
        };
        let (early, late) = (SlotId::first(0), SlotId::first(1));
        let mut schedule = Schedule::new(&hours, now);
        schedule.handshakes.push(now + 3600 * second, early);
        schedule.note_blocked(early, false, now);
        schedule.set_limits(&seconds, now + second);
        schedule.handshakes.push(now + 2 * second, late);
        schedule.note_blocked(late, false, now + second);
        let until = now + 2 * second;
        assert!(schedule.next_at().is_some_and(|at| at <= until));
        let handshakes = &mut schedule.handshakes;
        assert_eq!(handshakes.pop_due(until), Some(early));
        assert_eq!(handshakes.pop_due(until), Some(late));
        let stalls = &mut schedule.stalls;
        assert_eq!(stalls.pop_due(until), Some(early));
        assert_eq!(stalls.pop_due(until), Some(late));
        schedule.handshakes.push(until + second, late);
        schedule.set_limits(&hours, until);
        assert_eq!(schedule.handshakes.pop_due(until + second), Some(late));
    }
}
