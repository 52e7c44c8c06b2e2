//! The operations of `stream::update` on one value: old text in, new text out.
//!
//! What no operation touches keeps its text; no tree of the value is built. May not know where
//! the value is kept or who hears of it.

mod document;
mod sparse;

use self::document::{Kind, Node, Object, SPARSE_BYTES_MIN};
use self::sparse::{Cutter, Wanted};
use crate::protocol::answer::UpdateError;
use crate::protocol::input::{AppendPath, UpdateOp, limit_exceeded};
use crate::protocol::json::number::Number;
use crate::protocol::json::value;

const PATH_SEGMENTS_MAX: usize = 32;
const SEGMENT_BYTES_MAX: usize = 256;
const MERGE_KEYS_MAX: usize = 1024;
const MERGE_DEPTH_MAX: usize = 16;

/// Keys that would reach an object's prototype in JavaScript; sorted by bytes.
const PROTOTYPE_KEYS: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// The outcome of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The new value, to be stored whatever failed.
    pub value: String,
    /// The operations that failed, in their order.
    pub errors: Vec<UpdateError>,
}

/// Applies `ops` one after another. A failed one changes nothing and stops no other.
///
/// `old` is the item's value, one checked JSON text. None: the item is missing.
pub fn apply(old: Option<&str>, ops: &[UpdateOp]) -> Updated {
    let mut opening = Opening::of(old, ops);
    while !opening.go_on(old, usize::MAX) {}
    opening.apply(old, ops)
}

/// A value on its way to being opened as far as operations need it, which takes as long as its text does.
#[derive(Debug)]
pub struct Opening {
    wanted: Wanted,
    /// None: it is short, or is not opened.
    cutter: Option<Cutter>,
}

impl Opening {
    /// For these operations. It is gone on with and applied with the same value and the same ones.
    pub fn of(old: Option<&str>, ops: &[UpdateOp]) -> Opening {
        let Some(old) = old.filter(|old| old.len() >= SPARSE_BYTES_MIN) else {
            return Opening {
                wanted: Wanted::all(),
                cutter: None,
            };
        };
        let wanted = Wanted::of(ops);
        let cutter = (!wanted.is_empty()).then(|| Cutter::new(old.trim_ascii()));
        Opening { wanted, cutter }
    }

    /// Looks at about so many bytes more. True when it is open.
    pub fn go_on(&mut self, old: Option<&str>, most: usize) -> bool {
        let text = old.unwrap_or_default().trim_ascii();
        let cutter = self.cutter.as_mut();
        cutter.is_none_or(|cutter| cutter.go_on(text, &self.wanted, most))
    }

    /// As [`apply`] does, once it is open.
    pub fn apply(self, old: Option<&str>, ops: &[UpdateOp]) -> Updated {
        let text = old.unwrap_or("{}").trim_ascii();
        let root = match self.cutter {
            Some(cutter) if Kind::of(text) == Kind::Object => {
                Node::Object(Object::of_pieces(text, cutter))
            }
            _ => Node::text(text),
        };
        let mut item = Item {
            root,
            is_missing: old.is_none(),
            wanted: self.wanted,
        };
        let mut errors = Vec::new();
        for (op_index, op) in ops.iter().enumerate() {
            match item.apply(op) {
                Ok(()) => item.is_missing = false,
                Err(fault) => errors.push(UpdateError {
                    op_index,
                    code: format!("{}.{}", name(op), fault.code),
                    message: fault.message,
                }),
            }
        }
        let value = item.root.into_json();
        Updated { value, errors }
    }
}

/// Err: the cause for which a value that these operations made must not be stored. The old value counts as
/// one of allowed depth: nothing of it comes to stand deeper than it stood, so only what operations bring
/// is looked at.
pub fn check_limits(
    value: &str,
    ops: &[UpdateOp],
    json_depth: usize,
    value_bytes: usize,
) -> Result<(), String> {
    let depth = depth_brought(ops);
    if depth > json_depth {
        return Err(limit_exceeded("limits.json_depth", depth, json_depth));
    }
    if value.len() > value_bytes {
        return Err(limit_exceeded(
            "limits.value_bytes",
            value.len(),
            value_bytes,
        ));
    }
    Ok(())
}

/// How deep the deepest of what operations bring comes to stand, its own depth included.
pub fn depth_brought(ops: &[UpdateOp]) -> usize {
    ops.iter().map(depth_brought_by).max().unwrap_or(0)
}

fn depth_brought_by(op: &UpdateOp) -> usize {
    match op {
        UpdateOp::Set { path, value } => usize::from(!path.is_empty()) + value::depth(value),
        UpdateOp::Append { path, value } => {
            let keys = match path {
                AppendPath::Key(key) => usize::from(!key.is_empty()),
                AppendPath::Keys(keys) => keys.len(),
            };
            keys + 1 + value::depth(value)
        }
        UpdateOp::Merge { path, value } => path.len() + value::depth(value),
        UpdateOp::Increment { .. } | UpdateOp::Decrement { .. } | UpdateOp::Remove { .. } => 1,
    }
}

/// Why one operation failed.
struct Fault {
    /// Without the operation's name before it.
    code: &'static str,
    message: String,
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Fault {
        let message = message.into();
        Fault { code, message }
    }

    fn target_not_object(verb: &str, path: &str, kind: Kind) -> Fault {
        let message = format!("Cannot {verb} at path '{path}': target is {kind}, expected object.");
        Fault::new("target_not_object", message)
    }

    fn not_number(path: &str, kind: Kind) -> Fault {
        let path = shown(path);
        let message = format!("Expected number at path '{path}', got {kind}.");
        Fault::new("not_number", message)
    }
}

/// The operation's name in codes and messages.
fn name(op: &UpdateOp) -> &'static str {
    match op {
        UpdateOp::Set { .. } => "set",
        UpdateOp::Merge { .. } => "merge",
        UpdateOp::Increment { .. } => "increment",
        UpdateOp::Decrement { .. } => "decrement",
        UpdateOp::Append { .. } => "append",
        UpdateOp::Remove { .. } => "remove",
    }
}

/// A path as messages name it.
fn shown(path: &str) -> &str {
    if path.is_empty() { "root" } else { path }
}

/// The item while the operations run.
struct Item<'a> {
    root: Node<'a>,
    /// It was not there, and no operation has taken effect yet: `root` is `{}` for the time being.
    is_missing: bool,
    /// The keys that any operation may look up.
    wanted: Wanted,
}

