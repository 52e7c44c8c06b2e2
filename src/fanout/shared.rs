//! What the places of a cohort lack, in one piece: laid out once, written to each socket that follows the
//! whole group and nothing else.
//!
//! May not know the sweep.

use std::io::IoSlice;
use std::sync::Arc;

use crate::id::LocalGroupId;

use super::budget::Budget;
use super::list::List;
use super::place::Place;
use super::reader::Reader;
use super::socket::{Socket, Written};
use super::views::View;

/// What one piece may have at most; more is written in several.
const PIECE_BYTES_MAX: usize = 256 * 1024;

/// Frames that are kept by item, as they are for most.
#[derive(Default)]
pub(super) struct SharedPiece {
    /// Whose it is.
    of: Option<LocalGroupId>,
    bytes: Vec<u8>,
    frames: u64,
    /// The numbers that it covers.
    from: u64,
    to: u64,
    /// Views to which it is something else, sorted.
    except: Vec<View>,
}

impl SharedPiece {
    /// That cohort is written to: a piece of another one goes. It serves for as many turns as that takes.
    pub(super) fn serve(&mut self, local: LocalGroupId) {
        if self.of != Some(local) {
            self.clear();
            self.of = Some(local);
        }
    }

    /// What is kept by item for that group has changed.
    pub(super) fn forget(&mut self, local: LocalGroupId) {
        if self.of == Some(local) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.of = None;
        self.bytes.clear();
        self.bytes.shrink_to(PIECE_BYTES_MAX);
        self.except.clear();
        (self.from, self.to, self.frames) = (0, 0, 0);
    }

    /// Lays out what is from that number on and before `end`, as far as one piece reaches. Nobody may have
    /// frames there that are not kept by item.
    fn lay_out(&mut self, list: &List, from: u64, end: u64) {
        if self.from == from && self.to > from {
            return;
        }
        let of = self.of;
        self.clear();
        (self.of, self.from, self.to) = (of, from, end);
        let mut number = from;
        while let Some(found) = list.first_from(number).filter(|found| found.number < end) {
            let kind = found.kind_for_most();
            if let Some(kind) = kind {
                if !self.bytes.is_empty()
                    && self.bytes.len() + found.frame.wire().len() > PIECE_BYTES_MAX
                {
                    self.to = found.number;
                    break;
                }
                let pieces = found.frame.wire_as(kind);
                pieces
                    .iter()
                    .for_each(|piece| self.bytes.extend_from_slice(piece));
                self.frames += 1;
            }
            self.except.extend_from_slice(found.except());
            number = found.number + 1;
        }
        self.except.sort_unstable();
        self.except.dedup();
    }

    /// Writes to a socket with that place, and nothing else to be sent, what is before `end`; `None`: some
    /// of it is something else to that socket.
    pub(super) fn write<S: Socket>(
        &mut self,
        (place, list): (&mut Place, &List),
        end: u64,
        reader: &mut Reader,
        socket: &mut S,
        budget: &mut Budget,
    ) -> Option<Written> {
        while place.next < end {
            self.lay_out(list, place.next, end);
            let view = View::of_group(place.connection.slot);
            if self.except.binary_search(&view).is_ok() {
                return None;
            }
            if self.bytes.is_empty() {
                place.next = self.to;
                continue;
            }
            let written = socket.write(&[IoSlice::new(&self.bytes)]);
            budget.written(self.bytes.len());
            budget.tally.note_write(self.bytes.len(), written);
            match written {
                Written::All => {
                    budget.tally.deliveries += self.frames;
                    place.next = self.to;
                    if budget.is_spent() {
                        return Some(written);
                    }
                }
                Written::Part(taken) => {
                    reader.block();
                    budget.tally.deliveries += pass(place, list, taken, reader);
                    return Some(written);
                }
                Written::Gone => {
                    reader.block();
                    return Some(written);
                }
            }
        }
        Some(Written::All)
    }
}

/// The socket took so many bytes of the frames from its place on. Gives how many frames that is, the last
/// one perhaps in part: its rest is queued.
fn pass(place: &mut Place, list: &List, mut taken: usize, reader: &mut Reader) -> u64 {
    let mut delivered = 0;
    while taken > 0
        && let Some(found) = list.first_from(place.next)
    {
        if let Some(kind) = found.kind_for_most() {
            let len = found.frame.wire().len();
            if taken < len {
                reader.push_rest(Arc::clone(found.frame), kind, taken);
            }
            taken = taken.saturating_sub(len);
            delivered += 1;
        }
        place.next = found.number + 1;
    }
    delivered
}
