//! One entry of `expose_functions`: which functions it exposes, by id, metadata and namespace.
//!
//! May not know how files write it.

use std::fmt;

use serde_json::Value;

/// Where a function is that names no namespace.
pub const NAMESPACE_DEFAULT: &str = "default";

/// Which functions are exposed: those that fit all that is said here. One that says neither an id nor
/// metadata exposes nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// What the whole id fits.
    pub id: Option<Pattern>,
    /// Keys that the metadata has, each with what is wanted.
    pub metadata: Vec<(Box<str>, Wanted)>,
    /// Where the function is. None: in [`NAMESPACE_DEFAULT`].
    pub namespace: Option<Box<str>>,
}

/// What a key of a function's metadata must have.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// This value. A tree, for it is only compared.
    Equal(Value),
    /// A string that the pattern fits.
    Fits(Pattern),
}

impl Filter {
    /// Those whose id fits, in the default namespace.
    pub fn of_id(pattern: &str) -> Filter {
        Filter {
            id: Some(Pattern::new(pattern)),
            ..Filter::default()
        }
    }

    /// Whether a function is among them. `metadata`: the function's, a JSON text, if it has some.
    pub fn matches(&self, namespace: &str, id: &str, metadata: Option<&str>) -> bool {
        let says_which = self.id.is_some() || !self.metadata.is_empty();
        says_which
            && self.namespace.as_deref().unwrap_or(NAMESPACE_DEFAULT) == namespace
            && self.id.as_ref().is_none_or(|pattern| pattern.fits(id))
            && (self.metadata.is_empty() || self.has_all(metadata))
    }

    fn has_all(&self, metadata: Option<&str>) -> bool {
        let given = metadata.and_then(|json| serde_json::from_str::<Value>(json).ok());
        let Some(Value::Object(given)) = given else {
            return false;
        };
        let mut wanted = self.metadata.iter();
        wanted.all(|(key, wanted)| given.get(&**key).is_some_and(|given| wanted.is(given)))
    }
}

impl Wanted {
    fn is(&self, given: &Value) -> bool {
        match self {
            Wanted::Equal(value) => value == given,
            Wanted::Fits(pattern) => given.as_str().is_some_and(|given| pattern.fits(given)),
        }
    }
}

/// A text in which `*` stands for any run of characters, all else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What stands before the first `*`.
    start: Box<str>,
    /// What stands between and behind the others. Empty: there is no `*`.
    rest: Vec<Box<str>>,
}

impl Pattern {
    /// Every text is one.
    pub fn new(text: &str) -> Pattern {
        let mut parts = text.split('*').map(Box::from);
        Pattern {
            start: parts.next().unwrap_or_default(),
            rest: parts.collect(),
        }
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        let Some((end, between)) = self.rest.split_last() else {
            return *self.start == *text;
        };
        let Some(mut text) = text.strip_prefix(&*self.start) else {
            return false;
        };
        // The first place is as good as any later one: it leaves the most for what follows.
        for part in between {
            match text.find(&**part) {
                Some(at) => text = &text[at + part.len()..],
                None => return false,
            }
        }
        text.ends_with(&**end)
    }
}

/// As it was written.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.start)?;
        self.rest.iter().try_for_each(|part| write!(f, "*{part}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pattern_fits_the_whole_id() {
        let rows = [
            ("a::b", "a::b", true),
            ("a::b", "a::bc", false),
            ("a::b", "xa::b", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything::é", true),
            ("a::*", "a::", true),
            ("a::*", "a::b::c", true),
            ("a::*", "b::a::", false),
            ("*::get", "stream::get", true),
            ("*::get", "stream::get_all", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-c-b-c", true),
            ("a*b*c", "acb", false),
            ("a**c", "ac", true),
            ("*ab*ab", "ab", false),
            ("*ab*ab", "abab", true),
            ("a.c", "abc", false),
            ("a?[b]", "a?[b]", true),
        ];
        for (pattern, id, fits) in rows {
            let filter = Filter::of_id(pattern);
            assert_eq!(filter.matches("default", id, None), fits, "{pattern} {id}");
            assert_eq!(Pattern::new(pattern).to_string(), pattern);
        }
    }

    fn equal(key: &str, value: Value) -> (Box<str>, Wanted) {
        (key.into(), Wanted::Equal(value))
    }

    #[test]
    fn metadata_must_have_every_key_equal() {
        let filter = Filter {
            metadata: vec![
                equal("public", json!(true)),
                ("tier".into(), Wanted::Fits(Pattern::new("gold*"))),
                equal("n", json!(1)),
                equal("l", json!([1, {"a": null}])),
            ],
            ..Filter::default()
        };
        let rows = [
            (
                r#"{"public":true,"tier":"golden","n":1,"l":[1,{"a":null}],"x":5}"#,
                true,
            ),
            (
                r#"{"public":true,"tier":"silver","n":1,"l":[1,{"a":null}]}"#,
                false,
            ),
            (
                r#"{"public":true,"tier":5,"n":1,"l":[1,{"a":null}]}"#,
                false,
            ),
            (
                r#"{"public":"true","tier":"gold","n":1,"l":[1,{"a":null}]}"#,
                false,
            ),
            (
                r#"{"public":true,"tier":"gold","n":2,"l":[1,{"a":null}]}"#,
                false,
            ),
            (r#"{"public":true,"tier":"gold","n":1,"l":[1]}"#, false),
            (r#"{"public":true}"#, false),
            ("[]", false),
            ("null", false),
        ];
        for (metadata, matches) in rows {
            let found = filter.matches("default", "any", Some(metadata));
            assert_eq!(found, matches, "{metadata}");
        }
        assert!(!filter.matches("default", "any", None));
    }

    #[test]
    fn all_that_is_said_has_to_fit_and_nothing_said_exposes_nothing() {
        let filter = Filter {
            id: Some(Pattern::new("link::*")),
            metadata: vec![equal("public", json!(true))],
            namespace: Some("browser".into()),
        };
        let public = Some(r#"{"public":true}"#);
        for (namespace, id, metadata, fits) in [
            ("browser", "link::create", public, true),
            ("default", "link::create", public, false),
            ("browser", "other::create", public, false),
            ("browser", "link::create", None, false),
        ] {
            assert_eq!(filter.matches(namespace, id, metadata), fits);
        }
        // Where no namespace is named, no other one is meant.
        assert!(!Filter::of_id("*").matches("browser", "a", None));
        let says_nothing = Filter {
            namespace: Some("default".into()),
            ..Filter::default()
        };
        assert!(!says_nothing.matches("default", "a", public));
    }
}
