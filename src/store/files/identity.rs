//! Which store a directory and its files are of: a text that is made at the first start, and stands in
//! a file of the directory and in the head of each file.
//!
//! May not know what else is in a file, or what follows when it is another's.

use std::fmt;
use std::io::{self, Read};

use uuid::Uuid;

use super::StoreError;
use super::disk::Disk;

/// The file that bears it.
pub(super) const NAME: &str = "identity";
/// That file until it is whole.
pub(super) const NEW: &str = "new.identity";

/// What a store has and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StoreId(Uuid);

impl StoreId {
    pub(super) const BYTES: usize = 16;

    /// An identity that no store has.
    pub(super) fn new() -> StoreId {
        StoreId(Uuid::new_v4())
    }

    pub(super) fn from_bytes(bytes: [u8; StoreId::BYTES]) -> StoreId {
        StoreId(Uuid::from_bytes(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8; StoreId::BYTES] {
        self.0.as_bytes()
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// That of a directory; none where nobody has said, or where it cannot be understood.
pub(super) fn read(disk: &dyn Disk) -> Result<Option<StoreId>, StoreError> {
    let mut text = Vec::new();
    let read = disk
        .open(NAME, 0)
        .and_then(|file| file.take(64).read_to_end(&mut text));
    match read {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(StoreError::of(disk.path(), NAME, cause)),
        Ok(_) => Ok(Uuid::try_parse_ascii(text.trim_ascii()).ok().map(StoreId)),
    }
}

/// Makes an identity that of the directory.
pub(super) fn write(disk: &mut dyn Disk, id: StoreId) -> Result<(), StoreError> {
    let made = |disk: &mut dyn Disk| {
        let mut file = disk.create(NEW)?;
        file.append(format!("{id}\n").as_bytes())?;
        file.sync()?;
        disk.rename(NEW, NAME)?;
        disk.sync()
    };
    made(disk).map_err(|cause| StoreError::of(disk.path(), NAME, cause))
}
