//! A group in a store that several hosts share: the store decides, the owner learns.
//!
//! Nothing is applied ahead. A command is sent on and keeps its place in the group's queue; old value,
//! kind and time come with the store's answer, which makes the reply and fires triggers. What subscribers
//! hear comes by `channel`. May not know how the owner would decide.

use std::sync::Arc;

use crate::id::{CallId, ItemId, Text};
use crate::protocol::answer::Outcome;
use crate::protocol::frame::{Event, EventFrame};
use crate::protocol::function::OUT_OF_MEMORY;
use crate::protocol::input::{StreamFunction, UpdateOp, failed};

use super::command::Ask;
use super::effects::{Fired, Reply};
use super::flight::InFlight;
use super::group::{Group, Turn, change};
use super::learned::HeardEvent;
use super::requests::{Question, RequestKind, Verdict};
use super::waiting::{Asked, Send, Waiting};

impl Group {
    /// Sends a command on to the store and keeps its place. `hash` is that of the item of a join.
    pub(super) fn apply_shared(&mut self, ask: Ask, hash: u64, turn: &mut Turn<'_>) {
        if self.refuses_to_grow(&ask, turn) {
            return ask.refuse(OUT_OF_MEMORY, turn.out);
        }
        let group = self.key.clone();
        let (question, asked) = match ask {
            Ask::Set {
                item,
                data,
                ttl,
                call,
            } => (
                Question::Set {
                    group,
                    item: ItemId::clone(&item),
                    data,
                    ttl,
                },
                Asked::Change {
                    function: StreamFunction::Set,
                    item,
                    call,
                },
            ),
            Ask::Update {
                item,
                ops,
                ttl,
                call,
            } => (
                Question::Update {
                    group,
                    item: ItemId::clone(&item),
                    ops: ops.into(),
                    ttl,
                },
                Asked::Change {
                    function: StreamFunction::Update,
                    item,
                    call,
                },
            ),
            Ask::Delete { item, call } => (
                Question::Delete {
                    group,
                    item: ItemId::clone(&item),
                },
                Asked::Change {
                    function: StreamFunction::Delete,
                    item,
                    call,
                },
            ),
            Ask::Get { item, call } => (Question::Get { group, item }, Asked::Get { call }),
            Ask::List { call } => (Question::List { group }, Asked::List { call }),
            Ask::Send {
                id,
                kind,
                data,
                call,
            } => (
                Question::Send {
                    group,
                    id: id.clone(),
                    kind: kind.clone(),
                    data: Text::clone(&data),
                },
                Asked::Send(Send {
                    id,
                    kind,
                    data,
                    time: 0,
                    call,
                }),
            ),
            Ask::Join(join) => return self.join_shared(join, hash, turn),
            Ask::Leave { worker, local } => return self.leave_shared(worker, local, turn),
            Ask::Hold(hold) => return self.hold_shared(*hold, hash, turn),
            Ask::Release { lease, id } => return self.release_shared(lease, &id, hash, turn),
        };
        let kind = RequestKind::Decide(question);
        turn.flight
            .request(InFlight::Group(turn.slot), kind, turn.out);
        let under_way = self.under_way(turn.flight);
        under_way.push(Waiting::Asked(asked, None));
    }

    /// Whether it would add to the items that are kept here for those who follow, and nothing may.
    fn refuses_to_grow(&self, ask: &Ask, turn: &mut Turn<'_>) -> bool {
        if self.following.is_none() {
            return false;
        }
        let old = |item: &str, turn: &Turn<'_>| self.items.get(turn.hash(item), item);
        match ask {
            Ask::Set { item, data, .. } => {
                let old = old(item, turn);
                turn.room.refuses(old.map(|old| &**old), data)
            }
            Ask::Update { item, ops, .. } => {
                let is_there = old(item, turn).is_some();
                let bytes = ops.iter().map(UpdateOp::held_bytes).sum();
                turn.room.refuses_update(is_there, bytes)
            }
            _ => false,
        }
    }

    /// The store's word on the oldest command.
    pub(super) fn answered(&mut self, verdict: Verdict, turn: &mut Turn<'_>) {
        self.settle(turn, |under_way| under_way.decide(verdict));
    }

