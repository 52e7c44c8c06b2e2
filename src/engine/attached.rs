//! Attached mode: what is said over the link to a running engine, whose worker we are.
//!
//! The engine has the functions, and calls ours; we call those of its other workers by it. While the
//! link is down subscribers stay, and what needs a function waits for it or does without. How the
//! link comes about stands in `link`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::id::SlotId;
use crate::mesh::{JoinRequest, ToWorker};
use crate::protocol::answer::{self, ResultBody};
use crate::protocol::attached::{
    self, LIST_FUNCTIONS, Process, TRIGGER_TYPES, functions_changed_id, greeted_as,
    listed_functions, refused_because,
};
use crate::protocol::call::{self, Action, EngineMessage, ErrorBody, Invoke};
use crate::protocol::input::{StreamFunction, failed};
use crate::protocol::trigger::TriggerType;
use crate::shard::hooks::Streams;

use super::Engine;
use super::ask::Outgoing;
use super::calls::{Answered, Awaits, Caller, FunctionCall, function_not_found};
use super::link::{Attach, Link};
use super::messages::Asked;
use super::peers::Peer;
use super::registry::OURS;
use super::serve::OVERLOADED;

/// How often calls that are refused for want of room are told in the log.
const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(60);

/// Our side of an engine that others run.
pub(super) struct Attached {
    pub(super) link: Link,
    /// The function that the engine calls when the set of functions has changed, and its trigger.
    functions_changed: String,
    trigger: Uuid,
    /// The engine has handed over the triggers that it knows, and told which functions there are.
    is_settled: bool,
    /// What was followed when the link was lost, until it is known anew.
    lost: Lost,
    /// Leaves wait for a trigger to be known again: at most until then, once the link is there.
    leaves: LeavesWait,
    /// Joins that wait for the link, and until when.
    joins: VecDeque<(Instant, Box<JoinRequest>)>,
    /// Calls that wait for the link.
    waiting: Waiting,
    /// Calls refused for want of room since that was last told, and when it was.
    refused: u64,
    refused_said_at: Option<Instant>,
}

/// What triggers followed before the link was lost.
#[derive(Default)]
struct Lost {
    events: Streams,
    joins: Streams,
    leaves: Streams,
}

/// Whether leaves wait for a `stream:leave` trigger.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeavesWait {
    /// None was known, or one is.
    No,
    /// For the link as well.
    ForLink,
    /// The link is there.
    Until(Instant),
}

/// Calls that wait for the link, in order.
#[derive(Default)]
struct Waiting {
    calls: VecDeque<WaitingCall>,
    /// Of what they hold.
    bytes: usize,
}

struct WaitingCall {
    until: Instant,
    function_id: Box<str>,
    data: Box<str>,
    awaits: Awaits,
}

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

/// What ends calls when the link does.
pub(super) fn not_connected() -> ErrorBody {
    ErrorBody::new("not_connected", "iii is not connected")
}

impl Attached {
    pub(super) fn new(to: Attach, now: Instant) -> Attached {
        let id = Uuid::new_v4();
        Attached {
            link: Link::new(to, now),
            functions_changed: functions_changed_id(&id),
            trigger: Uuid::new_v4(),
            is_settled: false,
            lost: Lost::default(),
            leaves: LeavesWait::No,
            joins: VecDeque::new(),
            waiting: Waiting::default(),
            refused: 0,
            refused_said_at: None,
        }
    }

    /// When the first of what waits has had its time.
    fn next_at(&self) -> Option<Instant> {
        let leaves = match self.leaves {
            LeavesWait::Until(until) => Some(until),
            LeavesWait::No | LeavesWait::ForLink => None,
        };
        let join = self.joins.front().map(|(until, _)| *until);
        let call = self.waiting.calls.front().map(|call| call.until);
        [leaves, join, call].into_iter().flatten().min()
    }

    fn lets_leaves_go(&self) -> bool {
        self.is_settled && self.leaves == LeavesWait::No
    }
}

impl Waiting {
    fn push(&mut self, call: WaitingCall) {
        self.bytes += call.bytes();
        self.calls.push_back(call);
    }

    fn pop_due(&mut self, now: Instant) -> Option<WaitingCall> {
        if self.calls.front()?.until > now {
            return None;
        }
        self.pop()
    }

    fn pop(&mut self) -> Option<WaitingCall> {
        let call = self.calls.pop_front()?;
        self.bytes -= call.bytes();
        Some(call)
    }
}

impl WaitingCall {
    fn bytes(&self) -> usize {
        size_of::<WaitingCall>() + self.function_id.len() + self.data.len()
    }
}

