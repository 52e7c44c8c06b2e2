//! Why a socket is answered or closed, in words for the log: the same on both ports.
//!
//! Whose socket it is stands before these words, and is the caller's to say.

use std::fmt;

use crate::notes::Shown;
use crate::protocol::connection::ConnectionError;
use crate::protocol::handshake::{Refusal, path_of_head};

/// Why a socket is answered or closed. A number is what the setting holds.
pub enum Because<'a> {
    /// 431: its head is too long.
    HeadBytes(usize),
    /// No whole head has come in time.
    HeadTime(u64),
    /// So many have come since and are not let in; and how far it is itself.
    Handshakes(usize, &'static str),
    /// 503: as many are there as may; which setting says so.
    Full(&'static str, usize),
    /// 403: its page, the setting, and the pages that may.
    Page {
        /// As the request names it.
        origin: &'a str,
        /// The setting.
        setting: &'static str,
        /// What it holds.
        allowed: &'a str,
    },
    /// Nothing has come from it for so long, nor for so long after a ping.
    Silent(u64, u64),
    /// 1013: it has taken nothing of what waits for it for so long.
    Stalled(u64),
    /// What its head asks for, and the status of the answer.
    Asked(&'a [u8], Refusal),
    /// What it sent is no WebSocket, or a message of more than that setting says.
    Broken(&'a ConnectionError, &'static str),
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::HeadBytes(most) => write!(
                out,
                "is answered 431: its request has more than limits.handshake_bytes ({most}), or too many headers"
            ),
            Because::HeadTime(most) => write!(
                out,
                "is closed: no whole request came within limits.handshake_ms ({most})"
            ),
            Because::Handshakes(most, is) => write!(
                out,
                "is closed: limits.handshakes ({most}) have come since, and it {is}"
            ),
            Because::Full(setting, most) => {
                write!(out, "is answered 503: {setting} ({most}) are there")
            }
            Because::Page {
                origin,
                setting,
                allowed,
            } => write!(
                out,
                "is answered 403: its page is of {}, {setting} has {allowed}",
                Shown(origin)
            ),
            Because::Silent(ping, pong) => write!(
                out,
                "has ended without a word: nothing came for ping_interval_ms ({ping}), nor for \
                 pong_timeout_ms ({pong}) after a ping"
            ),
            Because::Stalled(most) => write!(
                out,
                "is closed with 1013: it has taken nothing for stall_timeout_ms ({most})"
            ),
            Because::Asked(head, refusal) => write!(
                out,
                "asks for {} and is answered {}",
                Shown(&path_of_head(head)),
                refusal.status()
            ),
            Because::Broken(error, setting) => {
                write!(out, "is closed with {}: {error}", error.close_code())?;
                match error {
                    ConnectionError::TooBig { .. } => write!(out, " ({setting})"),
                    _ => Ok(()),
                }
            }
        }
    }
}
