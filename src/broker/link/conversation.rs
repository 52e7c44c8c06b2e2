//! Attached mode: what is said over the link to a running engine, whose worker we are.
//!
//! May not know how the link comes about nor what waits for it (`waiting`).

use std::time::Duration;

use crate::id::SlotId;
use crate::protocol::answer::{self, ResultBody};
use crate::protocol::attached::{
    self, Process, TRIGGER_TYPES, greeting, refused_because, rejection,
};
use crate::protocol::call::{self, Action, EngineMessage, ErrorBody, Invoke};
use crate::protocol::configuration::ON_CONFIG_CHANGE;
use crate::protocol::custom;
use crate::protocol::input::{StreamFunction, failed};
use crate::protocol::trigger::TriggerType;

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::{Answered, Awaits, FunctionCall, function_not_found};
use crate::broker::lines::Level;
use crate::broker::members::Member;
use crate::broker::outgoing::SENT_BYTES_MAX;
use crate::broker::registry::OURS;
use crate::notes::Shown;
use crate::protocol::function::OVERLOADED;

/// An answer leaves no sooner after its call was read: an engine notes a call after it has sent it,
/// and never delivers an answer that comes before that.
const HELD_FOR: Duration = Duration::from_micros(500);

impl Broker {
    /// The link is there: says who we are, in one write, and asks which functions there are.
    pub(in crate::broker) fn attach(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let Some(id) = attached.link.up() else {
            return;
        };
        attached.link_is_up(self.now.monotonic + self.call_timeout);
        let known_as = &attached.link.known_as;
        let process = Process {
            name: &known_as.name,
            namespace: known_as.namespace.as_deref(),
            pid: known_as.pid,
            os: &known_as.os,
            version: env!("CARGO_PKG_VERSION"),
        };
        let [functions, workers] = &attached.triggers;
        let changed = (&*attached.functions_changed, [functions, workers]);
        let reattach = attached.link.older().and_then(attached::reattach);
        let registrations = attached::registrations(OURS, changed, &process);
        for message in reattach.into_iter().chain(registrations) {
            self.members
                .send(id, |out| out.extend_from_slice(message.as_bytes()));
        }
        self.begin_standing(id);
    }

    /// A message of the engine.
    pub(in crate::broker) fn on_engine_message(&mut self, id: SlotId, text: &str) {
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
            EngineMessage::Ping => self.members.send(id, answer::pong),
            EngineMessage::Ignored => self.on_greeting(id, text),
            EngineMessage::RegisterFunction { .. }
            | EngineMessage::UnregisterFunction { .. }
            | EngineMessage::RegisterTriggerType { .. }
            | EngineMessage::RegisterService => {}
        }
    }

    fn on_greeting(&mut self, id: SlotId, text: &str) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if let Some(greeting) = greeting(text) {
            let worker_id = greeting.worker_id;
            let line = format!("the engine calls this server worker {worker_id}");
            self.lines.say(Level::Debug, line);
            attached.link.greeted(greeting);
            if let Some(peer) = self.members.get_mut(id) {
                peer.worker_id = worker_id;
            }
        } else if let Some(rejection) = rejection(text) {
            self.registration_rejected(id, &rejection);
        } else if let Some(why) = refused_because(text) {
            let why = format!("it refuses us: {}", Shown(&why));
            attached.link.refused_because(why);
        }
    }

    fn invoked_by_engine(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller {
                held_until: self.members.get(id).map(|peer| peer.heard_at + HELD_FOR),
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
            self.invoke_stream(Some(id), caller, function, invoke.data);
            return;
        }
        let has_changed = self
            .attached
            .as_ref()
            .is_some_and(|attached| attached.functions_changed == function_id);
        if has_changed {
            self.answer(caller, function_id, ResultBody::Json("null"));
            return self.functions_have_changed(id);
        }
        if function_id == ON_CONFIG_CHANGE {
            return self.configuration_changed(id, caller, invoke.data);
        }
        self.answer_error(caller, function_id, &function_not_found(function_id));
    }

    /// Whether the link's calls have used up their room: it is read all the same.
    fn is_link_full(&self, id: SlotId) -> bool {
        let Some(peer) = self.members.get(id) else {
            return true;
        };
        peer.parked.bytes() + peer.unsent_bytes() > self.limits.call_queue_bytes
            || self.calls.streams_len() >= self.limits.calls_in_flight
    }

    /// Whether so much waits unsent that refusals as well are too much. One long answer is not.
    fn is_link_stuck(&self, id: SlotId) -> bool {
        let written_bytes = self.members.get(id).map_or(0, Member::written_bytes);
        written_bytes > SENT_BYTES_MAX + self.limits.call_queue_bytes.saturating_mul(2)
    }

    fn tell_refusal(&mut self) {
        self.metrics().calls_refused.increment();
        let now = self.now.monotonic;
        if let Some(count) = self.attached.as_mut().and_then(|it| it.count_refusal(now)) {
            self.lines.say(Level::Warn, format!(
                "more calls come from the engine than can be served: {count} refused, for those that wait \
                 fill limits.call_queue_bytes or limits.calls_in_flight"
            ));
        }
    }

    /// What an error of the engine says of a function: its own errors are told by their texts.
    pub(in crate::broker) fn told_by_engine<'a>(
        &mut self,
        call: &FunctionCall,
        error: &'a ErrorBody,
    ) -> Answered<'a> {
        let called = match &call.awaits {
            Awaits::Groups(_, stream) => {
                custom::function_id(StreamFunction::ListGroups, stream).into()
            }
            _ => call.function_id.clone(),
        };
        // Newer engines say behind it where they have looked.
        let missing = function_not_found(&called);
        if error.code == missing.code && error.message.starts_with(&missing.message) {
            if matches!(call.awaits, Awaits::Custom { .. } | Awaits::Groups(..))
                && self.functions.drop_custom(&called)
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

    /// The engine may hand us triggers of our own types only.
    pub(in crate::broker) fn check_handed_over(&self, trigger_type: &str) -> Result<(), ErrorBody> {
        let is_ours = TriggerType::from_id(trigger_type)
            .is_some_and(|trigger_type| TRIGGER_TYPES.contains(&trigger_type));
        if self.attached.is_none() || is_ours {
            return Ok(());
        }
        let error = ErrorBody::new("trigger_type_not_found", "Trigger type not found");
        Err(error)
    }
}
