//! A seed schedules hosts, each with workers, mailboxes, a store and subscribers: no threads, sockets or
//! time.
//!
//! Same seed, same run. `SIM_SEEDS=10000` runs more of them, `SIM_FROM=500` others, `SIM_SEED=7` only that
//! one. A failed assert is followed by its seed and step. The workers' cores, their shards, their fan-out and the mesh
//! are the real ones. What should happen is `model`'s and `peer`'s to say, and `shared`'s where hosts share
//! a store. The real broker has a run of its own, `broker`, in which the owners are the test's, and one
//! together with the real workers.
//!
//! Here: one host, its start and the turns of its threads, and the run of all seeds. What a seed may have
//! happen is in `steps`, how a run ends in `settled`, and several hosts in `hosts`.

#![allow(clippy::panic, reason = "tests may, and what they call")]

#[path = "simulation/arrivals.rs"]
mod arrivals;
#[path = "simulation/broker/mod.rs"]
mod broker;
#[path = "simulation/client/mod.rs"]
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
#[path = "simulation/model/mod.rs"]
mod model;
#[path = "simulation/order.rs"]
mod order;
#[path = "simulation/pace.rs"]
mod pace;
#[path = "simulation/peer.rs"]
mod peer;
#[path = "simulation/sdks/mod.rs"]
mod sdks;
#[path = "simulation/settings.rs"]
mod settings;
#[path = "simulation/settled.rs"]
mod settled;
#[path = "simulation/shared/mod.rs"]
mod shared;
#[path = "simulation/silence.rs"]
mod silence;
#[path = "simulation/slow.rs"]
mod slow;
#[path = "simulation/steps.rs"]
mod steps;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/threads.rs"]
mod threads;
#[path = "simulation/wire.rs"]
mod wire;
#[path = "simulation/worker.rs"]
mod worker;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use iii_stream::id::{GroupKey, ItemId, Text, WorkerId};
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

    fn peers(&mut self) -> impl Iterator<Item = &mut Peer> {
        let workers = self.workers.iter_mut();
        workers.flat_map(|worker| worker.peers.values_mut())
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

    fn accept(&mut self, worker: usize) -> Option<&mut Peer> {
        self.sockets_made += 1;
        self.workers[worker].accept(Arrival {
            number: self.sockets_made,
            room: usize::MAX,
            is_mute: false,
            asks: None,
        })
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
