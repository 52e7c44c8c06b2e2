//! Who is to be sent a call, and over which socket.

use crate::id::{SlotId, Text};

use crate::broker::Broker;
use crate::broker::target::FunctionRef;

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

impl Broker {
    /// Who is to be sent calls of that function.
    pub(in crate::broker) fn callee_of(&self, function: FunctionRef<'_>) -> Callee {
        match &self.attached {
            Some(attached) => attached.link.up().map_or(Callee::Away, Callee::Peer),
            None => {
                let owner = self.functions.find(function);
                owner.map_or(Callee::Nobody, Callee::Peer)
            }
        }
    }

    /// The namespace in which a running engine lists us: functions that we call for ourselves, and no
    /// trigger names, are looked up there.
    pub(in crate::broker) fn own_namespace(&self) -> Option<Text> {
        let (_, namespace) = self.attached.as_ref()?.link.known_as();
        namespace.map(Text::from)
    }
}
