//! When a snapshot is made, from where, and what goes when it is there.
//!
//! May not know how it is written, or how fast; `snapshot` and `pace` do.

use std::time::{Duration, Instant};

use crate::id::WorkerId;
use crate::shard::{Cursor, Request, RequestKind, Slice, SliceLimits};

use super::disk::Disk;
use super::pace::Pace;
use super::room::Sizes;
use super::snapshot::{self, Follows, Writer};
use super::{Files, StoreError, log, start};

/// How long to wait after a snapshot or a sync has failed.
const RETRY: Duration = Duration::from_secs(5);
/// While a snapshot is made the log may grow by this part of what it may have at all.
const GROWTH_DIVISOR: u64 = 2;

/// A snapshot that is being made.
pub(super) struct Taking {
    writer: Writer,
    pace: Pace,
    /// The shard whose turn it is, and where in it.
    shard: usize,
    cursor: Cursor,
    /// It was asked, when the log had come so far.
    asked_at: Option<u64>,
    /// How far the log had come when the last was asked.
    held: u64,
}

impl Taking {
    /// What was written is being synced: more would only wait for it.
    pub(super) fn is_busy(&self) -> bool {
        self.writer.is_syncing()
    }

    /// When to ask for the next slice, if nothing else comes before.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        let rests = self.asked_at.is_none() && !self.is_busy();
        rests.then_some(self.pace.rests_until)
    }
}

impl Files {
    /// Whether log and snapshot together exceed the live data, which the snapshot stands for, by
    /// more than they may. A log below one segment is never too long, unless there is no more room.
    pub(super) fn is_snapshot_due(&mut self, now: Instant) -> bool {
        if self.is_stopped() || self.no_snapshot_before.is_some_and(|at| at > now) {
            return false;
        }
        let (sizes, disk) = (self.sizes(), &self.disk);
        self.is_to_write_anew
            || sizes.log_bytes > self.log_bytes_allowed()
            || self.room.is_short(sizes, now, || disk.free_bytes())
    }

    fn log_bytes_allowed(&self) -> u64 {
        let percent = u64::from(self.snapshot_factor.percent.saturating_sub(100));
        (self.snapshot_bytes / 100 * percent).max(self.segment_bytes as u64)
    }

    fn sizes(&self) -> Sizes {
        let written = self.taking.as_ref().map(|taking| taking.writer.bytes());
        Sizes {
            snapshot_bytes: self.snapshot_bytes,
            log_bytes: self.log.bytes(),
            written_bytes: written.unwrap_or_default(),
        }
    }

    /// Refuses what would leave the next snapshot no room. Removals are small, and make more.
    pub(super) fn keep_room(&mut self, requests: &[Request]) -> Result<(), StoreError> {
        let adds = |request: &Request| matches!(request.kind, RequestKind::Put { .. });
        if !requests.iter().any(adds) {
            return Ok(());
        }
        let (sizes, disk, bytes) = (self.sizes(), &self.disk, self.batch.len() as u64);
        let taken = self
            .room
            .take(bytes, sizes, Instant::now(), || disk.free_bytes());
        taken.map_err(|free_bytes| StoreError::NoRoom {
            directory: disk.path().to_owned(),
            free_bytes,
            kept_bytes: sizes.kept_bytes(),
        })
    }

    pub(super) fn begin_snapshot(&mut self, now: Instant) {
        // Old segments end where it begins, so that they can go when it is there.
        let begun = self.hold().and_then(|()| {
            self.log.roll(&mut self.disk)?;
            let sequence = self.log.next_sequence() - 1;
            Writer::begin(&mut self.disk, self.store, sequence, Follows::Log)
        });
        match begun {
            Ok(writer) => {
                let log_bytes = self.log.bytes();
                let (sizes, disk) = (self.sizes(), &self.disk);
                let free = self.room.free_bytes(now, || disk.free_bytes());
                let spare = free.map(|free| free.saturating_sub(sizes.kept_bytes()));
                // Until the snapshot is there, the files are still in doubt.
                let growth_bytes_max = match std::mem::take(&mut self.is_to_write_anew) {
                    true => 0,
                    false => {
                        let allowed = self.log_bytes_allowed() / GROWTH_DIVISOR;
                        spare.map_or(allowed, |spare| allowed.min(spare))
                    }
                };
                self.taking = Some(Taking {
                    writer,
                    pace: Pace {
                        log_bytes,
                        growth_bytes_max,
                        bytes_max: self.snapshot_bytes + log_bytes,
                        rest: self.slice_rest,
                        rests_until: now,
                    },
                    shard: 0,
                    cursor: Cursor::default(),
                    asked_at: None,
                    held: 0,
                });
            }
            Err(error) => {
                self.note_no_snapshot("no snapshot could be begun", &error);
                self.no_snapshot_before = Some(now + RETRY);
            }
        }
    }

