//! One client thread of a rooms scenario: its poll, its crowd, and the script that moves it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::client::{ClientError, Clock, ReadBuffer};
use crate::error::{RunError, connect_error};
use crate::rooms::Plan;
use crate::rooms::crowd::Crowd;
use crate::rooms::script::Script;
use crate::rooms::tally::Tally;
use crate::scenario::{Shared, Window};
use crate::waiting::{SLEEP_MAX, Timer, wait};

/// Events a turn: few enough that the script is looked at every millisecond or so.
const EVENTS_PER_TURN: usize = 256;
/// After the last that was awaited: time in which a duplicate would still be seen.
const LINGER: Duration = Duration::from_millis(100);
/// Above every member and publisher.
const TOKEN_TIMER: Token = Token(usize::MAX - 1);

pub(crate) struct Runner<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    clock: Clock,
    poll: Poll,
    events: Events,
    buffer: ReadBuffer,
    timer: Timer,
    crowd: Crowd<'a>,
    script: Box<dyn Script + Send>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        clock: Clock,
        index: usize,
    ) -> Result<Self, RunError> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TOKEN_TIMER)?;
        let registry = poll.registry().try_clone()?;
        let crowd = Crowd::new(plan, shared, clock, index, registry)
            .map_err(|cause| connect_error("the worker port", &plan.setup.engine.host, cause))?;
        let script = plan.script(index);
        Ok(Self {
            plan,
            shared,
            clock,
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            buffer: ReadBuffer::new(),
            timer,
            crowd,
            script,
        })
    }

    /// Opens the SDK sockets, and joins all members where the scenario begins so.
    pub(crate) fn gather(&mut self) -> Result<(), RunError> {
        let result = self.gather_until_done();
        self.stop_all_on_error(result)
    }

    fn gather_until_done(&mut self) -> Result<(), RunError> {
        self.open()?;
        if !self.script.gathers() {
            return Ok(());
        }
        let wanted = self.crowd.members_len();
        let at_once = self.plan.at_once();
        let (mut begun, mut joined) = (0, 0);
        let patience_ns = self.plan.setup.join_timeout.as_nanos() as u64;
        let mut deadline_ns = self.clock.now_ns() + patience_ns;
        while joined < wanted && !self.is_stopped() {
            while begun < wanted && self.crowd.under_way() < at_once {
                self.crowd
                    .connect(begun, self.clock.now_ns())
                    .map_err(|cause| self.cannot_join(cause))?;
                begun += 1;
            }
            let newly = self.turn(None)?;
            joined += newly;
            let now_ns = self.clock.now_ns();
            if newly > 0 {
                deadline_ns = now_ns + patience_ns;
            } else if now_ns > deadline_ns {
                return Err(RunError::JoinTimeout {
                    seconds: self.plan.setup.join_timeout.as_secs(),
                    joined: self.shared.joined.load(Ordering::Relaxed) as usize,
                    wanted: self.plan.members_in_all(),
                });
            }
        }
        let until_ns = self.clock.now_ns() + self.plan.setup.drain_timeout.as_nanos() as u64;
        while !self.crowd.is_quiet() && self.clock.now_ns() < until_ns && !self.is_stopped() {
            self.turn(None)?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), RunError> {
        let seconds = self.plan.setup.join_timeout.as_secs();
        let deadline_ns = self.clock.now_ns() + self.plan.setup.join_timeout.as_nanos() as u64;
        while !self.crowd.is_open() {
            self.turn(None).map_err(|error| match error {
                RunError::PublisherLost(cause) => {
                    connect_error("the worker port", &self.plan.setup.engine.host, cause)
                }
                other => other,
            })?;
            if self.clock.now_ns() > deadline_ns {
                let (port, host) = ("the worker port", self.plan.setup.engine.host.clone());
                return Err(RunError::PublisherTimeout {
                    port,
                    host,
                    seconds,
                });
            }
        }
        Ok(())
    }

    /// Warm-up, window, and what is outstanding after it.
    pub(crate) fn run(&mut self, window: Window) -> Result<(), RunError> {
        let result = self.run_until_done(window);
        self.stop_all_on_error(result)
    }

    fn run_until_done(&mut self, window: Window) -> Result<(), RunError> {
        self.crowd.begin(window);
        self.script.begin(window.begin_ns);
        while self.clock.now_ns() < window.end_ns && !self.is_stopped() {
            self.script
                .act(self.clock.now_ns(), &mut self.crowd)
                .map_err(|cause| self.cannot_join(cause))?;
            let due_ns = self.script.next_due_ns().unwrap_or(window.end_ns);
            self.turn(Some(due_ns.min(window.end_ns)))?;
        }
        self.script.end(self.clock.now_ns(), &mut self.crowd);
        self.settle()?;
        if self.is_stopped() {
            return Ok(());
        }
        let linger_ns = self.clock.now_ns() + LINGER.as_nanos() as u64;
        while self.clock.now_ns() < linger_ns {
            self.turn(Some(linger_ns))?;
        }
        self.audit()
    }

    /// Asks what each group holds; patience begins anew with each answer.
    fn audit(&mut self) -> Result<(), RunError> {
        let patience_ns = self.plan.setup.drain_timeout.as_nanos() as u64;
        let mut until_ns = self.clock.now_ns() + patience_ns;
        let mut left = self.crowd.audit_left();
        while left > 0 && self.clock.now_ns() < until_ns {
            self.crowd.audit().map_err(RunError::PublisherLost)?;
            self.turn(None)?;
            if self.crowd.audit_left() < left {
                left = self.crowd.audit_left();
                until_ns = self.clock.now_ns() + patience_ns;
            }
        }
        Ok(())
    }

    /// Waits for what is outstanding; what has not come by then is missed.
    fn settle(&mut self) -> Result<(), RunError> {
        let until_ns = self.clock.now_ns() + self.plan.setup.drain_timeout.as_nanos() as u64;
        while self.clock.now_ns() < until_ns && !self.is_stopped() {
            let is_settled = self
                .script
                .settle(self.clock.now_ns(), &mut self.crowd)
                .map_err(|cause| self.cannot_join(cause))?;
            self.crowd.flush().map_err(RunError::PublisherLost)?;
            if is_settled && self.crowd.is_quiet() {
                break;
            }
            self.turn(None)?;
        }
        Ok(())
    }

    /// One turn of the loop, asleep until `due_ns` at most. Returns how many have joined in it.
    fn turn(&mut self, due_ns: Option<u64>) -> Result<usize, RunError> {
        self.crowd.flush().map_err(RunError::PublisherLost)?;
        if let Some(due_ns) = due_ns {
            self.timer.set(due_ns, self.clock.now_ns())?;
        }
        wait(&mut self.poll, &mut self.events, SLEEP_MAX)?;
        let Self {
            events,
            buffer,
            crowd,
            script,
            clock,
            ..
        } = self;
        // Answers first: they do not wait for the reads of a thousand members.
        let is_publisher = |event: &&mio::event::Event| Crowd::is_publisher(event.token());
        for event in events.iter().filter(is_publisher) {
            crowd.turn(event, buffer).map_err(RunError::PublisherLost)?;
        }
        let mut joined = 0;
        for event in events.iter().filter(|event| !is_publisher(event)) {
            if let Some(member) = crowd.turn(event, buffer).map_err(RunError::PublisherLost)? {
                script.joined(member, clock.now_ns(), crowd);
                joined += 1;
            }
        }
        Ok(joined)
    }

    fn cannot_join(&self, cause: ClientError) -> RunError {
        connect_error("the stream port", &self.plan.setup.stream.host, cause)
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn stop_all_on_error(&self, result: Result<(), RunError>) -> Result<(), RunError> {
        if result.is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        result
    }

    pub(crate) fn finish(self) -> Tally {
        self.crowd.finish()
    }
}
