//! One level of a JSON text whose grammar is known to be right: what lies below is passed over and not
//! checked again.
//!
//! A call's input has been read once as a part of its message. [`raw`](super::raw) is for texts that
//! nobody has looked at.

use super::value::{CLASSES, Class, string_end};

/// Hands each member of an object to `each`: its key as the JSON string it is, and its value.
///
/// **Precondition**: `object` is exactly one JSON object by the grammar of RFC 8259, without blanks around
/// it. Of other texts `each` sees parts, or nothing.
pub fn members<'a>(object: &'a str, mut each: impl FnMut(&'a str, &'a str)) {
    let mut at = 1; // behind the brace
    while let Some(key) = next(object, &mut at)
        && let Some(value) = next(object, &mut at)
    {
        each(key, value);
    }
}

/// The next key or value from `at` on. None: the object ends.
fn next<'a>(text: &'a str, at: &mut usize) -> Option<&'a str> {
    let bytes = text.as_bytes();
    let is_between = |byte: &u8| matches!(byte, b',' | b':' | b' ' | b'\n' | b'\r' | b'\t');
    while bytes.get(*at).is_some_and(is_between) {
        *at += 1;
    }
    let start = *at;
    *at = match bytes.get(start)? {
        b'"' => string_end(bytes, start + 1),
        b'{' | b'[' => nested_end(bytes, start),
        _ => scalar_end(bytes, start),
    };
    text.get(start..*at).filter(|found| !found.is_empty())
}

/// Where the text goes on behind a number, `true`, `false` or `null`; for anything else `start`.
fn scalar_end(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    let is_behind =
        |byte: &u8| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.');
    let len = rest.iter().position(is_behind);
    start + len.unwrap_or(rest.len())
}

fn nested_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match CLASSES[usize::from(byte)] {
            Class::Quote => at = string_end(bytes, at),
            Class::Opens => depth += 1,
            Class::Closes => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            Class::Number | Class::Other => {}
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::protocol::json::raw;

    fn seen(object: &str) -> Vec<(&str, &str)> {
        let mut seen = Vec::new();
        members(object, |key, value| seen.push((key, value)));
        seen
    }

    #[test]
    fn members_come_as_texts_in_their_order_doubled_ones_too() {
        assert_eq!(
            seen("{\"a\" : -1.5e+9 ,\"\\u0061\":[ 1,{\"]\":\"\\\"}\"}],\n\"a\":\"\\ud800\\\\\"}"),
            [
                ("\"a\"", "-1.5e+9"),
                ("\"\\u0061\"", "[ 1,{\"]\":\"\\\"}\"}]"),
                ("\"a\"", "\"\\ud800\\\\\"")
            ]
        );
        assert_eq!(seen("{ }"), []);
    }

    fn blanks(random: &mut SmallRng) -> &'static str {
        ["", "", "", " ", "\n\t", "\r "][random.random_range(0..6)]
    }

    fn string(random: &mut SmallRng) -> String {
        let parts = [
            "a",
            "é😀",
            "\\\"",
            "\\\\",
            "\\u0041",
            "{",
            "]",
            ",",
            ":",
            "        x",
            "\\n",
        ];
        let len = random.random_range(0..6);
        let parts = (0..len).map(|_| parts[random.random_range(0..parts.len())]);
        format!("\"{}\"", parts.collect::<String>())
    }

    fn value(random: &mut SmallRng, depth: u32) -> String {
        let scalars = ["true", "false", "null", "0", "-12.50E-3", "7e9"];
        match random.random_range(0..5) {
            0 if depth > 0 => object(random, depth - 1),
            1 if depth > 0 => {
                let len = random.random_range(0..4);
                let elements: Vec<String> = (0..len).map(|_| value(random, depth - 1)).collect();
                let blanks = blanks(random);
                format!("[{blanks}{}{blanks}]", elements.join(&format!("{blanks},")))
            }
            2 => string(random),
            _ => scalars[random.random_range(0..scalars.len())].to_owned(),
        }
    }

    fn object(random: &mut SmallRng, depth: u32) -> String {
        let len = random.random_range(0..5);
        let members: Vec<String> = (0..len)
            .map(|_| {
                let (key, value) = (string(random), value(random, depth));
                let [a, b, c, d] = [(); 4].map(|()| blanks(random));
                format!("{a}{key}{b}:{c}{value}{d}")
            })
            .collect();
        format!("{{{}{}}}", members.join(","), blanks(random))
    }

    #[test]
    fn all_that_a_checking_reader_sees_is_seen() {
        for seed in 0..20_000 {
            let text = object(&mut SmallRng::seed_from_u64(seed), 4);
            let mut expected = Vec::new();
            raw::members(&text, |key, value| expected.push((key, value.get()))).unwrap();
            assert_eq!(seen(&text), expected, "{text}");
        }
    }

    #[test]
    fn no_text_makes_it_panic_or_run_for_ever() {
        for seed in 0..20_000 {
            let mut random = SmallRng::seed_from_u64(seed);
            let text = object(&mut random, 3);
            let cut = random.random_range(0..=text.len());
            let text = String::from_utf8_lossy(&text.as_bytes()[cut..]).into_owned();
            assert!(seen(&text).len() <= text.len());
        }
    }
}
