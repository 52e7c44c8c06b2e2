//! The members of a large object, of which only those that operations name are looked at: what stands
//! between two of them is one run of text. So much of the text is looked at at a time as is allowed.
//!
//! Texts are checked before they are kept. One that is no JSON gives odd runs and does no harm.

use std::borrow::Cow;
use std::ops::Range;

use hashbrown::HashSet;

use crate::protocol::input::{AppendPath, UpdateOp};
use crate::protocol::json::{raw, text};

/// Every key that any of the operations may look up, on whatever level.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    keys: HashSet<Box<str>>,
    /// A bit for each key, by [`bit_of`]: nearly every key of an object is passed over by this alone.
    bits: [u64; WORDS],
    /// Any key may be looked up.
    is_all: bool,
}

const WORDS: usize = 16;

/// One piece of an object, by where it stands in the text.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// Members that follow one another, with the commas between them: nobody looks them up.
    Run(Range<usize>),
    /// A member that may be looked up.
    Member {
        key: Range<usize>,
        value: Range<usize>,
    },
    /// The same with an object that begins there, and whose pieces follow.
    Open { key: Range<usize>, from: usize },
    /// An object ends before that place.
    Close { end: usize },
}

impl Wanted {
    /// Nothing is known of them.
    pub(super) fn all() -> Wanted {
        Wanted {
            is_all: true,
            ..Wanted::default()
        }
    }

    pub(super) fn is_all(&self) -> bool {
        self.is_all
    }

    /// Nothing but the whole value is looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.is_all
    }

    pub(super) fn of(ops: &[UpdateOp]) -> Wanted {
        let mut wanted = Wanted::default();
        for op in ops {
            match op {
                UpdateOp::Set { path, .. }
                | UpdateOp::Increment { path, .. }
                | UpdateOp::Decrement { path, .. }
                | UpdateOp::Remove { path } => wanted.add_path(path),
                UpdateOp::Append { path, .. } => match path {
                    AppendPath::Key(key) => wanted.add_path(key),
                    AppendPath::Keys(keys) => wanted.add_all(keys),
                },
                UpdateOp::Merge { path, value } => {
                    wanted.add_all(path);
                    // One that is no object fails later.
                    let _ = raw::members(value, |key, _| {
                        let key = text::read_string(key).unwrap_or(Cow::Borrowed(key));
                        wanted.add(&key);
                    });
                }
            }
        }
        wanted
    }

    /// One key, or the value as a whole.
    fn add_path(&mut self, path: &str) {
        if !path.is_empty() {
            self.add(path);
        }
    }

    fn add_all(&mut self, keys: &[Box<str>]) {
        for key in keys {
            self.add(key);
        }
    }

    fn add(&mut self, key: &str) {
        let bit = bit_of(key.as_bytes());
        self.bits[bit / 64] |= 1 << (bit % 64);
        if !self.keys.contains(key) {
            self.keys.insert(key.into());
        }
    }

    /// Whether the key is one of them. `key_json` is as it is written.
    fn has(&self, key_json: &str, has_escapes: bool) -> bool {
        if has_escapes {
            return text::read_string(key_json).is_ok_and(|read| self.keys.contains(&*read));
        }
        let key = key_json
            .get(1..key_json.len().saturating_sub(1))
            .unwrap_or_default();
        let bit = bit_of(key.as_bytes());
        let may_be = self.bits[bit / 64] >> (bit % 64) & 1 == 1;
        may_be && self.keys.contains(key)
    }
}

/// By length, first, middle and last byte.
fn bit_of(key: &[u8]) -> usize {
    let byte = |at: usize| usize::from(key.get(at).copied().unwrap_or_default());
    let len = key.len();
    let mixed = len * 131 + byte(0) * 31 + byte(len / 2) * 17 + byte(len.saturating_sub(1)) * 7;
    mixed % (WORDS * 64)
}

/// Cuts an object's text into pieces, over as many turns as it takes.
#[derive(Debug)]
pub(super) struct Cutter {
    at: usize,
    place: Place,
    /// The objects that are open: where the run of each began and ends, while it has one.
    open: Vec<Option<Range<usize>>>,
    pieces: Vec<Piece>,
}

