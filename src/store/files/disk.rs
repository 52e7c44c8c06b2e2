//! The few things that the store does with files, so that a test can play a disk that fails.
//!
//! Names are those of files in one directory. May not know what is in them.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::StoreError;

/// One directory, wherever it is moved to.
pub trait Disk: Send {
    /// How it is called in messages: where it was when it was opened.
    fn path(&self) -> &Path;

    /// Whether its path still leads to it. An error: nothing is there, or nobody can tell.
    fn is_at_path(&self) -> io::Result<bool>;

    /// The directory to which its path leads now.
    fn at_path(&self) -> io::Result<Box<dyn Disk>>;

    /// Takes it for this process, until it is dropped. Nothing may be made, renamed or removed in it before.
    fn lock(&mut self) -> Result<(), StoreError>;

    /// What was written before this start of the machine is in order, or was put in order: from here on
    /// no loss of power has come between.
    fn note_boot(&mut self);

    /// Whether there may have been a loss of power since it was last written to.
    fn may_have_lost_power(&self) -> bool;

    /// How many bytes more it takes, where that can be told.
    fn free_bytes(&self) -> Option<u64>;

    /// The regular files in it, in no order, and those of which the system does not say what they are.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A file's length.
    fn len(&self, name: &str) -> io::Result<u64>;

    /// Which file has a name.
    fn inode(&self, name: &str) -> io::Result<Inode>;

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
}

/// Makes names outlast a loss of power, at another time or on another thread.
pub type SyncNames = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// What tells a file or a directory from all others, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// Which disk it is on.
    pub device: u64,
    /// Its number there.
    pub number: u64,
}

/// One file that is written to.
pub trait DiskFile: Send {
    /// Which file it is, whether it has a name or not.
    fn inode(&self) -> io::Result<Inode>;

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
