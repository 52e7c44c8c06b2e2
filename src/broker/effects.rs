//! What is to become of sockets, as the broker decides it: the shell does it. What a socket is to be sent
//! stands in `outgoing`.

use std::sync::Arc;

use crate::id::SlotId;
use crate::mesh::NewSettings;
use crate::protocol::rbac::Access;

/// One thing that the shell has to do.
pub enum Effect {
    /// Send these last bytes and end the connection.
    Close(SlotId, Vec<u8>),
    /// End it without a word.
    End(SlotId),
    /// The auth function lets it in, to do so much.
    Admit(SlotId, Access),
    /// Go by these settings from now on.
    Settings(Arc<NewSettings>),
}

/// What the shell has still to do.
#[derive(Default)]
pub struct Effects {
    effects: Vec<Effect>,
    /// Sockets that were held, and may be read again.
    freed: Vec<SlotId>,
}

impl Effects {
    pub(in crate::broker) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(in crate::broker) fn free(&mut self, id: SlotId) {
        if self.freed.last() != Some(&id) {
            self.freed.push(id);
        }
    }

    /// What is to be done, in order.
    pub fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Sockets that may be read again.
    pub fn take_freed(&mut self) -> Vec<SlotId> {
        std::mem::take(&mut self.freed)
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.freed.is_empty()
    }
}
