//! How sockets end: closed with a code, given up when their time is over, or all together at the end of
//! the process, spread over a while, for they all come back two seconds after.
//!
//! The time is that of the turn.

use std::time::{Duration, Instant};

use crate::id::SlotId;
use crate::life::Sockets as _;
use crate::mesh::ENDING;
use crate::metrics::Closed;
use crate::protocol::connection::close_frame;
use crate::protocol::handshake::Refusal;
use crate::shard::Command;

use super::Subscribers;
use super::closed::reason_of;
use super::connections::{Phase, Socket};
use super::notes::What;

/// How often a drain goes on while it lasts.
const STEP: Duration = Duration::from_millis(10);

/// For each socket; so few are closed sooner than many.
const SPREAD_A_SOCKET: Duration = Duration::from_millis(2);

/// Over how long so many closes are spread.
pub fn drain_for(drain: Duration, sockets: usize) -> Duration {
    let sockets = u32::try_from(sockets).unwrap_or(u32::MAX);
    drain.min(SPREAD_A_SOCKET.saturating_mul(sockets))
}

/// How far the end of the process is here.
pub(super) enum Drain {
    Serving,
    Closing {
        began: Instant,
        spread: Duration,
        left: Vec<SlotId>,
        total: usize,
        next_at: Instant,
    },
    Done,
}

impl Drain {
    /// Whether the process is not about to end.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self, Drain::Serving)
    }

    /// When it goes on at the latest.
    pub(super) fn next_at(&self) -> Option<Instant> {
        match self {
            Drain::Closing { next_at, .. } => Some(*next_at),
            Drain::Serving | Drain::Done => None,
        }
    }
}

impl<S: Socket> Subscribers<S> {
    /// Closes with a code: what waits is dropped but for a frame that has begun. A socket that is no
    /// WebSocket yet ends without a word, or with the answer that is left for it.
    pub(super) fn close(&mut self, id: SlotId, code: u16, reason: &str) {
        match self
            .connections
            .get_mut(id)
            .map(|connection| &connection.phase)
        {
            Some(Phase::Head(_)) => self.ended(id),
            Some(Phase::Waits(_)) => self.refuse(id, Refusal::AuthUnavailable),
            _ => {
                self.closing_for = Some((reason_of(code, reason), code));
                self.close_with(id, close_frame(Some(code), reason));
            }
        }
    }

    /// A closing socket that has sent everything only waits for the peer's end.
    pub(super) fn finish_if_closing(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && matches!(connection.phase, Phase::Closing)
            && connection.reader.queue_is_empty()
        {
            connection.socket.end_writes();
        }
    }

    /// The socket has ended, or is to end without a word.
    pub fn ended(&mut self, id: SlotId) {
        self.note(id, || What::Gone);
        self.note_closed(id, Closed::Gone, None);
        self.end_subscriptions(id); // what it owes is counted before it is not
        self.change_phase(id, Phase::Closing);
        if let Some(connection) = self.connections.get_mut(id)
            && connection.reader.is_ending()
        {
            connection.is_over = true;
            connection.socket.end(); // the peer waits for nothing
            return;
        }
        self.forget(id);
    }

    /// The socket has ended, and nothing of it is left in the fan-out: it is closed here.
    pub(super) fn forget(&mut self, id: SlotId) {
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        self.blocked.remove(&id);
        self.proxied.remove(&id);
        self.persons.forget(id);
        let shared = &self.ports.shared;
        if let Some(counted) = self.addresses.remove(&id) {
            shared.addresses.uncount(counted);
        }
        if connection.is_let_in {
            shared.uncount_let_in();
        }
        shared.uncount_socket(self.ports.id);
    }

    /// Ends what has had its time.
    pub fn end_overdue(&mut self) {
        self.note_blocked(); // who has just taken something is not stalled
        self.end_overdue_sockets();
    }

    /// Whether the process is not about to end.
    pub fn is_serving(&self) -> bool {
        self.drain.is_serving()
    }

    /// The process is about to end: from here on no socket is taken, and those that are there are
    /// closed one after another over that time.
    pub fn begin_drain(&mut self, spread: Duration) {
        let left = self.connections.ids();
        self.drain = Drain::Closing {
            began: self.now.monotonic,
            spread,
            total: left.len(),
            left,
            next_at: self.now.monotonic,
        };
    }

    /// A command that was sent before the drain and is served in its turn.
    pub fn postpone(&mut self, command: Command) {
        self.own_commands.push_back(command);
    }

    /// Closes as many sockets as it is time for. True: just now all are gone.
    pub fn go_on_draining(&mut self) -> bool {
        // Those on their way here count as well.
        let counted = self.ports.shared.sockets_of(self.ports.id);
        let is_empty = self.connections.len() == 0 && counted == 0;
        let Drain::Closing {
            began,
            spread,
            left,
            total,
            next_at,
        } = &mut self.drain
        else {
            return false;
        };
        if is_empty {
            self.drain = Drain::Done;
            return true;
        }
        if *next_at > self.now.monotonic {
            return false;
        }
        *next_at = self.now.monotonic + STEP;
        let elapsed = self.now.monotonic.saturating_duration_since(*began);
        let share = elapsed.as_secs_f64() / spread.as_secs_f64().max(0.001);
        // The first one is closed at once, so that one alone does not hold the process up.
        let may_be_left = (*total as f64 * (1.0 - share)).ceil() as usize;
        let keep = may_be_left.saturating_sub(1).min(left.len());
        for id in left.split_off(keep) {
            self.close(id, 1012, ENDING);
        }
        false
    }
}
