//! What is to be done in a turn, and what has to wait: sockets with something to be read or written, and
//! how long there is nothing to do.
//!
//! May not know what the bytes mean.

use std::time::{Duration, Instant};

use crate::fanout::Budget;
use crate::id::SlotId;
use crate::life::Sockets as _;
use crate::mesh::Pressure;
use crate::shard::{Ask, Join};
use crate::time::Now;

use super::Subscribers;
use super::connections::{Home, Look, Phase, Socket, State};
use super::joins::FRESH;
use super::notes::{Limit, What};

impl<S: Socket> Subscribers<S> {
    /// A turn begins at that time. `units`: what it may spend on sockets whose subscriptions end.
    pub fn begin_turn(&mut self, now: Now, units: usize) {
        self.now = now;
        self.schedule.silence.advance(now.monotonic);
        self.endings.begin_turn(units);
        let pressure = self.ports.shared.memory.pressure();
        self.shard.set_out_of_memory(pressure == Pressure::Full);
        self.fanout.set_pressed(pressure != Pressure::Low);
        self.go_on_giving_up();
        self.fanout.begin_turn(self.measures.micros(now.monotonic));
        self.go_on_ending(); // sockets with too many subscriptions for the last turn
        let now = self.shard_now();
        let uptime = self
            .now
            .monotonic
            .saturating_duration_since(self.shard_began);
        self.shard.set_uptime(uptime.as_millis() as u64);
        self.shard.begin_turn(now, &mut self.effects); // and groups with too much
        if self.shard.has_due() && self.may_take_commands() {
            self.shard.do_due(now, &mut self.effects);
        }
    }

    /// Whether there is something to do before anything comes.
    pub fn has_work(&self) -> bool {
        let has_commands = !self.own_commands.is_empty() || !self.ports.commands.is_empty();
        self.fanout.is_due()
            || !self.to_write.is_empty()
            || !self.endings.is_empty()
            || self.persons.has_work()
            || self.shard.has_begun_more()
            || self.is_asked()
            || self.has_departures()
            || !self.ports.open.is_empty()
            || !self.learned.is_empty()
            || ((has_commands || self.shard.has_due()) && self.may_take_commands())
            || (!self.schedule.readable.is_empty() && self.may_read_sockets())
    }

    /// Whether sockets are left unread because their peers have asked for all that they may for now.
    pub fn holds_sockets(&self) -> bool {
        self.schedule.pacing.holds_any()
    }

    /// When a time limit is over next.
    pub fn next_at(&self) -> Option<Instant> {
        let paced_us = self.fanout.next_due_us();
        let times = [
            self.schedule.next_at(),
            self.drain.next_at(),
            self.next_due_at(),
            paced_us.map(|due_us| self.measures.at(due_us)),
        ];
        times.into_iter().flatten().min()
    }

    /// When something of the shard is due next. What is due already waits for room and no longer.
    fn next_due_at(&self) -> Option<Instant> {
        let at = self.shard_began + Duration::from_millis(self.shard.next_due_ms()?);
        (at > self.now.monotonic).then_some(at)
    }

    /// Whether what follows from a command finds room: with the neighbours, in the fan-out, and
    /// behind what the store has not accepted.
    pub fn may_take_commands(&self) -> bool {
        let ports = &self.ports;
        let to_store = ports.to_store.as_ref();
        !ports.to_open.iter().any(|outbox| outbox.has_backlog())
            && !ports.to_engine.has_backlog()
            && !ports.to_fired.has_backlog()
            && !to_store.is_some_and(|outbox| outbox.has_backlog())
            && !self.fanout.is_lagging()
            && self.shard.waiting_len() < self.bounds.commands
            && !self.shard.holds_much()
    }

    /// Whether commands find room with their owners as well.
    pub fn may_read_sockets(&self) -> bool {
        let to_commands = &self.ports.to_commands;
        self.may_take_commands()
            && self.own_commands.is_empty()
            && !to_commands.iter().any(|outbox| outbox.has_backlog())
    }

    /// A new socket comes; `None`: it came too late, and is not even read from.
    pub fn enter(&mut self, socket: S) -> Option<SlotId> {
        if !self.drain.is_serving() {
            self.ports.shared.uncount_socket(self.ports.id);
            return None;
        }
        let until = self.now.monotonic + Duration::from_millis(self.limits.handshake_ms);
        let id = self.connections.insert(socket);
        self.ages.note(id.generation, self.now.monotonic);
        self.schedule.handshakes.push(until, id);
        self.count_half_open(id);
        self.note(id, || What::Connects);
        Some(id)
    }

