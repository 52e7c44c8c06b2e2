//! By which ids a worker and all others know what it has registered, and where its word is looked up.

use crate::id::{SlotId, Text};

use crate::broker::members::Members;

impl Members {
    /// Where that worker's word is looked up first: where it says, or else where it stands itself.
    pub(in crate::broker) fn namespace_of(&self, id: SlotId, named: Option<&str>) -> Option<Text> {
        match named {
            Some(named) => Some(named.into()),
            None => self.get(id)?.namespace.clone(),
        }
    }

    /// The id under which all others know a function that the worker knows by that one.
    pub(in crate::broker) fn outer_function(&self, id: SlotId, inner: &str) -> Box<str> {
        let Some(peer) = self.get(id) else {
            return inner.into();
        };
        match peer.names.functions.outer(inner) {
            Some(outer) => outer.into(),
            None => peer.access.outer_id(inner).into(),
        }
    }

    /// The same of a trigger.
    pub(in crate::broker) fn outer_trigger(&self, id: SlotId, inner: &str) -> Box<str> {
        let peer = self.get(id);
        let outer = peer.and_then(|peer| peer.names.triggers.outer(inner));
        outer.unwrap_or(inner).into()
    }

    /// The id by which the worker knows a trigger that it has registered.
    pub(in crate::broker) fn inner_trigger(&self, id: SlotId, outer: &str) -> Box<str> {
        let peer = self.get(id);
        let inner = peer.and_then(|peer| peer.names.triggers.inner(outer));
        inner.unwrap_or(outer).into()
    }

    /// The trigger type as the worker knows it that serves it.
    pub(in crate::broker) fn inner_type(&self, server: SlotId, trigger_type: &str) -> Box<str> {
        let peer = self.get(server);
        let inner = peer.and_then(|peer| peer.names.trigger_types.inner(trigger_type));
        inner.unwrap_or(trigger_type).into()
    }
}
