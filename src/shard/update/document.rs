//! A JSON value that is opened only where it is changed: all else stays the text it came as.
//!
//! Knows kinds, members and elements, not operations.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;

use super::sparse::{Cutter, Piece, Wanted};
use crate::protocol::json::number::Number;
use crate::protocol::json::{raw, text};

/// Up to so many members an object is searched from the front; from there on by hash, so that
/// many operations on a large object stay cheap.
const SEARCHED_LEN_MAX: usize = 16;

/// From so many bytes on only the members that operations name are looked at.
pub(super) const SPARSE_BYTES_MIN: usize = 16 * 1024;

/// The kind of a value, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// The kind of a JSON text, which begins with no blank.
    pub(super) fn of(json: &str) -> Kind {
        match json.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        })
    }
}

/// One value: its text, or what it was opened to.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A whole JSON text, of the old value or of an operation.
    Text(Cow<'a, str>),
    /// A string's text without its closing quote, so that it can be joined on.
    OpenString(String),
    /// An array's text without its closing bracket and blanks before that. Its elements are
    /// never looked at.
    OpenArray(String),
    /// The members of an object.
    Object(Object<'a>),
}

impl<'a> Node<'a> {
    pub(super) fn text(json: &'a str) -> Node<'a> {
        Node::Text(Cow::Borrowed(json))
    }

    pub(super) fn number(number: Number) -> Node<'a> {
        Node::Text(Cow::Owned(number.to_string()))
    }

    /// What `null` becomes by appending: a string itself, anything else an array's one element.
    pub(super) fn appended_to_null(value: &'a str) -> Node<'a> {
        match Kind::of(value) {
            Kind::String => Node::text(value),
            _ => Node::array_of(value),
        }
    }

    pub(super) fn array_of(element: &str) -> Node<'a> {
        Node::OpenArray(format!("[{element}"))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Node::Text(json) => Kind::of(json),
            Node::OpenString(_) => Kind::String,
            Node::OpenArray(_) => Kind::Array,
            Node::Object(_) => Kind::Object,
        }
    }

    pub(super) fn read_number(&self) -> Option<Number> {
        match self {
            Node::Text(json) => Number::read(json),
            _ => None,
        }
    }

    /// Adds an element to an array. Another kind of value stays as it is.
    pub(super) fn push_element(&mut self, element: &str) {
        if let Node::Text(json) = self
            && let Some(open) = json.strip_suffix(']')
        {
            *self = Node::OpenArray(open.trim_ascii_end().to_owned());
        }
        if let Node::OpenArray(open) = self {
            if open != "[" {
                open.push(',');
            }
            open.push_str(element);
        }
    }

    /// Joins a JSON string on a string, both with the escapes they have. Another kind of value
    /// stays as it is.
    pub(super) fn join_string(&mut self, string: &str) {
        if let Node::Text(json) = self
            && let Some(open) = json.strip_suffix('"')
        {
            *self = Node::OpenString(open.to_owned());
        }
        if let Node::OpenString(open) = self
            && let Some(content) = string.strip_prefix('"').and_then(|s| s.strip_suffix('"'))
        {
            open.push_str(content);
        }
    }

    /// The object that this is, opened for whoever looks up no other keys than those that are wanted.
    /// None: it is something else.
    pub(super) fn object_mut(&mut self, wanted: &Wanted) -> Option<&mut Object<'a>> {
        if let Node::Text(Cow::Borrowed(json)) = *self
            && Kind::of(json) == Kind::Object
        {
            *self = Node::Object(match json.len() {
                len if len < SPARSE_BYTES_MIN || wanted.is_all() => Object::open(json),
                _ => Object::open_for(json, wanted),
            });
        }
        match self {
            Node::Object(object) => {
                object.as_it_stands = None;
                Some(object)
            }
            _ => None,
        }
    }

    /// The object that this is, or an empty one in its place.
    pub(super) fn make_object(&mut self, wanted: &Wanted) -> &mut Object<'a> {
        if self.object_mut(wanted).is_none() {
            *self = Node::Object(Object::default());
        }
        match self {
            Node::Object(object) => object,
            _ => unreachable!("made one just now"),
        }
    }

    pub(super) fn into_json(self) -> String {
        match self {
            Node::Text(json) => json.into_owned(),
            opened => {
                let mut out = Vec::with_capacity(opened.len_about());
                opened.write(&mut out);
                String::from_utf8(out).expect("whole strings, one after another")
            }
        }
    }

    /// Bytes that it will have, or somewhat fewer.
    fn len_about(&self) -> usize {
        match self {
            Node::Text(json) => json.len(),
            Node::OpenString(open) | Node::OpenArray(open) => open.len() + 1,
            Node::Object(object) => object.len_about(),
        }
    }

    /// Recurs only into opened objects, which are no deeper than a merge path is long.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Text(json) => out.extend_from_slice(json.as_bytes()),
            Node::OpenString(open) => {
                out.extend_from_slice(open.as_bytes());
                out.push(b'"');
            }
            Node::OpenArray(open) => {
                out.extend_from_slice(open.as_bytes());
                out.push(b']');
            }
            Node::Object(object) => object.write(out),
        }
    }
}

