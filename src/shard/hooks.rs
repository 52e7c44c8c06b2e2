//! Which streams SDK workers have hooked onto, as the engine last told: an event, a join or a leave
//! that nobody watches costs one lookup.
//!
//! A copy is made anew for each change and shared by all workers. Who is to be called stays with the
//! engine.

use hashbrown::{HashMap, HashSet};

use crate::protocol::input::StreamFunction;

/// One state of all hooks. Versions rise with every change.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Which state this is.
    pub version: u64,
    /// Streams whose events fire triggers.
    pub events: Streams,
    /// Streams whose joins are put to a function.
    pub joins: Streams,
    /// Streams whose leaves are told to a function.
    pub leaves: Streams,
    /// Streams with custom functions in place of the store's.
    pub custom: HashMap<Box<str>, CustomFunctions>,
}

/// A set of streams, or all.
#[derive(Debug, Default, Clone)]
pub struct Streams {
    /// Every stream, whatever its name.
    pub all: bool,
    /// These.
    pub named: HashSet<Box<str>>,
}

/// Which functions of one stream are custom.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CustomFunctions(u8);

impl Hooks {
    /// Whether that function of that stream is custom.
    pub fn is_custom(&self, stream: &str, function: StreamFunction) -> bool {
        !self.custom.is_empty()
            && self
                .custom
                .get(stream)
                .is_some_and(|functions| functions.has(function))
    }
}

impl Streams {
    /// Whether the stream is one of them.
    pub fn has(&self, stream: &str) -> bool {
        self.all || (!self.named.is_empty() && self.named.contains(stream))
    }

    /// Adds those of another set.
    pub fn add(&mut self, more: Streams) {
        self.all |= more.all;
        self.named.extend(more.named);
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        !self.all && self.named.is_empty()
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
        let functions = hooks.custom.entry("chat".into()).or_default();
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
}
