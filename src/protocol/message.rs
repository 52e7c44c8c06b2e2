//! What subscribers send: one JSON text to a join or a leave, or to nothing at all.
//!
//! Uses `protocol::connection` for the payload alone. May not answer, close or log: what does not fit
//! is ignored, and the messages behind it are served.
//!
//! A text is judged as strictly as a parser into a tree would judge it, so keys that nobody reads are
//! looked into as well: their depth, their numbers, their escapes. Nothing of them is kept.

use std::borrow::Cow;

use super::connection::Payload;
use super::json::{checked, text, value};
use super::pace::Pace;

/// What a subscriber asks for. Names point into the message unless they were written with escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// Enter this subscription, in place of an earlier one of the same id.
    Join(Subscription<'a>),
    /// End the subscription of this id. The other names only tell the leave functions.
    Leave(Subscription<'a>),
}

/// The names of one subscription. Each may be empty; none is limited in length here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// What the client calls it; unique per socket.
    pub subscription: Cow<'a, str>,
    /// Name of the stream.
    pub stream: Cow<'a, str>,
    /// Name of the group.
    pub group: Cow<'a, str>,
    /// Name of the item. None: the whole group, which is not the item with the empty name.
    pub item: Option<Cow<'a, str>>,
    /// How far apart it is to be written to at least. None: what stands there is no pace.
    pub pace: Option<Pace>,
}

/// Levels of a whole message, its own object counted as one: the limit that serde_json has by itself.
const DEPTH_MAX: usize = 127;

/// Reads one message, text and binary alike. None: it is to be ignored.
///
/// Refused besides what does not fit: deeper messages, and numbers beyond the range of a double.
pub fn parse(payload: Payload<'_>) -> Option<ClientMessage<'_>> {
    let text = match payload {
        Payload::Text(text) => text,
        Payload::Binary(bytes) => str::from_utf8(bytes).ok()?,
    };
    let message = value::parse(text, DEPTH_MAX).ok()?;
    let [kind, data] = pick_once(message, ["type", "data"])?;
    let names = subscription(data?)?;
    match &*string(kind?)? {
        "join" => Some(ClientMessage::Join(names)),
        "leave" => Some(ClientMessage::Leave(names)),
        _ => None,
    }
}

fn subscription(data: &str) -> Option<Subscription<'_>> {
    const KEYS: [&str; 5] = ["subscriptionId", "streamName", "groupId", "id", "paceMs"];
    let [subscription, stream, group, item, pace] = pick_once(data, KEYS)?;
    Some(Subscription {
        subscription: string(subscription?)?,
        stream: string(stream?)?,
        group: string(group?)?,
        item: match item {
            None | Some("null") => None,
            Some(item) => Some(string(item)?),
        },
        pace: match pace {
            None | Some("null") => Some(Pace::NONE),
            Some(pace) => Pace::read(pace),
        },
    })
}

/// The members with these keys. None: it is no object, or has one of them twice.
fn pick_once<'a, const N: usize>(json: &'a str, keys: [&str; N]) -> Option<[Option<&'a str>; N]> {
    if !json.starts_with('{') {
        return None;
    }
    let mut picked = [None; N];
    let mut is_doubled = false;
    checked::members(json, |key, value| {
        let key = text::read_string(key).unwrap_or_default();
        if let Some(at) = keys.iter().position(|&wanted| wanted == key) {
            is_doubled |= picked[at].replace(value).is_some();
        }
    });
    (!is_doubled).then_some(picked)
}

