//! What stands in the tables under another id than its worker knows it by: a function that was asked
//! about the registration has named another one.
//!
//! Pure.

use hashbrown::HashMap;

/// What the names of one kind may hold, of one worker: what is renamed beyond is refused.
const BYTES_MAX: usize = 1024 * 1024;
/// What one entry takes beside its texts, about.
const ENTRY_BYTES: usize = 128;

/// What of one worker is renamed.
#[derive(Default)]
pub(in crate::broker) struct Names {
    pub(in crate::broker) functions: Renamed,
    pub(in crate::broker) triggers: Renamed,
    pub(in crate::broker) trigger_types: Renamed,
}

/// Ids of one kind, of one worker.
#[derive(Default)]
pub(in crate::broker) struct Renamed {
    /// As all others know it → as the worker does.
    inner: HashMap<Box<str>, Box<str>>,
    /// The other way.
    outer: HashMap<Box<str>, Box<str>>,
    bytes: usize,
}

impl Renamed {
    pub(in crate::broker) fn has_room(&self) -> bool {
        self.bytes <= BYTES_MAX
    }

    /// From now on that is what all others know it by.
    pub(in crate::broker) fn rename(&mut self, inner: &str, outer: &str) {
        self.forget_both(inner, outer);
        self.bytes += bytes_of(inner, outer);
        self.inner.insert(outer.into(), inner.into());
        self.outer.insert(inner.into(), outer.into());
    }

    /// Both names stand for themselves again.
    pub(in crate::broker) fn forget_both(&mut self, inner: &str, outer: &str) {
        if let Some(older) = self.outer.get(inner).cloned() {
            self.forget(&older);
        }
        self.forget(outer);
    }

    fn forget(&mut self, outer: &str) {
        if let Some(inner) = self.inner.remove(outer) {
            self.outer.remove(&inner);
            self.bytes -= bytes_of(&inner, outer);
        }
    }

    /// As the worker knows it, if it stands under another id.
    pub(in crate::broker) fn inner(&self, outer: &str) -> Option<&str> {
        self.inner.get(outer).map(|inner| &**inner)
    }

    /// As all others know it, if the worker knows it by another.
    pub(in crate::broker) fn outer(&self, inner: &str) -> Option<&str> {
        self.outer.get(inner).map(|outer| &**outer)
    }
}

fn bytes_of(inner: &str, outer: &str) -> usize {
    2 * (inner.len() + outer.len() + ENTRY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_one_name_on_either_side() {
        let mut renamed = Renamed::default();
        renamed.rename("a", "x");
        assert_eq!(
            (renamed.inner("x"), renamed.outer("a")),
            (Some("a"), Some("x"))
        );
        renamed.rename("a", "y");
        assert_eq!((renamed.inner("x"), renamed.inner("y")), (None, Some("a")));
        renamed.rename("b", "y");
        assert_eq!((renamed.inner("y"), renamed.outer("a")), (Some("b"), None));
        renamed.forget_both("b", "b");
        assert_eq!(
            (renamed.inner("y"), renamed.outer("b"), renamed.bytes),
            (None, None, 0)
        );
    }
}
