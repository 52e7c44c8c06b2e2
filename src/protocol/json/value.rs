//! JSON text checked as strictly as a parser into a tree would check it, without a tree.
//!
//! serde_json's `RawValue` vouches for the grammar alone. What it lets pass and a tree does not
//! (numbers beyond a double, half surrogate pairs, deep nesting) is found here: first by a
//! filter without branches that sees most texts to be harmless, else by one exact pass.

use serde_json::value::RawValue;

/// Why a JSON text is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// More levels of arrays and objects than are allowed.
    #[error("{depth} levels deep")]
    TooDeep {
        /// How many levels it has.
        depth: usize,
    },
    /// A number that no double comes near.
    #[error("number out of range")]
    NumberOutOfRange,
    /// A string with half a surrogate pair.
    #[error("lone surrogate in a \\u escape")]
    LoneSurrogate,
    /// Not JSON.
    #[error("not JSON")]
    Syntax,
}

/// Checks a text of which only the grammar is known to be right.
///
/// **Precondition**: `text` is exactly one JSON value by the grammar of RFC 8259, as serde_json's
/// `RawValue` or `IgnoredAny` found it; blanks around it do no harm. Then this says `Ok` if and
/// only if `serde_json::Value` would take the text, but for the nesting, whose limit is
/// `depth_max`: scalars have depth 0, `[]` and `{}` have 1. A fault in a number or string is
/// told before one of depth, the first such fault before later ones. For other texts the answer
/// means nothing (it is `Ok` or any error, never a panic): use [`parse`].
pub fn check(text: &str, depth_max: usize) -> Result<(), ValueError> {
    let depth = match Look::over(text.as_bytes()) {
        Look { suspects: true, .. } => scan(text, true)?,
        Look { opened, .. } if opened > depth_max => scan(text, false)?,
        Look { opened, .. } => opened,
    };
    if depth > depth_max {
        return Err(ValueError::TooDeep { depth });
    }
    Ok(())
}

/// Checks any text; gives the value without the blanks around it.
pub fn parse(text: &str, depth_max: usize) -> Result<&str, ValueError> {
    let value: &RawValue = serde_json::from_str(text).map_err(|_| ValueError::Syntax)?;
    check(value.get(), depth_max)?;
    Ok(value.get())
}

/// How deep a JSON text is nested. The precondition is that of [`check`].
pub fn depth(text: &str) -> usize {
    scan(text, false).unwrap_or(0) // a lenient scan finds no fault
}

/// The depth of a JSON text, if it is more than `depth_max`. The precondition is that of [`check`].
pub fn depth_beyond(text: &str, depth_max: usize) -> Option<usize> {
    if Look::over(text.as_bytes()).opened <= depth_max {
        return None;
    }
    Some(depth(text)).filter(|&depth| depth > depth_max)
}

/// How many bytes the filter looks at together: few enough for counters of one byte.
const BLOCK_BYTES: usize = 32;

/// A run of at most this many digits is below every double's end, whatever stands behind it.
const DIGITS_HARMLESS: usize = 300;
const _: () = assert!(
    DIGITS_HARMLESS >= 2 * BLOCK_BYTES,
    "a longer run fills a whole block"
);

/// What the filter sees: it knows nothing of strings, so it sees too much rather than too little.
#[derive(Default)]
struct Look {
    /// How many `[` and `{` there are; the depth is no more.
    opened: usize,
    /// There may be an exponent, a long run of digits, or an escape `\u`.
    suspects: bool,
}

impl Look {
    /// Each block is looked at without branches, so that this becomes vector code; each byte
    /// together with the one behind it.
    fn over(bytes: &[u8]) -> Look {
        let behind = bytes.get(1..).unwrap_or_default();
        let (blocks, rest) = bytes[..behind.len()].as_chunks::<BLOCK_BYTES>();
        let (blocks_behind, rest_behind) = behind.as_chunks::<BLOCK_BYTES>();
        let mut look = Look::default();
        for (block, block_behind) in blocks.iter().zip(blocks_behind) {
            look.at(block, block_behind);
        }
        look.at(rest, rest_behind);
        look.opened += bytes.last().map_or(0, |&last| usize::from(opens(last)));
        look
    }

