//! Commands on their way to the workers that own their groups. What finds its owner full waits: with its
//! socket, which is left unread meanwhile, or among those of no socket.

use std::time::Instant;

use crate::id::{SlotId, WorkerId};
use crate::protocol::function::OVERLOADED;
use crate::protocol::input::failed;
use crate::shard::Command;

use crate::broker::calls::Calls;
use crate::broker::turn::Turn;

impl Calls {
    /// Sends the command, or parks it: then its socket is not read until there is room. One of no
    /// socket waits among those whose socket has ended.
    pub(super) fn send_command(
        &mut self,
        turn: &mut Turn,
        id: Option<SlotId>,
        owner: WorkerId,
        command: Command,
    ) {
        let is_first = match id {
            Some(id) => match turn.members.get(id) {
                Some(peer) => peer.parked.is_empty(),
                None => return,
            },
            None => self.orphans.is_empty(),
        };
        let command = if is_first {
            match turn.try_send(owner, command) {
                Ok(()) => return,
                Err(command) => command,
            }
        } else {
            command
        };
        turn.metrics().calls_parked.increment();
        let Some((id, peer)) = id.and_then(|id| Some((id, turn.members.get_mut(id)?))) else {
            return self.park_orphan(turn, owner, command);
        };
        if peer.parked.is_empty() {
            let waits = command.call().is_some();
            peer.parked_until = waits.then(|| turn.now.monotonic + turn.call_timeout);
            self.parked.push(id);
        }
        peer.parked.push_back(owner, command);
    }

    /// A command of no socket waits, if what waits already is not too much.
    pub(in crate::broker) fn park_orphan(
        &mut self,
        turn: &Turn,
        owner: WorkerId,
        command: Command,
    ) {
        if self.orphans.bytes() <= turn.limits.call_queue_bytes {
            return self.orphans.push_back(owner, command);
        }
        turn.metrics().trigger_calls_dropped.increment();
        if let Some(call) = command.call() {
            self.abandon_stream(call);
        }
    }

    /// Tries again what found its owner full.
    pub(in crate::broker) fn deliver_parked(&mut self, turn: &mut Turn) {
        while let Some((owner, command)) = self.orphans.pop_front() {
            if let Err(command) = turn.try_send(owner, command) {
                self.orphans.push_front(owner, command);
                break;
            }
        }
        for id in std::mem::take(&mut self.parked) {
            self.deliver_parked_of(turn, id);
            let Some(peer) = turn.members.get_mut(id) else {
                continue;
            };
            if peer.parked.is_empty() {
                peer.parked_until = None;
                turn.free(id);
            } else {
                self.parked.push(id);
            }
        }
    }

    fn deliver_parked_of(&mut self, turn: &mut Turn, id: SlotId) {
        let Some(peer) = turn.members.get_mut(id) else {
            return;
        };
        let mut parked = std::mem::take(&mut peer.parked);
        let mut has_moved = false;
        while let Some((owner, command)) = parked.pop_front() {
            if let Err(command) = turn.try_send(owner, command) {
                parked.push_front(owner, command);
                break;
            }
            has_moved = true;
        }
        let Some(peer) = turn.members.get_mut(id) else {
            return;
        };
        peer.parked = parked;
        if peer.is_link() && has_moved {
            // It is read all the while, so the queue may never be empty: its time is that of a stop.
            peer.parked_until = Some(turn.now.monotonic + turn.call_timeout);
        }
        let is_late = peer
            .parked_until
            .is_some_and(|until| until <= turn.now.monotonic);
        if !is_late || peer.parked.is_empty() {
            return;
        }
        for (_, command) in peer.parked.take() {
            let call = command.call().and_then(|call| self.abandon_stream(call));
            if let Some(call) = call {
                call.release(turn);
                let error = failed(call.function, OVERLOADED);
                self.answer_error(turn, Some(call.caller), call.function.id(), &error);
            }
        }
    }

    /// Whether commands wait that no member waits for.
    pub(in crate::broker) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// When the first member has waited long enough for its command.
    pub(in crate::broker) fn next_parked(&self, turn: &Turn) -> Option<Instant> {
        let parked = self.parked.iter();
        parked
            .filter_map(|id| turn.members.get(*id)?.parked_until)
            .min()
    }
}
