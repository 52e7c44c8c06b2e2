//! One client thread: a poll, a read buffer, its subscribers, and the loop over them.
//!
//! The first thread leads: it also has the publisher, reads the server's CPU time at both ends of
//! the window and decides when the run is over. The others follow and tell it which sets their
//! subscribers have. Threads share nothing but `Shared` and that channel.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use crate::check::audit::{Audit, Truth};
use crate::check::faults::Faults;
use crate::check::received::Received;
use crate::client::{Clock, ReadBuffer};
use crate::cost::{Cost, Meter, Sample};
use crate::error::{RunError, connect_error};
use crate::plan::Plan;
use crate::publisher::{Published, Publisher};
use crate::scenario::{Shared, Window};
use crate::subscribers::Subscribers;
use crate::waiting::{SLEEP_MAX, Timer, wait};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

/// Events a turn: few enough that the publisher is looked at every millisecond or so.
const EVENTS_PER_TURN: usize = 256;
/// After the last outstanding delivery: time in which a duplicate would still be seen.
const LINGER_NS: u64 = 100_000_000;

/// Tokens above those of the subscribers: their index.
const TOKEN_TIMER: Token = Token(usize::MAX - 1); // mio keeps usize::MAX for itself
const TOKEN_WAKER: Token = Token(usize::MAX - 2);
const TOKEN_ANSWERS: Token = Token(usize::MAX - 3);
const TOKEN_PUBLISHERS: usize = usize::MAX / 2;

/// A set that all subscribers of a thread have, and when the last of them got it.
pub(crate) struct Complete {
    set: u64,
    at_ns: u64,
}

/// What the first thread has at the end.
pub(crate) struct Finished {
    pub(crate) published: Published,
    pub(crate) faults: Faults,
    pub(crate) truth: Truth,
    pub(crate) cost: Cost,
}

/// What only the first thread has.
pub(crate) struct First<'a> {
    publisher: Publisher,
    /// The publisher's own poll, which stands in the driver's as one source: the kernel hands events
    /// out in the order in which they came, so in one poll an answer would wait for the reads of all
    /// subscribers that became readable before it.
    poll: Poll,
    events: Events,
    reported: Receiver<Complete>,
    timer: Timer,
    meter: &'a Meter,
    at_start: Option<Sample>,
    cost: Cost,
    audit: Audit,
}

impl<'a> First<'a> {
    /// Connects the publisher; returns when its sockets are open.
    pub(crate) fn connect(
        plan: &Plan,
        driver: &mut Driver<'_>,
        reported: Receiver<Complete>,
        meter: &'a Meter,
    ) -> Result<Self, RunError> {
        let cannot = |cause| connect_error("the worker port", &plan.setup.engine.host, cause);
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut publisher =
            Publisher::connect(plan, poll.registry(), TOKEN_PUBLISHERS).map_err(cannot)?;
        let timer = Timer::new(driver.poll.registry(), TOKEN_TIMER)?;
        let descriptor = poll.as_raw_fd();
        driver.poll.registry().register(
            &mut SourceFd(&descriptor),
            TOKEN_ANSWERS,
            Interest::READABLE,
        )?;
        let audited = if plan.setup.audits { plan.groups } else { 0 };
        let mut audit = Audit::new(plan.setup.run, 0..audited);
        let deadline_ns = driver.clock.now_ns() + plan.setup.join_timeout.as_nanos() as u64;
        while !publisher.is_open() {
            wait(&mut poll, &mut events, SLEEP_MAX)?;
            for event in &events {
                publisher
                    .turn(
                        index_of(event),
                        event,
                        &mut driver.buffer,
                        &driver.clock,
                        &mut audit,
                    )
                    .map_err(cannot)?;
            }
            if driver.clock.now_ns() > deadline_ns {
                let (port, host) = ("the worker port", plan.setup.engine.host.clone());
                return Err(RunError::PublisherTimeout {
                    port,
                    host,
                    seconds: plan.setup.join_timeout.as_secs(),
                });
            }
        }
        Ok(Self {
            publisher,
            poll,
            events,
            reported,
            timer,
            meter,
            at_start: None,
            cost: Cost::default(),
            audit,
        })
    }

    fn end_of_window(&mut self, plan: &Plan) {
        if let Some(start) = &self.at_start {
            let seconds = f64::from(plan.setup.seconds);
            self.cost = Cost::between(start, &self.meter.sample(), seconds);
        }
    }

