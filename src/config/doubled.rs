//! Keys that stand twice where the last one counts, as the reference has it within `config`.

use std::collections::HashSet;
use std::rc::Rc;

use super::report::Report;
use super::words::joined;
use super::yaml::{Node, Value};

/// A warning for each, with both lines.
pub(super) fn warn(report: &mut Report, path: &str, node: &Node) {
    walk(report, path, node, &mut HashSet::new());
}

/// What several aliases name is walked once.
fn walk(report: &mut Report, path: &str, node: &Node, seen: &mut HashSet<*const Node>) {
    if !seen.insert(std::ptr::from_ref(node)) {
        return;
    }
    match &node.value {
        Value::Mapping(pairs) => {
            for (index, (key, value)) in pairs.iter().enumerate() {
                let mut later = pairs[index + 1..].iter();
                let path = joined(path, &key.text);
                if let Some((other, _)) = later.find(|(other, _)| other.text == key.text) {
                    let (first, last) = (report.line_of(key.at), report.line_of(other.at));
                    let lines = match first == last {
                        true => format!("twice in line {first}"),
                        false => format!("in lines {first} and {last}"),
                    };
                    let file = &report.file;
                    let line = format!("{file}: {path} stands {lines}: the last one counts");
                    report.warnings.push(line);
                }
                walk(report, &path, value, seen);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(report, &format!("{path}[{index}]"), Rc::as_ref(item), seen);
            }
        }
        _ => {}
    }
}
