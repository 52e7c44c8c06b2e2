//! JSON values, beside serde_json: what is taken, how deep it is, what strings and numbers mean.

use iii_stream::protocol::json::{compare, raw, text, value};
use serde_json::Value;

/// Levels that serde_json takes.
const DEPTH_MAX: usize = 127;

/// A text.
pub fn run(input: &[u8]) {
    let Ok(json) = std::str::from_utf8(input) else {
        return;
    };
    let tree = serde_json::from_str::<Value>(json);
    let read = value::parse(json, DEPTH_MAX);
    assert_eq!(tree.is_ok(), read.is_ok(), "{tree:?} {read:?}");
    let (Ok(tree), Ok(read)) = (tree, read) else {
        return;
    };
    let depth = depth_of(&tree);
    // Of a doubled key the tree shows the last value only.
    assert!(value::depth(read) >= depth);
    assert_eq!(
        value::parse(json, depth).is_ok(),
        value::depth(read) <= depth
    );
    assert_eq!(
        value::depth_beyond(read, 3),
        Some(value::depth(read)).filter(|depth| *depth > 3)
    );
    let written = tree.to_string();
    if keys_of(read) == keys_of(&written) && has_short_numbers(read) {
        assert!(compare::is_same(read, &written), "{read} {written}");
    }
    if let Value::String(string) = &tree {
        assert_eq!(text::read_string(read).expect("a string"), *string);
        let mut again = Vec::new();
        text::write_string(&mut again, string);
        let again = std::str::from_utf8(&again).expect("text");
        assert_eq!(
            serde_json::from_str::<String>(again).expect("a string"),
            *string
        );
    }
    if let Value::Object(members) = &tree {
        let mut last = serde_json::Map::new();
        raw::members(read, |key, value| {
            let key = text::read_string(key).expect("a key").into_owned();
            last.insert(key, serde_json::from_str(value.get()).expect("a value"));
        })
        .expect("an object");
        assert_eq!(last, *members);
    }
}

fn depth_of(tree: &Value) -> usize {
    match tree {
        Value::Array(elements) => 1 + elements.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

/// Longer ones, and those with an exponent, serde_json reads a little beside what they are.
fn has_short_numbers(json: &str) -> bool {
    let is_digit = |char: char| char.is_ascii_digit() || char == '.';
    let mut runs = json.split(|char| !is_digit(char));
    runs.all(|run| run.len() <= 15) && !json.contains(['e', 'E'])
}

/// How many members there are on all levels: fewer where a key is doubled.
fn keys_of(json: &str) -> usize {
    let mut count = 0;
    let mut is_in_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_in_string = !is_in_string,
            b'\\' if is_in_string => _ = bytes.next(),
            b':' if !is_in_string => count += 1,
            _ => {}
        }
    }
    count
}
