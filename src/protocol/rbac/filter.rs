//! One entry of `expose_functions`: a pattern on a function's id, or what its metadata must hold.

use serde_json::Value;

use crate::protocol::{raw, text};

/// Which functions are exposed.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Those whose whole id it fits.
    Id(Pattern),
    /// Those whose metadata has all these keys, each with what is wanted.
    Metadata(Vec<(Box<str>, Wanted)>),
}

/// What a key of a function's metadata must have.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    /// This value. A tree, for it is only compared.
    Equal(Value),
    /// A string that the pattern fits.
    Fits(Pattern),
}

/// A text that is no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `match(\"…\")`, or a mapping with `metadata` and at least one key in it")]
pub struct FilterError;

impl Filter {
    /// Reads one entry of the list, as a JSON text.
    pub fn read(json: &str) -> Result<Filter, FilterError> {
        let json = json.trim_ascii();
        if json.starts_with('"') {
            let pattern = text::read_string(json).map_err(|text::LoneSurrogate| FilterError)?;
            let pattern = Pattern::read(&pattern).ok_or(FilterError)?;
            return Ok(Filter(Kind::Id(pattern)));
        }
        let mut has_others = false;
        let mut metadata = None;
        raw::members(json, |key, value| match text::read_string(key).as_deref() {
            Ok("metadata") => metadata = Some(value),
            _ => has_others = true,
        })
        .map_err(|_| FilterError)?;
        match metadata {
            Some(metadata) if !has_others => Ok(Filter(Kind::Metadata(wanted(metadata.get())?))),
            _ => Err(FilterError),
        }
    }

    /// Whether a function is among them. `metadata`: the function's, a JSON text, if it has some.
    pub fn matches(&self, id: &str, metadata: Option<&str>) -> bool {
        match &self.0 {
            Kind::Id(pattern) => pattern.fits(id),
            Kind::Metadata(wanted) => {
                let given = metadata.and_then(|json| serde_json::from_str::<Value>(json).ok());
                let Some(Value::Object(given)) = given else {
                    return false;
                };
                wanted
                    .iter()
                    .all(|(key, wanted)| given.get(&**key).is_some_and(|given| wanted.is(given)))
            }
        }
    }
}

fn wanted(metadata: &str) -> Result<Vec<(Box<str>, Wanted)>, FilterError> {
    let metadata: Value = serde_json::from_str(metadata).map_err(|_| FilterError)?;
    match metadata {
        // Without a key it would expose whatever has metadata: hardly what was meant.
        Value::Object(members) if !members.is_empty() => Ok(members
            .into_iter()
            .map(|(key, value)| (key.into(), Wanted::read(value)))
            .collect()),
        _ => Err(FilterError),
    }
}

impl Wanted {
    fn read(value: Value) -> Wanted {
        match value.as_str().and_then(Pattern::read) {
            Some(pattern) => Wanted::Fits(pattern),
            None => Wanted::Equal(value),
        }
    }

    fn is(&self, given: &Value) -> bool {
        match self {
            Wanted::Equal(value) => value == given,
            Wanted::Fits(pattern) => given.as_str().is_some_and(|given| pattern.fits(given)),
        }
    }
}

/// `match("…")`: `*` stands for any run of characters, all else for itself.
#[derive(Debug, Clone, PartialEq)]
struct Pattern {
    /// What stands before the first `*`.
    start: Box<str>,
    /// What stands between and behind the others. Empty: there is no `*`.
    rest: Vec<Box<str>>,
}

impl Pattern {
    fn read(text: &str) -> Option<Pattern> {
        let content = text.strip_prefix("match(")?.strip_suffix(')')?;
        let unquoted = |quote: char| content.strip_prefix(quote)?.strip_suffix(quote);
        let mut parts = unquoted('"').or_else(|| unquoted('\''))?.split('*');
        Some(Pattern {
            start: parts.next()?.into(),
            rest: parts.map(Box::from).collect(),
        })
    }

    fn fits(&self, text: &str) -> bool {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    fn id_matches(pattern: &str, id: &str) -> bool {
        let json = serde_json::to_string(pattern).unwrap();
        Filter::read(&json).unwrap().matches(id, None)
    }

    #[test]
    fn a_pattern_fits_the_whole_id() {
        let rows = [
            (r#"match("a::b")"#, "a::b", true),
            ("match('a::b')", "a::b", true),
            (r#"match("a::b")"#, "a::bc", false),
            (r#"match("a::b")"#, "xa::b", false),
            (r#"match("")"#, "", true),
            (r#"match("")"#, "a", false),
            (r#"match("*")"#, "", true),
            (r#"match("*")"#, "anything::é", true),
            (r#"match("a::*")"#, "a::", true),
            (r#"match("a::*")"#, "a::b::c", true),
            (r#"match("a::*")"#, "b::a::", false),
            (r#"match("*::get")"#, "stream::get", true),
            (r#"match("*::get")"#, "stream::get_all", false),
            (r#"match("a*a")"#, "a", false),
            (r#"match("a*a")"#, "aa", true),
            (r#"match("a*b*c")"#, "a-b-c-b-c", true),
            (r#"match("a*b*c")"#, "acb", false),
            (r#"match("a**c")"#, "ac", true),
            (r#"match("*ab*ab")"#, "ab", false),
            (r#"match("*ab*ab")"#, "abab", true),
            (r#"match("a.c")"#, "abc", false),
            (r#"match("a?[b]")"#, "a?[b]", true),
        ];
        for (pattern, id, fits) in rows {
            assert_eq!(id_matches(pattern, id), fits, "{pattern} {id}");
        }
    }

    #[test]
    fn metadata_must_have_every_key_equal() {
        let filter = Filter::read(
            r#"{"metadata":{"public":true,"tier":"match('gold*')","n":1,"l":[1,{"a":null}]}}"#,
        )
        .unwrap();
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
            assert_eq!(filter.matches("any", Some(metadata)), matches, "{metadata}");
        }
        assert!(!filter.matches("any", None));
    }

    #[test]
    fn what_is_no_filter_is_told_so() {
        for json in [
            r#""stream::*""#,
            r#""match(stream::*)""#,
            r#""match(\"x')""#,
            r#""match(\")""#,
            r#""match(\"x\") ""#,
            r#""""#,
            "{}",
            r#"{"metadata":{}}"#,
            r#"{"metadata":5}"#,
            r#"{"metadata":{"a":1},"other":1}"#,
            r#"{"id":"x"}"#,
            "5",
            "null",
            "[]",
            "",
        ] {
            assert_eq!(Filter::read(json), Err(FilterError), "{json}");
        }
    }
}
