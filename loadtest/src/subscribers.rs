//! The subscribers of one client thread: their sockets, what each must hear, what they heard.
//!
//! `turn` is the path of a delivery and sets the harness's own cost: one read into the shared
//! buffer, then for each message two searches at a remembered place, one stamp, one comparison
//! and one histogram entry. Nothing is allocated there unless a check fails.

use std::ops::AddAssign;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Registry, Token};

use crate::check::{Checker, Verdict};
use crate::client::{Client, ClientError, Clock, ReadBuffer};
use crate::message::{self, EventReader, Heard, Stamp};
use crate::pace::Arrivals;
use crate::report::new_histogram;
use crate::scenario::{Plan, Shared, Window};
use crate::target::source_address;

/// How many differences are told in words; all are counted.
const DIFFERENCES_KEPT: usize = 10;

/// Whatever a subscriber must not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    pub(crate) missed: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) before_sync: u64,
    /// Frames that belong to no subscription of this run.
    pub(crate) unexpected: u64,
    pub(crate) disconnected: u64,
}

impl AddAssign for Differences {
    fn add_assign(&mut self, other: Self) {
        let Self {
            missed,
            duplicated,
            reordered,
            before_sync,
            unexpected,
            disconnected,
        } = other;
        self.missed += missed;
        self.duplicated += duplicated;
        self.reordered += reordered;
        self.before_sync += before_sync;
        self.unexpected += unexpected;
        self.disconnected += disconnected;
    }
}

/// What the subscribers of a thread heard.
pub(crate) struct Received {
    pub(crate) differences: Differences,
    /// The first few in words.
    pub(crate) first: Vec<String>,
    /// Microseconds, of sets that were due inside the window.
    pub(crate) latency_us: Histogram<u64>,
    /// By the second of the window in which they arrived.
    pub(crate) deliveries_by_second: Vec<u64>,
    /// Reads inside the window that brought deliveries.
    pub(crate) reads: u64,
}

impl Received {
    pub(crate) fn new(seconds: u32) -> Self {
        Self {
            differences: Differences::default(),
            first: Vec::new(),
            latency_us: new_histogram(3),
            deliveries_by_second: vec![0; seconds as usize],
            reads: 0,
        }
    }

    /// Adds what another thread heard.
    pub(crate) fn merge(&mut self, other: Self) {
        self.differences += other.differences;
        self.first.extend(other.first);
        self.first.truncate(DIFFERENCES_KEPT);
        self.latency_us += other.latency_us;
        for (sum, count) in self
            .deliveries_by_second
            .iter_mut()
            .zip(other.deliveries_by_second)
        {
            *sum += count;
        }
        self.reads += other.reads;
    }

    fn tell(&mut self, place: Place, what: impl FnOnce() -> String) {
        if self.first.len() < DIFFERENCES_KEPT {
            self.first.push(format!(
                "group {} subscriber {}: {}",
                place.group,
                place.number,
                what()
            ));
        }
    }
}

/// Which subscriber of which group.
#[derive(Clone, Copy)]
struct Place {
    group: u32,
    number: u32,
}

struct Subscriber {
    place: Place,
    has_asked: bool,
    checker: Checker,
    /// `None` once the server has ended it.
    client: Option<Client>,
}

/// All subscribers of one thread. The token of each is its index.
pub(crate) struct Subscribers<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    thread: usize,
    all: Vec<Subscriber>,
    joined: usize,
    events: EventReader,
    arrivals: Arrivals,
    window: Window,
    received: Received,
}

impl<'a> Subscribers<'a> {
    pub(crate) fn new(plan: &'a Plan, shared: &'a Shared, thread: usize) -> Self {
        Self {
            plan,
            shared,
            thread,
            all: Vec::with_capacity(plan.subscribers_of(thread)),
            joined: 0,
            events: EventReader::new(),
            arrivals: Arrivals::new(plan.subscribers_of(thread) as u32 / plan.groups),
            window: Window::default(),
            received: Received::new(plan.seconds),
        }
    }

    pub(crate) fn begin(&mut self, window: Window) {
        self.window = window;
    }

    pub(crate) fn joined(&self) -> usize {
        self.joined
    }

    pub(crate) fn under_way(&self) -> usize {
        self.all.len() - self.joined
    }

    pub(crate) fn are_all_connected(&self) -> bool {
        self.all.len() == self.plan.subscribers_of(self.thread)
    }

    /// Begins one more connection. Neighbours go to different groups, as clients come in life.
    pub(crate) fn connect_next(&mut self, registry: &Registry) -> Result<(), ClientError> {
        let index = self.all.len();
        let groups = self.plan.groups as usize;
        let group = (index % groups) as u32;
        let number = (index / groups * self.plan.threads + self.thread) as u32;
        let source = source_address(index, self.plan.sources);
        let client = Client::connect(&self.plan.stream, source, registry, Token(index))?;
        let place = Place { group, number };
        self.all.push(Subscriber {
            place,
            has_asked: false,
            checker: Checker::default(),
            client: Some(client),
        });
        Ok(())
    }

