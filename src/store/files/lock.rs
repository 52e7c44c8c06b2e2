//! One process a directory: a lock that the kernel takes back when the process ends, however it does.
//!
//! May not look at any other file of the directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;
use super::disk::Identity;

const NAME: &str = "lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    /// It names the process.
    _file: File,
    /// Locked as well, where that can be done: nobody removes it without being noticed.
    directory: File,
}

impl Lock {
    /// Takes the directory, or says which process has it.
    pub fn take(directory: &Path) -> Result<Lock, StoreError> {
        let path = directory.join(NAME);
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
        // For whoever comes second. Without it the lock holds all the same.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock {
            _file: file,
            directory: itself,
        })
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
    let pid = text.trim();
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
    use super::*;

    #[test]
    fn a_directory_is_locked_for_everybody_else_until_the_lock_is_gone() {
        let directory = std::env::temp_dir().join(format!("iii-lock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let lock = Lock::take(&directory).unwrap();
        let refused = Lock::take(&directory).unwrap_err().to_string();
        let pid = std::process::id();
        let expected = format!("{}: locked by process {pid}", directory.display());
        assert_eq!(refused, expected);
        std::fs::remove_file(directory.join(NAME)).unwrap();
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
