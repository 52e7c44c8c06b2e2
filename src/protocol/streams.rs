//! What the settings say of single streams: how long their items last, how often they are told, and who is a member of their groups.
//!
//! Pure. May not know how any of it is carried out.

use std::sync::Arc;

use super::members::{IdPath, Keys};
use super::pace::Pace;
use super::ttl::Ttl;

/// The rules in their order: of a stream the first that names it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamRules {
    rules: Vec<Arc<StreamRule>>,
    /// The paths of ids that are in requests, each once.
    in_requests: Vec<IdPath>,
}

/// What holds of some streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRule {
    /// Which.
    pub streams: StreamPattern,
    /// How long an item lasts that nobody writes.
    pub ttl: Ttl,
    /// How far apart a subscription is written to at least.
    pub pace: Pace,
    /// Who is a member of their groups; none: nobody.
    pub members: Option<MembersRule>,
}

/// Who is a member of a stream's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersRule {
    /// Where a person's id is.
    pub id: IdPath,
    /// Where in the context is what is to be known of it; none: nothing is.
    pub data: Option<Keys>,
    /// How long somebody stays whose last socket is gone.
    pub grace_ms: u64,
    /// How long somebody stays who was found at a start.
    pub restart_grace_ms: u64,
}

impl MembersRule {
    /// A reload and a short cut are no departure.
    pub const GRACE_MS: u64 = 15_000;
    /// Clients come back within some seconds after a server.
    pub const RESTART_GRACE_MS: u64 = 30_000;
}

/// A stream, or all whose names begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamPattern {
    /// That one.
    Name(Box<str>),
    /// `prefix*`
    Prefix(Box<str>),
}

impl StreamRules {
    /// In that order.
    pub fn new(rules: Vec<StreamRule>) -> StreamRules {
        let mut in_requests: Vec<IdPath> = Vec::new();
        let members = rules.iter().filter_map(|rule| rule.members.as_ref());
        for path in members.map(|members| &members.id) {
            if !matches!(path, IdPath::Context(_)) && !in_requests.contains(path) {
                in_requests.push(path.clone());
            }
        }
        let rules = rules.into_iter().map(Arc::new).collect();
        StreamRules { rules, in_requests }
    }

    /// The paths of ids that are in requests: each request is asked for them once.
    pub fn paths_in_requests(&self) -> impl Iterator<Item = &IdPath> {
        self.in_requests.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &StreamRule> {
        self.rules.iter().map(|rule| &**rule)
    }

    /// What holds of that stream.
    pub fn of(&self, stream: &str) -> Option<&Arc<StreamRule>> {
        self.rules.iter().find(|rule| rule.streams.matches(stream))
    }
}

impl StreamPattern {
    /// Of a text as the settings have it. None: it names no stream, or has a `*` that is not its end.
    pub fn read(text: &str) -> Option<StreamPattern> {
        let (name, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        match is_prefix {
            _ if name.contains('*') => None,
            true => Some(StreamPattern::Prefix(name.into())),
            false if name.is_empty() => None,
            false => Some(StreamPattern::Name(name.into())),
        }
    }

    /// Whether it is one of them.
    pub fn matches(&self, stream: &str) -> bool {
        match self {
            StreamPattern::Name(name) => **name == *stream,
            StreamPattern::Prefix(prefix) => stream.starts_with(&**prefix),
        }
    }

    /// Whether all that the other one names are named here.
    pub fn covers(&self, other: &StreamPattern) -> bool {
        match (self, other) {
            (pattern, StreamPattern::Name(name)) => pattern.matches(name),
            (StreamPattern::Prefix(prefix), StreamPattern::Prefix(other)) => {
                other.starts_with(&**prefix)
            }
            (StreamPattern::Name(_), StreamPattern::Prefix(_)) => false,
        }
    }
}

/// As the settings have it.
impl std::fmt::Display for StreamPattern {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StreamPattern::Name(name) => out.write_str(name),
            StreamPattern::Prefix(prefix) => write!(out, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> StreamPattern {
        StreamPattern::read(text).unwrap()
    }

    #[test]
    fn the_first_rule_that_names_a_stream_counts() {
        let rule = |text: &str, ms| StreamRule {
            streams: pattern(text),
            ttl: Ttl::of_ms(ms).unwrap(),
            pace: Pace::NONE,
            members: None,
        };
        let rules = StreamRules::new(vec![rule("chat", 1), rule("chat*", 2), rule("*", 3)]);
        let found = |stream: &str| rules.of(stream).and_then(|rule| rule.ttl.ms());
        assert_eq!(found("chat"), Some(1));
        assert_eq!(found("chats"), Some(2));
        assert_eq!(found(""), Some(3));
        assert!(StreamRules::default().of("chat").is_none());
    }

    #[test]
    fn a_star_stands_at_the_end() {
        for text in ["", "a*b", "**", "*a"] {
            assert_eq!(StreamPattern::read(text), None, "{text}");
        }
        assert_eq!(pattern("a*").to_string(), "a*");
        assert!(pattern("a*").covers(&pattern("ab*")) && pattern("a*").covers(&pattern("a")));
        assert!(!pattern("ab*").covers(&pattern("a*")) && !pattern("a").covers(&pattern("a*")));
    }
}
