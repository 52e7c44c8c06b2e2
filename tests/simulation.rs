//! A seed schedules hosts, each with workers, mailboxes, a store and subscribers: no threads, sockets or
//! time.
//!
//! Same seed, same run. `SIM_SEEDS=10000` runs more of them, `SIM_FROM=500` others, `SIM_SEED=7` only that
//! one. A failed assert is followed by its seed and step. The workers' cores, their shards, their fan-out and the mesh
//! are the real ones. What should happen is `model`'s and `peer`'s to say, and `shared`'s where hosts share
//! a store. The real broker has a run of its own, `broker`, in which the owners are the test's, and one
//! together with the real workers.

#![allow(clippy::panic, reason = "tests may, and what they call")]

#[path = "simulation/arrivals.rs"]
mod arrivals;
#[path = "simulation/broker.rs"]
mod broker;
#[path = "simulation/client.rs"]
mod client;
#[path = "support/double.rs"]
mod double;
#[path = "simulation/engine.rs"]
mod engine;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/fixed.rs"]
mod fixed;
#[path = "simulation/hosts.rs"]
mod hosts;
#[path = "simulation/line.rs"]
mod line;
#[path = "simulation/members.rs"]
mod members;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/order.rs"]
mod order;
#[path = "simulation/pace.rs"]
mod pace;
#[path = "simulation/peer.rs"]
mod peer;
#[path = "simulation/sdks.rs"]
mod sdks;
#[path = "simulation/settings.rs"]
mod settings;
#[path = "simulation/shared.rs"]
mod shared;
#[path = "simulation/silence.rs"]
mod silence;
#[path = "simulation/slow.rs"]
mod slow;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/threads.rs"]
mod threads;
#[path = "simulation/wire.rs"]
mod wire;
#[path = "simulation/worker.rs"]
mod worker;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use iii_stream::id::{GroupKey, ItemId, SlotId, Text, WorkerId};
use iii_stream::protocol::input::UpdateOp;
use iii_stream::shard::hooks::Hooks;
use iii_stream::shard::{Ask, Command, Decides, Effects, Shard, Store, UNITS_A_TURN, ValueLimits};
use iii_stream::store::Memory;
use iii_stream::time::Now;

use arrivals::{Arrival, OnTheirWay};
use double::{Cues, Double};
use engine::{Engine, EngineThread};
use hosts::Hosts;
use model::Model;
use pace::Pace;
use peer::Peer;
use sdks::Sdks;
use settings::Settings;
use shared::SharedStore;
use store::StoreThread;
use threads::Threads;
use worker::{Around, Worker};

const ITEMS: [&str; 3] = ["u1", "u2", "u3"];
const SUBSCRIPTIONS: [&str; 4] = ["s1", "s2", "s3", "s4"];
/// Sockets that a worker has at a time, at most.
const SOCKETS: usize = 6;
const SEEDS: u64 = 200;
const STEPS: usize = 250;

/// One host: all workers, the store, the engine's connections, and the seed's decisions.
struct Simulation {
    pace: Pace,
    kind: Kind,
    threads: Threads,
    workers: Vec<Worker>,
    /// Whose sockets are on their way from one worker to another.
    moving: Vec<Peer>,
    store: StoreThread,
    cues: Arc<Mutex<Cues>>,
    engine: Box<dyn EngineThread>,
    behind: Behind,
    hooks: Arc<Hooks>,
    sockets_made: u32,
    on_their_way: OnTheirWay,
    calls_made: u32,
    model: Model,
    keys: Vec<GroupKey>,
    /// The clock of the wall, in ms since 1970; it may step back.
    now: u64,
    /// That of time limits, in ms since the run began.
    elapsed: u64,
    began: Instant,
    /// The clock does not step back to before the last start: what a store keeps of time is its own
    /// test's affair.
    now_least: u64,
    settings: Settings,
    values_made: u32,
    steps: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The owner decides and accepts in the same turn.
    Memory,
    /// The owner decides, a log accepts.
    Log,
    /// The store decides, and several hosts share it.
    Shared,
}

