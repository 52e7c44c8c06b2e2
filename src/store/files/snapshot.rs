//! A snapshot that is written beside the running log: pieces of groups, then an end.
//!
//! It has its name only when it is whole and synced. May not know where the pieces come from, or how
//! a snapshot is read.

use crate::shard::Piece;

use super::StoreError;
use super::disk::{Disk, DiskFile, Syncing};
use super::head::{Before, FileKind, Head};
use super::identity::StoreId;
use super::record;

/// Its name until it is whole.
pub(super) const NEW: &str = "new.snapshot";

/// Synced after so many bytes, so that no sync has much to do at once.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

pub(super) fn name_of(sequence: u64) -> String {
    format!("{sequence:020}.snapshot")
}

/// What stands behind a snapshot.
pub(super) enum Follows {
    Log,
    /// Nothing yet: the log is begun at the next start. What has lower numbers is no part of this history:
    /// nobody removes it.
    Nothing,
}

pub(super) struct Writer {
    file: Box<dyn DiskFile>,
    /// The log's last number when it was begun.
    sequence: u64,
    bytes: u64,
    unsynced_bytes: u64,
    syncing: Option<Syncing>,
    is_named: bool,
    pieces: u64,
    /// The highest time of groups without items.
    time: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a snapshot of the state behind that number of the log. `follows`: there is a segment
    /// behind it, which is missed at a start if it is gone.
    pub(super) fn begin(
        disk: &mut dyn Disk,
        store: StoreId,
        sequence: u64,
        follows: Follows,
    ) -> Result<Writer, StoreError> {
        let file = disk.create(NEW);
        let file = file.map_err(|source| StoreError::of(disk.path(), NEW, source))?;
        let head = Head {
            sequence,
            before: matches!(follows, Follows::Log).then_some(Before {
                sequence: sequence + 1,
                bytes: 0,
            }),
            store: Some(store),
        };
        let mut writer = Writer {
            file,
            sequence,
            bytes: 0,
            unsynced_bytes: 0,
            syncing: None,
            is_named: false,
            pieces: 0,
            time: 0,
            buffer: head.encode(FileKind::Snapshot),
        };
        writer.write(disk)?;
        Ok(writer)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How large the snapshot is so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends pieces that are right up to that number of the log, with one write.
    pub(super) fn add(
        &mut self,
        disk: &dyn Disk,
        sequence: u64,
        pieces: &[Piece],
        time: u64,
    ) -> Result<(), StoreError> {
        self.time = self.time.max(time);
        self.pieces += pieces.len() as u64;
        for piece in pieces {
            record::piece(&mut self.buffer, sequence, piece);
        }
        self.write(disk)
    }

    /// Writes its end, and begins the last sync. No time up to `time` is given out after the next
    /// start.
    pub(super) fn end(&mut self, disk: &dyn Disk, time: u64) -> Result<(), StoreError> {
        record::end(&mut self.buffer, self.pieces, self.time.max(time));
        self.write(disk)?;
        self.begin_sync(disk)
    }

    /// Gives it its name, once its end is synced, and begins to sync that.
    pub(super) fn name(&mut self, disk: &mut dyn Disk) -> Result<(), StoreError> {
        self.wait_for_sync(disk)?;
        let name = name_of(self.sequence);
        let named = disk.rename(NEW, &name);
        named.map_err(|source| StoreError::of(disk.path(), &name, source))?;
        self.is_named = true;
        self.syncing = Some(self.file.begin_sync(Some(disk.names_syncer())));
        Ok(())
    }

    /// Gives it its name, and waits until that and all of it is synced.
    pub(super) fn finish(mut self, disk: &mut dyn Disk) -> Result<(), StoreError> {
        self.name(disk)?;
        self.wait_for_sync(disk)
    }

    /// It has its name.
    pub(super) fn is_named(&self) -> bool {
        self.is_named
    }

    /// A sync goes on beside.
    pub(super) fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Takes the outcome of the sync that was begun, if it is over.
    pub(super) fn end_sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let Some(outcome) = self.syncing.as_ref().and_then(Syncing::poll) else {
            return Ok(());
        };
        self.syncing = None;
        outcome.map_err(|source| StoreError::of(disk.path(), NEW, source))
    }

    fn begin_sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.wait_for_sync(disk)?;
        self.unsynced_bytes = 0;
        self.syncing = Some(self.file.begin_sync(None));
        Ok(())
    }

    fn wait_for_sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let outcome = self.syncing.take().map_or(Ok(()), |syncing| syncing.wait());
        outcome.map_err(|source| StoreError::of(disk.path(), NEW, source))
    }

    fn write(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let failed = |source| StoreError::of(disk.path(), NEW, source);
        self.file.append(&self.buffer).map_err(failed)?;
        self.bytes += self.buffer.len() as u64;
        self.unsynced_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced_bytes >= SYNC_BYTES {
            self.begin_sync(disk)?;
        }
        Ok(())
    }
}
