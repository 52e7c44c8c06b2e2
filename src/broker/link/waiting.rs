//! Attached mode: calls and joins that wait for the engine, in order and for so long, and what becomes of
//! them then. While the link is down subscribers stay, and what needs a function waits or does without.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::Text;
use crate::mesh::{JoinRequest, ToWorker};
use crate::protocol::answer::Outgoing;
use crate::protocol::call::ErrorBody;
use crate::protocol::function::OVERLOADED;

use super::Attached;
use crate::broker::Broker;
use crate::broker::awaits::{Answered, Awaits};
use crate::broker::calls::Calls;
use crate::broker::ended::How;
use crate::broker::target::Target;
use crate::broker::turn::Turn;

/// How long a join waits while another server has the functions of streams: long enough for ours to take
/// over when that one has just ended.
const STANDS_BY_FOR: Duration = Duration::from_secs(5);

/// So many calls and so many joins have had their time in one turn.
const OVERDUE_A_TURN: usize = 512;

/// Calls that wait for the link, in order.
#[derive(Default)]
pub(super) struct Waiting {
    calls: VecDeque<WaitingCall>,
    /// Of what they hold.
    bytes: usize,
}

pub(super) struct WaitingCall {
    until: Instant,
    target: Target,
    data: Box<str>,
    awaits: Awaits,
}

/// What ends calls when the link does.
pub(in crate::broker) fn not_connected() -> ErrorBody {
    ErrorBody::new("not_connected", "iii is not connected")
}

impl Waiting {
    /// When the first of them has had its time.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.calls.front().map(|call| call.until)
    }

    fn push(&mut self, call: WaitingCall) {
        self.bytes += call.bytes();
        self.calls.push_back(call);
    }

    fn pop_due(&mut self, now: Instant) -> Option<WaitingCall> {
        if self.calls.front()?.until > now {
            return None;
        }
        self.pop()
    }

    fn pop(&mut self) -> Option<WaitingCall> {
        let call = self.calls.pop_front()?;
        self.bytes -= call.bytes();
        Some(call)
    }
}

impl WaitingCall {
    fn bytes(&self) -> usize {
        let target = self.target.function_id.len() + self.target.metadata_bytes();
        size_of::<WaitingCall>() + target + self.data.len()
    }
}

impl Attached {
    /// Keeps a join until its functions can be asked; gives it back when they can be now.
    pub(in crate::broker) fn hold_join(
        &mut self,
        turn: &mut Turn,
        request: Box<JoinRequest>,
    ) -> Option<Box<JoinRequest>> {
        if !self.holds(&request) {
            return Some(request);
        }
        if self.joins.len() >= turn.limits.calls_in_flight {
            turn.metrics().calls_refused.increment();
            turn.tell(request.worker, ToWorker::JoinDecided(request, false));
            return None;
        }
        let wait = match self.standing.is_by() {
            true => turn.call_timeout.min(STANDS_BY_FOR),
            false => turn.call_timeout,
        };
        self.joins.push_back((turn.now.monotonic + wait, request));
        None
    }

    /// Joins that wait are looked at again, in turns.
    pub(super) fn decide_waiting_joins(&mut self) {
        self.waiting_joins = self.joins.len();
    }

    /// The next of those that need to wait no longer, as far as this turn may look at them.
    fn next_join(&mut self, turn: &mut Turn) -> Option<Box<JoinRequest>> {
        while self.waiting_joins > 0 && turn.steps.take_one() {
            self.waiting_joins -= 1;
            match self.joins.pop_front() {
                Some((until, request)) if self.holds(&request) => {
                    self.joins.push_back((until, request));
                }
                Some((_, request)) => return Some(request),
                None => self.waiting_joins = 0,
            }
        }
        None
    }

    /// Joins are refused soon: another server has the functions.
    pub(super) fn shorten_waits_of_joins(&mut self, now: Instant) {
        let latest = now + STANDS_BY_FOR;
        for (until, _) in &mut self.joins {
            *until = latest.min(*until);
        }
    }

    /// Whether calls wait for the link, though it is there: they have their turns, in order.
    pub(in crate::broker) fn has_waiting_calls(&self, turn: &Turn) -> bool {
        turn.link().is_some() && !self.waiting.calls.is_empty()
    }

    /// The link is there: asks as much of what waited for it as this turn may.
    pub(in crate::broker) fn ask_what_waited(&mut self, turn: &mut Turn, calls: &mut Calls) {
        while let Some(link) = turn.link()
            && turn.steps.take_one()
            && let Some(call) = self.waiting.pop()
        {
            turn.steps.take_bytes(call.data.len());
            calls.ask_at(turn, link, &call.target.call(&call.data), call.awaits);
        }
    }

    /// A call finds the link down: some wait for it, the others end.
    pub(in crate::broker) fn wait_for_link(
        &mut self,
        turn: &mut Turn,
        call: &Outgoing<'_>,
        awaits: Awaits,
    ) {
        if !awaits.may_wait_for_link() {
            if matches!(awaits, Awaits::Condition(_)) {
                turn.metrics().trigger_calls_dropped.increment();
            }
            return turn.end_call(awaits, call.function_id, How::Gone(not_connected()));
        }
        let (bytes_max, len_max) = (turn.limits.call_queue_bytes, turn.limits.calls_in_flight);
        let waiting = &mut self.waiting;
        if waiting.bytes > bytes_max || waiting.calls.len() >= len_max {
            turn.metrics().calls_refused.increment();
            return turn.end_call(awaits, call.function_id, How::Refused(OVERLOADED.into()));
        }
        waiting.push(WaitingCall {
            until: turn.now.monotonic + turn.call_timeout,
            target: Target {
                function_id: call.function_id.into(),
                namespace: call.namespace.map(Text::from),
                metadata: call.metadata.map(Text::from),
            },
            data: call.data.into(),
            awaits,
        });
    }
}

impl Broker {
    /// Asks about as many joins that have waited as this turn may, as far as they need to wait no longer.
    pub(in crate::broker) fn go_on_deciding(&mut self) {
        while let Some(attached) = &mut self.attached
            && let Some(request) = attached.next_join(&mut self.turn)
        {
            self.ask_join_functions(request);
        }
    }

    /// Ends what has waited for the link long enough.
    pub(in crate::broker) fn end_overdue_waits(&mut self) {
        let now = self.turn.now.monotonic;
        let mut left = OVERDUE_A_TURN;
        while left > 0
            && let Some(attached) = &mut self.attached
            && let Some(call) = attached.waiting.pop_due(now)
        {
            left -= 1;
            let gone = not_connected();
            let function_id = &call.target.function_id;
            self.hear(call.awaits, function_id, Answered::Gone(&gone));
        }
        while left > 0
            && let Some(attached) = &mut self.attached
            && let Some((_, request)) = attached.joins.pop_front_if(|(until, _)| *until <= now)
        {
            left -= 1;
            match attached.is_settled {
                // A function of it is missing still: the others are asked.
                true => self.ask_join_functions(request),
                false if attached.standing.is_by() => {
                    let worker = request.worker;
                    self.turn
                        .tell(worker, ToWorker::JoinDecided(request, false));
                }
                false => self.joins.decide_unasked(&mut self.turn, request),
            }
        }
        if let Some(attached) = &mut self.attached {
            attached.end_overdue_waits(&mut self.turn, &self.triggers);
        }
    }
}
