//! Who is at the other end of each socket: an SDK worker, a sender of telemetry, or the engine whose worker
//! we are. What each has said of itself, may do, and is to be sent.
//!
//! May not know the socket: what is unsent is lent to whoever has it.

use core::net::IpAddr; // an address is data
use std::collections::{BTreeSet, btree_set};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::broker::caller::Caller;
use crate::broker::outgoing::{Answer, Unsent};
use crate::broker::parked::Parked;
use crate::broker::profile::Profile;
use crate::broker::renamed::Names;
use crate::collections::Named;
use crate::id::{SlotId, Text};
use crate::protocol::answer::ResultBody;
use crate::protocol::rbac::Access;
use crate::time::Rarely;

/// How often one callee's dropped trigger calls are told in the log.
const DROPS_SAID_EVERY: Duration = Duration::from_secs(60);

/// Calls of one member that may be under way and have long answers (lists): what the answers hold is
/// known only when they come.
const LISTS_UNDER_WAY_MAX: u32 = 4;

/// A registration that a function is asked about.
pub(in crate::broker) struct AskedAbout {
    /// As a message.
    pub(in crate::broker) text: Box<str>,
    pub(in crate::broker) came_as: CameAs,
}

/// How a registration has come.
pub(in crate::broker) enum CameAs {
    Message,
    /// Whoever waits for the call's answer, if anybody does.
    Call(Option<Caller>),
}

/// Functions to be gone through bit by bit.
pub(in crate::broker) type FunctionIds = btree_set::IntoIter<Box<str>>;

/// Who is at the other end of one socket.
pub struct Member {
    /// What it is called by everybody; given when it is let in.
    pub(in crate::broker) worker_id: Uuid,
    /// Whoever says it takes its place. None: nobody can.
    pub(in crate::broker) reattach_token: Option<Box<str>>,
    /// It has said something, so it takes nobody's place any more.
    pub(in crate::broker) has_spoken: bool,
    /// The number of the listener that it came to.
    pub listener: usize,
    /// What it may do.
    pub(in crate::broker) access: Arc<Access>,
    /// Where it connects from.
    pub(in crate::broker) ip: Option<IpAddr>,
    /// It is the engine whose worker we are.
    is_link: bool,
    /// It sends and is sent messages.
    pub(in crate::broker) is_open: bool,
    /// It has ended, or is about to.
    pub(in crate::broker) has_ended: bool,
    /// Since when it is there as an SDK worker, in ms since 1970.
    pub(in crate::broker) connected_at_ms: Option<u64>,
    /// What it tells about itself.
    pub(in crate::broker) profile: Profile,
    /// Where its functions stand. None: in `default`.
    pub(in crate::broker) namespace: Option<Text>,
    /// Functions that it registered, those included that a newer worker serves.
    pub(in crate::broker) functions: BTreeSet<Box<str>>,
    /// What of it stands under other ids than its own.
    pub(in crate::broker) names: Names,
    /// A registration of it while a function is asked about that. Meanwhile it is not read.
    pub(in crate::broker) asked_about: Option<AskedAbout>,
    /// Commands that found their owner full, in order. While there are any it is not read.
    pub(in crate::broker) parked: Parked,
    /// When the call that is parked has waited long enough; `None` for one without an id.
    pub(in crate::broker) parked_until: Option<Instant>,
    /// Calls of lists under way.
    pub(in crate::broker) lists_under_way: u32,
    /// What it has brought about and is still being done in turns.
    pub(in crate::broker) work_under_way: u32,
    /// Trigger calls that found its queue full, as they are told.
    pub(in crate::broker) drops: Rarely,
    /// When something has come from it last. Only the link's is kept.
    pub heard_at: Instant,
    unsent: Unsent,
    /// It stands among those that have something to be sent.
    is_dirty: bool,
    /// What is counted of it in the sum of all.
    counted_bytes: usize,
}

