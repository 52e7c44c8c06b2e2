//! What a seed may have happen in one step of a host: a call, a message of a subscriber, a turn of a thread, a
//! socket that comes, goes, blocks or takes, a refusal, a loss, a clock that steps, a crash.

use iii_stream::id::{GroupKey, ItemId, SlotId, Text};
use iii_stream::protocol::input::UpdateOp;
use iii_stream::shard::{Ask, Command};

use crate::arrivals::Arrival;
use crate::peer::Peer;
use crate::{ITEMS, Kind, SOCKETS, SUBSCRIPTIONS, Simulation};

#[derive(Clone, Copy)]
enum Step {
    Call,
    PostFromClient,
    TurnOfWorker,
    TurnOfStore,
    TurnOfEngine,
    Connect,
    Disconnect,
    Block,
    Unblock,
    Refuse,
    FunctionsDie,
    Lose,
    Clock,
    Time,
    Crash,
}

impl Simulation {
    pub(crate) fn step(&mut self) {
        let worker = self.pace.below(self.workers.len());
        let step = self.pace.weighed(&[
            (26, Step::Call),
            (14, Step::PostFromClient),
            (30, Step::TurnOfWorker),
            (10, Step::TurnOfStore),
            (10, Step::TurnOfEngine),
            (3, Step::Connect),
            (1, Step::Disconnect),
            (10, Step::Block),
            (3, Step::Unblock),
            (1, Step::Refuse),
            (1, Step::FunctionsDie),
            (usize::from(self.kind == Kind::Shared), Step::Lose),
            (4, Step::Clock),
            (2, Step::Time),
            (usize::from(self.steps % 50 == 49), Step::Crash),
        ]);
        match step {
            Step::Call => self.call(),
            Step::PostFromClient => self.post(worker),
            Step::TurnOfWorker => self.turn_of_worker(worker),
            Step::TurnOfStore => self.turn_of_store(),
            Step::TurnOfEngine => self.turn_of_engine(),
            Step::Connect => {
                let room = *self.pace.pick(&[usize::MAX, usize::MAX, 500]);
                self.connect(worker, room);
            }
            Step::Disconnect => {
                let dies_in_a_write = self.pace.below(2) == 0;
                match self.any_peer(worker) {
                    Some(peer) if dies_in_a_write => peer.dies(),
                    Some(peer) => peer.ends(),
                    None => {}
                }
                self.threads.rouse(worker);
            }
            Step::Block => {
                let some = self.pace.below(400);
                let room = *self.pace.pick(&[0, 0, some]);
                if let Some(peer) = self.any_peer(worker) {
                    peer.line.borrow().room = room;
                    let followed = peer.groups().next().cloned();
                    for key in followed.into_iter().cycle().take(4) {
                        self.call_of(key); // so that it comes to be behind
                    }
                }
            }
            Step::Unblock => {
                let some = self.pace.below(600);
                let room = *self.pace.pick(&[usize::MAX, some, 1]);
                if let Some(id) = self.any_socket(worker)
                    && self.workers[worker].takes_bytes(id, room)
                {
                    self.threads.rouse(worker);
                }
            }
            Step::Refuse => {
                let after = self.pace.below(6);
                self.cues.lock().expect("one thread").refuse_after = Some(after);
            }
            Step::FunctionsDie => {
                self.engine.functions_die(&mut self.model, &mut self.pace);
                self.threads.rouse(self.threads.engine());
            }
            Step::Lose => self.store.lose(&mut self.model),
            Step::Clock => {
                let by = *self.pace.pick(&[1, 1, 5, 1_000, -3, -2_000]);
                self.now = self.now.saturating_add_signed(by).max(self.now_least);
            }
            Step::Time => {
                self.elapsed += *self.pace.pick(&[1, 10, 1_000, 2_500]);
                (0..=self.workers.len()).for_each(|thread| self.threads.rouse(thread));
            }
            Step::Crash => self.crash(),
        }
    }

    pub(crate) fn call(&mut self) {
        let key = self.pace.pick(&self.keys).clone();
        self.call_of(key);
    }

    pub(crate) fn call_of(&mut self, key: GroupKey) {
        let item: ItemId = (*self.pace.pick(&ITEMS)).into();
        let call = SlotId {
            slot: self.calls_made,
            generation: 1,
        };
        self.calls_made += 1;
        let may_be_void = (self.pace.below(4) > 0).then_some(call);
        let ask = match self.pace.below(12) {
            0..4 => Ask::Set {
                data: self.value(&item),
                item,
                ttl: None,
                call: may_be_void,
            },
            4..6 => Ask::Update {
                ops: updates(&item, self.odd()),
                item,
                ttl: None,
                call: may_be_void,
            },
            6..8 => Ask::Delete {
                item,
                call: may_be_void,
            },
            8 => Ask::Get { item, call },
            9 => Ask::List { call },
            10 => Ask::Send {
                id: (self.pace.below(2) == 0).then_some(item),
                kind: "typing".into(),
                data: self.calls_made.to_string().into(),
                call: may_be_void,
            },
            _ => {
                let stream = key.stream().into();
                return self.call_by_any(Command::ListGroups { stream, call });
            }
        };
        self.call_by_any(Command::Group { key, ask });
    }

    fn call_by_any(&mut self, command: Command) {
        let caller = self.pace.below(self.engine.callers());
        self.model.calls.note(self.engine.name_of(caller), &command);
        self.engine.call(caller, command);
    }

