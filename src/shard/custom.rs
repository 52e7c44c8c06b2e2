//! Streams that keep their values in functions of SDK workers: the function decides, the owner learns.
//!
//! A command takes its place in the group's queue and the function is asked at once; answers may come
//! in any order, and take effect in that of the queue. Nothing of them is kept here.

use std::sync::Arc;

use crate::id::{CallId, ItemId, Text};
use crate::protocol::answer::Outcome;
use crate::protocol::call::ErrorBody;
use crate::protocol::custom::{self, Input, Written};
use crate::protocol::frame::SyncFrame;
use crate::protocol::input::{StreamFunction, failed};

use super::Decides;
use super::command::{Ask, Join};
use super::effects::{CustomCall, Reply};
use super::group::{Group, Turn};
use super::learned::CustomAnswer;
use super::waiting::{Custom, Waiting};

impl Group {
    /// Asks the function in place of the store and keeps the command's place.
    pub(super) fn ask_custom(
        &mut self,
        function: StreamFunction,
        ask: Ask,
        decides: Decides,
        turn: &mut Turn<'_>,
    ) {
        if matches!(ask, Ask::Send { .. } | Ask::Leave { .. }) {
            return;
        }
        let input = self.input_of(&ask);
        let time = match decides {
            Decides::Owner => self.time_of(&ask, turn),
            Decides::Shared => None,
        };
        if decides == Decides::Shared
            && let Ask::Join(join) = &ask
        {
            self.follow_beside(join.item.as_ref(), turn);
        }
        if time.is_some() {
            self.keep_time(turn);
        }
        let number = turn.flight.name_custom();
        turn.out.custom.push(CustomCall {
            shard: turn.flight.shard,
            slot: turn.slot,
            number,
            function,
            key: self.key.clone(),
            of_join: matches!(ask, Ask::Join(_)),
            input,
        });
        let custom = Custom {
            number,
            ask,
            time,
            answer: None,
        };
        let under_way = self.under_way(turn.flight);
        under_way.push(Waiting::Custom(Box::new(custom)));
    }

    /// The function has answered, and everything before it has had its turn.
    pub(super) fn learn_custom(&mut self, custom: Custom, turn: &mut Turn<'_>) {
        let Some(answer) = custom.answer else {
            return debug_assert!(false, "its turn has not come");
        };
        if matches!(answer, CustomAnswer::Gone) {
            turn.flight.repeats.push((self.key.clone(), custom.ask));
            return;
        }
        let time = custom
            .time
            .or_else(|| self.time_of(&custom.ask, turn))
            .unwrap_or(turn.now);
        let function = custom.ask.function().unwrap_or(StreamFunction::Set);
        match custom.ask {
            Ask::Set { item, call, .. }
            | Ask::Update { item, call, .. }
            | Ask::Delete { item, call } => {
                self.learn_written(function, &item, call, answer, time, turn);
            }
            Ask::Get { call, .. } => {
                let outcome = passed_on(StreamFunction::Get, answer);
                turn.out.replies.push(Reply { call, outcome });
            }
            Ask::List { call } => {
                let outcome = passed_on(StreamFunction::List, answer);
                turn.out.replies.push(Reply { call, outcome });
            }
            Ask::Join(join) => {
                let sync = self.sync_told(&join, answer, time);
                self.enter(&join, sync, turn.out);
            }
            Ask::Send { .. } | Ask::Leave { .. } | Ask::Hold(_) | Ask::Release { .. } => {
                debug_assert!(false, "no custom store is asked");
            }
        }
    }

