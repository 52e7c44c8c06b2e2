//! The functions: those of SDK workers, one table from id to owner, and what is told of ours.
//!
//! Pure. An id may have several owners: the newest registration serves, and when it ends the one before
//! it serves again. What an SDK worker registers over one of ours is its own while it is there, and
//! ours again when it goes (spec: engine-protocol §4).

pub(in crate::broker) mod callee;
mod listed;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use serde_json::value::RawValue;

use crate::collections::PersistentMap;
use crate::id::SlotId;
use crate::protocol::custom;
use crate::protocol::input::StreamFunction;
use crate::shard::hooks::CustomFunctions;

use crate::broker::holdings::Holdings;
use crate::broker::target::FunctionRef;

pub(in crate::broker) use listed::Description;

use listed::listed_as;

/// Descriptions and schemas of our own functions, as listings give them, by id.
pub(in crate::broker) const OURS: &str = include_str!("../own/functions.json");

/// Ids that listings show only to those who ask for them.
pub(in crate::broker) const INTERNAL_PREFIX: &str = "engine::";

/// How long changes are gathered that are told. The promise is a second, this thread's turns included.
const GATHERED_FOR: Duration = Duration::from_millis(500);

/// Who serves which function.
#[derive(Default)]
pub(in crate::broker) struct Functions {
    /// Those of `default`.
    registered: Table,
    /// Those of other namespaces. No table is empty.
    elsewhere: HashMap<Box<str>, Table>,
    /// Their ids in order, for listings, each with its namespace; that of `default` is empty.
    ids: BTreeSet<(Box<str>, Box<str>)>,
    holdings: Holdings,
    /// Streams with functions of their own in place of the store's.
    custom: PersistentMap<CustomFunctions>,
    /// Ids that are new, or gone, since that was last told.
    changed: HashSet<Box<str>>,
    /// When that is told, if it has still to be.
    told_at: Option<Instant>,
    /// Owners that are gone. What they have registered serves nobody, and is removed bit by bit.
    ended: HashSet<SlotId>,
}

/// The functions of one namespace.
type Table = HashMap<Box<str>, Owners>;

struct Registered {
    owner: SlotId,
    /// The number of its owner's listener, if that has rules.
    guard: Option<usize>,
    description: Description,
}

/// Who has registered one id.
struct Owners {
    newest: Registered,
    /// Those before it, the oldest first. What they hold counts as theirs.
    older: Vec<Registered>,
    /// The log says that a second one has come.
    was_told: bool,
}

/// What a registration has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Change {
    /// Workers have to know of it: a stream has a custom function more.
    pub(in crate::broker) is_hook: bool,
    /// Whom the newest serves in place of, the first time that one does.
    pub(in crate::broker) in_place_of: Option<SlotId>,
}

impl Functions {
    /// Whether that worker may register one more.
    pub(in crate::broker) fn has_room(
        &self,
        id: &str,
        owner: SlotId,
        description: &Description,
    ) -> bool {
        self.holdings
            .has_room(owner, id.len() + description.held_bytes())
    }

    /// `guard`: the number of the owner's listener, if that has rules. What such a worker has is served
    /// again only after others of its listener: nobody hears calls that were meant for others.
    pub(in crate::broker) fn register(
        &mut self,
        function: FunctionRef<'_>,
        owner: SlotId,
        guard: Option<usize>,
        description: Description,
    ) -> Change {
        let newest = Registered {
            owner,
            guard,
            description,
        };
        let id = function.id;
        let before = self.owner_of(function).filter(|before| *before != owner);
        self.holdings
            .add(owner, id.len() + newest.description.held_bytes());
        let table = match function.namespace {
            None => &mut self.registered,
            Some(name) => self.elsewhere.entry(name.into()).or_default(),
        };
        let Some(owners) = table.get_mut(id) else {
            let owners = Owners {
                newest,
                older: Vec::new(),
                was_told: false,
            };
            table.insert(id.into(), owners);
            self.ids.insert(listed_as(function));
            self.note_change(function);
            return Change {
                is_hook: self.add_custom(function),
                in_place_of: None,
            };
        };
        let is_news = before.is_some() && !std::mem::replace(&mut owners.was_told, true);
        let mut older = std::mem::take(&mut owners.older);
        older.push(std::mem::replace(&mut owners.newest, newest));
        let stays = |older: &mut Registered| {
            older.owner != owner && (older.guard.is_none() || older.guard == guard)
        };
        let gone: Vec<Registered> = older.extract_if(.., |older| !stays(older)).collect();
        owners.older = older;
        for gone in &gone {
            self.release(id, gone);
        }
        Change {
            is_hook: false,
            in_place_of: before.filter(|_| is_news),
        }
    }

