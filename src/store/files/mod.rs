//! `kv`, `file_based`: an append-only log, and snapshots beside it.
//!
//! ```text
//! disk      the few things done with files; directory: what does them; error: why not
//! lock      one process a directory; boot: which start of the machine wrote there last
//! identity  whose a directory and its files are; held: which of them this process has made
//! watch     whether they still are what it has left there
//! head      how a file begins; record: and what follows, with checksums; search: one, behind damage
//! log       batches appended, cut back when they fail; refusals: and what becomes of them
//! snapshot  pieces of groups, beside the running log; pace: how fast; taking: when, and what goes then
//! room      how much of the disk is kept for it
//! layout    which files are the store's; histories: which of them go together
//! reader    one of them opened; records: its records, one after another
//! load      all of it read back; unwritten: what a loss of power leaves of its end
//! start     what is made of that before the first request
//! reference the reference's names, bytes and spelling; import: a directory of it taken over;
//!           export: and written back
//! recover   what can be saved of a damaged directory; offline: how commands read one
//! ```
//! A turn's requests are one batch: one write, accepted or refused whole. Nothing of the values is
//! kept here: a snapshot asks the shards for their groups, a slice at a time. Since questions to a
//! shard go the way that answers go, a slice holds just what was accepted when it was asked for.
//!
//! # What the store takes for granted
//!
//! - **The kernel** keeps what it has taken of a write, also when the process is killed.
//! - **A loss of power** takes any blocks that were not synced, in any order. A block that it took reads
//!   as zeros, and a sector of 512 bytes is there as it was written or not at all (`unwritten`).
//! - **A sync** that succeeds has put everything before it on the disk, where it stays as it is. The log
//!   says how far it was synced: what is missing before that is damage, never a torn end.
//! - **A sync that fails** says nothing of what is on the disk, and a later one that succeeds says no
//!   more: everything is written anew, into new files (`log`).
//! - **A name** is given and replaced in one step, and outlasts a loss of power once its directory was
//!   synced. Files refer to each other, so one that is missing is told (`histories`).
//! - **The machine** has another boot id after each start. Where it tells none, every start may follow a
//!   loss of power (`boot`).
//! - **`flock`** keeps a second process out of the directory (`lock`).
//! - **Others** may remove, cut or replace files at any time: nothing is taken for granted (`watch`).
//! - **The clock** may jump: nothing is taken for granted. Times that were given out are kept.

mod boot;
mod directory;
mod disk;
mod error;
mod export;
mod head;
mod held;
mod histories;
mod identity;
mod import;
mod layout;
mod load;
mod lock;
mod log;
mod offline;
mod pace;
mod reader;
mod record;
mod records;
mod recover;
mod reference;
mod refusals;
mod room;
mod search;
mod snapshot;
mod start;
mod taking;
#[cfg(test)]
mod test_disk;
#[cfg(test)]
mod test_store;
mod unwritten;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Factor, Fsync};
use crate::id::WorkerId;
use crate::metrics::StoreMetrics;
use crate::shard::{
    Cursor, Decides, Learned, Marks, Request, RequestKind, Slice, SliceLimits, Store, Verdict,
};
use crate::time::{Now, Rarely};

pub use directory::Directory;
pub use disk::{Disk, DiskFile, Inode, SyncNames, Syncing};
pub use error::{Fault, StoreError};
pub use export::{Exported, export};
pub use load::{Lack, Loss};
pub use recover::{Report, inspect, recover};
pub use start::Started;

use held::OwnFiles;
use identity::StoreId;
use log::Log;
use record::Write;
use refusals::{Refusals, answer};
use room::Room;
use taking::Taking;
use watch::Watch;

/// What is due in less is waited for in one go.
const REST_LEAST: Duration = Duration::from_millis(1);
/// How often to look whether a sync is over.
const WHILE_SYNCING: Duration = Duration::from_millis(2);
/// How often to try to decide what became of a batch.
const RETRY_UNDECIDED: Duration = Duration::from_secs(1);
/// How soon after a write at the earliest to look for what somebody else has changed.
const CHECK_MIN: Duration = Duration::from_secs(1);
/// How often to say what goes on and on.
const RARELY: Duration = Duration::from_secs(60);

