//! The start: a directory is locked, read, put in order, and gone on with.
//!
//! May not know what a record says; `load` does.

use crate::config::FileStore;
use crate::shard::Restored;
use crate::time::Rarely;

use super::directory::Directory;
use super::disk::Disk;
use super::held::OwnFiles;
use super::identity::{self, StoreId};
use super::layout::Layout;
use super::load::{self, Damage, Loaded, Torn};
use super::log::{self, Log};
use super::refusals::Refusals;
use super::room::Room;
use super::watch::Watch;
use super::{Files, RARELY, StoreError, import, snapshot};

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
        let mut directory = Directory::make(&settings.path)?;
        directory.lock()?;
        Files::on(Box::new(directory), settings, workers, restore)
    }

    /// The same on any disk, which is locked.
    pub fn on(
        mut disk: Box<dyn Disk>,
        settings: &FileStore,
        workers: usize,
        restore: &mut dyn FnMut(Restored),
    ) -> Result<Started, StoreError> {
        let (loaded, store) = read(&mut *disk, restore)?;
        put_in_order(&mut *disk, &loaded)?;
        disk.note_boot();
        can_create(&mut *disk)?;
        identify(&mut *disk, store)?;
        let held = OwnFiles::new(disk);
        let path = &settings.path;
        let mut disk = held.map_err(|source| StoreError::io(path, source))?;
        let is_log_gone = loaded.is_followed && loaded.segments.is_empty();
        let mut log = Log::resume(
            &mut disk,
            store,
            settings.fsync,
            settings.segment_bytes,
            loaded.segments,
            loaded.last_sequence + 1,
            !loaded.is_log_behind,
        )?;
        if !log.is_open()
            && let Err(error) = log.roll(&mut disk)
        {
            // Without room what is kept can be read, and there may be some later. But a log whose head was
            // not whole is looked for by the next start.
            if is_log_gone || !error.is_for_room() {
                return Err(error);
            }
        }
        let files = Files {
            disk,
            store,
            watch: Watch::default(),
            room: Room::default(),
            workers,
            fsync: settings.fsync,
            save_interval: settings.save_interval,
            segment_bytes: settings.segment_bytes,
            snapshot_factor: settings.snapshot_factor,
            log,
            batch: Vec::new(),
            written: 0,
            time_kept: loaded.time,
            synced_told: 0,
            refusals: Refusals::default(),
            dirty_since: None,
            snapshot_sequence: loaded.snapshot.map_or(0, |(sequence, _)| sequence),
            snapshot_bytes: loaded.snapshot.map_or(0, |(_, bytes)| bytes),
            taking: None,
            slice_rest: super::pace::REST,
            is_to_write_anew: false,
            no_snapshot_before: None,
            check_at: None,
            no_snapshot: Rarely::every(RARELY),
        };
        Ok(Started {
            files,
            time: loaded.time,
        })
    }
}

impl Files {
    /// Says it anew where somebody has removed that.
    pub(super) fn identify(&mut self) -> Result<(), StoreError> {
        identify(&mut self.disk, self.store)
    }
}

/// All that is there, and whose it is: where nothing says so, it is a store from now on.
fn read(
    disk: &mut dyn Disk,
    restore: &mut dyn FnMut(Restored),
) -> Result<(Loaded, StoreId), StoreError> {
    let mut new = None;
    if Layout::read(disk)?.is_empty() {
        let store = identity::read(disk)?.unwrap_or_else(StoreId::new);
        import::import(disk, store)?;
        new = Some(store);
    } else {
        note_passed_over(disk)?;
    }
    let loaded = load::load(disk, restore, Damage::Stops)?;
    let store = loaded.store.or(new).unwrap_or_else(StoreId::new);
    Ok((loaded, store))
}

/// Says in the directory whose it is, unless it does. Without room the heads of its files have to do.
fn identify(disk: &mut dyn Disk, store: StoreId) -> Result<(), StoreError> {
    if identity::read(disk)? == Some(store) {
        return Ok(());
    }
    match identity::write(disk, store) {
        Err(error) if !error.is_for_room() => Err(error),
        _ => Ok(()),
    }
}

/// A directory in which nothing can be made would take writes only until the next segment. A full disk is
/// another thing: what is kept can be read, and there may be room later.
fn can_create(disk: &mut dyn Disk) -> Result<(), StoreError> {
    let made = disk.create(log::NEW).map(drop);
    match made.and_then(|()| disk.remove(log::NEW)) {
        Ok(()) => Ok(()),
        Err(cause) => match StoreError::create(&disk.path().join(log::NEW), cause) {
            error if error.is_for_room() => Ok(()),
            error => Err(error),
        },
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

/// Cuts off what is not whole, and removes what is superfluous or was never finished. What a snapshot was
/// saved from is kept aside: who has saved it was interrupted.
fn put_in_order(disk: &mut dyn Disk, loaded: &Loaded) -> Result<(), StoreError> {
    if let Some(torn) = &loaded.torn {
        cut_off(disk, torn).map_err(|source| StoreError::of(disk.path(), &torn.name, source))?;
    }
    move_all_aside(disk, &loaded.aside, "damaged")?;
    let unfinished = [log::NEW, snapshot::NEW, identity::NEW].map(str::to_owned);
    let names = disk.list();
    let names = names.map_err(|source| StoreError::io(disk.path(), source))?;
    for name in loaded.superfluous.iter().chain(&unfinished) {
        if names.contains(name) {
            let removed = disk.remove(name);
            removed.map_err(|source| StoreError::of(disk.path(), name, source))?;
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

/// Gives files names with that ending, which no other has, for good.
pub(super) fn move_all_aside(
    disk: &mut dyn Disk,
    names: &[String],
    ending: &str,
) -> Result<(), StoreError> {
    for name in names {
        let aside = free_name(disk, format!("{name}.{ending}"));
        let moved = aside.and_then(|aside| {
            disk.rename(name, &aside)?;
            Ok(aside)
        });
        let aside = moved.map_err(|source| StoreError::of(disk.path(), name, source))?;
        tracing::warn!(
            "{}: does not count any more, and is kept in {aside}",
            disk.path().join(name).display()
        );
    }
    match names.is_empty() {
        true => Ok(()),
        false => disk
            .sync()
            .map_err(|source| StoreError::io(disk.path(), source)),
    }
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
