//! The content of a `LOGS` frame, an OTLP export request as JSON, read into log entries.
//!
//! May not know sockets or triggers. What does not fit makes the whole frame an error.

mod parts;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

use self::parts::{digits, each, not_an_integer, object, optional_string, unsigned};
use super::{LogEntry, SERVICE_UNKNOWN};
use crate::id::Text;
use crate::protocol::json::number::Number;
use crate::protocol::json::text;
use crate::protocol::json::value::{self, ValueError};

/// What a frame with logs begins with.
const MAGIC: &[u8] = b"LOGS";
/// Frames are nested this deep at most: what a parser into a tree takes.
const DEPTH_MAX: usize = 127;

/// Why a frame is dropped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// Not text.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not a value that any reader could parse.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A part is of another type than OTLP has it.
    #[error("`{key}` is not {expected}")]
    Wrong {
        /// Its name.
        key: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
}

/// The content of a binary frame, if it bears logs.
pub fn content(frame: &[u8]) -> Option<&[u8]> {
    frame.strip_prefix(MAGIC)
}

/// The content of a frame that can be read: its records become entries one after another.
#[derive(Debug)]
pub struct Frame {
    text: Box<str>,
    /// Where each record stands, and which of the senders it is of.
    records: Vec<(Range<u32>, u32)>,
    senders: Vec<(Resource, Scope)>,
    /// The next record.
    next: usize,
}

impl Frame {
    /// Reads the content of a frame: what does not fit makes all of it an error.
    pub fn read(content: &[u8]) -> Result<Frame, LogsError> {
        let text = std::str::from_utf8(content).map_err(|_| LogsError::NotUtf8)?;
        // From here on every string and number can be read, and no nesting is a danger.
        let request = value::parse(text, DEPTH_MAX)?;
        let (mut records, mut senders) = (Vec::new(), Vec::new());
        let [resource_logs] = object("the request", request, ["resourceLogs"])?;
        each("resourceLogs", resource_logs, |resource_logs| {
            let keys = ["resource", "scopeLogs"];
            let [resource, scope_logs] = object("resourceLogs", resource_logs, keys)?;
            let resource = Resource::read(resource)?;
            each("scopeLogs", scope_logs, |scope_logs| {
                let keys = ["scope", "logRecords"];
                let [scope, found] = object("scopeLogs", scope_logs, keys)?;
                let scope = Scope::read(scope)?;
                each("logRecords", found, |record| {
                    entry(record, &resource, &scope)?;
                    let from = record.as_ptr().addr() - request.as_ptr().addr();
                    let range = from as u32..(from + record.len()) as u32;
                    records.push((range, senders.len() as u32));
                    Ok(())
                })?;
                senders.push((resource.clone(), scope));
                Ok(())
            })
        })?;
        Ok(Frame {
            text: request.into(),
            records,
            senders,
            next: 0,
        })
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.records) + size_of_val(&*self.senders)
    }
}

impl Iterator for Frame {
    type Item = Result<LogEntry, LogsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (range, sender) = self.records.get(self.next)?;
        self.next += 1;
        let (resource, scope) = self.senders.get(*sender as usize)?;
        let record = self.text.get(range.start as usize..range.end as usize)?;
        Some(entry(record, resource, scope))
    }
}

/// Who sends.
#[derive(Debug, Clone)]
struct Resource {
    attributes: Text,
    service_name: Text,
}

impl Resource {
    fn read(json: Option<&RawValue>) -> Result<Resource, LogsError> {
        let attributes = match json {
            None => None,
            Some(json) => object("resource", json.get(), ["attributes"])?[0],
        };
        let values = key_values("attributes", attributes)?;
        let mut out = Vec::new();
        let mut service_name = None;
        write_object(&mut out, &values, |out, key, value| {
            let value = value.text()?;
            text::write_string(out, &value);
            if key == "service.name" {
                service_name = Some(value.as_ref().into());
            }
            Ok(())
        })?;
        Ok(Resource {
            attributes: into_string(out).into(),
            service_name: service_name.unwrap_or(SERVICE_UNKNOWN.into()),
        })
    }
}

