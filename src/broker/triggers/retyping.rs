//! The triggers of a type that has changed hands are read again in turns, and handed to who serves it.

use crate::id::SlotId;

use crate::broker::triggers::Triggers;
use crate::broker::triggers::trigger::Trigger;
use crate::broker::turn::Turn;

/// Triggers of a type that has changed hands are read again so many at a time.
const RETYPED_AT_A_TIME: usize = 16;

/// Triggers of a type that has changed hands: those before `until` that are read again from `from` on.
pub(super) struct Retyping {
    trigger_type: Box<str>,
    /// Who serves it now, and is handed them.
    server: Option<SlotId>,
    from: u64,
    until: u64,
}

impl Triggers {
    /// A type has changed hands: its triggers are read again, and handed to who serves it.
    pub(in crate::broker) fn begin_retyping(
        &mut self,
        turn: &mut Turn,
        trigger_type: Box<str>,
        server: Option<SlotId>,
    ) {
        turn.hooks.change();
        turn.hold_for_work(server);
        self.retypings.push_back(Retyping {
            trigger_type,
            server,
            from: 0,
            until: self.next_order,
        });
    }

    /// Reads as many again as this turn may.
    pub(in crate::broker) fn go_on_retyping(&mut self, turn: &mut Turn) {
        while turn.steps.are_left()
            && let Some(mut retyping) = self.retypings.pop_front()
        {
            match self.retype_some(turn, &mut retyping) {
                true => turn.release_after_work(retyping.server),
                false => self.retypings.push_front(retyping),
            }
        }
    }

    fn retype_some(&mut self, turn: &mut Turn, retyping: &mut Retyping) -> bool {
        if self.server_of(&retyping.trigger_type) != retyping.server {
            return true; // it has changed hands again
        }
        let (from, until) = (retyping.from, retyping.until);
        let (slots, next) = self.retype(&retyping.trigger_type, from, until, RETYPED_AT_A_TIME);
        turn.steps.take(1);
        for slot in slots {
            let bytes = self.get(slot).map_or(0, Trigger::held_bytes);
            turn.steps.take(1);
            turn.steps.take_bytes(bytes);
            if let Some(server) = retyping.server {
                self.hand_over(turn, server, slot);
            }
        }
        turn.hooks.change();
        retyping.from = next.unwrap_or(until);
        next.is_none()
    }

    /// Whether who serves its type has heard of the trigger.
    pub(super) fn was_handed_over(&self, trigger: &Trigger) -> bool {
        !self.retypings.iter().any(|retyping| {
            (retyping.from..retyping.until).contains(&trigger.order)
                && *retyping.trigger_type == *trigger.trigger_type
        })
    }
}
