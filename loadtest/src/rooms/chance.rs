//! Numbers that look random and are the same in every run: who acts next, and how large rooms are.

/// SplitMix64: one addition and three mixing steps a number.
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The index of one of `values`.
    pub(crate) fn pick<T>(&mut self, values: &[T]) -> Option<usize> {
        let count = values.len() as u64;
        (count > 0).then(|| (self.next() % count) as usize)
    }
}

/// Sizes of `rooms` rooms with `members` in all: the room of rank r has a share of 1 / r^exponent,
/// and at least one member.
pub(crate) fn power_law(members: u32, rooms: u32, exponent: f64) -> Vec<u32> {
    let weight = |rank: u32| f64::from(rank).powf(-exponent);
    let whole: f64 = (1..=rooms).map(weight).sum();
    let spare = f64::from(members.saturating_sub(rooms));
    let mut sizes: Vec<u32> = (1..=rooms)
        .map(|rank| 1 + (spare * weight(rank) / whole) as u32)
        .collect();
    let given: u32 = sizes.iter().sum();
    // What rounding has left over.
    for room in 0..members.saturating_sub(given) as usize {
        sizes[room % rooms as usize] += 1;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_order_and_reaches_everyone() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..1_000)
                .filter_map(|_| chance.pick(&[(); 7]))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((0..7).all(|index| draw(1).contains(&index)));
        assert_eq!(Chance::new(1).pick::<u8>(&[]), None);
    }

    #[test]
    fn few_rooms_are_large_and_many_small() {
        let sizes = power_law(1_000, 100, 1.0);
        assert_eq!(sizes.iter().sum::<u32>(), 1_000);
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        assert!(sizes[0] > 150 && sizes[99] <= 3, "{sizes:?}");
        assert_eq!(power_law(100, 4, 0.0), [25; 4]);
        assert_eq!(power_law(3, 3, 2.0), [1; 3]);
    }
}
