//! One process a directory: a lock that the kernel takes back when the process ends, however it does.
//!
//! Its file names the process, and since when the machine has been up that wrote here last.
//!
//! May not look at any other file of the directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;
use super::boot::{self, LOCK};
use super::disk::Identity;

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Locked as well, where that can be done: nobody removes it without being noticed.
    directory: File,
}

impl Lock {
    /// Takes the directory, or says which process has it.
    pub fn take(directory: &Path) -> Result<Lock, StoreError> {
        let path = directory.join(LOCK);
        let failed = |source: io::Error| StoreError::io(&path, source);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(failed)?;
        let itself = File::open(directory).map_err(|source| StoreError::io(directory, source))?;
        let of_directory = flock(&itself, FlockOperation::NonBlockingLockExclusive);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if of_directory != Err(Errno::WOULDBLOCK) => {}
            Ok(()) | Err(Errno::WOULDBLOCK) => return Err(locked(directory, &mut file)),
            Err(error) => return Err(failed(error.into())),
        }
        let noted = boot::noted(directory);
        let mut lock = Lock {
            file,
            directory: itself,
        };
        // Without it the lock holds all the same.
        let _ = lock.write(noted.as_deref());
        Ok(lock)
    }

    /// What was written before this start of the machine is in order, or was put in order: from here on
    /// no loss of power has come between.
    pub fn note_boot(&mut self) {
        let _ = self.write(boot::current().as_deref());
    }

    fn write(&mut self, boot: Option<&str>) -> io::Result<()> {
        let text = format!("{}\n{}\n", std::process::id(), boot.unwrap_or_default());
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }

    /// Whether that is still the directory that was taken.
    pub fn is_of(&self, directory: &Path) -> bool {
        let of_path = std::fs::metadata(directory).map(Identity::from);
        let taken = self.directory.metadata().map(Identity::from);
        matches!((of_path, taken), (Ok(of_path), Ok(taken)) if of_path == taken)
    }
}

fn locked(directory: &Path, file: &mut File) -> StoreError {
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    let pid = text.lines().next().unwrap_or_default();
    let by = match read {
        Ok(_) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    StoreError::Locked {
        directory: directory.to_owned(),
        by,
    }
}

#[cfg(test)]
mod tests {
    use super::boot::may_have_lost_power;
    use super::*;

    #[test]
    fn a_directory_is_locked_for_everybody_else_until_the_lock_is_gone() {
        let directory = std::env::temp_dir().join(format!("iii-lock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert!(may_have_lost_power(&directory));
        let mut lock = Lock::take(&directory).unwrap();
        assert!(may_have_lost_power(&directory), "nobody has said otherwise");
        lock.note_boot();
        assert!(!may_have_lost_power(&directory));
        let refused = Lock::take(&directory).unwrap_err().to_string();
        let pid = std::process::id();
        let expected = format!("{}: locked by process {pid}", directory.display());
        assert_eq!(refused, expected);
        std::fs::remove_file(directory.join(LOCK)).unwrap();
        Lock::take(&directory).unwrap_err();
        assert!(lock.is_of(&directory));
        drop(lock);
        let lock = Lock::take(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(!lock.is_of(&directory));
        std::fs::create_dir(&directory).unwrap();
        assert!(!lock.is_of(&directory), "another of that name");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
