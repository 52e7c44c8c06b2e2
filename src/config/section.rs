//! One mapping of the file, read key by key: each method checks one key, sets what it is told and
//! records where the value came from.
//!
//! A mapping that is absent reads as all defaults; one that is at fault is silent, so that one
//! mistake is one line. [`Section::done`] names the keys that nobody asked for.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::rc::Rc;

use serde_json::Value as Json;

use super::homes::home_of;
use super::quantity::{UNITS_COUNT, UNITS_SIZE, UNITS_TIME, integer, quantity, with_unit};
use super::report::{Report, Setting};
use super::words::{any_of, joined, mismatch, nearest};
use super::yaml::{Key, Node, Value};

pub(super) struct Section<'r, 't> {
    pub(super) report: &'r mut Report,
    /// In the file, for faults: `workers[1].server`.
    path: String,
    /// For settings: `iii-stream.server`.
    name: String,
    state: State<'t>,
    /// The keys that may stand here.
    known: Vec<&'static str>,
    /// Keys that somebody else checks or refuses; not offered in place of an unknown one.
    other: Vec<&'static str>,
}

#[derive(Clone, Copy)]
enum State<'t> {
    Absent,
    Present(&'t Node),
    AtFault,
}

impl<'r, 't> Section<'r, 't> {
    /// Takes `node` for a mapping; null is an absent one.
    pub(super) fn new(
        report: &'r mut Report,
        path: String,
        name: String,
        node: Option<&'t Node>,
    ) -> Self {
        let state = match node {
            None => State::Absent,
            Some(node) => match node.value {
                Value::Null => State::Absent,
                Value::Mapping(_) => State::Present(node),
                _ => {
                    report.fault(
                        node.span.start,
                        &path,
                        format_args!("{node}, expected a mapping"),
                    );
                    State::AtFault
                }
            },
        };
        Section {
            report,
            path,
            name,
            state,
            known: Vec::new(),
            other: Vec::new(),
        }
    }

