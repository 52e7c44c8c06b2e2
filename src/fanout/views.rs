//! What readers far behind held of an item before a change of it. A socket may have two views of a group:
//! by its subscriptions to the whole group, and by those to single items.
//!
//! Pure. May not know what a change says.

use std::cell::Cell;

use crate::protocol::frame::Kind;

/// How one socket sees the items of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct View(u32);

/// No slot reaches it.
const OF_ITEMS: u32 = 1 << 31;

/// Which views held an item before a change of it.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub(super) struct HeldBefore {
    by_most: bool,
    /// Of these the opposite is true. Sorted.
    except: Box<[View]>,
}

/// Where the readers far behind stand, and what they follow.
#[derive(Default)]
pub(super) struct Standpoints {
    /// The views and where they stand, sorted.
    pub(super) places: Vec<(u64, View)>,
    /// One of them follows the whole group.
    pub(super) is_whole: bool,
    /// So many places were looked at for single frames.
    pub(super) looks: Cell<usize>,
}

impl Standpoints {
    /// So many more are looked at.
    pub(super) fn look_at(&self, places: usize) {
        self.looks.update(|looks| looks + places);
    }
}

/// A change of an item that supersedes another one.
pub(super) struct Change {
    /// The number of that one.
    pub(super) supersedes: u64,
    pub(super) number: u64,
    /// Whether the item was there between the two.
    pub(super) was_there: bool,
}

impl View {
    /// By the subscriptions to the whole group.
    pub(super) fn of_group(socket: u32) -> View {
        View(socket)
    }

    /// By those to single items.
    pub(super) fn of_items(socket: u32) -> View {
        View(socket | OF_ITEMS)
    }
}

impl Change {
    /// Whether a `sync` that goes before that frame comes between the two.
    pub(super) fn is_after_sync(&self, before: u64) -> bool {
        self.supersedes < before && before <= self.number
    }
}

impl HeldBefore {
    pub(super) fn by_all(by_most: bool) -> HeldBefore {
        HeldBefore {
            by_most,
            except: Box::default(),
        }
    }

    pub(super) fn is_by_none(&self) -> bool {
        !self.by_most && self.except.is_empty()
    }

    /// What a change of that kind is to that view; `None`: nothing has changed for it.
    pub(super) fn kind_for(&self, view: View, kind: Kind) -> Option<Kind> {
        HeldBefore::kind(self.of(view), kind)
    }

    /// The same for all but [`HeldBefore::except`].
    pub(super) fn kind_for_most(&self, kind: Kind) -> Option<Kind> {
        HeldBefore::kind(self.by_most, kind)
    }

    /// Views of which the opposite is true, sorted.
    pub(super) fn except(&self) -> &[View] {
        &self.except
    }

    fn kind(is_held: bool, kind: Kind) -> Option<Kind> {
        match (is_held, kind) {
            (true, Kind::Delete) => Some(Kind::Delete),
            (false, Kind::Delete) => None,
            (true, _) => Some(Kind::Update),
            (false, _) => Some(Kind::Create),
        }
    }

    fn of(&self, view: View) -> bool {
        self.by_most != self.except.binary_search(&view).is_ok()
    }

