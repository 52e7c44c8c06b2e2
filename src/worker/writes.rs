//! How many small writes a turn makes: as many as fit into it, for what one costs is the kernel's to say.
//!
//! May not read a clock.

use std::time::Duration;

/// So many are made where they are cheap, and so many where they are dear.
const MOST: usize = 128;
const START: usize = 64;
const LEAST: usize = 16;
/// Where those of a turn took longer the next one makes fewer, and where they took less it makes more.
const LONG: Duration = Duration::from_micros(700);
const SHORT: Duration = Duration::from_micros(500);

pub(super) struct Writes {
    a_turn: usize,
    is_full: bool,
}

impl Default for Writes {
    fn default() -> Writes {
        Writes {
            a_turn: START,
            is_full: false,
        }
    }
}

impl Writes {
    pub(super) fn a_turn(&self) -> usize {
        self.a_turn
    }

    /// The last turn had more to write than it might: how long the next one takes is worth its look at
    /// the thread's time.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// A turn has written, as many as it might where it `is_full`, and that took so much of the thread's time
    /// where somebody looked.
    pub(super) fn made(&mut self, is_full: bool, took: Option<Duration>) {
        self.is_full = is_full;
        let Some(took) = took.filter(|_| is_full) else {
            return;
        };
        if took > LONG {
            self.a_turn = (self.a_turn * 7 / 8).max(LEAST);
        } else if took < SHORT {
            self.a_turn = (self.a_turn + 1).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_below_a_millisecond_whatever_a_write_costs() {
        let mut writes = Writes::default();
        for (cost_us, wanted) in [(7, 70..=75), (20, 25..=35), (100, 16..=16), (1, 128..=128)] {
            let cost = Duration::from_micros(cost_us);
            let turn = |writes: &Writes| cost * writes.a_turn() as u32;
            for _ in 0..200 {
                let took = turn(&writes);
                writes.made(true, Some(took));
            }
            assert!(cost_us == 100 || turn(&writes) <= LONG);
            assert!(wanted.contains(&writes.a_turn()), "{}", writes.a_turn());
        }
    }
}
