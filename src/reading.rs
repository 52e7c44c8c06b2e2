//! What is known of the bytes that wait in a socket: what the poll has told, and what a read gave.
//!
//! Uses nothing of ours. May not touch a socket.

/// What a read gave.
pub enum Received {
    /// So many bytes; `more` may be there.
    Bytes {
        /// At the beginning of the buffer.
        len: usize,
        /// Worth another read.
        more: bool,
    },
    /// Nothing is there now.
    Nothing,
    /// The peer has ended it, or it is broken.
    End,
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
