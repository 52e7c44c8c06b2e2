//! Calls from SDK workers: of our stream functions and of each other's, and the way back of answers.

use std::time::Instant;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::id::{CallId, GroupKey, ItemId, SlotId, Text, WorkerId};
use crate::log::Shown;
use crate::mesh::ToOwner;
use crate::metrics::CallOutcome;
use crate::protocol::answer::{Outcome, Outgoing, ResultBody};
use crate::protocol::call::{Action, ErrorBody, Invoke};
use crate::protocol::custom;
use crate::protocol::input::{
    self, InputLimits, StreamFunction, StreamInput, failed, limit_exceeded,
};
use crate::protocol::json::value::{self, ValueError};
use crate::shard::{Ask, Command, Reply};

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::callee::Callee;
use crate::broker::calls::{Awaits, Cause, Said, StreamCall, function_not_found};
use crate::broker::outgoing::Answer;
use crate::broker::target::FunctionRef;
use crate::protocol::function::OVERLOADED;

impl Broker {
    pub(in crate::broker) fn invoke(&mut self, id: SlotId, invoke: &Invoke<'_>) {
        let namespace = self.namespace_of(id, invoke.namespace.as_deref());
        let function = FunctionRef::new(&invoke.function_id, namespace.as_deref());
        if let Err(error) = self.may_call(id, function) {
            return self.forbid(id, invoke, &error);
        }
        if self.invoke_middleware(id, invoke) {
            return;
        }
        // A void call is answered by nobody, whatever its id.
        let caller = match (&invoke.action, invoke.id) {
            (Action::Void, _) | (_, None) => None,
            (_, Some(call_id)) => Some(Caller::new(id, call_id, &invoke.trace)),
        };
        if caller.is_none() {
            let function = StreamFunction::from_id(&invoke.function_id);
            self.metrics()
                .count_call(number_of(function), CallOutcome::Void);
        }
        if let Action::Enqueue { .. } = invoke.action {
            let error = ErrorBody::new("enqueue_error", "QueueModule not loaded");
            return self.fail(Some(id), caller, &invoke.function_id, &error);
        }
        if let Some(callee) = self.functions.find(function) {
            return self.invoke_function(id, callee, caller, invoke);
        }
        if let Some(function) = StreamFunction::from_id(&invoke.function_id) {
            self.invoke_stream(Some(id), caller, function, invoke.data);
            return;
        }
        if self.has_own(&invoke.function_id) {
            self.invoke_own(Some(id), caller, &invoke.function_id, invoke.data);
            return;
        }
        let error = function_not_found(&invoke.function_id);
        self.fail(Some(id), caller, &invoke.function_id, &error);
    }

    /// Where that worker's word is looked up first: where it says, or else where it stands itself.
    pub(in crate::broker) fn namespace_of(&self, id: SlotId, named: Option<&str>) -> Option<Text> {
        match named {
            Some(named) => Some(named.into()),
            None => self.members.get(id)?.namespace.clone(),
        }
    }

    /// What counts is where the function stands that the call would reach.
    pub(in crate::broker) fn may_call(
        &self,
        id: SlotId,
        function: FunctionRef<'_>,
    ) -> Result<(), ErrorBody> {
        let found = self.functions.found_as(function);
        let found = found.unwrap_or(FunctionRef::plain(function.id));
        let metadata = self.functions.metadata_of(found);
        let peer = self.members.get(id);
        peer.map_or(Ok(()), |peer| {
            peer.access.may_call(found.namespace, found.id, metadata)
        })
    }

    /// A caller hears that it may not, also of a call whose answer it does not wait for.
    fn forbid(&mut self, id: SlotId, invoke: &Invoke<'_>, error: &ErrorBody) {
        let call_id = match invoke.action {
            Action::Void => None,
            _ => invoke.id,
        };
        if call_id.is_none() {
            self.warn_of_void(Some(id), &invoke.function_id, error);
        }
        let caller = Caller::new(id, call_id.unwrap_or_else(Uuid::new_v4), &invoke.trace);
        self.answer_error(Some(caller), &invoke.function_id, error);
    }

