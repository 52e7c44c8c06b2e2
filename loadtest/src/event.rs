//! The texts that subscribers hear, read to the last byte.
//!
//! Pure. A text has the keys and their order of the protocol, so each of its bytes is either fixed or a
//! digit that means something: what differs in any of them is not read as an event. May not know
//! which subscriber hears it.

use crate::message::GROUP_DIGITS;
use crate::stamp::{self, Stamp, Value};

/// Where a text has its time, and how long that is until the year 2286.
const TIME_AT: usize = r#"{"type":"stream","timestamp":"#.len();
const TIME_DIGITS: usize = 13;

/// What happened to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Update,
    Delete,
}

/// What a subscriber heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// `values` is what should be the list; `EventReader::values` reads it.
    Sync {
        at_ms: u64,
        group: u32,
        values: &'a [u8],
        /// It is a list of values as this harness publishes them, in this run or another one.
        is_list: bool,
    },
    /// A value that carries a stamp; of a `delete`, the value that was removed.
    Change {
        kind: Kind,
        at_ms: u64,
        stamp: Stamp,
    },
    /// Not what was published: a stamp stands in it, and other bytes are not as they must be.
    Altered { stamp: Stamp },
    /// Nothing that a subscriber of a load test should hear.
    Other,
}

/// Reads what subscribers hear.
pub(crate) struct EventReader {
    /// What stands between time and group.
    stream: Vec<u8>,
    value_bytes: usize,
}

