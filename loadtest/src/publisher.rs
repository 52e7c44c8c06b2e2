//! The SDK sockets: sends sets at the pace asked for, matches their answers, times both ends.
//!
//! Runs on the first client thread. May not know subscribers: it is told when a thread has
//! all deliveries of a set.

use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use mio::Registry;
use mio::event::Event;

use crate::check::audit::Audit;
use crate::check::faults::{Fault, Faults, excerpt};
use crate::client::{ClientError, Clock, ReadBuffer};
use crate::event::EventReader;
use crate::latency::{self, DIGITS, DIGITS_BY_SECOND, new_histogram};
use crate::message::{AnswerReader, Asked};
use crate::pace::{Schedule, SetsUnderWay};
use crate::plan::Plan;
use crate::scenario::{Pace, Shared, Window};
use crate::sdk::SdkSockets;

/// A server that reads so slowly gets no more sets for now. Their intended times stand, so the
/// wait is in the latencies.
const UNSENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the publisher measured. Histograms in microseconds, of sets due inside the window.
pub(crate) struct Published {
    pub(crate) sets: u64,
    pub(crate) sets_in_window: u64,
    pub(crate) ack_us: Histogram<u64>,
    pub(crate) last_us: Histogram<u64>,
    /// By the second of the window in which the set was due.
    pub(crate) last_us_by_second: Vec<Histogram<u64>>,
    /// How late the publisher itself was: part of every latency at a fixed rate.
    pub(crate) send_lag_us: Histogram<u64>,
}

/// All SDK sockets and the sets on their way.
pub(crate) struct Publisher {
    sockets: SdkSockets,
    answers: AnswerReader,
    /// Of what the audit is answered.
    values: EventReader,
    sets: SetsUnderWay,
    groups: u64,
    window: Window,
    published: Published,
    faults: Faults,
    pace: Sending,
}

enum Sending {
    InFlight(u64),
    Rate(Schedule),
}

impl Publisher {
    pub(crate) fn connect(
        plan: &Plan,
        registry: &Registry,
        first_token: usize,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            sockets: SdkSockets::connect(&plan.setup, plan.void, registry, first_token)?,
            answers: AnswerReader::new(plan.setup.run),
            values: EventReader::new(&plan.setup.stream_name, plan.setup.value_bytes),
            faults: Faults::default(),
            sets: SetsUnderWay::new(plan.setup.threads as u32, !plan.void),
            groups: u64::from(plan.groups),
            window: Window::default(),
            published: Published {
                sets: 0,
                sets_in_window: 0,
                ack_us: new_histogram(DIGITS),
                last_us: new_histogram(DIGITS),
                last_us_by_second: (0..plan.setup.seconds)
                    .map(|_| new_histogram(DIGITS_BY_SECOND))
                    .collect(),
                send_lag_us: new_histogram(DIGITS),
            },
            pace: Sending::InFlight(0),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.sockets.is_open()
    }

    /// Sends from now on, until the window ends.
    pub(crate) fn begin(&mut self, plan: &Plan, window: Window) {
        self.window = window;
        self.pace = match plan.pace {
            Pace::InFlight(sets) => Sending::InFlight(sets),
            Pace::Rate(rate) => Sending::Rate(Schedule::new(window.begin_ns, rate)),
        };
    }