    /// The socket stays on this worker, whatever it follows.
    pub fn stays(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.home = Home::Decided;
        }
    }

    /// The socket of that name, while it is there.
    pub fn socket(&mut self, id: SlotId) -> Option<&mut S> {
        let connection = self.connections.get_mut(id)?;
        Some(&mut connection.socket)
    }

    /// The poll says that the socket takes bytes.
    pub fn takes_bytes(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.reader.is_blocked()
        {
            connection.reader.unblock();
            self.blocked.remove(&id);
            self.schedule.unblock(id);
            self.queue_write(id);
        }
    }

    /// The socket has taken something of what is held back over it.
    pub fn takes_some(&mut self, id: SlotId) {
        let now = self.now.monotonic;
        if let Some(since) = self.blocked.get_mut(&id) {
            *since = now;
            self.schedule.note_blocked(id, true, now);
        }
    }

    /// How many sockets wait to be read.
    pub fn readable_len(&self) -> usize {
        self.schedule.readable.len()
    }

    /// Queues the socket: what waits for it is written by the next sweeps.
    pub(super) fn queue_write(&mut self, id: SlotId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.is_to_write
        {
            connection.is_to_write = true;
            self.to_write.push_back(id);
        }
    }

    /// Who lacks something gets it, one write a socket: so many small writes at most for what is queued
    /// for single sockets, and as many for events. Gives what was spent on each.
    pub fn sweep(&mut self, writes: usize) -> [Budget; 2] {
        let mut single = Budget::of_writes(writes);
        while !single.is_spent()
            && let Some(id) = self.to_write.pop_front()
        {
            let mut had_ping = false;
            if let Some(connection) = self.connections.get_mut(id) {
                connection.is_to_write = false;
                had_ping = connection.reader.has_ping();
            }
            let has_taken = self.fanout.drain(id, &mut self.connections, &mut single);
            if had_ping && has_taken {
                self.schedule.silence.take(id.slot); // from now on its answer may come
            }
            self.finish_if_closing(id);
            self.go_on_with_parked(id);
            self.queue(id); // it may have been left unread for what it had not taken
        }
        let mut events = Budget::of_writes(writes);
        self.fanout.sweep(&mut self.connections, &mut events);
        let spent = [single, events];
        self.measures.note_sweep(&spent);
        spent
    }

    /// Whether the fan-out has something to do.
    pub fn is_sweep_due(&self) -> bool {
        self.fanout.is_due()
    }

    /// Whether replies went to the engine thread in this turn.
    pub fn has_replied(&self) -> bool {
        self.has_replied
    }

    /// Ends the sockets that the fan-out has found dead, or to hold up what nobody can shorten; tells
    /// owners of groups that nobody here follows any more, and asks them for fresh `sync`s.
    pub fn follow_up(&mut self) {
        self.note_blocked();
        loop {
            let outcome = self.fanout.take_outcome();
            if outcome.is_empty() {
                return;
            }
            for id in outcome.gone {
                self.ended(id);
            }
            for id in outcome.unfinished {
                self.queue_write(id);
            }
            for id in outcome.slow {
                self.metrics().slow_readers_closed.increment();
                self.note_limit(id, Limit::Behind, || What::Limit(Limit::Behind));
                self.close(id, 1013, "limits.behind_bytes_worker");
            }
            self.metrics()
                .custom_events_dropped
                .add(outcome.customs_dropped);
            for (key, local) in outcome.stale {
                let join = Join {
                    worker: self.ports.id,
                    local,
                    connection: local, // one at a time of a group
                    token: FRESH,
                    item: None,
                };
                self.command(key, Ask::Join(join));
            }
            for (key, local) in outcome.left {
                let worker = self.ports.id;
                self.command(key, Ask::Leave { worker, local });
            }
        }
    }

    /// Those that took less than they were given.
    pub(super) fn note_blocked(&mut self) {
        for (id, has_taken) in self.fanout.take_blocked() {
            let now = self.now.monotonic;
            self.schedule.note_blocked(id, has_taken, now);
            let since = self.blocked.entry(id).or_insert(now);
            if has_taken {
                *since = now;
            }
        }
    }

    /// How a connection stands, for who looks at it from outside; `None` when it is gone.
    pub fn look(&self, id: SlotId) -> Option<Look> {
        let connection = self.connections.get(id)?;
        Some(Look {
            state: match &connection.phase {
                Phase::Head(_) => State::Handshake,
                Phase::Waits(_) => State::Asking,
                Phase::Open(_) => State::Open,
                Phase::Closing => State::Closing,
            },
            is_blocked: connection.reader.is_blocked(),
            is_to_write: connection.is_to_write,
        })
    }
}
