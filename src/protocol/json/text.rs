//! JSON strings: written with the escapes that clients see, read without a copy where there are none.
//!
//! Knows nothing of messages. `protocol::frame` and `protocol::answer` write with it.

use std::borrow::Cow;

/// How many bytes are looked at together: one vector register's worth without branches.
const BLOCK_BYTES: usize = 16;

/// Appends `s` as a JSON string, quotes included.
///
/// Escaped are `"`, `\` and what is below U+0020, by letter where JSON has one and as `\u00xx`
/// otherwise. All else stands as it is.
pub fn write_string(out: &mut Vec<u8>, s: &str) {
    out.reserve(s.len() + 2);
    out.push(b'"');
    write_escaped(out, s);
    out.push(b'"');
}

/// Appends an array of strings.
pub fn write_strings(out: &mut Vec<u8>, strings: &[impl AsRef<str>]) {
    out.push(b'[');
    for (at, string) in strings.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(out, string.as_ref());
    }
    out.push(b']');
}

/// Appends `s` as it stands between the quotes of a JSON string.
pub fn write_escaped(out: &mut Vec<u8>, s: &str) {
    let mut rest = s.as_bytes();
    loop {
        let (clean, tail) = rest.split_at(clean_len(rest));
        out.extend_from_slice(clean);
        let Some((&byte, tail)) = tail.split_first() else {
            return;
        };
        escape(out, byte);
        rest = tail;
    }
}

/// How many bytes at the start need no escape.
fn clean_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    for block in bytes.chunks_exact(BLOCK_BYTES) {
        if block.iter().fold(false, |any, &b| any | needs_escape(b)) {
            break;
        }
        len += BLOCK_BYTES;
    }
    let rest = &bytes[len..];
    len + rest
        .iter()
        .position(|&b| needs_escape(b))
        .unwrap_or(rest.len())
}

fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// A string that no Unicode text can hold: it has half a surrogate pair, written as `\ud83d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("lone surrogate in a \\u escape")]
pub struct LoneSurrogate;

/// The content of a JSON string. Borrowed unless it has escapes.
///
/// `json` is the text of one JSON string, quotes included, as a parser found it. Of a text that
/// is none, something is made or `LoneSurrogate` said; which of the two means nothing.
pub fn read_string(json: &str) -> Result<Cow<'_, str>, LoneSurrogate> {
    let plain = json.strip_prefix('"').and_then(|s| s.strip_suffix('"'));
    match plain {
        Some(content) if !content.as_bytes().contains(&b'\\') => Ok(Cow::Borrowed(content)),
        // Of a JSON string, serde_json refuses nothing else than half a pair.
        _ => serde_json::from_str(json)
            .map(Cow::Owned)
            .map_err(|_| LoneSurrogate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(s: &str) -> String {
        let mut out = Vec::new();
        write_string(&mut out, s);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_clients_see_it() {
        let rows = [
            ("", r#""""#),
            ("plain é / \u{7f} \u{2028}", "\"plain é / \u{7f} \u{2028}\""),
            ("\"\\\u{8}\u{c}\n\r\t", r#""\"\\\b\f\n\r\t""#),
            ("\0\u{1b}\u{1f} ", r#""\u0000\u001b\u001f ""#),
        ];
        for (s, json) in rows {
            assert_eq!(written(s), json);
        }
    }

    #[test]
    fn an_escape_at_every_place_of_a_block_is_found() {
        for len in 0..50 {
            for at in 0..len {
                let mut s = "x".repeat(len);
                s.replace_range(at..=at, "\n");
                assert_eq!(written(&s), serde_json::to_string(&s).unwrap());
            }
        }
    }

    #[test]
    fn strings_are_read_back_and_borrowed_without_escapes() {
        assert!(matches!(read_string(r#""a é""#), Ok(Cow::Borrowed("a é"))));
        assert_eq!(read_string(r#""\ud83d\ude00\n""#).unwrap(), "😀\n");
        assert_eq!(read_string(r#""\ud83d""#), Err(LoneSurrogate));
    }

    #[test]
    fn what_is_no_string_does_no_harm() {
        for text in ["", "\"", "5", "\"a", "a\"", "\"a\\\""] {
            let _ = read_string(text);
        }
    }
}
