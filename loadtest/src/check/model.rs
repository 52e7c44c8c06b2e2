//! What a deployed client would show: the items of one group by the rules of its timestamps.
//!
//! Pure. The rules are those of the browser client: an `update` that is not newer than the last one
//! accepted for its item is dropped, a `sync` that is older than the last accepted `update`,
//! `delete` or `sync` is dropped, a `create` of a held item is ignored, and an `update` of one that
//! is not held changes nothing. So what a server stamps wrongly shows here as a stale value, though
//! every frame came. May not know what was published.

/// One item as this client shows it.
#[derive(Clone, Copy, Default)]
struct Shown {
    is_held: bool,
    sequence: u32,
    updated_ms: u64,
}

/// The items of one group by number.
#[derive(Clone, Default)]
pub(crate) struct Model {
    items: Vec<Shown>,
    /// Of the last `update`, `delete` or `sync` that was accepted.
    changed_ms: u64,
}

impl Model {
    /// A new list, unless it is an old one.
    pub(crate) fn sync(&mut self, at_ms: u64, items: impl Iterator<Item = (u32, u32)>) {
        if at_ms < self.changed_ms {
            return;
        }
        self.changed_ms = at_ms;
        for shown in &mut self.items {
            shown.is_held = false;
        }
        for (item, sequence) in items {
            let shown = self.item(item);
            shown.is_held = true;
            shown.sequence = sequence;
        }
    }

    #[inline]
    pub(crate) fn create(&mut self, item: u32, sequence: u32) {
        let shown = self.item(item);
        if !shown.is_held {
            shown.is_held = true;
            shown.sequence = sequence;
        }
    }

    #[inline]
    pub(crate) fn update(&mut self, at_ms: u64, item: u32, sequence: u32) {
        let shown = self.item(item);
        if at_ms <= shown.updated_ms {
            return;
        }
        shown.updated_ms = at_ms;
        if shown.is_held {
            shown.sequence = sequence;
        }
        self.changed_ms = self.changed_ms.max(at_ms);
    }

    pub(crate) fn delete(&mut self, at_ms: u64, item: u32) {
        self.item(item).is_held = false;
        self.changed_ms = self.changed_ms.max(at_ms);
    }

    /// The sequence of the value that is shown for `item`.
    pub(crate) fn shown(&self, item: u32) -> Option<u32> {
        let shown = self.items.get(item as usize)?;
        shown.is_held.then_some(shown.sequence)
    }

    /// One more than the highest number that was ever named.
    pub(crate) fn items_len(&self) -> u32 {
        self.items.len() as u32
    }

    /// The caller bounds `item` by what it has published.
    #[inline]
    fn item(&mut self, item: u32) -> &mut Shown {
        let index = item as usize;
        if index >= self.items.len() {
            self.items.resize(index + 1, Shown::default());
        }
        &mut self.items[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_sync() -> Model {
        let mut model = Model::default();
        model.sync(100, [(0, 5), (2, 7)].into_iter());
        model
    }

    #[test]
    fn a_sync_is_the_whole_list() {
        let mut model = after_sync();
        assert_eq!(
            [0, 1, 2, 9].map(|item| model.shown(item)),
            [Some(5), None, Some(7), None]
        );
        model.sync(100, [(1, 1)].into_iter());
        assert_eq!(
            [0, 1, 2].map(|item| model.shown(item)),
            [None, Some(1), None]
        );
    }

    #[test]
    fn an_update_that_is_not_newer_is_not_shown() {
        let mut model = after_sync();
        model.update(101, 0, 8);
        model.update(101, 0, 9);
        model.update(90, 0, 10);
        assert_eq!(model.shown(0), Some(8));
        model.update(101, 2, 9);
        assert_eq!(model.shown(2), Some(9), "each item has its own time");
    }

    #[test]
    fn a_create_of_a_held_item_and_an_update_of_one_not_held_change_nothing() {
        let mut model = after_sync();
        model.create(0, 9);
        model.update(101, 1, 9);
        assert_eq!((model.shown(0), model.shown(1)), (Some(5), None));
        model.create(1, 10);
        assert_eq!(model.shown(1), Some(10));
    }

    #[test]
    fn an_old_sync_is_dropped_and_a_delete_never() {
        let mut model = after_sync();
        model.update(105, 0, 8);
        model.sync(104, std::iter::empty());
        assert_eq!(model.shown(0), Some(8));
        model.delete(1, 0);
        assert_eq!(model.shown(0), None);
        model.sync(105, [(0, 8)].into_iter());
        assert_eq!(model.shown(0), Some(8));
    }
}
