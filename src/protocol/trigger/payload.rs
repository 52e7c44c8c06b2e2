//! What triggered functions are sent: JSON texts, their keys as the reference writes them.
//!
//! The payload of `stream` triggers is the frame's own text, that of `log` triggers is written by
//! `protocol::logs`.

use uuid::Uuid;

use crate::protocol::json::text;

/// A join or a leave, as its functions are told. There is nothing in it to tell one from the other.
#[derive(Debug, Clone, Copy)]
pub struct PresenceEvent<'a> {
    /// What the auth function gave for the socket, a JSON text.
    pub context: Option<&'a str>,
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the group.
    pub group: &'a str,
    /// Name of the item. None: the whole group.
    pub id: Option<&'a str>,
    /// The client's name for the subscription.
    pub subscription_id: &'a str,
}

impl PresenceEvent<'_> {
    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, r#"{"context":"#);
        push(out, self.context.unwrap_or("null"));
        push(out, r#","group_id":"#);
        text::write_string(out, self.group);
        push(out, r#","id":"#);
        match self.id {
            Some(id) => text::write_string(out, id),
            None => push(out, "null"),
        }
        push(out, r#","stream_name":"#);
        text::write_string(out, self.stream);
        push(out, r#","subscription_id":"#);
        text::write_string(out, self.subscription_id);
        out.push(b'}');
    }
}

/// What has become of an SDK worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerEvent {
    /// It has come.
    Connected,
    /// It has described itself.
    MetadataUpdated,
    /// It has gone.
    Disconnected,
}

/// The payload of `engine::workers-available`.
pub fn workers_available(event: WorkerEvent, worker_id: &Uuid) -> String {
    let event = match event {
        WorkerEvent::Connected => "worker_connected",
        WorkerEvent::MetadataUpdated => "worker_metadata_updated",
        WorkerEvent::Disconnected => "worker_disconnected",
    };
    format!(r#"{{"event":"{event}","worker_id":"{worker_id}"}}"#)
}

/// What the payload of `engine::functions-available` begins with: all entries follow, as listings give
/// them, internal ones included, and `]}`.
pub const FUNCTIONS_CHANGED: &[u8] = br#"{"event":"functions_changed","functions":["#;

fn push(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(s.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(event: PresenceEvent<'_>) -> String {
        let mut out = Vec::new();
        event.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn joins_and_leaves_are_told_with_all_five_keys() {
        let group = PresenceEvent {
            context: None,
            stream: "S",
            group: "G",
            id: None,
            subscription_id: "s1",
        };
        assert_eq!(
            written(group),
            r#"{"context":null,"group_id":"G","id":null,"stream_name":"S","subscription_id":"s1"}"#
        );
        let item = PresenceEvent {
            context: Some(r#"{"userId":"u7"}"#),
            id: Some("i\""),
            ..group
        };
        assert_eq!(
            written(item),
            r#"{"context":{"userId":"u7"},"group_id":"G","id":"i\"","stream_name":"S","subscription_id":"s1"}"#
        );
    }

    #[test]
    fn changes_of_workers_and_functions_are_told_by_name() {
        let id = Uuid::from_u128(0x3f2504e0_4f89_11d3_9a0c_0305e82c3301);
        for (event, name) in [
            (WorkerEvent::Connected, "worker_connected"),
            (WorkerEvent::MetadataUpdated, "worker_metadata_updated"),
            (WorkerEvent::Disconnected, "worker_disconnected"),
        ] {
            assert_eq!(
                workers_available(event, &id),
                format!(
                    r#"{{"event":"{name}","worker_id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301"}}"#
                )
            );
        }
    }
}
