//! Who waits for the answer to a call.

use std::time::Instant;

use uuid::Uuid;

use crate::id::SlotId;
use crate::protocol::answer::{self, ResultBody, Sink};
use crate::protocol::call::Trace;

/// Beyond every slot that a socket can have.
const OPERATORS: u32 = u32::MAX;

/// Whether that is an operator, and no socket.
pub(in crate::broker) fn is_operator(peer: SlotId) -> bool {
    peer.slot == OPERATORS
}

/// Who waits for an answer, and how it is to be written.
#[derive(Clone)]
pub(in crate::broker) struct Caller {
    pub(in crate::broker) peer: SlotId,
    /// The caller's own name for the call.
    pub(in crate::broker) id: Uuid,
    pub(in crate::broker) traceparent: Option<Box<str>>,
    pub(in crate::broker) baggage: Option<Box<str>>,
    /// Its answer may not leave before.
    pub(in crate::broker) held_until: Option<Instant>,
}

impl Caller {
    pub(in crate::broker) fn new(peer: SlotId, id: Uuid, trace: &Trace<'_>) -> Caller {
        Caller {
            peer,
            id,
            traceparent: trace.traceparent.as_deref().map(Box::from),
            baggage: trace.baggage.as_deref().map(Box::from),
            held_until: None,
        }
    }

    /// An operator, who has no socket here. The number is the admin thread's name for the call.
    pub(in crate::broker) fn operator(number: u32) -> Caller {
        let peer = SlotId {
            slot: OPERATORS,
            generation: number,
        };
        Caller {
            peer,
            id: Uuid::nil(),
            traceparent: None,
            baggage: None,
            held_until: None,
        }
    }

    /// The name of an operator's call; `None`: somebody with a socket waits.
    pub(in crate::broker) fn operator_number(&self) -> Option<u32> {
        is_operator(self.peer).then_some(self.peer.generation)
    }

    /// Its socket; `None`: it is an operator.
    pub(in crate::broker) fn socket(&self) -> Option<SlotId> {
        (!is_operator(self.peer)).then_some(self.peer)
    }

    /// Bytes of its texts.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        let texts = [&self.traceparent, &self.baggage];
        texts.into_iter().flatten().map(|text| text.len()).sum()
    }

    /// The answer to the call, as its caller waits for it.
    pub(in crate::broker) fn write_answer(
        &self,
        out: &mut impl Sink,
        function_id: &str,
        body: ResultBody<'_>,
    ) {
        let (traceparent, baggage) = (self.traceparent.as_deref(), self.baggage.as_deref());
        answer::invocation_result(out, &self.id, function_id, body, traceparent, baggage);
    }
}
