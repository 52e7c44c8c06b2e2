//! What holds of single streams: a list whose first entry that names a stream counts.

use std::ops::RangeInclusive;

use serde_json::{Value as Json, json};

use crate::protocol::members::{IdPath, Keys};
use crate::protocol::pace::Pace;
use crate::protocol::streams::{MembersRule, StreamPattern, StreamRule, StreamRules};
use crate::protocol::ttl::Ttl;

use super::quantity::{UNITS_TIME, quantity};
use super::report::Report;
use super::section::Section;
use super::words::mismatch;
use super::yaml::{Node, Value};

const GRACES_MS: RangeInclusive<u64> = 0..=24 * 60 * 60 * 1000;
const TTL_MS: RangeInclusive<u64> = 0..=Ttl::MS_MAX;
const PACE_MS: RangeInclusive<u64> = 0..=Pace::MS_MAX;

/// The entries under `streams`.
pub(super) fn read(server: &mut Section<'_, '_>) -> StreamRules {
    let expected = "a list of mappings, as [{stream: chat, ttl_ms: 1h}]";
    let mut earlier: Vec<(StreamPattern, usize)> = Vec::new();
    let entries = server.items("streams", expected, |report, path, node| {
        let rule = entry(report, path.clone(), node)?;
        let covers = |(pattern, _): &&(StreamPattern, usize)| pattern.covers(&rule.streams);
        if let Some((pattern, line)) = earlier.iter().find(covers) {
            let what = format!(
                "{} never counts, for {pattern} in line {line} comes before it",
                rule.streams
            );
            report.fault(node.span.start, &path, what);
            return None;
        }
        earlier.push((rule.streams.clone(), report.line_of(node.span.start)));
        Some(rule)
    });
    let rules = entries.unwrap_or_default();
    server.show("streams", rules.iter().map(shown).collect());
    StreamRules::new(rules)
}

/// None: it is at fault, and the report says so.
fn entry(report: &mut Report, path: String, node: &Node) -> Option<StreamRule> {
    if !matches!(node.value, Value::Mapping(_)) {
        let what = mismatch(node, "a mapping, as {stream: chat, ttl_ms: 1h}");
        report.fault(node.span.start, &path, what);
        return None;
    }
    let faults = report.faults.len();
    let mut keys = Section::new(report, path, "iii-stream.server.streams".into(), Some(node));
    keys.refuse_doubled();
    let (mut streams, mut ttl, mut pace, mut members) = (None, Ttl::NEVER, Pace::NONE, None);
    keys.unused(|keys| {
        streams = keys.value("stream", None, |node| pattern(node).map(Some));
        let expected = format!("milliseconds from 0 to {}, as 60000 or 1min", Ttl::MS_MAX);
        let ms = keys.value("ttl_ms", 0, |node| {
            quantity(node, &UNITS_TIME, &TTL_MS, &expected)
        });
        ttl = ms.and_then(Ttl::of_ms).unwrap_or(ttl);
        let expected = format!("milliseconds from 0 to {}, as 50 or 1s", Pace::MS_MAX);
        let ms = keys.value("pace_ms", 0, |node| {
            quantity(node, &UNITS_TIME, &PACE_MS, &expected)
        });
        pace = ms.and_then(Pace::of_ms).unwrap_or(pace);
        if keys.node("members").is_some() {
            members = self::members(keys.section("members"));
        }
    });
    if streams == Some(None) {
        keys.fault_missing(
            "has no stream, expected the name of a stream, or the beginning of some with a *",
        );
    }
    keys.done();
    let streams = streams
        .flatten()
        .filter(|_| report.faults.len() == faults)?;
    Some(StreamRule {
        streams,
        ttl,
        pace,
        members,
    })
}

/// None: at fault, or no members.
fn members(mut keys: Section<'_, '_>) -> Option<MembersRule> {
    keys.refuse_doubled();
    let expected = "context.<path>, query.<name> or header.<name>";
    let id = keys.value("id", None, |node| {
        let path = text(node).and_then(IdPath::read);
        path.map(Some).ok_or_else(|| mismatch(node, expected))
    });
    let data = keys.value("data", None, |node| {
        let keys = text(node).and_then(|text| match text.strip_prefix("context.") {
            Some(path) => Keys::read(path),
            None => (text == "context").then(Keys::none),
        });
        let keys = keys.map(Some);
        keys.ok_or_else(|| mismatch(node, "context or context.<path>"))
    });
    let (mut grace_ms, mut restart_grace_ms) =
        (MembersRule::GRACE_MS, MembersRule::RESTART_GRACE_MS);
    keys.time_ms("grace_ms", &mut grace_ms, GRACES_MS);
    keys.time_ms("restart_grace_ms", &mut restart_grace_ms, GRACES_MS);
    if id == Some(None) {
        keys.fault_missing(&format!("has no id, expected {expected}"));
    }
    keys.done();
    Some(MembersRule {
        id: id??,
        data: data?,
        grace_ms,
        restart_grace_ms,
    })
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn pattern(node: &Node) -> Result<StreamPattern, String> {
    let expected = "the name of a stream, or the beginning of some with a * behind it";
    match &node.value {
        Value::Text(text) => StreamPattern::read(text).ok_or_else(|| mismatch(node, expected)),
        _ => Err(mismatch(node, expected)),
    }
}

fn shown(rule: &StreamRule) -> Json {
    let mut shown = json!({
        "stream": rule.streams.to_string(),
        "ttl_ms": rule.ttl.ms().unwrap_or(0),
        "pace_ms": rule.pace.ms(),
    });
    if let Some(members) = &rule.members {
        let data = members.data.as_ref().map(|keys| keys.behind("context"));
        shown["members"] = json!({
            "id": members.id.to_string(),
            "data": data,
            "grace_ms": members.grace_ms,
            "restart_grace_ms": members.restart_grace_ms,
        });
    }
    shown
}
