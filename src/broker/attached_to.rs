//! The engine whose worker we are, as far as every room has to know of it: what it is told of this server,
//! and whether the link is there. What else is known of it stands in `link`.

use crate::id::SlotId;

/// What an engine is told of this server, and what the log is told of that engine.
#[derive(Debug, Clone)]
pub struct KnownAs {
    /// What we are called there.
    pub name: String,
    /// Where we are listed there. None: the engine's own default.
    pub namespace: Option<String>,
    /// Its address, without secrets.
    pub shown: String,
    /// Our process.
    pub pid: u32,
    /// The system that it runs on.
    pub os: String,
}

/// The engine whose worker we are.
pub(in crate::broker) struct AttachedTo {
    /// By what it knows us.
    pub(in crate::broker) known_as: KnownAs,
    /// The link's socket, while messages can be sent.
    pub(in crate::broker) link: Option<SlotId>,
}
