//! A directory in memory, for files that are read back.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use iii_stream::store::files::{Disk, DiskFile, Inode, StoreError, SyncNames, Syncing};

type Bytes = Arc<Mutex<Vec<u8>>>;

#[derive(Clone, Default)]
pub(crate) struct InMemory(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl InMemory {
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut files = self.files();
        files.insert(name.to_owned(), Arc::new(Mutex::new(bytes)));
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().expect("nobody has panicked")
    }

    fn file(&self, name: &str) -> io::Result<Bytes> {
        let found = self.files().get(name).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for InMemory {
    fn path(&self) -> &Path {
        Path::new("in memory")
    }

    fn is_at_path(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn at_path(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(self.clone()))
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn note_boot(&mut self) {}

    fn may_have_lost_power(&self) -> bool {
        true
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.lock().expect("nobody has panicked").len() as u64)
    }

    fn inode(&self, name: &str) -> io::Result<Inode> {
        Ok(inode_of(&self.file(name)?))
    }

    fn open(&self, name: &str, from: u64) -> io::Result<Box<dyn Read>> {
        let mut bytes = Cursor::new(
            self.file(name)?
                .lock()
                .expect("nobody has panicked")
                .clone(),
        );
        bytes.set_position(from);
        Ok(Box::new(bytes))
    }

    fn reopen(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Open(self.file(name)?)))
    }

    fn create(&mut self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.put(name, Vec::new());
        self.reopen(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = self.files();
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let removed = self.files().remove(name);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn begin_remove(&mut self, names: Vec<String>) {
        for name in names {
            self.files().remove(&name);
        }
    }

    fn names_syncer(&self) -> SyncNames {
        Arc::new(|| Ok(()))
    }
}

struct Open(Bytes);

fn inode_of(bytes: &Bytes) -> Inode {
    Inode {
        device: 1,
        number: Arc::as_ptr(bytes).addr() as u64,
    }
}

impl DiskFile for Open {
    fn inode(&self) -> io::Result<Inode> {
        Ok(inode_of(&self.0))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.0.lock().expect("nobody has panicked");
        file.extend_from_slice(bytes);
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut file = self.0.lock().expect("nobody has panicked");
        file.truncate(len as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn begin_sync(&mut self, _: Option<SyncNames>) -> Syncing {
        Syncing::done(Ok(()))
    }
}