/// What stands where the cutter is.
#[derive(Debug)]
enum Place {
    /// A member, or the end of the object.
    Member,
    /// The rest of a key that began there.
    Key { from: usize, has_escapes: bool },
    /// What stands between the key and the value: a colon.
    Colon { key: Range<usize>, is_wanted: bool },
    /// The rest of a value.
    Value {
        key: Range<usize>,
        is_wanted: bool,
        from: usize,
        skip: Skip,
    },
    /// What stands behind a value.
    Behind,
    /// The end of the text.
    End,
}

impl Cutter {
    /// Of a text that begins with no blank.
    pub(super) fn new(object: &str) -> Cutter {
        let is_object = object.starts_with('{');
        Cutter {
            at: 1,
            place: match is_object {
                true => Place::Member,
                false => Place::End,
            },
            open: vec![None; usize::from(is_object)],
            pieces: Vec::new(),
        }
    }

    /// Looks at about so many bytes more. True when it has seen all.
    pub(super) fn go_on(&mut self, object: &str, wanted: &Wanted, most: usize) -> bool {
        let bytes = object.as_bytes();
        let stop = self.at.saturating_add(most).min(bytes.len());
        // A short value costs a little too, and may not be looked at for nothing.
        while !matches!(self.place, Place::End) {
            if self.at >= bytes.len() {
                self.end();
                break;
            }
            if self.at >= stop {
                return false;
            }
            self.step(object, bytes, wanted, stop);
        }
        true
    }

    pub(super) fn pieces(self) -> Vec<Piece> {
        self.pieces
    }

    fn step(&mut self, object: &str, bytes: &[u8], wanted: &Wanted, stop: usize) {
        match &mut self.place {
            Place::Member => {
                self.at = blanks_end(bytes, self.at, stop);
                match bytes.get(self.at) {
                    Some(b'"') => {
                        let (from, has_escapes) = (self.at, false);
                        self.at += 1;
                        self.place = Place::Key { from, has_escapes };
                    }
                    Some(byte) if is_blank(*byte) => {}
                    _ => self.close(),
                }
            }
            Place::Key { from, has_escapes } => {
                let is_whole;
                (self.at, is_whole) = string_end(bytes, self.at, stop, has_escapes);
                if is_whole {
                    let key = *from..self.at;
                    let key_json = object.get(key.clone()).unwrap_or_default();
                    let is_wanted = key.len() > 1 && wanted.has(key_json, *has_escapes);
                    self.place = Place::Colon { key, is_wanted };
                }
            }
            Place::Colon { key, is_wanted } => {
                self.at = blanks_end(bytes, self.at, stop);
                match bytes.get(self.at) {
                    None => {}
                    Some(b':') => self.at += 1,
                    Some(byte) if is_blank(*byte) => {}
                    Some(b'{') if *is_wanted => {
                        let (key, from) = (key.clone(), self.at);
                        self.flush_run();
                        self.at += 1;
                        self.open.push(None);
                        self.pieces.push(Piece::Open { key, from });
                        self.place = Place::Member;
                    }
                    Some(_) => {
                        self.place = Place::Value {
                            key: key.clone(),
                            is_wanted: *is_wanted,
                            from: self.at,
                            skip: Skip::default(),
                        };
                    }
                }
            }
            Place::Value {
                key,
                is_wanted,
                from,
                skip,
            } => {
                let is_whole;
                (self.at, is_whole) = skip.value_end(bytes, self.at, stop);
                if is_whole {
                    let (key, is_wanted, value) = (key.clone(), *is_wanted, *from..self.at);
                    self.place = Place::Behind;
                    self.add(key, value, is_wanted);
                }
            }
            Place::Behind => {
                self.at = blanks_end(bytes, self.at, stop);
                match bytes.get(self.at) {
                    Some(b',') => {
                        self.at += 1;
                        self.place = Place::Member;
                    }
                    Some(byte) if is_blank(*byte) => {}
                    _ => self.close(),
                }
            }
            Place::End => {}
        }
    }

    fn add(&mut self, key: Range<usize>, value: Range<usize>, is_wanted: bool) {
        if is_wanted {
            self.flush_run();
            return self.pieces.push(Piece::Member { key, value });
        }
        if let Some(run) = self.open.last_mut() {
            let from = run.as_ref().map_or(key.start, |run| run.start);
            *run = Some(from..value.end);
        }
    }

    fn flush_run(&mut self) {
        let run = self.open.last_mut().and_then(Option::take);
        self.pieces.extend(run.map(Piece::Run));
    }

