//! A hash index from a hash to slot numbers that grows by splitting (extendible hashing).
//!
//! It holds `u32` slot numbers only; what they stand for, and whether two are equal, the caller
//! says. May not hash: hashes are handed in, and come back by the caller's `hash_of` at a split.

use hashbrown::HashTable;

/// Entries of one sub-table before it is split in two. No step moves more than this many.
const SPLIT_LEN: usize = 8192;

/// Which bits of a hash choose the sub-table. hashbrown uses the lowest and the topmost ones.
const DIRECTORY_SHIFT: u32 = 32;
const DEPTH_MAX: u8 = 20;

/// Slot numbers by hash.
pub struct Index(Shape);

enum Shape {
    /// Most tables are small.
    One(HashTable<u32>),
    Many(Box<Directory>),
}

struct Directory {
    /// Sub-table of each value of the lowest `depth` directory bits.
    tables_by_bits: Vec<u32>,
    depth: u8,
    tables: Vec<SubTable>,
}

struct SubTable {
    /// How many of the bits all its entries share.
    depth: u8,
    entries: HashTable<u32>,
}

impl Default for Index {
    fn default() -> Self {
        Index(Shape::One(HashTable::new()))
    }
}

impl Index {
    /// The slot of that hash for which `is_it` holds.
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let table = match &self.0 {
            Shape::One(table) => table,
            Shape::Many(directory) => &directory.tables[directory.table_of(hash)].entries,
        };
        table.find(hash, |slot| is_it(*slot)).copied()
    }

    /// Adds a slot, which must not be in it yet. `hash_of` gives the hash of any slot in it.
    pub fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let hash_of_entry = |slot: &u32| hash_of(*slot);
        match &mut self.0 {
            Shape::One(table) => {
                table.insert_unique(hash, slot, hash_of_entry);
                if table.len() > SPLIT_LEN {
                    let entries = std::mem::take(table);
                    let mut directory = Box::new(Directory {
                        tables_by_bits: vec![0],
                        depth: 0,
                        tables: vec![SubTable { depth: 0, entries }],
                    });
                    directory.split(0, &hash_of);
                    self.0 = Shape::Many(directory);
                }
            }
            Shape::Many(directory) => {
                let number = directory.table_of(hash);
                let table = &mut directory.tables[number];
                table.entries.insert_unique(hash, slot, hash_of_entry);
                if table.entries.len() > SPLIT_LEN && table.depth < DEPTH_MAX {
                    directory.split(number, &hash_of);
                }
            }
        }
    }

    /// Takes the slot of that hash for which `is_it` holds out of the index.
    pub fn remove(&mut self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let table = match &mut self.0 {
            Shape::One(table) => table,
            Shape::Many(directory) => {
                let number = directory.table_of(hash);
                &mut directory.tables[number].entries
            }
        };
        let entry = table.find_entry(hash, |slot| is_it(*slot)).ok()?;
        Some(entry.remove().0)
    }
}

impl Directory {
    fn table_of(&self, hash: u64) -> usize {
        let bits = (hash >> DIRECTORY_SHIFT) as usize & ((1 << self.depth) - 1);
        self.tables_by_bits[bits] as usize
    }

    fn split(&mut self, number: usize, hash_of: &impl Fn(u32) -> u64) {
        if self.tables[number].depth == self.depth {
            self.tables_by_bits.extend_from_within(..);
            self.depth += 1;
        }
        let depth = self.tables[number].depth;
        let bit = 1_u64 << (DIRECTORY_SHIFT + u32::from(depth));
        let sibling = self.tables.len() as u32;
        let hash_of_entry = |slot: &u32| hash_of(*slot);

        let table = &mut self.tables[number];
        let mut moved = HashTable::with_capacity(table.entries.len() / 2);
        for slot in table.entries.extract_if(|slot| hash_of(*slot) & bit != 0) {
            moved.insert_unique(hash_of(slot), slot, hash_of_entry);
        }
        table.entries.shrink_to(SPLIT_LEN / 2, hash_of_entry);
        table.depth = depth + 1;
        self.tables.push(SubTable {
            depth: depth + 1,
            entries: moved,
        });
        for (bits, table) in self.tables_by_bits.iter_mut().enumerate() {
            if *table == number as u32 && bits & (1 << depth) != 0 {
                *table = sibling;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(slot: u32) -> u64 {
        u64::from(slot)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(17)
    }

    #[test]
    fn every_entry_is_found_over_many_splits() {
        let mut index = Index::default();
        let len = 40 * SPLIT_LEN as u32;
        for slot in 0..len {
            index.insert(hash_of(slot), slot, hash_of);
        }
        for slot in 0..len {
            assert_eq!(index.find(hash_of(slot), |found| found == slot), Some(slot));
        }
        let Shape::Many(directory) = &index.0 else {
            unreachable!("it has split")
        };
        let longest = directory.tables.iter().map(|t| t.entries.len()).max();
        assert!(longest <= Some(SPLIT_LEN), "{longest:?}");
        for slot in (0..len).step_by(2) {
            assert_eq!(
                index.remove(hash_of(slot), |found| found == slot),
                Some(slot)
            );
        }
        for slot in 0..len {
            let found = index.find(hash_of(slot), |found| found == slot);
            assert_eq!(found.is_some(), slot % 2 == 1);
        }
    }

    #[test]
    fn equal_hashes_are_told_apart() {
        let mut index = Index::default();
        for slot in 0..100 {
            index.insert(1, slot, |_| 1);
        }
        assert_eq!(index.find(1, |slot| slot == 77), Some(77));
        assert_eq!(index.remove(1, |slot| slot == 77), Some(77));
        assert_eq!(index.find(1, |slot| slot == 77), None);
    }
}
