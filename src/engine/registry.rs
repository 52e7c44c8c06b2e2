//! The functions: those of SDK workers, one table from id to owner, and what is told of ours.
//!
//! Pure. An id that is taken is taken over by the newest; the end of the older owner does not remove
//! it. What an SDK worker registers over one of ours is its own while it is there, and ours again
//! when it goes (spec: engine-protocol §4).

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde_json::value::RawValue;

use crate::id::SlotId;
use crate::protocol::custom;
use crate::protocol::text::write_string;
use crate::shard::hooks::CustomFunctions;

/// Descriptions and schemas of the eight stream functions, as listings give them.
pub(super) const OURS: &str = include_str!("functions.json");

/// Ids that listings show only to those who ask for them.
const INTERNAL_PREFIX: &str = "engine::";

/// Who serves which function.
#[derive(Default)]
pub(super) struct Functions {
    registered: HashMap<Box<str>, Registered>,
    /// Streams with functions of their own in place of the store's.
    custom: HashMap<Box<str>, CustomFunctions>,
}

struct Registered {
    owner: SlotId,
    description: Description,
}

/// What an SDK worker tells of its function. JSON values stand as their texts.
#[derive(Default)]
pub(super) struct Description {
    pub(super) text: Option<Box<str>>,
    pub(super) request_format: Option<Box<RawValue>>,
    pub(super) response_format: Option<Box<RawValue>>,
    pub(super) metadata: Option<Box<RawValue>>,
}

impl Functions {
    /// True when workers have to know of it: a stream has a custom function more.
    pub(super) fn register(&mut self, id: &str, owner: SlotId, description: Description) -> bool {
        let registered = Registered { owner, description };
        let is_new = self.registered.insert(id.into(), registered).is_none();
        let Some((function, stream)) = custom::parse_id(id).filter(|_| is_new) else {
            return false;
        };
        self.custom.entry(stream.into()).or_default().add(function);
        true
    }

    /// Removes the function if that peer still owns it. True when workers have to know of it.
    pub(super) fn unregister(&mut self, id: &str, owner: SlotId) -> bool {
        if self.owner_of(id) != Some(owner) {
            return false;
        }
        self.registered.remove(id);
        self.drop_custom(id)
    }

    /// A peer is gone: its functions go, those taken over since excepted. True when workers have to
    /// know of it.
    pub(super) fn forget(
        &mut self,
        owner: SlotId,
        ids: impl IntoIterator<Item = Box<str>>,
    ) -> bool {
        let mut is_hook = false;
        for id in ids {
            is_hook |= self.unregister(&id, owner);
        }
        is_hook
    }

    /// Streams with custom functions, and which.
    pub(super) fn custom(&self) -> &HashMap<Box<str>, CustomFunctions> {
        &self.custom
    }

    /// The functions of an engine that others run are these: what counts here is which of them are
    /// custom. True when workers have to know of it.
    pub(super) fn set_custom<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> bool {
        let mut custom: HashMap<Box<str>, CustomFunctions> = HashMap::new();
        for (function, stream) in ids.filter_map(custom::parse_id) {
            custom.entry(stream.into()).or_default().add(function);
        }
        let has_changed = self.custom != custom;
        self.custom = custom;
        has_changed
    }

    /// The engine does not have that custom function any more. True when workers have to know of it.
    pub(super) fn drop_custom(&mut self, id: &str) -> bool {
        let Some((function, stream)) = custom::parse_id(id) else {
            return false;
        };
        let Some(functions) = self.custom.get_mut(stream) else {
            return false;
        };
        let was_there = functions.has(function);
        functions.remove(function);
        if functions.is_empty() {
            self.custom.remove(stream);
        }
        was_there
    }

    pub(super) fn owner_of(&self, id: &str) -> Option<SlotId> {
        self.registered.get(id).map(|registered| registered.owner)
    }

