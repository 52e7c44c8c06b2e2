//! What can be saved of a damaged directory. Nothing is deleted: what does not count any more is moved
//! aside.

use std::path::Path;

use super::disk::{Directory, Disk};
use super::import::{self, Fault};
use super::layout::Layout;
use super::load::{Loss, Torn};
use super::lock::Lock;
use super::offline::Offline;
use super::snapshot::{Follows, Writer};
use super::{StoreError, log, snapshot, start};

/// How often `inspect` begins anew when the files change under its eyes.
const LOOKS_MAX: usize = 20;

/// What stands in a directory.
#[derive(Debug, Default)]
pub struct Report {
    /// Groups with items that could be read.
    pub groups: usize,
    /// Their items.
    pub items: usize,
    /// Bytes of their names and values.
    pub bytes: u64,
    /// The log's last number.
    pub last_sequence: u64,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The end of the log that is not whole: file, offset, bytes. A start cuts it off by itself.
    pub torn: Option<(String, u64, u64)>,
    /// What could not be read.
    pub losses: Vec<Loss>,
    /// The reference's files that could not be taken over.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether a server would start on it.
    pub fn is_healthy(&self) -> bool {
        self.losses.is_empty() && self.faults.is_empty()
    }
}

/// Looks at a directory and changes nothing. A server may be running on it.
pub fn inspect(data: &Path) -> Result<Report, StoreError> {
    let directory = at(data)?;
    let mut tries = 0..LOOKS_MAX;
    loop {
        let before = Layout::read(&directory)?;
        let outcome = read(&directory).map(|(report, _)| report);
        tries.next();
        let is_good = outcome.as_ref().is_ok_and(Report::is_healthy);
        // What a server has removed meanwhile was not lost.
        if is_good || tries.is_empty() || Layout::read(&directory)? == before {
            return outcome;
        }
    }
}

/// Says what can be saved, and with `does` saves it. The directory must not be in use.
pub fn recover(data: &Path, does: bool) -> Result<Report, StoreError> {
    let mut directory = at(data)?;
    let _lock = Lock::take(data)?;
    let (report, offline) = read(&directory)?;
    if does && !report.is_healthy() {
        match offline {
            Some(offline) => write_anew(&mut directory, &offline)?,
            None => {
                for fault in &report.faults {
                    move_aside(&mut directory, &fault.name, "refused")?;
                }
            }
        }
        let synced = directory.sync();
        synced.map_err(|source| StoreError::io(data, source))?;
    }
    Ok(report)
}

fn at(data: &Path) -> Result<Directory, StoreError> {
    Directory::at(data).map_err(|source| StoreError::io(data, source))
}

fn read(disk: &dyn Disk) -> Result<(Report, Option<Offline>), StoreError> {
    if Layout::read(disk)?.is_empty() {
        let found = import::look(disk)?;
        if found.groups.is_empty() {
            return Err(StoreError::Nothing {
                directory: disk.path().to_owned(),
            });
        }
        let report = Report {
            groups: found.groups.len(),
            faults: import::faults(disk, &found)?,
            ..Report::default()
        };
        return Ok((report, None));
    }
    let mut offline = Offline::read(disk)?;
    let losses = std::mem::take(&mut offline.losses);
    let loaded = &offline.loaded;
    let torn = |torn: &Torn| (torn.name.clone(), torn.offset, torn.bytes);
    let mut report = Report {
        last_sequence: loaded.last_sequence,
        snapshot_bytes: loaded.snapshot.map_or(0, |(_, bytes)| bytes),
        log_bytes: loaded.segments.iter().map(|segment| segment.bytes).sum(),
        torn: loaded.torn.as_ref().map(torn),
        losses,
        ..Report::default()
    };
    offline.each_piece(|pieces, _| {
        for piece in pieces {
            report.groups += usize::from(piece.is_first);
            report.items += piece.items.len();
            let sizes = piece
                .items
                .iter()
                .map(|(name, value)| name.len() + value.len());
            report.bytes += sizes.sum::<usize>() as u64;
        }
        Ok(())
    })?;
    Ok((report, Some(offline)))
}

/// A snapshot of what could be read, behind everything that is there; then the rest goes aside.
fn write_anew(disk: &mut dyn Disk, offline: &Offline) -> Result<(), StoreError> {
    let layout = Layout::read(disk)?;
    let numbers = layout.snapshots.iter().chain(&layout.logs);
    let last = numbers.copied().max().unwrap_or_default();
    let sequence = last.max(offline.loaded.last_sequence) + 1;
    let mut writer = Writer::begin(disk, sequence, Follows::Nothing)?;
    offline.each_piece(|pieces, time| {
        let time = time.max(offline.loaded.time);
        writer.add(disk, sequence, pieces, time)
    })?;
    writer.end(disk, offline.loaded.time)?;
    writer.finish(disk)?;
    let logs = layout.logs.iter().map(|number| log::name_of(*number));
    let snapshots = layout.snapshots.iter();
    let names = logs.chain(snapshots.map(|number| snapshot::name_of(*number)));
    for name in names {
        move_aside(disk, &name, "damaged")?;
    }
    Ok(())
}

/// Gives a file a name that no other has.
fn move_aside(disk: &mut dyn Disk, name: &str, ending: &str) -> Result<(), StoreError> {
    let aside = start::free_name(disk, format!("{name}.{ending}"));
    let moved = aside.and_then(|aside| disk.rename(name, &aside));
    moved.map_err(|source| StoreError::of(disk, name, source))
}
