//! The few things that the store does with files, so that a test can play a disk that fails.
//!
//! Names are those of files in one directory. May not know what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use super::boot;

/// One directory.
pub trait Disk: Send {
    /// How it is called in messages.
    fn path(&self) -> &Path;

    /// The regular files in it, in no order, and those of which the system does not say what they are.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file's length.
    fn len(&self, name: &str) -> io::Result<u64>;

    /// Which file has a name.
    fn identity(&self, name: &str) -> io::Result<Identity>;

    /// A file, from that byte on.
    fn open(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>>;

    /// A file that is there, to go on at its end.
    fn reopen(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// A new file. One of that name is emptied.
    fn create(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name; one that has it goes.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Removes files, one after another, beside whatever comes next: the space of a large one takes a
    /// while to give back. What cannot be removed stays.
    fn begin_remove(&mut self, names: Vec<String>);

    /// Makes names outlast a loss of power.
    fn sync(&mut self) -> io::Result<()> {
        self.names_syncer()()
    }

    /// Does so wherever it is called.
    fn names_syncer(&self) -> SyncNames;

    /// Whether there may have been a loss of power since it was last written to.
    fn may_have_lost_power(&self) -> bool;
}

/// Makes names outlast a loss of power, at another time or on another thread.
pub type SyncNames = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// What tells a file from all others, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Which disk it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl From<fs::Metadata> for Identity {
    fn from(found: fs::Metadata) -> Identity {
        Identity {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// One file that is written to.
pub trait DiskFile: Send {
    /// Which file it is, whether it has a name or not.
    fn identity(&self) -> io::Result<Identity>;

    /// Writes all of it at the end. After an error some of it may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Takes away what is behind that length.
    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// Makes what was written outlast a loss of power.
    fn sync(&mut self) -> io::Result<()>;

    /// Begins to sync what was written so far, and then names; more may be written meanwhile.
    fn begin_sync(&mut self, names: Option<SyncNames>) -> Syncing;
}

/// A sync that goes on by itself.
pub struct Syncing(Receiver<io::Result<()>>);

impl Syncing {
    /// Its outcome is what is sent.
    pub fn told_by(outcome: Receiver<io::Result<()>>) -> Syncing {
        Syncing(outcome)
    }

    /// One that is over.
    pub fn done(outcome: io::Result<()>) -> Syncing {
        let (tell, told) = channel();
        // The receiver is there.
        let _ = tell.send(outcome);
        Syncing(told)
    }

    /// The outcome, once it is over.
    pub fn poll(&self) -> Option<io::Result<()>> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(lost())),
        }
    }

    /// Waits until it is over.
    pub fn wait(&self) -> io::Result<()> {
        self.0.recv().unwrap_or_else(|_| Err(lost()))
    }
}

fn lost() -> io::Error {
    io::Error::other("a sync has ended without an outcome")
}

/// A directory of the operating system.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// That directory; it and its parents are made if they are not there.
    pub fn make(path: &Path) -> io::Result<Directory> {
        match fs::create_dir_all(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(io::Error::other("is there and is no directory"))
            }
            made => made.and_then(|()| Directory::at(path)),
        }
    }

    /// That directory, which has to be there.
    pub fn at(path: &Path) -> io::Result<Directory> {
        fs::read_dir(path)?;
        Ok(Directory(path.to_owned()))
    }
}

impl Disk for Directory {
    fn path(&self) -> &Path {
        &self.0
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            // Links are followed. What is no file is nobody's business; a link that leads nowhere is a
            // file of ours that is elsewhere, if it has such a name.
            let kind = entry.file_type()?;
            let may_be_file = match kind.is_symlink() {
                true => fs::metadata(entry.path()).map_or(true, |found| found.is_file()),
                false => kind.is_file(),
            };
            if let (true, Ok(name)) = (may_be_file, entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.0.join(name))?.len())
    }

    fn identity(&self, name: &str) -> io::Result<Identity> {
        fs::metadata(self.0.join(name)).map(Identity::from)
    }

    fn open(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>> {
        let mut file = File::open(self.0.join(name))?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Box::new(file))
    }

    fn reopen(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).open(self.0.join(name))?;
        Ok(Box::new(file))
    }

    fn create(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.0.join(name);
        // Append mode: after a cut the next write goes to the new end.
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(0)?;
        Ok(Box::new(file))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn begin_remove(&mut self, names: Vec<String>) {
        let directory = self.0.clone();
        let thread = thread::Builder::new().name("remove".to_owned());
        // Without a thread they stay until the next start, as those do whose removal fails.
        let _ = thread.spawn(move || {
            for name in names {
                let _ = fs::remove_file(directory.join(name));
            }
        });
    }

    fn may_have_lost_power(&self) -> bool {
        boot::may_have_lost_power(&self.0)
    }

    fn names_syncer(&self) -> SyncNames {
        let path = self.0.clone();
        Arc::new(move || File::open(&path)?.sync_all())
    }
}

impl DiskFile for File {
    fn identity(&self) -> io::Result<Identity> {
        self.metadata().map(Identity::from)
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
            Ok(_) => Syncing(told),
            Err(_) => Syncing::done(sync_with(self, names)),
        }
    }
}

fn sync_with(file: &File, names: Option<SyncNames>) -> io::Result<()> {
    file.sync_data()?;
    names.map_or(Ok(()), |sync| sync())
}
