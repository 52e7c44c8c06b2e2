//! Which events triggers follow: whole streams, groups, items. One look, of up to four names, says
//! whether an event is anybody's.
//!
//! Copies share what they have in common. Whose triggers these are stays with the engine.

use crate::collections::PersistentMap;
use crate::id::Text;

/// The events that some trigger follows.
#[derive(Debug, Default, Clone)]
pub struct Followed {
    known: PersistentMap<OfStream>,
    /// Those that were followed when a link to an engine was lost, until it is known whether they
    /// still are.
    lost: PersistentMap<OfStream>,
}

/// Of one stream: triggers of any of its groups, and of one group each.
#[derive(Debug, Default, Clone)]
struct OfStream {
    any_group: OfGroup,
    groups: PersistentMap<OfGroup>,
}

/// Of one group, or of any: triggers of every event, and of one item each.
#[derive(Debug, Default, Clone)]
struct OfGroup {
    every: u32,
    items: PersistentMap<u32>,
}

impl Followed {
    /// One trigger more of that stream; `None`: of any group, of every event.
    pub fn add(&mut self, stream: &str, group: Option<&str>, item: Option<&str>) {
        let of_stream = self.known.get_or_default(stream);
        let of_group = match group {
            Some(group) => of_stream.groups.get_or_default(group),
            None => &mut of_stream.any_group,
        };
        match item {
            Some(item) => *of_group.items.get_or_default(item) += 1,
            None => of_group.every += 1,
        }
    }

    /// One trigger less, which was added.
    pub fn remove(&mut self, stream: &str, group: Option<&str>, item: Option<&str>) {
        if self.known.get(stream).is_none() {
            return;
        }
        let of_stream = self.known.get_or_default(stream);
        match group {
            Some(group) if of_stream.groups.get(group).is_some() => {
                let of_group = of_stream.groups.get_or_default(group);
                of_group.remove(item);
                if of_group.is_empty() {
                    of_stream.groups.remove(group);
                }
            }
            Some(_) => {}
            None => of_stream.any_group.remove(item),
        }
        if of_stream.is_empty() {
            self.known.remove(stream);
        }
    }

    /// Whether some trigger follows that event. `item`: what it is about, if that is an item.
    pub fn has(&self, stream: &str, group: &str, item: Option<&str>) -> bool {
        let trees = [&self.known, &self.lost];
        let mut of_stream = trees.iter().filter_map(|tree| tree.get(stream));
        of_stream.any(|of_stream| of_stream.has(group, item))
    }

    /// Whether no event is followed.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.lost.is_empty()
    }

    /// How many names of streams, and of groups and items of that stream, are not shared with that copy.
    #[cfg(test)]
    pub(crate) fn unshared_len(&self, copy: &Followed, stream: &str) -> usize {
        let trees = [self.known.get(stream), copy.known.get(stream)];
        let below = match trees.map(|tree| tree.map(|tree| (&tree.groups, &tree.any_group.items))) {
            [Some((groups, items)), Some((other_groups, other_items))] => {
                groups.unshared_len(other_groups) + items.unshared_len(other_items)
            }
            _ => 0,
        };
        self.known.unshared_len(&copy.known) + below
    }

    /// Adds what another one follows, name by name.
    pub fn add_all(&mut self, more: &Followed) {
        add_all(&mut self.known, &more.known, OfStream::add_all);
        add_all(&mut self.lost, &more.lost, OfStream::add_all);
    }

    /// These, and those that were followed before the link was lost.
    pub fn with_lost(self, lost: &Followed) -> Followed {
        Followed {
            known: self.known,
            lost: lost.known.clone(),
        }
    }
}

impl OfStream {
    fn has(&self, group: &str, item: Option<&str>) -> bool {
        self.any_group.has(item)
            || self
                .groups
                .get(group)
                .is_some_and(|of_group| of_group.has(item))
    }

    fn is_empty(&self) -> bool {
        self.any_group.is_empty() && self.groups.is_empty()
    }

    fn add_all(&mut self, more: &OfStream) {
        self.any_group.add_all(&more.any_group);
        add_all(&mut self.groups, &more.groups, OfGroup::add_all);
    }
}

impl OfGroup {
    fn has(&self, item: Option<&str>) -> bool {
        self.every > 0 || item.is_some_and(|item| self.items.get(item).is_some())
    }

    fn is_empty(&self) -> bool {
        self.every == 0 && self.items.is_empty()
    }

