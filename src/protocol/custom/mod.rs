//! Custom stores: functions of SDK workers that keep a stream's values in place of our store. Their
//! ids, what they are asked, and what their answers mean.
//!
//! May not know which of them there are, nor what becomes of an answer.

mod results;

pub use self::results::{Written, written};

use super::input::{AppendPath, StreamFunction, UpdateOp};
use super::json::text;

/// What a custom store may take over.
const OPERATIONS: [StreamFunction; 6] = [
    StreamFunction::Set,
    StreamFunction::Get,
    StreamFunction::Delete,
    StreamFunction::List,
    StreamFunction::ListGroups,
    StreamFunction::Update,
];

/// The id under which an operation of a stream is registered: `stream::set(chat)`.
pub fn function_id(operation: StreamFunction, stream: &str) -> String {
    format!("{}({stream})", operation.id())
}

/// What such an id names. None: it is another function's.
pub fn parse_id(id: &str) -> Option<(StreamFunction, &str)> {
    let (operation, stream) = id.strip_suffix(')')?.split_once('(')?;
    let operation = StreamFunction::from_id(operation)?;
    OPERATIONS
        .contains(&operation)
        .then_some((operation, stream))
}

/// What a custom function is asked. Each operation has its parts: those of its own input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the group.
    pub group: Option<&'a str>,
    /// Name of the item.
    pub item: Option<&'a str>,
    /// The value to be set, a JSON text.
    pub data: Option<&'a str>,
    /// The operations of an update.
    pub ops: Option<&'a [UpdateOp]>,
}

impl Input<'_> {
    /// Appends it as JSON, its keys sorted.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(data) = self.data {
            push(out, r#""data":"#);
            push(out, data);
            out.push(b',');
        }
        for (key, name) in [("group_id", self.group), ("item_id", self.item)] {
            if let Some(name) = name {
                text::write_string(out, key);
                out.push(b':');
                text::write_string(out, name);
                out.push(b',');
            }
        }
        if let Some(ops) = self.ops {
            push(out, r#""ops":"#);
            write_ops(out, ops);
            out.push(b',');
        }
        push(out, r#""stream_name":"#);
        text::write_string(out, self.stream);
        out.push(b'}');
    }
}

/// Appends operations as a JSON array, every key written and in order.
pub fn write_ops(out: &mut Vec<u8>, ops: &[UpdateOp]) {
    out.push(b'[');
    for (at, op) in ops.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_op(out, op);
    }
    out.push(b']');
}

