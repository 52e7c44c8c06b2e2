//! The groups that there are, as the index in Redis and the channel tell: what listings are answered
//! from, and which pair of names a key belongs to.
//!
//! A key with one colon between its names has one reading. One with more, which nobody of ours has
//! made, is unnamed until a message or a change names it. No socket here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use crate::id::GroupKey;

use super::listing::{Known, Listing, Name};

/// What stands before the joined names in a key.
pub(super) const PREFIX: &str = "stream:";

/// Both names of each group, by key.
pub(super) const GROUPS: &str = "iii-stream:groups";
/// The last time of each group, by key.
pub(super) const TIMES: &str = "iii-stream:times";
/// When each item ends that does, by Redis's clock.
pub(super) const ENDS: &str = "iii-stream:ends";
/// How long an item lasts that was told so itself.
pub(super) const TTLS: &str = "iii-stream:ttls";
/// When the lease of each run ends that keeps members.
pub(super) const RUNS: &str = "iii-stream:runs";

/// The key of a group's hash.
pub(super) fn redis_key(key: &GroupKey) -> String {
    format!("{PREFIX}{}", key.joined())
}

/// Who is a member of the group, and by whom.
pub(super) fn members_key(key: &GroupKey) -> String {
    format!("iii-stream:members:{}", redis_key(key))
}

/// Whom that run keeps.
pub(super) fn run_key(run: &str) -> String {
    format!("iii-stream:run:{run}")
}

/// Whether other names give the same key.
pub(super) fn is_ambiguous(key: &GroupKey) -> bool {
    key.joined().bytes().filter(|byte| *byte == b':').count() > 1
}

#[derive(Default)]
pub(super) struct Names {
    streams: BTreeMap<String, BTreeSet<String>>,
    /// Who has a joined name that could be two pairs; `None`: nobody has said.
    owners: BTreeMap<String, Option<GroupKey>>,
    /// Joined names that nobody has said the names of.
    unnamed: BTreeSet<String>,
    /// Listings that have begun and are not whole, the oldest first.
    pub(super) listings: VecDeque<Listing>,
}

impl Names {
    /// A group is there, by these names.
    pub(super) fn enter(&mut self, key: &GroupKey) {
        if is_ambiguous(key) {
            let known = self.owners.insert(key.joined().into(), Some(key.clone()));
            match known {
                Some(Some(other)) if other != *key => self.remove_name(&other),
                Some(None) => self.remove_unnamed(key.joined()),
                _ => {}
            }
        }
        let groups = self.streams.entry(key.stream().into()).or_default();
        if groups.insert(key.group().into()) {
            self.note_change(Name::Of(key.stream(), key.group()), false);
        }
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
                let owner = self.owners.entry(joined.into()).or_default();
                if owner.is_none() && self.unnamed.insert(joined.into()) {
                    self.note_change(Name::Joined(joined), false);
                }
            }
        }
    }

    /// The group's last item is gone.
    pub(super) fn remove(&mut self, key: &GroupKey) {
        if is_ambiguous(key) {
            match self.owners.remove(key.joined()) {
                Some(Some(owner)) => self.remove_name(&owner),
                Some(None) => self.remove_unnamed(key.joined()),
                None => {}
            }
        }
        self.remove_name(key);
    }

    /// The last item is gone of the group that has that joined name.
    pub(super) fn remove_joined(&mut self, joined: &str) {
        if let Some(owner) = self.owners.remove(joined) {
            return match owner {
                Some(owner) => self.remove_name(&owner),
                None => self.remove_unnamed(joined),
            };
        }
        let at = joined.find(':').unwrap_or(joined.len());
        if let Some(key) = GroupKey::of_joined(joined, at) {
            self.remove_name(&key);
        }
    }

    fn remove_name(&mut self, key: &GroupKey) {
        if let Some(groups) = self.streams.get_mut(key.stream()) {
            let was_there = groups.remove(key.group());
            if groups.is_empty() {
                self.streams.remove(key.stream());
            }
            if was_there {
                self.note_change(Name::Of(key.stream(), key.group()), true);
            }
        }
    }

    fn remove_unnamed(&mut self, joined: &str) {
        if self.unnamed.remove(joined) {
            self.note_change(Name::Joined(joined), true);
        }
    }

    fn note_change(&mut self, name: Name<'_>, was_there: bool) {
        for listing in &mut self.listings {
            listing.note_change(name, was_there);
        }
    }

    /// Whether what stands under the key of these names is another pair's.
    pub(super) fn is_of_another(&self, key: &GroupKey) -> bool {
        let owner = self.owners.get(key.joined());
        matches!(owner, Some(Some(owner)) if owner != key)
    }

    /// The oldest listing, which goes on.
    pub(super) fn list_on(&mut self, units: &mut usize) -> Option<Listing> {
        let mut listing = self.listings.pop_front()?;
        if listing.go_on(self, units) {
            return Some(listing);
        }
        self.listings.push_front(listing);
        None
    }

    /// Takes it apart, bit by bit.
    pub(super) fn into_rubbish(self) -> impl Iterator<Item = ()> + Send + 'static {
        let groups = self.streams.into_values().flatten().map(drop);
        let owners = self.owners.into_iter().map(drop);
        groups
            .chain(owners)
            .chain(self.unnamed.into_iter().map(drop))
    }
}

