//! A connection between a client and the server: bytes and ends, as the server's socket has them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard};

use iii_stream::fanout::{self, Written};
use iii_stream::reading::Received;
use iii_stream::subscribers::Socket;

use crate::pace::Pace;

/// The server's end of a connection, and what the client's end sees of it.
#[derive(Default)]
pub(crate) struct Line {
    /// It takes so many bytes and then blocks.
    pub(crate) room: usize,
    pub(crate) is_dead: bool,
    /// How often it has taken something.
    pub(crate) takes: usize,
    /// Taken since the client last looked.
    pub(crate) taken: Vec<u8>,
    /// What the client has sent and nobody has read, and whether its end stands behind.
    pub(crate) sent: VecDeque<u8>,
    pub(crate) has_ended: bool,
    /// Something has been sent, or it has ended, since the poll last said so.
    pub(crate) has_news: bool,
    /// The server writes no more.
    pub(crate) is_last: bool,
}

/// A line, which both ends have.
#[derive(Clone)]
pub(crate) struct BothEnds(Arc<Mutex<Line>>);

impl BothEnds {
    pub(crate) fn of(line: Line) -> BothEnds {
        BothEnds(Arc::new(Mutex::new(line)))
    }

    pub(crate) fn borrow(&self) -> MutexGuard<'_, Line> {
        self.0.try_lock().expect("one end at a time")
    }

    pub(crate) fn is(&self, other: &BothEnds) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The server's end.
#[derive(Clone)]
pub(crate) struct FakeSocket(pub(crate) BothEnds);

impl fanout::Socket for FakeSocket {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        let mut line = self.0.borrow();
        if line.is_dead {
            return Written::Gone;
        }
        assert!(!line.is_last, "a write after the last one");
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = len.min(line.room);
        line.takes += usize::from(taken > 0);
        let bytes = slices.iter().flat_map(|slice| slice.iter());
        line.taken.extend(bytes.take(taken));
        if line.room != usize::MAX {
            line.room -= taken;
        }
        // As a layer that holds what the socket below did not take: it takes all, and no more for now.
        let holds = len > 0 && line.room == 0;
        if taken == len && !holds {
            Written::All
        } else {
            Written::Part(taken)
        }
    }
}

impl Socket for FakeSocket {
    fn peer(&self) -> Option<std::net::SocketAddr> {
        Some(([127, 0, 0, 1], 1).into())
    }

    fn end_writes(&mut self) {
        self.0.borrow().is_last = true;
    }

    fn end(&mut self) {
        let mut line = self.0.borrow();
        (line.is_last, line.is_dead) = (true, true);
    }
}

impl FakeSocket {
    /// The server's end of that line.
    pub(crate) fn at(line: &BothEnds) -> FakeSocket {
        FakeSocket(line.clone())
    }

    /// Gives what was sent, cut anywhere.
    pub(crate) fn read(&self, pace: &mut Pace) -> (Received, Vec<u8>) {
        let mut line = self.0.borrow();
        let all = line.sent.len();
        let len = all.min(1 + pace.up_to(all));
        let bytes: Vec<u8> = line.sent.drain(..len).collect();
        let received = match len {
            0 if line.has_ended => Received::End,
            0 => Received::Nothing,
            len => Received::Bytes {
                len,
                more: len < all,
            },
        };
        (received, bytes)
    }
}
