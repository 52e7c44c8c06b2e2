//! Attached mode: when an engine has handed over its triggers, and what stands in their place until then.
//! Events are lost meanwhile, joins and leaves wait.

use std::time::Instant;

use crate::id::{GroupKey, SlotId};
use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;

use super::Attached;
use super::gates::Gates;
use crate::broker::Broker;
use crate::broker::lines::Level;
use crate::broker::triggers::Triggers;
use crate::broker::triggers::trigger::Trigger;
use crate::broker::turn::Turn;

/// Whether leaves wait for a `stream:leave` trigger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LeavesWait {
    /// None was known, or one is.
    No,
    /// For the link as well.
    ForLink,
    /// The link is there.
    Until(Instant),
}

/// What the engine over that link handed over before the `until`th registration: it is told anew.
pub(super) struct Forgetting {
    link: SlotId,
    until: u64,
}

impl Broker {
    /// If the engine has handed over its triggers and told which functions there are, what waited for that
    /// goes on, as soon as nothing is left of what it handed over before.
    pub(in crate::broker) fn settle_if_due(&mut self) {
        let is_forgetting = self.is_forgetting();
        if let Some(attached) = &mut self.attached
            && !is_forgetting
            && std::mem::take(&mut attached.settles_soon)
            && !attached.is_settled
        {
            attached.settle(&mut self.turn, &self.triggers);
            self.tell_all_hooks(); // before the joins that are decided now
        }
    }
}

impl Attached {
    /// The link is lost, or somebody else has our functions: nothing is known until it is told anew.
    pub(super) fn unsettle(&mut self, turn: &mut Turn, triggers: &Triggers, is_link_lost: bool) {
        let (events, joins, leaves) = triggers.followed();
        let until = turn.now.monotonic + turn.call_timeout;
        let was_settled = std::mem::replace(&mut self.is_settled, false);
        if !was_settled && events.is_empty() && joins.is_empty() && leaves.is_empty() {
            return; // nothing more is lost
        }
        let lost = &mut self.lost;
        lost.events.add_all(&events);
        lost.joins.add(&joins);
        lost.leaves.add(&leaves);
        lost.gates_until = None;
        self.settles_soon = false;
        if !lost.leaves.is_empty() {
            self.leaves = match is_link_lost {
                true => LeavesWait::ForLink,
                false => LeavesWait::Until(until),
            };
        }
        turn.hooks.change();
    }

    /// The engine has told all: what waited for that goes on.
    fn settle(&mut self, turn: &mut Turn, triggers: &Triggers) {
        self.is_settled = true;
        self.was_settled = true;
        self.link.settled();
        let line = format!("attached to the engine at {}", turn.engine_at());
        turn.lines.say(Level::Info, line);
        self.lost.events = Followed::default();
        match self.lost.gates.is_empty() {
            true => self.lost.joins = Streams::default(),
            // Their workers may have to find the engine again, as we had.
            false => self.lost.gates_until = Some(turn.now.monotonic + turn.call_timeout),
        }
        turn.hooks.change();
        self.decide_waiting_joins();
        self.look_for_leave_triggers(turn, triggers);
    }

    /// What the engine over that link has handed over so far is forgotten: it does so anew.
    pub(super) fn begin_forgetting(&mut self, triggers: &Triggers, link: SlotId) {
        let until = triggers.next_order();
        self.forgettings.push_back(Forgetting { link, until });
    }

    /// Forgets as much of it as this turn may.
    pub(in crate::broker) fn go_on_forgetting(&mut self, turn: &mut Turn, triggers: &mut Triggers) {
        while turn.steps.are_left()
            && let Some(forgetting) = self.forgettings.front()
        {
            let (link, until) = (forgetting.link, forgetting.until);
            self.forget_triggers_of(turn, triggers, link, until);
            if triggers.has_some_of(link, until) {
                return;
            }
            self.forgettings.pop_front();
        }
    }

