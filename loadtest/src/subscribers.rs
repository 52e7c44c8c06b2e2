//! The subscribers of one client thread: their sockets, what each must hear, what they heard.
//!
//! `turn` is the path of a delivery and sets the harness's own cost: one read into the shared
//! buffer, then for each message two searches at a remembered place, one stamp, one comparison
//! and one histogram entry. Nothing is allocated there unless a check fails.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Registry, Token};

use crate::audit::{FOREIGN, Truth};
use crate::check::{Checker, Verdict};
use crate::client::{Client, ClientError, Clock, ReadBuffer};
use crate::fanout::Plan;
use crate::faults::{Fault, Faults, excerpt};
use crate::latency::{self, DIGITS, DIGITS_BY_SECOND, new_histogram};
use crate::message::{self, EventReader, Heard, Kind, Stamp};
use crate::model::Model;
use crate::pace::Arrivals;
use crate::scenario::{Order, Shared, Window};
use crate::target::source_address;

/// What the subscribers of a thread heard.
pub(crate) struct Received {
    pub(crate) faults: Faults,
    /// Microseconds, of sets that were due inside the window.
    pub(crate) latency_us: Histogram<u64>,
    /// By the second of the window in which the set was due.
    pub(crate) latency_us_by_second: Vec<Histogram<u64>>,
    /// By the second of the window in which they arrived.
    pub(crate) deliveries_by_second: Vec<u64>,
    /// Reads inside the window that brought deliveries.
    pub(crate) reads: u64,
}

impl Received {
    pub(crate) fn new(seconds: u32) -> Self {
        Self {
            faults: Faults::default(),
            latency_us: new_histogram(DIGITS),
            latency_us_by_second: (0..seconds)
                .map(|_| new_histogram(DIGITS_BY_SECOND))
                .collect(),
            deliveries_by_second: vec![0; seconds as usize],
            reads: 0,
        }
    }

    /// Adds what another thread heard.
    pub(crate) fn merge(&mut self, other: Self) {
        self.faults += other.faults;
        self.latency_us += other.latency_us;
        for (sum, second) in self
            .latency_us_by_second
            .iter_mut()
            .zip(other.latency_us_by_second)
        {
            *sum += second;
        }
        for (sum, count) in self
            .deliveries_by_second
            .iter_mut()
            .zip(other.deliveries_by_second)
        {
            *sum += count;
        }
        self.reads += other.reads;
    }

    #[inline]
    fn time(&mut self, sent_ns: u64, now_ns: u64, window: Window) {
        if let Some(second) = window.second_of(sent_ns) {
            latency::record(&mut self.latency_us, sent_ns, now_ns);
            latency::record(&mut self.latency_us_by_second[second], sent_ns, now_ns);
        }
    }
}

/// Which subscriber of which group.
#[derive(Clone, Copy)]
struct Place {
    group: u32,
    number: u32,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "group {} subscriber {}", self.group, self.number)
    }
}

