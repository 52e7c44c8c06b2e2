//! What the engine's own functions tell: SDK workers, triggers, trigger types, health. From plain
//! rows to JSON texts, their keys sorted. What these functions are asked stands in [`inputs`].
//!
//! May not know the tables that the rows come from.

pub mod bindings;
pub mod inputs;

use serde_json::value::RawValue;

use super::json::{raw, text};

/// Ids that listings show only to those who ask for them.
const INTERNAL_PREFIX: &str = "engine::";

/// The trigger types that are built in, one entry each as listings give it, by id.
const TRIGGER_TYPES: &str = include_str!("trigger_types.json");

/// The parts of an engine that we have no counterpart of.
const COMPONENTS_DISABLED: [&str; 4] = ["logs", "metrics", "otel", "spans"];

/// One worker, as `engine::workers::list` tells of it.
#[derive(Debug, Clone)]
pub struct WorkerRow<'a> {
    /// Its id.
    pub id: &'a str,
    /// As it calls itself.
    pub name: Option<&'a str>,
    /// How many functions it has.
    pub function_count: usize,
    /// Their ids, sorted, as a JSON array.
    pub functions: &'a str,
    /// Calls in which it is caller or callee.
    pub active_invocations: usize,
    /// Since when it is there, in milliseconds since 1970.
    pub connected_at_ms: u64,
    /// It is a part of the server itself.
    pub is_built_in: bool,
    /// It is of no interest to people.
    pub is_internal: bool,
    /// Where it connects from.
    pub ip_address: Option<&'a str>,
    /// How it is kept apart from others.
    pub isolation: Option<&'a str>,
    /// The system that it runs on.
    pub os: Option<&'a str>,
    /// Its process.
    pub pid: Option<u32>,
    /// What it is written in.
    pub runtime: &'a str,
    /// Its version, or that of its SDK.
    pub version: Option<&'a str>,
}

impl<'a> WorkerRow<'a> {
    /// A part of this server.
    pub fn built_in(
        name: &'a str,
        is_internal: bool,
        (function_count, functions): (usize, &'a str),
        connected_at_ms: u64,
        version: &'a str,
    ) -> WorkerRow<'a> {
        WorkerRow {
            id: name,
            name: Some(name),
            function_count,
            functions,
            active_invocations: 0,
            connected_at_ms,
            is_built_in: true,
            is_internal,
            ip_address: None,
            isolation: Some("in-process"),
            os: None,
            pid: None,
            runtime: "engine",
            version: Some(version),
        }
    }

    /// SDK workers that never described themselves are left out, but when asked for by id.
    pub fn is_listed(&self, worker_id: Option<&str>) -> bool {
        match worker_id {
            Some(worker_id) => self.id == worker_id,
            None => self.is_built_in || self.pid.is_some(),
        }
    }