/// The file store.
pub struct Files {
    disk: OwnFiles,
    store: StoreId,
    watch: Watch,
    room: Room,
    workers: usize,
    fsync: Fsync,
    save_interval: Duration,
    segment_bytes: usize,
    snapshot_factor: Factor,
    log: Log,
    /// One turn's records.
    batch: Vec<u8>,
    /// Bytes that were appended and that nobody has been told of.
    written: u64,
    /// No time up to this is given out after the next start.
    time_kept: u64,
    /// Up to where the log says that it is synced.
    synced_told: u64,
    refusals: Refusals,
    /// When the first write that is not synced was made.
    dirty_since: Option<Instant>,
    /// Number and size of the newest snapshot; 0 if there is none.
    snapshot_sequence: u64,
    snapshot_bytes: u64,
    taking: Option<Taking>,
    /// See [`pace::REST`].
    slice_rest: Duration,
    /// The files may not hold what they should: a snapshot has to be made, whatever their size.
    is_to_write_anew: bool,
    no_snapshot_before: Option<Instant>,
    /// When to look whether somebody else has changed the files.
    check_at: Option<Instant>,
    /// That a snapshot could not be made.
    no_snapshot: Rarely,
}

impl Store for Files {
    fn decides(&self) -> Decides {
        Decides::Owner
    }

    fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>) {
        self.decide(learned);
        let requests = self.refusals.without_void(requests, learned);
        if requests.is_empty() {
            return;
        }
        let was_undecided = self.log.is_undecided();
        match self.append(&requests) {
            Ok(()) => {
                let accepted =
                    |request: &Request| Learned::Answer(answer(request, Verdict::Accepted));
                learned.extend(requests.iter().map(accepted));
                self.refusals.note_acceptance();
            }
            Err(error) => {
                let cause: Arc<str> = error.to_string().into();
                let is_told = self.is_stopped();
                self.refusals.note_refusal(&cause, requests.len(), is_told);
                let is_undecided = self.log.is_undecided() && !was_undecided;
                self.refusals.refuse(requests, cause, is_undecided, learned);
            }
        }
    }

    fn tend(
        &mut self,
        asks: &mut Vec<(WorkerId, Cursor, SliceLimits)>,
        learned: &mut Vec<Learned>,
    ) -> Option<Duration> {
        let now = Instant::now();
        self.decide(learned);
        self.note_sync();
        self.sync_if_due(now);
        self.finish_snapshot_if_synced();
        self.check_if_due(now);
        self.is_to_write_anew |= self.log.take_suspicion();
        if self.taking.is_none() && self.is_snapshot_due(now) {
            if self.log.is_nearly_synced() {
                self.begin_snapshot(now);
            } else {
                self.log.begin_sync(&self.disk);
            }
        }
        self.ask_for_slice(asks, now);
        let sync_at = self.dirty_since.map(|since| since + self.save_interval);
        let retry_at = self.no_snapshot_before.filter(|at| *at > now);
        let is_undecided = self.refusals.are_undecided();
        let decide_at = is_undecided.then(|| now + RETRY_UNDECIDED);
        let syncs = self.log.is_syncing() || self.taking.as_ref().is_some_and(Taking::is_busy);
        let synced_at = syncs.then(|| now + WHILE_SYNCING);
        let slice_at = self.taking.as_ref().and_then(Taking::rests_until);
        let is_checked_later = self.is_to_write_anew || self.taking.is_some();
        let check_at = self.check_at.filter(|_| !is_checked_later);
        let due = [sync_at, retry_at, decide_at, synced_at, slice_at, check_at];
        let next = due.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now).max(REST_LEAST))
    }

    fn tend_alone(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.note_sync();
        self.sync_if_due(now);
        self.finish_snapshot_if_synced();
        let sync_at = self.dirty_since.map(|since| since + self.save_interval);
        let syncs = self.log.is_syncing() || self.taking.as_ref().is_some_and(Taking::is_busy);
        let synced_at = syncs.then(|| now + WHILE_SYNCING);
        let next = [sync_at, synced_at].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now).max(REST_LEAST))
    }

    fn is_stuck(&self) -> bool {
        self.refusals.are_undecided()
    }

    fn measure(&mut self, metrics: &StoreMetrics) {
        for took in self.log.take_syncs() {
            metrics.fsync.note(took);
        }
        metrics.bytes_written.add(std::mem::take(&mut self.written));
        let lag = self
            .dirty_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        metrics.lag_ms.set(lag.as_millis() as u64);
    }

    fn take_slice(&mut self, shard: WorkerId, slice: Slice) {
        self.add_slice(shard, slice);
    }

    fn close(&mut self) {
        // Beside what somebody else has put there nothing is written. Another directory of that name is
        // not looked at.
        let may_write = self.look_thoroughly() && self.has_intact_end();
        if may_write {
            // What was given out to subscribers without a write, at the latest.
            let now = Now::read().wall_ms;
            self.batch.clear();
            record::time(&mut self.batch, self.log.next_sequence(), now, true);
            if let Err(error) = self.log.append(&mut self.disk, &self.batch, 1) {
                tracing::warn!("the time of the end was not kept: {error}");
            }
        }
        // What was accepted is synced, also where there is no room for more.
        if let Err(error) = self.log.finish(&mut self.disk) {
            tracing::error!("the end of the log is not on the disk: {error}");
            return;
        }
        if may_write {
            // The log ends by saying that all of it was synced: then a block that is missing at the next
            // start is damage. Where that cannot be written, what the log said before still holds.
            let sequence = self.log.next_sequence();
            self.batch.clear();
            record::synced(&mut self.batch, sequence, sequence - 1, true);
            let told = self.log.append(&mut self.disk, &self.batch, 1);
            let _ = told.and_then(|()| self.log.finish(&mut self.disk));
        }
    }
}

