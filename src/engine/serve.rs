//! What SDK workers' messages mean: registrations, calls of our functions and of each other's, and
//! the way back of the answers.

use uuid::Uuid;

use crate::id::{CallId, GroupKey, ItemId, SlotId, Text, WorkerId};
use crate::mesh::{EnginePorts, ToOwner};
use crate::protocol::answer::{self, ResultBody};
use crate::protocol::call::{self, Action, EngineMessage, ErrorBody, InvocationResult, Invoke};
use crate::protocol::input::{
    self, InputLimits, StreamFunction, StreamInput, failed, limit_exceeded,
};
use crate::protocol::value::{self, ValueError};
use crate::shard::{Ask, Command, Reply};

use super::Engine;
use super::calls::{Caller, FunctionCall, StreamCall, function_not_found};
use super::peers::{Answer, Peer};
use super::registry::Description;

/// Told to whoever finds no room.
const OVERLOADED: &str = "server is overloaded";

/// SDK workers tell about themselves with this function when they connect.
const REGISTER_WORKER: &str = "engine::workers::register";

/// What can be called, with descriptions and schemas.
const LIST_FUNCTIONS: &str = "engine::functions::list";

impl Engine {
    pub(super) fn on_message(&mut self, id: SlotId, text: &str) {
        let message = match call::parse(text) {
            Ok(message) => message,
            Err(why) => return self.drop_message(id, &why),
        };
        match message {
            EngineMessage::Invoke(invoke) => self.invoke(id, &invoke),
            EngineMessage::InvocationResult(result) => self.result(id, &result),
            EngineMessage::RegisterFunction {
                id: function_id,
                has_invocation: true,
                ..
            } => self.warn(id, &format!(
                "function {function_id} is to be called over HTTP, which is not served: passed over"
            )),
            EngineMessage::RegisterFunction {
                id: function_id,
                description,
                request_format,
                response_format,
                metadata,
                ..
            } => {
                let description = Description {
                    text: description.as_deref().map(Box::from),
                    request_format: request_format.map(ToOwned::to_owned),
                    response_format: response_format.map(ToOwned::to_owned),
                    metadata: metadata.map(ToOwned::to_owned),
                };
                self.register_function(id, &function_id, description);
            }
            EngineMessage::UnregisterFunction { id: function_id } => {
                self.functions.unregister(&function_id, id);
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.functions.remove(&*function_id);
                }
            }
            EngineMessage::RegisterTrigger {
                id: trigger,
                trigger_type,
                function_id,
                ..
            } => {
                let error = ErrorBody::new("trigger_type_not_found", "Trigger type not found");
                self.warn(id, &format!(
                    "trigger {trigger} is refused: this server has no trigger type {trigger_type} yet"
                ));
                self.peers.send(id, |out| {
                    answer::trigger_registration_result(
                        out,
                        &trigger,
                        &trigger_type,
                        &function_id,
                        Some(&error),
                    );
                });
            }
            EngineMessage::Ping => self.peers.send(id, answer::pong),
            EngineMessage::UnregisterTrigger { .. }
            | EngineMessage::RegisterTriggerType { .. }
            | EngineMessage::RegisterService
            | EngineMessage::Ignored => {}
        }
    }

    fn register_function(&mut self, id: SlotId, function_id: &str, description: Description) {
        let is_ours = StreamFunction::from_id(function_id).is_some()
            || [REGISTER_WORKER, LIST_FUNCTIONS].contains(&function_id);
        if is_ours && self.functions.owner_of(function_id).is_none() {
            tracing::warn!(
                "an SDK worker has registered {function_id}: it is called in place of ours while it is there"
            );
        }
        self.functions.register(function_id, id, description);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.functions.insert(function_id.into());
        }
    }

    fn invoke(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        // A void call is answered by nobody, whatever its id.
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller::new(id, call_id, &invoke.trace)),
        };
        if let Action::Enqueue { .. } = invoke.action {
            let error = ErrorBody::new("enqueue_error", "QueueModule not loaded");
            return self.answer_error(caller, &invoke.function_id, &error);
        }
        if let Some(callee) = self.functions.owner_of(&invoke.function_id) {
            return self.invoke_function(id, callee, caller, invoke);
        }
        if let Some(function) = StreamFunction::from_id(&invoke.function_id) {
            return self.invoke_stream(id, caller, function, invoke.data);
        }
        if invoke.function_id == REGISTER_WORKER {
            let done = ResultBody::Json(r#"{"success":true}"#);
            return self.answer(caller, REGISTER_WORKER, done);
        }
        if invoke.function_id == LIST_FUNCTIONS {
            return match input::include_internal(invoke.data, LIST_FUNCTIONS, "FunctionsListInput")
            {
                Ok(include_internal) => {
                    let list = self.functions.list(include_internal);
                    self.answer(caller, LIST_FUNCTIONS, ResultBody::Json(&list));
                }
                Err(error) => self.answer_error(caller, LIST_FUNCTIONS, &error),
            };
        }
        self.answer_error(
            caller,
            &invoke.function_id,
            &function_not_found(&invoke.function_id),
        );
    }

    /// A call of a function of some SDK worker.
    fn invoke_function(
        &mut self,
        id: SlotId,
        callee: SlotId,
        caller: Option<Caller>,
        invoke: &Invoke<'_>,
    ) {
        if let Some(cause) = self.refusal(id, callee, caller.is_some(), invoke.data) {
            self.metrics().calls_refused.increment();
            let error = ErrorBody::new("invocation_error", cause);
            return self.answer_error(caller, &invoke.function_id, &error);
        }
        let worker_id = self.peers.get(id).map(|peer| peer.worker_id);
        let sent_id = match caller {
            None => Uuid::new_v4(),
            Some(caller) => {
                let until = self.now.monotonic + self.call_timeout;
                let calls = &mut self.calls;
                let (sent_id, older) =
                    calls.begin_function(caller, &invoke.function_id, callee, until, Uuid::new_v4);
                if let Some(older) = older {
                    self.end_call(older, &ErrorBody::new("invocation_error", "channel closed"));
                }
                sent_id
            }
        };
        self.peers.send(callee, |out| {
            let (traceparent, baggage) = (
                invoke.trace.traceparent.as_deref(),
                invoke.trace.baggage.as_deref(),
            );
            answer::invoke_function(
                out,
                &sent_id,
                &invoke.function_id,
                invoke.data,
                worker_id.as_ref(),
                traceparent,
                baggage,
            );
        });
    }

    /// Why a call of an SDK worker's function is refused, if it is.
    fn refusal(&self, id: SlotId, callee: SlotId, waits: bool, data: &str) -> Option<String> {
        if let Err(why) = self.check_passed_on(data) {
            return Some(why);
        }
        let in_flight = self.calls.functions_len();
        let unsent_bytes = self.peers.get(callee).map_or(0, Peer::unsent_bytes);
        let is_full = (waits && in_flight >= self.limits.calls_in_flight)
            || (callee != id && unsent_bytes > self.limits.call_queue_bytes);
        is_full.then(|| OVERLOADED.to_owned())
    }

    /// Whether SDK workers can read what another one sends them. What stands inside `data` may be as
    /// deep as a value; `data` itself is one level more.
    fn check_passed_on(&self, json: &str) -> Result<(), String> {
        let depth_max = self.limits.json_depth;
        value::check(json, depth_max + 1).map_err(|why| match why {
            ValueError::TooDeep { depth } => {
                limit_exceeded("limits.json_depth", depth - 1, depth_max)
            }
            other => other.to_string(),
        })
    }

    fn invoke_stream(
        &mut self,
        id: SlotId,
        caller: Option<Caller>,
        function: StreamFunction,
        data: &str,
    ) {
        let limits = InputLimits {
            name_bytes: self.limits.name_bytes,
            json_depth: self.limits.json_depth,
            value_bytes: self.limits.value_bytes,
            update_ops: self.limits.update_ops,
        };
        let input = match input::parse(function, data, &limits) {
            Ok(input) => input,
            Err(error) => return self.answer_error(caller, function.id(), &error),
        };
        let (key, ask) = match input {
            StreamInput::ListGroups { .. } | StreamInput::ListAll => {
                return self.invoke_listing(id, caller, function, &input);
            }
            StreamInput::Get { .. } | StreamInput::List { .. } if caller.is_none() => return,
            other => {
                let call = caller.map(|caller| self.begin_stream(caller, function, 1));
                let Some(asked) = ask_of(other, call) else {
                    return;
                };
                asked
            }
        };
        let owner = self.ports.shared.owners.owner_of(&key);
        self.send_command(id, owner, Command::Group { key, ask });
    }

    fn begin_stream(&mut self, caller: Caller, function: StreamFunction, workers: usize) -> CallId {
        if is_list(function)
            && let Some(peer) = self.peers.get_mut(caller.peer)
        {
            peer.lists_under_way += 1;
        }
        self.calls.begin_stream(caller, function, workers)
    }

    /// All workers know a part of the answer.
    fn invoke_listing(
        &mut self,
        id: SlotId,
        caller: Option<Caller>,
        function: StreamFunction,
        input: &StreamInput<'_>,
    ) {
        let Some(caller) = caller else {
            return;
        };
        let workers = self.ports.to_commands.len();
        let call = self.begin_stream(caller, function, workers);
        for worker in 0..workers {
            let command = match input {
                StreamInput::ListGroups { stream } => Command::ListGroups {
                    stream: stream.as_ref().into(),
                    call,
                },
                _ => Command::ListAll { call },
            };
            self.send_command(id, WorkerId(worker as u16), command);
        }
    }

    /// Sends the command, or parks it: then its socket is not read until there is room.
    fn send_command(&mut self, id: SlotId, owner: WorkerId, command: Command) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let command = if peer.parked.is_empty() {
            match try_send(&mut self.ports, owner, command) {
                Ok(()) => return,
                Err(command) => command,
            }
        } else {
            command
        };
        if peer.parked.is_empty() {
            let waits = command.call().is_some();
            peer.parked_until = waits.then(|| self.now.monotonic + self.call_timeout);
            self.parked.push(id);
        }
        peer.parked.push_back((owner, command));
        self.metrics().calls_parked.increment();
    }

    /// Tries again what found its owner full.
    pub(super) fn deliver_parked(&mut self) {
        while let Some((owner, command)) = self.orphans.pop_front() {
            if let Err(command) = try_send(&mut self.ports, owner, command) {
                self.orphans.push_front((owner, command));
                break;
            }
        }
        for id in std::mem::take(&mut self.parked) {
            self.deliver_parked_of(id);
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            if peer.parked.is_empty() {
                peer.parked_until = None;
                self.queue(id);
            } else {
                self.parked.push(id);
            }
        }
    }

    fn deliver_parked_of(&mut self, id: SlotId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        while let Some((owner, command)) = peer.parked.pop_front() {
            if let Err(command) = try_send(&mut self.ports, owner, command) {
                peer.parked.push_front((owner, command));
                break;
            }
        }
        let is_late = peer
            .parked_until
            .is_some_and(|until| until <= self.now.monotonic);
        if !is_late || peer.parked.is_empty() {
            return;
        }
        for (_, command) in std::mem::take(&mut peer.parked) {
            let call = command
                .call()
                .and_then(|call| self.calls.abandon_stream(call));
            if let Some(call) = call {
                self.list_ended(&call);
                let error = failed(call.function, OVERLOADED);
                self.answer_error(Some(call.caller), call.function.id(), &error);
            }
        }
    }

    /// A worker has answered a stream call.
    pub(super) fn reply(&mut self, reply: Reply) {
        if let Some((call, outcome)) = self.calls.end_stream(reply.call, reply.outcome) {
            self.list_ended(&call);
            self.peers.answer(Answer {
                caller: call.caller,
                function: call.function,
                outcome,
            });
        }
    }

    /// One call of a list less for that peer, which may have been held for it.
    fn list_ended(&mut self, call: &StreamCall) {
        if !is_list(call.function) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(call.caller.peer) {
            peer.lists_under_way = peer.lists_under_way.saturating_sub(1);
            self.queue(call.caller.peer);
        }
    }

    /// An SDK worker has answered a call.
    fn result(&mut self, id: SlotId, result: &InvocationResult<'_>) {
        let Some(call) = self.calls.answered(id, result.id) else {
            return; // nobody waits for it, or not for this peer
        };
        if let Some(why) = result
            .result
            .and_then(|json| self.check_passed_on(json).err())
        {
            let error = ErrorBody::new("invocation_failed", why);
            return self.answer_error(Some(call.caller), &call.function_id, &error);
        }
        let body = match (&result.error, result.result) {
            (Some(error), _) => ResultBody::Error(error),
            (None, Some(json)) => ResultBody::Json(json),
            (None, None) => ResultBody::Nothing,
        };
        self.answer(Some(call.caller), &call.function_id, body);
    }

    /// A peer is gone, or about to be: what is its own goes, and who waits for it is told.
    pub(super) fn forget(&mut self, id: SlotId) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let functions = std::mem::take(&mut peer.functions);
        self.orphans.extend(peer.parked.drain(..));
        self.functions.forget(id, functions);
        for call in self.calls.forget_peer(id) {
            self.end_call(
                call,
                &ErrorBody::new("invocation_stopped", "Invocation stopped"),
            );
        }
    }

    pub(super) fn end_overdue_calls(&mut self) {
        while let Some(call) = self.calls.pop_overdue(self.now.monotonic) {
            let message = format!(
                "invocation timed out after {}ms",
                self.call_timeout.as_millis()
            );
            self.end_call(call, &ErrorBody::new("invocation_timeout", message));
        }
    }

    fn end_call(&mut self, call: FunctionCall, error: &ErrorBody) {
        self.answer_error(Some(call.caller), &call.function_id, error);
    }

    fn answer_error(&mut self, caller: Option<Caller>, function_id: &str, error: &ErrorBody) {
        self.answer(caller, function_id, ResultBody::Error(error));
    }

    fn answer(&mut self, caller: Option<Caller>, function_id: &str, body: ResultBody<'_>) {
        if let Some(caller) = caller {
            self.peers.send(caller.peer, |out| {
                caller.write_answer(out, function_id, body);
            });
        }
    }
}

