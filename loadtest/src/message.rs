//! The texts that the harness sends and what it looks for in those it gets.
//!
//! Received texts are not parsed: the few fields needed are found by their fixed bytes, so a
//! message costs some tens of nanoseconds. That is sound because the values are our own and hold
//! no quotes besides the ones written here, and each is compared to its last byte. May not touch a
//! socket or a clock.

use std::fmt::{self, Display, Formatter};
use std::io::Write;

const STAMP_DIGITS: usize = 8 + 8 + 8 + 8 + 16;
/// The smallest value there is: an id, a stamp and an empty filling.
pub(crate) const VALUE_BYTES_MIN: usize =
    r#"{"id":"i000","load":"","pad":""}"#.len() + STAMP_DIGITS;
/// What stands between a value's id and its stamp.
const BEFORE_STAMP: &[u8] = br#"","load":""#;

/// Which run published what and when: fixed-width hexadecimal inside each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    pub(crate) group: u32,
    pub(crate) item: u32,
    /// Which change of its group this is: 0, 1, 2, …
    pub(crate) sequence: u32,
    /// The intended send time: nanoseconds of this process's clock.
    pub(crate) sent_ns: u64,
}

impl Stamp {
    fn write(&self, out: &mut Vec<u8>) {
        let Self {
            run,
            group,
            item,
            sequence,
            sent_ns,
        } = self;
        write!(
            out,
            "{run:08x}{group:08x}{item:08x}{sequence:08x}{sent_ns:016x}"
        )
        .expect("a Vec takes every write");
    }

    fn read(text: &[u8]) -> Option<Self> {
        let digits: &[u8; STAMP_DIGITS] = text.first_chunk()?;
        let (eights, []) = digits.as_chunks::<8>() else {
            return None;
        };
        let word = |index: usize| hex_word(eights[index]);
        Some(Self {
            run: word(0),
            group: word(1),
            item: word(2),
            sequence: word(3),
            sent_ns: u64::from(word(4)) << 32 | u64::from(word(5)),
        })
    }
}

/// Eight hexadecimal digits at once. Other bytes give some number: run, group, item and sequence
/// are compared with what was sent, so it does not pass for one of ours.
fn hex_word(digits: [u8; 8]) -> u32 {
    let text = u64::from_be_bytes(digits);
    // '0'..'9' end in their value; letters have bit 6 set and end in 1..6.
    let nibbles = (text & 0x0f0f_0f0f_0f0f_0f0f) + 9 * ((text >> 6) & 0x0101_0101_0101_0101);
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (halves | halves >> 16) as u32
}

/// Digits up to the first byte that is none.
fn decimal(text: &[u8]) -> u64 {
    text.iter()
        .map_while(|byte| byte.is_ascii_digit().then(|| u64::from(byte - b'0')))
        .fold(0, |number, digit| {
            number.wrapping_mul(10).wrapping_add(digit)
        })
}

/// Which of the harness's calls an answer belongs to: part of the invocation id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Change,
    List,
    Get,
}

impl Asked {
    fn digits(self) -> &'static str {
        match self {
            Self::Change => "8000",
            Self::List => "9000",
            Self::Get => "a000",
        }
    }
}

/// Writes the calls of one run.
pub(crate) struct CallWriter {
    run: u32,
    stream_name: String,
    padding: String,
    void: bool,
}

impl CallWriter {
    pub(crate) fn new(run: u32, stream_name: &str, value_bytes: usize, void: bool) -> Self {
        Self {
            run,
            stream_name: stream_name.to_owned(),
            padding: padding(value_bytes),
            void,
        }
    }