    /// The mapping under `key`.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_, 't> {
        let node = self.node(key);
        let (path, name) = (self.path_of(key), self.name_of(key));
        let mut section = Section::new(self.report, path, name, node);
        if let State::AtFault = self.state {
            section.state = State::AtFault;
        }
        section
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state, State::Absent)
    }

    /// What stands under `key`, which may stand here.
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'t Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.pair(key).map(|(_, node)| &**node)
    }

    /// What stands under a key that nobody should write any more, or that has no effect.
    pub(super) fn other_node(&mut self, key: &'static str) -> Option<&'t Node> {
        self.other.push(key);
        self.pair(key).map(|(_, node)| &**node)
    }

    /// The last one counts.
    fn pair(&self, key: &str) -> Option<&'t (Key, Rc<Node>)> {
        self.pairs()
            .iter()
            .rev()
            .find(|(found, _)| found.text == key)
    }

    fn pairs(&self) -> &'t [(Key, Rc<Node>)] {
        match self.state {
            State::Present(Node {
                value: Value::Mapping(pairs),
                ..
            }) => pairs,
            _ => &[],
        }
    }

    /// The general case: `check` makes a value of the node or says what is wrong with it.
    pub(super) fn read<T: Clone + Into<Json>>(
        &mut self,
        key: &'static str,
        target: &mut T,
        check: impl FnOnce(&Node) -> Result<T, String>,
    ) {
        if let Some(value) = self.value(key, target.clone(), check) {
            self.show(key, value.clone().into());
            *target = value;
        }
    }

    /// As [`Section::read`], for who shows the setting in another way. None: at fault.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        absent: T,
        check: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key);
        if let State::AtFault = self.state {
            return None;
        }
        match node.map(check) {
            None => Some(absent),
            Some(Ok(value)) => Some(value),
            Some(Err(what)) => {
                self.fault(key, what);
                None
            }
        }
    }

    /// The elements of a list; `check` hears the path of each and reports what is wrong with it.
    /// Empty: absent or null. None: at fault.
    pub(super) fn items<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        mut check: impl FnMut(&mut Report, String, &'t Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let node = self.node(key);
        if let State::AtFault = self.state {
            return None;
        }
        let Some(node) = node.filter(|node| !matches!(node.value, Value::Null)) else {
            return Some(Vec::new());
        };
        let Value::List(items) = &node.value else {
            self.fault(key, mismatch(node, expected));
            return None;
        };
        let path = self.path_of(key);
        let checked: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| check(self.report, format!("{path}[{index}]"), item))
            .collect();
        checked.into_iter().collect()
    }

    /// Records the effective value of `key`, which came from where the key stands or is a default.
    pub(super) fn show(&mut self, key: &str, value: Json) {
        let (name, pair) = (self.name_of(key), self.pair(key));
        self.report
            .setting(name, value, pair.map(|(_, node)| &node.span));
    }

    /// As [`Section::show`], for what came from elsewhere.
    pub(super) fn show_from(&mut self, key: &str, value: Json, origin: String) {
        let key = self.name_of(key);
        self.report.settings.push(Setting { key, value, origin });
    }

    /// An integer in `range`.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        range: RangeInclusive<u64>,
    ) where
        T: TryFrom<i128> + Clone + Into<Json>,
    {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        self.read(key, target, |node| integer(node, &range, &expected));
    }

    /// An integer of milliseconds, or a text with a unit.
    pub(super) fn time_ms(
        &mut self,
        key: &'static str,
        target: &mut u64,
        range: RangeInclusive<u64>,
    ) {
        let (min, max) = (range.start(), range.end());
        let expected = format!("milliseconds from {min} to {max}, as 5000 or 5s");
        self.read(key, target, |node| {
            quantity(node, &UNITS_TIME, &range, &expected)
        });
    }

    /// A count, which may be written with `k` or `M`.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        target: &mut usize,
        range: RangeInclusive<u64>,
    ) {
        let (min, max) = (range.start(), range.end());
        let expected = format!("an integer from {min} to {max}, as 100000 or 100k");
        self.read(key, target, |node| {
            quantity(node, &UNITS_COUNT, &range, &expected)
        });
    }

    /// An integer of bytes, or a text with a unit.
    pub(super) fn bytes(
        &mut self,
        key: &'static str,
        target: &mut usize,
        range: RangeInclusive<u64>,
    ) {
        let (min, max) = (with_unit(*range.start()), with_unit(*range.end()));
        let expected = format!("bytes from {min} to {max}, as 65536 or 64KiB");
        self.read(key, target, |node| {
            quantity(node, &UNITS_SIZE, &range, &expected)
        });
    }

    /// As [`Section::count`], where `none` and 0 are no limit: 0 is what they are kept as.
    pub(super) fn count_or_none(
        &mut self,
        key: &'static str,
        target: &mut usize,
        range: RangeInclusive<u64>,
    ) {
        let (min, max) = (range.start(), range.end());
        let expected = format!("none or an integer from {min} to {max}, as 100000 or 100k");
        self.or_none(key, target, |node| {
            quantity(node, &UNITS_COUNT, &range, &expected)
        });
    }

    /// As [`Section::bytes`], likewise.
    pub(super) fn bytes_or_none(
        &mut self,
        key: &'static str,
        target: &mut usize,
        range: RangeInclusive<u64>,
    ) {
        let (min, max) = (with_unit(*range.start()), with_unit(*range.end()));
        let expected = format!("none or bytes from {min} to {max}, as 65536 or 64KiB");
        self.or_none(key, target, |node| {
            quantity(node, &UNITS_SIZE, &range, &expected)
        });
    }

    fn or_none(
        &mut self,
        key: &'static str,
        target: &mut usize,
        check: impl FnOnce(&Node) -> Result<usize, String>,
    ) {
        let is_none = |node: &Node| match &node.value {
            Value::Text(text) => text == "none",
            value => matches!(value, Value::Integer(0)),
        };
        let value = self.value(key, *target, |node| match is_none(node) {
            true => Ok(0),
            false => check(node),
        });
        if let Some(value) = value {
            let shown = match value {
                0 => "none".into(),
                value => value.into(),
            };
            self.show(key, shown);
            *target = value;
        }
    }

    /// Refuses a key that is known to the reference or to a later version, unless it is null.
    pub(super) fn refuse(&mut self, key: &'static str, what: &str) {
        if self
            .other_node(key)
            .is_some_and(|node| !matches!(node.value, Value::Null))
        {
            self.fault_at_key(key, what);
        }
    }

    /// A fault of the value under `key`, which is there.
    pub(super) fn fault(&mut self, key: &str, what: impl Display) {
        if let Some((_, node)) = self.pair(key) {
            self.report.fault(node.span.start, &self.path_of(key), what);
        }
    }

    /// A fault of the key itself.
    pub(super) fn fault_at_key(&mut self, key: &str, what: impl Display) {
        if let Some((found, _)) = self.pair(key) {
            self.report.fault(found.at, &self.path_of(key), what);
        }
    }

    /// A fault of the mapping as a whole.
    pub(super) fn fault_missing(&mut self, what: &str) {
        if let State::Present(node) = self.state {
            self.report.fault(node.span.start, &self.path, what);
        }
    }

    /// Checks keys that have no effect here, so that they appear among no settings.
    pub(super) fn unused(&mut self, check: impl FnOnce(&mut Self)) {
        let len = self.report.settings.len();
        check(self);
        self.report.settings.truncate(len);
    }

    /// Keys of ours that stand beside the name of an entry, where nobody reads them.
    pub(super) fn warn_of_strays(&mut self) {
        for (key, _) in self.pairs() {
            if let Some(home) = home_of(&key.text) {
                let (file, line) = (&self.report.file, self.report.line_of(key.at));
                let path = self.path_of(&key.text);
                let line = format!("{file}:{line}: {path} passed over: it belongs under {home}");
                self.report.warnings.push(line);
            }
        }
    }

    /// Names the keys that nobody asked for.
    pub(super) fn done(self) {
        for (key, _) in self.pairs() {
            let text = key.text.as_str();
            if self.known.contains(&text) || self.other.contains(&text) {
                continue;
            }
            let what = match (home_of(text), nearest(text, &self.known)) {
                (Some(home), _) => format!("unknown key here; it belongs under {home}"),
                (None, Some(known)) => format!("unknown key; did you mean {known}?"),
                (None, None) => format!("unknown key, expected {}", any_of(&self.known)),
            };
            self.report.fault(key.at, &self.path_of(text), what);
        }
    }

    /// Refuses keys that stand twice. The reference does so above `config`, and within it takes
    /// the last one.
    pub(super) fn refuse_doubled(&mut self) {
        let pairs = self.pairs();
        for (index, (key, _)) in pairs.iter().enumerate() {
            if pairs[..index]
                .iter()
                .any(|(earlier, _)| earlier.text == key.text)
            {
                self.report.fault(
                    key.at,
                    &self.path_of(&key.text),
                    "stands here twice, expected once",
                );
            }
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        joined(&self.path, key)
    }

    pub(super) fn name_of(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }
}