    /// A command has its turn, with the store's word on it.
    pub(super) fn learn(&mut self, asked: Asked, verdict: Verdict, turn: &mut Turn<'_>) {
        match asked {
            Asked::Change {
                function,
                item,
                call,
            } => self.learn_change(function, item, call, verdict, turn),
            Asked::Get { call } => {
                let outcome = match verdict {
                    Verdict::Found(value) => Outcome::Got(value),
                    other => refusal(StreamFunction::Get, &other),
                };
                turn.out.replies.push(Reply { call, outcome });
            }
            Asked::List { call } => {
                let outcome = match verdict {
                    Verdict::Listed(pieces) => Outcome::List(pieces),
                    other => refusal(StreamFunction::List, &other),
                };
                turn.out.replies.push(Reply { call, outcome });
            }
            Asked::Send(send) => {
                let (outcome, time) = match verdict {
                    Verdict::Decided { time, .. } => (Outcome::Sent, Some(time)),
                    other => (refusal(StreamFunction::Send, &other), None),
                };
                turn.out
                    .replies
                    .extend(send.call.map(|call| Reply { call, outcome }));
                if let Some(time) = time {
                    let event = Event::Custom {
                        kind: &send.kind,
                        data: &send.data,
                    };
                    self.answered_shared(send.id.as_deref(), event, time, turn);
                }
            }
            Asked::Join(join) => self.learn_join(join, verdict, turn),
        }
    }

    fn learn_change(
        &mut self,
        function: StreamFunction,
        item: ItemId,
        call: Option<CallId>,
        verdict: Verdict,
        turn: &mut Turn<'_>,
    ) {
        let replies = &mut turn.out.replies;
        let Verdict::Decided {
            old,
            new,
            errors,
            time,
        } = verdict
        else {
            let outcome = refusal(function, &verdict);
            replies.extend(call.map(|call| Reply { call, outcome }));
            return;
        };
        let outcome = match (function, &new) {
            (StreamFunction::Set, Some(new)) => Outcome::Set {
                new: Text::clone(new),
                old: old.clone(),
            },
            (StreamFunction::Update, Some(new)) => Outcome::Updated {
                new: Text::clone(new),
                old: old.clone(),
                errors,
            },
            _ => Outcome::Deleted { old: old.clone() },
        };
        replies.extend(call.map(|call| Reply { call, outcome }));
        if let Some(event) = change((old.as_deref(), new.as_deref())) {
            self.answered_shared(Some(&item), event, time, turn);
        }
    }

    /// The store has changed an item of itself, for this host.
    pub(super) fn made_by_store(
        &mut self,
        item: &ItemId,
        event: &HeardEvent,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        self.answered_shared(Some(item), event.borrowed(), time, turn);
    }

    /// Whether a change of that time was there when all items were read: its event may never be heard.
    fn was_read(&self, item: Option<&str>, event: Event<'_>, time: u64, turn: &Turn<'_>) -> bool {
        let following = self.following.as_deref();
        if following.is_none_or(|following| time != following.read) {
            return false;
        }
        let shown = item.and_then(|item| self.items.get(turn.hash(item), item));
        match event {
            Event::Create(value) | Event::Update(value) => {
                shown.is_some_and(|shown| **shown == *value)
            }
            Event::Delete(_) => shown.is_none(),
            Event::Custom { .. } => true,
        }
    }

    /// An answer to one of our changes: triggers follow it at once, subscribers hear of it by the
    /// channel.
    fn answered_shared(
        &mut self,
        item: Option<&str>,
        event: Event<'_>,
        time: u64,
        turn: &mut Turn<'_>,
    ) {
        if !self.was_read(item, event, time, turn)
            && let Some(following) = &mut self.following
        {
            following.answered = following.answered.max(time);
        }
        if !self.is_followed(item, turn) {
            return;
        }
        let frame = Arc::new(EventFrame::encode(self.names(), time, item, event));
        turn.out.fired.push(Fired {
            version: turn.hooks.version,
            key: self.key.clone(),
            frame,
        });
        if !self.has_listeners() {
            self.forget_names();
        }
    }
}

/// The answer to a command that the store refused, or answered with something else.
fn refusal(function: StreamFunction, verdict: &Verdict) -> Outcome {
    let cause = match verdict {
        Verdict::Refused(cause) => cause,
        _ => "the store answered something else",
    };
    Outcome::Failed(failed(function, cause))
}

