//! The real broker, and the SDK workers that connect to it: who speaks, answers, reads, stops reading, goes
//! and comes back is the seed's. In place of them there may be a running engine, which comes and goes, with
//! all of them behind it.

mod asked;
mod wanted;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use iii_stream::broker::{Authenticator, Broker, Effect, KnownAs, OfListener, Parts, Settings};
use iii_stream::config::Limits;
use iii_stream::id::{GroupKey, SlotId, Text};
use iii_stream::mesh::{EnginePorts, Outbox};
use iii_stream::protocol::connection::{Connection, Event, Flow, Payload, Sender};
use iii_stream::protocol::custom;
use iii_stream::protocol::input::StreamFunction;
use iii_stream::protocol::rbac::Access;
use iii_stream::shard::Command;
use iii_stream::time::Now;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::EngineThread;
use crate::model::{Model, parsed};
use crate::pace::Pace;
use crate::settings;

use asked::asked_by;
use wanted::Wanted;

/// SDK workers that connect. The first one has the functions that are called by the server.
const PROGRAMS: usize = 3;
/// Messages of one program that are read in a turn.
const MESSAGES_A_TURN: usize = 4;

pub(crate) struct Sdks {
    broker: Broker,
    programs: Vec<Program>,
    /// The one program is a running engine whose worker we are.
    is_engine: bool,
    /// What is hooked onto in this run.
    wanted: Wanted,
    calls: HashMap<String, Call>,
    numbers: u64,
    /// Sockets with something to be read.
    readable: BTreeSet<SlotId>,
    /// Answers that functions make are unlike each other.
    values_made: u32,
    /// What functions have said may never be heard, or too late: it is not held against what happens.
    may_be_lost: bool,
    /// The engine has taken us in.
    has_settled: bool,
    now: Now,
}

/// One socket of the worker port, or the link to an engine.
struct Program {
    id: SlotId,
    /// None: it is not there.
    connection: Option<Connection>,
    /// What it has to say and nobody has read.
    says: VecDeque<String>,
    /// Calls of its functions that it has not answered.
    asked: Vec<Value>,
    reads: bool,
    /// Its socket has taken all that it does for now.
    is_blocked: bool,
    /// What we have registered with it, if it is an engine.
    functions: BTreeSet<String>,
    types: BTreeSet<String>,
}

/// A call without an answer.
struct Call {
    by: SlotId,
    /// What the answer tells as the new value.
    sets: Option<(GroupKey, Text)>,
}

impl Sdks {
    pub(crate) fn new(
        ports: EnginePorts,
        settings: &settings::Settings,
        is_engine: bool,
        (pace, now): (&mut Pace, Now),
    ) -> Sdks {
        let limits = Limits {
            call_queue_bytes: match is_engine {
                true => 1 << 20,
                false => *pace.pick(&[2_000, 20_000, 1 << 20]),
            },
            mailbox_len: 8,
            ..Limits::default()
        };
        let call_timeout = Duration::from_secs(*pace.pick(&[30, 1_000_000, 1_000_000]));
        let auth = settings.auth.as_ref();
        let known_as = is_engine.then(|| KnownAs {
            name: "us".to_owned(),
            namespace: None,
            shown: "ws://engine".to_owned(),
            pid: 1,
            os: "os".to_owned(),
        });
        let broker = Broker::new(Parts {
            ports,
            settings: Settings {
                limits,
                call_timeout,
                auth: Authenticator {
                    function_id: auth.map(|auth| auth.id.to_string()),
                    timeout: call_timeout,
                    admits_failures: auth.is_some_and(|auth| auth.admits_failures),
                },
                join_required: Vec::new(),
                refuses_failed_joins: false,
            },
            of_listeners: vec![OfListener::default()],
            known_as,
            now,
        });
        let mut sdks = Sdks {
            broker,
            programs: Vec::new(),
            is_engine,
            wanted: Wanted::of_seed(pace),
            calls: HashMap::new(),
            numbers: 0,
            readable: BTreeSet::new(),
            values_made: 0,
            has_settled: false,
            may_be_lost: is_engine || call_timeout < Duration::from_secs(1_000_000),
            now,
        };
        let programs = if is_engine { 1 } else { PROGRAMS };
        sdks.programs.extend((0..programs).map(|_| Program::away()));
        (0..programs).for_each(|at| sdks.connect(at));
        sdks
    }

