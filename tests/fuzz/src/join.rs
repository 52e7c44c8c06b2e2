//! What subscribers say, beside serde_json.

use iii_stream::protocol::connection::Payload;
use iii_stream::protocol::message::{self, ClientMessage};
use serde_json::Value;

/// A message, as it came.
pub fn run(input: &[u8]) {
    let read = message::parse(Payload::Binary(input));
    let Ok(text) = std::str::from_utf8(input) else {
        return assert_eq!(read, None);
    };
    assert_eq!(message::parse(Payload::Text(text)), read);
    let Some(read) = read else {
        return;
    };
    let tree: Value = serde_json::from_str(text).expect("what is read is JSON");
    let (kind, names) = match &read {
        ClientMessage::Join(names) => ("join", names),
        ClientMessage::Leave(names) => ("leave", names),
    };
    assert_eq!(tree["type"], kind);
    let data = &tree["data"];
    assert_eq!(data["subscriptionId"], *names.subscription);
    assert_eq!(data["streamName"], *names.stream);
    assert_eq!(data["groupId"], *names.group);
    match &names.item {
        Some(item) => assert_eq!(data["id"], **item),
        None => assert!(data["id"].is_null()),
    }
}
