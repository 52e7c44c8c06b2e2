//! The values that the harness publishes: an id, a stamp that says which change it is, a filling.
//!
//! Pure. A stamp bears a sum of its own fields, so one that was changed on the way is not read as
//! another one. May not know the texts that hold values.

use std::fmt::{self, Display, Formatter};
use std::io::Write;

const STAMP_DIGITS: usize = 8 + 8 + 12 + 5 + 4;
/// The smallest value there is, of 64 bytes: an id, a stamp and an empty filling.
pub(crate) const VALUE_BYTES_MIN: usize = r#"{"id":"i000","s":"","x":""}"#.len() + STAMP_DIGITS;
/// What stands between a value's id and its stamp.
const BEFORE_STAMP: &[u8] = br#"","s":""#;
/// What a stamp has room for.
pub(crate) const GROUPS_MAX: u32 = 1 << 20;
pub(crate) const ITEMS_MAX: u32 = 1 << 16;

/// Which run published what and when: fixed-width hexadecimal inside each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    /// Which change of its group this is: 0, 1, 2, …
    pub(crate) sequence: u32,
    /// The intended send time: nanoseconds of this process's clock, 78 hours of them.
    pub(crate) sent_ns: u64,
    /// Below `GROUPS_MAX`.
    pub(crate) group: u32,
    /// Below `ITEMS_MAX`.
    pub(crate) item: u32,
}

impl Stamp {
    fn write(&self, out: &mut Vec<u8>) {
        let Self {
            sequence,
            sent_ns,
            group,
            item,
            ..
        } = self;
        debug_assert!(*group < GROUPS_MAX && *item < ITEMS_MAX);
        let run = self.masked_run();
        write!(
            out,
            "{run:08x}{sequence:08x}{sent_ns:012x}{group:05x}{item:04x}"
        )
        .expect("a Vec takes every write");
    }

    /// The value that carries this stamp, filled up with `padding`.
    pub(crate) fn write_value(&self, padding: &str, out: &mut Vec<u8>) {
        write!(out, r#"{{"id":"{}","s":""#, ItemId(self.item)).expect("a Vec takes every write");
        self.write(out);
        write!(out, r#"","x":"{padding}"}}"#).expect("a Vec takes every write");
    }

    /// `None`: these are not the digits of a stamp.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let digits: &[u8; STAMP_DIGITS] = text.first_chunk()?;
        if !digits.iter().all(|byte| is_digit(*byte)) {
            return None;
        }
        let word = |at: usize| Some(hex_word(*digits.get(at..)?.first_chunk()?));
        // The last eight digits begin inside the group, which the eight before them begin.
        let (time, time_and_group, group_and_item) = (word(16)?, word(24)?, word(29)?);
        let masked = Self {
            run: word(0)?,
            sequence: word(8)?,
            sent_ns: u64::from(time) << 16 | u64::from(time_and_group >> 16),
            group: (time_and_group & 0xffff) << 4 | (group_and_item >> 16 & 0xf),
            item: group_and_item & 0xffff,
        };
        Some(Self {
            run: masked.masked_run(),
            ..masked
        })
    }

    /// The run under a mask made of the other fields: who changes one of them names another run.
    fn masked_run(&self) -> u32 {
        let names = u64::from(self.group) << 40 | u64::from(self.item) << 24;
        let sum = mixed(self.sent_ns ^ mixed(names ^ mixed(u64::from(self.sequence))));
        self.run ^ (sum >> 32) as u32
    }
}

/// Spreads each bit over all (the finalizer of SplitMix64).
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ word >> 31).wrapping_add(0x9e37_79b9_7f4a_7c15)
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Eight hexadecimal digits at once.
fn hex_word(digits: [u8; 8]) -> u32 {
    let text = u64::from_be_bytes(digits);
    // '0'..'9' end in their value; letters have bit 6 set and end in 1..6.
    let nibbles = (text & 0x0f0f_0f0f_0f0f_0f0f) + 9 * ((text >> 6) & 0x0101_0101_0101_0101);
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (halves | halves >> 16) as u32
}

/// A value that stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) stamp: Stamp,
    /// Each of its bytes is as it was published, or would be by a run with values of another size.
    pub(crate) is_whole: bool,
}

/// Takes one value of this harness off the front of `text`. `None`: it is nobody's of ours.
pub(crate) fn take_value(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let rest = text.strip_prefix(br#"{"id":"i"#)?;
    let (item, rest) = take_number(rest, 3)?;
    let rest = rest.strip_prefix(BEFORE_STAMP)?;
    let stamp = Stamp::read(rest).filter(|stamp| u64::from(stamp.item) == item)?;
    let rest = rest[STAMP_DIGITS..].strip_prefix(br#"","x":""#)?;
    let filling = rest.iter().take_while(|byte| **byte == b'x').count();
    let rest = rest[filling..].strip_prefix(br#""}"#)?;
    Some((stamp, rest))
}

/// A decimal number off the front, of `least` digits or more, as it is written with leading zeros up to
/// that width.
pub(crate) fn take_number(text: &[u8], least: usize) -> Option<(u64, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_plain = len == least || len > least && text[0] != b'0';
    let digits = text.get(..len).filter(|_| is_plain && len <= 18)?;
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some((number, &text[len..]))
}

/// Every stamped value in `text`, whatever stands between them.
pub(crate) fn values(text: &[u8], value_bytes: usize) -> impl Iterator<Item = Value> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = find(BEFORE_STAMP, rest)?;
        let stamp = Stamp::read(&rest[at..])?;
        let id = rest[..at - BEFORE_STAMP.len()]
            .iter()
            .rposition(|byte| *byte == b'{');
        let whole = id.and_then(|id| {
            let (_, behind) = take_value(&rest[id..])?;
            (rest.len() - id - behind.len() == value_bytes_of(stamp.item, value_bytes))
                .then_some(behind)
        });
        rest = whole.unwrap_or(&rest[at + STAMP_DIGITS..]);
        Some(Value {
            stamp,
            is_whole: whole.is_some(),
        })
    })
}

