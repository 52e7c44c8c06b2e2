//! A disk in memory that fails on cue, and loses what was not synced when it is told to.
//!
//! For the tests of the store alone.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::StoreError;
use super::disk::{Disk, DiskFile, Inode, SyncNames, Syncing};

/// What is written at a time, in whatever order, until a sync.
const BLOCK_BYTES: usize = 512;

/// One directory, shared with the files that it has given out, and with the test.
#[derive(Default)]
pub(super) struct TestDisk {
    state: Arc<Mutex<State>>,
    /// This one has the lock, as long as it lives.
    lock: Option<Arc<()>>,
}

/// Another one that has not locked it.
impl Clone for TestDisk {
    fn clone(&self) -> TestDisk {
        TestDisk {
            state: Arc::clone(&self.state),
            lock: None,
        }
    }
}

/// A path, and the directory to which it leads.
#[derive(Clone, Default)]
pub(super) struct TestPath(Arc<Mutex<Option<TestDisk>>>);

impl TestPath {
    pub(super) fn leads_to(&self, disk: &TestDisk) {
        disk.state().path = Some(self.clone());
        *self.0.lock().unwrap() = Some(disk.clone());
    }

    pub(super) fn leads_nowhere(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn end(&self) -> io::Result<TestDisk> {
        let end = self.0.lock().unwrap().clone();
        end.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Default)]
struct State {
    /// Where it was when it was opened; none: it stays where it is.
    path: Option<TestPath>,
    locked: Weak<()>,
    /// So much fits into all files.
    capacity: Option<usize>,
    /// So many more changes, then the process is killed: none is made any more.
    changes: Option<usize>,
    files: BTreeMap<String, Arc<Mutex<Bytes>>>,
    /// The names that a loss of power leaves.
    synced_names: BTreeMap<String, Arc<Mutex<Bytes>>>,
    /// So many more bytes are written, then every write fails.
    room: Option<usize>,
    has_lost_power: bool,
    cuts_fail: bool,
    creations_fail: bool,
    /// They are there, and whoever opens them to read is refused.
    unreadable: Vec<String>,
    /// So many more syncs work, then one fails.
    syncs: Option<usize>,
    writes: usize,
    /// Syncs that were begun end when they are told to.
    syncs_wait: bool,
    begun: Vec<Begun>,
}

struct Begun {
    file: Arc<Mutex<Bytes>>,
    /// What it makes last.
    up_to: Vec<u8>,
    names: Option<SyncNames>,
    tell: Sender<io::Result<()>>,
}

#[derive(Default)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// A sync has failed: later ones say that they work, and do not.
    is_lost: bool,
}

