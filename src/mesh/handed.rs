//! A subscriber on its way from one worker to another, which alone know what it is made of.

use std::any::Any;

/// Something that its receiver knows.
pub struct Handed {
    what: Box<dyn Any + Send>,
    held_bytes: usize,
}

impl Handed {
    /// It holds so many bytes on the heap.
    pub fn new(what: impl Any + Send, held_bytes: usize) -> Handed {
        Handed {
            what: Box::new(what),
            held_bytes,
        }
    }

    /// What it is; `None`: nothing of that kind.
    pub fn open<T: Any>(self) -> Option<Box<T>> {
        self.what.downcast().ok()
    }

    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}
