//! The texts that the harness sends and what it looks for in those it gets.
//!
//! Received texts are not parsed: the few fields needed are found by their fixed bytes, so a
//! message costs some tens of nanoseconds. That is sound because the values are our own and hold
//! no quotes besides the ones written here. May not touch a socket or a clock.

use std::fmt::{self, Display, Formatter};
use std::io::Write;

/// The item that every set writes: one a group, so a store does not grow with the run.
const ITEM_ID: &str = "item";
const STAMP_DIGITS: usize = 8 + 8 + 8 + 16;
/// The smallest value there is: a stamp and an empty filling.
pub(crate) const VALUE_BYTES_MIN: usize = r#"{"load":"","pad":""}"#.len() + STAMP_DIGITS;

/// Which run published what and when: fixed-width hexadecimal inside each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) run: u32,
    pub(crate) group: u32,
    pub(crate) sequence: u32,
    /// The intended send time: nanoseconds of this process's clock.
    pub(crate) sent_ns: u64,
}

impl Stamp {
    fn write(&self, out: &mut Vec<u8>) {
        let Self {
            run,
            group,
            sequence,
            sent_ns,
        } = self;
        write!(out, "{run:08x}{group:08x}{sequence:08x}{sent_ns:016x}")
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
            sequence: word(2),
            sent_ns: u64::from(word(3)) << 32 | u64::from(word(4)),
        })
    }
}

/// Eight hexadecimal digits at once. Other bytes give some number: run, group and sequence are
/// compared with what was sent, so it does not pass for one of ours.
fn hex_word(digits: [u8; 8]) -> u32 {
    let text = u64::from_be_bytes(digits);
    // '0'..'9' end in their value; letters have bit 6 set and end in 1..6.
    let nibbles = (text & 0x0f0f_0f0f_0f0f_0f0f) + 9 * ((text >> 6) & 0x0101_0101_0101_0101);
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (halves | halves >> 16) as u32
}

/// Writes the calls of one run.
pub(crate) struct SetWriter {
    run: u32,
    stream_name: String,
    padding: String,
    void: bool,
}

impl SetWriter {
    pub(crate) fn new(run: u32, stream_name: &str, value_bytes: usize, void: bool) -> Self {
        let padding = "x".repeat(value_bytes.saturating_sub(VALUE_BYTES_MIN));
        Self {
            run,
            stream_name: stream_name.to_owned(),
            padding,
            void,
        }
    }

    /// Replaces `out` by the `stream::set` call number `set` of the run.
    pub(crate) fn write(
        &self,
        set: u64,
        group: u32,
        sequence: u32,
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) {
        let Self {
            run,
            stream_name,
            padding,
            void,
        } = self;
        out.clear();
        write!(
            out,
            r#"{{"type":"invokefunction","invocation_id":"{run:08x}-0000-4000-8000-{set:012x}","function_id":"stream::set","#
        )
        .expect("a Vec takes every write");
        write!(
            out,
            r#""data":{{"stream_name":"{stream_name}","group_id":"{}","item_id":"{ITEM_ID}","data":{{"load":""#,
            GroupId(group)
        )
        .expect("a Vec takes every write");
        Stamp {
            run: *run,
            group,
            sequence,
            sent_ns,
        }
        .write(out);
        write!(out, r#"","pad":"{padding}"}}}}"#).expect("a Vec takes every write");
        if *void {
            out.extend_from_slice(br#","action":{"type":"void"}"#);
        }
        out.push(b'}');
    }
}

/// All names have one length, so all frames of a run do.
struct GroupId(u32);

impl Display for GroupId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "g{:06}", self.0)
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

/// What a subscriber heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Sync,
    /// A created or updated value that carries a stamp.
    Value(Stamp),
    /// Nothing that a subscriber of a load test should hear.
    Other,
}

/// Reads event frames. Frames of one kind look alike, so each search first tries where it
/// succeeded last.
pub(crate) struct EventReader {
    kind: Finder,
    stamp: Finder,
}

