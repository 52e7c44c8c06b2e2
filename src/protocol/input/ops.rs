//! The `ops` of `stream::update`: their shapes. What they do is `shard::update`'s affair.

use serde_json::value::RawValue;

use crate::protocol::json::number::Number;
use crate::protocol::json::phrase::{self, found, invalid_type, missing};
use crate::protocol::json::value::{self, ValueError};
use crate::protocol::json::{raw, text};

/// One operation. A path is one key of the root object, `""` the root itself; only `merge` and
/// `append` descend, by one key a segment, and the root of a merge has no segments. Values are JSON texts, with
/// numbers and strings checked; what depth they make is for the outcome to be checked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateOp {
    /// Replaces what is there.
    Set {
        /// Where.
        path: Box<str>,
        /// By what.
        value: Box<str>,
    },
    /// Copies the members of an object into another.
    Merge {
        /// Where the other one is.
        path: Vec<Box<str>>,
        /// Whose members; anything else fails when the operation runs.
        value: Box<str>,
    },
    /// Adds to a number.
    Increment {
        /// Where it is.
        path: Box<str>,
        /// How much.
        by: i64,
    },
    /// Takes from a number.
    Decrement {
        /// Where it is.
        path: Box<str>,
        /// How much.
        by: i64,
    },
    /// Adds an element to an array, or a string to a string.
    Append {
        /// Where it is.
        path: AppendPath,
        /// What is added.
        value: Box<str>,
    },
    /// Removes a key.
    Remove {
        /// Which.
        path: Box<str>,
    },
}

/// Where an append goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendPath {
    /// To one key of the root object, or to the root itself: `""`.
    Key(Box<str>),
    /// Down from the root, by one key a segment. Never empty.
    Keys(Vec<Box<str>>),
}

impl UpdateOp {
    /// Bytes it holds on the heap.
    pub fn held_bytes(&self) -> usize {
        match self {
            UpdateOp::Set { path, value } => path.len() + value.len(),
            UpdateOp::Append { path, value } => {
                let path = match path {
                    AppendPath::Key(key) => key.len(),
                    AppendPath::Keys(keys) => segments_bytes(keys),
                };
                path + value.len()
            }
            UpdateOp::Merge { path, value } => segments_bytes(path) + value.len(),
            UpdateOp::Increment { path, .. }
            | UpdateOp::Decrement { path, .. }
            | UpdateOp::Remove { path } => path.len(),
        }
    }
}

/// A path of many short keys holds more than their letters.
fn segments_bytes(keys: &[Box<str>]) -> usize {
    keys.iter()
        .map(|key| key.len() + 2 * size_of::<Box<str>>())
        .sum()
}

/// Reads `ops`, and says how many there are: beyond the first `ops_max` they are only counted.
/// Err: the phrase for the first bad one.
pub(super) fn parse(json: &str, ops_max: usize) -> Result<(Vec<UpdateOp>, usize), String> {
    if !json.starts_with('[') {
        return Err(invalid_type(json, "a sequence"));
    }
    let mut ops = Vec::new();
    let mut fault = None;
    let len = raw::elements(json, |element| {
        if ops.len() == ops_max {
            return false;
        }
        match parse_op(element.get()) {
            Ok(op) => ops.push(op),
            Err(phrase) => fault = Some(phrase),
        }
        fault.is_none()
    })
    .map_err(|error| error.to_string())?;
    match fault {
        Some(phrase) => Err(phrase),
        None => Ok((ops, len)),
    }
}

/// What one operation holds, before its type is known. Of doubled keys the last one counts.
#[derive(Default)]
struct Members<'a> {
    kind: Option<&'a RawValue>,
    path: Option<&'a RawValue>,
    by: Option<&'a RawValue>,
    value: Option<&'a RawValue>,
}

fn parse_op(json: &str) -> Result<UpdateOp, String> {
    let mut members = Members::default();
    if json.starts_with('{') {
        raw::members(json, |key, value| {
            let member = match text::read_string(key).as_deref() {
                Ok("type") => &mut members.kind,
                Ok("path") => &mut members.path,
                Ok("by") => &mut members.by,
                Ok("value") => &mut members.value,
                _ => return,
            };
            *member = Some(value);
        })
        .map_err(|error| error.to_string())?;
    } else if !is_empty_array(json) {
        return Err(invalid_type(json, "internally tagged enum UpdateOp"));
    }
    members.into_op()
}

fn is_empty_array(json: &str) -> bool {
    let content = json
        .strip_prefix('[')
        .and_then(|json| json.strip_suffix(']'));
    content.is_some_and(|content| content.trim_ascii().is_empty())
}