    /// The innermost object ends here.
    fn close(&mut self) {
        self.flush_run();
        self.open.pop();
        self.at += 1;
        self.pieces.push(Piece::Close { end: self.at });
        self.place = match self.open.is_empty() {
            true => Place::End,
            false => Place::Behind,
        };
    }

    /// The text ends, with everything that is open.
    fn end(&mut self) {
        if let Place::Value {
            key,
            is_wanted,
            from,
            ..
        } = &self.place
        {
            let (key, is_wanted, value) = (key.clone(), *is_wanted, *from..self.at);
            self.add(key, value, is_wanted);
        }
        while !self.open.is_empty() {
            self.close();
        }
        self.place = Place::End;
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Behind the blanks that begin there, or at `stop`.
fn blanks_end(bytes: &[u8], at: usize, stop: usize) -> usize {
    let rest = bytes.get(at..stop).unwrap_or_default();
    at + rest.iter().take_while(|byte| is_blank(**byte)).count()
}

/// Behind the string in which that place stands, or about at `stop`; and whether it has ended.
fn string_end(bytes: &[u8], mut at: usize, stop: usize, has_escapes: &mut bool) -> (usize, bool) {
    while at < stop {
        match bytes.get(at) {
            Some(b'"') => return (at + 1, true),
            Some(b'\\') => {
                *has_escapes = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
    (at.min(bytes.len()), false)
}

/// Where within a value it is gone on.
#[derive(Debug, Default)]
struct Skip {
    depth: usize,
    is_in_string: bool,
}

impl Skip {
    /// Behind the value in which that place stands, or about at `stop`; and whether it has ended.
    fn value_end(&mut self, bytes: &[u8], mut at: usize, stop: usize) -> (usize, bool) {
        while at < stop {
            if self.is_in_string {
                let is_whole;
                (at, is_whole) = string_end(bytes, at, stop, &mut false);
                if !is_whole {
                    return (at, false);
                }
                self.is_in_string = false;
                if self.depth == 0 {
                    return (at, true);
                }
                continue;
            }
            let Some(byte) = bytes.get(at) else {
                break;
            };
            match byte {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => return (at, true),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => return (at, true),
                _ => {} // of a number or a word
            }
            at += 1;
        }
        (at.min(bytes.len()), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(object: &str, keys: &[&'static str]) -> Vec<String> {
        let mut wanted = Wanted::default();
        for key in keys {
            wanted.add(key);
        }
        let cut = |most: usize| {
            let mut cutter = Cutter::new(object);
            let mut turns = 0;
            while !cutter.go_on(object, &wanted, most) {
                turns += 1;
                assert!(turns <= object.len(), "it goes forward");
            }
            let pieces = cutter.pieces().into_iter().map(|piece| match piece {
                Piece::Member { key, value } => format!("{}={}", &object[key], &object[value]),
                Piece::Run(run) => object[run].to_owned(),
                Piece::Open { key, .. } => format!("{} opens", &object[key]),
                Piece::Close { .. } => "}".to_owned(),
            });
            pieces.collect::<Vec<String>>()
        };
        let at_once = cut(usize::MAX);
        for most in 1..9 {
            assert_eq!(cut(most), at_once, "{most} bytes at a time");
        }
        at_once
    }

    #[test]
    fn only_what_is_named_is_cut_out() {
        let object = r#"{ "a" : 1 , "b":{"c":[1,"}"]},"\u0063":"x\"," ,"d":null,"e":-1.5e3 }"#;
        assert_eq!(
            pieces(object, &["b", "c"]),
            [
                r#""a" : 1"#,
                r#""b" opens"#,
                r#""c"=[1,"}"]"#,
                "}",
                r#""\u0063"="x\",""#,
                r#""d":null,"e":-1.5e3"#,
                "}",
            ]
        );
        assert_eq!(pieces(object, &["e"])[1], r#""e"=-1.5e3"#);
        assert_eq!(pieces(object, &["x"]).len(), 2);
        assert_eq!(pieces("{}", &["x"]), ["}"]);
        assert!(pieces("[{}]", &["x"]).is_empty());
        assert_eq!(
            pieces(r#"{"":[] , "a":{}}"#, &[""]),
            [r#"""=[]"#, r#""a":{}"#, "}"]
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
