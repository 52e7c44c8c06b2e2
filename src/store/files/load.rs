//! What stands in a directory, read back: the newest snapshot, then the log behind it.
//!
//! It changes nothing. A tail of the log that is not whole is where the last batch was cut off; damage
//! anywhere else is an error that names file and offset, or, when salvaging, is passed over and noted.

use crate::shard::Restored;

use super::StoreError;
use super::disk::Disk;
use super::head::FileKind;
use super::histories::Histories;
use super::identity::StoreId;
use super::layout::Layout;
use super::log::{self, Closed};
use super::reader::Reader;
use super::record::{self, Content};
use super::records::{Batch, Step};
use super::snapshot;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Which store it is, if anything says so.
    pub(super) store: Option<StoreId>,
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
    /// Files below a snapshot that was made of what could be saved of them: they are kept aside.
    pub(super) aside: Vec<String>,
    /// Files that are of no history with the rest. Only salvaging passes them over.
    pub(super) strangers: Vec<String>,
    /// Numbers whose writes salvaging has not found.
    pub(super) lacking: Vec<Lack>,
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

/// Writes that salvaging has not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// The number of the first.
    pub from: u64,
    /// That of the last; none where nothing tells of it.
    pub to: Option<u64>,
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
    let mut layout = Layout::read(disk)?;
    let histories = Histories::read(disk, &layout)?;
    let mut loaded = Loaded {
        store: histories.store()?,
        ..Loaded::default()
    };
    match damage {
        Damage::Stops => histories.check()?,
        Damage::IsNoted(_) => {
            loaded.strangers = histories.take_strangers(loaded.store, &mut layout)?;
        }
    }
    let mut loading = Loading {
        disk,
        reader: Reader { disk },
        restore,
        damage,
        held: 0,
        seen: None,
        loaded,
    };
    loading.snapshot(&layout)?;
    loading.log(&layout)?;
    Ok(loading.loaded)
}

struct Loading<'a> {
    disk: &'a dyn Disk,
    reader: Reader<'a>,
    restore: &'a mut dyn FnMut(Restored),
    damage: Damage<'a>,
    /// The number of the last write that the snapshot holds.
    held: u64,
    /// The last number that was found, or that the snapshot stands for.
    seen: Option<u64>,
    loaded: Loaded,
}

