//! One level of a JSON text: the members of an object, the elements of an array, as texts.
//!
//! What lies below is only skipped, by serde_json, in a loop that no nesting can exhaust.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Error;
use serde_json::value::RawValue;

use super::text;

/// Hands each member of an object to `each`: its key as the JSON string it is, and its value.
///
/// Err: the text is not one JSON object. `each` may have seen some of its members by then.
pub fn members<'a>(object: &'a str, each: impl FnMut(&'a str, &'a RawValue)) -> Result<(), Error> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    deserializer.deserialize_map(Members(each, PhantomData))?;
    deserializer.end()
}

/// Hands each element of an array to `each`, as long as that answers true; gives their number.
///
/// Err: the text is not one JSON array. `each` may have seen some of its elements by then.
pub fn elements<'a>(
    array: &'a str,
    each: impl FnMut(&'a RawValue) -> bool,
) -> Result<usize, Error> {
    let mut deserializer = serde_json::Deserializer::from_str(array);
    let len = deserializer.deserialize_seq(Elements(each, PhantomData))?;
    deserializer.end()?;
    Ok(len)
}

/// The members with these keys, as far as there are any; of a doubled key the last one counts.
///
/// Err: the text is not one JSON object.
pub fn pick<'a, const N: usize>(
    object: &'a str,
    keys: [&str; N],
) -> Result<[Option<&'a RawValue>; N], Error> {
    let mut picked = [None; N];
    members(object, |key, value| {
        // A key with half a surrogate pair is no name that anyone asks for.
        let Ok(key) = text::read_string(key) else {
            return;
        };
        if let Some(at) = keys.iter().position(|&wanted| wanted == key) {
            picked[at] = Some(value);
        }
    })?;
    Ok(picked)
}

struct Members<'a, F>(F, PhantomData<&'a ()>);

impl<'a, F: FnMut(&'a str, &'a RawValue)> Visitor<'a> for Members<'a, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
            (self.0)(key.get(), value);
        }
        Ok(())
    }
}

struct Elements<'a, F>(F, PhantomData<&'a ()>);

impl<'a, F: FnMut(&'a RawValue) -> bool> Visitor<'a> for Elements<'a, F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<usize, A::Error> {
        let mut len = 0;
        while let Some(element) = seq.next_element::<&'a RawValue>()? {
            len += 1;
            if !(self.0)(element) {
                break;
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            len += 1;
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_as_texts_in_their_order_doubled_ones_too() {
        let mut seen = Vec::new();
        members(
            r#" {"a" : 1e999 ,"\u0061":[ 1,{}],"a":"\ud800"} "#,
            |key, value| {
                seen.push((key, value.get()));
            },
        )
        .unwrap();
        assert_eq!(
            seen,
            [
                ("\"a\"", "1e999"),
                ("\"\\u0061\"", "[ 1,{}]"),
                ("\"a\"", "\"\\ud800\"")
            ]
        );
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in [
            "",
            "[]",
            "5",
            "{",
            "{} x",
            "{\"a\":01}",
            "{\"a\":1,}",
            "{1:2}",
            "{\"a\"}",
        ] {
            assert!(members(text, |_, _| ()).is_err(), "{text}");
        }
    }

    #[test]
    fn members_are_picked_by_key_and_the_last_of_doubled_ones_counts() {
        let text = r#"{"b":1,"\u0061":2,"\ud800":3,"a":[4]}"#;
        let [a, c, b] = pick(text, ["a", "c", "b"]).unwrap();
        assert_eq!(a.map(RawValue::get), Some("[4]"));
        assert!(c.is_none() && b.is_some());
        assert!(pick("[]", ["a"]).is_err());
    }

    #[test]
    fn elements_are_counted_beyond_the_last_one_asked_for() {
        let mut seen = Vec::new();
        let len = elements("[1, [2] ,3,4]", |element| {
            seen.push(element.get());
            seen.len() < 2
        });
        assert_eq!((len.unwrap(), seen), (4, vec!["1", "[2]"]));
        assert!(elements("{}", |_| true).is_err());
    }

    #[test]
    fn no_nesting_exhausts_the_stack() {
        let depth = 1_000_000;
        let text = format!("[{}{}]", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(elements(&text, |_| true).unwrap(), 1);
    }
}