/// How long a value of `item` is: longer names make it longer.
pub(crate) fn value_bytes_of(item: u32, value_bytes: usize) -> usize {
    let more_digits = item.checked_ilog10().map_or(0, |digits| digits as usize);
    value_bytes.max(VALUE_BYTES_MIN) + more_digits.saturating_sub(2)
}

/// What fills a value up to its size.
pub(crate) fn padding(value_bytes: usize) -> String {
    "x".repeat(value_bytes.saturating_sub(VALUE_BYTES_MIN))
}

pub(crate) struct ItemId(pub(crate) u32);

impl Display for ItemId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "i{:03}", self.0)
    }
}

/// The position behind the first `needle`.
pub(crate) fn find(needle: &[u8], text: &[u8]) -> Option<usize> {
    let at = text
        .windows(needle.len())
        .position(|window| window == needle)?;
    Some(at + needle.len())
}

/// A stamp for tests, and how long the values are that bear it.
#[cfg(test)]
pub(crate) mod sample {
    use super::{Stamp, VALUE_BYTES_MIN};

    pub(crate) const STAMP: Stamp = Stamp {
        run: 0xfeed_0001,
        sequence: 0xabc_def9,
        sent_ns: 0x4567_89ab_cdef,
        group: 7,
        item: 12,
    };
    pub(crate) const BYTES: usize = VALUE_BYTES_MIN + 2;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::sample::{BYTES, STAMP};
    use super::*;

    fn value(stamp: Stamp) -> Vec<u8> {
        let mut text = Vec::new();
        stamp.write_value(&padding(BYTES), &mut text);
        text
    }

    #[test]
    fn the_largest_numbers_fit_a_stamp() {
        let largest = Stamp {
            run: u32::MAX,
            sequence: u32::MAX,
            sent_ns: (1 << 48) - 1,
            group: GROUPS_MAX - 1,
            item: ITEMS_MAX - 1,
        };
        let between = Stamp {
            group: 0xabcde,
            item: 0x1234,
            ..STAMP
        };
        for stamp in [largest, STAMP, between] {
            let mut text = Vec::new();
            stamp.write(&mut text);
            assert_eq!(Stamp::read(&text), Some(stamp));
            assert_eq!(Stamp::read(&text[1..]), None);
            let text = value(stamp);
            assert_eq!(text.len(), value_bytes_of(stamp.item, BYTES));
            assert_eq!(take_value(&text), Some((stamp, &[][..])));
        }
        assert_eq!(VALUE_BYTES_MIN, 64);
    }

    #[test]
    fn every_hex_digit_is_read() {
        assert_eq!(hex_word(*b"01234567"), 0x0123_4567);
        assert_eq!(hex_word(*b"89abcdef"), 0x89ab_cdef);
        assert_eq!(hex_word(*b"ffffffff"), u32::MAX);
    }

    #[test]
    fn a_value_with_one_bit_changed_is_no_value_of_this_run_or_not_whole() {
        let text = value(STAMP);
        for bit in 0..8 * text.len() {
            let mut altered = text.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let taken = take_value(&altered)
                .filter(|(stamp, rest)| stamp.run == STAMP.run && rest.is_empty());
            assert_eq!(taken, None, "bit {bit}");
            let found = values(&altered, BYTES).find(|value| value.stamp.run == STAMP.run);
            assert!(found.is_none_or(|value| !value.is_whole), "bit {bit}");
        }
    }

    #[test]
    fn values_are_found_wherever_they_stand() {
        let other = Stamp {
            sequence: 3,
            ..STAMP
        };
        let lie = String::from_utf8(value(STAMP)).unwrap().replace("xx", "yy");
        for before in 0..300 {
            let text = [
                " ".repeat(before).as_bytes(),
                &value(STAMP),
                lie.as_bytes(),
                &value(other),
            ]
            .concat();
            let found = Vec::from_iter(values(&text, BYTES));
            let expected = [(STAMP, true), (STAMP, false), (other, true)]
                .map(|(stamp, is_whole)| Value { stamp, is_whole });
            assert_eq!(found, expected, "{before}");
        }
    }

    #[test]
    fn numbers_have_their_width_and_no_zeros_beyond_it() {
        for (text, number) in [
            (&b"007\""[..], Some(7)),
            (b"1234", Some(1234)),
            (b"07", None),
            (b"0123", None),
            (b"", None),
            (b"x12", None),
        ] {
            assert_eq!(take_number(text, 3).map(|(number, _)| number), number);
        }
    }
}
