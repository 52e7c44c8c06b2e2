//! The start: a directory is locked, read, put in order, and gone on with.
//!
//! May not know what a record says; `load` does.

use std::collections::HashMap;
use std::io::ErrorKind;

use crate::config::FileStore;
use crate::shard::Restored;

use super::disk::{Directory, Disk};
use super::layout::Layout;
use super::load::{self, Damage, Loaded, Torn};
use super::lock::Lock;
use super::log::{self, Log};
use super::{Files, Notes, StoreError, import, snapshot};

/// A store that can serve.
pub struct Started {
    /// The store.
    pub files: Files,
    /// No time up to this may be given out again: for every shard.
    pub time: u64,
}

impl Files {
    /// Opens the directory that the settings name, makes it if it is not there, and hands on all that
    /// is in it.
    pub fn start(
        settings: &FileStore,
        workers: usize,
        restore: &mut dyn FnMut(Restored),
    ) -> Result<Started, StoreError> {
        let path = &settings.path;
        let directory = Directory::make(path);
        let directory = directory.map_err(|source| StoreError::io(path, source))?;
        let lock = Lock::take(path)?;
        Files::on(Box::new(directory), Some(lock), settings, workers, restore)
    }

    /// The same on any disk.
    pub fn on(
        mut disk: Box<dyn Disk>,
        mut lock: Option<Lock>,
        settings: &FileStore,
        workers: usize,
        restore: &mut dyn FnMut(Restored),
    ) -> Result<Started, StoreError> {
        if Layout::read(&*disk)?.is_empty() {
            import::import(&mut *disk)?;
        } else {
            note_passed_over(&*disk)?;
        }
        let loaded = load::load(&*disk, restore, Damage::Stops)?;
        put_in_order(&mut *disk, &loaded)?;
        if let Some(lock) = &mut lock {
            lock.note_boot();
        }
        can_create(&mut *disk)?;
        let is_log_gone = loaded.is_followed && loaded.segments.is_empty();
        let mut log = Log::resume(
            &mut *disk,
            settings.fsync,
            settings.segment_bytes,
            loaded.segments,
            loaded.last_sequence + 1,
            !loaded.is_log_behind,
        )?;
        if is_log_gone {
            // Its head was not whole. The next start looks for it.
            log.roll(&mut *disk)?;
        }
        let files = Files {
            disk,
            lock,
            is_lock_lost: false,
            workers,
            fsync: settings.fsync,
            save_interval: settings.save_interval,
            segment_bytes: settings.segment_bytes,
            snapshot_factor: settings.snapshot_factor,
            log,
            batch: Vec::new(),
            time_kept: loaded.time,
            synced_told: 0,
            void_epochs: HashMap::new(),
            undecided: Vec::new(),
            undecided_cause: "".into(),
            dirty_since: None,
            snapshot_sequence: loaded.snapshot.map_or(0, |(sequence, _)| sequence),
            snapshot_bytes: loaded.snapshot.map_or(0, |(_, bytes)| bytes),
            taking: None,
            slice_rest: super::pace::REST,
            is_to_write_anew: false,
            no_snapshot_before: None,
            check_at: None,
            is_refusing: false,
            notes: Notes::default(),
        };
        Ok(Started {
            files,
            time: loaded.time,
        })
    }
}

/// A directory in which nothing can be made would take writes only until the next segment. A full disk is
/// another thing: what is kept can be read, and there may be room later.
fn can_create(disk: &mut dyn Disk) -> Result<(), StoreError> {
    let made = disk.create(log::NEW).map(drop);
    match made.and_then(|()| disk.remove(log::NEW)) {
        Err(source) if source.kind() != ErrorKind::StorageFull => {
            Err(StoreError::of(disk, log::NEW, source))
        }
        _ => Ok(()),
    }
}

/// Files of the reference beside ours are what was there before they were taken over.
fn note_passed_over(disk: &dyn Disk) -> Result<(), StoreError> {
    let groups = import::look(disk)?.groups.len();
    if groups > 0 {
        tracing::info!(
            "{}: {groups} groups in the engine's files passed over: they are as they were before they were taken over",
            disk.path().display()
        );
    }
    Ok(())
}

/// Cuts off what is not whole, and removes what is superfluous or was never finished.
fn put_in_order(disk: &mut dyn Disk, loaded: &Loaded) -> Result<(), StoreError> {
    if let Some(torn) = &loaded.torn {
        cut_off(disk, torn).map_err(|source| StoreError::of(disk, &torn.name, source))?;
    }
    let unfinished = [log::NEW.to_owned(), snapshot::NEW.to_owned()];
    let names = disk.list();
    let names = names.map_err(|source| StoreError::io(disk.path(), source))?;
    for name in loaded.superfluous.iter().chain(&unfinished) {
        if names.contains(name) {
            let removed = disk.remove(name);
            removed.map_err(|source| StoreError::of(disk, name, source))?;
        }
    }
    Ok(())
}

/// Keeps the torn end of the log aside and takes it off the log.
fn cut_off(disk: &mut dyn Disk, torn: &Torn) -> std::io::Result<()> {
    let aside = format!("{}.torn-at-{}", torn.name, torn.offset);
    let aside = free_name(disk, aside)?;
    tracing::warn!(
        "{}: its last {} bytes are not whole and were cut off at byte {}; they are kept in {aside}",
        disk.path().join(&torn.name).display(),
        torn.bytes,
        torn.offset,
    );
    if torn.offset == 0 {
        disk.rename(&torn.name, &aside)?;
        return disk.sync();
    }
    let mut tail = Vec::new();
    let mut file = disk.open(&torn.name, torn.offset)?;
    file.read_to_end(&mut tail)?;
    let mut kept = disk.create(&aside)?;
    kept.append(&tail)?;
    kept.sync()?;
    disk.sync()?;
    let mut log = disk.reopen(&torn.name)?;
    log.cut(torn.offset)?;
    log.sync()
}

/// That name, or the next that no file has: what was kept aside before stays.
pub(super) fn free_name(disk: &dyn Disk, name: String) -> std::io::Result<String> {
    let names = disk.list()?;
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    let mut all = std::iter::once(name.clone()).chain(numbered);
    Ok(all.find(|name| !names.contains(name)).unwrap_or(name))
}

/// Snapshots that a newer one has made superfluous.
pub(super) fn snapshots_below(disk: &dyn Disk, sequence: u64) -> Vec<String> {
    let Ok(layout) = Layout::read(disk) else {
        return Vec::new();
    };
    let older = layout.snapshots.iter().filter(|number| **number < sequence);
    older.map(|number| snapshot::name_of(*number)).collect()
}