impl<'a> Item<'a> {
    fn apply(&mut self, op: &'a UpdateOp) -> Result<(), Fault> {
        match op {
            UpdateOp::Set { path, value } => self.set(path, value),
            UpdateOp::Merge { path, value } => self.merge(path, value),
            UpdateOp::Increment { path, by } => self.add("increment", path, i128::from(*by)),
            UpdateOp::Decrement { path, by } => self.add("decrement", path, -i128::from(*by)),
            UpdateOp::Append { path, value } => match path {
                AppendPath::Key(key) => self.append(key, value),
                AppendPath::Keys(keys) => self.append_below(keys, value),
            },
            UpdateOp::Remove { path } => self.remove(path),
        }
    }

    fn set(&mut self, path: &'a str, value: &'a str) -> Result<(), Fault> {
        check_path(path)?;
        match path {
            "" => self.root = Node::text(value),
            key => self.object("set", key)?.set(key, Node::text(value)),
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), Fault> {
        check_path(path)?;
        match path {
            "" => self.root = Node::text("null"),
            key => self.object("remove", key)?.remove(key),
        }
        Ok(())
    }

    fn add(&mut self, verb: &str, path: &'a str, by: i128) -> Result<(), Fault> {
        check_path(path)?;
        match path {
            "" if self.is_missing => self.root = Node::number(Number::Integer(by)),
            "" => add_to(&mut self.root, by, path)?,
            key => {
                let object = self.object(verb, key)?;
                match object.get_mut(key) {
                    Some(node) => add_to(node, by, path)?,
                    None => object.set(key, Node::number(Number::Integer(by))),
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, path: &'a str, value: &'a str) -> Result<(), Fault> {
        check_path(path)?;
        match path {
            "" if self.is_missing => self.root = Node::appended_to_null(value),
            "" => append_to(&mut self.root, value, path)?,
            key => {
                let object = self.object("append", key)?;
                match object.get_mut(key) {
                    Some(node) => append_to(node, value, path)?,
                    None => object.set(key, Node::appended_to_null(value)),
                }
            }
        }
        Ok(())
    }

    /// Parents that are missing are made, and what is no object on the way gives place to one; the
    /// root stays what it is. What is missing at the end of several keys becomes an array.
    fn append_below(&mut self, keys: &'a [Box<str>], value: &'a str) -> Result<(), Fault> {
        check_keys(keys)?;
        let Some((last, parents)) = keys.split_last() else {
            return self.append("", value);
        };
        let shown = format!("[{}]", keys.join(", "));
        let wanted = &self.wanted;
        let mut object = object_in(&mut self.root, wanted, "append", &shown)?;
        for parent in parents {
            object = object.get_or_empty(parent).make_object(wanted);
        }
        match object.get_mut(last) {
            Some(node) if parents.is_empty() || node.kind() != Kind::Null => {
                append_to(node, value, &shown)
            }
            Some(node) => {
                *node = Node::array_of(value);
                Ok(())
            }
            None => {
                let appended = match parents {
                    [] => Node::appended_to_null(value),
                    _ => Node::array_of(value),
                };
                object.set(last, appended);
                Ok(())
            }
        }
    }

    fn merge(&mut self, path: &'a [Box<str>], value: &'a str) -> Result<(), Fault> {
        check_keys(path)?;
        let source = check_merge_value(value)?;
        let wanted = &self.wanted;
        let target = match path {
            [] => match self.root.object_mut(wanted) {
                Some(object) => object,
                None => return Ok(()), // what is no object stays as it is, and that is no error
            },
            segments => {
                let mut object = self.root.make_object(wanted);
                for segment in segments {
                    object = object.get_or_empty(segment).make_object(wanted);
                }
                object
            }
        };
        target.set_all(source);
        Ok(())
    }

    /// The root, in which `key` is to be changed.
    fn object(&mut self, verb: &str, key: &str) -> Result<&mut Object<'a>, Fault> {
        object_in(&mut self.root, &self.wanted, verb, key)
    }
}

fn object_in<'o, 'a>(
    root: &'o mut Node<'a>,
    wanted: &Wanted,
    verb: &str,
    key: &str,
) -> Result<&'o mut Object<'a>, Fault> {
    let kind = root.kind();
    let not_object = || Fault::target_not_object(verb, key, kind);
    root.object_mut(wanted).ok_or_else(not_object)
}

/// Adds to a number: exact between integers, rounded when it is a float.
fn add_to(node: &mut Node<'_>, by: i128, path: &str) -> Result<(), Fault> {
    let sum = match node.read_number() {
        Some(Number::Integer(integer)) => Number::integer(integer + by),
        Some(Number::Float(float)) => Some(Number::Float(float + by as f64)),
        None => None,
    };
    // An integer beyond its bounds is refused in the same words, as a number that is none.
    let sum = sum.ok_or_else(|| Fault::not_number(path, node.kind()))?;
    *node = Node::number(sum);
    Ok(())
}

fn append_to<'a>(node: &mut Node<'a>, value: &'a str, path: &str) -> Result<(), Fault> {
    let path = shown(path);
    match (node.kind(), Kind::of(value)) {
        (Kind::Null, _) => *node = Node::appended_to_null(value),
        (Kind::Array, _) => node.push_element(value),
        (Kind::String, Kind::String) => node.join_string(value),
        (Kind::String, kind) => {
            let message = format!("Expected string append value at path '{path}', got {kind}.");
            return Err(Fault::new("type_mismatch", message));
        }
        (kind, _) => {
            let message = format!(
                "Cannot append at path '{path}': target is {kind}, \
                 expected array, string, null, or missing field."
            );
            return Err(Fault::new("type_mismatch", message));
        }
    }
    Ok(())
}

/// A path of one key, or none.
fn check_path(path: &str) -> Result<(), Fault> {
    let bytes = path.len();
    if bytes > SEGMENT_BYTES_MAX {
        let message =
            format!("Path segment of {bytes} bytes exceeds maximum of {SEGMENT_BYTES_MAX}");
        return Err(Fault::new("path.segment_too_long", message));
    }
    if PROTOTYPE_KEYS.contains(&path) {
        let message = format!("Path segment '{path}' is not allowed (prototype pollution).");
        return Err(Fault::new("path.proto_polluted", message));
    }
    Ok(())
}

/// A path of keys down from the root.
fn check_keys(path: &[Box<str>]) -> Result<(), Fault> {
    let segments = path.len();
    if segments > PATH_SEGMENTS_MAX {
        let message = format!("Path depth {segments} exceeds maximum of {PATH_SEGMENTS_MAX}");
        return Err(Fault::new("path.too_deep", message));
    }
    for segment in path {
        if segment.is_empty() {
            let message = "Path contains an empty segment";
            return Err(Fault::new("path.empty_segment", message));
        }
        check_path(segment)?;
    }
    Ok(())
}

/// The object whose members are to be merged.
fn check_merge_value(value: &str) -> Result<Object<'_>, Fault> {
    if Kind::of(value) != Kind::Object {
        let message = "Merge value must be a JSON object";
        return Err(Fault::new("value.not_an_object", message));
    }
    let mut source = Object::open(value);
    let keys = source.len();
    if keys > MERGE_KEYS_MAX {
        let message =
            format!("Merge value has {keys} top-level keys, exceeds maximum of {MERGE_KEYS_MAX}");
        return Err(Fault::new("value.too_many_keys", message));
    }
    if let Some(key) = PROTOTYPE_KEYS
        .iter()
        .find(|key| source.get_mut(key).is_some())
    {
        let message = format!("Merge value top-level key \"{key}\" is a prototype-pollution sink");
        return Err(Fault::new("value.proto_polluted", message));
    }
    let depth = value::depth(value);
    if depth > MERGE_DEPTH_MAX {
        let message =
            format!("Merge value JSON nesting depth {depth} exceeds maximum of {MERGE_DEPTH_MAX}");
        return Err(Fault::new("value.too_deep", message));
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::protocol::input::{self, InputLimits, StreamFunction, StreamInput};

    fn ops(json: &str) -> Vec<UpdateOp> {
        let limits = InputLimits {
            name_bytes: 1024,
            json_depth: 125,
            value_bytes: 1 << 24,
            update_ops: 100_000,
        };
        let data = format!(r#"["s","g","i",{json}]"#);
        match input::parse(StreamFunction::Update, &data, &limits).unwrap() {
            StreamInput::Update { ops, .. } => ops,
            other => panic!("{other:?}"),
        }
    }

    fn new_text(old: &str, ops_json: &str) -> String {
        let updated = apply(Some(old), &ops(ops_json));
        assert_eq!(updated.errors, []);
        updated.value
    }

    fn error_of(old: &str, ops_json: &str) -> (String, String) {
        let mut updated = apply(Some(old), &ops(ops_json));
        assert_eq!(
            (&*updated.value, updated.errors.len()),
            (old, 1),
            "{ops_json}"
        );
        let error = updated.errors.remove(0);
        (error.code, error.message)
    }

    #[test]
    fn operations_give_what_the_reference_gives() {
        type Row<'a> = (
            Option<&'a str>,
            &'a str,
            &'a str,
            &'a [(usize, &'a str, &'a str)],
        );
        #[rustfmt::skip]
        let rows: &[Row<'_>] = &[
            // 5.1 set
            (None, r#"[{"type":"set","path":"a","value":1}]"#, r#"{"a":1}"#, &[]),
            (Some(r#"{"a":1,"b":2}"#), r#"[{"type":"set","path":"a","value":null}]"#, r#"{"a":null,"b":2}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"set","path":"a"}]"#, r#"{"a":null}"#, &[]),
            (Some(r#"{"a":{"x":1}}"#), r#"[{"type":"set","path":"a","value":{"y":2}}]"#, r#"{"a":{"y":2}}"#, &[]),
            (Some("{}"), r#"[{"type":"set","path":"a.b","value":1}]"#, r#"{"a.b":1}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"set","path":"","value":[1]}]"#, "[1]", &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"set","path":""}]"#, "null", &[]),
            (None, r#"[{"type":"set","path":"","value":"x"}]"#, r#""x""#, &[]),
            (Some(r#""str""#), r#"[{"type":"set","path":"a","value":1}]"#, r#""str""#, &[(0, "set.target_not_object", "Cannot set at path 'a': target is string, expected object.")]),
            (Some("null"), r#"[{"type":"set","path":"a","value":1}]"#, "null", &[(0, "set.target_not_object", "Cannot set at path 'a': target is null, expected object.")]),
            (Some("[1,2]"), r#"[{"type":"set","path":"0","value":9}]"#, "[1,2]", &[(0, "set.target_not_object", "Cannot set at path '0': target is array, expected object.")]),
            (Some("{}"), r#"[{"type":"set","path":"toString","value":1},{"type":"set","path":"é","value":2}]"#, r#"{"toString":1,"é":2}"#, &[]),
            // 5.2 merge
            (None, r#"[{"type":"merge","value":{"a":1}}]"#, r#"{"a":1}"#, &[]),
            (Some(r#"{"a":1,"b":2}"#), r#"[{"type":"merge","value":{"b":3,"c":4}}]"#, r#"{"a":1,"b":3,"c":4}"#, &[]),
            (Some(r#"{"o":{"x":1,"y":{"z":1}}}"#), r#"[{"type":"merge","value":{"o":{"w":2}}}]"#, r#"{"o":{"w":2}}"#, &[]),
            (Some(r#"{"o":{"x":1,"y":{"z":1}}}"#), r#"[{"type":"merge","path":"o","value":{"y":{"w":2}}}]"#, r#"{"o":{"x":1,"y":{"w":2}}}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","value":{"a":null}}]"#, r#"{"a":null}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","value":{}}]"#, r#"{"a":1}"#, &[]),
            (None, r#"[{"type":"merge","value":{}}]"#, "{}", &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","path":null,"value":{"b":2}}]"#, r#"{"a":1,"b":2}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","path":"","value":{"b":2}}]"#, r#"{"a":1,"b":2}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","path":[],"value":{"b":2}}]"#, r#"{"a":1,"b":2}"#, &[]),
            (Some("{}"), r#"[{"type":"merge","path":["a","b"],"value":{"x":1}}]"#, r#"{"a":{"b":{"x":1}}}"#, &[]),
            (Some(r#"{"a":{"b":"text","k":1}}"#), r#"[{"type":"merge","path":["a","b"],"value":{"x":1}}]"#, r#"{"a":{"b":{"x":1},"k":1}}"#, &[]),
            (Some(r#"{"a":[1,2]}"#), r#"[{"type":"merge","path":"a","value":{"x":1}}]"#, r#"{"a":{"x":1}}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","path":"n","value":{}}]"#, r#"{"a":1,"n":{}}"#, &[]),
            (Some(r#"{"a":{"b":1}}"#), r#"[{"type":"merge","path":"a.b","value":{"x":1}}]"#, r#"{"a":{"b":1},"a.b":{"x":1}}"#, &[]),
            (Some(r#""str""#), r#"[{"type":"merge","value":{"a":1}}]"#, r#""str""#, &[]),
            (Some("null"), r#"[{"type":"merge","value":{"a":1}}]"#, "null", &[]),
            (Some("[1]"), r#"[{"type":"merge","value":{"a":1}}]"#, "[1]", &[]),
            (Some(r#""str""#), r#"[{"type":"merge","path":"o","value":{"a":1}}]"#, r#"{"o":{"a":1}}"#, &[]),
            (Some("[1]"), r#"[{"type":"merge","path":["o"],"value":{"a":1}}]"#, r#"{"o":{"a":1}}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","value":[1]}]"#, r#"{"a":1}"#, &[(0, "merge.value.not_an_object", "Merge value must be a JSON object")]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","path":"a","value":null}]"#, r#"{"a":1}"#, &[(0, "merge.value.not_an_object", "Merge value must be a JSON object")]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","value":{"__proto__":1,"b":2}}]"#, r#"{"a":1}"#, &[(0, "merge.value.proto_polluted", r#"Merge value top-level key "__proto__" is a prototype-pollution sink"#)]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","value":{"b":{"__proto__":1}}}]"#, r#"{"a":1,"b":{"__proto__":1}}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","path":["a",""],"value":{"x":1}}]"#, r#"{"a":1}"#, &[(0, "merge.path.empty_segment", "Path contains an empty segment")]),
            (Some(r#"{"a":1}"#), r#"[{"type":"merge","path":["b","prototype"],"value":{"x":1}}]"#, r#"{"a":1}"#, &[(0, "merge.path.proto_polluted", "Path segment 'prototype' is not allowed (prototype pollution).")]),
            // 5.3 increment and decrement
            (None, r#"[{"type":"increment","path":"n","by":5}]"#, r#"{"n":5}"#, &[]),
            (None, r#"[{"type":"decrement","path":"n","by":5}]"#, r#"{"n":-5}"#, &[]),
            (None, r#"[{"type":"increment","path":"","by":5}]"#, "5", &[]),
            (None, r#"[{"type":"decrement","path":"","by":5}]"#, "-5", &[]),
            (Some("{}"), r#"[{"type":"decrement","path":"n","by":-9223372036854775808}]"#, r#"{"n":9223372036854775808}"#, &[]),
            (Some(r#"{"n":1}"#), r#"[{"type":"increment","path":"n","by":2},{"type":"decrement","path":"n","by":10}]"#, r#"{"n":-7}"#, &[]),
            (Some(r#"{"n":1.5}"#), r#"[{"type":"increment","path":"n","by":2}]"#, r#"{"n":3.5}"#, &[]),
            (Some(r#"{"n":1.0}"#), r#"[{"type":"increment","path":"n","by":0}]"#, r#"{"n":1.0}"#, &[]),
            (Some(r#"{"n":9007199254740992.0}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":9007199254740992.0}"#, &[]),
            (Some(r#"{"n":9223372036854775807}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":9223372036854775808}"#, &[]),
            (Some(r#"{"n":18446744073709551614}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":18446744073709551615}"#, &[]),
            (Some(r#"{"n":18446744073709551615}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":18446744073709551615}"#, &[(0, "increment.not_number", "Expected number at path 'n', got number.")]),
            (Some(r#"{"n":18446744073709551615}"#), r#"[{"type":"decrement","path":"n","by":9223372036854775807}]"#, r#"{"n":9223372036854775808}"#, &[]),
            (Some(r#"{"n":-9223372036854775808}"#), r#"[{"type":"decrement","path":"n","by":1}]"#, r#"{"n":-9223372036854775808}"#, &[(0, "decrement.not_number", "Expected number at path 'n', got number.")]),
            (Some(r#"{"n":-9223372036854775808}"#), r#"[{"type":"increment","path":"n","by":9223372036854775807}]"#, r#"{"n":-1}"#, &[]),
            (Some(r#"{"n":0}"#), r#"[{"type":"decrement","path":"n","by":-9223372036854775808}]"#, r#"{"n":9223372036854775808}"#, &[]),
            (Some(r#"{"n":1e+300}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":1e+300}"#, &[]),
            (Some(r#"{"n":"5"}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":"5"}"#, &[(0, "increment.not_number", "Expected number at path 'n', got string.")]),
            (Some(r#"{"n":null}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":null}"#, &[(0, "increment.not_number", "Expected number at path 'n', got null.")]),
            (Some(r#"{"n":true}"#), r#"[{"type":"decrement","path":"n","by":0}]"#, r#"{"n":true}"#, &[(0, "decrement.not_number", "Expected number at path 'n', got boolean.")]),
            (Some(r#"{"n":[]}"#), r#"[{"type":"increment","path":"n","by":1}]"#, r#"{"n":[]}"#, &[(0, "increment.not_number", "Expected number at path 'n', got array.")]),
            (Some("7"), r#"[{"type":"increment","path":"","by":3}]"#, "10", &[]),
            (Some("7"), r#"[{"type":"increment","path":"n","by":3}]"#, "7", &[(0, "increment.target_not_object", "Cannot increment at path 'n': target is number, expected object.")]),
            (Some(r#""x""#), r#"[{"type":"increment","path":"","by":1}]"#, r#""x""#, &[(0, "increment.not_number", "Expected number at path 'root', got string.")]),
            (Some("{}"), r#"[{"type":"decrement","path":"","by":1}]"#, "{}", &[(0, "decrement.not_number", "Expected number at path 'root', got object.")]),
            (Some("null"), r#"[{"type":"increment","path":"","by":1}]"#, "null", &[(0, "increment.not_number", "Expected number at path 'root', got null.")]),
            // 5.4 append
            (None, r#"[{"type":"append","path":"a","value":1}]"#, r#"{"a":[1]}"#, &[]),
            (None, r#"[{"type":"append","path":"a","value":"x"}]"#, r#"{"a":"x"}"#, &[]),
            (None, r#"[{"type":"append","path":"","value":"x"},{"type":"append","path":"","value":"y"}]"#, r#""xy""#, &[]),
            (None, r#"[{"type":"append","path":"","value":{"k":1}},{"type":"append","path":"","value":2}]"#, r#"[{"k":1},2]"#, &[]),
            (Some(r#"{"a":[1]}"#), r#"[{"type":"append","path":"a","value":2}]"#, r#"{"a":[1,2]}"#, &[]),
            (Some(r#"{"a":[1]}"#), r#"[{"type":"append","path":"a","value":[2,3]}]"#, r#"{"a":[1,[2,3]]}"#, &[]),
            (Some(r#"{"a":[]}"#), r#"[{"type":"append","path":"a","value":null}]"#, r#"{"a":[null]}"#, &[]),
            (Some(r#"{"s":"ab"}"#), r#"[{"type":"append","path":"s","value":"cd"}]"#, r#"{"s":"abcd"}"#, &[]),
            (Some(r#"{"s":"ab"}"#), r#"[{"type":"append","path":"s","value":1}]"#, r#"{"s":"ab"}"#, &[(0, "append.type_mismatch", "Expected string append value at path 's', got number.")]),
            (Some(r#"{"s":""}"#), r#"[{"type":"append","path":"s","value":null}]"#, r#"{"s":""}"#, &[(0, "append.type_mismatch", "Expected string append value at path 's', got null.")]),
            (Some(r#"{"a":null}"#), r#"[{"type":"append","path":"a","value":"x"}]"#, r#"{"a":"x"}"#, &[]),
            (Some(r#"{"a":null}"#), r#"[{"type":"append","path":"a","value":null}]"#, r#"{"a":[null]}"#, &[]),
            (Some(r#"{"a":null}"#), r#"[{"type":"append","path":"a","value":[1]}]"#, r#"{"a":[[1]]}"#, &[]),
            (Some(r#"{"a":5}"#), r#"[{"type":"append","path":"a","value":1}]"#, r#"{"a":5}"#, &[(0, "append.type_mismatch", "Cannot append at path 'a': target is number, expected array, string, null, or missing field.")]),
            (Some(r#"{"a":{}}"#), r#"[{"type":"append","path":"a","value":1}]"#, r#"{"a":{}}"#, &[(0, "append.type_mismatch", "Cannot append at path 'a': target is object, expected array, string, null, or missing field.")]),
            (Some(r#"{"a":true}"#), r#"[{"type":"append","path":"a","value":"x"}]"#, r#"{"a":true}"#, &[(0, "append.type_mismatch", "Cannot append at path 'a': target is boolean, expected array, string, null, or missing field.")]),
            (Some("[1]"), r#"[{"type":"append","path":"","value":2}]"#, "[1,2]", &[]),
            (Some(r#""ab""#), r#"[{"type":"append","path":"","value":"c"}]"#, r#""abc""#, &[]),
            (Some(r#""ab""#), r#"[{"type":"append","path":"","value":[]}]"#, r#""ab""#, &[(0, "append.type_mismatch", "Expected string append value at path 'root', got array.")]),
            (Some("null"), r#"[{"type":"append","path":"","value":"x"}]"#, r#""x""#, &[]),
            (Some("{}"), r#"[{"type":"append","path":"","value":1}]"#, "{}", &[(0, "append.type_mismatch", "Cannot append at path 'root': target is object, expected array, string, null, or missing field.")]),
            (Some("[1]"), r#"[{"type":"append","path":"a","value":1}]"#, "[1]", &[(0, "append.target_not_object", "Cannot append at path 'a': target is array, expected object.")]),
            // 5.5 remove
            (Some(r#"{"a":1,"b":2}"#), r#"[{"type":"remove","path":"a"}]"#, r#"{"b":2}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"remove","path":"zz"}]"#, r#"{"a":1}"#, &[]),
            (None, r#"[{"type":"remove","path":"a"}]"#, "{}", &[]),
            (Some(r#"{"a":{"b":1}}"#), r#"[{"type":"remove","path":"a.b"}]"#, r#"{"a":{"b":1}}"#, &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"remove","path":""}]"#, "null", &[]),
            (None, r#"[{"type":"remove","path":""}]"#, "null", &[]),
            (Some("[1]"), r#"[{"type":"remove","path":"0"}]"#, "[1]", &[(0, "remove.target_not_object", "Cannot remove at path '0': target is array, expected object.")]),
            (Some("null"), r#"[{"type":"remove","path":"a"}]"#, "null", &[(0, "remove.target_not_object", "Cannot remove at path 'a': target is null, expected object.")]),
            // 5.6 Several ops, and none
            (None, "[]", "{}", &[]),
            (Some(r#"{"a":1}"#), "[]", r#"{"a":1}"#, &[]),
            (Some(r#"{"n":1,"s":"x"}"#), r#"[{"type":"increment","path":"s","by":1},{"type":"set","path":"__proto__","value":1},{"type":"increment","path":"n","by":1},{"type":"append","path":"n","value":1},{"type":"set","path":"ok","value":true}]"#, r#"{"n":2,"ok":true,"s":"x"}"#, &[(0, "increment.not_number", "Expected number at path 's', got string."), (1, "set.path.proto_polluted", "Path segment '__proto__' is not allowed (prototype pollution)."), (3, "append.type_mismatch", "Cannot append at path 'n': target is number, expected array, string, null, or missing field.")]),
            (None, r#"[{"type":"set","path":"__proto__","value":1},{"type":"increment","path":"","by":5}]"#, "5", &[(0, "set.path.proto_polluted", "Path segment '__proto__' is not allowed (prototype pollution).")]),
            (None, r#"[{"type":"remove","path":"a"},{"type":"increment","path":"","by":5}]"#, "{}", &[(1, "increment.not_number", "Expected number at path 'root', got object.")]),
            (None, r#"[{"type":"merge","value":[]},{"type":"append","path":"","value":"x"}]"#, r#""x""#, &[(0, "merge.value.not_an_object", "Merge value must be a JSON object")]),
            (Some(r#"{"a":1}"#), r#"[{"type":"set","path":"","value":5},{"type":"increment","path":"","by":1},{"type":"set","path":"x","value":1}]"#, "6", &[(2, "set.target_not_object", "Cannot set at path 'x': target is number, expected object.")]),
            (Some(r#"{"a":1}"#), r#"[{"type":"remove","path":""},{"type":"append","path":"","value":1},{"type":"append","path":"","value":2}]"#, "[1,2]", &[]),
            (Some(r#"{"a":1}"#), r#"[{"type":"remove","path":""},{"type":"merge","path":"o","value":{"x":1}}]"#, r#"{"o":{"x":1}}"#, &[]),
        ];
        for &(old, ops_json, new, errors) in rows {
            let updated = apply(old, &ops(ops_json));
            let tree = |json: &str| serde_json::from_str::<Value>(json).unwrap();
            assert_eq!(tree(&updated.value), tree(new), "{old:?} {ops_json}");
            let told: Vec<_> = updated
                .errors
                .iter()
                .map(|error| (error.op_index, &*error.code, &*error.message))
                .collect();
            assert_eq!(told, errors, "{old:?} {ops_json}");
        }
    }

    #[test]
    fn a_large_object_is_changed_as_a_small_one_and_only_what_is_named_is_opened() {
        let rest = |from: u32, to: u32| -> String {
            let members = (from..to).map(|n| format!(r#""k{n}":{{"n":[{n},"}}"]}}"#));
            members.collect::<Vec<_>>().join(",")
        };
        let (before, after) = (rest(0, 1000), rest(1000, 2000));
        let old = format!(r#"{{{before},"n":1,"in":{{{before},"\u006e":2}},"n":3,{after}}}"#);
        let ops_json = r#"[{"type":"increment","path":"n","by":1},{"type":"remove","path":"k5"},
            {"type":"set","path":"new","value":{"a":1}},{"type":"append","path":"k7","value":1},
            {"type":"merge","path":["in"],"value":{"n":5,"":6}},{"type":"merge","value":{"":7}},
            {"type":"merge","path":["new","b"],"value":{"c":1}}]"#;
        let updated = apply(Some(&old), &ops(ops_json));
        assert_eq!(updated.errors.len(), 1, "k7 is an object");
        let mut expected: Value = serde_json::from_str(&old).unwrap();
        expected["n"] = 4.into();
        expected.as_object_mut().unwrap().remove("k5");
        expected["in"]["n"] = 5.into();
        expected["in"][""] = 6.into();
        expected[""] = 7.into();
        expected["new"] = serde_json::json!({"a": 1, "b": {"c": 1}});
        let new: Value = serde_json::from_str(&updated.value).unwrap();
        assert!(new == expected);
        // The same however little of it is looked at in a turn.
        let (ops, mut turns) = (ops(ops_json), 0);
        let mut opening = Opening::of(Some(&old), &ops);
        while !opening.go_on(Some(&old), 1000) {
            turns += 1;
        }
        assert!(turns >= old.len() / 1010 && opening.apply(Some(&old), &ops) == updated);
        // What is not changed keeps its blanks.
        let spaced = format!(r#"{{ "in" : {{ "n" : 1 }} ,"n":1,{before} }}"#);
        let wanted =
            r#"[{"type":"merge","path":["in"],"value":5},{"type":"increment","path":"n","by":1}]"#;
        let value = apply(Some(&spaced), &self::ops(wanted)).value;
        assert!(value.starts_with(r#"{"in":{ "n" : 1 },"n":2,"k0""#));
        let fails = r#"[{"type":"merge","path":["in"],"value":5}]"#;
        assert!(apply(Some(&spaced), &self::ops(fails)).value == spaced);
        // The doubled key stands once, at the place of the first, with the value of the last.
        let at = |text: &str| updated.value.match_indices(text).collect::<Vec<_>>();
        assert_eq!(at(r#","n":"#).len(), 1);
        assert!(at(r#","n":4,"in""#).len() == 1);
    }

    #[test]
    fn an_increment_in_a_large_object_costs_about_what_its_bytes_do() {
        let members = (0..200_000).map(|n| format!(r#""k{n:06}":1"#));
        let old = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        let by_one = ops(r#"[{"type":"increment","path":"k100000","by":1}]"#);
        let turn = |of: &dyn Fn()| {
            let least = (0..5).map(|_| {
                let clock = crate::time::TurnClock::begin();
                of();
                clock.elapsed()
            });
            least.min().unwrap()
        };
        let scan = turn(&|| {
            std::hint::black_box(serde_json::from_str::<serde::de::IgnoredAny>(&old).unwrap());
        });
        let update = turn(&|| {
            let updated = apply(Some(&old), &by_one);
            assert!(updated.value.len() == old.len() && updated.errors.is_empty());
        });
        assert!(update < 3 * scan, "{update:?}, where a scan takes {scan:?}");
    }

    #[test]
    fn untouched_parts_keep_their_text_and_keys_their_order() {
        let old =
            r#"{ "z" : 1.10 , "a\u0062": [ 1,  {"k":1,"k":2} ] ,"m":{"x":-0,"y":"\/"}, "n":1 }"#;
        assert_eq!(
            new_text(
                old,
                r#"[{"type":"set","path":"new\n","value":1E2},
                    {"type":"merge","path":"m","value":{"w":1e2,"y":0}},
                    {"type":"increment","path":"n","by":1}]"#
            ),
            r#"{"z":1.10,"a\u0062":[ 1,  {"k":1,"k":2} ],"m":{"x":-0,"y":0,"w":1e2},"n":2,"new\n":1E2}"#
        );
        assert_eq!(new_text(old, "[]"), old);
        assert_eq!(
            new_text(r#"[ 1 , 2 ]"#, r#"[{"type":"append","path":"","value":3}]"#),
            "[ 1 , 2,3]"
        );
        assert_eq!(
            new_text("[ ]", r#"[{"type":"append","path":"","value":3}]"#),
            "[3]"
        );
        assert_eq!(
            new_text(
                r#""a\n""#,
                r#"[{"type":"append","path":"","value":"\u00e9\""}]"#
            ),
            r#""a\n\u00e9\"""#
        );
    }

    #[test]
    fn a_key_is_the_same_however_it_is_escaped() {
        let old = r#"{"\u0061":1,"b":2}"#;
        let new = new_text(old, r#"[{"type":"increment","path":"a","by":1}]"#);
        assert_eq!(new, r#"{"\u0061":2,"b":2}"#);
        let new = new_text(old, r#"[{"type":"remove","path":"\u0061"}]"#);
        assert_eq!(new, r#"{"b":2}"#);
    }

    #[test]
    fn a_doubled_key_of_an_opened_object_counts_with_its_last_value() {
        let new = new_text(
            r#"{"b":1,"a":2,"b":3}"#,
            r#"[{"type":"increment","path":"b","by":1}]"#,
        );
        assert_eq!(new, r#"{"b":4,"a":2}"#);
    }

    #[test]
    fn sums_are_written_in_the_stated_forms() {
        let rows = [
            ("1.0", 1, "2.0"),
            ("-0", 0, "0.0"),
            ("1e2", 0, "100.0"),
            ("1E16", 1, "1e+16"),
            ("0.000001", 0, "1e-6"),
            ("18446744073709551616", 1, "1.8446744073709552e+19"),
            ("9007199254740993", 1, "9007199254740994"),
            (
                "1.7976931348623157e308",
                i64::MAX,
                "1.7976931348623157e+308",
            ),
        ];
        for (old, by, new) in rows {
            let ops_json = format!(r#"[{{"type":"increment","path":"","by":{by}}}]"#);
            assert_eq!(new_text(old, &ops_json), new, "{old} + {by}");
        }
    }

    #[test]
    fn paths_are_checked_before_the_value_is_touched() {
        let old = r#"{"a":1}"#;
        let long = "é".repeat(129);
        for op in ["set", "merge", "increment", "decrement", "append", "remove"] {
            let op_on =
                |path: &str| format!(r#"[{{"type":"{op}","path":"{path}","by":1,"value":{{}}}}]"#);
            let (code, message) = error_of(old, &op_on(&long));
            assert_eq!(code, format!("{op}.path.segment_too_long"));
            assert_eq!(message, "Path segment of 258 bytes exceeds maximum of 256");
            for key in PROTOTYPE_KEYS {
                let (code, message) = error_of(old, &op_on(key));
                assert_eq!(code, format!("{op}.path.proto_polluted"));
                let wanted = format!("Path segment '{key}' is not allowed (prototype pollution).");
                assert_eq!(message, wanted);
            }
        }
        let fits = format!(
            r#"[{{"type":"set","path":"{}","value":1}}]"#,
            "é".repeat(128)
        );
        assert!(new_text("{}", &fits).ends_with(":1}"));
    }

    #[test]
    fn merge_paths_are_checked_segment_by_segment() {
        let merge = |path: &[&str]| {
            let path = serde_json::to_string(path).unwrap();
            format!(r#"[{{"type":"merge","path":{path},"value":5}}]"#)
        };
        let code = |path: &[&str]| error_of("1", &merge(path)).0;
        assert_eq!(
            error_of("1", &merge(&["d"; 33])),
            (
                "merge.path.too_deep".into(),
                "Path depth 33 exceeds maximum of 32".into()
            )
        );
        assert_eq!(code(&["d"; 32]), "merge.value.not_an_object");
        assert_eq!(code(&[""; 33]), "merge.path.too_deep");
        assert_eq!(code(&["prototype", ""]), "merge.path.proto_polluted");
        assert_eq!(code(&["", "prototype"]), "merge.path.empty_segment");
        let long = "x".repeat(257);
        assert_eq!(code(&["a", &long, ""]), "merge.path.segment_too_long");
    }

    #[test]
    fn an_append_goes_down_a_list_of_keys_and_makes_what_is_missing() {
        let append = |path: &str, value: &str| {
            format!(r#"[{{"type":"append","path":{path},"value":{value}}}]"#)
        };
        let rows = [
            (
                r#"{"a":{"b":[1]}}"#,
                r#"["a","b"]"#,
                "2",
                r#"{"a":{"b":[1,2]}}"#,
            ),
            (
                r#"{"a":{"b":"x"}}"#,
                r#"["a","b"]"#,
                r#""y""#,
                r#"{"a":{"b":"xy"}}"#,
            ),
            ("{}", r#"["a","b","c"]"#, "1", r#"{"a":{"b":{"c":[1]}}}"#),
            ("{}", r#"["a","b"]"#, r#""x""#, r#"{"a":{"b":["x"]}}"#),
            (
                r#"{"a":{"b":null}}"#,
                r#"["a","b"]"#,
                r#""x""#,
                r#"{"a":{"b":["x"]}}"#,
            ),
            (r#"{"a":1}"#, r#"["a","b"]"#, "2", r#"{"a":{"b":[2]}}"#),
            (r#"{"a":[1]}"#, r#"["a","0"]"#, "2", r#"{"a":{"0":[2]}}"#),
            (r#"{"a.b":[1]}"#, r#"["a.b"]"#, "2", r#"{"a.b":[1,2]}"#),
            ("{}", r#"["a"]"#, r#""x""#, r#"{"a":"x"}"#),
            ("[1]", "[]", "2", "[1,2]"),
            ("[1]", "null", "2", "[1,2]"),
            ("null", r#""""#, r#""x""#, r#""x""#),
        ];
        for (old, path, value, new) in rows {
            assert_eq!(new_text(old, &append(path, value)), new, "{old} {path}");
        }
        let without_path = r#"[{"type":"append","value":"x"}]"#;
        assert_eq!(new_text(r#""a""#, without_path), r#""ax""#);
        assert_eq!(apply(None, &ops(without_path)).value, r#""x""#);
        assert_eq!(
            apply(None, &ops(&append(r#"["a","b"]"#, "1"))).value,
            r#"{"a":{"b":[1]}}"#
        );
    }

    #[test]
    fn an_append_down_a_list_that_fails_changes_nothing_and_says_why() {
        let keys = |keys: &[&str]| serde_json::to_string(keys).unwrap();
        let long = "x".repeat(257);
        let rows: [(&str, String, &str, &str); 9] = [
            (
                "[1]",
                keys(&["a"]),
                "append.target_not_object",
                "Cannot append at path '[a]': target is array, expected object.",
            ),
            (
                "null",
                keys(&["a", "b"]),
                "append.target_not_object",
                "Cannot append at path '[a, b]': target is null, expected object.",
            ),
            (
                "{}",
                keys(&["d"; 33]),
                "append.path.too_deep",
                "Path depth 33 exceeds maximum of 32",
            ),
            (
                "{}",
                keys(&["a", ""]),
                "append.path.empty_segment",
                "Path contains an empty segment",
            ),
            (
                "{}",
                keys(&["a", "__proto__"]),
                "append.path.proto_polluted",
                "Path segment '__proto__' is not allowed (prototype pollution).",
            ),
            (
                "{}",
                keys(&["constructor", ""]),
                "append.path.proto_polluted",
                "Path segment 'constructor' is not allowed (prototype pollution).",
            ),
            (
                "{}",
                keys(&["a", &long]),
                "append.path.segment_too_long",
                "Path segment of 257 bytes exceeds maximum of 256",
            ),
            (
                r#"{"a":{"b":5}}"#,
                keys(&["a", "b"]),
                "append.type_mismatch",
                "Cannot append at path '[a, b]': target is number, expected array, string, null, or missing field.",
            ),
            (
                r#"{"a":{"b":"x"}}"#,
                keys(&["a", "b"]),
                "append.type_mismatch",
                "Expected string append value at path '[a, b]', got object.",
            ),
        ];
        for (old, path, code, message) in rows {
            let ops_json = format!(r#"[{{"type":"append","path":{path},"value":{{}}}}]"#);
            let updated = apply(Some(old), &ops(&ops_json));
            assert_eq!(updated.value, old, "{ops_json}");
            assert_eq!(error_of(old, &ops_json), (code.into(), message.into()));
        }
        let deep = format!(
            r#"[{{"type":"append","path":{},"value":1}}]"#,
            keys(&["d"; 32])
        );
        assert!(new_text("{}", &deep).ends_with(&format!("[1]{}", "}".repeat(32))));
    }

    #[test]
    fn merge_values_are_checked_in_order() {
        let merge = |value: &str| format!(r#"[{{"type":"merge","value":{value}}}]"#);
        let keys = |n: usize| {
            let members: Vec<_> = (0..n).map(|i| format!(r#""{i}":1"#)).collect();
            members.join(",")
        };
        let deep = |depth: usize| {
            let levels = depth - 1;
            format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
        };
        assert_eq!(
            error_of(
                "{}",
                &merge(&format!(r#"{{"__proto__":1,{}}}"#, keys(1024)))
            ),
            (
                "merge.value.too_many_keys".into(),
                "Merge value has 1025 top-level keys, exceeds maximum of 1024".into()
            )
        );
        let doubled = format!("{{{},\"0\":2}}", keys(1024));
        assert!(new_text("{}", &merge(&doubled)).starts_with(r#"{"0":2,"1":1"#));
        let polluted = r#"{"prototype":1,"constructor":1,"a":[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}"#;
        assert!(
            error_of("{}", &merge(polluted))
                .1
                .contains("\"constructor\"")
        );
        assert_eq!(
            error_of("{}", &merge(&deep(17))),
            (
                "merge.value.too_deep".into(),
                "Merge value JSON nesting depth 17 exceeds maximum of 16".into()
            )
        );
        assert_eq!(new_text("{}", &merge(&deep(16))), deep(16));
    }

    #[test]
    fn many_operations_on_many_keys_find_each_key() {
        let mut json = String::from("[");
        for i in 0..200 {
            json += &format!(r#"{{"type":"set","path":"k{i}","value":0}},"#);
            json += &format!(r#"{{"type":"increment","path":"k{}","by":1}},"#, i / 2);
            if i % 3 == 0 {
                json += &format!(r#"{{"type":"remove","path":"k{i}"}},"#);
            }
        }
        json += r#"{"type":"set","path":"k3","value":"back"}]"#;
        let updated = apply(None, &ops(&json));
        let mut model: Vec<(String, Value)> = Vec::new();
        for i in 0..200 {
            let add = |model: &mut Vec<(String, Value)>, key: String, by: i64| match model
                .iter_mut()
                .find(|(k, _)| *k == key)
            {
                Some((_, value)) => *value = (value.as_i64().unwrap() + by).into(),
                None => model.push((key, by.into())),
            };
            add(&mut model, format!("k{i}"), 0);
            add(&mut model, format!("k{}", i / 2), 1);
            if i % 3 == 0 {
                model.retain(|(key, _)| *key != format!("k{i}"));
            }
        }
        let key = "k3".to_owned();
        match model.iter_mut().find(|(k, _)| *k == key) {
            Some((_, value)) => *value = "back".into(),
            None => model.push((key, "back".into())),
        }
        let members: Vec<_> = model
            .iter()
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        assert_eq!(updated.value, format!("{{{}}}", members.join(",")));
        assert_eq!(updated.errors, []);
    }

    #[test]
    fn what_operations_bring_is_checked_against_the_limits() {
        let rows = [
            (r#"[{"type":"set","path":"","value":[[1]]}]"#, 2),
            (r#"[{"type":"set","path":"a","value":[[1]]}]"#, 3),
            (r#"[{"type":"append","path":"","value":[[1]]}]"#, 3),
            (r#"[{"type":"append","path":"a","value":[1]}]"#, 3),
            (r#"[{"type":"append","path":["a","b"],"value":[1]}]"#, 4),
            (r#"[{"type":"merge","value":{"a":[1]}}]"#, 2),
            (
                r#"[{"type":"merge","path":["a","b"],"value":{"a":[1]}}]"#,
                4,
            ),
            (
                r#"[{"type":"increment","path":"a","by":1},{"type":"merge","value":{"a":[1]}}]"#,
                2,
            ),
        ];
        for (json, depth) in rows {
            let ops = ops(json);
            for old in ["{}", "null", "[]"] {
                let new = apply(Some(old), &ops);
                let allowed = value::depth(&new.value).max(value::depth(old));
                assert!(allowed <= depth.max(1), "{json} on {old}: {}", new.value);
            }
            assert_eq!(depth_brought(&ops), depth, "{json}");
            assert_eq!(check_limits("[[1]]", &ops, depth, 5), Ok(()));
            let deep = format!("limits.json_depth exceeded: {depth} > {}", depth - 1);
            assert_eq!(check_limits("[[1]]", &ops, depth - 1, 5), Err(deep));
            let large = "limits.value_bytes exceeded: 5 > 4".into();
            assert_eq!(check_limits("[[1]]", &ops, depth, 4), Err(large));
        }
    }
}
