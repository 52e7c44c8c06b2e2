//! A map and a set by name whose copies share what they have in common: a copy costs nothing, and a
//! change in one copies a few nodes of a tree, however many names there are (a hash trie).
//!
//! May not know what it holds. Gives no order.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::id::Text;

/// Entries of a leaf; one more, and it becomes a branch.
const LEAF_LEN: usize = 16;
/// Bits of the hash that choose a child of a branch.
const BITS: u32 = 4;
const CHILDREN: usize = 1 << BITS;
/// Below this many branches no bit of the hash is left: a leaf may have any length.
const LEVELS: u32 = u64::BITS / BITS;

/// Values by name.
#[derive(Debug, Clone)]
pub struct PersistentMap<V> {
    root: Node<V>,
    hasher: DefaultHashBuilder,
}

/// Names.
#[derive(Debug, Clone, Default)]
pub struct PersistentSet(PersistentMap<()>);

#[derive(Debug, Clone)]
enum Node<V> {
    Leaf(Arc<Vec<Entry<V>>>),
    /// More entries than half a leaf's.
    Branch(Arc<[Node<V>; CHILDREN]>),
}

#[derive(Debug, Clone)]
struct Entry<V> {
    hash: u64,
    name: Text,
    value: V,
}

impl<V> Default for PersistentMap<V> {
    fn default() -> Self {
        PersistentMap {
            root: Node::default(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<V> PersistentMap<V> {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&V> {
        // Most maps are empty, and are asked all the time.
        if self.is_empty() {
            return None;
        }
        self.root.get(self.hash_of(name), name)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.root, Node::Leaf(entries) if entries.is_empty())
    }

    /// Calls `each` with everything that is in it, in no order.
    pub fn for_each(&self, mut each: impl FnMut(&Text, &V)) {
        self.root
            .for_each(&mut |entry| each(&entry.name, &entry.value));
    }

    /// How many names stand in parts of the tree that are not shared with that copy.
    #[cfg(test)]
    pub(crate) fn unshared_len(&self, copy: &PersistentMap<V>) -> usize {
        self.root.unshared_len(&copy.root)
    }

    fn hash_of(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }
}

impl<V: Clone + Default> PersistentMap<V> {
    /// The value of that name, to change; it is made if there is none.
    pub fn get_or_default(&mut self, name: impl Into<Text>) -> &mut V {
        let name = name.into();
        let hash = self.hash_of(&name);
        self.root.get_or_default(hash, name, 0)
    }

    /// Takes a name out; `None` when it is not there.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        let hash = self.hash_of(name);
        self.root.get(hash, name)?; // a look copies nothing
        self.root.remove(hash, name, 0)
    }
}

impl<V: PartialEq> PartialEq for PersistentMap<V> {
    fn eq(&self, other: &Self) -> bool {
        let (mut len, mut other_len, mut is_same) = (0_usize, 0_usize, true);
        self.for_each(|name, value| {
            len += 1;
            is_same &= other.get(name) == Some(value);
        });
        other.for_each(|_, _| other_len += 1);
        is_same && len == other_len
    }
}

impl PersistentSet {
    /// Whether the name is in it.
    pub fn contains(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// Whether no name is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a name, unless it is there.
    pub fn insert(&mut self, name: Text) {
        if !self.contains(&name) {
            self.0.get_or_default(name);
        }
    }

    /// Takes a name out, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Adds the names of another set.
    pub fn extend(&mut self, more: &PersistentSet) {
        if self.is_empty() {
            *self = more.clone();
        } else {
            more.0.for_each(|name, ()| self.insert(Text::clone(name)));
        }
    }

    /// How many names stand in parts of the tree that are not shared with that copy.
    #[cfg(test)]
    pub(crate) fn unshared_len(&self, copy: &PersistentSet) -> usize {
        self.0.unshared_len(&copy.0)
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Node::Leaf(Arc::default())
    }
}

impl<V> Node<V> {
    fn get(&self, hash: u64, name: &str) -> Option<&V> {
        let mut node = self;
        let mut level = 0;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let entry = &entries[place_of(entries, hash, name)?];
                    return Some(&entry.value);
                }
                Node::Branch(children) => node = &children[child_of(hash, level)],
            }
            level += 1;
        }
    }

    fn for_each(&self, each: &mut impl FnMut(&Entry<V>)) {
        match self {
            Node::Leaf(entries) => entries.iter().for_each(each),
            Node::Branch(children) => {
                for child in children.iter() {
                    child.for_each(each);
                }
            }
        }
    }

    #[cfg(test)]
    fn unshared_len(&self, copy: &Node<V>) -> usize {
        match (self, copy) {
            (Node::Leaf(a), Node::Leaf(b)) if Arc::ptr_eq(a, b) => 0,
            (Node::Branch(a), Node::Branch(b)) if Arc::ptr_eq(a, b) => 0,
            (Node::Branch(a), Node::Branch(b)) => {
                let pairs = a.iter().zip(b.iter());
                pairs.map(|(a, b)| a.unshared_len(b)).sum()
            }
            _ => {
                let mut len = 0;
                self.for_each(&mut |_| len += 1);
                len
            }
        }
    }
}

