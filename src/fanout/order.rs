//! Numbers in rising order, out of whose midst any may be taken: in blocks, so that no step moves more
//! than one block, and each knows its bytes.
//!
//! May not know what the numbers are of.

use std::collections::VecDeque;

/// Entries of one block. Debug builds have fewer, so that tests come to have many.
const BLOCK_LEN: usize = if cfg!(debug_assertions) { 4 } else { 256 };

/// What stands at the numbers.
#[derive(Default)]
pub(super) struct Order {
    /// None is empty.
    blocks: VecDeque<Block>,
}

#[derive(Default)]
struct Block {
    entries: Vec<Entry>,
    bytes: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) slot: u32,
    pub(super) bytes: u32,
}

impl Order {
    /// Adds an entry behind all others.
    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert!(self.last().is_none_or(|last| last < entry.number));
        if self
            .blocks
            .back()
            .is_none_or(|block| block.entries.len() >= BLOCK_LEN)
        {
            self.blocks.push_back(Block::default());
        }
        if let Some(block) = self.blocks.back_mut() {
            block.bytes += entry.bytes as usize;
            block.entries.push(entry);
        }
    }

    /// Takes the entry of that number out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let at = self.block_of(number);
        let block = self.blocks.get_mut(at)?;
        let found = block
            .entries
            .binary_search_by_key(&number, |entry| entry.number)
            .ok()?;
        let entry = block.entries.remove(found);
        block.bytes -= entry.bytes as usize;
        let len = block.entries.len();
        if len == 0 {
            self.blocks.remove(at);
        } else if let Some(next) = self.blocks.get(at + 1)
            && len + next.entries.len() <= BLOCK_LEN / 2
            && let Some(next) = self.blocks.remove(at + 1)
            && let Some(block) = self.blocks.get_mut(at)
        {
            block.entries.extend(next.entries);
            block.bytes += next.bytes;
        }
        Some(entry)
    }

    /// The first entry at that number or behind it.
    pub(super) fn first_from(&self, number: u64) -> Option<Entry> {
        let block = self.blocks.get(self.block_of(number))?;
        let found = block.entries.partition_point(|entry| entry.number < number);
        block.entries.get(found).copied()
    }

    /// The first of all.
    pub(super) fn first(&self) -> Option<Entry> {
        self.blocks.front()?.entries.first().copied()
    }

    fn last(&self) -> Option<u64> {
        Some(self.blocks.back()?.entries.last()?.number)
    }

    /// Bytes of the entries from that number on.
    pub(super) fn bytes_from(&self, number: u64) -> usize {
        let at = self.block_of(number);
        let Some(block) = self.blocks.get(at) else {
            return 0;
        };
        let found = block.entries.partition_point(|entry| entry.number < number);
        let here = block.entries[found..].iter();
        let here: usize = here.map(|entry| entry.bytes as usize).sum();
        let behind = self.blocks.range(at + 1..).map(|block| block.bytes);
        here + behind.sum::<usize>()
    }

    /// The first block that reaches up to that number.
    fn block_of(&self, number: u64) -> usize {
        let ends_before = |block: &Block| {
            let last = block.entries.last();
            last.is_some_and(|last| last.number < number)
        };
        self.blocks.partition_point(ends_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_says_the_same_as_a_sorted_map() {
        let mut state = 7_u64;
        let mut roll = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let (mut order, mut model) = (Order::default(), BTreeMap::new());
        let mut next = 0;
        for _ in 0..20_000 {
            if roll(100) < 48 {
                next += 1 + roll(3);
                let bytes = roll(1000) as u32;
                let slot = next as u32;
                order.push(Entry {
                    number: next,
                    slot,
                    bytes,
                });
                model.insert(next, bytes);
            } else {
                let number = roll(next + 2);
                let removed = order.remove(number).map(|entry| entry.bytes);
                assert_eq!(removed, model.remove(&number));
            }
            let from = roll(next + 2);
            let first = order.first_from(from).map(|entry| entry.number);
            assert_eq!(first, model.range(from..).next().map(|(number, _)| *number));
            let bytes = model.range(from..).map(|(_, bytes)| *bytes as usize);
            assert_eq!(order.bytes_from(from), bytes.sum::<usize>());
            assert_eq!(
                order.first().map(|entry| entry.number),
                model.keys().next().copied()
            );
        }
        assert!(order.blocks.len() <= 2 * model.len() / BLOCK_LEN * 2 + 2);
    }
}
