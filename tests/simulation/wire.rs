//! The bytes that a fake socket took: whole frames, never torn, and what each says.

use iii_stream::id::{GroupKey, ItemId};
use serde_json::Value;

/// One text frame of the server.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) time: u64,
    pub(crate) group: GroupKey,
    pub(crate) item: Option<ItemId>,
    pub(crate) event: Value,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sync,
    Event,
    Unauthorized,
}

/// What comes out of the bytes.
pub(crate) enum Frame {
    Message(Message),
    Ping,
    Pong,
    Close,
}

/// The bytes of a frame that has begun.
#[derive(Default, Debug)]
pub(crate) struct Decoder(Vec<u8>);

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Whether part of a frame has been taken.
    pub(crate) fn has_begun(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        let (opcode, header_len, len) = header(&self.0)?;
        if self.0.len() < header_len + len {
            return None;
        }
        let rest = self.0.split_off(header_len + len);
        let frame = std::mem::replace(&mut self.0, rest);
        let payload = &frame[header_len..];
        Some(match opcode {
            0x1 => Frame::Message(Message::of(payload)),
            0x9 => Frame::Ping,
            0xA => Frame::Pong,
            0x8 => Frame::Close,
            other => panic!("opcode {other} at a frame's head: the frame before was torn"),
        })
    }
}

impl Message {
    /// Of one whole frame.
    pub(crate) fn whole(frame: &[u8]) -> Message {
        let (opcode, header_len, len) = header(frame).expect("a whole frame");
        assert_eq!((opcode, header_len + len), (1, frame.len()));
        Message::of(&frame[header_len..])
    }

    fn of(payload: &[u8]) -> Message {
        let json: Value = serde_json::from_slice(payload).expect("one JSON text a frame");
        let text = |key: &str| json[key].as_str();
        assert_eq!(text("type"), Some("stream"));
        let kind = match json["event"]["type"].as_str() {
            Some("sync") => Kind::Sync,
            Some("unauthorized") => Kind::Unauthorized,
            _ => Kind::Event,
        };
        let (stream, group) = (text("streamName"), text("groupId"));
        Message {
            kind,
            time: json["timestamp"].as_u64().expect("a time"),
            group: GroupKey::new(stream.expect("a stream"), group.expect("a group")),
            item: text("id").map(ItemId::from),
            event: json["event"].clone(),
        }
    }
}

/// Opcode, length of the header and of the payload; `None` while the header is not whole.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xF0, 0x80, "one frame a message, no extension");
    let (header_len, len) = match second {
        126 => (4, u64::from(u16::from_be_bytes(*bytes[2..].first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes[2..].first_chunk()?)),
        len => (2, u64::from(len)),
    };
    assert!(second < 128, "the server masks nothing");
    Some((first & 0x0F, header_len, len as usize))
}
