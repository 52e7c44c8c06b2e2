//! The log that is written: segments to which batches are appended, each with one write.
//!
//! A batch is accepted or refused whole. After a write that failed the segment is cut back to where
//! the batch began; where that fails too it is closed at that length, its successor's head says so,
//! and whoever reads stops there. A segment that was closed is never written to again. May not know
//! what is in a record, or how a log is read.

mod sync;

use std::io;
use std::time::{Duration, Instant};

use crate::config::Fsync;

use super::StoreError;
use super::disk::{Disk, DiskFile};
use super::head::{Before, FileKind, HEAD_BYTES, Head};
use super::identity::StoreId;

use sync::Beside;

/// The new file's name until its head is whole.
pub(super) const NEW: &str = "new.log";

/// What the names of segments end in.
pub(super) const EXTENSION: &str = ".log";

pub(super) fn name_of(sequence: u64) -> String {
    format!("{sequence:020}{EXTENSION}")
}

/// A segment that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed {
    /// Its first sequence number.
    pub(super) sequence: u64,
    pub(super) bytes: u64,
    /// How many of these bytes are its head.
    pub(super) head_bytes: u64,
}

pub(super) struct Log {
    /// The store whose log it is.
    store: StoreId,
    fsync: Fsync,
    segment_bytes: u64,
    closed: Vec<Closed>,
    open: Option<Open>,
    next_sequence: u64,
    /// Everything below that number is synced, unless nothing is.
    synced_sequence: u64,
    /// Something was written and not synced.
    is_dirty: bool,
    /// A sync of the open segment, or of one that was closed meanwhile, up to those bytes.
    beside: Option<Beside>,
    /// How many bytes of the open segment are synced.
    synced_bytes: u64,
    /// The open segment's name may not outlast a loss of power.
    is_name_unsynced: bool,
    /// How long syncs took that nobody has been told of.
    syncs: Vec<Duration>,
    /// A sync has failed: what stands in the files may not be on the disk, whatever a later sync says.
    is_suspect: bool,
    /// A batch was refused though it may stand whole behind the end of the last segment, and no
    /// successor says so yet: whoever read it now would take it for accepted.
    is_undecided: bool,
}

struct Open {
    file: Box<dyn DiskFile>,
    sequence: u64,
    bytes: u64,
}

impl Open {
    fn as_closed(&self) -> Closed {
        Closed {
            sequence: self.sequence,
            bytes: self.bytes,
            head_bytes: HEAD_BYTES as u64,
        }
    }
}

impl Log {
    /// Goes on behind segments that were read: in the last one, if the next number `goes_on` from there,
    /// it has room and says whose it is.
    pub(super) fn resume(
        disk: &mut dyn Disk,
        store: StoreId,
        fsync: Fsync,
        segment_bytes: usize,
        mut segments: Vec<Closed>,
        next_sequence: u64,
        goes_on: bool,
    ) -> Result<Log, StoreError> {
        let segment_bytes = segment_bytes as u64;
        if fsync != Fsync::Never {
            // A process that was killed may not have synced them, and other settings never did.
            sync_all(disk, &segments)?;
        }
        let last = segments.pop_if(|last| {
            goes_on && last.bytes < segment_bytes && last.head_bytes == HEAD_BYTES as u64
        });
        // One without records is no predecessor: its successor has its name, and takes its place.
        let is_empty =
            |last: &mut Closed| last.bytes <= last.head_bytes && last.sequence == next_sequence;
        let _ = segments.pop_if(is_empty);
        let open = match last {
            None => None,
            Some(last) => {
                let name = name_of(last.sequence);
                let file = disk.reopen(&name);
                Some(Open {
                    file: file.map_err(|source| StoreError::of(disk.path(), &name, source))?,
                    sequence: last.sequence,
                    bytes: last.bytes,
                })
            }
        };
        Ok(Log {
            store,
            fsync,
            segment_bytes,
            closed: segments,
            open,
            next_sequence,
            synced_sequence: next_sequence,
            is_dirty: false,
            beside: None,
            synced_bytes: 0,
            is_name_unsynced: false,
            syncs: Vec::new(),
            is_suspect: false,
            is_undecided: false,
        })
    }