    pub(crate) fn finish(self) -> Finished {
        let (published, mut faults) = self.publisher.finish();
        let truth = self.audit.finish(&mut faults);
        Finished {
            published,
            faults,
            truth,
            cost: self.cost,
        }
    }
}

/// How far the first thread is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warmup,
    Measuring,
    Draining,
    /// All is there; until this time nothing more may come.
    Lingering(u64),
    /// The server is asked what each group holds: until this time, unless less than so many are left.
    Auditing(u64, usize),
}

/// One client thread.
pub(crate) struct Driver<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    clock: Clock,
    index: usize,
    poll: Poll,
    events: Events,
    buffer: ReadBuffer,
    subscribers: Subscribers<'a>,
    reports: Sender<Complete>,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        clock: Clock,
        index: usize,
        reports: Sender<Complete>,
    ) -> io::Result<Self> {
        Ok(Self {
            plan,
            shared,
            clock,
            index,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            buffer: ReadBuffer::new(),
            subscribers: Subscribers::new(plan, shared, index),
            reports,
        })
    }

    /// Wakes this driver out of its poll.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), TOKEN_WAKER)
    }

    pub(crate) fn stop_all(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Connects and joins this thread's subscribers, a bounded number at a time.
    pub(crate) fn join_all(&mut self) -> Result<(), RunError> {
        let result = self.join_until_done();
        if result.is_err() {
            self.stop_all();
        }
        result
    }

    fn join_until_done(&mut self) -> Result<(), RunError> {
        let cannot = |cause| connect_error("the stream port", &self.plan.setup.stream.host, cause);
        let wanted = self.plan.subscribers_of(self.index);
        let at_once = self.plan.setup.handshakes.div_ceil(self.plan.setup.threads);
        let patience_ns = self.plan.setup.join_timeout.as_nanos() as u64;
        let mut deadline_ns = self.clock.now_ns() + patience_ns;
        while self.subscribers.joined() < wanted && !self.is_stopped() {
            while !self.subscribers.are_all_connected() && self.subscribers.under_way() < at_once {
                self.subscribers
                    .connect_next(self.poll.registry())
                    .map_err(cannot)?;
            }
            wait(&mut self.poll, &mut self.events, SLEEP_MAX)?;
            let before = self.subscribers.joined();
            for event in &self.events {
                let turn = self
                    .subscribers
                    .turn(event, &mut self.buffer, &self.clock, |_, _| ());
                turn.map_err(cannot)?;
            }
            let joined = self.subscribers.joined();
            self.shared
                .joined
                .fetch_add((joined - before) as u64, Ordering::Relaxed);
            let now_ns = self.clock.now_ns();
            if joined > before {
                deadline_ns = now_ns + patience_ns;
            } else if now_ns > deadline_ns {
                let joined = self.shared.joined.load(Ordering::Relaxed) as usize;
                let wanted = self.plan.subscribers_in_all();
                return Err(RunError::JoinTimeout {
                    seconds: self.plan.setup.join_timeout.as_secs(),
                    joined,
                    wanted,
                });
            }
        }
        Ok(())
    }

    /// A thread without the publisher: reads until the first thread says stop.
    pub(crate) fn follow(&mut self, window: Window, waker: &Waker) -> Result<(), RunError> {
        let result = self.follow_until_stopped(window, waker);
        if result.is_err() {
            self.stop_all();
        }
        result
    }

    fn follow_until_stopped(&mut self, window: Window, waker: &Waker) -> Result<(), RunError> {
        self.subscribers.begin(window);
        let auditing_ns = self.plan.setup.drain_timeout.as_nanos() as u64;
        let latest_ns = drained_by_ns(window, self.plan)
            + LINGER_NS
            + auditing_ns
            + SLEEP_MAX.as_nanos() as u64;
        while !self.is_stopped() && self.clock.now_ns() < latest_ns {
            self.wait(SLEEP_MAX)?;
            let mut has_news = false;
            let reports = &self.reports;
            for event in &self.events {
                let turn =
                    self.subscribers
                        .turn(event, &mut self.buffer, &self.clock, |set, at_ns| {
                            has_news |= reports.send(Complete { set, at_ns }).is_ok();
                        });
                if let Err(error) = turn {
                    self.subscribers.lose(event.token(), &error);
                }
            }
            if has_news {
                waker.wake()?;
            }
        }
        Ok(())
    }

    /// The first thread: publishes, reads, and ends the run for all.
    pub(crate) fn lead(&mut self, window: Window, first: &mut First<'_>) -> Result<(), RunError> {
        let result = self.lead_until_done(window, first);
        self.stop_all();
        result
    }

    fn lead_until_done(&mut self, window: Window, first: &mut First<'_>) -> Result<(), RunError> {
        self.subscribers.begin(window);
        first.publisher.begin(self.plan, window);
        let drained_by_ns = drained_by_ns(window, self.plan);
        let mut phase = Phase::Warmup;
        while !self.is_stopped() {
            first
                .publisher
                .send(&self.clock, self.shared)
                .map_err(RunError::PublisherLost)?;
            let now_ns = self.clock.now_ns();
            phase = match phase {
                Phase::Warmup if now_ns >= window.start_ns => {
                    first.at_start = Some(first.meter.sample());
                    Phase::Measuring
                }
                Phase::Measuring if now_ns >= window.end_ns => {
                    first.end_of_window(self.plan);
                    Phase::Draining
                }
                Phase::Draining if first.publisher.is_idle() => {
                    Phase::Lingering(now_ns + LINGER_NS)
                }
                Phase::Draining if now_ns >= drained_by_ns => self.auditing(now_ns, first), // what lacks is missed
                Phase::Lingering(until_ns) if now_ns >= until_ns => self.auditing(now_ns, first),
                Phase::Auditing(..) if first.audit.is_done() => return Ok(()),
                Phase::Auditing(_, left) if first.audit.left() < left => {
                    self.auditing(now_ns, first)
                }
                Phase::Auditing(until_ns, _) if now_ns >= until_ns => return Ok(()),
                same => same,
            };
            let phase_ends_ns = match phase {
                Phase::Warmup => window.start_ns,
                Phase::Measuring => window.end_ns,
                Phase::Draining => drained_by_ns,
                Phase::Lingering(until_ns) | Phase::Auditing(until_ns, _) => until_ns,
            };
            if matches!(phase, Phase::Auditing(..)) {
                let asked = first.publisher.ask(&mut first.audit);
                asked.map_err(RunError::PublisherLost)?;
            }
            let next_ns = first
                .publisher
                .next_due_ns()
                .map_or(phase_ends_ns, |due| due.min(phase_ends_ns));
            first.timer.set(next_ns, now_ns)?;
            self.wait(SLEEP_MAX)?;
            self.read_answers(first)?;
            self.read_subscribers(&mut first.publisher);
            while let Ok(Complete { set, at_ns }) = first.reported.try_recv() {
                first.publisher.arrived(set, at_ns);
            }
        }
        Ok(()) // another thread has failed, and says why
    }

    /// Patience begins anew with each answer.
    fn auditing(&self, now_ns: u64, first: &First<'_>) -> Phase {
        let until_ns = now_ns + self.plan.setup.drain_timeout.as_nanos() as u64;
        Phase::Auditing(until_ns, first.audit.left())
    }

    /// Before the subscribers of the turn, so an answer does not wait for a thousand reads.
    fn read_answers(&mut self, first: &mut First<'_>) -> Result<(), RunError> {
        wait(&mut first.poll, &mut first.events, Duration::ZERO)?;
        for event in &first.events {
            first
                .publisher
                .turn(
                    index_of(event),
                    event,
                    &mut self.buffer,
                    &self.clock,
                    &mut first.audit,
                )
                .map_err(RunError::PublisherLost)?;
        }
        Ok(())
    }

    fn read_subscribers(&mut self, publisher: &mut Publisher) {
        for event in &self.events {
            let turn = self
                .subscribers
                .turn(event, &mut self.buffer, &self.clock, |set, at_ns| {
                    publisher.arrived(set, at_ns);
                });
            if let Err(error) = turn {
                self.subscribers.lose(event.token(), &error);
            }
        }
    }

    fn wait(&mut self, longest: Duration) -> io::Result<()> {
        wait(&mut self.poll, &mut self.events, longest)
    }

    /// What this thread's subscribers heard, judged against `sets` published sets.
    pub(crate) fn finish(self, sets: u64, truth: &Truth) -> Received {
        self.subscribers.finish(sets, truth)
    }
}

/// Which publisher socket an event of the publisher's poll is about.
fn index_of(event: &mio::event::Event) -> usize {
    event.token().0.wrapping_sub(TOKEN_PUBLISHERS)
}

/// When the run ends at the latest.
fn drained_by_ns(window: Window, plan: &Plan) -> u64 {
    window.end_ns + plan.setup.drain_timeout.as_nanos() as u64
}