/// The members of an opened object, in their order: a key keeps its place when it is set again,
/// and comes last when it is new or was removed meanwhile.
///
/// Of a doubled key the last value counts, at the place of the first.
#[derive(Debug, Default)]
pub(super) struct Object<'a> {
    /// None: removed. A hole is left, so that no place changes.
    members: Vec<Option<Member<'a>>>,
    /// How many members are there, runs aside.
    len: usize,
    /// Where each key stands in `members`, once there are many.
    places: Option<Places>,
    /// Its text, while nobody may have changed it.
    as_it_stands: Option<&'a str>,
}

#[derive(Debug)]
struct Member<'a> {
    key: Cow<'a, str>,
    /// The key as it was written. None: an operation's path, not written yet. Empty: a run of members,
    /// whose keys nobody looks up.
    key_json: Option<&'a str>,
    value: Node<'a>,
}

impl Member<'_> {
    fn is_run(&self) -> bool {
        self.key_json == Some("")
    }
}

/// A hash table from keys to their places. Its order reaches nothing.
#[derive(Debug, Default)]
struct Places {
    table: HashTable<usize>,
    hasher: RandomState,
}

impl<'a> Object<'a> {
    /// With each run of members that nobody looks up as it stands.
    fn open_for(json: &'a str, wanted: &Wanted) -> Object<'a> {
        let mut cutter = Cutter::new(json);
        cutter.go_on(json, wanted, usize::MAX);
        Object::of_pieces(json, cutter)
    }

    /// Of an object's text that was cut.
    pub(super) fn of_pieces(json: &'a str, cutter: Cutter) -> Object<'a> {
        let text = |range: Range<usize>| json.get(range).unwrap_or_default();
        let mut outer: Vec<(Object<'a>, &'a str, usize)> = Vec::new();
        let mut object = Object::default();
        for piece in cutter.pieces() {
            match piece {
                Piece::Run(run) => object.push_run(text(run)),
                Piece::Member { key, value } => {
                    object.put_read(text(key), Node::text(text(value)));
                }
                Piece::Open { key, from } => {
                    outer.push((std::mem::take(&mut object), text(key), from));
                }
                Piece::Close { end } => {
                    let (around, key, from) = outer.pop().unwrap_or_default();
                    object.as_it_stands = json.get(from..end);
                    if key.is_empty() {
                        break; // the outermost: a key has its quotes
                    }
                    let inner = std::mem::replace(&mut object, around);
                    object.put_read(key, Node::Object(inner));
                }
            }
        }
        object
    }

    /// A member with its key as it is written.
    fn put_read(&mut self, key_json: &'a str, value: Node<'a>) {
        self.put(Member {
            // Checked values have readable keys; another would be its own name.
            key: text::read_string(key_json).unwrap_or(Cow::Borrowed(key_json)),
            key_json: Some(key_json),
            value,
        });
    }

    fn push_run(&mut self, run: &'a str) {
        self.members.push(Some(Member {
            key: Cow::Borrowed(""),
            key_json: Some(""),
            value: Node::text(run),
        }));
    }

    pub(super) fn open(json: &'a str) -> Object<'a> {
        let mut object = Object::default();
        let opened = raw::members(json, |key_json, value| {
            object.put_read(key_json, Node::text(value.get()));
        });
        debug_assert!(opened.is_ok(), "values are checked before they are stored");
        object
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node<'a>> {
        let place = self.place(key)?;
        self.members[place].as_mut().map(|member| &mut member.value)
    }

    pub(super) fn set(&mut self, key: &'a str, value: Node<'a>) {
        self.put(Member {
            key: Cow::Borrowed(key),
            key_json: None,
            value,
        });
    }

    pub(super) fn set_all(&mut self, source: Object<'a>) {
        for member in source.members.into_iter().flatten() {
            self.put(member);
        }
    }

    /// The value of a key, which is `{}` if it was not there.
    pub(super) fn get_or_empty(&mut self, key: &'a str) -> &mut Node<'a> {
        let place = match self.place(key) {
            Some(place) => place,
            None => {
                self.set(key, Node::text("{}"));
                self.members.len() - 1
            }
        };
        match &mut self.members[place] {
            Some(member) => &mut member.value,
            None => unreachable!("`place` knows no holes"),
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        let Some(place) = self.place(key) else {
            return;
        };
        if let Some(places) = &mut self.places {
            places.remove(key, place);
        }
        self.members[place] = None;
        self.len -= 1;
    }

    fn put(&mut self, member: Member<'a>) {
        if let Some(value) = self.get_mut(&member.key) {
            *value = member.value;
            return;
        }
        if let Some(places) = &mut self.places {
            places.insert(&member.key, self.members.len(), &self.members);
        }
        self.members.push(Some(member));
        self.len += 1;
        if self.members.len() > SEARCHED_LEN_MAX && self.places.is_none() {
            self.places = Some(Places::of(&self.members));
        }
    }

    fn place(&self, key: &str) -> Option<usize> {
        let is_it = |member: &Option<Member<'_>>| {
            let member = member.as_ref();
            member.is_some_and(|member| member.key == key && !member.is_run())
        };
        match &self.places {
            None => self.members.iter().position(is_it),
            Some(places) => places.find(key, |place| is_it(&self.members[place])),
        }
    }

    fn len_about(&self) -> usize {
        if let Some(json) = self.as_it_stands {
            return json.len();
        }
        let members = self.members.iter().flatten();
        members.map(|member| member.value.len_about() + 16).sum()
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(json) = self.as_it_stands {
            return out.extend_from_slice(json.as_bytes());
        }
        out.push(b'{');
        for (i, member) in self.members.iter().flatten().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            if member.is_run() {
                member.value.write(out);
                continue;
            }
            match member.key_json {
                Some(key) => out.extend_from_slice(key.as_bytes()),
                None => text::write_string(out, &member.key),
            }
            out.push(b':');
            member.value.write(out);
        }
        out.push(b'}');
    }
}

impl Places {
    fn of(members: &[Option<Member<'_>>]) -> Places {
        let mut places = Places::default();
        for (place, member) in members.iter().enumerate() {
            if let Some(member) = member.as_ref().filter(|member| !member.is_run()) {
                places.insert(&member.key, place, members);
            }
        }
        places
    }

    fn find(&self, key: &str, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |&place| is_it(place)).copied()
    }

    /// `key` is not there yet.
    fn insert(&mut self, key: &str, place: usize, members: &[Option<Member<'_>>]) {
        let hasher = &self.hasher;
        let hash_of = |&place: &usize| {
            let member = members.get(place).and_then(Option::as_ref);
            hasher.hash_one(member.map_or(key, |member| &member.key))
        };
        self.table
            .insert_unique(hasher.hash_one(key), place, hash_of);
    }

    fn remove(&mut self, key: &str, place: usize) {
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.table.find_entry(hash, |&found| found == place) {
            entry.remove();
        }
    }
}