struct Subscriber {
    place: Place,
    has_asked: bool,
    checker: Checker,
    /// What it shows: the one item of its group.
    model: Model,
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
            events: EventReader::new(plan.setup.value_bytes),
            arrivals: Arrivals::new(plan.subscribers_of(thread) as u32 / plan.groups),
            window: Window::default(),
            received: Received::new(plan.setup.seconds),
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
        let number = (index / groups * self.plan.setup.threads + self.thread) as u32;
        let source = source_address(index, self.plan.setup.sources);
        let client = Client::connect(&self.plan.setup.stream, source, registry, Token(index))?;
        let place = Place { group, number };
        self.all.push(Subscriber {
            place,
            has_asked: false,
            checker: Checker::default(),
            model: Model::default(),
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
            model,
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
            let faults = &mut received.faults;
            let (kind, at_ms, stamp, is_whole) = match events.read(text) {
                Heard::Change {
                    kind,
                    at_ms,
                    stamp,
                    is_whole,
                } if is_ours(&stamp, place, plan, shared) => (kind, at_ms, stamp, is_whole),
                Heard::Sync { at_ms, values } if checker.sync() => {
                    *joined += 1;
                    checker.is_in_time(at_ms);
                    // Before the first set: what there is, another run has left.
                    let items = events
                        .stamps(values)
                        .map(|(stamp, _)| (stamp.item, FOREIGN));
                    return model.sync(at_ms, items.filter(|(item, _)| *item == 0));
                }
                _ => {
                    return faults.tell(Fault::Unexpected, place, || {
                        format!("not of this run: {}", excerpt(text))
                    });
                }
            };
            if !is_whole {
                faults.tell(Fault::Altered, place, || {
                    format!(
                        "sequence {} was not published so: {}",
                        stamp.sequence,
                        excerpt(text)
                    )
                });
            }
            if !checker.is_in_time(at_ms) {
                faults.tell(Fault::WentBack, place, || {
                    format!(
                        "sequence {} has an earlier time than one before it",
                        stamp.sequence
                    )
                });
            }
            match kind {
                Kind::Create => model.create(stamp.item, stamp.sequence),
                Kind::Update => model.update(at_ms, stamp.item, stamp.sequence),
                Kind::Delete => model.delete(at_ms, stamp.item),
            }
            batch.deliveries += 1;
            deliveries += 1;
            received.time(stamp.sent_ns, now_ns, *window);
            let faults = &mut received.faults;
            if judge(checker, stamp.sequence, place, plan.setup.order, faults).is_first_arrival() {
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
            client.queue(&message::join(&plan.setup.stream_name, place.group));
            client.flush()?;
        }
        Ok(())
    }

    /// The connection of `token` has ended on its own.
    pub(crate) fn lose(&mut self, token: Token, why: &ClientError) {
        if let Some(subscriber) = self.all.get_mut(token.0) {
            subscriber.client = None;
            let faults = &mut self.received.faults;
            faults.tell(Fault::Disconnected, subscriber.place, || why.to_string());
        }
    }

    /// Judges what never came, now that `sets` sets are out and no more is waited for, and what
    /// each subscriber shows in the end.
    pub(crate) fn finish(mut self, sets: u64, truth: &Truth) -> Received {
        let groups = u64::from(self.plan.groups);
        let faults = &mut self.received.faults;
        for Subscriber {
            place,
            checker,
            model,
            ..
        } in &self.all
        {
            let group = u64::from(place.group);
            let published = (sets + groups - 1 - group) / groups;
            tell_missed(checker, published as u32, place, faults);
            if let Some(difference) = truth.difference(place.group, model) {
                faults.tell(Fault::Model, place, || difference);
            }
        }
        self.received
    }
}

/// Counts what a subscriber never heard of the numbers below `published`.
pub(crate) fn tell_missed(
    checker: &Checker,
    published: u32,
    who: impl Display,
    faults: &mut Faults,
) {
    for gap in checker.missed(published) {
        let count = u64::from(gap.end - gap.start);
        faults.tell_many(Fault::Missed, count, &who, || match count {
            1 => format!("sequence {} never came", gap.start),
            _ => format!("sequences {} to {} never came", gap.start, gap.end - 1),
        });
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
    stamp.run == plan.setup.run
        && stamp.group == place.group
        && stamp.item == 0
        && set < shared.sets.load(Ordering::Acquire)
}

/// Places `sequence` among what this subscriber has heard.
pub(crate) fn judge(
    checker: &mut Checker,
    sequence: u32,
    who: impl Display,
    order: Order,
    faults: &mut Faults,
) -> Verdict {
    if !checker.is_synced() {
        faults.tell(Fault::BeforeSync, &who, || {
            format!("sequence {sequence} came before the sync")
        });
    }
    let verdict = checker.hear(sequence);
    match verdict {
        Verdict::Reordered if order == Order::Sent => {
            faults.tell(Fault::Reordered, who, || {
                format!("sequence {sequence} was overtaken")
            });
        }
        Verdict::InOrder | Verdict::AfterGap | Verdict::Reordered => {}
        Verdict::Duplicated => faults.tell(Fault::Duplicated, who, || {
            format!("sequence {sequence} came again")
        }),
    }
    verdict
}
