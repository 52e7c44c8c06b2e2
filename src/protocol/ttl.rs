//! How long an item lasts that nobody writes, in four bytes.
//!
//! May not know a clock.

/// The highest bit: what is beside it is seconds, not milliseconds.
const SECONDS: u32 = 1 << 29;
const NUMBER_MAX: u32 = SECONDS - 1;

/// Below that exact to the millisecond, above rounded up to the next second. Fits 30 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ttl(u32);

impl Ttl {
    /// It stays until somebody deletes it.
    pub const NEVER: Ttl = Ttl(0);
    /// No item is given longer than some 17 years.
    pub const MS_MAX: u64 = NUMBER_MAX as u64 * 1000;

    /// None: longer than the longest. 0: for good.
    pub fn of_ms(ms: u64) -> Option<Ttl> {
        match u32::try_from(ms) {
            Ok(ms) if ms <= NUMBER_MAX => Some(Ttl(ms)),
            _ if ms <= Ttl::MS_MAX => Some(Ttl(ms.div_ceil(1000) as u32 | SECONDS)),
            _ => None,
        }
    }

    /// As [`Ttl::bits`] gave it.
    pub fn of_bits(bits: u32) -> Ttl {
        Ttl(bits & (SECONDS | NUMBER_MAX))
    }

    /// 30 of them.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// In ms; none: it stays.
    pub fn ms(self) -> Option<u64> {
        let number = u64::from(self.0 & NUMBER_MAX);
        let unit = if self.0 & SECONDS == 0 { 1 } else { 1000 };
        (number > 0).then_some(number * unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_exactly_or_a_little_longer() {
        for ms in [1, 999, 60_000, u64::from(NUMBER_MAX)] {
            assert_eq!(Ttl::of_ms(ms).and_then(Ttl::ms), Some(ms));
        }
        let month = 31 * 24 * 60 * 60 * 1000 + 1;
        assert_eq!(Ttl::of_ms(month).and_then(Ttl::ms), Some(month + 999));
        assert_eq!(Ttl::of_ms(0), Some(Ttl::NEVER));
        assert_eq!(Ttl::NEVER.ms(), None);
        let longest = Ttl::of_ms(Ttl::MS_MAX);
        assert_eq!(longest.and_then(Ttl::ms), Some(Ttl::MS_MAX));
        assert_eq!(longest.map(|ttl| Ttl::of_bits(ttl.bits())), longest);
        assert_eq!(Ttl::of_ms(Ttl::MS_MAX + 1), None);
    }
}
