//! How the records of a log and a snapshot are written, with length and checksum.
//!
//! Pure: bytes in, values out. May not know a file, or which record may follow which.
//!
//! ```text
//! record  payload's length 4 · CRC32C of length and payload 4 · payload
//! payload sequence 8 · kind 1 · time, or a number, 8 · what the kind needs
//! ```
//! Integers are little-endian, texts UTF-8.

use std::borrow::Cow;

use crate::id::{GroupKey, ItemId, Text};
use crate::shard::{Piece, Restored};

/// Length and checksum.
const FRAME_BYTES: usize = 8;
/// Sequence number, kind and time.
const PAYLOAD_BYTES_MIN: usize = 17;
/// Far above every sequence number there will ever be: texts never look like less.
pub(super) const SEQUENCE_MAX: u64 = 1 << 56;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const TIME: u8 = 3;
const PIECE: u8 = 4;
const END: u8 = 5;
const SYNCED: u8 = 6;
/// U+0000 in a name.
const NUL: [u8; 2] = [0xc0, 0x80];
/// Set in the kind of the last record of a batch: without it the batch was never accepted.
const LAST: u8 = 0x80;

/// A write that the owner has decided, for the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) key: &'a GroupKey,
    pub(super) item: &'a str,
    /// `None`: the item goes.
    pub(super) value: Option<&'a str>,
    pub(super) time: u64,
}

/// Appends a write; `is_last` of its batch.
pub(super) fn write(out: &mut Vec<u8>, sequence: u64, write: Write<'_>, is_last: bool) {
    let kind = if write.value.is_some() { PUT } else { REMOVE };
    frame(out, |out| {
        prefix(out, sequence, kind | last(is_last), write.time);
        put_key(out, write.key);
        put_name(out, write.item);
        out.extend_from_slice(write.value.unwrap_or_default().as_bytes());
    });
}

/// Appends a time that was given out: none up to it is given out again.
pub(super) fn time(out: &mut Vec<u8>, sequence: u64, time: u64, is_last: bool) {
    frame(out, |out| prefix(out, sequence, TIME | last(is_last), time));
}

/// Appends that all records up to number `to` are on the disk.
pub(super) fn synced(out: &mut Vec<u8>, sequence: u64, to: u64, is_last: bool) {
    frame(out, |out| prefix(out, sequence, SYNCED | last(is_last), to));
}

/// Appends a piece of a snapshot; `sequence` is that of the last write that is in it.
pub(super) fn piece(out: &mut Vec<u8>, sequence: u64, piece: &Piece) {
    frame(out, |out| {
        prefix(out, sequence, PIECE, piece.time);
        put_key(out, &piece.key);
        out.push(u8::from(piece.is_first) | u8::from(piece.is_unnamed) << 1);
        put_len(out, piece.items.len());
        for (name, value) in &piece.items {
            let name = without_nul(name);
            put_len(out, name.len());
            put_len(out, value.len());
            out.extend_from_slice(&name);
            out.extend_from_slice(value.as_bytes());
        }
    });
}

/// Appends the end of a snapshot: how many pieces it has, and the highest time of groups that had
/// no items.
pub(super) fn end(out: &mut Vec<u8>, pieces: u64, time: u64) {
    frame(out, |out| prefix(out, pieces, END, time));
}

fn last(is_last: bool) -> u8 {
    if is_last { LAST } else { 0 }
}

