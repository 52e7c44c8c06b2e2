//! Taking over: the reference's files become our first snapshot. They stay as they are.
//!
//! All or nothing: until the snapshot has its name, the directory is what it was.

use std::collections::BTreeMap;
use std::io::Read;

use crate::id::GroupKey;
use crate::shard::Piece;

use super::disk::Disk;
use super::error::{Fault, StoreError};
use super::identity::StoreId;
use super::reference::{self, Items, Named};
use super::snapshot::{Follows, Writer};

/// The log's number behind which the snapshot stands: one that no write has.
const SEQUENCE: u64 = 1;
/// Items in one piece of a snapshot.
const PIECE_ITEMS: usize = 1024;

/// The reference's files in a directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By the joined names of their groups.
    pub(super) groups: BTreeMap<String, Vec<String>>,
    /// `.bin` files that are no groups of a stream.
    pub(super) others: Vec<String>,
    /// Writes that the reference never finished.
    pub(super) unfinished: usize,
}

pub(super) fn look(disk: &dyn Disk) -> Result<Found, StoreError> {
    let mut names = disk
        .list()
        .map_err(|source| StoreError::io(disk.path(), source))?;
    names.sort_unstable();
    let mut found = Found::default();
    for name in names {
        match reference::read_name(&name) {
            Named::Group(joined) => found.groups.entry(joined).or_default().push(name),
            Named::Other => found.others.push(name),
            Named::Nothing => {
                let is_unfinished = name.ends_with(reference::EXTENSION_UNFINISHED);
                found.unfinished += usize::from(is_unfinished);
            }
        }
    }
    Ok(found)
}

/// All files that cannot be taken over. Of several with one key none can but the one that the
/// reference would write.
pub(super) fn faults(disk: &dyn Disk, found: &Found) -> Result<Vec<Fault>, StoreError> {
    let mut faults = Vec::new();
    for (joined, names) in &found.groups {
        let own = reference::name_of(joined);
        let counts = names
            .iter()
            .find(|name| Some(*name) == own.as_ref())
            .unwrap_or(&names[0]);
        for name in names {
            let what = if name == counts {
                items(disk, name)?.err()
            } else {
                Some(format!("holds the same group as {counts}"))
            };
            let name = name.clone();
            faults.extend(what.map(|what| Fault { name, what }));
        }
    }
    Ok(faults)
}

/// Makes the snapshot, if the directory holds files of the reference. Whether it does.
pub(super) fn import(disk: &mut dyn Disk, store: StoreId) -> Result<bool, StoreError> {
    let found = look(disk)?;
    if found.groups.is_empty() {
        return Ok(false);
    }
    let faults = faults(disk, &found)?;
    if !faults.is_empty() {
        let directory = disk.path().to_owned();
        return Err(StoreError::Reference { directory, faults });
    }
    let mut writer = Writer::begin(disk, store, SEQUENCE, Follows::Nothing)?;
    let (mut groups, mut items_len) = (0, 0);
    for (joined, names) in &found.groups {
        let Items(items) = items(disk, &names[0])?.map_err(|what| StoreError::Reference {
            directory: disk.path().to_owned(),
            faults: vec![Fault {
                name: names[0].clone(),
                what,
            }],
        })?;
        groups += usize::from(!items.is_empty());
        items_len += items.len();
        write(disk, &mut writer, joined, items)?;
    }
    writer.end(disk, 0)?;
    writer.finish(disk)?;
    let path = disk.path().display();
    let unfinished = match found.unfinished {
        0 => String::new(),
        unfinished => format!("; {unfinished} unfinished .tmp files passed over"),
    };
    tracing::info!(
        "{path}: took over {groups} groups with {items_len} items from the engine's files, which stay as they are{unfinished}"
    );
    if !found.others.is_empty() {
        let others = found.others.join(", ");
        tracing::warn!("{path}: left alone, for they hold no group of a stream: {others}");
    }
    Ok(true)
}

fn write(
    disk: &dyn Disk,
    writer: &mut Writer,
    joined: &str,
    items: Vec<(String, String)>,
) -> Result<(), StoreError> {
    // With more than one colon it has several readings, and the file does not say which.
    let is_unnamed = joined.matches(':').count() > 1;
    let stream_len = joined.find(':').unwrap_or_default();
    let Some(key) = GroupKey::of_joined(joined, stream_len) else {
        return Ok(());
    };
    for (at, items) in items.chunks(PIECE_ITEMS).enumerate() {
        let shared =
            |(name, value): &(String, String)| (name.as_str().into(), value.as_str().into());
        let piece = Piece {
            key: key.clone(),
            time: 0,
            is_first: at == 0,
            is_unnamed,
            items: items.iter().map(shared).collect(),
            marked: Vec::new(),
        };
        writer.add(disk, SEQUENCE, &[piece], 0)?;
    }
    Ok(())
}

/// The items of one file; the inner error: what is wrong with it.
fn items(disk: &dyn Disk, name: &str) -> Result<Result<Items, String>, StoreError> {
    let failed = |source| StoreError::of(disk.path(), name, source);
    let mut bytes = Vec::new();
    let mut file = disk.open(name, 0).map_err(failed)?;
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(reference::text_of(&bytes).and_then(reference::items_of))
}
