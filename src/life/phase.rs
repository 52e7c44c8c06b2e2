//! How far a socket is.

use crate::protocol::connection::Connection;
use crate::protocol::handshake::HeadReader;

/// How far a socket is. `W`: what is kept of a request while somebody's word on it is waited for.
pub enum Phase<W> {
    /// The head is not whole.
    Head(Box<Head>),
    /// Somebody's word is waited for.
    Waits(Box<W>),
    /// Frames come and go.
    Open(Connection),
    /// Its last bytes are queued or sent; what comes in is thrown away until the peer ends it.
    Closing,
}

/// What has come of the head.
#[derive(Default)]
pub struct Head {
    /// As it came.
    pub bytes: Vec<u8>,
    /// How far it has been looked through.
    pub reader: HeadReader,
    /// With so many bytes it counts among those that are half open, where these are counted so.
    pub counted_bytes: usize,
}

impl<W> Phase<W> {
    /// Whether something that came is kept to be gone on with.
    pub fn is_paused(&self) -> bool {
        match self {
            Phase::Open(open) => open.is_paused(),
            Phase::Head(_) | Phase::Waits(_) | Phase::Closing => false,
        }
    }
}

/// Nothing has come.
impl<W> Default for Phase<W> {
    fn default() -> Phase<W> {
        Phase::Head(Box::default())
    }
}
