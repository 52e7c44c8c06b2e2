//! A store that delays, refuses and crashes on cue. It plays a log, where the owner decides, or a store
//! that decides by itself.

use std::collections::HashMap;
use std::sync::Arc;

use iii_stream::id::{GroupKey, ItemId, Text, WorkerId};
use iii_stream::protocol::input::UpdateOp;
use iii_stream::shard::{
    Answer, Decides, Learned, Question, Request, RequestKind, Store, Verdict, update,
};

/// What the double is to do next. Each is used up as it happens.
#[derive(Debug, Default)]
pub(crate) struct Cues {
    /// So many requests from now are accepted before one is refused.
    pub(crate) refuse_after: Option<usize>,
    /// How long each batch takes, in real time, before it is answered.
    pub(crate) delay: std::time::Duration,
}

/// The double.
#[derive(Debug)]
pub(crate) struct Double {
    decides: Decides,
    /// Items in insertion order, by group: for a log what it holds, else the values themselves.
    groups: HashMap<GroupKey, Vec<(ItemId, Text)>>,
    /// Per shard: the epoch whose writes are refused unseen, until the owner sends the next.
    void_epochs: HashMap<WorkerId, u32>,
    cues: Arc<std::sync::Mutex<Cues>>,
    /// The clock of a store that decides, in ms since 1970: it only counts.
    time: u64,
}

impl Double {
    /// A log (the owner decides) or a store that decides.
    pub(crate) fn new(decides: Decides, cues: Arc<std::sync::Mutex<Cues>>) -> Double {
        Double {
            decides,
            groups: HashMap::new(),
            void_epochs: HashMap::new(),
            cues,
            time: 1_000_000,
        }
    }

    /// What it has accepted of a group, in the order of first insertion.
    pub(crate) fn items(&self, group: &GroupKey) -> &[(ItemId, Text)] {
        self.groups.get(group).map_or(&[], |items| items)
    }

    /// Groups with items.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        self.groups
            .iter()
            .filter(|(_, items)| !items.is_empty())
            .map(|(key, _)| key)
    }

    /// The process dies: what was accepted is still there, and the shards that come begin anew.
    #[allow(dead_code, reason = "for the simulation")]
    pub(crate) fn crash(&mut self) {
        self.void_epochs.clear();
    }

    /// Another host sets an item of a store that decides.
    #[allow(dead_code, reason = "for the simulation")]
    pub(crate) fn set_elsewhere(&mut self, group: GroupKey, item: ItemId, value: Text) -> Learned {
        let old = self.put(&group, ItemId::clone(&item), Text::clone(&value));
        Learned::Heard {
            group,
            item,
            old,
            new: Some(value),
            time: self.tick(),
        }
    }

    /// Serves one request.
    pub(crate) fn serve_one(&mut self, request: Request) -> Answer {
        let is_void = self.void_epochs.get(&request.shard) == Some(&request.epoch);
        let verdict = if is_void {
            Verdict::Refused("refused unseen".into())
        } else if self.is_to_refuse() {
            if self.decides == Decides::Owner {
                self.void_epochs.insert(request.shard, request.epoch);
            }
            Verdict::Refused("disk full".into())
        } else {
            self.carry_out(request.kind)
        };
        Answer {
            shard: request.shard,
            epoch: request.epoch,
            number: request.number,
            verdict,
        }
    }

    fn is_to_refuse(&self) -> bool {
        let Ok(mut cues) = self.cues.lock() else {
            return false;
        };
        match &mut cues.refuse_after {
            Some(0) => {
                cues.refuse_after = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn carry_out(&mut self, kind: RequestKind) -> Verdict {
        match kind {
            RequestKind::Put {
                group, item, value, ..
            } => {
                self.put(&group, item, value);
                Verdict::Accepted
            }
            RequestKind::Remove { group, item, .. } => {
                self.remove(&group, &item);
                Verdict::Accepted
            }
            RequestKind::Times { .. } => Verdict::Accepted,
            RequestKind::Decide(question) => self.decide(question),
        }
    }

    fn decide(&mut self, question: Question) -> Verdict {
        let time = self.tick();
        let decided = |old, new, errors| Verdict::Decided {
            old,
            new,
            errors,
            time,
        };
        match question {
            Question::Set { group, item, data } => {
                let old = self.put(&group, item, Text::clone(&data));
                decided(old, Some(data), Vec::new())
            }
            Question::Update { group, item, ops } => self.update(&group, item, &ops, time),
            Question::Delete { group, item } => {
                decided(self.remove(&group, &item), None, Vec::new())
            }
            Question::Send { .. } => decided(None, None, Vec::new()),
            Question::Follow { group, item } => {
                let wanted = |name: &ItemId| item.as_ref().is_none_or(|item| item == name);
                let items = self.items(&group).iter();
                let items = items.filter(|(name, _)| wanted(name)).cloned().collect();
                Verdict::Cut { items, time }
            }
            Question::Unfollow { .. } => Verdict::Accepted,
            Question::Get { group, item } => Verdict::Found(self.value(&group, &item)),
            Question::List { group } => {
                let values = self
                    .items(&group)
                    .iter()
                    .map(|(_, value)| Text::clone(value));
                Verdict::Listed(values.collect())
            }
            Question::Groups { stream } => {
                let is_asked = |key: &&GroupKey| {
                    stream
                        .as_ref()
                        .is_none_or(|stream| key.stream() == &**stream)
                };
                let mut keys: Vec<GroupKey> = self.groups().filter(is_asked).cloned().collect();
                keys.sort_unstable_by(|a, b| (a.stream(), a.group()).cmp(&(b.stream(), b.group())));
                Verdict::Groups(keys)
            }
        }
    }

    fn update(&mut self, group: &GroupKey, item: ItemId, ops: &[UpdateOp], time: u64) -> Verdict {
        let old = self.value(group, &item);
        let updated = update::apply(old.as_deref(), ops);
        let new = Text::from(updated.value);
        self.put(group, item, Text::clone(&new));
        Verdict::Decided {
            old,
            new: Some(new),
            errors: updated.errors,
            time,
        }
    }

    fn value(&self, group: &GroupKey, item: &str) -> Option<Text> {
        let found = self.items(group).iter().find(|(name, _)| **name == *item);
        found.map(|(_, value)| Text::clone(value))
    }

    fn put(&mut self, group: &GroupKey, item: ItemId, value: Text) -> Option<Text> {
        let items = self.groups.entry(group.clone()).or_default();
        match items.iter_mut().find(|(name, _)| *name == item) {
            Some((_, known)) => Some(std::mem::replace(known, value)),
            None => {
                items.push((item, value));
                None
            }
        }
    }

    fn remove(&mut self, group: &GroupKey, item: &str) -> Option<Text> {
        let items = self.groups.get_mut(group)?;
        let found = items.iter().position(|(name, _)| **name == *item)?;
        Some(items.remove(found).1)
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }
}

impl Store for Double {
    fn decides(&self) -> Decides {
        self.decides
    }

    fn serve(&mut self, requests: Vec<Request>, learned: &mut Vec<Learned>) {
        let delay = self.cues.lock().map(|cues| cues.delay).unwrap_or_default();
        std::thread::sleep(delay);
        learned.extend(
            requests
                .into_iter()
                .map(|request| Learned::Answer(self.serve_one(request))),
        );
    }
}