    /// Removes what that peer has registered under that id: the one before it serves again. True when
    /// workers have to know of it.
    pub(in crate::broker) fn unregister(
        &mut self,
        function: FunctionRef<'_>,
        owner: SlotId,
    ) -> bool {
        let id = function.id;
        let table = match function.namespace {
            None => Some(&mut self.registered),
            Some(name) => self.elsewhere.get_mut(name),
        };
        let Some(owners) = table.and_then(|table| table.get_mut(id)) else {
            return false;
        };
        if owners.newest.owner != owner {
            let at = owners.older.iter().rposition(|older| older.owner == owner);
            if let Some(at) = at {
                let gone = owners.older.remove(at);
                self.release(id, &gone);
            }
            return false;
        }
        if let Some(before) = owners.older.pop() {
            let gone = std::mem::replace(&mut owners.newest, before);
            self.release(id, &gone);
            return false;
        }
        if let Some(gone) = self.take(function) {
            self.release(id, &gone.newest);
        }
        self.note_change(function);
        custom_of(function).is_some() && self.drop_custom(id)
    }

    fn take(&mut self, function: FunctionRef<'_>) -> Option<Owners> {
        self.ids.remove(&listed_as(function));
        let Some(name) = function.namespace else {
            return self.registered.remove(function.id);
        };
        let table = self.elsewhere.get_mut(name)?;
        let taken = table.remove(function.id);
        if table.is_empty() {
            self.elsewhere.remove(name);
        }
        taken
    }

    fn release(&mut self, id: &str, gone: &Registered) {
        let bytes = id.len() + gone.description.held_bytes();
        self.holdings.remove(gone.owner, bytes);
    }

    /// A peer is gone: none of its functions is served from now on. Each has still to be unregistered.
    pub(in crate::broker) fn end(&mut self, owner: SlotId) {
        self.ended.insert(owner);
    }

    /// All functions of a peer that is gone have been unregistered.
    pub(in crate::broker) fn has_ended(&mut self, owner: SlotId) {
        self.ended.remove(&owner);
    }

    fn add_custom(&mut self, function: FunctionRef<'_>) -> bool {
        let Some((function, stream)) = custom_of(function) else {
            return false;
        };
        self.custom.get_or_default(stream).add(function);
        true
    }

    /// A function of that peer stands in `default` no longer, but in this namespace. True when
    /// workers have to know of it: a custom function is gone.
    pub(in crate::broker) fn settle_in(
        &mut self,
        function: FunctionRef<'_>,
        owner: SlotId,
        guard: Option<usize>,
    ) -> bool {
        let plain = FunctionRef::plain(function.id);
        let Some(owners) = self.registered.get_mut(function.id) else {
            return false;
        };
        let moved = match owners.newest.owner == owner {
            true => Some(&mut owners.newest),
            false => owners.older.iter_mut().find(|older| older.owner == owner),
        };
        let Some(moved) = moved else {
            return false;
        };
        let description = std::mem::take(&mut moved.description);
        let bytes = description.held_bytes();
        let id_bytes = function.id.len();
        self.holdings.remove(owner, id_bytes + bytes);
        self.holdings.add(owner, id_bytes); // what is left of it there
        let was_hook = self.unregister(plain, owner);
        self.register(function, owner, guard, description);
        was_hook
    }

    /// Streams with custom functions, and which.
    pub(in crate::broker) fn custom(&self) -> &PersistentMap<CustomFunctions> {
        &self.custom
    }

    /// The functions of an engine that others run are these: what counts here is which of them are
    /// custom. True when workers have to know of it.
    pub(in crate::broker) fn set_custom<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> bool {
        let mut custom = PersistentMap::<CustomFunctions>::default();
        for (function, stream) in ids.filter_map(custom::parse_id) {
            custom.get_or_default(stream).add(function);
        }
        let has_changed = self.custom != custom;
        self.custom = custom;
        has_changed
    }

    /// The engine does not have that custom function any more. True when workers have to know of it.
    pub(in crate::broker) fn drop_custom(&mut self, id: &str) -> bool {
        let Some((function, stream)) = custom::parse_id(id) else {
            return false;
        };
        let is_there = |functions: &CustomFunctions| functions.has(function);
        if !self.custom.get(stream).is_some_and(is_there) {
            return false;
        }
        let functions = self.custom.get_or_default(stream);
        functions.remove(function);
        if functions.is_empty() {
            self.custom.remove(stream);
        }
        true
    }

