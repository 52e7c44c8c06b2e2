//! A group at one moment, for all who begin anew with it.
//!
//! May not know who they are.

use hashbrown::DefaultHashBuilder;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::id::ItemId;
use crate::protocol::frame::{GroupNames, SyncFrame};

use super::items::Items;

/// For all kinds of subscriptions.
pub struct Snapshot {
    names: GroupNames,
    /// Of the `sync`s.
    time: u64,
    /// For those of the whole group.
    pub whole: Arc<SyncFrame>,
    /// For those of one item. `None`: nobody has joined one.
    items: Option<Items>,
    /// Of their names.
    hasher: DefaultHashBuilder,
}

impl Snapshot {
    pub(super) fn new(
        names: GroupNames,
        whole: (u64, Arc<SyncFrame>),
        items: Option<Items>,
        hasher: DefaultHashBuilder,
    ) -> Snapshot {
        let (time, whole) = whole;
        Snapshot {
            names,
            time,
            whole,
            items,
            hasher,
        }
    }

    /// What a subscription gets: of that item, or of the whole group.
    pub fn sync_of(&self, item: Option<&ItemId>) -> Arc<SyncFrame> {
        let Some(item) = item else {
            return Arc::clone(&self.whole);
        };
        debug_assert!(self.items.is_some(), "nobody has joined an item");
        let items = self.items.as_ref();
        let value = items.and_then(|items| items.get(self.hasher.hash_one(&**item), item));
        Arc::new(SyncFrame::of_item(&self.names, self.time, item, value))
    }

    /// Of how many items it tells one by one. `None`: nobody has joined one.
    pub fn items_len(&self) -> Option<usize> {
        self.items.as_ref().map(Items::len)
    }

    /// Nobody begins anew with it any more.
    pub(super) fn take_items(&mut self) -> Option<Items> {
        self.items.take()
    }
}
