//! A group whose owner decides: what a command does is computed on the newest value, and takes effect
//! once the store has accepted it.
//!
//! May not know what a store that decides says.

use crate::id::{CallId, ItemId, Text};
use crate::protocol::answer::Outcome;
use crate::protocol::function::OUT_OF_MEMORY;
use crate::protocol::input::{StreamFunction, failed};
use crate::protocol::ttl::Ttl;

use super::command::Ask;
use super::effects::Reply;
use super::flight::InFlight;
use super::group::{Group, Turn};
use super::marks::Marks;
use super::opening::Update;
use super::requests::RequestKind;
use super::update::{self, Opening};
use super::waiting::{Send, Waiting, Write};

impl Group {
    /// `hash` is that of the item that the command is about, if it is about one.
    pub(super) fn apply_own(&mut self, ask: Ask, hash: u64, turn: &mut Turn<'_>) {
        match ask {
            Ask::Set {
                item,
                data,
                ttl,
                call,
            } => self.set((item, hash), (data, ttl), call, turn),
            Ask::Update { .. } => debug_assert!(false, "it is begun"),
            Ask::Delete { item, call } => {
                self.note_deleted(hash, &item);
                self.delete(item, hash, call, turn);
            }
            Ask::Get { item, call } => self.place(Waiting::Get { item, hash, call }, turn),
            Ask::List { call } => self.place(Waiting::List { call }, turn),
            Ask::Send {
                id,
                kind,
                data,
                call,
            } => {
                let time = self.event_time(turn.now);
                self.keep_time(turn);
                let send = Send {
                    id,
                    kind,
                    data,
                    time,
                    call,
                };
                self.place(Waiting::Send(send), turn);
            }
            Ask::Join(join) => {
                let time = self.sync_time(join.item.is_some(), turn.now);
                self.keep_time(turn);
                self.place(Waiting::Join { join, hash, time }, turn);
            }
            Ask::Leave { worker, local } => self.leave(worker, local),
            Ask::Hold(hold) => self.hold(*hold, hash, turn),
            Ask::Release { lease, id } => self.release_lease(lease, &id, hash, turn),
        }
    }

    fn set(
        &mut self,
        (item, hash): (ItemId, u64),
        (data, ttl): (Text, Option<Ttl>),
        call: Option<CallId>,
        turn: &mut Turn<'_>,
    ) {
        let old = self.newest(hash, &item).cloned();
        if turn.room.refuses(old.as_deref(), &data) {
            return self.refuse_to_grow(call, StreamFunction::Set, turn);
        }
        let reply = call.map(|call| Reply {
            call,
            outcome: Outcome::Set {
                new: Text::clone(&data),
                old: old.clone(),
            },
        });
        let write = Write {
            item,
            hash,
            old,
            new: Some(data),
            ttl,
            time: self.event_time(turn.now),
            function: StreamFunction::Set,
            reply,
            is_accepted: false,
        };
        self.write(write, turn);
    }

    /// Applies an update whose old value has been opened: see `opening`.
    pub(super) fn update(&mut self, update: Update, opening: Opening, turn: &mut Turn<'_>) {
        let updated = opening.apply(update.old.as_deref(), &update.ops);
        let Update {
            item,
            hash,
            ops,
            ttl,
            call,
            old,
        } = update;
        let limits = turn.limits;
        let checked =
            update::check_limits(&updated.value, &ops, limits.json_depth, limits.value_bytes);
        if let Err(cause) = checked {
            let outcome = Outcome::Failed(failed(StreamFunction::Update, &cause));
            return self.rest(call, outcome, StreamFunction::Update, turn);
        }
        if turn.room.refuses(old.as_deref(), &updated.value) {
            return self.refuse_to_grow(call, StreamFunction::Update, turn);
        }
        let new = Text::from(updated.value);
        let reply = call.map(|call| Reply {
            call,
            outcome: Outcome::Updated {
                new: Text::clone(&new),
                old: old.clone(),
                errors: updated.errors,
            },
        });
        let write = Write {
            item,
            hash,
            old,
            new: Some(new),
            ttl,
            time: self.event_time(turn.now),
            function: StreamFunction::Update,
            reply,
            is_accepted: false,
        };
        self.write(write, turn);
    }

    fn refuse_to_grow(
        &mut self,
        call: Option<CallId>,
        function: StreamFunction,
        turn: &mut Turn<'_>,
    ) {
        let outcome = Outcome::Failed(failed(function, OUT_OF_MEMORY));
        self.rest(call, outcome, function, turn);
    }

    pub(super) fn delete(
        &mut self,
        item: ItemId,
        hash: u64,
        call: Option<CallId>,
        turn: &mut Turn<'_>,
    ) {
        let Some(old) = self.newest(hash, &item).cloned() else {
            let outcome = Outcome::Deleted { old: None };
            return self.rest(call, outcome, StreamFunction::Delete, turn);
        };
        let reply = call.map(|call| Reply {
            call,
            outcome: Outcome::Deleted {
                old: Some(Text::clone(&old)),
            },
        });
        let write = Write {
            item,
            hash,
            old: Some(old),
            new: None,
            ttl: None,
            time: self.event_time(turn.now),
            function: StreamFunction::Delete,
            reply,
            is_accepted: false,
        };
        self.write(write, turn);
    }

    pub(super) fn newest(&self, hash: u64, item: &str) -> Option<&Text> {
        let under_way = self.under_way.as_ref();
        match under_way.and_then(|under_way| under_way.newest(hash, item)) {
            Some(newest) => newest.as_ref(),
            None => self.items.get(hash, item),
        }
    }

    pub(super) fn write(&mut self, write: Write, turn: &mut Turn<'_>) {
        let (group, item, time) = (self.key.clone(), ItemId::clone(&write.item), write.time);
        let kind = match &write.new {
            Some(value) => RequestKind::Put {
                group,
                item,
                value: Text::clone(value),
                time,
                marks: Marks {
                    ttl: write.ttl,
                    is_member: self.is_member(write.hash, &write.item),
                },
            },
            None => RequestKind::Remove { group, item, time },
        };
        turn.flight
            .request(InFlight::Group(turn.slot), kind, turn.out);
        self.under_way(turn.flight).push(Waiting::Write(write));
    }

    /// An answer that needs no write, but rests on those under way.
    fn rest(
        &mut self,
        call: Option<CallId>,
        outcome: Outcome,
        function: StreamFunction,
        turn: &mut Turn<'_>,
    ) {
        if let Some(call) = call {
            let reply = Reply { call, outcome };
            self.place(Waiting::Rests { reply, function }, turn);
        }
    }

    /// An accepted write takes effect.
    pub(super) fn carry_out(&mut self, write: Write, turn: &mut Turn<'_>) {
        self.sync = None;
        turn.out.replies.extend(write.reply);
        let change = (write.old.as_deref(), write.new.as_deref());
        self.tell_change(&write.item, change, write.time, turn);
        match write.new {
            Some(value) => {
                let slot = self.items.put(write.hash, &write.item, value);
                let of_stream = self.ttl();
                if write.ttl.is_some() || of_stream.is_some() || self.items.lifetimes().is_some() {
                    let uptime_ms = turn.uptime_ms;
                    self.items.renew(slot, write.ttl, of_stream, uptime_ms);
                }
            }
            None => self.items.remove(write.hash, &write.item),
        }
    }
}