    /// Replaces `out` by the `stream::set` that is call `number` of the run.
    pub(crate) fn set(
        &self,
        number: u64,
        [group, item, sequence]: [u32; 3],
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) {
        self.begin(Asked::Change, "set", number, group, out);
        let id = ItemId(item);
        write!(out, r#","item_id":"{id}","data":{{"id":"{id}","load":""#)
            .expect("a Vec takes every write");
        Stamp {
            run: self.run,
            group,
            item,
            sequence,
            sent_ns,
        }
        .write(out);
        write!(out, r#"","pad":"{}"}}}}"#, self.padding).expect("a Vec takes every write");
        if self.void {
            out.extend_from_slice(br#","action":{"type":"void"}"#);
        }
        out.push(b'}');
    }

    /// Replaces `out` by a `stream::delete`.
    pub(crate) fn delete(&self, number: u64, group: u32, item: u32, out: &mut Vec<u8>) {
        self.begin(Asked::Change, "delete", number, group, out);
        write!(out, r#","item_id":"{}"}}}}"#, ItemId(item)).expect("a Vec takes every write");
    }

    /// Replaces `out` by a `stream::list` of `group`; the group is the call's number.
    pub(crate) fn list(&self, group: u32, out: &mut Vec<u8>) {
        self.begin(Asked::List, "list", u64::from(group), group, out);
        out.extend_from_slice(b"}}");
    }

    /// Replaces `out` by a `stream::get` of the first item of `group`.
    pub(crate) fn get(&self, group: u32, out: &mut Vec<u8>) {
        self.begin(Asked::Get, "get", u64::from(group), group, out);
        write!(out, r#","item_id":"{}"}}}}"#, ItemId(0)).expect("a Vec takes every write");
    }

    fn begin(&self, asked: Asked, function: &str, number: u64, group: u32, out: &mut Vec<u8>) {
        let Self {
            run, stream_name, ..
        } = self;
        out.clear();
        write!(
            out,
            r#"{{"type":"invokefunction","invocation_id":"{run:08x}-0000-4000-{}-{number:012x}","function_id":"stream::{function}","data":{{"stream_name":"{stream_name}","group_id":"{}""#,
            asked.digits(),
            GroupId(group)
        )
        .expect("a Vec takes every write");
    }
}

fn padding(value_bytes: usize) -> String {
    "x".repeat(value_bytes.saturating_sub(VALUE_BYTES_MIN))
}

/// All names have one length, so all frames of a group do.
struct GroupId(u32);

impl Display for GroupId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "g{:06}", self.0)
    }
}

struct ItemId(u32);

impl Display for ItemId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "i{:03}", self.0)
    }
}

/// A subscriber's only message. The id is the same on every socket: it is the socket's own.
pub(crate) fn join(stream_name: &str, group: u32) -> Vec<u8> {
    format!(
        r#"{{"type":"join","data":{{"subscriptionId":"s","streamName":"{stream_name}","groupId":"{}"}}}}"#,
        GroupId(group)
    )
    .into_bytes()
}

/// What happened to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Update,
    Delete,
}

/// What a subscriber heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// `values` is read by `EventReader::stamps`.
    Sync { at_ms: u64, values: &'a [u8] },
    /// A value that carries a stamp; of a `delete`, the value that was removed.
    Change {
        kind: Kind,
        at_ms: u64,
        stamp: Stamp,
        /// Group, item and every other byte are what was published under that stamp.
        is_whole: bool,
    },
    /// Nothing that a subscriber of a load test should hear.
    Other,
}

/// Reads what subscribers hear. The texts of one kind look alike, so each search first tries where
/// it succeeded last.
pub(crate) struct EventReader {
    time: Finder,
    group: Finder,
    kind: Finder,
    stamp: Finder,
    next_value: Finder,
    /// What follows the stamp inside a value.
    tail: Vec<u8>,
}

impl EventReader {
    pub(crate) fn new(value_bytes: usize) -> Self {
        Self {
            time: Finder::new(br#""timestamp":"#),
            group: Finder::new(br#""groupId":"g"#),
            kind: Finder::new(br#""event":{"type":""#),
            stamp: Finder::new(BEFORE_STAMP),
            next_value: Finder::new(BEFORE_STAMP),
            tail: format!(r#"","pad":"{}"}}"#, padding(value_bytes)).into_bytes(),
        }
    }

    pub(crate) fn read<'a>(&mut self, text: &'a [u8]) -> Heard<'a> {
        self.try_read(text).unwrap_or(Heard::Other)
    }

    fn try_read<'a>(&mut self, text: &'a [u8]) -> Option<Heard<'a>> {
        let at_ms = decimal(&text[self.time.after(text)?..]);
        let group = self.group.after(text)?;
        let event = self.kind.after(text)?;
        let kind = match text.get(event..event + 7)? {
            br#"create""# => Kind::Create,
            br#"update""# => Kind::Update,
            br#"delete""# => Kind::Delete,
            kind if kind.starts_with(br#"sync""#) => {
                return Some(Heard::Sync {
                    at_ms,
                    values: &text[event..],
                });
            }
            _ => return None,
        };
        let at = self.stamp.after(text)?;
        let stamp = Stamp::read(&text[at..])?;
        let item = text.get(group + 6..)?.strip_prefix(br#"","id":"i"#);
        let is_addressed = decimal(&text[group..group + 6]) == u64::from(stamp.group)
            && item.is_some_and(|digits| decimal(digits) == u64::from(stamp.item));
        let tail = text[at + STAMP_DIGITS..].strip_suffix(b"}}");
        let is_whole = is_addressed && tail == Some(&self.tail[..]);
        Some(Heard::Change {
            kind,
            at_ms,
            stamp,
            is_whole,
        })
    }

    /// Every stamped value in the list `values`; `false` beside one that was altered.
    pub(crate) fn stamps<'a>(
        &'a mut self,
        values: &'a [u8],
    ) -> impl Iterator<Item = (Stamp, bool)> + 'a {
        let mut rest = values;
        std::iter::from_fn(move || {
            let at = self.next_value.after(rest)?;
            let stamp = Stamp::read(&rest[at..])?;
            rest = &rest[at + STAMP_DIGITS..];
            Some((stamp, rest.starts_with(&self.tail)))
        })
    }
}

