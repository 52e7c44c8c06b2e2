//! Which files of a directory are of one history: of one store by what their heads say, and each segment
//! of the log going on where the one before it ends.
//!
//! Somebody may have put files of two stores into one directory: by a backup copied over, or a server
//! that wrote where another worked. May not know what a record says.

use std::collections::BTreeMap;

use super::StoreError;
use super::disk::Disk;
use super::head::{FileKind, Head};
use super::identity::{self, StoreId};
use super::layout::Layout;
use super::log;
use super::reader::Reader;
use super::record;
use super::records::Step;
use super::snapshot;

/// The files of a directory, with what their heads say.
pub(super) struct Histories<'a> {
    reader: Reader<'a>,
    /// What the directory says itself.
    directory: Option<StoreId>,
    files: Vec<File>,
}

struct File {
    name: String,
    kind: FileKind,
    number: u64,
    /// `None`: it cannot be read, and says nothing.
    head: Option<Head>,
}

impl<'a> Histories<'a> {
    pub(super) fn read(disk: &'a dyn Disk, layout: &Layout) -> Result<Histories<'a>, StoreError> {
        let reader = Reader { disk };
        let file = |kind: FileKind, number: u64| {
            let name = match kind {
                FileKind::Log => log::name_of(number),
                FileKind::Snapshot => snapshot::name_of(number),
            };
            let head = reader.head(&name, kind)?.ok();
            Ok(File {
                name,
                kind,
                number,
                head,
            })
        };
        let snapshots = layout.snapshots.iter();
        let snapshots = snapshots.map(|number| file(FileKind::Snapshot, *number));
        let logs = layout.logs.iter();
        let logs = logs.map(|number| file(FileKind::Log, *number));
        Ok(Histories {
            reader,
            directory: identity::read(disk)?,
            files: snapshots.chain(logs).collect::<Result<_, StoreError>>()?,
        })
    }

    /// The store whose files count: the directory's, or where none is of that, the one with the most
    /// bytes. `None`: nothing says one.
    pub(super) fn store(&self) -> Result<Option<StoreId>, StoreError> {
        let mut bytes: BTreeMap<StoreId, u64> = BTreeMap::new();
        for file in &self.files {
            if let Some(store) = file.store() {
                *bytes.entry(store).or_default() += self.reader.len_of(&file.name)?;
            }
        }
        if bytes.is_empty() || self.directory.is_some_and(|own| bytes.contains_key(&own)) {
            return Ok(self.directory);
        }
        let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
        Ok(most.map(|(store, _)| store))
    }

    /// Stops where a file is of another store than the directory or the other files.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let store = self.directory.or(self.store()?);
        let Some(stranger) = self.strangers(store).next() else {
            return Ok(());
        };
        let path = self.reader.disk.path();
        let of = match self.directory {
            Some(_) => format!("{} says", path.join(identity::NAME).display()),
            None => "the other files".to_owned(),
        };
        Err(StoreError::Stranger {
            file: path.join(&stranger.name),
            of,
            directory: path.to_owned(),
        })
    }

    /// The files of other stores than that.
    fn strangers(&self, store: Option<StoreId>) -> impl Iterator<Item = &File> {
        let own = self
            .files
            .iter()
            .filter(move |file| store.is_some() && file.store() == store);
        let first_number = |kind| {
            let own = own.clone().filter(move |file| file.kind == kind);
            own.map(|file| file.number).min()
        };
        let (log, snapshot) = (
            first_number(FileKind::Log),
            first_number(FileKind::Snapshot),
        );
        // The version before said no store; from where this one has begun to write it is not ours.
        let is_late = move |file: &File| match file.kind {
            FileKind::Log => {
                log.is_some_and(|log| file.number > log)
                    || snapshot.is_some_and(|snapshot| file.number > snapshot)
            }
            FileKind::Snapshot => {
                log.is_some_and(|log| file.number >= log)
                    || snapshot.is_some_and(|snapshot| file.number > snapshot)
            }
        };
        self.files.iter().filter(move |file| match file.head {
            None => false,
            Some(head) => match head.store {
                None => is_late(file),
                found => store.is_some() && found != store,
            },
        })
    }

    /// Takes what is of no history with the rest off the layout, and gives its names.
    pub(super) fn take_strangers(
        &self,
        store: Option<StoreId>,
        layout: &mut Layout,
    ) -> Result<Vec<String>, StoreError> {
        let strangers: Vec<&File> = self.strangers(store).collect();
        let mut names: Vec<String> = strangers.iter().map(|file| file.name.clone()).collect();
        // What the directory says of itself may be another's as well.
        if store.is_some() && self.directory.is_some_and(|said| Some(said) != store) {
            names.push(identity::NAME.to_owned());
        }
        let is_strange = |kind: FileKind, number: u64| {
            let mut strangers = strangers.iter();
            strangers.any(|file| file.kind == kind && file.number == number)
        };
        let snapshots = &mut layout.snapshots;
        snapshots.retain(|number| !is_strange(FileKind::Snapshot, *number));
        let logs = std::mem::take(&mut layout.logs);
        let logs = logs.into_iter();
        for number in logs.filter(|number| !is_strange(FileKind::Log, *number)) {
            match layout.logs.last() {
                Some(before) if self.is_beside(*before, number)? => {
                    names.push(log::name_of(number));
                }
                _ => layout.logs.push(number),
            }
        }
        Ok(names)
    }

    /// Whether a segment is no successor of the one before it: that one is whole and has its numbers as
    /// well, and no batch of it ends where the successor's head says.
    fn is_beside(&self, before: u64, number: u64) -> Result<bool, StoreError> {
        let name = log::name_of(before);
        let stated = self.stated_end(before, number)?;
        let end = self.reader.len_of(&name)?;
        let Ok((_, mut records)) = self.reader.open(&name, FileKind::Log, end)? else {
            return Ok(false);
        };
        let (mut last, mut next) = (before - 1, before);
        while last < number {
            if last + 1 == number && Some(records.at) == stated {
                return Ok(false);
            }
            let place = match self.reader.step(&mut records, &name)? {
                Step::Record => record::place_of(&records.payload),
                Step::Fault | Step::End => None,
            };
            match place {
                Some((sequence, is_last)) if sequence == next => {
                    next += 1;
                    last = if is_last { sequence } else { last };
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Where a segment's successor says that it ends.
    fn stated_end(&self, before: u64, number: u64) -> Result<Option<u64>, StoreError> {
        let head = self.reader.head(&log::name_of(number), FileKind::Log)?;
        let stated = head.ok().and_then(|head| head.before);
        let stated = stated.filter(|stated| stated.sequence == before);
        Ok(stated.map(|stated| stated.bytes))
    }
}

impl File {
    fn store(&self) -> Option<StoreId> {
        self.head.and_then(|head| head.store)
    }
}
