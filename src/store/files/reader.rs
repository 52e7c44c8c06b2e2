//! The files of a directory, opened to be read: heads, records, and whole records behind what is none.
//!
//! Every search goes forward, and ends where it is told to. May not know which file counts.

use std::io::{self, BufReader, Read};

use super::StoreError;
use super::disk::Disk;
use super::head::{FileKind, HEAD_BYTES, HEAD_BYTES_MIN, Head, HeadFault, VERSION};
use super::records::{Records, Step};
use super::search::{self, Looked};
use super::unwritten;

const BUFFER_BYTES: usize = 1024 * 1024;

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) disk: &'a dyn Disk,
}

impl<'a> Reader<'a> {
    fn failed(self, name: &str) -> impl Fn(io::Error) -> StoreError + use<'a, '_> {
        move |cause| StoreError::of(self.disk.path(), name, cause)
    }

    pub(super) fn len_of(self, name: &str) -> Result<u64, StoreError> {
        self.disk.len(name).map_err(self.failed(name))
    }

    /// A file's head, and its records up to `end`; the inner error: the head is damaged.
    pub(super) fn open(
        self,
        name: &str,
        kind: FileKind,
        end: u64,
    ) -> Result<Result<(Head, Records), HeadFault>, StoreError> {
        Ok(match self.head(name, kind)? {
            Ok(head) => Ok((head, self.records(name, head.bytes(), end)?)),
            Err(fault) => Err(fault),
        })
    }

    /// A file's head; the inner error: it is damaged.
    pub(super) fn head(
        self,
        name: &str,
        kind: FileKind,
    ) -> Result<Result<Head, HeadFault>, StoreError> {
        let file = self.disk.open(name, 0).map_err(self.failed(name))?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let mut first = file.take(HEAD_BYTES as u64);
        first.read_to_end(&mut head).map_err(self.failed(name))?;
        match Head::decode(kind, &head) {
            Err(HeadFault::Newer(version)) => Err(StoreError::Newer {
                file: self.disk.path().join(name),
                version,
                ours: VERSION,
            }),
            read => Ok(read),
        }
    }

    /// The records between those offsets.
    pub(super) fn records(self, name: &str, from: u64, end: u64) -> Result<Records, StoreError> {
        let file = self.disk.open(name, from).map_err(self.failed(name))?;
        let input = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(Records::new(input, from, end))
    }

    pub(super) fn step(self, records: &mut Records, name: &str) -> Result<Step, StoreError> {
        records.step().map_err(self.failed(name))
    }

    /// Where the first whole record behind a damaged head begins.
    pub(super) fn first_record(self, name: &str, end: u64) -> Result<Option<u64>, StoreError> {
        let from = (HEAD_BYTES_MIN as u64).min(end);
        self.next_record(name, from, end, 0)
    }

    /// The offset of the first whole record between those offsets whose number is above `after`.
    pub(super) fn next_record(
        self,
        name: &str,
        from: u64,
        end: u64,
        after: u64,
    ) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = end.checked_sub(from) else {
            return Ok(None);
        };
        let input = self.disk.open(name, from).map_err(self.failed(name))?;
        let mut input = input.take(bytes);
        // A part of the file, from that byte on.
        let mut part = Vec::new();
        let mut at = from;
        let mut wanted = BUFFER_BYTES;
        loop {
            let more = wanted.saturating_sub(part.len()) as u64;
            let read = input.by_ref().take(more).read_to_end(&mut part);
            let is_all = (read.map_err(self.failed(name))? as u64) < more;
            let left = match is_all {
                true => part.len() as u64,
                false => end.saturating_sub(at),
            };
            match search::find(&part, left, after) {
                Looked::Found(start) => return Ok(Some(at + start as u64)),
                Looked::Nothing => return Ok(None),
                // Nothing more comes.
                Looked::Needs { .. } if is_all => return Ok(None),
                Looked::Needs { start, bytes } => {
                    part.drain(..start);
                    at += start as u64;
                    wanted = bytes.max(BUFFER_BYTES);
                }
            }
        }
    }

    /// Whether a block between the two did not reach the disk.
    pub(super) fn is_unwritten(self, name: &str, from: u64, to: u64) -> Result<bool, StoreError> {
        let input = self.disk.open(name, from).map_err(self.failed(name))?;
        let mut input = input.take(to.saturating_sub(from));
        let mut search = unwritten::Search::new(from);
        let mut part = vec![0; BUFFER_BYTES];
        while !search.is_found() {
            match input.read(&mut part).map_err(self.failed(name))? {
                0 => return Ok(false),
                bytes => search.take(&part[..bytes]),
            }
        }
        Ok(true)
    }

    /// The highest number that whole records between those offsets say was synced.
    pub(super) fn synced_to(
        self,
        name: &str,
        from: u64,
        end: u64,
        last: u64,
    ) -> Result<u64, StoreError> {
        let mut synced_to = 0;
        let mut next = Some(from);
        while let Some(from) = next {
            let mut records = self.records(name, from, end)?;
            next = loop {
                match self.step(&mut records, name)? {
                    Step::Record => {
                        let said = unwritten::synced_to(&records.payload);
                        synced_to = synced_to.max(said.unwrap_or_default());
                    }
                    Step::Fault => break self.next_record(name, records.at + 1, end, last)?,
                    Step::End => break None,
                }
            };
        }
        Ok(synced_to)
    }
}
