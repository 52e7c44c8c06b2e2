//! Waiting at a poll, and what it says: the mailbox, a listener, or a socket by its slot.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use crate::id::SlotId;

use super::{Received, id_of};

/// The poll's name for the mailbox of its thread. No slot reaches it, nor those of listeners.
pub const WAKE: Token = Token(usize::MAX);

/// Numbers of listeners, at most.
const LISTENERS_MAX: usize = 1 << 16;

/// A way to get the thread of that poll out of its sleep, under that name.
pub fn wake_up(poll: &Poll, token: Token) -> io::Result<impl Fn() + Send + Sync + use<>> {
    let waker = Waker::new(poll.registry(), token)?;
    Ok(move || {
        // It fails only when the thread and its poll are gone; then nobody waits for it.
        let _ = waker.wake();
    })
}

/// What the poll says of one thing that it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Somebody has put something into the mailbox.
    Mailbox,
    /// Somebody waits at the listener of that number.
    Listener(usize),
    /// A socket has something, or takes something.
    Socket {
        /// Its slot.
        id: SlotId,
        /// Bytes, or the end, are there.
        has_bytes: bool,
        /// The end is there, or something broke it.
        ends: bool,
        /// It takes bytes.
        takes_bytes: bool,
    },
}

/// What the poll has told of one socket and nobody has read yet. The poll tells each thing once, and
/// the end often together with the last bytes: every reader of sockets keeps it here.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unread {
    is_there: bool,
    has_end: bool,
}

impl Unread {
    /// Bytes are there, or the end is.
    pub fn is_told(&mut self, ends: bool) {
        self.is_there = true;
        self.has_end |= ends;
    }

    /// Whether a read is worth while.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Whether the end stands behind what is there.
    pub fn has_end(&self) -> bool {
        self.has_end
    }

    /// What a read gave. A short one has emptied the socket, unless the end stands behind it.
    pub fn was_read(&mut self, received: &Received) {
        self.is_there = match received {
            Received::Bytes { more, .. } => *more || self.has_end,
            Received::Nothing => false,
            Received::End => true,
        };
    }
}

/// The poll's name for the listener of that number.
pub fn listener_token(number: usize) -> Token {
    Token(WAKE.0 - 1 - number)
}

/// Waits until the poll has something to say, or for that long. False: a signal came in between.
pub fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<bool> {
    match poll.poll(events, timeout) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

impl From<&Event> for Ready {
    fn from(event: &Event) -> Ready {
        let below = WAKE.0 - event.token().0;
        if below == 0 {
            return Ready::Mailbox;
        }
        if below <= LISTENERS_MAX {
            return Ready::Listener(below - 1);
        }
        let ends = event.is_read_closed() || event.is_error();
        Ready::Socket {
            id: id_of(event.token()),
            has_bytes: event.is_readable() || ends,
            ends,
            takes_bytes: event.is_writable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(more: bool) -> Received {
        Received::Bytes { len: 1, more }
    }

    #[test]
    fn an_end_that_was_told_with_the_last_bytes_is_read() {
        let mut unread = Unread::default();
        assert!(!unread.is_there());
        unread.is_told(false);
        unread.was_read(&bytes(true));
        assert!(unread.is_there());
        unread.was_read(&bytes(false));
        assert!(!unread.is_there(), "a short read has emptied the socket");
        unread.is_told(true);
        unread.is_told(false);
        unread.was_read(&bytes(false));
        assert!(unread.is_there() && unread.has_end());
    }

    #[test]
    fn a_socket_with_nothing_is_left_alone_until_it_is_told_of() {
        let mut unread = Unread::default();
        unread.is_told(false);
        unread.was_read(&Received::Nothing);
        assert!(!unread.is_there());
    }
}
