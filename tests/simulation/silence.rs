//! Clients that say nothing, and clients that take nothing or a byte at a time: who of them has to go, and
//! who has to stay.

use std::collections::BTreeMap;
use std::time::Duration;

use iii_stream::id::SlotId;
use iii_stream::subscribers::State;

use crate::Simulation;
use crate::peer::Peer;

/// How much the clock goes on at a time.
const STEP_MS: u64 = 100;
/// What a look may be late: a tick, and what it was rounded up by.
const SLACK_MS: u64 = 500;

/// Who comes to be blocked does so in this time, and is looked at when he has to be gone.
const LATER_MS: u64 = 2_000;

/// What a client does from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    All,
    /// A byte at a time.
    Little,
    Nothing,
}

impl Simulation {
    /// Nobody says anything but in answer to pings, and some stop taking what is sent: in time all are
    /// gone that have to go. Who has to stay is `Peer::is_noted`'s to say, here as in every run.
    pub(crate) fn fall_silent(&mut self) {
        self.pace.is_full = true;
        let takes = self.stop_taking();
        let limits = &self.settings.limits;
        let (ping, pong) = (limits.ping_interval_ms, limits.pong_timeout_ms);
        let silent = (ping > 0).then_some(ping + ping / 10 + pong + SLACK_MS);
        let stalled = limits.stall_timeout_ms + SLACK_MS;
        let until = self.elapsed + silent.unwrap_or(0).max(stalled + LATER_MS);
        // One that nothing waits for is blocked no longer, and may come to be again.
        let mut blocked_since = BTreeMap::new();
        while self.elapsed < until {
            self.elapsed += STEP_MS;
            for worker in 0..self.workers.len() {
                for (id, takes) in &takes[worker] {
                    if *takes == Takes::Little {
                        self.workers[worker].takes_bytes(*id, 1);
                    }
                }
                self.turn_of_worker(worker);
                for id in takes[worker].keys() {
                    let look = self.workers[worker].core.look(*id);
                    let is_blocked = look.is_some_and(|look| look.is_blocked);
                    match is_blocked {
                        true => drop(blocked_since.entry((worker, *id)).or_insert(self.elapsed)),
                        false => drop(blocked_since.remove(&(worker, *id))),
                    }
                }
            }
            self.turn_of_engine();
            self.turn_of_store();
            self.check();
        }
        for (number, (worker, takes)) in self.workers.iter().zip(&takes).enumerate() {
            for (id, peer) in &worker.peers {
                let look = worker.core.look(*id);
                if look.map(|look| look.state) != Some(State::Open) {
                    continue;
                }
                match takes.get(id) {
                    Some(Takes::All) if peer.is_mute => {
                        // What it had said before may have been left unread for long.
                        let heard_at = peer.heard_at.monotonic;
                        let quiet = self.time().monotonic.duration_since(heard_at);
                        assert!(
                            silent.is_none_or(|silent| quiet < Duration::from_millis(silent)),
                            "it has not answered for {quiet:?}: {:?}",
                            peer.client
                        );
                    }
                    Some(Takes::Nothing) => {
                        let since = blocked_since.get(&(number, *id));
                        assert!(
                            since.is_none_or(|since| since + stalled > self.elapsed),
                            "it has taken nothing since {since:?}: {:?}",
                            peer.client
                        );
                    }
                    Some(Takes::All | Takes::Little) | None => {}
                }
            }
        }
        self.pace.is_full = false;
    }

    /// What each client does from now on. Events are made that some of them do not take.
    fn stop_taking(&mut self) -> Vec<BTreeMap<SlotId, Takes>> {
        let mut all = Vec::new();
        for worker in 0..self.workers.len() {
            let mut takes = BTreeMap::new();
            for id in self.workers[worker].ids() {
                let how = *self
                    .pace
                    .pick(&[Takes::All, Takes::All, Takes::Little, Takes::Nothing]);
                takes.insert(id, how);
                if let Some(peer) = self.workers[worker].peers.get_mut(&id)
                    && how != Takes::All
                {
                    peer.line.borrow().room = 0;
                }
            }
            all.push(takes);
        }
        let followed = self.peers().filter(|peer| peer.is_open());
        let followed: Vec<_> = followed
            .filter_map(|peer: &mut Peer| peer.groups().next().cloned())
            .collect();
        followed.into_iter().for_each(|key| self.call_of(key));
        all
    }
}