/// What stands behind the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// A double of the engine thread.
    Double,
    /// The real broker with SDK workers.
    Sdks,
    /// The real broker with a running engine, which comes and goes.
    Engine,
}

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
    /// One of that kind, with settings of the seed's.
    fn of_seed(
        (kind, behind): (Kind, Behind),
        seed: u64,
        store: (&OneDouble, usize),
    ) -> Simulation {
        let mut pace = Pace::of_seed(seed);
        let workers = 1 + pace.below(3);
        let mut simulation = Simulation::on(kind, workers, seed, store);
        simulation.settings = Settings::of_seed(&mut pace, workers);
        if kind == Kind::Shared {
            // What is heard of others is told at once.
            simulation.settings.bounds.shard_units = UNITS_A_TURN;
        }
        simulation.model.lags = simulation.settings.bounds.shard_units < UNITS_A_TURN;
        simulation.behind = behind;
        if behind == Behind::Double {
            simulation.hooks = Arc::new(engine::hooks(&mut simulation.pace));
        }
        simulation.start(workers, &[]);
        simulation.hook();
        simulation
    }

    /// Tells everybody what is hooked onto at the start.
    fn hook(&mut self) {
        for worker in &mut self.workers {
            self.model.set_hooks(worker.id, &self.hooks);
            worker.core.set_hooks(Arc::clone(&self.hooks));
        }
    }

    fn of_kind(kind: Kind, workers: usize, seed: u64) -> Simulation {
        Simulation::on(kind, workers, seed, (&OneDouble::new(kind), 0))
    }

    /// On that double, of which it is that host.
    fn on(kind: Kind, workers: usize, seed: u64, (store, host): (&OneDouble, usize)) -> Simulation {
        let names = [("s", "a@0"), ("s", "b@1"), ("s", "c@2"), ("t", "a@0")];
        let (threads, (_, engine, ports)) = Threads::tie(workers);
        let double = &store.double;
        let shared = (kind == Kind::Shared).then(|| SharedStore::new(double));
        let mut simulation = Simulation {
            kind,
            threads,
            workers: Vec::new(),
            moving: Vec::new(),
            store: StoreThread::new(kind.decides(), double, host, ports),
            cues: Arc::clone(&store.cues),
            engine: Box::new(Engine::new(engine, false)),
            behind: Behind::Double,
            hooks: Arc::default(),
            sockets_made: 0,
            on_their_way: OnTheirWay::default(),
            calls_made: 0,
            model: Model::new(shared, workers),
            keys: names
                .map(|(stream, group)| GroupKey::new(stream, group))
                .into(),
            now: 1_000_000,
            elapsed: 0,
            began: Instant::now(),
            now_least: 0,
            settings: Settings::default(),
            values_made: 0,
            steps: 0,
            pace: Pace::of_seed(seed),
        };
        for key in &simulation.keys {
            simulation.model.groups.entry(key.clone()).or_default();
        }
        simulation.start(workers, &[]);
        simulation
    }

    /// All workers anew, with what the store has kept, and empty mailboxes. Gives how many requests each
    /// shard has made of what was kept.
    fn start(&mut self, workers: usize, kept: &[(GroupKey, Vec<(ItemId, Text)>)]) -> Vec<u64> {
        let (threads, (ports, engine, store)) = Threads::tie(workers);
        self.threads = threads;
        self.store.ports = store;
        let auth = self.settings.auth.as_ref();
        let admits_failures = auth.is_some_and(|auth| auth.admits_failures);
        let now = self.time();
        let (settings, pace) = (&self.settings, &mut self.pace);
        self.engine = match self.behind {
            Behind::Double => Box::new(Engine::new(engine, admits_failures)),
            Behind::Sdks => Box::new(Sdks::new(engine, settings, false, (pace, now))),
            Behind::Engine => Box::new(Sdks::new(engine, settings, true, (pace, now))),
        };
        let owners = self.threads.shared.owners;
        let values = ValueLimits {
            json_depth: 100,
            value_bytes: 1 << 20,
        };
        let (mut requests, mut made) = (Vec::new(), Vec::new());
        for ports in ports {
            let is_owned = |key: &&GroupKey| owners.owner_of(key) == ports.id;
            let owned = self.keys.iter().filter(is_owned).cloned().collect();
            let mut shard = Shard::new(ports.id, self.kind.decides(), values);
            let kept = kept.iter().filter(|(key, _)| is_owned(&key));
            requests.push(kept.map(|kept| load(&mut shard, kept, self.now)).sum());
            let has_store = self.kind != Kind::Memory;
            let parts = (self.settings.clone(), self.time());
            let on_their_way = self.on_their_way.clone();
            let owned = (owned, on_their_way);
            made.push(Worker::new(ports, shard, has_store, parts, owned));
        }
        self.workers = made;
        self.moving.clear();
        requests
    }

    fn time(&self) -> Now {
        Now {
            monotonic: self.began + Duration::from_millis(self.elapsed),
            wall: SystemTime::UNIX_EPOCH + Duration::from_millis(self.now),
            wall_ms: self.now,
        }
    }

    /// Everybody has gone: nothing is left of them.
    fn check_end(&mut self) {
        self.engine.check_end();
        assert!(self.on_their_way.is_empty(), "sockets that never arrive");
        for worker in &self.workers {
            assert_eq!(worker.core.fanout().groups_len(), 0);
            assert!(worker.peers.is_empty(), "sockets that are never forgotten");
        }
        assert!(self.moving.is_empty(), "sockets that never arrive");
        let shared = &self.threads.shared;
        let counts = [
            shared.owed_len(),
            shared.connections_len(),
            shared.let_in.load(Ordering::Relaxed),
        ];
        assert_eq!(
            counts, [0; 3],
            "leaves that are owed, sockets, those let in"
        );
    }

    /// The process ends: every socket is closed in its time, and goes.
    fn drain(&mut self) {
        let spread = *self.pace.pick(&[0, 5, 200]);
        for worker in &mut self.workers {
            worker.begin_drain(Duration::from_millis(spread));
        }
        self.pace.is_full = true;
        let until = self.elapsed + spread + 50;
        while self.elapsed < until {
            self.elapsed += 10;
            for worker in 0..self.workers.len() {
                self.turn_of_worker(worker);
            }
            self.turn_of_engine();
            self.turn_of_store();
            self.check();
        }
        // Who has not gone by itself is given up.
        self.elapsed += 2_000;
        (0..self.workers.len()).for_each(|worker| self.turn_of_worker(worker));
        self.pace.is_full = false;
    }

    /// It is settled after that.
    fn end_drain(&mut self) {
        (0..self.workers.len()).for_each(|worker| self.turn_of_worker(worker));
        assert!(self.workers.iter().all(|worker| worker.is_drained));
        assert!(self.accept(0).is_none(), "it is too late");
    }

    fn peers(&mut self) -> impl Iterator<Item = &mut Peer> {
        let workers = self.workers.iter_mut();
        workers.flat_map(|worker| worker.peers.values_mut())
    }

    fn step(&mut self) {
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

    fn check(&self) {
        let (threads, engine, store) = (&self.threads, self.engine.ports(), &self.store.ports);
        let of_worker = |worker: &WorkerId| self.workers[worker.index()].core.ports();
        let workers = || (0..self.workers.len() as u16).map(WorkerId);
        for id in workers() {
            let (thread, ports) = (id.index(), of_worker(&id));
            threads.check_mailbox(thread, ports.open.len());
            // It is left alone while what follows from commands finds no room.
            let is_left = !self.workers[thread].core.may_take_commands();
            threads.check_mailbox(thread, ports.commands.len() * usize::from(!is_left));
            let len = engine.mailbox.len();
            threads.check_outbox(thread, &ports.to_engine, len);
            // They wait for replies that have found no room as well.
            threads.check_outbox(thread, &ports.to_fired, engine.fired.len() + len);
            let to_store = ports.to_store.as_ref().expect("there is one");
            threads.check_outbox(thread, to_store, store.mailbox.len());
            for to in workers() {
                let (open, commands) = (of_worker(&to).open.len(), of_worker(&to).commands.len());
                threads.check_outbox(thread, &ports.to_open[to.index()], open);
                threads.check_outbox(thread, &ports.to_commands[to.index()], commands);
            }
        }
        threads.check_mailbox(threads.engine(), engine.mailbox.len());
        threads.check_mailbox(threads.engine(), engine.fired.len());
        for to in workers() {
            let open = of_worker(&to).open.len();
            threads.check_outbox(threads.engine(), &engine.to_open[to.index()], open);
            threads.check_outbox(threads.store(), &store.to_open[to.index()], open);
        }
    }

    fn turn_of_worker(&mut self, worker: usize) {
        self.threads.begin_turn(worker);
        let now = self.time();
        self.workers[worker].turn(&mut Around {
            model: &mut self.model,
            pace: &mut self.pace,
            now,
            moving: &mut self.moving,
        });
        self.threads.end_turn(worker, self.workers[worker].sleeps());
    }

    fn turn_of_store(&mut self) {
        self.threads.begin_turn(self.threads.store());
        self.store
            .turn(self.time(), &mut self.model, &mut self.pace);
        self.threads
            .end_turn(self.threads.store(), self.store.sleeps());
    }

    fn turn_of_engine(&mut self) {
        self.stir();
        self.threads.begin_turn(self.threads.engine());
        let now = self.time();
        self.engine.turn(&mut self.model, &mut self.pace, now);
        self.threads
            .end_turn(self.threads.engine(), self.engine.sleeps());
    }

    /// What stands behind the engine thread does something by itself.
    fn stir(&mut self) {
        let now = self.time();
        let is_due = self.engine.next_at().is_some_and(|at| at <= now.monotonic);
        if self.engine.stir(&mut self.model, &mut self.pace) || is_due {
            self.threads.rouse(self.threads.engine());
        }
    }

    fn call(&mut self) {
        let key = self.pace.pick(&self.keys).clone();
        self.call_of(key);
    }

    fn call_of(&mut self, key: GroupKey) {
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
    fn value(&mut self, item: &str) -> Text {
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
    fn connect(&mut self, worker: usize, room: usize) {
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

    fn accept(&mut self, worker: usize) -> Option<&mut Peer> {
        self.sockets_made += 1;
        self.workers[worker].accept(Arrival {
            number: self.sockets_made,
            room: usize::MAX,
            is_mute: false,
            asks: None,
        })
    }

    /// The process dies. What the store has accepted is still there, and all that anybody was told
    /// rests on it; then it starts anew.
    fn crash(&mut self) {
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

    /// Everything is delivered, every socket takes all. Only a thread that has something to do, or is
    /// woken, gets a turn, but in the first round.
    fn settle_round(&mut self, is_first: bool) {
        self.pace.is_full = true;
        // Who has asked for too much is read again after a while, and paces pass.
        let holds = |worker: &Worker| {
            let waits = worker.core.fanout().next_due_us().is_some();
            worker.sleeps() && (worker.core.holds_sockets() || waits)
        };
        let engine = self.threads.engine();
        let waits =
            self.threads.sleeps(engine) && self.engine.next_at().is_some() && !self.is_quiet();
        if !is_first && (waits || self.workers.iter().any(holds)) {
            self.elapsed += 100;
            (0..self.workers.len()).for_each(|worker| self.threads.rouse(worker));
        }
        self.stir();
        if is_first || !self.threads.sleeps(self.threads.engine()) {
            self.turn_of_engine();
        }
        if is_first || !self.threads.sleeps(self.threads.store()) || self.store.hears() {
            self.turn_of_store();
        }
        for worker in 0..self.workers.len() {
            self.lets_all_through(worker);
            if is_first || !self.threads.sleeps(worker) {
                self.turn_of_worker(worker);
            }
        }
        self.check();
        self.pace.is_full = false;
    }

    /// Nothing is left, and what everybody knows is what is.
    fn check_settled(&mut self) {
        self.engine.check_settled(&self.model);
        self.model.take_items();
        self.model.check_quiet();
        for (key, group) in &self.model.groups {
            if self.kind == Kind::Log {
                assert_eq!(self.store.double.borrow().items(key), group.items);
            }
        }
        let mut listened: Vec<BTreeSet<&GroupKey>> = vec![BTreeSet::new(); self.workers.len()];
        for worker in &self.workers {
            let mut joined = BTreeSet::new();
            for peer in worker.peers.values() {
                peer.check_quiet(&self.settings, self.time(), &self.model);
                joined.extend(peer.groups());
            }
            assert_eq!(
                worker.core.fanout().groups_len(),
                joined.len(),
                "groups that nobody follows"
            );
            assert_eq!(
                worker.core.fanout().held_bytes(),
                0,
                "frames that nobody lacks"
            );
            for group in joined {
                listened[self.threads.shared.owners.owner_of(group).index()].insert(group);
            }
        }
        for (worker, listened) in self.workers.iter().zip(listened) {
            let is_kept = |key: &&GroupKey| {
                let holds_items = self.kind != Kind::Shared;
                listened.contains(*key) || holds_items && !self.model.groups[*key].items.is_empty()
            };
            let kept = worker.owned().iter().filter(is_kept).count();
            assert_eq!(
                worker.core.shard().groups_len(),
                kept,
                "groups of which nothing is left"
            );
        }
    }

    /// Clients take all, say all, and go if they are about to.
    fn lets_all_through(&mut self, worker: usize) {
        for id in self.workers[worker].ids() {
            let is_roused = self.workers[worker].takes_bytes(id, usize::MAX);
            let Some(peer) = self.workers[worker].peers.get_mut(&id) else {
                continue;
            };
            let dies = {
                let line = peer.line.borrow();
                line.is_dead && !line.has_ended
            };
            if dies {
                peer.ends();
            }
            if peer.has_unsent() {
                peer.goes_on_sending(usize::MAX);
            }
            let has_news = peer.line.borrow().has_news;
            if is_roused || has_news {
                self.threads.rouse(worker);
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.not_quiet().is_empty()
    }

    /// What has still something to do, or waits for something.
    fn not_quiet(&self) -> Vec<&'static str> {
        let awaits = |worker: &Worker| worker.peers.values().any(Peer::awaits_functions);
        let all = [
            ("sockets on their way", self.moving.is_empty()),
            ("the store", self.store.is_quiet()),
            ("the engine", self.engine.is_quiet()),
            ("workers", self.workers.iter().all(Worker::is_quiet)),
            ("joins", !self.workers.iter().any(awaits)),
        ];
        let busy = all.into_iter().filter(|(_, is_quiet)| !is_quiet);
        busy.map(|(what, _)| what).collect()
    }

    fn any_socket(&mut self, worker: usize) -> Option<SlotId> {
        let ids = self.workers[worker].ids();
        (!ids.is_empty()).then(|| *self.pace.pick(&ids))
    }

    fn any_peer(&mut self, worker: usize) -> Option<&mut Peer> {
        let id = self.any_socket(worker)?;
        self.workers[worker].peers.get_mut(&id)
    }
}

/// Values of before a restart: put in without a store, for they are in it. Gives the number of
/// requests made.
fn load(shard: &mut Shard, (key, items): &(GroupKey, Vec<(ItemId, Text)>), now: u64) -> u64 {
    let mut out = Effects::default();
    for (item, value) in items {
        let ask = Ask::Set {
            item: item.clone(),
            data: value.clone(),
            ttl: None,
            call: None,
        };
        let key = key.clone();
        shard.apply(Command::Group { key, ask }, now, &mut out);
    }
    let mut learned = Vec::new();
    Memory.serve(out.requests, &mut learned);
    let made = learned.len() as u64;
    for learned in learned {
        shard.learn(learned, now, &mut Effects::default());
    }
    made
}

impl Kind {
    fn decides(self) -> Decides {
        match self {
            Kind::Memory | Kind::Log => Decides::Owner,
            Kind::Shared => Decides::Shared,
        }
    }
}

/// A store double, and what it is to do next.
struct OneDouble {
    double: Rc<RefCell<Double>>,
    cues: Arc<Mutex<Cues>>,
}

impl OneDouble {
    fn new(kind: Kind) -> OneDouble {
        let cues = Arc::new(Mutex::new(Cues::default()));
        let double = Double::new(kind.decides(), Arc::clone(&cues));
        let double = Rc::new(RefCell::new(double));
        OneDouble { double, cues }
    }
}

/// So much more, and the item's own name, which an item that is made by it needs.
fn updates(item: &str, by: i64) -> Vec<UpdateOp> {
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

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Those that are run where nothing else is said.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    match number_of("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number_of("SIM_FROM").unwrap_or(0);
            first..first + number_of("SIM_SEEDS").unwrap_or(usual)
        }
    }
}

#[test]
fn every_seed_keeps_what_is_promised() {
    run_seeds(|_| Behind::Double);
}

#[test]
fn the_broker_and_the_workers_keep_together_what_each_has_promised() {
    run_seeds(|seed| match seed % 3 {
        0 => Behind::Engine,
        _ => Behind::Sdks,
    });
}

fn run_seeds(behind: impl Fn(u64) -> Behind) {
    for seed in seeds(SEEDS) {
        let mut hosts = Hosts::of_seed(seed, behind(seed));
        let run = catch_unwind(AssertUnwindSafe(|| hosts.run()));
        if let Err(panic) = run {
            eprintln!("seed {seed}, step {}", hosts.steps);
            hosts.tell_kinds();
            resume_unwind(panic);
        }
    }
    let handed_over = worker::HANDED_OVER.load(Ordering::Relaxed);
    let is_one = number_of("SIM_SEED").is_some();
    assert!(
        is_one || handed_over > 100,
        "{handed_over} sockets were handed over"
    );
}
