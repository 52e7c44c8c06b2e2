//! A frame as a line for people: when, what, of which item, and the value.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::output::{json_line, name};

#[derive(Deserialize)]
struct Frame<'a> {
    timestamp: u64,
    #[serde(rename = "groupId")]
    group: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    event: Event<'a>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    event: Option<Sent<'a>>,
}

/// What `stream::send` was given.
#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

/// None: it is no frame that we know.
pub(super) fn of_frame(frame: &str, with_group: bool) -> Option<String> {
    let frame: Frame<'_> = serde_json::from_str(frame).ok()?;
    let event = &frame.event;
    let mut line = format!("{} {:<6}", time(frame.timestamp), name(&event.kind));
    if with_group {
        line += &format!(" {}", name(&frame.group));
    }
    if let Some(id) = &frame.id {
        line += &format!(" {}", name(id));
    }
    let data = match &event.event {
        Some(sent) => {
            line += &format!(" {}", name(&sent.kind));
            sent.data
        }
        None => event.data,
    };
    let data = data.map_or("null".to_owned(), |data| json_line(data.get()));
    Some(format!("{line} {data}"))
}

/// `2026-11-30T01:20:03.456Z`, of milliseconds since 1970.
fn time(ms: u64) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970-01-01. Counted in years that begin in March, whose months
/// have 153 days for each five.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097); // of 400 years
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next = month >= 10;
    let month = if is_next { month - 9 } else { month + 3 };
    (era * 400 + year + u64::from(is_next), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_calendar() {
        for (ms, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_795_474_737_795, "2026-11-23T22:58:57.795Z"),
            (1_798_761_599_001, "2026-12-31T23:59:59.001Z"),
        ] {
            assert_eq!(time(ms), shown);
        }
        time(u64::MAX);
    }

    #[test]
    fn a_frame_is_one_line_whatever_its_names_are() {
        let frame = |id: &str, event: &str| {
            format!(
                r#"{{"type":"stream","timestamp":0,"streamName":"s","groupId":"a\"\n{{b}}","id":{id},"event":{event}}}"#
            )
        };
        let line = |id, event, with_group| of_frame(&frame(id, event), with_group).unwrap();
        assert_eq!(
            line(
                r#""i""#,
                r#"{"type":"create","data":{ "x":
 1.0}}"#,
                false
            ),
            r#"1970-01-01T00:00:00.000Z create i {"x":1.0}"#
        );
        assert_eq!(
            line(r#""\u001b[2J""#, r#"{"type":"delete","data":null}"#, true),
            r#"1970-01-01T00:00:00.000Z delete "a\"\n{b}" "\u001b[2J" null"#
        );
        assert_eq!(
            line(
                "null",
                r#"{"type":"event","event":{"type":"ty ping","data":[1]}}"#,
                false
            ),
            r#"1970-01-01T00:00:00.000Z event  "ty ping" [1]"#
        );
        assert_eq!(of_frame("{}", true), None);
    }
}