impl TestDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Before each change: whoever makes it has the lock, if anybody has.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let holder = state.locked.upgrade();
        assert!(
            holder.is_none_or(|holder| {
                let mine = self.lock.as_ref();
                mine.is_some_and(|mine| Arc::ptr_eq(mine, &holder))
            }),
            "changed without the lock"
        );
        state.changed()?;
        Ok(state)
    }

    /// Somebody who asks for no lock changes it.
    pub(super) fn unlocked<T>(&self, change: impl FnOnce(&mut TestDisk) -> T) -> T {
        let locked = std::mem::take(&mut self.state().locked);
        let changed = change(&mut self.clone());
        self.state().locked = locked;
        changed
    }

    pub(super) fn capacity(&self, bytes: usize) {
        self.state().capacity = Some(bytes);
    }

    pub(super) fn kill_after(&self, changes: Option<usize>) {
        self.state().changes = changes;
    }

    /// Whether it was killed.
    pub(super) fn is_killed(&self) -> bool {
        self.state().changes == Some(0)
    }

    pub(super) fn room(&self, bytes: Option<usize>) {
        self.state().room = bytes;
    }

    pub(super) fn has_lost_power(&self) {
        self.state().has_lost_power = true;
    }

    pub(super) fn cuts_fail(&self, fail: bool) {
        self.state().cuts_fail = fail;
    }

    pub(super) fn creations_fail(&self, fail: bool) {
        self.state().creations_fail = fail;
    }

    pub(super) fn unreadable(&self, names: Vec<String>) {
        self.state().unreadable = names;
    }

    pub(super) fn fail_sync_after(&self, syncs: usize) {
        self.state().syncs = Some(syncs);
    }

    pub(super) fn syncs_work(&self) {
        self.state().syncs = None;
    }

    pub(super) fn syncs_wait(&self, wait: bool) {
        self.state().syncs_wait = wait;
    }

    /// Ends the syncs that were begun.
    pub(super) fn end_syncs(&self) {
        let begun = std::mem::take(&mut self.state().begun);
        for begun in begun {
            // One that began earlier and ends later takes nothing back.
            let synced = begun.file.lock().unwrap().synced.clone();
            let is_later = synced.starts_with(&begun.up_to);
            let up_to = if is_later { synced } else { begun.up_to };
            let outcome = self.state().sync(&begun.file, up_to);
            let outcome = outcome.and_then(|()| begun.names.map_or(Ok(()), |sync| sync()));
            let _ = begun.tell.send(outcome);
        }
    }

    pub(super) fn writes(&self) -> usize {
        self.state().writes
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().files.keys().cloned().collect()
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        self.state().files[name].lock().unwrap().now.clone()
    }

    /// What is written stays, as after a kill of the process.
    pub(super) fn copy(&self) -> TestDisk {
        let disk = TestDisk::default();
        for (name, file) in &self.state().files {
            disk.put(name, file.lock().unwrap().now.clone());
        }
        disk
    }

    /// What was not synced is gone, but for a part of it that `keep` says, as after a loss of power.
    /// Names last as well, though nobody has synced them, if `keep` of 1 says so.
    pub(super) fn after_power_loss(&self, mut keep: impl FnMut(usize) -> usize) -> TestDisk {
        let disk = TestDisk::default();
        disk.has_lost_power();
        let state = self.state();
        let names = match keep(1) {
            0 => &state.synced_names,
            _ => &state.files,
        };
        for (name, file) in names {
            let file = file.lock().unwrap();
            let mut bytes = file.synced.clone();
            if file.now.starts_with(&bytes) {
                let more = keep(file.now.len() - bytes.len());
                bytes.extend_from_slice(&file.now[bytes.len()..][..more]);
            }
            disk.put(name, bytes);
        }
        disk
    }

    /// What was synced is there. Of the blocks behind it those are that `keeps` says, in any order; the
    /// others read as zeros, or as what was synced of them. A file may be as long as it was all the same.
    pub(super) fn after_blocks_lost(&self, mut keeps: impl FnMut() -> bool) -> TestDisk {
        let disk = TestDisk::default();
        disk.has_lost_power();
        for (name, file) in &self.state().synced_names {
            let file = file.lock().unwrap();
            let mut bytes = file.synced.clone();
            if file.now.starts_with(&bytes) {
                let begin = bytes.len();
                let blocks = begin / BLOCK_BYTES..file.now.len().div_ceil(BLOCK_BYTES);
                for block in blocks.filter(|_| keeps()) {
                    let from = (block * BLOCK_BYTES).max(begin);
                    let to = ((block + 1) * BLOCK_BYTES).min(file.now.len());
                    bytes.resize(from.max(bytes.len()), 0);
                    bytes.extend_from_slice(&file.now[from..to]);
                }
                if keeps() {
                    bytes.resize(file.now.len(), 0);
                }
            }
            disk.put(name, bytes);
        }
        disk
    }

    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let file = Arc::new(Mutex::new(Bytes {
            synced: bytes.clone(),
            now: bytes,
            is_lost: false,
        }));
        let mut state = self.state();
        state.files.insert(name.to_owned(), Arc::clone(&file));
        state.synced_names.insert(name.to_owned(), file);
    }

    fn find(&self, name: &str) -> io::Result<Arc<Mutex<Bytes>>> {
        let state = self.state();
        let found = state.files.get(name);
        found.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for TestDisk {
    fn path(&self) -> &Path {
        Path::new("disk")
    }

    fn is_at_path(&self) -> io::Result<bool> {
        let path = self.state().path.clone();
        let end = path.map_or_else(|| Ok(self.clone()), |path| path.end())?;
        Ok(Arc::ptr_eq(&end.state, &self.state))
    }

    fn at_path(&self) -> io::Result<Box<dyn Disk>> {
        let path = self.state().path.clone();
        let end = path.map_or_else(|| Ok(self.clone()), |path| path.end())?;
        Ok(Box::new(end))
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.locked.upgrade().is_some() {
            return Err(StoreError::Locked {
                directory: "disk".into(),
                by: "another process".to_owned(),
            });
        }
        let lock = Arc::new(());
        state.locked = Arc::downgrade(&lock);
        drop(state);
        self.lock = Some(lock);
        Ok(())
    }

    fn note_boot(&mut self) {}

    fn may_have_lost_power(&self) -> bool {
        self.state().has_lost_power
    }

    fn free_bytes(&self) -> Option<u64> {
        self.state().free().map(|free| free as u64)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.find(name)?.lock().unwrap().now.len() as u64)
    }

    fn inode(&self, name: &str) -> io::Result<Inode> {
        self.find(name).map(|file| inode_of(&file))
    }

    fn open(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>> {
        if self.state().unreadable.iter().any(|found| found == name) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut bytes = io::Cursor::new(self.find(name)?.lock().unwrap().now.clone());
        bytes.set_position(from);
        Ok(Box::new(bytes))
    }

    fn reopen(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.find(name)?;
        Ok(Box::new(TestFile {
            disk: self.clone(),
            file,
        }))
    }

    fn create(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.change()?;
        if state.creations_fail {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = Arc::new(Mutex::new(Bytes::default()));
        state.files.insert(name.to_owned(), Arc::clone(&file));
        drop(state);
        Ok(Box::new(TestFile {
            disk: self.clone(),
            file,
        }))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        let mut state = self.change()?;
        state.files.remove(from);
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.change()?.files.remove(name);
        Ok(())
    }

    fn begin_remove(&mut self, names: Vec<String>) {
        for name in names {
            if let Ok(mut state) = self.change() {
                state.files.remove(&name);
            }
        }
    }

    fn names_syncer(&self) -> SyncNames {
        let disk = self.clone();
        Arc::new(move || {
            let mut state = disk.state();
            state.changed()?;
            state.synced_names = state.files.clone();
            Ok(())
        })
    }
}

struct TestFile {
    disk: TestDisk,
    file: Arc<Mutex<Bytes>>,
}

fn inode_of(file: &Arc<Mutex<Bytes>>) -> Inode {
    Inode {
        device: 0,
        number: Arc::as_ptr(file) as u64,
    }
}

impl DiskFile for TestFile {
    fn inode(&self) -> io::Result<Inode> {
        Ok(inode_of(&self.file))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.changed()?;
        state.writes += 1;
        let free = state.free().unwrap_or(bytes.len());
        let fits = state.room.unwrap_or(bytes.len()).min(free).min(bytes.len());
        if let Some(room) = &mut state.room {
            *room -= fits;
        }
        let mut file = self.file.lock().unwrap();
        file.now.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.changed()?;
        if state.cuts_fail {
            return Err(io::Error::other("cut fails"));
        }
        drop(state);
        self.file.lock().unwrap().now.truncate(len as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let up_to = self.file.lock().unwrap().now.clone();
        self.disk.state().sync(&self.file, up_to)
    }

    fn begin_sync(&mut self, names: Option<SyncNames>) -> Syncing {
        if !self.disk.state().syncs_wait {
            let synced = self.sync();
            return Syncing::done(synced.and_then(|()| names.map_or(Ok(()), |sync| sync())));
        }
        let (tell, told) = channel();
        self.disk.state().begun.push(Begun {
            file: Arc::clone(&self.file),
            up_to: self.file.lock().unwrap().now.clone(),
            names,
            tell,
        });
        Syncing::told_by(told)
    }
}

impl State {
    fn changed(&mut self) -> io::Result<()> {
        match &mut self.changes {
            None => return Ok(()),
            Some(0) => {}
            Some(left) => {
                *left -= 1;
                if *left > 0 {
                    return Ok(());
                }
            }
        }
        Err(io::Error::other("killed"))
    }

    fn free(&self) -> Option<usize> {
        let used = self.files.values();
        let used = used.map(|file| file.lock().unwrap().now.len()).sum();
        self.capacity.map(|capacity| capacity.saturating_sub(used))
    }

    fn sync(&mut self, file: &Mutex<Bytes>, up_to: Vec<u8>) -> io::Result<()> {
        self.changed()?;
        let mut file = file.lock().unwrap();
        match self.syncs {
            Some(0) => {
                self.syncs = None;
                file.is_lost = true;
                return Err(io::Error::other("sync fails"));
            }
            Some(left) => self.syncs = Some(left - 1),
            None => {}
        }
        if !file.is_lost {
            file.synced = up_to;
        }
        Ok(())
    }
}