/// An answer to one of our calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) asked: Asked,
    pub(crate) number: u64,
    pub(crate) is_error: bool,
    pub(crate) text: &'a [u8],
}

/// Reads what comes back on the worker port.
pub(crate) struct AnswerReader {
    id: Finder,
    result: Finder,
    error: Finder,
}

impl AnswerReader {
    pub(crate) fn new(run: u32) -> Self {
        let id = format!(r#""invocation_id":"{run:08x}-0000-4000-"#);
        Self {
            id: Finder::new(id.as_bytes()),
            result: Finder::new(br#""result":"#),
            error: Finder::new(br#""error":{"#),
        }
    }

    /// `None`: not an answer to us, such as the greeting.
    pub(crate) fn read<'a>(&mut self, text: &'a [u8]) -> Option<Answer<'a>> {
        let at = self.id.after(text)?;
        let asked = [Asked::Change, Asked::List, Asked::Get]
            .into_iter()
            .find(|asked| text[at..].starts_with(asked.digits().as_bytes()))?;
        let digits = str::from_utf8(text.get(at + 5..at + 17)?).ok()?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        Some(Answer {
            asked,
            number,
            // A `get` of what is not there has neither.
            is_error: self.result.after(text).is_none() && self.error.after(text).is_some(),
            text,
        })
    }
}

/// Finds fixed bytes that stand at nearly the same place in every text.
struct Finder {
    needle: Box<[u8]>,
    last: usize,
}

impl Finder {
    fn new(needle: &[u8]) -> Self {
        Self {
            needle: needle.into(),
            last: 0,
        }
    }

