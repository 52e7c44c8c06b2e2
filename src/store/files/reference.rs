//! The reference's files: their names, their bytes, and how it spells a value.
//!
//! Pure. A file is a group as one JSON object in an archived string; its name is the group's key with
//! most bytes escaped. May not know a directory.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::json::number::Number;
use crate::protocol::json::{text, value};

const EXTENSION: &str = ".bin";
/// A write that the reference has not finished.
pub(super) const EXTENSION_UNFINISHED: &str = ".bin.tmp";
const PREFIX: &str = "stream:";
/// A name with the extension of an unfinished write is as long as a file system takes.
const NAME_BYTES_MAX: usize = 255 - EXTENSION_UNFINISHED.len();
/// How many bytes a group's text may have: its length has 30 bits.
const TEXT_BYTES_MAX: usize = (1 << 30) - 1;
/// Deeper values cost the reference the whole group.
const DEPTH_MAX: usize = 126;
/// Length and offset, or a text that is no longer.
const TAIL_BYTES: usize = 8;
const FILL: u8 = 0xff;

/// The file of a group, by its joined names. `None`: the reference could not write it.
pub(super) fn name_of(joined: &str) -> Option<String> {
    let mut name = String::new();
    for byte in PREFIX.bytes().chain(joined.bytes()) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                name.push(char::from(byte));
            }
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                name.push('%');
                name.push(char::from(HEX[usize::from(byte >> 4)]));
                name.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    (name.len() <= NAME_BYTES_MAX).then(|| name + EXTENSION)
}

/// What a file's name says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The joined names of a group.
    Group(String),
    /// A `.bin` file that holds no group of a stream, or whose name cannot be read.
    Other,
    /// Nothing that the reference would look at.
    Nothing,
}

pub(super) fn read_name(name: &str) -> Named {
    let escaped = match name.strip_suffix(EXTENSION) {
        None | Some("") => return Named::Nothing,
        Some(escaped) => escaped,
    };
    let joined = unescaped(escaped).and_then(|key| Some(key.strip_prefix(PREFIX)?.to_owned()));
    match joined {
        Some(joined) if joined.contains(':') => Named::Group(joined),
        _ => Named::Other,
    }
}

fn unescaped(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(digits[0])? << 4 | digit(digits[1])?;
        bytes.push(value as u8);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// The text that a file holds, or what is wrong with it.
pub(super) fn text_of(file: &[u8]) -> Result<&str, String> {
    let Some((text, tail)) = file.split_last_chunk::<TAIL_BYTES>() else {
        return Err(format!("has {} bytes, at least 8 are needed", file.len()));
    };
    let is_long = tail[0] >> 6 == 0b10;
    let text = if is_long {
        long_text(text, tail)?
    } else {
        if !text.is_empty() {
            return Err("does not end as its text's length asks".to_owned());
        }
        let len = tail.iter().position(|byte| *byte == FILL);
        &file[..len.unwrap_or(TAIL_BYTES)]
    };
    std::str::from_utf8(text).map_err(|_| "is not UTF-8".to_owned())
}

fn long_text<'a>(text: &'a [u8], tail: &[u8; TAIL_BYTES]) -> Result<&'a [u8], String> {
    let [a, b, c, d, e, f, g, h] = *tail;
    let word = u32::from_le_bytes([a, b, c, d]) as usize;
    let len = (word & 0x3f) | (word >> 8) << 6;
    let behind = usize::try_from(-i64::from(i32::from_le_bytes([e, f, g, h])));
    let padding = behind.ok().and_then(|behind| behind.checked_sub(len));
    match padding {
        Some(padding) if padding < 4 && len + padding == text.len() => Ok(&text[..len]),
        Some(padding) if padding < 4 && len + padding < text.len() => Err(format!(
            "has {} bytes before its text",
            text.len() - len - padding
        )),
        Some(padding) if padding < 4 => Err("is shorter than its text's length says".to_owned()),
        _ => Err("says that its text stands where it cannot".to_owned()),
    }
}

/// The file that holds a text.
pub(super) fn bytes_of(text: &str) -> Vec<u8> {
    let mut file = text.as_bytes().to_vec();
    if text.len() <= TAIL_BYTES {
        file.resize(TAIL_BYTES, FILL);
        return file;
    }
    file.resize(text.len().next_multiple_of(4), 0);
    let word = (text.len() & 0x3f) | 0x80 | (text.len() >> 6) << 8;
    let offset = -(file.len() as i32);
    file.extend_from_slice(&(word as u32).to_le_bytes());
    file.extend_from_slice(&offset.to_le_bytes());
    file
}

/// A group's items in their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Items(pub(super) Vec<(String, String)>);

/// The items of a group's text; of two with one name the later value counts, in the place of the
/// first.
pub(super) fn items_of(text: &str) -> Result<Items, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let items = reader.deserialize_map(ItemsVisitor);
    let items = items.and_then(|items| reader.end().map(|()| items));
    let items = items.map_err(|error| format!("is no JSON object: {error}"))?;
    for (name, found) in &items.0 {
        value::check(found, DEPTH_MAX).map_err(|error| format!("item {name:?}: {error}"))?;
    }
    Ok(items)
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items, A::Error> {
        let mut items: Vec<(String, String)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            let value = value.get().to_owned();
            match places.get(&name) {
                Some(place) => items[*place] = (name, value),
                None => {
                    places.insert(name.clone(), items.len());
                    items.push((name, value));
                }
            }
        }
        Ok(Items(items))
    }
}