    pub(super) fn ask_for_slice(
        &mut self,
        asks: &mut Vec<(WorkerId, Cursor, SliceLimits)>,
        now: Instant,
    ) {
        let (sequence, log_bytes) = (self.log.next_sequence() - 1, self.log.bytes());
        if let Some(taking) = &mut self.taking
            && taking.asked_at.is_none()
            && taking.shard < self.workers
            && !taking.is_busy()
            && let Some(limits) = taking.pace.next(taking.writer.bytes(), log_bytes, now)
        {
            taking.asked_at = Some(sequence);
            taking.held = sequence;
            asks.push((WorkerId(taking.shard as u16), taking.cursor, limits));
        }
    }

    pub(super) fn add_slice(&mut self, shard: WorkerId, slice: Slice) {
        let Some(taking) = &mut self.taking else {
            return; // of a snapshot that was given up
        };
        let Some(sequence) = taking.asked_at.take_if(|_| taking.shard == shard.index()) else {
            return;
        };
        let before = taking.writer.bytes();
        let added = taking
            .writer
            .add(&self.disk, sequence, &slice.pieces, slice.time_let_go);
        if let Err(error) = added {
            return self.give_snapshot_up(&error);
        }
        let bytes = taking.writer.bytes() - before;
        self.room.wrote(bytes);
        taking.pace.wrote(bytes, Instant::now());
        match slice.next {
            Some(cursor) => taking.cursor = cursor,
            None => {
                taking.shard += 1;
                taking.cursor = Cursor::default();
            }
        }
        if taking.shard == self.workers
            && let Err(error) = taking.writer.end(&self.disk, self.time_kept)
        {
            self.give_snapshot_up(&error);
        }
    }

    pub(super) fn finish_snapshot_if_synced(&mut self) {
        let Some(taking) = &mut self.taking else {
            return;
        };
        let writer = &mut taking.writer;
        let mut outcome = writer.end_sync(&self.disk);
        if outcome.is_ok() && taking.shard == self.workers && !writer.is_syncing() {
            if writer.is_named() {
                return self.finish_snapshot();
            }
            // What it holds of a group in parts is only right together with the log up to there.
            if !self.log.has_synced(taking.held) {
                return self.log.begin_sync(&self.disk);
            }
            // It takes the place of what is there, so that has to be ours.
            if !self.look_thoroughly() {
                return;
            }
            outcome = match &mut self.taking {
                Some(taking) => taking.writer.name(&mut self.disk),
                None => Ok(()),
            };
        }
        if let Err(error) = outcome {
            self.give_snapshot_up(&error);
        }
    }

    /// It is there, whatever happens: nothing older is needed any more.
    fn finish_snapshot(&mut self) {
        let Some(taking) = self.taking.take() else {
            return;
        };
        let sequence = taking.writer.sequence();
        let segments = self.log.take_up_to(sequence);
        let segments = segments
            .iter()
            .map(|closed| (log::name_of(closed.sequence), closed.bytes));
        // One of the same number was written over.
        let snapshot = (1..sequence).contains(&self.snapshot_sequence).then(|| {
            let name = snapshot::name_of(self.snapshot_sequence);
            (name, self.snapshot_bytes)
        });
        let known: Vec<(String, u64)> = segments.chain(snapshot).collect();
        self.keep_changed(&known);
        let mut names = start::snapshots_below(&self.disk, sequence);
        let segments = known.into_iter().map(|(name, _)| name);
        names.extend(segments.filter(|name| name.ends_with(log::EXTENSION)));
        self.snapshot_bytes = taking.writer.bytes();
        self.snapshot_sequence = sequence;
        self.no_snapshot_before = None;
        self.room.was_made();
        // What is not removed now is at the next start. Where writes wait for the room, it is removed here.
        if self.refusals.is_refusing() {
            for name in names {
                let _ = self.disk.remove(&name);
            }
        } else {
            self.disk.begin_remove(names);
        }
    }

    /// A file that somebody has cut, or is just writing over, is not removed.
    fn keep_changed(&mut self, known: &[(String, u64)]) {
        for (name, bytes) in known {
            if self.disk.len(name).is_ok_and(|len| len < *bytes) && self.disk.is_own(name) {
                let aside = start::free_name(&self.disk, format!("{name}.changed"));
                let kept = aside.and_then(|aside| self.disk.rename(name, &aside));
                if let Err(cause) = kept {
                    tracing::warn!("{}", StoreError::of(self.disk.path(), name, cause));
                }
            }
        }
    }

    fn note_no_snapshot(&mut self, what: &str, error: &StoreError) {
        if self.no_snapshot.ask(Instant::now()).is_some() {
            tracing::warn!("{what}, the log grows: {error}");
        }
    }

    fn give_snapshot_up(&mut self, error: &StoreError) {
        self.note_no_snapshot("a snapshot was given up", error);
        self.drop_snapshot();
        self.no_snapshot_before = Some(Instant::now() + RETRY);
    }

    /// Forgets the one that is being made, if there is one.
    pub(super) fn drop_snapshot(&mut self) {
        if self.taking.take().is_none() {
            return;
        }
        // Its file is emptied by the next one, and removed at the next start.
        let _ = self.disk.remove(snapshot::NEW);
        // Whatever had asked for it still does, and the end may have been a sync that failed.
        self.is_to_write_anew = true;
        self.room.forget();
    }
}
