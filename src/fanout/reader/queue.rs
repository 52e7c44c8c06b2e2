//! What a socket has to be sent beside events, and before any of them: `sync`s, answers, pongs, and the rest
//! of what has begun.
//!
//! May not know which events it lacks.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::id::LocalGroupId;
use crate::protocol::connection::PING_FRAME;
use crate::protocol::frame::{EventFrame, Kind, SyncFrame};

use super::Reader;

/// A ping that waits is among the first entries of a queue: what comes before it is what has begun, and pongs
/// since.
const PINGS_WITHIN: usize = 3;

/// What goes out before any event of a list.
#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Queued>,
    /// What is here, or waits in a place to come here, for this socket alone: rests of events are not
    /// counted, for they are shared.
    own_bytes: usize,
}

struct Queued {
    what: What,
    /// Bytes of it that the socket has taken.
    taken: usize,
}

enum What {
    /// An event, and the kind of change that it is to this socket.
    Event(Arc<EventFrame>, Kind),
    /// A `sync`. With a group it answers no join, and is void if another comes for it.
    Sync(Arc<SyncFrame>, Option<LocalGroupId>),
    /// The answer to the upgrade: nothing goes before it, and nothing voids it.
    Head(Box<[u8]>),
    /// Something of this socket alone: `unauthorized`, a close frame.
    Own(Box<[u8]>),
    /// A pong: only the last one counts (RFC 6455 §5.5.3).
    Pong(Box<[u8]>),
    /// A ping of ours.
    Ping,
}

impl Reader {
    /// Whether nothing waits before the events of lists.
    pub fn queue_is_empty(&self) -> bool {
        self.queue
            .as_ref()
            .is_none_or(|queue| queue.entries.is_empty())
    }

