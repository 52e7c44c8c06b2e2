//! Attached mode: what we know of a running engine whose worker we are, and how the link to it comes and
//! goes. What is said over it stands in `conversation`, what waits for it in `waiting`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::id::SlotId;
use crate::mesh::JoinRequest;
use crate::protocol::attached::functions_changed_id;
use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;

use super::gates::Gates;
use super::settling::LeavesWait;
use super::standing::Standing;
use super::waiting::Waiting;
use super::{KnownAs, Link};
use crate::broker::Broker;
use crate::broker::effects::Effect;
use crate::broker::lines::Level;
use crate::broker::members::Member;
use crate::time::Rarely;

/// How often calls that are refused for want of room are told in the log.
const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(60);

/// Our side of an engine that others run: it has the functions, and calls ours; we call those of its other
/// workers by it.
pub(in crate::broker) struct Attached {
    pub(in crate::broker) link: Link,
    /// The function that the engine calls when functions or workers have changed, and its triggers.
    pub(in crate::broker) functions_changed: String,
    pub(in crate::broker) triggers: [Uuid; 2],
    pub(in crate::broker) standing: Standing,
    /// The engine is asked for our configuration.
    pub(in crate::broker) asks_configuration: bool,
    /// The engine has handed over the triggers that it knows, and told which functions there are.
    pub(super) is_settled: bool,
    /// It has once.
    pub(super) was_settled: bool,
    /// It has, but what it handed over before is still being forgotten.
    pub(super) settles_later: bool,
    /// What was followed when the link was lost, until it is known anew.
    pub(super) lost: Lost,
    /// Leaves wait for a trigger to be known again: at most until then, once the link is there.
    pub(super) leaves: LeavesWait,
    /// Joins that wait for the link, and until when.
    pub(super) joins: VecDeque<(Instant, Box<JoinRequest>)>,
    /// Calls that wait for the link.
    pub(super) waiting: Waiting,
    /// Calls refused for want of room, as they are told.
    refused: Rarely,
}

/// What triggers followed before the link was lost.
#[derive(Default)]
pub(super) struct Lost {
    pub(super) events: Followed,
    pub(super) joins: Streams,
    pub(super) leaves: Streams,
    /// The functions that joins were put to.
    pub(super) gates: Gates,
    /// When those that have not come back are forgotten, once the link is settled.
    pub(super) gates_until: Option<Instant>,
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
            refused: Rarely::every(REFUSALS_SAID_EVERY),
        }
    }

    /// When the first of what waits has had its time.
    fn next_at(&self) -> Option<Instant> {
        let leaves = match self.leaves {
            LeavesWait::Until(until) => Some(until),
            LeavesWait::No | LeavesWait::ForLink => None,
        };
        let join = self.joins.front().map(|(until, _)| *until);
        let call = self.waiting.next_at();
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
        let passed_over = self.refused.ask(now)?;
        Some(passed_over + 1)
    }

    /// Whether a join has to wait.
    pub(super) fn holds(&self, request: &JoinRequest) -> bool {
        let stream = request.presence.key.stream();
        !self.is_settled || self.lost.gates.are_missed_by(stream)
    }

    pub(super) fn lets_leaves_go(&self) -> bool {
        self.is_settled && self.leaves == LeavesWait::No
    }
}

impl Broker {
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
        self.lines.say(Level::Warn, line);
    }

    /// That engine's address, without secrets.
    pub fn shown_engine(&self) -> String {
        let attached = self.attached.as_ref();
        attached.map_or_else(String::new, |it| it.link.shown().to_owned())
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