/// The library that logs.
#[derive(Debug, Clone)]
struct Scope {
    name: Option<Text>,
    version: Option<Text>,
}

impl Scope {
    fn read(json: Option<&RawValue>) -> Result<Scope, LogsError> {
        let [name, version] = match json {
            None => [None; 2],
            Some(json) => object("scope", json.get(), ["name", "version"])?,
        };
        let given = |name: Cow<'_, str>| (!name.is_empty()).then(|| name.into());
        Ok(Scope {
            name: optional_string("name", name)?.and_then(given),
            version: optional_string("version", version)?.and_then(given),
        })
    }
}

fn entry(json: &str, resource: &Resource, scope: &Scope) -> Result<LogEntry, LogsError> {
    const KEYS: [&str; 8] = [
        "timeUnixNano",
        "observedTimeUnixNano",
        "severityNumber",
        "severityText",
        "body",
        "attributes",
        "traceId",
        "spanId",
    ];
    let [
        time,
        observed_time,
        severity_number,
        severity_text,
        body,
        attributes,
        trace,
        span,
    ] = object("logRecords", json, KEYS)?;
    let mut out = Vec::new();
    let attributes = key_values("attributes", attributes)?;
    write_object(&mut out, &attributes, |out, _, value| value.write(out))?;
    Ok(LogEntry {
        time_ns: unsigned("timeUnixNano", time)?,
        observed_time_ns: unsigned("observedTimeUnixNano", observed_time)?,
        severity_number: u32::try_from(unsigned("severityNumber", severity_number)?)
            .map_err(|_| not_an_integer("severityNumber"))?,
        severity_text: optional_string("severityText", severity_text)?
            .unwrap_or_default()
            .into(),
        body: match body {
            Some(body) => AnyValue::read(body.get())?.text()?.into(),
            None => "".into(),
        },
        attributes: into_string(out).into(),
        resource: resource.attributes.clone(),
        service_name: resource.service_name.clone(),
        trace_id: trace_id("traceId", trace)?,
        span_id: trace_id("spanId", span)?,
        scope_name: scope.name.clone(),
        scope_version: scope.version.clone(),
    })
}