impl Members<'_> {
    /// The type comes first; then wrong members, by key; then missing ones, `path` first.
    fn into_op(self) -> Result<UpdateOp, String> {
        let kind = self.kind.ok_or_else(|| missing("type"))?.get();
        if !kind.starts_with('"') {
            return Err(invalid_type(kind, "variant identifier"));
        }
        match &*phrase::read_string(kind)? {
            "set" => {
                let (path, value) = (self.path()?, self.value()?);
                Ok(UpdateOp::Set {
                    path: path.ok_or_else(|| missing("path"))?,
                    value: value.unwrap_or_else(|| "null".into()),
                })
            }
            "merge" => {
                let (path, value) = (self.merge_path()?, self.value()?);
                let value = value.ok_or_else(|| missing("value"))?;
                Ok(UpdateOp::Merge { path, value })
            }
            "increment" => {
                let (path, by) = self.path_and_by()?;
                Ok(UpdateOp::Increment { path, by })
            }
            "decrement" => {
                let (path, by) = self.path_and_by()?;
                Ok(UpdateOp::Decrement { path, by })
            }
            "append" => {
                let (path, value) = (self.append_path()?, self.value()?);
                let value = value.ok_or_else(|| missing("value"))?;
                Ok(UpdateOp::Append { path, value })
            }
            "remove" => {
                let path = self.path()?.ok_or_else(|| missing("path"))?;
                Ok(UpdateOp::Remove { path })
            }
            unknown => Err(format!(
                "unknown variant `{unknown}`, expected one of \
                 `set`, `merge`, `increment`, `decrement`, `append`, `remove`"
            )),
        }
    }

    fn path_and_by(&self) -> Result<(Box<str>, i64), String> {
        let (by, path) = (self.by()?, self.path()?);
        let path = path.ok_or_else(|| missing("path"))?;
        let by = by.ok_or_else(|| missing("by"))?;
        Ok((path, by))
    }

    fn path(&self) -> Result<Option<Box<str>>, String> {
        let Some(json) = self.path else {
            return Ok(None);
        };
        Ok(Some(phrase::read_string(json.get())?.into()))
    }

    fn merge_path(&self) -> Result<Vec<Box<str>>, String> {
        let json = self.path.map_or("null", RawValue::get);
        match json.as_bytes().first() {
            Some(b'n') => Ok(Vec::new()),
            Some(b'"') => match phrase::read_string(json)? {
                root if root.is_empty() => Ok(Vec::new()),
                key => Ok(vec![key.into()]),
            },
            Some(b'[') => read_segments(json),
            _ => Err(no_merge_path()),
        }
    }

    fn append_path(&self) -> Result<AppendPath, String> {
        let json = self.path.map_or("null", RawValue::get);
        match json.as_bytes().first() {
            Some(b'n') => Ok(AppendPath::Key("".into())),
            Some(b'[') => Ok(match read_segments(json)? {
                root if root.is_empty() => AppendPath::Key("".into()),
                segments => AppendPath::Keys(segments),
            }),
            _ => Ok(AppendPath::Key(phrase::read_string(json)?.into())),
        }
    }

    fn by(&self) -> Result<Option<i64>, String> {
        let Some(json) = self.by else {
            return Ok(None);
        };
        let by = match Number::read(json.get()) {
            Some(Number::Integer(integer)) => i64::try_from(integer).map_err(|_| {
                let found = found(json.get()).unwrap_or_default();
                format!("invalid value: {found}, expected i64")
            })?,
            _ => return Err(invalid_type(json.get(), "i64")),
        };
        Ok(Some(by))
    }

    fn value(&self) -> Result<Option<Box<str>>, String> {
        let Some(json) = self.value else {
            return Ok(None);
        };
        match value::check(json.get(), usize::MAX) {
            Ok(()) | Err(ValueError::TooDeep { .. }) => Ok(Some(json.get().into())),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

fn read_segments(json: &str) -> Result<Vec<Box<str>>, String> {
    let mut segments = Vec::new();
    let mut fault = None;
    raw::elements(json, |element| {
        if !element.get().starts_with('"') {
            fault = Some(no_merge_path());
        } else {
            match phrase::read_string(element.get()) {
                Ok(segment) => segments.push(segment.into()),
                Err(phrase) => fault = Some(phrase),
            }
        }
        fault.is_none()
    })
    .map_err(|error| error.to_string())?;
    fault.map_or(Ok(segments), Err)
}

fn no_merge_path() -> String {
    "data did not match any variant of untagged enum MergePath".to_owned()
}