    #[inline(always)]
    fn at(&mut self, bytes: &[u8], behind: &[u8]) {
        let (mut opened, mut digits, mut suspects) = (0u8, 0, 0);
        for (&byte, &next) in bytes.iter().zip(behind) {
            let digit = u8::from(byte.wrapping_sub(b'0') < 10);
            digits += digit;
            opened += u8::from(opens(byte));
            suspects |= digit & u8::from(next | 0x20 == b'e');
            suspects |= u8::from(byte == b'\\') & u8::from(next == b'u');
        }
        self.opened += usize::from(opened);
        self.suspects |= (suspects != 0) | (usize::from(digits) == BLOCK_BYTES);
    }
}

#[inline(always)]
fn opens(byte: u8) -> bool {
    byte | 0x20 == b'{' // `[` and `{` differ in this bit
}

/// One exact pass; gives the depth. Not `strict`: numbers and strings may be what they like.
fn scan(text: &str, strict: bool) -> Result<usize, ValueError> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut deepest) = (0, 0usize, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        // Of what stands outside strings, most is neither of these.
        match CLASSES[usize::from(byte)] {
            Class::Other => {}
            Class::Quote if strict => at = checked_string_end(bytes, at)?,
            Class::Quote => at = string_end(bytes, at),
            Class::Opens => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            Class::Closes => depth = depth.saturating_sub(1),
            Class::Number if strict => at = number_end(text, at - 1)?,
            Class::Number => {}
        }
    }
    Ok(deepest)
}

/// What a byte outside strings begins.
#[derive(Clone, Copy)]
pub(super) enum Class {
    Other,
    Quote,
    Opens,
    Closes,
    Number,
}

pub(super) const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    classes[b'"' as usize] = Class::Quote;
    classes[b'{' as usize] = Class::Opens;
    classes[b'[' as usize] = Class::Opens;
    classes[b'}' as usize] = Class::Closes;
    classes[b']' as usize] = Class::Closes;
    classes[b'-' as usize] = Class::Number;
    let mut digit = b'0';
    while digit <= b'9' {
        classes[digit as usize] = Class::Number;
        digit += 1;
    }
    classes
};

/// Where the text goes on behind a string whose content begins at `at`.
pub(super) fn string_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = special_in_string(bytes, at);
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            Some(_) => return at + 1,
            None => return bytes.len(),
        }
    }
}

/// The same, and the string has no half of a surrogate pair.
fn checked_string_end(bytes: &[u8], mut at: usize) -> Result<usize, ValueError> {
    loop {
        at = special_in_string(bytes, at);
        match bytes.get(at) {
            Some(b'\\') => match unit(bytes, at) {
                None => at += 2,
                Some(0xdc00..=0xdfff) => return Err(ValueError::LoneSurrogate),
                Some(0xd800..=0xdbff) => match unit(bytes, at + 6) {
                    Some(0xdc00..=0xdfff) => at += 12,
                    _ => return Err(ValueError::LoneSurrogate),
                },
                Some(_) => at += 6,
            },
            Some(_) => return Ok(at + 1),
            None => return Err(ValueError::Syntax),
        }
    }
}

/// The UTF-16 unit that an escape `\uxxxx` at `at` stands for, if there is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let [b'\\', b'u', hex @ ..] = bytes.get(at..at + 6)? else {
        return None;
    };
    u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// The first quote or backslash from `at` on, or the end.
fn special_in_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let found = rest.iter().position(|&b| b == b'"' || b == b'\\');
    at + found.unwrap_or(rest.len())
}

/// The high bit of each byte that equals `byte`. Above the first true one there may be false ones.
fn bytes_equal(word: u64, byte: u8) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let zeros = word ^ (ONES * u64::from(byte));
    zeros.wrapping_sub(ONES) & !zeros & HIGHS
}