    /// Appends it as one element of the list.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(
            out,
            &format!(
                r#"{{"active_invocations":{},"connected_at_ms":{},"function_count":{},"functions":"#,
                self.active_invocations, self.connected_at_ms, self.function_count
            ),
        );
        push(out, self.functions);
        push(out, r#","id":"#);
        text::write_string(out, self.id);
        push(out, &format!(r#","internal":{}"#, self.is_internal));
        write_optional(out, "ip_address", self.ip_address);
        if self.isolation.is_some() {
            write_optional(out, "isolation", self.isolation);
        }
        push(out, r#","latest_metrics":null"#);
        write_optional(out, "name", self.name);
        write_optional(out, "os", self.os);
        if let Some(pid) = self.pid {
            push(out, &format!(r#","pid":{pid}"#));
        }
        write_optional(out, "runtime", Some(self.runtime));
        let status = match self.is_built_in {
            true => "available",
            false => "connected",
        };
        write_optional(out, "status", Some(status));
        write_optional(out, "version", self.version);
        out.push(b'}');
    }
}

/// What begins the result of `engine::workers::list`; [`END`] ends it. Rows stand by name and id.
pub fn workers_begin(now_ms: u64) -> String {
    format!(r#"{{"timestamp":{now_ms},"workers":["#)
}

/// What begins the result of `engine::triggers::list`. Rows stand by id.
pub const TRIGGERS_BEGIN: &str = r#"{"triggers":["#;
/// The same of `engine::registered-triggers::list`.
pub const REGISTERED_TRIGGERS_BEGIN: &str = r#"{"registered_triggers":["#;
/// What begins the result of `engine::trigger-types::list`. Rows stand by id.
pub const TRIGGER_TYPES_BEGIN: &str = r#"{"trigger_types":["#;
/// What ends every list.
pub const END: &str = "]}";

/// One trigger, as `engine::triggers::list` tells of it. JSON values stand as their texts.
#[derive(Debug, Clone, Copy)]
pub struct TriggerRow<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its type.
    pub trigger_type: &'a str,
    /// What it calls.
    pub function_id: &'a str,
    /// What it was registered with.
    pub config: Option<&'a str>,
    /// Likewise.
    pub metadata: Option<&'a str>,
}

impl TriggerRow<'_> {
    /// Whether it is shown only to those who ask for such.
    pub fn is_internal(&self) -> bool {
        is_internal(self.function_id)
    }

    /// Appends it as one element of the list.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, r#"{"config":"#);
        push(out, self.config.unwrap_or("null"));
        write_optional(out, "function_id", Some(self.function_id));
        write_optional(out, "id", Some(self.id));
        if let Some(metadata) = self.metadata {
            push(out, r#","metadata":"#);
            push(out, metadata);
        }
        write_optional(out, "trigger_type", Some(self.trigger_type));
        out.push(b'}');
    }
}

/// One trigger type, as `engine::trigger-types::list` tells of it. Formats stand as JSON texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerTypeRow<'a> {
    /// Its id.
    pub id: &'a str,
    /// For people.
    pub description: &'a str,
    /// Schema of a trigger's `config`.
    pub trigger_request_format: Option<&'a str>,
    /// Schema of what triggered functions get.
    pub call_request_format: Option<&'a str>,
}

/// The types that are built in, by id.
pub fn built_in_trigger_types() -> Vec<TriggerTypeRow<'static>> {
    let mut rows = Vec::new();
    let listed = raw::elements(TRIGGER_TYPES, |entry| {
        rows.extend(trigger_type_row(entry.get()));
        true
    });
    debug_assert!(listed.is_ok(), "the file is an array");
    rows
}

fn trigger_type_row(entry: &str) -> Option<TriggerTypeRow<'_>> {
    const KEYS: [&str; 4] = [
        "id",
        "description",
        "trigger_request_format",
        "call_request_format",
    ];
    let [id, description, trigger_request_format, call_request_format] =
        raw::pick(entry, KEYS).ok()?;
    Some(TriggerTypeRow {
        id: plain_string(id?)?,
        description: plain_string(description?)?,
        trigger_request_format: trigger_request_format.map(RawValue::get),
        call_request_format: call_request_format.map(RawValue::get),
    })
}

/// A string without escapes, as all of the file are.
fn plain_string(json: &RawValue) -> Option<&str> {
    json.get().strip_prefix('"')?.strip_suffix('"')
}

impl TriggerTypeRow<'_> {
    /// Whether it is shown only to those who ask for such.
    pub fn is_internal(&self) -> bool {
        is_internal(self.id)
    }

    /// Appends it as one element of the list.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(format) = self.call_request_format {
            push(out, r#""call_request_format":"#);
            push(out, format);
            out.push(b',');
        }
        push(out, r#""description":"#);
        text::write_string(out, self.description);
        write_optional(out, "id", Some(self.id));
        if let Some(format) = self.trigger_request_format {
            push(out, r#","trigger_request_format":"#);
            push(out, format);
        }
        out.push(b'}');
    }
}