    fn connect(&mut self, at: usize) {
        let id = match self.is_engine {
            true => self.broker.turn.enter_link(Vec::new()),
            false => self.broker.turn.enter(0, None),
        };
        self.programs[at] = Program {
            id,
            connection: Some(Connection::default()),
            ..Program::away()
        };
        if self.is_engine {
            self.broker.link_is_up(id);
            let greeting =
                json!({"type": "workerregistered", "worker_id": Uuid::from_u128(7).to_string()});
            return self.says(at, greeting.to_string());
        }
        self.broker.open(id, false, Access::unlimited());
        if at == 0 {
            for function in self.wanted.functions() {
                self.says(
                    at,
                    json!({"type": "registerfunction", "id": function}).to_string(),
                );
            }
            for trigger in self.wanted.registrations(|_| true) {
                self.says(at, trigger);
            }
        }
    }

    fn says(&mut self, at: usize, message: String) {
        let program = &mut self.programs[at];
        program.says.push_back(message);
        self.readable.insert(program.id);
    }

    /// What the other end does by itself.
    fn stir_program(&mut self, at: usize, model: &mut Model, pace: &mut Pace) {
        if self.programs[at].connection.is_none() {
            // The real one dials again once what the last link has told is forgotten.
            if !self.broker.is_forgetting() && (pace.is_full || pace.below(4) == 0) {
                self.connect(at);
            }
            return;
        }
        let program = &mut self.programs[at];
        if pace.is_full || pace.below(3) == 0 {
            program.reads = pace.is_full || pace.below(4) > 0;
            if std::mem::take(&mut program.is_blocked) {
                self.broker.turn.members.mark(program.id);
            }
        }
        for _ in 0..pace.up_to(self.programs[at].asked.len()) {
            let program = &mut self.programs[at];
            let next = pace.below(program.asked.len());
            let asked = program.asked.swap_remove(next);
            let answer = self.answer_to(at, &asked, model, pace);
            self.says(at, answer.to_string());
        }
    }

    fn answer_to(&mut self, at: usize, asked: &Value, model: &mut Model, pace: &mut Pace) -> Value {
        let function = asked["function_id"].as_str().expect("a function");
        let mut answer = json!({"type": "invocationresult",
            "invocation_id": asked["invocation_id"], "function_id": function});
        let (member, value) = match function {
            "engine::functions::list" => {
                let own = self.wanted.functions();
                let ids = self.programs[at].functions.iter().chain(&own);
                let rows: Vec<Value> = ids.map(|id| json!({"function_id": id})).collect();
                ("result", json!({"functions": rows}))
            }
            "engine::trigger-types::list" => {
                let ids = self.programs[at].types.iter();
                let rows: Vec<Value> = ids.map(|id| json!({"id": id})).collect();
                ("result", json!({"trigger_types": rows}))
            }
            "joins" => {
                let word = pace.below(5);
                let subscription = asked["data"]["subscription_id"].as_str().expect("its name");
                if !self.may_be_lost {
                    model.says_of_join(subscription, word > 0);
                }
                match word {
                    0 => ("result", json!({"unauthorized": true})),
                    1 => ("error", json!({"code": "x", "message": "boom"})),
                    _ => ("result", json!(null)),
                }
            }
            "auth" => match pace.below(6) {
                0 => ("result", json!({"unauthorized": true})),
                1 => ("error", json!({"code": "x", "message": "boom"})),
                2 => ("result", json!(null)),
                _ => ("result", json!({"context": format!("c{}", self.value())})),
            },
            function => match custom::parse_id(function) {
                Some((function, _)) => self.answer_of_store(function, pace),
                None => ("result", json!(null)),
            },
        };
        if !member.is_empty() {
            answer[member] = value;
        }
        answer
    }

    fn value(&mut self) -> u32 {
        self.values_made += 1;
        self.values_made
    }

    fn answer_of_store(
        &mut self,
        function: StreamFunction,
        pace: &mut Pace,
    ) -> (&'static str, Value) {
        let mut value = || json!({"id": "c", "n": self.value()});
        let answer = match (pace.below(10), function) {
            (0, _) => return ("error", json!({"code": "x", "message": "boom"})),
            (1, _) => return ("", json!(null)),
            (2, _) => json!(5),
            (3..6, StreamFunction::Set | StreamFunction::Update) => json!({"new_value": value()}),
            (_, StreamFunction::Set | StreamFunction::Update) => {
                json!({"old_value": value(), "new_value": value()})
            }
            (3..5, StreamFunction::Delete) => json!({}),
            (_, StreamFunction::Delete) => json!({"old_value": value()}),
            (_, StreamFunction::List) => json!([value(), value()]),
            _ => value(),
        };
        ("result", answer)
    }

