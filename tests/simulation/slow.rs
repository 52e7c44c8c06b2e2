//! What is kept for readers that are behind, and who is closed for it.

use std::collections::{BTreeSet, HashMap};

use iii_stream::id::{GroupKey, SlotId};
use iii_stream::subscribers::{Look, State};

use crate::model::Model;
use crate::peer::Peer;
use crate::worker::{Around, Worker};

impl Worker {
    /// Who was closed for it is behind, and who was not is not.
    pub(crate) fn look_at_slow(&mut self, before: &HashMap<SlotId, Look>, around: &mut Around<'_>) {
        for (id, look) in before {
            let is_alive = |peer: &&Peer| peer.is_open() && !peer.line.borrow().is_dead;
            let peer = self.peers.get(id).filter(is_alive);
            let closes = self.core.look(*id).map(|look| look.state) == Some(State::Closing);
            if let Some(peer) = peer
                && closes
                && look.state == State::Open
            {
                assert!(
                    look.is_blocked || look.is_to_write,
                    "a reader that takes all is not slow"
                );
                self.check_slow(peer, around.model);
            }
        }
        self.listen(around);
        let is_at_rest =
            !self.core.fanout().is_due() && self.looks().values().all(|look| !look.is_to_write);
        for id in self.ids() {
            if is_at_rest && self.core.look(id).is_some_and(|look| look.is_blocked) {
                self.check_not_slow(id, around.model);
            }
        }
    }

    /// Lists are bounded, however seldom a sweep goes on: a reader's last visit left it no further
    /// behind than the bound and one frame, and since then two sweeps have begun at most. After each
    /// a quarter of the bound came, and what the turn that went beyond it had begun.
    pub(crate) fn check_lists(&self) {
        let behind_bytes = self.settings.limits.behind_bytes;
        let of_sweep = behind_bytes / 4 + self.events_bytes_most;
        let of_group = behind_bytes + self.events_bytes_most + 2 * of_sweep;
        let fanout = self.core.fanout();
        assert!(fanout.held_bytes() <= fanout.groups_len() * of_group);
    }

    /// It was closed for it: it is further behind than the bound.
    fn check_slow(&self, peer: &Peer, model: &Model) {
        let groups: BTreeSet<&GroupKey> = peer.groups().collect();
        let behind = groups
            .into_iter()
            .map(|group| self.behind(peer, group, model).1);
        let is_far = behind.sum::<usize>() > self.settings.limits.behind_bytes;
        let is_far = is_far || peer.client.begins_anew(); // with `sync`s of any length
        assert!(is_far, "it is not far behind: {:?}", peer.client);
    }

    /// It was not: no sweep that found it blocked has found it too far behind.
    fn check_not_slow(&mut self, id: SlotId, model: &Model) {
        let Some(peer) = self.peers.get(&id).filter(|peer| peer.is_open()) else {
            return;
        };
        let Some(since) = &peer.blocked_since else {
            let arrived = self.arrived.clone();
            self.peers
                .entry(id)
                .and_modify(|peer| peer.blocked_since = Some(arrived));
            return;
        };
        for group in peer.groups() {
            if since.get(group) != self.arrived.get(group) {
                let (surely, _) = self.behind(peer, group, model);
                let most = self.settings.limits.behind_bytes;
                assert!(surely <= most, "a slow reader is not reported");
            }
        }
    }

    /// Bytes that wait for the socket here: those that are surely behind the frame being written,
    /// and all from the first that it lacks.
    fn behind(&self, peer: &Peer, group: &GroupKey, model: &Model) -> (usize, usize) {
        let arrived = self.arrived.get(group).copied().unwrap_or(0);
        peer.client.behind(group, arrived, model)
    }
}
