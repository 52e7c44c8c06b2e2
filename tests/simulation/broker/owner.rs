//! A worker that owns groups, as the broker sees it: what it applies, answers and owes.

use std::collections::{BTreeMap, VecDeque};

use iii_stream::id::GroupKey;
use iii_stream::mesh::{Presence, ToEngine, ToOwner, WorkerPorts};
use iii_stream::protocol::answer::Outcome;
use iii_stream::protocol::groups::Names;
use iii_stream::shard::{Ask, Command, Reply};
use serde_json::Value;

pub(super) struct Owner {
    pub(super) ports: WorkerPorts,
    /// Calls that were applied and not answered.
    pub(super) unanswered: Vec<Reply>,
    pub(super) owed: VecDeque<Presence>,
    pub(super) has_said_so: bool,
    pub(super) is_granted: usize,
    /// The last number that it has applied, by who has sent it and the group.
    pub(super) last: BTreeMap<(u64, String), u64>,
}

impl Owner {
    pub(super) fn apply(&mut self, message: ToOwner) {
        let ToOwner::Command(command) = message else {
            return;
        };
        let outcome = match &command {
            Command::Group { key, ask } => match ask {
                Ask::Set { data, .. } => {
                    self.check_order(key, data);
                    Outcome::Set {
                        new: data.clone(),
                        old: None,
                    }
                }
                _ => panic!("nobody asks that"),
            },
            Command::ListGroups { .. } => Outcome::Groups([("s", "g")].into_iter().collect()),
            Command::ListAll { .. } => Outcome::Groups(Names::default()),
        };
        if let Some(call) = command.call() {
            self.unanswered.push(Reply { call, outcome });
        }
    }

    fn check_order(&mut self, key: &GroupKey, data: &str) {
        let value: Value = serde_json::from_str(data).expect("it was checked");
        let by = value["by"].as_u64().expect("a number");
        let number = value["n"].as_u64().expect("a number");
        let last = self.last.insert((by, key.group().to_owned()), number);
        assert!(last < Some(number), "calls of one worker keep their order");
    }

    /// As many as there is room for.
    pub(super) fn give_leaves(&mut self) {
        if self.is_granted == 0 {
            return;
        }
        let count = std::mem::take(&mut self.is_granted).min(self.owed.len());
        let leaves: Vec<Presence> = self.owed.drain(..count).collect();
        self.ports.shared.uncount_owed(leaves.len());
        let more = !self.owed.is_empty();
        self.has_said_so = more;
        let worker = self.ports.id;
        self.ports.to_engine.send(ToEngine::Leaves {
            worker,
            leaves,
            more,
        });
    }
}
