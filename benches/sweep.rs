//! What does the fan-out itself cost a delivery, with sockets that take everything at no cost?

use std::io::IoSlice;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iii_stream::collections::Named;
use iii_stream::fanout::{Bounds, Budget, Connections, Entry, Fanout, Reader, Socket, Written};
use iii_stream::id::{GroupKey, LocalGroupId, SlotId};
use iii_stream::protocol::frame::{Event, EventFrame, GroupNames};
use iii_stream::protocol::pace::Pace;

/// Takes everything and remembers how much.
#[derive(Default)]
struct Sink(usize);

impl Socket for Sink {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> Written {
        self.0 += slices.iter().map(|slice| slice.len()).sum::<usize>();
        Written::All
    }
}

#[derive(Default)]
struct Sinks(Named<(Reader, Sink)>);

impl Connections for Sinks {
    type Socket = Sink;

    fn parts(&mut self, id: SlotId) -> Option<(&mut Reader, &mut Sink)> {
        self.0.get_mut(id).map(|(reader, sink)| (reader, sink))
    }
}

/// So many sockets, each in every one of so many groups.
fn rooms(sockets: usize, groups: usize) -> (Fanout, Sinks, Vec<LocalGroupId>) {
    let mut fanout = Fanout::new(Bounds {
        reader: 1 << 20,
        worker: usize::MAX,
        custom_events: 1000,
    });
    let mut sinks = Sinks::default();
    let ids: Vec<SlotId> = (0..sockets)
        .map(|_| sinks.0.insert(Default::default()))
        .collect();
    let mut locals = Vec::new();
    for number in 0..groups {
        let key = GroupKey::new("presence", &format!("room-{number}"));
        for id in &ids {
            let local = fanout.begin_join(&key);
            let entry = Entry {
                id: format!("subscription {number}").into(),
                item: None,
                sync: None,
                pace: Pace::NONE,
            };
            fanout.enter(*id, local, entry, &mut sinks);
            if locals.last() != Some(&local) {
                locals.push(local);
            }
        }
    }
    (fanout, sinks, locals)
}

fn frame() -> Arc<EventFrame> {
    let names = GroupNames::new(&GroupKey::new("presence", "room-1"));
    let value = format!("\"{}\"", "x".repeat(160));
    Arc::new(EventFrame::encode(
        &names,
        1_795_474_467_867,
        Some("user-1"),
        Event::Update(&value),
    ))
}

fn sweep(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sweep");
    for (name, sockets, groups, events) in [
        ("1 event to 1,000", 1000, 1, 1),
        ("16 events to 1,000", 1000, 1, 16),
        ("1 event to 100,000", 100_000, 1, 1),
        ("1 event in each of 4 groups to the same 1,000", 1000, 4, 1),
    ] {
        let (mut fanout, mut sinks, locals) = rooms(sockets, groups);
        let frame = frame();
        group.throughput(Throughput::Elements((sockets * groups * events) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for local in &locals {
                    for _ in 0..events {
                        fanout.append(*local, Arc::clone(&frame));
                    }
                }
                while fanout.is_due() {
                    fanout.sweep(&mut sinks, &mut Budget::of_writes(256));
                }
            });
        });
    }
    // A socket with many groups: what one event costs must not depend on their number.
    for (name, groups) in [
        ("1 event in one of 1,000 groups of the same socket", 1000),
        ("1 event in one of 10,000 groups of the same socket", 10_000),
    ] {
        let (mut fanout, mut sinks, locals) = rooms(1, groups);
        let frame = frame();
        let mut turn = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % locals.len();
                fanout.append(locals[turn], Arc::clone(&frame));
                fanout.sweep(&mut sinks, &mut Budget::of_writes(256));
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = sweep
}
criterion_main!(benches);