/// A value as OTLP writes it: an object whose one key tells the type.
enum AnyValue<'a> {
    /// No value at all.
    Empty,
    /// The text of a JSON string. Bytes come as one, too.
    String(&'a str),
    /// The text of a number or boolean.
    Scalar(Cow<'a, str>),
    /// An array of such values.
    List(Option<&'a RawValue>),
    /// An array of keys with such values.
    Members(Option<&'a RawValue>),
}

impl<'a> AnyValue<'a> {
    fn read(json: &'a str) -> Result<AnyValue<'a>, LogsError> {
        const KEYS: [&str; 7] = [
            "stringValue",
            "boolValue",
            "intValue",
            "doubleValue",
            "arrayValue",
            "kvlistValue",
            "bytesValue",
        ];
        const WRONG: LogsError = LogsError::Wrong {
            key: "value",
            expected: "a value of OTLP",
        };
        if json == "null" {
            return Ok(AnyValue::Empty);
        }
        let picked = object("value", json, KEYS)?;
        let values =
            |json: &'a RawValue| object("value", json.get(), ["values"]).map(|[values]| values);
        match picked {
            [Some(string), ..] | [.., Some(string)] if string.get().starts_with('"') => {
                Ok(AnyValue::String(string.get()))
            }
            [_, Some(boolean), ..] if matches!(boolean.get(), "true" | "false") => {
                Ok(AnyValue::Scalar(boolean.get().into()))
            }
            [_, _, Some(integer), ..] => {
                let digits = digits(integer).ok_or(WRONG)?;
                match Number::read(&digits) {
                    Some(number @ Number::Integer(_)) => {
                        Ok(AnyValue::Scalar(number.to_string().into()))
                    }
                    _ => Err(WRONG),
                }
            }
            [_, _, _, Some(double), ..] => match double.get() {
                // Not a number, or infinite: such doubles come as words.
                word if word.starts_with('"') => Ok(AnyValue::String(word)),
                number if Number::read(number).is_some() => Ok(AnyValue::Scalar(number.into())),
                _ => Err(WRONG),
            },
            [_, _, _, _, Some(list), ..] => Ok(AnyValue::List(values(list)?)),
            [_, _, _, _, _, Some(members), _] => Ok(AnyValue::Members(values(members)?)),
            [None, None, None, None, None, None, None] => Ok(AnyValue::Empty),
            _ => Err(WRONG),
        }
    }

    /// As plain JSON.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), LogsError> {
        match self {
            AnyValue::Empty => out.extend_from_slice(b"null"),
            AnyValue::String(json) => out.extend_from_slice(json.as_bytes()),
            AnyValue::Scalar(json) => out.extend_from_slice(json.as_bytes()),
            AnyValue::List(values) => {
                out.push(b'[');
                let mut is_first = true;
                each("values", *values, |value| {
                    if !std::mem::take(&mut is_first) {
                        out.push(b',');
                    }
                    AnyValue::read(value)?.write(out)
                })?;
                out.push(b']');
            }
            AnyValue::Members(values) => {
                let members = key_values("values", *values)?;
                write_object(out, &members, |out, _, value| value.write(out))?;
            }
        }
        Ok(())
    }

    /// As text: strings as they are, all else as its JSON.
    fn text(&self) -> Result<Cow<'a, str>, LogsError> {
        match self {
            AnyValue::Empty => Ok(Cow::Borrowed("")),
            AnyValue::String(json) => text::read_string(json)
                .map_err(|text::LoneSurrogate| LogsError::Value(ValueError::LoneSurrogate)),
            other => {
                let mut out = Vec::new();
                other.write(&mut out)?;
                Ok(Cow::Owned(into_string(out)))
            }
        }
    }
}

/// A list of keys with values, by key; of a doubled one the last value counts.
fn key_values<'a>(
    name: &'static str,
    json: Option<&'a RawValue>,
) -> Result<BTreeMap<Cow<'a, str>, AnyValue<'a>>, LogsError> {
    let mut values = BTreeMap::new();
    each(name, json, |pair| {
        let [key, value] = object(name, pair, ["key", "value"])?;
        let key = optional_string("key", key)?.unwrap_or_default();
        let value = value.map_or(Ok(AnyValue::Empty), |value| AnyValue::read(value.get()))?;
        values.insert(key, value);
        Ok(())
    })?;
    Ok(values)
}

fn write_object<'a>(
    out: &mut Vec<u8>,
    values: &BTreeMap<Cow<'a, str>, AnyValue<'a>>,
    mut write: impl FnMut(&mut Vec<u8>, &str, &AnyValue<'a>) -> Result<(), LogsError>,
) -> Result<(), LogsError> {
    out.push(b'{');
    for (at, (key, value)) in values.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text::write_string(out, key);
        out.push(b':');
        write(out, key, value)?;
    }
    out.push(b'}');
    Ok(())
}

/// What was written is made of texts alone.
fn into_string(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_default()
}

