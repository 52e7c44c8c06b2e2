//! Groups whose times others have put ahead of Redis's clock: their engines bring times of their own, and
//! keep none in Redis. There the group's time is raised to what was shown, so that nothing older is shown after a
//! restart, or by another host.
//!
//! Pure: no connection, no clock. One word to Redis for each group at a time, and none for groups whose time
//! the clock passes by itself.

use std::collections::HashMap;

use crate::id::GroupKey;

/// What is no further ahead the clock has passed before anybody can have come back, in ms.
const SOON_MS: u64 = 20;

/// All such groups.
#[derive(Default)]
pub(super) struct Ahead {
    groups: HashMap<GroupKey, Shown>,
}

struct Shown {
    /// The time that the last event was told with.
    time: u64,
    /// The group's time in Redis, as far as it is known.
    kept: u64,
    /// Redis was told, and has not answered.
    is_told: bool,
}

impl Ahead {
    /// An event of a group that somebody here follows. `is_ours`: a script of ours has given it its time, which
    /// is the group's in Redis. Gives the time that the group's is to be raised to.
    pub(super) fn note(
        &mut self,
        key: &GroupKey,
        time: u64,
        is_ours: bool,
        by_redis: u64,
    ) -> Option<u64> {
        let passed = by_redis.saturating_add(SOON_MS);
        let begins = !is_ours && time > passed;
        if self.groups.is_empty() && !begins {
            return None;
        }
        if let Some(shown) = self.groups.get_mut(key) {
            // As the owner tells it.
            shown.time = time.max(shown.time.saturating_add(1));
            if is_ours {
                shown.kept = shown.kept.max(time);
            }
            return shown.tell(passed);
        }
        if !begins {
            return None;
        }
        let shown = Shown {
            time,
            kept: 0,
            is_told: false,
        };
        self.groups.entry(key.clone()).or_insert(shown).tell(passed)
    }

    /// Redis's word. `kept`: it has raised the time to that; it may have refused. Gives the next one.
    pub(super) fn answered(
        &mut self,
        key: &GroupKey,
        kept: Option<u64>,
        by_redis: u64,
    ) -> Option<u64> {
        let shown = self.groups.get_mut(key)?;
        shown.is_told = false;
        shown.kept = shown.kept.max(kept?);
        shown.tell(by_redis.saturating_add(SOON_MS))
    }

    /// Forgets those that the clock has passed.
    pub(super) fn forget_passed(&mut self, by_redis: u64) {
        self.groups
            .retain(|_, shown| shown.is_told || shown.time > by_redis);
    }

    /// The connections are lost: nothing is known of what Redis has.
    pub(super) fn is_lost(&mut self) {
        for shown in self.groups.values_mut() {
            (shown.is_told, shown.kept) = (false, 0);
        }
    }

    /// They stand again: what Redis may not have is told.
    pub(super) fn tell_again(&mut self, by_redis: u64) -> Vec<(GroupKey, u64)> {
        let passed = by_redis.saturating_add(SOON_MS);
        let groups = self.groups.iter_mut();
        groups
            .filter_map(|(key, shown)| Some((key.clone(), shown.tell(passed)?)))
            .collect()
    }
}

impl Shown {
    fn tell(&mut self, passed: u64) -> Option<u64> {
        if self.is_told || self.time <= self.kept.max(passed) {
            return None;
        }
        self.is_told = true;
        Some(self.time.saturating_add(1)) // an item's `sync` is later than the event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const MINUTE: u64 = 60_000;

    fn key() -> GroupKey {
        GroupKey::new("s", "g")
    }

    #[test]
    fn only_what_is_really_ahead_is_told() {
        let mut ahead = Ahead::default();
        for time in [0, NOW - MINUTE, NOW, NOW + SOON_MS] {
            assert_eq!(ahead.note(&key(), time, false, NOW), None);
        }
        assert_eq!(ahead.note(&key(), NOW + MINUTE, true, NOW), None, "by us");
        assert!(ahead.groups.is_empty());
        let told = ahead.note(&key(), NOW + MINUTE, false, NOW);
        assert_eq!(told, Some(NOW + MINUTE + 1));
        assert_eq!(ahead.note(&GroupKey::new("s", "h"), NOW, true, NOW), None);
    }

    #[test]
    fn of_very_many_events_one_word_is_under_way_and_the_next_has_the_last() {
        let mut ahead = Ahead::default();
        let first = ahead.note(&key(), NOW + MINUTE, false, NOW);
        assert!(first.is_some());
        for n in 1..=1000 {
            assert_eq!(ahead.note(&key(), NOW + MINUTE - n, false, NOW), None);
        }
        let next = ahead.answered(&key(), first, NOW);
        assert_eq!(next, Some(NOW + MINUTE + 1001), "as it was shown");
        assert_eq!(ahead.answered(&key(), next, NOW), None);
        // What our scripts do from there on is in Redis already.
        for n in 1..=1000 {
            let time = NOW + MINUTE + 1001 + n;
            assert_eq!(ahead.note(&key(), time, true, NOW), None);
        }
        // A script that ran before the word came.
        let told = ahead.note(&key(), NOW + 1, true, NOW);
        assert_eq!(told, Some(NOW + MINUTE + 2003));
    }

    #[test]
    fn what_the_clock_has_passed_is_forgotten_and_what_was_refused_or_lost_is_told_again() {
        let mut ahead = Ahead::default();
        let _ = ahead.note(&key(), NOW + MINUTE, false, NOW);
        assert_eq!(ahead.answered(&key(), None, NOW), None, "not by itself");
        let told = ahead.note(&key(), NOW + MINUTE, false, NOW);
        assert_eq!(told, Some(NOW + MINUTE + 2));
        ahead.is_lost();
        let again = ahead.tell_again(NOW);
        assert_eq!(again, [(key(), NOW + MINUTE + 2)]);
        assert!(ahead.tell_again(NOW).is_empty(), "it is under way");
        let told = Some(again[0].1);
        ahead.forget_passed(NOW + 2 * MINUTE);
        assert_eq!(ahead.groups.len(), 1, "Redis has not answered");
        assert_eq!(ahead.answered(&key(), told, NOW + 2 * MINUTE), None);
        ahead.forget_passed(NOW + 2 * MINUTE);
        assert!(ahead.groups.is_empty());
        assert_eq!(ahead.answered(&key(), told, NOW), None);
    }
}