impl Engine {
    /// Who is to be sent calls of that function.
    pub(super) fn callee_of(&self, function_id: &str) -> Callee {
        match &self.attached {
            Some(attached) => attached.link.up().map_or(Callee::Away, Callee::Peer),
            None => {
                let owner = self.functions.owner_of(function_id);
                owner.map_or(Callee::Nobody, Callee::Peer)
            }
        }
    }

    /// Whether that socket is the link.
    pub(super) fn is_link(&self, id: SlotId) -> bool {
        self.attached
            .as_ref()
            .is_some_and(|attached| attached.link.is(id))
    }

    /// The other end of that socket, for the log.
    pub(super) fn name_of(&self, id: SlotId) -> String {
        match &self.attached {
            Some(attached) => format!("the engine at {}", attached.link.shown()),
            None => {
                let peer = self.peers.get(id);
                let worker_id = peer.map(|peer| peer.worker_id).unwrap_or_default();
                format!("SDK worker {worker_id}")
            }
        }
    }

    /// The link is there: says who we are, in one write, and asks which functions there are.
    pub(super) fn attach(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let Some(id) = attached.link.up() else {
            return;
        };
        tracing::info!("attached to the engine at {}", attached.link.shown());
        if attached.leaves == LeavesWait::ForLink {
            attached.leaves = LeavesWait::Until(self.now.monotonic + self.call_timeout);
        }
        let os = format!(
            "{} {} ({})",
            std::env::consts::OS,
            std::env::consts::ARCH,
            std::env::consts::FAMILY
        );
        let process = Process {
            pid: std::process::id(),
            os: &os,
            version: env!("CARGO_PKG_VERSION"),
        };
        let changed = (&*attached.functions_changed, &attached.trigger);
        for message in attached::registrations(OURS, changed, &process) {
            self.peers
                .send(id, |out| out.extend_from_slice(message.as_bytes()));
        }
        self.ask_for_functions(id);
        while let Some(call) = self.attached.as_mut().and_then(|it| it.waiting.pop()) {
            self.ask(&call.function_id, &call.data, call.awaits);
        }
    }

    fn ask_for_functions(&mut self, id: SlotId) {
        let call = Outgoing::own(LIST_FUNCTIONS, "{}");
        self.send_call(id, &call, Awaits::Functions, LIST_FUNCTIONS);
    }

    /// The link is lost: all triggers are forgotten, and what they followed is remembered until they
    /// are known again.
    pub(super) fn detach(&mut self, why: &str) {
        let (events, joins, leaves) = self.triggers.streams();
        let Some(attached) = &mut self.attached else {
            return;
        };
        attached.is_settled = false;
        attached.lost.events.add(&events);
        attached.lost.joins.add(&joins);
        attached.lost.leaves.add(&leaves);
        if !attached.lost.leaves.is_empty() {
            attached.leaves = LeavesWait::ForLink;
        }
        tracing::warn!(
            "lost the engine at {}: {why}. Subscribers stay and hear what they are owed when it is back; \
             until then nothing changes and no function is called. Trying again: is the engine running?",
            attached.link.shown()
        );
    }

    /// Streams that triggers follow, those included that were followed before the link was lost.
    pub(super) fn followed_streams(&self) -> (Streams, Streams, Streams) {
        let (events, joins, leaves) = self.triggers.streams();
        match &self.attached {
            None => (events, joins, leaves),
            Some(attached) => {
                let lost = &attached.lost;
                (
                    events.with_lost(&lost.events),
                    joins.with_lost(&lost.joins),
                    leaves.with_lost(&lost.leaves),
                )
            }
        }
    }

    /// An event whose triggers are not known again yet is lost to them.
    pub(super) fn count_lost_event(&self, stream: &str) {
        let is_lost = self
            .attached
            .as_ref()
            .is_some_and(|attached| !attached.is_settled && attached.lost.events.has(stream));
        if is_lost {
            self.metrics().trigger_calls_dropped.increment();
        }
    }

    /// A message of the engine.
    pub(super) fn on_engine_message(&mut self, id: SlotId, text: &str) {
        let message = match call::parse(text) {
            Ok(message) => message,
            Err(why) => return self.drop_message(id, &why),
        };
        match message {
            EngineMessage::Invoke(invoke) => self.invoked_by_engine(id, &invoke),
            EngineMessage::InvocationResult(result) => self.result(id, &result),
            EngineMessage::RegisterTrigger {
                id: trigger,
                trigger_type,
                function_id,
                config,
                metadata,
            } => self.register_trigger(
                id,
                &Asked {
                    id: &trigger,
                    trigger_type: &trigger_type,
                    function_id: &function_id,
                    told_function_id: &function_id,
                    config,
                    metadata,
                },
            ),
            EngineMessage::UnregisterTrigger { id: trigger, .. } => {
                if self.triggers.unregister(&trigger).is_some() {
                    self.hooks.change();
                }
            }
            EngineMessage::Ping => self.peers.send(id, answer::pong),
            EngineMessage::Ignored => self.on_greeting(id, text),
            EngineMessage::RegisterFunction { .. }
            | EngineMessage::UnregisterFunction { .. }
            | EngineMessage::RegisterTriggerType { .. }
            | EngineMessage::RegisterService => {}
        }
    }

