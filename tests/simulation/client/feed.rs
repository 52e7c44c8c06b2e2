//! How far a subscriber is in one group: which event and which `sync` it may hear next.

use std::collections::{BTreeSet, VecDeque};

use crate::model::Entered;
use crate::wire::Message;

/// How far the socket is in one group.
#[derive(Debug)]
pub(super) struct Feed {
    /// The event that it hears next is not before this one.
    pub(super) at: usize,
    /// Frames of event `at` that it has heard.
    pub(super) given: usize,
    /// `sync`s that it may not have heard, in order.
    pub(super) syncs: VecDeque<Sync>,
    /// How many of them it may have passed: equal ones cannot be told apart, and void ones may come or
    /// not.
    passed: BTreeSet<usize>,
    /// Those of subscriptions that have begun anew and have not heard of it.
    pub(super) fresh: Vec<Sync>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed {
            at: 0,
            given: 0,
            syncs: VecDeque::new(),
            passed: BTreeSet::from([0]),
            fresh: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Sync {
    pub(super) subscription: Box<str>,
    pub(super) entered: Entered,
    /// Its subscription has ended: it may come or not.
    pub(super) is_void: bool,
}

impl Feed {
    pub(super) fn hears_event(&mut self, number: usize) {
        self.given = if self.at == number { self.given + 1 } else { 1 };
        self.at = number;
    }

    /// Whether such a `sync` is the answer to a join and may come now.
    pub(super) fn has_due(&self, message: &Message) -> bool {
        self.passed.iter().any(|start| {
            let rest = self.syncs.iter().skip(*start);
            let stands = rest.clone().position(|sync| !sync.is_void);
            let mut due = rest.take(stands.map_or(usize::MAX, |stands| stands + 1));
            due.any(|sync| message.is_sync_of(&sync.entered))
        })
    }

    /// The first that stands, or a void one before it.
    pub(super) fn hears_sync(&mut self, message: &Message, next: Option<usize>) {
        let (mut passed, mut is_owed) = (BTreeSet::new(), false);
        for start in &self.passed {
            for (index, sync) in self.syncs.iter().enumerate().skip(*start) {
                let is_in_place = next.is_none_or(|next| next >= sync.entered.from);
                if message.is_sync_of(&sync.entered) && is_in_place {
                    passed.insert(index + 1);
                    is_owed |= !sync.is_void;
                }
                if !sync.is_void {
                    break;
                }
            }
        }
        if !is_owed && self.hears_fresh(message, passed.is_empty()) {
            return;
        }
        assert!(
            !passed.is_empty(),
            "no sync that is due: {message:?}, {:?}, {:?}",
            self.syncs,
            self.fresh
        );
        self.have_passed(passed);
    }

    /// One that begins its subscription anew; they come in any order. `may_be_void`: there is no other that
    /// it could be.
    fn hears_fresh(&mut self, message: &Message, may_be_void: bool) -> bool {
        let is_it = |is_void: bool| {
            let mut fresh = self.fresh.iter();
            fresh.position(|sync| sync.is_void == is_void && message.is_sync_of(&sync.entered))
        };
        let found = is_it(false).or_else(|| is_it(true).filter(|_| may_be_void));
        found.map(|found| self.fresh.swap_remove(found)).is_some()
    }

    /// An event is heard: every `sync` that goes before it was, or is void.
    pub(super) fn passes_syncs(&mut self, number: usize) {
        let syncs = &self.syncs;
        let after = |start: &usize| {
            let before = syncs.iter().skip(*start);
            let before = before.take_while(|sync| sync.entered.from <= number);
            let are_void = before.clone().all(|sync| sync.is_void);
            are_void.then(|| start + before.count())
        };
        let passed: BTreeSet<usize> = self.passed.iter().filter_map(after).collect();
        let is_late = |sync: &Sync| !sync.is_void && sync.entered.from <= number;
        let is_early = passed.is_empty() || self.fresh.iter().any(is_late);
        assert!(!is_early, "before its sync");
        self.have_passed(passed);
    }

    fn have_passed(&mut self, passed: BTreeSet<usize>) {
        let first = passed.first().copied().unwrap_or(0);
        self.syncs.drain(..first);
        self.passed = passed.into_iter().map(|number| number - first).collect();
    }

    pub(super) fn has_all_syncs(&self) -> bool {
        let mut passed = self.passed.iter();
        self.fresh.iter().all(|sync| sync.is_void)
            && passed.any(|start| self.syncs.iter().skip(*start).all(|sync| sync.is_void))
    }
}
