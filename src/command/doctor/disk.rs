//! The disk of the file store: what kind it is, what is free, and how long it takes to sync.
//!
//! Makes no directory. The file that it tries the disk with has no name where the file system can do
//! that, and is removed where it cannot.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use iii_stream::config::{FileStore, Fsync};
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat, statvfs};

use super::finding::{Finding, State};

/// How often it is synced, and what is written before each.
const SYNCS: usize = 12;
const WRITE_BYTES: usize = 4096;
/// A sync that takes longer is felt by whoever waits for it.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// One that takes longer stalls whatever waits for it.
const SYNC_BAD: Duration = Duration::from_millis(500);
/// Files are looked through up to so many.
const FILES_MAX: usize = 100_000;

/// File systems whose files end with the machine or the container, or are elsewhere.
const VOLATILE: [(i64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const OF_CONTAINER: [(i64, &str); 2] = [(0x794c_7630, "overlayfs"), (0x6175_6673, "aufs")];
const REMOTE: [(i64, &str); 6] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x6573_5546, "FUSE"),
];

pub(super) fn look(store: &FileStore) -> Vec<Finding> {
    let wanted = std::path::absolute(&store.path).unwrap_or_else(|_| store.path.clone());
    let place = existing(&wanted);
    let shown = wanted.display();
    if place == wanted && !place.is_dir() {
        let found = Finding::ok("disk", format!("{shown} is no directory"));
        let todo = "name another one in file_path, or move that file away";
        return vec![found.with(State::Bad, "the server does not start", todo)];
    }
    let found = match place == wanted {
        true => shown.to_string(),
        false => format!("{shown} is not there yet; looked at {}", place.display()),
    };
    let mut findings = vec![kind(&place, found), free(store, &wanted, &place)];
    findings.push(match try_out(&place) {
        Ok(times) => synced(store, &times),
        Err(error) => {
            let found = format!("{}: {error}", place.display());
            let uid = rustix::process::getuid().as_raw();
            Finding::ok("fsync", found).with(
                State::Bad,
                format!("as user {uid} nothing can be kept there: the server does not start, or refuses writes"),
                "run the server, and this, as the user whose directory it is; or make it writable",
            )
        }
    });
    findings
}

/// The directory, or the nearest above it that is there.
fn existing(path: &Path) -> PathBuf {
    let mut above = path.ancestors();
    let found = above.find(|path| fs::symlink_metadata(path).is_ok());
    found.unwrap_or(Path::new("/")).to_owned()
}