    /// A number to which no other is equal, nor sums of some.
    fn odd(&self) -> i64 {
        i64::from(self.calls_made) * 7_919_000_003 % (1 << 40)
    }

    /// A value that no other is equal to; some are long.
    pub(crate) fn value(&mut self, item: &str) -> Text {
        self.values_made += 1000;
        let n = self.values_made;
        match self.pace.below(6) {
            0 => format!(r#"{{"id":"{item}","n":{n},"pad":"{}"}}"#, "x".repeat(300)).into(),
            _ => format!(r#"{{"id":"{item}","n":{n}}}"#).into(),
        }
    }

    /// A subscriber sends something, or more at once.
    fn post(&mut self, worker: usize) {
        let Some(id) = self.any_socket(worker) else {
            return;
        };
        for _ in 0..*self.pace.pick(&[1, 1, 1, 6]) {
            self.post_from(worker, id);
        }
        self.threads.rouse(worker);
    }

    fn post_from(&mut self, worker: usize, id: SlotId) {
        let subscription = *self.pace.pick(&SUBSCRIPTIONS);
        let key = self.pace.pick(&self.keys).clone();
        let item: ItemId = (*self.pace.pick(&ITEMS)).into();
        let item = (self.pace.below(2) == 0).then_some(item);
        let (what, some) = (self.pace.below(48), self.pace.below(100));
        let Some(peer) = self.workers[worker].peers.get_mut(&id) else {
            return;
        };
        if !peer.has_asked {
            if some < 20 {
                peer.upgrades(None, usize::MAX);
            }
            return;
        }
        if peer.has_unsent() {
            return peer.goes_on_sending(some);
        }
        let long = GroupKey::new("s", &"x".repeat(41));
        match what {
            0..30 => peer.joins(subscription, &key, item.as_ref()),
            30 => peer.joins(subscription, &long, item.as_ref()),
            31 => peer.leaves(subscription, &long, item.as_ref()),
            32..44 => peer.leaves(subscription, &key, item.as_ref()),
            44..47 => peer.pings(),
            _ if some < 10 => peer.breaks_the_protocol(),
            _ if some < 40 => peer.closes(),
            _ => peer.leaves("unknown", &key, item.as_ref()),
        }
    }

    /// Sends its request at once, in parts, or not at all.
    pub(crate) fn connect(&mut self, worker: usize, room: usize) {
        if self.workers[worker].peers.len() >= SOCKETS {
            return;
        }
        let key = self.pace.pick(&self.keys).clone();
        let item: ItemId = (*self.pace.pick(&ITEMS)).into();
        let item = (self.pace.below(2) == 0).then_some(item);
        let path = (self.pace.below(4) == 0).then_some((key, item));
        let len = *self.pace.pick(&[usize::MAX, usize::MAX, 30]);
        let is_silent = self.pace.below(10) == 0;
        let is_mute = self.pace.below(4) == 0 && !is_silent;
        self.sockets_made += 1;
        let client = Arrival {
            number: self.sockets_made,
            room,
            is_mute,
            asks: (!is_silent).then_some((path, len)),
        };
        let to = self.pace.below(2 * self.workers.len());
        match to < self.workers.len() && to != worker {
            true => self.workers[worker].pass_on(client, to),
            false => drop(self.workers[worker].accept(client)),
        }
        self.threads.rouse(worker);
    }

    /// The process dies. What the store has accepted is still there, and all that anybody was told
    /// rests on it; then it starts anew.
    pub(crate) fn crash(&mut self) {
        if self.kind == Kind::Log {
            for key in &self.keys {
                let owner = self.threads.shared.owners.owner_of(key);
                let durable = self.model.durable(key, owner);
                assert_eq!(self.store.double.borrow().items(key), durable);
            }
        }
        self.now = self.now.max(self.model.last_time() + 1);
        self.now_least = self.now;
        self.store.crash();
        self.model.calls.clear();
        self.on_their_way.clear();
        let mut kept = Vec::new();
        if self.kind == Kind::Log {
            let double = self.store.double.borrow();
            let of = |key: &GroupKey| (key.clone(), double.items(key).to_vec());
            kept.extend(self.keys.iter().map(of));
        }
        let requests = self.start(self.workers.len(), &kept);
        let (kind, double) = (self.kind, self.store.double.borrow());
        let items = |key: &GroupKey| match kind {
            Kind::Memory => Vec::new(),
            Kind::Log | Kind::Shared => double.items(key).to_vec(),
        };
        self.model.restart(items, &requests);
        drop(double);
        self.hook();
    }

    fn any_socket(&mut self, worker: usize) -> Option<SlotId> {
        let ids = self.workers[worker].ids();
        (!ids.is_empty()).then(|| *self.pace.pick(&ids))
    }

    pub(crate) fn any_peer(&mut self, worker: usize) -> Option<&mut Peer> {
        let id = self.any_socket(worker)?;
        self.workers[worker].peers.get_mut(&id)
    }
}

/// So much more, and the item's own name, which an item that is made by it needs.
pub(crate) fn updates(item: &str, by: i64) -> Vec<UpdateOp> {
    let name = UpdateOp::Set {
        path: "id".into(),
        value: format!("\"{item}\"").into(),
    };
    let more = UpdateOp::Increment {
        path: "n".into(),
        by,
    };
    vec![name, more]
}
