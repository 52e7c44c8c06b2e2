//! The groups that there are, as the index in Redis and the channel tell: what listings are answered
//! from, and which pair of names a key belongs to.
//!
//! A key with one colon between its names has one reading. One with more, which nobody of ours has
//! made, is unnamed until a message or a change names it. No socket here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::id::GroupKey;

/// What stands before the joined names in a key.
pub(super) const PREFIX: &str = "stream:";

/// Both names of each group, by key.
pub(super) const GROUPS: &str = "iii-stream:groups";
/// The last time of each group, by key.
pub(super) const TIMES: &str = "iii-stream:times";

/// The key of a group's hash.
pub(super) fn redis_key(key: &GroupKey) -> String {
    format!("{PREFIX}{}", key.joined())
}

/// Whether other names give the same key.
pub(super) fn is_ambiguous(key: &GroupKey) -> bool {
    key.joined().bytes().filter(|byte| *byte == b':').count() > 1
}

#[derive(Default)]
pub(super) struct Names {
    streams: BTreeMap<String, BTreeSet<String>>,
    /// Who has a joined name that could be two pairs; `None`: nobody has said.
    owners: HashMap<String, Option<GroupKey>>,
}

impl Names {
    /// A group is there, by these names.
    pub(super) fn enter(&mut self, key: &GroupKey) {
        if is_ambiguous(key) {
            let known = self.owners.insert(key.joined().into(), Some(key.clone()));
            if let Some(Some(other)) = known.filter(|known| known.as_ref() != Some(key)) {
                self.remove_name(&other);
            }
        }
        let groups = self.streams.entry(key.stream().into()).or_default();
        groups.insert(key.group().into());
    }

    /// Whether that group is known by these names.
    pub(super) fn has(&self, key: &GroupKey) -> bool {
        let groups = self.streams.get(key.stream());
        groups.is_some_and(|groups| groups.contains(key.group()))
    }

    /// A key is there that nobody of ours has made.
    pub(super) fn enter_unnamed(&mut self, joined: &str) {
        match joined.matches(':').count() {
            0 => {}
            1 => {
                let at = joined.find(':').unwrap_or_default();
                if let Some(key) = GroupKey::of_joined(joined, at) {
                    self.enter(&key);
                }
            }
            _ => {
                self.owners.entry(joined.into()).or_default();
            }
        }
    }

    /// The group's last item is gone.
    pub(super) fn remove(&mut self, key: &GroupKey) {
        if is_ambiguous(key) {
            let owner = self.owners.remove(key.joined()).flatten();
            if let Some(owner) = owner {
                self.remove_name(&owner);
            }
        }
        self.remove_name(key);
    }

    /// The last item is gone of the group that has that joined name.
    pub(super) fn remove_joined(&mut self, joined: &str) {
        if let Some(owner) = self.owners.remove(joined) {
            if let Some(owner) = owner {
                self.remove_name(&owner);
            }
            return;
        }
        let at = joined.find(':').unwrap_or(joined.len());
        if let Some(key) = GroupKey::of_joined(joined, at) {
            self.remove_name(&key);
        }
    }

    fn remove_name(&mut self, key: &GroupKey) {
        if let Some(groups) = self.streams.get_mut(key.stream()) {
            groups.remove(key.group());
            if groups.is_empty() {
                self.streams.remove(key.stream());
            }
        }
    }

    /// Whether what stands under the key of these names is another pair's.
    pub(super) fn is_of_another(&self, key: &GroupKey) -> bool {
        let owner = self.owners.get(key.joined());
        matches!(owner, Some(Some(owner)) if owner != key)
    }

    /// The groups of one stream, or all; sorted. An unnamed one shows in each stream that it may be
    /// of, and among all of them once, split at its first colon.
    pub(super) fn list(&self, stream: Option<&str>) -> Vec<GroupKey> {
        let mut keys = Vec::new();
        match stream {
            Some(stream) => {
                let groups = self.streams.get(stream).into_iter().flatten();
                keys.extend(groups.map(|group| GroupKey::new(stream, group)));
                keys.extend(
                    self.unnamed()
                        .filter_map(|joined| GroupKey::of_joined(joined, stream.len()))
                        .filter(|key| key.stream() == stream),
                );
            }
            None => {
                for (stream, groups) in &self.streams {
                    keys.extend(groups.iter().map(|group| GroupKey::new(stream, group)));
                }
                let first_colon = |joined: &str| GroupKey::of_joined(joined, joined.find(':')?);
                keys.extend(self.unnamed().filter_map(first_colon));
            }
        }
        keys.sort_unstable_by(|a, b| (a.stream(), a.group()).cmp(&(b.stream(), b.group())));
        keys
    }

    fn unnamed(&self) -> impl Iterator<Item = &str> {
        let unnamed = self.owners.iter().filter(|(_, owner)| owner.is_none());
        unnamed.map(|(joined, _)| &**joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &Names, stream: Option<&str>) -> Vec<(String, String)> {
        let keys = names.list(stream).into_iter();
        keys.map(|key| (key.stream().to_owned(), key.group().to_owned()))
            .collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| (a.to_string(), b.to_string());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn listings_are_exact_and_sorted() {
        let mut names = Names::default();
        for (stream, group) in [("b", "1"), ("a", "2"), ("a", "1"), ("a:x", "1"), ("a", "1")] {
            names.enter(&GroupKey::new(stream, group));
        }
        assert_eq!(listed(&names, Some("a")), pairs(&[("a", "1"), ("a", "2")]));
        names.remove(&GroupKey::new("a", "1"));
        let left = pairs(&[("a", "2"), ("a:x", "1"), ("b", "1")]);
        assert_eq!(listed(&names, None), left);
        assert!(listed(&names, Some("c")).is_empty());
    }

    #[test]
    fn an_unnamed_key_shows_wherever_it_may_belong_until_it_is_named() {
        let mut names = Names::default();
        names.enter_unnamed("a:b:c");
        names.enter_unnamed("x:y");
        names.enter_unnamed("nothing");
        let (left, right) = (GroupKey::new("a", "b:c"), GroupKey::new("a:b", "c"));
        assert_eq!(listed(&names, Some("a")), pairs(&[("a", "b:c")]));
        assert_eq!(listed(&names, Some("a:b")), pairs(&[("a:b", "c")]));
        assert_eq!(listed(&names, None), pairs(&[("a", "b:c"), ("x", "y")]));
        assert!(!names.is_of_another(&left) && !names.is_of_another(&right));

        names.enter(&right);
        assert!(names.is_of_another(&left) && !names.is_of_another(&right));
        assert!(listed(&names, Some("a")).is_empty());
        names.enter_unnamed("a:b:c");
        assert!(names.is_of_another(&left), "it has its name");
        names.remove_joined("a:b:c");
        assert!(!names.is_of_another(&left));
        assert_eq!(listed(&names, None), pairs(&[("x", "y")]));
    }
}
