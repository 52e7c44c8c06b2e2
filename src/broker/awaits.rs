//! What an answer is awaited for, by whom a call was brought about, and how it ends.

use std::time::Duration;

use crate::id::{SlotId, Text, WorkerId};
use crate::protocol::call::ErrorBody;

use crate::broker::caller::Caller;
use crate::broker::target::Target;

/// What an answer is awaited for.
pub(in crate::broker) enum Awaits {
    /// An SDK worker has called the function.
    Caller(Caller),
    /// Only an error is of interest, for the log.
    Nobody,
    /// Which functions, workers and trigger types a running engine has.
    Functions,
    Workers,
    TriggerTypes,
    /// What a running engine keeps as our configuration.
    Configuration,
    /// The handler is called unless the condition says no.
    Condition(Box<Handler>),
    /// One function's word on a join.
    Join(SlotId),
    /// The handler is asked about the join, unless the condition says no.
    JoinCondition(SlotId, Box<Target>),
    /// Whether a subscriber's socket may open.
    Auth {
        worker: WorkerId,
        connection: SlotId,
        /// How long the answer is awaited.
        timeout: Duration,
    },
    /// Whether an SDK worker's socket may open.
    Admission(SlotId),
    /// Whether that worker may register what it wants to, which is so many bytes.
    Registration(SlotId, usize),
    /// An SDK worker has asked for the groups of that stream, which has a custom function.
    Groups(Caller, Box<str>),
    /// The custom function of a stream, asked by a shard.
    Custom {
        shard: WorkerId,
        slot: u32,
        number: u64,
        /// A subscriber waits for it, and no SDK worker.
        of_join: bool,
    },
}

/// Who brings about a call, so that none uses up what is meant for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Cause {
    /// SDK workers that wait for it.
    Callers,
    /// Subscribers that join.
    Joins,
    /// Sockets of either port that are not let in yet.
    Upgrades,
    /// SDK workers whose registrations are asked about.
    Registrations,
    /// Triggers with a condition.
    Conditions,
    /// Triggers, whose calls nobody waits for.
    Handlers,
    /// Leaves, which are never refused.
    Debts,
}

/// How many calls there are of one cause, and what they hold.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct Load {
    pub(in crate::broker) len: usize,
    pub(in crate::broker) bytes: usize,
}

/// What a trigger calls.
pub(in crate::broker) struct Handler {
    pub(in crate::broker) target: Target,
    pub(in crate::broker) payload: Text,
    /// It is a debt, not to be dropped whatever waits for its worker.
    pub(in crate::broker) is_owed: bool,
    /// The SDK worker whose trigger it is, where that has rules.
    pub(in crate::broker) on_behalf: Option<SlotId>,
}

/// How a call of a function ended.
#[derive(Clone, Copy)]
pub(in crate::broker) enum Answered<'a> {
    /// With this JSON text, or nothing.
    Result(Option<&'a str>),
    /// With an error of the function's worker.
    Failed(&'a ErrorBody),
    /// There is no such function.
    NotFound,
    /// Its worker left, or the link to the engine broke, while it was asked.
    Gone(&'a ErrorBody),
    /// Nobody answered in time.
    TimedOut(&'a ErrorBody),
    /// A limit of ours refuses the call: the cause.
    Refused(&'a str),
}

impl Answered<'_> {
    /// The error as a caller sees it.
    pub(in crate::broker) fn error(&self, function_id: &str) -> Option<ErrorBody> {
        match self {
            Answered::Result(_) => None,
            Answered::Failed(error) | Answered::Gone(error) | Answered::TimedOut(error) => {
                Some((*error).clone())
            }
            Answered::NotFound => Some(function_not_found(function_id)),
            Answered::Refused(cause) => Some(ErrorBody::new("invocation_error", *cause)),
        }
    }
}

impl Awaits {
    pub(in crate::broker) fn caller(&self) -> Option<&Caller> {
        match self {
            Awaits::Caller(caller) | Awaits::Groups(caller, _) => Some(caller),
            _ => None,
        }
    }

    /// How long the answer is awaited, where that is not as long as for all others.
    pub(in crate::broker) fn timeout(&self) -> Option<Duration> {
        match self {
            Awaits::Auth { timeout, .. } => Some(*timeout),
            _ => None,
        }
    }

    /// Whether it is a debt, not to be refused whatever waits.
    pub(in crate::broker) fn is_owed(&self) -> bool {
        matches!(self, Awaits::Condition(handler) if handler.is_owed)
    }

    /// Whether it waits for the link to an engine while that is down.
    pub(in crate::broker) fn may_wait_for_link(&self) -> bool {
        matches!(
            self,
            Awaits::Custom { .. } | Awaits::Join(_) | Awaits::JoinCondition(..)
        )
    }

    /// Who has brought it about.
    pub(in crate::broker) fn cause(&self) -> Cause {
        match self {
            Awaits::Condition(handler) if handler.is_owed => Cause::Debts,
            Awaits::Condition(_) => Cause::Conditions,
            Awaits::Nobody => Cause::Handlers,
            Awaits::Join(_) | Awaits::JoinCondition(..) | Awaits::Custom { of_join: true, .. } => {
                Cause::Joins
            }
            Awaits::Auth { .. } | Awaits::Admission(_) => Cause::Upgrades,
            Awaits::Registration(..) => Cause::Registrations,
            Awaits::Caller(_) | Awaits::Groups(..) | Awaits::Custom { .. } => Cause::Callers,
            Awaits::Functions | Awaits::Workers | Awaits::TriggerTypes | Awaits::Configuration => {
                Cause::Callers
            }
        }
    }

    /// Bytes that are kept meanwhile, though several may share them.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        match self {
            Awaits::Condition(handler) => handler.payload.len() + handler.target.held_bytes(),
            Awaits::JoinCondition(_, target) => target.held_bytes(),
            Awaits::Registration(_, bytes) => *bytes,
            Awaits::Caller(caller) => caller.held_bytes(),
            Awaits::Groups(caller, stream) => caller.held_bytes() + stream.len(),
            _ => 0,
        }
    }
}

/// What a call ends with whose callee, or the process, ends first.
pub(in crate::broker) fn invocation_stopped() -> ErrorBody {
    ErrorBody::new("invocation_stopped", "Invocation stopped")
}

/// The errors that the server makes itself (spec: engine-protocol §5.1).
pub(in crate::broker) fn function_not_found(id: &str) -> ErrorBody {
    ErrorBody::new("function_not_found", format!("Function {id} not found"))
}
