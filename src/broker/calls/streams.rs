//! Calls of our stream functions: each becomes a command to the worker that owns its group; a listing asks
//! all workers, or the custom function that names a stream's groups.

use crate::id::{CallId, GroupKey, ItemId, SlotId, Text, WorkerId};
use crate::protocol::answer::Outgoing;
use crate::protocol::custom;
use crate::protocol::function::OVERLOADED;
use crate::protocol::input::{self, InputLimits, StreamFunction, StreamInput, failed};
use crate::shard::{Ask, Command};

use crate::broker::Broker;
use crate::broker::awaits::{Awaits, Cause};
use crate::broker::caller::Caller;
use crate::broker::calls::Calls;
use crate::broker::registry::Functions;
use crate::broker::registry::callee::Callee;
use crate::broker::target::FunctionRef;
use crate::broker::turn::Turn;

impl Broker {
    /// `id`: the socket that the call came from; none for a trigger's. False: the input cannot be read.
    pub(in crate::broker) fn invoke_stream(
        &mut self,
        id: Option<SlotId>,
        caller: Option<Caller>,
        function: StreamFunction,
        data: &str,
    ) -> bool {
        self.make_hooks(); // what has changed of them goes before the command
        let (turn, calls) = (&mut self.turn, &mut self.calls);
        let limits = InputLimits {
            name_bytes: turn.limits.name_bytes,
            json_depth: turn.limits.json_depth,
            value_bytes: turn.limits.value_bytes,
            update_ops: turn.limits.update_ops,
        };
        match input::parse(function, data, &limits) {
            Ok(input) => {
                calls.invoke_read(turn, &self.functions, id, caller, (function, input));
                true
            }
            Err(error) => {
                calls.fail(turn, id, caller, function.id(), &error);
                false
            }
        }
    }

    /// The groups of a stream that no custom function names any more.
    pub(in crate::broker) fn list_own_groups(&mut self, caller: Caller, stream: &str) {
        self.make_hooks();
        self.calls.list_groups(&mut self.turn, caller, stream);
    }
}

impl Calls {
    fn invoke_read(
        &mut self,
        turn: &mut Turn,
        functions: &Functions,
        id: Option<SlotId>,
        caller: Option<Caller>,
        (function, input): (StreamFunction, StreamInput<'_>),
    ) {
        if caller.is_some() && self.streams_bytes() > turn.calls_bytes_max() {
            turn.metrics().calls_refused.increment();
            let error = failed(function, OVERLOADED);
            return self.answer_error(turn, caller, function.id(), &error);
        }
        let (key, ask) = match input {
            StreamInput::ListGroups { stream } => {
                let Some(caller) = caller else {
                    return;
                };
                return match custom_of(functions, turn, function, &stream) {
                    Some(callee) => self.ask_for_groups(turn, callee, caller, &stream),
                    None => self.list_groups(turn, caller, &stream),
                };
            }
            StreamInput::ListAll => {
                if let Some(caller) = caller {
                    let list_all = |call| Command::ListAll { call };
                    self.ask_all(turn, caller, function, list_all);
                }
                return;
            }
            StreamInput::Get { .. } | StreamInput::List { .. } if caller.is_none() => return,
            other => {
                let is_custom = |stream: &str| functions.custom().get(stream).is_some();
                let holds =
                    matches!(&other, StreamInput::List { stream, .. } if !is_custom(stream));
                let call = caller.map(|caller| self.begin_held(turn, caller, function, 1, holds));
                let Some(asked) = ask_of(other, call) else {
                    return;
                };
                asked
            }
        };
        let owner = turn.ports.shared.owners.owner_of(&key);
        self.send_command(turn, id, owner, Command::Group { key, ask });
    }

    /// A custom store names its groups: no shard knows them.
    fn ask_for_groups(&mut self, turn: &mut Turn, callee: SlotId, caller: Caller, stream: &str) {
        let function = StreamFunction::ListGroups;
        if let Some(cause) = self.no_room_for(turn, callee, Cause::Callers) {
            turn.metrics().calls_refused.increment();
            let error = failed(function, cause);
            return self.answer_error(turn, Some(caller), function.id(), &error);
        }
        let function_id = custom::function_id(function, stream);
        let asked = custom::Input {
            stream,
            ..custom::Input::default()
        };
        let mut input = Vec::new();
        asked.write(&mut input);
        let input = String::from_utf8(input).unwrap_or_default();
        let namespace = turn.own_namespace();
        let call = Outgoing {
            namespace: namespace.as_deref(),
            ..Outgoing::own(&function_id, &input)
        };
        let awaits = Awaits::Groups(caller, stream.into());
        self.send_call(turn, callee, &call, awaits, function.id());
    }

    /// The groups of a stream in our own store.
    fn list_groups(&mut self, turn: &mut Turn, caller: Caller, stream: &str) {
        let list_groups = |call| Command::ListGroups {
            stream: stream.into(),
            call,
        };
        self.ask_all(turn, caller, StreamFunction::ListGroups, list_groups);
    }

    /// All workers know a part of the answer.
    fn ask_all(
        &mut self,
        turn: &mut Turn,
        caller: Caller,
        function: StreamFunction,
        command: impl Fn(CallId) -> Command,
    ) {
        let workers = turn.ports.to_commands.len();
        let id = caller.socket();
        let call = self.begin_held(turn, caller, function, workers, true);
        for worker in 0..workers {
            self.send_command(turn, id, WorkerId(worker as u16), command(call));
        }
    }

    /// One that `holds` its caller has an answer that may be much longer than the call: few may be under
    /// way. One that waits for a function may not: the caller may be who has to answer that.
    fn begin_held(
        &mut self,
        turn: &mut Turn,
        caller: Caller,
        function: StreamFunction,
        workers: usize,
        holds: bool,
    ) -> CallId {
        if holds && let Some(peer) = turn.members.get_mut(caller.peer) {
            peer.lists_under_way += 1;
        }
        let now = turn.now.monotonic;
        self.begin_stream(caller, function, workers, holds, now)
    }
}

/// Who serves that function of that stream in place of our own store.
fn custom_of(
    functions: &Functions,
    turn: &Turn,
    function: StreamFunction,
    stream: &str,
) -> Option<SlotId> {
    let custom = functions.custom().get(stream)?;
    let id = custom
        .has(function)
        .then(|| custom::function_id(function, stream))?;
    match functions.callee_of(turn, FunctionRef::plain(&id)) {
        Callee::Peer(callee) => Some(callee),
        Callee::Nobody | Callee::Away => None,
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
