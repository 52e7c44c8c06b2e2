//! Waiting at a poll, and what it says: the mailbox, a listener, or a socket by its slot.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use crate::id::SlotId;

use super::id_of;

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
