//! What SDK workers have hooked onto, as the engine thread last told: an event, a join or a leave that nobody
//! watches costs one look.
//!
//! Each change makes a new state, which is shared by all workers and has most of its memory in common
//! with the state before. Who is to be called stays with the engine.

use crate::collections::{PersistentMap, PersistentSet};
use crate::protocol::input::StreamFunction;

use super::followed::Followed;

/// One state of all hooks. Versions rise with every change.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Which state this is.
    pub version: u64,
    /// Events that fire triggers.
    pub events: Followed,
    /// Streams whose joins are put to a function.
    pub joins: Streams,
    /// Streams whose leaves are told to a function.
    pub leaves: Streams,
    /// Streams with custom functions in place of the store's.
    pub custom: PersistentMap<CustomFunctions>,
}

/// A set of streams, or all.
#[derive(Debug, Default, Clone)]
pub struct Streams {
    /// Every stream, whatever its name.
    pub all: bool,
    /// These.
    pub named: PersistentSet,
    /// Those that were followed when a link to an engine was lost, until it is known whether they
    /// still are.
    pub lost: PersistentSet,
    /// Those that the settings name, whatever triggers follow.
    pub required: PersistentSet,
}

/// Which functions of one stream are custom.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CustomFunctions(u8);

impl Hooks {
    /// Whether that function of that stream is custom.
    pub fn is_custom(&self, stream: &str, function: StreamFunction) -> bool {
        self.custom
            .get(stream)
            .is_some_and(|functions| functions.has(function))
    }
}

impl Streams {
    /// Whether the stream is one of them.
    pub fn has(&self, stream: &str) -> bool {
        let sets = [&self.named, &self.lost, &self.required];
        self.all || sets.iter().any(|set| set.contains(stream))
    }

    /// Adds those of another set, name by name.
    pub fn add(&mut self, more: &Streams) {
        self.all |= more.all;
        self.named.extend(&more.named);
        self.lost.extend(&more.lost);
    }

    /// These, and those that were followed before the link was lost.
    pub fn with_lost(self, lost: &Streams) -> Streams {
        Streams {
            all: self.all || lost.all,
            named: self.named,
            lost: lost.named.clone(),
            required: self.required,
        }
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        let sets = [&self.named, &self.lost, &self.required];
        !self.all && sets.iter().all(|set| set.is_empty())
    }
}

impl CustomFunctions {
    /// Adds one.
    pub fn add(&mut self, function: StreamFunction) {
        self.0 |= bit(function);
    }

    /// Takes one away.
    pub fn remove(&mut self, function: StreamFunction) {
        self.0 &= !bit(function);
    }

    /// Whether it is one of them.
    pub fn has(self, function: StreamFunction) -> bool {
        self.0 & bit(function) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

fn bit(function: StreamFunction) -> u8 {
    1 << function as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_of_a_stream_is_custom_by_itself() {
        let mut hooks = Hooks::default();
        assert!(!hooks.is_custom("chat", StreamFunction::Get));
        let functions = hooks.custom.get_or_default("chat");
        functions.add(StreamFunction::Get);
        functions.add(StreamFunction::Set);
        functions.remove(StreamFunction::Set);
        assert!(hooks.is_custom("chat", StreamFunction::Get));
        assert!(!hooks.is_custom("chat", StreamFunction::Set));
        assert!(!hooks.is_custom("other", StreamFunction::Get));
    }

    #[test]
    fn all_streams_are_more_than_those_named() {
        let mut streams = Streams::default();
        streams.named.insert("a".into());
        assert!(streams.has("a") && !streams.has("b"));
        streams.all = true;
        assert!(streams.has("b"));
    }

    #[test]
    fn what_was_followed_before_counts_until_it_is_known_anew() {
        let (mut known, mut lost) = (Streams::default(), Streams::default());
        known.named.insert("a".into());
        lost.named.insert("b".into());
        let both = known.clone().with_lost(&lost);
        assert!(both.has("a") && both.has("b") && !both.has("c"));
        lost.all = true;
        assert!(known.with_lost(&lost).has("c"));
    }
}