impl Member {
    fn new(now: Instant, unsent: Unsent) -> Member {
        Member {
            worker_id: Uuid::nil(),
            reattach_token: None,
            has_spoken: false,
            listener: 0,
            access: Arc::new(Access::unlimited()),
            ip: None,
            is_link: unsent.is_of_client(),
            is_open: false,
            has_ended: false,
            connected_at_ms: None,
            profile: Profile::default(),
            namespace: None,
            functions: BTreeSet::new(),
            names: Names::default(),
            asked_about: None,
            parked: Parked::default(),
            parked_until: None,
            lists_under_way: 0,
            work_under_way: 0,
            drops: Rarely::every(DROPS_SAID_EVERY),
            heard_at: now,
            unsent,
            is_dirty: false,
            counted_bytes: 0,
        }
    }

    /// Whether it is the engine whose worker we are.
    pub fn is_link(&self) -> bool {
        self.is_link
    }

    /// Bytes that wait unsent.
    pub(in crate::broker) fn unsent_bytes(&self) -> usize {
        self.unsent.bytes()
    }

    /// The same without answers that are not written out yet.
    pub(in crate::broker) fn written_bytes(&self) -> usize {
        self.unsent.written_bytes()
    }

    /// When the first of its answers that are held may leave.
    pub(in crate::broker) fn held_until(&self) -> Option<Instant> {
        self.unsent.held_until()
    }

    /// Whether nothing of it is to be read: what it asked for has not found room. The link is read always,
    /// for all programs behind the engine share it: calls beyond its bounds are refused.
    pub(in crate::broker) fn is_held(&self, unsent_bytes_max: usize) -> bool {
        let is_full = !self.parked.is_empty()
            || self.asked_about.is_some()
            || self.unsent_bytes() > unsent_bytes_max
            || self.work_under_way > 0
            || self.lists_under_way >= LISTS_UNDER_WAY_MAX;
        is_full && !self.is_link
    }

    /// Whether something of it waits here, sent or to be sent.
    pub(in crate::broker) fn is_waited_for(&self) -> bool {
        !self.parked.is_empty() || self.held_until().is_some()
    }
}

/// All of them. The ids are those of their sockets.
#[derive(Default)]
pub struct Members {
    slots: Named<Member>,
    /// What waits unsent for all of them.
    unsent_bytes: usize,
    /// Those with something to be sent, each once.
    dirty: Vec<SlotId>,
    /// Who has been written all that may be in a turn, and lacks more: it comes behind the others.
    put_off: Option<SlotId>,
    /// The text of the message being written.
    text: Vec<u8>,
}

impl Members {
    /// Somebody has connected to that listener.
    pub(in crate::broker) fn enter(
        &mut self,
        listener: usize,
        ip: Option<IpAddr>,
        now: Instant,
    ) -> SlotId {
        self.slots.insert(Member {
            listener,
            ip: ip.map(|ip| ip.to_canonical()),
            ..Member::new(now, Unsent::default())
        })
    }

    /// That one is elsewhere: a proxy has said where.
    pub fn come_from(&mut self, id: SlotId, ip: IpAddr) {
        if let Some(member) = self.get_mut(id) {
            member.ip = Some(ip.to_canonical());
        }
    }

    /// The engine whose worker we are, to whom we connect: `request` asks for an upgrade.
    pub(in crate::broker) fn enter_link(&mut self, request: Vec<u8>, now: Instant) -> SlotId {
        let id = self
            .slots
            .insert(Member::new(now, Unsent::of_link(request)));
        self.mark(id);
        id
    }

    pub(in crate::broker) fn remove(&mut self, id: SlotId) {
        if let Some(member) = self.slots.remove(id) {
            self.unsent_bytes -= member.counted_bytes;
        }
    }

    /// Who has that socket.
    pub fn get(&self, id: SlotId) -> Option<&Member> {
        self.slots.get(id)
    }

