//! The least time between two writes to a subscription.
//!
//! Pure. May not know who keeps to it.

/// A pace, in whole ms. The greater is the slower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pace(u16);

impl Pace {
    /// The slowest, in ms.
    pub const MS_MAX: u64 = 60_000;
    /// None: whatever comes is written at once.
    pub const NONE: Pace = Pace(0);

    /// None: it is slower than may be.
    pub fn of_ms(ms: u64) -> Option<Pace> {
        let ms = u16::try_from(ms).ok()?;
        (u64::from(ms) <= Pace::MS_MAX).then_some(Pace(ms))
    }

    /// Of a JSON text or a part of a query: a whole number of ms. None: it is something else, or too much.
    pub fn read(text: &str) -> Option<Pace> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| Pace::of_ms(text.parse().ok()?)).flatten()
    }

    /// The next one that is a power of two in ms, or the slowest: there are few of them.
    pub fn rounded_up(self) -> Pace {
        let slowest = Pace::MS_MAX as u16;
        let rounded = self.0.checked_next_power_of_two().unwrap_or(slowest);
        match self.0 {
            0 => Pace::NONE,
            _ => Pace(rounded.min(slowest)),
        }
    }

    /// In ms; 0: there is none.
    pub fn ms(self) -> u64 {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_a_whole_number_of_ms_up_to_a_minute() {
        for (text, ms) in [("0", 0), ("50", 50), ("0050", 50), ("60000", 60_000)] {
            assert_eq!(Pace::read(text).map(Pace::ms), Some(ms), "{text}");
        }
        let wrong = [
            "",
            "-1",
            "+1",
            "1.5",
            "5e1",
            "60001",
            "65586",
            "\"50\"",
            "null",
            "true",
            " 50",
            "99999999999999999999",
        ];
        for text in wrong {
            assert_eq!(Pace::read(text), None, "{text}");
        }
        for (ms, rounded) in [
            (0, 0),
            (1, 1),
            (50, 64),
            (64, 64),
            (40_000, 60_000),
            (60_000, 60_000),
        ] {
            let pace = Pace::of_ms(ms).map(Pace::rounded_up);
            assert_eq!(pace.map(Pace::ms), Some(rounded));
        }
        assert!(Pace::of_ms(50) > Pace::of_ms(20) && Pace::default() == Pace::NONE);
    }
}
