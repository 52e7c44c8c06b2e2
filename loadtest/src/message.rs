//! The texts that the harness sends, and the answers that it gets on the worker port.
//!
//! Answers are not parsed: the few fields needed are found by their fixed bytes, so one costs some
//! tens of nanoseconds. `event` reads what subscribers hear. May not touch a socket or a clock.

use std::fmt::{self, Display, Formatter};
use std::io::Write;

use crate::stamp::{ItemId, Stamp, find, padding};

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

/// All names have one length, so all frames of a group do.
pub(crate) struct GroupId(pub(crate) u32);

pub(crate) const GROUP_DIGITS: usize = 6;

impl Display for GroupId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "g{:06}", self.0)
    }
}

/// A subscriber's only message. The id is the socket's own, so it may be the same on others.
pub(crate) fn join(stream_name: &str, group: u32) -> Vec<u8> {
    join_at_pace(stream_name, group, None)
}

/// The same of one that is written to no more often than so.
pub(crate) fn join_at_pace(stream_name: &str, group: u32, pace_ms: Option<u16>) -> Vec<u8> {
    let group = GroupId(group);
    let pace = pace_ms.map_or(String::new(), |ms| format!(r#","paceMs":{ms}"#));
    format!(
        r#"{{"type":"join","data":{{"subscriptionId":"{group}","streamName":"{stream_name}","groupId":"{group}"{pace}}}}}"#
    )
    .into_bytes()
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

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