    fn learn_written(
        &mut self,
        function: StreamFunction,
        item: &ItemId,
        call: Option<CallId>,
        answer: CustomAnswer,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        let written = match written(function, &answer, turn.limits.json_depth) {
            Ok(written) => written,
            Err(error) => {
                let outcome = Outcome::Failed(error);
                let reply = call.map(|call| Reply { call, outcome });
                return turn.out.replies.extend(reply);
            }
        };
        let Written { old, new, errors } = written;
        let is_there = function != StreamFunction::Delete;
        let told_new = is_there.then(|| Text::clone(&new));
        let told_old = old.clone();
        let outcome = match function {
            StreamFunction::Delete => Outcome::Deleted { old },
            StreamFunction::Update => Outcome::Updated { new, old, errors },
            _ => Outcome::Set { new, old },
        };
        turn.out
            .replies
            .extend(call.map(|call| Reply { call, outcome }));
        let change = (told_old.as_deref(), told_new.as_deref());
        self.tell_change(item, change, time, turn);
    }

    /// `None` when the function could not tell: the subscription stands all the same.
    fn sync_told(
        &mut self,
        join: &Join,
        answer: CustomAnswer,
        time: u64,
    ) -> Option<Arc<SyncFrame>> {
        let CustomAnswer::Result(value) = answer else {
            return None;
        };
        let item = join.item.as_deref();
        let sync = SyncFrame::of_value(self.names(), time, item, value.as_ref());
        Some(Arc::new(sync))
    }

    /// The time that it gives out: reads give out none.
    fn time_of(&mut self, ask: &Ask, turn: &mut Turn<'_>) -> Option<u64> {
        let now = turn.now;
        match ask {
            Ask::Set { .. } | Ask::Update { .. } | Ask::Delete { .. } => Some(self.event_time(now)),
            Ask::Join(join) => {
                self.may_have_missed_events(now, turn); // who keeps the values may change them by himself
                Some(self.sync_time(join.item.is_some(), now))
            }
            Ask::Get { .. } | Ask::List { .. } | Ask::Send { .. } => None,
            Ask::Leave { .. } | Ask::Hold(_) | Ask::Release { .. } => None,
        }
    }

    fn input_of(&self, ask: &Ask) -> Text {
        let mut input = Input {
            stream: self.key.stream(),
            group: Some(self.key.group()),
            item: ask.item(),
            ..Input::default()
        };
        match ask {
            Ask::Set { data, .. } => input.data = Some(data),
            Ask::Update { ops, .. } => input.ops = Some(ops),
            _ => {}
        }
        let mut text = Vec::new();
        input.write(&mut text);
        // It was put together from texts.
        String::from_utf8(text).unwrap_or_default().into()
    }
}

fn written(
    function: StreamFunction,
    answer: &CustomAnswer,
    json_depth: usize,
) -> Result<Written, ErrorBody> {
    let answer = match answer {
        CustomAnswer::Result(result) => Ok(result.as_deref()),
        CustomAnswer::Failed(error) => Err(error),
        CustomAnswer::Refused(cause) => return Err(failed(function, cause)),
        CustomAnswer::Gone => return Err(failed(function, "it has gone")),
    };
    custom::written(function, answer, json_depth)
}

