//! The engine thread, and what stands behind it: the real one is `sdks`. The double here has functions that
//! answer late, in any order, refuse, fail, die; leaves are taken as the callee has room.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use iii_stream::id::{CallId, WorkerId};
use iii_stream::mesh::{
    AuthRequest, AuthVerdict, EnginePorts, JoinRequest, Outbox, ToEngine, ToOwner, ToWorker,
};
use iii_stream::protocol::call::ErrorBody;
use iii_stream::protocol::input::StreamFunction;
use iii_stream::shard::followed::Followed;
use iii_stream::shard::hooks::{CustomFunctions, Hooks, Streams};
use iii_stream::shard::{Command, CustomAnswer, CustomAnswered, CustomCall};
use iii_stream::time::Now;

use crate::model::Model;
use crate::pace::Pace;

/// Whose custom functions there are.
pub(crate) const CUSTOM_STREAM: &str = "t";

/// The engine thread of a run.
pub(crate) trait EngineThread {
    fn ports(&self) -> &EnginePorts;

    /// How many there are that call.
    fn callers(&self) -> usize;

    /// Tells it from all others that there have been in its place.
    fn name_of(&self, caller: usize) -> u64 {
        caller as u64
    }

    /// One of them wants that done. Its calls keep their order.
    fn call(&mut self, caller: usize, command: Command);

    /// What goes on outside of the thread. True: something has come for it.
    fn stir(&mut self, _model: &mut Model, _pace: &mut Pace) -> bool {
        false
    }

    fn turn(&mut self, model: &mut Model, pace: &mut Pace, now: Now);

    /// Nothing is left to do here until it is woken, but for calls that may wait for room.
    fn sleeps(&self) -> bool;

    /// Who has functions ends: what he was asked is answered in his place.
    fn functions_die(&mut self, model: &mut Model, pace: &mut Pace);

    fn is_quiet(&self) -> bool;

    /// When something is to be done by the clock.
    fn next_at(&mut self) -> Option<Instant> {
        None
    }

    /// Everything has been said and answered.
    fn check_settled(&self, model: &Model);

    /// All go.
    fn check_end(&mut self) {}
}

pub(crate) struct Engine {
    ports: EnginePorts,
    /// What each SDK worker has sent and no owner has taken.
    callers: Vec<VecDeque<Command>>,
    /// Calls without a reply.
    open_calls: HashSet<CallId>,
    joins: Vec<JoinRequest>,
    upgrades: Vec<AuthRequest>,
    customs: Vec<CustomCall>,
    workers: Vec<Debtor>,
    values_made: u32,
    admits_failures: bool,
}

/// What a worker is known to owe.
#[derive(Default, Clone)]
struct Debtor {
    owes: bool,
    /// It was told how many there is room for, and has sent none since.
    is_granted: bool,
}

impl Engine {
    pub(crate) fn new(ports: EnginePorts, admits_failures: bool) -> Engine {
        Engine {
            callers: (0..3).map(|_| VecDeque::new()).collect(),
            open_calls: HashSet::new(),
            joins: Vec::new(),
            upgrades: Vec::new(),
            customs: Vec::new(),
            workers: vec![Debtor::default(); ports.to_open.len()],
            values_made: 0,
            admits_failures,
            ports,
        }
    }

    fn hand_calls_on(&mut self, pace: &mut Pace) {
        let owners = self.ports.shared.owners;
        for caller in &mut self.callers {
            for _ in 0..pace.up_to(caller.len()) {
                let Some(command) = caller.pop_front() else {
                    break;
                };
                let owner = match &command {
                    Command::Group { key, .. } => owners.owner_of(key).index(),
                    _ => pace.below(self.ports.to_commands.len()),
                };
                let outbox = &mut self.ports.to_commands[owner];
                if let Err(ToOwner::Command(command)) = outbox.try_send(ToOwner::Command(command)) {
                    caller.push_front(command);
                    break;
                }
            }
        }
    }

    fn flush(&mut self) {
        self.ports.to_open.iter_mut().for_each(Outbox::flush);
        self.ports.to_commands.iter_mut().for_each(Outbox::flush);
    }

