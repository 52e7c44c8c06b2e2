//! Every call under way: who asked, who was asked, until when; and commands on their way to the owners of
//! groups.
//!
//! Time is handed in. Ids are per caller; towards a callee a caller's id is passed on unless
//! it is in flight there already.

mod answers;
mod ask;
mod commands;
pub(in crate::broker) mod invoke;
mod streams;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use uuid::Uuid;

use crate::collections::Named;
use crate::id::{CallId, SlotId};
use crate::protocol::answer::Outcome;
use crate::protocol::groups::{Merge, Names};
use crate::protocol::input::StreamFunction;
use crate::time::Deadlines;

use crate::broker::awaits::{Awaits, Cause, Load};
use crate::broker::caller::Caller;
use crate::broker::parked::Parked;

/// Time limits of calls that have ended, kept until there are so many more than of others.
const SPARE_DEADLINES: usize = 1024;

/// What a call takes beside its texts, about, with its places in the tables.
const STREAM_CALL_BYTES: usize = 192;
const FUNCTION_CALL_BYTES: usize = 448;

/// A call of one of our own functions: its owner answers, or all owners do.
struct StreamCall {
    caller: Caller,
    function: StreamFunction,
    /// Its caller is not read while there are several of these.
    holds: bool,
    /// When it came.
    began: Instant,
    /// For listings: how many workers have still to answer, and what the others said.
    listing: Option<Box<(usize, Parts)>>,
}

/// What the workers have said of a listing. The first failure is the answer to the whole.
type Parts = Result<Vec<Names>, Outcome>;

/// What all have said whom a stream call waits for.
enum Said {
    Outcome(Outcome),
    /// Each of its own groups.
    Parts(Vec<Names>),
}

/// A call of an SDK worker's function.
pub(in crate::broker) struct FunctionCall {
    pub(in crate::broker) awaits: Awaits,
    pub(in crate::broker) function_id: Box<str>,
    callee: SlotId,
    /// The call's name towards the callee.
    sent_id: Uuid,
    /// How long its answer is awaited.
    pub(in crate::broker) timeout: Duration,
    /// When it was made.
    pub(in crate::broker) began: Instant,
}

/// All calls that somebody waits for, and commands that found their owner full.
#[derive(Default)]
pub(in crate::broker) struct Calls {
    streams: Named<StreamCall>,
    streams_bytes: usize,
    functions: Named<FunctionCall>,
    /// Those calls of functions, by cause.
    loads: [Load; 7],
    deadlines: Deadlines<CallId>,
    auth_deadlines: Deadlines<CallId>,
    /// By caller and the caller's id.
    by_caller: ByPeer,
    /// By callee and the id that it was sent.
    by_callee: ByPeer,
    /// How many calls concern each peer, as caller or callee, so that the end of one that has none
    /// looks at no call of others.
    by_peer: HashMap<SlotId, u32>,
    /// Listings of groups that all workers have answered, on their way to one text.
    merges: VecDeque<(StreamCall, Merge)>,
    /// Members with commands that found their owner full.
    parked: Vec<SlotId>,
    /// The same of members that have ended since, and of triggers: what was sent is done all the same,
    /// as far as `limits.call_queue_bytes` has room.
    orphans: Parked,
}

/// Calls of each peer, so that the end of one looks at no call of others.
#[derive(Default)]
struct ByPeer(HashMap<SlotId, HashMap<Uuid, CallId>>);

impl ByPeer {
    fn get(&self, peer: SlotId, id: Uuid) -> Option<CallId> {
        self.0.get(&peer)?.get(&id).copied()
    }

    fn insert(&mut self, peer: SlotId, id: Uuid, call: CallId) {
        self.0.entry(peer).or_default().insert(id, call);
    }

    fn remove(&mut self, peer: SlotId, id: Uuid) {
        if let Some(calls) = self.0.get_mut(&peer) {
            calls.remove(&id);
            if calls.is_empty() {
                self.0.remove(&peer);
            }
        }
    }

