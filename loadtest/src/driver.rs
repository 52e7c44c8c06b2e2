//! One client thread: a poll, a read buffer, its subscribers, and the loop over them.
//!
//! The first thread leads: it also has the publisher, reads the server's CPU time at both ends of
//! the window and decides when the run is over. The others follow and tell it which sets their
//! subscribers have. Threads share nothing but `Shared` and that channel.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::client::{ClientError, Clock, ReadBuffer};
use crate::proc::{CpuTime, Process};
use crate::publisher::{Published, Publisher};
use crate::scenario::{Plan, RunError, Shared, Window};
use crate::subscribers::{Received, Subscribers};

/// Events a turn: few enough that the publisher is looked at every millisecond or so.
const EVENTS_PER_TURN: usize = 256;
/// The longest sleep: so the end of a phase is seen.
const SLEEP_MAX: Duration = Duration::from_millis(20);
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

/// CPU time inside the window.
#[derive(Default)]
pub(crate) struct CpuUsed {
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) client_cpu_ns: Option<u64>,
}

/// What only the first thread has.
pub(crate) struct First {
    publisher: Publisher,
    /// The publisher's own poll, which stands in the driver's as one source: the kernel hands events
    /// out in the order in which they came, so in one poll an answer would wait for the reads of all
    /// subscribers that became readable before it.
    poll: Poll,
    events: Events,
    reported: Receiver<Complete>,
    timer: Timer,
    server: Option<Process>,
    at_start: (Option<CpuTime>, Option<CpuTime>),
    cpu: CpuUsed,
}

impl First {
    /// Connects the publisher; returns when its sockets are open.
    pub(crate) fn connect(
        plan: &Plan,
        driver: &mut Driver<'_>,
        reported: Receiver<Complete>,
        server: Option<Process>,
    ) -> Result<Self, RunError> {
        let cannot = |cause| connect_error("the worker port", &plan.engine.host, cause);
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut publisher =
            Publisher::connect(plan, poll.registry(), TOKEN_PUBLISHERS).map_err(cannot)?;
        let timer = Timer::new(driver.poll.registry())?;
        let descriptor = poll.as_raw_fd();
        driver.poll.registry().register(
            &mut SourceFd(&descriptor),
            TOKEN_ANSWERS,
            Interest::READABLE,
        )?;
        let deadline_ns = driver.clock.now_ns() + plan.join_timeout.as_nanos() as u64;
        while !publisher.is_open() {
            wait(&mut poll, &mut events, SLEEP_MAX)?;
            for event in &events {
                publisher
                    .turn(index_of(event), event, &mut driver.buffer, &driver.clock)
                    .map_err(cannot)?;
            }
            if driver.clock.now_ns() > deadline_ns {
                let (port, host) = ("the worker port", plan.engine.host.clone());
                return Err(RunError::PublisherTimeout {
                    port,
                    host,
                    seconds: plan.join_timeout.as_secs(),
                });
            }
        }
        Ok(Self {
            publisher,
            poll,
            events,
            reported,
            timer,
            server,
            at_start: (None, None),
            cpu: CpuUsed::default(),
        })
    }

    pub(crate) fn server(&self) -> Option<&Process> {
        self.server.as_ref()
    }

    fn cpu_times(&self) -> (Option<CpuTime>, Option<CpuTime>) {
        (
            self.server().and_then(Process::cpu_time),
            Process::own().cpu_time(),
        )
    }

    fn end_of_window(&mut self) {
        let (server, client) = self.cpu_times();
        let since =
            |end: Option<CpuTime>, start: &Option<CpuTime>| Some(end?.since(start.as_ref()?));
        self.cpu.server_cpu_ns = since(server, &self.at_start.0);
        self.cpu.client_cpu_ns = since(client, &self.at_start.1);
    }

