//! The order of a group's items, cut into runs, and the text of each run for `sync` and `list`.
//!
//! A run's text is made when it is asked for and shared until one of its items changes, so a change
//! costs one run and a join of a room of any size costs nothing that a join before it has paid.

use std::sync::Arc;

use crate::collections::Slots;
use crate::id::Text;
use crate::protocol::answer::Chunk;

/// Bytes of values in a run before the next one is begun.
const RUN_BYTES: usize = 64 * 1024;
/// Items in a run, so that taking one out moves no more than this many slot numbers.
const RUN_ITEMS: usize = 1024;

/// So many bytes of a text cost as much as an item that is put into it.
const TEXT_BYTES_A_UNIT: usize = 256;

/// One accepted item.
pub(super) struct Item {
    pub(super) hash: u64,
    pub(super) sequence: u64,
    pub(super) name: Box<str>,
    pub(super) value: Text,
}

/// All items of a group by their slots, in the order of their sequence numbers.
#[derive(Default)]
pub(super) struct Order {
    runs: Vec<Run>,
}

struct Run {
    /// Not above the sequence of any of its items, and above all of the run before.
    first_sequence: u64,
    slots: Vec<u32>,
    /// Sum of the lengths of the items' values.
    bytes: usize,
    text: Option<Chunk>,
}

impl Run {
    fn text_cost(&self) -> usize {
        self.slots.len() + self.bytes / TEXT_BYTES_A_UNIT
    }
}

impl Order {
    /// A new item came, later than all others.
    pub(super) fn appended(&mut self, slot: u32, sequence: u64, value_len: usize) {
        let is_full = |run: &Run| run.bytes >= RUN_BYTES || run.slots.len() >= RUN_ITEMS;
        if self.runs.last().is_none_or(is_full) {
            self.runs.push(Run {
                first_sequence: sequence,
                slots: Vec::new(),
                bytes: 0,
                text: None,
            });
        }
        if let Some(run) = self.runs.last_mut() {
            run.slots.push(slot);
            run.bytes += value_len;
            run.text = None;
        }
    }

    /// An item's value was replaced.
    pub(super) fn changed(
        &mut self,
        sequence: u64,
        old_len: usize,
        new_len: usize,
        items: &Slots<Item>,
    ) {
        let number = self.run_of(sequence);
        let run = &mut self.runs[number];
        run.bytes = run.bytes - old_len + new_len;
        run.text = None;
        if run.bytes > 2 * RUN_BYTES && run.slots.len() > 1 {
            let upper = run.slots.split_off(run.slots.len() / 2);
            let upper_bytes = upper.iter().map(|slot| value_len(items, *slot)).sum();
            run.bytes -= upper_bytes;
            let upper = Run {
                first_sequence: sequence_of(items, upper[0]),
                slots: upper,
                bytes: upper_bytes,
                text: None,
            };
            self.runs.insert(number + 1, upper);
        }
    }

    /// An item goes; it still stands in its slot.
    pub(super) fn removed(&mut self, slot: u32, items: &Slots<Item>) {
        let sequence = sequence_of(items, slot);
        let number = self.run_of(sequence);
        let run = &mut self.runs[number];
        let place = run
            .slots
            .partition_point(|slot| sequence_of(items, *slot) < sequence);
        run.slots.remove(place);
        run.bytes -= value_len(items, slot);
        run.text = None;
        if run.slots.is_empty() {
            self.runs.remove(number);
        } else if number + 1 < self.runs.len() && self.fits(number) {
            let next = self.runs.remove(number + 1);
            let run = &mut self.runs[number];
            run.slots.extend_from_slice(&next.slots);
            run.bytes += next.bytes;
        }
    }

    /// The items whose sequence numbers are not below that one, in order, with their slots.
    pub(super) fn items_from<'a>(
        &'a self,
        sequence: u64,
        items: &'a Slots<Item>,
    ) -> impl Iterator<Item = (u32, &'a Item)> {
        let runs = self.runs.get(self.run_of(sequence)..).unwrap_or_default();
        let before = |slot: &u32| sequence_of(items, *slot) < sequence;
        let passed = runs
            .first()
            .map_or(0, |run| run.slots.partition_point(before));
        let slots = runs.iter().flat_map(|run| &run.slots).skip(passed);
        slots.filter_map(|slot| Some((*slot, items.get(*slot)?)))
    }

    /// The texts of all runs in order.
    pub(super) fn chunks(&mut self, items: &Slots<Item>) -> Vec<Chunk> {
        let text_of =
            |run: &mut Run| Arc::clone(run.text.get_or_insert_with(|| encode(&run.slots, items)));
        self.runs.iter_mut().map(text_of).collect()
    }

    /// What it costs to make the texts that are not there.
    pub(super) fn texts_cost(&self) -> usize {
        let runs = self.runs.iter().filter(|run| run.text.is_none());
        runs.map(Run::text_cost).sum()
    }

    /// Makes the texts that are not there, from that run on and while there are units; gives the run to
    /// go on with.
    pub(super) fn make_texts(
        &mut self,
        from: usize,
        items: &Slots<Item>,
        units: &mut usize,
    ) -> Option<usize> {
        for (number, run) in self.runs.iter_mut().enumerate().skip(from) {
            if run.text.is_some() {
                continue;
            }
            if *units == 0 {
                return Some(number);
            }
            *units = units.saturating_sub(run.text_cost());
            run.text = Some(encode(&run.slots, items));
        }
        None
    }

    /// Gives back the memory of the texts.
    pub(super) fn forget_chunks(&mut self) {
        for run in &mut self.runs {
            run.text = None;
        }
    }

    /// Which run holds that sequence number. There is one: callers name an item that is in it.
    fn run_of(&self, sequence: u64) -> usize {
        let after = self
            .runs
            .partition_point(|run| run.first_sequence <= sequence);
        after.saturating_sub(1)
    }

    /// Whether the run and its successor are small enough to be one: half of a full one, so that
    /// the next insertions do not cut them again.
    fn fits(&self, number: usize) -> bool {
        let (run, next) = (&self.runs[number], &self.runs[number + 1]);
        run.bytes + next.bytes <= RUN_BYTES / 2
            && run.slots.len() + next.slots.len() <= RUN_ITEMS / 2
    }

    pub(super) fn check_invariants(&self, items: &Slots<Item>) {
        let mut last = None;
        for run in &self.runs {
            debug_assert!(!run.slots.is_empty());
            let bytes: usize = run.slots.iter().map(|slot| value_len(items, *slot)).sum();
            debug_assert_eq!(run.bytes, bytes);
            for slot in &run.slots {
                let sequence = sequence_of(items, *slot);
                debug_assert!(Some(sequence) > last && sequence >= run.first_sequence);
                last = Some(sequence);
            }
        }
    }
}

fn encode(slots: &[u32], items: &Slots<Item>) -> Chunk {
    let bytes: usize = slots.iter().map(|slot| 1 + value_len(items, *slot)).sum();
    let mut text = String::with_capacity(bytes);
    for item in slots.iter().filter_map(|slot| items.get(*slot)) {
        text.push(',');
        text.push_str(&item.value);
    }
    text.into()
}

fn sequence_of(items: &Slots<Item>, slot: u32) -> u64 {
    items.get(slot).map_or(0, |item| item.sequence)
}

fn value_len(items: &Slots<Item>, slot: u32) -> usize {
    items.get(slot).map_or(0, |item| item.value.len())
}
