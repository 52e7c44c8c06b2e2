//! TLS: as a client, towards an engine and Redis; and as a server, on both ports.
//!
//! ```text
//! maybe     one socket of ours, plain or under TLS: bytes in, bytes out
//! client    a socket under TLS as its client
//! faults    why a session as a client came to nothing, in words
//! pinned    a client that trusts one certificate alone, or shows one of its own
//! session   our end of a session as its server, over rustls: feed, seal, end; no socket
//! served    a socket under such a session, as the worker and the engine use sockets
//! files     certificate, key and authorities: read, checked, and what is wrong with them
//! validity  from when until when a certificate counts
//! offer     what the next handshake shows, for all threads: taken afresh when files have changed
//! ```
//! May not know what the bytes mean.

mod client;
mod faults;
mod files;
mod maybe;
mod offer;
mod pinned;
mod served;
mod session;
mod validity;

pub use client::trust;
pub use faults::why_of_io;
pub use files::Faulty;
pub use maybe::MaybeTls;
pub use offer::{Look, Offer, Offered};
pub use pinned::{showing, trust_only};
#[cfg(test)]
pub(crate) use served::tests::Port as TestPort;
