//! Names of groups, in order: what each worker knows of a listing, and how that becomes one text, bit by
//! bit.
//!
//! Names come in order as they are added, so that nobody sorts very many at once.

use std::collections::{BTreeMap, BTreeSet};

use super::json::text;
use crate::id::Text;

/// How long a piece of the text is, or somewhat longer.
const CHUNK_BYTES: usize = 64 * 1024;

/// Names of streams, and of their groups.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    streams: BTreeMap<String, BTreeSet<String>>,
    held_bytes: usize,
}

impl Names {
    /// One group more.
    pub fn add(&mut self, stream: &str, group: &str) {
        let groups = match self.streams.get_mut(stream) {
            Some(groups) => groups,
            None => {
                self.held_bytes += size_of::<BTreeSet<String>>() + name_bytes(stream);
                self.streams.entry(stream.to_owned()).or_default()
            }
        };
        if groups.insert(group.to_owned()) {
            self.held_bytes += name_bytes(group);
        }
    }

    /// Bytes it holds on the heap, about.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.streams.iter().flat_map(|(stream, groups)| {
            let groups = groups.iter();
            groups.map(move |group| (stream.as_str(), group.as_str()))
        })
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Names {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(names: T) -> Names {
        let mut groups = Names::default();
        for (stream, group) in names {
            groups.add(stream, group);
        }
        groups
    }
}

/// A name of its own takes its place beside its text.
fn name_bytes(name: &str) -> usize {
    size_of::<String>() + name.len()
}

/// What the workers have said, on its way to one JSON text.
#[derive(Debug)]
pub struct Merge {
    parts: Vec<Names>,
    /// The groups of one stream are listed, as names alone.
    of_stream: bool,
    /// The stream whose groups are being written, and those of each part.
    stream: Option<(String, Vec<BTreeSet<String>>)>,
    is_first: bool,
    streams_len: usize,
    out: Vec<u8>,
    /// Without the first one, which says how many streams there are.
    chunks: Vec<Text>,
}

impl Merge {
    /// Of all that the workers have said, each of its own groups. `of_stream`: of one stream.
    pub fn new(parts: Vec<Names>, of_stream: bool) -> Merge {
        Merge {
            parts,
            of_stream,
            stream: None,
            is_first: true,
            streams_len: 0,
            out: Vec::new(),
            chunks: Vec::new(),
        }
    }

    /// Writes so many names, and says how many it has written: fewer when it is done.
    pub fn go_on(&mut self, most: usize) -> usize {
        for written in 0..most {
            if !self.write_next() {
                return written;
            }
            if self.out.len() >= CHUNK_BYTES {
                self.cut();
            }
        }
        most
    }

    /// The whole text in pieces, once it is done.
    pub fn text(mut self) -> Vec<Text> {
        self.cut();
        let begin = match self.of_stream {
            true => Text::from("["),
            false => format!(r#"{{"count":{},"stream":["#, self.streams_len).into(),
        };
        let end = if self.of_stream { "]" } else { "]}" };
        let mut text = Vec::with_capacity(self.chunks.len() + 2);
        text.push(begin);
        text.append(&mut self.chunks);
        text.push(Text::from(end));
        text
    }

    fn cut(&mut self) {
        let chunk = std::str::from_utf8(&self.out).unwrap_or_default(); // of whole names
        if !chunk.is_empty() {
            self.chunks.push(chunk.into());
        }
        self.out.clear();
    }

    /// Writes the next name of a group, or what stands between those of two streams. False: it is done.
    fn write_next(&mut self) -> bool {
        let Some((stream, parts)) = &mut self.stream else {
            return self.begin_stream();
        };
        let firsts = parts.iter().enumerate();
        let firsts = firsts.filter_map(|(at, part)| Some((part.first()?, at)));
        if let Some((_, at)) = firsts.min()
            && let Some(group) = parts[at].pop_first()
        {
            if !std::mem::take(&mut self.is_first) {
                self.out.push(b',');
            }
            text::write_string(&mut self.out, &group);
            return true;
        }
        if !self.of_stream {
            self.out.extend_from_slice(br#"],"id":"#);
            text::write_string(&mut self.out, stream);
            self.out.push(b'}');
        }
        self.stream = None;
        true
    }

    fn begin_stream(&mut self) -> bool {
        let firsts = self
            .parts
            .iter()
            .filter_map(|part| part.streams.keys().next());
        let Some(stream) = firsts.min().cloned() else {
            return false;
        };
        let parts = self.parts.iter_mut();
        let parts = parts
            .filter_map(|part| part.streams.remove(&stream))
            .collect();
        if !self.of_stream {
            let begin: &[u8] = match self.streams_len {
                0 => br#"{"groups":["#,
                _ => br#",{"groups":["#,
            };
            self.out.extend_from_slice(begin);
            self.is_first = true;
        }
        self.streams_len += 1;
        self.stream = Some((stream, parts));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(parts: &[&[(&str, &str)]], of_stream: bool, most: usize) -> String {
        let parts = parts.iter().map(|part| part.iter().copied().collect());
        let mut merge = Merge::new(parts.collect(), of_stream);
        while merge.go_on(most) == most {}
        merge.text().concat()
    }

    #[test]
    fn what_several_workers_know_becomes_one_listing_in_order() {
        let parts: [&[(&str, &str)]; 3] = [
            &[("s", "x"), ("og", "g1")],
            &[],
            &[("og", "g\n0"), ("s", "a"), ("og", "g2")],
        ];
        for most in 1..9 {
            assert_eq!(
                text(&parts, false, most),
                r#"{"count":2,"stream":[{"groups":["g\n0","g1","g2"],"id":"og"},{"groups":["a","x"],"id":"s"}]}"#
            );
            let of_stream: [&[(&str, &str)]; 2] = [&[("s", "b"), ("s", "a")], &[("s", "aa")]];
            assert_eq!(text(&of_stream, true, most), r#"["a","aa","b"]"#);
        }
        assert_eq!(text(&[], false, 1), r#"{"count":0,"stream":[]}"#);
        assert_eq!(text(&[&[]], true, 1), "[]");
    }

    #[test]
    fn a_long_listing_is_in_pieces() {
        let names: Vec<String> = (0..20_000).map(|n| format!("group {n:05}")).collect();
        let all: Names = names.iter().map(|name| ("s", name.as_str())).collect();
        assert!(all.held_bytes() > 20_000 * 30);
        let mut merge = Merge::new(vec![all], true);
        while merge.go_on(100) == 100 {}
        let text = merge.text();
        assert!(text.len() > 4 && text.iter().all(|chunk| chunk.len() < CHUNK_BYTES + 100));
        let listed: Vec<String> = serde_json::from_str(&text.concat()).unwrap();
        assert!(listed == names);
    }
}
