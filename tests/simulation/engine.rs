//! The engine thread, and the functions behind it: they answer late, in any order, refuse, fail, die.
//! Leaves are taken as the callee has room.

use std::collections::HashSet;

use iii_stream::id::{CallId, WorkerId};
use iii_stream::mesh::{JoinRequest, ToEngine, ToWorker};
use iii_stream::protocol::call::ErrorBody;
use iii_stream::protocol::input::StreamFunction;
use iii_stream::shard::followed::Followed;
use iii_stream::shard::hooks::{CustomFunctions, Hooks, Streams};
use iii_stream::shard::{CustomAnswer, CustomCall, Told};

use crate::model::Model;
use crate::pace::Pace;
use crate::worker::{Mesh, Outbox};

/// Whose custom functions there are.
pub(crate) const CUSTOM_STREAM: &str = "t";

#[derive(Default)]
pub(crate) struct Engine {
    joins: Vec<JoinRequest>,
    customs: Vec<CustomCall>,
    workers: Vec<Debtor>,
    to_open: Vec<Outbox<ToWorker>>,
    values_made: u32,
}

/// What a worker is known to owe.
#[derive(Default, Clone)]
struct Debtor {
    owes: bool,
    /// It was told how many there is room for, and has sent none since.
    is_granted: bool,
}

impl Engine {
    pub(crate) fn new(workers: usize) -> Engine {
        Engine {
            workers: vec![Debtor::default(); workers],
            to_open: (0..workers).map(|_| Outbox::new()).collect(),
            ..Engine::default()
        }
    }

    /// Takes some of what workers say, and answers some of what they have asked.
    pub(crate) fn turn(
        &mut self,
        mesh: &mut Mesh,
        model: &mut Model,
        pace: &mut Pace,
        open_calls: &mut HashSet<CallId>,
    ) {
        for _ in 0..pace.up_to(mesh.engine.len()) {
            if let Some(message) = mesh.engine.take() {
                self.take(message, model, open_calls);
            }
        }
        for _ in 0..pace.up_to(self.joins.len()) {
            let request = self.joins.swap_remove(pace.below(self.joins.len()));
            let is_admitted = pace.below(4) > 0;
            self.decide(mesh, request, is_admitted);
        }
        for _ in 0..pace.up_to(self.customs.len()) {
            let call = self.customs.swap_remove(pace.below(self.customs.len()));
            let answer = self.answer_to(&call, pace);
            self.tell(mesh, call, answer);
        }
        for worker in 0..self.workers.len() {
            let debtor = &mut self.workers[worker];
            let has_room = pace.is_full || pace.below(2) == 0;
            if debtor.owes && !debtor.is_granted && has_room {
                debtor.is_granted = true;
                let room = ToWorker::TakeLeaves(1 + pace.below(4));
                self.to_open[worker].send(&mut mesh.open[worker], room);
            }
        }
        for (outbox, mailbox) in self.to_open.iter_mut().zip(&mut mesh.open) {
            outbox.flush(mailbox);
        }
    }

    /// The functions' worker ends: what it was asked is answered in its place.
    pub(crate) fn functions_die(&mut self, mesh: &mut Mesh) {
        for request in std::mem::take(&mut self.joins) {
            self.decide(mesh, request, true);
        }
        for call in std::mem::take(&mut self.customs) {
            let gone = ErrorBody::new("invocation_stopped", "Invocation stopped");
            self.tell(mesh, call, CustomAnswer::Failed(gone));
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        let owes = |debtor: &Debtor| debtor.owes || debtor.is_granted;
        self.joins.is_empty()
            && self.customs.is_empty()
            && !self.workers.iter().any(owes)
            && !self.to_open.iter().any(Outbox::has_backlog)
    }

    fn take(&mut self, message: ToEngine, model: &mut Model, open_calls: &mut HashSet<CallId>) {
        match message {
            ToEngine::Reply(reply) => {
                assert!(open_calls.remove(&reply.call), "one reply a call");
            }
            ToEngine::Fired(_) => {} // the model has seen it as it left the shard
            ToEngine::Custom(call) => self.customs.push(call),
            ToEngine::Join(request) => self.joins.push(*request),
            ToEngine::Auth(_) => unreachable!("sockets are open here"),
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

    fn decide(&mut self, mesh: &mut Mesh, request: JoinRequest, is_admitted: bool) {
        let WorkerId(worker) = request.worker;
        let verdict = ToWorker::Joined(Box::new(request), is_admitted);
        let mailbox = &mut mesh.open[usize::from(worker)];
        self.to_open[usize::from(worker)].send(mailbox, verdict);
    }

    fn tell(&mut self, mesh: &mut Mesh, call: CustomCall, answer: CustomAnswer) {
        let told = Told {
            slot: call.slot,
            number: call.number,
            answer,
        };
        let worker = call.shard.index();
        self.to_open[worker].send(&mut mesh.open[worker], ToWorker::Told(told));
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
