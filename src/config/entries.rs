//! The entries of `workers` or `modules`: which of them are ours, and what stands beside their names.
//!
//! May not know what any key of ours means.

use super::address::shown;
use super::report::{Place, Report};
use super::section::Section;
use super::words::{mismatch, nearest};
use super::yaml::{Node, Value};

pub(super) const STREAM: &str = "iii-stream";
pub(super) const MANAGER: &str = "iii-worker-manager";
/// Read for its `level` and `format` by a later version; nobody misses it when it is passed over.
const OBSERVABILITY: &str = "iii-observability";

/// A name of version 0.10 and what took its place.
const NAMES_OLD: [(&str, &str); 5] = [
    ("modules::stream::StreamModule", STREAM),
    ("modules::worker::WorkerModule", MANAGER),
    ("modules::stream::adapters::KvStore", "kv"),
    ("modules::stream::adapters::RedisAdapter", "redis"),
    ("modules::stream::adapters::Bridge", "bridge"),
];

/// One element of `workers` or `modules` that has a name.
pub(super) struct Entry<'t> {
    /// `workers[1]`.
    path: String,
    /// As written, with what may follow a `#`.
    pub(super) name: String,
    name_at: usize,
    node: &'t Node,
}

impl Entry<'_> {
    pub(super) fn is(&self, worker: &str) -> bool {
        self.name.split('#').next() == Some(worker)
    }

    /// Where it stands.
    pub(super) fn place(&self, report: &Report) -> Place {
        report.place_of(self.name_at)
    }

    /// A fault of the entry as such.
    pub(super) fn fault_name(&self, report: &mut Report, what: &str) {
        report.fault(self.name_at, &format!("{}.name", self.path), what);
    }
}

/// The elements of both lists, `workers` first.
pub(super) fn entries<'t>(report: &mut Report, tree: &'t Node) -> Vec<Entry<'t>> {
    let pairs = match &tree.value {
        Value::Null => return Vec::new(),
        Value::Mapping(pairs) => pairs,
        _ => {
            report.fault(
                tree.span.start,
                "",
                format_args!("{tree}, expected a mapping with workers"),
            );
            return Vec::new();
        }
    };
    for (key, value) in pairs {
        match (key.text.as_str(), &value.value) {
            ("port", _) => {
                let (file, line) = (&report.file, report.line_of(key.at));
                report.warnings.push(format!(
                    "{file}:{line}: port at the top level passed over: SDK workers connect on {MANAGER}.config.port"
                ));
                continue;
            }
            // Newer engines wait so long for a worker of another namespace; nobody waits here.
            ("registration_namespace_grace_ms", Value::Integer(0..) | Value::Null) => continue,
            ("registration_namespace_grace_ms", _) => {
                let what = mismatch(value, "an integer of milliseconds");
                report.fault(value.span.start, &key.text, what);
                continue;
            }
            _ => {}
        }
        if !matches!(key.text.as_str(), "workers" | "modules") {
            let suggestion = nearest(&key.text, &["workers", "modules"]);
            let suggestion = suggestion
                .map(|known| format!("; did you mean {known}?"))
                .unwrap_or_default();
            let what = "unknown key at the top level, expected workers (a worker's settings belong under workers[].config)";
            report.fault(
                key.at,
                &shown(&key.text),
                format_args!("{what}{suggestion}"),
            );
        }
    }
    let mut top = Section::new(report, String::new(), String::new(), Some(tree));
    top.refuse_doubled();

    let mut entries = Vec::new();
    for list in ["workers", "modules"] {
        match top.node(list).map(|node| (node, &node.value)) {
            None | Some((_, Value::Null)) => {}
            Some((_, Value::List(items))) => {
                for (index, node) in items.iter().enumerate() {
                    entries.extend(entry(top.report, format!("{list}[{index}]"), node));
                }
            }
            Some((node, _)) => top.fault(list, format_args!("{node}, expected a list")),
        }
    }
    entries
}

