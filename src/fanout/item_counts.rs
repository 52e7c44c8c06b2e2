//! How often one socket subscribes to each item of a group.
//!
//! Most follow none or one, which costs no table.

use hashbrown::HashMap;

use crate::id::ItemId;

/// How often each item is subscribed to. Most have one.
#[derive(Default)]
pub(super) enum ItemCounts {
    #[default]
    None,
    One(ItemId, u32),
    Many(HashMap<ItemId, u32>),
}

impl ItemCounts {
    /// How often that one.
    pub(super) fn count(&self, name: &str) -> u32 {
        match self {
            ItemCounts::One(item, count) if **item == *name => *count,
            ItemCounts::None | ItemCounts::One(..) => 0,
            ItemCounts::Many(counts) => counts.get(name).copied().unwrap_or(0),
        }
    }

    /// Once more.
    pub(super) fn add(&mut self, item: ItemId) {
        match self {
            ItemCounts::None => *self = ItemCounts::One(item, 1),
            ItemCounts::One(known, count) if *known == item => *count += 1,
            ItemCounts::One(known, count) => {
                *self =
                    ItemCounts::Many(HashMap::from([(ItemId::clone(known), *count), (item, 1)]));
            }
            ItemCounts::Many(counts) => *counts.entry(item).or_insert(0) += 1,
        }
    }

    /// Once less: it is subscribed to.
    pub(super) fn remove(&mut self, item: &ItemId) {
        let is_last = match self {
            ItemCounts::None => true,
            ItemCounts::One(_, count) => {
                *count -= 1;
                *count == 0
            }
            ItemCounts::Many(counts) => {
                if let Some(count) = counts.get_mut(item) {
                    *count -= 1;
                    if *count == 0 {
                        counts.remove(item);
                    }
                }
                counts.is_empty()
            }
        };
        if is_last {
            *self = ItemCounts::None;
        }
    }

    /// Whether no item is subscribed to.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, ItemCounts::None)
    }

    /// How many items there are.
    pub(super) fn len(&self) -> usize {
        match self {
            ItemCounts::None => 0,
            ItemCounts::One(..) => 1,
            ItemCounts::Many(counts) => counts.len(),
        }
    }

    /// How often all of them together.
    pub(super) fn total(&self) -> u32 {
        match self {
            ItemCounts::None => 0,
            ItemCounts::One(_, count) => *count,
            ItemCounts::Many(counts) => counts.values().sum(),
        }
    }

    /// Each of them once, in no order.
    pub(super) fn names(&self) -> impl Iterator<Item = &ItemId> {
        let (one, many) = match self {
            ItemCounts::None => (None, None),
            ItemCounts::One(item, _) => (Some(item), None),
            ItemCounts::Many(counts) => (None, Some(counts.keys())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}
