//! What is told to many, made of very many rows, or undone bit by bit is done in turns: each turn has a
//! budget, and goes on where the one before stopped. Whatever happens puts what it brings about into its
//! room, and the loop drains it: nothing is done within something else.

use crate::broker::Broker;
use crate::broker::triggers::firing::FiringKind;

impl Broker {
    /// Does what has come up, as far as this turn may.
    pub fn go_on(&mut self) {
        self.hear_ended();
        if !self.has_work() {
            return;
        }
        // Very much may end at once: what goes on beside it has its part of every turn.
        self.by_half(Broker::go_on_ending);
        if let Some(attached) = &mut self.attached {
            attached.ask_what_waited(&mut self.turn, &mut self.calls);
        }
        self.go_on_deciding();
        // And so has each of these.
        self.by_half(|broker| broker.go_on_firing(FiringKind::Joins));
        self.by_half(|broker| broker.go_on_firing(FiringKind::Events));
        self.by_half(Broker::go_on_with_logs);
        self.by_half(Broker::go_on_with_listings);
        self.calls.go_on_with_merges(&mut self.turn);
        self.go_on_firing(FiringKind::Joins);
        self.go_on_firing(FiringKind::Events);
        self.go_on_with_logs();
        self.go_on_with_listings();
        self.hear_ended();
    }

    /// Goes on with one thing, and leaves half of what is left of the turn to those behind it.
    fn by_half(&mut self, goes_on: impl FnOnce(&mut Broker)) {
        let held = self.turn.steps.hold_back();
        goes_on(self);
        self.turn.steps.give_back(held);
    }

    fn go_on_with_logs(&mut self) {
        self.go_on_firing(FiringKind::Logs);
        while self.turn.steps.are_left()
            && !self.triggers.has_firings_of(FiringKind::Logs)
            && self.logs.tell_next(&mut self.turn, &mut self.triggers)
        {
            self.go_on_firing(FiringKind::Logs);
        }
    }

    /// Whether something goes on in the next turn.
    pub(crate) fn has_work(&self) -> bool {
        let attached = self.attached.as_ref();
        !self.turn.ended.is_empty()
            || self.triggers.has_work()
            || self.calls.has_merges()
            || !self.logs.is_empty()
            || !self.listings.is_empty()
            || !self.endings.is_empty()
            || attached.is_some_and(|attached| attached.has_work(&self.turn))
    }
}
