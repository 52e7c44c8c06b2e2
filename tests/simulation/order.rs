//! The order of calls: what one caller has asked of a group reaches the group's owner in the order asked. Some
//! of it may never: it is refused, or its caller has gone.

use std::collections::{HashMap, VecDeque};

use iii_stream::id::GroupKey;
use iii_stream::protocol::input::UpdateOp;
use iii_stream::shard::{Ask, Command};

/// What callers have asked and no owner has taken.
#[derive(Default)]
pub(crate) struct CallOrder(HashMap<(u64, GroupKey), VecDeque<Asked>>);

/// What tells one call of a group from most others.
#[derive(Debug, PartialEq, Eq)]
struct Asked(&'static str, String);

impl CallOrder {
    /// That caller asks.
    pub(crate) fn note(&mut self, caller: u64, command: &Command) {
        if let Some((key, asked)) = asked_by(command) {
            let calls = self.0.entry((caller, key.clone())).or_default();
            calls.push_back(asked);
        }
    }

    /// An owner takes it: everything that its caller has asked of the group before has come, or never will.
    pub(crate) fn take(&mut self, command: &Command) {
        let Some((key, asked)) = asked_by(command) else {
            return;
        };
        let of_group = self.0.iter_mut().filter(|((_, of), _)| of == key);
        let found = of_group.filter_map(|(_, calls)| {
            let at = calls.iter().position(|call| *call == asked)?;
            Some((calls, at))
        });
        let mut found: Vec<(&mut VecDeque<Asked>, usize)> = found.collect();
        assert!(
            !found.is_empty(),
            "a later call of its caller has come before {asked:?} of {key:?}"
        );
        // Whose it is cannot be told where several have asked for the same.
        if let [(calls, at)] = &mut found[..] {
            calls.drain(..=*at);
        }
    }

    /// The process dies.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

fn asked_by(command: &Command) -> Option<(&GroupKey, Asked)> {
    let Command::Group { key, ask } = command else {
        return None;
    };
    let asked = match ask {
        Ask::Set { item, data, .. } => Asked("set", format!("{item} {data}")),
        Ask::Update { item, ops, .. } => {
            let by = ops.iter().find_map(|op| match op {
                UpdateOp::Increment { by, .. } => Some(*by),
                _ => None,
            });
            Asked("update", format!("{item} {by:?}"))
        }
        Ask::Delete { item, .. } => Asked("delete", item.to_string()),
        Ask::Get { item, .. } => Asked("get", item.to_string()),
        Ask::List { .. } => Asked("list", String::new()),
        Ask::Send { data, .. } => Asked("send", data.to_string()),
        Ask::Join(_) | Ask::Leave { .. } | Ask::Hold(_) | Ask::Release { .. } => return None,
    };
    Some((key, asked))
}