    fn some_of(&self, peer: SlotId, most: usize) -> Vec<CallId> {
        let calls = self.0.get(&peer).into_iter();
        calls
            .flat_map(HashMap::values)
            .take(most)
            .copied()
            .collect()
    }
}

impl Calls {
    /// A stream call begins. `workers` have to answer before its caller is answered.
    fn begin_stream(
        &mut self,
        caller: Caller,
        function: StreamFunction,
        workers: usize,
        holds: bool,
        now: Instant,
    ) -> CallId {
        let is_listing = matches!(
            function,
            StreamFunction::ListGroups | StreamFunction::ListAll
        );
        self.count(caller.peer);
        self.streams_bytes += STREAM_CALL_BYTES + caller.held_bytes();
        self.streams.insert(StreamCall {
            caller,
            function,
            holds,
            began: now,
            listing: is_listing.then(|| Box::new((workers, Ok(Vec::new())))),
        })
    }

    /// A worker has answered: gives the call and its outcome when nobody else has to.
    fn end_stream(&mut self, id: CallId, outcome: Outcome) -> Option<(StreamCall, Said)> {
        let call = self.streams.get_mut(id)?;
        if let Some(listing) = &mut call.listing {
            let (left, parts) = &mut **listing;
            *left -= 1;
            match (outcome, parts) {
                (Outcome::Groups(groups), Ok(parts)) => parts.push(groups),
                (Outcome::Groups(_), Err(_)) => {}
                (other, parts @ Ok(_)) => *parts = Err(other),
                (_, Err(_)) => {}
            }
            if *left > 0 {
                return None;
            }
            let mut call = self.abandon_stream(id)?;
            let (_, parts) = *call.listing.take()?;
            return Some((call, parts.map_or_else(Said::Outcome, Said::Parts)));
        }
        let call = self.abandon_stream(id)?;
        Some((call, Said::Outcome(outcome)))
    }

    /// A stream call that nobody will answer.
    fn abandon_stream(&mut self, id: CallId) -> Option<StreamCall> {
        let call = self.streams.remove(id)?;
        self.streams_bytes -= STREAM_CALL_BYTES + call.caller.held_bytes();
        self.discount(call.caller.peer);
        Some(call)
    }