    fn take(&mut self, message: ToEngine, model: &mut Model) {
        match message {
            ToEngine::Reply(reply) => {
                assert!(self.open_calls.remove(&reply.call), "one reply a call");
            }
            ToEngine::Settings(_) => unreachable!("nobody reads settings again"),
            ToEngine::Custom(call) => self.customs.push(call),
            ToEngine::Join(request) => self.joins.push(*request),
            ToEngine::Auth(request) => self.upgrades.push(request),
            ToEngine::Owes(worker) => {
                let debtor = &mut self.workers[worker.index()];
                assert!(!debtor.owes, "it is known to owe");
                debtor.owes = true;
            }
            ToEngine::Leaves {
                worker,
                leaves,
                more,
            } => {
                let debtor = &mut self.workers[worker.index()];
                assert!(debtor.is_granted, "nobody has room for them");
                *debtor = Debtor {
                    owes: more,
                    is_granted: false,
                };
                for presence in &leaves {
                    model.leaves(worker, presence);
                }
            }
        }
    }

    fn decide(&mut self, request: JoinRequest, is_admitted: bool) {
        let WorkerId(worker) = request.worker;
        let verdict = ToWorker::JoinDecided(Box::new(request), is_admitted);
        self.ports.to_open[usize::from(worker)].send(verdict);
    }

    fn tell(&mut self, call: CustomCall, answer: CustomAnswer) {
        let told = CustomAnswered {
            slot: call.slot,
            number: call.number,
            answer,
        };
        let worker = call.shard.index();
        self.ports.to_open[worker].send(ToWorker::CustomAnswered(told));
    }

    /// Where failures admit, it is this thread that sees to it.
    fn judge(&mut self, pace: &mut Pace) -> AuthVerdict {
        self.values_made += 1;
        match pace.below(6) {
            0 => AuthVerdict::Unauthorized("no".into()),
            1 if !self.admits_failures => AuthVerdict::Unavailable("gone".into()),
            1 | 2 => AuthVerdict::Admitted(None),
            _ => AuthVerdict::Admitted(Some(format!("c{}", self.values_made).into())),
        }
    }

