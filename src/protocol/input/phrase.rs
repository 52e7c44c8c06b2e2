//! The phrases in which the reference tells a caller what is wrong with an input.
//!
//! They are those of serde's deserializers, so that clients that compare them stay right.

use std::borrow::Cow;

use crate::protocol::number::Number;
use crate::protocol::text;
use crate::protocol::value::ValueError;

/// A required field is not there.
pub(super) fn missing(field: &str) -> String {
    format!("missing field `{field}`")
}

/// A value is of another type than the one `expected`.
pub(super) fn invalid_type(json: &str, expected: &str) -> String {
    match found(json) {
        Ok(found) => format!("invalid type: {found}, expected {expected}"),
        Err(fault) => fault.to_string(),
    }
}

/// A string's content, or the phrase that tells why it is none.
pub(super) fn read_string(json: &str) -> Result<Cow<'_, str>, String> {
    if !json.starts_with('"') {
        return Err(invalid_type(json, "a string"));
    }
    text::read_string(json).map_err(|fault| fault.to_string())
}

/// How a value is named in a phrase.
pub(super) fn found(json: &str) -> Result<String, ValueError> {
    Ok(match json.as_bytes().first() {
        Some(b'n') => "null".to_owned(),
        Some(b't' | b'f') => format!("boolean `{json}`"),
        Some(b'[') => "sequence".to_owned(),
        Some(b'{') => "map".to_owned(),
        Some(b'"') => {
            let content = text::read_string(json).map_err(|_| ValueError::LoneSurrogate)?;
            format!("string {content:?}")
        }
        _ => match Number::read(json).ok_or(ValueError::NumberOutOfRange)? {
            Number::Integer(integer) => format!("integer `{integer}`"),
            float @ Number::Float(_) => format!("floating point `{float}`"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_named_as_the_reference_names_them() {
        let rows = [
            ("null", "null"),
            ("true", "boolean `true`"),
            ("5", "integer `5`"),
            ("-5", "integer `-5`"),
            ("18446744073709551615", "integer `18446744073709551615`"),
            (
                "18446744073709551616",
                "floating point `1.8446744073709552e+19`",
            ),
            ("1.5", "floating point `1.5`"),
            ("1.0", "floating point `1.0`"),
            ("-0", "floating point `-0.0`"),
            ("1e20", "floating point `1e+20`"),
            ("1e-7", "floating point `1e-7`"),
            (r#""x""#, r#"string "x""#),
            (
                r#""\"\\\n\t\r\u0000\u001bé""#,
                r#"string "\"\\\n\t\r\0\u{1b}é""#,
            ),
            ("[]", "sequence"),
            ("{}", "map"),
        ];
        for (json, name) in rows {
            assert_eq!(found(json).as_deref(), Ok(name), "{json}");
        }
        assert_eq!(found("1e999"), Err(ValueError::NumberOutOfRange));
        assert_eq!(found(r#""\ud83d""#), Err(ValueError::LoneSurrogate));
    }
}
