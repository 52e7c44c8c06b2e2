//! Who is to be sent a call, and over which socket.

use crate::id::{SlotId, Text};

use super::Engine;
use super::target::FunctionRef;

/// Who is to be sent a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Callee {
    /// The SDK worker with that function, or the engine, which knows who has it.
    Peer(SlotId),
    /// No worker has such a function.
    Nobody,
    /// The link is down.
    Away,
}

impl Engine {
    /// Who is to be sent calls of that function.
    pub(super) fn callee_of(&self, function: FunctionRef<'_>) -> Callee {
        match &self.attached {
            Some(attached) => attached.link.up().map_or(Callee::Away, Callee::Peer),
            None => {
                let owner = self.functions.find(function);
                owner.map_or(Callee::Nobody, Callee::Peer)
            }
        }
    }

    /// Where our own functions stand with the engine, and those of ours that are not a trigger's.
    pub(super) fn own_namespace(&self) -> Option<Text> {
        let (_, namespace) = self.attached.as_ref()?.link.known_as();
        namespace.map(Text::from)
    }

    /// Whether that socket is the link.
    pub(super) fn is_link(&self, id: SlotId) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.link.is(id))
    }
}
