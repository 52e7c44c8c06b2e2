//! What threads tell each other: one kind of message for each mailbox, and what each holds.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use crate::id::{SlotId, WorkerId};
use crate::shard::hooks::Hooks;
use crate::shard::{
    Command, Cursor, CustomAnswered, CustomCall, Delivered, Delivery, Fired, Learned, Reply,
    Request, Slice, SliceLimits,
};
use crate::time::ClockReading;

use super::handed::Handed;
use super::mailbox::Weigh;
use super::requests::{AuthFunction, AuthRequest, AuthVerdict, JoinRequest, Presence};
use super::settings::NewSettings;

/// What a worker takes at all times.
pub enum ToWorker {
    /// Something for the subscribers of a group, and when the owner let it go.
    Delivery(Delivery, Instant),
    /// What the store has to say to this shard, in order.
    Learned(Vec<Learned>),
    /// The clock of the store that all hosts share: from here on it counts instead of this host's own.
    Clock(ClockReading),
    /// The store wants a slice of this shard, from there on and so large. It holds what was learned
    /// before, and nothing later.
    Slice(Cursor, SliceLimits),
    /// What a custom function answered this shard.
    CustomAnswered(CustomAnswered),
    /// The functions' word on a join: whether it is admitted.
    JoinDecided(Box<JoinRequest>, bool),
    /// The auth function's word on an upgrade.
    Authenticated(SlotId, AuthVerdict),
    /// Who is asked about upgrades from here on. None: everybody is let in.
    AuthFunction(Option<AuthFunction>),
    /// The engine has room for so many owed leaves.
    TakeLeaves(usize),
    /// Settings that were read again.
    Settings(Arc<NewSettings>),
}

/// What a worker takes when nothing that follows from it would have to wait.
pub enum ToOwner {
    /// A command to its shard.
    Command(Command),
    /// A socket that another worker has accepted and not read from; whether it stays for good.
    Socket(TcpStream, bool),
    /// A subscriber that has said which group it follows first.
    Placed(Handed),
    /// The streams that SDK workers have hooked onto, from here on.
    Hooks(Arc<Hooks>),
}

/// What the engine thread takes.
pub enum ToEngine {
    /// The answer to a call.
    Reply(Reply),
    /// A custom function is to be asked.
    Custom(CustomCall),
    /// A join is to be decided.
    Join(Box<JoinRequest>),
    /// An upgrade is to be decided.
    Auth(AuthRequest),
    /// A worker owes leaves and waits to be told how many there is room for.
    Owes(WorkerId),
    /// Leaves of that worker, as many as there was room for, and whether more are owed.
    Leaves {
        /// Which worker.
        worker: WorkerId,
        /// In the order in which they came about.
        leaves: Vec<Presence>,
        /// More are owed.
        more: bool,
    },
    /// Settings that were read again.
    Settings(Arc<NewSettings>),
}

/// What the store thread takes.
pub enum ToStore {
    /// One turn's requests of one shard, in order.
    Requests(Vec<Request>),
    /// What it had asked of that shard.
    Slice(WorkerId, Slice),
    /// Settings that were read again.
    Settings(Arc<NewSettings>),
}

impl Weigh for ToWorker {
    fn held_bytes(&self) -> usize {
        match self {
            ToWorker::Delivery(delivery, _) => match &delivery.what {
                Delivered::Event(frame) => frame.held_bytes(),
                Delivered::Entered { sync, .. } => {
                    sync.as_ref().map_or(0, |sync| sync.held_bytes())
                }
                Delivered::Afresh(snapshot) => snapshot.whole.held_bytes(),
            },
            ToWorker::Learned(learned) => learned.iter().map(Learned::held_bytes).sum(),
            ToWorker::Slice(..) | ToWorker::Clock(..) => 0,
            ToWorker::CustomAnswered(answered) => answered.held_bytes(),
            ToWorker::JoinDecided(request, _) => request.presence.held_bytes(),
            ToWorker::Authenticated(_, AuthVerdict::Admitted(Some(context))) => context.len(),
            ToWorker::AuthFunction(Some(function)) => function.id.len(),
            ToWorker::AuthFunction(None)
            | ToWorker::Authenticated(..)
            | ToWorker::TakeLeaves(_)
            | ToWorker::Settings(_) => 0,
        }
    }
}

impl Weigh for ToOwner {
    fn held_bytes(&self) -> usize {
        match self {
            ToOwner::Command(command) => command.held_bytes(),
            ToOwner::Placed(handed) => handed.held_bytes(),
            ToOwner::Socket(..) | ToOwner::Hooks(_) => 0,
        }
    }
}

impl Weigh for ToEngine {
    fn held_bytes(&self) -> usize {
        match self {
            ToEngine::Reply(reply) => reply.outcome.held_bytes(),
            ToEngine::Custom(call) => call.input.len(),
            ToEngine::Join(request) => request.presence.held_bytes(),
            ToEngine::Auth(request) => request.input.len(),
            ToEngine::Owes(_) | ToEngine::Settings(_) => 0,
            ToEngine::Leaves { leaves, .. } => leaves.iter().map(Presence::held_bytes).sum(),
        }
    }
}

/// An event of a stream that triggers follow.
impl Weigh for Fired {
    fn held_bytes(&self) -> usize {
        self.frame.held_bytes()
    }
}

impl Weigh for ToStore {
    fn held_bytes(&self) -> usize {
        match self {
            ToStore::Requests(requests) => requests.iter().map(Request::held_bytes).sum(),
            ToStore::Slice(_, slice) => slice.held_bytes(),
            ToStore::Settings(_) => 0,
        }
    }
}
