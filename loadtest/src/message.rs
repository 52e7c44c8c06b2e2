//! The texts that the harness sends and what it looks for in those it gets.
//!
//! Received texts are not parsed: the few fields needed are found by their fixed bytes, so a
//! message costs some tens of nanoseconds. That is sound because the values are our own and hold
//! no quotes besides the ones written here, and each is compared to its last byte. May not touch a
//! socket or a clock.

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
            run,
            sequence,
            sent_ns,
            group,
            item,
        } = self;
        debug_assert!(*group < GROUPS_MAX && *item < ITEMS_MAX);
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

    fn read(text: &[u8]) -> Option<Self> {
        let digits: &[u8; STAMP_DIGITS] = text.first_chunk()?;
        let word = |at: usize| Some(hex_word(*digits.get(at..)?.first_chunk()?));
        // The last eight digits begin inside the group, which the eight before them begin.
        let (time, time_and_group, group_and_item) = (word(16)?, word(24)?, word(29)?);
        Some(Self {
            run: word(0)?,
            sequence: word(8)?,
            sent_ns: u64::from(time) << 16 | u64::from(time_and_group >> 16),
            group: (time_and_group & 0xffff) << 4 | (group_and_item >> 16 & 0xf),
            item: group_and_item & 0xffff,
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
        write!(out, r#","item_id":"{}","data":"#, ItemId(item)).expect("a Vec takes every write");
        let stamp = Stamp {
            run: self.run,
            sequence,
            sent_ns,
            group,
            item,
        };
        stamp.write_value(&self.padding, out);
        out.push(b'}');
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

/// What fills a value up to its size.
pub(crate) fn padding(value_bytes: usize) -> String {
    "x".repeat(value_bytes.saturating_sub(VALUE_BYTES_MIN))
}

/// All names have one length, so all frames of a group do.
pub(crate) struct GroupId(pub(crate) u32);

const GROUP_DIGITS: usize = 6;

impl Display for GroupId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "g{:06}", self.0)
    }
}

pub(crate) struct ItemId(pub(crate) u32);

impl Display for ItemId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "i{:03}", self.0)
    }
}

/// A subscriber's only message. The id is the socket's own, so it may be the same on others.
pub(crate) fn join(stream_name: &str, group: u32) -> Vec<u8> {
    let group = GroupId(group);
    format!(
        r#"{{"type":"join","data":{{"subscriptionId":"{group}","streamName":"{stream_name}","groupId":"{group}"}}}}"#
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
    Sync {
        at_ms: u64,
        group: u32,
        values: &'a [u8],
    },
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
            tail: format!(r#"","x":"{}"}}"#, padding(value_bytes)).into_bytes(),
        }
    }

    pub(crate) fn read<'a>(&mut self, text: &'a [u8]) -> Heard<'a> {
        self.try_read(text).unwrap_or(Heard::Other)
    }

    fn try_read<'a>(&mut self, text: &'a [u8]) -> Option<Heard<'a>> {
        let at_ms = decimal(&text[self.time.after(text)?..]);
        let group_at = self.group.after(text)?;
        let group = decimal(text.get(group_at..group_at + GROUP_DIGITS)?) as u32;
        let event = self.kind.after(text)?;
        let kind = match text.get(event..event + 7)? {
            br#"create""# => Kind::Create,
            br#"update""# => Kind::Update,
            br#"delete""# => Kind::Delete,
            kind if kind.starts_with(br#"sync""#) => {
                return Some(Heard::Sync {
                    at_ms,
                    group,
                    values: &text[event..],
                });
            }
            _ => return None,
        };
        let at = self.stamp.after(text)?;
        let stamp = Stamp::read(&text[at..])?;
        let item = text[group_at + GROUP_DIGITS..].strip_prefix(br#"","id":"i"#);
        let is_addressed = group == stamp.group
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
        &'a self,
        values: &'a [u8],
    ) -> impl Iterator<Item = (Stamp, bool)> + 'a {
        let mut rest = values;
        std::iter::from_fn(move || {
            let at = find(BEFORE_STAMP, rest)?;
            let stamp = Stamp::read(&rest[at..])?;
            rest = &rest[at + STAMP_DIGITS..];
            let behind = rest.strip_prefix(&self.tail[..]);
            rest = behind.unwrap_or(rest);
            Some((stamp, behind.is_some()))
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
            self.last = find(&self.needle, text)? - self.needle.len();
        }
        Some(self.last + self.needle.len())
    }
}

/// The position behind the first `needle`.
fn find(needle: &[u8], text: &[u8]) -> Option<usize> {
    let at = text
        .windows(needle.len())
        .position(|window| window == needle)?;
    Some(at + needle.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 0xfeed_0001,
        sequence: 0xabc_def9,
        sent_ns: 0x4567_89ab_cdef,
        group: 7,
        item: 12,
    };
    const BYTES: usize = VALUE_BYTES_MIN + 2;
    const AT_MS: u64 = 1_795_474_467_413;

    fn value(stamp: Stamp) -> String {
        let mut text = Vec::new();
        stamp.write(&mut text);
        let load = String::from_utf8(text).unwrap();
        format!(r#"{{"id":"i012","s":"{load}","x":"xx"}}"#)
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
    fn the_largest_numbers_fit_a_stamp() {
        let stamp = Stamp {
            run: u32::MAX,
            sequence: u32::MAX,
            sent_ns: (1 << 48) - 1,
            group: GROUPS_MAX - 1,
            item: ITEMS_MAX - 1,
        };
        for stamp in [
            stamp,
            STAMP,
            Stamp {
                group: 0xabcde,
                item: 0x1234,
                ..STAMP
            },
        ] {
            let mut text = Vec::new();
            stamp.write(&mut text);
            assert_eq!(Stamp::read(&text), Some(stamp));
            assert_eq!(Stamp::read(&text[1..]), None);
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
        let Heard::Sync {
            at_ms,
            group,
            values,
        } = reader.read(text.as_bytes())
        else {
            unreachable!("{text}");
        };
        assert_eq!((at_ms, group), (AT_MS, 7));
        let stamps: Vec<_> = reader.stamps(values).collect();
        assert_eq!(stamps, [(STAMP, true), (STAMP, false), (other, true)]);
        // Where one list had its first value, the next has one that is not its first.
        for before in 0..300 {
            let values = format!("{}[{},{}]", " ".repeat(before), value(STAMP), value(other));
            let stamps: Vec<_> = reader.stamps(values.as_bytes()).collect();
            assert_eq!(stamps, [(STAMP, true), (other, true)], "{before}");
        }
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
        let longer = event("update", &value(STAMP)).replace(r#""s":"#, r#""a longer name":"#);
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
