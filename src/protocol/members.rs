//! Who the person behind a socket is, and what stands of it as a member of a group.
//!
//! Pure. The settings say where its id and its data are; may not know who is a member of what.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use super::json::{checked, raw, text};

/// Where a person's id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdPath {
    /// In what the auth function has given, by the keys on the way.
    Context(Keys),
    /// In the query of the request, by its key.
    Query(Box<str>),
    /// In a header of the request, by its name in lower case.
    Header(Box<str>),
}

/// The keys on the way to something in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Box<[Box<str>]>);

/// Why somebody is no member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMember {
    /// The path names nothing.
    Nothing,
    /// It is no text and no number.
    WrongType,
    /// It is empty.
    Empty,
    /// It is longer than a name may be.
    TooLong,
}

impl IdPath {
    /// `context.<key>…`, `query.<key>` or `header.<name>`.
    pub fn read(text: &str) -> Option<IdPath> {
        let (home, rest) = text.split_once('.')?;
        match home {
            _ if rest.is_empty() => None,
            "context" => Keys::read(rest).map(IdPath::Context),
            "query" => Some(IdPath::Query(rest.into())),
            "header" => Some(IdPath::Header(rest.to_ascii_lowercase().into())),
            _ => None,
        }
    }

    /// What that request says there; none where the context says it, or nobody.
    pub fn in_request(
        &self,
        target: &str,
        header: impl Fn(&str) -> Option<String>,
    ) -> Option<Box<str>> {
        match self {
            IdPath::Context(_) => None,
            IdPath::Query(key) => value_in_query(target, key).map(Into::into),
            IdPath::Header(name) => header(name).map(Into::into),
        }
    }
}

impl Keys {
    /// Keys with a dot between them.
    pub fn read(text: &str) -> Option<Keys> {
        let keys: Box<[Box<str>]> = text.split('.').map(Box::from).collect();
        let are_there = keys.iter().all(|key| !key.is_empty());
        are_there.then_some(Keys(keys))
    }

    /// No key: what is looked into itself.
    pub fn none() -> Keys {
        Keys(Box::default())
    }

    /// What stands there in an object.
    pub fn find<'a>(&self, json: &'a str) -> Option<&'a str> {
        let mut found = json.trim_ascii();
        for key in &self.0 {
            if !found.starts_with('{') {
                return None;
            }
            let [value] = raw::pick(found, [key]).ok()?;
            found = value?.get();
        }
        Some(found)
    }

    /// As a path behind that word.
    pub fn behind(&self, home: &str) -> String {
        let keys = self.0.iter().map(|key| &**key);
        std::iter::once(home)
            .chain(keys)
            .collect::<Vec<_>>()
            .join(".")
    }
}

impl fmt::Display for IdPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdPath::Context(keys) => out.write_str(&keys.behind("context")),
            IdPath::Query(key) => write!(out, "query.{key}"),
            IdPath::Header(name) => write!(out, "header.{name}"),
        }
    }
}

/// As a line of the log says it behind "its id".
impl fmt::Display for NoMember {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            NoMember::Nothing => "is not there",
            NoMember::WrongType => "is no text and no number",
            NoMember::Empty => "is empty",
            NoMember::TooLong => "is longer than limits.name_bytes",
        })
    }
}

/// The id that a JSON text is, or a plain one.
pub fn id_of(found: Option<Found<'_>>, name_bytes: usize) -> Result<Cow<'_, str>, NoMember> {
    let id = match found {
        None | Some(Found::Json("null")) => return Err(NoMember::Nothing),
        Some(Found::Plain(text)) => Cow::Borrowed(text),
        Some(Found::Json(json)) => match json.as_bytes().first() {
            Some(b'"') => text::read_string(json).map_err(|_| NoMember::WrongType)?,
            Some(b'-' | b'0'..=b'9') => Cow::Borrowed(json),
            _ => return Err(NoMember::WrongType),
        },
    };
    match id.len() {
        0 => Err(NoMember::Empty),
        len if len > name_bytes => Err(NoMember::TooLong),
        _ => Ok(id),
    }
}

/// What was found where an id should be.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// In a request.
    Plain(&'a str),
    /// In a context.
    Json(&'a str),
}

/// The last value of that key in the query of a request, decoded as forms are.
fn value_in_query(target: &str, key: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        (decoded(name).as_deref() == Some(key)).then_some(value)
    });
    decoded(pairs.next_back()?)
}