    /// Whether none is under way.
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.functions.is_empty() && self.by_peer.is_empty()
    }

    /// All that are under way.
    pub(in crate::broker) fn len(&self) -> usize {
        self.streams.len() + self.functions.len()
    }

    /// Calls of our own functions.
    pub(in crate::broker) fn streams_len(&self) -> usize {
        self.streams.len()
    }

    /// What calls of our own functions hold.
    fn streams_bytes(&self) -> usize {
        self.streams_bytes
    }

    /// Calls of functions of SDK workers of that cause.
    fn load(&self, cause: Cause) -> Load {
        self.loads[cause as usize]
    }

    /// A call of a function begins: gives the id to send it under, and the older call of that
    /// caller and id, which ends by it. The times of all but auth calls are of one length, and those of
    /// auth calls fall only where [`Calls::shorten_auth`] is told.
    fn begin_function(
        &mut self,
        awaits: Awaits,
        function_id: &str,
        callee: SlotId,
        now: Instant,
        timeout: Duration,
    ) -> (Uuid, Option<FunctionCall>) {
        let by_caller = awaits.caller().map(|caller| (caller.peer, caller.id));
        let older = by_caller.and_then(|(peer, id)| self.by_caller.get(peer, id));
        let sent_id = match by_caller {
            // A caller that is the callee as well may be an engine, which calls by that id already.
            Some((peer, id)) if peer != callee && self.by_callee.get(callee, id).is_none() => id,
            _ => Uuid::new_v4(),
        };
        let older = older.and_then(|older| self.end_function(older));
        if let Some((peer, _)) = by_caller {
            self.count(peer);
        }
        self.count(callee);
        let is_auth = matches!(awaits, Awaits::Auth { .. });
        let call = FunctionCall {
            awaits,
            function_id: function_id.into(),
            callee,
            sent_id,
            timeout,
            began: now,
        };
        let load = &mut self.loads[call.awaits.cause() as usize];
        load.len += 1;
        load.bytes += call.held_bytes();
        let id = self.functions.insert(call);
        if let Some((peer, caller_id)) = by_caller {
            self.by_caller.insert(peer, caller_id, id);
        }
        self.by_callee.insert(callee, sent_id, id);
        let deadlines = if is_auth {
            &mut self.auth_deadlines
        } else {
            &mut self.deadlines
        };
        deadlines.push(now + timeout, id);
        // One that never ends must not keep the times of all that came after it and have ended.
        if deadlines.len() > 2 * self.functions.len() + SPARE_DEADLINES {
            deadlines.retain(|id| self.functions.get(*id).is_some());
        }
        (sent_id, older)
    }

    /// The callee has answered.
    pub(in crate::broker) fn answered(
        &mut self,
        callee: SlotId,
        sent_id: Uuid,
    ) -> Option<FunctionCall> {
        let id = self.by_callee.get(callee, sent_id)?;
        self.end_function(id)
    }

    /// No auth call that is under way has longer than until then.
    pub(in crate::broker) fn shorten_auth(&mut self, until: Instant) {
        self.auth_deadlines.shorten(until);
    }

    /// The next call that has had its time.
    pub(in crate::broker) fn pop_overdue(&mut self, now: Instant) -> Option<FunctionCall> {
        loop {
            let due = self.auth_deadlines.pop_due(now);
            let id = due.or_else(|| self.deadlines.pop_due(now))?;
            if let Some(call) = self.end_function(id) {
                return Some(call);
            }
        }
    }

    /// Takes all calls of functions that a peer has made and waits for.
    pub(in crate::broker) fn take_called(&mut self) -> Vec<FunctionCall> {
        let functions = self.functions.iter();
        let called = functions.filter(|(_, call)| call.awaits.caller().is_some());
        let ids: Vec<CallId> = called.map(|(id, _)| id).collect();
        ids.into_iter()
            .filter_map(|id| self.end_function(id))
            .collect()
    }

    /// When the first call under way has had its time. Those that have ended are dropped on the way.
    pub(in crate::broker) fn next_deadline(&mut self) -> Option<Instant> {
        for deadlines in [&mut self.deadlines, &mut self.auth_deadlines] {
            while let Some(id) = deadlines.first()
                && self.functions.get(*id).is_none()
            {
                deadlines.drop_first();
            }
        }
        let times = [self.deadlines.next_at(), self.auth_deadlines.next_at()];
        times.into_iter().flatten().min()
    }

    /// A peer is gone: gives some of the calls that waited for it. Of those that it waited for as many
    /// are forgotten.
    pub(in crate::broker) fn forget_some_of(
        &mut self,
        peer: SlotId,
        most: usize,
    ) -> Vec<FunctionCall> {
        for id in self.by_caller.some_of(peer, most) {
            self.end_function(id);
        }
        let ids = self.by_callee.some_of(peer, most).into_iter();
        ids.filter_map(|id| self.end_function(id)).collect()
    }

    /// Whether calls of functions are under way for that peer, as caller or callee.
    pub(in crate::broker) fn has_functions_of(&self, peer: SlotId) -> bool {
        [&self.by_caller, &self.by_callee]
            .iter()
            .any(|calls| calls.0.contains_key(&peer))
    }

    /// Whether anything is under way for that peer, as caller or callee.
    pub(in crate::broker) fn concern(&self, peer: SlotId) -> bool {
        self.by_peer.contains_key(&peer)
    }

    /// How many calls are under way for that peer, as caller or callee.
    pub(in crate::broker) fn active_of(&self, peer: SlotId) -> u32 {
        self.by_peer.get(&peer).copied().unwrap_or(0)
    }

    fn count(&mut self, peer: SlotId) {
        *self.by_peer.entry(peer).or_insert(0) += 1;
    }

    fn discount(&mut self, peer: SlotId) {
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }

    fn end_function(&mut self, id: CallId) -> Option<FunctionCall> {
        let call = self.functions.remove(id)?;
        let load = &mut self.loads[call.awaits.cause() as usize];
        load.len -= 1;
        load.bytes -= call.held_bytes();
        self.discount(call.callee);
        self.by_callee.remove(call.callee, call.sent_id);
        if let Some(caller) = call.awaits.caller() {
            self.discount(caller.peer);
            if self.by_caller.get(caller.peer, caller.id) == Some(id) {
                self.by_caller.remove(caller.peer, caller.id);
            }
        }
        Some(call)
    }
}