/// Whether the answer may be much longer than the call.
fn is_list(function: StreamFunction) -> bool {
    use StreamFunction::{List, ListAll, ListGroups};
    matches!(function, List | ListGroups | ListAll)
}

/// Gives the command back when its owner is full; the engine is woken when there is room.
fn try_send(ports: &mut EnginePorts, owner: WorkerId, command: Command) -> Result<(), Command> {
    match ports.to_commands[owner.index()].try_send(ToOwner::Command(command)) {
        Err(ToOwner::Command(command)) => Err(command),
        Ok(()) | Err(ToOwner::Socket(_) | ToOwner::Hooks(_)) => Ok(()),
    }
}

/// The question to the group's owner; `None` for what is no question about one group.
fn ask_of(input: StreamInput<'_>, call: Option<CallId>) -> Option<(GroupKey, Ask)> {
    let asked = match input {
        StreamInput::Set {
            stream,
            group,
            item,
            data,
        } => {
            let (item, data) = (ItemId::from(item), Text::from(data));
            (
                GroupKey::new(&stream, &group),
                Ask::Set { item, data, call },
            )
        }
        StreamInput::Update {
            stream,
            group,
            item,
            ops,
        } => {
            let item = ItemId::from(item);
            (
                GroupKey::new(&stream, &group),
                Ask::Update { item, ops, call },
            )
        }
        StreamInput::Delete {
            stream,
            group,
            item,
        } => {
            let item = ItemId::from(item);
            (GroupKey::new(&stream, &group), Ask::Delete { item, call })
        }
        StreamInput::Get {
            stream,
            group,
            item,
        } => {
            let item = ItemId::from(item);
            (
                GroupKey::new(&stream, &group),
                Ask::Get { item, call: call? },
            )
        }
        StreamInput::List { stream, group } => {
            (GroupKey::new(&stream, &group), Ask::List { call: call? })
        }
        StreamInput::Send {
            stream,
            group,
            id,
            kind,
            data,
        } => {
            let ask = Ask::Send {
                id: id.map(ItemId::from),
                kind: kind.into(),
                data: data.into(),
                call,
            };
            (GroupKey::new(&stream, &group), ask)
        }
        StreamInput::ListGroups { .. } | StreamInput::ListAll => return None,
    };
    Some(asked)
}
