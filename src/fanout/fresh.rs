//! A fresh `sync` of a group for readers far behind, in place of changes that weigh more: asked of the
//! group's owner when one of them could take it, and shared by all who can while it is fresh.
//!
//! May not know who asks the owner.

use std::sync::Arc;

use crate::id::LocalGroupId;
use crate::protocol::frame::SyncFrame;

use super::Fanout;
use super::group::LocalGroup;
use super::place::Place;
use super::reader::{Connections, MemberAt};

/// While less than this part of its length has come since, a `sync` is fresh.
const FRESH_PARTS: usize = 10;
/// So much has to come before another one is asked for: the owner is not to make one for every event.
const ASKED_BYTES: u64 = if cfg!(debug_assertions) {
    200
} else {
    4 * 1024
};

/// One that was asked for.
pub(super) struct Fresh {
    /// The bytes that had come when it was.
    asked_at: u64,
    state: State,
}

enum State {
    Asked,
    /// It came, and goes before that frame.
    Here(u64, Arc<SyncFrame>),
    /// It was taken, is too old, or could not be had.
    Gone,
}

/// How a reader is brought up to date.
pub(super) enum Choice {
    /// By the frames that it lacks.
    Frames,
    /// By this `sync`, which waits in its place now.
    Sync(Arc<SyncFrame>),
    /// By one that is to be asked for: nothing is written meanwhile.
    Ask,
    /// By one that has been asked for.
    Hold,
}

impl LocalGroup {
    /// How the reader of that place, whose socket takes bytes, is brought up to date. `room`: how long a
    /// `sync` may be.
    pub(super) fn choose(&mut self, at: MemberAt, room: usize) -> Choice {
        let next = self.next_of(at);
        if !self.list.is_past(next) || !self.place(at).is_some_and(Place::may_begin_afresh) {
            return Choice::Frames;
        }
        let by_frames = self.list.bytes_from(next);
        let by_frames = by_frames.saturating_sub(self.list.custom_bytes());
        let fresh = self.fresh.as_deref();
        let came = fresh.map(|fresh| self.list.offset() - fresh.asked_at);
        let may_ask = came.is_none_or(|came| came >= ASKED_BYTES) && self.sync_len <= room;
        match fresh.map(|fresh| &fresh.state) {
            Some(State::Asked) if by_frames > self.sync_len => return Choice::Hold,
            Some(State::Asked) => return Choice::Frames,
            Some(State::Here(before, sync)) => {
                let behind = self.list.bytes_from(*before);
                let is_fresh = behind <= sync.len() / FRESH_PARTS;
                let may_take = self.place(at).is_some_and(|place| place.may_take(*before));
                let is_less = may_take && sync.len() + behind < by_frames;
                if is_less && (is_fresh || !may_ask) {
                    let (before, sync) = (*before, Arc::clone(sync));
                    if let Some(place) = self.place_mut(at) {
                        place.take_fresh(before, Arc::clone(&sync));
                    }
                    return Choice::Sync(sync);
                }
                if is_fresh {
                    return Choice::Frames;
                }
            }
            Some(State::Gone) | None => {}
        }
        if by_frames <= self.sync_len || !may_ask {
            return Choice::Frames;
        }
        self.joins += 1;
        self.fresh = Some(Box::new(Fresh {
            asked_at: self.list.offset(),
            state: State::Asked,
        }));
        Choice::Ask
    }

    /// A `sync` that is too old for anybody goes.
    pub(super) fn let_fresh_go(&mut self) {
        let Some(fresh) = &mut self.fresh else {
            return;
        };
        if let State::Here(before, sync) = &fresh.state
            && self.list.bytes_from(*before) > sync.len()
        {
            fresh.state = State::Gone;
        }
        if self.list.held_bytes() == 0 && !matches!(fresh.state, State::Asked) {
            self.fresh = None;
        }
    }
}

impl Fanout {
    /// The `sync` that was asked for came, or could not be had.
    pub fn refreshed<C: Connections>(
        &mut self,
        local: LocalGroupId,
        sync: Option<Arc<SyncFrame>>,
        connections: &mut C,
    ) {
        let is_begun = |group: &LocalGroup| group.afresh.is_some();
        if self.groups.get(local).is_some_and(is_begun) {
            self.finish_afresh(local, connections);
        }
        self.end_join(local);
        if let Some(group) = self.groups.get_mut(local) {
            let before = group.list.end();
            if let Some(fresh) = &mut group.fresh {
                fresh.state = match sync {
                    Some(sync) => {
                        (group.sync_len, group.sync_at) = (sync.len(), before);
                        State::Here(before, sync)
                    }
                    None => State::Gone,
                };
            }
            // Those who have waited for it.
            for (at, place) in group.places() {
                if group.list.is_past(group.next_of(at)) {
                    self.outcome.unfinished.push(place.connection);
                }
            }
        }
        self.let_go_if_empty(local);
    }

    /// How long a further `sync` for a reader far behind may be.
    pub(super) fn syncs_room(&self) -> usize {
        (self.bounds.worker / 2).saturating_sub(self.held_syncs.bytes())
    }
}