    /// Reads what the programs say, each in its turn, as far as it is not held.
    fn read(&mut self, pace: &mut Pace) {
        for id in std::mem::take(&mut self.readable) {
            for _ in 0..pace.up_to(MESSAGES_A_TURN) {
                let program = self.programs.iter_mut().find(|program| program.id == id);
                if self.broker.turn.is_held(id) {
                    break;
                }
                let Some(message) = program.and_then(|program| program.says.pop_front()) else {
                    break;
                };
                self.broker.hear_message(id, &message);
            }
            // Who is held comes back once it is free.
            if !self.broker.turn.is_held(id) {
                self.queue(id);
            }
        }
    }

    fn queue(&mut self, id: SlotId) {
        let program = self.programs.iter().find(|program| program.id == id);
        if program.is_some_and(|program| !program.says.is_empty()) {
            self.readable.insert(id);
        }
    }

    fn carry_out(&mut self) {
        for effect in self.broker.turn.effects.take() {
            let ends = matches!(
                effect,
                Effect::Close(..) | Effect::End(_) | Effect::Admit(..)
            );
            assert!(!ends, "who does nothing wrong is sent away");
        }
        for id in self.broker.turn.effects.take_freed() {
            self.queue(id);
        }
    }

    /// What is unsent goes to those that read; the others take a bit of it.
    fn write(&mut self, model: &mut Model, pace: &mut Pace) {
        let before = self.broker.turn.unsent_max();
        for id in self.broker.turn.members.take_dirty() {
            let Some(at) = self.programs.iter().position(|program| program.id == id) else {
                continue;
            };
            let program = &mut self.programs[at];
            if program.is_blocked || program.connection.is_none() {
                continue;
            }
            let mut room = match program.reads {
                true => usize::MAX,
                false => pace.below(400),
            };
            let mut bytes = Vec::new();
            let mut most = usize::MAX;
            let is_written = self.broker.turn.members.write(id, &mut most, |unsent| {
                let taken = unsent.len().min(room);
                room -= taken;
                bytes.extend_from_slice(&unsent[..taken]);
                taken
            });
            program.is_blocked = !is_written;
            self.queue(id); // it may have been held for what it had not taken
            self.receives(at, &mut bytes, model);
        }
        if self.broker.turn.unsent_max() > before {
            let ids: Vec<SlotId> = self.programs.iter().map(|program| program.id).collect();
            ids.into_iter().for_each(|id| self.queue(id));
        }
    }

    fn receives(&mut self, at: usize, bytes: &mut [u8], model: &mut Model) {
        let sender = match self.is_engine {
            true => Sender::Client,
            false => Sender::Server,
        };
        let mut heard: Vec<Value> = Vec::new();
        let connection = self.programs[at].connection.as_mut().expect("it is there");
        let read = connection.receive_from(sender, bytes, usize::MAX, &mut |event| {
            if let Event::Message(Payload::Text(text)) = event {
                heard.push(serde_json::from_str(text).expect("a JSON text"));
            }
            Flow::Continue
        });
        read.expect("frames");
        for message in heard {
            self.hears(at, message, model);
        }
    }