    /// Who serves it there, and not in another namespace.
    pub(in crate::broker) fn owner_of(&self, function: FunctionRef<'_>) -> Option<SlotId> {
        Some(self.get(function)?.owner)
    }

    /// Where a call of it goes: to its namespace, then to `default`.
    pub(in crate::broker) fn find(&self, function: FunctionRef<'_>) -> Option<SlotId> {
        self.owner_of(self.found_as(function)?)
    }

    /// The function that is found under that name.
    pub(in crate::broker) fn found_as<'a>(
        &self,
        function: FunctionRef<'a>,
    ) -> Option<FunctionRef<'a>> {
        let plain = FunctionRef::plain(function.id);
        let is_there = |function: &FunctionRef<'_>| self.get(*function).is_some();
        [function, plain].into_iter().find(is_there)
    }

    /// What SDK workers tell of the function beside its schemas, a JSON text.
    pub(in crate::broker) fn metadata_of(&self, function: FunctionRef<'_>) -> Option<&str> {
        let metadata = &self.get(function)?.description.metadata;
        metadata.as_deref().map(RawValue::get)
    }

    /// The newest registration whose owner is there.
    fn get(&self, function: FunctionRef<'_>) -> Option<&Registered> {
        let table = match function.namespace {
            None => &self.registered,
            Some(name) => self.elsewhere.get(name)?,
        };
        let owners = table.get(function.id)?;
        let older = owners.older.iter().rev();
        let mut all = [&owners.newest].into_iter().chain(older);
        all.find(|registered| !self.ended.contains(&registered.owner))
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.registered.is_empty()
            && self.elsewhere.is_empty()
            && self.ids.is_empty()
            && self.ended.is_empty()
            && !self.holdings.is_left()
    }

    /// The set of ids may be another than when that was last told.
    pub(in crate::broker) fn expect_to_be_told(&mut self, now: Instant) {
        if self.has_changed() && self.told_at.is_none() {
            self.told_at = Some(now + GATHERED_FOR);
        }
    }

    /// When the next change is told.
    pub(in crate::broker) fn next_told(&self) -> Option<Instant> {
        self.told_at
    }

    /// Whether it is time to tell of a change: it is told now.
    pub(in crate::broker) fn take_due(&mut self, now: Instant) -> bool {
        self.told_at.take_if(|at| *at <= now).is_some() && self.take_changed()
    }

    /// Whether the set of ids is another than when that was last told.
    fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The same, and it is told now.
    fn take_changed(&mut self) -> bool {
        !std::mem::take(&mut self.changed).is_empty()
    }

    /// What comes and goes again is no change. Ours are always there.
    fn note_change(&mut self, function: FunctionRef<'_>) {
        match function.namespace {
            None if is_own(function.id) => {}
            None => self.flip(function.id),
            Some(name) => self.flip(&format!("{name}\0{}", function.id)),
        }
    }

    fn flip(&mut self, name: &str) {
        if !self.changed.remove(name) {
            self.changed.insert(name.into());
        }
    }

    /// Our own functions whose ids begin so, by id; those that SDK workers have taken over excepted.
    pub(in crate::broker) fn ours_below(&self, prefix: &str) -> Vec<&'static str> {
        let ids = ours().iter().map(|(id, _)| *id);
        ids.filter(|id| id.starts_with(prefix) && self.get(FunctionRef::plain(id)).is_none())
            .collect()
    }
}

/// The function of a stream that it stands for, and the stream. Only those of `default` do.
pub(in crate::broker) fn custom_of(function: FunctionRef<'_>) -> Option<(StreamFunction, &str)> {
    match function.namespace {
        None => custom::parse_id(function.id),
        Some(_) => None,
    }
}

/// Whether the server itself has a function of that id.
pub(in crate::broker) fn is_own(function_id: &str) -> bool {
    let found = ours().binary_search_by_key(&function_id, |(id, _)| id);
    found.is_ok()
}

/// Our own functions by id, each with its entry in listings.
fn ours() -> &'static [(&'static str, &'static str)] {
    static ENTRIES: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
        let entries: Vec<&RawValue> = serde_json::from_str(OURS).unwrap_or_default();
        let with_id = |entry: &'static RawValue| Some((id_in(entry.get())?, entry.get()));
        let mut entries: Vec<_> = entries.into_iter().filter_map(with_id).collect();
        entries.sort_unstable();
        entries
    });
    &ENTRIES
}