/// What a store that decides says of its groups, as the outcome of a listing.
pub(super) fn listed(verdict: Verdict, of_stream: bool) -> Outcome {
    let function = if of_stream {
        StreamFunction::ListGroups
    } else {
        StreamFunction::ListAll
    };
    match verdict {
        Verdict::Groups(names) => Outcome::Groups(names),
        other => refusal(function, &other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        Local, call, cut, decided, followed, hear, join, leave, outcomes, read, set, sync, tell,
        text, times, told, watching,
    };
    use super::super::{Decides, Delivered, Effects, FromChannel, Hold, Learned, Lease};
    use super::*;
    use crate::id::{GroupKey, SlotId, WorkerId};
    use crate::protocol::answer::Outcome;

    #[test]
    fn events_come_from_the_channel_alone_and_an_answer_makes_reply_and_triggers() {
        let mut local = followed();
        local.shard.set_hooks(watching("s", 1));
        let _ = local.ask("g", 100, set("1", 1));
        let out = local.answer(100, decided(None, Some("1"), 150));
        let (old, new) = (None, "1".into());
        assert_eq!(outcomes(&out), [(1, &Outcome::Set { new, old })]);
        assert!(out.deliveries.is_empty());
        assert!(out.fired[0].frame.text().contains(r#""timestamp":150"#));
        let out = hear(&mut local, HeardEvent::Update("1".into()), 150);
        assert_eq!(told(&out), [r#"{"type":"update","data":1}}"#]);
        assert_eq!(times(&out), [150]);
        assert!(out.fired.is_empty() && out.replies.is_empty());
        // A clock behind what was given out: raised.
        assert_eq!(
            times(&hear(&mut local, HeardEvent::Update("2".into()), 3)),
            [151]
        );
    }

    #[test]
    fn joins_of_a_followed_group_ask_nobody_and_see_what_was_answered_before_them() {
        let mut local = followed();
        let out = local.ask("g", 100, join(None));
        assert!(local.asked.is_empty());
        assert!(text(&sync(&out)).ends_with(r#""data":[7]}}"#));
        let _ = local.ask("g", 100, set("8", 1));
        let _ = local.answer(100, decided(None, Some("8"), 150));
        let out = local.ask("g", 160, join(Some("u1")));
        assert!(out.is_empty(), "the channel has not told of it yet");
        let out = hear(&mut local, HeardEvent::Update("8".into()), 150);
        assert_eq!(
            told(&out),
            [
                r#"{"type":"update","data":8}}"#,
                r#"{"type":"sync","data":8}}"#
            ]
        );
    }

    #[test]
    fn without_memory_what_would_add_to_a_followed_group_is_refused_and_of_others_nothing_is_kept()
    {
        let mut local = followed();
        local.shard.set_out_of_memory(true);
        let out = local.ask("g", 100, set(&"9".repeat(17), 1));
        assert!(local.asked.is_empty(), "the store is not asked");
        let said = outcomes(&out);
        assert!(
            matches!(said[..], [(1, Outcome::Failed(error))] if error.message.ends_with("out of memory"))
        );
        for (group, value) in [("g", "12"), ("other", "a new one")] {
            let out = local.ask(group, 100, set(value, 2));
            assert!(out.replies.is_empty() && local.asked.len() == 1, "{group}");
            local.asked.clear();
        }
    }

    #[test]
    fn joins_that_come_while_items_are_asked_for_share_the_answer() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let _ = local.ask("g", 100, join(None));
        let _ = local.ask("g", 100, join(Some("u1")));
        assert_eq!(local.asked.len(), 1);
        let out = local.answer(100, cut(&[("u1", "7")], 90));
        let group = r#"{"type":"sync","data":[7]}}"#;
        assert_eq!(told(&out), [group, group, r#"{"type":"sync","data":7}}"#]);
    }

    #[test]
    fn the_last_who_leaves_ends_the_following() {
        let mut local = followed();
        let _ = local.ask("g", 100, leave());
        let asked = &local.asked[0].kind;
        assert!(matches!(
            asked,
            RequestKind::Decide(Question::Unfollow { .. })
        ));
        assert_eq!(local.shard.groups_len(), 0);
        let out = local.answer(100, Verdict::Accepted);
        assert!(out.is_empty());
        assert!(hear(&mut local, HeardEvent::Update("1".into()), 150).is_empty());
        let _ = local.ask("g", 100, join(None));
        assert_eq!(local.asked.len(), 1, "asked anew");
    }

    #[test]
    fn after_a_loss_joins_wait_for_nothing_and_everybody_begins_anew() {
        let mut local = followed();
        let _ = local.ask("g", 100, join(Some("u1")));
        let _ = local.ask("g", 100, set("8", 1));
        let _ = local.answer(100, decided(None, Some("8"), 150));
        let _ = local.ask("g", 100, join(None));
        let out = tell(&mut local, Learned::Lost);
        assert_eq!(told(&out), [""], "it stands, without a sync");
        let out = local.ask("g", 100, join(None));
        assert!(out.deliveries.is_empty());
        let out = local.answer(100, Verdict::Refused("gone".into()));
        assert_eq!(told(&out), [""]);
        let out = read(&mut local, &[("u2", "9")], true);
        assert_eq!(told(&out), [r#"{"type":"sync","data":[9]}}"#]);
        assert_eq!(times(&out), [300]);
        let Delivered::Afresh(snapshot) = &out.deliveries[0].what else {
            unreachable!("a fresh start")
        };
        let of_item = |item: &str| text(&snapshot.sync_of(Some(&item.into())));
        assert!(of_item("u2").ends_with(r#""data":9}}"#));
        assert!(of_item("u1").ends_with(r#""data":null}}"#));
        let out = local.ask("g", 400, join(None));
        assert_eq!(told(&out), [r#"{"type":"sync","data":[9]}}"#]);
    }

    #[test]
    fn what_differs_when_a_group_is_read_again_is_told() {
        let mut local = followed();
        assert!(read(&mut local, &[("u1", "7")], false).is_empty());
        let out = read(&mut local, &[("u1", "8"), ("u2", "1")], false);
        assert_eq!(
            told(&out),
            [
                r#"{"type":"update","data":8}}"#,
                r#"{"type":"create","data":1}}"#
            ]
        );
        let out = read(&mut local, &[("u2", "1")], false);
        assert_eq!(told(&out), [r#"{"type":"delete","data":8}}"#]);
        assert!(times(&out)[0] > 300);
    }

    #[test]
    fn items_that_the_store_has_lost_are_told_when_it_has_its_first_again() {
        let mut local = followed();
        let from = FromChannel::Event {
            item: Some("u2".into()),
            event: HeardEvent::Create("1".into()),
            time: 200,
            is_first: true,
            is_ours: true,
        };
        let out = tell(&mut local, Learned::Channel(GroupKey::new("s", "g"), from));
        assert_eq!(
            told(&out),
            [
                r#"{"type":"delete","data":7}}"#,
                r#"{"type":"create","data":1}}"#
            ]
        );
        let out = local.ask("g", 400, join(None));
        assert_eq!(told(&out), [r#"{"type":"sync","data":[1]}}"#]);
    }

    fn foreign(local: &mut Local, item: &str, event: HeardEvent, time: u64) -> Effects {
        let from = FromChannel::Event {
            item: Some(item.into()),
            event,
            time,
            is_first: false,
            is_ours: false,
        };
        tell(local, Learned::Channel(GroupKey::new("s", "g"), from))
    }

    #[test]
    fn a_holder_is_told_of_an_update_whatever_redis_had_lost_or_gained() {
        let mut local = followed();
        let out = hear(&mut local, HeardEvent::Create("8".into()), 150);
        assert_eq!(told(&out), [r#"{"type":"update","data":8}}"#]);
        let gone = hear(&mut local, HeardEvent::Delete("8".into()), 151);
        assert_eq!(told(&gone), [r#"{"type":"delete","data":8}}"#]);
        let out = hear(&mut local, HeardEvent::Update("9".into()), 152);
        assert_eq!(told(&out), [r#"{"type":"create","data":9}}"#]);
    }

    #[test]
    fn who_follows_one_item_is_told_the_same() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(Some("u1")));
        let _ = local.answer(100, cut(&[("u1", "7")], 90));
        let out = hear(&mut local, HeardEvent::Create("8".into()), 150);
        assert_eq!(told(&out), [r#"{"type":"update","data":8}}"#]);
        let out = read(&mut local, &[("u1", "9"), ("u2", "1")], false);
        assert_eq!(
            told(&out),
            [r#"{"type":"update","data":9}}"#],
            "and no sync"
        );
        assert!(read(&mut local, &[("u1", "9")], false).is_empty());
        let out = read(&mut local, &[], false);
        assert_eq!(told(&out), [r#"{"type":"delete","data":9}}"#]);
        let out = read(&mut local, &[("u1", "1")], false);
        assert_eq!(told(&out), [r#"{"type":"create","data":1}}"#]);
        // What a join has read that nobody was told of.
        let _ = local.ask("g", 100, join(Some("u1")));
        let out = local.answer(100, cut(&[("u1", "2")], 400));
        assert_eq!(
            told(&out),
            [
                r#"{"type":"update","data":2}}"#,
                r#"{"type":"sync","data":2}}"#
            ]
        );
    }

    #[test]
    fn a_value_in_another_form_is_no_event_and_lists_show_the_stored_one() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let _ = local.answer(100, cut(&[("u1", r#"{"a":1,"b":2}"#)], 90));
        assert!(read(&mut local, &[("u1", r#"{"b":2,"a":1.0}"#)], false).is_empty());
        let out = local.ask("g", 400, join(None));
        assert_eq!(told(&out), [r#"{"type":"sync","data":[{"b":2,"a":1.0}]}}"#]);
    }

    #[test]
    fn what_clients_pass_over_of_others_is_told_again_in_a_way_that_counts() {
        let mut local = followed();
        let out = foreign(&mut local, "u1", HeardEvent::Create("8".into()), 150);
        assert_eq!(
            told(&out),
            [r#"{"type":"create","data":8}}"#],
            "as they put it"
        );
        let out = read(&mut local, &[("u1", "8")], false);
        assert_eq!(told(&out), [r#"{"type":"update","data":8}}"#]);
        assert!(read(&mut local, &[("u1", "8")], false).is_empty());
    }

    #[test]
    fn whoever_has_entered_without_a_sync_gets_it_with_the_next_reading() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, join(None));
        let out = local.answer(100, Verdict::Refused("timed out".into()));
        assert_eq!(told(&out), [""]);
        let out = read(&mut local, &[("u1", "9")], false);
        assert_eq!(told(&out), [r#"{"type":"sync","data":[9]}}"#]);
        assert!(read(&mut local, &[("u1", "9")], false).is_empty());
    }

    #[test]
    fn a_time_at_the_end_of_all_times_overflows_nothing() {
        let mut local = followed();
        let out = hear(&mut local, HeardEvent::Update("8".into()), u64::MAX);
        assert_eq!(times(&out), [u64::MAX]);
        let out = hear(&mut local, HeardEvent::Update("9".into()), u64::MAX);
        assert_eq!(times(&out), [u64::MAX]);
        assert_eq!(times(&local.ask("g", 100, join(Some("u1")))), [u64::MAX]);
        let _ = local.ask("g", 100, leave());
        let _ = local.ask("h", 100, join(None));
    }

    #[test]
    fn answers_of_other_groups_may_come_first() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 100, set("1", 1));
        let _ = local.ask("h", 100, set("2", 2));
        local.asked.swap(0, 1);
        let first = local.answer(100, decided(None, Some("2"), 5));
        let second = local.answer(100, decided(None, Some("1"), 6));
        let calls = [first, second].map(|out| outcomes(&out)[0].0);
        assert_eq!(calls, [2, 1]);
        let _ = local.ask("g", 100, super::super::Ask::List { call: call(3) });
        assert_eq!(local.asked.len(), 1);
    }

    #[test]
    fn what_the_store_has_done_of_itself_fires_triggers_and_subscribers_hear_of_it_by_the_channel()
    {
        let mut local = followed();
        local.shard.set_hooks(watching("s", 1));
        for (group, has_expired) in [("g", true), ("nobody's", false)] {
            let made = Learned::Made {
                key: GroupKey::new("s", group),
                item: "u1".into(),
                event: HeardEvent::Delete("7".into()),
                time: 150,
                has_expired,
            };
            let out = tell(&mut local, made);
            assert!(out.deliveries.is_empty() && out.replies.is_empty());
            let text = out.fired[0].frame.text();
            assert!(text.contains(r#""type":"delete","data":7"#), "{text}");
        }
        assert_eq!(local.shard.take_expired(), 1);
        assert_eq!(local.shard.groups_len(), 1, "nobody's group is let go");
    }

    #[test]
    fn the_store_is_told_with_how_many_sockets_a_member_is_here() {
        let mut local = Local::new(Decides::Shared);
        let lease = |slot| Lease {
            worker: WorkerId(0),
            connection: SlotId {
                slot,
                generation: 1,
            },
        };
        let hold = |slot, data: &str| {
            Ask::Hold(Box::new(Hold {
                lease: lease(slot),
                id: "ann".into(),
                data: data.into(),
            }))
        };
        let release = |slot| Ask::Release {
            lease: lease(slot),
            id: "ann".into(),
        };
        let mut told = Vec::new();
        for ask in [
            hold(1, "{}"),
            hold(1, "{}"),
            hold(2, r#"{"n":1}"#),
            hold(2, r#"{"n":2}"#),
            release(3),
            release(1),
            release(1),
            release(2),
            release(2),
        ] {
            let _ = local.ask("g", 100, ask);
            while !local.asked.is_empty() {
                let RequestKind::Decide(Question::Keep {
                    data, connections, ..
                }) = &local.asked[0].kind
                else {
                    unreachable!("nothing else is asked");
                };
                told.push((data.to_string(), *connections));
                let _ = local.answer(100, Verdict::Accepted);
            }
        }
        let expected = [
            ("{}", 1),
            (r#"{"n":1}"#, 2),
            (r#"{"n":2}"#, 2),
            (r#"{"n":2}"#, 1),
            (r#"{"n":2}"#, 0),
        ];
        let told: Vec<_> = told.iter().map(|(data, len)| (&**data, *len)).collect();
        assert_eq!(told, expected);
        assert_eq!(local.shard.groups_len(), 0);
    }

    #[test]
    fn a_join_sees_what_was_answered_in_the_very_ms_in_which_all_items_were_read() {
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 90, join(None));
        let out = local.answer(90, cut(&[("u1", "7")], 90));
        assert_eq!(told(&out).len(), 1);
        let _ = local.ask("g", 90, set("8", 1));
        let out = local.answer(90, decided(Some("7"), Some("8"), 90));
        assert_eq!(outcomes(&out).len(), 1);
        assert!(
            local.ask("g", 90, join(None)).is_empty(),
            "not the old value"
        );
        let heard = told(&hear(&mut local, HeardEvent::Update("8".into()), 90));
        assert_eq!(heard.len(), 2);
        assert!(
            heard[1].contains("sync") && heard[1].contains(r#"[8]"#),
            "{heard:?}"
        );
        // One that was there when they were read, and of which nothing will be heard.
        let mut local = Local::new(Decides::Shared);
        let _ = local.ask("g", 90, set("8", 1));
        let _ = local.ask("g", 90, join(None));
        let _ = local.answer(90, decided(Some("7"), Some("8"), 90));
        assert_eq!(told(&local.answer(90, cut(&[("u1", "8")], 90))).len(), 1);
        assert_eq!(told(&local.ask("g", 90, join(None))).len(), 1);
    }

    #[test]
    fn a_join_that_waited_for_one_that_failed_sees_what_was_answered_meanwhile() {
        let mut local = followed();
        let _ = tell(&mut local, Learned::Lost);
        let _ = local.ask("g", 100, set("8", 1));
        let _ = local.ask("g", 100, join(None));
        let _ = local.ask("g", 100, join(None));
        let out = local.answer(100, decided(Some("7"), Some("8"), 301));
        assert_eq!(outcomes(&out).len(), 1);
        // It was read before that change.
        assert_eq!(told(&read(&mut local, &[("u1", "7")], true)).len(), 1);
        let out = local.answer(100, Verdict::Refused("gone".into()));
        assert_eq!(told(&out), [""], "the first, without a sync");
        let heard = told(&hear(&mut local, HeardEvent::Update("8".into()), 301));
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(
            heard[1].contains("sync") && heard[1].contains(r#"[8]"#),
            "{heard:?}"
        );
    }
}
