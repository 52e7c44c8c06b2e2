//! A turn's one look at the clocks, and queues of time limits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::time::ClockId;

/// How long a closing socket may take to send its last bytes and end.
pub const LINGER: Duration = Duration::from_secs(2);

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For time limits.
    pub monotonic: Instant,
    /// For people.
    pub wall: SystemTime,
    /// The same in ms since 1970, for timestamps.
    pub wall_ms: u64,
}

impl Now {
    /// Reads both.
    pub fn read() -> Now {
        let wall = SystemTime::now();
        let since_1970 = wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            monotonic: Instant::now(),
            wall,
            wall_ms: since_1970.as_millis() as u64,
        }
    }
}

/// What the clock of another machine has said.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    /// In ms since 1970.
    pub ms: u64,
    /// When it was that, by ours.
    pub at: Instant,
}

impl ClockReading {
    /// What that clock says now, in ms since 1970.
    pub fn ms_at(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at);
        self.ms.saturating_add(since.as_millis() as u64)
    }
}

/// How long a turn of a thread's loop takes.
#[derive(Debug, Clone, Copy)]
pub struct TurnClock(Duration);

impl TurnClock {
    /// A turn begins.
    pub fn begin() -> TurnClock {
        TurnClock(TurnClock::read())
    }

    /// How long it has taken.
    pub fn elapsed(self) -> Duration {
        TurnClock::read().saturating_sub(self.0)
    }

    /// The thread's own time where tests look at it, for their machines are not idle; else that of the
    /// clock, which costs no system call.
    fn read() -> Duration {
        match cfg!(debug_assertions) {
            true => thread_time(),
            false => time_of(ClockId::Monotonic),
        }
    }
}

/// What this thread has used of a core, whatever others have. Costs a system call.
pub fn thread_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// Things that have the same time each, so the first to come is the first to be due.
#[derive(Debug)]
pub struct Deadlines<T> {
    queue: VecDeque<(Instant, T)>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Deadlines {
            queue: VecDeque::new(),
        }
    }
}

impl<T> Deadlines<T> {
    /// `what` has its time until then, which is not before that of any other in here.
    pub fn push(&mut self, until: Instant, what: T) {
        self.queue.push_back((until, what));
    }

    /// Nobody in here has longer than until then.
    pub fn shorten(&mut self, until: Instant) {
        let later = self.queue.iter_mut().rev();
        for (until_then, _) in later.take_while(|(until_then, _)| *until_then > until) {
            *until_then = until;
        }
    }

    /// The next that has had its time.
    pub fn pop_due(&mut self, now: Instant) -> Option<T> {
        let (until, _) = self.queue.front()?;
        if *until > now {
            return None;
        }
        self.queue.pop_front().map(|(_, what)| what)
    }

    /// The next to be due.
    pub fn first(&self) -> Option<&T> {
        self.queue.front().map(|(_, what)| what)
    }

    /// The next to be due, whether its time has come or not.
    pub fn pop(&mut self) -> Option<T> {
        self.queue.pop_front().map(|(_, what)| what)
    }

    /// The next to be due needs its time no longer.
    pub fn drop_first(&mut self) {
        self.queue.pop_front();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops all that need their time no longer.
    pub fn retain(&mut self, mut is_needed: impl FnMut(&T) -> bool) {
        self.queue.retain(|(_, what)| is_needed(what));
    }

    /// When the next one is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }
}

/// Says something at most once a second, or so often as it is told, and counts what it passed over: a
/// log that a peer could fill is an attack.
#[derive(Debug)]
pub struct Rarely {
    every: Duration,
    said_at: Option<Instant>,
    passed_over: u64,
}

impl Default for Rarely {
    fn default() -> Rarely {
        Rarely::every(Duration::from_secs(1))
    }
}

impl Rarely {
    /// At most once in that time.
    pub fn every(every: Duration) -> Rarely {
        Rarely {
            every,
            said_at: None,
            passed_over: 0,
        }
    }

    /// `Some` when it may be said now, with how often it was passed over since the last time.
    pub fn ask(&mut self, now: Instant) -> Option<u64> {
        let is_soon = |at: Instant| now.saturating_duration_since(at) < self.every;
        if self.said_at.is_some_and(is_soon) {
            self.passed_over += 1;
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.passed_over))
    }
}

/// The same for all threads together: says something once in ten seconds, whoever asks.
#[derive(Debug)]
pub struct RarelyOfAll {
    began: Instant,
    /// In ms since then.
    next_at: AtomicU64,
}

impl RarelyOfAll {
    /// So long nothing more is said.
    pub const EVERY: Duration = Duration::from_secs(10);

    /// Whether it may be said now.
    pub fn ask(&self, now: Instant) -> bool {
        self.ask_once_in(Self::EVERY, now)
    }

    /// The same where it may be said once in so long.
    pub fn ask_once_in(&self, every: Duration, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.began).as_millis() as u64;
        let next = now + every.as_millis() as u64;
        let is_due = |at: u64| (at <= now).then_some(next);
        let asked = self
            .next_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_due);
        asked.is_ok()
    }
}

impl Default for RarelyOfAll {
    fn default() -> RarelyOfAll {
        RarelyOfAll {
            began: Instant::now(),
            next_at: AtomicU64::new(0),
        }
    }
}

/// How long a poll may sleep until the first of these times; `None`: for good.
pub fn sleep_until(times: impl IntoIterator<Item = Option<Instant>>) -> Option<Duration> {
    let next = times.into_iter().flatten().min()?;
    // Rounded up: a poll that wakes just before the time would turn in vain.
    Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_run_into_is_said_by_one_of_them() {
        let rarely = RarelyOfAll::default();
        let after = |seconds| rarely.began + Duration::from_secs(seconds);
        let said = [0, 0, 9, 10, 15, 60].map(|seconds| rarely.ask(after(seconds)));
        assert_eq!(said, [true, false, false, true, false, true]);
    }

    #[test]
    fn what_goes_on_is_said_once_in_its_time() {
        let began = Instant::now();
        let mut rarely = Rarely::every(Duration::from_secs(60));
        let after = |seconds| began + Duration::from_secs(seconds);
        let said = [0, 1, 59, 60, 61, 500].map(|seconds| rarely.ask(after(seconds)));
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
