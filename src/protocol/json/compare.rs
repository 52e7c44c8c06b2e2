//! Whether two JSON texts are the same value: the order of keys, white space and how a number is
//! written are nothing.

use serde_json::{Map, Number, Value};

/// True for equal texts, whatever they are.
pub fn is_same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (serde_json::from_str(a), serde_json::from_str(b)) {
        (Ok(a), Ok(b)) => are_same(&a, &b),
        _ => false,
    }
}

fn are_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => are_same_numbers(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => are_same_objects(a, b),
        _ => a == b,
    }
}

fn are_same_objects(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let has = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| are_same(a, b));
    a.len() == b.len() && a.iter().all(has)
}

/// `1` and `1.0` are one number; of whole ones beyond a double every digit counts.
fn are_same_numbers(a: &Number, b: &Number) -> bool {
    let is_whole = |number: &Number| number.is_i64() || number.is_u64();
    a == b || (!(is_whole(a) && is_whole(b)) && a.as_f64() == b.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_and_the_form_of_numbers_are_nothing() {
        for (a, b) in [
            (
                r#"{"a":1,"b":[{"c":2,"d":3}]}"#,
                r#"{ "b":[{"d":3,"c":2}], "a":1.0}"#,
            ),
            ("1e3", "1000"),
            ("1000.0", "1e3"),
            (r#""\u00fc""#, r#""ü""#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("-0.0", "0"),
        ] {
            assert!(is_same(a, b) && is_same(b, a), "{a} {b}");
        }
    }

    #[test]
    fn other_values_differ() {
        for (a, b) in [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            (r#"{"a":null}"#, r#"{"b":null}"#),
            ("[]", "{}"),
            ("[1,2]", "[2,1]"),
            ("9007199254740993", "9007199254740992"),
            ("1", "\"1\""),
            ("no JSON", "neither"),
        ] {
            assert!(!is_same(a, b) && !is_same(b, a), "{a} {b}");
        }
    }
}
