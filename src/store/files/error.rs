//! Why the store cannot do what it should.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why the store cannot do what it should.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the messages name")]
pub enum StoreError {
    /// The operating system refuses.
    #[error("{}: {cause}{}", path.display(), by_whom(cause))]
    Io { path: PathBuf, cause: io::Error },
    /// It refuses to make something.
    #[error("cannot create {} as uid {uid}: {cause}", path.display())]
    Create {
        path: PathBuf,
        uid: u32,
        cause: io::Error,
    },
    /// Somebody else has the directory.
    #[error("{}: locked by {by}", directory.display())]
    Locked { directory: PathBuf, by: String },
    /// A file is not as it was written.
    #[error(
        "{}: damaged at byte {offset}; `iii-stream recover --data {}` says what can be saved",
        file.display(), directory.display()
    )]
    Damaged {
        file: PathBuf,
        offset: u64,
        directory: PathBuf,
    },
    /// A file is not there.
    #[error(
        "{}: missing; `iii-stream recover --data {}` says what can be saved",
        file.display(), directory.display()
    )]
    Missing { file: PathBuf, directory: PathBuf },
    /// Written by a version that knows more.
    #[error("{}: written by a newer version of iii-stream (format {version}, this one reads {ours})", file.display())]
    Newer {
        file: PathBuf,
        version: u32,
        ours: u32,
    },
    /// A file of one store in the directory of another.
    #[error(
        "{}: is of another store than {of}; nothing was changed; `iii-stream recover --data {}` says what can be saved",
        file.display(), directory.display()
    )]
    Stranger {
        file: PathBuf,
        of: String,
        directory: PathBuf,
    },
    /// What stands in the directory now was not written by this process.
    #[error("{0}")]
    NotOurs(String),
    /// What room there is, is kept for a snapshot: it gives back more.
    #[error(
        "{}: No space left on device: {free_bytes} bytes are free, and the next snapshot may need {kept_bytes}",
        directory.display()
    )]
    NoRoom {
        directory: PathBuf,
        free_bytes: u64,
        kept_bytes: u64,
    },
    /// Files of the reference that are not whole.
    #[error("{}", reference_faults(directory, faults))]
    Reference {
        directory: PathBuf,
        faults: Vec<Fault>,
    },
    /// Groups that the reference could not read.
    #[error("{}; --skip goes on without them", groups.join("\n"))]
    Unreadable { groups: Vec<String> },
    /// An export would mix with what is there.
    #[error("{}: not empty; name a directory that is, or that is not there yet", directory.display())]
    NotEmpty { directory: PathBuf },
    /// A directory without a file of ours.
    #[error("{}: holds no log and no snapshot of iii-stream", directory.display())]
    Nothing { directory: PathBuf },
}

/// A file that cannot be taken over, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its name.
    pub name: String,
    /// What is wrong with it, as the end of a sentence about it.
    pub what: String,
}

fn reference_faults(directory: &Path, faults: &[Fault]) -> String {
    let line = |fault: &Fault| format!("{}: {}", directory.join(&fault.name).display(), fault.what);
    let mut lines: Vec<String> = faults.iter().map(line).collect();
    lines.push(format!(
        "{}: cannot be taken over; `iii-stream recover --data {0}` says how to go on without these files",
        directory.display()
    ));
    lines.join("\n")
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whom the system refuses, where it goes by that.
fn by_whom(cause: &io::Error) -> String {
    match cause.kind() {
        ErrorKind::PermissionDenied => format!("; this process is uid {}", own_uid()),
        _ => String::new(),
    }
}

impl StoreError {
    pub(super) fn io(path: &Path, cause: io::Error) -> StoreError {
        let path = path.to_owned();
        StoreError::Io { path, cause }
    }

    pub(super) fn of(directory: &Path, name: &str, cause: io::Error) -> StoreError {
        StoreError::io(&directory.join(name), cause)
    }

    /// Nothing could be made there: says where that is, and who has tried.
    pub(super) fn create(path: &Path, cause: io::Error) -> StoreError {
        StoreError::Create {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            uid: own_uid(),
            cause,
        }
    }

    /// Whether there may be room later.
    pub(super) fn is_for_room(&self) -> bool {
        let cause = match self {
            StoreError::Io { cause, .. } | StoreError::Create { cause, .. } => cause,
            StoreError::NoRoom { .. } => return true,
            _ => return false,
        };
        matches!(
            cause.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    }
}
