//! A directory read by a command while no server runs on it: all groups, and what was wrong.

use crate::id::{GroupKey, Text, WorkerId};
use crate::shard::{Cursor, Decides, Piece, Shard, SliceLimits, ValueLimits};
use crate::time::Now;

use super::StoreError;
use super::disk::Disk;
use super::load::{self, Damage, Loaded, Loss};

/// Items and bytes that are looked at together.
const LIMITS: SliceLimits = SliceLimits {
    items: 1024,
    bytes: 1024 * 1024,
    groups: 1024,
};

pub(super) struct Offline {
    pub(super) loaded: Loaded,
    pub(super) losses: Vec<Loss>,
    shard: Shard,
}

impl Offline {
    /// Reads what can be read.
    pub(super) fn read(disk: &dyn Disk) -> Result<Offline, StoreError> {
        match Offline::read_whole(disk) {
            Err(
                StoreError::Damaged { .. }
                | StoreError::Missing { .. }
                | StoreError::Stranger { .. },
            ) => {}
            read => return read,
        }
        let mut losses = Vec::new();
        Offline::with(disk, |disk, shard| {
            let mut restore = |restored| shard.restore(restored);
            load::load(disk, &mut restore, Damage::IsNoted(&mut losses))
        })
        .map(|offline| Offline { losses, ..offline })
    }

    /// Reads all, or nothing.
    pub(super) fn read_whole(disk: &dyn Disk) -> Result<Offline, StoreError> {
        Offline::with(disk, |disk, shard| {
            load::load(disk, &mut |restored| shard.restore(restored), Damage::Stops)
        })
    }

    fn with(
        disk: &dyn Disk,
        load: impl FnOnce(&dyn Disk, &mut Shard) -> Result<Loaded, StoreError>,
    ) -> Result<Offline, StoreError> {
        // It updates nothing, so no limit is reached.
        let limits = ValueLimits {
            json_depth: 0,
            value_bytes: 0,
        };
        let mut shard = Shard::new(WorkerId(0), Decides::Owner, limits);
        shard.begin_at(Now::read().wall_ms);
        let loaded = load(disk, &mut shard)?;
        shard.restored(loaded.time);
        Ok(Offline {
            loaded,
            losses: Vec::new(),
            shard,
        })
    }

    /// All items, a few at a time.
    pub(super) fn each_piece(
        &self,
        mut act: impl FnMut(&[Piece], u64) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut next = Some(Cursor::default());
        while let Some(cursor) = next {
            let slice = self.shard.slice(cursor, LIMITS);
            act(&slice.pieces, slice.time_let_go)?;
            next = slice.next;
        }
        Ok(())
    }

    /// Each group with all its items.
    pub(super) fn each_group(
        &self,
        mut act: impl FnMut(&GroupKey, &[(Box<str>, Text)]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut group: Option<Piece> = None;
        self.each_piece(|pieces, _| {
            for piece in pieces {
                match &mut group {
                    Some(known) if !piece.is_first => known.items.extend_from_slice(&piece.items),
                    _ => {
                        if let Some(whole) = group.replace(piece.clone()) {
                            act(&whole.key, &whole.items)?;
                        }
                    }
                }
            }
            Ok(())
        })?;
        match group {
            Some(whole) => act(&whole.key, &whole.items),
            None => Ok(()),
        }
    }
}
