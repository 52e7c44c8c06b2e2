//! A group whose values live elsewhere: the store decides, the owner learns.
//!
//! Nothing is applied ahead. A command keeps its place in the group's queue, and old value, kind and
//! time come from the store's answer.

use std::sync::Arc;

use crate::id::{CallId, ItemId, Text};
use crate::protocol::answer::Outcome;
use crate::protocol::frame::{Event, SyncFrame};
use crate::protocol::input::{StreamFunction, failed};

use super::Decides;
use super::command::{Ask, Join};
use super::effects::{FromChannel, Question, Reply, RequestKind, Verdict};
use super::group::{Group, Turn, Whose, change};
use super::under_way::{Asked, Heard, InFlight, Send, Waiting};

impl Group {
    /// Sends a command on to the store and keeps its place.
    pub(super) fn ask_store(&mut self, ask: Ask, turn: &mut Turn<'_>) {
        let group = self.key.clone();
        let (question, asked) = match ask {
            Ask::Set { item, data, call } => (
                Question::Set {
                    group,
                    item: ItemId::clone(&item),
                    data,
                },
                Asked::Change {
                    function: StreamFunction::Set,
                    item,
                    call,
                },
            ),
            Ask::Update { item, ops, call } => (
                Question::Update {
                    group,
                    item: ItemId::clone(&item),
                    ops: ops.into(),
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
            Ask::Join(join) => {
                let question = match &join.item {
                    Some(item) => Question::Get {
                        group,
                        item: ItemId::clone(item),
                    },
                    None => Question::List { group },
                };
                (question, Asked::Join(join))
            }
            Ask::Leave { worker, local } => return self.leave(worker, local),
        };
        let kind = RequestKind::Decide(question);
        turn.flight
            .request(InFlight::Group(turn.slot), kind, turn.out);
        let under_way = self.under_way(turn.flight);
        under_way.push(Waiting::Asked(asked, None));
    }

    /// The store's word on the oldest command.
    pub(super) fn answered(&mut self, verdict: Verdict, turn: &mut Turn<'_>) {
        self.settle(turn, |under_way| under_way.decide(verdict));
    }

    /// A change made elsewhere.
    pub(super) fn heard(&mut self, heard: Heard, turn: &mut Turn<'_>) {
        self.hear(Waiting::Heard(heard), turn);
    }

    /// What a shared channel tells.
    pub(super) fn hear_channel(&mut self, from: FromChannel, turn: &mut Turn<'_>) {
        self.hear(Waiting::Channel(Box::new(from)), turn);
    }

    fn hear(&mut self, heard: Waiting, turn: &mut Turn<'_>) {
        let heard = match &mut self.under_way {
            Some(under_way) => under_way.hear(heard),
            None => Some(heard),
        };
        if let Some(heard) = heard {
            self.release(heard, turn);
        }
    }

    /// A change whose time another clock has given: whoever hears of it hears of it later than of
    /// all before it.
    pub(super) fn tell_heard(&mut self, heard: Heard, whose: Whose, turn: &mut Turn<'_>) {
        let time = self.event_time(heard.time);
        let change = (heard.old.as_deref(), heard.new.as_deref());
        self.tell_change(&heard.item, change, time, whose, turn);
    }

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
                    Verdict::Listed(values) => Outcome::List(joined(&values)),
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
                match (time, turn.decides) {
                    (None, _) => {}
                    (Some(time), Decides::Shared) => {
                        let event = Event::Custom {
                            kind: &send.kind,
                            data: &send.data,
                        };
                        self.answered_shared(send.id.as_deref(), event, time, turn);
                    }
                    (Some(time), _) => {
                        let time = self.event_time(time);
                        self.tell_send(&send, time, turn);
                    }
                }
            }
            Asked::Join(join) if turn.decides == Decides::Shared => {
                self.learn_join(join, verdict, turn);
            }
            Asked::Join(join) => {
                let time = self.sync_time(join.item.is_some(), turn.now);
                let sync = self.sync_from(&join, verdict, time);
                self.enter(&join, sync, turn.out);
            }
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
        if turn.decides == Decides::Shared {
            if let Some(event) = change((old.as_deref(), new.as_deref())) {
                self.answered_shared(Some(&item), event, time, turn);
            }
        } else if old.is_some() || new.is_some() {
            let heard = Heard {
                item,
                old,
                new,
                time,
            };
            self.tell_heard(heard, Whose::Ours, turn);
        }
    }

    /// `None` when the store could not tell: the subscription stands all the same.
    fn sync_from(&mut self, join: &Join, verdict: Verdict, time: u64) -> Option<Arc<SyncFrame>> {
        let sync = match (&join.item, verdict) {
            (Some(item), Verdict::Found(value)) => {
                SyncFrame::of_item(self.names(), time, item, value.as_ref())
            }
            (None, Verdict::Listed(values)) => {
                SyncFrame::of_group(self.names(), time, joined(&values))
            }
            _ => return None,
        };
        Some(Arc::new(sync))
    }
}

/// The answer to a command that the store refused, or answered with something else.
pub(super) fn refusal(function: StreamFunction, verdict: &Verdict) -> Outcome {
    let cause = match verdict {
        Verdict::Refused(cause) => cause,
        _ => "the store answered something else",
    };
    Outcome::Failed(failed(function, cause))
}

fn joined(values: &[Text]) -> Vec<Text> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut text = String::with_capacity(values.iter().map(|value| value.len() + 1).sum());
    for value in values {
        text.push(',');
        text.push_str(value);
    }
    vec![text.into()]
}