    /// A call of a function of some SDK worker.
    fn invoke_function(
        &mut self,
        id: SlotId,
        callee: SlotId,
        caller: Option<Caller>,
        invoke: &Invoke<'_>,
    ) {
        let metadata = invoke.metadata.map(RawValue::get);
        if let Some(cause) =
            self.refusal(id, callee, caller.is_some(), [Some(invoke.data), metadata])
        {
            self.metrics().calls_refused.increment();
            let error = ErrorBody::new("invocation_error", cause);
            return self.fail(Some(id), caller, &invoke.function_id, &error);
        }
        let call = Outgoing {
            metadata,
            caller: self.members.get(id).map(|peer| peer.worker_id),
            traceparent: invoke.trace.traceparent.as_deref(),
            baggage: invoke.trace.baggage.as_deref(),
            ..Outgoing::own(&invoke.function_id, invoke.data)
        };
        match caller {
            Some(caller) => {
                self.send_call(callee, &call, Awaits::Caller(caller), &invoke.function_id);
            }
            None => self.write_call(callee, &Uuid::new_v4(), &call),
        }
    }

    /// A call goes to the middleware function in place of the one that it names.
    pub(in crate::broker) fn put_to_middleware(
        &mut self,
        id: SlotId,
        callee: SlotId,
        caller: Option<Caller>,
        middleware: &str,
        invoke: &Invoke<'_>,
        input: &str,
    ) {
        let metadata = invoke.metadata.map(RawValue::get);
        let texts = [Some(input), metadata];
        if let Some(cause) = self.refusal(id, callee, caller.is_some(), texts) {
            self.metrics().calls_refused.increment();
            let error = ErrorBody::new("invocation_error", cause);
            return self.fail(Some(id), caller, &invoke.function_id, &error);
        }
        let call = Outgoing {
            metadata,
            traceparent: invoke.trace.traceparent.as_deref(),
            baggage: invoke.trace.baggage.as_deref(),
            ..Outgoing::own(middleware, input)
        };
        match caller {
            Some(caller) => {
                self.send_call(callee, &call, Awaits::Caller(caller), &invoke.function_id);
            }
            None => self.write_call(callee, &Uuid::new_v4(), &call),
        }
    }

    /// Why a call of an SDK worker's function is refused, if it is.
    fn refusal(
        &self,
        id: SlotId,
        callee: SlotId,
        waits: bool,
        texts: [Option<&str>; 2],
    ) -> Option<String> {
        let mut texts = texts.into_iter().flatten();
        if let Err(why) = texts.try_for_each(|text| self.check_passed_on(text)) {
            return Some(why);
        }
        // What a worker sends itself is bounded by its own socket being left unread.
        let unsent_max = match callee == id {
            true => usize::MAX,
            false => self.unsent_max(),
        };
        let waits_as = waits.then_some(Cause::Callers);
        self.no_room_for(callee, waits_as, unsent_max)
            .map(str::to_owned)
    }

    /// Whether SDK workers can read what another one sends them. What stands inside `data` may be as
    /// deep as a value; `data` itself is one level more.
    pub(in crate::broker) fn check_passed_on(&self, json: &str) -> Result<(), String> {
        let depth_max = self.limits.json_depth;
        value::check(json, depth_max + 1).map_err(|why| match why {
            ValueError::TooDeep { depth } => {
                limit_exceeded("limits.json_depth", depth - 1, depth_max)
            }
            other => other.to_string(),
        })
    }

    /// `id`: the socket that the call came from; none for a trigger's. False: the input cannot be read.
    pub(in crate::broker) fn invoke_stream(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function: StreamFunction,
        data: &str,
    ) -> bool {
        let limits = InputLimits {
            name_bytes: self.limits.name_bytes,
            json_depth: self.limits.json_depth,
            value_bytes: self.limits.value_bytes,
            update_ops: self.limits.update_ops,
        };
        match input::parse(function, data, &limits) {
            Ok(input) => {
                self.invoke_read(id, caller, function, input);
                true
            }
            Err(error) => {
                self.fail(id, caller, function.id(), &error);
                false
            }
        }
    }

