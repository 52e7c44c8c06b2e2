//! The end of the process on one worker: no new sockets, and the ones that are there are closed
//! with 1012, spread over a while, for they all come back two seconds after.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::id::{SlotId, WorkerId};

use crate::mesh::ToOwner;
use crate::net::ENDING;

use super::Worker;

/// How often it goes on while it lasts.
const STEP: Duration = Duration::from_millis(10);

/// For each socket; so few are closed sooner than many.
const SPREAD_A_SOCKET: Duration = Duration::from_millis(2);

/// Over how long so many closes are spread.
pub fn drain_for(drain: Duration, sockets: usize) -> Duration {
    let sockets = u32::try_from(sockets).unwrap_or(u32::MAX);
    drain.min(SPREAD_A_SOCKET.saturating_mul(sockets))
}

pub(super) struct Drain {
    /// Closes are spread over this at most.
    spread: Duration,
    drained: Sender<WorkerId>,
    state: State,
}

enum State {
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
    pub(super) fn new(spread: Duration, drained: Sender<WorkerId>) -> Drain {
        Drain {
            spread,
            drained,
            state: State::Serving,
        }
    }

    /// Whether the process is not about to end.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.state, State::Serving)
    }

    /// When it goes on at the latest.
    pub(super) fn next_at(&self) -> Option<Instant> {
        match &self.state {
            State::Closing { next_at, .. } => Some(*next_at),
            State::Serving | State::Done => None,
        }
    }
}

impl Worker {
    pub(super) fn go_on_draining(&mut self) {
        if self.drain.is_serving() {
            if !self.ports.shared.draining.load(Ordering::Acquire) {
                return;
            }
            // All workers together, for they all come back to the same place.
            let sockets = self.ports.shared.connections_len();
            self.accept_rest();
            // Sockets that were handed over meanwhile are among the commands.
            while let Some(message) = self.ports.commands.take() {
                match message {
                    ToOwner::Command(command) => self.own_commands.push_back(command),
                    ToOwner::Socket(stream) => self.take_socket(stream),
                    ToOwner::Hooks(hooks) => self.set_hooks(hooks),
                }
            }
            let left = self.connections.ids();
            self.drain.state = State::Closing {
                began: self.now.monotonic,
                spread: drain_for(self.drain.spread, sockets),
                total: left.len(),
                left,
                next_at: self.now.monotonic,
            };
        }
        if self.connections.len() == 0 {
            if !matches!(self.drain.state, State::Done) {
                self.drain.state = State::Done;
                // The server may have given up waiting.
                let _ = self.drain.drained.try_send(self.ports.id);
            }
            return;
        }
        let State::Closing {
            began,
            spread,
            left,
            total,
            next_at,
        } = &mut self.drain.state
        else {
            return;
        };
        if *next_at > self.now.monotonic {
            return;
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
    }
}
