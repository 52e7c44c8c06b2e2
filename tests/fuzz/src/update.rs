//! Operations of an update: the same of a large value as of a small one, bit by bit as at once, and what
//! single operations do, beside a model on trees.

use iii_stream::protocol::input::{self, InputLimits, StreamFunction, StreamInput, UpdateOp};
use iii_stream::protocol::json::value;
use iii_stream::shard::update::{self, Opening};
use serde_json::{Map, Value};

const LIMITS: InputLimits = InputLimits {
    name_bytes: 64,
    json_depth: 60,
    value_bytes: 1 << 16,
    update_ops: 20,
};

/// The old value, a zero byte, and the operations.
pub fn run(input: &[u8]) {
    let Some(at) = input.iter().position(|byte| *byte == 0) else {
        return;
    };
    let texts = (
        std::str::from_utf8(&input[..at]),
        std::str::from_utf8(&input[at + 1..]),
    );
    let (Ok(old), Ok(ops)) = texts else {
        return;
    };
    let old = match old {
        "" => None,
        old => match value::parse(old, 60) {
            Ok(old) => Some(old),
            Err(_) => return,
        },
    };
    if value::parse(ops, 60).is_err() {
        return;
    }
    let data = format!(r#"["s","g","i",{ops}]"#);
    let Ok(StreamInput::Update { ops: read, .. }) =
        input::parse(StreamFunction::Update, &data, &LIMITS)
    else {
        return;
    };
    let updated = update::apply(old, &read);
    let new = value::parse(&updated.value, 127).expect("a value");
    assert_eq!(new.len(), updated.value.len(), "no blanks around it");
    if update::depth_brought(&read) <= 60 {
        assert!(value::depth(new) <= 60, "{new}");
    }
    let new: Value = serde_json::from_str(new).expect("a tree");
    if let Some(expected) = modelled(old, &read) {
        assert_eq!(new, expected, "{old:?} {ops}");
    }
    let Some(rest) = old.and_then(|old| old.strip_prefix('{')) else {
        return;
    };
    if ops.contains("pad") || ops.contains('\\') {
        return;
    }
    // From so many bytes on only what is named is opened.
    let comma = if rest.trim_start().starts_with('}') {
        ""
    } else {
        ","
    };
    let large = format!(r#"{{"pad":"{}"{comma}{rest}"#, "x".repeat(17_000));
    let at_once = update::apply(Some(&large), &read);
    let mut opening = Opening::of(Some(&large), &read);
    while !opening.go_on(Some(&large), 7) {}
    assert!(opening.apply(Some(&large), &read) == at_once);
    let mut of_large: Value = serde_json::from_str(&at_once.value).expect("a tree");
    if let Value::Object(members) = &mut of_large {
        members.remove("pad");
    }
    assert_eq!(at_once.errors, updated.errors);
    let mut of_small = new;
    if let Value::Object(members) = &mut of_small {
        members.remove("pad");
    }
    assert_eq!(of_large, of_small, "{old:?} {ops}");
}

/// What these operations make of a value, where the model knows them all.
fn modelled(old: Option<&str>, ops: &[UpdateOp]) -> Option<Value> {
    let mut root: Value = serde_json::from_str(old.unwrap_or("{}")).ok()?;
    for op in ops {
        match op {
            UpdateOp::Set { path, value } => {
                let value = serde_json::from_str(value).ok()?;
                match (&**path, &mut root) {
                    ("__proto__" | "constructor" | "prototype", _) => {}
                    ("", root) => *root = value,
                    (key, Value::Object(members)) if key.len() <= 256 => {
                        members.insert(key.to_owned(), value);
                    }
                    _ => {}
                }
            }
            UpdateOp::Remove { path } => match (&**path, &mut root) {
                ("", root) => *root = Value::Null,
                ("__proto__" | "constructor" | "prototype", _) => {}
                (key, Value::Object(members)) => drop(members.remove(key)),
                _ => {}
            },
            UpdateOp::Merge { path, value } if path.is_empty() => {
                let source: Value = serde_json::from_str(value).ok()?;
                if let (Value::Object(members), Value::Object(more)) = (&mut root, source) {
                    let is_odd = |more: &Map<String, Value>| {
                        more.keys().any(|key| {
                            ["__proto__", "constructor", "prototype"].contains(&key.as_str())
                        })
                    };
                    if !is_odd(&more) && value::depth(value) <= 16 {
                        members.extend(more);
                    }
                }
            }
            _ => return None,
        }
    }
    Some(root)
}
