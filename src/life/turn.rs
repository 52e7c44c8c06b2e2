//! Whose turn it is to be read, and who has had its time.

use std::collections::VecDeque;

use crate::id::SlotId;
use crate::reading::Unread;
use crate::time::Deadlines;

use super::pacing::Pacing;

/// Of one socket.
#[derive(Debug, Default)]
pub struct Turn {
    /// What the poll has told and nobody has read yet.
    pub unread: Unread,
    /// It stands in the queue of sockets to be read.
    pub(super) is_queued: bool,
}

/// Of all sockets of one port.
#[derive(Default)]
pub struct Schedule {
    /// Sockets with something to read, each once.
    pub readable: VecDeque<SlotId>,
    /// Sockets without a whole head or a word on it, in the order of their time limits.
    pub handshakes: Deadlines<SlotId>,
    /// Closing sockets, in the order in which they are given up.
    pub closing: Deadlines<SlotId>,
    /// Who has brought about how much.
    pub pacing: Pacing,
}

impl Turn {
    /// True where it is to be queued now. `is_paused`: it has kept something to be gone on with.
    pub(super) fn may_be_queued(&mut self, is_paused: bool) -> bool {
        let may = !self.is_queued && (self.unread.is_there() || is_paused);
        self.is_queued |= may;
        may
    }
}
