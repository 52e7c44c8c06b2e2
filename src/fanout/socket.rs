//! What takes bytes: the fan-out writes to it, and knows no more of it.

use std::io::IoSlice;

/// A socket that takes bytes.
pub trait Socket {
    /// Writes the slices in order, as one, as far as it takes them.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written;

    /// Writes what it has taken and holds back, if it is of a kind that does. A part: the worker will
    /// say when it takes more.
    fn flush(&mut self) -> Written {
        Written::All
    }

    /// So many bytes it holds back.
    fn held_bytes(&self) -> usize {
        0
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All of it was taken.
    All,
    /// So many bytes were taken; the worker will say when it takes more.
    Part(usize),
    /// The socket is dead.
    Gone,
}
