//! The members of a large object, of which only those that operations name are looked at: what stands
//! between two of them is one run of text.
//!
//! Texts are checked before they are kept. One that is no JSON gives odd runs and does no harm.

use std::borrow::Cow;
use std::ops::Range;

use hashbrown::HashSet;

use crate::protocol::input::{AppendPath, UpdateOp};
use crate::protocol::json::{raw, text};

/// Every key that any of the operations may look up, on whatever level.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    keys: HashSet<Cow<'a, str>>,
    /// A bit for each key, by [`bit_of`]: nearly every key of an object is passed over by this alone.
    bits: [u64; WORDS],
    /// Any key may be looked up.
    is_all: bool,
}

const WORDS: usize = 16;

/// One piece of an object.
pub(super) enum Piece<'a> {
    /// A member that may be looked up: the key as it is written, and what it means; the value.
    Member(&'a str, Cow<'a, str>, &'a str),
    /// Members that follow one another, with the commas between them.
    Run(&'a str),
}

impl<'a> Wanted<'a> {
    /// Nothing is known of them.
    pub(super) fn all() -> Wanted<'a> {
        Wanted {
            is_all: true,
            ..Wanted::default()
        }
    }

    pub(super) fn is_all(&self) -> bool {
        self.is_all
    }

    pub(super) fn of(ops: &'a [UpdateOp]) -> Wanted<'a> {
        let mut wanted = Wanted::default();
        for op in ops {
            match op {
                UpdateOp::Set { path, .. }
                | UpdateOp::Increment { path, .. }
                | UpdateOp::Decrement { path, .. }
                | UpdateOp::Remove { path } => wanted.add(Cow::Borrowed(path)),
                UpdateOp::Append { path, .. } => match path {
                    AppendPath::Key(key) => wanted.add(Cow::Borrowed(key)),
                    AppendPath::Keys(keys) => wanted.add_all(keys),
                },
                UpdateOp::Merge { path, value } => {
                    wanted.add_all(path);
                    // One that is no object fails later.
                    let _ = raw::members(value, |key, _| {
                        wanted.add(text::read_string(key).unwrap_or(Cow::Borrowed(key)));
                    });
                }
            }
        }
        wanted
    }

    fn add_all(&mut self, keys: &'a [Box<str>]) {
        for key in keys {
            self.add(Cow::Borrowed(key));
        }
    }

    fn add(&mut self, key: Cow<'a, str>) {
        let bit = bit_of(key.as_bytes());
        self.bits[bit / 64] |= 1 << (bit % 64);
        self.keys.insert(key);
    }

    /// What the key means, if it is one of them. `key_json` is as it is written.
    fn find<'k>(&self, key_json: &'k str, has_escapes: bool) -> Option<Cow<'k, str>> {
        if has_escapes {
            let read = text::read_string(key_json).ok()?;
            return self.keys.contains(&*read).then_some(read);
        }
        let key = key_json.trim_matches('"');
        let bit = bit_of(key.as_bytes());
        let may_be = self.bits[bit / 64] >> (bit % 64) & 1 == 1;
        (may_be && self.keys.contains(key)).then_some(Cow::Borrowed(key))
    }
}

/// By length, first, middle and last byte.
fn bit_of(key: &[u8]) -> usize {
    let byte = |at: usize| usize::from(key.get(at).copied().unwrap_or_default());
    let len = key.len();
    let mixed = len * 131 + byte(0) * 31 + byte(len / 2) * 17 + byte(len.saturating_sub(1)) * 7;
    mixed % (WORDS * 64)
}

/// Cuts an object's text into pieces.
pub(super) fn cut<'a>(object: &'a str, wanted: &Wanted<'_>, mut each: impl FnMut(Piece<'a>)) {
    let bytes = object.as_bytes();
    let mut run: Option<Range<usize>> = None;
    let mut at = blanks_end(bytes, 1);
    while bytes.get(at) == Some(&b'"') {
        let (key_end, has_escapes) = string_end(bytes, at);
        let value_at = blanks_end(bytes, blanks_end(bytes, key_end) + 1);
        let value_end = value_end(bytes, value_at);
        let key = &object[at..key_end];
        match wanted.find(key, has_escapes) {
            Some(meaning) => {
                if let Some(run) = run.take() {
                    each(Piece::Run(&object[run]));
                }
                let value = object.get(value_at..value_end).unwrap_or_default();
                each(Piece::Member(key, meaning, value));
            }
            None => run = Some(run.map_or(at, |run| run.start)..value_end),
        }
        at = blanks_end(bytes, value_end);
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at = blanks_end(bytes, at + 1);
    }
    if let Some(run) = run {
        each(Piece::Run(&object[run]));
    }
}

fn blanks_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let blanks = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    at + blanks.count()
}

/// Behind the string that begins there, and whether it has escapes.
fn string_end(bytes: &[u8], at: usize) -> (usize, bool) {
    let mut has_escapes = false;
    let mut at = at + 1;
    loop {
        match bytes.get(at) {
            None => return (bytes.len(), has_escapes),
            Some(b'"') => return (at + 1, has_escapes),
            Some(b'\\') => {
                has_escapes = true;
                at += 2;
            }
            Some(_) => at += 1,
        }
    }
}

/// Behind the value that begins there.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => at = string_end(bytes, at).0,
            Some(b'{' | b'[') => {
                depth += 1;
                at += 1;
            }
            Some(b'}' | b']') if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') if depth == 0 => return at,
            Some(_) => {
                at += 1;
                if depth == 0 {
                    continue; // of a number or a word
                }
            }
        }
        if depth == 0 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(object: &str, keys: &[&'static str]) -> Vec<String> {
        let mut wanted = Wanted::default();
        for key in keys {
            wanted.add(Cow::Borrowed(*key));
        }
        let mut pieces = Vec::new();
        cut(object, &wanted, |piece| {
            pieces.push(match piece {
                Piece::Member(key, meaning, value) => format!("{key}={meaning}={value}"),
                Piece::Run(run) => run.to_owned(),
            });
        });
        pieces
    }

    #[test]
    fn only_what_is_named_is_cut_out() {
        let object = r#"{ "a" : 1 , "b":{"c":[1,"}"]},"\u0063":"x\"," ,"d":null,"e":-1.5e3 }"#;
        assert_eq!(
            pieces(object, &["b", "c"]),
            [
                r#""a" : 1"#,
                r#""b"=b={"c":[1,"}"]}"#,
                r#""\u0063"=c="x\",""#,
                r#""d":null,"e":-1.5e3"#,
            ]
        );
        assert_eq!(pieces(object, &["e"])[1], r#""e"=e=-1.5e3"#);
        assert_eq!(pieces(object, &["x"]).len(), 1);
        assert!(pieces("{}", &["x"]).is_empty() && pieces(" ", &["x"]).is_empty());
        assert_eq!(
            pieces(r#"{"":[] , "a":{}}"#, &[""]),
            [r#"""==[]"#, r#""a":{}"#]
        );
    }

    #[test]
    fn what_is_no_json_does_no_harm() {
        let object = r#"{"a":[1,"b\"c"],"d":{"e":null}}"#;
        for end in 0..object.len() {
            let _ = pieces(&object[..end], &["a", "d"]);
        }
    }
}