    /// Likewise.
    pub fn get_mut(&mut self, id: SlotId) -> Option<&mut Member> {
        self.slots.get_mut(id)
    }

    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.unsent_bytes == 0
    }

    /// Whether that is the link to an engine.
    pub(in crate::broker) fn is_link(&self, id: SlotId) -> bool {
        self.get(id).is_some_and(Member::is_link)
    }

    /// The number of the worker's listener, if that has rules.
    pub(in crate::broker) fn guard_of(&self, id: SlotId) -> Option<usize> {
        let peer = self.get(id)?;
        peer.access.has_rules().then_some(peer.listener)
    }

    /// The next function that the worker has registered.
    pub(in crate::broker) fn function_behind(
        &self,
        id: SlotId,
        after: Option<&str>,
    ) -> Option<Box<str>> {
        let functions = &self.get(id)?.functions;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = functions.range::<str, _>((from, Bound::Unbounded));
        behind.next().cloned()
    }

    /// Has the sum of all hold what waits for it now.
    fn count(&mut self, id: SlotId) {
        if let Some(member) = self.slots.get_mut(id) {
            let now = member.unsent_bytes();
            self.unsent_bytes = self.unsent_bytes + now - member.counted_bytes;
            member.counted_bytes = now;
        }
    }

    /// What waits unsent for all of them.
    pub(in crate::broker) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// The same for that one.
    pub(in crate::broker) fn unsent_bytes_of(&self, id: SlotId) -> usize {
        self.get(id).map_or(0, Member::unsent_bytes)
    }

    /// Queues one JSON message, which `write` appends to the buffer that it is given.
    pub(in crate::broker) fn send(&mut self, id: SlotId, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(member) = self.slots.get_mut(id).filter(|member| member.is_open) {
            member.unsent.push(&mut self.text, write);
            self.mark(id);
        }
    }

    /// The same, where it is there as a text.
    pub(in crate::broker) fn send_text(&mut self, id: SlotId, message: &str) {
        self.send(id, |out| out.extend_from_slice(message.as_bytes()));
    }

    /// Queues the answer to a call of a function that has answered in full.
    pub(in crate::broker) fn send_result(
        &mut self,
        caller: &Caller,
        function_id: &str,
        body: ResultBody<'_>,
    ) {
        let member = self.slots.get_mut(caller.peer);
        if let Some(member) = member.filter(|member| member.is_open) {
            member
                .unsent
                .push_result(&mut self.text, caller, function_id, body);
            self.mark(caller.peer);
        }
    }

    /// Queues the answer to a stream call.
    pub(in crate::broker) fn answer(&mut self, answer: Answer) {
        let id = answer.caller.peer;
        if let Some(member) = self.slots.get_mut(id).filter(|member| member.is_open) {
            member.unsent.push_answer(answer);
            self.mark(id);
        }
    }

    /// Lets the answers of that socket go that have been held long enough.
    pub(in crate::broker) fn release(&mut self, id: SlotId, now: Instant) {
        if let Some(member) = self.slots.get_mut(id)
            && member.unsent.release(now)
        {
            self.mark(id);
        }
    }

    /// Queues a control frame of the server, as this side of the connection sends it.
    pub fn send_control(&mut self, id: SlotId, frame: &[u8]) {
        if let Some(member) = self.slots.get_mut(id) {
            let frame = member.unsent.control(frame);
            self.send_raw(id, &frame);
        }
    }

    /// Queues bytes as they are, before answers that are not written out yet: the 101, a pong.
    pub fn send_raw(&mut self, id: SlotId, bytes: &[u8]) {
        if let Some(member) = self.slots.get_mut(id) {
            member.unsent.push_raw(bytes);
            self.mark(id);
        }
    }

    /// Queues what ends the connection, behind all else.
    pub fn send_last(&mut self, id: SlotId, bytes: &[u8]) {
        if let Some(member) = self.slots.get_mut(id) {
            member.unsent.push_last(bytes);
            self.mark(id);
        }
    }

    /// Whether something is to be sent.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.put_off.is_some()
    }

    /// Those with something to be sent.
    pub fn take_dirty(&mut self) -> Vec<SlotId> {
        self.dirty.extend(self.put_off.take());
        for id in &self.dirty {
            if let Some(member) = self.slots.get_mut(*id) {
                member.is_dirty = false;
            }
        }
        std::mem::take(&mut self.dirty)
    }

    /// Lends what is unsent to `write`, bit by bit, until nothing is left or it does not take all of it.
    /// It says how much it took. Of `most` bytes what is left goes: when none is, the member's turn is over,
    /// and it is written to again in the next, behind who had none of them. True: nothing is left.
    pub fn write(
        &mut self,
        id: SlotId,
        most: &mut usize,
        mut write: impl FnMut(&[u8]) -> usize,
    ) -> bool {
        let Some(member) = self.slots.get_mut(id) else {
            return true;
        };
        let before = *most;
        let is_written = loop {
            let unsent = member.unsent.next(&mut self.text);
            if unsent.is_empty() {
                break true;
            }
            let len = unsent.len().min(*most);
            let taken = if len > 0 { write(&unsent[..len]) } else { 0 };
            member.unsent.advance(taken);
            *most -= taken;
            if taken < len || len == 0 {
                break false;
            }
        };
        match *most {
            0 if !is_written && before > 0 => self.put_off(id),
            0 if !is_written => self.mark(id),
            _ => self.count(id),
        }
        is_written
    }

    /// Who had been put off before comes before this one.
    fn put_off(&mut self, id: SlotId) {
        self.count(id);
        if let Some(member) = self.slots.get_mut(id)
            && !member.is_dirty
        {
            member.is_dirty = true;
            self.dirty.extend(self.put_off.replace(id));
        }
    }

    /// It is to be written to in this turn.
    pub fn mark(&mut self, id: SlotId) {
        self.count(id);
        if let Some(member) = self.slots.get_mut(id)
            && !member.is_dirty
        {
            member.is_dirty = true;
            self.dirty.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::connection::PING_FRAME;

    /// Writes what may be written in a turn. Gives who was written how much.
    fn turn(members: &mut Members, mut most: usize) -> Vec<(SlotId, usize)> {
        let mut written = Vec::new();
        for id in members.take_dirty() {
            members.write(id, &mut most, |bytes| {
                written.push((id, bytes.len()));
                bytes.len()
            });
        }
        written
    }

    #[test]
    fn a_ping_waits_for_nobody_who_is_sent_more_than_goes_in_a_turn() {
        let mut members = Members::default();
        let now = Instant::now();
        let [long, other] = [(); 2].map(|()| members.enter(0, None, now));
        members.send_raw(long, &[0; 1000]);
        assert_eq!(turn(&mut members, 100), [(long, 100)]);
        members.send_control(other, &PING_FRAME);
        let rest = 100 - PING_FRAME.len();
        assert_eq!(
            turn(&mut members, 100),
            [(other, PING_FRAME.len()), (long, rest)]
        );
    }

    #[test]
    fn those_who_are_sent_more_than_goes_in_a_turn_take_turns() {
        let mut members = Members::default();
        let now = Instant::now();
        let ids = [(); 3].map(|()| members.enter(0, None, now));
        for id in ids {
            members.send_raw(id, &[0; 250]);
        }
        let mut written = Vec::new();
        while members.has_dirty() {
            written.extend(turn(&mut members, 100));
        }
        let [a, b, c] = ids;
        let thrice = [(a, 100), (b, 100), (c, 100), (a, 100), (b, 100), (c, 100)];
        assert_eq!(written[..6], thrice);
        let all: usize = written.iter().map(|(_, len)| len).sum();
        assert_eq!(all, 750);
    }
}