/// None: it is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let hex = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        rest = behind;
        match (*first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = &behind[2..];
            }
            (b'+', ..) => bytes.push(b' '),
            (byte, ..) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

const ID: &str = "id";
const CONNECTIONS: &str = "connections";

/// The value of a member that appears: its data, who it is and how often it is there.
pub fn value_of(data: &str, id: &str, connections: usize) -> String {
    written(&Object::read(data).members, id, connections)
}

/// What becomes of a member's value: what others have written of it stays. `data`: what was told of it
/// last, and what is now.
pub fn renewed(value: &str, (before, now): (&str, &str), id: &str, connections: usize) -> String {
    let mut object = Object::read(value);
    if before != now {
        let (old, new) = (Object::read(before), Object::read(now));
        // What its data had and has no more, unless somebody has written it since.
        let stays = |(key, value): &(Cow<'_, str>, &str)| {
            new.get(key).is_some() || old.get(key) != Some(*value)
        };
        object.members.retain(stays);
        object = Object::of(object.members);
        for (key, value) in &new.members {
            if old.get(key) != Some(*value) {
                object.put(key.clone(), value);
            }
        }
    }
    written(&object.members, id, connections)
}

/// How often its value says that it is there.
pub fn connections_in(value: &str) -> Option<usize> {
    let [found] = raw::pick(value, [CONNECTIONS]).ok()?;
    found?.get().parse().ok()
}

fn is_ours(key: &str) -> bool {
    [ID, CONNECTIONS].contains(&key)
}

/// The members of an object in their order; of a doubled key the last counts. None: it is no object.
struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a str)>,
    places: HashMap<Cow<'a, str>, usize>,
}

impl<'a> Object<'a> {
    fn read(json: &'a str) -> Object<'a> {
        let mut object = Object::of(Vec::new());
        if json.starts_with('{') {
            checked::members(json, |key, value| {
                object.put(text::read_string(key).unwrap_or_default(), value);
            });
        }
        object
    }

    fn of(members: Vec<(Cow<'a, str>, &'a str)>) -> Object<'a> {
        let places = members.iter().enumerate();
        let places = places
            .map(|(place, (key, _))| (key.clone(), place))
            .collect();
        Object { members, places }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        let (_, value) = self.members.get(*self.places.get(key)?)?;
        Some(value)
    }

    fn put(&mut self, key: Cow<'a, str>, value: &'a str) {
        match self.places.get(&key) {
            Some(place) => self.members[*place].1 = value,
            None => {
                self.places.insert(key.clone(), self.members.len());
                self.members.push((key, value));
            }
        }
    }
}

