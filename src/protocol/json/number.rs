//! JSON numbers: what kind one is, and how we write one that we made.
//!
//! Knows nothing of messages. Values that pass through keep their text and never come here.

use std::fmt;

/// The two kinds that the functions tell apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Written without point and exponent, from `i64::MIN` to `u64::MAX`; `-0` is not one.
    Integer(i128),
    /// Everything else. Finite.
    Float(f64),
}

impl Number {
    /// Least integer.
    pub const INTEGER_MIN: i128 = i64::MIN as i128;
    /// Greatest integer.
    pub const INTEGER_MAX: i128 = u64::MAX as i128;

    /// Reads the text of a JSON number. None: it is beyond a double's range, or not a number.
    pub fn read(json: &str) -> Option<Number> {
        let starts_like_one = json.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if !starts_like_one {
            return None; // `inf` and `nan` are numbers to the standard library
        }
        if json != "-0"
            && let Ok(integer) = json.parse::<i128>()
            && let Some(number) = Number::integer(integer)
        {
            return Some(number);
        }
        let float: f64 = json.parse().ok()?;
        float.is_finite().then_some(Number::Float(float))
    }

    /// An integer, if it is within the bounds of one.
    pub fn integer(value: i128) -> Option<Number> {
        (Number::INTEGER_MIN..=Number::INTEGER_MAX)
            .contains(&value)
            .then_some(Number::Integer(value))
    }
}

/// As JSON: an integer without a point; a float by its shortest digits, plain with at least one
/// decimal from 1e-5 up to below 1e16, else with a signed exponent.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let float = match *self {
            Number::Integer(integer) => return write!(f, "{integer}"),
            Number::Float(float) => float,
        };
        let size = float.abs();
        if size == 0.0 || (1e-5..1e16).contains(&size) {
            let point = if float.fract() == 0.0 { ".0" } else { "" };
            return write!(f, "{float}{point}");
        }
        let text = format!("{float:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                write!(f, "{digits}e+{exponent}")
            }
            _ => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_end_where_64_bits_end() {
        let rows = [
            ("0", Some(Number::Integer(0))),
            ("-5", Some(Number::Integer(-5))),
            (
                "18446744073709551615",
                Some(Number::Integer(u64::MAX.into())),
            ),
            (
                "18446744073709551616",
                Some(Number::Float(18446744073709551616.0)),
            ),
            (
                "-9223372036854775808",
                Some(Number::Integer(i64::MIN.into())),
            ),
            (
                "-9223372036854775809",
                Some(Number::Float(-9223372036854775809.0)),
            ),
            ("1.0", Some(Number::Float(1.0))),
            ("1E2", Some(Number::Float(100.0))),
            ("1e-400", Some(Number::Float(0.0))),
            ("1e309", None),
            ("true", None),
            ("inf", None),
            ("-inf", None),
            ("", None),
        ];
        for (text, number) in rows {
            assert_eq!(Number::read(text), number, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_in_the_stated_form() {
        let rows = [
            ("5", "5"),
            ("-0", "-0.0"),
            ("-0.0", "-0.0"),
            ("1.0", "1.0"),
            ("1.10", "1.1"),
            ("1e5", "100000.0"),
            ("1e15", "1000000000000000.0"),
            ("9007199254740993.0", "9007199254740992.0"),
            ("1e16", "1e+16"),
            ("1e20", "1e+20"),
            ("1.5e300", "1.5e+300"),
            ("1e-5", "0.00001"),
            ("0.00012", "0.00012"),
            ("1e-6", "1e-6"),
            ("-1e-7", "-1e-7"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            ("3.14159265358979323846", "3.141592653589793"),
        ];
        for (text, form) in rows {
            assert_eq!(Number::read(text).unwrap().to_string(), form, "{text}");
        }
    }
}
