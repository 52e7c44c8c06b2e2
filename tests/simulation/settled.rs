//! How a run ends: everything is delivered, nothing is left under way, and what everybody knows is what is. And
//! the end of the process, whose sockets are closed in their time.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use iii_stream::id::GroupKey;

use crate::peer::Peer;
use crate::worker::Worker;
use crate::{Kind, Simulation};

impl Simulation {
    /// Everybody has gone: nothing is left of them.
    pub(crate) fn check_end(&mut self) {
        self.engine.check_end();
        assert!(self.on_their_way.is_empty(), "sockets that never arrive");
        for worker in &self.workers {
            assert_eq!(worker.core.fanout().groups_len(), 0);
            assert!(worker.peers.is_empty(), "sockets that are never forgotten");
        }
        assert!(self.moving.is_empty(), "sockets that never arrive");
        let shared = &self.threads.shared;
        let counts = [
            shared.owed_len(),
            shared.connections_len(),
            shared.let_in.load(Ordering::Relaxed),
        ];
        assert_eq!(
            counts, [0; 3],
            "leaves that are owed, sockets, those let in"
        );
    }

    /// The process ends: every socket is closed in its time, and goes.
    pub(crate) fn drain(&mut self) {
        let spread = *self.pace.pick(&[0, 5, 200]);
        for worker in &mut self.workers {
            worker.begin_drain(Duration::from_millis(spread));
        }
        self.pace.is_full = true;
        let until = self.elapsed + spread + 50;
        while self.elapsed < until {
            self.elapsed += 10;
            for worker in 0..self.workers.len() {
                self.turn_of_worker(worker);
            }
            self.turn_of_engine();
            self.turn_of_store();
            self.check();
        }
        // Who has not gone by itself is given up.
        self.elapsed += 2_000;
        (0..self.workers.len()).for_each(|worker| self.turn_of_worker(worker));
        self.pace.is_full = false;
    }

    /// It is settled after that.
    pub(crate) fn end_drain(&mut self) {
        (0..self.workers.len()).for_each(|worker| self.turn_of_worker(worker));
        assert!(self.workers.iter().all(|worker| worker.is_drained));
        assert!(self.accept(0).is_none(), "it is too late");
    }

    /// Everything is delivered, every socket takes all. Only a thread that has something to do, or is
    /// woken, gets a turn, but in the first round.
    pub(crate) fn settle_round(&mut self, is_first: bool) {
        self.pace.is_full = true;
        // Who has asked for too much is read again after a while, and paces pass.
        let holds = |worker: &Worker| {
            let waits = worker.core.fanout().next_due_us().is_some();
            worker.sleeps() && (worker.core.holds_sockets() || waits)
        };
        let engine = self.threads.engine();
        let waits =
            self.threads.sleeps(engine) && self.engine.next_at().is_some() && !self.is_quiet();
        if !is_first && (waits || self.workers.iter().any(holds)) {
            self.elapsed += 100;
            (0..self.workers.len()).for_each(|worker| self.threads.rouse(worker));
        }
        self.stir();
        if is_first || !self.threads.sleeps(self.threads.engine()) {
            self.turn_of_engine();
        }
        if is_first || !self.threads.sleeps(self.threads.store()) || self.store.hears() {
            self.turn_of_store();
        }
        for worker in 0..self.workers.len() {
            self.lets_all_through(worker);
            if is_first || !self.threads.sleeps(worker) {
                self.turn_of_worker(worker);
            }
        }
        self.check();
        self.pace.is_full = false;
    }

    /// Nothing is left, and what everybody knows is what is.
    pub(crate) fn check_settled(&mut self) {
        self.engine.check_settled(&self.model);
        self.model.take_items();
        self.model.check_quiet();
        for (key, group) in &self.model.groups {
            if self.kind == Kind::Log {
                assert_eq!(self.store.double.borrow().items(key), group.items);
            }
        }
        let mut listened: Vec<BTreeSet<&GroupKey>> = vec![BTreeSet::new(); self.workers.len()];
        for worker in &self.workers {
            let mut joined = BTreeSet::new();
            for peer in worker.peers.values() {
                peer.check_quiet(&self.settings, self.time(), &self.model);
                joined.extend(peer.groups());
            }
            assert_eq!(
                worker.core.fanout().groups_len(),
                joined.len(),
                "groups that nobody follows"
            );
            assert_eq!(
                worker.core.fanout().held_bytes(),
                0,
                "frames that nobody lacks"
            );
            for group in joined {
                listened[self.threads.shared.owners.owner_of(group).index()].insert(group);
            }
        }
        for (worker, listened) in self.workers.iter().zip(listened) {
            let is_kept = |key: &&GroupKey| {
                let holds_items = self.kind != Kind::Shared;
                listened.contains(*key) || holds_items && !self.model.groups[*key].items.is_empty()
            };
            let kept = worker.owned().iter().filter(is_kept).count();
            assert_eq!(
                worker.core.shard().groups_len(),
                kept,
                "groups of which nothing is left"
            );
        }
    }

    /// Clients take all, say all, and go if they are about to.
    fn lets_all_through(&mut self, worker: usize) {
        for id in self.workers[worker].ids() {
            let is_roused = self.workers[worker].takes_bytes(id, usize::MAX);
            let Some(peer) = self.workers[worker].peers.get_mut(&id) else {
                continue;
            };
            let dies = {
                let line = peer.line.borrow();
                line.is_dead && !line.has_ended
            };
            if dies {
                peer.ends();
            }
            if peer.has_unsent() {
                peer.goes_on_sending(usize::MAX);
            }
            let has_news = peer.line.borrow().has_news;
            if is_roused || has_news {
                self.threads.rouse(worker);
            }
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.not_quiet().is_empty()
    }

    /// What has still something to do, or waits for something.
    pub(crate) fn not_quiet(&self) -> Vec<&'static str> {
        let awaits = |worker: &Worker| worker.peers.values().any(Peer::awaits_functions);
        let all = [
            ("sockets on their way", self.moving.is_empty()),
            ("the store", self.store.is_quiet()),
            ("the engine", self.engine.is_quiet()),
            ("workers", self.workers.iter().all(Worker::is_quiet)),
            ("joins", !self.workers.iter().any(awaits)),
        ];
        let busy = all.into_iter().filter(|(_, is_quiet)| !is_quiet);
        busy.map(|(what, _)| what).collect()
    }
}
