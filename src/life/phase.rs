//! How far a socket is.

use core::net::SocketAddr; // an address is data

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
    /// As it came, behind a line of the PROXY protocol.
    pub bytes: Vec<u8>,
    /// How far it has been looked through.
    pub reader: HeadReader,
    /// What that line says.
    pub proxied: Proxied,
    /// With so many bytes it counts among those that are half open, where these are counted so.
    pub counted_bytes: usize,
}

/// What a line of the PROXY protocol before the head says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Proxied {
    /// There may be one still.
    #[default]
    Unknown,
    /// It has come, or none will. With what it says of where the client is.
    Over(Option<SocketAddr>),
}

impl<W> Phase<W> {
    /// Where the client is by a line of the PROXY protocol, while there is no word on the head.
    pub fn client(&self) -> Option<SocketAddr> {
        match self {
            Phase::Head(head) => match head.proxied {
                Proxied::Over(client) => client,
                Proxied::Unknown => None,
            },
            Phase::Waits(_) | Phase::Open(_) | Phase::Closing => None,
        }
    }

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
