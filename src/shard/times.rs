//! Times that no write bears, kept ahead: those of `sync`s and of custom events.
//!
//! The store keeps a time that is a little later than what is given out, and after a restart times go
//! on behind it. May not know what is stamped.

/// How far times may be given out.
#[derive(Debug)]
pub(super) struct Times {
    /// The store has kept this: whatever happens, times after the next start are later.
    pub(super) kept: u64,
    /// The highest that the store was asked to keep.
    pub(super) asked: u64,
}

impl Default for Times {
    /// No store keeps anything: no time has to be kept.
    fn default() -> Times {
        Times::from(u64::MAX)
    }
}

impl Times {
    /// How much later than what is given out the kept time is: so far may a group run ahead of the
    /// clock after a process was killed and started at once.
    pub(super) const AHEAD_MS: u64 = 800;

    /// Times up to that one are kept.
    pub(super) fn from(kept: u64) -> Times {
        Times { kept, asked: kept }
    }

    /// Whether more should be kept soon, so that nobody has to wait for it. Only what is given out uses
    /// it up: an idle shard asks for nothing.
    pub(super) fn run_low(&self, time: u64) -> bool {
        self.asked < time.saturating_add(Times::AHEAD_MS / 2)
    }

    /// The store has kept that time.
    pub(super) fn keep(&mut self, time: u64) {
        self.kept = self.kept.max(time);
        self.asked = self.asked.max(time);
    }
}

#[cfg(test)]
mod tests {
    use crate::shard::tests::{Local, call, cut, join, leave, outcomes, set, times};
    use crate::shard::{Ask, Decides, Question, RequestKind, Verdict};

    fn local(kept: u64) -> Local {
        let mut local = Local::new(Decides::Owner);
        local.shard.keep_times_from(kept);
        local
    }

    fn send(n: u32) -> Ask {
        Ask::Send {
            id: None,
            kind: "k".into(),
            data: "1".into(),
            call: Some(call(n)),
        }
    }

    fn join_item() -> Ask {
        join(Some("u1"))
    }

    #[test]
    fn joins_without_an_event_between_them_move_nothing() {
        for decides in [Decides::Owner, Decides::Shared] {
            let mut local = Local::new(decides);
            let told = |local: &mut Local, group: &str, ask: Ask| {
                let mut out = local.ask(group, 100, ask);
                while !local.asked.is_empty() {
                    let verdict = match &local.asked[0].kind {
                        RequestKind::Decide(Question::Follow { .. }) => Verdict::Cut {
                            items: super::super::Content::default(),
                            time: 100,
                        },
                        RequestKind::Decide(Question::Send { .. }) => Verdict::Decided {
                            old: None,
                            new: None,
                            errors: Vec::new(),
                            time: 100,
                        },
                        _ => Verdict::Accepted,
                    };
                    let more = local.answer(100, verdict);
                    out.deliveries.extend(more.deliveries);
                }
                times(&out)
            };
            let _ = told(&mut local, "g", send(1));
            let first = told(&mut local, "g", join_item());
            for n in 0..1000 {
                assert_eq!(told(&mut local, "g", join_item()), first, "join {n}");
            }
            let _ = told(&mut local, "g", leave());
            // The group is let go and appears again, as others do.
            for group in ["g", "h", "g"] {
                let again = told(&mut local, group, join_item());
                assert!(again <= vec![first[0] + 1], "{again:?} after {first:?}");
                let _ = told(&mut local, group, leave());
            }
            assert!(local.shard.take_ahead_ms() <= 2, "{decides:?}");
        }
    }

    #[test]
    fn an_event_is_later_than_every_sync_and_a_sync_than_the_last_event() {
        let mut local = local(u64::MAX);
        assert_eq!(times(&local.ask("g", 100, join(None))), [100]);
        let _ = local.ask("g", 100, set("1", 1));
        assert_eq!(times(&local.answer(100, Verdict::Accepted)), [101]);
        assert_eq!(times(&local.ask("g", 100, join_item())), [102]);
        assert_eq!(times(&local.ask("g", 100, join(None))), [102]);
        assert_eq!(times(&local.ask("g", 100, join_item())), [102]);
        let _ = local.ask("g", 100, set("2", 2));
        assert_eq!(times(&local.answer(100, Verdict::Accepted)), [103]);
        assert_eq!(times(&local.ask("g", 50, join_item())), [104]);
    }

