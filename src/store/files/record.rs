//! How the records of a log and a snapshot are written, with length and checksum.
//!
//! Pure: bytes in, values out. May not know a file, or which record may follow which.
//!
//! ```text
//! record  payload's length 4 · CRC32C of length and payload 4 · payload
//! payload sequence 8 · kind 1 · time, or a number, 8 · what the kind needs; marks come first, or last in a piece
//! ```
//! Integers are little-endian, texts UTF-8.

use std::borrow::Cow;

use crate::id::{GroupKey, ItemId, Text};
use crate::protocol::ttl::Ttl;
use crate::shard::{Marked, Marks, Piece, Restored};

/// Length and checksum.
const FRAME_BYTES: usize = 8;
/// Sequence number, kind and time.
pub(super) const PAYLOAD_BYTES_MIN: usize = 17;
/// Far above every sequence number there will ever be: texts never look like less.
pub(super) const SEQUENCE_MAX: u64 = 1 << 56;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Put = 1,
    Remove = 2,
    Time = 3,
    Piece = 4,
    End = 5,
    Synced = 6,
    /// A put with marks.
    Marked = 7,
}

/// U+0000 in a name.
const NUL: [u8; 2] = [0xc0, 0x80];
/// Set in the kind of the last record of a batch: without it the batch was never accepted.
const LAST: u8 = 0x80;

impl Kind {
    /// As it stands in a record; `is_last` of its batch.
    fn byte(self, is_last: bool) -> u8 {
        self as u8 | if is_last { LAST } else { 0 }
    }

    /// None: there is no such kind.
    fn of(byte: u8) -> Option<Kind> {
        let kinds = [
            Kind::Put,
            Kind::Remove,
            Kind::Time,
            Kind::Piece,
            Kind::End,
            Kind::Synced,
            Kind::Marked,
        ];
        kinds.into_iter().find(|kind| *kind as u8 == byte & !LAST)
    }
}

/// A write that the owner has decided, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) key: &'a GroupKey,
    pub(super) item: &'a str,
    /// `None`: the item goes.
    pub(super) value: Option<&'a str>,
    pub(super) time: u64,
    pub(super) marks: Marks,
}

/// Appends a write; `is_last` of its batch.
pub(super) fn write(out: &mut Vec<u8>, sequence: u64, write: Write<'_>, is_last: bool) {
    let kind = match write.value {
        Some(_) if write.marks.is_empty() => Kind::Put,
        Some(_) => Kind::Marked,
        None => Kind::Remove,
    };
    frame(out, |out| {
        prefix(out, sequence, kind.byte(is_last), write.time);
        if kind == Kind::Marked {
            put_marks(out, write.marks, None);
        }
        put_key(out, write.key);
        put_name(out, write.item);
        out.extend_from_slice(write.value.unwrap_or_default().as_bytes());
    });
}

/// Appends a time that was given out: none up to it is given out again.
pub(super) fn time(out: &mut Vec<u8>, sequence: u64, time: u64, is_last: bool) {
    frame(out, |out| {
        prefix(out, sequence, Kind::Time.byte(is_last), time)
    });
}

/// Appends that all records up to number `to` are on the disk.
pub(super) fn synced(out: &mut Vec<u8>, sequence: u64, to: u64, is_last: bool) {
    frame(out, |out| {
        prefix(out, sequence, Kind::Synced.byte(is_last), to)
    });
}

/// Appends a piece of a snapshot; `sequence` is that of the last write that is in it.
pub(super) fn piece(out: &mut Vec<u8>, sequence: u64, piece: &Piece) {
    frame(out, |out| {
        prefix(out, sequence, Kind::Piece.byte(false), piece.time);
        put_key(out, &piece.key);
        let has_marks = !piece.marked.is_empty();
        let flags = [piece.is_first, piece.is_unnamed, has_marks];
        let flags = flags
            .iter()
            .rev()
            .fold(0, |all, flag| all << 1 | u8::from(*flag));
        out.push(flags);
        put_len(out, piece.items.len());
        for (name, value) in &piece.items {
            let name = without_nul(name);
            put_len(out, name.len());
            put_len(out, value.len());
            out.extend_from_slice(&name);
            out.extend_from_slice(value.as_bytes());
        }
        if has_marks {
            put_len(out, piece.marked.len());
        }
        for marked in &piece.marked {
            put_len(out, marked.at as usize);
            let Marked { ttl, is_member, .. } = *marked;
            put_marks(out, Marks { ttl, is_member }, marked.ends_ms);
        }
    });
}

/// Marks, and when the item ends: which of them there is, and those.
fn put_marks(out: &mut Vec<u8>, marks: Marks, ends_ms: Option<u64>) {
    let (lasts, ends) = (marks.ttl.is_some(), ends_ms.is_some());
    out.push(u8::from(lasts) | u8::from(ends) << 1 | u8::from(marks.is_member) << 2);
    if let Some(ttl) = marks.ttl {
        out.extend_from_slice(&ttl.bits().to_le_bytes());
    }
    if let Some(ends_ms) = ends_ms {
        out.extend_from_slice(&ends_ms.to_le_bytes());
    }
}