/// A group as the reference spells it, or why it could not read it.
pub(super) fn spelled<'a>(
    items: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, String> {
    let mut out = vec![b'{'];
    for (at, (name, value)) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text::write_string(&mut out, name);
        out.push(b':');
        let checked = value::check(value, DEPTH_MAX);
        let wrong = |error: &dyn fmt::Display| format!("item {name:?}: {error}");
        checked.map_err(|error| wrong(&error))?;
        let tree: Value = serde_json::from_str(value).map_err(|error| wrong(&error))?;
        spell(&mut out, &tree);
    }
    out.push(b'}');
    if out.len() > TEXT_BYTES_MAX {
        return Err(format!(
            "{} bytes of text, limit {TEXT_BYTES_MAX}",
            out.len()
        ));
    }
    String::from_utf8(out).map_err(|_| "not UTF-8".to_owned())
}

/// Keys sorted by bytes, no blanks, numbers by their values.
fn spell(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let spelled = number_of(number);
            out.extend_from_slice(spelled.as_bytes());
        }
        Value::String(string) => text::write_string(out, string),
        Value::Array(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                spell(out, value);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                text::write_string(out, name);
                out.push(b':');
                spell(out, value);
            }
            out.push(b'}');
        }
    }
}

fn number_of(number: &serde_json::Number) -> String {
    let integer = number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from));
    let spelled = match integer {
        Some(integer) => Number::Integer(integer),
        None => Number::Float(number.as_f64().unwrap_or_default()),
    };
    spelled.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference() {
        for (joined, name) in [
            ("presence:room-1", "stream%3Apresence%3Aroom-1.bin"),
            ("a/b:c/d", "stream%3Aa%2Fb%3Ac%2Fd.bin"),
            ("..:..", "stream%3A..%3A...bin"),
            ("имя:グ", "stream%3A%D0%B8%D0%BC%D1%8F%3A%E3%82%B0.bin"),
            (":", "stream%3A%3A.bin"),
        ] {
            assert_eq!(name_of(joined).as_deref(), Some(name));
            assert_eq!(read_name(name), Named::Group(joined.to_owned()));
        }
        // 235 bytes beside `stream%3A` and `%3A`.
        assert!(name_of(&format!("{}:{}", "s".repeat(200), "g".repeat(35))).is_some());
        assert_eq!(
            name_of(&format!("{}:{}", "s".repeat(200), "g".repeat(36))),
            None
        );
    }

    #[test]
    fn names_of_another_spelling_are_read_and_others_left_alone() {
        let group = |joined: &str| Named::Group(joined.to_owned());
        for (name, expected) in [
            ("stream%3ad%3alower-hex.bin", group("d:lower-hex")),
            ("stream:d:raw-colons.bin", group("d:raw-colons")),
            ("stream%3Ad%3Araw-é.bin", group("d:raw-é")),
            ("state%3Ax.bin", Named::Other),
            ("stream%3Aonly-stream.bin", Named::Other),
            ("stream%3Ad%3Abad-escape%ZZ.bin", Named::Other),
            ("stream%3Ad%3Abad-escape%2.bin", Named::Other),
            ("stream%3Ad%3Abad-utf8%FF.bin", Named::Other),
            ("stream%3Ad%3Aupper-ext.BIN", Named::Nothing),
            ("stream%3Ad%3Aleftover.bin.tmp", Named::Nothing),
            (".bin", Named::Nothing),
        ] {
            assert_eq!(read_name(name), expected, "{name}");
        }
    }

    #[test]
    fn bytes_are_those_of_the_reference() {
        for (text, tail) in [
            ("{\"\":1}", &b"\xff\xff"[..]),
            ("{\"a\":12}", b""),
            ("{\"a\":123}", b"\0\0\0\x89\0\0\0\xf4\xff\xff\xff"),
            (&"x".repeat(64), b"\x80\x01\0\0\xc0\xff\xff\xff"),
            (&"x".repeat(16384), b"\x80\0\x01\0\0\xc0\xff\xff"),
        ] {
            let bytes = bytes_of(text);
            assert_eq!(bytes, [text.as_bytes(), tail].concat());
            assert_eq!(text_of(&bytes), Ok(text));
        }
    }

    #[test]
    fn values_are_spelled_as_the_reference_does() {
        let spelled_one = |value: &str| spelled([("k", value)]).map(|text| text[5..].to_owned());
        for (value, expected) in [
            ("-0", "-0.0}"),
            ("1E5", "100000.0}"),
            ("18446744073709551616", "1.8446744073709552e+19}"),
            ("18446744073709551615", "18446744073709551615}"),
            (r#"{"b":1, "a":2,"b":3}"#, r#"{"a":2,"b":3}}"#),
            (r#""\u0041\/\ud83d\ude00\u0000""#, r#""A/😀\u0000"}"#),
        ] {
            assert_eq!(spelled_one(value).as_deref(), Ok(expected));
        }
        for value in ["1e309", r#""\ud83d""#, &"[".repeat(127)] {
            assert!(spelled_one(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_doubled_name_has_the_last_value_in_the_first_place() {
        let items = items_of(r#" {"a": 1,"b":[ 2 ],"a":3 } "#).unwrap();
        let expected = [("a", "3"), ("b", "[ 2 ]")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(items.0, expected);
        for wrong in ["", "[]", "{} x", "{\"a\":1e999}", "{\"a\"", "5"] {
            assert!(items_of(wrong).is_err(), "{wrong}");
        }
    }
}
