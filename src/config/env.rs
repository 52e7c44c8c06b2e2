//! `${NAME}` and `${NAME:DEFAULT}`, filled in before YAML is read, and the way back to what was
//! written.
//!
//! The grammar is the reference's: one pass, no escapes, nothing trimmed, and what a variable
//! brings in becomes part of the YAML text. Knows nothing of YAML; a name that has no value gets a
//! stand-in, and whether it is needed is for the reader of the tree to say (in a comment it is
//! not).

use std::ops::Range;

/// Stands for the version of the engine that we speak as, when it is a whole default.
const ENGINE_VERSION_DEFAULT: &str = "__III_ENGINE_VERSION__";
/// Stands in for a value that is missing. Plain letters, so that it changes no structure around it.
const MISSING: &str = "missing";

/// The text with its variables filled in.
#[derive(Clone)]
pub(super) struct Expanded {
    /// What YAML reads.
    pub(super) text: String,
    /// In order and without overlap; what lies between them is a copy of the source.
    pub(super) fills: Vec<Fill>,
}

/// One `${…}` and what came in its place.
#[derive(Clone)]
pub(super) struct Fill {
    /// In the source, from `$` to behind `}`.
    pub(super) source: Range<usize>,
    /// In the expanded text.
    pub(super) text: Range<usize>,
    pub(super) name: String,
    pub(super) from: From,
}

/// Where a fill's text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Variable,
    Default,
    /// The variable is set, but what it holds would change the file's lines.
    VariableWithLineEnd,
    /// Neither set nor a default given.
    Nowhere,
}

/// Fills in every variable of `source`.
pub(super) fn expand(source: &str, variable: &dyn Fn(&str) -> Option<String>) -> Expanded {
    let mut out = Expanded {
        text: String::with_capacity(source.len()),
        fills: Vec::new(),
    };
    let mut copied = 0;
    while let Some(start) = source[copied..].find("${").map(|found| copied + found) {
        let Some((name, default, end)) = parse_reference(source, start) else {
            out.text.push_str(&source[copied..start + 2]);
            copied = start + 2;
            continue;
        };
        out.text.push_str(&source[copied..start]);
        copied = end;

        let (value, from) = match (variable(name), default) {
            (Some(value), _) if value.contains(['\n', '\r']) => {
                (MISSING.to_owned(), From::VariableWithLineEnd)
            }
            (Some(value), _) => (value, From::Variable),
            (None, Some(ENGINE_VERSION_DEFAULT)) => {
                (crate::config::ENGINE_VERSION.to_owned(), From::Default)
            }
            (None, Some(default)) => (default.to_owned(), From::Default),
            (None, None) => (MISSING.to_owned(), From::Nowhere),
        };
        let text = out.text.len()..out.text.len() + value.len();
        out.text.push_str(&value);
        out.fills.push(Fill {
            source: start..end,
            text,
            name: name.to_owned(),
            from,
        });
    }
    out.text.push_str(&source[copied..]);
    out
}

/// At a `${`: the name, the default and the end behind `}`. None: no reference, so it stays as it
/// is.
fn parse_reference(source: &str, start: usize) -> Option<(&str, Option<&str>, usize)> {
    let inside_start = start + 2;
    let inside_end = inside_start + source[inside_start..].find('}')?;
    let inside = &source[inside_start..inside_end];
    let (name, default) = match inside.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    (!name.is_empty()).then_some((name, default, inside_end + 1))
}

impl Expanded {
    /// The place in the source of a place in the text. Inside a fill: where its `${` begins.
    pub(super) fn source_of(&self, at: usize) -> usize {
        let behind = self.fills.partition_point(|fill| fill.text.start <= at);
        match self.fills[..behind].last() {
            None => at,
            Some(fill) if at < fill.text.end => fill.source.start,
            Some(fill) => fill.source.end + (at - fill.text.end),
        }
    }

    /// The first fill that has a part in this range of the text. An empty one has when the range
    /// touches it.
    pub(super) fn fill_in(&self, range: &Range<usize>) -> Option<&Fill> {
        self.fills.iter().find(|fill| {
            fill.text.start < range.end && range.start < fill.text.end
                || fill.text.is_empty()
                    && range.start <= fill.text.start
                    && fill.text.start <= range.end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "A" => "a",
            " A " => "spaced",
            "É" | "a.b-c/d e" => "any name",
            "EMPTY" => "",
            "PORT" => "80",
            "NESTED" => "${A}",
            "LINES" => "1\n2",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn every_form_is_filled_in_as_the_reference_does() {
        for (source, expected) in [
            ("", ""),
            ("port: ${PORT}", "port: 80"),
            ("port: ${PORT:3112}", "port: 80"),
            ("port: ${NO:3112}", "port: 3112"),
            ("${NO:}", ""),
            ("${NO:two\nlines}", "two\nlines"),
            ("${EMPTY:default}", ""),
            ("${ A }", "spaced"),
            ("${É} ${a.b-c/d e}", "any name any name"),
            ("$${A}", "$a"),
            ("\\${A}", "\\a"),
            ("$A", "$A"),
            ("${}", "${}"),
            ("${:x}", "${:x}"),
            ("${", "${"),
            ("${A", "${A"),
            ("${NO:-x}", "-x"),
            ("${NO:a:b}", "a:b"),
            ("${NO:${B:x}}", "${B:x}"),
            ("${NESTED}", "${A}"),
            ("${NO:__III_ENGINE_VERSION__}", "0.11.6-next.3"),
            ("${NO:v__III_ENGINE_VERSION__}", "v__III_ENGINE_VERSION__"),
            ("# ${A}\r\n${A}", "# a\r\na"),
        ] {
            assert_eq!(expand(source, &environment).text, expected, "{source}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_marked() {
        let froms = |source| {
            expand(source, &environment)
                .fills
                .iter()
                .map(|fill| fill.from)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            froms("${A} ${NO:x} ${NO} ${LINES}"),
            [
                From::Variable,
                From::Default,
                From::Nowhere,
                From::VariableWithLineEnd
            ]
        );
    }

    #[test]
    fn every_place_leads_back_to_what_was_written() {
        let source = "x${NO:123456}y${EMPTY}z";
        let expanded = expand(source, &environment);
        assert_eq!(expanded.text, "x123456yz");
        let place = |text: &str| expanded.source_of(expanded.text.find(text).unwrap());
        assert_eq!(place("x"), 0);
        assert_eq!(place("123456"), 1);
        assert_eq!(place("6"), 1, "inside a fill is its beginning");
        assert_eq!(place("y"), source.find('y').unwrap());
        assert_eq!(place("z"), source.find('z').unwrap());
        assert_eq!(expanded.source_of(expanded.text.len()), source.len());
    }
}
