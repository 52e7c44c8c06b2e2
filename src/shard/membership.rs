//! What comes of sockets that keep members, and of members that have had their time: items that are written
//! as a call would write them.
//!
//! May not know how members are found, or when they are looked at next: `members` does.

use std::sync::Arc;

use crate::id::{ItemId, Text};
use crate::protocol::input::StreamFunction;
use crate::protocol::members::{connections_in, renewed, value_of};
use crate::protocol::streams::MembersRule;

use super::flight::InFlight;
use super::group::{Group, Turn};
use super::lifetimes::{NEVER, tick_after};
use super::members::{Hold, Lease, Member};
use super::requests::{Question, RequestKind};
use super::waiting::Write;

/// What it costs to look at a member that has had its time.
const LOOK_UNITS: usize = 16;
/// What the store has not accepted is tried again so much later.
const AGAIN_MS: u64 = 1000;

impl Group {
    /// A socket of a person is there.
    pub(super) fn hold(&mut self, hold: Hold, hash: u64, turn: &mut Turn<'_>) {
        let Hold { lease, id, data } = hold;
        let key = &self.key;
        if turn.hooks.is_custom(key.stream(), StreamFunction::Set) {
            return; // what is written there is not heard here
        }
        let members = self.members.get_or_insert_default();
        let Some((slot, member)) = members.get_mut(hash, &id) else {
            if members.slots.len() >= turn.members_max {
                turn.out.members_refused += 1;
                return;
            }
            let slot = members.insert(Member {
                id,
                hash,
                data: Some(data),
                leases: vec![lease],
                told: None,
                until: NEVER,
                queued: NEVER,
                is_found: false,
                is_away: false,
            });
            return self.write_member(slot, Some(Text::from("{}")), turn);
        };
        let before = member.data.replace(Text::clone(&data));
        let is_new = !member.leases.contains(&lease);
        if is_new {
            member.leases.push(lease);
            member.is_away = false;
        }
        if !member.is_found {
            member.until = NEVER;
        }
        // Of whom was found it is not known what was told: whoever comes back is no change.
        let is_other = before.as_ref().is_some_and(|before| *before != data);
        if is_other || self.is_to_tell(slot) {
            self.write_member(slot, before, turn);
        }
    }

    /// That socket is gone, or follows the group no more.
    pub(super) fn release_lease(&mut self, lease: Lease, id: &str, hash: u64, turn: &mut Turn<'_>) {
        let grace_ms = self.members_rule().map_or(0, |rule| rule.grace_ms);
        let Some(members) = &mut self.members else {
            return;
        };
        let Some((slot, member)) = members.drop_lease(hash, id, lease) else {
            return;
        };
        if member.leases.is_empty() {
            member.leases = Vec::new();
            let until = tick_after(turn.uptime_ms.saturating_add(grace_ms));
            member.until = match member.until {
                0 => 0,
                NEVER => until,
                earlier => earlier.max(until),
            };
            members.look_in(slot, until);
        } else if self.is_to_tell(slot) {
            self.write_member(slot, None, turn);
        }
    }

    /// The same where the store keeps members of all hosts: it is told with how many sockets they are here.
    pub(super) fn hold_shared(&mut self, hold: Hold, hash: u64, turn: &mut Turn<'_>) {
        let Hold { lease, id, data } = hold;
        if turn.hooks.is_custom(self.key.stream(), StreamFunction::Set) {
            return; // what is written there is not heard here
        }
        let members = self.members.get_or_insert_default();
        let Some((_, member)) = members.get_mut(hash, &id) else {
            if members.slots.len() >= turn.members_max {
                turn.out.members_refused += 1;
                return;
            }
            members.insert(Member {
                id: ItemId::clone(&id),
                hash,
                data: Some(Text::clone(&data)),
                leases: vec![lease],
                told: Some(1),
                until: NEVER,
                queued: NEVER,
                is_found: false,
                is_away: false,
            });
            return self.keep_shared(id, data, 1, turn);
        };
        let before = member.data.replace(Text::clone(&data));
        let is_new = !member.leases.contains(&lease);
        if is_new {
            member.leases.push(lease);
        }
        let connections = member.leases.len();
        if is_new || before.is_none_or(|before| before != data) {
            self.keep_shared(id, data, connections, turn);
        }
    }

    /// The same of the end.
    pub(super) fn release_shared(
        &mut self,
        lease: Lease,
        id: &ItemId,
        hash: u64,
        turn: &mut Turn<'_>,
    ) {
        let Some(members) = &mut self.members else {
            return;
        };
        let Some((slot, member)) = members.drop_lease(hash, id, lease) else {
            return;
        };
        let connections = member.leases.len();
        let data = member.data.clone().unwrap_or_else(|| "{}".into());
        if connections == 0 {
            members.remove(slot);
        }
        if members.is_empty() {
            self.members = None;
        }
        self.keep_shared(ItemId::clone(id), data, connections, turn);
    }

    fn keep_shared(&mut self, item: ItemId, data: Text, connections: usize, turn: &mut Turn<'_>) {
        let kind = RequestKind::Decide(Question::Keep {
            group: self.key.clone(),
            item,
            data,
            connections: u32::try_from(connections).unwrap_or(u32::MAX),
        });
        turn.flight.request(InFlight::Nobody, kind, turn.out);
    }

