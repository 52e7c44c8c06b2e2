//! What every room of the broker writes to, whatever it does: who is connected and what each is to be sent,
//! the ways to the workers, what is to become of sockets, the log, calls that end where they are made. And
//! what it reads: the clocks of this turn, the limits, how much this turn may still do.
//!
//! May not know the rooms: what somebody has registered, called, follows or waits for.

use core::net::IpAddr; // an address is data
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::config::Limits;
use crate::id::{SlotId, Text, WorkerId};
use crate::mesh::{EnginePorts, ToOwner, ToWorker};
use crate::metrics::EngineMetrics;
use crate::protocol::answer::{self, Outgoing};
use crate::protocol::call::{ErrorBody, TriggerRegistration};
use crate::protocol::function::OVERLOADED;
use crate::protocol::input::limit_exceeded;
use crate::protocol::json::value::{self, ValueError};
use crate::shard::Command;
use crate::time::Now;

use crate::broker::attached_to::{AttachedTo, KnownAs};
use crate::broker::awaits::Awaits;
use crate::broker::effects::{Effect, Effects};
use crate::broker::ended::{Ended, How};
use crate::broker::hooks::HooksState;
use crate::broker::lines::{Level, Lines};
use crate::broker::members::Members;
use crate::broker::steps::Steps;

/// What calls of one cause may hold at least, however little `limits.call_queue_bytes` is.
const CALLS_BYTES_MIN: usize = 1024 * 1024;

/// So many times `limits.call_queue_bytes` may wait unsent for all sockets together.
const UNSENT_OF_ALL: usize = 8;

/// What every room may use in a turn.
pub struct Turn {
    /// Both clocks, as they were when the turn began.
    pub now: Now,
    /// The limits that hold here.
    pub limits: Limits,
    /// How long a call may wait for an SDK worker, or for room at its owner.
    pub(in crate::broker) call_timeout: Duration,
    /// The process ends.
    pub is_draining: bool,
    /// By what the engine knows us whose worker we are, and the link to it. None: we are the engine.
    pub(in crate::broker) attached_to: Option<AttachedTo>,
    /// Who is at the other end of each socket.
    pub members: Members,
    /// Its mailbox, and its ways to the workers.
    pub ports: EnginePorts,
    /// What workers have to know of triggers and functions.
    pub(in crate::broker) hooks: HooksState,
    /// Calls that have ended where they were made.
    pub(in crate::broker) ended: VecDeque<Ended>,
    /// What is to become of sockets.
    pub effects: Effects,
    /// What the log is to hear.
    pub(in crate::broker) lines: Lines,
    /// What this turn may still do.
    pub(in crate::broker) steps: Steps,
}

impl Turn {
    pub(in crate::broker) fn new(
        ports: EnginePorts,
        limits: Limits,
        call_timeout: Duration,
        known_as: Option<KnownAs>,
        now: Now,
    ) -> Turn {
        let workers = ports.to_commands.len();
        let attached_to = |known_as| AttachedTo {
            known_as,
            link: None,
        };
        Turn {
            now,
            limits,
            call_timeout,
            is_draining: false,
            attached_to: known_as.map(attached_to),
            members: Members::default(),
            ports,
            hooks: HooksState::new(workers),
            ended: VecDeque::new(),
            effects: Effects::default(),
            lines: Lines::default(),
            steps: Steps::default(),
        }
    }

    /// What is counted here.
    pub fn metrics(&self) -> &EngineMetrics {
        &self.ports.shared.engine
    }

    /// Somebody has connected to that listener. The id is that of its socket.
    pub fn enter(&mut self, listener: usize, ip: Option<IpAddr>) -> SlotId {
        self.members.enter(listener, ip, self.now.monotonic)
    }

    /// We connect to the engine whose worker we are: `request` asks for an upgrade.
    pub fn enter_link(&mut self, request: Vec<u8>) -> SlotId {
        self.members.enter_link(request, self.now.monotonic)
    }