/// Whether this is the file of an engine in which nothing is ours, nor meant to be.
pub(super) fn has_only_others(tree: &Node) -> bool {
    let Value::Mapping(lists) = &tree.value else {
        return false;
    };
    let names: Vec<Option<&str>> = lists
        .iter()
        .filter(|(key, _)| matches!(key.text.as_str(), "workers" | "modules"))
        .filter_map(|(_, list)| match &list.value {
            Value::List(items) => Some(items),
            _ => None,
        })
        .flatten()
        .map(|item| name_of(item))
        .collect();
    let is_other = |name: &str| {
        let name = name.split('#').next().unwrap_or_default();
        name != STREAM && !is_old_name(name) && nearest(STREAM, &[name]).is_none()
    };
    !names.is_empty() && names.iter().all(|name| name.is_some_and(is_other))
}

fn name_of(entry: &Node) -> Option<&str> {
    let Value::Mapping(pairs) = &entry.value else {
        return None;
    };
    let (_, name) = pairs.iter().find(|(key, _)| key.text == "name")?;
    match &name.value {
        Value::Text(name) => Some(name),
        _ => None,
    }
}

/// None: it has no name, and a fault says so.
fn entry<'t>(report: &mut Report, path: String, node: &'t Node) -> Option<Entry<'t>> {
    if !matches!(node.value, Value::Mapping(_)) {
        report.fault(
            node.span.start,
            &path,
            format_args!("{node}, expected a mapping with name"),
        );
        return None;
    }
    let mut section = Section::new(report, path.clone(), String::new(), Some(node));
    section.refuse_doubled();
    let Some(name_node) = section.node("name") else {
        match section.other_node("class") {
            Some(class) => section.fault_at_key("class", old_name(class, "the worker's new name")),
            None => report.fault(
                node.span.start,
                &path,
                "has no name, expected name: iii-stream or another worker",
            ),
        }
        return None;
    };
    let name = match &name_node.value {
        Value::Text(text) | Value::Decimal(text) => text.clone(),
        Value::Integer(value) => value.to_string(),
        _ => {
            section.fault("name", mismatch(name_node, "the name of a worker"));
            return None;
        }
    };
    if is_old_name(&name) {
        section.fault("name", old_name(name_node, ""));
        return None;
    }
    Some(Entry {
        path,
        name,
        name_at: name_node.span.start,
        node,
    })
}

pub(super) fn is_old_name(name: &str) -> bool {
    NAMES_OLD.iter().any(|(old, _)| *old == name)
}

pub(super) fn old_name(class: &Node, unknown: &str) -> String {
    let new = match &class.value {
        Value::Text(text) => NAMES_OLD
            .iter()
            .find(|(old, _)| old == text)
            .map(|(_, new)| *new),
        _ => None,
    };
    format!(
        "is from version 0.10; write name: {}",
        new.unwrap_or(unknown)
    )
}

/// The entry of this worker; every further one is a fault.
pub(super) fn only<'e, 't>(
    report: &mut Report,
    entries: &'e [Entry<'t>],
    worker: &str,
) -> Option<&'e Entry<'t>> {
    let mut found = entries.iter().filter(|entry| entry.is(worker));
    let first = found.next();
    for further in found {
        further.fault_name(report, &format!("a second {worker}, expected one"));
    }
    first
}

/// Names as written, each once.
pub(super) fn skipped<'e>(entries: &'e [Entry<'_>]) -> Vec<&'e str> {
    let mut names: Vec<&str> = Vec::new();
    for entry in entries {
        let is_read = [STREAM, MANAGER, OBSERVABILITY]
            .iter()
            .any(|worker| entry.is(worker));
        if !is_read && !names.contains(&entry.name.as_str()) {
            names.push(&entry.name);
        }
    }
    names
}

/// What stands beside `name` in an entry of ours; settings are shown under `shown`. Other keys there
/// are nobody's business.
pub(super) fn open<'r, 't>(
    report: &'r mut Report,
    entry: Option<&Entry<'t>>,
    worker: &str,
    shown: String,
) -> Section<'r, 't> {
    let path = entry.map(|entry| entry.path.clone()).unwrap_or_default();
    let mut section = Section::new(report, path, shown, entry.map(|entry| entry.node));
    section.refuse("image", &format!("{worker} is built in, expected no image"));
    section.warn_of_strays();
    section
}