/// A string's content. None: it is something else.
fn string(json: &str) -> Option<Cow<'_, str>> {
    let is_string = json.starts_with('"');
    is_string.then(|| text::read_string(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = r#"{"subscriptionId":"s1","streamName":"chat","groupId":"g"}"#;

    fn read(text: &str) -> Option<ClientMessage<'_>> {
        let message = parse(Payload::Text(text));
        assert_eq!(message, parse(Payload::Binary(text.as_bytes())), "{text}");
        message
    }

    fn subscription<'a>(names: [&'a str; 3], item: Option<&'a str>) -> Subscription<'a> {
        let [subscription, stream, group] = names.map(Cow::Borrowed);
        Subscription {
            subscription,
            stream,
            group,
            item: item.map(Cow::Borrowed),
            pace: Some(Pace::NONE),
        }
    }

    /// A join whose `data` holds, besides the three names, what is given.
    fn join_with(more: &str) -> String {
        format!(
            r#"{{"type":"join","data":{{"subscriptionId":"s1","streamName":"chat","groupId":"g"{more}}}}}"#
        )
    }

    #[track_caller]
    fn served(text: &str, item: Option<&str>) {
        let wanted = ClientMessage::Join(subscription(["s1", "chat", "g"], item));
        assert_eq!(read(text), Some(wanted), "{text}");
    }

    #[track_caller]
    fn ignored(text: &str) {
        assert_eq!(read(text), None, "{text}");
    }

    #[test]
    fn joins_and_leaves_are_read() {
        served(&join_with(""), None);
        served(&join_with(r#","id":"u1""#), Some("u1"));
        let leave = format!(r#"{{"type":"leave","data":{DATA}}}"#);
        let wanted = ClientMessage::Leave(subscription(["s1", "chat", "g"], None));
        assert_eq!(read(&leave), Some(wanted));
    }

    #[test]
    fn a_join_may_ask_for_a_pace_and_for_one_that_may_not_be() {
        let pace_of = |more: &str| match read(&join_with(more)) {
            Some(ClientMessage::Join(names)) => names.pace.map(Pace::ms),
            other => panic!("{more}: {other:?}"),
        };
        assert_eq!(pace_of(r#","paceMs":50"#), Some(50));
        assert_eq!(pace_of(r#","pace\u004ds":0"#), Some(0));
        assert_eq!(pace_of(r#","paceMs":null"#), Some(0));
        for wrong in ["-1", "1.5", "60001", "1e3", r#""50""#, "true", "{}", "[50]"] {
            assert_eq!(pace_of(&format!(r#","paceMs":{wrong}"#)), None, "{wrong}");
        }
        ignored(&join_with(r#","paceMs":50,"paceMs":50"#));
    }

    #[test]
    fn names_without_escapes_are_borrowed() {
        let text = join_with(r#","id":"\u0075""#);
        let Some(ClientMessage::Join(names)) = read(&text) else {
            panic!("not a join");
        };
        assert!(matches!(names.stream, Cow::Borrowed("chat")));
        assert!(matches!(names.item, Some(Cow::Owned(name)) if name == "u"));
    }

    #[test]
    fn lenient_forms_are_served() {
        // keys in any order, with escapes
        let reversed = r#"{"data":{"id":null,"groupId":"g","streamName":"chat","subscription\u0049d":"s1"},"ty\u0070e":"join"}"#;
        served(reversed, None);
        // unknown keys, also repeated
        served(
            &join_with(r#","x":1,"x":{"id":[1.5,-2,"\n",null,true]}"#),
            None,
        );
        served(
            &format!(r#"{{"a":1,"a":[],"type":"join","":{{}},"data":{DATA}}}"#),
            None,
        );
        // white space
        served(&format!(" \t\r\n{}\n\r\t ", join_with("")), None);
        // the item
        served(&join_with(r#","id":null"#), None);
        served(&join_with(r#","id":"""#), Some(""));
        // empty names, any Unicode
        let empty = r#"{"type":"join","data":{"subscriptionId":"","streamName":"","groupId":""}}"#;
        let wanted = ClientMessage::Join(subscription(["", "", ""], None));
        assert_eq!(read(empty), Some(wanted));
        served(&join_with(r#","id":"\u0000é\ud83d\ude00""#), Some("\0é😀"));
        served(&join_with(",\"id\":\"😀\u{2028}\""), Some("😀\u{2028}"));
    }

    #[test]
    fn values_of_another_type_are_ignored() {
        for wrong in ["1", "true", "{}", "[]", "1.5", r#"["a"]"#] {
            ignored(&join_with(&format!(r#","id":{wrong}"#)));
        }
        for wrong in ["1", "true", "{}", "[]", "null"] {
            for key in ["subscriptionId", "streamName", "groupId"] {
                let name = format!(r#""{key}":"#);
                let at = DATA.find(&name).unwrap() + name.len();
                let end = at + DATA[at..].find([',', '}']).unwrap();
                let data = format!("{}{wrong}{}", &DATA[..at], &DATA[end..]);
                ignored(&format!(r#"{{"type":"join","data":{data}}}"#));
            }
        }
    }

    #[test]
    fn missing_names_are_ignored() {
        ignored(r#"{"type":"join","data":{"streamName":"chat","groupId":"g"}}"#);
        ignored(r#"{"type":"join","data":{"subscriptionId":"s1","groupId":"g"}}"#);
        ignored(r#"{"type":"leave","data":{"subscriptionId":"s1","streamName":"chat"}}"#);
        ignored(r#"{"type":"join","data":{}}"#);
        ignored(r#"{"type":"join"}"#);
        ignored(r#"{"type":"join","data":null}"#);
        ignored(
            r#"{"type":"join","data":{"subscription_id":"s1","stream_name":"chat","group_id":"g"}}"#,
        );
    }

    #[test]
    fn types_other_than_the_two_are_ignored() {
        for kind in [
            r#""Join""#,
            r#""joi""#,
            r#""""#,
            "1",
            "null",
            r#"["join"]"#,
            r#"{"join":1}"#,
        ] {
            ignored(&format!(r#"{{"type":{kind},"data":{DATA}}}"#));
        }
        ignored(&format!(r#"{{"data":{DATA}}}"#));
    }

    #[test]
    fn known_keys_twice_are_ignored() {
        ignored(&format!(r#"{{"type":"join","type":"join","data":{DATA}}}"#));
        ignored(&format!(r#"{{"type":"join","data":{DATA},"data":{DATA}}}"#));
        for more in [
            r#","subscriptionId":"s1""#,
            r#","streamName":"chat""#,
            r#","groupId":"g""#,
            r#","id":null,"id":null"#,
            r#","id":null,"\u0069d":"a""#,
        ] {
            ignored(&join_with(more));
        }
    }

    #[test]
    fn what_is_not_one_object_is_ignored() {
        let join = join_with("");
        for text in [
            "", " ", "\n\t\r ", "[]", "{}", "null", "1", "\"join\"", "nonsense", "{", "{}}",
        ] {
            ignored(text);
        }
        for text in [
            format!("{join}{join}"),
            format!("{join} {join}"),
            format!("{join}x"),
            format!("{join}\0"),
            format!("\u{feff}{join}"),
            format!("{join},"),
            join[..join.len() - 1].to_owned(),
            join.replace(":\"s1\"", ":'s1'"),
            join.replace("\"s1\",", "\"s1\",,"),
            join.replace("\"s1\"", "\"s\n1\""),
            format!(r#"{{"type":"join","data":{DATA},}}"#),
            format!(
                r#"{{"type":"join","data":"{}"}}"#,
                DATA.replace('"', "\\\"")
            ),
        ] {
            ignored(&text);
        }
    }

    #[test]
    fn arrays_in_place_of_objects_are_ignored() {
        ignored(&format!(r#"["join",{DATA}]"#));
        ignored(r#"["join",["s1","chat","g",null]]"#);
        ignored(r#"{"type":"join","data":["s1","chat","g",null]}"#);
    }

    #[test]
    fn lone_surrogates_are_ignored() {
        for lone in [
            r"\ud800",
            r"\ude00",
            r"\ud83dx",
            r"\ud83d\n",
            r"\ud83d\ud83d",
        ] {
            ignored(&join_with(&format!(r#","id":"{lone}""#)));
            ignored(&join_with(&format!(r#","x":"{lone}""#)));
            ignored(&join_with(&format!(r#","{lone}":1"#)));
        }
    }

    #[test]
    fn binary_messages_that_are_not_utf8_are_ignored() {
        let mut bytes = join_with(r#","id":"??""#).into_bytes();
        let at = bytes.iter().position(|&b| b == b'?').unwrap();
        bytes[at] = 0xff;
        assert_eq!(parse(Payload::Binary(&bytes)), None);
    }

    #[test]
    fn depth_of_128_and_more_is_ignored() {
        // Inside `data` two levels stand open already; beside it, one.
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let beside = |levels| format!(r#"{{"x":{},"type":"join","data":{DATA}}}"#, nested(levels));
        served(&join_with(&format!(r#","x":{}"#, nested(125))), None);
        ignored(&join_with(&format!(r#","x":{}"#, nested(126))));
        served(&beside(126), None);
        ignored(&beside(127));
        let objects = |levels: usize| r#"{"a":"#.repeat(levels) + "1" + &"}".repeat(levels);
        served(&join_with(&format!(r#","x":{}"#, objects(125))), None);
        ignored(&join_with(&format!(r#","x":{}"#, objects(126))));
        ignored(&"[".repeat(1_000_000));
        ignored(&r#"{"a":"#.repeat(200_000));
    }

    #[test]
    fn numbers_beyond_a_double_are_ignored() {
        for number in [
            "1e999",
            "-1e999",
            "[1e309]",
            r#"{"a":1e400}"#,
            "01",
            "+1",
            "NaN",
            ".5",
            "1.",
        ] {
            ignored(&join_with(&format!(r#","x":{number}"#)));
        }
        for number in [
            "1e308",
            "1e-999",
            "-0",
            "123456789012345678901234567890",
            "18446744073709551616",
        ] {
            served(&join_with(&format!(r#","x":{number}"#)), None);
        }
    }

    #[test]
    fn mutated_messages_are_judged_as_a_tree_would_be() {
        use rand::rngs::SmallRng;
        use rand::{RngExt, SeedableRng};

        let mut rng = SmallRng::seed_from_u64(3);
        let seed = join_with(r#","id":"a\n\ud83d\ude00é","x":[1.5e3,{"y":null}]"#).into_bytes();
        let alphabet = b"\"\\{}[]:,0123456789eE+-.untrfalsd \x00\xff\xc3";
        for _ in 0..20_000 {
            let mut bytes = seed.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = alphabet[rng.random_range(0..alphabet.len())];
            }
            let served = parse(Payload::Binary(&bytes)).is_some();
            let tree = serde_json::from_slice::<serde_json::Value>(&bytes);
            if served {
                assert!(tree.is_ok(), "{}", String::from_utf8_lossy(&bytes));
            } else if let Ok(tree) = tree {
                // A tree that fits was refused: only a known key written twice may do that.
                let fits = matches!(tree["type"].as_str(), Some("join" | "leave"))
                    && ["subscriptionId", "streamName", "groupId"]
                        .iter()
                        .all(|key| tree["data"][key].is_string())
                    && (tree["data"]["id"].is_string() || tree["data"]["id"].is_null());
                assert!(!fits, "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
