//! The phrases in which the reference tells a caller what is wrong with an input.
//!
//! They are those of serde's deserializers, so that clients that compare them stay right. Who reads
//! an input reads its parts with the functions here; may not know any input as a whole.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::number::Number;
use super::value::ValueError;
use super::{raw, text};

/// A required field is not there.
pub(in crate::protocol) fn missing(field: &str) -> String {
    format!("missing field `{field}`")
}

/// A value is of another type than the one `expected`.
pub(in crate::protocol) fn invalid_type(json: &str, expected: &str) -> String {
    match found(json) {
        Ok(found) => format!("invalid type: {found}, expected {expected}"),
        Err(fault) => fault.to_string(),
    }
}

/// A string's content, or the phrase that tells why it is none.
pub(in crate::protocol) fn read_string(json: &str) -> Result<Cow<'_, str>, String> {
    if !json.starts_with('"') {
        return Err(invalid_type(json, "a string"));
    }
    text::read_string(json).map_err(|fault| fault.to_string())
}

/// The members of a struct that have these keys; of a doubled one the last counts.
pub(in crate::protocol) fn members<'a, const N: usize>(
    json: &'a str,
    name: &str,
    keys: [&str; N],
) -> Result<[Option<&'a RawValue>; N], String> {
    raw::pick(json, keys).map_err(|_| invalid_type(json.trim_ascii(), &format!("struct {name}")))
}

/// A string's content; absent and `null` are none.
pub(in crate::protocol) fn optional_string(
    json: Option<&RawValue>,
) -> Result<Option<Cow<'_, str>>, String> {
    match json.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(json) => read_string(json).map(Some),
    }
}

/// `true` or `false`.
pub(in crate::protocol) fn read_boolean(json: &RawValue) -> Result<bool, String> {
    match json.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(invalid_type(other, "a boolean")),
    }
}

/// An integer from 0 to `max`, of the type that is called `name`.
pub(in crate::protocol) fn read_unsigned(
    json: &RawValue,
    max: u64,
    name: &str,
) -> Result<u64, String> {
    let Some(Number::Integer(integer)) = Number::read(json.get()) else {
        return Err(invalid_type(json.get(), name));
    };
    let fits = u64::try_from(integer).ok().filter(|&n| n <= max);
    fits.ok_or_else(|| format!("invalid value: integer `{integer}`, expected {name}"))
}

/// An array of strings.
pub(in crate::protocol) fn read_strings(json: &RawValue) -> Result<Vec<Box<str>>, String> {
    let mut strings = Vec::new();
    let mut fault = None;
    raw::elements(json.get(), |element| {
        match read_string(element.get()) {
            Ok(string) => strings.push(string.into()),
            Err(phrase) => fault = Some(phrase),
        }
        fault.is_none()
    })
    .map_err(|_| invalid_type(json.get(), "a sequence"))?;
    fault.map_or(Ok(strings), Err)
}

/// How a value is named in a phrase.
pub(in crate::protocol) fn found(json: &str) -> Result<String, ValueError> {
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

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn parts_of_another_type_are_told_by_what_they_are() {
        assert_eq!(optional_string(None), Ok(None));
        assert_eq!(optional_string(Some(raw("null"))), Ok(None));
        assert_eq!(
            optional_string(Some(raw("5"))).unwrap_err(),
            "invalid type: integer `5`, expected a string"
        );
        assert_eq!(
            read_boolean(raw("null")).unwrap_err(),
            "invalid type: null, expected a boolean"
        );
        assert_eq!(
            read_unsigned(raw("4294967295"), 4_294_967_295, "u32"),
            Ok(4_294_967_295)
        );
        for (json, phrase) in [
            ("-1", "invalid value: integer `-1`, expected u32"),
            (
                "4294967296",
                "invalid value: integer `4294967296`, expected u32",
            ),
            ("1.0", "invalid type: floating point `1.0`, expected u32"),
            ("[]", "invalid type: sequence, expected u32"),
        ] {
            let found = read_unsigned(raw(json), 4_294_967_295, "u32");
            assert_eq!(found.unwrap_err(), phrase, "{json}");
        }
        assert_eq!(read_strings(raw(r#"["a","b"]"#)).unwrap().len(), 2);
        assert_eq!(
            read_strings(raw("5")).unwrap_err(),
            "invalid type: integer `5`, expected a sequence"
        );
        assert_eq!(
            read_strings(raw(r#"["a",null,5]"#)).unwrap_err(),
            "invalid type: null, expected a string"
        );
        assert_eq!(
            members(" [1] ", "X", ["a"]).unwrap_err(),
            "invalid type: sequence, expected struct X"
        );
    }

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
