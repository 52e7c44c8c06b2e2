//! What the subscribers of one group were sent, byte for byte, as the first of them read it.
//!
//! Pure. All subscribers of a group get the same bytes, so one of them reads and checks a frame whole
//! and the others are compared with it: many frames at a time, however they were cut on the way. May
//! not know sockets, other groups, or what is right.

use std::collections::VecDeque;
use std::ops::Range;

use crate::check::model::Model;
use crate::event::Kind;

/// Bytes that all have passed stay until there are so many, for moving the others costs.
const PASSED_BYTES_MAX: usize = 256 * 1024;

/// One change as all must have heard it. Its number is its sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) at_ms: u64,
    pub(crate) item: u32,
    pub(crate) sent_ns: u64,
}

struct Frame {
    /// Where it ends among all bytes that ever were here.
    end: u64,
    change: Change,
}

/// How far one subscriber is: before which frame, and how many bytes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) frame: u32,
    begun: u32,
}

/// The frames of one group from the first that somebody still has to hear.
#[derive(Default)]
pub(crate) struct Transcript {
    /// The list that the first `sync` held.
    sync: Option<Box<[u8]>>,
    bytes: Vec<u8>,
    /// Where `bytes` begins, and the first frame in it, among all that ever were here.
    dropped: u64,
    start: u64,
    first: u32,
    frames: VecDeque<Frame>,
    /// How many subscribers stand before each frame; the last count is of those who have all.
    standing: VecDeque<u32>,
    /// What a client shows that has heard all before the first frame, and the last time in it.
    model: Model,
    passed_ms: u64,
}

impl Transcript {
    /// A subscriber has its `sync`, and nothing was published before. False: others were sent another
    /// list.
    pub(crate) fn join(
        &mut self,
        at_ms: u64,
        values: &[u8],
        items: impl Iterator<Item = (u32, u32)>,
    ) -> bool {
        if self.standing.is_empty() {
            self.standing.push_back(0);
        }
        self.standing[0] += 1;
        match &self.sync {
            Some(sync) => **sync == *values,
            None => {
                self.sync = Some(values.into());
                self.model.sync(at_ms, items);
                true
            }
        }
    }

    /// How many frames there have been.
    pub(crate) fn len(&self) -> u32 {
        self.first + self.frames.len() as u32
    }

    /// The time of the frame before `frame`; 0 where there is none.
    pub(crate) fn time_before(&self, frame: u32) -> u64 {
        match frame.saturating_sub(self.first) {
            0 => self.passed_ms,
            ahead => self.frames[ahead as usize - 1].change.at_ms,
        }
    }

    /// The change of a frame that somebody still had to hear.
    pub(crate) fn change(&self, frame: u32) -> Option<&Change> {
        let index = frame.checked_sub(self.first)?;
        Some(&self.frames.get(index as usize)?.change)
    }

    /// The bytes of such a frame, header and all.
    pub(crate) fn frame(&self, frame: u32) -> Option<&[u8]> {
        let range = self.range(frame)?;
        Some(&self.bytes[range])
    }

    fn range(&self, frame: u32) -> Option<Range<usize>> {
        let index = frame.checked_sub(self.first)? as usize;
        let end = self.frames.get(index)?.end;
        Some((self.begin(index) - self.dropped) as usize..(end - self.dropped) as usize)
    }

    /// Where frame `index` of those that are here begins.
    fn begin(&self, index: usize) -> u64 {
        match index.checked_sub(1) {
            Some(before) => self.frames[before].end,
            None => self.start,
        }
    }

    /// Appends the frame that somebody who has all others was sent next.
    pub(crate) fn append(&mut self, frame: &[u8], change: Change) {
        self.bytes.extend_from_slice(frame);
        self.frames.push_back(Frame {
            end: self.dropped + self.bytes.len() as u64,
            change,
        });
        self.standing.push_back(0);
    }

    /// Compares `bytes` with what comes next at `place`. How many of them are so, up to all that is
    /// known: these are passed. 0 where one of them differs.
    pub(crate) fn follow(&mut self, place: &mut Place, bytes: &[u8]) -> usize {
        let mut index = (place.frame - self.first) as usize;
        let from = self.begin(index) + u64::from(place.begun);
        let known = &self.bytes[(from - self.dropped) as usize..];
        let same = known.len().min(bytes.len());
        if known[..same] != bytes[..same] {
            return 0;
        }
        let to = from + same as u64;
        let before = index;
        while self.frames.get(index).is_some_and(|frame| frame.end <= to) {
            index += 1;
        }
        place.frame = self.first + index as u32;
        place.begun = (to - self.begin(index)) as u32;
        self.moved(before, index);
        same
    }

    /// The bytes of the frame at `place` that were passed already. They are not passed any more: who
    /// asks reads the frame by itself.
    pub(crate) fn take_begun(&self, place: &mut Place, into: &mut Vec<u8>) {
        let begun = std::mem::take(&mut place.begun) as usize;
        if let Some(frame) = self.frame(place.frame) {
            into.extend_from_slice(&frame[..begun]);
        }
    }

    /// Passes the whole frame at `place`.
    pub(crate) fn pass(&mut self, place: &mut Place) {
        let index = (place.frame - self.first) as usize;
        place.frame += 1;
        self.moved(index, index + 1);
    }

