//! Attached mode: what is said over the link to a running engine, whose worker we are.
//!
//! May not know how the link comes about (`link`) nor what waits for it (`attached`).

use std::time::Duration;

use crate::id::SlotId;
use crate::protocol::answer::{self, ResultBody};
use crate::protocol::attached::{
    self, LIST_FUNCTIONS, Process, TRIGGER_TYPES, greeted_as, listed_functions, refused_because,
};
use crate::protocol::call::{self, Action, EngineMessage, ErrorBody, Invoke};
use crate::protocol::input::{StreamFunction, failed};
use crate::protocol::trigger::TriggerType;

use crate::engine::Engine;
use crate::engine::ask::Outgoing;
use crate::engine::calls::{Answered, Awaits, Caller, FunctionCall, function_not_found};
use crate::engine::outgoing::SENT_BYTES_MAX;
use crate::engine::peers::Peer;
use crate::engine::registry::OURS;
use crate::engine::serve::OVERLOADED;

/// An answer leaves no sooner after its call was read: an engine notes a call after it has sent it,
/// and never delivers an answer that comes before that.
const HELD_FOR: Duration = Duration::from_micros(500);

impl Engine {
    /// The link is there: says who we are, in one write, and asks which functions there are.
    pub(in crate::engine) fn attach(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let Some(id) = attached.link.up() else {
            return;
        };
        attached.link_is_up(self.now.monotonic + self.call_timeout);
        let os = format!(
            "{} {} ({})",
            std::env::consts::OS,
            std::env::consts::ARCH,
            std::env::consts::FAMILY
        );
        let (name, namespace) = attached.link.known_as();
        let process = Process {
            name,
            namespace,
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
        self.ask_what_waited();
    }

    fn ask_for_functions(&mut self, id: SlotId) {
        let call = Outgoing::own(LIST_FUNCTIONS, "{}");
        self.send_call(id, &call, Awaits::Functions, LIST_FUNCTIONS);
    }

    /// A message of the engine.
    pub(in crate::engine) fn on_engine_message(&mut self, id: SlotId, text: &str) {
        let message = match call::parse(text) {
            Ok(message) => message,
            Err(why) => return self.drop_message(id, &why),
        };
        match message {
            EngineMessage::Invoke(invoke) => self.invoked_by_engine(id, &invoke),
            EngineMessage::InvocationResult(result) => self.result(id, &result),
            EngineMessage::RegisterTrigger(asked) => {
                self.register_trigger(id, &asked, &asked.function_id);
            }
            EngineMessage::UnregisterTrigger { id: trigger, .. } => {
                self.unregister_trigger(id, &trigger);
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
            attached
                .link
                .refused_because(format!("it refuses us: {why}"));
        }
    }

    fn invoked_by_engine(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller {
                held_until: self.peers.get(id).map(|peer| peer.heard_at + HELD_FOR),
                ..Caller::new(id, call_id, &invoke.trace)
            }),
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

    /// Whether so much waits unsent that refusals as well are too much. One long answer is not.
    fn is_link_stuck(&self, id: SlotId) -> bool {
        let written_bytes = self.peers.get(id).map_or(0, Peer::written_bytes);
        written_bytes > SENT_BYTES_MAX + self.limits.call_queue_bytes.saturating_mul(2)
    }

    fn tell_refusal(&mut self) {
        self.metrics().calls_refused.increment();
        let now = self.now.monotonic;
        if let Some(count) = self.attached.as_mut().and_then(|it| it.count_refusal(now)) {
            tracing::warn!(
                "more calls come from the engine than can be served: {count} refused, for those that wait \
                 fill limits.call_queue_bytes or limits.calls_in_flight"
            );
        }
    }

    /// What an error of the engine says of a function: its own errors are told by their texts.
    pub(in crate::engine) fn told_by_engine<'a>(
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
    pub(in crate::engine) fn functions_listed(&mut self, answered: Answered<'_>) {
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

    /// The engine may hand us triggers of our own types only.
    pub(in crate::engine) fn check_handed_over(&self, trigger_type: &str) -> Result<(), ErrorBody> {
        let is_ours = TriggerType::from_id(trigger_type)
            .is_some_and(|trigger_type| TRIGGER_TYPES.contains(&trigger_type));
        if self.attached.is_none() || is_ours {
            return Ok(());
        }
        let error = ErrorBody::new("trigger_type_not_found", "Trigger type not found");
        Err(error)
    }
}