    fn on_greeting(&mut self, id: SlotId, text: &str) {
        if let Some(worker_id) = greeted_as(text) {
            tracing::debug!("the engine calls this server worker {worker_id}");
            if let Some(peer) = self.peers.get_mut(id) {
                peer.worker_id = worker_id;
            }
        } else if let Some(why) = refused_because(text)
            && let Some(attached) = &mut self.attached
        {
            attached.link.because(format!("it refuses us: {why}"));
        }
    }

    fn invoked_by_engine(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller::new(id, call_id, &invoke.trace)),
        };
        let function_id = &*invoke.function_id;
        if let Some(function) = StreamFunction::from_id(function_id) {
            if self.is_link_full(id) {
                self.tell_refusal();
                if self.is_link_stuck(id) {
                    let why = "it calls on and on, and reads no answer";
                    return self.end_link(id, why);
                }
                return self.answer_error(caller, function_id, &failed(function, OVERLOADED));
            }
            return self.invoke_stream(Some(id), caller, function, invoke.data);
        }
        let has_changed = self
            .attached
            .as_ref()
            .is_some_and(|attached| attached.functions_changed == function_id);
        if has_changed {
            self.answer(caller, function_id, ResultBody::Json("null"));
            return self.ask_for_functions(id);
        }
        self.answer_error(caller, function_id, &function_not_found(function_id));
    }

    /// Whether the link's calls have used up their room: it is read all the same.
    fn is_link_full(&self, id: SlotId) -> bool {
        let Some(peer) = self.peers.get(id) else {
            return true;
        };
        peer.parked.bytes() + peer.unsent_bytes() > self.limits.call_queue_bytes
            || self.calls.streams_len() >= self.limits.calls_in_flight
    }

    /// Whether so much waits unsent that refusals as well are too much.
    fn is_link_stuck(&self, id: SlotId) -> bool {
        let unsent_bytes = self.peers.get(id).map_or(0, Peer::unsent_bytes);
        unsent_bytes > self.limits.call_queue_bytes.saturating_mul(2)
    }

    fn tell_refusal(&mut self) {
        self.metrics().calls_refused.increment();
        let now = self.now.monotonic;
        let Some(attached) = &mut self.attached else {
            return;
        };
        attached.refused += 1;
        let was_said = attached
            .refused_said_at
            .is_some_and(|at| now.saturating_duration_since(at) < REFUSALS_SAID_EVERY);
        if !was_said {
            attached.refused_said_at = Some(now);
            let count = std::mem::take(&mut attached.refused);
            tracing::warn!(
                "more calls come from the engine than can be served: {count} refused, for those that wait \
                 fill limits.call_queue_bytes or limits.calls_in_flight"
            );
        }
    }

    /// What an error of the engine says of a function: its own errors are told by their texts.
    pub(super) fn told_by_engine<'a>(
        &mut self,
        call: &FunctionCall,
        error: &'a ErrorBody,
    ) -> Answered<'a> {
        if *error == function_not_found(&call.function_id) {
            if matches!(call.awaits, Awaits::Custom { .. })
                && self.functions.drop_custom(&call.function_id)
            {
                self.hooks.change();
            }
            return Answered::NotFound;
        }
        if error.code == "invocation_stopped" && error.message == "Invocation stopped" {
            return Answered::Gone(error);
        }
        Answered::Failed(error)
    }

    /// The engine has told which functions there are, or could not. Its triggers came before.
    pub(super) fn functions_listed(&mut self, answered: Answered<'_>) {
        if matches!(answered, Answered::Gone(_)) {
            return; // the link is lost: the next one asks again
        }
        let listed = match answered {
            Answered::Result(list) => {
                listed_functions(list.unwrap_or("null")).map_err(|error| error.to_string())
            }
            _ => {
                let error = answered.error(LIST_FUNCTIONS);
                Err(error.map_or_else(String::new, |error| error.message))
            }
        };
        match listed {
            Ok(ids) => {
                if self.functions.set_custom(ids.iter().map(|id| &**id)) {
                    self.hooks.change();
                }
            }
            Err(why) => tracing::warn!(
                "the engine does not tell which functions there are ({why}): custom stores are those known \
                 before"
            ),
        }
        self.settle();
    }

    fn settle(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if std::mem::replace(&mut attached.is_settled, true) {
            return;
        }
        attached.link.has_settled();
        attached.lost.events = Streams::default();
        attached.lost.joins = Streams::default();
        self.hooks.change();
        let joins = std::mem::take(&mut attached.joins);
        for (_, request) in joins {
            self.decide_join(request);
        }
        self.look_for_leave_triggers();
    }

    /// Lets the leaves go that waited, once a trigger for them is known.
    pub(super) fn look_for_leave_triggers(&mut self) {
        let is_known = self.triggers.has_leaves();
        let Some(attached) = &mut self.attached else {
            return;
        };
        if is_known && matches!(attached.leaves, LeavesWait::Until(_)) {
            attached.leaves = LeavesWait::No;
        }
        if attached.lets_leaves_go() {
            self.release_leaves();
        }
    }

    fn release_leaves(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if !attached.lost.leaves.is_empty() {
            attached.lost.leaves = Streams::default();
            self.hooks.change();
        }
    }

    /// Whether owed leaves may be taken now.
    pub(super) fn takes_leaves(&self) -> bool {
        self.attached
            .as_ref()
            .is_none_or(|attached| attached.lets_leaves_go())
    }

    /// Keeps a join until its functions can be asked; gives it back when they can be now.
    pub(super) fn hold_join(&mut self, request: Box<JoinRequest>) -> Option<Box<JoinRequest>> {
        let until = self.now.monotonic + self.call_timeout;
        let max = self.limits.calls_in_flight;
        match &mut self.attached {
            Some(attached) if !attached.is_settled && attached.joins.len() < max => {
                attached.joins.push_back((until, request));
                None
            }
            _ => Some(request),
        }
    }

    /// A call finds the link down: some wait for it, the others end.
    pub(super) fn wait_for_link(&mut self, function_id: &str, data: &str, awaits: Awaits) {
        let waits = matches!(
            awaits,
            Awaits::Custom { .. } | Awaits::Join(_) | Awaits::JoinCondition(..)
        );
        let until = self.now.monotonic + self.call_timeout;
        let (bytes_max, len_max) = (self.limits.call_queue_bytes, self.limits.calls_in_flight);
        let Some(attached) = self.attached.as_mut().filter(|_| waits) else {
            if matches!(awaits, Awaits::Condition(_)) {
                self.metrics().trigger_calls_dropped.increment();
            }
            return self.hear(awaits, function_id, Answered::Gone(&not_connected()));
        };
        let waiting = &mut attached.waiting;
        if waiting.bytes > bytes_max || waiting.calls.len() >= len_max {
            self.metrics().calls_refused.increment();
            return self.hear(awaits, function_id, Answered::Refused(OVERLOADED));
        }
        waiting.push(WaitingCall {
            until,
            function_id: function_id.into(),
            data: data.into(),
            awaits,
        });
    }

    /// Ends what has waited for the link long enough.
    pub(super) fn end_overdue_waits(&mut self) {
        let now = self.now.monotonic;
        while let Some(call) = self
            .attached
            .as_mut()
            .and_then(|it| it.waiting.pop_due(now))
        {
            self.hear(
                call.awaits,
                &call.function_id,
                Answered::Gone(&not_connected()),
            );
        }
        while let Some(attached) = &mut self.attached
            && let Some((_, request)) = attached.joins.pop_front_if(|(until, _)| *until <= now)
        {
            // As when its functions fail: that admits.
            self.tell(request.worker, ToWorker::Joined(request, true));
        }
        if let Some(attached) = &mut self.attached
            && matches!(attached.leaves, LeavesWait::Until(until) if until <= now)
        {
            attached.leaves = LeavesWait::No;
            self.look_for_leave_triggers();
        }
    }

    /// When the link, or what waits for it, has to be looked after.
    pub(super) fn next_link_step(&self) -> Option<Instant> {
        let attached = self.attached.as_ref()?;
        let link = attached
            .link
            .next_at()
            .filter(|_| self.drain_until.is_none());
        [link, attached.next_at()].into_iter().flatten().min()
    }

    /// The engine may hand us triggers of our own types only.
    pub(super) fn check_handed_over(&self, trigger_type: &str) -> Result<(), ErrorBody> {
        let is_ours = TriggerType::from_id(trigger_type)
            .is_some_and(|trigger_type| TRIGGER_TYPES.contains(&trigger_type));
        if self.attached.is_none() || is_ours {
            return Ok(());
        }
        let error = ErrorBody::new("trigger_type_not_found", "Trigger type not found");
        Err(error)
    }
}