    fn answer_to(&mut self, call: &CustomCall, pace: &mut Pace) -> CustomAnswer {
        let mut value = || {
            self.values_made += 1;
            format!(r#"{{"id":"c","n":{}}}"#, self.values_made)
        };
        let result = |text: String| CustomAnswer::Result(Some(text.into()));
        match (pace.below(10), call.function) {
            (0, _) => CustomAnswer::Failed(ErrorBody::new("x", "boom")),
            (1, _) => CustomAnswer::Refused("too many calls".into()),
            (2, _) => CustomAnswer::Result(None),
            (3, _) => result("5".to_owned()),
            (4..7, StreamFunction::Set | StreamFunction::Update) => {
                result(format!(r#"{{"new_value":{}}}"#, value()))
            }
            (_, StreamFunction::Set | StreamFunction::Update) => {
                let (old, new) = (value(), value());
                result(format!(r#"{{"old_value":{old},"new_value":{new}}}"#))
            }
            (4..6, StreamFunction::Delete) => result("{}".to_owned()),
            (_, StreamFunction::Delete) => result(format!(r#"{{"old_value":{}}}"#, value())),
            (_, StreamFunction::List) => result(format!("[{},{}]", value(), value())),
            _ => result(value()),
        }
    }
}

impl EngineThread for Engine {
    fn ports(&self) -> &EnginePorts {
        &self.ports
    }

    fn callers(&self) -> usize {
        self.callers.len()
    }

    fn call(&mut self, caller: usize, command: Command) {
        self.open_calls.extend(command.call());
        self.callers[caller].push_back(command);
    }

    /// Takes some of what workers say, answers some of what they have asked, and hands calls to owners
    /// that have room.
    fn turn(&mut self, model: &mut Model, pace: &mut Pace, _: Now) {
        for _ in 0..pace.up_to(self.ports.mailbox.len()) {
            if let Some(message) = self.ports.mailbox.take() {
                self.take(message, model);
            }
        }
        for _ in 0..pace.up_to(self.ports.fired.len()) {
            self.ports.fired.take(); // the model has seen it as it left the shard
        }
        let shared = &self.ports.shared;
        let (mailbox, fired) = (&self.ports.mailbox, &self.ports.fired);
        mailbox.tell_waiters(|thread| shared.wake(thread));
        fired.tell_waiters(|thread| shared.wake(thread));
        for _ in 0..pace.up_to(self.joins.len()) {
            let request = self.joins.swap_remove(pace.below(self.joins.len()));
            let is_admitted = pace.below(4) > 0;
            self.decide(request, is_admitted);
        }
        for _ in 0..pace.up_to(self.upgrades.len()) {
            let request = self.upgrades.swap_remove(pace.below(self.upgrades.len()));
            let verdict = self.judge(pace);
            let message = ToWorker::Authenticated(request.connection, verdict);
            self.ports.to_open[request.worker.index()].send(message);
        }
        for _ in 0..pace.up_to(self.customs.len()) {
            let call = self.customs.swap_remove(pace.below(self.customs.len()));
            let answer = self.answer_to(&call, pace);
            self.tell(call, answer);
        }
        for worker in 0..self.workers.len() {
            let debtor = &mut self.workers[worker];
            let has_room = pace.is_full || pace.below(2) == 0;
            if debtor.owes && !debtor.is_granted && has_room {
                debtor.is_granted = true;
                let room = ToWorker::TakeLeaves(1 + pace.below(4));
                self.ports.to_open[worker].send(room);
            }
        }
        self.hand_calls_on(pace);
        self.flush();
    }

    fn sleeps(&self) -> bool {
        let is_to_be_granted = |debtor: &Debtor| debtor.owes && !debtor.is_granted;
        self.ports.mailbox.is_empty()
            && self.ports.fired.is_empty()
            && self.joins.is_empty()
            && self.upgrades.is_empty()
            && self.customs.is_empty()
            && !self.workers.iter().any(is_to_be_granted)
    }

    fn functions_die(&mut self, _: &mut Model, _: &mut Pace) {
        for request in std::mem::take(&mut self.joins) {
            self.decide(request, true);
        }
        for call in std::mem::take(&mut self.customs) {
            let gone = ErrorBody::new("invocation_stopped", "Invocation stopped");
            self.tell(call, CustomAnswer::Failed(gone));
        }
        self.flush();
    }

    fn is_quiet(&self) -> bool {
        let owes = |debtor: &Debtor| debtor.owes || debtor.is_granted;
        self.joins.is_empty()
            && self.upgrades.is_empty()
            && self.customs.is_empty()
            && !self.workers.iter().any(owes)
            && self.callers.iter().all(VecDeque::is_empty)
            && self.ports.mailbox.is_empty()
            && self.ports.fired.is_empty()
            && !self.ports.to_open.iter().any(Outbox::has_backlog)
    }

    fn check_settled(&self, _: &Model) {
        assert!(self.open_calls.is_empty(), "every call has its reply");
    }
}

/// What SDK workers have hooked onto, in this run.
pub(crate) fn hooks(pace: &mut Pace) -> Hooks {
    let mut hooks = Hooks {
        version: 7,
        ..Hooks::default()
    };
    if pace.below(3) == 0 {
        return hooks;
    }
    hooks.events = followed(pace);
    for streams in [&mut hooks.joins, &mut hooks.leaves] {
        *streams = streams_of(pace);
    }
    let mut custom = CustomFunctions::default();
    for function in [
        StreamFunction::Set,
        StreamFunction::Update,
        StreamFunction::Delete,
        StreamFunction::Get,
        StreamFunction::List,
    ] {
        if pace.below(2) == 0 {
            custom.add(function);
        }
    }
    if pace.below(3) > 0 {
        *hooks.custom.get_or_default(CUSTOM_STREAM) = custom;
    }
    hooks
}

/// Triggers of streams, groups and items.
fn followed(pace: &mut Pace) -> Followed {
    let mut followed = Followed::default();
    for _ in 0..pace.below(4) {
        let stream = ["s", "t"][pace.below(2)];
        let group = [None, Some("a@0"), Some("b@1")][pace.below(3)];
        let item = [None, Some("u1"), Some("u2")][pace.below(3)];
        followed.add(stream, group, item);
    }
    followed
}

fn streams_of(pace: &mut Pace) -> Streams {
    let mut streams = Streams::default();
    match pace.below(4) {
        0 => {}
        1 => streams.all = true,
        named => streams.named.insert(["s", "t"][named - 2].into()),
    }
    streams
}
