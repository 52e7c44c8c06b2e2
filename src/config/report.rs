//! What comes of reading a file: its faults, its settings, and where each of them stands.
//!
//! Places come in as bytes of the expanded text and go out as line and column of the file as
//! written. May not decide what is a fault.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use serde_json::Value as Json;

use super::Endpoint;
use super::address::without_secrets;
use super::env::{Expanded, From};
use super::stored_file::StoredFile;

/// One thing that is wrong, as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Faults with a place stand in the order of the file, those without come first.
    at: Option<(usize, usize)>,
    line: String,
}

impl Fault {
    /// A fault that stands in no file.
    pub(super) fn without_place(line: impl Into<String>) -> Self {
        Fault {
            at: None,
            line: line.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As `iii-stream.server.limits.connections`.
    pub key: String,
    /// Sizes in bytes, times in milliseconds.
    pub value: Json,
    /// `default`, `file:line`, `variable NAME` or `flag`.
    pub origin: String,
}

/// Collects while one file, or none, is read.
pub(super) struct Report {
    /// As given on the command line.
    pub(super) file: String,
    source: String,
    expanded: Expanded,
    /// Where the scalars begin that lack a variable. Whatever else is wrong there is not to blame.
    lacking: Vec<usize>,
    pub(super) faults: Vec<Fault>,
    pub(super) settings: Vec<Setting>,
    /// Lines for the log, at `warn` and at `info`.
    pub(super) warnings: Vec<String>,
    pub(super) notices: Vec<String>,
    /// What an engine has moved out of this file.
    pub(super) stored: Vec<Rc<StoredFile>>,
    /// Where its entries want to listen.
    pub(super) wanted: Vec<Wanted>,
}

/// A place in a file as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    file: String,
    pub(super) line: usize,
    column: usize,
}

/// Where an entry wants to listen, and where it says so.
pub(super) struct Wanted {
    /// The entry's path, or what it is where the file has no such entry.
    pub(super) who: String,
    pub(super) endpoint: Endpoint,
    pub(super) place: Option<Place>,
}

impl Report {
    pub(super) fn new(file: impl Into<String>, source: String, expanded: Expanded) -> Self {
        Report {
            file: file.into(),
            source,
            expanded,
            lacking: Vec::new(),
            faults: Vec::new(),
            settings: Vec::new(),
            warnings: Vec::new(),
            notices: Vec::new(),
            stored: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Without any file.
    pub(super) fn of_defaults() -> Self {
        let nothing = Expanded {
            text: String::new(),
            fills: Vec::new(),
        };
        Report::new("", String::new(), nothing)
    }

    /// `file:line:column: path: what`, without the path when that is empty.
    pub(super) fn fault(&mut self, at: usize, path: &str, what: impl fmt::Display) {
        if self.lacking.contains(&at) {
            return;
        }
        let separator = if path.is_empty() { "" } else { ": " };
        self.fault_in_source(
            self.expanded.source_of(at),
            format_args!("{path}{separator}{what}"),
        );
    }

    /// A fault at a place that was kept. None: it stands in no file.
    pub(super) fn fault_at(&mut self, place: Option<&Place>, path: &str, what: String) {
        let Some(Place { file, line, column }) = place else {
            return self.fault_without_place(format!("{path}: {what}"));
        };
        self.faults.push(Fault {
            at: Some((*line, *column)),
            line: format!("{file}:{line}:{column}: {path}: {what}"),
        });
    }

    pub(super) fn place_of(&self, at: usize) -> Place {
        let (line, column) = place(&self.source, self.expanded.source_of(at));
        Place {
            file: self.file.clone(),
            line,
            column,
        }
    }

    pub(super) fn line_of(&self, at: usize) -> usize {
        self.place_of(at).line
    }

    /// Adds what came of a further file. Its faults stand behind those of this one.
    pub(super) fn take(&mut self, further: Report) {
        let last = |fault: Fault| Fault {
            at: fault.at.map(|(line, _)| (usize::MAX, line)),
            ..fault
        };
        self.faults.extend(further.faults.into_iter().map(last));
        self.settings.extend(further.settings);
        self.warnings.extend(further.warnings);
        self.notices.extend(further.notices);
        self.wanted.extend(further.wanted);
    }

    fn fault_in_source(&mut self, at: usize, what: fmt::Arguments<'_>) {
        let (line, column) = place(&self.source, at);
        let line_text = format!("{}:{line}:{column}: {what}", self.file);
        self.faults.push(Fault {
            at: Some((line, column)),
            line: line_text,
        });
    }

    pub(super) fn fault_without_place(&mut self, line: impl Into<String>) {
        self.faults.push(Fault::without_place(line));
    }

    /// `range` is where the value stands. None: it is a default.
    pub(super) fn setting(&mut self, key: String, value: Json, range: Option<&Range<usize>>) {
        let origin = range.map_or_else(|| "default".to_owned(), |range| self.origin(range));
        let value = match value {
            Json::String(text) if text.contains("://") => without_secrets(&text).into(),
            other => other,
        };
        self.settings.push(Setting { key, value, origin });
    }

    fn origin(&self, range: &Range<usize>) -> String {
        match self.expanded.fill_in(range) {
            Some(fill) if fill.from == From::Variable => format!("variable {}", fill.name),
            _ => {
                let (line, _) = place(&self.source, self.expanded.source_of(range.start));
                format!("{}:{line}", self.file)
            }
        }
    }

    /// The variables that could not be filled in. `scalars` are the places where a value counts;
    /// one that is merely missing in a comment hurts nobody.
    pub(super) fn fault_variables(&mut self, scalars: &[Range<usize>]) {
        let mut faults = Vec::new();
        for fill in &self.expanded.fills {
            let what = match fill.from {
                From::Variable | From::Default => continue,
                From::VariableWithLineEnd => {
                    "holds a line end, which would change the lines of the file"
                }
                From::Nowhere => "is not set and has no default",
            };
            let behind = scalars.partition_point(|scalar| scalar.end <= fill.text.start);
            let scalar = scalars
                .get(behind)
                .filter(|scalar| scalar.start < fill.text.end);
            self.lacking.extend(scalar.map(|scalar| scalar.start));
            if scalar.is_some() || fill.from == From::VariableWithLineEnd {
                faults.push((
                    fill.source.start,
                    format!("environment variable {} {what}", fill.name),
                ));
            }
        }
        for (at, what) in faults {
            self.fault_in_source(at, format_args!("{what}"));
        }
    }

    /// The faults in the order of the file.
    pub(super) fn sort(&mut self) {
        self.faults.sort_by_key(|fault| fault.at);
    }
}

/// Line and column of a byte, both from 1; a column is one character. A byte-order mark has no
/// width.
fn place(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..]
        .chars()
        .filter(|&char| char != '\u{feff}')
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_counts_lines_and_characters_from_one() {
        let source = "a\r\nüb\n";
        assert_eq!(place(source, 0), (1, 1));
        assert_eq!(place(source, source.find('b').unwrap()), (2, 2));
        assert_eq!(place(source, source.len()), (3, 1));
        assert_eq!(place("\u{feff}a", 3), (1, 1));
    }
}
