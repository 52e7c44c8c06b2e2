//! Attached mode: when an engine has handed over its triggers, and what stands in their place until then.
//! Events are lost meanwhile, joins and leaves wait.

use std::time::Instant;

use crate::shard::followed::Followed;
use crate::shard::hooks::Streams;

use super::gates::Gates;
use crate::broker::Broker;
use crate::broker::lines::Level;
use crate::broker::triggers::trigger::Trigger;
use crate::id::SlotId;

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
        self.lines.say(Level::Info, line);
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

    /// A trigger of the engine's is known no longer: joins wait until its function is back, if they were
    /// put to it.
    pub(in crate::broker) fn lose_gate(&mut self, trigger: &Trigger) {
        if let Some(attached) = &mut self.attached
            && let Some((stream, function_id)) = trigger.join_function()
        {
            attached.lost.gates.lose(stream, function_id);
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
    pub(super) fn forget_gates(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.lost.gates = Gates::default();
            attached.lost.gates_until = None;
            attached.lost.joins = Streams::default();
            self.hooks.change();
        }
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
}
