//! Why Redis cannot be used: at the start, and later.

use std::io;

use super::message::EVENTS;

/// Why the server cannot start on that Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Nobody vouches for any server.
    #[error(
        "{address}: no certificates to trust ({cause}); install the system's (package \
         ca-certificates), or name a file of them in SSL_CERT_FILE"
    )]
    Trust {
        /// Without secrets.
        address: String,
        /// What was found instead.
        cause: String,
    },
    /// It does not answer, or refuses.
    #[error("{address}: {cause}, given up after {after}{}", if *is_elsewhere { "; does Redis run there, and is this its address?" } else { "" })]
    Connect {
        /// Without secrets.
        address: String,
        /// What came of the last attempt.
        cause: String,
        /// How long it was tried.
        after: String,
        /// It may not be there at all.
        is_elsewhere: bool,
    },
    /// It answers, and cannot be used.
    #[error("{address}: {cause}")]
    Unfit {
        /// Without secrets.
        address: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A poll could not be made.
    #[error("cannot wait for sockets: {0}")]
    Poll(#[from] io::Error),
}

/// Why the connections are of no use, or an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// There was no attempt yet that has ended.
    #[error("no answer")]
    NotTried,
    /// Its name leads nowhere.
    #[error("its name has no address")]
    NoAddress,
    /// What the system says of a socket or a name, TLS of a session.
    #[error("{0}")]
    Broken(String),
    /// What it says is no answer of a Redis.
    #[error("what answers there is no Redis")]
    NoRedis,
    /// Nothing has come for too long.
    #[error("timed out")]
    Silent,
    /// Redis's own words, without a login that may stand in them.
    #[error("{0}")]
    Said(String),
    /// Its answer is of another shape.
    #[error("Redis answered something else")]
    Unexpected,
    /// It takes no writes, and another server does by now.
    #[error("a master answers at its address by now")]
    Replaced,
    /// A group and its index would lie on different nodes.
    #[error(
        "is a cluster, which is not supported: a group and its index would lie on different nodes"
    )]
    Cluster,
    /// Its user may not follow a channel, and Redis does not say which.
    #[error("its user may not SUBSCRIBE {EVENTS} {cut_channel}: {said}")]
    NoChannel { cut_channel: String, said: String },
    /// Its user lacks a right, here as Redis names it.
    #[error("its user may not {0}, which this server needs")]
    NoRights(String),
}

impl Fault {
    /// Of a socket, or of a name.
    pub(super) fn of(error: &io::Error) -> Fault {
        Fault::Broken(error.to_string())
    }

    /// There may be no Redis at that address.
    pub(super) fn is_elsewhere(&self) -> bool {
        !matches!(self, Fault::Said(_) | Fault::Replaced)
    }

    /// Redis says that it still reads its data.
    pub(super) fn is_loading(&self) -> bool {
        matches!(self, Fault::Said(said) if said.to_lowercase().contains("loading the dataset"))
    }
}