/// Appends the end of a snapshot: how many pieces it has, and the highest time of groups that had
/// no items.
pub(super) fn end(out: &mut Vec<u8>, pieces: u64, time: u64) {
    frame(out, |out| prefix(out, pieces, Kind::End.byte(false), time));
}

fn frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    payload(out);
    let len = (out.len() - start - FRAME_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let sum = checksum(len, &out[start + FRAME_BYTES..]);
    out[start + 4..start + FRAME_BYTES].copy_from_slice(&sum.to_le_bytes());
}

fn prefix(out: &mut Vec<u8>, sequence: u64, kind: u8, time: u64) {
    out.extend_from_slice(&sequence.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&time.to_le_bytes());
}

fn put_key(out: &mut Vec<u8>, key: &GroupKey) {
    put_len(out, key.stream().len());
    put_name(out, key.joined());
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    let name = without_nul(name);
    put_len(out, name.len());
    out.extend_from_slice(&name);
}

/// No text may hold what looks like a record, and every record has a zero byte: the highest of its
/// number. In a name U+0000 becomes two bytes that UTF-8 has not (as in Java's modified UTF-8); in a value
/// it is an escape of JSON.
fn without_nul(name: &str) -> Cow<'_, [u8]> {
    let bytes = name.as_bytes();
    match bytes.contains(&0) {
        true => name
            .split('\0')
            .map(str::as_bytes)
            .collect::<Vec<_>>()
            .join(&NUL[..])
            .into(),
        false => bytes.into(),
    }
}

fn with_nul(bytes: &[u8]) -> Option<Cow<'_, str>> {
    if let Ok(name) = std::str::from_utf8(bytes) {
        return Some(name.into());
    }
    let (mut name, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((first, behind)) = rest.split_first() {
        let nul = rest.strip_prefix(&NUL);
        name.push(nul.map_or(*first, |_| 0));
        rest = nul.unwrap_or(behind);
    }
    String::from_utf8(name).ok().map(Cow::from)
}

/// Names and values are limited far below what 32 bits count.
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

fn checksum(len: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), payload)
}

/// Length and checksum of a record that begins here: what is needed to read the rest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    len: u32,
    sum: u32,
}

impl Frame {
    pub(super) const BYTES: usize = FRAME_BYTES;

    pub(super) fn decode(bytes: [u8; FRAME_BYTES]) -> Frame {
        let [a, b, c, d, e, f, g, h] = bytes;
        Frame {
            len: u32::from_le_bytes([a, b, c, d]),
            sum: u32::from_le_bytes([e, f, g, h]),
        }
    }

    /// Bytes of the payload. `None`: no record has that length, or it ends beyond `left` bytes.
    pub(super) fn payload_bytes(self, left: u64) -> Option<usize> {
        let fits = self.len as usize >= PAYLOAD_BYTES_MIN && u64::from(self.len) <= left;
        fits.then_some(self.len as usize)
    }

    pub(super) fn is_of(self, payload: &[u8]) -> bool {
        checksum(self.len, payload) == self.sum
    }
}

/// What a record says.
#[derive(Debug)]
pub(super) enum Content {
    /// For a shard.
    Restored(Restored),
    /// A time that was given out.
    Time(u64),
    /// All records up to that number were on the disk before this one was written.
    Synced(u64),
    /// The end of a snapshot.
    End { pieces: u64, time: u64 },
}

/// A payload's sequence number, and whether it is the last of its batch.
pub(super) fn place_of(payload: &[u8]) -> Option<(u64, bool)> {
    let mut fields = Fields(payload);
    Some((fields.u64()?, fields.u8()? & LAST != 0))
}

/// The number and the kind with which a payload begins. None: no record begins so.
pub(super) fn begins(payload: &[u8]) -> Option<(u64, Kind)> {
    let mut fields = Fields(payload);
    Some((fields.u64()?, Kind::of(fields.u8()?)?))
}

/// `None`: it has the right checksum and is no record all the same.
pub(super) fn decode(payload: &[u8]) -> Option<Content> {
    let mut fields = Fields(payload);
    let (sequence, kind, time) = (fields.u64()?, fields.u8()?, fields.u64()?);
    let content = match Kind::of(kind)? {
        kind @ (Kind::Put | Kind::Marked) => {
            let marks = match kind {
                Kind::Marked => fields.marks()?.0,
                _ => Marks::default(),
            };
            let (key, item) = (fields.key()?, fields.name()?);
            Content::Restored(Restored::Put {
                sequence,
                key,
                item: ItemId::from(&*item),
                value: Text::from(fields.rest()?),
                time,
                marks,
            })
        }
        Kind::Remove => {
            let (key, item) = (fields.key()?, ItemId::from(&*fields.name()?));
            Content::Restored(Restored::Remove {
                sequence,
                key,
                item,
                time,
            })
        }
        Kind::Piece => {
            let piece = fields.piece(time)?;
            Content::Restored(Restored::Piece { sequence, piece })
        }
        Kind::Time => Content::Time(time),
        Kind::Synced => Content::Synced(time),
        Kind::End => Content::End {
            pieces: sequence,
            time,
        },
    };
    fields.0.is_empty().then_some(content)
}

