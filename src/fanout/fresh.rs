//! A fresh `sync` of a group for readers far behind: how far it has come, and what it means for one of
//! them.
//!
//! May not know the group.

use std::sync::Arc;

use crate::protocol::frame::SyncFrame;

/// One that was asked for.
pub(super) struct Fresh {
    /// The bytes that had come when it was.
    pub(super) asked_at: u64,
    pub(super) state: State,
}

/// How far it is.
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
    /// By one that has been asked for, or not before its cohort is due.
    Hold,
}
