//! Attached mode: what we know of a running engine whose worker we are, and what waits for it.
//!
//! The engine has the functions, and calls ours; we call those of its other workers by it. While the
//! link is down subscribers stay, and what needs a function waits for it or does without. What is said
//! over it stands in `conversation`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::id::{SlotId, Text};
use crate::mesh::{JoinRequest, ToWorker};
use crate::protocol::answer::Outgoing;
use crate::protocol::attached::functions_changed_id;
use crate::protocol::call::ErrorBody;
use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;

use super::gates::Gates;
use super::standing::Standing;
use super::{KnownAs, Link};
use crate::broker::Broker;
use crate::broker::calls::ended::How;
use crate::broker::calls::{Answered, Awaits, OVERDUE_A_TURN};
use crate::broker::effects::Effect;
use crate::broker::lines::Level;
use crate::broker::members::Member;
use crate::broker::target::Target;
use crate::broker::triggers::trigger::Trigger;
use crate::protocol::function::OVERLOADED;

/// How often calls that are refused for want of room are told in the log.
const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(60);

/// How long a join waits while another server has the functions of streams: long enough for ours to take
/// over when that one has just ended.
const STANDS_BY_FOR: Duration = Duration::from_secs(5);

/// Our side of an engine that others run.
pub(in crate::broker) struct Attached {
    pub(in crate::broker) link: Link,
    /// The function that the engine calls when functions or workers have changed, and its triggers.
    pub(in crate::broker) functions_changed: String,
    pub(in crate::broker) triggers: [Uuid; 2],
    pub(in crate::broker) standing: Standing,
    /// The engine is asked for our configuration.
    pub(in crate::broker) asks_configuration: bool,
    /// The engine has handed over the triggers that it knows, and told which functions there are.
    is_settled: bool,
    /// It has once.
    was_settled: bool,
    /// It has, but what it handed over before is still being forgotten.
    settles_later: bool,
    /// What was followed when the link was lost, until it is known anew.
    lost: Lost,
    /// Leaves wait for a trigger to be known again: at most until then, once the link is there.
    leaves: LeavesWait,
    /// Joins that wait for the link, and until when.
    joins: VecDeque<(Instant, Box<JoinRequest>)>,
    /// Calls that wait for the link.
    waiting: Waiting,
    /// Calls refused for want of room since that was last told, and when it was.
    refused: u64,
    refused_said_at: Option<Instant>,
}

/// What triggers followed before the link was lost.
#[derive(Default)]
struct Lost {
    events: Followed,
    joins: Streams,
    leaves: Streams,
    /// The functions that joins were put to.
    gates: Gates,
    /// When those that have not come back are forgotten, once the link is settled.
    gates_until: Option<Instant>,
}

/// Whether leaves wait for a `stream:leave` trigger.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeavesWait {
    /// None was known, or one is.
    No,
    /// For the link as well.
    ForLink,
    /// The link is there.
    Until(Instant),
}

/// Calls that wait for the link, in order.
#[derive(Default)]
struct Waiting {
    calls: VecDeque<WaitingCall>,
    /// Of what they hold.
    bytes: usize,
}

struct WaitingCall {
    until: Instant,
    target: Target,
    data: Box<str>,
    awaits: Awaits,
}

/// What ends calls when the link does.
pub(in crate::broker) fn not_connected() -> ErrorBody {
    ErrorBody::new("not_connected", "iii is not connected")
}

impl Attached {
    pub(in crate::broker) fn new(known_as: KnownAs) -> Attached {
        let id = Uuid::new_v4();
        Attached {
            link: Link::new(known_as),
            functions_changed: functions_changed_id(&id),
            triggers: [Uuid::new_v4(), Uuid::new_v4()],
            standing: Standing::new(),
            asks_configuration: false,
            is_settled: false,
            was_settled: false,
            settles_later: false,
            lost: Lost::default(),
            leaves: LeavesWait::No,
            joins: VecDeque::new(),
            waiting: Waiting::default(),
            refused: 0,
            refused_said_at: None,
        }
    }

