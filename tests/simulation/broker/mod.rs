//! The real broker between SDK workers and owners that are both the test: who sends, answers, reads,
//! stops reading, goes and comes back is the seed's, and so is when an owner takes a command or replies.
//!
//! What has to hold: a call is answered once, calls of one worker for a group arrive in their order, a
//! join is decided once, a leave is told once, and no thread sleeps before a mailbox with something in it.

mod flood;
mod owner;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use iii_stream::broker::{Authenticator, Broker, Effect, OfListener, Parts, Settings};
use iii_stream::config::Limits;
use iii_stream::id::{GroupKey, SlotId, WorkerId};
use iii_stream::mesh::{JoinRequest, Presence, ToEngine, ToWorker};
use iii_stream::protocol::connection::{Connection, Event, Flow, Payload, Sender};
use iii_stream::protocol::rbac::Access;
use iii_stream::time::Now;
use serde_json::{Value, json};

use crate::pace::Pace;
use crate::threads::Threads;

use owner::Owner;

const SEEDS: u64 = 200;
const STEPS: usize = 400;
const PROGRAMS: usize = 4;
const GROUPS: [&str; 3] = ["a@0", "b@1", "c@2"];
const ROUNDS_MAX: usize = 5_000;

struct World {
    pace: Pace,
    threads: Threads,
    owners: Vec<Owner>,
    broker: Broker,
    /// The first one has the functions that joins and leaves are put to, and stays.
    programs: Vec<Program>,
    elapsed: Duration,
    began: Instant,
    numbers: u64,
    /// Joins that were asked about and are not decided.
    joins: BTreeSet<u32>,
    /// Leaves that are owed, or taken, and were not told.
    leaves: BTreeSet<u64>,
    steps: usize,
}

struct Program {
    /// A name for as long as its connection lasts.
    number: u64,
    id: SlotId,
    connection: Connection,
    /// Calls without an answer.
    calls: HashMap<String, u64>,
    /// Calls of its functions that it has not answered.
    asked: Vec<Value>,
    reads: bool,
}

