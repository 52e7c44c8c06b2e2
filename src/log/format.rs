//! How a line of the log is written: for people, or as one JSON object. What steers a terminal, breaks a
//! line or hides text is written as an escape, whoever made it.
//!
//! Decides nothing about what is said.

use std::fmt::{self, Write};

use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FieldFn, Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::notes::steers;

/// Writes on to another, with escapes.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(steers) {
            let (plain, behind) = rest.split_at(at);
            let mut chars = behind.chars();
            self.0.write_str(plain)?;
            if let Some(char) = chars.next() {
                write!(self.0, "{}", char.escape_default())?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

type WriteField = fn(&mut Writer<'_>, &Field, &dyn fmt::Debug) -> fmt::Result;

/// The fields of a line for people.
pub fn escaped_fields() -> FieldFn<WriteField> {
    debug_fn(|out, field, value| match field.name() {
        "message" => write!(Escaping(out), "{value:?}"),
        name => write!(Escaping(out), " {name}={value:?}"),
    })
}

/// A line as one JSON object: `timestamp`, `level`, `message`.
#[derive(Debug, Clone, Copy)]
pub struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), time.into());
        let level = event.metadata().level().as_str();
        line.insert("level".to_owned(), level.into());
        event.record(&mut Fields(&mut line));
        writeln!(out, "{}", Json::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Json>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(Escaping(&mut text), "{value:?}");
        self.0.insert(field.name().to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_breaks_a_line_or_hides_text_is_an_escape() {
        let mut text = String::new();
        let odd = "a\n\u{1b}[2J\u{9b}x\u{202e}y\u{2028}z é \"\\ 👩\u{200d}🚀";
        write!(Escaping(&mut text), "{odd}").unwrap();
        assert_eq!(
            text,
            "a\\n\\u{1b}[2J\\u{9b}x\\u{202e}y\\u{2028}z é \"\\ 👩\u{200d}🚀"
        );
    }
}
