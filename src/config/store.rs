//! What keeps the values, and how surely.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::address::{hint, of_no_address, shown, without_secrets};
use super::quantity::TIMES_MS;
use super::redis::{REDIS_URL, RedisAddress, RedisStore};
use super::section::Section;
use super::words::mismatch;
use super::yaml::{Node, Value};

const SEGMENTS_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 30;
const PERCENT_MIN: f64 = 120.0;
const PERCENT_MAX: f64 = 10_000.0;

/// `PATH_MAX` and `NAME_MAX` of the kernel.
const PATH_LEN_MAX: usize = 4096;
const PATH_PART_LEN_MAX: usize = 255;

/// Where the store is when neither a file nor a key says so.
pub(super) const FILE_PATH_EMBEDDED: &str = "./data/stream_store";
/// Where it is when a file asks for one and names no path, as the reference has it.
pub(super) const FILE_PATH: &str = "kv_store_data.db";
/// How often what was written is synced.
pub(super) const SAVE_INTERVAL_MS: u64 = 5000;
/// The log is cut into files of this size.
pub(super) const SEGMENT_BYTES: usize = 64 * 1024 * 1024;
/// A snapshot is made when log and snapshot together exceed the live data by this factor.
pub(super) const SNAPSHOT_FACTOR: Factor = Factor { percent: 200 };

/// Which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// Values end with the process.
    Memory,
    /// A log and snapshots in a directory.
    Files(FileStore),
    /// A Redis that other hosts may use as well.
    Redis(RedisStore),
}

/// The file store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStore {
    /// A directory, relative to the working directory.
    pub path: PathBuf,
    /// When writes are made to outlast a loss of power.
    pub fsync: Fsync,
    /// How often what was written is synced.
    pub save_interval: Duration,
    /// The log is cut into files of this size.
    pub segment_bytes: usize,
    /// A snapshot is made when log and snapshot together exceed the live data by this factor.
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

/// What `store_method` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    InMemory,
    FileBased,
}

/// Whether it was said how long values last.
#[derive(Clone, Copy)]
pub(super) enum Lasting {
    AsSaid,
    /// Nothing is said of a store.
    NoAdapter,
    /// A path is named, and no store that would have it.
    PathUnused,
}

/// The keys of `adapter.config` for `kv`. What `store` is when it is called is the default.
pub(super) fn read(mut keys: Section<'_, '_>, store: &mut StoreConfig) -> Lasting {
    let (mut method, mut files) = match store {
        StoreConfig::Memory => (Method::InMemory, FileStore::at(FILE_PATH)),
        StoreConfig::Files(files) => (Method::FileBased, files.clone()),
        StoreConfig::Redis(_) => return Lasting::AsSaid,
    };
    keys.read("store_method", &mut method, method_of);
    *store = match method {
        Method::FileBased => {
            read_files(&mut keys, &mut files);
            StoreConfig::Files(files)
        }
        Method::InMemory => {
            keys.unused(|keys| read_files(keys, &mut files));
            StoreConfig::Memory
        }
    };
    // Keys that only other stores read, or only the reference: without effect.
    for key in ["channel_size", "redis_url", "bridge_url"] {
        keys.other_node(key);
    }
    let names_path_alone = keys.node("store_method").is_none() && keys.node("file_path").is_some();
    keys.done();
    match method {
        Method::InMemory if names_path_alone => Lasting::PathUnused,
        _ => Lasting::AsSaid,
    }
}

fn method_of(node: &Node) -> Result<Method, String> {
    let expected = "in_memory or file_based";
    match &node.value {
        Value::Text(text) if text == "in_memory" => Ok(Method::InMemory),
        Value::Text(text) if text == "file_based" => Ok(Method::FileBased),
        Value::Text(text) => Err(format!("{} is not known, expected {expected}", shown(text))),
        _ => Err(mismatch(node, expected)),
    }
}

