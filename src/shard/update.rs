//! The operations of `stream::update` on one value: old text in, new text out.
//!
//! What no operation touches keeps its text; no tree of the value is built. May not know where
//! the value is kept or who hears of it.

mod document;

use self::document::{Kind, Node, Object};
use crate::protocol::answer::UpdateError;
use crate::protocol::input::{UpdateOp, limit_exceeded};
use crate::protocol::number::Number;
use crate::protocol::value;

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
    let mut item = Item {
        root: Node::text(old.unwrap_or("{}").trim_ascii()),
        is_missing: old.is_none(),
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

/// Err: the cause for which a value that an update made must not be stored.
pub fn check_limits(value: &str, json_depth: usize, value_bytes: usize) -> Result<(), String> {
    if let Some(depth) = value::depth_beyond(value, json_depth) {
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
}

impl<'a> Item<'a> {
    fn apply(&mut self, op: &'a UpdateOp) -> Result<(), Fault> {
        match op {
            UpdateOp::Set { path, value } => self.set(path, value),
            UpdateOp::Merge { path, value } => self.merge(path, value),
            UpdateOp::Increment { path, by } => self.add("increment", path, i128::from(*by)),
            UpdateOp::Decrement { path, by } => self.add("decrement", path, -i128::from(*by)),
            UpdateOp::Append { path, value } => self.append(path, value),
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

    fn merge(&mut self, path: &'a [Box<str>], value: &'a str) -> Result<(), Fault> {
        check_merge_path(path)?;
        let source = check_merge_value(value)?;
        let target = match path {
            [] => match self.root.object_mut() {
                Some(object) => object,
                None => return Ok(()), // what is no object stays as it is, and that is no error
            },
            segments => {
                let mut object = self.root.make_object();
                for segment in segments {
                    object = object.get_or_empty(segment).make_object();
                }
                object
            }
        };
        target.set_all(source);
        Ok(())
    }

    /// The root, in which `key` is to be changed.
    fn object(&mut self, verb: &str, key: &str) -> Result<&mut Object<'a>, Fault> {
        let kind = self.root.kind();
        let not_object = || Fault::target_not_object(verb, key, kind);
        self.root.object_mut().ok_or_else(not_object)
    }
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
        let message = format!("Path segment of {bytes} bytes exceeds maximum of 256");
        return Err(Fault::new("path.segment_too_long", message));
    }
    if PROTOTYPE_KEYS.contains(&path) {
        let message = format!("Path segment '{path}' is not allowed (prototype pollution).");
        return Err(Fault::new("path.proto_polluted", message));
    }
    Ok(())
}

fn check_merge_path(path: &[Box<str>]) -> Result<(), Fault> {
    let segments = path.len();
    if segments > PATH_SEGMENTS_MAX {
        let message = format!("Path depth {segments} exceeds maximum of 32");
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
    let mut node = Node::text(value);
    let Some(source) = node.object_mut() else {
        let message = "Merge value must be a JSON object";
        return Err(Fault::new("value.not_an_object", message));
    };
    let keys = source.len();
    if keys > MERGE_KEYS_MAX {
        let message = format!("Merge value has {keys} top-level keys, exceeds maximum of 1024");
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
        let message = format!("Merge value JSON nesting depth {depth} exceeds maximum of 16");
        return Err(Fault::new("value.too_deep", message));
    }
    Ok(std::mem::take(source))
}
