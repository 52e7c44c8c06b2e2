//! Attached mode: what is known of a running engine whose worker we are, what is said over the link to it, and
//! what waits for it. How the link comes about is for whoever has the socket.

mod configuration;
mod conversation;
mod gates;
mod lists;
mod settling;
mod standing;
pub(in crate::broker) mod waiting;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::broker::Broker;
use crate::broker::effects::Effect;
use crate::broker::lines::Level;
use crate::broker::members::Member;
use crate::broker::triggers::Triggers;
use crate::broker::turn::Turn;
use crate::id::SlotId;
use crate::mesh::JoinRequest;
use crate::protocol::attached::{Greeting, functions_changed_id};
use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;
use crate::time::Rarely;

use gates::Gates;
use settling::{Forgetting, LeavesWait};
use standing::Standing;
use waiting::Waiting;

pub(in crate::broker) use conversation::told_by_engine;

/// How often calls that are refused for want of room are told in the log.
const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(60);

/// Our side of an engine that others run: it has the functions, and calls ours; we call those of its other
/// workers by it.
pub(in crate::broker) struct Attached {
    link: Link,
    /// The function that the engine calls when functions or workers have changed, and its triggers.
    functions_changed: String,
    triggers: [Uuid; 2],
    standing: Standing,
    /// The engine is asked for our configuration.
    asks_configuration: bool,
    /// The engine has handed over the triggers that it knows, and told which functions there are.
    is_settled: bool,
    /// It has once.
    was_settled: bool,
    /// It has, which counts once nothing is left of what it handed over before.
    settles_soon: bool,
    /// What it handed over and hands over anew: the older is forgotten in turns.
    forgettings: VecDeque<Forgetting>,
    /// What was followed when the link was lost, until it is known anew.
    lost: Lost,
    /// Leaves wait for a trigger to be known again: at most until then, once the link is there.
    leaves: LeavesWait,
    /// Joins that wait for the link, and until when.
    joins: VecDeque<(Instant, Box<JoinRequest>)>,
    /// How many of them have still to be looked at again.
    waiting_joins: usize,
    /// Calls that wait for the link.
    waiting: Waiting,
    /// Calls refused for want of room, as they are told.
    refused: Rarely,
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

impl Attached {
    pub(in crate::broker) fn new() -> Attached {
        let id = Uuid::new_v4();
        Attached {
            link: Link::default(),
            functions_changed: functions_changed_id(&id),
            triggers: [Uuid::new_v4(), Uuid::new_v4()],
            standing: Standing::new(),
            asks_configuration: false,
            is_settled: false,
            was_settled: false,
            settles_soon: false,
            forgettings: VecDeque::new(),
            lost: Lost::default(),
            leaves: LeavesWait::No,
            joins: VecDeque::new(),
            waiting_joins: 0,
            waiting: Waiting::default(),
            refused: Rarely::every(REFUSALS_SAID_EVERY),
        }
    }

    /// When what waits for the link has to be looked after.
    pub(in crate::broker) fn next_at(&self, turn: &Turn) -> Option<Instant> {
        let up = turn.link().and_then(|id| turn.members.get(id));
        let held_until = up.and_then(Member::held_until);
        let leaves = match self.leaves {
            LeavesWait::Until(until) => Some(until),
            LeavesWait::No | LeavesWait::ForLink => None,
        };
        let join = self.joins.front().map(|(until, _)| *until);
        let call = self.waiting.next_at();
        let gates = self.lost.gates_until;
        let times = [
            held_until,
            leaves,
            join,
            call,
            gates,
            self.standing.next_at(),
        ];
        times.into_iter().flatten().min()
    }

    /// Whether another server has the functions of streams.
    pub(in crate::broker) fn stands_by(&self) -> bool {
        self.standing.is_by()
    }

    /// Whether something goes on in the next turn.
    pub(in crate::broker) fn has_work(&self, turn: &Turn) -> bool {
        self.waiting_joins > 0 || self.is_forgetting() || self.has_waiting_calls(turn)
    }

    /// The link has ended, or an attempt at it.
    pub(in crate::broker) fn link_has_ended(&mut self, turn: &mut Turn, triggers: &Triggers) {
        self.unsettle(turn, triggers, true);
        self.link.ended();
        if let Some(attached_to) = &mut turn.attached_to {
            attached_to.link = None;
        }
    }

    /// Ends the link, for that reason.
    fn end_link(&mut self, turn: &mut Turn, id: SlotId, why: &str) {
        self.link.because(why);
        if let Some(member) = turn.members.get_mut(id) {
            member.is_open = false;
        }
        turn.effects.push(Effect::End(id));
    }

    /// A call of the engine is refused for want of room.
    fn tell_refusal(&mut self, turn: &mut Turn) {
        turn.metrics().calls_refused.increment();
        if let Some(passed_over) = self.refused.ask(turn.now.monotonic) {
            let count = passed_over + 1;
            turn.lines.say(Level::Warn, format!(
                "more calls come from the engine than can be served: {count} refused, for those that wait \
                 fill limits.call_queue_bytes or limits.calls_in_flight"
            ));
        }
    }

    /// Whether a join has to wait.
    fn holds(&self, request: &JoinRequest) -> bool {
        let stream = request.presence.key.stream();
        !self.is_settled || self.lost.gates.are_missed_by(stream)
    }

    /// Whether owed leaves may be taken now.
    pub(in crate::broker) fn lets_leaves_go(&self) -> bool {
        self.is_settled && self.leaves == LeavesWait::No
    }
}

impl Broker {
    /// The link is there: messages go over it from now on.
    pub fn link_is_up(&mut self, id: SlotId) {
        let turn = &mut self.turn;
        let (Some(attached), Some(attached_to)) = (&mut self.attached, &mut turn.attached_to)
        else {
            return;
        };
        attached_to.link = Some(id);
        if let Some(member) = turn.members.get_mut(id) {
            member.is_open = true;
        }
        attached.attach(turn, &mut self.calls, id);
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
}

/// What the engine has said at the beginning of the link, and why the link ends.
#[derive(Default)]
struct Link {
    /// Why the socket that is about to end does so, where that is known.
    why: Option<String>,
    /// The engine itself has given that reason.
    is_refused: bool,
    /// The engine has taken us in, which whoever dials has not heard yet.
    has_settled: bool,
    /// What the engine said first on this link, and on the last one that it did not refuse: the next
    /// one takes that one's place.
    greeting: Option<Greeting>,
    older: Option<Greeting>,
}

impl Link {
    /// What the engine has said first.
    fn greeted(&mut self, greeting: Greeting) {
        self.greeting = Some(greeting);
    }

    /// The link whose place the next one takes.
    fn older(&self) -> Option<&Greeting> {
        self.older.as_ref()
    }

    /// The engine has taken us in: the next loss is a new one.
    fn settled(&mut self) {
        self.has_settled = true;
        self.is_refused = false;
    }

    /// Remembers why the socket is about to end.
    fn because(&mut self, why: impl Into<String>) {
        self.why = Some(why.into());
    }

    /// The same, where it is the engine that says so.
    fn refused_because(&mut self, why: impl Into<String>) {
        self.because(why);
        self.is_refused = true;
    }

    /// The engine does not let us register something on this link: it takes nobody's place, and the next
    /// one comes later.
    fn is_rejected(&mut self) {
        self.is_refused = true;
    }

    /// Its socket has ended. What the engine has refused has taken nobody's place.
    fn ended(&mut self) {
        if let Some(greeting) = self.greeting.take().filter(|_| !self.is_refused) {
            self.older = Some(greeting);
        }
    }
}
