//! The border between shards and what keeps their values.
//!
//! May not know any store.

use std::time::Duration;

use crate::id::{SlotId, WorkerId};
use crate::metrics::StoreMetrics;
use crate::time::ClockReading;

use super::learned::Learned;
use super::requests::Request;
use super::{Cursor, Decides, Slice, SliceLimits, ValueLimits};

/// What keeps values: memory, files, Redis, and the double that tests use.
pub trait Store: std::marker::Send {
    /// Who decides what a change does.
    fn decides(&self) -> Decides;

    /// Serves one turn's requests of all shards, in order: one answer each, now or later, in the same
    /// order within a shard, and between them what other hosts have done. Accepted is as durable as the
    /// configuration promises.
    fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>);

    /// Does what is due without a request, once the answers of the turn are on their way, and may ask
    /// shards for slices and answer requests of earlier turns. Gives how long it may rest; `None`:
    /// until it is asked.
    fn tend(
        &mut self,
        _asks: &mut Vec<(WorkerId, Cursor, SliceLimits)>,
        _learned: &mut Vec<Learned>,
    ) -> Option<Duration> {
        None
    }

    /// Does what is due and tells nobody anything, while a neighbour that is full holds up all else. Gives
    /// how long it may rest, as [`Store::tend`] does.
    fn tend_alone(&mut self) -> Option<Duration> {
        None
    }

    /// Whether it can answer nothing for now, so that nothing should be handed to it: what waits would
    /// only pile up. [`Store::tend`] says how soon to ask again.
    fn is_stuck(&self) -> bool {
        false
    }

    /// The poll of its thread says that one of its sockets has something or takes something; `ends`: its
    /// end is there.
    fn ready(&mut self, _id: SlotId, _ends: bool) {}

    /// What its own clock has said since this was last asked; all shards are told before they hear its
    /// answers.
    fn clock(&mut self) -> Option<ClockReading> {
        None
    }

    /// The process is about to end in good order.
    fn is_ending(&mut self) {}

    /// Whether nothing that it was asked is still on its way.
    fn is_done(&self) -> bool {
        true
    }

    /// What holds from now on for values and names that it reads itself.
    fn set_limits(&mut self, _limits: ValueLimits, _name_bytes: usize) {}

    /// Gives what it has measured since it was last asked, and how it stands.
    fn measure(&mut self, _metrics: &StoreMetrics) {}

    /// Takes the slice that a shard was asked for.
    fn take_slice(&mut self, _shard: WorkerId, _slice: Slice) {}

    /// The process ends in good order: nothing is asked any more.
    fn close(&mut self) {}
}