impl World {
    fn of_seed(seed: u64) -> World {
        let mut pace = Pace::of_seed(seed);
        let workers = 1 + pace.below(3);
        let (threads, (ports, engine, _)) = Threads::tie(workers);
        let began = Instant::now();
        let limits = Limits {
            call_queue_bytes: *pace.pick(&[500, 5_000, 1 << 20]),
            mailbox_len: 8,
            ..Limits::default()
        };
        let broker = Broker::new(Parts {
            ports: engine,
            settings: Settings {
                limits,
                call_timeout: Duration::from_secs(30),
                auth: Authenticator {
                    function_id: None,
                    timeout: Duration::from_secs(5),
                    admits_failures: false,
                },
                join_required: Vec::new(),
                refuses_failed_joins: false,
            },
            of_listeners: vec![OfListener::default()],
            known_as: None,
            now: now_at(began, Duration::ZERO),
        });
        let owner = |ports| Owner {
            ports,
            unanswered: Vec::new(),
            owed: VecDeque::new(),
            has_said_so: false,
            is_granted: 0,
            last: BTreeMap::new(),
        };
        let mut world = World {
            pace,
            threads,
            owners: ports.into_iter().map(owner).collect(),
            broker,
            programs: Vec::new(),
            elapsed: Duration::ZERO,
            began,
            numbers: 0,
            joins: BTreeSet::new(),
            leaves: BTreeSet::new(),
            steps: 0,
        };
        for at in 0..PROGRAMS {
            let program = world.connect();
            world.programs.push(program);
            for function in ["f", &format!("f{at}")] {
                world.say(at, &json!({"type": "registerfunction", "id": function}));
            }
        }
        for (id, trigger_type) in [("j", "stream:join"), ("l", "stream:leave")] {
            world.say(0, &json!({"type": "registerfunction", "id": id}));
            world.say(
                0,
                &json!({"type": "registertrigger", "id": id, "trigger_type": trigger_type,
                    "function_id": id, "config": {}}),
            );
        }
        world
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn connect(&mut self) -> Program {
        let id = self.broker.turn.enter(0, None);
        self.broker.open(id, false, Access::unlimited());
        self.threads.rouse(self.threads.engine());
        Program {
            number: self.number(),
            id,
            connection: Connection::default(),
            calls: HashMap::new(),
            asked: Vec::new(),
            reads: true,
        }
    }

    fn say(&mut self, at: usize, message: &Value) {
        let id = self.programs[at].id;
        self.broker.hear_message(id, &message.to_string());
        self.carry_out();
        self.threads.rouse(self.threads.engine());
    }

    /// What ends every part of a turn. None of these programs is sent away.
    fn carry_out(&mut self) {
        self.broker.turn.flush();
        for effect in self.broker.turn.effects.take() {
            let is_known = matches!(
                effect,
                Effect::Close(..) | Effect::End(_) | Effect::Admit(..)
            );
            assert!(!is_known, "a program that does nothing wrong is sent away");
        }
        self.broker.turn.effects.take_freed();
    }

    fn step(&mut self) {
        let at = self.pace.below(PROGRAMS);
        let owner = self.pace.below(self.owners.len());
        match self.pace.below(20) {
            0..6 => self.call(at),
            6..9 => self.turn_of_engine(),
            9..13 => self.turn_of_owner(owner),
            13..15 => self.answer(at),
            15 => self.join(owner),
            16 => self.leave(owner),
            17 => self.programs[at].reads = self.pace.below(3) > 0,
            18 if at > 0 && self.pace.below(4) == 0 => self.reconnect(at),
            _ => self.elapsed += Duration::from_millis(*self.pace.pick(&[1, 10, 600])),
        }
    }

    fn call(&mut self, at: usize) {
        if self.broker.turn.is_held(self.programs[at].id) {
            return;
        }
        let number = self.number();
        let id = uuid::Uuid::from_u128(u128::from(number)).to_string();
        let sender = self.programs[at].number;
        let group = *self.pace.pick(&GROUPS);
        let set = json!({"stream_name": "s", "group_id": group, "item_id": "i",
            "data": {"by": sender, "n": number, "text": "x".repeat(self.pace.below(200))}});
        let (function, data) = match self.pace.below(8) {
            0..4 => ("stream::set", set),
            4 => ("stream::list_groups", json!({"stream_name": "s"})),
            5 => ("engine::functions::list", json!({})),
            6 => ("f", json!({"n": number})),
            _ => (["f1", "f2", "nobody"][self.pace.below(3)], json!({})),
        };
        let is_void = function == "stream::set" && self.pace.below(3) == 0;
        let mut message = json!({"type": "invokefunction", "invocation_id": id,
            "function_id": function, "data": data});
        if is_void {
            message["action"] = json!({"type": "void"});
        } else {
            self.programs[at].calls.insert(id, number);
        }
        self.say(at, &message);
    }

    /// Answers one of the calls that it was sent.
    fn answer(&mut self, at: usize) {
        let len = self.programs[at].asked.len();
        if len == 0 || self.broker.turn.is_held(self.programs[at].id) {
            return;
        }
        let asked = self.programs[at].asked.swap_remove(self.pace.below(len));
        let mut answer = json!({"type": "invocationresult",
            "invocation_id": asked["invocation_id"], "function_id": asked["function_id"]});
        match self.pace.below(4) {
            0 => answer["error"] = json!({"code": "x", "message": "boom"}),
            1 => answer["result"] = json!({"unauthorized": true}),
            _ => answer["result"] = json!(null),
        }
        self.say(at, &answer);
    }

    fn reconnect(&mut self, at: usize) {
        self.broker.remove(self.programs[at].id);
        self.carry_out();
        self.programs[at] = self.connect();
        for function in ["f", &format!("f{at}")] {
            self.say(at, &json!({"type": "registerfunction", "id": function}));
        }
    }

    fn join(&mut self, owner: usize) {
        let token = self.number() as u32;
        self.joins.insert(token);
        let request = Box::new(JoinRequest {
            worker: WorkerId(owner as u16),
            connection: SlotId {
                slot: 1,
                generation: 1,
            },
            token,
            presence: presence(u64::from(token)),
        });
        let owner = &mut self.owners[owner];
        owner.ports.to_engine.send(ToEngine::Join(request));
        owner.ports.to_engine.flush();
    }

    fn leave(&mut self, owner: usize) {
        let number = self.number();
        self.leaves.insert(number);
        let owner = &mut self.owners[owner];
        owner.owed.push_back(presence(number));
        owner.ports.shared.count_owed();
        if !std::mem::replace(&mut owner.has_said_so, true) {
            let owes = ToEngine::Owes(owner.ports.id);
            owner.ports.to_engine.send(owes);
            owner.ports.to_engine.flush();
        }
    }

    fn turn_of_engine(&mut self) {
        self.threads.begin_turn(self.threads.engine());
        let now = now_at(self.began, self.elapsed);
        let broker = &mut self.broker;
        broker.begin_turn(now, true);
        broker.read_mailbox();
        broker.deliver_parked();
        broker.tend_standing();
        broker.take_leaves();
        broker.tell_functions();
        broker.tell_all_hooks();
        broker.turn.flush();
        broker.end_overdue();
        broker.go_on();
        broker.turn.release_answers();
        broker.tell_all_hooks();
        broker.turn.flush();
        let lines = broker.turn.take_lines();
        assert!(lines.iter().all(|line| !line.text.is_empty()));
        self.carry_out();
        self.read_programs();
        let sleeps = !self.broker.is_due();
        self.threads.end_turn(self.threads.engine(), sleeps);
    }

    /// What is unsent goes to those that read; the others take a bit of it.
    fn read_programs(&mut self) {
        self.broker.turn.members.take_dirty();
        for at in 0..self.programs.len() {
            let mut room = match self.programs[at].reads {
                true => usize::MAX,
                false => self.pace.below(300),
            };
            let mut bytes = Vec::new();
            let (id, mut most) = (self.programs[at].id, usize::MAX);
            self.broker.turn.members.write(id, &mut most, |unsent| {
                let taken = unsent.len().min(room);
                room -= taken;
                bytes.extend_from_slice(&unsent[..taken]);
                taken
            });
            let mut heard = Vec::new();
            let program = &mut self.programs[at];
            let sender = Sender::Server;
            let read =
                program
                    .connection
                    .receive_from(sender, &mut bytes, usize::MAX, &mut |event| {
                        if let Event::Message(Payload::Text(text)) = event {
                            heard.push(serde_json::from_str(text).expect("a JSON text"));
                        }
                        Flow::Continue
                    });
            read.expect("frames");
            for message in heard {
                self.hear(at, message);
            }
        }
    }

    fn hear(&mut self, at: usize, message: Value) {
        match message["type"].as_str() {
            Some("invocationresult") => {
                let id = message["invocation_id"].as_str().expect("a text");
                let call = self.programs[at].calls.remove(id);
                assert!(call.is_some(), "an answer that nobody waits for: {message}");
            }
            Some("invokefunction") => {
                if message["function_id"] == "l" {
                    let told = message["data"]["subscription_id"].as_str();
                    let told = told.and_then(|told| told.parse().ok()).expect("a number");
                    assert!(self.leaves.remove(&told), "a leave is told once: {message}");
                }
                self.programs[at].asked.push(message);
            }
            _ => {}
        }
    }

    fn turn_of_owner(&mut self, at: usize) {
        self.threads.begin_turn(at);
        let open = self.owners[at].ports.open.len();
        for _ in 0..open {
            if let Some(message) = self.owners[at].ports.open.take() {
                self.take(at, message);
            }
        }
        let shared = std::sync::Arc::clone(&self.threads.shared);
        let owner = &mut self.owners[at];
        owner.ports.open.tell_waiters(|thread| shared.wake(thread));
        let is_full = owner.ports.to_engine.has_backlog();
        let commands = match is_full {
            true => 0,
            false => self.pace.up_to(owner.ports.commands.len()),
        };
        for _ in 0..commands {
            if let Some(message) = owner.ports.commands.take() {
                owner.apply(message);
            }
        }
        owner
            .ports
            .commands
            .tell_waiters(|thread| shared.wake(thread));
        for _ in 0..self.pace.up_to(owner.unanswered.len()) {
            let next = self.pace.below(owner.unanswered.len());
            let reply = owner.unanswered.swap_remove(next);
            owner.ports.to_engine.send(ToEngine::Reply(reply));
        }
        owner.give_leaves();
        owner.ports.to_engine.flush();
        if !owner.ports.to_engine.has_backlog() {
            owner.ports.to_fired.flush();
        }
        let sleeps = owner.unanswered.is_empty() && owner.ports.commands.is_empty();
        self.threads.end_turn(at, sleeps);
    }

    fn take(&mut self, at: usize, message: ToWorker) {
        match message {
            ToWorker::JoinDecided(request, _) => {
                assert_eq!(usize::from(request.worker.0), at);
                let is_new = self.joins.remove(&request.token);
                assert!(is_new, "a join is decided once");
            }
            ToWorker::TakeLeaves(count) => self.owners[at].is_granted += count,
            _ => {}
        }
    }

    fn check(&self) {
        let engine = self.threads.engine();
        let mailbox = &self.broker.turn.ports.mailbox;
        self.threads.check_mailbox(engine, mailbox.len());
        for (at, owner) in self.owners.iter().enumerate() {
            let open = owner.ports.open.len();
            self.threads.check_mailbox(at, open);
            let to_engine = &owner.ports.to_engine;
            self.threads.check_outbox(at, to_engine, mailbox.len());
            let fired = self.broker.turn.ports.fired.len();
            let to_fired = &owner.ports.to_fired;
            self.threads
                .check_outbox(at, to_fired, fired + mailbox.len());
            let to_open = &self.broker.turn.ports.to_open[at];
            self.threads.check_outbox(engine, to_open, open);
        }
    }

    /// Everybody reads and answers: then everything that was asked has its answer. Threads that sleep have
    /// turns only once they are woken.
    fn settle(&mut self) {
        self.pace.is_full = true;
        let mut rounds = 0;
        while rounds < 3 || !self.is_quiet() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "it stands still");
            for at in 0..self.programs.len() {
                self.programs[at].reads = true;
                while !self.programs[at].asked.is_empty()
                    && !self.broker.turn.is_held(self.programs[at].id)
                {
                    self.answer(at);
                }
            }
            // A socket that takes bytes again is written to without a message.
            self.read_programs();
            if rounds < 3 || !self.threads.sleeps(self.threads.engine()) || self.broker.is_due() {
                self.turn_of_engine();
            }
            for at in 0..self.owners.len() {
                if rounds < 3 || !self.threads.sleeps(at) {
                    self.turn_of_owner(at);
                }
            }
            self.check();
        }
        self.pace.is_full = false;
    }

    fn is_quiet(&self) -> bool {
        let is_answered = |program: &Program| program.calls.is_empty() && program.asked.is_empty();
        let owes = |owner: &Owner| {
            !owner.owed.is_empty() || owner.has_said_so || owner.ports.to_engine.has_backlog()
        };
        self.programs.iter().all(is_answered)
            && self.joins.is_empty()
            && self.leaves.is_empty()
            && !self.owners.iter().any(owes)
            && self.broker.turn.ports.mailbox.is_empty()
            && !self.broker.is_due()
    }

    fn run(&mut self) {
        for _ in 0..3 {
            for _ in 0..STEPS / 3 {
                self.steps += 1;
                self.step();
                self.check();
            }
            self.settle();
        }
        // All go: nothing of theirs is left.
        for program in std::mem::take(&mut self.programs) {
            self.broker.remove(program.id);
        }
        for _ in 0..10 {
            self.turn_of_engine();
        }
        assert!(
            self.broker.holds_nothing(),
            "something is left of those who went"
        );
    }
}

fn presence(number: u64) -> Presence {
    Presence {
        subscription: number.to_string().into(),
        key: GroupKey::new("s", "a@0"),
        item: None,
        context: None,
    }
}

fn now_at(began: Instant, elapsed: Duration) -> Now {
    Now {
        monotonic: began + elapsed,
        wall: SystemTime::UNIX_EPOCH + elapsed,
        wall_ms: elapsed.as_millis() as u64,
    }
}

#[test]
fn whatever_programs_and_owners_do_each_has_its_one_answer() {
    for seed in crate::seeds(SEEDS) {
        let mut world = World::of_seed(seed);
        let run = std::panic::AssertUnwindSafe(|| world.run());
        if let Err(cause) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}, step {}", world.steps);
            std::panic::resume_unwind(cause);
        }
    }
}
