//! Log entries: where they come from, and how `log` triggers are told of them.
//!
//! They come from calls of `engine::log::…` and from telemetry ([`otlp`]). May not keep them, nor know
//! who hears of them.

pub mod otlp;

use serde_json::value::RawValue;

use super::call::ErrorBody;
use super::function::refused;
use super::json::{phrase, text};
use crate::id::Text;

/// What the ids of the logging functions begin with.
const FUNCTION_PREFIX: &str = "engine::log::";
/// The service of entries that name none.
const SERVICE_UNKNOWN: &str = "unknown";
/// Who is said to have written what came by a call.
const SCOPE_NAME: &str = "iii";
/// Where such an entry is said to come from.
const RESOURCE: &str = r#"{"service.name":"iii"}"#;

/// How severe an entry is: one of the functions `engine::log::…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Finer than debugging.
    Trace,
    /// For developers.
    Debug,
    /// For the record.
    Info,
    /// To be looked at.
    Warn,
    /// Something failed.
    Error,
}

impl Severity {
    /// Finds the severity that a function logs with.
    pub fn from_function_id(id: &str) -> Option<Severity> {
        match id.strip_prefix(FUNCTION_PREFIX)? {
            "trace" => Some(Severity::Trace),
            "debug" => Some(Severity::Debug),
            "info" => Some(Severity::Info),
            "warn" => Some(Severity::Warn),
            "error" => Some(Severity::Error),
            _ => None,
        }
    }

    /// The function that logs with it.
    pub fn function_id(self) -> &'static str {
        match self {
            Severity::Trace => "engine::log::trace",
            Severity::Debug => "engine::log::debug",
            Severity::Info => "engine::log::info",
            Severity::Warn => "engine::log::warn",
            Severity::Error => "engine::log::error",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Severity::Trace => "TRACE",
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
        }
    }

    fn number(self) -> u32 {
        match self {
            Severity::Trace => 1,
            Severity::Debug => 5,
            Severity::Info => 9,
            Severity::Warn => 13,
            Severity::Error => 17,
        }
    }
}

/// Something that was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When it happened, in nanoseconds since 1970.
    pub time_ns: u64,
    /// When it was seen, likewise.
    pub observed_time_ns: u64,
    /// As OpenTelemetry counts; 0: not told.
    pub severity_number: u32,
    /// As sent; triggers compare it in lower case.
    pub severity_text: Box<str>,
    /// The message.
    pub body: Box<str>,
    /// A JSON object.
    pub attributes: Box<str>,
    /// A JSON object of strings, the same for all that one sender sends together.
    pub resource: Text,
    /// Who logs: the same text for all that one sender sends together, and so the library.
    pub service_name: Text,
    /// The trace that it belongs to.
    pub trace_id: Option<Box<str>>,
    /// The span in it.
    pub span_id: Option<Box<str>>,
    /// The library that wrote it.
    pub scope_name: Option<Text>,
    /// The library's version.
    pub scope_version: Option<Text>,
}

impl LogEntry {
    /// Reads the input of one of the logging functions. `data` is one JSON text by its grammar; what
    /// values may hold is for the caller to check.
    ///
    /// Err: what the caller is to be told.
    pub fn from_call(
        severity: Severity,
        data: &str,
        now_ns: u64,
        engine_version: &str,
    ) -> Result<LogEntry, ErrorBody> {
        let input = Input::read(data).map_err(|phrase| refused(severity.function_id(), &phrase))?;
        Ok(LogEntry {
            time_ns: now_ns,
            observed_time_ns: now_ns,
            severity_number: severity.number(),
            severity_text: severity.text().into(),
            body: input.message,
            attributes: input.attributes.into(),
            resource: RESOURCE.into(),
            service_name: input
                .service_name
                .map_or_else(|| SERVICE_UNKNOWN.into(), Text::from),
            trace_id: input.trace_id,
            span_id: input.span_id,
            scope_name: Some(SCOPE_NAME.into()),
            scope_version: Some(engine_version.into()),
        })
    }

