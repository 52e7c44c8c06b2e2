//! Numbers, and the units that may follow them: sizes, times, counts.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::words::mismatch;
use super::yaml::{Node, Value};

/// Times of all kinds: up to a day.
pub(super) const TIMES_MS: RangeInclusive<u64> = 1..=24 * 60 * 60 * 1000;

/// An integer in `range`, or what is wrong.
pub(super) fn integer<T: TryFrom<i128>>(
    node: &Node,
    range: &RangeInclusive<u64>,
    expected: &str,
) -> Result<T, String> {
    match node.value {
        Value::Integer(value) => in_range(value, range, &value.to_string(), expected),
        Value::Text(ref text) if has_unit(text) => {
            Err(format!("{}, without a unit", mismatch(node, expected)))
        }
        _ => Err(mismatch(node, expected)),
    }
}

/// An integer in `range`, which a unit may follow.
pub(super) fn quantity<T: TryFrom<i128>>(
    node: &Node,
    units: &[(&str, u64)],
    range: &RangeInclusive<u64>,
    expected: &str,
) -> Result<T, String> {
    match &node.value {
        Value::Text(text) => match with_units(text, units) {
            Some(value) => in_range(value, range, text, expected),
            None => Err(mismatch(node, expected)),
        },
        _ => integer(node, range, expected),
    }
}

/// `5s`, `1M`.
fn has_unit(text: &str) -> bool {
    let number = text.trim_end_matches(|char: char| char.is_ascii_alphabetic() || char == ' ');
    number.len() < text.len() && number.parse::<f64>().is_ok()
}

fn in_range<T: TryFrom<i128>>(
    value: i128,
    range: &RangeInclusive<u64>,
    shown: &str,
    expected: &str,
) -> Result<T, String> {
    let size = if value < i128::from(*range.start()) {
        "small"
    } else if value > i128::from(*range.end()) {
        "large"
    } else if let Ok(value) = T::try_from(value) {
        return Ok(value);
    } else {
        "large"
    };
    Err(format!("{shown} is too {size}, expected {expected}"))
}

pub(super) const UNITS_SIZE: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

pub(super) const UNITS_TIME: [(&str, u64); 5] = [
    ("ms", 1),
    ("min", 60_000),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
];

pub(super) const UNITS_COUNT: [(&str, u64); 3] = [("k", 1000), ("K", 1000), ("M", 1_000_000)];

/// `5s`. None: no such text, or a number without a unit.
pub fn duration(text: &str) -> Option<Duration> {
    let ms = with_units(text, &UNITS_TIME)?;
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// `64KiB` → 65536. None: no such text, or a number without a unit.
fn with_units(text: &str, units: &[(&str, u64)]) -> Option<i128> {
    let (digits, unit) = units
        .iter()
        .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse::<u64>().ok())
        .flatten()
        .map(|digits| i128::from(digits) * i128::from(unit))
}

/// 65536 → `64KiB`, in the largest unit that leaves no rest.
pub(super) fn with_unit(bytes: u64) -> String {
    match UNITS_SIZE
        .iter()
        .find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit))
    {
        Some((unit, size)) if *size > 1 => format!("{}{unit}", bytes / size),
        _ => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown_in_their_units() {
        for (text, expected) in [
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1 << 20)),
            ("2GiB", Some(2 << 30)),
            ("7B", Some(7)),
            ("64", None),
            ("KiB", None),
            ("-1KiB", None),
            ("+1KiB", None),
            ("1.5MiB", None),
            ("1 MiB", None),
            ("1MB", None),
            ("1kib", None),
            ("99999999999999999999GiB", None),
            (
                "18446744073709551615GiB",
                Some(u64::MAX as i128 * (1 << 30)),
            ),
        ] {
            assert_eq!(with_units(text, &UNITS_SIZE), expected, "{text}");
        }
        for (text, expected) in [
            ("5s", Some(5000)),
            ("5000ms", Some(5000)),
            ("2min", Some(120_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("1.5s", None),
            ("s", None),
        ] {
            assert_eq!(with_units(text, &UNITS_TIME), expected, "{text}");
        }
        assert_eq!(with_units("1M", &UNITS_COUNT), Some(1_000_000));
        assert_eq!(with_units("100k", &UNITS_COUNT), Some(100_000));
        assert_eq!(
            [0, 1, 1000, 1024, 3 << 20].map(with_unit),
            ["0", "1", "1000", "1KiB", "3MiB"]
        );
    }
}
