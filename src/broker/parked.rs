//! Commands that found their owner full, and wait with the socket that they came from.
//!
//! Pure.

use std::collections::VecDeque;

use crate::id::WorkerId;
use crate::shard::Command;

/// Commands that found their owner full, in order.
#[derive(Default)]
pub(in crate::broker) struct Parked {
    commands: VecDeque<(WorkerId, Command)>,
    /// What `commands` hold.
    bytes: usize,
}

impl Parked {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(in crate::broker) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::broker) fn push_back(&mut self, owner: WorkerId, command: Command) {
        self.bytes += bytes_of(&command);
        self.commands.push_back((owner, command));
    }

    pub(in crate::broker) fn push_front(&mut self, owner: WorkerId, command: Command) {
        self.bytes += bytes_of(&command);
        self.commands.push_front((owner, command));
    }

    pub(in crate::broker) fn pop_front(&mut self) -> Option<(WorkerId, Command)> {
        let (owner, command) = self.commands.pop_front()?;
        self.bytes -= bytes_of(&command);
        Some((owner, command))
    }

    /// All of them.
    pub(in crate::broker) fn take(&mut self) -> VecDeque<(WorkerId, Command)> {
        self.bytes = 0;
        std::mem::take(&mut self.commands)
    }
}

fn bytes_of(command: &Command) -> usize {
    size_of::<Command>() + command.held_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parked_is_counted_until_it_is_taken() {
        let mut parked = Parked::default();
        let stream: Box<str> = "s".into();
        let call = crate::id::SlotId::first(0);
        let command = || Command::ListGroups {
            stream: stream.clone(),
            call,
        };
        parked.push_back(WorkerId(1), command());
        let one = parked.bytes();
        assert!(one > 0);
        parked.push_front(WorkerId(0), command());
        assert_eq!(parked.bytes(), 2 * one);
        assert!(
            parked
                .pop_front()
                .is_some_and(|(owner, _)| owner == WorkerId(0))
        );
        assert_eq!(parked.bytes(), one);
        assert_eq!(parked.take().len(), 1);
        assert!(parked.is_empty() && parked.bytes() == 0);
    }
}
