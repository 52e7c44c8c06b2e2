//! All that a shard can ask of the world.

use std::sync::Arc;

use crate::id::{CallId, GroupKey, LocalGroupId, SlotId, Text, WorkerId};
use crate::protocol::answer::Outcome;
use crate::protocol::frame::{EventFrame, SyncFrame};
use crate::protocol::input::StreamFunction;

use super::requests::Request;
use super::snapshot::Snapshot;

/// What a shard asks of the world. The worker performs it in the order of these fields.
#[derive(Default)]
pub struct Effects {
    /// To the store; what follows from them waits in the shard for its answers.
    pub requests: Vec<Request>,
    /// To the engine, exactly one per call, before the fan-out.
    pub replies: Vec<Reply>,
    /// To the engine: events that triggers follow, in the order of each group.
    pub fired: Vec<Fired>,
    /// To the engine: custom functions that are to be asked in place of the store.
    pub custom: Vec<CustomCall>,
    /// To the workers that listen: one per worker and event, not per subscriber.
    pub deliveries: Vec<Delivery>,
    /// How many events came about, heard by somebody or not. Nothing is to be done for it.
    pub events: u64,
    /// Persons who are no members, for there are as many as may be. Likewise.
    pub members_refused: u64,
}

/// An event that some trigger follows.
pub struct Fired {
    /// The state of the hooks when it happened: triggers that came later do not hear of it.
    pub version: u64,
    /// The event's group.
    pub key: GroupKey,
    /// The event, encoded; its item is in it.
    pub frame: Arc<EventFrame>,
}

/// A custom function is to be asked. Its answer comes back as [`super::CustomAnswered`].
pub struct CustomCall {
    /// Who asks.
    pub shard: WorkerId,
    /// The group's slot in that shard.
    pub slot: u32,
    /// The call's name within the shard.
    pub number: u64,
    /// Which function.
    pub function: StreamFunction,
    /// The stream whose function it is.
    pub key: GroupKey,
    /// A subscriber waits for it, and no SDK worker.
    pub of_join: bool,
    /// Its input: a JSON object.
    pub input: Text,
}

/// The answer to one call.
pub struct Reply {
    /// Which call.
    pub call: CallId,
    /// What became of it.
    pub outcome: Outcome,
}

/// Something for the subscribers of one group on one worker.
pub struct Delivery {
    /// Which worker.
    pub to: WorkerId,
    /// The group's entry there.
    pub local: LocalGroupId,
    /// What it is to do.
    pub what: Delivered,
}

/// What a worker gets for a group.
pub enum Delivered {
    /// An event for all that match.
    Event(Arc<EventFrame>),
    /// A join takes effect here, in the order of the events.
    Entered {
        /// The socket that joined.
        connection: SlotId,
        /// The worker's own name for the join.
        token: u32,
        /// What it is sent first; `None` when the store could not tell.
        sync: Option<Arc<SyncFrame>>,
    },
    /// What came between is lost: every subscription begins anew with a `sync` of this.
    Afresh(Arc<Snapshot>),
}

impl Effects {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.replies.is_empty()
            && self.deliveries.is_empty()
            && self.fired.is_empty()
            && self.custom.is_empty()
    }
}