    pub(crate) fn finish(self) -> (Published, CpuUsed) {
        (self.publisher.finish(), self.cpu)
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

    pub(crate) fn index(&self) -> usize {
        self.index
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
        let cannot = |cause| connect_error("the stream port", &self.plan.stream.host, cause);
        let wanted = self.plan.subscribers_of(self.index);
        let at_once = self.plan.handshakes.div_ceil(self.plan.threads);
        let patience_ns = self.plan.join_timeout.as_nanos() as u64;
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
                    seconds: self.plan.join_timeout.as_secs(),
                    joined,
                    wanted,
                });
            }
        }
        Ok(())
    }

    /// A thread without the publisher: reads until the first thread says stop.
    pub(crate) fn follow(&mut self, window: Window, waker: &Waker) -> Result<(), RunError> {
        self.subscribers.begin(window);
        let latest_ns = drained_by_ns(window, self.plan) + LINGER_NS + SLEEP_MAX.as_nanos() as u64;
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
    pub(crate) fn lead(&mut self, window: Window, first: &mut First) -> Result<(), RunError> {
        let result = self.lead_until_done(window, first);
        self.stop_all();
        result
    }

    fn lead_until_done(&mut self, window: Window, first: &mut First) -> Result<(), RunError> {
        self.subscribers.begin(window);
        first.publisher.begin(self.plan, window);
        let drained_by_ns = drained_by_ns(window, self.plan);
        let mut phase = Phase::Warmup;
        loop {
            first
                .publisher
                .send(&self.clock, self.shared)
                .map_err(RunError::PublisherLost)?;
            let now_ns = self.clock.now_ns();
            phase = match phase {
                Phase::Warmup if now_ns >= window.start_ns => {
                    first.at_start = first.cpu_times();
                    Phase::Measuring
                }
                Phase::Measuring if now_ns >= window.end_ns => {
                    first.end_of_window();
                    Phase::Draining
                }
                Phase::Draining if first.publisher.is_idle() => {
                    Phase::Lingering(now_ns + LINGER_NS)
                }
                Phase::Draining if now_ns >= drained_by_ns => return Ok(()), // what lacks is missed
                Phase::Lingering(until_ns) if now_ns >= until_ns => return Ok(()),
                same => same,
            };
            let phase_ends_ns = match phase {
                Phase::Warmup => window.start_ns,
                Phase::Measuring => window.end_ns,
                Phase::Draining => drained_by_ns,
                Phase::Lingering(until_ns) => until_ns,
            };
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
    }

    /// Before the subscribers of the turn, so an answer does not wait for a thousand reads.
    fn read_answers(&mut self, first: &mut First) -> Result<(), RunError> {
        wait(&mut first.poll, &mut first.events, Duration::ZERO)?;
        for event in &first.events {
            first
                .publisher
                .turn(index_of(event), event, &mut self.buffer, &self.clock)
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
    pub(crate) fn finish(self, sets: u64) -> Received {
        self.subscribers.finish(sets)
    }
}

/// Which publisher socket an event of the publisher's poll is about.
fn index_of(event: &mio::event::Event) -> usize {
    event.token().0.wrapping_sub(TOKEN_PUBLISHERS)
}

/// The thread sleeps here and nowhere else.
fn wait(poll: &mut Poll, events: &mut Events, longest: Duration) -> io::Result<()> {
    match poll.poll(events, Some(longest)) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()), // no events: the turn does nothing
        result => result,
    }
}

fn connect_error(port: &'static str, host: &str, cause: ClientError) -> RunError {
    let advice = cause.advice();
    RunError::Connect {
        port,
        host: host.to_owned(),
        cause,
        advice,
    }
}

/// Wakes the poll at a time finer than its own milliseconds, which would count as latency.
struct Timer {
    descriptor: OwnedFd,
    set_to_ns: u64,
}

impl Timer {
    fn new(registry: &mio::Registry) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Edge-triggered and set anew each time: nothing needs to be read from it.
        registry.register(
            &mut SourceFd(&descriptor.as_raw_fd()),
            TOKEN_TIMER,
            Interest::READABLE,
        )?;
        Ok(Self {
            descriptor,
            set_to_ns: 0,
        })
    }

    /// Wakes at `at_ns`, once; at a time that has passed, at once.
    fn set(&mut self, at_ns: u64, now_ns: u64) -> io::Result<()> {
        if at_ns == self.set_to_ns {
            return Ok(());
        }
        self.set_to_ns = at_ns;
        let after = Duration::from_nanos(at_ns.saturating_sub(now_ns).max(1)); // 0 would switch it off
        let it_value = Timespec::try_from(after).map_err(io::Error::other)?;
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value,
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// When the run ends at the latest.
fn drained_by_ns(window: Window, plan: &Plan) -> u64 {
    window.end_ns + plan.drain_timeout.as_nanos() as u64
}
