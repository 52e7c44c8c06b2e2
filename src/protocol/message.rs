//! What subscribers send: one JSON text to a join or a leave, or to nothing at all.
//!
//! Uses `protocol::connection` for the payload alone. May not answer, close or log: what does not fit
//! is ignored, and the messages behind it are served.
//!
//! A text is judged as strictly as a parser into a tree would judge it, so keys that nobody reads are
//! looked into as well: their depth, their numbers, their escapes. Nothing of them is kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::connection::Payload;

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
}

/// Reads one message, text and binary alike. None: it is to be ignored.
///
/// Refused besides what does not fit: 128 levels and more, the message's own object counted as one
/// (the limit that serde_json has by itself), and numbers beyond the range of a double.
pub fn parse(payload: Payload<'_>) -> Option<ClientMessage<'_>> {
    let text = match payload {
        Payload::Text(text) => text,
        Payload::Binary(bytes) => str::from_utf8(bytes).ok()?,
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let message = ClientMessage::deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(message)
}

enum Kind {
    Join,
    Leave,
}

enum MessageKey {
    Kind,
    Data,
    Unknown,
}

enum SubscriptionKey {
    Subscription,
    Stream,
    Group,
    Item,
    Unknown,
}

impl<'de> Deserialize<'de> for ClientMessage<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = ClientMessage<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `type` and `data`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kind = None;
        let mut data = None;
        while let Some(key) = map.next_key()? {
            match key {
                MessageKey::Kind => fill(&mut kind, map.next_value()?)?,
                MessageKey::Data => fill(&mut data, map.next_value()?)?,
                MessageKey::Unknown => {
                    let Unkept = map.next_value()?;
                }
            }
        }
        let data = required(data)?;
        Ok(match required(kind)? {
            Kind::Join => ClientMessage::Join(data),
            Kind::Leave => ClientMessage::Leave(data),
        })
    }
}

impl<'de> Deserialize<'de> for Subscription<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(SubscriptionVisitor)
    }
}

struct SubscriptionVisitor;

impl<'de> Visitor<'de> for SubscriptionVisitor {
    type Value = Subscription<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `subscriptionId`, `streamName` and `groupId`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut subscription = None;
        let mut stream = None;
        let mut group = None;
        let mut item = None;
        while let Some(key) = map.next_key()? {
            match key {
                SubscriptionKey::Subscription => fill(&mut subscription, name(&mut map)?)?,
                SubscriptionKey::Stream => fill(&mut stream, name(&mut map)?)?,
                SubscriptionKey::Group => fill(&mut group, name(&mut map)?)?,
                SubscriptionKey::Item => {
                    let name = map.next_value::<Option<Name<'de>>>()?;
                    fill(&mut item, name.map(|Name(name)| name))?;
                }
                SubscriptionKey::Unknown => {
                    let Unkept = map.next_value()?;
                }
            }
        }
        Ok(Subscription {
            subscription: required(subscription)?,
            stream: required(stream)?,
            group: required(group)?,
            item: item.flatten(),
        })
    }
}

/// Takes the value of a known key, which may come once only.
fn fill<T, E: Error>(field: &mut Option<T>, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a known key twice")),
    }
}

fn required<T, E: Error>(field: Option<T>) -> Result<T, E> {
    field.ok_or_else(|| E::custom("a required key is missing"))
}

fn name<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Cow<'de, str>, A::Error> {
    map.next_value().map(|Name(name)| name)
}

/// A string, borrowed if it holds no escapes. (serde's own `Cow` always copies.)
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

/// A string of which only a fixed set of words counts. None: this word ends the reading.
struct WordVisitor<T>(fn(&str) -> Option<T>);

impl<T> Visitor<'_> for WordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a known word")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        (self.0)(word).ok_or_else(|| E::custom("an unknown word"))
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(WordVisitor(|word| match word {
            "join" => Some(Kind::Join),
            "leave" => Some(Kind::Leave),
            _ => None,
        }))
    }
}

impl<'de> Deserialize<'de> for MessageKey {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(WordVisitor(|key| {
            Some(match key {
                "type" => MessageKey::Kind,
                "data" => MessageKey::Data,
                _ => MessageKey::Unknown,
            })
        }))
    }
}

impl<'de> Deserialize<'de> for SubscriptionKey {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(WordVisitor(|key| {
            Some(match key {
                "subscriptionId" => SubscriptionKey::Subscription,
                "streamName" => SubscriptionKey::Stream,
                "groupId" => SubscriptionKey::Group,
                "id" => SubscriptionKey::Item,
                _ => SubscriptionKey::Unknown,
            })
        }))
    }
}

/// Any value, read to its end and thrown away. serde's `IgnoredAny` will not do: serde_json then
/// counts no depth, reads no number and takes lone surrogates.
struct Unkept;

impl<'de> Deserialize<'de> for Unkept {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Unkept)
    }
}

impl<'de> Visitor<'de> for Unkept {
    type Value = Unkept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Unkept, E> {
        Ok(Unkept)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Unkept, E> {
        Ok(Unkept)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Unkept, E> {
        Ok(Unkept)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Unkept, E> {
        Ok(Unkept)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Unkept, E> {
        Ok(Unkept)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Unkept, E> {
        Ok(Unkept)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unkept, A::Error> {
        while let Some(Unkept) = seq.next_element()? {}
        Ok(Unkept)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unkept, A::Error> {
        while let Some((Unkept, Unkept)) = map.next_entry()? {}
        Ok(Unkept)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]
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
