//! How much of what goes on from turn to turn one turn may do.
//!
//! Pure.

/// What one turn does: so many calls or rows, each of so many bytes or less.
const STEPS_A_TURN: usize = 512;
const STEP_BYTES: usize = 1024;

/// What this turn may still do.
#[derive(Default)]
pub(in crate::broker) struct Steps(usize);

impl Steps {
    /// A turn begins.
    pub(in crate::broker) fn begin_turn(&mut self) {
        self.0 = STEPS_A_TURN;
    }

    pub(in crate::broker) fn are_left(&self) -> bool {
        self.0 > 0
    }

    /// How many are.
    pub(in crate::broker) fn left(&self) -> usize {
        self.0
    }

    /// Whether this turn may do one more, which is taken.
    pub(in crate::broker) fn take_one(&mut self) -> bool {
        let are_left = self.are_left();
        self.take(1);
        are_left
    }

    pub(in crate::broker) fn take(&mut self, count: usize) {
        self.0 = self.0.saturating_sub(count);
    }

    /// Keeps half of what is left for what comes behind the next thing; it is to be given back.
    pub(in crate::broker) fn hold_back(&mut self) -> usize {
        let held = self.0 / 2;
        self.0 -= held;
        held
    }

    pub(in crate::broker) fn give_back(&mut self, held: usize) {
        self.0 += held;
    }

    /// Takes what making or passing on so many bytes costs.
    pub(in crate::broker) fn take_bytes(&mut self, bytes: usize) {
        self.take(bytes / STEP_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_first_leaves_half_of_the_turn_to_what_comes_behind_it() {
        let mut steps = Steps::default();
        steps.begin_turn();
        let held = steps.hold_back();
        while steps.take_one() {}
        assert!(!steps.are_left());
        steps.give_back(held);
        assert_eq!(steps.left(), STEPS_A_TURN / 2);
        steps.take(STEPS_A_TURN / 2 - 1);
        assert_eq!(
            steps.hold_back(),
            0,
            "the last one is for whoever goes first"
        );
    }
}
