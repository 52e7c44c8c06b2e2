//! A worker of the simulation: a shard, a fan-out and fake sockets, in the order of a real one's
//! turn, on the real mesh.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use iii_stream::collections::Named;
use iii_stream::fanout::{self, Budget, Entry, Fanout, Reader, Written};
use iii_stream::id::{GroupKey, ItemId, LocalGroupId, SlotId, WorkerId};
use iii_stream::mesh::{
    JoinRequest, Outbox, Presence, ToEngine, ToOwner, ToStore, ToWorker, WorkerPorts,
};
use iii_stream::protocol::connection::{close_frame, pong_frame};
use iii_stream::protocol::frame::unauthorized;
use iii_stream::shard::hooks::Hooks;
use iii_stream::shard::{
    Ask, Command, Decides, Delivered, Effects, Join, Learned, Shard, Store, Told, ValueLimits,
};
use iii_stream::store::Memory;

use crate::client::Client;
use crate::model::{Leave, Model, leave_of};
use crate::pace::Pace;
use crate::wire::Message;

/// One write has no more than this.
const WRITE_BYTES_MAX: usize = 64 * 1024;

pub(crate) struct Worker {
    id: WorkerId,
    pub(crate) shard: Shard,
    pub(crate) fanout: Fanout,
    /// `None`: the store has a thread.
    store_here: Option<Memory>,
    pub(crate) sockets: Sockets,
    pub(crate) ports: WorkerPorts,
    own_commands: VecDeque<Command>,
    hooks: Arc<Hooks>,
    /// Leaves that the engine has not taken.
    debts: VecDeque<Presence>,
    endings: VecDeque<Ending>,
    /// The engine knows of them.
    is_told: bool,
    /// How many it has room for.
    granted: Option<usize>,
    effects: Effects,
    to_write: VecDeque<SlotId>,
    behind_bytes_max: usize,
    /// Bytes of the events that came in this turn, and in the turn in which most did.
    events_bytes: usize,
    events_bytes_most: usize,
    now: u64,
    /// Groups that this worker owns.
    owned: Vec<GroupKey>,
    /// The time of each group's last event that has come here.
    arrived: BTreeMap<GroupKey, u64>,
}

/// What one turn may look at beside its worker.
pub(crate) struct Around<'a> {
    pub(crate) model: &'a mut Model,
    /// Writes that the store has accepted.
    pub(crate) accepted: &'a mut HashSet<(WorkerId, u64)>,
    pub(crate) pace: &'a mut Pace,
    pub(crate) now: u64,
}

#[derive(Default)]
pub(crate) struct Sockets(pub(crate) Named<Connection>);

#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) reader: Reader,
    pub(crate) socket: FakeSocket,
    pub(crate) client: Client,
    /// What the client has sent and the worker not read.
    pub(crate) inbox: VecDeque<Post>,
    pending: Vec<Pending>,
    waiting: VecDeque<Post>,
    next_token: u32,
    /// Names the socket, for the functions that are told of it.
    context: Option<Arc<str>>,
    pub(crate) is_closing: bool,
    /// It is gone once its subscriptions have left.
    pub(crate) is_over: bool,
    /// While it is blocked: what had arrived when it was first seen to be.
    blocked_since: Option<BTreeMap<GroupKey, u64>>,
}

/// A socket whose subscriptions leave.
struct Ending {
    socket: SlotId,
    /// `None`: it had none.
    of_fanout: Option<fanout::Ending>,
    /// What its client held.
    held: VecDeque<Leave>,
    /// Joins that were admitted and have not entered.
    admitted: Vec<(Box<str>, GroupKey, Option<ItemId>)>,
    context: Option<Arc<str>>,
}

/// A message of a client.
pub(crate) struct Post {
    pub(crate) id: Box<str>,
    pub(crate) what: What,
}

pub(crate) enum What {
    Join(GroupKey, Option<ItemId>),
    Leave(GroupKey, Option<ItemId>),
    Ping,
    Close,
}

struct Pending {
    token: u32,
    id: Box<str>,
    stage: Stage,
}

/// What a join waits for.
enum Stage {
    Functions,
    Owner(GroupKey, Option<ItemId>),
}

/// A socket that takes so many bytes and then blocks.
#[derive(Default)]
pub(crate) struct FakeSocket {
    pub(crate) room: usize,
    pub(crate) is_dead: bool,
    /// Taken since the client last looked.
    taken: Vec<u8>,
}