    /// Bytes that wait for this socket alone: whole `sync`s, answers and pongs, but no events.
    pub fn queue_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.own_bytes)
    }

    /// Queues the answer to the upgrade.
    pub fn push_head(&mut self, bytes: Box<[u8]>) {
        debug_assert!(self.queue_is_empty(), "it is the first of all");
        self.push(What::Head(bytes));
    }

    /// Queues something of this socket alone.
    pub fn push_own(&mut self, bytes: Box<[u8]>) {
        self.push(What::Own(bytes));
    }

    /// Queues a `sync`; with its group one that answers no join.
    pub(in crate::fanout) fn push_sync(
        &mut self,
        sync: Arc<SyncFrame>,
        anew: Option<LocalGroupId>,
    ) {
        self.push(What::Sync(sync, anew));
    }

    /// `sync`s of that group that answer no join and have not begun go, for newer ones come.
    pub(in crate::fanout) fn void_syncs(&mut self, local: LocalGroupId) {
        if let Some(queue) = &mut self.queue {
            queue.entries.retain(|queued| {
                let is_of_it = matches!(&queued.what, What::Sync(_, Some(of)) if *of == local);
                let stays = !is_of_it || queued.taken > 0;
                queue.own_bytes -= if stays { 0 } else { queued.own_bytes() };
                stays
            });
        }
        self.let_queue_go();
    }

    /// Queues so many frames of an event that has begun, so that its place can move on.
    pub(in crate::fanout) fn push_begun(
        &mut self,
        frame: &Arc<EventFrame>,
        kind: Kind,
        times: u32,
    ) {
        for _ in 0..times {
            self.push(What::Event(Arc::clone(frame), kind));
        }
    }

    /// A `sync` of so many bytes waits in a place of this reader: it counts from now on.
    pub(in crate::fanout) fn wait_for_sync(&mut self, bytes: usize) {
        self.queue.get_or_insert_default().own_bytes += bytes;
    }

    /// Queues a `sync` that has waited.
    pub(in crate::fanout) fn push_waited(&mut self, sync: Arc<SyncFrame>) {
        let queue = self.queue.get_or_insert_default();
        queue.entries.push_back(Queued::new(What::Sync(sync, None)));
    }

    /// `sync`s of so many bytes that waited will not come.
    pub(in crate::fanout) fn void_waited(&mut self, bytes: usize) {
        if let Some(queue) = &mut self.queue {
            queue.own_bytes -= bytes;
        }
        self.let_queue_go();
    }

    /// Puts a pong before everything that may wait; an older one that waits is void.
    pub fn push_pong(&mut self, bytes: Box<[u8]>) {
        let queue = self.queue.get_or_insert_default();
        let first = queue.entries.front();
        let at = usize::from(first.is_some_and(Queued::is_bound_to_go));
        queue.own_bytes += bytes.len();
        let pong = Queued::new(What::Pong(bytes));
        // It was put there, and only what was before it can have gone.
        match queue.entries.get_mut(at) {
            Some(older) if matches!(older.what, What::Pong(_)) => {
                queue.own_bytes -= older.own_bytes();
                *older = pong;
            }
            _ => queue.entries.insert(at, pong),
        }
    }

    /// Puts a ping, of which so many bytes are taken, before everything that may wait, unless one waits
    /// already.
    pub(in crate::fanout) fn push_ping(&mut self, taken: usize) {
        if self.has_ping() {
            return; // nobody has taken that one
        }
        let queue = self.queue.get_or_insert_default();
        let first = queue.entries.front();
        let at = usize::from(first.is_some_and(Queued::is_bound_to_go));
        queue.own_bytes += PING_FRAME.len();
        let what = What::Ping;
        queue.entries.insert(at, Queued { what, taken });
    }

    /// A ping of ours waits.
    pub fn has_ping(&self) -> bool {
        let is_ping = |queued: &Queued| matches!(queued.what, What::Ping);
        let queue = self.queue.as_ref();
        queue.is_some_and(|queue| queue.entries.iter().take(PINGS_WITHIN).any(is_ping))
    }

    /// Drops everything that may wait, and ends with `bytes`.
    pub fn push_last(&mut self, bytes: Box<[u8]>) {
        if let Some(queue) = &mut self.queue {
            queue.entries.retain(|queued| {
                let stays = queued.is_bound_to_go();
                queue.own_bytes -= if stays { 0 } else { queued.own_bytes() };
                stays
            });
        }
        self.push(What::Own(bytes));
    }

    /// The rest of an event of which the socket has taken `taken` bytes.
    pub(in crate::fanout) fn push_rest(
        &mut self,
        frame: Arc<EventFrame>,
        kind: Kind,
        taken: usize,
    ) {
        let queue = self.queue.get_or_insert_default();
        debug_assert!(queue.entries.is_empty(), "what waits goes before any event");
        queue.entries.push_back(Queued {
            what: What::Event(frame, kind),
            taken,
        });
    }

    /// Whether a frame has begun to be written.
    pub(in crate::fanout) fn has_begun(&self) -> bool {
        let front = self.queue.as_ref().and_then(|queue| queue.entries.front());
        front.is_some_and(|queued| queued.taken > 0)
    }

    /// Lays what is queued into `slices`, `most` of them; false when that was not everything.
    pub(in crate::fanout) fn plan<'a>(
        &'a self,
        slices: &mut Vec<IoSlice<'a>>,
        most: usize,
    ) -> bool {
        let entries = self.queue.iter().flat_map(|queue| &queue.entries);
        for piece in entries.flat_map(Queued::pieces) {
            if slices.len() == most {
                return false;
            }
            slices.push(IoSlice::new(piece));
        }
        true
    }

    /// Takes `bytes` from what is queued; gives how many were beyond it.
    pub(in crate::fanout) fn consume(&mut self, mut bytes: usize) -> usize {
        let Some(queue) = &mut self.queue else {
            return bytes;
        };
        while let Some(front) = queue.entries.front_mut() {
            let rest = front.len() - front.taken;
            if bytes < rest {
                front.taken += bytes;
                return 0;
            }
            bytes -= rest;
            queue.own_bytes -= front.own_bytes();
            queue.entries.pop_front();
        }
        self.let_queue_go();
        bytes
    }

    fn push(&mut self, what: What) {
        let queue = self.queue.get_or_insert_default();
        let queued = Queued::new(what);
        queue.own_bytes += queued.own_bytes();
        queue.entries.push_back(queued);
    }

    fn let_queue_go(&mut self) {
        let holds_nothing = |queue: &Queue| queue.entries.is_empty() && queue.own_bytes == 0;
        if self.queue.as_deref().is_some_and(holds_nothing) {
            self.queue = None;
        }
    }

    /// `waiting_bytes`: of `sync`s in its places.
    pub(super) fn check_queue(&self, waiting_bytes: usize) {
        let entries = self.queue.iter().flat_map(|queue| &queue.entries);
        let queued_bytes: usize = entries.map(Queued::own_bytes).sum();
        debug_assert_eq!(self.queue_bytes(), queued_bytes + waiting_bytes);
        let holds_nothing = |queue: &Queue| queue.entries.is_empty() && queue.own_bytes == 0;
        debug_assert!(!self.queue.as_deref().is_some_and(holds_nothing));
    }
}

impl Queued {
    fn new(what: What) -> Queued {
        Queued { what, taken: 0 }
    }

    /// A frame that has begun, or the answer to the upgrade: it goes out next, whatever comes.
    fn is_bound_to_go(&self) -> bool {
        self.taken > 0 || matches!(self.what, What::Head(_))
    }

    /// Its bytes, unless others share them.
    fn own_bytes(&self) -> usize {
        match &self.what {
            What::Event(..) => 0,
            _ => self.len(),
        }
    }

    fn len(&self) -> usize {
        match &self.what {
            What::Event(frame, _) => frame.wire().len(),
            What::Sync(sync, _) => sync.len(),
            What::Head(bytes) | What::Own(bytes) | What::Pong(bytes) => bytes.len(),
            What::Ping => PING_FRAME.len(),
        }
    }

    /// What has not been taken.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (sync, whole) = match &self.what {
            What::Event(frame, kind) => (None, frame.wire_as(*kind)),
            What::Sync(sync, _) => (Some(sync), [&[][..]; 3]),
            What::Head(bytes) | What::Own(bytes) | What::Pong(bytes) => {
                (None, [&**bytes, &[], &[]])
            }
            What::Ping => (None, [&PING_FRAME[..], &[], &[]]),
        };
        let of_sync = sync
            .into_iter()
            .flat_map(|sync| sync.pieces_from(self.taken));
        let mut skip = self.taken;
        let whole = whole.into_iter().filter_map(move |piece| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            (skipped < piece.len()).then(|| &piece[skipped..])
        });
        whole.chain(of_sync)
    }
}
