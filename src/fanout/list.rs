//! A group's last frames on one worker, from the oldest that a reader may still lack.
//!
//! A frame leaves when the slowest place has passed it. May not know who reads.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::frame::EventFrame;

/// Frames by number. Numbers rise by one a frame and are never used twice in a group's entry.
#[derive(Default)]
pub(super) struct List {
    frames: VecDeque<Entry>,
    /// Number of the first frame in `frames`.
    first: u64,
    /// Bytes of all frames that ever stood here: where the next one begins.
    offset: u64,
}

struct Entry {
    frame: Arc<EventFrame>,
    /// Bytes of all frames before this one.
    offset: u64,
}

impl List {
    /// The number that the next frame will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.frames.len() as u64
    }

    pub(super) fn append(&mut self, frame: Arc<EventFrame>) {
        let offset = self.offset;
        self.offset += frame.wire().len() as u64;
        self.frames.push_back(Entry { frame, offset });
    }

    pub(super) fn frame(&self, number: u64) -> Option<&Arc<EventFrame>> {
        let index = number.checked_sub(self.first)?;
        self.frames.get(index as usize).map(|entry| &entry.frame)
    }

    /// Bytes from that frame to the end.
    pub(super) fn bytes_from(&self, number: u64) -> usize {
        let index = number.saturating_sub(self.first) as usize;
        let begin = self
            .frames
            .get(index)
            .map_or(self.offset, |entry| entry.offset);
        (self.offset - begin) as usize
    }

    /// Bytes of the frames from the one to before the other.
    pub(super) fn bytes_between(&self, from: u64, to: u64) -> usize {
        self.bytes_from(from).saturating_sub(self.bytes_from(to))
    }

    /// Bytes of the frames that are here.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes_from(self.first)
    }

    /// Whether no frame from that number on is gone.
    pub(super) fn holds_from(&self, number: u64) -> bool {
        (self.first..=self.end()).contains(&number)
    }

    pub(super) fn check_invariants(&self) {
        let mut offset = self.offset;
        for entry in self.frames.iter().rev() {
            offset -= entry.frame.wire().len() as u64;
            debug_assert_eq!(entry.offset, offset);
        }
    }

    /// The frames before that number go: every place has passed them.
    pub(super) fn forget_before(&mut self, number: u64) {
        let passed = number
            .saturating_sub(self.first)
            .min(self.frames.len() as u64);
        self.frames.drain(..passed as usize);
        self.first += passed;
        if self.frames.is_empty() && self.frames.capacity() > 64 {
            self.frames = VecDeque::new();
        }
    }
}

/// Frames that many readers lack, in one piece: joined once, written to each.
#[derive(Default)]
pub(super) struct Joined {
    bytes: Vec<u8>,
    /// The frames that `bytes` holds.
    from: u64,
    to: u64,
}

/// What one piece may have at most; a longer list is written in several.
const JOINED_BYTES_MAX: usize = 256 * 1024;

impl Joined {
    /// Forgets what it holds: another group is swept.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(JOINED_BYTES_MAX);
        (self.from, self.to) = (0, 0);
    }

    /// The frames of `list` from number `from` on, as far as one piece reaches, and the number after.
    pub(super) fn frames<'a>(&'a mut self, list: &'a List, from: u64) -> (&'a [u8], u64) {
        let single = list.frame(from).map(|frame| frame.wire());
        if let Some(wire) = single
            && (from + 1 == list.end() || wire.len() >= JOINED_BYTES_MAX)
        {
            return (wire, from + 1);
        }
        if from != self.from || self.to == 0 {
            self.clear();
            (self.from, self.to) = (from, from);
        }
        // A list that grew since the last reader: what came is added at the end.
        while let Some(frame) = list.frame(self.to) {
            let wire = frame.wire();
            if !self.bytes.is_empty() && self.bytes.len() + wire.len() > JOINED_BYTES_MAX {
                break;
            }
            self.bytes.extend_from_slice(wire);
            self.to += 1;
        }
        (&self.bytes, self.to)
    }
}
