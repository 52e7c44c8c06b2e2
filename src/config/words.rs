//! How faults are put in words: where a key stands, what was found and expected, what was meant.

use super::address::shown;
use super::yaml::{Node, Value};

/// A known key is suggested for an unknown one when so many letters differ at most.
const LETTERS_MAX: usize = 2;

/// The path of a key.
pub(super) fn joined(path: &str, key: &str) -> String {
    let key = shown(key); // where a space is missing a value reads as a key
    match path.is_empty() {
        true => key.into_owned(),
        false => format!("{path}.{key}"),
    }
}

/// `3112.0 is a decimal number, expected …`, with a hint where quotes are all that is wrong.
pub(super) fn mismatch(node: &Node, expected: &str) -> String {
    let hint = match &node.value {
        Value::Text(text) if text.parse::<i128>().is_ok() => " (remove the quotes)",
        _ => "",
    };
    format!("{node}, expected {expected}{hint}")
}

/// `kv, redis or bridge`.
pub(super) fn any_of(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The known key that differs least, when that is little.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = |known: &&'k str| {
        let letters = distance(key, known);
        (letters <= LETTERS_MAX && letters < known.len()).then_some((letters, *known))
    };
    known
        .iter()
        .filter_map(near)
        .min_by_key(|(letters, _)| *letters)
        .map(|(_, known)| known)
}

/// Letters to insert, remove or replace to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// What a text stands for, if it is one of these words.
pub(super) fn one_of<T: Copy>(
    words: &[(&str, T)],
    node: &Node,
    expected: &str,
) -> Result<T, String> {
    let found = match &node.value {
        Value::Text(text) => words.iter().find(|(word, _)| word == text),
        _ => None,
    };
    found
        .map(|(_, what)| *what)
        .ok_or_else(|| mismatch(node, expected))
}

/// The word for it.
pub(super) fn word_of<T: PartialEq>(words: &[(&'static str, T)], what: T) -> &'static str {
    let found = words.iter().find(|(_, known)| *known == what);
    found.map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_suggested_within_two_letters() {
        let known = ["port", "host", "connections"];
        for (key, expected) in [
            ("prot", Some("port")),
            ("hots", Some("host")),
            ("conections", Some("connections")),
            ("conectons", Some("connections")),
            ("conecton", None),
            ("Port", Some("port")),
            ("", None),
            ("threads", None),
        ] {
            assert_eq!(nearest(key, &known), expected, "{key}");
        }
    }
}
