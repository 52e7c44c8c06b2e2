//! What stands in a directory, read back: the newest snapshot, then the log behind it.
//!
//! It changes nothing. A tail of the log that is not whole is where the last batch was cut off; damage
//! anywhere else is an error that names file and offset, or, when salvaging, is passed over and noted.

use std::io::{BufReader, Read};

use crate::shard::Restored;

use super::StoreError;
use super::disk::Disk;
use super::layout::Layout;
use super::log::{self, Closed};
use super::record::{self, Content, FileKind, HEAD_BYTES, Head, HeadFault, Looked};
use super::records::{Batch, Records, Step};
use super::snapshot;
use super::unwritten;

const BUFFER_BYTES: usize = 1024 * 1024;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The last number that was given out.
    pub(super) last_sequence: u64,
    /// The log ends below it: a loss of power took its end, and the snapshot holds later writes.
    pub(super) is_log_behind: bool,
    /// No time up to this may be given out again.
    pub(super) time: u64,
    /// The snapshot that counts, if there is one, and its size.
    pub(super) snapshot: Option<(u64, u64)>,
    /// A segment stood behind it.
    pub(super) is_followed: bool,
    /// The segments that count. The last one's length is that of what is whole.
    pub(super) segments: Vec<Closed>,
    /// Files that a newer snapshot has made superfluous.
    pub(super) superfluous: Vec<String>,
    /// What was cut off at the end of the log.
    pub(super) torn: Option<Torn>,
}

/// The end of the log that is not whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) name: String,
    /// Where it begins. 0: not even the head is whole.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Bytes that salvaging has passed over.
#[derive(Debug, PartialEq, Eq)]
pub struct Loss {
    /// Of which file.
    pub name: String,
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// What to do about damage.
pub(super) enum Damage<'a> {
    Stops,
    IsNoted(&'a mut Vec<Loss>),
}

/// Reads all that counts and hands it on in order.
pub(super) fn load(
    disk: &dyn Disk,
    restore: &mut dyn FnMut(Restored),
    damage: Damage<'_>,
) -> Result<Loaded, StoreError> {
    let layout = Layout::read(disk)?;
    let mut loading = Loading {
        disk,
        restore,
        damage,
        held: 0,
        loaded: Loaded::default(),
    };
    loading.snapshot(&layout)?;
    loading.log(&layout)?;
    Ok(loading.loaded)
}

struct Loading<'a> {
    disk: &'a dyn Disk,
    restore: &'a mut dyn FnMut(Restored),
    damage: Damage<'a>,
    /// The number of the last write that the snapshot holds.
    held: u64,
    loaded: Loaded,
}

