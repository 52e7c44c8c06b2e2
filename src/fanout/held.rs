//! `sync`s that readers have still to take: how many bytes they are together, and whose they are. Each
//! reader may hold another state of a large group.
//!
//! One that several readers of a group share counts once. What has been taken is found by looking: after
//! the turn in which it was entered, then now and then.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::id::SlotId;
use crate::protocol::frame::SyncFrame;

use super::Fanout;
use super::reader::Connections;

/// So many of those that were not taken at once are looked at in a turn, and for each new one two more.
const LOOKS_A_TURN: usize = 64;

/// What is held.
#[derive(Default)]
pub(super) struct HeldSyncs {
    /// Entered since the last look: nearly all are taken at once.
    new: Vec<HeldSync>,
    /// Those that were there at the last look.
    old: VecDeque<HeldSync>,
    bytes: usize,
}

struct HeldSync {
    sync: Weak<SyncFrame>,
    /// What it counts.
    bytes: usize,
    /// Who was the first to be given it, or one of those who share it.
    connection: SlotId,
}

impl HeldSyncs {
    /// A reader is given a `sync`. `last`: that of the one before in its group.
    pub(super) fn add(
        &mut self,
        connection: SlotId,
        sync: &Arc<SyncFrame>,
        last: &mut Weak<SyncFrame>,
    ) {
        let is_counted = last.as_ptr() == Arc::as_ptr(sync);
        let bytes = if is_counted { 0 } else { sync.len() };
        if !is_counted {
            *last = Arc::downgrade(sync);
        }
        self.bytes += bytes;
        self.new.push(HeldSync {
            sync: Weak::clone(last),
            bytes,
            connection,
        });
    }

    /// A reader far behind is given one that its group keeps for such readers.
    pub(super) fn add_own(&mut self, connection: SlotId, sync: &Arc<SyncFrame>) {
        let of_others = Arc::strong_count(sync) > 3; // the group's, the reader's and this one
        let bytes = if of_others { 0 } else { sync.len() };
        self.bytes += bytes;
        self.new.push(HeldSync {
            sync: Arc::downgrade(sync),
            bytes,
            connection,
        });
    }

    /// Bytes of all that was held at the last look, or has come since.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Fanout {
    /// Looks which `sync`s have been taken. While readers hold up more than they may together, those
    /// are told in the outcome that take nothing and have much to take.
    pub(super) fn look_at_held<C: Connections>(&mut self, connections: &mut C) {
        let mut looks = LOOKS_A_TURN + 2 * self.held_syncs.new.len();
        let held = &mut self.held_syncs;
        for new in held.new.drain(..) {
            match new.sync.strong_count() {
                0 => held.bytes -= new.bytes,
                _ => held.old.push_back(new),
            }
        }
        if held.new.capacity() > LOOKS_A_TURN {
            held.new = Vec::new();
        }
        looks = looks.min(held.old.len());
        for _ in 0..looks {
            let Some(old) = self.held_syncs.old.pop_front() else {
                return;
            };
            if old.sync.strong_count() == 0 {
                self.held_syncs.bytes -= old.bytes;
                continue;
            }
            let allowed = self.allowed_bytes();
            if allowed < self.bounds.reader
                && let Some((reader, _)) = connections.parts(old.connection)
                && reader.blocked
                && reader.queue_bytes() > allowed
            {
                self.outcome.slow.push(old.connection);
            }
            self.held_syncs.old.push_back(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::test_local::Local;
    use crate::fanout::{Bounds, Budget, Entry};
    use crate::id::GroupKey;
    use crate::protocol::frame::GroupNames;
    use crate::protocol::pace::Pace;

    const SYNC_BYTES: usize = 100_000;

    fn large(key: &GroupKey, time: u64) -> Arc<SyncFrame> {
        let chunk = format!(",\"{}\"", "x".repeat(SYNC_BYTES));
        let names = GroupNames::new(key);
        Arc::new(SyncFrame::of_group(
            &names,
            time,
            vec![chunk.as_str().into()],
        ))
    }

    /// Joins; takes so many bytes of the `sync`.
    fn join(local: &mut Local, sync: &Arc<SyncFrame>, room: usize) -> SlotId {
        let at = local.socket();
        local.block(at, room);
        let key = GroupKey::new("s", "g");
        let group = local.fanout.begin_join(&key);
        let entry = Entry {
            id: "a".into(),
            item: None,
            sync: Some(Arc::clone(sync)),
            pace: Pace::NONE,
        };
        let (fanout, sockets) = (&mut local.fanout, &mut local.sockets);
        fanout.enter(at, group, entry, sockets);
        let mut budget = Budget::of_writes(1000);
        fanout.drain(at, sockets, &mut budget);
        fanout.sweep(sockets, &mut budget);
        at
    }

    fn with_room_for(syncs: usize) -> Local {
        let mut local = Local::new();
        local.fanout.bounds = Bounds {
            reader: 50 * SYNC_BYTES,
            worker: syncs * SYNC_BYTES,
            custom_events: 1000,
        };
        local
    }

    #[test]
    fn states_of_a_group_that_silent_readers_hold_are_bounded_together() {
        let mut local = with_room_for(20);
        let key = GroupKey::new("s", "g");
        let mut held: Vec<Weak<SyncFrame>> = Vec::new();
        let mut gone = Vec::new();
        for n in 0..200 {
            let sync = large(&key, n);
            held.push(Arc::downgrade(&sync));
            join(&mut local, &sync, 10);
            drop(sync);
            for at in local.fanout.take_outcome().slow {
                if !gone.contains(&at) {
                    gone.push(at);
                    local.end(at);
                    local.sockets.slots.remove(at);
                }
            }
            let alive = held.iter().filter(|sync| sync.strong_count() > 0).count();
            assert!(alive <= 40, "{alive} of {n}");
        }
        assert!(gone.len() > 100);
    }

    #[test]
    fn who_takes_its_sync_holds_nothing_and_a_shared_one_counts_once() {
        let mut local = with_room_for(20);
        let key = GroupKey::new("s", "g");
        for n in 0..200 {
            join(&mut local, &large(&key, n), usize::MAX);
            local.fanout.look_at_held(&mut local.sockets);
            assert_eq!(local.fanout.held_syncs.bytes(), 0);
        }
        let shared = large(&key, 200);
        let sockets: Vec<SlotId> = (0..200).map(|_| join(&mut local, &shared, 10)).collect();
        assert_eq!(local.fanout.held_syncs.bytes(), shared.len());
        assert!(local.fanout.take_outcome().slow.is_empty());
        drop(shared);
        for at in sockets {
            local.end(at);
            local.sockets.slots.remove(at);
        }
        for _ in 0..10 {
            local.fanout.look_at_held(&mut local.sockets);
        }
        assert_eq!(local.fanout.held_syncs.bytes(), 0);
        assert!(local.fanout.held_syncs.old.is_empty());
    }
}