fn written(members: &[(Cow<'_, str>, &str)], id: &str, connections: usize) -> String {
    let mut out = vec![b'{'];
    for (key, value) in members.iter().filter(|(key, _)| !is_ours(key)) {
        text::write_string(&mut out, key);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
        out.push(b',');
    }
    for (key, is_id) in [(ID, true), (CONNECTIONS, false)] {
        text::write_string(&mut out, key);
        out.push(b':');
        match is_id {
            true => text::write_string(&mut out, id),
            false => out.extend_from_slice(connections.to_string().as_bytes()),
        }
        out.push(if is_id { b',' } else { b'}' });
    }
    // What was written is made of texts alone.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_of_the_context_the_query_or_a_header() {
        for text in [
            "context.user.id",
            "query.user",
            "query.a.b",
            "header.x-user",
        ] {
            assert_eq!(IdPath::read(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "user.id",
            "context",
            "context.",
            "context..id",
            "query.",
            "header.",
        ] {
            assert_eq!(IdPath::read(text), None, "{text}");
        }
        let keys = Keys::read("user.id").unwrap();
        for (json, found) in [
            (r#"{"user":{"id": 5}}"#, Some("5")),
            (r#"{"user":{"id":{"a":[1]}}}"#, Some(r#"{"a":[1]}"#)),
            (r#"{"user":5}"#, None),
            (r#"{"users":{"id":5}}"#, None),
            ("[1]", None),
            ("null", None),
        ] {
            assert_eq!(keys.find(json), found, "{json}");
        }
        assert_eq!(Keys::none().find(r#" {"a":1}"#), Some(r#"{"a":1}"#));
    }

    #[test]
    fn an_id_is_a_text_or_a_number_that_a_name_may_be() {
        let of = |json| id_of(Some(Found::Json(json)), 5).map(Cow::into_owned);
        assert_eq!(of(r#""\u00e9\"""#), Ok("é\"".to_owned()));
        assert_eq!(of("-1.50"), Ok("-1.50".to_owned()));
        for json in ["true", "[]", "{}", r#""\ud800""#] {
            assert_eq!(of(json), Err(NoMember::WrongType), "{json}");
        }
        assert_eq!(of(r#""""#), Err(NoMember::Empty));
        assert_eq!(of(r#""ééé""#), Err(NoMember::TooLong));
        assert_eq!(of("null"), Err(NoMember::Nothing));
        assert_eq!(id_of(None, 5), Err(NoMember::Nothing));
        assert_eq!(id_of(Some(Found::Plain("")), 5), Err(NoMember::Empty));
        assert_eq!(id_of(Some(Found::Plain("a")), 5), Ok("a".into()));
    }

    #[test]
    fn a_query_is_decoded_and_its_last_value_counts() {
        let of = |target: &str| {
            let path = IdPath::read("query.u").unwrap();
            path.in_request(target, |_| None)
        };
        assert_eq!(of("/?u=1&v=2&u=a%20b+c%2").as_deref(), Some("a b c%2"));
        assert_eq!(of("/?%75=x").as_deref(), Some("x"));
        assert_eq!(of("/?u").as_deref(), Some(""));
        for target in ["/", "/u=1", "/?v=1", "/?u=%ff"] {
            assert_eq!(of(target), None, "{target}");
        }
    }

    #[test]
    fn a_member_is_its_data_its_id_and_how_often_it_is_there() {
        let value = value_of(r#"{"name":"Ann","id":7,"connections":9}"#, "a\"", 2);
        assert_eq!(value, r#"{"name":"Ann","id":"a\"","connections":2}"#);
        assert_eq!(value_of("5", "a", 1), r#"{"id":"a","connections":1}"#);
        assert_eq!(connections_in(&value), Some(2));
        assert_eq!(connections_in("[]"), None);
    }

    #[test]
    fn what_others_have_written_of_a_member_stays_and_what_its_data_says_anew_is_taken() {
        let data = r#"{"name":"Ann","status":"here","old":1}"#;
        let told =
            r#"{"name":"Ann","status":"away","old":1,"typing":true,"id":"a","connections":1}"#;
        let same = renewed(told, (data, data), "a", 2);
        assert_eq!(same, told.replace("s\":1}", "s\":2}"));
        let new = r#"{"name":"Anna","status":"here","new":2}"#;
        assert_eq!(
            renewed(told, (data, new), "a", 1),
            r#"{"name":"Anna","status":"away","typing":true,"new":2,"id":"a","connections":1}"#
        );
        // An item that was there before the member.
        assert_eq!(
            renewed(r#"{"n":1,"name":2}"#, ("{}", new), "a", 1),
            r#"{"n":1,"name":"Anna","status":"here","new":2,"id":"a","connections":1}"#
        );
    }
}