    /// Reads what `event` announces. `on_complete` is told each set that all subscribers of this
    /// thread have. An error means that the connection has ended; `lose` counts it.
    pub(crate) fn turn(
        &mut self,
        event: &Event,
        buffer: &mut ReadBuffer,
        clock: &Clock,
        mut on_complete: impl FnMut(u64, u64),
    ) -> Result<(), ClientError> {
        let Self {
            plan,
            shared,
            all,
            joined,
            events,
            arrivals,
            window,
            received,
            ..
        } = self;
        let Some(Subscriber {
            place,
            has_asked,
            checker,
            client: Some(client),
        }) = all.get_mut(event.token().0)
        else {
            return Ok(()); // an event that was under way when the connection ended
        };
        let place = *place;
        let mut deliveries = 0;
        let mut batch = Batch {
            at_ns: 0,
            deliveries: 0,
        };
        let result = client.turn(event, buffer, clock, |now_ns, text| {
            if now_ns != batch.at_ns {
                batch.count(*window, received);
                batch.at_ns = now_ns;
            }
            let stamp = match events.read(text) {
                Heard::Value(stamp) if is_ours(&stamp, place, plan, shared) => stamp,
                Heard::Sync if checker.sync() => {
                    *joined += 1;
                    return;
                }
                _ => {
                    received.differences.unexpected += 1;
                    received.tell(place, || format!("not of this run: {}", excerpt(text)));
                    return;
                }
            };
            batch.deliveries += 1;
            deliveries += 1;
            if window.holds(stamp.sent_ns) {
                received
                    .latency_us
                    .saturating_record(now_ns.saturating_sub(stamp.sent_ns) / 1_000);
            }
            if judge(checker, &stamp, place, received).is_first_arrival() {
                let set =
                    u64::from(stamp.sequence) * u64::from(plan.groups) + u64::from(stamp.group);
                if arrivals.arrived(set) {
                    on_complete(set, now_ns);
                }
            }
        });
        batch.count(*window, received);
        shared.deliveries.fetch_add(deliveries, Ordering::Relaxed);
        result?;
        if client.is_open() && !*has_asked {
            *has_asked = true;
            client.queue(&message::join(&plan.stream_name, place.group));
            client.flush()?;
        }
        Ok(())
    }

    /// The connection of `token` has ended on its own.
    pub(crate) fn lose(&mut self, token: Token, why: &ClientError) {
        if let Some(subscriber) = self.all.get_mut(token.0) {
            subscriber.client = None;
            self.received.differences.disconnected += 1;
            self.received
                .tell(subscriber.place, || format!("disconnected: {why}"));
        }
    }

    /// Judges what never came, now that `sets` sets are out and no more is waited for.
    pub(crate) fn finish(mut self, sets: u64) -> Received {
        let groups = u64::from(self.plan.groups);
        for subscriber in &self.all {
            let group = u64::from(subscriber.place.group);
            let published = (sets + groups - 1 - group) / groups;
            for gap in subscriber.checker.missed(published as u32) {
                self.received.differences.missed += u64::from(gap.end - gap.start);
                self.received
                    .tell(subscriber.place, || match gap.end - gap.start {
                        1 => format!("sequence {} never came", gap.start),
                        _ => format!("sequences {} to {} never came", gap.start, gap.end - 1),
                    });
            }
        }
        self.received
    }
}

/// Deliveries that one read brought: they share one time, so they are counted together.
struct Batch {
    at_ns: u64,
    deliveries: u64,
}

impl Batch {
    fn count(&mut self, window: Window, received: &mut Received) {
        let deliveries = std::mem::take(&mut self.deliveries);
        if deliveries > 0
            && let Some(second) = window.second_of(self.at_ns)
        {
            received.deliveries_by_second[second] += deliveries;
            received.reads += 1;
        }
    }
}

/// A stamp that nobody can have published is damage, or someone else's.
fn is_ours(stamp: &Stamp, place: Place, plan: &Plan, shared: &Shared) -> bool {
    let set = u64::from(stamp.sequence) * u64::from(plan.groups) + u64::from(stamp.group);
    stamp.run == plan.run && stamp.group == place.group && set < shared.sets.load(Ordering::Acquire)
}

fn judge(checker: &mut Checker, stamp: &Stamp, place: Place, received: &mut Received) -> Verdict {
    let sequence = stamp.sequence;
    if !checker.is_synced() {
        received.differences.before_sync += 1;
        received.tell(place, || {
            format!("sequence {sequence} came before the sync")
        });
    }
    let verdict = checker.hear(sequence);
    match verdict {
        Verdict::InOrder | Verdict::AfterGap => {}
        Verdict::Reordered => {
            received.differences.reordered += 1;
            received.tell(place, || format!("sequence {sequence} was overtaken"));
        }
        Verdict::Duplicated => {
            received.differences.duplicated += 1;
            received.tell(place, || format!("sequence {sequence} came again"));
        }
    }
    verdict
}

fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned()
}