impl Loading<'_> {
    fn snapshot(&mut self, layout: &Layout) -> Result<(), StoreError> {
        let Some((newest, older)) = layout.snapshots.split_last() else {
            return Ok(());
        };
        let older = older.iter().map(|number| snapshot::name_of(*number));
        self.loaded.superfluous.extend(older);
        let name = snapshot::name_of(*newest);
        let bytes = self.len_of(&name)?;
        self.loaded.snapshot = Some((*newest, bytes));
        self.loaded.last_sequence = *newest;
        let mut records = match self.open(&name, FileKind::Snapshot)? {
            Ok((head, records)) if head.sequence == *newest => {
                self.loaded.is_followed = head.before.is_some();
                records
            }
            _ => {
                self.damaged(&name, 0, HEAD_BYTES as u64)?;
                self.records_behind(&name, HEAD_BYTES as u64, bytes)?
            }
        };
        let mut pieces = 0;
        loop {
            let at = records.at;
            match self.step(&mut records, &name)? {
                Step::Record => match record::decode(&records.payload) {
                    Some(Content::Restored(restored @ Restored::Piece { sequence, .. })) => {
                        pieces += 1;
                        self.held = self.held.max(sequence);
                        (self.restore)(restored);
                    }
                    Some(Content::End { pieces: all, time })
                        if all == pieces && records.at == bytes =>
                    {
                        self.loaded.time = self.loaded.time.max(time);
                        return Ok(());
                    }
                    _ => self.damaged(&name, at, records.at - at)?,
                },
                Step::Fault if matches!(self.damage, Damage::Stops) => {
                    return self.damaged(&name, at, 0);
                }
                Step::Fault => {
                    let next = self.next_record(&name, at, 0)?;
                    let end = next.unwrap_or(bytes);
                    self.damaged(&name, at, end - at)?;
                    records = self.records_behind(&name, end, bytes)?;
                }
                Step::End => {
                    // It has its name only with its end.
                    return self.damaged(&name, at, 0);
                }
            }
        }
    }

    fn log(&mut self, layout: &Layout) -> Result<(), StoreError> {
        let snapshot_to = self.loaded.last_sequence;
        // What a damaged snapshot has lost may still stand in a segment.
        let begun = if self.is_whole() { snapshot_to } else { 0 };
        // A segment counts unless its successor begins where the snapshot does, or before.
        let is_needed = |at: &usize| layout.logs.get(at + 1).is_none_or(|next| *next > begun + 1);
        let first = (0..layout.logs.len()).find(is_needed).unwrap_or_default();
        let (superfluous, logs) = layout.logs.split_at(first);
        let superfluous = superfluous.iter().map(|number| log::name_of(*number));
        self.loaded.superfluous.extend(superfluous);
        if let Some(first) = logs.first()
            && *first > snapshot_to + 1
            && *first != self.held + 1
        {
            self.missing(snapshot_to + 1, *first)?;
        }
        if logs.is_empty() && self.loaded.is_followed {
            self.missing(snapshot_to + 1, snapshot_to + 1)?;
        }
        for (at, number) in logs.iter().enumerate() {
            let successor = logs.get(at + 1).copied();
            self.segment(*number, successor, begun)?;
        }
        // A number that the snapshot holds is not given out anew: its write would be passed over.
        self.loaded.is_log_behind = self.held > self.loaded.last_sequence;
        self.loaded.last_sequence = self.held.max(self.loaded.last_sequence);
        Ok(())
    }

    /// One segment. `begun`: the number up to which the snapshot holds everything.
    fn segment(
        &mut self,
        number: u64,
        successor: Option<u64>,
        begun: u64,
    ) -> Result<(), StoreError> {
        let name = log::name_of(number);
        let file_bytes = self.len_of(&name)?;
        let end = match successor {
            None => file_bytes,
            Some(next) => self.stated_end(number, next, file_bytes)?,
        };
        let is_last = successor.is_none();
        let mut records = match self.open(&name, FileKind::Log)? {
            Ok((head, records)) if head.sequence == number => records,
            _ => {
                let next = self.next_record(&name, 0, 0)?;
                if is_last && self.is_end_torn(&name, 0, next, number - 1)? {
                    self.tear(name, 0, file_bytes);
                    return Ok(());
                }
                self.damaged(&name, 0, HEAD_BYTES as u64)?;
                self.records_behind(&name, HEAD_BYTES as u64, end)?
            }
        };
        records.end = end;
        if number > self.loaded.last_sequence + 1 && number != self.held + 1 {
            self.missing(self.loaded.last_sequence + 1, number)?;
        }
        // The numbers of a segment that the snapshot holds in part begin below it.
        let mut last = number - 1;
        let mut whole_to = HEAD_BYTES as u64;
        let mut batch = Batch::default();
        loop {
            let at = records.at;
            let step = self.step(&mut records, &name)?;
            let place = match step {
                Step::Record => record::place_of(&records.payload),
                Step::Fault => None,
                Step::End if batch.is_empty() => break,
                Step::End => {
                    if is_last {
                        self.tear(name.clone(), whole_to, file_bytes - whole_to);
                    } else {
                        self.damaged(&name, whole_to, end - whole_to)?;
                    }
                    break;
                }
            };
            let expected = last + batch.len() + 1;
            match place {
                Some((sequence, is_end))
                    if sequence == expected || self.salvages(sequence, last) =>
                {
                    batch.push(&records.payload);
                    if is_end {
                        self.take_batch(&mut batch, begun, &name, at)?;
                        last = sequence;
                        whole_to = records.at;
                    }
                }
                _ => {
                    let next = self
                        .next_record(&name, at, last)?
                        .filter(|next| *next < end);
                    if is_last && self.is_end_torn(&name, at, next, last)? {
                        self.tear(name.clone(), whole_to, file_bytes - whole_to);
                        break;
                    }
                    let next = next.unwrap_or(end);
                    self.damaged(&name, at, next - at)?;
                    // What is whole of a batch is better than nothing.
                    self.take_batch(&mut batch, begun, &name, at)?;
                    last = last.max(self.loaded.last_sequence);
                    whole_to = next;
                    records = self.records_behind(&name, next, end)?;
                }
            }
        }
        self.loaded.segments.push(Closed {
            sequence: number,
            bytes: whole_to,
        });
        Ok(())
    }

    /// Whether what is not whole at `from`, and whatever comes behind, is the end of the log that a kill
    /// or a loss of power has left. The `next` whole record begins behind it; `last` is the last number
    /// before it that counts.
    fn is_end_torn(
        &self,
        name: &str,
        from: u64,
        next: Option<u64>,
        last: u64,
    ) -> Result<bool, StoreError> {
        let Some(next) = next else {
            return Ok(true);
        };
        // Where there is other damage, all that is whole is to be salvaged.
        let may_be = self.is_whole() && self.disk.may_have_lost_power();
        let is_unwritten = may_be && self.is_unwritten(name, from, next)?;
        Ok(is_unwritten && self.synced_to(name, next, last)? <= last)
    }

    /// No damage was found so far.
    fn is_whole(&self) -> bool {
        match &self.damage {
            Damage::Stops => true,
            Damage::IsNoted(losses) => losses.is_empty(),
        }
    }

    /// Whether a block between the two did not reach the disk.
    fn is_unwritten(&self, name: &str, from: u64, to: u64) -> Result<bool, StoreError> {
        let failed = |source| StoreError::of(self.disk, name, source);
        let mut input = self.disk.open(name, from).map_err(failed)?.take(to - from);
        let mut search = unwritten::Search::new(from);
        let mut part = vec![0; BUFFER_BYTES];
        while !search.is_found() {
            match input.read(&mut part).map_err(failed)? {
                0 => return Ok(false),
                bytes => search.take(&part[..bytes]),
            }
        }
        Ok(true)
    }

    /// The highest number that whole records from `from` on say was synced.
    fn synced_to(&self, name: &str, from: u64, last: u64) -> Result<u64, StoreError> {
        let end = self.len_of(name)?;
        let mut synced_to = 0;
        let mut next = Some(from);
        while let Some(from) = next {
            let mut records = self.records_behind(name, from, end)?;
            next = loop {
                match self.step(&mut records, name)? {
                    Step::Record => {
                        let said = unwritten::synced_to(&records.payload);
                        synced_to = synced_to.max(said.unwrap_or_default());
                    }
                    Step::Fault => break self.next_record(name, records.at + 1, last)?,
                    Step::End => break None,
                }
            };
        }
        Ok(synced_to)
    }

    /// When salvaging, numbers may be left out.
    fn salvages(&self, sequence: u64, last: u64) -> bool {
        matches!(self.damage, Damage::IsNoted(_)) && sequence > last
    }

    fn take_batch(
        &mut self,
        batch: &mut Batch,
        begun: u64,
        name: &str,
        at: u64,
    ) -> Result<(), StoreError> {
        for payload in batch.payloads() {
            let Some((sequence, _)) = record::place_of(payload) else {
                continue;
            };
            self.loaded.last_sequence = self.loaded.last_sequence.max(sequence);
            if sequence <= begun {
                continue;
            }
            match record::decode(payload) {
                Some(Content::Restored(Restored::Piece { .. }) | Content::End { .. }) | None => {
                    self.damaged(name, at, payload.len() as u64)?;
                }
                Some(Content::Restored(restored)) => (self.restore)(restored),
                Some(Content::Time(time)) => self.loaded.time = self.loaded.time.max(time),
                Some(Content::Synced(_)) => {}
            }
        }
        batch.clear();
        Ok(())
    }

    /// Where the head of segment `next` says that segment `number` ends.
    fn stated_end(&mut self, number: u64, next: u64, bytes: u64) -> Result<u64, StoreError> {
        let opened = self.open(&log::name_of(next), FileKind::Log)?;
        let before = opened.ok().and_then(|(head, _)| head.before);
        let stated = before.filter(|before| before.sequence == number);
        let Some(stated) = stated else {
            return Ok(bytes);
        };
        if stated.bytes > bytes {
            let name = log::name_of(number);
            self.damaged(&name, bytes, stated.bytes - bytes)?;
        }
        Ok(stated.bytes.min(bytes))
    }

    /// Notes damage, or stops.
    fn damaged(&mut self, name: &str, offset: u64, bytes: u64) -> Result<(), StoreError> {
        match &mut self.damage {
            Damage::Stops => Err(StoreError::Damaged {
                file: self.disk.path().join(name),
                offset,
                directory: self.disk.path().to_owned(),
            }),
            Damage::IsNoted(losses) => {
                let name = name.to_owned();
                losses.push(Loss {
                    name,
                    offset,
                    bytes,
                });
                Ok(())
            }
        }
    }

    /// Numbers `from` up to below `to` stand in no file.
    fn missing(&mut self, from: u64, to: u64) -> Result<(), StoreError> {
        match &mut self.damage {
            Damage::Stops => Err(StoreError::Missing {
                file: self.disk.path().join(log::name_of(from)),
                directory: self.disk.path().to_owned(),
            }),
            Damage::IsNoted(losses) => {
                losses.push(Loss {
                    name: log::name_of(from),
                    offset: 0,
                    bytes: 0,
                });
                self.loaded.last_sequence = to - 1;
                Ok(())
            }
        }
    }

    fn tear(&mut self, name: String, offset: u64, bytes: u64) {
        if bytes > 0 || offset == 0 {
            self.loaded.torn = Some(Torn {
                name,
                offset,
                bytes,
            });
        }
    }

    fn len_of(&self, name: &str) -> Result<u64, StoreError> {
        let len = self.disk.len(name);
        len.map_err(|source| StoreError::of(self.disk, name, source))
    }

    /// A file's head, and its records; the inner error: the head is damaged.
    fn open(
        &self,
        name: &str,
        kind: FileKind,
    ) -> Result<Result<(Head, Records), HeadFault>, StoreError> {
        let end = self.len_of(name)?;
        let failed = |source| StoreError::of(self.disk, name, source);
        let file = self.disk.open(name, 0).map_err(failed)?;
        let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let mut first = input.by_ref().take(HEAD_BYTES as u64);
        first.read_to_end(&mut head).map_err(failed)?;
        match Head::decode(kind, &head) {
            Err(HeadFault::Newer(version)) => Err(StoreError::Newer {
                file: self.disk.path().join(name),
                version,
            }),
            Err(fault) => Ok(Err(fault)),
            Ok(head) => Ok(Ok((head, Records::new(input, HEAD_BYTES as u64, end)))),
        }
    }

    fn step(&self, records: &mut Records, name: &str) -> Result<Step, StoreError> {
        let step = records.step();
        step.map_err(|source| StoreError::of(self.disk, name, source))
    }

    /// The records from that offset on.
    fn records_behind(&self, name: &str, offset: u64, end: u64) -> Result<Records, StoreError> {
        let failed = |source| StoreError::of(self.disk, name, source);
        let file = self.disk.open(name, offset).map_err(failed)?;
        let input = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Records::new(input, offset, end))
    }

    /// The offset of the first whole record behind `offset` whose number is above `after`.
    fn next_record(&self, name: &str, offset: u64, after: u64) -> Result<Option<u64>, StoreError> {
        let failed = |source| StoreError::of(self.disk, name, source);
        let end = self.len_of(name)?;
        let mut input = self.disk.open(name, offset).map_err(failed)?;
        // A part of the file, from that byte on.
        let mut part = Vec::new();
        let mut at = offset;
        let mut wanted = BUFFER_BYTES;
        loop {
            let more = wanted.saturating_sub(part.len()) as u64;
            let read = input.by_ref().take(more).read_to_end(&mut part);
            let is_all = (read.map_err(failed)? as u64) < more;
            let left = match is_all {
                true => part.len() as u64,
                false => end.saturating_sub(at),
            };
            match record::find(&part, left, after) {
                Looked::Found(start) => return Ok(Some(at + start as u64)),
                Looked::Nothing => return Ok(None),
                Looked::Needs { start, bytes } => {
                    part.drain(..start);
                    at += start as u64;
                    wanted = bytes.max(BUFFER_BYTES);
                }
            }
        }
    }
}