/// The id of a trace or span. One of zeros alone stands for none.
fn trace_id(name: &'static str, json: Option<&RawValue>) -> Result<Option<Box<str>>, LogsError> {
    let id = optional_string(name, json)?.unwrap_or_default();
    let is_none = id.bytes().all(|byte| byte == b'0');
    Ok((!is_none).then(|| id.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(content: &[u8]) -> Result<Vec<LogEntry>, LogsError> {
        Frame::read(content)?.collect()
    }

    #[test]
    fn records_of_one_sender_share_what_it_tells_of_itself() {
        let name = "n".repeat(1 << 20);
        let resource = format!(
            r#"{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{name}"}}}}]}}"#
        );
        let records = vec![r#"{"body":{"stringValue":"x"}}"#; 1000].join(",");
        let content = request(&resource, "{}", &records);
        let frame = Frame::read(content.as_bytes()).unwrap();
        assert!(frame.held_bytes() < 2 * content.len());
        let entries: Vec<LogEntry> = frame.map(Result::unwrap).collect();
        assert_eq!(entries.len(), 1000);
        assert!(std::sync::Arc::ptr_eq(
            &entries[0].service_name,
            &entries[999].service_name
        ));
    }

    fn request(resource: &str, scope: &str, records: &str) -> String {
        format!(
            r#"{{"resourceLogs":[{{"resource":{resource},"scopeLogs":[{{"scope":{scope},"logRecords":[{records}]}}]}}]}}"#
        )
    }

    /// The only entry of a request with that one record.
    fn one(record: &str) -> LogEntry {
        let request = request("null", "null", record);
        let mut entries = parse(request.as_bytes()).unwrap();
        assert_eq!(entries.len(), 1, "{record}");
        entries.remove(0)
    }

    fn error(content: &str) -> String {
        parse(content.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn only_frames_that_begin_with_logs_bear_them() {
        assert_eq!(content(b"LOGS{}"), Some(&b"{}"[..]));
        for frame in [&b"OTLP{}"[..], b"MTRC{}", b"LOG", b""] {
            assert_eq!(content(frame), None);
        }
    }

    #[test]
    fn a_record_is_read_with_all_its_fields() {
        let request = request(
            r#"{"attributes":[{"key":"service.name","value":{"stringValue":"mysvc"}},{"key":"n","value":{"intValue":"7"}}]}"#,
            r#"{"name":"lib","version":"1.2"}"#,
            r#"{"timeUnixNano":"1795474671243544423","observedTimeUnixNano":5,"severityNumber":13,"severityText":"Warn","body":{"stringValue":"a \"b\""},"attributes":[{"key":"k","value":{"intValue":"12"}}],"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","flags":1},{}"#,
        );
        let entries = parse(request.as_bytes()).unwrap();
        let wanted = LogEntry {
            time_ns: 1_795_474_671_243_544_423,
            observed_time_ns: 5,
            severity_number: 13,
            severity_text: "Warn".into(),
            body: "a \"b\"".into(),
            attributes: r#"{"k":12}"#.into(),
            resource: r#"{"n":"7","service.name":"mysvc"}"#.into(),
            service_name: "mysvc".into(),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            span_id: Some("b7ad6b7169203331".into()),
            scope_name: Some("lib".into()),
            scope_version: Some("1.2".into()),
        };
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], wanted);
        assert_eq!(entries[1].service_name, wanted.service_name);
        assert_eq!(entries[1].scope_name, wanted.scope_name);
    }

    #[test]
    fn what_is_absent_null_or_empty_is_a_default() {
        let bare = LogEntry {
            time_ns: 0,
            observed_time_ns: 0,
            severity_number: 0,
            severity_text: "".into(),
            body: "".into(),
            attributes: "{}".into(),
            resource: "{}".into(),
            service_name: "unknown".into(),
            trace_id: None,
            span_id: None,
            scope_name: None,
            scope_version: None,
        };
        assert_eq!(one("{}"), bare);
        assert_eq!(
            one(
                r#"{"timeUnixNano":null,"body":null,"attributes":null,"traceId":"","spanId":"0000000000000000","severityText":null}"#
            ),
            bare
        );
        let request = request("{}", r#"{"name":"","version":""}"#, r#"{"body":{}}"#);
        assert_eq!(parse(request.as_bytes()).unwrap(), [bare]);
    }

    #[test]
    fn a_body_is_told_as_text() {
        let rows = [
            (r#"{"stringValue":"x\n"}"#, "x\n"),
            (r#"{"boolValue":true}"#, "true"),
            (r#"{"intValue":"-5"}"#, "-5"),
            (r#"{"intValue":5}"#, "5"),
            (r#"{"intValue":"007"}"#, "7"),
            (r#"{"doubleValue":1.50}"#, "1.50"),
            (r#"{"doubleValue":"NaN"}"#, "NaN"),
            (r#"{"bytesValue":"AA=="}"#, "AA=="),
            (
                r#"{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"},{}]}}"#,
                r#"[1,"a",null]"#,
            ),
            (r#"{"arrayValue":{}}"#, "[]"),
            (
                r#"{"kvlistValue":{"values":[{"key":"b","value":{"boolValue":false}},{"key":"a","value":{"kvlistValue":{"values":[]}}}]}}"#,
                r#"{"a":{},"b":false}"#,
            ),
        ];
        for (body, text) in rows {
            assert_eq!(&*one(&format!(r#"{{"body":{body}}}"#)).body, text, "{body}");
        }
    }

    #[test]
    fn attributes_are_json_and_those_of_the_resource_are_strings() {
        let attributes = r#"[{"key":"s","value":{"stringValue":"\u00e9"}},{"key":"i","value":{"intValue":"7"}},{"key":"d","value":{"doubleValue":0.5}},{"key":"b","value":{"boolValue":true}},{"key":"l","value":{"arrayValue":{"values":[{"intValue":1}]}}},{"key":"n"},{"key":"i","value":{"intValue":8}}]"#;
        let entry = one(&format!(r#"{{"attributes":{attributes}}}"#));
        assert_eq!(
            &*entry.attributes,
            r#"{"b":true,"d":0.5,"i":8,"l":[1],"n":null,"s":"\u00e9"}"#
        );
        let request = request(&format!(r#"{{"attributes":{attributes}}}"#), "{}", "{}");
        let entries = parse(request.as_bytes()).unwrap();
        assert_eq!(
            &*entries[0].resource,
            r#"{"b":"true","d":"0.5","i":"8","l":"[1]","n":"","s":"é"}"#
        );
    }

    #[test]
    fn empty_requests_have_no_entries() {
        for content in [
            "{}",
            r#"{"resourceLogs":null}"#,
            r#"{"resourceLogs":[{}]}"#,
            r#"{"resourceLogs":[{"scopeLogs":[{}]}]}"#,
        ] {
            assert_eq!(parse(content.as_bytes()), Ok(vec![]), "{content}");
        }
    }

    #[test]
    fn wrong_content_is_an_error_of_the_whole_frame() {
        assert_eq!(parse(b"\xff"), Err(LogsError::NotUtf8));
        assert_eq!(error(""), "not JSON");
        assert_eq!(error("[]"), "`the request` is not an object");
        assert_eq!(
            error(r#"{"resourceLogs":{}}"#),
            "`resourceLogs` is not an array"
        );
        let deep = r#"{"arrayValue":{"values":["#.repeat(200);
        let records = [
            "5",
            r#"{},{"timeUnixNano":"x"}"#,
            r#"{"timeUnixNano":-1}"#,
            r#"{"timeUnixNano":1.5}"#,
            r#"{"timeUnixNano":""}"#,
            r#"{"severityNumber":4294967296}"#,
            r#"{"severityText":5}"#,
            r#"{"traceId":5}"#,
            r#"{"body":5}"#,
            r#"{"body":{"stringValue":5}}"#,
            r#"{"body":{"boolValue":1}}"#,
            r#"{"body":{"intValue":"1.5"}}"#,
            r#"{"body":{"intValue":"1 ,2"}}"#,
            r#"{"body":{"intValue":[]}}"#,
            r#"{"body":{"doubleValue":{}}}"#,
            r#"{"body":{"arrayValue":[]}}"#,
            r#"{"body":{"stringValue":"\ud800"}}"#,
            r#"{"body":{"doubleValue":1e999}}"#,
            r#"{"attributes":{}}"#,
            r#"{"attributes":[{"key":5}]}"#,
        ];
        for record in records {
            let request = request("{}", "{}", record);
            assert!(parse(request.as_bytes()).is_err(), "{record}");
        }
        let deep = format!(r#"{{"body":{deep}{}}}"#, "]}}".repeat(200));
        let request = request("{}", "{}", &deep);
        assert!(matches!(
            parse(request.as_bytes()),
            Err(LogsError::Value(ValueError::TooDeep { .. }))
        ));
    }
}