/// The function's id in one of our own entries, which holds it without escapes.
fn id_in(entry: &str) -> Option<&str> {
    let (_, behind) = entry.split_once(r#""function_id":""#)?;
    behind.split_once('"').map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(functions: &mut Functions, id: &str, owner: u32) -> Change {
        functions.register(
            FunctionRef::plain(id),
            SlotId::first(owner),
            None,
            Description::default(),
        )
    }

    #[test]
    fn the_newest_owner_keeps_an_id_that_the_older_one_leaves() {
        let mut functions = Functions::default();
        register(&mut functions, "f", 1);
        register(&mut functions, "f", 2);
        functions.unregister(FunctionRef::plain("f"), SlotId::first(1));
        assert_eq!(
            functions.owner_of(FunctionRef::plain("f")),
            Some(SlotId::first(2))
        );
        functions.unregister(FunctionRef::plain("f"), SlotId::first(2));
        assert_eq!(functions.owner_of(FunctionRef::plain("f")), None);
    }

    #[test]
    fn when_the_newest_ends_the_one_before_it_serves_again() {
        let mut functions = Functions::default();
        assert_eq!(register(&mut functions, "f", 1).in_place_of, None);
        assert_eq!(
            register(&mut functions, "f", 2).in_place_of,
            Some(SlotId::first(1))
        );
        assert_eq!(register(&mut functions, "f", 3).in_place_of, None, "said");
        register(&mut functions, "f", 1);
        functions.take_changed();
        for (ends, then) in [
            (1, Some(SlotId::first(3))),
            (2, Some(SlotId::first(3))),
            (3, None),
        ] {
            functions.end(SlotId::first(ends));
            assert_eq!(functions.owner_of(FunctionRef::plain("f")), then, "at once");
            functions.unregister(FunctionRef::plain("f"), SlotId::first(ends));
            functions.has_ended(SlotId::first(ends));
            assert_eq!(functions.owner_of(FunctionRef::plain("f")), then);
            assert_eq!(functions.has_changed(), then.is_none());
        }
        assert!(functions.holdings.is_empty() && functions.ended.is_empty());
    }

    #[test]
    fn a_worker_with_rules_serves_again_only_after_others_of_its_listener() {
        let mut functions = Functions::default();
        let guarded = |functions: &mut Functions, owner, guard| {
            functions.register(
                FunctionRef::plain("f"),
                SlotId::first(owner),
                Some(guard),
                Description::default(),
            );
        };
        guarded(&mut functions, 1, 7);
        guarded(&mut functions, 2, 7);
        functions.unregister(FunctionRef::plain("f"), SlotId::first(2));
        assert_eq!(
            functions.owner_of(FunctionRef::plain("f")),
            Some(SlotId::first(1))
        );
        register(&mut functions, "f", 3);
        functions.unregister(FunctionRef::plain("f"), SlotId::first(3));
        assert_eq!(functions.owner_of(FunctionRef::plain("f")), None);
        assert!(functions.holdings.is_empty());
    }

    #[test]
    fn what_an_ended_owner_has_registered_is_not_listed() {
        let mut functions = Functions::default();
        register(&mut functions, "stream::get", 1);
        register(&mut functions, "f", 1);
        functions.end(SlotId::first(1));
        let all = listed(&functions, false);
        assert!(all.contains("StreamGetInput") && !all.contains(r#""function_id":"f""#));
    }

    #[test]
    fn custom_functions_of_a_running_engine_are_those_it_lists() {
        let mut functions = Functions::default();
        let ids = ["stream::get(chat)", "f", "stream::set", "stream::set(chat)"];
        assert!(functions.set_custom(ids.into_iter()));
        assert!(!functions.set_custom(ids.into_iter()), "nothing is new");
        assert!(functions.drop_custom("stream::get(chat)"));
        assert!(!functions.drop_custom("stream::get(chat)"));
        assert!(functions.custom().get("chat").is_some());
        assert!(functions.set_custom(["f"].into_iter()));
        assert!(functions.custom().is_empty());
    }

    fn listed(functions: &Functions, include_internal: bool) -> String {
        let (mut out, mut after) = (Vec::new(), None);
        loop {
            let mut left = 2;
            after = functions.list_some(after.as_ref(), |function| {
                left -= 1;
                if include_internal || !function.id.starts_with(INTERNAL_PREFIX) {
                    out.push(Vec::new());
                    function.write(out.last_mut().unwrap());
                }
                left > 0
            });
            if after.is_none() {
                return format!("[{}]", String::from_utf8(out.join(&b',')).unwrap());
            }
        }
    }

    #[test]
    fn a_listing_holds_the_eight_and_what_sdk_workers_have_registered() {
        let mut functions = Functions::default();
        let description = Description {
            text: Some("says \"hi\"".into()),
            request_format: Some(RawValue::from_string(r#"{"type":"object"}"#.into()).unwrap()),
            ..Description::default()
        };
        functions.register(
            FunctionRef::plain("my::fn"),
            SlotId::first(1),
            None,
            description,
        );
        register(&mut functions, "engine::mine", 1);
        register(&mut functions, "stream::get", 1);
        let list: serde_json::Value = serde_json::from_str(&listed(&functions, false)).unwrap();
        let list = list.as_array().unwrap();
        let ids: Vec<_> = list
            .iter()
            .map(|entry| entry["function_id"].as_str().unwrap())
            .collect();
        assert_eq!(
            ids,
            [
                "my::fn",
                "publish",
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
            list[3]["description"].is_null(),
            "it was registered over ours"
        );
        assert_eq!(list[8]["request_format"]["title"], "StreamSetInput");
        let all = listed(&functions, true);
        assert!(all.contains("engine::mine") && all.contains("engine::health::check"));
    }

    #[test]
    fn the_set_has_changed_when_an_id_is_new_or_gone() {
        let mut functions = Functions::default();
        register(&mut functions, "f", 1);
        assert!(functions.has_changed());
        functions.unregister(FunctionRef::plain("f"), SlotId::first(1));
        assert!(!functions.take_changed(), "it came and went");
        register(&mut functions, "f", 1);
        assert!(functions.take_changed());
        register(&mut functions, "f", 2);
        register(&mut functions, "stream::get", 2);
        assert!(!functions.has_changed(), "the ids are the same");
        functions.unregister(FunctionRef::plain("f"), SlotId::first(2));
        assert!(!functions.has_changed(), "the one before serves it");
        functions.unregister(FunctionRef::plain("f"), SlotId::first(1));
        assert!(functions.take_changed() && !functions.take_changed());
    }

    #[test]
    fn functions_of_two_namespaces_never_stand_for_each_other() {
        let mut functions = Functions::default();
        let named = |namespace| FunctionRef::new("who", Some(namespace));
        functions.register(named("a"), SlotId::first(1), None, Description::default());
        functions.register(named("b"), SlotId::first(2), None, Description::default());
        assert_eq!(functions.find(named("a")), Some(SlotId::first(1)));
        assert_eq!(functions.find(named("b")), Some(SlotId::first(2)));
        assert_eq!(functions.find(FunctionRef::plain("who")), None);
        functions.unregister(named("a"), SlotId::first(1));
        assert_eq!(functions.find(named("a")), None);
        register(&mut functions, "who", 3);
        assert_eq!(
            functions.find(named("a")),
            Some(SlotId::first(3)),
            "that of default"
        );
        assert_eq!(functions.find(named("b")), Some(SlotId::first(2)));
        assert_eq!(functions.owner_of(named("a")), None);
        let list: serde_json::Value = serde_json::from_str(&listed(&functions, false)).unwrap();
        let who = list.as_array().unwrap().iter();
        let who: Vec<_> = who.filter(|entry| entry["function_id"] == "who").collect();
        assert_eq!(who.len(), 2);
        assert_eq!(
            (who[0].get("namespace"), &who[1]["namespace"]),
            (None, &"b".into())
        );
    }

    #[test]
    fn a_custom_store_is_one_of_default() {
        let mut functions = Functions::default();
        let id = "stream::get(chat)";
        let elsewhere = FunctionRef::new(id, Some("orders"));
        let change = functions.register(elsewhere, SlotId::first(1), None, Description::default());
        assert!(!change.is_hook);
        assert!(register(&mut functions, id, 2).is_hook);
        assert!(
            functions.settle_in(elsewhere, SlotId::first(2), None),
            "it was one"
        );
        assert!(functions.custom().is_empty());
        assert_eq!(functions.find(elsewhere), Some(SlotId::first(2)));
        assert!(!functions.unregister(elsewhere, SlotId::first(2)));
    }
}