    /// When the next set is due, at a fixed rate.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        match &self.pace {
            Sending::Rate(schedule) => {
                Some(schedule.next_ns()).filter(|due| *due < self.window.end_ns)
            }
            Sending::InFlight(_) => None,
        }
    }

    /// No set is due any more, and every one has its answer and all its deliveries.
    pub(crate) fn is_idle(&self) -> bool {
        self.sets.open() == 0 && self.next_due_ns().is_none()
    }

    /// Starts every set that may start now, and writes them out: one write a socket.
    pub(crate) fn send(&mut self, clock: &Clock, shared: &Shared) -> Result<(), ClientError> {
        let now_ns = clock.now_ns();
        while let Some(intended_ns) = self.take_permit(now_ns) {
            self.start_set(intended_ns, now_ns);
        }
        // Before the write: no subscriber may hear of a set that the checks do not know.
        shared.sets.store(self.sets.started(), Ordering::Release);
        self.sockets.flush()
    }

    /// The intended time of the next set, if it may start. At a fixed rate what was due inside
    /// the window is sent, however late.
    fn take_permit(&mut self, now_ns: u64) -> Option<u64> {
        let has_room = || self.sockets.unsent_bytes() < UNSENT_BYTES_MAX;
        match &mut self.pace {
            Sending::InFlight(most) => {
                (now_ns < self.window.end_ns && self.sets.open() < *most).then_some(now_ns)
            }
            Sending::Rate(schedule) => (schedule.next_ns() < self.window.end_ns && has_room())
                .then(|| schedule.take_due(now_ns))?,
        }
    }

    fn start_set(&mut self, intended_ns: u64, now_ns: u64) {
        let set = self.sets.start(intended_ns);
        let group = (set % self.groups) as u32;
        let sequence = (set / self.groups) as u32;
        let stamp = [group, 0, sequence];
        self.sockets.set(group as usize, set, stamp, intended_ns);
        if self.window.holds(intended_ns) {
            self.published.sets_in_window += 1;
            latency::record(&mut self.published.send_lag_us, intended_ns, now_ns);
        }
    }

    /// Asks for the next groups of the audit.
    pub(crate) fn ask(&mut self, audit: &mut Audit) -> Result<(), ClientError> {
        self.sockets.ask(audit, |group| group as usize)
    }

    /// Reads answers from socket `index`.
    pub(crate) fn turn(
        &mut self,
        index: usize,
        event: &Event,
        buffer: &mut ReadBuffer,
        clock: &Clock,
        audit: &mut Audit,
    ) -> Result<(), ClientError> {
        let Self {
            sockets,
            answers,
            values,
            sets,
            window,
            published,
            faults,
            ..
        } = self;
        sockets.turn(index, event, buffer, clock, |now_ns, text| {
            let Some(answer) = answers.read(text) else {
                return;
            };
            if answer.asked != Asked::Change {
                return audit.hear(&answer, values, faults);
            }
            let Some(intended_ns) = sets.answered(answer.number) else {
                return;
            };
            if window.holds(intended_ns) {
                latency::record(&mut published.ack_us, intended_ns, now_ns);
            }
            if answer.is_error {
                let who = format_args!("call {}", answer.number);
                faults.tell(Fault::Refused, who, || excerpt(text));
            }
        })
    }

    /// A thread's subscribers have all heard `set`, the last at `at_ns`.
    pub(crate) fn arrived(&mut self, set: u64, at_ns: u64) {
        let Some(delivered) = self.sets.arrived(set, at_ns) else {
            return;
        };
        if let Some(second) = self.window.second_of(delivered.intended_ns) {
            let (begin_ns, end_ns) = (delivered.intended_ns, delivered.last_arrival_ns);
            latency::record(&mut self.published.last_us, begin_ns, end_ns);
            let of_second = &mut self.published.last_us_by_second[second];
            latency::record(of_second, begin_ns, end_ns);
        }
    }

    pub(crate) fn finish(mut self) -> (Published, Faults) {
        let last_ns = self.window.end_ns.saturating_sub(1);
        let unsent = match &mut self.pace {
            Sending::Rate(schedule) => std::iter::from_fn(|| schedule.take_due(last_ns)).count(),
            Sending::InFlight(_) => 0,
        };
        if unsent > 0 {
            self.faults
                .tell_many(Fault::Unsent, unsent as u64, "publisher", || {
                    format!("{unsent} sets were due and could not be sent")
                });
        }
        self.sets.tell_unanswered(&mut self.faults);
        let published = Published {
            sets: self.sets.started(),
            ..self.published
        };
        (published, self.faults)
    }
}
