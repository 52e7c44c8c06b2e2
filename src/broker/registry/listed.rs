//! How functions stand in listings: ours and those of SDK workers by id, each with what tells of it.

use std::ops::Bound;

use serde_json::value::RawValue;

use crate::protocol::json::text::write_string;

use super::{Functions, ours};
use crate::broker::target::FunctionRef;

/// What an SDK worker tells of its function. JSON values stand as their texts.
#[derive(Default)]
pub(in crate::broker) struct Description {
    pub(in crate::broker) text: Option<Box<str>>,
    pub(in crate::broker) request_format: Option<Box<RawValue>>,
    pub(in crate::broker) response_format: Option<Box<RawValue>>,
    pub(in crate::broker) metadata: Option<Box<RawValue>>,
}

/// One function, as listings tell of it.
pub(in crate::broker) struct Listed<'a> {
    pub(in crate::broker) id: &'a str,
    /// None: it stands in `default`.
    pub(in crate::broker) namespace: Option<&'a str>,
    /// A JSON text.
    pub(in crate::broker) metadata: Option<&'a str>,
    entry: Entry<'a>,
}

enum Entry<'a> {
    Ours(&'static str),
    Theirs(&'a Description),
}

impl Functions {
    /// All functions by id, ours included, from the one behind `after` on, until `each` has enough.
    /// Gives the last one, or nothing when there are no more.
    pub(in crate::broker) fn list_some(
        &self,
        after: Option<&(Box<str>, Box<str>)>,
        mut each: impl FnMut(Listed<'_>) -> bool,
    ) -> Option<(Box<str>, Box<str>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut theirs = self.ids.range((from, Bound::Unbounded)).peekable();
        let ours = ours().iter().filter(|(id, _)| {
            after.is_none_or(|(after, _)| *id > &**after)
                && self.get(FunctionRef::plain(id)).is_none()
        });
        let mut ours = ours.peekable();
        loop {
            let next_ours = ours.peek().copied();
            let next_theirs = theirs.peek().copied();
            let listed = match (next_ours, next_theirs) {
                (Some((id, entry)), theirs)
                    if theirs.is_none_or(|(theirs, _)| *id <= &**theirs) =>
                {
                    ours.next();
                    Listed {
                        id,
                        namespace: None,
                        metadata: None,
                        entry: Entry::Ours(entry),
                    }
                }
                (_, Some((id, namespace))) => {
                    theirs.next();
                    let function = FunctionRef::new(id, Some(namespace));
                    let Some(registered) = self.get(function) else {
                        continue;
                    };
                    let description = &registered.description;
                    Listed {
                        id,
                        namespace: function.namespace,
                        metadata: description.metadata.as_deref().map(RawValue::get),
                        entry: Entry::Theirs(description),
                    }
                }
                _ => return None,
            };
            let function = FunctionRef::new(listed.id, listed.namespace);
            if !each(listed) {
                return Some(listed_as(function));
            }
        }
    }
}

impl Listed<'_> {
    pub(in crate::broker) fn write(&self, out: &mut Vec<u8>) {
        match self.entry {
            Entry::Ours(entry) => out.extend_from_slice(entry.as_bytes()),
            Entry::Theirs(description) => description.write(out, self.id, self.namespace),
        }
    }
}

impl Description {
    pub(super) fn held_bytes(&self) -> usize {
        let formats = [&self.request_format, &self.response_format, &self.metadata];
        let formats = formats.into_iter().flatten();
        let bytes: usize = formats.map(|json| json.get().len()).sum();
        bytes + self.text.as_ref().map_or(0, |text| text.len())
    }

    /// Rows of `default` name no namespace.
    fn write(&self, out: &mut Vec<u8>, id: &str, namespace: Option<&str>) {
        out.extend_from_slice(br#"{"description":"#);
        match &self.text {
            Some(text) => write_string(out, text),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(br#","function_id":"#);
        write_string(out, id);
        for (key, value) in [
            ("metadata", &self.metadata),
            ("request_format", &self.request_format),
            ("response_format", &self.response_format),
        ] {
            let value = value.as_deref().map_or("null", RawValue::get);
            out.extend_from_slice(format!(r#","{key}":{value}"#).as_bytes());
            if let Some(namespace) = namespace.filter(|_| key == "metadata") {
                out.extend_from_slice(br#","namespace":"#);
                write_string(out, namespace);
            }
        }
        out.push(b'}');
    }
}

pub(super) fn listed_as(function: FunctionRef<'_>) -> (Box<str>, Box<str>) {
    (
        function.id.into(),
        function.namespace.unwrap_or_default().into(),
    )
}