impl FunctionCall {
    fn held_bytes(&self) -> usize {
        FUNCTION_CALL_BYTES + self.function_id.len() + self.awaits.held_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::awaits::{Handler, function_not_found};
    use crate::broker::target::Target;
    use crate::id::WorkerId;
    use crate::protocol::call::Trace;

    fn caller(slot: u32, id: u128) -> Caller {
        Caller::new(SlotId::first(slot), Uuid::from_u128(id), &Trace::default())
    }

    fn is_of(call: &FunctionCall, slot: u32) -> bool {
        let caller = call.awaits.caller();
        caller.is_some_and(|caller| caller.peer == SlotId::first(slot))
    }

    fn begin(calls: &mut Calls, from: u32, id: u128, to: u32) -> (Uuid, Option<FunctionCall>) {
        let (now, timeout) = (Instant::now(), Duration::from_secs(1));
        let awaits = Awaits::Caller(caller(from, id));
        calls.begin_function(awaits, "f", SlotId::first(to), now, timeout)
    }

    #[test]
    fn an_id_in_flight_at_the_callee_is_replaced_by_a_new_one() {
        let mut calls = Calls::default();
        let (first, older) = begin(&mut calls, 1, 7, 9);
        assert!(first == Uuid::from_u128(7) && older.is_none());
        let (second, older) = begin(&mut calls, 2, 7, 9);
        assert!(second != first && older.is_none());
        let ended = calls.answered(SlotId::first(9), second);
        assert!(ended.is_some_and(|call| is_of(&call, 2)));
        let ended = calls.answered(SlotId::first(9), first);
        assert!(ended.is_some_and(|call| is_of(&call, 1)));
        assert!(
            calls.answered(SlotId::first(9), first).is_none(),
            "a second answer finds nobody"
        );
    }

    #[test]
    fn the_same_id_of_one_caller_ends_its_older_call() {
        let mut calls = Calls::default();
        begin(&mut calls, 1, 7, 9);
        let (sent, older) = begin(&mut calls, 1, 7, 9);
        let older = older.and_then(|older| older.awaits.caller().map(|caller| caller.id));
        assert_eq!(older, Some(Uuid::from_u128(7)));
        assert!(calls.answered(SlotId::first(9), sent).is_some());
        assert_eq!(calls.loads, [Load::default(); 7]);
    }

    #[test]
    fn a_shorter_time_for_auth_calls_holds_for_those_under_way_and_for_who_comes() {
        let mut calls = Calls::default();
        let now = Instant::now();
        let short = Duration::from_secs(1);
        let begin_auth = |calls: &mut Calls, timeout| {
            let awaits = Awaits::Auth {
                worker: WorkerId(0),
                connection: SlotId::first(1),
                timeout,
            };
            calls.begin_function(awaits, "f", SlotId::first(9), now, timeout);
        };
        begin_auth(&mut calls, Duration::from_secs(3600));
        calls.shorten_auth(now + short);
        begin_auth(&mut calls, short);
        assert!(calls.pop_overdue(now).is_none());
        assert!(calls.pop_overdue(now + short).is_some());
        assert!(calls.pop_overdue(now + short).is_some());
        assert!(calls.is_empty());
    }

    #[test]
    fn only_the_callee_may_answer_and_its_end_ends_its_calls() {
        let mut calls = Calls::default();
        let (sent, _) = begin(&mut calls, 1, 7, 9);
        assert!(calls.answered(SlotId::first(8), sent).is_none());
        begin(&mut calls, 9, 8, 1);
        assert!(calls.has_functions_of(SlotId::first(9)));
        let ended = calls.forget_some_of(SlotId::first(9), 9);
        assert_eq!(ended.len(), 1, "its own call waits for nobody any more");
        assert_eq!(calls.loads, [Load::default(); 7]);
        assert!(!calls.concern(SlotId::first(1)) && !calls.has_functions_of(SlotId::first(9)));
    }

    #[test]
    fn each_cause_has_a_load_of_its_own_and_texts_weigh_what_they_are() {
        let mut calls = Calls::default();
        let trace = Trace {
            traceparent: Some("t".repeat(1000).into()),
            baggage: Some("b".repeat(1000).into()),
        };
        let waiting = Caller::new(SlotId::first(1), Uuid::from_u128(1), &trace);
        let custom = |of_join| Awaits::Custom {
            shard: WorkerId(0),
            slot: 0,
            number: 0,
            of_join,
        };
        let handler = |is_owed| Handler {
            target: Target {
                function_id: "h".into(),
                namespace: None,
                metadata: None,
            },
            payload: "p".repeat(500).into(),
            is_owed,
            on_behalf: None,
        };
        let condition = |is_owed| Awaits::Condition(Box::new(handler(is_owed)));
        let rows = [
            (Awaits::Caller(waiting), Cause::Callers, 2000),
            (custom(false), Cause::Callers, 0),
            (custom(true), Cause::Joins, 0),
            (Awaits::Join(SlotId::first(3)), Cause::Joins, 0),
            (condition(false), Cause::Conditions, 501),
            (condition(true), Cause::Debts, 501),
        ];
        for (awaits, cause, bytes) in rows {
            let before = calls.load(cause);
            calls.begin_function(
                awaits,
                "f",
                SlotId::first(9),
                Instant::now(),
                Duration::ZERO,
            );
            let after = calls.load(cause);
            assert_eq!(after.len, before.len + 1);
            assert_eq!(after.bytes, before.bytes + FUNCTION_CALL_BYTES + 1 + bytes);
        }
        assert_eq!(calls.forget_some_of(SlotId::first(9), 9).len(), 6);
        assert_eq!(calls.loads, [Load::default(); 7]);
    }

    #[test]
    fn a_call_that_never_ends_keeps_no_time_limits_of_others() {
        let mut calls = Calls::default();
        begin(&mut calls, 1, 0, 9);
        for id in 1..=10 * SPARE_DEADLINES {
            let (sent, _) = begin(&mut calls, 1, id as u128, 9);
            assert!(calls.answered(SlotId::first(9), sent).is_some());
        }
        assert!(calls.deadlines.len() < 2 * SPARE_DEADLINES);
        assert!(calls.next_deadline().is_some());
    }

    #[test]
    fn a_listing_is_complete_when_all_workers_have_answered_and_fails_when_one_does() {
        let mut calls = Calls::default();
        let said = |group| Outcome::Groups([("s", group)].into_iter().collect());
        let now = Instant::now();
        let id = calls.begin_stream(caller(1, 1), StreamFunction::ListAll, 2, true, now);
        assert!(calls.end_stream(id, said("2")).is_none());
        let (_, all) = calls.end_stream(id, said("1")).unwrap();
        assert!(matches!(all, Said::Parts(parts) if parts.len() == 2));
        let id = calls.begin_stream(caller(1, 1), StreamFunction::ListAll, 2, true, now);
        let failed = Outcome::Failed(function_not_found("f"));
        assert!(calls.end_stream(id, failed.clone()).is_none());
        let (_, all) = calls.end_stream(id, said("1")).unwrap();
        assert!(matches!(all, Said::Outcome(outcome) if outcome == failed));
    }
}