    fn remove(&mut self, item: Option<&str>) {
        let Some(item) = item else {
            self.every = self.every.saturating_sub(1);
            return;
        };
        match self.items.get(item) {
            None => {}
            Some(0 | 1) => {
                self.items.remove(item);
            }
            Some(_) => *self.items.get_or_default(item) -= 1,
        }
    }

    fn add_all(&mut self, more: &OfGroup) {
        self.every += more.every;
        add_all(&mut self.items, &more.items, |count, more| *count += more);
    }
}

fn add_all<V: Clone + Default>(
    map: &mut PersistentMap<V>,
    more: &PersistentMap<V>,
    add: impl Fn(&mut V, &V),
) {
    if map.is_empty() {
        *map = more.clone();
    } else {
        more.for_each(|name, value| add(map.get_or_default(Text::clone(name)), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pattern = (&'static str, Option<&'static str>, Option<&'static str>);

    const PATTERNS: [Pattern; 6] = [
        ("s", None, None),
        ("s", Some("g"), None),
        ("s", None, Some("i")),
        ("s", Some("g"), Some("i")),
        ("s", Some("h"), Some("i")),
        ("t", Some("g"), None),
    ];

    const EVENTS: [Pattern; 8] = [
        ("s", Some("g"), Some("i")),
        ("s", Some("g"), Some("j")),
        ("s", Some("g"), None),
        ("s", Some("h"), Some("i")),
        ("s", Some("h"), None),
        ("s", Some("other"), Some("i")),
        ("t", Some("g"), None),
        ("t", Some("h"), Some("i")),
    ];

    fn follows((stream, group, item): Pattern, event: Pattern) -> bool {
        let is_wanted = |wanted: Option<&str>, is: Option<&str>| wanted.is_none() || wanted == is;
        stream == event.0 && is_wanted(group, event.1) && is_wanted(item, event.2)
    }

    fn check(followed: &Followed, patterns: &[Pattern]) {
        for event in EVENTS {
            let wanted = patterns.iter().any(|pattern| follows(*pattern, event));
            let group = event.1.unwrap_or_default();
            assert_eq!(
                followed.has(event.0, group, event.2),
                wanted,
                "{event:?} by {patterns:?}"
            );
        }
        assert_eq!(followed.is_empty(), patterns.is_empty());
    }

    #[test]
    fn an_event_is_followed_while_a_trigger_of_its_stream_group_and_item_is_there() {
        // Each set of patterns, each pattern in it twice: the first removal changes nothing.
        for set in 0..1_u32 << PATTERNS.len() {
            let chosen = |index: &usize| set & (1 << index) != 0;
            let mut patterns: Vec<Pattern> = (0..PATTERNS.len())
                .filter(chosen)
                .map(|index| PATTERNS[index])
                .collect();
            let mut followed = Followed::default();
            for (stream, group, item) in patterns.iter().chain(&patterns) {
                followed.add(stream, *group, *item);
            }
            check(&followed, &patterns);
            while let Some((stream, group, item)) = patterns.last().copied() {
                followed.remove(stream, group, item);
                check(&followed, &patterns);
                followed.remove(stream, group, item);
                patterns.pop();
                check(&followed, &patterns);
            }
        }
    }

    #[test]
    fn what_was_never_added_takes_nothing_away() {
        let mut followed = Followed::default();
        followed.add("s", Some("g"), Some("i"));
        followed.remove("s", Some("h"), None);
        followed.remove("s", Some("g"), Some("j"));
        followed.remove("t", None, None);
        assert!(followed.has("s", "g", Some("i")));
    }

    #[test]
    fn what_was_followed_before_counts_until_it_is_known_anew() {
        let (mut known, mut lost) = (Followed::default(), Followed::default());
        known.add("s", Some("g"), None);
        lost.add("s", None, Some("i"));
        lost.add_all(&known);
        let mut again = Followed::default();
        again.add("t", None, None);
        lost.add_all(&again);
        let both = Followed::default().with_lost(&lost);
        check(&both, &[PATTERNS[1], PATTERNS[2], ("t", None, None)]);
        check(&known.with_lost(&Followed::default()), &[PATTERNS[1]]);
    }

    #[test]
    fn a_copy_is_not_changed_with_the_first() {
        let mut followed = Followed::default();
        for item in 0..1000 {
            followed.add("s", Some("g"), Some(&item.to_string()));
        }
        let copy = followed.clone();
        for item in 0..1000 {
            followed.remove("s", Some("g"), Some(&item.to_string()));
        }
        assert!(followed.is_empty());
        assert!((0..1000).all(|item| copy.has("s", "g", Some(&item.to_string()))));
    }
}