/// The keys of `adapter.config` for `redis`.
pub(super) fn read_redis(mut keys: Section<'_, '_>) -> Option<RedisStore> {
    let mut url = REDIS_URL.to_owned();
    let read = keys.value("redis_url", url.clone(), |node| match &node.value {
        Value::Text(text) if RedisAddress::parse(text).is_some() => Ok(text.clone()),
        Value::Text(text) => Err(format!(
            "{:?} is no address of a Redis, expected redis://[user:password@]host[:port][/db] or rediss://{}",
            of_no_address(text),
            hint(text)
        )),
        // As the reference takes it.
        _ => Ok(REDIS_URL.to_owned()),
    });
    if let Some(read) = read {
        keys.show("redis_url", without_secrets(&read).into());
        url = read;
    }
    for key in [
        "channel_size",
        "bridge_url",
        "store_method",
        "file_path",
        "save_interval_ms",
        "fsync",
        "segment_bytes",
        "snapshot_factor",
    ] {
        keys.other_node(key);
    }
    keys.done();
    RedisStore::at(&url)
}

fn read_files(keys: &mut Section<'_, '_>, files: &mut FileStore) {
    let mut path = files.path.display().to_string();
    keys.read("file_path", &mut path, |node| match &node.value {
        Value::Text(text) if text.is_empty() => Err("is empty, expected a directory".to_owned()),
        Value::Text(text) if is_path(text) => Ok(text.clone()),
        Value::Text(text) => Err(format!("{text:?} can be no path, expected a directory")),
        _ => Err(mismatch(node, "a directory")),
    });
    files.path = path.into();
    let mut interval_ms = files.save_interval.as_millis() as u64;
    keys.integer("save_interval_ms", &mut interval_ms, TIMES_MS);
    files.save_interval = Duration::from_millis(interval_ms);
    keys.read("fsync", &mut files.fsync, fsync);
    keys.bytes("segment_bytes", &mut files.segment_bytes, SEGMENTS_BYTES);
    keys.read("snapshot_factor", &mut files.snapshot_factor, factor);
}

/// What no file system takes is none.
fn is_path(text: &str) -> bool {
    text.len() < PATH_LEN_MAX
        && !text.contains('\0')
        && text.split('/').all(|part| part.len() <= PATH_PART_LEN_MAX)
}

fn fsync(node: &Node) -> Result<Fsync, String> {
    let expected = "interval, always or never";
    match &node.value {
        Value::Text(text) => match text.as_str() {
            "interval" => Ok(Fsync::Interval),
            "always" => Ok(Fsync::Always),
            "never" => Ok(Fsync::Never),
            _ => Err(format!("{} is not known, expected {expected}", shown(text))),
        },
        _ => Err(mismatch(node, expected)),
    }
}

fn factor(node: &Node) -> Result<Factor, String> {
    let expected = "a number from 1.2 to 100";
    let number = match &node.value {
        Value::Integer(number) => Some(*number as f64),
        Value::Decimal(text) => text.parse().ok(),
        _ => None,
    };
    let percent = number.ok_or_else(|| mismatch(node, expected))? * 100.0;
    if (PERCENT_MIN..=PERCENT_MAX).contains(&percent) {
        let percent = percent.round() as u32;
        return Ok(Factor { percent });
    }
    let size = if percent < PERCENT_MIN {
        "small"
    } else {
        "large"
    };
    Err(format!("is too {size}, expected {expected}"))
}

impl From<Method> for Json {
    fn from(method: Method) -> Json {
        match method {
            Method::InMemory => "in_memory".into(),
            Method::FileBased => "file_based".into(),
        }
    }
}

impl From<Fsync> for Json {
    fn from(fsync: Fsync) -> Json {
        match fsync {
            Fsync::Interval => "interval".into(),
            Fsync::Always => "always".into(),
            Fsync::Never => "never".into(),
        }
    }
}

impl From<Factor> for Json {
    fn from(factor: Factor) -> Json {
        (f64::from(factor.percent) / 100.0).into()
    }
}
