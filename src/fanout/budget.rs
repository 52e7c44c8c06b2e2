//! What the fan-out may still do in a turn.
//!
//! May not know what it does.

use super::socket::Written;

/// What a turn may still do: so that one large group does not hold up the rest.
pub struct Budget {
    units: usize,
    /// What was spent beyond it: the end of what had begun.
    overspent: usize,
    /// What was written meanwhile.
    pub tally: Tally,
}

/// What sockets were given.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Writes.
    pub writes: u64,
    /// Those of which less was taken than was given.
    pub cut: u64,
    /// Bytes that were taken.
    pub bytes: u64,
    /// Frames of events that sockets have got.
    pub deliveries: u64,
}

impl Tally {
    /// A write of so many bytes was made.
    pub(super) fn note_write(&mut self, bytes: usize, written: Written) {
        self.writes += 1;
        self.bytes += match written {
            Written::All => bytes as u64,
            Written::Part(taken) => taken as u64,
            Written::Gone => 0,
        };
        self.cut += u64::from(matches!(written, Written::Part(_)));
    }

    /// Both together.
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            writes: self.writes + other.writes,
            cut: self.cut + other.cut,
            bytes: self.bytes + other.bytes,
            deliveries: self.deliveries + other.deliveries,
        }
    }
}

/// A write costs as much as looking at so many sockets that lack nothing.
pub(super) const WRITE_UNITS: usize = 32;
/// Bytes that cost as much as a write.
const WRITE_BYTES: usize = 8 * 1024;
/// So many frames that are not for a socket, and that it moves over, cost as much as a look at one.
const PASSED_FRAMES: u64 = 8;
/// So many watchers that are marked cost as much.
pub(super) const MARKED_WATCHERS: usize = 2;
/// What a frame costs that is kept by item, or forgotten there.
const KEPT_UNITS: usize = 2;
/// So many places that are looked at for where they stand cost as much as a look at a socket.
const PLACES: usize = 64;
/// So many subscriptions that wait for the place of their entry cost as much: each is compared with
/// what a visit passes.
const LATE_COMPARES: usize = 256;

impl Budget {
    /// A budget of so many small writes.
    pub fn of_writes(writes: usize) -> Budget {
        Budget {
            units: writes * WRITE_UNITS,
            overspent: 0,
            tally: Tally::default(),
        }
    }

    /// Nothing more is to be begun in this turn.
    pub fn is_spent(&self) -> bool {
        self.units == 0
    }

    pub(super) fn visited(&mut self) {
        self.spend(1);
    }

    pub(super) fn passed(&mut self, frames: u64) {
        self.spend((frames / PASSED_FRAMES) as usize);
    }

    pub(super) fn written(&mut self, bytes: usize) {
        self.spend(WRITE_UNITS + bytes / WRITE_BYTES * WRITE_UNITS);
    }

    pub(super) fn marked(&mut self, watchers: usize) {
        self.spend(1 + watchers / MARKED_WATCHERS);
    }

    pub(super) fn kept(&mut self, frames: usize) {
        self.spend(frames * KEPT_UNITS);
    }

    pub(super) fn placed(&mut self, places: usize) {
        self.spend(1 + places / PLACES);
    }

    pub(super) fn compared_late(&mut self, subscriptions: usize) {
        self.spend(subscriptions / LATE_COMPARES);
    }

    pub(super) fn spend(&mut self, units: usize) {
        self.overspent += units.saturating_sub(self.units);
        self.units = self.units.saturating_sub(units);
    }

    /// Panics where a turn has done more than it may: what is begun is one write of so many bytes.
    pub fn check(&self, write_bytes_max: usize) {
        let most = 2 + WRITE_UNITS + write_bytes_max / WRITE_BYTES * WRITE_UNITS;
        debug_assert!(
            self.overspent <= most,
            "a turn was too long: {}",
            self.overspent
        );
    }
}
