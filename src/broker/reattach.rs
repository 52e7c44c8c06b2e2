//! A worker that has lost its connection takes the place of its older socket, whose end has not been
//! noticed yet: newer SDKs say so first of all.
//!
//! A token is known to nobody but the worker that it was given to. It counts once, and only on the same
//! listener for a socket with the same rights.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::id::SlotId;
use crate::protocol::attached::reattachment;
use crate::protocol::connection::close_frame;

use crate::broker::members::Member;
use crate::broker::own::present::Present;
use crate::broker::turn::Turn;
use crate::time::Deadlines;

/// How long the older socket keeps what the newer one has not registered again: SDKs do that at once,
/// and meanwhile no function is missing and no join passes its gate.
const KEPT_FOR: Duration = Duration::from_millis(250);

/// What nobody can guess: twice 122 bits of the operating system's.
pub(in crate::broker) fn new_token() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// Members whose place another one of the same worker takes, and when they end.
#[derive(Default)]
pub(in crate::broker) struct Replaced(Deadlines<SlotId>);

impl Replaced {
    /// The first message of a worker, of a type that has no other meaning.
    pub(in crate::broker) fn reattach(
        &mut self,
        turn: &mut Turn,
        present: &Present,
        id: SlotId,
        text: &str,
    ) {
        let Some((previous, token)) = reattachment(text) else {
            return;
        };
        let members = &mut turn.members;
        let older = present.find(previous).filter(|older| {
            let peer = members.get(*older);
            *older != id && peer.is_some_and(|peer| peer.has_token(&token))
        });
        let Some(older) = older else {
            return; // its end has been noticed, or the token is not its own
        };
        let (Some(newer), Some(gone)) = (members.get(id), members.get(older)) else {
            return;
        };
        if newer.listener != gone.listener || !newer.access.is_same_as(&gone.access) {
            let why = "it wants the place of a worker with other rights, which it does not get";
            return turn.warn(id, why);
        }
        if let Some(gone) = members.get_mut(older) {
            gone.reattach_token = None;
        }
        self.0.push(turn.now.monotonic + KEPT_FOR, older);
    }

    /// Ends sockets whose place others have taken.
    pub(in crate::broker) fn end_due(&mut self, turn: &mut Turn) {
        while let Some(id) = self.0.pop_due(turn.now.monotonic) {
            let why = "another connection has taken its place";
            turn.close(id, close_frame(Some(1000), why));
        }
    }

    /// When the next one ends.
    pub(in crate::broker) fn next_at(&self) -> Option<Instant> {
        self.0.next_at()
    }
}

impl Member {
    /// Whether that is its token. How long that takes says nothing of it.
    fn has_token(&self, said: &str) -> bool {
        let Some(token) = self.reattach_token.as_deref() else {
            return false;
        };
        let is_there = self.is_open;
        let differs = token
            .bytes()
            .zip(said.bytes())
            .fold(0, |differs, (one, other)| differs | (one ^ other));
        is_there && token.len() == said.len() && differs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let tokens: std::collections::HashSet<String> = (0..100).map(|_| new_token()).collect();
        assert_eq!(tokens.len(), 100);
        assert!(tokens.iter().all(|token| token.len() == 64));
    }
}