    /// A subscriber at `place` hears otherwise from now on.
    pub(crate) fn leave(&mut self, place: Place) {
        self.standing[(place.frame - self.first) as usize] -= 1;
    }

    fn moved(&mut self, from: usize, to: usize) {
        if from != to {
            self.standing[from] -= 1;
            self.standing[to] += 1;
        }
    }

    /// Lets the frames go that all have heard. Until then who has passed some can look at them.
    #[inline]
    pub(crate) fn let_go(&mut self) {
        while self.standing[0] == 0
            && let Some(frame) = self.frames.pop_front()
        {
            self.standing.pop_front();
            show(&mut self.model, self.first, &frame.change);
            self.first += 1;
            self.start = frame.end;
            self.passed_ms = frame.change.at_ms;
        }
        let passed = (self.start - self.dropped) as usize;
        if passed > PASSED_BYTES_MAX && passed > self.bytes.len() / 2 {
            self.bytes.drain(..passed);
            self.dropped = self.start;
        }
    }

    /// What a client shows that has heard all before `frame`.
    pub(crate) fn model_before(&self, frame: u32) -> Model {
        let mut model = self.model.clone();
        for (number, heard) in (self.first..frame).zip(&self.frames) {
            show(&mut model, number, &heard.change);
        }
        model
    }
}

/// Shows one change as a client does.
pub(crate) fn show(model: &mut Model, sequence: u32, change: &Change) {
    match change.kind {
        Kind::Create => model.create(change.item, sequence),
        Kind::Update => model.update(change.at_ms, change.item, sequence),
        Kind::Delete => model.delete(change.at_ms, change.item),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(sequence: u32) -> Change {
        Change {
            kind: Kind::Update,
            at_ms: u64::from(sequence) + 1,
            item: 0,
            sent_ns: 0,
        }
    }

    fn frame(sequence: u32) -> Vec<u8> {
        let len = 3 + sequence as usize % 5;
        (0..len)
            .map(|at| (sequence as usize * 7 + at) as u8)
            .collect()
    }

    /// A group of `followers` that hold item 0.
    fn transcript(followers: usize) -> Transcript {
        let mut transcript = Transcript::default();
        for _ in 0..followers {
            assert!(transcript.join(0, b"[]", [(0, u32::MAX)].into_iter()));
        }
        transcript
    }

    #[test]
    fn others_are_compared_however_the_bytes_are_cut() {
        let whole: Vec<u8> = (0..40).flat_map(frame).collect();
        for cut in 1..whole.len() {
            let mut transcript = transcript(2);
            let mut first = Place::default();
            for sequence in 0..40 {
                transcript.append(&frame(sequence), change(sequence));
                transcript.pass(&mut first);
            }
            let mut second = Place::default();
            assert_eq!(transcript.follow(&mut second, &whole[..cut]), cut);
            let mut begun = Vec::new();
            let mut copy = second;
            transcript.take_begun(&mut copy, &mut begun);
            assert!(whole[..cut].ends_with(&begun));
            assert_eq!(copy.begun, 0);
            let mut altered = whole[cut..].to_vec();
            altered[0] ^= 4;
            let before = second;
            assert_eq!(transcript.follow(&mut second, &altered), 0);
            assert_eq!(second, before);
            let left = whole.len() - cut;
            assert_eq!(transcript.follow(&mut second, &whole[cut..]), left);
            assert_eq!(second, first);
        }
    }

    #[test]
    fn what_all_have_passed_goes_and_the_model_has_it() {
        let mut transcript = transcript(2);
        let mut places = [Place::default(); 2];
        let rounds = 4 * PASSED_BYTES_MAX as u32 / 4;
        for sequence in 0..rounds {
            transcript.append(&frame(sequence), change(sequence));
            transcript.pass(&mut places[0]);
            let took = transcript.follow(&mut places[1], &frame(sequence));
            assert_eq!(took, frame(sequence).len());
            assert!(transcript.change(sequence).is_some());
            transcript.let_go();
        }
        assert!(transcript.bytes.len() <= 2 * PASSED_BYTES_MAX);
        assert!(transcript.frames.is_empty());
        assert_eq!(transcript.len(), rounds);
        let shown = |frame| transcript.model_before(frame).shown(0);
        assert_eq!(shown(rounds), Some(rounds - 1));
        assert_eq!(transcript.change(0).map(|change| change.at_ms), None);
    }

    #[test]
    fn one_that_leaves_holds_nothing_back() {
        let mut transcript = transcript(2);
        let mut place = Place::default();
        for sequence in 0..10 {
            transcript.append(&frame(sequence), change(sequence));
            transcript.pass(&mut place);
        }
        assert_eq!(transcript.frames.len(), 10);
        assert_eq!(transcript.model_before(4).shown(0), Some(3));
        assert_eq!(transcript.time_before(4), 4);
        transcript.leave(Place::default());
        transcript.let_go();
        assert!(transcript.frames.is_empty());
        assert_eq!((transcript.time_before(10), transcript.len()), (10, 10));
    }

    #[test]
    fn another_list_than_the_first_is_told() {
        let mut transcript = transcript(1);
        assert!(transcript.join(1, b"[]", std::iter::empty()));
        assert!(!transcript.join(1, b"[1]", std::iter::empty()));
    }
}