impl Known for Names {
    fn named<'n>(
        &'n self,
        of: Option<&'n str>,
        after: Option<&'n (String, String)>,
    ) -> impl Iterator<Item = (&'n str, &'n str)> {
        let begin = after.map(|(stream, group)| (&**stream, &**group));
        let first = of.or(begin.map(|(stream, _)| stream));
        let first = first.and_then(|stream| self.streams.get_key_value(stream));
        let rest = first.into_iter().flat_map(move |(stream, groups)| {
            let from = match begin {
                Some((_, group)) => Bound::Excluded(group),
                None => Bound::Unbounded,
            };
            let groups = groups.range::<str, _>((from, Bound::Unbounded));
            groups.map(move |group| (&**stream, &**group))
        });
        let from = match begin {
            Some((stream, _)) => Bound::Excluded(stream),
            None => Bound::Unbounded,
        };
        let others = self.streams.range::<str, _>((from, Bound::Unbounded));
        let others = others.take_while(move |_| of.is_none());
        rest.chain(others.flat_map(|(stream, groups)| {
            let groups = groups.iter();
            groups.map(move |group| (&**stream, &**group))
        }))
    }

    fn unnamed<'n>(
        &'n self,
        of: Option<&'n str>,
        after: Option<&'n str>,
    ) -> impl Iterator<Item = &'n str> {
        let prefix = of.map_or_else(String::new, |stream| format!("{stream}:"));
        let from = match after {
            Some(after) => Bound::Excluded(after.to_owned()),
            None => Bound::Included(prefix.clone()),
        };
        let rest = self.unnamed.range((from, Bound::Unbounded));
        let rest = rest.take_while(move |joined| joined.starts_with(&prefix));
        rest.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::listing::NAME_UNITS;
    use super::super::work::Asker;
    use super::*;
    use crate::id::WorkerId;

    fn listing(stream: Option<&str>) -> Listing {
        let asker = Asker {
            shard: WorkerId(0),
            epoch: 0,
            number: 0,
        };
        Listing::new(asker, stream.map(Into::into), Instant::now())
    }

    fn shown(listing: Listing) -> Vec<(String, String)> {
        let names = listing.end();
        let names = names.iter();
        names
            .map(|(stream, group)| (stream.to_owned(), group.to_owned()))
            .collect()
    }

    fn listed(names: &Names, stream: Option<&str>) -> Vec<(String, String)> {
        let mut listing = listing(stream);
        let mut units = usize::MAX;
        assert!(listing.go_on(names, &mut units));
        shown(listing)
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

    #[test]
    fn a_listing_over_turns_shows_what_was_there_when_it_began() {
        let mut draw = 1_u32;
        let mut below = |most: u32| {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (draw >> 8) % most
        };
        for stream in [None, Some("s1"), Some("s1:x"), Some("nobody")] {
            let mut names = Names::default();
            let mut change = |names: &mut Names| {
                let (stream, group) = (below(4), below(40));
                let key = GroupKey::new(&format!("s{stream}"), &group.to_string());
                let joined = format!("s{stream}:x:{group}");
                match below(5) {
                    0 | 1 => names.enter(&key),
                    2 => names.remove(&key),
                    3 => names.enter_unnamed(&joined),
                    _ if below(2) == 0 => names.remove_joined(&joined),
                    _ => names.enter(&GroupKey::new(&format!("s{stream}:x"), &group.to_string())),
                }
            };
            for _ in 0..300 {
                change(&mut names);
            }
            for _ in 0..20 {
                let there = listed(&names, stream);
                names.listings.push_back(listing(stream));
                let mut turns = 1;
                let whole = loop {
                    if let Some(whole) = names.list_on(&mut (5 * NAME_UNITS)) {
                        break whole;
                    }
                    for _ in 0..10 {
                        change(&mut names);
                    }
                    turns += 1;
                };
                assert_eq!(shown(whole), there);
                assert!(turns > there.len() / 10, "{turns} turns");
            }
        }
    }
}
