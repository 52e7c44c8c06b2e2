//! What other threads have sent: messages, commands of groups, and what the store has said. And the
//! commands of own sockets to the own shard.
//!
//! Says what is taken and what has to wait for room; when, and how much of it in a turn, the shell says.

use std::sync::Arc;

use crate::mesh::{ToOwner, ToStore, ToWorker};
use crate::shard::hooks::Hooks;
use crate::shard::{Answer, Command, Learned, Verdict};

use super::{COMMAND_COST, Socket, Subscribers};

impl<S: Socket> Subscribers<S> {
    /// The next message of the open mailbox, once what the store has said before is heard. A fan-out
    /// that lags needs nobody to get on, so that wait ends by itself.
    pub fn next_message(&self) -> Option<ToWorker> {
        if self.fanout.is_lagging() || !self.learned.is_empty() {
            return None;
        }
        self.ports.open.take()
    }

    /// What the store has said and is heard next.
    pub fn next_learned(&self) -> Option<&Learned> {
        self.learned.front()
    }

    /// Hears so much at most of what the store has said, and gives how much that was.
    pub fn learn(&mut self, most: usize) -> usize {
        let now = self.shard_now();
        let len = self.learned.len().min(most);
        for learned in self.learned.drain(..len) {
            if let Learned::Answer(Answer {
                verdict, number, ..
            }) = &learned
            {
                let metrics = &self.ports.shared.workers[self.ports.id.index()];
                let is_refusal = matches!(verdict, Verdict::Refused(_));
                metrics.store_refuses.set(is_refusal);
                if is_refusal {
                    metrics.store_refusals.increment();
                    metrics.store_refused_ms.set(self.now.wall_ms);
                }
                self.measures.answered(*number, self.now.monotonic, metrics);
            }
            self.shard.learn(learned, now, &mut self.effects);
        }
        len
    }

    /// Takes a message of the open mailbox.
    pub fn take(&mut self, message: ToWorker) {
        match message {
            ToWorker::Delivery(delivery, due) => self.deliver(delivery.local, delivery.what, due),
            ToWorker::Learned(learned) => self.learned.extend(learned),
            ToWorker::Slice(cursor, limits) => {
                let slice = self.shard.slice(cursor, limits);
                if let Some(outbox) = &mut self.ports.to_store {
                    outbox.send(ToStore::Slice(self.ports.id, slice));
                }
            }
            ToWorker::Clock(reading) => self.store_clock = Some(reading),
            ToWorker::JoinDecided(request, is_admitted) => self.join_decided(*request, is_admitted),
            ToWorker::TakeLeaves(len) => self.debts.grant(len),
            ToWorker::CustomAnswered(answered) => {
                let now = self.shard_now();
                self.shard.custom_answered(answered, now, &mut self.effects);
            }
            ToWorker::Authenticated(id, verdict) => self.authenticated(id, verdict),
            ToWorker::AuthFunction(function) => self.auth = function,
            ToWorker::Settings(settings) => self.take_settings(&settings),
        }
    }

    /// The next message of the command mailbox, while what follows from it finds room.
    pub fn next_command(&self) -> Option<ToOwner> {
        if !self.may_take_commands() {
            return None;
        }
        self.ports.commands.take()
    }

    /// The next command of an own socket to the own shard, likewise.
    pub fn next_own_command(&mut self) -> Option<Command> {
        if !self.may_take_commands() {
            return None;
        }
        self.own_commands.pop_front()
    }

    /// Takes a command. Gives what it cost: the bytes that it moved, and a little for itself.
    pub fn take_command(&mut self, command: Command) -> usize {
        let asked_bytes = command.held_bytes();
        let replies = self.effects.replies.len();
        let now = self.shard_now();
        self.shard.apply(command, now, &mut self.effects);
        let new = self.effects.replies[replies..].iter();
        let answered_bytes: usize = new.map(|reply| reply.outcome.held_bytes()).sum();
        COMMAND_COST + asked_bytes + answered_bytes
    }

    /// From here on these streams are hooked onto: for the commands behind it, and for own sockets.
    pub fn set_hooks(&mut self, hooks: Arc<Hooks>) {
        self.shard.set_hooks(Arc::clone(&hooks));
        self.hooks = hooks;
    }

    /// Messages were taken: whoever waited for that room is woken.
    pub fn tell_senders(&self) {
        let shared = &self.ports.shared;
        self.ports.open.tell_waiters(|thread| shared.wake(thread));
        let commands = &self.ports.commands;
        commands.tell_waiters(|thread| shared.wake(thread));
    }
}