/// Bytes taken from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let bytes = self.take(8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// A name with its length before it.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let len = self.u32()? as usize;
        with_nul(self.take(len)?)
    }

    fn text_of(&mut self, len: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(len)?).ok()
    }

    fn rest(&mut self) -> Option<&'a str> {
        self.text_of(self.0.len())
    }

    fn key(&mut self) -> Option<GroupKey> {
        let stream_len = self.u32()? as usize;
        GroupKey::of_joined(&self.name()?, stream_len)
    }

    fn piece(&mut self, time: u64) -> Option<Piece> {
        let (key, flags, len) = (self.key()?, self.u8()?, self.u32()? as usize);
        // A length that lies is found when the items end.
        let mut items = Vec::with_capacity(len.min(self.0.len() / 8));
        for _ in 0..len {
            let (name_len, value_len) = (self.u32()? as usize, self.u32()? as usize);
            let name = Box::from(&*with_nul(self.take(name_len)?)?);
            items.push((name, Text::from(self.text_of(value_len)?)));
        }
        Some(Piece {
            key,
            time,
            is_first: flags & 1 != 0,
            is_unnamed: flags & 2 != 0,
            items,
            marked: if flags & 4 != 0 {
                self.marked()?
            } else {
                Vec::new()
            },
        })
    }

    fn marked(&mut self) -> Option<Vec<Marked>> {
        let len = self.u32()? as usize;
        let mut marked = Vec::with_capacity(len.min(self.0.len() / 5));
        for _ in 0..len {
            let at = self.u32()?;
            let (Marks { ttl, is_member }, ends_ms) = self.marks()?;
            marked.push(Marked {
                at,
                ttl,
                ends_ms,
                is_member,
            });
        }
        Some(marked)
    }

    /// What was said of an item, and when it ends.
    fn marks(&mut self) -> Option<(Marks, Option<u64>)> {
        let flags = self.u8()?;
        let ttl = match flags & 1 {
            0 => None,
            _ => Some(Ttl::of_bits(self.u32()?)),
        };
        let ends_ms = match flags & 2 {
            0 => None,
            _ => Some(self.u64()?),
        };
        let is_member = flags & 4 != 0;
        (flags < 8).then_some((Marks { ttl, is_member }, ends_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> GroupKey {
        GroupKey::new("a:b", "c")
    }

    #[test]
    fn a_write_is_read_back_with_its_marks() {
        for ttl in [None, Some(Ttl::NEVER), Ttl::of_ms(60_000)] {
            let is_member = ttl.is_some();
            let (mut bytes, marks) = (Vec::new(), Marks { ttl, is_member });
            let put = Write {
                key: &key(),
                item: "é",
                value: Some("{\"x\":1}"),
                time: 77,
                marks,
            };
            write(&mut bytes, 5, put, true);
            let payload = &bytes[Frame::BYTES..];
            assert_eq!(place_of(payload), Some((5, true)));
            let Some(Content::Restored(Restored::Put {
                sequence: 5,
                key: found,
                item,
                value,
                time: 77,
                marks: found_marks,
            })) = decode(payload)
            else {
                unreachable!("a put is read as one")
            };
            assert_eq!((found, &*item, &*value), (key(), "é", "{\"x\":1}"));
            assert_eq!(found_marks, marks);
        }
    }

    #[test]
    fn what_has_no_marks_is_written_as_it_was_before_there_were_any() {
        let mut bytes = Vec::new();
        let put = Write {
            key: &GroupKey::new("s", "g"),
            item: "i",
            value: Some("1"),
            time: 7,
            marks: Marks::default(),
        };
        write(&mut bytes, 5, put, true);
        let payload =
            b"\x05\0\0\0\0\0\0\0\x81\x07\0\0\0\0\0\0\0\x01\0\0\0\x03\0\0\0s:g\x01\0\0\0i1";
        assert_eq!(&bytes[Frame::BYTES..], payload);
    }

    #[test]
    fn a_piece_is_read_back() {
        let marked = |at, ttl, ends_ms| Marked {
            at,
            ttl,
            ends_ms,
            is_member: at == 1,
        };
        let all = vec![
            marked(0, Some(Ttl::NEVER), None),
            marked(1, Ttl::of_ms(60_000), Some(u64::MAX)),
        ];
        for marked in [Vec::new(), all] {
            let expected = Piece {
                key: key(),
                time: 9,
                is_first: true,
                is_unnamed: true,
                items: vec![("".into(), "1".into()), ("b".into(), "\"\"".into())],
                marked,
            };
            let mut out = Vec::new();
            piece(&mut out, 3, &expected);
            let Some(Content::Restored(Restored::Piece { sequence: 3, piece })) =
                decode(&out[Frame::BYTES..])
            else {
                unreachable!("a piece is read as one")
            };
            assert_eq!(piece, expected);
        }
    }
}
