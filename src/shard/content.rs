//! What a group holds, or one item of it, as it was read at one moment.
//!
//! What it weighs is known, for it may be long: nobody walks through it to say so. May not know who reads it.

use std::ops::Deref;

use crate::id::{ItemId, Text};

/// Items in their order, each once.
#[derive(Debug, Default)]
pub struct Content {
    items: Vec<(ItemId, Text)>,
    held_bytes: usize,
}

impl Content {
    /// One item more.
    pub fn push(&mut self, name: ItemId, value: Text) {
        self.held_bytes += name.len() + value.len();
        self.items.push((name, value));
    }

    /// What names and values hold.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Drops one item with each step: all of them at once may be long.
    pub fn drop_in_steps(self) -> impl Iterator<Item = ()> + Send {
        self.into_iter().map(drop)
    }
}

impl Deref for Content {
    type Target = [(ItemId, Text)];

    fn deref(&self) -> &[(ItemId, Text)] {
        &self.items
    }
}

impl IntoIterator for Content {
    type Item = (ItemId, Text);
    type IntoIter = std::vec::IntoIter<(ItemId, Text)>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl FromIterator<(ItemId, Text)> for Content {
    fn from_iter<I: IntoIterator<Item = (ItemId, Text)>>(items: I) -> Content {
        let mut content = Content::default();
        for (name, value) in items {
            content.push(name, value);
        }
        content
    }
}