fn frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    payload(out);
    let len = (out.len() - start - FRAME_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let sum = sum(len, &out[start + FRAME_BYTES..]);
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

fn sum(len: u32, payload: &[u8]) -> u32 {
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
        sum(self.len, payload) == self.sum
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

/// `None`: it has the right checksum and is no record all the same.
pub(super) fn decode(payload: &[u8]) -> Option<Content> {
    let mut fields = Fields(payload);
    let (sequence, kind, time) = (fields.u64()?, fields.u8()?, fields.u64()?);
    let content = match kind & !LAST {
        PUT => {
            let (key, item) = (fields.key()?, fields.name()?);
            Content::Restored(Restored::Put {
                sequence,
                key,
                item: ItemId::from(&*item),
                value: Text::from(fields.rest()?),
                time,
            })
        }
        REMOVE => {
            let (key, item) = (fields.key()?, ItemId::from(&*fields.name()?));
            Content::Restored(Restored::Remove {
                sequence,
                key,
                item,
                time,
            })
        }
        PIECE => {
            let piece = fields.piece(time)?;
            Content::Restored(Restored::Piece { sequence, piece })
        }
        TIME => Content::Time(time),
        SYNCED => Content::Synced(time),
        END => Content::End {
            pieces: sequence,
            time,
        },
        _ => return None,
    };
    fields.0.is_empty().then_some(content)
}

/// What a search for a record has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// A whole one begins there.
    Found(usize),
    /// None begins before `start`. Whether one begins there, so many bytes from there on will say.
    Needs { start: usize, bytes: usize },
    /// None begins anywhere.
    Nothing,
}

/// Looks for the first whole record in `part`, whatever stands before it. Its sequence number is above
/// `after`. `part` is the beginning of `left` bytes.
pub(super) fn find(part: &[u8], left: u64, after: u64) -> Looked {
    for start in 0..part.len() {
        let rest = &part[start..];
        let left = left - start as u64;
        let Some((frame, behind)) = rest.split_first_chunk() else {
            return needs(start, FRAME_BYTES + PAYLOAD_BYTES_MIN, left);
        };
        let frame = Frame::decode(*frame);
        let Some(len) = frame.payload_bytes(left - FRAME_BYTES as u64) else {
            continue;
        };
        if behind.len() < PAYLOAD_BYTES_MIN {
            return needs(start, FRAME_BYTES + PAYLOAD_BYTES_MIN, left);
        }
        if !is_likely(behind, after) {
            continue;
        }
        let Some(payload) = behind.get(..len) else {
            return needs(start, FRAME_BYTES + len, left);
        };
        if frame.is_of(payload) && decode(payload).is_some() {
            return Looked::Found(start);
        }
    }
    needs(
        part.len(),
        FRAME_BYTES + PAYLOAD_BYTES_MIN,
        left - part.len() as u64,
    )
}

fn needs(start: usize, bytes: usize, left: u64) -> Looked {
    match bytes as u64 <= left {
        true => Looked::Needs { start, bytes },
        false => Looked::Nothing,
    }
}

/// Whether a payload may begin so: what is no record seldom does.
fn is_likely(payload: &[u8], after: u64) -> bool {
    let mut fields = Fields(payload);
    let begins = (fields.u64(), fields.u8());
    matches!(begins, (Some(sequence), Some(kind))
        if (after + 1..SEQUENCE_MAX).contains(&sequence) && (PUT..=SYNCED).contains(&(kind & !LAST)))
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(bytes: &[u8], after: u64) -> Option<usize> {
        match find(bytes, bytes.len() as u64, after) {
            Looked::Found(start) => Some(start),
            Looked::Nothing => None,
            Looked::Needs { .. } => unreachable!("all is there"),
        }
    }

    fn key() -> GroupKey {
        GroupKey::new("a:b", "c")
    }

    fn put(sequence: u64, is_last: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let (key, value) = (key(), Some("{\"x\":1}"));
        let item = "é";
        let put = Write {
            key: &key,
            item,
            value,
            time: 77,
        };
        write(&mut out, sequence, put, is_last);
        out
    }

    #[test]
    fn a_write_is_read_back_and_no_changed_bit_passes() {
        let bytes = put(5, true);
        assert_eq!(find_in(&bytes, 4), Some(0));
        assert_eq!(find_in(&bytes, 5), None, "not above what is known");
        let payload = &bytes[Frame::BYTES..];
        assert_eq!(place_of(payload), Some((5, true)));
        let Some(Content::Restored(Restored::Put {
            sequence: 5,
            key: found,
            item,
            value,
            time: 77,
        })) = decode(payload)
        else {
            unreachable!("a put is read as one")
        };
        assert_eq!((found, &*item, &*value), (key(), "é", "{\"x\":1}"));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(find_in(&changed, 4), None, "bit {bit}");
        }
    }

    #[test]
    fn a_piece_is_read_back() {
        let expected = Piece {
            key: key(),
            time: 9,
            is_first: true,
            is_unnamed: true,
            items: vec![("".into(), "1".into()), ("b".into(), "\"\"".into())],
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

    #[test]
    fn a_record_is_found_behind_anything() {
        let mut bytes = b"{\"rubbish\": 1}".to_vec();
        let behind = bytes.len();
        bytes.extend_from_slice(&put(900, false));
        assert_eq!(find_in(&bytes, 0), Some(behind));
        bytes.pop();
        assert_eq!(find_in(&bytes, 0), None);
    }

    /// In a part of a file, more is asked for until it is found.
    #[test]
    fn a_record_is_found_whatever_is_read_at_a_time() {
        let mut bytes = b"{\"rubbish\": 1}".to_vec();
        let behind = bytes.len();
        bytes.extend_from_slice(&put(900, false));
        for step in 1..bytes.len() {
            let (mut at, mut end) = (0, step);
            let found = loop {
                match find(&bytes[at..end], (bytes.len() - at) as u64, 0) {
                    Looked::Found(start) => break at + start,
                    Looked::Needs { start, bytes: more } => {
                        assert!(at + start + more <= bytes.len() && at + start + more > end);
                        at += start;
                        end = (at + more).max(end);
                    }
                    Looked::Nothing => unreachable!("it is there"),
                }
            };
            assert_eq!(found, behind, "{step} bytes at first");
        }
    }
}
