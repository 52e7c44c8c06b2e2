//! Whether the directory and the files in it are still what the server has left there.
//!
//! Files that are missing or cut are written anew. What somebody else has put in their place is never
//! touched: writes are refused until it is gone, or the server is stopped and started on it.

use std::fmt::Write;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::held::OwnFiles;
use super::identity;
use super::layout::Layout;
use super::load::{self, Damage};
use super::{Files, StoreError, import, log, snapshot};

/// How often to look at the least, while it is written.
const LOOK_REST: Duration = Duration::from_millis(1);
/// Of the time, a look may take one part in so many.
const LOOK_DIVISOR: u32 = 10;

/// What was found last.
#[derive(Default)]
pub(super) struct Watch {
    /// Until then that holds.
    until: Option<Instant>,
    stopped: Option<Stopped>,
}

struct Stopped {
    why: String,
    /// It is the files, not the directory alone.
    in_files: bool,
}

/// What a look has found.
enum Found {
    Intact,
    /// Something of ours is gone or cut.
    Lacking(StoreError),
    /// Something is there that is not ours, or nobody can tell.
    Foreign(String),
}

impl Files {
    /// Whether anything may be written. A directory that is empty, in the place of one that is gone, is
    /// taken, and all is written to it anew.
    pub(super) fn hold(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.watch.until.is_some_and(|until| now < until) {
            return self.allowed();
        }
        let is_thorough = self.watch.stopped.is_some();
        self.look(is_thorough, true);
        let end = Instant::now();
        let rest = ((end - now) * LOOK_DIVISOR).max(LOOK_REST);
        self.watch.until = Some(end + rest);
        self.allowed()
    }

    /// Looks at everything, and only looks. Whether the files may be changed.
    pub(super) fn look_thoroughly(&mut self) -> bool {
        self.look(true, false);
        self.watch.until = None;
        let stopped = self.watch.stopped.as_ref();
        !stopped.is_some_and(|stopped| stopped.in_files)
    }

    /// Whether more can be written where the last was.
    pub(super) fn has_intact_end(&self) -> bool {
        self.log.has_intact_end(&self.disk).unwrap_or(true)
    }

    /// For tests: what was found holds for long.
    #[cfg(test)]
    pub(super) fn looks_no_more(&mut self) {
        self.watch.until = Some(Instant::now() + Duration::from_secs(3600));
    }

    /// Looks at everything, once so often. Whether the files may be changed.
    pub(super) fn look_again(&mut self) -> bool {
        self.look(true, true);
        !self.is_stopped()
    }

    /// Nothing is written, which was said.
    pub(super) fn is_stopped(&self) -> bool {
        self.watch.stopped.is_some()
    }

    fn allowed(&self) -> Result<(), StoreError> {
        let stopped = self.watch.stopped.as_ref();
        stopped.map_or(Ok(()), |stopped| {
            Err(StoreError::NotOurs(stopped.why.clone()))
        })
    }

    fn look(&mut self, is_thorough: bool, mends: bool) {
        let place = match self.disk.is_at_path() {
            Ok(true) => Ok(()),
            Ok(false) if mends => self.take_place(),
            Ok(false) => Err(format!(
                "{}: another directory is there",
                self.disk.path().display()
            )),
            Err(cause) => Err(StoreError::io(self.disk.path(), cause).to_string()),
        };
        let found = match self.has_intact_end() && !is_thorough {
            true => Found::Intact,
            // What cannot be looked at may be anybody's.
            false => {
                let found = self.look_at_files();
                found.unwrap_or_else(|error| Found::Foreign(error.to_string()))
            }
        };
        let stopped = match (found, place) {
            (Found::Foreign(why), _) => Some(Stopped {
                why,
                in_files: true,
            }),
            (_, Err(why)) => Some(Stopped {
                why,
                in_files: false,
            }),
            (Found::Lacking(error), Ok(())) => {
                if mends {
                    self.write_anew(&error);
                }
                None
            }
            (Found::Intact, Ok(())) => None,
        };
        if let (Some(stopped), None) = (&stopped, &self.watch.stopped) {
            tracing::error!("{}: writes are refused until that has changed", stopped.why);
        }
        if stopped.is_some() {
            // Nobody writes beside what is not ours.
            self.drop_snapshot();
        }
        self.watch.stopped = stopped;
    }

    fn write_anew(&mut self, error: &StoreError) {
        // While all is written anew, files that were found wrong are still there.
        if !std::mem::replace(&mut self.is_to_write_anew, true) && self.taking.is_none() {
            tracing::error!("{error}: all is written anew");
        }
        if !self.has_intact_end() {
            self.log.distrust();
        }
        self.no_snapshot_before = None;
    }

