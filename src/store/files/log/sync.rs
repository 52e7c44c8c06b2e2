//! How the log gets to the disk: a sync beside what is written meanwhile, the one that is waited for, and
//! what is known to outlast a loss of power.

use std::io;
use std::time::{Duration, Instant};

use crate::config::Fsync;

use super::super::StoreError;
use super::super::disk::{Disk, Syncing};
use super::{Closed, Log, Open, name_of, sync_all};

/// A segment of which more is not synced gets no successor before it has been: the name of the one
/// must not outlast a loss of power that the end of the other does not.
const UNSYNCED_BYTES_MAX: u64 = 1024 * 1024;

/// The same once a sync was begun for that, beside which more was written.
const UNSYNCED_MEANWHILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

pub(super) struct Beside {
    up_to: Closed,
    next_sequence: u64,
    syncing: Syncing,
    began: Instant,
}

impl Log {
    /// The last number that is known to be on the disk.
    pub(in crate::store::files) fn synced_to(&self) -> u64 {
        match self.fsync {
            Fsync::Never => 0,
            _ => self.synced_sequence.saturating_sub(1),
        }
    }

    /// True once after a sync has failed: everything has to be written anew.
    pub(in crate::store::files) fn take_suspicion(&mut self) -> bool {
        std::mem::take(&mut self.is_suspect)
    }

    fn note_sync(&mut self, began: Instant) {
        self.syncs.push(began.elapsed());
    }

    /// How long syncs took, since this was last asked.
    pub(in crate::store::files) fn take_syncs(&mut self) -> std::vec::Drain<'_, Duration> {
        self.syncs.drain(..)
    }

    /// Begins to sync what was written, beside what is written next, unless that goes on already.
    pub(in crate::store::files) fn begin_sync(&mut self, disk: &dyn Disk) {
        let Some(open) = self.open.as_mut().filter(|_| self.beside.is_none()) else {
            return;
        };
        if std::mem::take(&mut self.is_dirty) {
            let up_to = open.as_closed();
            let names = std::mem::take(&mut self.is_name_unsynced).then(|| disk.names_syncer());
            self.beside = Some(Beside {
                up_to,
                next_sequence: self.next_sequence,
                syncing: open.file.begin_sync(names),
                began: Instant::now(),
            });
        }
    }

    /// Takes the outcome of the sync that was begun, if it is over. After an error the segment is
    /// closed and the log suspect.
    pub(in crate::store::files) fn end_sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let outcome = self
            .beside
            .as_ref()
            .and_then(|beside| beside.syncing.poll());
        outcome.map_or(Ok(()), |outcome| self.synced_beside(disk, outcome))
    }

    fn synced_beside(
        &mut self,
        disk: &dyn Disk,
        outcome: io::Result<()>,
    ) -> Result<(), StoreError> {
        let Some(Beside {
            up_to,
            next_sequence,
            began,
            ..
        }) = self.beside.take()
        else {
            return Ok(());
        };
        self.note_sync(began);
        let is_open = |open: &Open| open.sequence == up_to.sequence;
        let is_open = self.open.as_ref().is_some_and(is_open);
        outcome.map_err(|source| {
            self.is_suspect = true;
            if is_open {
                self.close();
            }
            StoreError::of(disk.path(), &name_of(up_to.sequence), source)
        })?;
        self.synced_sequence = self.synced_sequence.max(next_sequence);
        if is_open {
            self.synced_bytes = self.synced_bytes.max(up_to.bytes);
        }
        Ok(())
    }

    /// A sync goes on.
    pub(in crate::store::files) fn is_syncing(&self) -> bool {
        self.beside.is_some()
    }

    /// Whether the write of that number outlasts a loss of power, as far as any does.
    pub(in crate::store::files) fn has_synced(&self, sequence: u64) -> bool {
        self.fsync != Fsync::Interval
            || !self.is_dirty && self.beside.is_none()
            || sequence < self.synced_sequence
    }

    /// Whether what is left to sync holds nobody up for long.
    pub(in crate::store::files) fn is_nearly_synced(&self) -> bool {
        let left = |open: &Open| open.bytes.saturating_sub(self.synced_bytes);
        let most = match self.synced_bytes >= self.segment_bytes {
            true => UNSYNCED_MEANWHILE_BYTES_MAX,
            false => UNSYNCED_BYTES_MAX,
        };
        self.fsync != Fsync::Interval
            || self.beside.is_none() && self.open.as_ref().map_or(0, left) <= most
    }

    /// Whether the open segment should soon be followed by another, and has to be synced before.
    pub(in crate::store::files) fn waits_for_sync(&self) -> bool {
        let is_full = |open: &Open| open.bytes >= self.segment_bytes;
        self.open.as_ref().is_some_and(is_full) && !self.is_nearly_synced()
    }

    /// Syncs what was written. After an error the segment is closed and the log suspect.
    pub(in crate::store::files) fn sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        // What is being synced beside is not synced yet.
        let dirty = std::mem::take(&mut self.is_dirty) | self.beside.is_some();
        let Some(open) = self.open.as_mut().filter(|_| dirty) else {
            return Ok(());
        };
        let name = name_of(open.sequence);
        let mut synced = open.file.sync();
        if std::mem::take(&mut self.is_name_unsynced) {
            synced = synced.and_then(|()| disk.names_syncer()());
        }
        synced.map_err(|source| {
            self.is_suspect = true;
            self.close();
            StoreError::of(disk.path(), &name, source)
        })?;
        self.synced_sequence = self.next_sequence;
        Ok(())
    }

    /// Waits for the sync that goes on.
    fn wait_for_sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let outcome = self.beside.as_ref().map(|beside| beside.syncing.wait());
        outcome.map_or(Ok(()), |outcome| self.synced_beside(disk, outcome))
    }

    /// Syncs all that was written since the start, names included, whatever the policy.
    pub(in crate::store::files) fn finish(
        &mut self,
        disk: &mut dyn Disk,
    ) -> Result<(), StoreError> {
        if self.fsync == Fsync::Never {
            sync_all(disk, &self.closed)?;
        }
        self.wait_for_sync(disk)?;
        self.sync(disk)?;
        disk.sync()
            .map_err(|source| StoreError::io(disk.path(), source))
    }
}