fn write_op(out: &mut Vec<u8>, op: &UpdateOp) {
    match op {
        UpdateOp::Set { path, value } => write_members(out, None, path, "set", Some(value)),
        UpdateOp::Merge { path, value } => {
            push(out, r#"{"path":"#);
            match &**path {
                [] => push(out, "null"),
                [key] => text::write_string(out, key),
                segments => text::write_strings(out, segments),
            }
            push(out, r#","type":"merge","value":"#);
            push(out, value);
            out.push(b'}');
        }
        UpdateOp::Increment { path, by } => write_members(out, Some(*by), path, "increment", None),
        UpdateOp::Decrement { path, by } => write_members(out, Some(*by), path, "decrement", None),
        UpdateOp::Append { path, value } => {
            push(out, r#"{"path":"#);
            match path {
                AppendPath::Key(key) => text::write_string(out, key),
                AppendPath::Keys(segments) => text::write_strings(out, segments),
            }
            push(out, r#","type":"append","value":"#);
            push(out, value);
            out.push(b'}');
        }
        UpdateOp::Remove { path } => write_members(out, None, path, "remove", None),
    }
}

fn write_members(
    out: &mut Vec<u8>,
    by: Option<i64>,
    path: &str,
    kind: &'static str,
    value: Option<&str>,
) {
    out.push(b'{');
    if let Some(by) = by {
        push(out, &format!(r#""by":{by},"#));
    }
    push(out, r#""path":"#);
    text::write_string(out, path);
    push(out, r#","type":"#);
    text::write_string(out, kind);
    if let Some(value) = value {
        push(out, r#","value":"#);
        push(out, value);
    }
    out.push(b'}');
}

fn push(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(s.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::input::{self, InputLimits, StreamInput};

    const LIMITS: InputLimits = InputLimits {
        name_bytes: 100,
        json_depth: 10,
        value_bytes: 100,
        update_ops: 100,
    };

    fn json(input: Input<'_>) -> String {
        let mut out = Vec::new();
        input.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Operations as a custom function sees those that a caller sends.
    fn passed_on(ops: &str) -> String {
        let data = format!(r#"["s","g","i",{ops}]"#);
        let ops = match input::parse(StreamFunction::Update, &data, &LIMITS) {
            Ok(StreamInput::Update { ops, .. }) => ops,
            other => panic!("{other:?}"),
        };
        let mut out = Vec::new();
        write_ops(&mut out, &ops);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ids_name_an_operation_and_a_stream() {
        let rows = [
            (StreamFunction::Set, "chat", "stream::set(chat)"),
            (StreamFunction::Get, "", "stream::get()"),
            (StreamFunction::Delete, "a(b)", "stream::delete(a(b))"),
            (StreamFunction::List, "a:b", "stream::list(a:b)"),
            (StreamFunction::ListGroups, ")", "stream::list_groups())"),
            (StreamFunction::Update, "é", "stream::update(é)"),
        ];
        for (operation, stream, id) in rows {
            assert_eq!(function_id(operation, stream), id);
            assert_eq!(parse_id(id), Some((operation, stream)), "{id}");
        }
        for id in [
            "stream::set",
            "stream::set(chat",
            "stream::set chat)",
            "stream::set(chat) ",
            "stream::list_all(chat)",
            "stream::send(chat)",
            "my::set(chat)",
            "(chat)",
            ")(",
            "",
        ] {
            assert_eq!(parse_id(id), None, "{id}");
        }
    }

    #[test]
    fn inputs_have_the_keys_of_their_operation_sorted() {
        let ops = [UpdateOp::Remove { path: "p".into() }];
        let list_groups = Input {
            stream: "S",
            ..Input::default()
        };
        let list = Input {
            group: Some("G"),
            ..list_groups
        };
        let get = Input {
            item: Some("I\n"),
            ..list
        };
        let set = Input {
            data: Some("1.50"),
            ..get
        };
        let update = Input {
            ops: Some(&ops),
            ..get
        };
        let rows = [
            (list_groups, r#"{"stream_name":"S"}"#),
            (list, r#"{"group_id":"G","stream_name":"S"}"#),
            (get, r#"{"group_id":"G","item_id":"I\n","stream_name":"S"}"#),
            (
                set,
                r#"{"data":1.50,"group_id":"G","item_id":"I\n","stream_name":"S"}"#,
            ),
            (
                update,
                r#"{"group_id":"G","item_id":"I\n","ops":[{"path":"p","type":"remove"}],"stream_name":"S"}"#,
            ),
        ];
        for (input, wanted) in rows {
            assert_eq!(json(input), wanted);
        }
    }

    #[test]
    fn operations_are_normalised() {
        let rows = [
            (
                r#"[{"type":"set","x":1,"path":"a"}]"#,
                r#"[{"path":"a","type":"set","value":null}]"#,
            ),
            (
                r#"[{"value":1.0,"type":"set","path":""}]"#,
                r#"[{"path":"","type":"set","value":1.0}]"#,
            ),
            (
                r#"[{"type":"merge","value":{"b":1,"a":2}}]"#,
                r#"[{"path":null,"type":"merge","value":{"b":1,"a":2}}]"#,
            ),
            (
                r#"[{"type":"merge","value":1,"path":"a"}]"#,
                r#"[{"path":"a","type":"merge","value":1}]"#,
            ),
            (
                r#"[{"type":"merge","value":1,"path":["a","b\""]}]"#,
                r#"[{"path":["a","b\""],"type":"merge","value":1}]"#,
            ),
            (
                r#"[{"type":"increment","path":"n","by":-2},{"type":"decrement","by":3,"path":"n"}]"#,
                r#"[{"by":-2,"path":"n","type":"increment"},{"by":3,"path":"n","type":"decrement"}]"#,
            ),
            (
                r#"[{"type":"append","path":"l","value":[1]},{"type":"remove","path":"x"}]"#,
                r#"[{"path":"l","type":"append","value":[1]},{"path":"x","type":"remove"}]"#,
            ),
            (
                r#"[{"type":"append","value":1},{"type":"append","path":["a","b"],"value":1}]"#,
                r#"[{"path":"","type":"append","value":1},{"path":["a","b"],"type":"append","value":1}]"#,
            ),
            ("[]", "[]"),
        ];
        for (ops, wanted) in rows {
            assert_eq!(passed_on(ops), wanted);
        }
    }
}