impl fanout::Socket for FakeSocket {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        if self.is_dead {
            return Written::Gone;
        }
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = len.min(self.room);
        let bytes = slices.iter().flat_map(|slice| slice.iter());
        self.taken.extend(bytes.take(taken));
        if self.room != usize::MAX {
            self.room -= taken;
        }
        if taken == len {
            Written::All
        } else {
            Written::Part(taken)
        }
    }
}

impl fanout::Connections for Sockets {
    type Socket = FakeSocket;

    fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut FakeSocket)> {
        let connection = self.0.get_mut(id)?;
        Some((&mut connection.reader, &mut connection.socket))
    }
}

impl Worker {
    pub(crate) fn new(
        ports: WorkerPorts,
        decides: Decides,
        has_store: bool,
        behind_bytes_max: usize,
        owned: Vec<GroupKey>,
    ) -> Worker {
        let limits = ValueLimits {
            json_depth: 100,
            value_bytes: 1 << 20,
        };
        let id = ports.id;
        Worker {
            id,
            ports,
            shard: Shard::new(id, decides, limits),
            fanout: Fanout::new(fanout::Bounds {
                reader: behind_bytes_max,
                worker: usize::MAX,
            }),
            store_here: (!has_store).then_some(Memory),
            sockets: Sockets::default(),
            own_commands: VecDeque::new(),
            hooks: Arc::default(),
            debts: VecDeque::new(),
            endings: VecDeque::new(),
            is_told: false,
            granted: None,
            effects: Effects::default(),
            to_write: VecDeque::new(),
            behind_bytes_max,
            events_bytes: 0,
            events_bytes_most: 0,
            now: 0,
            owned,
            arrived: BTreeMap::new(),
        }
    }

    pub(crate) fn turn(&mut self, around: &mut Around<'_>) {
        self.now = around.now;
        around.model.see_clock(self.now);
        self.events_bytes = 0;
        for _ in 0..around.pace.up_to(self.ports.open.len()) {
            if self.fanout.is_lagging() {
                break;
            }
            match self.ports.open.take() {
                Some(ToWorker::Delivery(delivery)) => {
                    self.deliver(delivery.local, delivery.what, around);
                }
                Some(ToWorker::Learned(learned)) => {
                    for learned in learned {
                        self.learn(learned, around);
                    }
                }
                Some(ToWorker::Told(told)) => self.told(told, around),
                Some(ToWorker::Joined(request, is_admitted)) => {
                    self.joined(*request, is_admitted, around);
                }
                Some(ToWorker::TakeLeaves(len)) => {
                    assert!(self.granted.is_none(), "it has not taken the last ones");
                    self.granted = Some(len);
                }
                Some(ToWorker::Authenticated(..) | ToWorker::AuthFunction(_)) => {
                    unreachable!("sockets are open here")
                }
                Some(ToWorker::Clock(..)) => unreachable!("the double has no clock of its own"),
                Some(ToWorker::Slice(..)) => unreachable!("the double takes no snapshots"),
                None => {}
            }
        }
        self.tell_waiters();
        if !self.follow_ups_wait() && !self.fanout.is_lagging() {
            for _ in 0..around.pace.up_to(self.ports.commands.len()) {
                if let Some(ToOwner::Command(command)) = self.ports.commands.take() {
                    self.apply(command, around);
                }
            }
            self.tell_waiters();
            self.read_sockets(around);
        }
        if !self.follow_ups_wait() && !self.fanout.is_lagging() {
            while let Some(command) = self.own_commands.pop_front() {
                self.apply(command, around);
            }
        }
        self.perform_effects(around);
        self.flush();
        self.events_bytes_most = self.events_bytes_most.max(self.events_bytes);
        self.check_lists();
        self.go_on_ending(around.model, around.pace);
        self.sweep(around);
        self.settle_debts();
        self.flush();
        self.shard.check_invariants();
        self.fanout.check_invariants(&mut self.sockets);
    }

