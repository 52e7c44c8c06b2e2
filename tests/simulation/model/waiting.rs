//! What waits in the queue of a group, and what it brings about when its turn comes: a changed item, an
//! event, a reply, a join that enters.

use iii_stream::id::{CallId, GroupKey, ItemId, Text};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::call::ErrorBody;
use iii_stream::protocol::input::{StreamFunction, failed};
use serde_json::{Value, json};

use super::group::{Entered, parsed};
use super::{Fresh, JoinId, Model};
use crate::shared::Said;

pub(crate) struct Waiting {
    pub(super) what: What,
    pub(super) call: Option<CallId>,
    /// The request that it waits for.
    pub(crate) number: Option<u64>,
    /// The store's word on it has come; refused if it says so.
    pub(super) is_settled: bool,
    pub(super) is_refused: bool,
    /// What a store that decides says.
    pub(super) said: Option<Said>,
    pub(super) custom: Option<Custom>,
}

/// The call of a custom function.
#[derive(Default)]
pub(super) struct Custom {
    pub(super) number: u64,
    pub(super) answer: Option<Answered>,
}

/// What came back from it.
pub(super) enum Answered {
    Value(Option<Value>),
    Failed(String),
    Refused,
}

pub(crate) enum What {
    Set(ItemId, Text),
    /// So much is added.
    Update(ItemId, i64),
    Delete(ItemId),
    Get(ItemId),
    List,
    Send(Option<ItemId>, Box<str>, Text),
    Join(JoinId, Option<ItemId>),
    /// The store is asked for what a join is to see.
    Followed,
}

impl Model {
    /// What waits for no answer any more takes effect.
    pub(super) fn go_on(&mut self, key: &GroupKey) {
        while let Some(group) = self.groups.get_mut(key)
            && let Some(waiting) = group.queue.pop_front_if(|waiting| waiting.is_ready())
        {
            let Waiting { what, call, .. } = waiting;
            match (
                waiting.custom.and_then(|custom| custom.answer),
                waiting.said,
            ) {
                (Some(answer), _) => self.take_custom(key, what, call, answer),
                (None, Some(said)) => self.take_decided(key, &what, call, said),
                (None, None) if waiting.is_refused => self.refuse(key, what, call),
                (None, None) => self.take_effect(key, what, call),
            }
        }
    }