    fn hears(&mut self, at: usize, message: Value, model: &mut Model) {
        match message["type"].as_str() {
            Some("invocationresult") => self.is_answered(&message, model),
            Some("invokefunction") => {
                let data = &message["data"];
                match message["function_id"].as_str().expect("a function") {
                    "leaves" => model.leave_told(data),
                    "events" => model.event_told(data),
                    _ => {}
                }
                if message["invocation_id"].is_string() {
                    self.programs[at].asked.push(message);
                }
            }
            Some("registerfunction") if self.is_engine => {
                let id = message["id"].as_str().expect("its id");
                self.programs[at].functions.insert(id.to_owned());
            }
            Some("registertriggertype") if self.is_engine => {
                let id = message["id"].as_str().expect("its id");
                if self.programs[at].types.insert(id.to_owned()) {
                    for trigger in self.wanted.registrations(|of_type| of_type == id) {
                        self.says(at, trigger);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_answered(&mut self, answer: &Value, model: &Model) {
        let id = answer["invocation_id"].as_str().expect("a text");
        let call = self.calls.remove(id);
        let call = call.unwrap_or_else(|| panic!("nobody waits for it: {answer}"));
        let says_new = answer["result"].get("new_value");
        if let (Some((key, data)), Some(new)) = (call.sets, says_new)
            && !model.is_custom(&key)
        {
            assert_eq!(*new, parsed(&data), "the answer to another call");
        }
    }

    /// That socket ends, with all that is on its way.
    fn end(&mut self, at: usize, model: &mut Model) {
        let id = self.programs[at].id;
        if self.programs[at].connection.is_none() {
            return;
        }
        self.broker.remove(id);
        self.readable.remove(&id);
        self.calls.retain(|_, call| call.by != id);
        self.programs[at] = Program::away();
        if self.is_engine {
            self.broker.turn.say_detached("it is gone");
            self.has_settled = false;
            model.loses_what_is_told();
        }
    }
}

impl EngineThread for Sdks {
    fn ports(&self) -> &EnginePorts {
        &self.broker.turn.ports
    }

    fn callers(&self) -> usize {
        self.programs.len()
    }

    fn name_of(&self, caller: usize) -> u64 {
        let SlotId { slot, generation } = self.programs[caller].id;
        u64::from(slot) << 32 | u64::from(generation)
    }

    fn call(&mut self, caller: usize, command: Command) {
        let by = self.programs[caller].id;
        if self.programs[caller].connection.is_none() {
            return; // an engine that is away passes nothing on
        }
        self.numbers += 1;
        let id = Uuid::from_u128(u128::from(self.numbers)).to_string();
        let (function, data, sets) = asked_by(&command);
        let mut message = format!(
            r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{}","data":{data}"#,
            function.id()
        );
        match command.call() {
            Some(_) => drop(self.calls.insert(id, Call { by, sets })),
            None => message.push_str(r#","action":{"type":"void"}"#),
        }
        message.push('}');
        self.says(caller, message);
    }

    fn stir(&mut self, model: &mut Model, pace: &mut Pace) -> bool {
        (0..self.programs.len()).for_each(|at| self.stir_program(at, model, pace));
        !self.sleeps()
    }

    fn turn(&mut self, model: &mut Model, pace: &mut Pace, now: Now) {
        self.now = now;
        self.broker.begin_turn(now, true);
        self.broker.read_mailbox();
        self.broker.deliver_parked();
        self.carry_out();
        self.broker.tend_standing();
        self.read(pace);
        self.broker.take_leaves();
        self.broker.tell_functions();
        self.broker.tell_all_hooks();
        self.broker.turn.flush();
        self.broker.end_overdue();
        self.broker.go_on();
        self.broker.turn.release_answers();
        self.has_settled |= self.broker.take_settled();
        self.carry_out();
        self.write(model, pace);
        self.broker.tell_all_hooks();
        self.broker.turn.flush();
        let lines = self.broker.turn.take_lines();
        assert!(lines.iter().all(|line| !line.text.is_empty()));
    }

    fn sleeps(&self) -> bool {
        self.readable.is_empty() && !self.broker.is_due()
    }

    fn functions_die(&mut self, model: &mut Model, pace: &mut Pace) {
        let at = match self.is_engine {
            true => 0,
            false => 1 + pace.below(PROGRAMS - 1), // the first one stays
        };
        self.end(at, model);
        if !self.is_engine {
            self.connect(at);
        }
    }

    fn is_quiet(&self) -> bool {
        let is_idle = |program: &Program| {
            program.connection.is_some()
                && program.says.is_empty()
                && program.asked.is_empty()
                && !self.broker.is_busy(program.id)
        };
        let ports = &self.broker.turn.ports;
        self.programs.iter().all(is_idle)
            && self.sleeps()
            && self.calls.is_empty()
            && ports.mailbox.is_empty()
            && !ports.to_open.iter().any(Outbox::has_backlog)
            && !ports.to_commands.iter().any(Outbox::has_backlog)
            && (self.has_settled || !self.is_engine)
    }

    fn next_at(&mut self) -> Option<Instant> {
        self.broker.next_at()
    }

    fn check_settled(&self, model: &Model) {
        assert!(self.calls.is_empty(), "every call has its reply");
        let dropped = self.broker.turn.metrics().trigger_calls_dropped.get();
        if !self.is_engine && dropped == 0 {
            model.check_all_told();
        }
    }

    fn check_end(&mut self) {
        for program in std::mem::take(&mut self.programs) {
            self.broker.remove(program.id);
        }
        for _ in 0..10 {
            self.broker.begin_turn(self.now, false);
            self.broker.read_mailbox();
            self.broker.turn.effects.take();
        }
        assert!(
            self.broker.holds_nothing(),
            "something is left of those who went"
        );
    }
}

impl Program {
    fn away() -> Program {
        Program {
            id: SlotId {
                slot: u32::MAX,
                generation: 0,
            },
            connection: None,
            says: VecDeque::new(),
            asked: Vec::new(),
            reads: true,
            is_blocked: false,
            functions: BTreeSet::new(),
            types: BTreeSet::new(),
        }
    }
}