/// The result of `engine::health::check`. Degraded: the store refuses writes.
pub fn health(is_degraded: bool, now_ms: u64, version: &str) -> String {
    let status = match is_degraded {
        true => "degraded",
        false => "healthy",
    };
    let mut out = br#"{"components":{"#.to_vec();
    for component in COMPONENTS_DISABLED {
        push(
            &mut out,
            &format!(r#""{component}":{{"details":null,"status":"disabled"}},"#),
        );
    }
    push(
        &mut out,
        &format!(
            r#""stream":{{"details":null,"status":"{status}"}}}},"status":"{status}","timestamp":{now_ms}"#
        ),
    );
    write_optional(&mut out, "version", Some(version));
    out.push(b'}');
    into_string(out)
}

/// Whether listings show it only to those who ask.
fn is_internal(id: &str) -> bool {
    id.starts_with(INTERNAL_PREFIX)
}

/// Appends a member behind others: a string, or `null` if there is none.
fn write_optional(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    out.push(b',');
    text::write_string(out, key);
    out.push(b':');
    match value {
        Some(value) => text::write_string(out, value),
        None => push(out, "null"),
    }
}

fn push(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(s.as_bytes());
}

/// What was written is made of texts alone.
fn into_string(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::trigger::TriggerType;

    fn sdk_worker<'a>(id: &'a str, name: Option<&'a str>, pid: Option<u32>) -> WorkerRow<'a> {
        WorkerRow {
            id,
            name,
            function_count: 0,
            functions: "[]",
            active_invocations: 1,
            connected_at_ms: 1_795_474_332_201,
            is_built_in: false,
            is_internal: false,
            ip_address: Some("127.0.0.1"),
            isolation: None,
            os: Some("linux"),
            pid,
            runtime: "node",
            version: None,
        }
    }

    fn written(begin: &str, rows: impl IntoIterator<Item = Vec<u8>>) -> String {
        let rows: Vec<Vec<u8>> = rows.into_iter().collect();
        let rows = String::from_utf8(rows.join(&b',')).unwrap();
        format!("{begin}{rows}{END}")
    }

    fn row(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn workers_are_told_as_the_reference_tells_them() {
        let functions = (2, r#"["stream::delete","stream::get"]"#);
        let rows = [
            sdk_worker("86d2b92a", Some("host:1"), Some(77)),
            WorkerRow::built_in("iii-stream", false, functions, 1_795_475_218_513, "0.1.0"),
        ];
        let rows = rows.iter().map(|it| row(|out| it.write(out)));
        assert_eq!(
            written(&workers_begin(1_795_474_335_521), rows),
            concat!(
                r#"{"timestamp":1795474335521,"workers":["#,
                r#"{"active_invocations":1,"connected_at_ms":1795474332201,"function_count":0,"functions":[],"id":"86d2b92a","internal":false,"ip_address":"127.0.0.1","latest_metrics":null,"name":"host:1","os":"linux","pid":77,"runtime":"node","status":"connected","version":null},"#,
                r#"{"active_invocations":0,"connected_at_ms":1795475218513,"function_count":2,"functions":["stream::delete","stream::get"],"id":"iii-stream","internal":false,"ip_address":null,"isolation":"in-process","latest_metrics":null,"name":"iii-stream","os":null,"runtime":"engine","status":"available","version":"0.1.0"}]}"#
            )
        );
    }

    #[test]
    fn workers_without_a_pid_are_told_only_by_id() {
        let hidden = sdk_worker("x", Some("hidden"), None);
        let shown = sdk_worker("c", Some("z"), Some(1));
        let ours = WorkerRow::built_in("iii-pubsub", true, (0, "[]"), 0, "v");
        assert!(shown.is_listed(None) && ours.is_listed(None) && !hidden.is_listed(None));
        assert!(hidden.is_listed(Some("x")) && !shown.is_listed(Some("x")));
        let ours = String::from_utf8(row(|out| ours.write(out))).unwrap();
        assert!(ours.contains(r#""id":"iii-pubsub","internal":true"#));
    }

    #[test]
    fn triggers_are_told_with_the_texts_they_came_with() {
        let trigger = |id, function_id, config, metadata| TriggerRow {
            id,
            trigger_type: "stream",
            function_id,
            config,
            metadata,
        };
        let rows = [
            trigger(
                "t1",
                "my::fn",
                Some(r#"{"stream_name":"zz","n":1.0}"#),
                Some(r#"{"m":1}"#),
            ),
            trigger("t2", "f\"", None, None),
        ];
        assert_eq!(
            written(
                TRIGGERS_BEGIN,
                rows.iter().map(|it| row(|out| it.write(out)))
            ),
            r#"{"triggers":[{"config":{"stream_name":"zz","n":1.0},"function_id":"my::fn","id":"t1","metadata":{"m":1},"trigger_type":"stream"},{"config":null,"function_id":"f\"","id":"t2","trigger_type":"stream"}]}"#
        );
        assert!(!rows[0].is_internal());
        assert!(trigger("t3", "engine::x", Some("{}"), None).is_internal());
    }

    #[test]
    fn every_built_in_trigger_type_is_described() {
        let rows = built_in_trigger_types();
        for kind in TriggerType::ALL {
            assert!(rows.iter().any(|row| row.id == kind.id()), "{kind:?}");
        }
        let descriptions: Vec<_> = rows.iter().map(|row| (row.id, row.description)).collect();
        assert_eq!(
            descriptions,
            [
                (
                    "engine::functions-available",
                    "Triggered when functions are registered/unregistered"
                ),
                (
                    "engine::workers-available",
                    "Triggered when workers connect/disconnect"
                ),
                ("log", "Log event trigger"),
                ("stream", "Stream trigger"),
                ("stream:join", "Stream join trigger"),
                ("stream:leave", "Stream leave trigger"),
                ("subscribe", "Subscribe to a topic"),
            ]
        );
        let list = written(
            TRIGGER_TYPES_BEGIN,
            rows.iter().map(|it| row(|out| it.write(out))),
        );
        let listed: serde_json::Value = serde_json::from_str(&list).unwrap();
        let file: serde_json::Value = serde_json::from_str(TRIGGER_TYPES).unwrap();
        assert_eq!(listed["trigger_types"], file);
        // A tree with sorted keys writes the file's own text: it is sorted at every level.
        let entries: Vec<String> = file
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e.to_string())
            .collect();
        assert_eq!(TRIGGER_TYPES, format!("[\n{}\n]\n", entries.join(",\n")));
        let shown = rows.iter().filter(|row| !row.is_internal());
        let shown: Vec<&str> = shown.map(|row| row.id).collect();
        let wanted = ["log", "stream", "stream:join", "stream:leave", "subscribe"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn formats_that_a_type_lacks_are_left_out() {
        let of_type = |id, call_request_format, trigger_request_format| TriggerTypeRow {
            id,
            description: "d\"",
            trigger_request_format,
            call_request_format,
        };
        let rows = [
            of_type("a", None, None),
            of_type("b", None, Some("[1]")),
            of_type("c", Some("{\"a\":1}"), Some("true")),
        ];
        assert_eq!(
            written(
                TRIGGER_TYPES_BEGIN,
                rows.iter().map(|it| row(|out| it.write(out)))
            ),
            r#"{"trigger_types":[{"description":"d\"","id":"a"},{"description":"d\"","id":"b","trigger_request_format":[1]},{"call_request_format":{"a":1},"description":"d\"","id":"c","trigger_request_format":true}]}"#
        );
    }

    #[test]
    fn health_follows_the_store() {
        assert_eq!(
            health(false, 5, "0.1.0"),
            r#"{"components":{"logs":{"details":null,"status":"disabled"},"metrics":{"details":null,"status":"disabled"},"otel":{"details":null,"status":"disabled"},"spans":{"details":null,"status":"disabled"},"stream":{"details":null,"status":"healthy"}},"status":"healthy","timestamp":5,"version":"0.1.0"}"#
        );
        let degraded = health(true, 5, "0.1.0");
        assert!(
            degraded
                .contains(r#""stream":{"details":null,"status":"degraded"}},"status":"degraded""#)
        );
    }
}
