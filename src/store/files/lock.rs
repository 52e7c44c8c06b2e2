//! One process a directory: a lock that the kernel takes back when the process ends, however it does.
//!
//! Its file names the process, and since when the machine has been up that wrote here last.
//!
//! May not look at any other file of the directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use super::{StoreError, boot};

/// The file of the lock, which has the process in its first line.
pub(super) const LOCK: &str = "lock";

/// No lock says more.
const TEXT_BYTES_MAX: u64 = 256;

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// Locked as well, where that can be done: nobody removes the file without being noticed.
    _directory: OwnedFd,
}

impl Lock {
    /// Takes an open directory, or says which process has it.
    pub(super) fn take(directory: BorrowedFd<'_>, path: &Path) -> Result<Lock, StoreError> {
        let failed = |cause: Errno| StoreError::create(&path.join(LOCK), cause.into());
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(directory, LOCK, flags, Mode::from_raw_mode(0o666));
        let mut file = File::from(file.map_err(failed)?);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let itself = openat(directory, ".", flags, Mode::empty());
        let itself = itself.map_err(|cause| StoreError::io(path, cause.into()))?;
        let of_directory = flock(&itself, FlockOperation::NonBlockingLockExclusive);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if of_directory != Err(Errno::WOULDBLOCK) => {}
            Ok(()) | Err(Errno::WOULDBLOCK) => return Err(locked(path, &mut file)),
            Err(cause) => return Err(StoreError::io(&path.join(LOCK), cause.into())),
        }
        // A lock that cannot be read says nothing.
        let text = text_of(&mut file).unwrap_or_default();
        let mut lock = Lock {
            file,
            _directory: itself,
        };
        lock.note(boot::noted(&text).as_deref());
        Ok(lock)
    }

    /// Notes the process, and since when the machine has been up.
    pub(super) fn note(&mut self, boot: Option<&str>) {
        // Without it the lock holds all the same.
        let _ = self.write(boot);
    }

    fn write(&mut self, boot: Option<&str>) -> io::Result<()> {
        let text = format!("{}\n{}\n", std::process::id(), boot.unwrap_or_default());
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

fn text_of(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(TEXT_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn locked(directory: &Path, file: &mut File) -> StoreError {
    let text = text_of(file).unwrap_or_default();
    let by = match text.lines().next().unwrap_or_default() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    };
    StoreError::Locked {
        directory: directory.to_owned(),
        by,
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::CWD;

    use super::super::directory::Directory;
    use super::super::disk::Disk;
    use super::*;

    #[test]
    fn a_directory_is_locked_for_everybody_else_until_the_lock_is_gone() {
        let path = std::env::temp_dir().join(format!("iii-lock-{}", std::process::id()));
        let mut directory = Directory::make(&path).unwrap();
        assert!(directory.may_have_lost_power());
        directory.lock().unwrap();
        assert!(directory.may_have_lost_power(), "nobody has said otherwise");
        directory.note_boot();
        assert!(!directory.may_have_lost_power());
        let taken = || Directory::at(&path).unwrap().lock();
        let refused = taken().unwrap_err().to_string();
        let pid = std::process::id();
        let expected = format!("{}: locked by process {pid}", path.display());
        assert_eq!(refused, expected);
        directory.remove(LOCK).unwrap();
        taken().unwrap_err();
        assert!(directory.is_at_path().unwrap());
        drop(directory);
        taken().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
        let path = std::env::temp_dir().join(format!("iii-pipe-{}", std::process::id()));
        let mut directory = Directory::make(&path).unwrap();
        for name in [LOCK, "read", "written"] {
            rustix::fs::mkfifoat(CWD, path.join(name), Mode::from_raw_mode(0o600)).unwrap();
        }
        directory.lock().unwrap();
        directory.open("read", 0).err().unwrap();
        directory.create("written").err().unwrap();
        directory.reopen("written").err().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_directory_stays_the_same_when_it_is_moved() {
        let path = std::env::temp_dir().join(format!("iii-moved-{}", std::process::id()));
        let moved = path.with_extension("moved");
        let mut directory = Directory::make(&path).unwrap();
        directory.lock().unwrap();
        std::fs::rename(&path, &moved).unwrap();
        assert!(directory.is_at_path().is_err(), "nothing is there");
        std::fs::create_dir(&path).unwrap();
        assert!(!directory.is_at_path().unwrap(), "another of that name");
        directory.at_path().unwrap().lock().unwrap();
        directory.create("made").unwrap();
        directory.rename("made", "renamed").unwrap();
        directory.sync().unwrap();
        assert!(moved.join("renamed").exists());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "its lock");
        directory.begin_remove(vec!["renamed".to_owned()]);
        drop(directory);
        assert!(!moved.join("renamed").exists());
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::remove_dir_all(&moved).unwrap();
    }
}