    /// The sequence number of the next record.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|closed| closed.bytes).sum();
        closed + self.open.as_ref().map_or(0, |open| open.bytes)
    }

    /// Whether the last batch that was written and failed could still be found at a start.
    pub(super) fn is_undecided(&self) -> bool {
        self.is_undecided
    }

    /// Appends one batch of so many records. After an error nothing of it is there, unless that is
    /// undecided.
    pub(super) fn append(
        &mut self,
        disk: &mut dyn Disk,
        batch: &[u8],
        records: u64,
    ) -> Result<(), StoreError> {
        // It becomes longer where its end would have to wait for the disk, but not twice as long.
        let segment_bytes = match self.is_nearly_synced() {
            true => self.segment_bytes,
            false => self.segment_bytes * 2,
        };
        let is_full = |open: &Open| {
            open.bytes > HEAD_BYTES as u64 && open.bytes + batch.len() as u64 > segment_bytes
        };
        if self.open.as_ref().is_none_or(is_full) {
            self.roll(disk)?;
        }
        let Some(open) = &mut self.open else {
            return Err(StoreError::of(
                disk.path(),
                NEW,
                io::Error::other("no segment"),
            ));
        };
        let name = name_of(open.sequence);
        if let Err(source) = open.file.append(batch) {
            if open.file.cut(open.bytes).is_err() {
                self.close_for_good(disk);
            }
            return Err(StoreError::of(disk.path(), &name, source));
        }
        self.is_dirty = true;
        if self.fsync == Fsync::Always {
            let began = Instant::now();
            let outcome = open.file.sync();
            self.syncs.push(began.elapsed());
            if let Err(source) = outcome {
                // The successor's head says where it ends, if the cut is lost as well.
                let _ = open.file.cut(open.bytes);
                self.is_suspect = true;
                self.is_undecided = true;
                self.close_for_good(disk);
                return Err(StoreError::of(disk.path(), &name, source));
            }
            self.is_dirty = false;
        }
        open.bytes += batch.len() as u64;
        self.next_sequence += records;
        if self.fsync == Fsync::Always {
            self.synced_sequence = self.next_sequence;
        }
        Ok(())
    }

    /// Begins a new segment, unless the open one is empty. With `interval` its name is synced when what
    /// is written to it is.
    pub(super) fn roll(&mut self, disk: &mut dyn Disk) -> Result<(), StoreError> {
        self.roll_as(disk, self.fsync == Fsync::Always)
    }

    /// The same; where anything is synced at all, its name is at once: it says of a batch that it was
    /// refused.
    pub(super) fn roll_for_good(&mut self, disk: &mut dyn Disk) -> Result<(), StoreError> {
        self.roll_as(disk, self.fsync != Fsync::Never)
    }

    fn roll_as(&mut self, disk: &mut dyn Disk, is_lasting: bool) -> Result<(), StoreError> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.bytes == HEAD_BYTES as u64)
        {
            return Ok(());
        }
        if self.fsync != Fsync::Never && self.sync(disk).is_err() {
            tracing::warn!("a log file could not be synced: everything is written anew");
        }
        // Once its successor may be there, whoever reads stops where it was closed.
        self.close();
        let sequence = self.next_sequence;
        let before = self.closed.last().map(|last| Before {
            sequence: last.sequence,
            bytes: last.bytes,
        });
        let store = Some(self.store);
        let head = Head {
            sequence,
            before,
            store,
        };
        let head = head.encode(FileKind::Log);
        let created = create(disk, &name_of(sequence), &head, is_lasting);
        let file =
            created.map_err(|source| StoreError::of(disk.path(), &name_of(sequence), source))?;
        self.is_undecided = false;
        self.open = Some(Open {
            file,
            sequence,
            bytes: HEAD_BYTES as u64,
        });
        self.synced_bytes = HEAD_BYTES as u64;
        self.is_name_unsynced = self.fsync == Fsync::Interval && !is_lasting;
        Ok(())
    }

    /// There is a segment to write to.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// All segments, with their lengths.
    pub(super) fn segments(&self) -> impl Iterator<Item = Closed> {
        let open = self.open.as_ref().map(Open::as_closed);
        self.closed.iter().copied().chain(open)
    }

    /// Whether the open segment still has its name, and is as long as it was written. `None`: there is none.
    pub(super) fn has_intact_end(&self, disk: &dyn Disk) -> Option<bool> {
        let open = self.open.as_ref()?;
        let name = name_of(open.sequence);
        let is_it = match (disk.inode(&name), open.file.inode()) {
            (Ok(named), Ok(open)) => named == open,
            _ => false,
        };
        Some(is_it && disk.len(&name).is_ok_and(|len| len == open.bytes))
    }

    /// Somebody else has removed or cut a file: the open one is closed, and everything in doubt.
    pub(super) fn distrust(&mut self) {
        self.is_suspect = true;
        self.close();
    }

    /// The directory is another, with nothing in it: begins anew there, with the same numbers.
    pub(super) fn leave(&mut self) {
        self.distrust();
        self.closed.clear();
        self.beside = None;
    }

    /// Forgets the segments all of whose records have numbers up to `sequence`, and gives them.
    pub(super) fn take_up_to(&mut self, sequence: u64) -> Vec<Closed> {
        let mut taken = Vec::new();
        let open = self.open.as_ref().map(|open| open.sequence);
        while !self.closed.is_empty() {
            let next = self.closed.get(1).map(|next| next.sequence).or(open);
            if next.is_none_or(|next| next > sequence + 1) {
                break;
            }
            taken.push(self.closed.remove(0));
        }
        taken
    }

    /// Closes the segment, behind whose end something may stand that was refused: until a successor
    /// says so, only that it has no whole batch there keeps it from being read.
    fn close_for_good(&mut self, disk: &mut dyn Disk) {
        if self.fsync == Fsync::Interval {
            // The successor's name lasts at once, so what it says of this one has to.
            let _ = self.sync(disk);
        }
        self.close();
        // The next batch tries again.
        let _ = self.roll_for_good(disk);
    }

    /// A segment without records is no predecessor: its successor has its name, and takes its place.
    fn close(&mut self) {
        let open = self
            .open
            .take()
            .filter(|open| open.bytes > HEAD_BYTES as u64);
        self.closed.extend(open.map(|open| open.as_closed()));
    }
}

/// What a process that was killed had written may be read and told before it is on the disk.
fn sync_all(disk: &mut dyn Disk, segments: &[Closed]) -> Result<(), StoreError> {
    for closed in segments {
        let name = name_of(closed.sequence);
        let synced = disk.reopen(&name).and_then(|mut file| file.sync());
        synced.map_err(|source| StoreError::of(disk.path(), &name, source))?;
    }
    disk.sync()
        .map_err(|source| StoreError::io(disk.path(), source))
}

/// A new segment is there with its whole head, or is not there; after a loss of power as well if it is
/// lasting.
fn create(
    disk: &mut dyn Disk,
    name: &str,
    head: &[u8],
    is_lasting: bool,
) -> io::Result<Box<dyn DiskFile>> {
    let mut file = disk.create(NEW)?;
    file.append(head)?;
    if is_lasting {
        file.sync()?;
    }
    disk.rename(NEW, name)?;
    if is_lasting {
        disk.sync()?;
    }
    Ok(file)
}
