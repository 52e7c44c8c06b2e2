//! Whether the other end of the link is still there: it is pinged, and given up when nothing has come
//! for long.
//!
//! Pure: time is handed in.

use std::time::{Duration, Instant};

/// How often an engine is pinged.
pub(super) const PING_EVERY: Duration = Duration::from_secs(20);
/// After so many of these times without a byte the link is given up.
const GIVEN_UP_AFTER: u32 = 3;

/// What is known of one connection.
pub(super) struct Silence {
    every: Duration,
    ping_at: Instant,
    /// Pings since something came last.
    unanswered: u32,
    pinged_at: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ping,
    GiveUp(Duration),
}

impl Silence {
    pub(super) fn new(every: Duration, now: Instant) -> Silence {
        Silence {
            every,
            ping_at: now + every,
            unanswered: 0,
            pinged_at: None,
        }
    }

    /// When it has to be looked at again.
    pub(super) fn next_at(&self) -> Instant {
        self.ping_at
    }

    /// `heard_at`: when something has come last. A process that was stopped itself gives nobody up: it
    /// has sent no pings.
    pub(super) fn step(&mut self, now: Instant, heard_at: Instant) -> Option<Step> {
        if now < self.ping_at {
            return None;
        }
        if self.pinged_at.is_none_or(|at| heard_at >= at) {
            self.unanswered = 0;
        }
        let silent_for = now.saturating_duration_since(heard_at);
        if self.unanswered + 1 >= GIVEN_UP_AFTER && silent_for >= self.every * GIVEN_UP_AFTER {
            return Some(Step::GiveUp(silent_for));
        }
        self.unanswered += 1;
        self.pinged_at = Some(now);
        self.ping_at = now + self.every;
        Some(Step::Ping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is done within so many seconds, where something is heard at these.
    fn steps(seconds: u32, heard: &[u32]) -> Vec<(u32, Step)> {
        let start = Instant::now();
        let mut silence = Silence::new(PING_EVERY, start);
        let mut heard_at = start;
        let mut steps = Vec::new();
        for second in 1..=seconds {
            let now = start + SECOND * second;
            if heard.contains(&second) {
                heard_at = now;
            }
            if let Some(step) = silence.step(now, heard_at) {
                let is_over = step != Step::Ping;
                steps.push((second, step));
                if is_over {
                    break;
                }
            }
        }
        steps
    }

    #[test]
    fn an_engine_is_pinged_and_given_up_after_a_minute_of_silence() {
        let given_up = |seconds| Step::GiveUp(SECOND * seconds);
        assert_eq!(
            steps(200, &[]),
            [(20, Step::Ping), (40, Step::Ping), (60, given_up(60))]
        );
        let late = steps(200, &[5]);
        assert_eq!(late.last(), Some(&(80, given_up(75))), "{late:?}");
    }

    #[test]
    fn an_engine_that_answers_is_kept() {
        let heard: Vec<u32> = (1..20).map(|n| n * 20 + 1).collect();
        let steps = steps(390, &heard);
        assert_eq!(steps.len(), 19);
        assert!(steps.iter().all(|(_, step)| *step == Step::Ping));
    }

    #[test]
    fn who_was_stopped_itself_gives_nobody_up() {
        let start = Instant::now();
        let mut silence = Silence::new(PING_EVERY, start);
        let woken = start + SECOND * 600;
        assert_eq!(silence.step(woken, start), Some(Step::Ping));
        assert_eq!(silence.step(woken + SECOND, start), None);
        let answered = woken + SECOND * 19;
        assert_eq!(
            silence.step(woken + SECOND * 20, answered),
            Some(Step::Ping)
        );
    }
}
