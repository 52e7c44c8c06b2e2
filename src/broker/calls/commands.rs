//! Commands on their way to the workers that own their groups. What finds its owner full waits: with its
//! socket, which is left unread meanwhile, or among those of no socket.

use crate::id::{SlotId, WorkerId};
use crate::mesh::ToOwner;
use crate::protocol::function::OVERLOADED;
use crate::protocol::input::failed;
use crate::shard::Command;

use crate::broker::Broker;

impl Broker {
    /// Sends the command, or parks it: then its socket is not read until there is room. One of no
    /// socket waits among those whose socket has ended.
    pub(super) fn send_command(&mut self, id: Option<SlotId>, owner: WorkerId, command: Command) {
        let is_first = match id {
            Some(id) => match self.members.get(id) {
                Some(peer) => peer.parked.is_empty(),
                None => return,
            },
            None => self.orphans.is_empty(),
        };
        let command = if is_first {
            match self.try_send(owner, command) {
                Ok(()) => return,
                Err(command) => command,
            }
        } else {
            command
        };
        self.metrics().calls_parked.increment();
        let Some((id, peer)) = id.and_then(|id| Some((id, self.members.get_mut(id)?))) else {
            return self.park_orphan(owner, command);
        };
        if peer.parked.is_empty() {
            let waits = command.call().is_some();
            peer.parked_until = waits.then(|| self.now.monotonic + self.call_timeout);
            self.parked.push(id);
        }
        peer.parked.push_back(owner, command);
    }

    /// A command of no socket waits, if what waits already is not too much.
    pub(in crate::broker) fn park_orphan(&mut self, owner: WorkerId, command: Command) {
        if self.orphans.bytes() <= self.limits.call_queue_bytes {
            return self.orphans.push_back(owner, command);
        }
        self.metrics().trigger_calls_dropped.increment();
        if let Some(call) = command.call() {
            self.calls.abandon_stream(call);
        }
    }

    /// Gives the command back when its owner is full; this thread is woken when there is room. What
    /// changed of the hooks goes before it.
    fn try_send(&mut self, owner: WorkerId, command: Command) -> Result<(), Command> {
        if !self.tell_hooks(owner.index()) {
            return Err(command);
        }
        match self.ports.to_commands[owner.index()].try_send(ToOwner::Command(command)) {
            Err(ToOwner::Command(command)) => Err(command),
            Ok(()) | Err(ToOwner::Socket(..) | ToOwner::Placed(_) | ToOwner::Hooks(_)) => Ok(()),
        }
    }

    /// Tries again what found its owner full.
    pub fn deliver_parked(&mut self) {
        while let Some((owner, command)) = self.orphans.pop_front() {
            if let Err(command) = self.try_send(owner, command) {
                self.orphans.push_front(owner, command);
                break;
            }
        }
        for id in std::mem::take(&mut self.parked) {
            self.deliver_parked_of(id);
            let Some(peer) = self.members.get_mut(id) else {
                continue;
            };
            if peer.parked.is_empty() {
                peer.parked_until = None;
                self.free(id);
            } else {
                self.parked.push(id);
            }
        }
    }

    fn deliver_parked_of(&mut self, id: SlotId) {
        let Some(peer) = self.members.get_mut(id) else {
            return;
        };
        let mut parked = std::mem::take(&mut peer.parked);
        let mut has_moved = false;
        while let Some((owner, command)) = parked.pop_front() {
            if let Err(command) = self.try_send(owner, command) {
                parked.push_front(owner, command);
                break;
            }
            has_moved = true;
        }
        let Some(peer) = self.members.get_mut(id) else {
            return;
        };
        peer.parked = parked;
        if peer.is_link() && has_moved {
            // It is read all the while, so the queue may never be empty: its time is that of a stop.
            peer.parked_until = Some(self.now.monotonic + self.call_timeout);
        }
        let is_late = peer
            .parked_until
            .is_some_and(|until| until <= self.now.monotonic);
        if !is_late || peer.parked.is_empty() {
            return;
        }
        for (_, command) in peer.parked.take() {
            let call = command
                .call()
                .and_then(|call| self.calls.abandon_stream(call));
            if let Some(call) = call {
                self.list_ended(&call);
                let error = failed(call.function, OVERLOADED);
                self.answer_error(Some(call.caller), call.function.id(), &error);
            }
        }
    }
}
