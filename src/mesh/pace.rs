//! How fast something may come, on all threads together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So much of what comes in a second may come at once.
const AT_ONCE_NS: u64 = 100_000_000;

/// When all that has come would have come, one after the other.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// In ns since then.
    paid_until: AtomicU64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            began: Instant::now(),
            paid_until: AtomicU64::new(0),
        }
    }
}

impl Pace {
    /// One more comes, of so many in a second; or it may not, before that time.
    pub fn take(&self, now: Instant, per_s: usize) -> Result<(), Instant> {
        let now = now.saturating_duration_since(self.began).as_nanos() as u64;
        let each = 1_000_000_000 / (per_s as u64).max(1);
        let paid = self
            .paid_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| {
                (paid <= now + AT_ONCE_NS).then(|| paid.max(now) + each)
            });
        match paid {
            Ok(_) => Ok(()),
            Err(paid) => Err(self.began + Duration::from_nanos(paid - AT_ONCE_NS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_come_in_a_second_and_a_tenth_of_them_at_once() {
        let pace = Pace::default();
        let began = pace.began;
        let mut now = began;
        let mut came = Vec::new();
        while now < began + Duration::from_secs(3) {
            match pace.take(now, 100) {
                Ok(()) => came.push(now - began),
                Err(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        let at_once = came.iter().filter(|at| at.is_zero()).count();
        assert_eq!(
            at_once, 11,
            "the tenth of a second, and the one that is due"
        );
        let within = |from: u64, to: u64| {
            let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
            came.iter().filter(|at| **at >= from && **at < to).count()
        };
        assert!((99..=101).contains(&within(1, 2)), "{}", within(1, 2));
        assert!((99..=101).contains(&within(2, 3)));
        // Who has waited long does not save up more.
        let later = began + Duration::from_secs(1000);
        assert_eq!(
            (0..1000)
                .take_while(|_| pace.take(later, 100).is_ok())
                .count(),
            11
        );
    }

    #[test]
    fn very_few_and_very_many_in_a_second_are_counted_as_well() {
        let pace = Pace::default();
        let now = pace.began;
        assert!(pace.take(now, 1).is_ok());
        let at = pace.take(now, 1).unwrap_err();
        assert_eq!(at - now, Duration::from_millis(900));
        assert!(pace.take(at, 1).is_ok());
        let pace = Pace::default();
        assert!((0..10_000).all(|_| pace.take(pace.began, usize::MAX).is_ok()));
    }
}