/// Where the text goes on behind a number that begins at `start`.
fn number_end(text: &str, start: usize) -> Result<usize, ValueError> {
    let bytes = &text.as_bytes()[start..];
    let mut has_exponent = false;
    let len = bytes.iter().position(|byte| match byte {
        b'0'..=b'9' | b'-' | b'+' | b'.' => false,
        b'e' | b'E' => {
            has_exponent = true;
            false
        }
        _ => true,
    });
    let len = len.unwrap_or(bytes.len());
    if has_exponent || len > DIGITS_HARMLESS {
        // The tree parser itself says what it takes.
        let number = text.get(start..start + len).ok_or(ValueError::Syntax)?;
        serde_json::from_str::<serde_json::Number>(number)
            .map_err(|_| ValueError::NumberOutOfRange)?;
    }
    Ok(start + len)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What serde_json's trees hold at most.
    const TREE_DEPTH_MAX: usize = 127;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn depth_is_counted_and_named_in_full() {
        assert_eq!(check(&nested(125), 125), Ok(()));
        assert_eq!(
            check(&nested(126), 125),
            Err(ValueError::TooDeep { depth: 126 })
        );
        assert_eq!(
            check(&nested(1_000_000), 125),
            Err(ValueError::TooDeep { depth: 1_000_000 })
        );
        assert_eq!(check("5", 0), Ok(()));
        assert_eq!(check("{}", 0), Err(ValueError::TooDeep { depth: 1 }));
        for (text, levels) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[{}],"b":1}"#, 3),
            (r#""[[""#, 0),
        ] {
            assert_eq!(depth(text), levels, "{text}");
        }
    }

    #[test]
    fn depth_beyond_a_limit_is_told_from_many_brackets() {
        assert_eq!(depth_beyond(&nested(126), 125), Some(126));
        assert_eq!(depth_beyond(&nested(125), 125), None);
        assert_eq!(
            depth_beyond(&format!("[{}]", "[],".repeat(500) + "1"), 125),
            None
        );
        assert_eq!(depth_beyond(&format!("\"{}\"", "[".repeat(500)), 125), None);
    }

    #[test]
    fn brackets_in_strings_and_side_by_side_are_not_depth() {
        assert_eq!(check(&format!("[{}1]", "[],".repeat(500)), 2), Ok(()));
        assert_eq!(check(&format!("[\"\\\"{}\"]", "[".repeat(500)), 1), Ok(()));
    }

    #[test]
    fn what_a_tree_takes_is_taken_and_what_it_refuses_is_named() {
        use ValueError::{LoneSurrogate, NumberOutOfRange};
        let digits = |n: usize| "9".repeat(n);
        let rows = [
            ("1e308".into(), Ok(())),
            ("1e309".into(), Err(NumberOutOfRange)),
            ("[-1E+999]".into(), Err(NumberOutOfRange)),
            ("1e-999999999999".into(), Ok(())),
            ("0e999999999999".into(), Ok(())),
            ("1.7976931348623157e308".into(), Ok(())),
            (digits(308), Ok(())),
            (digits(310), Err(NumberOutOfRange)),
            (format!("0.{}", digits(400)), Ok(())),
            (format!("{{\"a\":{}}}", digits(1000)), Err(NumberOutOfRange)),
            (format!("\"{} 1e999\"", digits(1000)), Ok(())),
            (r#""\ud83d\ude00""#.into(), Ok(())),
            (r#""\uD83D\uDE00x""#.into(), Ok(())),
            (r#""\ud83d""#.into(), Err(LoneSurrogate)),
            (r#""\ud83dx\ude00""#.into(), Err(LoneSurrogate)),
            (r#""\ud83d\u0041""#.into(), Err(LoneSurrogate)),
            (r#""\ud83d\ud83d\ude00""#.into(), Err(LoneSurrogate)),
            (r#"{"\ude00":1}"#.into(), Err(LoneSurrogate)),
            (r#""\\ud83d""#.into(), Ok(())),
            (r#""\\\ud83d""#.into(), Err(LoneSurrogate)),
            (r#"[1e999,"\ud83d"]"#.into(), Err(NumberOutOfRange)),
            (r#"["\ud83d",1e999]"#.into(), Err(LoneSurrogate)),
        ];
        for (text, wanted) in rows {
            let text: String = text;
            assert_eq!(check(&text, TREE_DEPTH_MAX), wanted, "{text}");
            assert_eq!(
                serde_json::from_str::<Value>(&text).is_ok(),
                wanted.is_ok(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_fault_is_found_wherever_it_stands_among_the_blocks() {
        for len in 0..100 {
            for fault in [r#""\ud83d""#, "1e999"] {
                let text = format!("[\"{}\",{fault},{}1]", "x".repeat(len), "5,".repeat(40));
                assert!(check(&text, 5).is_err(), "{text}");
            }
            let text = format!("[{}1,{}]", "5,".repeat(len), "1".repeat(310));
            assert_eq!(check(&text, 5), Err(ValueError::NumberOutOfRange), "{text}");
        }
    }

    #[test]
    fn a_fault_in_a_value_is_told_before_its_depth() {
        let text = format!("[{},1e999]", nested(200));
        assert_eq!(check(&text, 125), Err(ValueError::NumberOutOfRange));
    }

    #[test]
    fn any_text_can_be_parsed_and_loses_its_outer_blanks() {
        assert_eq!(parse(" [1, 2]\n", 5), Ok("[1, 2]"));
        for text in ["", " ", "[1,]", "01", "\"", "nul", "[", "1 2", "\"\n\""] {
            assert_eq!(parse(text, 5), Err(ValueError::Syntax), "{text}");
        }
    }

    /// Numbers of a fixed seed, so that a failure can be run again.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 33) as usize % n
        }
    }

    #[test]
    fn mutated_texts_are_judged_as_a_tree_would_judge_them() {
        const SEEDS: [&str; 7] = [
            r#"{"id":1,"name":"user 1 é","x":7.25,"on":true,"tags":["a","b\n"]}"#,
            r#"["\ud83d\ude00 \u00e9 \\ \" \/",-0.0,1e308,1E-7,[[[{}]]]]"#,
            r#"{"a":{"b":{"c":[null,false,18446744073709551615,"\u0000"]}}}"#,
            r#""3f2504e0-4f89-11d3-9a0c-0305e82c3301 \\\\ \\\ud83d\udc4d""#,
            r#"[123456789012345678901234567890e270,0.00000000000000000001e320]"#,
            r#"  [ 1 , "x" , { "k" : [ ] } ]  "#,
            r#"{"big":99999999999999999999999999999999999999999999999999999999999}"#,
        ];
        const PIECES: [&str; 22] = [
            "[",
            "]",
            "{",
            "}",
            "\"",
            "\\",
            "\\u",
            "\\ud83d",
            "\\ude00",
            "\\uD800",
            "e",
            "E9",
            "e999",
            "99999",
            ",",
            ":",
            "0",
            "-",
            "1.5",
            " ",
            "é",
            "[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        ];
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let (mut taken, mut refused) = (0, 0);
        for round in 0..60_000 {
            let mut text = SEEDS[round % SEEDS.len()].to_owned();
            for _ in 0..=numbers.below(3) {
                let mut at = numbers.below(text.len() + 1);
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                match numbers.below(4) {
                    0 if at < text.len() => drop(text.remove(at)),
                    1 => text = text[..at].to_owned() + text.get(at / 2..).unwrap_or_default(),
                    2 => {
                        let piece = "9".repeat(numbers.below(400));
                        text.insert_str(at, &piece);
                    }
                    _ => text.insert_str(at, PIECES[numbers.below(PIECES.len())]),
                }
                if text.is_empty() {
                    break;
                }
            }
            let tree = serde_json::from_str::<Value>(&text).is_ok();
            assert_eq!(parse(&text, TREE_DEPTH_MAX).is_ok(), tree, "{text}");
            assert!(scan(&text, false).is_ok(), "a lenient scan finds no fault");
            if serde_json::from_str::<&RawValue>(&text).is_ok() {
                let verdict = check(&text, TREE_DEPTH_MAX);
                assert_eq!(verdict.is_ok(), tree, "{text}");
                assert_ne!(verdict, Err(ValueError::Syntax), "{text}");
                *(if tree { &mut taken } else { &mut refused }) += 1;
            }
            let _ = check(&text, 3); // no panic, whatever the text
        }
        assert!(
            taken > 1000 && refused > 200,
            "{taken} taken, {refused} refused"
        );
    }
}
