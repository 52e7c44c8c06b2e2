//! Groups that were taken over from an engine under joined names that have several readings.
//!
//! Until a change names it, every pair of names that joins to its name sees such a group. The first
//! change makes it that pair's, for good. What is asked of such a group is answered from items that are lent for
//! as long as it takes. May not know how a group is changed.

use std::collections::HashMap;

use crate::id::GroupKey;

use super::Shard;
use super::command::Ask;
use super::effects::Effects;
use super::group::Group;
use super::items::Items;

/// By place, which they keep until they are named.
#[derive(Default)]
pub(super) struct Unnamed {
    places: Vec<Option<Entry>>,
    by_joined: HashMap<Box<str>, usize>,
}

pub(super) struct Entry {
    /// The reading that a listing of everything shows: the first colon parts the two.
    pub(super) key: GroupKey,
    pub(super) items: Items,
}

impl Unnamed {
    pub(super) fn is_empty(&self) -> bool {
        self.by_joined.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_joined.len()
    }

    /// Above every place that is held.
    pub(super) fn places_end(&self) -> usize {
        self.places.len()
    }

    pub(super) fn at(&self, place: usize) -> Option<&Entry> {
        self.places.get(place)?.as_ref()
    }

    /// The items that this reading of a group sees.
    pub(super) fn items_of(&mut self, key: &GroupKey) -> Option<&mut Items> {
        let place = *self.by_joined.get(key.joined())?;
        let entry = self.places.get_mut(place)?.as_mut()?;
        Some(&mut entry.items)
    }

    /// The items, made if they are not there.
    pub(super) fn enter(&mut self, key: GroupKey) -> Option<&mut Items> {
        if !self.by_joined.contains_key(key.joined()) {
            self.by_joined
                .insert(key.joined().into(), self.places.len());
            let items = Items::default();
            self.places.push(Some(Entry {
                key: key.clone(),
                items,
            }));
        }
        self.items_of(&key)
    }

    /// A change has named it: gives its items.
    pub(super) fn take(&mut self, key: &GroupKey) -> Option<Items> {
        let place = self.by_joined.remove(key.joined())?;
        let entry = self.places.get_mut(place)?.take()?;
        if self.by_joined.is_empty() {
            self.places = Vec::new();
        }
        Some(entry.items)
    }

    /// The readings as groups of that stream.
    pub(super) fn names_in(&self, stream: &str) -> impl Iterator<Item = String> {
        let group = move |entry: &Entry| {
            let rest = entry.key.joined().strip_prefix(stream)?;
            rest.strip_prefix(':').map(str::to_owned)
        };
        self.places.iter().flatten().filter_map(group)
    }

    /// What all of them hold.
    pub(super) fn all_items(&self) -> impl Iterator<Item = &Items> {
        self.places.iter().flatten().map(|entry| &entry.items)
    }

    /// Each with one reading.
    pub(super) fn all_names(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.places.iter().flatten();
        entries.map(|entry| (entry.key.stream(), entry.key.group()))
    }
}

impl Shard {
    /// The same of a group that our own store keeps.
    pub(super) fn apply_to_own(&mut self, key: GroupKey, ask: Ask, now: u64, out: &mut Effects) {
        if self.unnamed.is_empty() {
            return self.apply_to_named(key, ask, now, out);
        }
        if self.is_to_postpone(&key, &ask, now, out) {
            return self.postponed.push((key, ask));
        }
        match ask {
            Ask::Set { .. } | Ask::Update { .. } | Ask::Delete { .. } | Ask::Hold(_) => {
                self.name(&key);
                self.apply_to_named(key, ask, now, out);
            }
            // It would wait behind a custom function, and what is lent goes back at once.
            _ if self.has_queue(&key) => {
                self.name(&key);
                self.apply_to_named(key, ask, now, out);
            }
            Ask::Get { .. } | Ask::List { .. } | Ask::Join(_) => {
                self.lend_unnamed(&key);
                self.walks.is_lending = true;
                self.apply_to_named(key.clone(), ask, now, out);
                self.walks.is_lending = false;
                self.lend_unnamed(&key);
            }
            Ask::Send { .. } | Ask::Leave { .. } | Ask::Release { .. } => {
                self.apply_to_named(key, ask, now, out);
            }
        }
    }

    /// Items that are lent go back at once, so such a join cannot wait in its group's queue.
    fn is_to_postpone(&mut self, key: &GroupKey, ask: &Ask, now: u64, out: &mut Effects) -> bool {
        let is_its = |(of, _): &(GroupKey, Ask)| of.joined() == key.joined();
        if self.postponed.iter().any(is_its) {
            return true;
        }
        if !matches!(ask, Ask::Join(_)) || self.unnamed.items_of(key).is_none() {
            return false;
        }
        let group = self.groups.find(key).and_then(|slot| self.groups.get(slot));
        let last = group.map_or(self.groups.let_go(), Group::last);
        let time = now.max(last.time).max(last.event.saturating_add(1));
        self.flight.keep_time(time, None, out)
    }

