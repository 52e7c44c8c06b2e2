//! Attached mode: what is said over the link to a running engine, whose worker we are.
//!
//! May not know how the link comes about nor what waits for it (`waiting`).

use std::time::Duration;

use crate::id::SlotId;
use crate::protocol::answer::{self, ResultBody};
use crate::protocol::attached::{self, Process, greeting, refused_because, rejection};
use crate::protocol::call::{self, Action, EngineMessage, ErrorBody, Invoke};
use crate::protocol::configuration::ON_CONFIG_CHANGE;
use crate::protocol::custom;
use crate::protocol::input::{StreamFunction, failed};

use super::Attached;
use crate::broker::Broker;
use crate::broker::awaits::{Answered, Awaits, function_not_found};
use crate::broker::caller::Caller;
use crate::broker::calls::{Calls, FunctionCall};
use crate::broker::lines::Level;
use crate::broker::members::Member;
use crate::broker::outgoing::SENT_BYTES_MAX;
use crate::broker::registry::{Functions, OURS};
use crate::broker::triggers::Triggers;
use crate::broker::turn::Turn;
use crate::notes::Shown;
use crate::protocol::function::OVERLOADED;

/// An answer leaves no sooner after its call was read: an engine notes a call after it has sent it,
/// and never delivers an answer that comes before that.
const HELD_FOR: Duration = Duration::from_micros(500);

impl Attached {
    /// The link is there: says who we are, in one write, and asks which functions there are.
    pub(super) fn attach(&mut self, turn: &mut Turn, calls: &mut Calls, id: SlotId) {
        self.wait_for_leave_triggers(turn.now.monotonic + turn.call_timeout);
        let Some(attached_to) = &turn.attached_to else {
            return;
        };
        let known_as = &attached_to.known_as;
        let process = Process {
            name: &known_as.name,
            namespace: known_as.namespace.as_deref(),
            pid: known_as.pid,
            os: &known_as.os,
            version: env!("CARGO_PKG_VERSION"),
        };
        let [functions, workers] = &self.triggers;
        let changed = (&*self.functions_changed, [functions, workers]);
        let reattach = self.link.older().and_then(attached::reattach);
        let registrations = attached::registrations(OURS, changed, &process);
        for message in reattach.into_iter().chain(registrations) {
            turn.members.send_text(id, &message);
        }
        self.begin_standing(turn, calls, id);
    }

    /// What is no message of the protocol between engines and their workers.
    fn on_greeting(
        &mut self,
        turn: &mut Turn,
        calls: &mut Calls,
        triggers: &Triggers,
        id: SlotId,
        text: &str,
    ) {
        if let Some(greeting) = greeting(text) {
            let worker_id = greeting.worker_id;
            let line = format!("the engine calls this server worker {worker_id}");
            turn.lines.say(Level::Debug, line);
            self.link.greeted(greeting);
            if let Some(peer) = turn.members.get_mut(id) {
                peer.worker_id = worker_id;
            }
        } else if let Some(rejection) = rejection(text) {
            self.registration_rejected(turn, calls, triggers, id, &rejection);
        } else if let Some(why) = refused_because(text) {
            let why = format!("it refuses us: {}", Shown(&why));
            self.link.refused_because(why);
        }
    }
}

impl Broker {
    /// A message of the engine.
    pub(in crate::broker) fn on_engine_message(&mut self, id: SlotId, text: &str) {
        let message = match call::parse(text) {
            Ok(message) => message,
            Err(why) => return self.turn.drop_message(id, &why),
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
            EngineMessage::Ping => self.turn.members.send(id, answer::pong),
            EngineMessage::Ignored => {
                if let Some(attached) = &mut self.attached {
                    let (calls, triggers) = (&mut self.calls, &self.triggers);
                    attached.on_greeting(&mut self.turn, calls, triggers, id, text);
                }
            }
            EngineMessage::RegisterFunction { .. }
            | EngineMessage::UnregisterFunction { .. }
            | EngineMessage::RegisterTriggerType { .. }
            | EngineMessage::RegisterService => {}
        }
    }

    fn invoked_by_engine(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let (turn, calls) = (&mut self.turn, &mut self.calls);
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller {
                held_until: turn.members.get(id).map(|peer| peer.heard_at + HELD_FOR),
                ..Caller::new(id, call_id, &invoke.trace)
            }),
        };
        let function_id = &*invoke.function_id;
        if let Some(function) = StreamFunction::from_id(function_id) {
            if is_full(turn, calls, id) {
                attached.tell_refusal(turn);
                if is_stuck(turn, id) {
                    let why = "it calls on and on, and reads no answer";
                    return attached.end_link(turn, id, why);
                }
                let error = failed(function, OVERLOADED);
                return calls.answer_error(turn, caller, function_id, &error);
            }
            self.invoke_stream(Some(id), caller, function, invoke.data);
            return;
        }
        if attached.functions_changed == function_id {
            calls.answer(turn, caller, function_id, ResultBody::Json("null"));
            return attached.functions_have_changed(turn, calls, id);
        }
        if function_id == ON_CONFIG_CHANGE {
            return self.configuration_changed(id, caller, invoke.data);
        }
        let error = function_not_found(function_id);
        calls.answer_error(turn, caller, function_id, &error);
    }
}

/// Whether the link's calls have used up their room: it is read all the same.
fn is_full(turn: &Turn, calls: &Calls, id: SlotId) -> bool {
    let Some(peer) = turn.members.get(id) else {
        return true;
    };
    peer.parked.bytes() + peer.unsent_bytes() > turn.limits.call_queue_bytes
        || calls.streams_len() >= turn.limits.calls_in_flight
}

/// Whether so much waits unsent that refusals as well are too much. One long answer is not.
fn is_stuck(turn: &Turn, id: SlotId) -> bool {
    let written_bytes = turn.members.get(id).map_or(0, Member::written_bytes);
    written_bytes > SENT_BYTES_MAX + turn.limits.call_queue_bytes.saturating_mul(2)
}

/// What an error of the engine says of a function: its own errors are told by their texts.
pub(in crate::broker) fn told_by_engine<'a>(
    turn: &mut Turn,
    functions: &mut Functions,
    call: &FunctionCall,
    error: &'a ErrorBody,
) -> Answered<'a> {
    let called = match &call.awaits {
        Awaits::Groups(_, stream) => custom::function_id(StreamFunction::ListGroups, stream).into(),
        _ => call.function_id.clone(),
    };
    // Newer engines say behind it where they have looked.
    let missing = function_not_found(&called);
    if error.code == missing.code && error.message.starts_with(&missing.message) {
        if matches!(call.awaits, Awaits::Custom { .. } | Awaits::Groups(..))
            && functions.drop_custom(&called)
        {
            turn.hooks.change();
        }
        return Answered::NotFound;
    }
    if error.code == "invocation_stopped" && error.message == "Invocation stopped" {
        return Answered::Gone(error);
    }
    Answered::Failed(error)
}