    /// When the first of what waits has had its time.
    fn next_at(&self) -> Option<Instant> {
        let leaves = match self.leaves {
            LeavesWait::Until(until) => Some(until),
            LeavesWait::No | LeavesWait::ForLink => None,
        };
        let join = self.joins.front().map(|(until, _)| *until);
        let call = self.waiting.calls.front().map(|call| call.until);
        let gates = self.lost.gates_until;
        let times = [leaves, join, call, gates, self.standing.next_at()];
        times.into_iter().flatten().min()
    }

    /// The link is there. Leaves wait until then for a trigger to be known again.
    pub(in crate::broker) fn link_is_up(&mut self, until: Instant) {
        if self.leaves == LeavesWait::ForLink {
            self.leaves = LeavesWait::Until(until);
        }
    }

    /// A call is refused for want of room. How many have been, when that is to be told in the log.
    pub(in crate::broker) fn count_refusal(&mut self, now: Instant) -> Option<u64> {
        self.refused += 1;
        let was_said = self
            .refused_said_at
            .is_some_and(|at| now.saturating_duration_since(at) < REFUSALS_SAID_EVERY);
        if was_said {
            return None;
        }
        self.refused_said_at = Some(now);
        Some(std::mem::take(&mut self.refused))
    }

    /// Whether a join has to wait.
    fn holds(&self, request: &JoinRequest) -> bool {
        let stream = request.presence.key.stream();
        !self.is_settled || self.lost.gates.are_missed_by(stream)
    }

    fn lets_leaves_go(&self) -> bool {
        self.is_settled && self.leaves == LeavesWait::No
    }
}

impl Waiting {
    fn push(&mut self, call: WaitingCall) {
        self.bytes += call.bytes();
        self.calls.push_back(call);
    }

    fn pop_due(&mut self, now: Instant) -> Option<WaitingCall> {
        if self.calls.front()?.until > now {
            return None;
        }
        self.pop()
    }

    fn pop(&mut self) -> Option<WaitingCall> {
        let call = self.calls.pop_front()?;
        self.bytes -= call.bytes();
        Some(call)
    }
}

impl WaitingCall {
    fn bytes(&self) -> usize {
        let target = self.target.function_id.len() + self.target.metadata_bytes();
        size_of::<WaitingCall>() + target + self.data.len()
    }
}

impl Broker {
    /// The link is lost, or somebody else has our functions: nothing is known until it is told anew.
    pub(in crate::broker) fn unsettle(&mut self, is_link_lost: bool) {
        let (events, joins, leaves) = self.triggers.followed();
        let until = self.now.monotonic + self.call_timeout;
        let Some(attached) = &mut self.attached else {
            return;
        };
        let was_settled = std::mem::replace(&mut attached.is_settled, false);
        if !was_settled && events.is_empty() && joins.is_empty() && leaves.is_empty() {
            return; // nothing more is lost
        }
        let lost = &mut attached.lost;
        lost.events.add_all(&events);
        lost.joins.add(&joins);
        lost.leaves.add(&leaves);
        lost.gates_until = None;
        attached.settles_later = false;
        if !lost.leaves.is_empty() {
            attached.leaves = match is_link_lost {
                true => LeavesWait::ForLink,
                false => LeavesWait::Until(until),
            };
        }
        self.hooks.change();
    }

    /// A trigger of the engine's is known no longer: joins wait until its function is back, if they were
    /// put to it.
    pub(in crate::broker) fn lose_gate(&mut self, trigger: &Trigger) {
        if let Some(attached) = &mut self.attached
            && let Some((stream, function_id)) = trigger.join_function()
        {
            attached.lost.gates.lose(stream, function_id);
        }
    }

    /// Whether another server has the functions of streams.
    pub(in crate::broker) fn stands_by(&self) -> bool {
        let attached = self.attached.as_ref();
        attached.is_some_and(|attached| attached.standing.is_by())
    }

    /// Whether that is the link to an engine.
    pub(in crate::broker) fn is_link(&self, id: SlotId) -> bool {
        self.members.get(id).is_some_and(Member::is_link)
    }