    fn invoke_read(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function: StreamFunction,
        input: StreamInput<'_>,
    ) {
        if caller.is_some() && self.calls.streams_bytes() > self.calls_bytes_max() {
            self.metrics().calls_refused.increment();
            let error = failed(function, OVERLOADED);
            return self.answer_error(caller, function.id(), &error);
        }
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

    /// Who serves that function of that stream in place of our own store.
    fn custom_of(&self, function: StreamFunction, stream: &str) -> Option<SlotId> {
        let functions = self.functions.custom().get(stream)?;
        let id = functions
            .has(function)
            .then(|| custom::function_id(function, stream))?;
        match self.callee_of(FunctionRef::plain(&id)) {
            Callee::Peer(callee) => Some(callee),
            Callee::Nobody | Callee::Away => None,
        }
    }

    /// A custom store names its groups: no shard knows them.
    fn ask_for_groups(&mut self, callee: SlotId, caller: Caller, stream: &str) {
        let function = StreamFunction::ListGroups;
        if let Some(cause) = self.no_room_for(callee, Some(Cause::Callers), self.unsent_max()) {
            self.metrics().calls_refused.increment();
            return self.answer_error(Some(caller), function.id(), &failed(function, cause));
        }
        let function_id = custom::function_id(function, stream);
        let asked = custom::Input {
            stream,
            ..custom::Input::default()
        };
        let mut input = Vec::new();
        asked.write(&mut input);
        let input = String::from_utf8(input).unwrap_or_default();
        let namespace = self.own_namespace();
        let call = Outgoing {
            namespace: namespace.as_deref(),
            ..Outgoing::own(&function_id, &input)
        };
        let awaits = Awaits::Groups(caller, stream.into());
        self.send_call(callee, &call, awaits, function.id());
    }

    /// The groups of a stream that no custom function names any more.
    pub(in crate::broker) fn list_own_groups(&mut self, caller: Caller, stream: &str) {
        let (id, function) = (caller.peer, StreamFunction::ListGroups);
        let workers = self.ports.to_commands.len();
        let call = self.begin_stream(caller, function, workers);
        for worker in 0..workers {
            let stream = stream.into();
            self.send_command(
                Some(id),
                WorkerId(worker as u16),
                Command::ListGroups { stream, call },
            );
        }
    }

    fn begin_stream(&mut self, caller: Caller, function: StreamFunction, workers: usize) -> CallId {
        if is_list(function)
            && let Some(peer) = self.members.get_mut(caller.peer)
        {
            peer.lists_under_way += 1;
        }
        let now = self.now.monotonic;
        self.calls.begin_stream(caller, function, workers, now)
    }

    /// All workers know a part of the answer.
    fn invoke_listing(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function: StreamFunction,
        input: &StreamInput<'_>,
    ) {
        let Some(caller) = caller else {
            return;
        };
        if let StreamInput::ListGroups { stream } = input
            && let Some(callee) = self.custom_of(function, stream)
        {
            return self.ask_for_groups(callee, caller, stream);
        }
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

    /// Sends the command, or parks it: then its socket is not read until there is room. One of no
    /// socket waits among those whose socket has ended.
    fn send_command(&mut self, id: Option<SlotId>, owner: WorkerId, command: Command) {
        let is_first = match id {
            Some(id) => match self.members.get(id) {
                Some(peer) => peer.parked.is_empty(),
                None => return,
            },
            None => self.orphans.is_empty(),
        };
        let command = if is_first {
            match self.try_send(owner, command) {
                Ok(()) => return,
                Err(command) => command,
            }
        } else {
            command
        };
        self.metrics().calls_parked.increment();
        let Some((id, peer)) = id.and_then(|id| Some((id, self.members.get_mut(id)?))) else {
            return self.park_orphan(owner, command);
        };
        if peer.parked.is_empty() {
            let waits = command.call().is_some();
            peer.parked_until = waits.then(|| self.now.monotonic + self.call_timeout);
            self.parked.push(id);
        }
        peer.parked.push_back(owner, command);
    }

    /// A command of no socket waits, if what waits already is not too much.
    pub(in crate::broker) fn park_orphan(&mut self, owner: WorkerId, command: Command) {
        if self.orphans.bytes() <= self.limits.call_queue_bytes {
            return self.orphans.push_back(owner, command);
        }
        self.metrics().trigger_calls_dropped.increment();
        if let Some(call) = command.call() {
            self.calls.abandon_stream(call);
        }
    }

    /// Gives the command back when its owner is full; this thread is woken when there is room. What
    /// changed of the hooks goes before it.
    fn try_send(&mut self, owner: WorkerId, command: Command) -> Result<(), Command> {
        if !self.tell_hooks(owner.index()) {
            return Err(command);
        }
        match self.ports.to_commands[owner.index()].try_send(ToOwner::Command(command)) {
            Err(ToOwner::Command(command)) => Err(command),
            Ok(()) | Err(ToOwner::Socket(_) | ToOwner::Hooks(_)) => Ok(()),
        }
    }

    /// Tries again what found its owner full.
    pub fn deliver_parked(&mut self) {
        while let Some((owner, command)) = self.orphans.pop_front() {
            if let Err(command) = self.try_send(owner, command) {
                self.orphans.push_front(owner, command);
                break;
            }
        }
        for id in std::mem::take(&mut self.parked) {
            self.deliver_parked_of(id);
            let Some(peer) = self.members.get_mut(id) else {
                continue;
            };
            if peer.parked.is_empty() {
                peer.parked_until = None;
                self.free(id);
            } else {
                self.parked.push(id);
            }
        }
    }

    fn deliver_parked_of(&mut self, id: SlotId) {
        let Some(peer) = self.members.get_mut(id) else {
            return;
        };
        let mut parked = std::mem::take(&mut peer.parked);
        let mut has_moved = false;
        while let Some((owner, command)) = parked.pop_front() {
            if let Err(command) = self.try_send(owner, command) {
                parked.push_front(owner, command);
                break;
            }
            has_moved = true;
        }
        let Some(peer) = self.members.get_mut(id) else {
            return;
        };
        peer.parked = parked;
        if peer.is_link() && has_moved {
            // It is read all the while, so the queue may never be empty: its time is that of a stop.
            peer.parked_until = Some(self.now.monotonic + self.call_timeout);
        }
        let is_late = peer
            .parked_until
            .is_some_and(|until| until <= self.now.monotonic);
        if !is_late || peer.parked.is_empty() {
            return;
        }
        for (_, command) in peer.parked.take() {
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
    pub(in crate::broker) fn reply(&mut self, reply: Reply) {
        match self.calls.end_stream(reply.call, reply.outcome) {
            Some((call, Said::Outcome(outcome))) => self.answer_stream(call, outcome),
            Some((call, Said::Parts(parts))) => self.merge_parts(call, parts),
            None => {}
        }
    }

    pub(in crate::broker) fn answer_stream(&mut self, call: StreamCall, outcome: Outcome) {
        self.list_ended(&call);
        let ended = match outcome {
            Outcome::Failed(_) => CallOutcome::Failed,
            _ => CallOutcome::Done,
        };
        let function = number_of(Some(call.function));
        self.metrics().count_call(function, ended);
        self.note_took(call.began);
        if let Outcome::Failed(error) = &outcome {
            self.note_refusal(call.caller.peer, call.function.id(), error);
        }
        self.members.answer(Answer {
            caller: call.caller,
            function: call.function,
            outcome,
        });
    }

    /// A call has its answer, for which somebody waits.
    pub(in crate::broker) fn note_took(&self, began: Instant) {
        let took = self.now.monotonic.saturating_duration_since(began);
        self.metrics().call.note(took);
    }

    /// One call of a list less for that peer, which may have been held for it.
    fn list_ended(&mut self, call: &StreamCall) {
        if !is_list(call.function) {
            return;
        }
        if let Some(peer) = self.members.get_mut(call.caller.peer) {
            peer.lists_under_way = peer.lists_under_way.saturating_sub(1);
            self.free(call.caller.peer);
        }
    }

    /// A call fails before anybody was asked. One that nobody waits for leaves a line in the log:
    /// else nothing would be seen of it anywhere. `id` as in [`Broker::invoke_stream`].
    pub(in crate::broker) fn fail(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        match caller {
            Some(caller) => self.answer_error(Some(caller), function_id, error),
            None => self.warn_of_void(id, function_id, error),
        }
    }

    fn warn_of_void(&mut self, id: Option<SlotId>, function_id: &str, error: &ErrorBody) {
        let (code, message) = (&error.code, &error.message);
        match id {
            Some(id) => {
                let (name, code, message) = (Shown(function_id), Shown(code), Shown(message));
                let what = format_args!(
                    "its call of {name}, which waits for no answer, fails: {code}: {message}"
                );
                self.warn_of(id, "void call", function_id, what);
            }
            None => self.warn_of_handler(function_id, error),
        }
    }

    pub(in crate::broker) fn answer_error(
        &mut self,
        caller: Option<Caller>,
        function_id: &str,
        error: &ErrorBody,
    ) {
        self.answer(caller, function_id, ResultBody::Error(error));
    }

    pub(in crate::broker) fn answer(
        &mut self,
        caller: Option<Caller>,
        function_id: &str,
        body: ResultBody<'_>,
    ) {
        if let Some(caller) = caller {
            let outcome = match body {
                ResultBody::Error(_) => CallOutcome::Failed,
                _ => CallOutcome::Done,
            };
            let function = StreamFunction::from_id(function_id);
            self.metrics().count_call(number_of(function), outcome);
            if let ResultBody::Error(error) = body {
                self.note_refusal(caller.peer, function_id, error);
            }
            self.members.send_result(&caller, function_id, body);
        }
    }
}

/// As the counters number it. `None`: it is none of the eight.
fn number_of(function: Option<StreamFunction>) -> usize {
    function.map_or(usize::MAX, |function| function as usize)
}

/// Whether the answer may be much longer than the call.
fn is_list(function: StreamFunction) -> bool {
    use StreamFunction::{List, ListAll, ListGroups};
    matches!(function, List | ListGroups | ListAll)
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
