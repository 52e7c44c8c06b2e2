//! What comes over the channel, beside serde_json.

use iii_stream::store::redis::fuzzed::{self, Seen};
use serde_json::Value;
use serde_json::value::RawValue;

/// A message, as it came.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Seen { names, whole } = fuzzed::message(text);
    let Ok(tree) = serde_json::from_str::<Value>(text) else {
        // A glance looks at the head alone; what nobody reads of a whole message is JSON by its grammar alone.
        return assert!(whole.is_none() || serde_json::from_str::<&RawValue>(text).is_ok());
    };
    // Of a doubled key the tree shows the last value.
    let is_doubled = |key: &str| text.matches(key).count() != 1 || text.contains("\\u");
    if !is_doubled("streamName") && !is_doubled("groupId") {
        match names {
            Some((stream, group)) => {
                assert_eq!(tree["streamName"], stream);
                assert_eq!(tree["groupId"], group);
            }
            // Who is named as ours are is seen.
            None => assert!(!tree["streamName"].is_string() || !tree["groupId"].is_string()),
        }
    }
    if let Some(whole) = whole {
        assert_eq!(tree["timestamp"], whole.time);
        match whole.item {
            Some(id) => assert_eq!(tree["id"], id),
            None => assert!(tree["id"].is_null()),
        }
        let event = &tree["event"];
        let data: Value = serde_json::from_str(&whole.data).expect("a value");
        match whole.kind {
            "create" | "update" | "delete" => {
                assert_eq!(event["type"], whole.kind);
                assert_eq!(event["data"], data);
            }
            _ => assert_eq!(event["event"]["data"], data),
        }
    }
}
