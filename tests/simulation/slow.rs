//! Readers that stop taking while their group changes: what is kept for them, and that nobody is closed for
//! it.

use std::collections::{BTreeSet, HashMap};

use iii_stream::id::{GroupKey, SlotId};
use iii_stream::subscribers::{Look, State};

use crate::Simulation;
use crate::model::Model;
use crate::worker::Worker;

/// More than the bounds of most runs have room for.
const CHANGES: usize = 80;

impl Simulation {
    /// One reader of some worker takes nothing, while its group changes again and again. What is kept for it
    /// is bounded: each turn of its worker looks at that.
    pub(crate) fn fall_behind(&mut self) {
        let worker = self.pace.below(self.workers.len());
        let Some(peer) = self.any_peer(worker).filter(|peer| peer.is_open()) else {
            return;
        };
        peer.line.borrow().room = 0;
        let Some(group) = peer.groups().next().cloned() else {
            return;
        };
        self.pace.is_full = true;
        for _ in 0..CHANGES {
            self.call_of(group.clone());
            self.turn_of_engine();
            (0..self.workers.len()).for_each(|worker| self.turn_of_worker(worker));
            self.turn_of_store();
            self.check();
        }
        self.pace.is_full = false;
    }
}

impl Worker {
    /// Who takes too little is not closed for it.
    pub(crate) fn check_nobody_is_closed(&self, before: &HashMap<SlotId, Look>) {
        for (id, look) in before {
            let peer = self.peers.get(id).filter(|peer| peer.is_open());
            let is_alive = peer.is_some_and(|peer| !peer.line.borrow().is_dead);
            let state = self.core.look(*id).map(|look| look.state);
            let closes = look.state == State::Open && state == Some(State::Closing);
            assert!(!is_alive || !closes, "a slow reader is closed");
        }
    }

    /// Lists are bounded, however seldom a sweep goes on: a reader's last visit left it no further
    /// behind than the bound and one frame, or every item is kept once for it; and since then two sweeps
    /// have begun at most. After each a quarter of the bound came, and what the turn that went beyond it
    /// had begun.
    pub(crate) fn check_lists(&self, model: &Model) {
        let behind_bytes = self.settings.limits.behind_bytes;
        let of_sweep = behind_bytes / 4 + self.events_bytes_most;
        let of_group = behind_bytes + behind_bytes / 16 + self.events_bytes_most + 2 * of_sweep;
        let readers = self.peers.len() * size_of::<u32>();
        let peers = self.peers.values();
        // Subscriptions with a pace have lists of their own.
        let lists = peers.flat_map(|peer| peer.groups().map(|group| (group, peer.pace_ms())));
        let lists: BTreeSet<(&GroupKey, Option<u64>)> = lists.collect();
        let customs = self.settings.limits.custom_events_behind;
        let of_list = |(group, _): &(&GroupKey, Option<u64>)| {
            of_group + model.kept_bytes(group, customs) + 8 * readers
        };
        let most: usize = lists.iter().map(of_list).sum();
        let held = self.core.fanout().held_bytes();
        assert!(held <= most + of_group, "{held} bytes are held, not {most}");
    }

    /// Who may be brought up to date by item in the sweeps of this turn.
    pub(crate) fn look_at_behind(&mut self, model: &Model) {
        let most = self.settings.limits.behind_bytes;
        for peer in self.peers.values_mut() {
            let groups: BTreeSet<&GroupKey> = peer.groups().collect();
            let arrived = |group: &GroupKey| self.arrived.get(group).copied().unwrap_or(0);
            let behind = groups
                .into_iter()
                .map(|group| peer.client.behind(group, arrived(group), model));
            peer.client.is_far_behind |= behind.sum::<usize>() > most;
        }
    }
}
