//! The directory that a server has taken, and which of the files in it it has made or read.
//!
//! A file of the same name that is another is not the server's: it is neither removed nor written over.
//! May not know what is in a file.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use super::StoreError;
use super::disk::{Disk, DiskFile, Inode, SyncNames};

pub(super) struct OwnFiles {
    disk: Box<dyn Disk>,
    /// The files by their names.
    files: HashMap<String, Inode>,
}

impl OwnFiles {
    /// What is there now is the server's.
    pub(super) fn new(disk: Box<dyn Disk>) -> io::Result<OwnFiles> {
        let mut files = HashMap::new();
        for name in disk.list()? {
            // A link that leads nowhere is no file yet.
            if let Ok(inode) = disk.inode(&name) {
                files.insert(name, inode);
            }
        }
        Ok(OwnFiles { disk, files })
    }

    /// Whether the file that has a name is the one that the server has made or read.
    pub(super) fn is_own(&self, name: &str) -> bool {
        let found = self.disk.inode(name).ok();
        found.is_some() && found.as_ref() == self.files.get(name)
    }

    /// Refuses a change to a file that is another's.
    fn own(&self, name: &str) -> io::Result<()> {
        match self.disk.inode(name) {
            Ok(inode) if self.files.get(name) != Some(&inode) => Err(io::Error::other(
                "is another file than the one that was written",
            )),
            _ => Ok(()),
        }
    }
}

impl Disk for OwnFiles {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn is_at_path(&self) -> io::Result<bool> {
        self.disk.is_at_path()
    }

    fn at_path(&self) -> io::Result<Box<dyn Disk>> {
        self.disk.at_path()
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        self.disk.lock()
    }

    fn note_boot(&mut self) {
        self.disk.note_boot();
    }

    fn may_have_lost_power(&self) -> bool {
        self.disk.may_have_lost_power()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn inode(&self, name: &str) -> io::Result<Inode> {
        self.disk.inode(name)
    }

    fn open(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>> {
        self.disk.open(name, from)
    }

    fn reopen(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.own(name)?;
        let file = self.disk.reopen(name)?;
        self.files.insert(name.to_owned(), file.inode()?);
        Ok(file)
    }

    fn create(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.own(name)?;
        let file = self.disk.create(name)?;
        self.files.insert(name.to_owned(), file.inode()?);
        Ok(file)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.own(from)?;
        self.own(to)?;
        self.disk.rename(from, to)?;
        if let Some(inode) = self.files.remove(from) {
            self.files.insert(to.to_owned(), inode);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.own(name)?;
        self.disk.remove(name)?;
        self.files.remove(name);
        Ok(())
    }

    fn begin_remove(&mut self, mut names: Vec<String>) {
        names.retain(|name| self.is_own(name));
        self.disk.begin_remove(names);
    }

    fn names_syncer(&self) -> SyncNames {
        self.disk.names_syncer()
    }
}
