//! Going back: the reference's files, written from ours. Ours stay as they are.

use std::collections::BTreeMap;
use std::path::Path;

use crate::id::GroupKey;

use super::StoreError;
use super::directory::Directory;
use super::disk::Disk;
use super::layout::Layout;
use super::offline::Offline;
use super::reference;

/// What was written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Groups that were written.
    pub groups: usize,
    /// Their items.
    pub items: usize,
    /// Groups that the reference could not read, and why. They were left out.
    pub left_out: Vec<String>,
}

/// Writes all groups in `data` to `out`, which is made, or empty. Groups that the reference could not
/// read stop it before anything is written, or are left out with `skip`.
pub fn export(data: &Path, out: &Path, skip: bool) -> Result<Exported, StoreError> {
    let mut directory = Directory::at(data).map_err(|source| StoreError::io(data, source))?;
    if Layout::read(&directory)?.is_empty() {
        return Err(StoreError::Nothing {
            directory: data.to_owned(),
        });
    }
    directory.lock()?;
    let offline = Offline::read_whole(&directory)?;
    let mut exported = Exported::default();
    let names = names(&offline, &mut exported)?;
    if !exported.left_out.is_empty() && !skip {
        return Err(StoreError::Unreadable {
            groups: exported.left_out,
        });
    }
    let mut disk = Directory::make(out)?;
    if !disk
        .is_empty()
        .map_err(|cause| StoreError::io(out, cause))?
    {
        return Err(StoreError::NotEmpty {
            directory: out.to_owned(),
        });
    }
    if let Err(error) = write(&offline, &names, &mut disk, &mut exported) {
        // The directory was empty, and is again: an engine must not go on with a part.
        for name in names.values().flatten() {
            let _ = disk.remove(name);
        }
        return Err(error);
    }
    Ok(exported)
}

fn write(
    offline: &Offline,
    names: &Names,
    disk: &mut dyn Disk,
    exported: &mut Exported,
) -> Result<(), StoreError> {
    offline.each_group(|key, items| {
        let Some(Some(name)) = names.get(key) else {
            return Ok(());
        };
        let shared = items.iter().map(|(name, value)| (&**name, &**value));
        // `names` has spelled these items, so they can be spelled.
        let Ok(text) = reference::spelled(shared) else {
            return Ok(());
        };
        let written = disk.create(name).and_then(|mut file| {
            file.append(&reference::bytes_of(&text))?;
            file.sync()
        });
        written.map_err(|source| StoreError::of(disk.path(), name, source))?;
        exported.groups += 1;
        exported.items += items.len();
        Ok(())
    })?;
    let synced = disk.sync();
    synced.map_err(|source| StoreError::io(disk.path(), source))
}

type Names = BTreeMap<GroupKey, Option<String>>;

/// The file of each group; `None` for those that are left out.
fn names(offline: &Offline, exported: &mut Exported) -> Result<Names, StoreError> {
    let mut names = Names::new();
    let mut by_joined: BTreeMap<String, Vec<GroupKey>> = BTreeMap::new();
    offline.each_group(|key, items| {
        let shared = items.iter().map(|(name, value)| (&**name, &**value));
        let name = match (reference::name_of(key.joined()), reference::spelled(shared)) {
            (None, _) => {
                let why = "names longer than a file's may be";
                exported.left_out.push(format!("{key:?}: {why}"));
                None
            }
            (_, Err(why)) => {
                exported.left_out.push(format!("{key:?}: {why}"));
                None
            }
            (name, Ok(_)) => name,
        };
        names.insert(key.clone(), name);
        by_joined
            .entry(key.joined().to_owned())
            .or_default()
            .push(key.clone());
        Ok(())
    })?;
    for keys in by_joined.values().filter(|keys| keys.len() > 1) {
        for key in keys {
            let why = "another group has the same name there";
            exported.left_out.push(format!("{key:?}: {why}"));
            names.insert(key.clone(), None);
        }
    }
    Ok(names)
}
