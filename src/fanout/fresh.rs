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
    pub(super) asked_at: u64,
    pub(super) state: State,
}

pub(super) enum State {
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
