//! Which files of a directory are the store's, by their names.

use super::disk::Disk;
use super::record::SEQUENCE_MAX;
use super::{StoreError, log, snapshot};

/// The files of ours in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Numbers in the names, in rising order.
    pub(super) snapshots: Vec<u64>,
    pub(super) logs: Vec<u64>,
}

impl Layout {
    pub(super) fn read(disk: &dyn Disk) -> Result<Layout, StoreError> {
        let names = disk.list();
        let names = names.map_err(|source| StoreError::io(disk.path(), source))?;
        let numbers = |name_of: fn(u64) -> String, kind: &str| {
            let number = |name: &String| {
                let number = name.strip_suffix(kind)?.parse().ok()?;
                let is_ours = (1..SEQUENCE_MAX).contains(&number) && name_of(number) == *name;
                is_ours.then_some(number)
            };
            let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        Ok(Layout {
            snapshots: numbers(snapshot::name_of, ".snapshot"),
            logs: numbers(log::name_of, ".log"),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.logs.is_empty()
    }
}