    /// Somebody deletes that item: of a member it is away until its person comes again.
    pub(super) fn note_deleted(&mut self, hash: u64, item: &str) {
        if self.members.is_some() && self.newest(hash, item).is_none() {
            return; // it is still to be written
        }
        if let Some(members) = &mut self.members
            && let Some((_, member)) = members.get_mut(hash, item)
        {
            member.is_away = true;
            member.told = None;
        }
    }

    pub(super) fn is_member(&self, hash: u64, item: &str) -> bool {
        let members = self.members.as_ref();
        members.is_some_and(|members| members.has(hash, item))
    }

    /// Writes of these members were refused: what their items tell is not known.
    pub(super) fn tell_members_again(&mut self, turn: &Turn<'_>) {
        let (Some(members), Some(under_way)) = (&mut self.members, &self.under_way) else {
            return;
        };
        let at = tick_after(turn.uptime_ms + AGAIN_MS);
        for write in under_way.unaccepted() {
            if let Some((slot, member)) = members.get_mut(write.hash, &write.item) {
                member.told = None;
                member.is_away &= write.new.is_some(); // a delete that was refused is none
                members.look_in(slot, at);
            }
        }
    }

    /// Looks at the members that have had their time, as many as this turn may.
    pub(super) fn end_members(&mut self, tick: u32, turn: &mut Turn<'_>) {
        while turn.walks.units > 0
            && let Some(members) = &mut self.members
        {
            let Some(slot) = members.take_due(tick) else {
                break;
            };
            turn.walks.spend(LOOK_UNITS);
            self.look_at_member(slot, tick, turn);
        }
        if self
            .members
            .as_ref()
            .is_some_and(|members| members.is_empty())
        {
            self.members = None;
        }
    }

    fn look_at_member(&mut self, slot: u32, tick: u32, turn: &mut Turn<'_>) {
        let rule = self.members_rule();
        let restart_ms = rule.map_or(MembersRule::RESTART_GRACE_MS, |rule| rule.restart_grace_ms);
        let Some(members) = &mut self.members else {
            return;
        };
        let Some(member) = members.slots.get_mut(slot) else {
            return;
        };
        if member.until == 0 {
            // The first turn since it was found.
            member.until = tick_after(turn.uptime_ms + restart_ms);
        }
        let until = member.until;
        if until > tick && (member.is_found || member.leases.is_empty()) && until != NEVER {
            return members.look_in(slot, until);
        }
        member.is_found = false;
        if !member.leases.is_empty() {
            member.until = NEVER;
            if self.is_to_tell(slot) {
                self.write_member(slot, None, turn);
            }
            return;
        }
        let (id, hash) = (ItemId::clone(&member.id), member.hash);
        member.told = None;
        if self.newest(hash, &id).is_some() {
            let again = tick_after(turn.uptime_ms + AGAIN_MS); // it may be refused
            if let Some(members) = &mut self.members {
                members.look_in(slot, again);
            }
            return self.delete(id, hash, None, turn);
        }
        let is_there = self.items().get(hash, &id).is_some();
        if let Some(members) = &mut self.members {
            match is_there {
                true => members.look_in(slot, tick_after(turn.uptime_ms + AGAIN_MS)),
                false => members.remove(slot),
            }
        }
    }

    /// Whether its item says something else than what is. While others of its sockets may still come, only
    /// more of them are told.
    fn is_to_tell(&self, slot: u32) -> bool {
        let members = self.members.as_ref();
        let Some(member) = members.and_then(|members| members.slots.get(slot)) else {
            return false;
        };
        let is = member.connections();
        if member.is_away {
            return false;
        }
        match self.newest(member.hash, &member.id) {
            Some(value) if member.is_found => connections_in(value).is_some_and(|told| told < is),
            _ => member.told != Some(is),
        }
    }

    /// What stands of that member is written as a call would write it. `before`: the data that was told of
    /// it last, where it is another by now.
    fn write_member(&mut self, slot: u32, before: Option<Text>, turn: &mut Turn<'_>) {
        let members = self.members.as_ref();
        let Some(member) = members.and_then(|members| members.slots.get(slot)) else {
            return;
        };
        let (id, hash) = (ItemId::clone(&member.id), member.hash);
        let old = self.newest(hash, &id).cloned();
        let now = member.data.as_deref().unwrap_or("{}");
        let told_before = before.as_deref().unwrap_or(now);
        let mut is = member.connections();
        if member.is_found {
            is = is.max(old.as_deref().and_then(connections_in).unwrap_or(0));
        }
        let value = match &old {
            Some(old) if old.starts_with('{') => renewed(old, (told_before, now), &id, is),
            _ => value_of(now, &id, is),
        };
        let is_same = old.as_deref() == Some(&*value);
        let is_refused = !is_same && turn.room.refuses(old.as_deref(), &value);
        if let Some(members) = &mut self.members {
            if let Some(member) = members.slots.get_mut(slot) {
                member.told = (!is_refused).then_some(is);
            }
            if is_refused {
                members.look_in(slot, tick_after(turn.uptime_ms + AGAIN_MS));
            }
        }
        if is_same || is_refused {
            return;
        }
        let write = Write {
            item: id,
            hash,
            old,
            new: Some(Arc::from(value)),
            ttl: None,
            time: self.event_time(turn.now),
            function: StreamFunction::Set,
            reply: None,
            is_accepted: false,
        };
        self.write(write, turn);
    }
}