    /// The link is there: messages go over it from now on.
    pub fn link_is_up(&mut self, id: SlotId) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        attached.link.up = Some(id);
        if let Some(member) = self.members.get_mut(id) {
            member.is_open = true;
        }
        self.attach();
    }

    /// The link has ended, or an attempt at it.
    pub(in crate::broker) fn link_has_ended(&mut self) {
        self.unsettle(true);
        if let Some(attached) = &mut self.attached {
            attached.link.ended();
        }
    }

    /// Ends the link, for that reason.
    pub(in crate::broker) fn end_link(&mut self, id: SlotId, why: impl Into<String>) {
        self.end_link_because(why);
        if let Some(member) = self.members.get_mut(id) {
            member.is_open = false;
        }
        self.effects.push(Effect::End(id));
    }

    /// Remembers why the link is about to end.
    pub fn end_link_because(&mut self, why: impl Into<String>) {
        if let Some(attached) = &mut self.attached {
            attached.link.because(why);
        }
    }

    /// Why the link has ended, where that is known; and whether the engine has refused us.
    pub fn take_end_of_link(&mut self) -> (Option<String>, bool) {
        let Some(attached) = &mut self.attached else {
            return (None, false);
        };
        let link = &mut attached.link;
        (link.why.take(), std::mem::take(&mut link.is_refused))
    }

    /// Whether the engine has taken us in since that was asked last.
    pub fn take_settled(&mut self) -> bool {
        let attached = self.attached.as_mut();
        attached.is_some_and(|it| std::mem::take(&mut it.link.has_settled))
    }

    /// The link is lost, and is to be there again.
    pub fn detach(&mut self, why: &str) {
        let shown = self.shown_engine();
        let line = format!(
            "lost the engine at {shown}: {why}. Subscribers stay and hear what they are owed when it is back; \
             until then nothing changes and no function is called. Trying again: is the engine running?"
        );
        self.notes.say(Level::Warn, line);
    }

    /// That engine's address, without secrets.
    pub fn shown_engine(&self) -> String {
        let attached = self.attached.as_ref();
        attached.map_or_else(String::new, |it| it.link.shown().to_owned())
    }

    /// What triggers follow, and what they followed before the link was lost.
    pub(in crate::broker) fn followed(&self) -> (Followed, Streams, Streams) {
        let (events, mut joins, leaves) = self.triggers.followed();
        joins.required = self.join_required.clone();
        match &self.attached {
            None => (events, joins, leaves),
            Some(attached) => {
                let lost = &attached.lost;
                // Of a server that knows nothing yet, or whose calls go to another, every join waits.
                joins.all |= !attached.was_settled || attached.standing.is_by();
                (
                    events.with_lost(&lost.events),
                    joins.with_lost(&lost.joins),
                    leaves.with_lost(&lost.leaves),
                )
            }
        }
    }

    /// An event whose triggers are not known again yet is lost to them.
    pub(in crate::broker) fn count_lost_event(
        &self,
        stream: &str,
        group: &str,
        item: Option<&str>,
    ) {
        let is_lost = self.attached.as_ref().is_some_and(|attached| {
            !attached.is_settled && attached.lost.events.has(stream, group, item)
        });
        if is_lost {
            self.metrics().trigger_calls_dropped.increment();
        }
    }

    /// The engine has handed over its triggers and told which functions there are: what waited for that
    /// goes on.
    pub(in crate::broker) fn settle(&mut self) {
        let is_forgetting = self.is_forgetting();
        let Some(attached) = &mut self.attached else {
            return;
        };
        // What is missed has to be known first.
        attached.settles_later = is_forgetting;
        if is_forgetting || std::mem::replace(&mut attached.is_settled, true) {
            return;
        }
        attached.was_settled = true;
        attached.link.settled();
        let line = format!("attached to the engine at {}", attached.link.shown());
        self.notes.say(Level::Info, line);
        attached.lost.events = Followed::default();
        match attached.lost.gates.is_empty() {
            true => attached.lost.joins = Streams::default(),
            // Their workers may have to find the engine again, as we had.
            false => attached.lost.gates_until = Some(self.now.monotonic + self.call_timeout),
        }
        self.hooks.change();
        self.tell_all_hooks(); // before the joins that are decided now
        self.decide_waiting_joins();
        self.look_for_leave_triggers();
    }

    /// What the engine handed over before is forgotten.
    pub(in crate::broker) fn settle_if_due(&mut self) {
        if self.attached.as_ref().is_some_and(|it| it.settles_later) {
            self.settle();
        }
    }

    /// Lets the leaves go that waited, once a trigger for them is known.
    pub(in crate::broker) fn look_for_leave_triggers(&mut self) {
        let is_known = self.triggers.has_leaves();
        let Some(attached) = &mut self.attached else {
            return;
        };
        if is_known && matches!(attached.leaves, LeavesWait::Until(_)) {
            attached.leaves = LeavesWait::No;
        }
        if attached.lets_leaves_go() {
            self.release_leaves();
        }
    }

    fn release_leaves(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if !attached.lost.leaves.is_empty() {
            attached.lost.leaves = Streams::default();
            self.hooks.change();
        }
    }

    /// Whether owed leaves may be taken now.
    pub(in crate::broker) fn takes_leaves(&self) -> bool {
        self.attached
            .as_ref()
            .is_none_or(|attached| attached.lets_leaves_go())
    }

    /// Keeps a join until its functions can be asked; gives it back when they can be now.
    pub(in crate::broker) fn hold_join(
        &mut self,
        request: Box<JoinRequest>,
    ) -> Option<Box<JoinRequest>> {
        let now = self.now.monotonic;
        let max = self.limits.calls_in_flight;
        let Some(attached) = &mut self.attached else {
            return Some(request);
        };
        if !attached.holds(&request) {
            return Some(request);
        }
        if attached.joins.len() >= max {
            self.metrics().calls_refused.increment();
            self.tell(request.worker, ToWorker::JoinDecided(request, false));
            return None;
        }
        let wait = match attached.standing.is_by() {
            true => self.call_timeout.min(STANDS_BY_FOR),
            false => self.call_timeout,
        };
        attached.joins.push_back((now + wait, request));
        None
    }

    /// Joins that wait are looked at again, in turns.
    fn decide_waiting_joins(&mut self) {
        let waiting = self.attached.as_ref().map_or(0, |it| it.joins.len());
        self.work.waiting_joins = waiting;
    }

    /// Asks about as many of them as this turn may, as far as they need to wait no longer.
    pub(in crate::broker) fn go_on_deciding(&mut self) {
        while self.work.waiting_joins > 0 && self.work.steps.take_one() {
            self.work.waiting_joins -= 1;
            let Some(attached) = &mut self.attached else {
                return;
            };
            match attached.joins.pop_front() {
                Some((until, request)) if attached.holds(&request) => {
                    attached.joins.push_back((until, request));
                }
                Some((_, request)) => self.ask_join_functions(request),
                None => self.work.waiting_joins = 0,
            }
        }
    }

    /// Joins are refused soon: another server has the functions.
    pub(in crate::broker) fn shorten_waits_of_joins(&mut self) {
        let latest = self.now.monotonic + STANDS_BY_FOR;
        if let Some(attached) = &mut self.attached {
            for (until, _) in &mut attached.joins {
                *until = latest.min(*until);
            }
        }
    }

    /// A trigger was handed over: joins may have waited for its function, or leaves for it.
    pub(in crate::broker) fn look_for_what_waits(&mut self, trigger: SlotId) {
        let gate = self.triggers.join_function(trigger);
        if let (Some(attached), Some((stream, function_id))) = (&mut self.attached, gate)
            && attached.lost.gates.find(stream, function_id)
            && attached.is_settled
        {
            if attached.lost.gates.is_empty() {
                self.forget_gates();
            }
            self.decide_waiting_joins();
        }
        self.look_for_leave_triggers();
    }

    /// Join functions that have not come back by now are gone.
    fn forget_gates(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.lost.gates = Gates::default();
            attached.lost.gates_until = None;
            attached.lost.joins = Streams::default();
            self.hooks.change();
        }
    }

    /// Whether calls wait for the link, though it is there: they have their turns, in order.
    pub(in crate::broker) fn has_waiting_calls(&self) -> bool {
        let attached = self.attached.as_ref();
        attached.is_some_and(|it| it.link.up().is_some() && !it.waiting.calls.is_empty())
    }

    /// The link is there: asks as much of what waited for it as this turn may.
    pub(in crate::broker) fn ask_what_waited(&mut self) {
        while let Some(attached) = &mut self.attached
            && let Some(link) = attached.link.up()
            && self.work.steps.take_one()
            && let Some(call) = attached.waiting.pop()
        {
            self.work.steps.take_bytes(call.data.len());
            self.ask_at(link, &call.target.call(&call.data), call.awaits);
        }
    }

    /// A call finds the link down: some wait for it, the others end.
    pub(in crate::broker) fn wait_for_link(&mut self, call: &Outgoing<'_>, awaits: Awaits) {
        let waits = awaits.may_wait_for_link();
        let until = self.now.monotonic + self.call_timeout;
        let (bytes_max, len_max) = (self.limits.call_queue_bytes, self.limits.calls_in_flight);
        let Some(attached) = self.attached.as_mut().filter(|_| waits) else {
            if matches!(awaits, Awaits::Condition(_)) {
                self.metrics().trigger_calls_dropped.increment();
            }
            return self.end_call(awaits, call.function_id, How::Gone(not_connected()));
        };
        let waiting = &mut attached.waiting;
        if waiting.bytes > bytes_max || waiting.calls.len() >= len_max {
            self.metrics().calls_refused.increment();
            return self.end_call(awaits, call.function_id, How::Refused(OVERLOADED.into()));
        }
        waiting.push(WaitingCall {
            until,
            target: Target {
                function_id: call.function_id.into(),
                namespace: call.namespace.map(Text::from),
                metadata: call.metadata.map(Text::from),
            },
            data: call.data.into(),
            awaits,
        });
    }

    /// Ends what has waited for the link long enough.
    pub(in crate::broker) fn end_overdue_waits(&mut self) {
        let now = self.now.monotonic;
        let mut left = OVERDUE_A_TURN;
        while left > 0
            && let Some(call) = self
                .attached
                .as_mut()
                .and_then(|it| it.waiting.pop_due(now))
        {
            left -= 1;
            self.hear(
                call.awaits,
                &call.target.function_id,
                Answered::Gone(&not_connected()),
            );
        }
        while left > 0
            && let Some(attached) = &mut self.attached
            && let Some((_, request)) = attached.joins.pop_front_if(|(until, _)| *until <= now)
        {
            left -= 1;
            match attached.is_settled {
                // A function of it is missing still: the others are asked.
                true => self.ask_join_functions(request),
                false if attached.standing.is_by() => {
                    self.tell(request.worker, ToWorker::JoinDecided(request, false));
                }
                false => self.join_unasked(request),
            }
        }
        if let Some(attached) = &mut self.attached
            && attached.lost.gates_until.is_some_and(|until| until <= now)
        {
            self.forget_gates();
            self.decide_waiting_joins();
        }
        if let Some(attached) = &mut self.attached
            && matches!(attached.leaves, LeavesWait::Until(until) if until <= now)
        {
            attached.leaves = LeavesWait::No;
            self.look_for_leave_triggers();
        }
    }

    /// Lets the answers to the engine go that have been held long enough.
    pub fn release_answers(&mut self) {
        if let Some(id) = self.attached.as_ref().and_then(|it| it.link.up()) {
            self.members.release(id, self.now.monotonic);
        }
    }

    /// When what waits for the link has to be looked after.
    pub(in crate::broker) fn next_link_step(&self) -> Option<Instant> {
        let attached = self.attached.as_ref()?;
        let up = attached.link.up().and_then(|id| self.members.get(id));
        let held_until = up.and_then(Member::held_until);
        [held_until, attached.next_at()].into_iter().flatten().min()
    }
}
