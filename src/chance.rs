//! Numbers by chance. Uses nothing of ours.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A keyed hash of a counter, its key drawn by the standard library.
#[derive(Default)]
pub struct Chance {
    key: RandomState,
    drawn: u64,
}

impl Chance {
    /// The next number. Who knows those before cannot tell it.
    pub fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.key.hash_one(self.drawn)
    }

    /// A time between two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let fraction = self.draw() as f64 / u64::MAX as f64;
        least + most.saturating_sub(least).mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_by_chance_is_within_its_bounds_and_seldom_the_same() {
        let (least, most) = (Duration::from_millis(100), Duration::from_millis(250));
        let mut chance = Chance::default();
        let times: Vec<Duration> = (0..100).map(|_| chance.between(least, most)).collect();
        assert!(times.iter().all(|time| (least..=most).contains(time)));
        let distinct: std::collections::HashSet<_> = times.iter().collect();
        assert!(distinct.len() > 90, "{}", distinct.len());
    }
}