    /// The position behind the needle.
    fn after(&mut self, text: &[u8]) -> Option<usize> {
        let is_here = |at: usize| {
            text.get(at..)
                .is_some_and(|rest| rest.starts_with(&self.needle))
        };
        if !is_here(self.last) {
            self.last = text
                .windows(self.needle.len())
                .position(|window| *window == *self.needle)?;
        }
        Some(self.last + self.needle.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xfeed_0001,
        group: 7,
        item: 12,
        sequence: 0xabc_def9,
        sent_ns: 0x0123_4567_89ab_cdef,
    };
    const BYTES: usize = VALUE_BYTES_MIN + 2;
    const AT_MS: u64 = 1_795_474_467_413;

    fn value(stamp: Stamp) -> String {
        let mut text = Vec::new();
        stamp.write(&mut text);
        let load = String::from_utf8(text).unwrap();
        format!(r#"{{"id":"i012","load":"{load}","pad":"xx"}}"#)
    }

    fn event(kind: &str, data: &str) -> String {
        format!(
            r#"{{"type":"stream","timestamp":{AT_MS},"streamName":"load","groupId":"g000007","id":"i012","event":{{"type":"{kind}","data":{data}}}}}"#
        )
    }

    fn change(kind: Kind, is_whole: bool) -> Heard<'static> {
        Heard::Change {
            kind,
            at_ms: AT_MS,
            stamp: STAMP,
            is_whole,
        }
    }

    #[test]
    fn stamp_and_time_survive_the_way() {
        let mut reader = EventReader::new(BYTES);
        for (word, kind) in [
            ("create", Kind::Create),
            ("update", Kind::Update),
            ("delete", Kind::Delete),
        ] {
            let text = event(word, &value(STAMP));
            assert_eq!(reader.read(text.as_bytes()), change(kind, true));
        }
    }

    #[test]
    fn every_hex_digit_is_read() {
        assert_eq!(hex_word(*b"01234567"), 0x0123_4567);
        assert_eq!(hex_word(*b"89abcdef"), 0x89ab_cdef);
        assert_eq!(hex_word(*b"ffffffff"), u32::MAX);
    }

    #[test]
    fn a_value_that_differs_in_one_byte_or_goes_to_another_item_is_altered() {
        let mut reader = EventReader::new(BYTES);
        let text = event("update", &value(STAMP));
        for (from, to) in [
            ("xx", "xy"),
            ("xx", "xxx"),
            ("g000007", "g000008"),
            (r#""id":"i012","event"#, r#""id":"i013","event"#),
        ] {
            let altered = text.replace(from, to);
            assert_eq!(
                reader.read(altered.as_bytes()),
                change(Kind::Update, false),
                "{altered}"
            );
        }
    }

    #[test]
    fn sync_is_no_delivery_though_it_holds_stamps() {
        let mut reader = EventReader::new(BYTES);
        let other = Stamp {
            sequence: 3,
            ..STAMP
        };
        let lie = value(STAMP).replace("xx", "yy");
        let text = event(
            "sync",
            &format!("[{},{lie},{}]", value(STAMP), value(other)),
        )
        .replace(r#""i012","event"#, r#"null,"event"#);
        let Heard::Sync { at_ms, values } = reader.read(text.as_bytes()) else {
            unreachable!("{text}");
        };
        assert_eq!(at_ms, AT_MS);
        let stamps: Vec<_> = reader.stamps(values).collect();
        assert_eq!(stamps, [(STAMP, true), (STAMP, false), (other, true)]);
        let empty = event("sync", "[]");
        assert!(matches!(reader.read(empty.as_bytes()), Heard::Sync { .. }));
    }

    #[test]
    fn other_events_and_broken_texts_are_neither() {
        let mut reader = EventReader::new(BYTES);
        for text in [
            event("event", &value(STAMP)),
            event("update", "1"),
            String::new(),
            "{}".to_owned(),
        ] {
            assert_eq!(reader.read(text.as_bytes()), Heard::Other, "{text}");
        }
        let whole = event("update", &value(STAMP));
        for cut in 0..whole.len() {
            reader.read(&whole.as_bytes()[..cut]); // must not panic
        }
    }

    #[test]
    fn positions_may_move_between_texts() {
        let mut reader = EventReader::new(BYTES);
        let longer = event("update", &value(STAMP)).replace(r#""load""#, r#""a longer name""#);
        assert_eq!(reader.read(longer.as_bytes()), Heard::Other);
        let longer = event("update", &value(STAMP)).replace("stream\"", "a longer name\"");
        for text in [longer, event("update", &value(STAMP))] {
            assert_eq!(reader.read(text.as_bytes()), change(Kind::Update, true));
        }
    }

    #[test]
    fn answers_are_matched_by_id_whatever_the_key_order() {
        let mut reader = AnswerReader::new(0xfeed_0001);
        let id = "feed0001-0000-4000-8000-00000000002a";
        let head = format!(
            r#"{{"type":"invocationresult","invocation_id":"{id}","function_id":"stream::set","#
        );
        let ok = [
            r#""result":{"old_value":null,"new_value":1}}"#,
            r#""result":{"new_value":1,"old_value":null}}"#,
        ];
        for tail in ok {
            let text = format!("{head}{tail}");
            let answer = reader.read(text.as_bytes()).unwrap();
            assert_eq!(
                (answer.asked, answer.number, answer.is_error),
                (Asked::Change, 42, false)
            );
        }
        let refused = format!(r#"{head}"error":{{"code":"STREAM_SET_ERROR","message":"m"}}}}"#);
        assert!(reader.read(refused.as_bytes()).unwrap().is_error);
        let listed = refused.replace("-8000-", "-9000-");
        assert_eq!(reader.read(listed.as_bytes()).unwrap().asked, Asked::List);
        assert_eq!(
            reader.read(br#"{"type":"workerregistered","worker_id":"x"}"#),
            None
        );
        assert_eq!(
            reader.read(refused.replace("feed", "beef").as_bytes()),
            None,
            "of another run"
        );
    }

    #[test]
    fn calls_are_json_of_the_size_asked_for() {
        let parse = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
        let mut text = Vec::new();
        for void in [false, true] {
            let writer = CallWriter::new(0xfeed_0001, "load", 200, void);
            writer.set(42, [7, 12, 3], 99, &mut text);
            let call = parse(&text);
            assert_eq!(
                call["invocation_id"],
                "feed0001-0000-4000-8000-00000000002a"
            );
            assert_eq!(call["data"]["group_id"], "g000007");
            assert_eq!(call["data"]["item_id"], call["data"]["data"]["id"]);
            assert_eq!(call["data"]["data"].to_string().len(), 200);
            assert_eq!(call["action"]["type"] == "void", void);
        }
        let writer = CallWriter::new(0xfeed_0001, "load", 200, false);
        writer.delete(1, 7, 12, &mut text);
        assert_eq!(parse(&text)["data"]["item_id"], "i012");
        writer.list(7, &mut text);
        assert_eq!(parse(&text)["function_id"], "stream::list");
        writer.get(7, &mut text);
        assert_eq!(parse(&text)["data"]["item_id"], "i000");
        assert_eq!(parse(&join("load", 7))["data"]["groupId"], "g000007");
    }
}
