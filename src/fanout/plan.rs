//! One vectored write of a socket that has something from several groups: what it takes from where, and how
//! the places move on once it is taken.
//!
//! Writes nothing itself. May not know whose turn it is.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::collections::Named;
use crate::id::{GroupKey, LocalGroupId};
use crate::protocol::frame::{Kind, SyncFrame};

use super::fresh::Choice;
use super::group::LocalGroup;
use super::reader::{MemberAt, Membership, Reader};

/// Pieces of one vectored write.
pub(super) const SLICES_MAX: usize = 64;

/// Where one write has so much, it takes nothing more: others wait for as long as the kernel copies it.
pub(super) const WRITE_BYTES_MAX: usize = 512 * 1024;

/// One vectored write: what it takes from where.
#[derive(Default)]
pub(super) struct Plan {
    /// Memberships in which the socket lacks something.
    lacking: Vec<usize>,
    steps: Vec<Step>,
    /// Empty, between two writes.
    pub(super) slices: Vec<IoSlice<'static>>,
    /// How long a fresh `sync` may be.
    pub(super) syncs_room: usize,
    /// Groups of which a fresh `sync` is to be asked for.
    pub(super) stale: Vec<(GroupKey, LocalGroupId)>,
    /// Fresh `sync`s that the socket is to be sent.
    pub(super) taken: Vec<Arc<SyncFrame>>,
}

/// One frame of the write.
struct Step {
    membership: usize,
    number: u64,
    /// How many frames of the event have been given when this one is.
    copies: u32,
    /// The last frame of the event for this socket.
    is_last: bool,
    /// What the event is to it.
    kind: Kind,
}

impl Plan {
    /// Finds where the socket lacks something, for one write; false when there may be more.
    pub(super) fn look(
        &mut self,
        groups: &mut Named<LocalGroup>,
        due: &mut VecDeque<LocalGroupId>,
        reader: &mut Reader,
    ) -> bool {
        self.lacking.clear();
        let mut number = 0;
        while let Some(membership) = reader.candidate(number) {
            if self.lacking.len() == SLICES_MAX {
                return false;
            }
            if self.holds(groups, reader, membership) {
                number += 1;
                continue;
            }
            let is_lacking = catch_up(groups, due, reader, membership);
            if is_lacking {
                self.lacking.push(membership);
            }
            // A note of one that lacks nothing is gone, and another stands in its place.
            number += usize::from(is_lacking || !reader.goes_by_notes());
        }
        true
    }

    /// Whether the socket waits for a fresh `sync` there; takes one that is here, where that is less.
    fn holds(
        &mut self,
        groups: &mut Named<LocalGroup>,
        reader: &mut Reader,
        membership: usize,
    ) -> bool {
        let Membership { local, at, .. } = reader.memberships[membership];
        let Some(group) = groups.get_mut(local) else {
            return false;
        };
        match group.choose(at, self.syncs_room) {
            Choice::Frames => false,
            Choice::Sync(sync) => {
                reader.wait_for_sync(sync.len());
                self.taken.push(sync);
                false
            }
            Choice::Ask => {
                self.stale.push((group.key.clone(), local));
                true
            }
            Choice::Hold => true,
        }
    }