fn kind(place: &Path, found: String) -> Finding {
    const NAME: &str = "disk";
    let Ok(of) = File::open(place).and_then(|file| Ok(fstatfs(&file)?)) else {
        return Finding::unknown(
            NAME,
            format!("{found}: what file system that is is not told"),
        );
    };
    // As many bits as the numbers have.
    let magic = i64::from(of.f_type as u32);
    let named = |kinds: &[(i64, &'static str)]| {
        let kind = kinds.iter().find(|(number, _)| *number == magic);
        kind.map(|(_, name)| *name)
    };
    let (name, means, todo) = if let Some(name) = named(&VOLATILE) {
        (
            name,
            "all values are gone when the machine is",
            "a directory on a disk",
        )
    } else if let Some(name) = named(&OF_CONTAINER) {
        (
            name,
            "all values are gone when the container is removed",
            "a volume for file_path",
        )
    } else if let Some(name) = named(&REMOTE) {
        (
            name,
            "what it keeps after a loss of power, and whether it holds a lock, is its own affair",
            "a disk of this machine, or Redis for several hosts",
        )
    } else {
        return Finding::ok(NAME, found);
    };
    Finding::ok(NAME, format!("{found} ({name})")).with(State::Warning, means, todo)
}

fn free(store: &FileStore, wanted: &Path, place: &Path) -> Finding {
    const NAME: &str = "disk room";
    let Ok(of) = statvfs(place) else {
        return Finding::unknown(NAME, "how much is free is not told");
    };
    if of.f_blocks == 0 {
        return Finding::unknown(NAME, "this file system does not say how large it is");
    }
    let free = of.f_bavail.saturating_mul(of.f_frsize);
    let used = used_bytes(wanted);
    let segments = store.segment_bytes as u64 * 2;
    let mib = |bytes: u64| bytes >> 20;
    let found = format!(
        "{} MiB free, {} MiB used by the values",
        mib(free),
        mib(used)
    );
    if of.f_files > 0 && of.f_favail < 64 {
        return Finding::ok(NAME, format!("{found}; no room for more files (inodes)")).with(
            State::Bad,
            "the store cannot begin a new file: writes will be refused",
            "remove files that nobody needs",
        );
    }
    // What is there is at least the live data; a snapshot is written beside it.
    let state = if free < segments {
        State::Bad
    } else if free < used.saturating_mul(3) + segments {
        State::Warning
    } else {
        State::Ok
    };
    Finding::ok(NAME, found).with(
        state,
        "a snapshot is written beside the values and the log: without room for it writes are refused",
        format!(
            "room for 4 times the live data and two segments ({} MiB each)",
            mib(segments / 2)
        ),
    )
}

/// Of the files in a directory; none: it is not there.
fn used_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries
        .take(FILES_MAX)
        .filter_map(|entry| entry.metadata().ok());
    files
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

/// How long each sync has taken, the shortest first.
fn try_out(place: &Path) -> io::Result<Vec<Duration>> {
    let (mut file, named) = open(place)?;
    let tried = times(&mut file);
    if let Some(path) = named {
        fs::remove_file(path)?;
    }
    tried
}

fn times(file: &mut File) -> io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[b'.'; WRITE_BYTES])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// With its path, where it has one.
fn open(place: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = openat(CWD, place, flags, mode) {
        return Ok((file.into(), None));
    }
    let path = place.join(format!(".iii-stream-doctor-{}", std::process::id()));
    let file = File::options().write(true).create_new(true).open(&path)?;
    Ok((file, Some(path)))
}

fn synced(store: &FileStore, times: &[Duration]) -> Finding {
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let found = format!(
        "{:.2} ms in the middle, {:.2} ms at most, of {}",
        ms(median),
        ms(longest),
        times.len()
    );
    let (state, means) = match store.fsync {
        Fsync::Always if median >= SYNC_BAD => {
            (State::Bad, "each write waits so long for its answer")
        }
        Fsync::Always if median >= SYNC_SLOW => {
            (State::Warning, "each write waits so long for its answer")
        }
        _ if longest >= SYNC_BAD => (
            State::Warning,
            "a disk that is so slow may hold up the store when it is full of writes",
        ),
        _ => (State::Ok, ""),
    };
    Finding::ok("fsync", found).with(
        state,
        means,
        "a disk of this machine (NVMe); or fsync: interval, if a loss of power may take the last seconds",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(path: &Path, fsync: Fsync) -> FileStore {
        FileStore {
            fsync,
            ..FileStore::at(path)
        }
    }

    #[test]
    fn a_directory_that_is_not_there_stays_so_and_nothing_is_left_in_one_that_is() {
        let directory =
            std::env::temp_dir().join(format!("iii-stream-disk-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let below = directory.join("a/b");
        let findings = look(&store(&below, Fsync::Interval));
        assert!(
            findings[0].found.contains("is not there yet; looked at"),
            "{findings:?}"
        );
        assert_eq!(findings.len(), 3);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::write(directory.join("file"), "x").unwrap();
        let file = look(&store(&directory.join("file"), Fsync::Interval));
        assert_eq!((file.len(), file[0].state), (1, State::Bad));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_slow_sync_hurts_whoever_waits_for_each() {
        let ms = Duration::from_millis;
        let state = |fsync, times: &[Duration]| synced(&store(Path::new("x"), fsync), times).state;
        assert_eq!(state(Fsync::Always, &[ms(1), ms(1), ms(30)]), State::Ok);
        assert_eq!(
            state(Fsync::Always, &[ms(1), ms(30), ms(30)]),
            State::Warning
        );
        assert_eq!(state(Fsync::Always, &[ms(600); 3]), State::Bad);
        assert_eq!(state(Fsync::Interval, &[ms(30); 3]), State::Ok);
        assert_eq!(
            state(Fsync::Never, &[ms(1), ms(1), ms(600)]),
            State::Warning
        );
    }
}