    /// The result of `engine::functions::list`: all functions by id, ours included.
    pub(super) fn list(&self, include_internal: bool) -> String {
        let ours: Vec<&RawValue> = serde_json::from_str(OURS).unwrap_or_default();
        let mut entries: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for entry in ours {
            if let Some(id) = id_in(entry.get()) {
                entries.insert(id, entry.get().into());
            }
        }
        for (id, registered) in &self.registered {
            if include_internal || !id.starts_with(INTERNAL_PREFIX) {
                entries.insert(id, registered.description.entry(id));
            }
        }
        let entries: Vec<Vec<u8>> = entries.into_values().collect();
        let list = entries.join(&b',');
        let list = String::from_utf8_lossy(&list);
        format!(r#"{{"functions":[{list}]}}"#)
    }
}

impl Description {
    fn entry(&self, id: &str) -> Vec<u8> {
        let mut out = br#"{"description":"#.to_vec();
        match &self.text {
            Some(text) => write_string(&mut out, text),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(br#","function_id":"#);
        write_string(&mut out, id);
        for (key, value) in [
            ("metadata", &self.metadata),
            ("request_format", &self.request_format),
            ("response_format", &self.response_format),
        ] {
            let value = value.as_deref().map_or("null", RawValue::get);
            out.extend_from_slice(format!(r#","{key}":{value}"#).as_bytes());
        }
        out.push(b'}');
        out
    }
}

/// The function's id in one of our own entries, which holds it without escapes.
fn id_in(entry: &str) -> Option<&str> {
    let (_, behind) = entry.split_once(r#""function_id":""#)?;
    behind.split_once('"').map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(slot: u32) -> SlotId {
        SlotId {
            slot,
            generation: 1,
        }
    }

    #[test]
    fn the_newest_owner_keeps_an_id_that_the_older_one_leaves() {
        let mut functions = Functions::default();
        functions.register("f", peer(1), Description::default());
        functions.register("f", peer(2), Description::default());
        functions.forget(peer(1), ["f".into()]);
        assert_eq!(functions.owner_of("f"), Some(peer(2)));
        functions.unregister("f", peer(2));
        assert_eq!(functions.owner_of("f"), None);
    }

    #[test]
    fn custom_functions_of_a_running_engine_are_those_it_lists() {
        let mut functions = Functions::default();
        let ids = ["stream::get(chat)", "f", "stream::set", "stream::set(chat)"];
        assert!(functions.set_custom(ids.into_iter()));
        assert!(!functions.set_custom(ids.into_iter()), "nothing is new");
        assert!(functions.drop_custom("stream::get(chat)"));
        assert!(!functions.drop_custom("stream::get(chat)"));
        assert!(functions.custom().contains_key("chat"));
        assert!(functions.set_custom(["f"].into_iter()));
        assert!(functions.custom().is_empty());
    }

    #[test]
    fn a_listing_holds_the_eight_and_what_sdk_workers_have_registered() {
        let mut functions = Functions::default();
        let description = Description {
            text: Some("says \"hi\"".into()),
            request_format: Some(RawValue::from_string(r#"{"type":"object"}"#.into()).unwrap()),
            ..Description::default()
        };
        functions.register("my::fn", peer(1), description);
        functions.register("engine::mine", peer(1), Description::default());
        functions.register("stream::get", peer(1), Description::default());
        let list: serde_json::Value = serde_json::from_str(&functions.list(false)).unwrap();
        let list = list["functions"].as_array().unwrap();
        let ids: Vec<_> = list
            .iter()
            .map(|entry| entry["function_id"].as_str().unwrap())
            .collect();
        assert_eq!(
            ids,
            [
                "my::fn",
                "stream::delete",
                "stream::get",
                "stream::list",
                "stream::list_all",
                "stream::list_groups",
                "stream::send",
                "stream::set",
                "stream::update"
            ]
        );
        assert_eq!(list[0]["description"], "says \"hi\"");
        assert_eq!(list[0]["request_format"]["type"], "object");
        assert!(list[0]["metadata"].is_null() && list[0]["response_format"].is_null());
        assert!(
            list[2]["description"].is_null(),
            "it was registered over ours"
        );
        assert_eq!(list[7]["request_format"]["title"], "StreamSetInput");
        assert!(functions.list(true).contains("engine::mine"));
    }
}
