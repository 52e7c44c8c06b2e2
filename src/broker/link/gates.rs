//! The join functions that were known before the link was lost, until each is known again.
//!
//! Pure. May not know the joins that wait for them.

use hashbrown::{HashMap, HashSet};

/// Join functions that are missed, by the stream that they guard; none: all.
#[derive(Default)]
pub(in crate::broker) struct Gates(HashMap<Option<Box<str>>, HashSet<Box<str>>>);

impl Gates {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That function has guarded that stream.
    pub(super) fn lose(&mut self, stream: Option<&str>, function_id: &str) {
        let of_stream = self.0.entry(stream.map(Box::from)).or_default();
        of_stream.insert(function_id.into());
    }

    /// That function guards that stream. True when it was missed.
    pub(in crate::broker) fn find(&mut self, stream: Option<&str>, function_id: &str) -> bool {
        let stream = stream.map(Box::from);
        let Some(of_stream) = self.0.get_mut(&stream) else {
            return false;
        };
        let was_missed = of_stream.remove(function_id);
        if of_stream.is_empty() {
            self.0.remove(&stream);
        }
        was_missed
    }

    /// Whether one is missed that joins of that stream are put to.
    pub(super) fn are_missed_by(&self, stream: &str) -> bool {
        !self.0.is_empty()
            && (self.0.contains_key(&None) || self.0.contains_key(&Some(stream.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_misses_its_functions_until_the_last_is_back() {
        let mut gates = Gates::default();
        gates.lose(Some("chat"), "a");
        gates.lose(Some("chat"), "b");
        gates.lose(Some("chat"), "a");
        assert!(gates.are_missed_by("chat") && !gates.are_missed_by("other"));
        assert!(gates.find(Some("chat"), "a") && !gates.find(Some("chat"), "a"));
        assert!(!gates.find(None, "b"), "that guards all streams");
        assert!(gates.are_missed_by("chat"));
        assert!(gates.find(Some("chat"), "b") && gates.is_empty());
        gates.lose(None, "all");
        assert!(gates.are_missed_by("any"));
    }
}
