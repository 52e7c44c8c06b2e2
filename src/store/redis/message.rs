//! What goes over the channel `stream::events`: the message that subscribers get, and two keys of ours
//! behind it: the database that it is about, for one channel serves all of them, and what became of the
//! group.
//!
//! Written in pieces, for the script puts time and kind in. Read in two steps: a glance finds the
//! names, and only a message that somebody here wants is read whole.

use std::borrow::Cow;

use crate::config::JSON_DEPTH_MAX;
use crate::id::{GroupKey, ItemId, Text};
use crate::protocol::json::raw;
use crate::protocol::json::text::{read_string, write_string};
use crate::protocol::json::value::{self, ValueError};
use crate::shard::HeardEvent;

/// The channel of all hosts.
pub(super) const EVENTS: &str = "stream::events";
/// How long the keys of ours are at most.
const OURS_BYTES_MAX: usize = 64;

/// Both names as the index keeps them: `["<stream>","<group>"]`.
pub(super) fn names_of(key: &GroupKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.joined().len() + 8);
    out.push(b'[');
    write_string(&mut out, key.stream());
    out.push(b',');
    write_string(&mut out, key.group());
    out.push(b']');
    out
}

/// A change, from behind its time up to its kind.
pub(super) fn change_head(key: &GroupKey, item: &str) -> Vec<u8> {
    let mut out = head(key, Some(item));
    out.extend_from_slice(br#"{"type":""#);
    out
}

/// An event of `stream::send`, from behind its time up to the keys of our own.
pub(super) fn event(key: &GroupKey, id: Option<&str>, kind: &str, data: &str) -> Vec<u8> {
    let mut out = head(key, id);
    out.extend_from_slice(br#"{"type":"event","event":{"type":"#);
    write_string(&mut out, kind);
    out.extend_from_slice(br#","data":"#);
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"}}");
    out
}

fn head(key: &GroupKey, id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.joined().len() + 128);
    out.extend_from_slice(br#","streamName":"#);
    write_string(&mut out, key.stream());
    out.extend_from_slice(br#","groupId":"#);
    write_string(&mut out, key.group());
    out.extend_from_slice(br#","id":"#);
    match id {
        Some(id) => write_string(&mut out, id),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","event":"#);
    out
}

/// Who published a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// No script of ours: value and event were set and published apart.
    Foreign,
    /// A script of ours.
    Ours {
        /// In which database.
        database: u32,
        became: Became,
    },
}

/// What became of the group as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// It is there as before; or it has no items, and a custom event was told of it.
    Stays,
    /// It has its first item.
    New,
    /// It was there, and whose it is is known from here on.
    Named,
    /// Its last item went.
    Gone,
}

/// What a glance sees of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Glance<'m> {
    pub(super) stream: Cow<'m, str>,
    pub(super) group: Cow<'m, str>,
    pub(super) author: Author,
}

/// `None`: it is no message.
pub(super) fn glance(message: &str) -> Option<Glance<'_>> {
    glance_at_head(message).or_else(|| glance_at_all(message))
}

/// The order of keys that ours and reference engines write.
fn glance_at_head(message: &str) -> Option<Glance<'_>> {
    let rest = message.strip_prefix(r#"{"type":"stream","timestamp":"#)?;
    let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let (stream, rest) = string(rest.strip_prefix(r#","streamName":"#)?)?;
    let (group, rest) = string(rest.strip_prefix(r#","groupId":"#)?)?;
    rest.strip_prefix(r#","id":"#)?;
    Some(Glance {
        stream: read_string(stream).ok()?,
        group: read_string(group).ok()?,
        author: ours(message).unwrap_or(Author::Foreign),
    })
}

fn glance_at_all(message: &str) -> Option<Glance<'_>> {
    let [stream, group] = raw::pick(message, ["streamName", "groupId"]).ok()?;
    Some(Glance {
        stream: text(stream?.get())?,
        group: text(group?.get())?,
        author: Author::Foreign,
    })
}

/// The JSON string at the beginning, and what follows.
fn string(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(text.split_at(at + 1)),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The keys of ours at the end, if both are there.
fn ours(message: &str) -> Option<Author> {
    let from = message.len().saturating_sub(OURS_BYTES_MAX);
    let end = &message[message.ceil_char_boundary(from)..];
    let (_, ours) = end.rsplit_once(r#","iii-stream-db":"#)?;
    let (database, became) = ours.strip_suffix("\"}")?.split_once(r#","iii-stream":""#)?;
    let became = match became {
        "" | "none" => Became::Stays,
        "new" => Became::New,
        "named" => Became::Named,
        "gone" => Became::Gone,
        _ => return None,
    };
    let database = database.parse().ok()?;
    Some(Author::Ours { database, became })
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) item: Option<ItemId>,
    pub(super) event: HeardEvent,
    pub(super) time: u64,
}

/// `None`: a reference engine would drop it too, or it is of a kind that nobody here can use.
pub(super) fn read(message: &str) -> Option<Message> {
    let [kind, time, id, event] = raw::pick(message, ["type", "timestamp", "id", "event"]).ok()?;
    text(kind?.get())?;
    let id = match id.map(|id| id.get()) {
        None | Some("null") => None,
        Some(id) => Some(text(id)?.into()),
    };
    Some(Message {
        item: id,
        event: read_event(event?.get())?,
        time: time?.get().parse().ok()?,
    })
}

fn read_event(event: &str) -> Option<HeardEvent> {
    let [kind, data, inner] = raw::pick(event, ["type", "data", "event"]).ok()?;
    let kind = text(kind?.get())?;
    if kind == "event" {
        let [kind, data] = raw::pick(inner?.get(), ["type", "data"]).ok()?;
        let kind = text(kind?.get())?.into();
        let data = checked(data.map_or("null", |data| data.get()))?;
        return Some(HeardEvent::Custom { kind, data });
    }
    let data = checked(data?.get())?;
    match &*kind {
        "create" => Some(HeardEvent::Create(data)),
        "update" => Some(HeardEvent::Update(data)),
        "delete" => Some(HeardEvent::Delete(data)),
        _ => None,
    }
}

fn checked(json: &str) -> Option<Text> {
    value::check(json, JSON_DEPTH_MAX).ok()?;
    Some(json.into())
}

fn text(json: &str) -> Option<Cow<'_, str>> {
    json.starts_with('"').then(|| read_string(json).ok())?
}

/// Why a stored text is none that everybody can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Value(#[from] ValueError),
}

/// A stored text.
pub(super) fn stored(bytes: &[u8]) -> Result<Text, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable::NotUtf8)?;
    Ok(value::parse(text, JSON_DEPTH_MAX)?.into())
}

/// The names of an entry of the index. `None`: nobody of ours wrote it.
pub(super) fn read_names(json: &[u8]) -> Option<GroupKey> {
    let names: [String; 2] = serde_json::from_slice(json).ok()?;
    Some(GroupKey::new(&names[0], &names[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &GroupKey, kind: &str, state: Option<&str>) -> String {
        let head = String::from_utf8(change_head(key, "ü/1")).unwrap();
        let ours = state.map(|state| format!(r#","iii-stream-db":7,"iii-stream":"{state}""#));
        let ours = ours.unwrap_or_default();
        format!(r#"{{"type":"stream","timestamp":17{head}{kind}","data":{{"b":[1]}}}}{ours}}}"#)
    }

    #[test]
    fn a_message_is_the_text_that_subscribers_get() {
        let key = GroupKey::new("chat", "room:1");
        assert_eq!(
            message(&key, "create", None),
            r#"{"type":"stream","timestamp":17,"streamName":"chat","groupId":"room:1","id":"ü/1","event":{"type":"create","data":{"b":[1]}}}"#
        );
        assert_eq!(
            String::from_utf8(event(&key, None, "a\"b", "[1]")).unwrap(),
            r#","streamName":"chat","groupId":"room:1","id":null,"event":{"type":"event","event":{"type":"a\"b","data":[1]}}"#
        );
    }

    #[test]
    fn a_glance_finds_names_and_who_wrote_it() {
        for (stream, group) in [("chat", "room:1"), ("", ""), ("q\"\\\n", "имя \u{1}")] {
            let key = GroupKey::new(stream, group);
            for (state, became) in [
                (None, None),
                (Some(""), Some(Became::Stays)),
                (Some("none"), Some(Became::Stays)),
                (Some("new"), Some(Became::New)),
                (Some("named"), Some(Became::Named)),
                (Some("gone"), Some(Became::Gone)),
                (Some("what is that"), None),
            ] {
                let message = message(&key, "update", state);
                let seen = glance(&message).unwrap();
                assert_eq!((&*seen.stream, &*seen.group), (stream, group));
                let author = became.map_or(Author::Foreign, |became| Author::Ours {
                    database: 7,
                    became,
                });
                assert_eq!(seen.author, author, "{message}");
            }
        }
        let other_order = r#" {"groupId":"g", "id":null,"streamName":"\u0073"} "#;
        let seen = glance(other_order).unwrap();
        assert_eq!((&*seen.stream, &*seen.group), ("s", "g"));
        for text in [
            "",
            "{}",
            "[]",
            r#"{"streamName":1,"groupId":"g"}"#,
            "{\"type\":\"stream\",\"timestamp\":1,\"streamName\":\"a",
        ] {
            assert_eq!(glance(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_value_holds_is_taken_for_no_author() {
        for inside in [
            r#""x":",\"iii-stream-db\":7,\"iii-stream\":\"""#,
            r#""x":0,"iii-stream-db":7,"iii-stream":"new""#,
            r#""iii-stream-db":7,"iii-stream":"gone""#,
        ] {
            let text = format!(
                r#"{{"type":"stream","timestamp":1,"streamName":"s","groupId":"g","id":"i","event":{{"type":"create","data":{{{inside}}}}}}}"#
            );
            let author = glance(&text).map(|seen| seen.author);
            assert_eq!(author, Some(Author::Foreign), "{text}");
        }
        // A server of ours that does not say which database it is about.
        let older = message(&GroupKey::new("s", "g"), "create", None);
        let older = older.replace("}}", r#"}},"iii-stream":"new"}"#);
        assert_eq!(
            glance(&older).map(|seen| seen.author),
            Some(Author::Foreign)
        );
    }

    #[test]
    fn whole_messages_are_read_as_a_reference_engine_reads_them() {
        let key = GroupKey::new("s", "g");
        let whole = read(&message(&key, "create", Some("new"))).unwrap();
        assert_eq!(whole.item.as_deref(), Some("ü/1"));
        assert_eq!(whole.event, HeardEvent::Create(r#"{"b":[1]}"#.into()));
        assert_eq!(whole.time, 17);
        let typing = r#"{"event":{"event":{"data":null,"type":"t"},"type":"event"},"timestamp":5,"type":"x","more":[]}"#;
        let whole = read(typing).unwrap();
        assert_eq!((whole.item, whole.time), (None, 5));
        let kind = "t".into();
        let data = "null".into();
        assert_eq!(whole.event, HeardEvent::Custom { kind, data });
        for text in [
            "not JSON",
            r#"{"timestamp":1,"event":{"type":"create","data":1}}"#,
            r#"{"type":5,"timestamp":1,"event":{"type":"create","data":1}}"#,
            r#"{"type":"stream","timestamp":18446744073709551616,"event":{"type":"create","data":1}}"#,
            r#"{"type":"stream","timestamp":1.5,"event":{"type":"create","data":1}}"#,
            r#"{"type":"stream","timestamp":1,"event":{"type":"other","data":1}}"#,
            r#"{"type":"stream","timestamp":1,"event":{"type":"create","data":1e999}}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_kept_as_json_and_read_back() {
        let key = GroupKey::new("a:b", "c\"");
        let kept = names_of(&key);
        assert_eq!(kept, br#"["a:b","c\""]"#);
        assert_eq!(read_names(&kept), Some(key));
        assert_eq!(read_names(b"[1]"), None);
    }
}
