//! A whole record, looked for behind what is none: behind damage, or behind what a loss of power left.
//!
//! Pure: bytes in, places out. May not know a file.

use super::record::{self, Frame, PAYLOAD_BYTES_MIN, SEQUENCE_MAX};

/// No record is shorter.
const RECORD_BYTES_MIN: usize = Frame::BYTES + PAYLOAD_BYTES_MIN;

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
            return needs(start, RECORD_BYTES_MIN, left);
        };
        let frame = Frame::decode(*frame);
        let Some(len) = frame.payload_bytes(left - Frame::BYTES as u64) else {
            continue;
        };
        if behind.len() < PAYLOAD_BYTES_MIN {
            return needs(start, RECORD_BYTES_MIN, left);
        }
        if !is_likely(behind, after) {
            continue;
        }
        let Some(payload) = behind.get(..len) else {
            return needs(start, Frame::BYTES + len, left);
        };
        if frame.is_of(payload) && record::decode(payload).is_some() {
            return Looked::Found(start);
        }
    }
    needs(part.len(), RECORD_BYTES_MIN, left - part.len() as u64)
}

/// More bytes from `start` on, if there are so many.
fn needs(start: usize, bytes: usize, left: u64) -> Looked {
    match bytes as u64 <= left {
        true => Looked::Needs { start, bytes },
        false => Looked::Nothing,
    }
}

/// Whether a payload may begin so: what is no record seldom does.
fn is_likely(payload: &[u8], after: u64) -> bool {
    record::begins(payload)
        .is_some_and(|(sequence, _)| (after + 1..SEQUENCE_MAX).contains(&sequence))
}

#[cfg(test)]
mod tests {
    use super::super::record::Write;
    use super::*;
    use crate::id::GroupKey;

    fn find_in(bytes: &[u8], after: u64) -> Option<usize> {
        match find(bytes, bytes.len() as u64, after) {
            Looked::Found(start) => Some(start),
            Looked::Nothing => None,
            Looked::Needs { .. } => unreachable!("all is there"),
        }
    }

    fn put(sequence: u64, is_last: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let put = Write {
            key: &GroupKey::new("a:b", "c"),
            item: "é",
            value: Some("{\"x\":1}"),
            time: 77,
            marks: Default::default(),
        };
        record::write(&mut out, sequence, put, is_last);
        out
    }

    #[test]
    fn a_record_with_a_higher_number_is_found_and_none_with_a_changed_bit() {
        let bytes = put(5, true);
        assert_eq!(find_in(&bytes, 4), Some(0));
        assert_eq!(find_in(&bytes, 5), None, "not above what is known");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(find_in(&changed, 4), None, "bit {bit}");
        }
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