    /// Nothing can be done here until something comes.
    pub(crate) fn sleeps(&self) -> bool {
        let may_take_commands = !self.follow_ups_wait() && !self.fanout.is_lagging();
        let has_commands = !self.own_commands.is_empty() || !self.ports.commands.is_empty();
        let may_read = may_take_commands && !self.commands_wait();
        let is_unread = |(_, connection): (SlotId, &Connection)| !connection.inbox.is_empty();
        self.ports.open.is_empty()
            && !(has_commands && may_take_commands)
            && !(may_read && self.sockets.0.iter().any(is_unread))
            && self.endings.is_empty()
            && self.effects.is_empty()
            && self.to_write.is_empty()
            && !self.fanout.is_due()
    }

    /// Nothing is left to do here.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_served = |(_, connection): (SlotId, &Connection)| connection.inbox.is_empty();
        !self.follow_ups_wait()
            && !self.commands_wait()
            && self.own_commands.is_empty()
            && self.debts.is_empty()
            && self.endings.is_empty()
            && self.effects.is_empty()
            && self.to_write.is_empty()
            && !self.fanout.is_due()
            && self.sockets.0.iter().all(is_served)
            && self.ports.open.is_empty()
            && self.ports.commands.is_empty()
    }

    /// Groups that this worker decides for.
    pub(crate) fn owned(&self) -> &[GroupKey] {
        &self.owned
    }

    /// From here on these streams are hooked onto.
    pub(crate) fn hook(&mut self, hooks: &Arc<Hooks>) {
        self.hooks = Arc::clone(hooks);
        self.shard.set_hooks(Arc::clone(hooks));
    }

    /// `number` tells this socket from all others.
    pub(crate) fn accept(&mut self, room: usize, number: u32) {
        let connection = Connection {
            context: Some(number.to_string().into()),
            socket: FakeSocket {
                room,
                ..FakeSocket::default()
            },
            ..Connection::default()
        };
        self.sockets.0.insert(connection);
    }

    /// The socket takes so many bytes more; true when it had taken too few.
    pub(crate) fn takes_bytes(&mut self, id: SlotId, room: usize) -> bool {
        let Some(connection) = self.sockets.0.get_mut(id) else {
            return false;
        };
        connection.socket.room = room;
        if !connection.reader.is_blocked() {
            return false;
        }
        connection.reader.unblock();
        connection.blocked_since = None;
        self.to_write.push_back(id);
        true
    }

    pub(crate) fn end(&mut self, id: SlotId) {
        self.end_subscriptions(id);
        match self.sockets.0.get_mut(id) {
            Some(connection) if connection.reader.is_ending() => {
                connection.is_closing = true;
                connection.is_over = true;
            }
            _ => {
                self.sockets.0.remove(id);
            }
        }
    }

    /// Subscriptions of sockets that ended leave, in parts.
    fn go_on_ending(&mut self, model: &mut Model, pace: &mut Pace) {
        let mut units = pace.up_to(6);
        while let Some(mut ending) = self.endings.pop_front() {
            let id = ending.socket;
            if !self.go_on_with(&mut ending, &mut units, model) {
                return self.endings.push_front(ending);
            }
            if self.sockets.0.get(id).is_some_and(|found| found.is_over) {
                self.sockets.0.remove(id);
            }
        }
    }

    /// What the client held is what is told, in its order, and then what was admitted.
    fn go_on_with(&mut self, ending: &mut Ending, units: &mut usize, model: &mut Model) -> bool {
        let Ending {
            of_fanout,
            held,
            admitted,
            context,
            ..
        } = ending;
        let (worker, hooks, debts) = (self.id, &self.hooks, &mut self.debts);
        let mut owe = |key: &GroupKey, subscription, item| {
            if hooks.leaves.has(key.stream()) {
                debts.push_back(Presence {
                    subscription,
                    key: key.clone(),
                    item,
                    context: context.clone(),
                });
            }
        };
        let sockets = &mut self.sockets;
        let mut told = |key: &GroupKey, subscription: Box<str>, item: Option<ItemId>| {
            model.owe(worker, held.pop_front().expect("the client held it"));
            owe(key, subscription, item);
        };
        let is_over = match of_fanout {
            Some(of_fanout) => self
                .fanout
                .go_on_ending(of_fanout, sockets, units, &mut told),
            None => true,
        };
        if is_over {
            assert!(held.is_empty(), "all that the client held is told");
            for (id, key, item) in admitted.drain(..) {
                let socket = context.clone().expect("every socket has one");
                model.owe(worker, (socket, id.clone(), key.clone(), item.clone()));
                owe(&key, id, item);
            }
        }
        is_over
    }

    /// What the socket held is owed in the order of joining, and then what was admitted.
    fn end_subscriptions(&mut self, id: SlotId) {
        let Some(connection) = self.sockets.0.get_mut(id) else {
            return;
        };
        if connection.reader.is_ending() {
            return;
        }
        let context = connection.context.clone();
        let socket = context.clone().expect("every socket has one");
        let held = connection.client.held();
        let held =
            held.map(|(id, key, item)| (socket.clone(), id.clone(), key.clone(), item.cloned()));
        let held = held.collect();
        let pending = std::mem::take(&mut connection.pending).into_iter();
        let admitted = pending.filter_map(|Pending { id, stage, .. }| match stage {
            Stage::Owner(key, item) => Some((id, key, item)),
            Stage::Functions => None,
        });
        let admitted = admitted.collect();
        let of_fanout = self.fanout.begin_end(id, &mut self.sockets);
        self.endings.push_back(Ending {
            socket: id,
            of_fanout,
            held,
            admitted,
            context,
        });
    }

    fn owe(&mut self, presence: Presence, model: &mut Model) {
        model.owe(self.id, leave_of(&presence));
        if self.hooks.leaves.has(presence.key.stream()) {
            self.debts.push_back(presence);
        }
    }

    fn settle_debts(&mut self) {
        let to_engine = &mut self.ports.to_engine;
        if let Some(len) = self.granted
            && !to_engine.has_backlog()
        {
            let leaves = self.debts.drain(..len.min(self.debts.len())).collect();
            let more = !self.debts.is_empty();
            let message = ToEngine::Leaves {
                worker: self.id,
                leaves,
                more,
            };
            match to_engine.try_send(message) {
                Ok(()) => {
                    self.granted = None;
                    self.is_told = more;
                }
                Err(ToEngine::Leaves { leaves, .. }) => {
                    for leave in leaves.into_iter().rev() {
                        self.debts.push_front(leave);
                    }
                }
                Err(_) => unreachable!("it was given leaves"),
            }
        }
        if !self.is_told && !self.debts.is_empty() {
            self.is_told = true;
            to_engine.send(ToEngine::Owes(self.id));
        }
    }

    /// Values of before a restart: put in without a store, for they are in it. Gives the number of
    /// requests made.
    pub(crate) fn load(&mut self, key: &GroupKey, item: &ItemId, value: &str, now: u64) -> u64 {
        let mut out = Effects::default();
        let ask = Ask::Set {
            item: item.clone(),
            data: value.into(),
            call: None,
        };
        let key = key.clone();
        self.shard.apply(Command::Group { key, ask }, now, &mut out);
        let mut learned = Vec::new();
        Memory.serve(out.requests, &mut learned);
        let made = learned.len() as u64;
        for learned in learned {
            self.shard.learn(learned, now, &mut Effects::default());
        }
        made
    }

    fn follow_ups_wait(&self) -> bool {
        self.ports.to_open.iter().any(Outbox::has_backlog)
            || self.ports.to_engine.has_backlog()
            || self.ports.to_store.iter().any(Outbox::has_backlog)
    }

    fn commands_wait(&self) -> bool {
        self.ports.to_commands.iter().any(Outbox::has_backlog)
    }

    fn apply(&mut self, command: Command, around: &mut Around<'_>) {
        around.model.apply(self.id, &command, &self.owned);
        let mut out = Effects::default();
        self.shard.apply(command, self.now, &mut out);
        around.model.check(self.id, &out);
        self.add(out);
    }

    fn learn(&mut self, learned: Learned, around: &mut Around<'_>) {
        around
            .model
            .learn(self.id, &learned, around.accepted, &self.owned);
        let mut out = Effects::default();
        self.shard.learn(learned, self.now, &mut out);
        around.model.check(self.id, &out);
        self.add(out);
    }

    fn told(&mut self, told: Told, around: &mut Around<'_>) {
        around.model.told(&told, &self.owned);
        let mut out = Effects::default();
        self.shard.told(told, self.now, &mut out);
        around.model.check(self.id, &out);
        self.add(out);
    }

    fn add(&mut self, mut out: Effects) {
        self.effects.requests.append(&mut out.requests);
        self.effects.replies.append(&mut out.replies);
        self.effects.deliveries.append(&mut out.deliveries);
        self.effects.fired.append(&mut out.fired);
        self.effects.custom.append(&mut out.custom);
    }

    fn perform_effects(&mut self, around: &mut Around<'_>) {
        while !self.effects.requests.is_empty() {
            let requests = std::mem::take(&mut self.effects.requests);
            if let Some(store) = &mut self.store_here {
                let numbers = requests.iter().map(|request| (self.id, request.number));
                around.accepted.extend(numbers);
                let mut learned = Vec::new();
                store.serve(requests, &mut learned);
                for learned in learned {
                    self.learn(learned, around);
                }
            } else {
                let outbox = self.ports.to_store.as_mut();
                let requests = ToStore::Requests(requests);
                outbox.expect("the store has a thread").send(requests);
            }
        }
        for reply in std::mem::take(&mut self.effects.replies) {
            let reply = ToEngine::Reply(reply);
            self.ports.to_engine.send(reply);
        }
        for fired in std::mem::take(&mut self.effects.fired) {
            let fired = ToEngine::Fired(fired);
            self.ports.to_engine.send(fired);
        }
        for call in std::mem::take(&mut self.effects.custom) {
            let call = ToEngine::Custom(call);
            self.ports.to_engine.send(call);
        }
        for delivery in std::mem::take(&mut self.effects.deliveries) {
            if delivery.to == self.id {
                self.deliver(delivery.local, delivery.what, around);
            } else {
                let to = delivery.to.index();
                self.ports.to_open[to].send(ToWorker::Delivery(delivery));
            }
        }
    }

    fn flush(&mut self) {
        self.ports.to_engine.flush();
        self.ports.to_store.iter_mut().for_each(Outbox::flush);
        self.ports.to_open.iter_mut().for_each(Outbox::flush);
        self.ports.to_commands.iter_mut().for_each(Outbox::flush);
    }

    fn tell_waiters(&self) {
        let shared = &self.ports.shared;
        self.ports.open.tell_waiters(|thread| shared.wake(thread));
        let commands = &self.ports.commands;
        commands.tell_waiters(|thread| shared.wake(thread));
    }

    fn deliver(&mut self, local: LocalGroupId, what: Delivered, around: &mut Around<'_>) {
        let (id, token, sync) = match what {
            Delivered::Afresh(_) => unreachable!("the double has no channel"),
            Delivered::Event(frame) => {
                let message = Message::whole(frame.wire());
                self.arrived.insert(message.group, message.time);
                self.events_bytes += frame.wire().len();
                return self.fanout.append(local, frame);
            }
            Delivered::Entered {
                connection,
                token,
                sync,
            } => (connection, token, sync),
        };
        let entered = around.model.take_entered((self.id, id, token));
        let connection = self.sockets.0.get_mut(id);
        let Some(connection) = connection.filter(|connection| !connection.is_closing) else {
            return self.fanout.give_up(local);
        };
        let is_it = |pending: &Pending| pending.token == token;
        let found = connection.pending.iter().position(is_it);
        let pending = connection
            .pending
            .remove(found.expect("an open socket's own join"));
        let Stage::Owner(_, item) = pending.stage else {
            panic!("it was let in before its functions had a say");
        };
        connection.client.enters(&pending.id, entered, around.model);
        let entry = Entry {
            id: pending.id.clone(),
            item,
            sync,
        };
        self.fanout.enter(id, local, entry, &mut self.sockets);
        self.to_write.push_back(id);
        while let Some(post) = self.next_of(id, &pending.id) {
            self.serve(id, post, around);
        }
    }

    /// The first message of that subscription id that waited, if nothing holds it any more.
    fn next_of(&mut self, id: SlotId, subscription: &str) -> Option<Post> {
        let connection = self.sockets.0.get_mut(id)?;
        if connection.holds(subscription) {
            return None;
        }
        let mut waiting = connection.waiting.iter();
        let found = waiting.position(|post| *post.id == *subscription)?;
        connection.waiting.remove(found)
    }

    fn read_sockets(&mut self, around: &mut Around<'_>) {
        let ids: Vec<SlotId> = self.sockets.0.iter().map(|(id, _)| id).collect();
        for id in ids {
            let inbox_len = self.sockets.0.get(id).map_or(0, |found| found.inbox.len());
            for _ in 0..around.pace.up_to(inbox_len) {
                if self.commands_wait() {
                    return;
                }
                let Some(connection) = self.sockets.0.get_mut(id) else {
                    break;
                };
                let Some(post) = connection.inbox.pop_front() else {
                    break;
                };
                if connection.is_closing {
                    continue;
                }
                if matches!(post.what, What::Join(..) | What::Leave(..))
                    && connection.holds(&post.id)
                {
                    connection.waiting.push_back(post);
                } else {
                    self.serve(id, post, around);
                }
            }
        }
    }

    fn serve(&mut self, id: SlotId, post: Post, around: &mut Around<'_>) {
        let Some(connection) = self.sockets.0.get_mut(id) else {
            return;
        };
        let (key, item) = match post.what {
            What::Join(key, item) => (key, item),
            What::Leave(key, item) => {
                connection.client.leaves(&post.id, around.model);
                let context = connection.context.clone();
                self.fanout.leave(id, &post.id, &mut self.sockets);
                let presence = Presence {
                    subscription: post.id,
                    key,
                    item,
                    context,
                };
                return self.owe(presence, around.model);
            }
            What::Ping => {
                connection.client.pinged();
                connection.reader.push_pong(pong_frame(b"?").into());
                return self.to_write.push_back(id);
            }
            What::Close => return self.close(id, around.model),
        };
        let token = connection.next_token;
        connection.next_token += 1;
        let is_asked = self.hooks.joins.has(key.stream());
        connection.pending.push(Pending {
            token,
            id: post.id.clone(),
            stage: match is_asked {
                true => Stage::Functions,
                false => Stage::Owner(key.clone(), item.clone()),
            },
        });
        if !is_asked {
            return self.send_join(id, token, key, item);
        }
        let request = JoinRequest {
            worker: self.id,
            connection: id,
            token,
            presence: Presence {
                subscription: post.id,
                key,
                item,
                context: connection.context.clone(),
            },
        };
        let request = ToEngine::Join(Box::new(request));
        self.ports.to_engine.send(request);
    }

    fn send_join(&mut self, id: SlotId, token: u32, key: GroupKey, item: Option<ItemId>) {
        let join = Join {
            worker: self.id,
            local: self.fanout.begin_join(&key),
            connection: id,
            token,
            item,
        };
        self.command(key, Ask::Join(join));
    }

    /// The functions' word on a join.
    fn joined(&mut self, request: JoinRequest, is_admitted: bool, around: &mut Around<'_>) {
        let JoinRequest {
            connection: id,
            token,
            presence,
            ..
        } = request;
        let connection = self.sockets.0.get_mut(id);
        let Some(connection) = connection.filter(|connection| !connection.is_closing) else {
            if is_admitted {
                self.owe(presence, around.model);
            }
            return;
        };
        let is_it = |pending: &Pending| pending.token == token;
        let found = connection.pending.iter().position(is_it);
        let found = found.expect("an open socket's own join");
        let Presence {
            subscription,
            key,
            item,
            ..
        } = presence;
        if is_admitted {
            connection.pending[found].stage = Stage::Owner(key.clone(), item.clone());
            return self.send_join(id, token, key, item);
        }
        connection.pending.remove(found);
        connection
            .client
            .is_refused(&subscription, &key, item.as_ref());
        let answer = unauthorized(&key, self.now, item.as_deref());
        connection.reader.push_own(answer);
        self.to_write.push_back(id);
        while let Some(post) = self.next_of(id, &subscription) {
            self.serve(id, post, around);
        }
    }

    fn command(&mut self, key: GroupKey, ask: Ask) {
        let owner = self.ports.shared.owners.owner_of(&key);
        let command = Command::Group { key, ask };
        if owner == self.id {
            self.own_commands.push_back(command);
        } else {
            self.ports.to_commands[owner.index()].send(ToOwner::Command(command));
        }
    }

    fn close(&mut self, id: SlotId, model: &mut Model) {
        let Some(connection) = self.sockets.0.get_mut(id) else {
            return;
        };
        if connection.is_closing {
            return;
        }
        connection.is_closing = true;
        connection.waiting.clear();
        self.end_subscriptions(id);
        if let Some(connection) = self.sockets.0.get_mut(id) {
            connection.client.closes(model);
            let last = close_frame(Some(1013), "");
            connection.reader.push_last(last.into());
        }
        self.to_write.push_back(id);
    }

    fn sweep(&mut self, around: &mut Around<'_>) {
        let mut budget = Budget::of_writes(around.pace.up_to(8));
        while !budget.is_spent()
            && let Some(id) = self.to_write.pop_front()
        {
            self.fanout.drain(id, &mut self.sockets, &mut budget);
        }
        budget.check(WRITE_BYTES_MAX);
        let mut budget = Budget::of_writes(around.pace.up_to(8));
        self.fanout.sweep(&mut self.sockets, &mut budget);
        budget.check(WRITE_BYTES_MAX);
        let ids: Vec<SlotId> = self.sockets.0.iter().map(|(id, _)| id).collect();
        for id in &ids {
            if let Some(connection) = self.sockets.0.get_mut(*id) {
                let taken = std::mem::take(&mut connection.socket.taken);
                connection.client.takes(&taken, around.model);
            }
        }
        let outcome = self.fanout.take_outcome();
        for id in outcome.gone {
            self.end(id);
        }
        self.to_write.extend(outcome.unfinished);
        for id in outcome.slow {
            self.check_slow(id, around.model);
            self.close(id, around.model);
        }
        for id in ids {
            self.check_not_slow(id, around.model);
            let connection = self.sockets.0.get(id);
            if connection.is_some_and(|found| found.is_closing && found.reader.queue_is_empty()) {
                self.end(id);
            }
        }
        let left = self.fanout.take_outcome().left;
        for (key, local) in outcome.left.into_iter().chain(left) {
            let worker = self.id;
            self.command(key, Ask::Leave { worker, local });
        }
    }

    /// Lists are bounded, however seldom a sweep goes on: a reader's last visit left it no further
    /// behind than the bound and one frame, and since then two sweeps have begun at most. After each
    /// a quarter of the bound came, and what the turn that went beyond it had begun.
    fn check_lists(&self) {
        let of_sweep = self.behind_bytes_max / 4 + self.events_bytes_most;
        let of_group = self.behind_bytes_max + self.events_bytes_most + 2 * of_sweep;
        assert!(self.fanout.held_bytes() <= self.fanout.groups_len() * of_group);
    }

    /// It was reported: it is blocked, and further behind than the bound.
    fn check_slow(&self, id: SlotId, model: &Model) {
        let Some(connection) = self.sockets.0.get(id).filter(|found| !found.is_closing) else {
            return;
        };
        assert!(
            connection.reader.is_blocked() || self.to_write.contains(&id),
            "a reader that takes all is not slow"
        );
        let groups: BTreeSet<&GroupKey> = connection.groups().collect();
        let behind = groups
            .into_iter()
            .map(|group| self.behind(connection, group, model).1);
        let is_far = behind.sum::<usize>() > self.behind_bytes_max;
        assert!(is_far, "it is not far behind: {:?}", connection.client);
    }

    /// It was not: no sweep that found it blocked has found it too far behind.
    fn check_not_slow(&mut self, id: SlotId, model: &Model) {
        if self.fanout.is_due() || !self.to_write.is_empty() {
            return;
        }
        let Some(connection) = self.sockets.0.get(id).filter(|found| !found.is_closing) else {
            return;
        };
        if !connection.reader.is_blocked() {
            return;
        }
        if let Some(since) = &connection.blocked_since {
            for group in connection
                .groups()
                .filter(|group| since.get(*group) != self.arrived.get(*group))
            {
                let (surely, _) = self.behind(connection, group, model);
                assert!(
                    surely <= self.behind_bytes_max,
                    "a slow reader is not reported"
                );
            }
        } else if let Some(connection) = self.sockets.0.get_mut(id) {
            connection.blocked_since = Some(self.arrived.clone());
        }
    }

    /// Bytes that wait for the socket here: those that are surely behind the frame being written,
    /// and all from the first that it lacks.
    fn behind(&self, connection: &Connection, group: &GroupKey, model: &Model) -> (usize, usize) {
        let arrived = self.arrived.get(group).copied().unwrap_or(0);
        connection.client.behind(group, arrived, model)
    }
}

impl Connection {
    fn holds(&self, id: &str) -> bool {
        self.pending.iter().any(|pending| *pending.id == *id)
    }

    fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        self.client
            .subscriptions()
            .map(|(_, entered)| &entered.group)
    }
}
