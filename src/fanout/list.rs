//! A group's last frames on one worker, from the oldest that a reader may still lack.
//!
//! A frame leaves when the slowest place has passed it. Those that only readers far behind lack are kept
//! apart, every item once. May not know who reads.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::ItemId;
use crate::protocol::frame::EventFrame;

use super::kept::{Found, KeptFrames, Rules};
use super::views::Standpoints;

/// Frames by number. Numbers rise by one a frame and are never used twice in a group's entry.
#[derive(Default)]
pub(super) struct List {
    frames: VecDeque<Entry>,
    /// Number of the first frame in `frames`.
    first: u64,
    /// Bytes of all frames that ever stood here: where the next one begins.
    offset: u64,
    /// What readers far behind lack of the frames before the first; `None`: there are none.
    kept: Option<Box<KeptFrames>>,
    /// How many bytes had come when frames were last moved there.
    kept_at: u64,
    /// All places have passed those before.
    passed: u64,
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

    /// One that nobody is too far behind for.
    pub(super) fn frame(&self, number: u64) -> Option<&Arc<EventFrame>> {
        let index = number.checked_sub(self.first)?;
        self.frames.get(index as usize).map(|entry| &entry.frame)
    }

    /// Any one.
    pub(super) fn frame_at(&self, number: u64) -> Option<&Arc<EventFrame>> {
        match &self.kept {
            Some(kept) if number < self.first => kept.frame_at(number),
            _ => self.frame(number),
        }
    }

    /// The first frame at that number or behind it.
    pub(super) fn first_from(&self, number: u64) -> Option<Found<'_>> {
        if number < self.first
            && let Some(kept) = &self.kept
            && let Some(found) = kept.first_from(number)
        {
            return Some(found);
        }
        let number = number.max(self.first);
        Some(Found::recent(number, self.frame(number)?))
    }

    /// Whether who stands there is so far behind that every item comes once.
    pub(super) fn is_past(&self, number: u64) -> bool {
        number < self.first
    }

    /// From that number on, the first that is no change of an item, or that nobody is too far behind for.
    pub(super) fn custom_from(&self, number: u64) -> u64 {
        let custom = self.kept.as_ref().and_then(|kept| kept.custom_from(number));
        custom.unwrap_or(self.first).max(number)
    }

    /// The same of one that is of that item.
    pub(super) fn item_from(&self, item: &ItemId, number: u64) -> u64 {
        let kept = self.kept.as_ref();
        let found = kept.and_then(|kept| kept.item_from(item, number));
        found.unwrap_or(self.first).max(number)
    }

    /// How many numbers a place has passed of frames that nobody is too far behind for, and a part of
    /// the others.
    pub(super) fn passed(&self, from: u64, to: u64) -> u64 {
        const PAST_MOST: u64 = 64;
        let past = to.min(self.first).saturating_sub(from);
        let recent = to.saturating_sub(from.max(self.first));
        past.min(PAST_MOST) + recent
    }

    /// The number of the first frame that somebody not far behind may lack.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Moves the first frame to those that readers far behind lack, and gives by how much a `sync` of
    /// the group grew with it; `None` when `before` is the first.
    pub(super) fn keep_first(
        &mut self,
        before: u64,
        standpoints: &Standpoints,
        rules: &Rules<'_>,
    ) -> Option<isize> {
        if self.first >= before {
            self.kept_at = self.offset;
            return None;
        }
        let Entry { frame, .. } = self.frames.pop_front()?;
        let kept = self.kept.get_or_insert_default();
        let grown = kept.keep(self.first, frame, standpoints, rules);
        self.first += 1;
        Some(grown)
    }

    /// Bytes that have come since frames were last moved so.
    pub(super) fn bytes_since_kept(&self) -> usize {
        (self.offset - self.kept_at) as usize
    }

    /// All bytes that ever came.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of custom events among those that readers far behind lack.
    pub(super) fn custom_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.custom_bytes())
    }

    /// Frames have been moved so: gives the custom events that somebody has lost since this was last asked.
    pub(super) fn end_keeping(&mut self) -> u64 {
        let dropped = self.kept.as_mut().map_or(0, |kept| kept.take_dropped());
        self.kept.take_if(|kept| kept.is_empty());
        dropped
    }

    /// What only readers far behind lack, all of it.
    pub(super) fn take_kept(&mut self) -> Option<Box<KeptFrames>> {
        self.kept.take()
    }

    /// Bytes from that frame to the end.
    pub(super) fn bytes_from(&self, number: u64) -> usize {
        if number < self.first
            && let Some(kept) = &self.kept
        {
            return kept.bytes_from(number) + self.recent_bytes();
        }
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

    fn recent_bytes(&self) -> usize {
        self.bytes_from(self.first)
    }

    /// Bytes of the frames that are here.
    pub(super) fn held_bytes(&self) -> usize {
        let kept = self.kept.as_ref();
        kept.map_or(0, |kept| kept.held_bytes()) + self.recent_bytes()
    }

    /// Whether no frame from that number on is gone but those that are superseded.
    pub(super) fn holds_from(&self, number: u64) -> bool {
        (self.passed..=self.end()).contains(&number)
    }

    pub(super) fn check_invariants(&self) {
        if let Some(kept) = &self.kept {
            kept.check_invariants();
            debug_assert!(!kept.is_empty());
        }
        let mut offset = self.offset;
        for entry in self.frames.iter().rev() {
            offset -= entry.frame.wire().len() as u64;
            debug_assert_eq!(entry.offset, offset);
        }
    }

    /// The frames before that number go: every place has passed them. Of those kept apart so many at
    /// most; false when there are more.
    pub(super) fn forget_before(&mut self, number: u64, most: usize) -> bool {
        self.passed = self.passed.max(number);
        if let Some(kept) = &mut self.kept {
            let is_done = kept.forget_before(number, most);
            if kept.is_empty() {
                self.kept = None;
            }
            if !is_done || number < self.first {
                return is_done;
            }
        }
        let passed = number
            .saturating_sub(self.first)
            .min(self.frames.len() as u64);
        self.frames.drain(..passed as usize);
        self.first += passed;
        if self.frames.is_empty() && self.frames.capacity() > 64 {
            self.frames = VecDeque::new();
        }
        true
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
