//! How a program asks for what a command of the run says.

use iii_stream::id::{GroupKey, Text};
use iii_stream::protocol::custom;
use iii_stream::protocol::input::StreamFunction;
use iii_stream::shard::{Ask, Command};
use serde_json::json;

/// The function, its input, and what a `set` writes.
pub(super) fn asked_by(command: &Command) -> (StreamFunction, String, Option<(GroupKey, Text)>) {
    let (key, ask) = match command {
        Command::Group { key, ask } => (key, ask),
        Command::ListGroups { stream, .. } => {
            let data = json!({"stream_name": stream}).to_string();
            return (StreamFunction::ListGroups, data, None);
        }
        Command::ListAll { .. } => unreachable!("nobody asks for it here"),
    };
    let of_group = format!(
        r#""stream_name":"{}","group_id":"{}""#,
        key.stream(),
        key.group()
    );
    let of_item = |item: &str| format!(r#"{of_group},"item_id":"{item}""#);
    match ask {
        Ask::Set { item, data, .. } => {
            let sets = Some((key.clone(), data.clone()));
            let input = format!(r#"{{{},"data":{data}}}"#, of_item(item));
            (StreamFunction::Set, input, sets)
        }
        Ask::Update { item, ops, .. } => {
            let mut text = Vec::new();
            custom::write_ops(&mut text, ops);
            let text = String::from_utf8(text).expect("a JSON text");
            let input = format!(r#"{{{},"ops":{text}}}"#, of_item(item));
            (StreamFunction::Update, input, None)
        }
        Ask::Delete { item, .. } => {
            let input = format!("{{{}}}", of_item(item));
            (StreamFunction::Delete, input, None)
        }
        Ask::Get { item, .. } => (StreamFunction::Get, format!("{{{}}}", of_item(item)), None),
        Ask::List { .. } => (StreamFunction::List, format!("{{{of_group}}}"), None),
        Ask::Send { id, kind, data, .. } => {
            let id = id.as_ref().map(|id| format!(r#","id":"{id}""#));
            let id = id.unwrap_or_default();
            let input = format!(r#"{{{of_group}{id},"type":"{kind}","data":{data}}}"#);
            (StreamFunction::Send, input, None)
        }
        Ask::Join(_) | Ask::Leave { .. } | Ask::Hold(_) | Ask::Release { .. } => {
            unreachable!("no program joins")
        }
    }
}