    /// Removes triggers of that link as this turn may: those registered before the `until`th.
    pub(in crate::broker) fn forget_triggers_of(
        &mut self,
        turn: &mut Turn,
        triggers: &mut Triggers,
        link: SlotId,
        until: u64,
    ) {
        triggers.forget_as_may(turn, link, until, |trigger| self.lose_gate(trigger));
    }

    /// Whether something is left of it.
    pub(in crate::broker) fn is_forgetting(&self) -> bool {
        !self.forgettings.is_empty()
    }

    /// A trigger of the engine's is known no longer: joins wait until its function is back, if they were
    /// put to it.
    pub(in crate::broker) fn lose_gate(&mut self, trigger: &Trigger) {
        if let Some((stream, function_id)) = trigger.join_function() {
            self.lost.gates.lose(stream, function_id);
        }
    }

    /// A trigger was handed over: joins may have waited for its function, or leaves for it.
    pub(in crate::broker) fn look_for_what_waits(
        &mut self,
        turn: &mut Turn,
        triggers: &Triggers,
        trigger: SlotId,
    ) {
        if let Some((stream, function_id)) = triggers.join_function(trigger)
            && self.lost.gates.find(stream, function_id)
            && self.is_settled
        {
            if self.lost.gates.is_empty() {
                self.forget_gates(turn);
            }
            self.decide_waiting_joins();
        }
        self.look_for_leave_triggers(turn, triggers);
    }

    /// Join functions that have not come back by now are gone.
    fn forget_gates(&mut self, turn: &mut Turn) {
        self.lost.gates = Gates::default();
        self.lost.gates_until = None;
        self.lost.joins = Streams::default();
        turn.hooks.change();
    }

    /// What triggers follow, and what they followed before the link was lost.
    pub(in crate::broker) fn with_lost(
        &self,
        events: Followed,
        mut joins: Streams,
        leaves: Streams,
    ) -> (Followed, Streams, Streams) {
        let lost = &self.lost;
        // Of a server that knows nothing yet, or whose calls go to another, every join waits.
        joins.all |= !self.was_settled || self.standing.is_by();
        (
            events.with_lost(&lost.events),
            joins.with_lost(&lost.joins),
            leaves.with_lost(&lost.leaves),
        )
    }

    /// An event whose triggers are not known again yet is lost to them.
    pub(in crate::broker) fn count_lost_event(
        &self,
        turn: &Turn,
        key: &GroupKey,
        item: Option<&str>,
    ) {
        let events = &self.lost.events;
        if !self.is_settled && events.has(key.stream(), key.group(), item) {
            turn.metrics().trigger_calls_dropped.increment();
        }
    }

    /// The link is there. Leaves wait until then for a trigger to be known again.
    pub(super) fn wait_for_leave_triggers(&mut self, until: Instant) {
        if self.leaves == LeavesWait::ForLink {
            self.leaves = LeavesWait::Until(until);
        }
    }

    /// Lets the leaves go that waited, once a trigger for them is known.
    fn look_for_leave_triggers(&mut self, turn: &mut Turn, triggers: &Triggers) {
        if triggers.has_leaves() && matches!(self.leaves, LeavesWait::Until(_)) {
            self.leaves = LeavesWait::No;
        }
        if self.lets_leaves_go() && !self.lost.leaves.is_empty() {
            self.lost.leaves = Streams::default();
            turn.hooks.change();
        }
    }

    /// What has waited long enough for a trigger to be known again waits no longer.
    pub(super) fn end_overdue_waits(&mut self, turn: &mut Turn, triggers: &Triggers) {
        let now = turn.now.monotonic;
        if self.lost.gates_until.is_some_and(|until| until <= now) {
            self.forget_gates(turn);
            self.decide_waiting_joins();
        }
        if matches!(self.leaves, LeavesWait::Until(until) if until <= now) {
            self.leaves = LeavesWait::No;
            self.look_for_leave_triggers(turn, triggers);
        }
    }
}