    /// What is so before that change: views that have not been given the one that it supersedes hold still
    /// what they held. `told`: those of them that a `sync` tells of the item in between.
    pub(super) fn after(
        &self,
        change: &Change,
        standpoints: &Standpoints,
        told: impl FnOnce() -> Vec<View>,
    ) -> HeldBefore {
        let was_there = change.was_there;
        if self.except.is_empty() && self.by_most == was_there {
            return HeldBefore::by_all(was_there);
        }
        let places = &standpoints.places;
        let lacking = places.partition_point(|(place, _)| *place <= change.supersedes);
        let mut told = told();
        if lacking == places.len() && told.is_empty() {
            return self.clone(); // as in a cohort, of whom nobody has been given it
        }
        standpoints.look_at(places.len());
        told.sort_unstable();
        let (lack_it, have_it) = places.split_at(lacking);
        let differs = |(_, view): &&(u64, View)| {
            self.of(*view) != was_there && told.binary_search(view).is_err()
        };
        let differing = lack_it.iter().filter(differs).count();
        let sorted = |views: &mut dyn Iterator<Item = View>| {
            let mut views: Vec<View> = views.collect();
            views.sort_unstable();
            views.into_boxed_slice()
        };
        if differing <= places.len() / 2 {
            let mut except = lack_it.iter().filter(differs).map(|(_, view)| *view);
            return HeldBefore {
                by_most: was_there,
                except: sorted(&mut except),
            };
        }
        let alike = lack_it.iter().filter(|place| !differs(place));
        let mut except = alike.chain(have_it).map(|(_, view)| *view);
        HeldBefore {
            by_most: !was_there,
            except: sorted(&mut except),
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        size_of_val(&*self.except)
    }
}

#[cfg(test)]
mod tests {
    use crate::fanout::test_local::Local;
    use crate::id::{LocalGroupId, SlotId};
    use crate::protocol::frame::Event;

    const THERE: Event<'_> = Event::Create("1");
    const GONE: Event<'_> = Event::Delete("1");

    /// A socket that follows a group, and comes to be far behind.
    struct Behind {
        local: Local,
        group: LocalGroupId,
        at: SlotId,
    }

    impl Behind {
        /// It follows the item `u` by itself as well, which is there or not.
        fn with_item(is_there: bool) -> Behind {
            let mut behind = Behind::new();
            behind.joins(Some("u"));
            if is_there {
                behind.comes("u", THERE);
            }
            behind
        }

        fn new() -> Behind {
            let mut local = Local::new();
            let at = local.socket();
            let group = local.join(at, "first", "g", None);
            Behind { local, group, at }
        }

        fn falls_behind(mut self) -> Behind {
            self.local.heard(self.at);
            self.local.block(self.at, 0);
            self.local.fanout.bounds.reader = 0;
            for _ in 0..3 {
                self.comes("other", Event::Update("1"));
            }
            self
        }

        fn comes(&mut self, item: &str, event: Event<'_>) {
            self.local.tell(self.group, Some(item), event);
            self.local.sweep(1000);
        }

        /// A `sync` of an item says that it is not there.
        fn joins(&mut self, item: Option<&str>) {
            let id = item.unwrap_or("second");
            self.local.join(self.at, id, "g", item);
        }

        /// What it is told of changes of the item.
        fn heard(mut self) -> Vec<String> {
            self.local.unblock(self.at);
            for (_, group) in self.local.fanout.take_outcome().stale {
                let sockets = &mut self.local.sockets;
                self.local.fanout.refreshed(group, None, sockets);
            }
            self.local.unblock(self.at);
            let mut heard = self.local.heard_kinds(self.at);
            heard.retain(|heard| heard.starts_with("u ") && heard != "u sync");
            assert_eq!(self.local.fanout.held_bytes(), 0);
            heard
        }
    }

    #[test]
    fn a_sync_of_the_item_is_nothing_to_who_follows_the_group() {
        for (is_gone, wanted) in [(true, &["u delete"][..]), (false, &["u update"; 2])] {
            let mut behind = Behind::new();
            behind.comes("u", THERE);
            let mut behind = behind.falls_behind();
            behind.comes("u", GONE);
            behind.joins(Some("u"));
            behind.comes("u", THERE);
            if is_gone {
                behind.comes("u", GONE);
            }
            assert_eq!(behind.heard(), wanted);
        }
    }

    #[test]
    fn a_sync_of_the_group_is_nothing_to_who_follows_the_item() {
        let mut behind = Behind::with_item(false).falls_behind();
        behind.comes("u", THERE);
        behind.joins(None);
        behind.comes("u", GONE);
        assert_eq!(behind.heard(), ["u delete"; 2], "of the group, twice");

        let mut behind = Behind::with_item(true).falls_behind();
        behind.comes("u", GONE);
        behind.joins(None);
        behind.comes("u", THERE);
        behind.comes("u", GONE);
        assert_eq!(behind.heard(), ["u delete"], "of the item");
    }
}
