//! What a subscriber receives, encoded once and shared by all who receive it.
//!
//! Server frames are unmasked, so the bytes of an event, header and all, are the same for everyone.
//! Uses `id` and the string writer of `protocol::json`. May not know who the subscribers are.

use std::io::Write;

use crate::id::{GroupKey, Text};
use crate::protocol::answer::Chunk;
use crate::protocol::connection::text_header;
use crate::protocol::json::text::write_string;

/// What belongs to a group and not to an event, made once a group:
/// `,"streamName":"…","groupId":"…","id":`.
pub struct GroupNames(Box<[u8]>);

impl GroupNames {
    /// Escapes both names.
    pub fn new(key: &GroupKey) -> GroupNames {
        let mut out = Vec::with_capacity(40 + key.joined().len());
        out.extend_from_slice(br#","streamName":"#);
        write_string(&mut out, key.stream());
        out.extend_from_slice(br#","groupId":"#);
        write_string(&mut out, key.group());
        out.extend_from_slice(br#","id":"#);
        GroupNames(out.into_boxed_slice())
    }
}

/// What happened, with the JSON texts that tell of it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// An item that was not there: its value.
    Create(&'a str),
    /// One that was: its new value, whole.
    Update(&'a str),
    /// One that is gone: the value that was removed.
    Delete(&'a str),
    /// `stream::send`: the event's own type, unescaped, and its data.
    Custom {
        /// The caller's word for the event.
        kind: &'a str,
        /// JSON text.
        data: &'a str,
    },
}

/// What an event is to whoever hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An item that was not there.
    Create,
    /// One that was.
    Update,
    /// One that is gone.
    Delete,
    /// No change of an item.
    Custom,
}

/// One event: a whole WebSocket frame, and the item's name for whoever picks by item.
pub struct EventFrame {
    bytes: Box<[u8]>,
    /// Where the frame begins: a header shorter than the longest leaves room before it.
    start: u8,
    kind: Kind,
    /// Where the word for the kind of a change begins.
    kind_at: u32,
    item: Option<Box<str>>,
}

impl EventFrame {
    /// Where the payload begins: behind the longest header. The header is put right before it, so
    /// the text is copied once.
    const ROOM: usize = 10;

    /// Encodes the event of one group.
    pub fn encode(
        names: &GroupNames,
        time: u64,
        item: Option<&str>,
        event: Event<'_>,
    ) -> EventFrame {
        let item_len = item.map_or(0, str::len);
        let mut out = Vec::with_capacity(Self::ROOM + 120 + names.0.len() + event.len() + item_len);
        out.extend_from_slice(&[0; Self::ROOM]);
        write_head(&mut out, names, time, item);
        let kind_at = out.len() as u32 + 1; // behind its quotation mark
        match event {
            Event::Create(data) | Event::Update(data) | Event::Delete(data) => {
                write_change(&mut out, event.kind().word(), data);
            }
            Event::Custom { kind, data } => {
                out.extend_from_slice(br#""event","event":{"type":"#);
                write_string(&mut out, kind);
                out.extend_from_slice(br#","data":"#);
                out.extend_from_slice(data.as_bytes());
                out.extend_from_slice(b"}}}");
            }
        }
        let (header, header_len) = text_header(out.len() - Self::ROOM);
        let start = Self::ROOM - header_len;
        out[start..Self::ROOM].copy_from_slice(&header[..header_len]);
        EventFrame {
            bytes: out.into_boxed_slice(),
            start: start as u8,
            kind: event.kind(),
            kind_at,
            item: item.map(Box::from),
        }
    }

    /// The frame, header and all.
    pub fn wire(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }

    /// The frame as that kind of change: three pieces, of which the last two may be empty. The words
    /// for changes are equally long, so header and length stay. A custom event is what it is.
    pub fn wire_as(&self, kind: Kind) -> [&[u8]; 3] {
        if kind == self.kind || self.kind == Kind::Custom {
            return [self.wire(), &[], &[]];
        }
        let (before, rest) = self.bytes.split_at(self.kind_at as usize);
        [
            &before[usize::from(self.start)..],
            kind.word().as_bytes(),
            &rest[Kind::WORD_LEN..],
        ]
    }

    /// Of a change: bytes of the value.
    pub fn data_len(&self) -> usize {
        const AROUND_LEN: usize = Kind::WORD_LEN + br#"","data":"#.len() + b"}}".len();
        self.bytes
            .len()
            .saturating_sub(self.kind_at as usize + AROUND_LEN)
    }

    /// What it is as it was encoded.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The event itself: a JSON object.
    pub fn text(&self) -> &str {
        // It was put together from texts.
        std::str::from_utf8(&self.bytes[Self::ROOM..]).unwrap_or_default()
    }

    /// Name of the item that it is about; `None` for a custom event of the group.
    pub fn item(&self) -> Option<&str> {
        self.item.as_deref()
    }

    /// Bytes it holds.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len() + self.item.as_ref().map_or(0, |item| item.len())
    }
}

impl Kind {
    /// Of each word for a change.
    const WORD_LEN: usize = 6;

    fn word(self) -> &'static str {
        match self {
            Kind::Create => "create",
            Kind::Update => "update",
            Kind::Delete => "delete",
            Kind::Custom => "event",
        }
    }
}

impl Event<'_> {
    fn kind(&self) -> Kind {
        match self {
            Event::Create(_) => Kind::Create,
            Event::Update(_) => Kind::Update,
            Event::Delete(_) => Kind::Delete,
            Event::Custom { .. } => Kind::Custom,
        }
    }

    fn len(&self) -> usize {
        match self {
            Event::Create(data) | Event::Update(data) | Event::Delete(data) => data.len(),
            Event::Custom { kind, data } => kind.len() + data.len(),
        }
    }
}

/// A `sync`: its own head, and the shared texts of the group's values, or of the item's.
pub struct SyncFrame {
    head: Box<[u8]>,
    chunks: Box<[Chunk]>,
    /// The comma that the first chunk begins with, where chunks begin with one.
    comma_len: usize,
    tail: &'static [u8],
    /// Of the whole frame.
    len: usize,
}

impl SyncFrame {
    /// The `sync` of a group.
    pub fn of_group(names: &GroupNames, time: u64, chunks: Vec<Chunk>) -> SyncFrame {
        let mut head = Vec::with_capacity(128 + names.0.len());
        write_head(&mut head, names, time, None);
        head.extend_from_slice(br#""sync","data":["#);
        SyncFrame::framed(head, chunks, 1, b"]}}")
    }

    /// The `sync` of one item: its value, or null where there is none.
    pub fn of_item(names: &GroupNames, time: u64, item: &str, value: Option<&Text>) -> SyncFrame {
        SyncFrame::of_value(names, time, Some(item), value)
    }

    /// A `sync` with a value that may be anything, or null where there is none: what a custom store
    /// says of a group or an item.
    pub fn of_value(
        names: &GroupNames,
        time: u64,
        item: Option<&str>,
        value: Option<&Text>,
    ) -> SyncFrame {
        let names_len = names.0.len() + item.map_or(0, str::len);
        let mut head = Vec::with_capacity(128 + names_len);
        write_head(&mut head, names, time, item);
        head.extend_from_slice(br#""sync","data":"#);
        if value.is_none() {
            head.extend_from_slice(b"null");
        }
        // Shared with the item itself: however many wait for it, it is held once.
        SyncFrame::framed(head, value.cloned().into_iter().collect(), 0, b"}}")
    }

    /// Of the first chunk `comma_len` bytes are left out.
    fn framed(
        head: Vec<u8>,
        chunks: Vec<Chunk>,
        comma_len: usize,
        tail: &'static [u8],
    ) -> SyncFrame {
        let chunks_len: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let payload_len = head.len() + chunks_len.saturating_sub(comma_len) + tail.len();
        let (header, header_len) = text_header(payload_len);
        let mut framed = Vec::with_capacity(header_len + head.len());
        framed.extend_from_slice(&header[..header_len]);
        framed.extend_from_slice(&head);
        SyncFrame {
            head: framed.into_boxed_slice(),
            chunks: chunks.into_boxed_slice(),
            comma_len,
            tail,
            len: header_len + payload_len,
        }
    }

    /// Bytes of the whole frame.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a frame has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The pieces of which the frame consists, in order, without the first `skip` bytes.
    pub fn pieces_from(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let chunks = self.chunks.iter().enumerate().map(|(number, chunk)| {
            let text = chunk.as_bytes();
            if number == 0 {
                text.get(self.comma_len..).unwrap_or_default()
            } else {
                text
            }
        });
        let mut skip = skip;
        std::iter::once(&*self.head)
            .chain(chunks)
            .chain(std::iter::once(self.tail))
            .filter_map(move |piece| {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                let rest = &piece[skipped..];
                (!rest.is_empty()).then_some(rest)
            })
    }

    /// Bytes that belong to this frame alone.
    pub fn held_bytes(&self) -> usize {
        self.head.len() + self.chunks.len() * size_of::<Chunk>()
    }
}

/// The answer to a join that is refused, as a whole frame.
pub fn unauthorized(key: &GroupKey, time: u64, item: Option<&str>) -> Box<[u8]> {
    let mut payload = Vec::with_capacity(160);
    write_head(&mut payload, &GroupNames::new(key), time, item);
    payload.extend_from_slice(br#""unauthorized"}}"#);
    let (header, header_len) = text_header(payload.len());
    [&header[..header_len], &payload]
        .concat()
        .into_boxed_slice()
}

/// Everything up to the event's own type.
fn write_head(out: &mut Vec<u8>, names: &GroupNames, time: u64, item: Option<&str>) {
    out.extend_from_slice(br#"{"type":"stream","timestamp":"#);
    // Cannot fail: a Vec takes what it is given.
    let _ = write!(out, "{time}");
    out.extend_from_slice(&names.0);
    match item {
        Some(item) => write_string(out, item),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","event":{"type":"#);
}

fn write_change(out: &mut Vec<u8>, kind: &str, data: &str) {
    out.push(b'"');
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","data":"#);
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> GroupNames {
        GroupNames::new(&GroupKey::new("S1", "G"))
    }

    fn payload(frame: &[u8]) -> &str {
        let header_len = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        assert_eq!(frame[0], 0x81, "one text frame");
        std::str::from_utf8(&frame[header_len..]).unwrap()
    }

    #[test]
    fn frames_are_those_that_were_observed() {
        let names = names();
        let event = |item, event| EventFrame::encode(&names, 1795474467867, item, event);
        let create = event(Some("u1"), Event::Create(r#"{"n":1}"#));
        assert_eq!(
            payload(create.wire()),
            r#"{"type":"stream","timestamp":1795474467867,"streamName":"S1","groupId":"G","id":"u1","event":{"type":"create","data":{"n":1}}}"#
        );
        assert_eq!(create.item(), Some("u1"));
        let custom = Event::Custom {
            kind: "typing",
            data: r#"{"a":2}"#,
        };
        let custom = event(None, custom);
        assert_eq!(
            payload(custom.wire()),
            r#"{"type":"stream","timestamp":1795474467867,"streamName":"S1","groupId":"G","id":null,"event":{"type":"event","event":{"type":"typing","data":{"a":2}}}}"#
        );
        assert_eq!(custom.item(), None);
        assert_eq!(
            payload(&unauthorized(&GroupKey::new("SM", "G"), 5, None)),
            r#"{"type":"stream","timestamp":5,"streamName":"SM","groupId":"G","id":null,"event":{"type":"unauthorized"}}"#
        );
    }

    #[test]
    fn a_change_told_as_another_kind_differs_in_that_word_alone() {
        let names = names();
        for len in [1, 100, 70_000] {
            let value = format!("\"{}\"", "create".repeat(len));
            let of = |event| EventFrame::encode(&names, 7, Some("update"), event);
            let changes = [
                (Kind::Create, of(Event::Create(&value))),
                (Kind::Update, of(Event::Update(&value))),
                (Kind::Delete, of(Event::Delete(&value))),
            ];
            for (_, frame) in &changes {
                assert_eq!(frame.data_len(), value.len());
                for (kind, wanted) in &changes {
                    assert_eq!(frame.wire_as(*kind).concat(), wanted.wire());
                }
            }
        }
    }

    #[test]
    fn a_sync_is_the_same_from_wherever_it_is_read_on() {
        let chunks = vec![",1,2".into(), ",3".into(), r#",{"a":4}"#.into()];
        let sync = SyncFrame::of_group(&names(), 7, chunks);
        let whole = sync.pieces_from(0).collect::<Vec<_>>().concat();
        assert_eq!(whole.len(), sync.len());
        assert_eq!(
            payload(&whole),
            r#"{"type":"stream","timestamp":7,"streamName":"S1","groupId":"G","id":null,"event":{"type":"sync","data":[1,2,3,{"a":4}]}}"#
        );
        for skip in 0..=whole.len() {
            let rest = sync.pieces_from(skip).collect::<Vec<_>>().concat();
            assert_eq!(rest, &whole[skip..]);
        }
        let empty = SyncFrame::of_group(&names(), 7, Vec::new());
        let whole = empty.pieces_from(0).collect::<Vec<_>>().concat();
        assert!(payload(&whole).ends_with(r#""data":[]}}"#));
    }

    #[test]
    fn an_item_s_sync_holds_its_value_or_null() {
        let value: Text = "[1]".into();
        let large: Text = format!("\"{}\"", "x".repeat(1 << 20)).into();
        let sync = SyncFrame::of_item(&names(), 7, "u", Some(&large));
        assert!(
            sync.len() > large.len() && sync.held_bytes() < 1000,
            "it is shared"
        );
        let sync = SyncFrame::of_item(&names(), 7, "", Some(&value));
        let whole = sync.pieces_from(0).collect::<Vec<_>>().concat();
        assert!(payload(&whole).ends_with(r#""id":"","event":{"type":"sync","data":[1]}}"#));
        let sync = SyncFrame::of_value(&names(), 7, None, Some(&value));
        let whole = sync.pieces_from(0).collect::<Vec<_>>().concat();
        assert!(payload(&whole).ends_with(r#""id":null,"event":{"type":"sync","data":[1]}}"#));
        let sync = SyncFrame::of_item(&names(), 7, "u", None);
        let whole = sync.pieces_from(0).collect::<Vec<_>>().concat();
        assert!(payload(&whole).ends_with(r#""id":"u","event":{"type":"sync","data":null}}"#));
    }
}
