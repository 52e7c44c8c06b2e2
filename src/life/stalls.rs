//! Sockets that take less than waits for them, and since when they have taken nothing at all.
//!
//! Pure: time is handed in. Only those stand here that are blocked, or were a while ago.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use crate::id::SlotId;

/// Those that are blocked.
pub struct Stalls {
    most: Duration,
    /// None: it has said since that it takes bytes.
    since: BTreeMap<SlotId, Option<Instant>>,
    /// When each of them is to be looked at; once for each.
    looks: BinaryHeap<Reverse<(Instant, SlotId)>>,
}

impl Stalls {
    /// Nobody is blocked. Who takes nothing for so long is stalled.
    pub fn new(most: Duration) -> Stalls {
        Stalls {
            most,
            since: BTreeMap::new(),
            looks: BinaryHeap::new(),
        }
    }

    /// From here on that holds, also for who is blocked already.
    pub fn set(&mut self, most: Duration) {
        let is_shorter = most < self.most;
        self.most = most;
        if is_shorter {
            // Who is blocked again is looked at anew: its old look may be far off.
            self.since.retain(|_, since| since.is_some());
            let looks = std::mem::take(&mut self.looks).into_iter();
            let sooner = |Reverse((at, id)): Reverse<(Instant, SlotId)>| {
                let since = self.since.get(&id).copied().flatten()?;
                Some(Reverse((at.min(since + most), id)))
            };
            self.looks = looks.filter_map(sooner).collect();
        }
    }

    /// It took less than it was given. `has_taken`: but something.
    pub fn note_blocked(&mut self, id: SlotId, has_taken: bool, now: Instant) {
        let mut is_new = false;
        let since = self.since.entry(id).or_insert_with(|| {
            is_new = true;
            None
        });
        if has_taken || since.is_none() {
            *since = Some(now);
        }
        if is_new {
            self.looks.push(Reverse((now + self.most, id)));
        }
    }

    /// It takes bytes again.
    pub fn unblock(&mut self, id: SlotId) {
        if let Some(since) = self.since.get_mut(&id) {
            *since = None;
        }
    }

    /// A socket that has taken nothing for too long, as far as is known here: it may be blocked no longer.
    /// From now on it does not stand here.
    pub fn pop_due(&mut self, now: Instant) -> Option<SlotId> {
        while let Some(Reverse((at, id))) = self.looks.peek().copied()
            && at <= now
        {
            self.looks.pop();
            let Some(since) = self.since.get(&id).copied().flatten() else {
                self.since.remove(&id);
                continue;
            };
            let until = since + self.most;
            if until > now {
                self.looks.push(Reverse((until, id)));
                continue;
            }
            self.since.remove(&id);
            return Some(id);
        }
        None
    }

    /// When somebody has to be looked at.
    pub fn next_at(&self) -> Option<Instant> {
        self.looks.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_takes_a_byte_now_and_then_is_never_due_and_who_takes_none_is() {
        let began = Instant::now();
        let (slow, stalled) = (SlotId::first(0), SlotId::first(1));
        let mut stalls = Stalls::new(SECOND * 60);
        stalls.note_blocked(stalled, true, began);
        for second in 0..600 {
            let now = began + SECOND * second;
            stalls.note_blocked(slow, true, now);
            stalls.note_blocked(stalled, false, now);
            let due = stalls.pop_due(now);
            assert_eq!(due, (second > 0 && second % 60 == 0).then_some(stalled));
            if due.is_some() {
                stalls.note_blocked(stalled, false, now);
            }
        }
        assert_eq!(stalls.looks.len(), 2, "each is looked at once");
        assert!(stalls.next_at().is_some());
    }

    #[test]
    fn who_took_all_that_there_was_begins_anew_when_it_blocks_again() {
        let (began, id) = (Instant::now(), SlotId::first(0));
        let mut stalls = Stalls::new(SECOND * 60);
        stalls.note_blocked(id, false, began);
        for second in 1..300 {
            let now = began + SECOND * second;
            stalls.unblock(id);
            stalls.note_blocked(id, false, now);
            assert_eq!(stalls.pop_due(now), None, "after {second} s");
            assert_eq!(stalls.looks.len(), 1);
        }
        stalls.unblock(id);
        assert_eq!(stalls.pop_due(began + SECOND * 1000), None);
        assert!(stalls.since.is_empty() && stalls.next_at().is_none());
    }

    #[test]
    fn a_shorter_time_holds_for_who_was_blocked_before_and_is_again() {
        let (began, id) = (Instant::now(), SlotId::first(0));
        let mut stalls = Stalls::new(SECOND * 3600);
        stalls.note_blocked(id, false, began);
        stalls.unblock(id);
        stalls.set(SECOND);
        stalls.note_blocked(id, false, began + SECOND * 20);
        assert_eq!(stalls.pop_due(began + SECOND * 20), None);
        assert_eq!(stalls.pop_due(began + SECOND * 21), Some(id));
        assert!(stalls.next_at().is_none(), "it is looked at once");
    }
}
