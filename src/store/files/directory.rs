//! A directory of the operating system: everything in it is opened relative to its descriptor, so that
//! it stays the same directory whatever becomes of its path.
//!
//! May not know what is in a file.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatvfs, fsync, openat, renameat,
    stat, statat, unlinkat,
};

use super::StoreError;
use super::boot;
use super::disk::{Disk, DiskFile, Inode, SyncNames, Syncing};
use super::lock::{LOCK, Lock};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// Nobody waits for the other end of what is no file, as a pipe is.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
const APPEND: OFlags = OFlags::WRONLY
    .union(OFlags::APPEND)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
/// Less what the process masks.
const MODE: Mode = Mode::from_raw_mode(0o666);

/// A directory, open.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    descriptor: Arc<OwnedFd>,
    /// Threads that remove files beside whatever comes next.
    removals: Vec<JoinHandle<()>>,
    lock: Option<Lock>,
}

impl Directory {
    /// That directory; it and its parents are made if they are not there.
    pub fn make(path: &Path) -> Result<Directory, StoreError> {
        match fs::create_dir_all(path) {
            Err(cause) if cause.kind() == ErrorKind::AlreadyExists => Err(StoreError::io(
                path,
                io::Error::other("is there and is no directory"),
            )),
            Err(cause) => Err(StoreError::create(path, cause)),
            Ok(()) => Directory::at(path).map_err(|cause| StoreError::io(path, cause)),
        }
    }

    /// That directory, which has to be there.
    pub fn at(path: &Path) -> io::Result<Directory> {
        let descriptor = openat(CWD, path, DIRECTORY, Mode::empty())?;
        // A directory that cannot be listed is of no use.
        Dir::read_from(&descriptor)?;
        Ok(Directory {
            path: path.to_owned(),
            descriptor: Arc::new(descriptor),
            removals: Vec::new(),
            lock: None,
        })
    }

    /// Whether nothing at all is in it.
    pub fn is_empty(&self) -> io::Result<bool> {
        let mut entries = Dir::read_from(&*self.descriptor)?.map(|entry| {
            let entry = entry?;
            Ok(!matches!(entry.file_name().to_bytes(), b"." | b".."))
        });
        entries
            .find(|is_entry| !matches!(is_entry, Ok(false)))
            .map_or(Ok(true), |found: io::Result<bool>| found.map(|_| false))
    }

    fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(statat(&*self.descriptor, name, AtFlags::empty())?)
    }

    /// The boot that was noted last.
    fn noted(&self) -> Option<String> {
        let mut text = String::new();
        let mut file = self.open(LOCK, 0).ok()?;
        file.read_to_string(&mut text).ok()?;
        boot::noted(&text)
    }
}

fn inode_of(stat: &Stat) -> Inode {
    Inode {
        device: stat.st_dev,
        number: stat.st_ino,
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing is removed without the lock.
        for removal in self.removals.drain(..) {
            // One that has failed has left its files.
            let _ = removal.join();
        }
    }
}

impl Disk for Directory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_at_path(&self) -> io::Result<bool> {
        let there = inode_of(&stat(&self.path)?);
        Ok(there == inode_of(&fstat(&*self.descriptor)?))
    }

    fn at_path(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(Directory::at(&self.path)?))
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        self.lock = Some(Lock::take(self.descriptor.as_fd(), &self.path)?);
        Ok(())
    }

    fn note_boot(&mut self) {
        if let Some(lock) = &mut self.lock {
            lock.note(boot::current().as_deref());
        }
    }

    fn may_have_lost_power(&self) -> bool {
        boot::may_have_lost_power(self.noted().as_deref())
    }

    fn free_bytes(&self) -> Option<u64> {
        let found = fstatvfs(&*self.descriptor).ok()?;
        // Some file systems do not say how large they are.
        (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&*self.descriptor)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            // Links are followed. What is no file is nobody's business; a link that leads nowhere is a
            // file of ours that is elsewhere, if it has such a name.
            let may_be_file = match entry.file_type() {
                FileType::Symlink | FileType::Unknown => self.stat(name).map_or(true, |found| {
                    FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
                }),
                kind => kind == FileType::RegularFile,
            };
            if may_be_file {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(u64::try_from(self.stat(name)?.st_size).unwrap_or_default())
    }

    fn inode(&self, name: &str) -> io::Result<Inode> {
        Ok(inode_of(&self.stat(name)?))
    }

    fn open(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>> {
        let mut file = File::from(openat(&*self.descriptor, name, READ, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("is there and is no file"));
        }
        file.seek(SeekFrom::Start(from))?;
        Ok(Box::new(file))
    }

    fn reopen(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = openat(&*self.descriptor, name, APPEND, Mode::empty())?;
        Ok(Box::new(File::from(file)))
    }

    fn create(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        // Append mode: after a cut the next write goes to the new end.
        let flags = APPEND | OFlags::CREATE;
        let file = File::from(openat(&*self.descriptor, name, flags, MODE)?);
        file.set_len(0)?;
        Ok(Box::new(file))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&*self.descriptor, from, &*self.descriptor, to)?)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&*self.descriptor, name, AtFlags::empty())?)
    }

    fn begin_remove(&mut self, names: Vec<String>) {
        self.removals.retain(|removal| !removal.is_finished());
        let directory = Arc::clone(&self.descriptor);
        let thread = thread::Builder::new().name("remove".to_owned());
        let spawned = thread.spawn(move || {
            for name in names {
                // What stays is removed by the next start.
                let _ = unlinkat(&*directory, name, AtFlags::empty());
            }
        });
        // Without a thread they stay until the next start, as those do whose removal fails.
        self.removals.extend(spawned);
    }

    fn names_syncer(&self) -> SyncNames {
        let directory = Arc::clone(&self.descriptor);
        Arc::new(move || Ok(fsync(&*directory)?))
    }
}

impl DiskFile for File {
    fn inode(&self) -> io::Result<Inode> {
        let found = self.metadata()?;
        Ok(Inode {
            device: found.dev(),
            number: found.ino(),
        })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn begin_sync(&mut self, names: Option<SyncNames>) -> Syncing {
        // No more files may be opened: then it takes its time here.
        let Ok(file) = self.try_clone() else {
            return Syncing::done(sync_with(self, names));
        };
        let (tell, told) = channel();
        let thread = thread::Builder::new().name("sync".to_owned());
        let names_there = names.clone();
        let spawned = thread.spawn(move || {
            // Whoever began it may have been closed.
            let _ = tell.send(sync_with(&file, names_there));
        });
        match spawned {
            Ok(_) => Syncing::told_by(told),
            Err(_) => Syncing::done(sync_with(self, names)),
        }
    }
}

fn sync_with(file: &File, names: Option<SyncNames>) -> io::Result<()> {
    file.sync_data()?;
    names.map_or(Ok(()), |sync| sync())
}
