//! Who is to be sent a call, and over which socket.

use crate::id::SlotId;

use crate::broker::registry::Functions;
use crate::broker::target::FunctionRef;
use crate::broker::turn::Turn;

/// Who is to be sent a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Callee {
    /// The SDK worker with that function, or the engine whose worker we are, which knows who has it.
    Peer(SlotId),
    /// No worker has such a function.
    Nobody,
    /// The link is down.
    Away,
}

impl Functions {
    /// Who is to be sent calls of that function.
    pub(in crate::broker) fn callee_of(&self, turn: &Turn, function: FunctionRef<'_>) -> Callee {
        if turn.attached_to.is_some() {
            return turn.link().map_or(Callee::Away, Callee::Peer);
        }
        let owner = self.find(function);
        owner.map_or(Callee::Nobody, Callee::Peer)
    }
}