    #[test]
    fn a_sync_is_never_older_than_what_was_shown_though_the_clock_of_a_shared_store_steps_back() {
        let mut local = Local::new(Decides::Shared);
        let cut = |local: &mut Local, item: Option<&str>, value: &str, time: u64| {
            let _ = local.ask("g", time, join(item));
            times(&local.answer(time, cut(&[("u1", value)], time)))
        };
        assert_eq!(cut(&mut local, None, "1", 100), [100]);
        assert_eq!(
            times(&local.ask("g", 1105, join(None))),
            [1105],
            "as the clock was thought to go on"
        );
        let _ = local.ask("g", 129, leave());
        let _ = local.answer(129, Verdict::Accepted);
        // Others change it meanwhile.
        assert_eq!(cut(&mut local, None, "2", 129), [1105]);
        for ms in 1..100 {
            local.shard.set_uptime(ms);
            let _ = local.ask("g", 130, leave());
            let _ = local.answer(130, Verdict::Accepted);
            let told = cut(&mut local, Some("u1"), "3", 130);
            assert_eq!(told, [1105 + ms], "an item's is later than what was shown");
        }
    }

    #[test]
    fn joins_of_groups_that_nobody_has_followed_move_times_no_faster_than_the_clock_goes() {
        let mut local = Local::new(Decides::Shared);
        for turn in 0..10_000 {
            let (now, group) = (100 + turn / 100, ["g", "h"][turn as usize % 2]);
            local.shard.set_uptime(turn / 100);
            let _ = local.ask(group, now, join_item());
            let _ = local.answer(now, cut(&[], now));
            let _ = local.ask(group, now, leave());
            let _ = local.answer(now, Verdict::Accepted);
        }
        assert!(local.shard.take_ahead_ms() <= 2);
    }

    /// The times that the store was asked to keep and has not answered.
    fn asked(local: &Local) -> Vec<u64> {
        let times = local.asked.iter().filter_map(|asked| match asked.kind {
            RequestKind::Times { time } => Some(time),
            _ => None,
        });
        times.collect()
    }

    #[test]
    fn what_bears_a_time_without_a_write_waits_until_the_store_has_kept_it() {
        let mut local = local(500);
        assert!(local.ask("g", 1000, join(None)).deliveries.is_empty());
        assert!(local.ask("h", 1000, send(1)).replies.is_empty());
        assert_eq!(asked(&local), [1800, 1800]);
        assert_eq!(times(&local.answer(1001, Verdict::Accepted)), [1000]);
        assert_eq!(outcomes(&local.answer(1001, Verdict::Accepted)).len(), 1);
        assert_eq!(times(&local.ask("g", 1300, join(None))), [1300], "is kept");
        assert!(local.asked.is_empty());
    }

    #[test]
    fn more_is_kept_before_it_is_used_up_and_never_when_idle() {
        let mut local = local(1800);
        assert_eq!(times(&local.ask("g", 1300, join(None))), [1300]);
        assert!(local.asked.is_empty());
        assert_eq!(times(&local.ask("g", 1500, join(None))), [1500]);
        assert_eq!(times(&local.ask("h", 1500, join(None))), [1500]);
        assert_eq!(asked(&local), [2300], "asked for once");
        let _ = local.answer(1510, Verdict::Accepted);
        assert_eq!(times(&local.ask("g", 1850, join(None))), [1850]);
        assert!(local.asked.is_empty());
    }

    #[test]
    fn writes_bear_their_times_themselves() {
        let mut local = local(500);
        let _ = local.ask("g", 9000, set("1", 1));
        assert!(asked(&local).is_empty() && local.asked.len() == 1);
    }

    #[test]
    fn a_store_that_cannot_keep_times_holds_nobody_up() {
        let mut local = local(500);
        let _ = local.ask("g", 1000, send(1));
        let _ = local.ask("g", 1000, set("1", 2));
        let _ = local.ask("h", 1000, join(None));
        let out = local.answer(1001, Verdict::Refused("disk full".into()));
        assert_eq!(
            outcomes(&out).len(),
            2,
            "the custom event and the refused write"
        );
        assert_eq!(times(&out), [1000]);
        local.asked.clear();
        assert_eq!(times(&local.ask("h", 1100, join(None))), [1100]);
        let _ = local.ask("h", 1500, join(None));
        assert_eq!(asked(&local), [2300], "it is tried again");
    }
}
