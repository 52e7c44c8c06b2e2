//! How much of a turn goes to handshakes of TLS: each costs as much as many reads, and who is connected
//! already is not to wait for who comes.
//!
//! Uses nothing of ours.

/// So many steps of handshakes in one turn: with a certificate of RSA one is most of a millisecond.
const STEPS_A_TURN: u32 = 1;
/// So many turns in a row have none, where somebody who is connected is to be written to: they come on anyhow.
const TURNS_WITHOUT_MAX: u32 = 3;
/// So many sockets in a handshake are passed over in one turn, that others are reached behind them.
const PASSED_OVER_A_TURN: u32 = 256;

/// What has gone to them in this turn.
#[derive(Debug, Default)]
pub struct Handshakes {
    steps: u32,
    passed_over: u32,
    /// So many turns have had none.
    turns_without: u32,
}

/// What is to be done with a socket whose turn it is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// It is read.
    Read,
    /// It is queued again, behind the others.
    PassOver,
    /// It is queued again, and nothing further is read in this turn.
    Stop,
}

impl Handshakes {
    /// A turn begins. `is_busy`: in it somebody is written to who is connected already.
    pub fn begin_turn(&mut self, is_busy: bool) {
        let has_none = is_busy && self.turns_without < TURNS_WITHOUT_MAX;
        self.turns_without = if has_none { self.turns_without + 1 } else { 0 };
        self.steps = if has_none { STEPS_A_TURN } else { 0 };
        self.passed_over = 0;
    }

    /// What this turn has left for a socket that is to be read.
    pub fn allowed(&mut self, is_handshaking: bool) -> Allowed {
        if !is_handshaking {
            return Allowed::Read;
        }
        if self.steps < STEPS_A_TURN {
            self.steps += 1;
            return Allowed::Read;
        }
        self.passed_over += 1;
        match self.passed_over < PASSED_OVER_A_TURN {
            true => Allowed::PassOver,
            false => Allowed::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_read_between_handshakes_and_few_of_these() {
        let mut handshakes = Handshakes::default();
        let turns: Vec<Allowed> = (0..5)
            .map(|number| handshakes.allowed(number != 3))
            .collect();
        let passed = Allowed::PassOver;
        assert_eq!(
            turns,
            [Allowed::Read, passed, passed, Allowed::Read, passed]
        );
        let more = (0..).map(|_| handshakes.allowed(true));
        let passed_over = more.take_while(|turn| *turn == passed).count();
        assert_eq!(passed_over + 3, PASSED_OVER_A_TURN as usize - 1);
    }

    #[test]
    fn handshakes_wait_while_others_are_written_to_but_not_for_ever() {
        let mut handshakes = Handshakes::default();
        let mut begins = |is_busy| {
            handshakes.begin_turn(is_busy);
            [handshakes.allowed(true), handshakes.allowed(false)]
        };
        let (goes_on, waits) = ([Allowed::Read; 2], [Allowed::PassOver, Allowed::Read]);
        assert_eq!(begins(false), goes_on);
        let busy = [true; 5].map(&mut begins);
        assert_eq!(busy, [waits, waits, waits, goes_on, waits]);
        assert_eq!([begins(false), begins(true)], [goes_on, waits]);
    }
}