impl<V: Clone + Default> Node<V> {
    fn get_or_default(&mut self, hash: u64, name: Text, level: u32) -> &mut V {
        if let Node::Leaf(entries) = self
            && entries.len() >= LEAF_LEN
            && level < LEVELS
            && place_of(entries, hash, &name).is_none()
        {
            *self = split(entries, level);
        }
        match self {
            Node::Branch(children) => {
                Arc::make_mut(children)[child_of(hash, level)].get_or_default(hash, name, level + 1)
            }
            Node::Leaf(entries) => {
                let entries = Arc::make_mut(entries);
                let place = place_of(entries, hash, &name).unwrap_or_else(|| {
                    let value = V::default();
                    entries.push(Entry { hash, name, value });
                    entries.len() - 1
                });
                &mut entries[place].value
            }
        }
    }

    fn remove(&mut self, hash: u64, name: &str, level: u32) -> Option<V> {
        match self {
            Node::Leaf(entries) => {
                let place = place_of(entries, hash, name)?;
                Some(Arc::make_mut(entries).swap_remove(place).value)
            }
            Node::Branch(children) => {
                let children = Arc::make_mut(children);
                let removed = children[child_of(hash, level)].remove(hash, name, level + 1);
                if let Some(joined) = joined(children) {
                    *self = joined;
                }
                removed
            }
        }
    }
}

fn place_of<V>(entries: &[Entry<V>], hash: u64, name: &str) -> Option<usize> {
    let is_it = |entry: &Entry<V>| entry.hash == hash && *entry.name == *name;
    entries.iter().position(is_it)
}

fn child_of(hash: u64, level: u32) -> usize {
    (hash >> (level * BITS)) as usize & (CHILDREN - 1)
}

/// A branch in place of a leaf.
fn split<V: Clone>(entries: &[Entry<V>], level: u32) -> Node<V> {
    let mut children: [Vec<Entry<V>>; CHILDREN] = std::array::from_fn(|_| Vec::new());
    for entry in entries {
        children[child_of(entry.hash, level)].push(entry.clone());
    }
    Node::Branch(Arc::new(
        children.map(|entries| Node::Leaf(Arc::new(entries))),
    ))
}

/// One leaf in place of a branch whose children are leaves with few entries.
fn joined<V: Clone>(children: &[Node<V>; CHILDREN]) -> Option<Node<V>> {
    let mut leaves = Vec::with_capacity(CHILDREN);
    let mut len = 0;
    for child in children {
        let Node::Leaf(entries) = child else {
            return None;
        };
        len += entries.len();
        leaves.push(entries.as_slice());
    }
    (len <= LEAF_LEN / 2).then(|| Node::Leaf(Arc::new(leaves.concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: impl IntoIterator<Item = usize>) -> PersistentSet {
        let mut set = PersistentSet::default();
        for name in names {
            set.insert(name.to_string().into());
        }
        set
    }

    fn len(set: &PersistentSet) -> usize {
        let mut len = 0;
        set.0.for_each(|_, ()| len += 1);
        len
    }

    #[test]
    fn names_come_and_go_as_in_a_hash_set() {
        let mut set = PersistentSet::default();
        let mut model = std::collections::HashSet::new();
        let mut draw = 1_u32;
        for _ in 0..20_000 {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = (draw >> 8) % 3000;
            if draw >> 31 == 0 {
                set.insert(name.to_string().into());
                model.insert(name);
            } else {
                set.remove(&name.to_string());
                model.remove(&name);
            }
        }
        for name in 0..3000 {
            assert_eq!(set.contains(&name.to_string()), model.contains(&name));
        }
        assert_eq!(len(&set), model.len());
        for name in model {
            set.remove(&name.to_string());
        }
        assert!(set.is_empty(), "and the tree is a leaf again");
    }

    #[test]
    fn a_change_leaves_copies_as_they_were_and_shares_the_rest_with_them() {
        let before = named(0..10_000);
        let mut after = before.clone();
        after.insert("new".into());
        after.remove("17");
        assert!(before.contains("17") && !before.contains("new"));
        assert!(after.contains("new") && !after.contains("17"));
        assert!(after.unshared_len(&before) <= 2 * LEAF_LEN);
        let copy = after.clone();
        after.insert("new".into());
        after.remove("17");
        assert_eq!(after.unshared_len(&copy), 0, "no change copies nothing");
    }

    #[test]
    fn sets_are_added_up() {
        let mut set = named(0..100);
        set.extend(&named(50..200));
        assert_eq!(len(&set), 200);
        let mut empty = PersistentSet::default();
        empty.extend(&set);
        assert_eq!(empty.unshared_len(&set), 0);
    }

    #[test]
    fn names_of_one_hash_are_kept_apart() {
        let mut root = Node::<u32>::default();
        for n in 0..100 {
            *root.get_or_default(7, n.to_string().into(), 0) = n;
        }
        assert_eq!(root.get(7, "63"), Some(&63));
        for n in 0..100 {
            assert_eq!(root.remove(7, &n.to_string(), 0), Some(n));
        }
        assert!(matches!(&root, Node::Leaf(entries) if entries.is_empty()));
    }

    #[test]
    fn maps_are_equal_when_names_and_values_are() {
        let mut map = PersistentMap::<u32>::default();
        *map.get_or_default("a") = 1;
        let mut other = PersistentMap::default();
        assert!(map != other);
        *other.get_or_default("a") = 2;
        assert!(map != other);
        *other.get_or_default("a") = 1;
        assert!(map == other);
        other.get_or_default("b");
        assert!(map != other);
        assert_eq!(other.remove("b"), Some(0));
        assert!(map == other && other.remove("b").is_none());
    }
}
