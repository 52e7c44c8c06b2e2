//! Tables whose growth never stops a turn: memory in chunks, hash tables that split, maps whose
//! copies share what they have in common.
//!
//! One `Vec` or hash table of a million entries moves all of them at once when it grows, which holds
//! a worker up for tens of milliseconds. These move a bounded number. Pure data structures: they
//! know nothing of what they hold.

mod index;
mod persistent;
mod slots;

pub use index::Index;
pub use persistent::{PersistentMap, PersistentSet};
pub use slots::{Named, Slots};