    /// Lays out the write; false when there is more of what it looked at.
    pub(super) fn fill<'a>(
        &mut self,
        groups: &'a Named<LocalGroup>,
        reader: &'a Reader,
        slices: &mut Vec<IoSlice<'a>>,
    ) -> bool {
        self.steps.clear();
        let mut is_all = reader.plan(slices, SLICES_MAX);
        if !is_all {
            return false;
        }
        for membership in &self.lacking {
            let Membership { local, at, .. } = reader.memberships[*membership];
            let Some(group) = groups.get(local) else {
                continue;
            };
            let Some(place) = group.place(at) else {
                continue;
            };
            let next_sync = place.extra.as_ref().and_then(|extra| extra.next_sync());
            is_all &= next_sync.is_none();
            let end = next_sync.unwrap_or(u64::MAX).min(group.given_end(at));
            let mut number = group.next_of(at);
            let mut copies = place.extra.as_ref().map_or(0, |extra| extra.copies);
            while let Some(given) = place.first_given(&group.list, number, end, copies) {
                let pieces = given.frame.wire_as(given.kind);
                let pieces = pieces.iter().filter(|piece| !piece.is_empty());
                while copies < given.times {
                    if slices.len() + pieces.clone().count() > SLICES_MAX {
                        return false;
                    }
                    slices.extend(pieces.clone().map(|piece| IoSlice::new(piece)));
                    copies += 1;
                    self.steps.push(Step {
                        membership: *membership,
                        number: given.number,
                        copies,
                        is_last: copies == given.times,
                        kind: given.kind,
                    });
                }
                copies = 0;
                number = given.number + 1;
            }
        }
        is_all
    }

    /// The socket took `bytes` of it: places move on, and the rest of a frame goes to the queue. Gives
    /// how many frames of events it has got, the last one perhaps in part.
    pub(super) fn carry_out(
        &self,
        bytes: usize,
        groups: &mut Named<LocalGroup>,
        due: &mut VecDeque<LocalGroupId>,
        reader: &mut Reader,
    ) -> u64 {
        let mut delivered = 0;
        let mut taken = reader.consume(bytes);
        let mut is_whole = reader.queue_is_empty();
        for step in &self.steps {
            if !is_whole {
                break;
            }
            let Membership { local, at, .. } = reader.memberships[step.membership];
            let Some(group) = groups.get_mut(local) else {
                continue;
            };
            let Some(frame) = group.list.frame_at(step.number) else {
                continue;
            };
            let len = frame.wire().len();
            if taken < len {
                is_whole = false;
                if taken == 0 {
                    break;
                }
                reader.push_rest(Arc::clone(frame), step.kind, taken);
                taken = 0;
            } else {
                taken -= len;
            }
            set_place(group, at, step);
            delivered += 1;
            if group.next_of(at) == group.list.end() {
                let_list_go(group, local, at, due);
            }
        }
        delivered
    }

    /// Everything was laid out and taken: what is left to do is to forget that it was lacking.
    pub(super) fn finish(
        &self,
        groups: &mut Named<LocalGroup>,
        due: &mut VecDeque<LocalGroupId>,
        reader: &mut Reader,
    ) {
        for membership in &self.lacking {
            let is_lacking = catch_up(groups, due, reader, *membership);
            debug_assert!(!is_lacking, "all of it was taken");
        }
    }
}

/// Brings one of the socket's places up to the first frame that it lacks, and what goes before that
/// into its queue; false when it lacks none.
fn catch_up(
    groups: &mut Named<LocalGroup>,
    due: &mut VecDeque<LocalGroupId>,
    reader: &mut Reader,
    membership: usize,
) -> bool {
    let Membership { local, at, .. } = reader.memberships[membership];
    let Some(group) = groups.get_mut(local) else {
        reader.unnote(membership);
        return false;
    };
    let end = group.list.end();
    let was_behind = group.next_of(at) < end;
    group.catch_up(at, |sync| reader.push_waited(sync));
    if group.next_of(at) < group.given_end(at) {
        return true;
    }
    reader.unnote(membership);
    if was_behind && group.next_of(at) >= end {
        let_list_go(group, local, at, due);
    }
    false
}

/// A place that was behind has come to the end of the list: it may have been the one that held the
/// list back. A sweep that has still to come there sees to that.
fn let_list_go(
    group: &mut LocalGroup,
    local: LocalGroupId,
    at: MemberAt,
    due: &mut VecDeque<LocalGroupId>,
) {
    group.sweep.is_outrun |= group.is_visited(at);
    if !group.sweep.is_queued {
        group.sweep.is_queued = true;
        due.push_back(local);
    }
}

fn set_place(group: &mut LocalGroup, at: MemberAt, step: &Step) {
    let Some(place) = group.place_mut(at) else {
        return;
    };
    place.next = if step.is_last {
        step.number + 1
    } else {
        step.number
    };
    if let Some(extra) = &mut place.extra {
        extra.copies = if step.is_last { 0 } else { step.copies };
    }
}

/// Leaves out what is more than one write is to take; true when there was more.
pub(super) fn shorten(slices: &mut Vec<IoSlice<'_>>) -> bool {
    let mut bytes = 0;
    let fits = |slice: &&IoSlice<'_>| {
        let fits = bytes < WRITE_BYTES_MAX;
        bytes += slice.len();
        fits
    };
    let within = slices.iter().take_while(fits).count();
    let is_more = within < slices.len();
    slices.truncate(within);
    is_more
}

/// The same memory, for slices of other frames: with nothing in it there is nothing to convert, and
/// the standard library collects into the vector that it takes from.
pub(super) fn emptied<'a>(mut slices: Vec<IoSlice<'_>>) -> Vec<IoSlice<'a>> {
    slices.clear();
    slices.into_iter().map(|_| IoSlice::new(&[])).collect()
}
