//! Attached mode: calls and joins that wait for the engine, in order and for so long, and what becomes of
//! them then. While the link is down subscribers stay, and what needs a function waits or does without.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::id::Text;
use crate::mesh::{JoinRequest, ToWorker};
use crate::protocol::answer::Outgoing;
use crate::protocol::call::ErrorBody;
use crate::protocol::function::OVERLOADED;

use super::settling::LeavesWait;
use crate::broker::Broker;
use crate::broker::calls::ended::How;
use crate::broker::calls::{Answered, Awaits, OVERDUE_A_TURN};
use crate::broker::target::Target;

/// How long a join waits while another server has the functions of streams: long enough for ours to take
/// over when that one has just ended.
const STANDS_BY_FOR: Duration = Duration::from_secs(5);

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

impl Broker {
    /// Keeps a join until its functions can be asked; gives it back when they can be now.
    pub(in crate::broker) fn hold_join(
        &mut self,
        request: Box<JoinRequest>,
    ) -> Option<Box<JoinRequest>> {
        let now = self.now.monotonic;
        let max = self.limits.calls_in_flight;
        let Some(attached) = &mut self.attached else {
            return Some(request);
        };
        if !attached.holds(&request) {
            return Some(request);
        }
        if attached.joins.len() >= max {
            self.metrics().calls_refused.increment();
            self.tell(request.worker, ToWorker::JoinDecided(request, false));
            return None;
        }
        let wait = match attached.standing.is_by() {
            true => self.call_timeout.min(STANDS_BY_FOR),
            false => self.call_timeout,
        };
        attached.joins.push_back((now + wait, request));
        None
    }

    /// Joins that wait are looked at again, in turns.
    pub(super) fn decide_waiting_joins(&mut self) {
        let waiting = self.attached.as_ref().map_or(0, |it| it.joins.len());
        self.work.waiting_joins = waiting;
    }

    /// Asks about as many of them as this turn may, as far as they need to wait no longer.
    pub(in crate::broker) fn go_on_deciding(&mut self) {
        while self.work.waiting_joins > 0 && self.work.steps.take_one() {
            self.work.waiting_joins -= 1;
            let Some(attached) = &mut self.attached else {
                return;
            };
            match attached.joins.pop_front() {
                Some((until, request)) if attached.holds(&request) => {
                    attached.joins.push_back((until, request));
                }
                Some((_, request)) => self.ask_join_functions(request),
                None => self.work.waiting_joins = 0,
            }
        }
    }

    /// Joins are refused soon: another server has the functions.
    pub(in crate::broker) fn shorten_waits_of_joins(&mut self) {
        let latest = self.now.monotonic + STANDS_BY_FOR;
        if let Some(attached) = &mut self.attached {
            for (until, _) in &mut attached.joins {
                *until = latest.min(*until);
            }
        }
    }

    /// Whether calls wait for the link, though it is there: they have their turns, in order.
    pub(in crate::broker) fn has_waiting_calls(&self) -> bool {
        let attached = self.attached.as_ref();
        attached.is_some_and(|it| it.link.up().is_some() && !it.waiting.calls.is_empty())
    }

    /// The link is there: asks as much of what waited for it as this turn may.
    pub(in crate::broker) fn ask_what_waited(&mut self) {
        while let Some(attached) = &mut self.attached
            && let Some(link) = attached.link.up()
            && self.work.steps.take_one()
            && let Some(call) = attached.waiting.pop()
        {
            self.work.steps.take_bytes(call.data.len());
            self.ask_at(link, &call.target.call(&call.data), call.awaits);
        }
    }

    /// A call finds the link down: some wait for it, the others end.
    pub(in crate::broker) fn wait_for_link(&mut self, call: &Outgoing<'_>, awaits: Awaits) {
        let waits = awaits.may_wait_for_link();
        let until = self.now.monotonic + self.call_timeout;
        let (bytes_max, len_max) = (self.limits.call_queue_bytes, self.limits.calls_in_flight);
        let Some(attached) = self.attached.as_mut().filter(|_| waits) else {
            if matches!(awaits, Awaits::Condition(_)) {
                self.metrics().trigger_calls_dropped.increment();
            }
            return self.end_call(awaits, call.function_id, How::Gone(not_connected()));
        };
        let waiting = &mut attached.waiting;
        if waiting.bytes > bytes_max || waiting.calls.len() >= len_max {
            self.metrics().calls_refused.increment();
            return self.end_call(awaits, call.function_id, How::Refused(OVERLOADED.into()));
        }
        waiting.push(WaitingCall {
            until,
            target: Target {
                function_id: call.function_id.into(),
                namespace: call.namespace.map(Text::from),
                metadata: call.metadata.map(Text::from),
            },
            data: call.data.into(),
            awaits,
        });
    }

    /// Ends what has waited for the link long enough.
    pub(in crate::broker) fn end_overdue_waits(&mut self) {
        let now = self.now.monotonic;
        let mut left = OVERDUE_A_TURN;
        while left > 0
            && let Some(call) = self
                .attached
                .as_mut()
                .and_then(|it| it.waiting.pop_due(now))
        {
            left -= 1;
            self.hear(
                call.awaits,
                &call.target.function_id,
                Answered::Gone(&not_connected()),
            );
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
                    self.tell(request.worker, ToWorker::JoinDecided(request, false));
                }
                false => self.join_unasked(request),
            }
        }
        if let Some(attached) = &mut self.attached
            && attached.lost.gates_until.is_some_and(|until| until <= now)
        {
            self.forget_gates();
            self.decide_waiting_joins();
        }
        if let Some(attached) = &mut self.attached
            && matches!(attached.leaves, LeavesWait::Until(until) if until <= now)
        {
            attached.leaves = LeavesWait::No;
            self.look_for_leave_triggers();
        }
    }
}
