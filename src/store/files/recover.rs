//! What can be saved of a damaged directory. Nothing is deleted: what does not count any more is moved
//! aside. Whoever is interrupted has left enough for the next start to go on with that.

use std::path::Path;

use super::directory::Directory;
use super::disk::Disk;
use super::error::Fault;
use super::identity::{self, StoreId};
use super::import;
use super::layout::Layout;
use super::load::{Lack, Loss, Torn};
use super::offline::Offline;
use super::snapshot::{Follows, Writer};
use super::start::move_all_aside;
use super::{StoreError, log, snapshot};

/// How often `inspect` begins anew when the files change under its eyes.
const LOOKS_MAX: usize = 20;

/// What stands in a directory.
#[derive(Debug, Default)]
pub struct Report {
    /// Which store it is, if anything says so.
    pub store: Option<String>,
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
    /// Writes that are in none of it: the items that they changed are older.
    pub lacking: Vec<Lack>,
    /// Files of another store, or of another log.
    pub strangers: Vec<String>,
    /// Files that do not count any more, which are still to be moved aside.
    pub aside: Vec<String>,
    /// The reference's files, where there are no others.
    pub engine_files: usize,
    /// The reference's files that could not be taken over.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether a server would start on it.
    pub fn is_healthy(&self) -> bool {
        self.losses.is_empty() && self.faults.is_empty() && self.strangers.is_empty()
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
    directory.lock()?;
    recover_on(&mut directory, does)
}

/// The same on any disk, which is locked.
pub(super) fn recover_on(disk: &mut dyn Disk, does: bool) -> Result<Report, StoreError> {
    let (report, offline) = read(disk)?;
    if !does {
        return Ok(report);
    }
    match offline {
        Some(offline) if !report.is_healthy() => write_anew(disk, &offline)?,
        Some(_) => move_all_aside(disk, &report.aside, DAMAGED)?,
        None => {
            let names: Vec<String> = report
                .faults
                .iter()
                .map(|fault| fault.name.clone())
                .collect();
            move_all_aside(disk, &names, "refused")?;
        }
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
            engine_files: found.groups.values().map(Vec::len).sum(),
            faults: import::faults(disk, &found)?,
            ..Report::default()
        };
        return Ok((report, None));
    }
    let mut offline = Offline::read(disk)?;
    let losses = std::mem::take(&mut offline.losses);
    let loaded = &mut offline.loaded;
    let torn = |torn: &Torn| (torn.name.clone(), torn.offset, torn.bytes);
    let mut report = Report {
        store: loaded.store.map(|store| store.to_string()),
        lacking: std::mem::take(&mut loaded.lacking),
        strangers: loaded.strangers.clone(),
        aside: loaded.aside.clone(),
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

/// A snapshot of what could be read, behind everything that is there; then the rest goes aside. Until the
/// snapshot has its name everything counts that did, and from then on nothing else does.
fn write_anew(disk: &mut dyn Disk, offline: &Offline) -> Result<(), StoreError> {
    move_all_aside(disk, &offline.loaded.strangers, "other")?;
    let store = offline.loaded.store.unwrap_or_else(StoreId::new);
    if identity::read(disk)? != Some(store) {
        identity::write(disk, store)?;
    }
    let layout = Layout::read(disk)?;
    let numbers = layout.snapshots.iter().chain(&layout.logs);
    let last = numbers.copied().max().unwrap_or_default();
    let sequence = last.max(offline.loaded.last_sequence) + 1;
    let mut writer = Writer::begin(disk, store, sequence, Follows::Nothing)?;
    offline.each_piece(|pieces, time| {
        let time = time.max(offline.loaded.time);
        writer.add(disk, sequence, pieces, time)
    })?;
    writer.end(disk, offline.loaded.time)?;
    writer.finish(disk)?;
    let logs = layout.logs.iter().map(|number| log::name_of(*number));
    let snapshots = layout.snapshots.iter();
    let names = logs.chain(snapshots.map(|number| snapshot::name_of(*number)));
    let names: Vec<String> = names.collect();
    move_all_aside(disk, &names, DAMAGED)
}

/// What a file's name ends in that does not count any more.
const DAMAGED: &str = "damaged";