    /// Takes the directory that has the path now, if nobody's store is in it.
    fn take_place(&mut self) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let path = self.disk.path().to_owned();
        let mut other = self
            .disk
            .at_path()
            .map_err(|cause| failed(&StoreError::io(&path, cause)))?;
        let is_anybodys = |other: &dyn Disk| match whose(other) {
            Ok(None) => Ok(()),
            Ok(Some(what)) => Err(format!(
                "{}: another directory is there, with {what}",
                path.display()
            )),
            Err(error) => Err(failed(&error)),
        };
        is_anybodys(&*other)?;
        other.lock().map_err(|error| failed(&error))?;
        is_anybodys(&*other)?;
        identity::write(&mut *other, self.store).map_err(|error| failed(&error))?;
        let held = OwnFiles::new(other).map_err(|cause| failed(&StoreError::io(&path, cause)))?;
        self.drop_snapshot();
        self.disk = held;
        self.disk.note_boot();
        self.log.leave();
        self.snapshot_sequence = 0;
        self.is_to_write_anew = true;
        self.no_snapshot_before = None;
        tracing::error!(
            "{}: another directory is there, and empty: all is written anew",
            path.display()
        );
        Ok(())
    }

    fn look_at_files(&self) -> Result<Found, StoreError> {
        let disk = &self.disk;
        match identity::read(disk) {
            Ok(Some(other)) if other != self.store => {
                let name = disk.path().join(identity::NAME);
                return Ok(Found::Foreign(format!(
                    "{}: says that this is store {other}, not {}",
                    name.display(),
                    self.store
                )));
            }
            // Our own is known without it.
            Err(error) if !disk.is_own(identity::NAME) => return Err(error),
            _ => {}
        }
        let layout = Layout::read(disk)?;
        let logs = layout.logs.iter().map(|number| log::name_of(*number));
        let snapshots = layout.snapshots.iter();
        let snapshots = snapshots.map(|number| snapshot::name_of(*number));
        let foreign: Vec<String> = logs
            .chain(snapshots)
            .filter(|name| !disk.is_own(name) && !self.is_copy(name))
            .collect();
        if let [first, rest @ ..] = &foreign[..] {
            let mut what = format!(
                "{}: was put there by somebody else",
                disk.path().join(first).display()
            );
            if !rest.is_empty() {
                // A text takes everything.
                let _ = write!(what, ", with {} more", rest.len());
            }
            return Ok(Found::Foreign(what));
        }
        let expected = self.lengths();
        let mut is_cut = false;
        let mut lacking = None;
        for (name, expected) in expected {
            let cause = match disk.len(&name) {
                Ok(bytes) if bytes == expected || bytes > expected && !self.is_open(&name) => {
                    continue;
                }
                Ok(_) => {
                    is_cut = true;
                    std::io::Error::other("changed by somebody else")
                }
                Err(cause) if cause.kind() == ErrorKind::NotFound => cause,
                Err(cause) => return Err(StoreError::of(disk.path(), &name, cause)),
            };
            lacking = lacking.or(Some(StoreError::of(disk.path(), &name, cause)));
        }
        // A backup that was copied over the files is a whole store, one that was damaged is none.
        if is_cut && is_whole_store(disk) {
            return Ok(Found::Foreign(format!(
                "{}: an earlier state of the store was put there by somebody else",
                disk.path().display()
            )));
        }
        Ok(lacking.map_or(Found::Intact, Found::Lacking))
    }

    /// The files that stand for all that was accepted, and their lengths.
    fn lengths(&self) -> Vec<(String, u64)> {
        let segments = self.log.segments();
        let segments = segments.map(|segment| (log::name_of(segment.sequence), segment.bytes));
        let snapshot = (self.snapshot_sequence > 0).then(|| {
            let name = snapshot::name_of(self.snapshot_sequence);
            (name, self.snapshot_bytes)
        });
        segments.chain(snapshot).collect()
    }

    fn is_open(&self, name: &str) -> bool {
        let last = self.log.segments().last();
        last.is_some_and(|last| log::name_of(last.sequence) == name)
    }

    /// A closed file that somebody has replaced by a copy of it: the same length, and the same head.
    fn is_copy(&self, name: &str) -> bool {
        let mut known = self.lengths().into_iter();
        let is_known = known.any(|(known, bytes)| {
            known == name && self.disk.len(name).is_ok_and(|len| len == bytes)
        });
        is_known && !self.is_open(name)
    }
}

/// What somebody keeps in a directory.
fn whose(disk: &dyn Disk) -> Result<Option<String>, StoreError> {
    let layout = Layout::read(disk)?;
    if let Some(store) = identity::read(disk)? {
        return Ok(Some(format!("the files of store {store}")));
    }
    if !layout.is_empty() {
        return Ok(Some("the files of a store".to_owned()));
    }
    let groups = import::look(disk)?.groups.len();
    Ok((groups > 0).then(|| "the files of an engine".to_owned()))
}

/// Whether a server would start on what is there, with nothing cut off.
fn is_whole_store(disk: &dyn Disk) -> bool {
    let loaded = load::load(disk, &mut |_| {}, Damage::Stops);
    loaded.is_ok_and(|loaded| loaded.torn.is_none())
}