    /// Appends the payload of `log` triggers: all twelve keys, sorted.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, r#"{"attributes":"#);
        push(out, &self.attributes);
        push(out, r#","body":"#);
        text::write_string(out, &self.body);
        push(out, r#","instrumentation_scope_name":"#);
        write_optional(out, self.scope_name.as_deref());
        push(out, r#","instrumentation_scope_version":"#);
        write_optional(out, self.scope_version.as_deref());
        push(out, r#","observed_timestamp_unix_nano":"#);
        push(out, &self.observed_time_ns.to_string());
        push(out, r#","resource":"#);
        push(out, &self.resource);
        push(out, r#","service_name":"#);
        text::write_string(out, &self.service_name);
        push(out, r#","severity_number":"#);
        push(out, &self.severity_number.to_string());
        push(out, r#","severity_text":"#);
        text::write_string(out, &self.severity_text);
        push(out, r#","span_id":"#);
        write_optional(out, self.span_id.as_deref());
        push(out, r#","timestamp_unix_nano":"#);
        push(out, &self.time_ns.to_string());
        push(out, r#","trace_id":"#);
        write_optional(out, self.trace_id.as_deref());
        out.push(b'}');
    }
}

/// What a logging function is told.
struct Input<'a> {
    message: Box<str>,
    attributes: &'a str,
    service_name: Option<Box<str>>,
    trace_id: Option<Box<str>>,
    span_id: Option<Box<str>>,
}

impl<'a> Input<'a> {
    /// Wrong members are told in the order of their keys, and before a missing one.
    fn read(data: &'a str) -> Result<Input<'a>, String> {
        const KEYS: [&str; 5] = ["data", "message", "service_name", "span_id", "trace_id"];
        let [data, message, service_name, span_id, trace_id] =
            phrase::members(data, "OtelLogInput", KEYS)?;
        let optional = |json: Option<&'a RawValue>| -> Result<Option<Box<str>>, String> {
            Ok(phrase::optional_string(json)?.map(Box::from))
        };
        let message = match message {
            Some(json) => Some(phrase::read_string(json.get())?),
            None => None,
        };
        let (service_name, span_id) = (optional(service_name)?, optional(span_id)?);
        let trace_id = optional(trace_id)?;
        Ok(Input {
            message: message.ok_or_else(|| phrase::missing("message"))?.into(),
            attributes: data
                .map(RawValue::get)
                .filter(|json| json.starts_with('{'))
                .unwrap_or("{}"),
            service_name,
            trace_id,
            span_id,
        })
    }
}

fn push(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(s.as_bytes());
}

fn write_optional(out: &mut Vec<u8>, s: Option<&str>) {
    match s {
        Some(s) => text::write_string(out, s),
        None => push(out, "null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: u64 = 1_795_474_671_243_544_423;
    const VERSION: &str = "0.11.6-next.3";

    fn payload(severity: Severity, data: &str) -> String {
        let entry = LogEntry::from_call(severity, data, NOW_NS, VERSION).unwrap();
        let mut out = Vec::new();
        entry.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn refusal(data: &str) -> String {
        let error = LogEntry::from_call(Severity::Info, data, 0, "").unwrap_err();
        assert_eq!(error.code, "deserialization_error");
        let head = "Failed to deserialize input for engine::log::info: ";
        error.message.strip_prefix(head).unwrap().to_owned()
    }

    #[test]
    fn a_logging_call_becomes_the_payload_of_the_reference() {
        let data = r#"{"message":"hello","data":{"k":1},"service_name":"svc","trace_id":"t","span_id":"s"}"#;
        assert_eq!(
            payload(Severity::Info, data),
            r#"{"attributes":{"k":1},"body":"hello","instrumentation_scope_name":"iii","instrumentation_scope_version":"0.11.6-next.3","observed_timestamp_unix_nano":1795474671243544423,"resource":{"service.name":"iii"},"service_name":"svc","severity_number":9,"severity_text":"INFO","span_id":"s","timestamp_unix_nano":1795474671243544423,"trace_id":"t"}"#
        );
    }

    #[test]
    fn what_a_logging_call_leaves_out_is_null_or_a_default() {
        let wanted = r#"{"attributes":{},"body":"m","instrumentation_scope_name":"iii","instrumentation_scope_version":"0.11.6-next.3","observed_timestamp_unix_nano":1795474671243544423,"resource":{"service.name":"iii"},"service_name":"unknown","severity_number":17,"severity_text":"ERROR","span_id":null,"timestamp_unix_nano":1795474671243544423,"trace_id":null}"#;
        for data in [
            r#"{"message":"m"}"#,
            r#"{"message":"m","data":null,"service_name":null,"trace_id":null,"span_id":null}"#,
            r#"{"message":5,"message":"m","data":[1],"_caller_worker_id":"w"}"#,
            r#"{"message":"m","data":"text"}"#,
        ] {
            assert_eq!(payload(Severity::Error, data), wanted, "{data}");
        }
    }

    #[test]
    fn severities_have_functions_texts_and_numbers() {
        let rows = [
            (Severity::Trace, "trace", "TRACE", 1),
            (Severity::Debug, "debug", "DEBUG", 5),
            (Severity::Info, "info", "INFO", 9),
            (Severity::Warn, "warn", "WARN", 13),
            (Severity::Error, "error", "ERROR", 17),
        ];
        for (severity, word, text, number) in rows {
            let id = format!("engine::log::{word}");
            assert_eq!(severity.function_id(), id);
            assert_eq!(Severity::from_function_id(&id), Some(severity));
            assert_eq!((severity.text(), severity.number()), (text, number));
        }
        for id in ["engine::log::INFO", "engine::log::", "log::info"] {
            assert_eq!(Severity::from_function_id(id), None);
        }
    }

    #[test]
    fn a_logging_call_of_the_wrong_shape_is_told_so() {
        let rows = [
            ("{}", "missing field `message`"),
            (
                r#"{"message":null}"#,
                "invalid type: null, expected a string",
            ),
            (
                r#"{"service_name":5}"#,
                "invalid type: integer `5`, expected a string",
            ),
            (
                r#"{"trace_id":true,"span_id":1.5,"message":"m"}"#,
                "invalid type: floating point `1.5`, expected a string",
            ),
            ("null", "invalid type: null, expected struct OtelLogInput"),
            (
                r#"["m"]"#,
                "invalid type: sequence, expected struct OtelLogInput",
            ),
        ];
        for (data, phrase) in rows {
            assert_eq!(refusal(data), phrase, "{data}");
        }
    }
}
