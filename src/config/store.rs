//! What keeps the values, and how surely.

use std::path::PathBuf;
use std::time::Duration;

/// Where the store is when neither a file nor a key says so.
pub const FILE_PATH_EMBEDDED: &str = "./data/stream_store";
/// Where it is when a file asks for one and names no path, as the reference has it.
pub const FILE_PATH: &str = "kv_store_data.db";
/// How often what was written is synced.
pub const SAVE_INTERVAL_MS: u64 = 5000;
/// The log is cut into files of this size.
pub const SEGMENT_BYTES: usize = 64 * 1024 * 1024;
/// A snapshot is made when log and snapshot together exceed the live data by this factor.
pub const SNAPSHOT_FACTOR: Factor = Factor { percent: 200 };

/// Which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// Values end with the process.
    Memory,
    /// A log and snapshots in a directory.
    Files(FileStore),
}

/// The file store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStore {
    /// A directory, relative to the working directory.
    pub path: PathBuf,
    /// When writes are made to outlast a loss of power.
    pub fsync: Fsync,
    /// See [`SAVE_INTERVAL_MS`].
    pub save_interval: Duration,
    /// See [`SEGMENT_BYTES`].
    pub segment_bytes: usize,
    /// See [`SNAPSHOT_FACTOR`].
    pub snapshot_factor: Factor,
}

/// When writes are made to outlast a loss of power. They outlast the process at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Every `save_interval_ms`.
    Interval,
    /// Before anybody is told of them.
    Always,
    /// When the system likes.
    Never,
}

/// A factor, in hundredths so that settings can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor {
    /// 200 is twice.
    pub percent: u32,
}

impl FileStore {
    /// With the defaults, in that directory.
    pub fn at(path: impl Into<PathBuf>) -> FileStore {
        FileStore {
            path: path.into(),
            fsync: Fsync::Interval,
            save_interval: Duration::from_millis(SAVE_INTERVAL_MS),
            segment_bytes: SEGMENT_BYTES,
            snapshot_factor: SNAPSHOT_FACTOR,
        }
    }
}