impl EventReader {
    pub(crate) fn new() -> Self {
        Self {
            kind: Finder::new(br#""event":{"type":""#),
            stamp: Finder::new(br#"","data":{"load":""#),
        }
    }

    pub(crate) fn read(&mut self, text: &[u8]) -> Heard {
        let Some(kind) = self.kind.after(text) else {
            return Heard::Other;
        };
        let rest = &text[kind..];
        if rest.starts_with(br#"sync""#) {
            return Heard::Sync;
        }
        if !rest.starts_with(br#"create""#) && !rest.starts_with(br#"update""#) {
            return Heard::Other;
        }
        let stamp = self
            .stamp
            .after(text)
            .and_then(|at| Stamp::read(&text[at..]));
        stamp.map_or(Heard::Other, Heard::Value)
    }
}

/// An acknowledgement of one of our sets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) set: u64,
    pub(crate) accepted: bool,
}

/// Reads what comes back on the worker port.
pub(crate) struct AnswerReader {
    id: Finder,
    result: Finder,
}

impl AnswerReader {
    pub(crate) fn new(run: u32) -> Self {
        let id = format!(r#""invocation_id":"{run:08x}-0000-4000-8000-"#);
        Self {
            id: Finder::new(id.as_bytes()),
            result: Finder::new(br#""result":{"#),
        }
    }

    /// `None`: not an answer to us, such as the greeting.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<Answer> {
        let at = self.id.after(text)?;
        let digits = str::from_utf8(text.get(at..at + 12)?).ok()?;
        let set = u64::from_str_radix(digits, 16).ok()?;
        Some(Answer {
            set,
            accepted: self.result.after(text).is_some(),
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
        sequence: 0xabc_def9,
        sent_ns: 0x0123_4567_89ab_cdef,
    };

    fn value(stamp: Stamp) -> String {
        let mut text = Vec::new();
        stamp.write(&mut text);
        format!(
            r#"{{"load":"{}","pad":"xx"}}"#,
            String::from_utf8(text).unwrap()
        )
    }

    fn event(kind: &str, data: &str) -> String {
        format!(
            r#"{{"type":"stream","timestamp":1795474467413,"streamName":"load","groupId":"g000007","id":"item","event":{{"type":"{kind}","data":{data}}}}}"#
        )
    }

    #[test]
    fn stamp_survives_the_way() {
        let mut reader = EventReader::new();
        for kind in ["create", "update"] {
            assert_eq!(
                reader.read(event(kind, &value(STAMP)).as_bytes()),
                Heard::Value(STAMP)
            );
        }
    }

    #[test]
    fn every_hex_digit_is_read() {
        assert_eq!(hex_word(*b"01234567"), 0x0123_4567);
        assert_eq!(hex_word(*b"89abcdef"), 0x89ab_cdef);
        assert_eq!(hex_word(*b"ffffffff"), u32::MAX);
    }

    #[test]
    fn sync_is_no_delivery_though_it_holds_stamps() {
        let data = format!("[{},{}]", value(STAMP), value(STAMP));
        assert_eq!(
            EventReader::new().read(event("sync", &data).as_bytes()),
            Heard::Sync
        );
        assert_eq!(
            EventReader::new().read(event("sync", "[]").as_bytes()),
            Heard::Sync
        );
    }

    #[test]
    fn other_events_and_broken_texts_are_neither() {
        let mut reader = EventReader::new();
        for text in [
            event("delete", &value(STAMP)),
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
        let mut reader = EventReader::new();
        let longer = event("update", &value(STAMP)).replace("g000007", "a much longer group id");
        for text in [
            event("create", &value(STAMP)),
            longer,
            event("update", &value(STAMP)),
        ] {
            assert_eq!(reader.read(text.as_bytes()), Heard::Value(STAMP));
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
            let answer = reader.read(format!("{head}{tail}").as_bytes());
            assert_eq!(
                answer,
                Some(Answer {
                    set: 42,
                    accepted: true
                })
            );
        }
        let refused = format!(r#"{head}"error":{{"code":"STREAM_SET_ERROR","message":"m"}}}}"#);
        assert_eq!(
            reader.read(refused.as_bytes()),
            Some(Answer {
                set: 42,
                accepted: false
            })
        );
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
        for void in [false, true] {
            let mut text = Vec::new();
            SetWriter::new(0xfeed_0001, "load", 200, void).write(42, 7, 3, 99, &mut text);
            let call: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(
                call["invocation_id"],
                "feed0001-0000-4000-8000-00000000002a"
            );
            assert_eq!(call["data"]["group_id"], "g000007");
            assert_eq!(call["data"]["data"].to_string().len(), 200);
            assert_eq!(call["action"]["type"] == "void", void);
        }
        let joined: serde_json::Value = serde_json::from_slice(&join("load", 7)).unwrap();
        assert_eq!(joined["data"]["groupId"], "g000007");
    }
}