/// What a read answers: any value, or none.
fn passed_on(function: StreamFunction, answer: CustomAnswer) -> Outcome {
    match answer {
        CustomAnswer::Result(value) => {
            Outcome::Got(value.filter(|value| value.trim_ascii() != "null"))
        }
        CustomAnswer::Failed(error) => Outcome::Failed(error),
        CustomAnswer::Refused(cause) => Outcome::Failed(failed(function, &cause)),
        CustomAnswer::Gone => Outcome::Failed(failed(function, "it has gone")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::hooks::Hooks;
    use super::super::tests::{
        Local, call, cut, decided, hear, join, outcomes, set, sync, text, times, value, watching,
    };
    use super::super::{
        CustomAnswered, Delivered, Effects, HELD_BYTES_MAX, HELD_LEN_MAX, HeardEvent, Verdict,
    };
    use super::*;
    use crate::id::GroupKey;
    use StreamFunction::{Delete, Get, List, Set, Update};

    fn with_custom(functions: &[StreamFunction]) -> Arc<Hooks> {
        let mut hooks = Hooks::default();
        let custom = hooks.custom.get_or_default("s");
        functions.iter().for_each(|function| custom.add(*function));
        hooks.events.add("s", None, None);
        Arc::new(hooks)
    }

    fn local(decides: Decides, functions: &[StreamFunction]) -> Local {
        let mut local = Local::new(decides);
        local.shard.set_hooks(with_custom(functions));
        local
    }

    fn result(text: &str) -> CustomAnswer {
        CustomAnswer::Result(Some(text.into()))
    }

    /// The one call that was made.
    fn made(out: &Effects) -> &CustomCall {
        assert!(out.requests.is_empty() && out.replies.is_empty() && out.deliveries.is_empty());
        let [call] = &out.custom[..] else {
            unreachable!("one call for a command")
        };
        call
    }

    fn tell(local: &mut Local, of: &Effects, now: u64, answer: CustomAnswer) -> Effects {
        let mut out = Effects::default();
        let CustomCall { slot, number, .. } = *made(of);
        let answered = CustomAnswered {
            slot,
            number,
            answer,
        };
        local.shard.custom_answered(answered, now, &mut out);
        local.asked.append(&mut out.requests);
        local.shard.check_invariants();
        out
    }

    fn get(n: u32) -> Ask {
        Ask::Get {
            item: "u1".into(),
            call: call(n),
        }
    }

    fn send(n: u32) -> Ask {
        Ask::Send {
            id: None,
            kind: "typing".into(),
            data: "1".into(),
            call: Some(call(n)),
        }
    }

    #[test]
    fn a_sync_of_a_function_is_not_older_than_the_last_one_though_the_clock_steps_back() {
        for decides in [Decides::Owner, Decides::Shared] {
            let mut local = local(decides, &[Get, List]);
            let mut joined = |item: Option<&str>, now: u64| {
                local.shard.set_uptime(now);
                let mut asked = local.ask("g", now, join(item));
                asked.requests.clear();
                times(&tell(&mut local, &asked, now, result("[1]")))
            };
            assert_eq!(joined(None, 1000), [1000]);
            assert_eq!(joined(None, 900), [1000]);
            assert_eq!(joined(Some("u1"), 2000), [2000]);
            let [first, second] = [2001, 2002].map(|now| joined(Some("u1"), now - 500));
            assert!(first[0] > 2000 && first < second, "{first:?}, {second:?}");
        }
    }

    #[test]
    fn a_command_becomes_a_call_and_what_came_back_counts() {
        let mut local = local(Decides::Owner, &[Set, Get, Delete, List, Update]);
        let asked = local.ask("g", 5, set("[1]", 1));
        assert_eq!(made(&asked).function, Set);
        assert_eq!(
            &*made(&asked).input,
            r#"{"data":[1],"group_id":"g","item_id":"u1","stream_name":"s"}"#
        );
        let out = tell(
            &mut local,
            &asked,
            9,
            result(r#"{"old_value":7,"new_value":[2]}"#),
        );
        let (old, new) = (value("7"), "[2]".into());
        assert_eq!(outcomes(&out), [(1, &Outcome::Set { new, old })]);
        assert!(
            out.fired[0]
                .frame
                .text()
                .ends_with(r#""event":{"type":"update","data":[2]}}"#)
        );

        let asked = local.ask("g", 5, Ask::List { call: call(2) });
        assert_eq!(
            &*made(&asked).input,
            r#"{"group_id":"g","stream_name":"s"}"#
        );
        let out = tell(&mut local, &asked, 9, result(r#"{"not":"a list"}"#));
        let got = Outcome::Got(value(r#"{"not":"a list"}"#));
        assert_eq!(outcomes(&out), [(2, &got)]);

        let delete = |n| Ask::Delete {
            item: "u1".into(),
            call: Some(call(n)),
        };
        let asked = local.ask("g", 5, delete(3));
        let out = tell(&mut local, &asked, 9, result("{}"));
        assert_eq!(outcomes(&out), [(3, &Outcome::Deleted { old: None })]);
        assert!(out.fired.is_empty(), "nothing was there");
        assert_eq!(local.shard.groups_len(), 0, "nothing of it is kept here");
    }

    #[test]
    fn what_a_function_that_has_gone_was_asked_our_own_store_is_asked() {
        let mut local = local(Decides::Owner, &[Set, Get, List]);
        let first = local.ask("g", 5, set("1", 1));
        let second = local.ask("g", 5, set("2", 2));
        let read = local.ask("g", 5, get(3));
        let entering = local.ask("g", 5, join(None));
        // In whatever order it is told, they keep theirs.
        for asked in [&read, &second] {
            assert!(tell(&mut local, asked, 6, CustomAnswer::Gone).is_empty());
        }
        assert!(tell(&mut local, &entering, 6, CustomAnswer::Gone).is_empty());
        let mut out = tell(&mut local, &first, 7, CustomAnswer::Gone);
        while !local.asked.is_empty() {
            let mut later = local.answer(8, Verdict::Accepted);
            out.replies.append(&mut later.replies);
            out.deliveries.append(&mut later.deliveries);
        }
        let set_to = |new: &str, old: Option<&str>| Outcome::Set {
            new: new.into(),
            old: old.map(Text::from),
        };
        let got = Outcome::Got(value("2"));
        assert_eq!(
            outcomes(&out),
            [
                (1, &set_to("1", None)),
                (2, &set_to("2", Some("1"))),
                (3, &got)
            ]
        );
        let sync = text(&sync(&out));
        assert!(sync.ends_with(r#""data":[2]}}"#), "{sync}");
        local.shard.check_invariants();
    }

    #[test]
    fn failures_are_told_as_callers_of_the_reference_know_them() {
        let mut local = local(Decides::Owner, &[Set, Get]);
        let failure = || CustomAnswer::Failed(ErrorBody::new("x", "boom"));
        let of_set = "Failed to set value: ";
        let rows = [
            (
                failure(),
                "STREAM_SET_ERROR",
                r#"Failed to invoke function: ErrorBody { code: "x", message: "boom", stacktrace: None }"#,
            ),
            (
                CustomAnswer::Result(None),
                "STREAM_SET_ERROR",
                "Function returned no result",
            ),
            (
                CustomAnswer::Refused("too many calls".into()),
                "STREAM_SET_ERROR",
                "too many calls",
            ),
        ];
        for (answer, code, cause) in rows {
            let asked = local.ask("g", 5, set("1", 1));
            let out = tell(&mut local, &asked, 5, answer);
            let error = Outcome::Failed(ErrorBody::new(code, format!("{of_set}{cause}")));
            assert_eq!(outcomes(&out), [(1, &error)]);
            assert!(out.fired.is_empty());
        }
        let rows = [
            (failure(), Outcome::Failed(ErrorBody::new("x", "boom"))),
            (CustomAnswer::Result(None), Outcome::Got(None)),
            (result("null"), Outcome::Got(None)),
            (
                CustomAnswer::Refused("too many calls".into()),
                Outcome::Failed(failed(Get, "too many calls")),
            ),
        ];
        for (answer, outcome) in rows {
            let asked = local.ask("g", 5, get(1));
            let out = tell(&mut local, &asked, 5, answer);
            assert_eq!(outcomes(&out), [(1, &outcome)]);
        }
    }

    #[test]
    fn answers_in_any_order_take_effect_in_that_of_the_commands() {
        let mut local = local(Decides::Owner, &[Set]);
        let _ = local.ask("g", 5, join(None)); // the list is our own
        let first = local.ask("g", 5, set("1", 1));
        let second = local.ask("g", 5, set("2", 2));
        let between = local.ask("g", 5, send(3));
        let update = Ask::Update {
            item: "u1".into(),
            ops: Vec::new(),
            ttl: None,
            call: Some(call(4)),
        };
        let _ = local.ask("g", 5, update);
        let third = local.ask("g", 5, set("3", 5));
        let last = local.ask("g", 5, get(6));
        assert!(between.is_empty() && last.is_empty());
        assert_eq!(
            local.shard.waiting_len(),
            0,
            "none waits for the store alone"
        );
        let told = result(r#"{"new_value":0}"#);
        assert!(tell(&mut local, &third, 7, told).is_empty());
        assert!(tell(&mut local, &second, 8, result(r#"{"new_value":2}"#)).is_empty());
        assert!(
            local.answer(9, Verdict::Accepted).is_empty(),
            "accepted, but not its turn"
        );
        let out = tell(&mut local, &first, 10, result(r#"{"new_value":1}"#));
        let calls: Vec<u32> = outcomes(&out).iter().map(|(call, _)| *call).collect();
        assert_eq!(calls, [1, 2, 3, 4, 5, 6]);
        let own = Outcome::Got(value("{}"));
        assert_eq!(
            outcomes(&out)[5].1,
            &own,
            "what the function keeps is not here"
        );
        assert_eq!(times(&out), [6, 7, 8, 9, 10], "given out with the places");
        assert_eq!(local.shard.waiting_len(), 0);
        // An answer that nobody waits for says nothing.
        assert!(tell(&mut local, &first, 10, result("{}")).is_empty());
    }

    #[test]
    fn a_refusal_of_the_store_fails_its_writes_and_leaves_what_was_asked_in_its_place() {
        let mut local = local(Decides::Owner, &[Set]);
        let update = |n| Ask::Update {
            item: "u1".into(),
            ops: Vec::new(),
            ttl: None,
            call: Some(call(n)),
        };
        let delete = |n| Ask::Delete {
            item: "u2".into(),
            call: Some(call(n)),
        };
        let asked = local.ask("g", 5, set("1", 1));
        let _ = local.ask("g", 5, delete(2)); // rests on nothing that may fail
        let _ = local.ask("g", 5, update(3));
        let _ = local.ask("g", 5, update(4));
        let behind = local.ask("g", 5, set("2", 5));
        let _ = local.ask("g", 5, delete(6)); // rests on a write that fails
        let _ = local.ask("g", 5, get(7));
        assert!(local.answer(5, Verdict::Accepted).is_empty());
        let out = local.answer(5, Verdict::Refused("disk full".into()));
        assert!(out.is_empty(), "failures keep their places too");
        assert!(tell(&mut local, &behind, 6, result(r#"{"new_value":2}"#)).is_empty());
        let out = tell(&mut local, &asked, 6, result(r#"{"new_value":1}"#));
        let calls: Vec<u32> = outcomes(&out).iter().map(|(call, _)| *call).collect();
        assert_eq!(calls, [1, 2, 3, 4, 5, 6, 7]);
        let fails = |(_, outcome): &(u32, &Outcome)| matches!(outcome, Outcome::Failed(_));
        let failed = outcomes(&out).into_iter().filter(fails);
        let failed: Vec<u32> = failed.map(|(call, _)| call).collect();
        assert_eq!(failed, [4, 6]);
        let accepted = Outcome::Got(value("{}"));
        assert_eq!(outcomes(&out)[6].1, &accepted);
        // The next write begins on what was accepted.
        let _ = local.ask("g", 7, update(8));
        let out = local.answer(7, Verdict::Accepted);
        let (old, new) = (value("{}"), "{}".into());
        let errors = Vec::new();
        assert_eq!(
            outcomes(&out),
            [(8, &Outcome::Updated { new, old, errors })]
        );
    }

    #[test]
    fn what_would_wait_for_functions_is_refused_when_too_much_does_and_other_groups_go_on() {
        let mut local = local(Decides::Owner, &[Set]);
        let first = local.ask("g", 5, set("1", 1));
        let mut out = Effects::default();
        let mut ask = |local: &mut Local, group: &str, ask| {
            let key = GroupKey::new("s", group);
            let command = super::super::Command::Group { key, ask };
            local.shard.apply(command, 5, &mut out);
            std::mem::take(&mut out)
        };
        for n in 1..HELD_LEN_MAX {
            assert!(ask(&mut local, "g", send(n as u32)).is_empty());
        }
        assert_eq!(local.shard.waiting_len(), 0, "the store is not waited for");
        let refused = |function| Outcome::Failed(failed(function, "server is overloaded"));
        let rows = [
            (send(7), StreamFunction::Send),
            (set("2", 7), Set),
            (get(7), Get),
            (Ask::List { call: call(7) }, List),
        ];
        for (asked, function) in rows {
            let out = ask(&mut local, "g", asked);
            assert_eq!(outcomes(&out), [(7, &refused(function))]);
            assert!(out.custom.is_empty());
        }
        let void = Ask::Set {
            item: "u1".into(),
            data: "1".into(),
            ttl: None,
            call: None,
        };
        assert!(ask(&mut local, "g", void).is_empty());
        assert_eq!(
            local.shard.take_refused(),
            5,
            "void ones are counted as well"
        );
        // Whatever waits for no function goes on; a function of another group is one more to wait for.
        let out = ask(&mut local, "other", send(8));
        assert_eq!(outcomes(&out), [(8, &Outcome::Sent)]);
        let out = ask(&mut local, "other", set("1", 9));
        assert_eq!(outcomes(&out), [(9, &refused(Set))]);
        assert!(
            ask(&mut local, "g", join(None)).is_empty(),
            "its socket bounds it"
        );
        let out = tell(&mut local, &first, 6, result(r#"{"new_value":1}"#));
        let mut told_len = outcomes(&out).len();
        while local.shard.has_begun_more() {
            let mut out = Effects::default();
            local.shard.begin_turn(6, &mut out);
            told_len += outcomes(&out).len();
        }
        assert_eq!(told_len, HELD_LEN_MAX);
        let again = ask(&mut local, "g", set("2", 9));
        assert_eq!(made(&again).function, Set);
    }

    #[test]
    fn values_that_wait_for_functions_count_by_their_bytes() {
        let mut local = local(Decides::Owner, &[Get]);
        let first = local.ask("g", 5, get(1));
        let data: Text = "1".repeat(HELD_BYTES_MAX / 2).into();
        let set = |n| Ask::Set {
            item: "u1".into(),
            data: Text::clone(&data),
            ttl: None,
            call: Some(call(n)),
        };
        for n in [2, 3] {
            assert!(local.ask("g", 5, set(n)).is_empty());
            assert!(local.answer(5, Verdict::Accepted).is_empty());
        }
        let out = local.ask("g", 5, set(4));
        let refused = Outcome::Failed(failed(Set, "server is overloaded"));
        assert_eq!(outcomes(&out), [(4, &refused)]);
        assert_eq!(outcomes(&tell(&mut local, &first, 6, result("1"))).len(), 3);
    }

    #[test]
    fn a_join_is_told_what_the_function_lists_or_nothing() {
        let mut local = local(Decides::Owner, &[List, Get]);
        let asked = local.ask("g", 5, join(None));
        let sent = local.ask("g", 8, send(1));
        assert!(sent.is_empty(), "it follows the sync");
        let out = tell(&mut local, &asked, 50, result(r#"{"any":1}"#));
        assert!(
            text(&sync(&out)).ends_with(r#""id":null,"event":{"type":"sync","data":{"any":1}}}"#)
        );
        assert_eq!(times(&out), [5, 8], "stamped when it took its place");
        let asked = local.ask("g", 60, join(Some("u1")));
        assert_eq!(made(&asked).function, Get);
        let out = tell(&mut local, &asked, 60, CustomAnswer::Result(None));
        assert!(text(&sync(&out)).ends_with(r#""data":null}}"#));
        let asked = local.ask("g", 60, join(None));
        let out = tell(
            &mut local,
            &asked,
            60,
            CustomAnswer::Failed(ErrorBody::new("x", "boom")),
        );
        let entered = &out.deliveries[0].what;
        assert!(matches!(entered, Delivered::Entered { sync: None, .. }));
    }

    #[test]
    fn beside_a_store_that_decides_times_are_those_of_the_turns() {
        let mut local = local(Decides::Shared, &[Set]);
        let _ = local.ask("g", 100, join(None));
        let _ = local.answer(100, cut(&[], 100));
        let first = local.ask("g", 100, set("1", 1));
        let _ = local.ask("g", 100, get(2));
        let _ = local.ask("g", 100, send(3));
        let second = local.ask("g", 100, set("2", 4));
        assert!(tell(&mut local, &second, 101, result(r#"{"new_value":2}"#)).is_empty());
        assert!(local.answer(101, Verdict::Found(value("9"))).is_empty());
        let out = tell(&mut local, &first, 105, result(r#"{"new_value":1}"#));
        assert_eq!(times(&out), [105]);
        let got = Outcome::Got(value("9"));
        assert_eq!(outcomes(&out)[1..], [(2, &got)]);
        let out = hear(&mut local, HeardEvent::Create("5".into()), 400);
        assert_eq!(times(&out), [400]);
        let out = local.answer(110, decided(None, None, 300));
        assert_eq!(
            times(&out),
            [401],
            "of the second; the send comes by the channel"
        );
        assert_eq!(outcomes(&out).len(), 2);
    }

    #[test]
    fn what_others_do_is_heard_behind_what_the_store_said_before() {
        let mut local = local(Decides::Shared, &[Get]);
        let _ = local.ask("g", 100, join(None));
        let _ = local.answer(100, cut(&[], 100));
        let asked = local.ask("g", 100, get(1));
        let _ = local.ask("g", 100, set("1", 2));
        let _ = local.ask("g", 100, set("3", 3));
        let last = local.ask("g", 100, get(4));
        assert!(local.answer(100, decided(None, Some("1"), 100)).is_empty());
        for (event, time) in [
            (HeardEvent::Create("1".into()), 100),
            (HeardEvent::Update("2".into()), 101),
            (HeardEvent::Update("3".into()), 102),
        ] {
            assert!(hear(&mut local, event, time).is_empty());
        }
        assert!(
            local
                .answer(100, decided(Some("2"), Some("3"), 102))
                .is_empty()
        );
        assert!(tell(&mut local, &last, 100, CustomAnswer::Result(None)).is_empty());
        let out = tell(&mut local, &asked, 100, CustomAnswer::Result(None));
        let told = |delivery: &super::super::Delivery| match &delivery.what {
            Delivered::Event(frame) => frame
                .text()
                .rsplit_once("data\":")
                .map(|(_, rest)| rest.to_owned()),
            Delivered::Entered { .. } | Delivered::Afresh(_) => None,
        };
        let told: Vec<_> = out.deliveries.iter().filter_map(told).collect();
        assert_eq!(told, ["1}}", "2}}", "3}}"]);
        assert_eq!(out.fired.len(), 2, "their change fires where it was made");
        assert_eq!(outcomes(&out).len(), 4);
    }

    #[test]
    fn other_streams_and_functions_keep_the_store() {
        let mut local = local(Decides::Owner, &[Get]);
        assert!(local.ask("g", 5, set("1", 1)).custom.is_empty());
        assert_eq!(local.asked.len(), 1);
        local.shard.set_hooks(watching("s", 1));
        assert!(local.ask("h", 5, get(2)).custom.is_empty());
    }
}
