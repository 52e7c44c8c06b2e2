//! What newer engines have moved out of their file: the `config` of an entry, which lies beside it as
//! `config/<worker>.yaml`, under `value`.

use super::doubled;
use super::report::Report;
use super::section::Section;
use super::stored_file::StoredFile;
use super::yaml::{self, Value};

/// Where such a file has the config.
pub(super) const VALUE: &str = "value";

/// Reads the `config` of an entry, or what an engine has moved out of it. None: that file is at fault.
pub(super) fn config_of<T>(
    section: &mut Section<'_, '_>,
    worker: &str,
    read: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Option<T> {
    let (path, name) = (section.path_of("config"), section.name_of("config"));
    let node = section.node("config");
    let has_config = node.is_some_and(|node| !matches!(node.value, Value::Null));
    let report = &mut *section.report;
    let mut files = report.stored.iter();
    let stored = files.find(|stored| stored.worker == worker).cloned();
    if let Some(stored) = stored {
        let (file, own) = (&report.file, &stored.file);
        if !has_config {
            let line =
                format!("{worker}: settings read from {own}, for {file} has no config of it");
            report.notices.push(line);
            return stored.read(report, name, read);
        }
        let line = format!("{own} passed over: {path} in {file} has the settings of {worker}");
        report.warnings.push(line);
    }
    if let Some(node) = node {
        doubled::warn(report, &path, node);
    }
    let mut keys = section.section("config");
    let outcome = read(&mut keys);
    keys.done();
    Some(outcome)
}

impl StoredFile {
    /// Has the keys under `value` read, shown as settings under `name`. None: the file is at fault, and
    /// the report says so.
    fn read<T>(
        &self,
        report: &mut Report,
        name: String,
        read: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> Option<T> {
        let (source, expanded) = match &self.text {
            Ok(text) => text.clone(),
            Err(cause) => {
                let line = format!("Failed to read config file '{}': {cause}", self.file);
                report.fault_without_place(line);
                return None;
            }
        };
        let text = expanded.text.clone();
        let mut own = Report::new(self.file.clone(), source, expanded);
        let mut scalars = Vec::new();
        let tree = yaml::parse(&text, |scalar| scalars.push(scalar));
        own.fault_variables(&scalars);
        let what = match &tree {
            Ok(Some(tree)) => match &tree.value {
                Value::Mapping(pairs) => {
                    let value = pairs.iter().rev().find(|(key, _)| key.text == VALUE);
                    value.map(|(_, value)| value).ok_or((tree.span.start, None))
                }
                _ => Err((tree.span.start, None)),
            },
            Ok(None) => Err((0, None)),
            Err(problem) => Err((problem.at, Some(problem.what.clone()))),
        };
        let outcome = match what {
            Ok(value) => {
                doubled::warn(&mut own, VALUE, value);
                let mut keys = Section::new(&mut own, VALUE.to_owned(), name, Some(value));
                let outcome = read(&mut keys);
                keys.done();
                Some(outcome)
            }
            Err((at, what)) => {
                let missing = || {
                    format!(
                        "has no value, expected value: with the config of {}",
                        self.worker
                    )
                };
                own.fault(at, "", what.unwrap_or_else(missing));
                None
            }
        };
        report.take(own);
        outcome
    }
}