    /// A write of the shard was refused: nothing that this group has under way comes to pass.
    pub(super) fn fail(&mut self, key: &GroupKey) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        let mut has_refused = false;
        for waiting in &mut group.queue {
            let rests = has_refused && matches!(waiting.what, What::Delete(_));
            let is_open = waiting.number.is_some() && !waiting.is_settled;
            if waiting.custom.is_none() && !waiting.is_settled && (is_open || rests) {
                (waiting.is_settled, waiting.is_refused) = (true, true);
                has_refused = true;
            }
        }
        self.go_on(key);
    }

    fn refuse(&mut self, key: &GroupKey, what: What, call: Option<CallId>) {
        if let What::Join(id, item) = what {
            return self.enter(key, id, item, None);
        }
        let failed = Outcome::Failed(failed(function_of(&what), ""));
        self.replies.extend(call.map(|call| (call, failed)));
    }

    fn take_effect(&mut self, key: &GroupKey, what: What, call: Option<CallId>) {
        let group = self.groups.entry(key.clone()).or_default();
        let heard = group.history.len();
        let outcome = match what {
            What::Set(item, new) => Outcome::Set {
                old: group.change(&item, Some(new.clone())),
                new,
            },
            What::Update(item, by) => {
                let new = updated(&item, by, group.value(&item));
                Outcome::Updated {
                    old: group.change(&item, Some(new.clone())),
                    new,
                    errors: Vec::new(),
                }
            }
            What::Delete(item) => Outcome::Deleted {
                old: group.change(&item, None),
            },
            What::Get(item) => Outcome::Got(group.value(&item).cloned()),
            What::List => {
                Outcome::List(group.items.iter().map(|(_, value)| value.clone()).collect())
            }
            What::Send(item, kind, data) => {
                let data: Value = serde_json::from_str(&data).expect("the simulation's own");
                let event = json!({"type": "event", "event": {"type": &*kind, "data": data}});
                group.tell(item, event);
                Outcome::Sent
            }
            What::Join(id, item) => {
                let sync = match &item {
                    Some(item) => group.value(item).map_or(Value::Null, |value| parsed(value)),
                    None => group.list(),
                };
                return self.enter(key, id, item, Some(sync));
            }
            What::Followed => return,
        };
        if group.history.len() > heard {
            self.note_fresh(key.clone(), heard);
        }
        self.replies.extend(call.map(|call| (call, outcome)));
    }

    /// A custom function's answer takes effect; nothing is kept.
    fn take_custom(&mut self, key: &GroupKey, what: What, call: Option<CallId>, answer: Answered) {
        let value = match (&what, answer) {
            (What::Join(id, item), answer) => {
                let sync = match answer {
                    Answered::Value(value) => Some(value.unwrap_or(Value::Null)),
                    _ => None,
                };
                return self.enter(key, *id, item.clone(), sync);
            }
            (_, Answered::Value(value)) => value,
            (What::Get(_) | What::List, Answered::Failed(code)) => {
                let mut failed = ErrorBody::new("", "");
                failed.code = code.into();
                let failed = Outcome::Failed(failed);
                return self.replies.extend(call.map(|call| (call, failed)));
            }
            _ => return self.refuse(key, what, call),
        };
        let text = |value: &Value| Text::from(value.to_string());
        let outcome = match (&what, &value) {
            (What::Get(_) | What::List, value) => Outcome::Got(value.as_ref().map(text)),
            (_, None) => return self.refuse(key, what, call),
            (_, Some(value)) if !value.is_object() => {
                Outcome::Failed(ErrorBody::new("JSON_ERROR", ""))
            }
            (_, Some(value)) => self.take_written(key, &what, value),
        };
        self.replies.extend(call.map(|call| (call, outcome)));
    }

    fn take_written(&mut self, key: &GroupKey, what: &What, answer: &Value) -> Outcome {
        let group = self.groups.entry(key.clone()).or_default();
        let (old, new) = (answer.get("old_value"), answer.get("new_value"));
        let (What::Set(item, _) | What::Update(item, _) | What::Delete(item)) = what else {
            unreachable!("only writes are written");
        };
        let event = match (old, new) {
            (None, Some(new)) => Some(json!({"type": "create", "data": new})),
            (Some(_), Some(new)) => Some(json!({"type": "update", "data": new})),
            (Some(old), None) => Some(json!({"type": "delete", "data": old})),
            (None, None) => None,
        };
        match (event, &mut self.shared) {
            (None, _) => {}
            (Some(event), Some(shared)) => shared.note_made(key, item, event),
            (Some(event), None) => {
                group.tell(Some(item.clone()), event);
                let number = group.history.len() - 1;
                self.note_fresh(key.clone(), number);
            }
        }
        let text = |value: Option<&Value>| value.map(|value| Text::from(value.to_string()));
        let old = text(old);
        let new = text(new).unwrap_or_else(|| "null".into());
        match what {
            What::Delete(_) => Outcome::Deleted { old },
            What::Update(..) => Outcome::Updated {
                new,
                old,
                errors: Vec::new(),
            },
            _ => Outcome::Set { new, old },
        }
    }

    fn note_fresh(&mut self, group: GroupKey, number: usize) {
        if self.lags {
            let group = group.clone();
            self.unfired.push(Fresh { group, number });
        }
        self.fresh.push(Fresh { group, number });
    }

    fn enter(&mut self, key: &GroupKey, id: JoinId, item: Option<ItemId>, sync: Option<Value>) {
        if let Some(shared) = &mut self.shared {
            return shared.note_told(id, sync); // it enters as the owner says
        }
        let group = &self.groups[key];
        let entered = Entered {
            group: key.clone(),
            item,
            from: group.history.len(),
            sync,
            time: None,
            number: 0,
        };
        let before = self.entered.insert(id, entered);
        assert!(before.is_none(), "a join's name is used twice");
    }
}

impl Waiting {
    pub(crate) fn new(what: What, call: Option<CallId>, number: Option<u64>) -> Waiting {
        Waiting {
            what,
            call,
            number,
            is_settled: false,
            is_refused: false,
            said: None,
            custom: None,
        }
    }

    fn is_ready(&self) -> bool {
        let is_told = |custom: &Custom| custom.answer.is_some();
        (self.number.is_none() || self.is_settled) && self.custom.as_ref().is_none_or(is_told)
    }
}

pub(super) fn updated(item: &str, by: i64, old: Option<&Text>) -> Text {
    let Some(old) = old else {
        return format!(r#"{{"id":"{item}","n":{by}}}"#).into();
    };
    let tree = parsed(old);
    let n = tree["n"].as_i64().expect("a value of the simulation") + by;
    match tree["pad"].as_str() {
        Some(pad) => format!(r#"{{"id":"{item}","n":{n},"pad":"{pad}"}}"#).into(),
        None => format!(r#"{{"id":"{item}","n":{n}}}"#).into(),
    }
}

pub(crate) fn function_of(what: &What) -> StreamFunction {
    match what {
        What::Set(..) => StreamFunction::Set,
        What::Update(..) => StreamFunction::Update,
        What::Delete(_) => StreamFunction::Delete,
        What::Get(_) => StreamFunction::Get,
        What::List => StreamFunction::List,
        What::Send(..) => StreamFunction::Send,
        What::Join(..) | What::Followed => unreachable!("nobody waits for a reply to it"),
    }
}

pub(crate) fn failed_listing() -> Outcome {
    Outcome::Failed(failed(StreamFunction::ListGroups, ""))
}

/// The function of which a custom one may be asked.
pub(super) fn custom_function(what: &What) -> Option<StreamFunction> {
    match what {
        What::Send(..) | What::Followed => None,
        What::Join(_, Some(_)) => Some(StreamFunction::Get),
        What::Join(_, None) => Some(StreamFunction::List),
        other => Some(function_of(other)),
    }
}