    /// The store has kept what it could. The times are those that it has.
    pub(super) fn apply_postponed(&mut self, now: u64, out: &mut Effects) {
        let now = now.min(self.flight.times.kept);
        for (key, ask) in std::mem::take(&mut self.postponed) {
            self.apply_to_group(key, ask, now, out);
        }
    }

    fn has_queue(&self, key: &GroupKey) -> bool {
        let slot = self.groups.find(key);
        let group = slot.and_then(|slot| self.groups.get(slot));
        group.is_some_and(|group| group.queue_len() > 0)
    }

    /// A change says which group it is that was taken over under that joined name.
    pub(super) fn name(&mut self, key: &GroupKey) {
        if self.unnamed.is_empty() {
            return;
        }
        let Some(items) = self.unnamed.take(key) else {
            return;
        };
        let slot = self.groups.enter(key.clone());
        if let Some(group) = self.groups.get_mut(slot) {
            group.exchange_items(items);
            // A listing that has begun has shown it already.
            self.walks
                .note_change(slot, (key.stream(), key.group()), false);
        }
    }

    /// Exchanges the items of a group that has none and those that it sees, there and back.
    pub(super) fn lend_unnamed(&mut self, key: &GroupKey) {
        let Some(unnamed) = self.unnamed.items_of(key) else {
            return;
        };
        let slot = self.groups.enter(key.clone());
        if let Some(group) = self.groups.get_mut(slot) {
            let lent = std::mem::take(unnamed);
            *unnamed = group.exchange_items(lent);
            unnamed.forget_chunks();
        }
        self.groups.let_go_if_idle(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SlotId, WorkerId};
    use crate::protocol::answer::Outcome;
    use crate::shard::{
        Answer, Ask, Command, Cursor, Decides, Delivered, Effects, Join, Learned, Piece, Restored,
        Shard, SliceLimits, ValueLimits, Verdict,
    };

    const CALL: SlotId = SlotId {
        slot: 0,
        generation: 0,
    };

    fn empty() -> Shard {
        let limits = ValueLimits {
            json_depth: 9,
            value_bytes: 99,
        };
        Shard::new(WorkerId(0), Decides::Owner, limits)
    }

    /// With `a:b:c`, which holds two items, and a group that has a name.
    fn shard() -> Shard {
        let mut shard = empty();
        for (key, is_unnamed) in [
            (GroupKey::new("a", "b:c"), true),
            (GroupKey::new("s", "g"), false),
        ] {
            let piece = Piece {
                key,
                time: 5,
                is_first: true,
                is_unnamed,
                items: vec![("i".into(), "1".into()), ("j".into(), "2".into())],
                marked: Vec::new(),
            };
            shard.restore(Restored::Piece { sequence: 1, piece });
        }
        shard.restored(0);
        shard
    }

    fn apply(shard: &mut Shard, command: Command) -> Effects {
        let mut out = Effects::default();
        shard.apply(command, 9, &mut out);
        for request in std::mem::take(&mut out.requests) {
            let answer = Answer {
                shard: request.shard,
                epoch: request.epoch,
                number: request.number,
                verdict: Verdict::Accepted,
            };
            shard.learn(Learned::Answer(answer), 9, &mut out);
        }
        out
    }

    fn ask(shard: &mut Shard, (stream, group): (&str, &str), ask: Ask) -> Effects {
        let key = GroupKey::new(stream, group);
        apply(shard, Command::Group { key, ask })
    }

    fn set(shard: &mut Shard, group: (&str, &str)) {
        let (item, data, call) = ("k".into(), "3".into(), None);
        ask(
            shard,
            group,
            Ask::Set {
                item,
                data,
                ttl: None,
                call,
            },
        );
    }

    fn list(shard: &mut Shard, group: (&str, &str)) -> String {
        let out = ask(shard, group, Ask::List { call: CALL });
        match &out.replies[0].outcome {
            Outcome::List(chunks) => chunks.iter().map(|chunk| &**chunk).collect(),
            _ => unreachable!("a list is answered by one"),
        }
    }

    fn groups(shard: &mut Shard, stream: &str) -> Vec<String> {
        let (stream, call) = (stream.into(), CALL);
        let out = apply(shard, Command::ListGroups { stream, call });
        match &out.replies[0].outcome {
            Outcome::Groups(groups) => groups.iter().map(|(_, group)| group.to_owned()).collect(),
            _ => unreachable!("groups are answered by groups"),
        }
    }

    #[test]
    fn a_join_that_waits_for_its_time_sees_it_and_names_nothing() {
        let mut shard = shard();
        shard.keep_times_from(0);
        let join = || {
            Ask::Join(Join {
                worker: WorkerId(0),
                local: CALL,
                connection: CALL,
                token: 0,
                item: None,
            })
        };
        let mut out = Effects::default();
        for ask in [join(), join(), Ask::List { call: CALL }] {
            let key = GroupKey::new("a:b", "c");
            shard.apply(Command::Group { key, ask }, 1000, &mut out);
        }
        assert!(out.deliveries.is_empty() && out.replies.is_empty());
        assert_eq!(out.requests.len(), 1);
        let request = out.requests.remove(0);
        let answer = Answer {
            shard: request.shard,
            epoch: request.epoch,
            number: request.number,
            verdict: Verdict::Accepted,
        };
        shard.learn(Learned::Answer(answer), 1001, &mut out);
        assert_eq!((out.deliveries.len(), out.replies.len()), (2, 1));
        for delivery in &out.deliveries {
            let Delivered::Entered {
                sync: Some(sync), ..
            } = &delivery.what
            else {
                unreachable!("a join is entered")
            };
            let bytes = sync.pieces_from(0).collect::<Vec<_>>().concat();
            assert!(bytes.windows(5).any(|five| five == b"[1,2]"));
        }
        assert_eq!(groups(&mut shard, "a"), ["b:c"]);
        assert_eq!(list(&mut shard, ("a", "b:c")), ",1,2", "still of both");
    }

    #[test]
    fn every_reading_sees_it_until_a_change_names_it() {
        let mut shard = shard();
        for reading in [("a", "b:c"), ("a:b", "c")] {
            assert_eq!(list(&mut shard, reading), ",1,2");
            let (item, call) = ("j".into(), CALL);
            let got = ask(&mut shard, reading, Ask::Get { item, call });
            let expected = Outcome::Got(Some("2".into()));
            assert!(got.replies[0].outcome == expected);
        }
        assert_eq!(groups(&mut shard, "a"), ["b:c"]);
        assert_eq!(groups(&mut shard, "a:b"), ["c"]);
        assert_eq!(groups(&mut shard, ""), [""; 0]);
        set(&mut shard, ("a:b", "c"));
        assert_eq!(list(&mut shard, ("a:b", "c")), ",1,2,3");
        assert_eq!(list(&mut shard, ("a", "b:c")), "");
        assert_eq!(groups(&mut shard, "a"), [""; 0]);
        assert_eq!(groups(&mut shard, "a:b"), ["c"]);
        shard.check_invariants();
    }

    #[test]
    fn who_follows_one_reading_hears_its_changes_alone() {
        let mut shard = shard();
        let join = |token| {
            Ask::Join(Join {
                worker: WorkerId(0),
                local: SlotId::first(token),
                connection: CALL,
                token,
                item: None,
            })
        };
        for (token, reading) in [(1, ("a", "b:c")), (2, ("a:b", "c"))] {
            let out = ask(&mut shard, reading, join(token));
            let Delivered::Entered { sync, .. } = &out.deliveries[0].what else {
                unreachable!("a join is entered")
            };
            assert!(sync.as_ref().is_some_and(|sync| sync.held_bytes() > 20));
        }
        let (item, call) = ("i".into(), None);
        let out = ask(&mut shard, ("a:b", "c"), Ask::Delete { item, call });
        let to: Vec<u32> = out.deliveries.iter().map(|told| told.local.slot).collect();
        assert_eq!(to, [2]);
    }

    /// Slices are taken one item at a time; it is named between any two of them.
    #[test]
    fn a_snapshot_holds_it_whenever_it_is_named() {
        let one = SliceLimits {
            items: 1,
            bytes: 99,
            groups: 9,
        };
        for named_after in 0..6 {
            let mut shard = shard();
            let mut restored = empty();
            let mut next = Some(Cursor::default());
            let mut log = Vec::new();
            let mut sequence = 1;
            for step in 0.. {
                if step == named_after {
                    sequence = 2;
                    set(&mut shard, ("a:b", "c"));
                    log.push(Restored::Put {
                        sequence,
                        key: GroupKey::new("a:b", "c"),
                        item: "k".into(),
                        value: "3".into(),
                        time: 9,
                        marks: Default::default(),
                    });
                }
                let Some(cursor) = next else {
                    break;
                };
                let slice = shard.slice(cursor, one);
                for piece in slice.pieces {
                    restored.restore(Restored::Piece { sequence, piece });
                }
                next = slice.next;
            }
            let is_named = !log.is_empty();
            log.into_iter().for_each(|put| restored.restore(put));
            restored.restored(0);
            let expected = if is_named { ",1,2,3" } else { ",1,2" };
            assert_eq!(
                list(&mut restored, ("a:b", "c")),
                expected,
                "after {named_after}"
            );
            assert_eq!(list(&mut restored, ("s", "g")), ",1,2");
            assert_eq!(groups(&mut restored, "a").is_empty(), is_named);
        }
    }
}
