//! What a command prints: its own lines, and texts of others, which must not break a line or a terminal.
//!
//! May not know what is printed.

use std::io::{ErrorKind, Write};

use anyhow::Context;
use iii_stream::log;
use iii_stream::notes::steers;

/// The command's own output. Who reads only its beginning is no error.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    match written(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output")
        }
        _ => Ok(()),
    }
}

/// The same for output that goes on for long. False: nobody reads any more.
pub(crate) fn goes_on(text: &str) -> anyhow::Result<bool> {
    match written(text) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("standard output"),
    }
}

fn written(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// One line on stderr.
pub(crate) fn complain(line: &str) {
    log::say(line);
    log::flush();
}

/// A JSON text as one line: without blanks between its parts, and with what steers a terminal or hides
/// text written as an escape. Numbers and the order of keys stay as they are.
pub(crate) fn json_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    let mut in_text = false;
    let mut is_escaped = false;
    for char in json.chars() {
        if !in_text {
            in_text = char == '"';
            if !char.is_whitespace() {
                line.push(char);
            }
            continue;
        }
        in_text = char != '"' || is_escaped;
        is_escaped = char == '\\' && !is_escaped;
        match steers(char) {
            true => push_escaped(&mut line, char),
            false => line.push(char),
        }
    }
    line
}

/// A name as it is, or as a JSON text where it could be taken for something else.
pub(crate) fn name(name: &str) -> String {
    let is_plain = |char: char| char.is_alphanumeric() || "-_.:/@+~#%*".contains(char);
    if !name.is_empty() && name.chars().all(is_plain) {
        return name.to_owned();
    }
    json_line(&serde_json::Value::from(name).to_string())
}

fn push_escaped(line: &mut String, char: char) {
    for unit in char.encode_utf16(&mut [0; 2]) {
        *line += &format!("\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_text_of_others_is_one_line_and_says_the_same() {
        let odd = "{ \"a\\\"\\\\\" :\r\n [1.50,  1e400, \"x y\u{7f}\u{9b}31m\u{202e}\u{e0041}\"] }";
        let line = json_line(odd);
        assert_eq!(
            line,
            r#"{"a\"\\":[1.50,1e400,"x y\u007f\u009b31m\u202e\udb40\udc41"]}"#
        );
        let text = "\u{9b}2J \u{2028} é 👩\u{200d}🚀 हिन्दी \u{e0041}";
        let quoted = serde_json::to_string(text).unwrap();
        let back: String = serde_json::from_str(&json_line(&quoted)).unwrap();
        assert_eq!(back, text);
        assert!(json_line(&quoted).contains("👩\u{200d}🚀 हिन"));
    }

    #[test]
    fn a_name_is_quoted_where_it_could_be_taken_for_something_else() {
        for (given, shown) in [
            ("room-1", "room-1"),
            ("räume/1", "räume/1"),
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("a\"\n{b}", r#""a\"\n{b}""#),
            ("\u{1b}[2J", r#""\u001b[2J""#),
            ("\u{9b}2J", r#""\u009b2J""#),
        ] {
            assert_eq!(name(given), shown);
        }
    }
}
