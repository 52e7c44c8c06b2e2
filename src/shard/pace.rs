//! How many events a group has had, and how fast they come.
//!
//! May not know what a group is.

/// After so many seconds an event counts half for the pace of its group.
const HALF_S: f32 = 8.0;

/// How many events a group has had, and how fast they come.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pace {
    pub(super) events: u64,
    /// In that second since 1970, a count in which older events weigh less.
    second: u32,
    recent: f32,
}

impl Pace {
    pub(super) fn note(&mut self, now_ms: u64) {
        self.events += 1;
        let second = second_of(now_ms);
        if second != self.second {
            self.recent = self.recent_at(second);
            self.second = second;
        }
        self.recent += 1.0;
    }

    /// Events a second, of late.
    pub(super) fn a_second(&self, now_ms: u64) -> f32 {
        self.recent_at(second_of(now_ms)) * core::f32::consts::LN_2 / HALF_S
    }

    fn recent_at(&self, second: u32) -> f32 {
        if self.recent == 0.0 {
            return 0.0; // of very many groups most
        }
        let passed = second.saturating_sub(self.second);
        self.recent * (-(passed as f32) / HALF_S).exp2()
    }
}

fn second_of(ms: u64) -> u32 {
    (ms / 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_that_of_the_last_seconds() {
        let mut pace = Pace::default();
        for second in 0..100 {
            for _ in 0..50 {
                pace.note(1_000_000 + second * 1000);
            }
        }
        let now = pace.a_second(1_099_000);
        assert!((45.0..55.0).contains(&now), "{now}");
        let later = pace.a_second(1_107_000);
        assert!((now * 0.49..now * 0.51).contains(&later), "{later}");
        assert!(pace.a_second(2_000_000) < 0.001);
        assert_eq!(pace.events, 5000);
        assert!(
            pace.a_second(0) >= now,
            "a clock that steps back harms nothing"
        );
    }
}
