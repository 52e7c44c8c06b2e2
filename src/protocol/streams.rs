//! What the settings say of single streams: how long their items last.
//!
//! Pure. May not know how any of it is carried out.

use super::ttl::Ttl;

/// The rules in their order: of a stream the first that names it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamRules(Vec<StreamRule>);

/// What holds of some streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRule {
    /// Which.
    pub streams: StreamPattern,
    /// How long an item lasts that nobody writes.
    pub ttl: Ttl,
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
        StreamRules(rules)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &StreamRule> {
        self.0.iter()
    }

    /// What holds of that stream.
    pub fn of(&self, stream: &str) -> Option<&StreamRule> {
        self.0.iter().find(|rule| rule.streams.matches(stream))
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
