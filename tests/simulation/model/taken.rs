//! What an owner takes: commands, the store's word on them, and what custom functions answer.

use iii_stream::id::{GroupKey, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::input::UpdateOp;
use iii_stream::shard::{Ask, Command, CustomAnswer, CustomAnswered, Learned, Verdict};

use super::Model;
use super::group::parsed;
use super::waiting::{Answered, Custom, Waiting, What, custom_function};
use crate::shared::{self, Said};

impl Model {
    /// The owner takes a command.
    pub(crate) fn apply(
        &mut self,
        shard: WorkerId,
        command: &Command,
        groups_of_shard: &[GroupKey],
    ) {
        self.calls.take(command);
        match command {
            Command::Group { key, ask } => self.ask(shard, key, ask),
            Command::ListGroups { call, .. } if self.shared.is_some() => {
                self.list_shared(shard, *call);
            }
            // What comes and goes while it is made is in it or not.
            Command::ListGroups { call, .. } if self.lags => {
                *self.listings.entry(*call).or_default() += 1;
            }
            Command::ListGroups { stream, call } => {
                let is_there = |key: &&GroupKey| {
                    key.stream() == &**stream && !self.groups[*key].items.is_empty()
                };
                let there = groups_of_shard.iter().filter(is_there);
                let names = there.map(|key| (key.stream(), key.group())).collect();
                self.replies.insert(*call, Outcome::Groups(names));
            }
            Command::ListAll { .. } => unreachable!("nobody asks for it here"),
        }
    }

    fn ask(&mut self, shard: WorkerId, key: &GroupKey, ask: &Ask) {
        let (what, call) = match ask {
            Ask::Set {
                item, data, call, ..
            } => (What::Set(item.clone(), data.clone()), *call),
            Ask::Update {
                item, ops, call, ..
            } => {
                let by = ops.iter().find_map(|op| match op {
                    UpdateOp::Increment { by, .. } => Some(*by),
                    _ => None,
                });
                let by = by.expect("an update of the simulation");
                (What::Update(item.clone(), by), *call)
            }
            Ask::Delete { item, call } => (What::Delete(item.clone()), *call),
            Ask::Get { item, call } => (What::Get(item.clone()), Some(*call)),
            Ask::List { call } => (What::List, Some(*call)),
            Ask::Send {
                id,
                kind,
                data,
                call,
            } => (What::Send(id.clone(), kind.clone(), data.clone()), *call),
            Ask::Join(join) => {
                let id = (join.worker, join.connection, join.token);
                if let Some(shared) = &mut self.shared {
                    shared.note_join(id, key, join.item.as_ref());
                }
                (What::Join(id, join.item.clone()), None)
            }
            Ask::Leave { worker, local } if self.shared.is_some() => {
                return self.leave_shared(key, *worker, *local);
            }
            Ask::Leave { .. } => return,
            Ask::Hold(_) | Ask::Release { .. } => return, // `members` has a run of its own
        };
        let group = self.groups.entry(key.clone()).or_default();
        let function = custom_function(&what);
        let hooks = &self.hooks[shard.index()];
        if function.is_some_and(|function| hooks.is_custom(key.stream(), function)) {
            self.to_be_asked = Some(key.clone());
            let custom = Some(Custom::default());
            group.queue.push_back(Waiting {
                custom,
                ..Waiting::new(what, call, None)
            });
            return;
        }
        if self.shared.is_some() {
            if !matches!(what, What::Join(..)) {
                // The request itself has its number.
                group
                    .queue
                    .push_back(Waiting::new(what, call, Some(u64::MAX)));
            }
            return;
        }
        let asks_store = match &what {
            What::Set(..) | What::Update(..) => true,
            What::Delete(item) => group.newest_is_there(item),
            _ => false,
        };
        let counter = &mut self.shards[shard.index()].next_number;
        let number = asks_store.then_some(*counter);
        *counter += u64::from(asks_store);
        group.queue.push_back(Waiting::new(what, call, number));
        self.go_on(key);
    }

    /// The owner learns something.
    pub(crate) fn learn(
        &mut self,
        shard: WorkerId,
        learned: &Learned,
        groups_of_shard: &[GroupKey],
    ) {
        if self.shared.is_some() {
            if let Some(verdict) = self.learn_beside(shard, learned)
                && let Learned::Answer(answer) = learned
            {
                self.settle(answer.number, groups_of_shard, |what| {
                    shared::said(what, verdict)
                });
            }
            return;
        }
        let Learned::Answer(answer) = learned else {
            unreachable!("a log has no channel");
        };
        if answer.number < self.shards[shard.index()].void_before {
            return;
        }
        let refused = matches!(answer.verdict, Verdict::Refused(_));
        assert!(
            refused || self.accepted.contains(&(shard, answer.number)),
            "nobody accepted it"
        );
        if refused {
            let counters = &mut self.shards[shard.index()];
            counters.void_before = counters.next_number;
            for key in groups_of_shard {
                self.fail(key);
            }
            return;
        }
        self.settle(answer.number, groups_of_shard, |_| None);
    }

    /// The store's word on a command has come. `says`: what a store that decides says, if it is none that
    /// refuses.
    fn settle(
        &mut self,
        number: u64,
        groups_of_shard: &[GroupKey],
        says: impl FnOnce(&What) -> Option<Said>,
    ) {
        let is_shared = self.shared.is_some();
        for key in groups_of_shard {
            let group = self.groups.entry(key.clone()).or_default();
            let mut open = group.queue.iter_mut();
            let first = open.find(|waiting| waiting.number.is_some() && !waiting.is_settled);
            if let Some(first) = first.filter(|first| first.number == Some(number)) {
                first.said = says(&first.what);
                first.is_refused = is_shared && first.said.is_none();
                first.is_settled = true;
                return self.go_on(key);
            }
        }
        panic!("some group waits for it first of all");
    }

    /// The owner learns what a custom function has answered.
    pub(crate) fn told(&mut self, told: &CustomAnswered, groups_of_shard: &[GroupKey]) {
        for key in groups_of_shard {
            let group = self.groups.entry(key.clone()).or_default();
            let mut customs = group
                .queue
                .iter_mut()
                .filter_map(|waiting| waiting.custom.as_mut());
            if let Some(custom) = customs.find(|custom| custom.number == told.number) {
                custom.answer = Some(answered(&told.answer));
                return self.go_on(key);
            }
        }
        panic!("some command waits for it");
    }
}

fn answered(answer: &CustomAnswer) -> Answered {
    match answer {
        CustomAnswer::Result(value) => Answered::Value(value.as_deref().map(parsed)),
        CustomAnswer::Failed(error) => Answered::Failed(error.code.to_string()),
        CustomAnswer::Refused(_) => Answered::Refused,
        CustomAnswer::Gone => unreachable!("functions of the simulation stay"),
    }
}
