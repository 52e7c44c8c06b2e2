//! How much happens in one step: as the seed says, or all there is.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(crate) struct Pace {
    rng: SmallRng,
    /// Everything that waits is served.
    pub(crate) is_full: bool,
}

impl Pace {
    pub(crate) fn of_seed(seed: u64) -> Pace {
        Pace {
            rng: SmallRng::seed_from_u64(seed),
            is_full: false,
        }
    }

    /// How many of so many.
    pub(crate) fn up_to(&mut self, len: usize) -> usize {
        if self.is_full {
            len
        } else {
            self.rng.random_range(0..=len)
        }
    }

    pub(crate) fn below(&mut self, len: usize) -> usize {
        self.rng.random_range(0..len)
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// One of these, each as often as its weight says.
    pub(crate) fn weighed<T: Copy>(&mut self, of: &[(usize, T)]) -> T {
        let total = of.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(total);
        for (weight, what) in of {
            if at < *weight {
                return *what;
            }
            at -= weight;
        }
        unreachable!("the weights sum up")
    }
}
