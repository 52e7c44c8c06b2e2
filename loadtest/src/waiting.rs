//! Where a client thread sleeps, and what wakes it in time.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// The longest sleep: so the end of a phase is seen.
pub(crate) const SLEEP_MAX: Duration = Duration::from_millis(20);

/// The thread sleeps here and nowhere else.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, longest: Duration) -> io::Result<()> {
    match poll.poll(events, Some(longest)) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()), // no events: the turn does nothing
        result => result,
    }
}

/// Wakes the poll at a time finer than its own milliseconds, which would count as latency.
pub(crate) struct Timer {
    descriptor: OwnedFd,
    set_to_ns: u64,
}

impl Timer {
    pub(crate) fn new(registry: &mio::Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Edge-triggered and set anew each time: nothing needs to be read from it.
        registry.register(
            &mut SourceFd(&descriptor.as_raw_fd()),
            token,
            Interest::READABLE,
        )?;
        Ok(Self {
            descriptor,
            set_to_ns: 0,
        })
    }

    /// Wakes at `at_ns`, once; at a time that has passed, at once.
    pub(crate) fn set(&mut self, at_ns: u64, now_ns: u64) -> io::Result<()> {
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