impl Files {
    /// Refuses what was undecided, once the log says that it does not count.
    fn decide(&mut self, learned: &mut Vec<Learned>) {
        if !self.refusals.are_undecided() {
            return;
        }
        let is_decided = |files: &mut Files| {
            files.hold()?;
            files.log.roll_for_good(&mut files.disk)
        };
        if self.log.is_undecided() && is_decided(self).is_err() {
            return;
        }
        self.refusals.decide(learned);
    }

    /// Writes the requests as one batch.
    fn append(&mut self, requests: &[Request]) -> Result<(), StoreError> {
        self.batch.clear();
        let time = time_of(requests).filter(|time| *time > self.time_kept);
        let writes = || {
            requests
                .iter()
                .filter_map(|request| write_of(&request.kind))
        };
        let mut records = writes().count() as u64 + u64::from(time.is_some());
        if records == 0 {
            return Ok(()); // times that were kept before
        }
        let mut sequence = self.log.next_sequence();
        let synced_to = self.log.synced_to();
        if synced_to > self.synced_told {
            record::synced(&mut self.batch, sequence, synced_to, false);
            records += 1;
            sequence += 1;
        }
        let end = self.log.next_sequence() + records;
        if let Some(time) = time {
            record::time(&mut self.batch, sequence, time, sequence + 1 == end);
            sequence += 1;
        }
        for write in writes() {
            record::write(&mut self.batch, sequence, write, sequence + 1 == end);
            sequence += 1;
        }
        self.hold()?;
        self.keep_room(requests)?;
        self.log.append(&mut self.disk, &self.batch, records)?;
        self.room.wrote(self.batch.len() as u64);
        self.written += self.batch.len() as u64;
        if self.check_at.is_none() {
            self.check_at = Some(Instant::now() + self.save_interval.max(CHECK_MIN));
        }
        self.synced_told = self.synced_told.max(synced_to);
        self.time_kept = time.unwrap_or(self.time_kept);
        if self.batch.capacity() > BATCH_BYTES_KEPT {
            self.batch = Vec::new();
        }
        if self.fsync == Fsync::Interval && self.dirty_since.is_none() {
            self.dirty_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Looks, once so often after a write, whether somebody else has changed the files. What was in
    /// them is written anew.
    fn check_if_due(&mut self, now: Instant) {
        let is_due = self.check_at.is_some_and(|at| at <= now);
        // While all is written anew, files that were found wrong are still there.
        if !is_due || self.is_to_write_anew || self.taking.is_some() {
            return;
        }
        self.check_at = None;
        if self.look_again()
            && let Err(error) = self.identify()
        {
            tracing::warn!("{error}");
        }
    }

    fn sync_if_due(&mut self, now: Instant) {
        let is_due = |since: Instant| now.saturating_duration_since(since) >= self.save_interval;
        if !self.dirty_since.is_some_and(is_due) && !self.log.waits_for_sync() {
            return;
        }
        if !self.log.is_syncing() {
            self.dirty_since = None;
            self.log.begin_sync(&self.disk);
        }
    }

    /// Takes the outcome of a sync of the log that is over.
    fn note_sync(&mut self) {
        if let Err(error) = self.log.end_sync(&self.disk) {
            tracing::error!(
                "{error}: writes of the last {:?} may not outlast a loss of power; all is written anew",
                self.save_interval
            );
        }
    }
}

/// A larger buffer is given back after its batch.
const BATCH_BYTES_KEPT: usize = 4 * 1024 * 1024;

fn write_of(kind: &RequestKind) -> Option<Write<'_>> {
    match kind {
        RequestKind::Put {
            group,
            item,
            value,
            time,
            marks,
        } => Some(Write {
            key: group,
            item,
            value: Some(value),
            time: *time,
            marks: *marks,
        }),
        RequestKind::Remove { group, item, time } => Some(Write {
            key: group,
            item,
            value: None,
            time: *time,
            marks: Marks::default(),
        }),
        RequestKind::Times { .. } | RequestKind::Decide(_) => None,
    }
}

/// The highest time that is to be kept.
fn time_of(requests: &[Request]) -> Option<u64> {
    let times = requests.iter().filter_map(|request| match request.kind {
        RequestKind::Times { time } => Some(time),
        _ => None,
    });
    times.max()
}