impl EventReader {
    pub(crate) fn new(stream_name: &str, value_bytes: usize) -> Self {
        Self {
            stream: format!(r#","streamName":"{stream_name}","groupId":"g"#).into_bytes(),
            value_bytes,
        }
    }

    /// The group that a text names at the usual place.
    #[inline]
    pub(crate) fn group_of(&self, text: &[u8]) -> Option<u32> {
        let at = TIME_AT + TIME_DIGITS + self.stream.len();
        let digits = text.get(at..at + GROUP_DIGITS)?;
        let (group, _) = stamp::take_number(digits, GROUP_DIGITS)?;
        u32::try_from(group).ok()
    }

    pub(crate) fn read<'a>(&self, text: &'a [u8]) -> Heard<'a> {
        self.strictly(text).unwrap_or_else(|| {
            stamp::values(text, self.value_bytes)
                .next()
                .map_or(Heard::Other, |value| Heard::Altered { stamp: value.stamp })
        })
    }

    fn strictly<'a>(&self, text: &'a [u8]) -> Option<Heard<'a>> {
        let rest = text.strip_prefix(br#"{"type":"stream","timestamp":"#)?;
        let (at_ms, rest) = stamp::take_number(rest, 1)?;
        let rest = rest.strip_prefix(&self.stream[..])?;
        let (group, rest) = stamp::take_number(rest, GROUP_DIGITS)?;
        let group = u32::try_from(group).ok()?;
        let rest = rest.strip_prefix(br#"","id":"#)?;
        if let Some(rest) = rest.strip_prefix(br#"null,"event":{"type":"sync","data":"#) {
            let values = rest.strip_suffix(b"}}")?;
            return Some(Heard::Sync {
                at_ms,
                group,
                values,
                is_list: is_list(values),
            });
        }
        let (item, rest) = stamp::take_number(rest.strip_prefix(br#""i"#)?, 3)?;
        let rest = rest.strip_prefix(br#"","event":{"type":""#)?;
        let kind = match rest.get(..6)? {
            b"create" => Kind::Create,
            b"update" => Kind::Update,
            b"delete" => Kind::Delete,
            _ => return None,
        };
        let value = rest[6..].strip_prefix(br#"","data":"#)?;
        let value = value.strip_suffix(b"}}")?;
        let (stamp, behind) = stamp::take_value(value)?;
        let is_whole = behind.is_empty()
            && value.len() == stamp::value_bytes_of(stamp.item, self.value_bytes)
            && (stamp.group, u64::from(stamp.item)) == (group, item);
        is_whole.then_some(Heard::Change { kind, at_ms, stamp })
    }

    /// Every stamped value in the text or list.
    pub(crate) fn values<'a>(&self, text: &'a [u8]) -> impl Iterator<Item = Value> + 'a {
        stamp::values(text, self.value_bytes)
    }
}

/// A list of values of this harness, perhaps of another run of it.
fn is_list(text: &[u8]) -> bool {
    let inner = text
        .strip_prefix(b"[")
        .and_then(|text| text.strip_suffix(b"]"));
    let Some(mut rest) = inner else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    while let Some((_, behind)) = stamp::take_value(rest) {
        match behind.strip_prefix(b",") {
            Some(next) => rest = next,
            None => return behind.is_empty(),
        }
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;
    use crate::stamp::padding;
    use crate::stamp::sample::{BYTES, STAMP};

    const AT_MS: u64 = 1_795_474_467_413;

    fn value(stamp: Stamp) -> String {
        let mut text = Vec::new();
        stamp.write_value(&padding(BYTES), &mut text);
        String::from_utf8(text).unwrap()
    }

    fn event(kind: &str, data: &str) -> String {
        format!(
            r#"{{"type":"stream","timestamp":{AT_MS},"streamName":"load","groupId":"g000007","id":"i012","event":{{"type":"{kind}","data":{data}}}}}"#
        )
    }

    fn sync(data: &str) -> String {
        event("sync", data).replace(r#""i012","event"#, r#"null,"event"#)
    }

    fn reader() -> EventReader {
        EventReader::new("load", BYTES)
    }

    #[test]
    fn stamp_and_time_survive_the_way() {
        for (word, kind) in [
            ("create", Kind::Create),
            ("update", Kind::Update),
            ("delete", Kind::Delete),
        ] {
            let text = event(word, &value(STAMP));
            let change = Heard::Change {
                kind,
                at_ms: AT_MS,
                stamp: STAMP,
            };
            assert_eq!(reader().read(text.as_bytes()), change);
        }
    }

    /// Whether a text passes for one of this run and group.
    fn passes(text: &[u8]) -> bool {
        match reader().read(text) {
            Heard::Change { stamp, .. } => stamp.run == STAMP.run,
            Heard::Sync { group, is_list, .. } => is_list && group == STAMP.group,
            _ => false,
        }
    }

    /// What one text cannot show by itself are digits of its time and values of other runs: others who
    /// were sent the same show those.
    #[test]
    fn a_text_with_one_bit_changed_is_told_but_for_digits_of_its_time() {
        let begin = r#"{"type":"stream","timestamp":"#.len();
        let time = begin..begin + 13;
        for text in [event("update", &value(STAMP)), sync("[]")] {
            assert!(passes(text.as_bytes()), "{text}");
            for bit in 0..8 * text.len() {
                let mut altered = text.clone().into_bytes();
                altered[bit / 8] ^= 1 << (bit % 8);
                let is_digit_of_time = time.contains(&(bit / 8))
                    && altered[bit / 8].is_ascii_digit()
                    && altered[time.start] != b'0';
                let altered_text = String::from_utf8_lossy(&altered);
                assert_eq!(passes(&altered), is_digit_of_time, "{altered_text}");
            }
        }
    }

    #[test]
    fn a_value_that_goes_to_another_item_or_group_is_altered() {
        let text = event("update", &value(STAMP));
        for (from, to) in [
            ("xx", "xxx"),
            ("g000007", "g000008"),
            (r#""id":"i012","event"#, r#""id":"i013","event"#),
        ] {
            let altered = text.replace(from, to);
            let heard = reader();
            assert_eq!(
                heard.read(altered.as_bytes()),
                Heard::Altered { stamp: STAMP },
                "{altered}"
            );
        }
    }

    #[test]
    fn sync_is_no_delivery_though_it_holds_stamps() {
        let other = Stamp {
            sequence: 3,
            ..STAMP
        };
        let list = format!("[{},{}]", value(STAMP), value(other));
        let text = sync(&list);
        let Heard::Sync {
            at_ms,
            group,
            values,
            is_list: true,
        } = reader().read(text.as_bytes())
        else {
            unreachable!("{text}");
        };
        assert_eq!((at_ms, group, values), (AT_MS, 7, list.as_bytes()));
        let stamps = reader().values(values).map(|value| value.stamp);
        assert_eq!(Vec::from_iter(stamps), [STAMP, other]);
        for altered in [
            "".to_owned(),
            "[".to_owned(),
            "[,]".to_owned(),
            "[{}]".to_owned(),
            "{}".to_owned(),
            list.replace("},{", "}{"),
            list.replace("},{", "},,{"),
            list.replace("}]", "},]"),
        ] {
            let text = sync(&altered);
            let heard = reader();
            let heard = heard.read(text.as_bytes());
            assert!(
                matches!(heard, Heard::Sync { is_list: false, .. }),
                "{text}"
            );
        }
    }

    #[test]
    fn other_events_and_broken_texts_are_neither() {
        for text in [event("update", "1"), String::new(), "{}".to_owned()] {
            assert_eq!(reader().read(text.as_bytes()), Heard::Other, "{text}");
        }
        let custom = event("event", &value(STAMP));
        assert_eq!(
            reader().read(custom.as_bytes()),
            Heard::Altered { stamp: STAMP }
        );
        let whole = event("update", &value(STAMP));
        for cut in 0..whole.len() {
            reader().read(&whole.as_bytes()[..cut]); // must not panic
        }
    }
}