    /// The link to the engine, while messages can be sent.
    pub(in crate::broker) fn link(&self) -> Option<SlotId> {
        self.attached_to.as_ref()?.link
    }

    /// Where the engine is whose worker we are, without secrets.
    pub fn engine_at(&self) -> &str {
        let attached_to = self.attached_to.as_ref();
        attached_to.map_or("", |it| &it.known_as.shown)
    }

    /// The link is lost, and is to be there again.
    pub fn say_detached(&mut self, why: &str) {
        let line = format!(
            "lost the engine at {}: {why}. Subscribers stay and hear what they are owed when it is back; \
             until then nothing changes and no function is called. Trying again: is the engine running?",
            self.engine_at()
        );
        self.lines.say(Level::Warn, line);
    }

    /// The namespace in which a running engine lists us: functions that we call for ourselves, and no
    /// trigger names, are looked up there.
    pub(in crate::broker) fn own_namespace(&self) -> Option<Text> {
        let attached_to = self.attached_to.as_ref()?;
        attached_to.known_as.namespace.as_deref().map(Text::from)
    }

    /// Lets the answers to the engine go that have been held long enough.
    pub fn release_answers(&mut self) {
        if let Some(id) = self.link() {
            self.members.release(id, self.now.monotonic);
        }
    }