impl Loading<'_> {
    fn snapshot(&mut self, layout: &Layout) -> Result<(), StoreError> {
        let Some((newest, older)) = layout.snapshots.split_last() else {
            return Ok(());
        };
        let name = snapshot::name_of(*newest);
        let bytes = self.reader.len_of(&name)?;
        self.loaded.snapshot = Some((*newest, bytes));
        self.loaded.last_sequence = *newest;
        let mut records = match self.reader.open(&name, FileKind::Snapshot, bytes)? {
            Ok((head, records)) if head.sequence == *newest => {
                self.loaded.is_followed = head.before.is_some();
                records
            }
            _ => {
                let next = self.reader.first_record(&name, bytes)?.unwrap_or(bytes);
                self.damaged(&name, 0, next)?;
                self.reader.records(&name, next, bytes)?
            }
        };
        let older = older.iter().map(|number| snapshot::name_of(*number));
        match self.loaded.is_followed {
            true => self.loaded.superfluous.extend(older),
            false => self.loaded.aside.extend(older),
        }
        let mut pieces = 0;
        loop {
            let at = records.at;
            match self.reader.step(&mut records, &name)? {
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
                    let next = self.reader.next_record(&name, at + 1, bytes, 0)?;
                    let end = next.unwrap_or(bytes);
                    self.damaged(&name, at, end - at)?;
                    records = self.reader.records(&name, end, bytes)?;
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
        self.seen = self.is_whole().then_some(snapshot_to);
        // Behind a snapshot that nothing followed, a log begins with the next number: what is below is what
        // the snapshot was made of.
        let is_made_of_them = self.loaded.snapshot.is_some() && !self.loaded.is_followed;
        let of_snapshot = match is_made_of_them && self.is_whole() {
            true => layout.logs.partition_point(|number| *number <= snapshot_to),
            false => 0,
        };
        let (aside, logs) = layout.logs.split_at(of_snapshot);
        let aside = aside.iter().map(|number| log::name_of(*number));
        self.loaded.aside.extend(aside);
        // A segment counts unless its successor begins where the snapshot does, or before.
        let is_needed = |at: &usize| logs.get(at + 1).is_none_or(|next| *next > begun + 1);
        let first = (0..logs.len()).find(is_needed).unwrap_or_default();
        let (superfluous, logs) = logs.split_at(first);
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
        let mut last = None;
        for (at, number) in logs.iter().enumerate() {
            if last.is_some_and(|last| *number <= last) {
                // The one before has these numbers as well: one of them is of another history.
                self.damaged(&log::name_of(*number), 0, 0)?;
            }
            let successor = logs.get(at + 1).copied();
            last = Some(self.segment(*number, successor, begun)?);
        }
        // A number that the snapshot holds is not given out anew: its write would be passed over.
        self.loaded.is_log_behind = self.held > self.loaded.last_sequence;
        self.loaded.last_sequence = self.held.max(self.loaded.last_sequence);
        Ok(())
    }

    /// One segment, and its last number. `begun`: the number up to which the snapshot holds everything.
    fn segment(
        &mut self,
        number: u64,
        successor: Option<u64>,
        begun: u64,
    ) -> Result<u64, StoreError> {
        let name = log::name_of(number);
        let file_bytes = self.reader.len_of(&name)?;
        let end = match successor {
            None => file_bytes,
            Some(next) => self.stated_end(number, next, file_bytes)?,
        };
        let is_last = successor.is_none();
        let (mut records, head_bytes) = match self.reader.open(&name, FileKind::Log, end)? {
            Ok((head, records)) if head.sequence == number => (records, head.bytes()),
            _ => {
                let next = self.reader.first_record(&name, end)?;
                if is_last && self.is_end_torn(&name, 0, next, file_bytes, number - 1)? {
                    self.tear(name, 0, file_bytes);
                    return Ok(number - 1);
                }
                let next = next.unwrap_or(end);
                self.damaged(&name, 0, next)?;
                (self.reader.records(&name, next, end)?, next)
            }
        };
        if number > self.loaded.last_sequence + 1 && number != self.held + 1 {
            self.missing(self.loaded.last_sequence + 1, number)?;
        }
        // The numbers of a segment that the snapshot holds in part begin below it.
        let mut last = number - 1;
        let mut whole_to = head_bytes;
        let mut batch = Batch::default();
        loop {
            let at = records.at;
            let step = self.reader.step(&mut records, &name)?;
            let place = match step {
                Step::Record => record::place_of(&records.payload),
                Step::Fault => None,
                Step::End if batch.is_empty() => break,
                Step::End => {
                    if is_last {
                        self.tear(name.clone(), whole_to, file_bytes - whole_to);
                    } else {
                        self.damaged(&name, whole_to, end - whole_to)?;
                        // What is whole of a batch is better than nothing.
                        self.take_batch(&mut batch, begun, &name, at)?;
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
                    // A record that may not stand here is passed over like one that is none.
                    let next = self.reader.next_record(&name, at + 1, end, last)?;
                    if is_last && self.is_end_torn(&name, at, next, file_bytes, last)? {
                        self.tear(name.clone(), whole_to, file_bytes - whole_to);
                        break;
                    }
                    let next = next.unwrap_or(end);
                    self.damaged(&name, at, next - at)?;
                    // What is whole of a batch is better than nothing.
                    self.take_batch(&mut batch, begun, &name, at)?;
                    last = last.max(self.loaded.last_sequence);
                    whole_to = next;
                    records = self.reader.records(&name, next, end)?;
                }
            }
        }
        self.loaded.segments.push(Closed {
            sequence: number,
            bytes: whole_to,
            head_bytes,
        });
        Ok(last)
    }

    /// Whether what is not whole at `from`, and whatever comes behind, is the end of the log that a kill
    /// or a loss of power has left. The `next` whole record begins behind it; `last` is the last number
    /// before it that counts.
    fn is_end_torn(
        &self,
        name: &str,
        from: u64,
        next: Option<u64>,
        end: u64,
        last: u64,
    ) -> Result<bool, StoreError> {
        let Some(next) = next else {
            return Ok(true);
        };
        // Where there is other damage, all that is whole is to be salvaged.
        let may_be = self.is_whole() && self.disk.may_have_lost_power();
        let is_unwritten = may_be && self.reader.is_unwritten(name, from, next)?;
        Ok(is_unwritten && self.reader.synced_to(name, next, end, last)? <= last)
    }

    /// No damage was found so far.
    fn is_whole(&self) -> bool {
        match &self.damage {
            Damage::Stops => true,
            Damage::IsNoted(losses) => losses.is_empty(),
        }
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
            self.see(sequence);
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

    /// Takes note of a number, and of those before it that were not found.
    fn see(&mut self, sequence: u64) {
        if let Some(seen) = self
            .seen
            .replace(self.seen.unwrap_or_default().max(sequence))
            && sequence > seen + 1
            && sequence != self.held + 1
        {
            let (from, to) = (seen + 1, Some(sequence - 1));
            self.loaded.lacking.push(Lack { from, to });
        }
    }

    /// Where the head of segment `next` says that segment `number` ends.
    fn stated_end(&mut self, number: u64, next: u64, bytes: u64) -> Result<u64, StoreError> {
        let head = self.reader.head(&log::name_of(next), FileKind::Log)?;
        let before = head.ok().and_then(|head| head.before);
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
                let from = self.seen.map_or(from, |seen| seen + 1);
                let to = (to > from).then(|| to - 1);
                self.seen = Some(to.unwrap_or(from));
                self.loaded.lacking.push(Lack { from, to });
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
}
