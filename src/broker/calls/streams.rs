//! Calls of our stream functions: each becomes a command to the worker that owns its group; a listing asks
//! all workers, or the custom function that names a stream's groups.

use crate::id::{CallId, GroupKey, ItemId, SlotId, Text, WorkerId};
use crate::protocol::answer::Outgoing;
use crate::protocol::custom;
use crate::protocol::function::OVERLOADED;
use crate::protocol::input::{self, InputLimits, StreamFunction, StreamInput, failed};
use crate::shard::{Ask, Command};

use crate::broker::Broker;
use crate::broker::caller::Caller;
use crate::broker::calls::StreamCall;
use crate::broker::calls::awaits::{Awaits, Cause};
use crate::broker::calls::callee::Callee;
use crate::broker::target::FunctionRef;

impl Broker {
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
                let holds =
                    matches!(&other, StreamInput::List { stream, .. } if !self.is_custom(stream));
                let call = caller.map(|caller| self.begin_stream(caller, function, 1, holds));
                let Some(asked) = ask_of(other, call) else {
                    return;
                };
                asked
            }
        };
        let owner = self.ports.shared.owners.owner_of(&key);
        self.send_command(id, owner, Command::Group { key, ask });
    }

    /// Whether functions serve the stream in place of our own store.
    fn is_custom(&self, stream: &str) -> bool {
        self.functions.custom().get(stream).is_some()
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
        let call = self.begin_stream(caller, function, workers, true);
        for worker in 0..workers {
            let stream = stream.into();
            self.send_command(
                Some(id),
                WorkerId(worker as u16),
                Command::ListGroups { stream, call },
            );
        }
    }

    /// One that `holds` its caller has an answer that may be much longer than the call: few may be under
    /// way. One that waits for a function may not: the caller may be who has to answer that.
    fn begin_stream(
        &mut self,
        caller: Caller,
        function: StreamFunction,
        workers: usize,
        holds: bool,
    ) -> CallId {
        if holds && let Some(peer) = self.members.get_mut(caller.peer) {
            peer.lists_under_way += 1;
        }
        let now = self.now.monotonic;
        self.calls
            .begin_stream(caller, function, workers, holds, now)
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
        let call = self.begin_stream(caller, function, workers, true);
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

    /// One call of a list less for that peer, which may have been held for it.
    pub(super) fn list_ended(&mut self, call: &StreamCall) {
        if !call.holds {
            return;
        }
        if let Some(peer) = self.members.get_mut(call.caller.peer) {
            peer.lists_under_way = peer.lists_under_way.saturating_sub(1);
            self.free(call.caller.peer);
        }
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
            ttl,
        } => {
            let ask = Ask::Set {
                item: ItemId::from(item),
                data: Text::from(data),
                ttl,
                call,
            };
            (GroupKey::new(&stream, &group), ask)
        }
        StreamInput::Update {
            stream,
            group,
            item,
            ops,
            ttl,
        } => {
            let item = ItemId::from(item);
            let ask = Ask::Update {
                item,
                ops,
                ttl,
                call,
            };
            (GroupKey::new(&stream, &group), ask)
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