    /// Sends a worker thread what it takes at all times.
    pub(in crate::broker) fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        if let Some(outbox) = self.ports.to_open.get_mut(worker.index()) {
            outbox.send(message);
        }
    }

    /// Sends a command to who owns its group, and before it what has changed of the hooks. Gives it back when
    /// the owner is full: this thread is woken when there is room.
    pub(in crate::broker) fn try_send(
        &mut self,
        owner: WorkerId,
        command: Command,
    ) -> Result<(), Command> {
        if !self.tell_hooks(owner.index()) {
            return Err(command);
        }
        match self.ports.to_commands[owner.index()].try_send(ToOwner::Command(command)) {
            Err(ToOwner::Command(command)) => Err(command),
            Ok(()) | Err(ToOwner::Socket(..) | ToOwner::Placed(_) | ToOwner::Hooks(_)) => Ok(()),
        }
    }

    /// Sees to it that the worker has the newest hooks, which have been made; false while it finds no room
    /// there.
    pub(in crate::broker) fn tell_hooks(&mut self, worker: usize) -> bool {
        debug_assert!(self.hooks.is_made(), "a command would go before a change");
        let Some(owed) = self.hooks.owed_to(worker) else {
            return true;
        };
        let message = ToOwner::Hooks(owed);
        let is_told = self.ports.to_commands[worker].try_send(message).is_ok();
        if is_told {
            self.hooks.was_told(worker);
        }
        is_told
    }

    /// One wake-up a worker.
    pub fn flush(&mut self) {
        for outbox in &mut self.ports.to_commands {
            outbox.flush();
        }
        for outbox in &mut self.ports.to_open {
            outbox.flush();
        }
    }

    /// A call has ended where it was made: whoever awaits it hears that soon.
    pub(in crate::broker) fn end_call(&mut self, awaits: Awaits, function_id: &str, how: How) {
        self.ended.push_back(Ended::new(awaits, function_id, how));
    }

    /// Sends a call, as its callee knows the function.
    pub(in crate::broker) fn write_call(
        &mut self,
        callee: SlotId,
        sent_id: &Uuid,
        call: &Outgoing<'_>,
    ) {
        let Some(peer) = self.members.get(callee) else {
            return;
        };
        let renamed = peer.names.functions.inner(call.function_id);
        let renamed = renamed.map(Box::<str>::from);
        let known_as = peer.access.inner_id(call.function_id);
        let call = Outgoing {
            function_id: renamed.as_deref().unwrap_or(known_as),
            // An SDK worker knows where its functions stand: that is for an engine.
            namespace: call.namespace.filter(|_| peer.is_link()),
            ..*call
        };
        self.members.send(callee, |out| {
            answer::invoke_function(out, sent_id, &call);
        });
    }

    /// Tells a worker what has come of a trigger that it wanted.
    pub(in crate::broker) fn tell_registration(
        &mut self,
        id: SlotId,
        asked: &TriggerRegistration<'_>,
        error: Option<&ErrorBody>,
    ) {
        let (of_type, function) = (&asked.trigger_type, &asked.function_id);
        let trigger = self.members.inner_trigger(id, &asked.id);
        self.members.send(id, |out| {
            answer::trigger_registration_result(out, &trigger, of_type, function, error);
        });
    }

    /// What may wait unsent for one socket: less when too much waits for all of them together.
    pub fn unsent_max(&self) -> usize {
        let one = self.limits.call_queue_bytes;
        let all = one.saturating_mul(UNSENT_OF_ALL);
        match self.members.unsent_bytes() > all {
            true => all / self.limits.worker_connections.max(UNSENT_OF_ALL),
            false => one,
        }
    }

    /// Why that member is to be sent no more for now, if it does not read what it is sent.
    pub(in crate::broker) fn no_room_at(&self, id: SlotId) -> Option<&'static str> {
        let is_behind = self.members.unsent_bytes_of(id) > self.unsent_max();
        is_behind.then_some(OVERLOADED)
    }

    /// Whether nothing of that member is to be read for now.
    pub fn is_held(&self, id: SlotId) -> bool {
        let most = self.unsent_max();
        let member = self.members.get(id);
        member.is_none_or(|member| member.is_held(most))
    }

    /// What calls of one cause may hold.
    pub(in crate::broker) fn calls_bytes_max(&self) -> usize {
        self.limits.call_queue_bytes.max(CALLS_BYTES_MIN)
    }

    /// Whether SDK workers can read what another one sends them. What stands inside `data` may be as
    /// deep as a value; `data` itself is one level more.
    pub(in crate::broker) fn check_passed_on(&self, json: &str) -> Result<(), String> {
        let depth_max = self.limits.json_depth;
        value::check(json, depth_max + 1).map_err(|why| match why {
            ValueError::TooDeep { depth } => {
                limit_exceeded("limits.json_depth", depth - 1, depth_max)
            }
            other => other.to_string(),
        })
    }

    /// The same of all of these texts.
    pub(in crate::broker) fn check_all_passed_on<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a RawValue>,
    ) -> Result<(), String> {
        let mut texts = texts.into_iter();
        texts.try_for_each(|text| self.check_passed_on(text.get()))
    }

    /// A call that somebody has waited for since then has its answer.
    pub(in crate::broker) fn note_took(&self, began: Instant) {
        let took = self.now.monotonic.saturating_duration_since(began);
        self.metrics().call.note(took);
    }

    /// That member is left unread until what it has brought about is done.
    pub(in crate::broker) fn hold_for_work(&mut self, by: Option<SlotId>) {
        if let Some(peer) = by.and_then(|id| self.members.get_mut(id)) {
            peer.work_under_way += 1;
        }
    }

    /// What it has brought about is done.
    pub(in crate::broker) fn release_after_work(&mut self, by: Option<SlotId>) {
        if let Some(id) = by
            && let Some(peer) = self.members.get_mut(id)
        {
            peer.work_under_way = peer.work_under_way.saturating_sub(1);
            self.free(id);
        }
    }

    /// The member was held, and may be read again.
    pub(in crate::broker) fn free(&mut self, id: SlotId) {
        self.effects.free(id);
    }

    /// The connection of that member is to end with these last bytes. It is sent nothing else.
    pub(in crate::broker) fn close(&mut self, id: SlotId, last: Vec<u8>) {
        if let Some(member) = self.members.get_mut(id) {
            member.is_open = false;
        }
        self.effects.push(Effect::Close(id, last));
    }
}
